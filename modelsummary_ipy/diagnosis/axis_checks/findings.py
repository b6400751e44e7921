"""All that a walk over axes finds against their meaning, and which of it reaches an output."""

from __future__ import annotations

import math

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.checks import Checks
from modelsummary_ipy.records.op_events import AxisFinding

#: What is no mistake where it only leads to a single number: a loss, a statistic.
_LIVE = frozenset({"along", "carried", "picked", "contracted", "noise"})
#: What is no mistake where no output is of samples: correlations of features, say.
_STATISTICS = frozenset({"reduced", "laid"})


def find_against_meaning(walk: MeaningWalk) -> list[AxisFinding]:
    """Walk to the end; of findings that reach no output only those that stand by themselves are kept."""
    checks = Checks(walk, frozenset(walk.ops.params))
    for step in walk.steps():
        checks.follow(*step)
    checks.finish(walk.ops.call_outputs.get(0, ()))
    kinds = {found.kind for _, found in walk.found}
    live = _find_live(walk) if kinds & _LIVE else set()
    each = _find_live(walk, "B") if kinds & _STATISTICS else set()
    return [
        found
        for index, found in walk.found
        if (found.kind not in _LIVE or index in live) and (found.kind not in _STATISTICS or index in each)
    ]


def _find_live(walk: MeaningWalk, root: str = "") -> set[int]:
    """Return the operations whose results reach an output of the model that is no single number.

    Args:
        root: A dim of the input that the output still has, or may have.
    """
    outputs = [ref for ref in walk.ops.call_outputs.get(0, ()) if ref is not None and math.prod(ref.shape) > 1]
    needed = {ref.number for ref in outputs if not root or any(_may_have(root, axis) for axis in walk.axes_of(ref))}
    live: set[int] = set()
    for index in range(len(walk.ops.events) - 1, -1, -1):
        event = walk.ops.events[index]
        if any(ref.number in needed for ref in event.outputs):
            live.add(index)
            needed |= {ref.number for ref in event.refs}
    return live


def _may_have(root: str, axis: Axis) -> bool:
    return axis.has(root) or any(factor.kind == "mixed" for factor in axis.factors)
