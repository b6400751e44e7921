"""Rows of a trace and how they are shown: outlines, renderers, several summaries at once."""

from modelsummary_ipy.display.comparison import Comparison
from modelsummary_ipy.display.exports import Exports
from modelsummary_ipy.display.render.plan import Plan
from modelsummary_ipy.display.rows import build_rows
from modelsummary_ipy.display.series import Series

__all__ = ["Comparison", "Exports", "Plan", "Series", "build_rows"]
