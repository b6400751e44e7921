"""What the axes of a trace at other sizes show: operations that do to them what is probably not meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from modelsummary_ipy.axes.meaning import Axis, Factor
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.axes.walk import align_events
from modelsummary_ipy.records.op_events import AxisFinding
from modelsummary_ipy.records.retraced import Retraced, Sizes
from modelsummary_ipy.records.trace import Call, Trace
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.formulas import BatchFacts
from modelsummary_ipy.shapes.sample_sizes import plan_joint_sizes

__all__ = ["AxisFacts", "find_axis_facts"]


@dataclass(frozen=True)
class AxisFacts:
    """What a walk over axes shows.

    Attributes:
        findings: Each on a call of the first trace.
        origins: Per call of the first trace, per output leaf, what each dim comes from; ``None`` where that is unknown.
    """

    findings: tuple[AxisFinding, ...] = ()
    origins: Mapping[int, tuple[tuple[str | None, ...], ...]] = field(default_factory=dict)


def find_axis_facts(batch: BatchFacts, trace: Trace) -> AxisFacts:
    """Walk over the trace at sizes at which all dims have moved; where none work, at one more in the batch, or none.

    Args:
        batch: The names of the input's dims, and what traces again; without a batch nothing is looked for.
        trace: The first trace.

    """
    retracer, base = batch.retracer, batch.base
    if retracer is None or not batch.names.batch or trace.failure is not None:
        return AxisFacts()
    own = {name: size for name, size in base.items() if any(name in dims for dims in batch.names.dims)}
    one_more = retracer.at({batch.names.batch: own[batch.names.batch] + 1})
    if one_more.ops is None:
        return AxisFacts()
    for joint in (plan_joint_sizes(batch.names, own), {batch.names.batch: own[batch.names.batch] + 1}, {}):
        found = retracer.at(joint)
        if found.works:
            break
    if found.trace is None or found.ops is None or not found.works or not found.ops.is_whole:
        return AxisFacts()
    used = {size for param in trace.params for size in param.shape}
    moved = frozenset("B" if name == batch.names.batch else name for name, size in joint.items() if size not in used)
    dims = [["B" if name == batch.names.batch else name for name in names] for names in batch.names.dims]
    paths = {call.index: call.path for call in found.trace.calls}
    others = align_events(found.ops, one_more.ops, _partners(found, one_more))
    walk = MeaningWalk(found.ops, dims, moved, paths, others)
    partners = align_calls(trace, found.trace)
    mine = {there: call for call, there in enumerate(partners) if there is not None}
    findings = tuple(
        dict.fromkeys(item._replace(call=mine[item.call]) for item in walk.run() if mine.get(item.call) is not None)
    )
    sizes = {**own, "B": own[batch.names.batch]}
    origins: dict[int, tuple[tuple[str | None, ...], ...]] = {}
    for call, there in zip(trace.calls, partners, strict=True):
        refs = found.ops.call_outputs.get(there, ()) if there is not None else ()
        if len(refs) == len(call.outputs):
            known = [walk.axes.get(ref.number) if ref is not None else None for ref in refs]
            origins[call.index] = _write_origins(call, known, sizes, batch.names.batch)
    return AxisFacts(findings, origins)


def _write_origins(
    call: Call, known: Sequence[Sequence[Axis | None] | None], sizes: Sizes, batch: str
) -> tuple[tuple[str | None, ...], ...]:
    written: list[tuple[str | None, ...]] = []
    for spec, axes in zip(call.outputs, known, strict=True):
        if axes is None or len(axes) != len(spec.shape):
            axes = [None] * len(spec.shape)
        pairs = zip(axes, spec.shape, strict=True)
        written.append(tuple(_write_origin(axis, size, sizes, batch) for axis, size in pairs))
    return tuple(written)


def _write_origin(axis: Axis | None, size: int, sizes: Sizes, batch: str) -> str | None:
    """Write what a dim comes from; its numbers are of another trace, and are left out where they are not those here."""
    if axis is None or any(
        factor.kind == "mixed" or (factor.kind == "input" and factor.half) for factor in axis.factors
    ):
        return None
    lengths: list[int | None] = [
        sizes.get(factor.name) if factor.kind == "input" else factor.size for factor in axis.factors
    ]
    if None in lengths:  # what arithmetic made of a dim: its size here is not known
        return _join(axis, batch) if all(factor.kind != "plain" for factor in axis.factors) else None
    return _join(axis, batch) if prod(length for length in lengths if length is not None) == size else None


def _join(axis: Axis, batch: str) -> str:
    return "·".join(_name(factor, batch) for factor in axis.factors) or "1"


def _name(factor: Factor, batch: str) -> str:
    """Write a factor; the walk calls the batch ``B``, whatever the user calls it."""
    own = factor.kind == "input" and batch != "B"
    return re.sub(r"\bB\b", batch, factor.name) if own else factor.name or str(factor.size)


def _partners(found: Retraced, other: Retraced) -> dict[int, int | None]:
    assert found.trace is not None
    assert other.trace is not None
    return dict(enumerate(align_calls(found.trace, other.trace)))
