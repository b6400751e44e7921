"""Operations that read the same elements, in the same order, as other axes."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, entry


@entry("view _unsafe_view reshape _reshape_alias view_copy _reshape_copy")
def view(op: Op) -> Sequence[Axes]:
    """Give the axes that were asked for; -1 is what is left of all elements."""
    if op.plain("dtype") is not None:
        raise OpaqueError("another dtype")
    return [op.reshape(op.axes("self"), op.sizes("shape" if op.name == "aten.reshape" else "size"))]


@entry("unflatten")
def unflatten(op: Op) -> Sequence[Axes]:
    """Take one axis apart."""
    data = op.axes("self")
    dim = op.plain("dim") % len(data)
    return [[*data[:dim], *op.reshape([data[dim]], op.sizes("sizes")), *data[dim + 1 :]]]


@entry("flatten")
def flatten(op: Op) -> Sequence[Axes]:
    """Make one axis of several."""
    data = op.axes("self")
    first, last = op.plain("start_dim", 0) % len(data), op.plain("end_dim", -1) % len(data)
    return [[*data[:first], *op.reshape(data[first : last + 1], [-1]), *data[last + 1 :]]]
