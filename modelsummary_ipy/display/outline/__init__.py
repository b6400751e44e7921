"""Story + View -> the folded, capped tree that every renderer takes.

What repeats is one node, what is flagged, failed or different is a node of its own, and a marker shows where rows are
left out. No strings for people are made here but the names that folding itself needs (``layer.0–11``).
"""

from modelsummary_ipy.display.outline.build import build_outline
from modelsummary_ipy.display.outline.nodes import (
    GroupNode,
    HiddenNode,
    Node,
    Outline,
    RowNode,
    Step,
    Totals,
    visible,
    walk,
)

__all__ = [
    "GroupNode",
    "HiddenNode",
    "Node",
    "Outline",
    "RowNode",
    "Step",
    "Totals",
    "build_outline",
    "visible",
    "walk",
]
