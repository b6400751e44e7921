"""Rows of a trace and how they are shown: outlines, renderers, several summaries at once."""
