"""The names of the input's dims, and a second trace with one more in the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.records.retraced import Allowance, Sizes
from modelsummary_ipy.records.summary import Retrace, Row
from modelsummary_ipy.records.trace import Call, Trace
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.dim_names import InputNames, list_tied, name_dims
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import Retracer

Table = Mapping[int, tuple[tuple[int, ...] | None, ...]]


@dataclass(frozen=True)
class BatchFacts:
    """What a second trace with one more in the batch shows.

    Attributes:
        names: Of the input's dims.
        base: The sizes the user gave, by name; the batch's by ``"B"`` too.
        batch: Per row, per output leaf, its size at ``B + 1``; ``None`` where the row has no partner in that trace.
        failed_at: ``(("B = 9", reason),)`` if the model does not run with one more.
        retrace: The trace at ``B + 1``, also if it failed; ``None`` if none was made.
        retracer: Traces the model again; ``None`` where it can't be traced with fakes.
    """

    names: InputNames
    base: Sizes = field(default_factory=dict)
    batch: Table = field(default_factory=dict)
    failed_at: tuple[tuple[str, str], ...] = ()
    retrace: Retrace | None = None
    retracer: Retracer | None = None


def find_batch(
    request: TraceRequest | None, trace: Trace, rows: tuple[Row, ...], time: Allowance | None = None
) -> BatchFacts:
    """Name the input's dims and trace once more with one more in the batch.

    Args:
        request: What ``trace`` was made of; ``None`` if there was no input.
        trace: The first trace; only one made with fakes that came to its end is traced again here.
        time: What this trace, and those that formulas are found by, may take.
    """
    names = name_dims(trace)
    base = _read_base(names, trace)
    first = BatchFacts(names, base)
    if request is None or trace.engine != "fake" or not trace.calls:
        return first
    retracer = Retracer(request, trace, names.dims, time=time)
    first = replace(first, retracer=retracer)
    if not names.batch or trace.failure is not None:
        return first
    one_more = base[names.batch] + 1
    with collector_paused():
        found = retracer.at({names.batch: one_more})
        for tied in list_tied(names, trace) if found.failed else ():
            other = Retracer(request, trace, tied.dims, time=time)
            together = other.at({names.batch: one_more})
            if together.works:
                found, first = together, BatchFacts(tied, _read_base(tied, trace), retracer=other)
                break
    if found.failed:
        first = replace(first, failed_at=((f"{names.batch} = {one_more}", found.reason),))
    if found.trace is None:
        return first
    partners = align_calls(trace, found.trace)
    retrace = Retrace({"B": one_more}, found.trace, partners)
    if not found.works:
        return replace(first, retrace=retrace)
    table = {
        row.index: _read_sizes(trace.calls[row.call], partners[row.call], found.trace)
        for row in rows
        if row.call is not None
    }
    return replace(first, batch=table, retrace=retrace)


def _read_base(names: InputNames, trace: Trace) -> Sizes:
    """Return the sizes that the user gave, by name; the batch's by ``"B"`` too."""
    base = {
        name: size
        for dims, fact in zip(names.dims, trace.inputs, strict=True)
        for name, size in zip(dims, fact.spec.shape, strict=True)
        if name
    }
    return {**base, "B": base[names.batch]} if names.batch else base


def trace_again(batch: BatchFacts, trace: Trace, sizes: Sizes) -> Retrace | None:
    """Trace once more at sizes that a rule needs, the batch by ``"B"``; ``None`` if that can't be traced."""
    if batch.retracer is None or not set(sizes) <= set(batch.base):
        return None
    own = {batch.names.batch if name == "B" and batch.names.batch else name: size for name, size in sizes.items()}
    found = batch.retracer.at(own).trace
    return None if found is None else Retrace(dict(sizes), found, align_calls(trace, found))


def _read_sizes(call: Call, partner: int | None, other: Trace) -> tuple[tuple[int, ...] | None, ...]:
    shapes = {spec.name: spec.shape for spec in other.calls[partner].outputs} if partner is not None else {}
    return tuple(shapes.get(spec.name) for spec in call.outputs)
