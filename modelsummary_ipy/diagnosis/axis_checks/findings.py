"""All that a walk over axes finds against their meaning, and which of it reaches an output."""

from __future__ import annotations

import math
from collections import deque

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.checks import Checks
from modelsummary_ipy.diagnosis.axis_checks.operations import MOVES
from modelsummary_ipy.records.op_events import AxisFinding

#: What is no mistake where it only leads to a single number: a loss, a statistic.
_LIVE = frozenset({"along", "carried", "picked", "best", "contracted", "noise", "averaged", "nearest", "exchanged"})
#: What is no mistake where no output is of samples: correlations of features, say.
_STATISTICS = frozenset({"reduced", "laid"})
#: What is no mistake where it leads to no output: a queue of keys that the next forward reads.
_READ = frozenset({"joined"})

_PARTS = MOVES | {"aten.slice", "aten.select"}


def find_against_meaning(walk: MeaningWalk) -> list[AxisFinding]:
    """Walk to the end; of findings that reach no output only those that stand by themselves are kept."""
    checks = Checks(walk, frozenset(walk.ops.params))
    for step in walk.steps():
        checks.follow(*step)
    checks.finish(walk.ops.call_outputs.get(0, ()))
    kinds = {found.kind for _, found in walk.found}
    live = _find_live(walk) if kinds & _LIVE else set()
    each = _find_live(walk, "B") if kinds & _STATISTICS else set()
    read = _find_live(walk, least=1) if kinds & _READ else set()
    wanted = {**dict.fromkeys(_LIVE, live), **dict.fromkeys(_STATISTICS, each), **dict.fromkeys(_READ, read)}
    return [found for index, found in walk.found if found.kind not in wanted or index in wanted[found.kind]]


def find_carved(walk: MeaningWalk) -> list[AxisFinding]:
    """Walk to the end, and look only at what reshapes cut across."""
    deque(walk.steps(), maxlen=0)
    return [found for _, found in walk.found if found.kind == "carved"]


def _find_live(walk: MeaningWalk, root: str = "", least: int = 2) -> set[int]:
    """Return the operations whose results reach an output of the model.

    Args:
        root: A dim of the input that the output still has, or may have.
        least: How many numbers the output has at least: a single one is a loss, or a statistic.
    """
    outputs = [ref for ref in walk.ops.call_outputs.get(0, ()) if ref is not None and math.prod(ref.shape) >= least]
    needed = {ref.number for ref in outputs if not root or any(_may_have(root, axis) for axis in walk.axes_of(ref))}
    live: set[int] = set()
    bases = _find_bases(walk)
    for index in range(len(walk.ops.events) - 1, -1, -1):
        event = walk.ops.events[index]
        written = [bases.get(ref.number) for ref in event.refs[:1]] if event.op.endswith("_") else []
        if any(ref.number in needed for ref in event.outputs) or any(number in needed for number in written):
            live.add(index)
            needed |= {ref.number for ref in event.refs}
    return live


def _find_bases(walk: MeaningWalk) -> dict[int, int]:
    """Return, by part of a tensor, that tensor: what is written into ``out[1:]`` is in ``out``."""
    bases: dict[int, int] = {}
    for event in walk.ops.events:
        if event.op in _PARTS and event.refs:
            number = event.refs[0].number
            bases[event.outputs[0].number] = bases.get(number, number)
    return bases


def _may_have(root: str, axis: Axis) -> bool:
    return axis.has(root) or any(factor.kind == "mixed" for factor in axis.factors)
