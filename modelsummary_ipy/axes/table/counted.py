"""Operations whose results have as many entries as values say: masks that select, places, different values."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size, entry, put
from modelsummary_ipy.axes.table.elementwise import broadcast

_MASKS = ("bool", "uint8")

#: The places of what is not zero: one row each, one column a dim.
entry("nonzero argwhere")(lambda op: [[op.counted(0, 0), len(op.axes("self"))]])


@entry("index _unsafe_index")
def index(op: Op) -> Sequence[Axes]:
    """``x[i, :, j]``: the indices are broadcast; their axes stand where the first stood, or first if they are apart.

    A mask stands for the axes that it lies on; how many entries it keeps depends on its values.
    """
    data, places = op.axes("self"), [place for place, given in enumerate(op.plain("indices")) if given is not None]
    found, taken = list[Axes](), list[int]()
    shift, masks = 0, 0
    for place, axes, dtype in zip(places, op.axes_in("indices"), op.dtypes("indices"), strict=True):
        is_mask = dtype in _MASKS
        covered = len(axes) if is_mask else 1
        at = range(place + shift, place + shift + covered)
        if is_mask:
            shift, masks = shift + covered - 1, masks + 1
            for dim, size in zip(at, axes, strict=True):
                op.equal(data[dim], size)
        else:
            found.append(axes)
        taken += at
    if len(places) == 1 and not masks:
        op.look_up(data[taken[0]])
    first = taken[0] if taken == list(range(taken[0], taken[-1] + 1)) else 0
    before: list[Size] = [data[dim] for dim in range(first) if dim not in taken]
    if masks:
        found.append([op.counted(0, len(before))])
    rest = [data[dim] for dim in range(first, len(data)) if dim not in taken]
    return [[*before, *broadcast(op, found), *rest]]


@entry("masked_select")
def masked_select(op: Op) -> Sequence[Axes]:
    """Keep what a mask selects, in a row."""
    broadcast(op, op.tensors())
    return [[op.counted(0, 0)]]


@entry("_unique _unique2 unique_consecutive unique_dim")
def unique(op: Op) -> Sequence[Axes]:
    """List different values, or parts along an axis, where each of them went, and how often it is there."""
    data = op.axes("self")
    if op.name == "aten.unique_dim":
        dim = op.plain("dim") % len(data)
        count, places = op.counted(0, dim), [data[dim]]
        kept = put(data, dim, count)
    elif op.plain("dim") is None:
        count = op.counted(0, 0)
        kept, places = [count], data
    else:
        raise OpaqueError("parts along a dim")
    asked = zip(op.outputs[1:], (places, [count]), strict=False)
    return [kept, *([0] if made == (0,) else axes for made, axes in asked)]
