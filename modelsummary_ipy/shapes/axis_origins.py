"""What each dim of every output comes from, as a walk over axes shows it."""

from __future__ import annotations

import re
from math import prod

from modelsummary_ipy.axes.meaning import Axis, Factor
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.records.retraced import Retraced, Sizes
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.align_traces import align_calls


def find_origins(
    trace: Trace, found: Retraced, walk: MeaningWalk, sizes: Sizes, batch: str
) -> dict[int, tuple[tuple[str | None, ...], ...]]:
    """Write, per call of a trace and per output leaf, what each dim comes from; ``None`` where that is unknown.

    Args:
        found: The one that was walked over.
        sizes: Those of the input's dims in the first trace, by name.
        batch: The name of the batch.
    """
    assert found.trace is not None
    assert found.ops is not None
    origins: dict[int, tuple[tuple[str | None, ...], ...]] = {}
    own, written = {**sizes, "B": sizes[batch]}, dict[tuple[int, int], str | None]()

    def write(axis: Axis | None, size: int) -> str | None:
        """Write what a dim comes from; tensors share their axes, which the walk holds."""
        key = id(axis), size
        if key not in written:
            written[key] = _write_origin(axis, size, own, batch)
        return written[key]

    for call, there in zip(trace.calls, align_calls(trace, found.trace), strict=True):
        refs = found.ops.call_outputs.get(there, ()) if there is not None else ()
        if len(refs) == len(call.outputs):
            known = [walk.axes.get(ref.number) if ref is not None else None for ref in refs]
            origins[call.index] = tuple(
                tuple(map(write, axes, spec.shape))
                if axes is not None and len(axes) == len(spec.shape)
                else (None,) * len(spec.shape)
                for spec, axes in zip(call.outputs, known, strict=True)
            )
    return origins


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
