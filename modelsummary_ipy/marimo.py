"""For marimo notebooks: our table in the place of marimo's own tree of modules."""

from __future__ import annotations

from typing import Literal

import marimo
from marimo._output import formatting
from torch import nn

from modelsummary_ipy.summary import ModelSummary

#: What is above the rows of a page, a row, and the most that a page takes: beyond it scrolls.
_HEAD_PIXELS, _ROW_PIXELS, _MOST_PIXELS = 100, 30, 700

Output = tuple[Literal["text/html"], str]


def register() -> None:
    """Show every module at the end of a marimo cell as a table: its layers, what they are set to, and parameters.

    Shapes need a size: ``ModelSummary(model, (1, 3, 224, 224))``. A module that shows itself (``_repr_html_``) does so.
    """
    formatting.formatter(nn.Module)(_show_module)
    formatting.formatter(ModelSummary)(_show)


def _show_module(model: nn.Module) -> Output:
    own = getattr(model, "_repr_html_", None)
    return ("text/html", str(own())) if callable(own) else _show(ModelSummary(model, engine="static"))


def _show(summary: ModelSummary) -> Output:
    """Show a page in a frame, where its script runs, as high as it probably is: marimo leaves a frame as it is made."""
    num_lines = summary.to_text().count("\n")
    height = min(_HEAD_PIXELS + _ROW_PIXELS * num_lines, _MOST_PIXELS)
    return "text/html", marimo.iframe(summary.to_html(packed=False), height=f"{height}px").text
