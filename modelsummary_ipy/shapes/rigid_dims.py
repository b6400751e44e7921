"""Dims that take few sizes: at which others than the given one a model works, and what its sizes are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from modelsummary_ipy.axes.expr import Expr, constant, symbol
from modelsummary_ipy.records.retraced import Retraced, Sizes
from modelsummary_ipy.records.trace import TensorSpec, Trace
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.dim_names import InputNames
from modelsummary_ipy.shapes.own_checks import meets_weights
from modelsummary_ipy.shapes.sample_sizes import SampleSizes
from modelsummary_ipy.shapes.walked_formulas import Leaves, WalkedFormulas
from modelsummary_ipy.tracing.retracer import Retracer

#: Most sizes of other tensors that are tried in the place of a dim of one.
_MOST_MET = 3


def is_exact(name: str, trace: Trace, samples: SampleSizes, retracer: Retracer) -> bool:
    """Return whether no other size fits what a dim met at one more: a layer's weights, or the model's own check."""
    size = samples.base[name]
    return name in samples.checked or meets_weights(trace, retracer.at({name: size + 1}), (size, size + 1))


def find_others(name: str, trace: Trace, samples: SampleSizes, retracer: Retracer) -> list[int]:
    """Find other sizes that work: 1, which is broadcast, twice the size, and what a dim of 1 was broadcast over."""
    size = samples.base[name]
    if name in samples.checked:
        return []
    if size > 1:
        tried = [1] * (size > 2) + [2 * size] * (not is_exact(name, trace, samples, retracer))
    else:
        tried = list(_list_met(retracer.at({name: 2})))[:_MOST_MET]
    return [other for other in tried if retracer.at({name: other}).works]


def _list_met(found: Retraced) -> Iterator[int]:
    """Yield the sizes, above 2, that stood in the place of a 2 in the call that failed."""
    index = None if found.trace is None or found.trace.failure is None else found.trace.failure.call
    if found.trace is None or index is None:
        return
    shapes = [spec.shape for spec in found.trace.calls[index].inputs]
    for place in range(1, max(map(len, shapes), default=0) + 1):
        met = {shape[-place] for shape in shapes if len(shape) >= place}
        if 2 in met:
            yield from sorted(size for size in met if size > 2)


def name_rigid(
    walked: WalkedFormulas, trace: Trace, samples: SampleSizes, names: InputNames, retracer: Retracer
) -> None:
    """Write the dim's name where a size is as it is at all sizes that it takes: ``C`` of an image that is 3 or 1.

    So is that of a dim which is as long as another or 1. What is neither has no formula.
    """
    for name in samples.rigid:
        for other in find_others(name, trace, samples, retracer):
            for sizes in (samples.base, *samples.sizes[-1:]):
                named = _Named(walked, trace, {**sizes, name: other}, symbol(name), constant(samples.base[name]))
                named.name_at(retracer)
    for one, two in samples.tied:
        for name in () if names.is_spatial(one) else (one, two):
            _Named(walked, trace, {**samples.base, name: 1}, symbol(two), symbol(one)).name_at(retracer)


class _Named(NamedTuple):
    """One dim that has its own size in a trace, and what stands for it in formulas so far."""

    walked: WalkedFormulas
    trace: Trace
    at: Sizes
    name: Expr
    instead: Expr

    def name_at(self, retracer: Retracer) -> None:
        """Compare all leaves with a trace, if the model works there."""
        found = retracer.at(self.at)
        there = found.trace
        if there is None or not found.works:
            return
        for call, partner in zip(self.trace.calls, align_calls(self.trace, there), strict=True):
            if partner is not None:
                other = there.calls[partner]
                for table, mine, theirs in (
                    (self.walked.outputs, call.outputs, other.outputs),
                    (self.walked.inputs, call.inputs, other.inputs),
                ):
                    table[call.index] = self._name_leaves(table[call.index], mine, theirs)

    def _name_leaves(self, leaves: Leaves, mine: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> Leaves:
        shapes = {spec.name: spec.shape for spec in theirs}
        named: list[tuple[Expr, ...] | None] = []
        for dims, spec in zip(leaves, mine, strict=True):
            shape = shapes.get(spec.name)
            if dims is None or shape is None:
                named.append(dims)
                continue
            known = tuple(filter(None, map(self._name_size, dims, shape)))
            named.append(known if len(known) == len(dims) == len(shape) else None)
        return tuple(named)

    def _name_size(self, expr: Expr, value: int) -> Expr | None:
        if expr.value(self.at) == value:
            return expr
        try:
            found = expr // self.instead * self.name
        except ArithmeticError:
            return None
        return found if found.value(self.at) == value and expr // self.instead * self.instead == expr else None
