"""A summary as a picture of blocks and arrows: SVG, Mermaid, DOT, and the JSON of Model Explorer."""

from modelsummary_ipy.display.graph.picture import Picture, build_picture

__all__ = ["Picture", "build_picture"]
