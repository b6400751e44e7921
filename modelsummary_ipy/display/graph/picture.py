"""What ``ms.graph()`` gives: a picture that a notebook shows and that can be saved."""

from __future__ import annotations

from pathlib import Path

from modelsummary_ipy.display.graph.blocks import Graph, build_graph
from modelsummary_ipy.display.graph.model_explorer import render_model_explorer
from modelsummary_ipy.display.graph.svg import render_svg
from modelsummary_ipy.display.graph.written import render_dot, render_mermaid
from modelsummary_ipy.display.written_files import write_as
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.summary import Story


class Picture:
    """Blocks and arrows of a model, with sizes as formulas on the arrows; a notebook shows it as SVG.

    Operations that join tensors (``+``, ``cat``) are round; a group of blocks that are alike is one block.
    ``str(picture)`` is Mermaid.
    """

    def __init__(self, graph: Graph, story: Story) -> None:
        self._graph = graph
        self._story = story

    def to_svg(self) -> str:
        """Return it as SVG, complete in itself, for light and dark pages."""
        return render_svg(self._graph)

    def to_mermaid(self) -> str:
        """Return it as a Mermaid flowchart, which GitHub and JupyterLab draw."""
        return render_mermaid(self._graph)

    def to_dot(self) -> str:
        """Return it for Graphviz: ``dot -Tpdf net.dot``."""
        return render_dot(self._graph)

    def to_model_explorer(self) -> str:
        """Return every call, whatever the depth, as JSON that Model Explorer opens."""
        return render_model_explorer(self._story)

    def save(self, path: str | Path) -> Path:
        """Write it to a file; by its ending: ``.svg .mmd .dot``, and ``.json`` for Model Explorer.

        Raises:
            InputError: If the ending is none of these.
        """
        writers = {".svg": self.to_svg, ".mmd": self.to_mermaid, ".dot": self.to_dot, ".json": self.to_model_explorer}
        return write_as(Path(path), writers, "ms.graph().save('net.svg')")

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __str__(self) -> str:
        return self.to_mermaid()

    __repr__ = __str__


def build_picture(story: Story, depth: int) -> Picture:
    """Draw a story.

    Raises:
        InputError: If the depth is less than 1.
    """
    if depth < 1:
        raise InputError(f"depth {depth}", "1 or more levels", "ms.graph(depth=2)")
    return Picture(build_graph(story, depth), story)
