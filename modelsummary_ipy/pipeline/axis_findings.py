"""What the axes of a trace at other sizes show: operations that do to them what is probably not meant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from modelsummary_ipy.axes.align_events import align_events
from modelsummary_ipy.axes.meaning import Axis, Factor
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.axes.meanings import Dealt
from modelsummary_ipy.diagnosis.axis_checks.coincidences import (
    fails_between_tensors,
    find_coincidence,
    find_moved_operand,
)
from modelsummary_ipy.diagnosis.axis_checks.findings import find_against_meaning, find_carved
from modelsummary_ipy.diagnosis.axis_checks.sides import find_sides, find_uneven_sides
from modelsummary_ipy.records.op_events import AxisFinding, OpEvent, OpEvents
from modelsummary_ipy.records.retraced import Retraced
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.axis_origins import find_origins
from modelsummary_ipy.shapes.batch_trace import BatchFacts
from modelsummary_ipy.shapes.dim_names import InputNames
from modelsummary_ipy.shapes.own_checks import find_fixed
from modelsummary_ipy.shapes.planned_sizes import move_by_64, plan_batch, plan_joint_sizes

_RESHAPES = frozenset({"aten.view", "aten._unsafe_view", "aten.reshape", "aten._reshape_alias"})


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
    """
    retracer, base, name = batch.retracer, batch.base, batch.names.batch
    if retracer is None or not name or trace.failure is not None:
        return AxisFacts()
    own = {dim: size for dim, size in base.items() if any(dim in dims for dims in batch.names.dims)}
    one_more = retracer.at({name: own[name] + 1})
    if one_more.ops is None:
        return AxisFacts()
    used = {size for param in trace.params for size in param.shape}
    used |= {value for fact in trace.modules for value in fact.settings.values() if isinstance(value, int)}  # num_heads
    joint = _set_apart(plan_joint_sizes(batch.names, own), name, used)
    findings: list[AxisFinding] = []
    origins: dict[int, tuple[tuple[str | None, ...], ...]] = {}
    apart = _set_coprime(joint, own, batch.names)
    found = retracer.at(apart)
    if found.works:
        joint = apart
    elif apart != joint:
        found = retracer.at(joint)
    fixed = find_fixed(found, {**own, **joint})
    if not found.works and any(map(batch.names.is_spatial, own)) and not any(map(batch.names.is_spatial, fixed)):
        joint = move_by_64(batch.names, joint, own, used)
        found = retracer.at(joint)
    if not found.works:
        findings += _find_coincidences(batch, trace, {dim: size for dim, size in own.items() if dim not in fixed})
        used |= {size for call in trace.calls for spec in call.outputs for size in spec.shape}
        planned = plan_batch(own[name])[0]  # where formulas are found too, if no other dim moves
        joint = {name: next(size for size in itertools.count(planned) if size not in used)}
        found = retracer.at(joint)
    if not found.works:
        joint, found = {name: own[name] + 1}, one_more
    if not found.works:
        joint, found = {}, retracer.at({})
    if found.works and found.ops is not None and found.ops.is_whole:
        is_own = [*joint] == [name]
        other = retracer.at({}) if found is one_more else one_more
        others = None
        if other.ops is not None:
            others = align_events(found.ops, other.ops, _partners(found, other))
        moved = {dim for dim, size in joint.items() if size not in used}
        walk = _walk(batch, trace, found, moved, others, is_own=is_own)
        findings += walk.findings
        origins = find_origins(trace, found, walk.walk, own, name)
        if not is_own and one_more.works and one_more.ops.is_whole and _regroups(one_more.ops):
            # A number that is written down fits the sizes that the user gave: there it is seen what it cuts.
            again = _walk(batch, trace, one_more, set(), None, is_own=True, find=find_carved)
            findings += again.findings
            findings += _find_dealt_otherwise(walk.dealt, again.dealt)
    return AxisFacts(tuple(dict.fromkeys(findings)), origins)


class _Walked(NamedTuple):
    """A walk, what it found, and what its reshapes made of what, on calls of the first trace."""

    walk: MeaningWalk
    findings: list[AxisFinding]
    dealt: list[Dealt]


def _find_dealt_otherwise(one: Sequence[Dealt], other: Sequence[Dealt]) -> Iterator[AxisFinding]:
    """Find reshapes that at other sizes make a dim of other parts: there the sizes divide each other by chance."""
    if [call for call, *_ in one] == [call for call, *_ in other]:
        for (call, came, made), (_, *others) in zip(one, other, strict=True):
            (was, parts), (its, otherwise) = (map(_write_parts, axes) for axes in ((came, made), others))
            if was == its and parts != otherwise and len(parts) > 1:
                yield AxisFinding("carved", "aten.view", call, ("·".join(part for axis in parts for part in axis),))


def _write_parts(axes: Sequence[Axis]) -> list[list[str]]:
    """Write, per axis, its factors without their sizes: which half each is of what."""
    return [list(map(_write_part, axis.factors)) for axis in axes]


def _write_part(factor: Factor) -> str:
    """Write a factor without its size: which half it is of what."""
    return factor.name if factor.whole is None else f"{factor.half} of {_write_part(factor.whole)}"


def _walk(
    batch: BatchFacts,
    trace: Trace,
    found: Retraced,
    moved: Collection[str],
    others: Sequence[OpEvent | None] | None,
    *,
    is_own: bool,
    find: Callable[[MeaningWalk], list[AxisFinding]] = find_against_meaning,
) -> _Walked:
    """Walk over one trace; what is found stands on calls of ``trace``."""
    assert found.trace is not None
    assert found.ops is not None
    name = batch.names.batch
    dims = [["B" if dim == name else dim for dim in names] for names in batch.names.dims]
    paths = {call.index: call.path for call in found.trace.calls}
    moved = frozenset("B" if dim == name else dim for dim in moved)
    walk = MeaningWalk(found.ops, dims, moved, paths, others, is_own=is_own)
    mine = {there: call for call, there in enumerate(align_calls(trace, found.trace)) if there is not None}
    items = [item._replace(call=mine[item.call]) for item in find(walk) if mine.get(item.call) is not None]
    dealt = [(mine[call], came, parts) for call, came, parts in walk.dealt if call in mine]
    if {"H", "W"} <= set(moved):
        items += _find_sides(batch, trace, found, walk)
    return _Walked(walk, items, dealt)


def _find_sides(batch: BatchFacts, trace: Trace, found: Retraced, walk: MeaningWalk) -> Iterator[AxisFinding]:
    """Compare H with W at sizes at which they are equal: the user's own, or one more trace."""
    assert batch.retracer is not None
    assert found.trace is not None
    assert found.ops is not None
    height, width = batch.base["H"], batch.base["W"]
    square = trace
    if height != width:
        again = batch.retracer.at({"H": max(height, width), "W": max(height, width)})
        if again.trace is None or not again.works:
            return
        square = again.trace
    places = {
        call: find_sides([[] if ref is None else walk.axes_of(ref) for ref in refs])
        for call, refs in found.ops.call_outputs.items()
    }
    there = dict(enumerate(align_calls(square, found.trace)))
    mine = align_calls(trace, square)
    back = {other: call for call, other in enumerate(mine) if other is not None}
    inputs = {
        leaf: (names.index("H"), names.index("W"))
        for leaf, names in enumerate(batch.names.dims)
        if {"H", "W"} <= {*names}
    }
    at = {call: places.get(other, {}) for call, other in there.items() if other is not None}
    for index, axes in find_uneven_sides(square, at, inputs):
        if index in back:
            yield AxisFinding("sides", f"aten.{square.calls[index].type_name}", back[index], axes)


def _find_coincidences(batch: BatchFacts, trace: Trace, own: dict[str, int]) -> Iterator[AxisFinding]:
    """Trace with one more, or one less, in a dim alone: where that fails, two dims may lie on each other.

    Of a feature map at twice the height: strides forbid most other sizes. Two dims, each of which fails alone, and
    where one tensor has the one and the other the other, lie on each other too.
    """
    assert batch.retracer is not None
    alone: dict[tuple[int, int, int], str] = {}
    for name, size in own.items():
        written = "B" if name == batch.names.batch else name
        role = batch.names.role(name)
        is_left_out = role == "D" or (role == "W" and size not in [one for *_, one in alone])
        if size < 2 or batch.names.is_feature(name) or is_left_out or _is_of_pairs(trace, size):
            continue
        for length in (2 * size,) if role in ("H", "W") else (size + 1, size - 1):
            again = batch.retracer.at({name: length}).trace
            if again is None or not fails_between_tensors(again):
                break
            found = find_coincidence(trace, again, written)
            moved = find_moved_operand(trace, again) if found is None else None
            if moved is not None:
                call, leaf = moved
                alone[call, leaf, size] = name
                other = alone.get((call, 1 - leaf, size), "")
                if other != name and any({other, name} <= {*dims} for dims in batch.names.dims):
                    found = AxisFinding("aligned", f"aten.{trace.calls[call].type_name}", call, (other, name))
            if found is not None:
                yield found
                break


def _is_of_pairs(trace: Trace, size: int) -> bool:
    """Return whether an input is a square of a size that another input has: the edges beside the nodes of a graph."""
    shapes = [fact.spec.shape for fact in trace.inputs]
    squares = [leaf for leaf, shape in enumerate(shapes) if len(shape) > 2 and shape[-2:] == (size, size)]
    return any(size in shape[1:-1] for leaf, shape in enumerate(shapes) if squares and leaf not in squares)


def _regroups(ops: OpEvents) -> bool:
    """Return whether a reshape deals several dims out to several others."""
    return any(
        event.op in _RESHAPES and _deals_out(event.args["self"].shape, event.outputs[0].shape) for event in ops.events
    )


def _deals_out(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    one, two = ([size for size in shape if size != 1] for shape in (before, after))
    while one and two and one[0] == two[0]:
        one, two = one[1:], two[1:]
    while one and two and one[-1] == two[-1]:
        one, two = one[:-1], two[:-1]
    return len(one) > 1 and len(two) > 1


def _set_apart(sizes: dict[str, int], batch: str, used: Collection[int]) -> dict[str, int]:
    """Give the batch a size that no other dim and no parameter has: then a number of the code that equals it is it."""
    taken = {size for name, size in sizes.items() if name != batch}
    if sizes[batch] not in taken:
        return sizes
    return {**sizes, batch: next(size for size in itertools.count(sizes[batch]) if size not in taken | set(used))}


def _set_coprime(sizes: dict[str, int], own: Mapping[str, int], names: InputNames) -> dict[str, int]:
    """Give a number of steps no divisor in common with features that do not move: a view of both then cuts across."""
    features = [size for name, size in own.items() if size > 1 and sizes.get(name, size) == size]
    steps = [name for name in sizes if name != names.batch and names.role(name) == "T" and sizes[name] != own[name]]
    for name in steps:
        taken = {size for other, size in sizes.items() if other != name}
        free = (size for size in itertools.count(sizes[name]) if size not in taken)
        sizes = {**sizes, name: next(size for size in free if all(math.gcd(size, one) == 1 for one in features))}
    return sizes


def _partners(found: Retraced, other: Retraced) -> dict[int, int | None]:
    assert found.trace is not None
    assert other.trace is not None
    return dict(enumerate(align_calls(found.trace, other.trace)))
