"""Operations that only move axes about, add an axis of 1, or take one away."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size, entry


@entry("permute")
def permute(op: Op) -> Sequence[Axes]:
    """Put the axes in the order of ``dims``."""
    data = op.axes("self")
    return [[data[dim] for dim in op.plain("dims")]]


@entry("transpose swapaxes swapdims")
def transpose(op: Op) -> Sequence[Axes]:
    """Exchange two axes."""
    data = op.axes("self")
    if data:
        one, two = (op.plain(f"dim{i}", op.plain(f"axis{i}")) for i in (0, 1))
        data[one], data[two] = data[two], data[one]
    return [data]


@entry("t numpy_T")
def turn(op: Op) -> Sequence[Axes]:
    """Turn the order of the axes round."""
    return [op.axes("self")[::-1]]


@entry("movedim moveaxis")
def move(op: Op) -> Sequence[Axes]:
    """Put axes at other places, the others stay in their order."""
    data = op.axes("self")
    rank = len(data)
    places = zip(_dims(op.plain("destination"), rank), _dims(op.plain("source"), rank), strict=True)
    moved = dict(places)
    rest = (dim for dim in range(rank) if dim not in moved.values())
    return [[data[moved[place] if place in moved else next(rest)] for place in range(rank)]]


def _dims(value: int | Sequence[int], rank: int) -> list[int]:
    return [dim % rank for dim in ([value] if isinstance(value, int) else value)]


@entry("unsqueeze")
def unsqueeze(op: Op) -> Sequence[Axes]:
    """Add an axis of 1."""
    data = op.axes("self")
    data.insert(op.plain("dim") % (len(data) + 1), 1)
    return [data]


@entry("squeeze squeeze_copy")
def squeeze(op: Op) -> Sequence[Axes]:
    """Take away axes of 1: those that are named, or all."""
    data = op.axes("self")
    named = op.plain("dim")
    dims = range(len(data)) if named is None else _dims(named, len(data)) if data else []
    kept: list[Size] = []
    for dim, size in enumerate(data):
        if dim not in dims or op.known(size) not in (1, None):
            kept.append(size)
        elif op.known(size) is None:
            if named is not None:
                raise OpaqueError("whether an axis is squeezed depends on the input")
            kept.append(size)  # an axis of the input, which is 1 by chance only
    return [kept]


@entry("expand expand_copy")
def expand(op: Op) -> Sequence[Axes]:
    """Repeat axes of 1, and add axes in front; -1 leaves an axis."""
    data, wanted = op.axes("self"), op.sizes("size")
    data = [1] * (len(wanted) - len(data)) + data
    made: list[Size] = []
    for size, want in zip(data, wanted, strict=True):
        if op.known(want) == -1:
            made.append(size)
        elif op.known(size) == 1:
            made.append(want)
        else:
            made.append(op.equal(size, want))
    return [made]


@entry("diagonal diagonal_copy")
def diagonal(op: Op) -> Sequence[Axes]:
    """Put the diagonal of two axes last, as long as the shorter of them."""
    data, offset = op.axes("self"), op.plain("offset", 0)
    one, two = op.plain("dim1", 0) % len(data), op.plain("dim2", 1) % len(data)
    if data[one] != data[two] and None in (op.known(data[one]), op.known(data[two])):
        raise OpaqueError("which axis is shorter depends on the input")
    short = min(data[one] + min(offset, 0), data[two] - max(offset, 0), key=op.value)
    rest = [size for dim, size in enumerate(data) if dim not in (one, two)]
    return [[*rest, short if op.value(short) > 0 else 0]]


@entry("view_as_complex")
def view_as_complex(op: Op) -> Sequence[Axes]:
    """Read the last axis of 2 as one complex number."""
    return [op.axes("self")[:-1]]


@entry("view_as_real")
def view_as_real(op: Op) -> Sequence[Axes]:
    """Give real and imaginary parts an axis of 2."""
    return [[*op.axes("self"), 2]]


@entry("rot90")
def rotate(op: Op) -> Sequence[Axes]:
    """Exchange two axes at every odd number of turns."""
    data, dims = op.axes("self"), op.plain("dims", [0, 1])
    if op.plain("k", 1) % 2:
        data[dims[0]], data[dims[1]] = data[dims[1]], data[dims[0]]
    return [data]
