"""Operations that move axes about, add or take away an axis of 1, or read the same elements as other axes."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size, entry, insert, put


def _exchange(data: list[Size], one: int, other: int) -> list[Size]:
    if data:
        data[one], data[other] = data[other], data[one]
    return data


def _dims(value: int | Sequence[int], rank: int) -> list[int]:
    return [dim % rank for dim in ([value] if isinstance(value, int) else value)]


entry("permute")(lambda op: [[op.axes("self")[dim] for dim in op.plain("dims")]])
entry("transpose swapdims")(lambda op: [_exchange(op.axes("self"), op.plain("dim0"), op.plain("dim1"))])
entry("swapaxes")(lambda op: [_exchange(op.axes("self"), op.plain("axis0"), op.plain("axis1"))])
entry("t numpy_T")(lambda op: [op.axes("self")[::-1]])
entry("unsqueeze")(lambda op: [insert(op.axes("self"), op.plain("dim"), 1)])
entry("view_as_real")(lambda op: [[*op.axes("self"), 2]])


@entry("flip roll")
def reorder(op: Op) -> Sequence[Axes]:
    """Put the entries of some axes, or of all, in another order."""
    data = op.axes("self")
    for dim in (op.plain("dims") or range(len(data))) if data else ():
        data[dim] = op.reordered(data[dim])
    return [data]


@entry("rot90")
def rotate(op: Op) -> Sequence[Axes]:
    """Turn two axes: they change their places at every odd number of turns, and some run backwards."""
    data, dims = op.axes("self"), op.plain("dims", [0, 1])
    for dim in dims:
        data[dim] = op.reordered(data[dim])
    return [_exchange(data, *dims) if op.plain("k", 1) % 2 else data]


@entry("view_as_complex")
def view_as_complex(op: Op) -> Sequence[Axes]:
    """Read the last axis of 2 as one complex number."""
    *lead, pair = op.axes("self")
    op.equal(pair, 2)
    return [lead]


@entry("movedim moveaxis")
def move(op: Op) -> Sequence[Axes]:
    """Put axes at other places, the others stay in their order."""
    data = op.axes("self")
    rank = len(data)
    moved = dict(zip(*(_dims(op.plain(name), rank) for name in ("destination", "source")), strict=True))
    rest = (dim for dim in range(rank) if dim not in moved.values())
    return [[data[moved[place] if place in moved else next(rest)] for place in range(rank)]]


@entry("squeeze squeeze_copy")
def squeeze(op: Op) -> Sequence[Axes]:
    """Take away axes of 1: those that are named, or all; without a name an axis of the input is 1 by chance only."""
    data = op.axes("self")
    named = op.plain("dim")
    dims = range(len(data)) if named is None else _dims(named, len(data)) if data else []
    if any(op.known(data[dim]) is None and (named is not None or op.value(data[dim]) == 1) for dim in dims):
        raise OpaqueError("whether an axis is squeezed depends on the input")
    return [[size for dim, size in enumerate(data) if dim not in dims or op.known(size) != 1]]


@entry("expand expand_copy")
def expand(op: Op) -> Sequence[Axes]:
    """Repeat axes of 1, and add axes in front; -1 leaves an axis."""
    data, wanted = op.axes("self"), op.sizes("size")
    data = [1] * (len(wanted) - len(data)) + data
    return [
        [
            size if op.known(want) == -1 else want if op.known(size) == 1 else op.equal(size, want)
            for size, want in zip(data, wanted, strict=True)
        ]
    ]


@entry("diagonal diagonal_copy")
def diagonal(op: Op) -> Sequence[Axes]:
    """Put the diagonal of two axes last, as long as the shorter of them."""
    data, offset = op.axes("self"), op.plain("offset", 0)
    one, two = op.plain("dim1", 0) % len(data), op.plain("dim2", 1) % len(data)
    if data[one] != data[two] and None in (op.known(data[one]), op.known(data[two])):
        raise OpaqueError("which axis is shorter depends on the input")
    short = op.least(data[one] + min(offset, 0), data[two] - max(offset, 0))
    rest = [size for dim, size in enumerate(data) if dim not in (one, two)]
    return [[*rest, short if op.value(short) > 0 else 0]]


@entry("view _unsafe_view reshape _reshape_alias view_copy _reshape_copy")
def view(op: Op) -> Sequence[Axes]:
    """Give the axes that were asked for; -1 is what is left of all elements."""
    if op.plain("dtype") is not None:
        raise OpaqueError("another dtype")
    return [op.reshape(op.axes("self"), op.sizes("shape" if op.name == "aten.reshape" else "size"))]


@entry("unflatten")
def unflatten(op: Op) -> Sequence[Axes]:
    """Take one axis apart."""
    data, dim = op.axes("self"), op.plain("dim")
    return [put(data, dim, *op.reshape([data[dim]], op.sizes("sizes")))]


@entry("flatten")
def flatten(op: Op) -> Sequence[Axes]:
    """Make one axis of several."""
    data = op.axes("self")
    first, last = op.plain("start_dim", 0) % len(data), op.plain("end_dim", -1) % len(data)
    return [[*data[:first], *op.reshape(data[first : last + 1], [-1]), *data[last + 1 :]]]
