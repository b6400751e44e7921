"""Operations that take a part of an axis, or look entries up by an index."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from modelsummary_ipy.axes.registry import Axes, Op, Size, entry, insert, put

#: What torch writes for the end of an axis.
_END = 2**63 - 1


@entry("slice slice_copy")
def slice_axis(op: Op) -> Sequence[Axes]:
    """``x[start:end:step]`` of one axis."""
    data, dim, step = op.axes("self"), op.plain("dim", 0), op.setting("step", 1)
    full, first, last = data[dim], op.plain("start", 0), op.plain("end", _END)
    if first >= 0 > last and op.known(op.size("start", 0)) is not None and op.known(op.size("end")) is not None:
        length = full - op.least(full, first - last)
        begin = None
    else:
        begin, end = (_find_end(op, full, name, default) for name, default in (("start", 0), ("end", full)))
        length = end - begin if op.value(end) > op.value(begin) else 0
    if step != 1:
        begin, length = None, (length + (step - 1)) // step
    return [put(data, dim, op.resized(full, length, begin))]


def _find_end(op: Op, full: Size, name: str, default: Size) -> Size:
    """Return where a slice begins or ends: counted from the end if negative, never outside the axis.

    That it stays on the side it was on is no demand of torch's; where it does not, another part is taken.
    """
    end = op.size(name)
    if end is None or op.plain(name) in (0, _END):
        return default if op.plain(name) != 0 else 0
    if op.plain(name) < 0:
        op.at_least(-1, end)
        return full - op.least(0 - end, full)
    op.at_least(end, 0)
    return op.least(end, full)


@entry("embedding")
def embedding(op: Op) -> Sequence[Axes]:
    """Look rows of a table up: ``(B, T)`` to ``(B, T, F)``."""
    rows, features = op.axes("weight")
    op.look_up(rows)
    return [[*op.axes("indices"), features]]


#: Entries of the last axis that are drawn.
entry("multinomial")(lambda op: [[*op.axes("self")[:-1], op.size("num_samples")]])


@entry("narrow narrow_copy")
def narrow(op: Op) -> Sequence[Axes]:
    """Take so many entries of one axis, in a row."""
    data, dim, length = op.axes("self"), op.plain("dim"), op.size("length")
    op.at_least(data[dim], length)
    return [put(data, dim, op.resized(data[dim], length, op.plain("start")))]


@entry("topk")
def take_largest(op: Op) -> Sequence[Axes]:
    """Take the largest entries of one axis, and say where they were."""
    data, dim, count = op.axes("self"), op.plain("dim", -1), op.size("k")
    op.at_least(data[dim], count)
    op.across(data[dim])
    return [put(data, dim, op.resized(data[dim], count))] * 2


@entry("select select_copy")
def select(op: Op) -> Sequence[Axes]:
    """Take one entry of an axis, which goes away."""
    data, dim, index = op.axes("self"), op.plain("dim"), op.size("index")
    op.at_least(data[dim], index + 1 if op.value(index) >= 0 else 0 - index)
    return [put(data, dim)]


def _cut(op: Op, lengths: Axes) -> Sequence[Axes]:
    """Cut the axis ``dim`` into parts, one behind the other."""
    data, dim = op.axes("self"), op.plain("dim", 0)
    starts = accumulate(lengths, initial=0)
    return [
        put(data, dim, op.resized(data[dim], length, start)) for length, start in zip(lengths, starts, strict=False)
    ]


@entry("split unsafe_split split_copy")
def split(op: Op) -> Sequence[Axes]:
    """Cut an axis into parts of one size; the last one may be smaller."""
    data, dim, part = op.axes("self"), op.plain("dim", 0), op.size("split_size")
    count = len(op.outputs)
    last = data[dim] - part * (count - 1)
    if count > 1:
        op.at_least(last, 1)
    op.at_least(part, last)
    return _cut(op, [op.least(part, data[dim] - part * i) for i in range(count)])


@entry("split_with_sizes unsafe_split_with_sizes split_with_sizes_copy")
def split_into(op: Op) -> Sequence[Axes]:
    """Cut an axis into parts of given sizes."""
    data, dim, parts = op.axes("self"), op.plain("dim", 0), op.sizes("split_sizes")
    op.equal(data[dim], sum(parts[1:], parts[0]))
    return _cut(op, parts)


@entry("chunk unsafe_chunk")
def chunk(op: Op) -> Sequence[Axes]:
    """Cut an axis into so many parts."""
    data, dim, count = op.axes("self"), op.plain("dim", 0), op.plain("chunks")
    part = (data[dim] + (count - 1)) // count
    return _cut(op, [*[part] * (count - 1), data[dim] - part * (count - 1)])


@entry("unbind unbind_copy")
def unbind(op: Op) -> Sequence[Axes]:
    """Cut an axis into its entries; the axis goes away."""
    data, dim, count = op.axes("self"), op.plain("dim", 0), len(op.outputs)
    op.equal(data[dim], count)
    return [put(data, dim)] * count


@entry("cat concat concatenate")
def concatenate(op: Op) -> Sequence[Axes]:
    """Add up one axis; all others are equal. A tensor of no elements with one axis is left out."""
    tensors = [axes for axes in op.axes_in("tensors") if not (len(axes) == 1 and op.known(axes[0]) == 0)]
    if not tensors:
        return [[0]]
    made = list(tensors[0])
    dim = op.plain("dim", 0) % len(made)
    for axes in tensors[1:]:
        op.equal(len(axes), len(made))
        made = [known if at == dim else op.equal(known, axes[at]) for at, known in enumerate(made)]
    return [put(made, dim, op.join([axes[dim] for axes in tensors]))]


@entry("stack")
def stack(op: Op) -> Sequence[Axes]:
    """Put tensors of one shape along a new axis."""
    made, *others = op.axes_in("tensors")
    for axes in others:
        made = op.equal_all(made, axes)
    return [insert(made, op.plain("dim", 0), op.count("tensors"))]


@entry("repeat")
def repeat(op: Op) -> Sequence[Axes]:
    """Repeat every axis so many times."""
    data, times = op.axes("self"), op.sizes("repeats")
    data = [1] * (len(times) - len(data)) + data
    return [[op.repeat(size, count) for size, count in zip(data, times, strict=True)]]


@entry("index_select")
def index_select(op: Op) -> Sequence[Axes]:
    """Look entries of one axis up."""
    data, index = op.axes("self"), op.axes("index")
    if not data:
        return [data]
    dim, count = op.plain("dim"), index[0] if index else 1
    op.look_up(data[dim])
    return [put(data, dim, op.resized(data[dim], count))]


@entry("gather")
def gather(op: Op) -> Sequence[Axes]:
    """Look entries of one axis up at the places of an index, which is inside the data along the others."""
    data, index, dim = op.axes("self"), op.axes("index"), op.plain("dim")
    if not data:
        return [index]
    for size, part in zip(put(data, dim), put(index, dim), strict=True):
        op.inside(size, part)
    op.across(data[dim])
    op.look_up(data[dim])
    return [[op.resized(size, count, 0) for size, count in zip(data, index, strict=True)]]


@entry("scatter scatter_add scatter_reduce")
def scatter(op: Op) -> Sequence[Axes]:
    """Write entries at the places of an index: it is inside the source, and inside the data but along ``dim``."""
    data, index, dim = op.axes("self"), op.axes("index"), op.plain("dim")
    for size, part in zip(op.axes("src"), index, strict=True) if op.has("src") else ():
        op.inside(size, part)
    for size, part in zip(put(data, dim), put(index, dim), strict=True):
        op.inside(size, part)
    op.look_up(data[dim] if data else 1)
    return [data]


@entry("index_add index_copy")
def write_entries(op: Op) -> Sequence[Axes]:
    """Write entries of one axis, as many as the index has."""
    data, source, index, dim = op.axes("self"), op.axes("source"), op.axes("index"), op.plain("dim")
    if source:
        op.equal_all(source, put(data, dim, index[0]))
    return [data]


@entry("kthvalue mode median")
def pick_one(op: Op) -> Sequence[Axes]:
    """Keep one entry of an axis."""
    data, dim = op.axes("self"), op.plain("dim", None if op.name == "aten.median" else -1)
    if dim is None or not data:
        return [[], []]
    return [put(data, dim, *[1] * bool(op.plain("keepdim", False)))] * 2


@entry("one_hot")
def one_hot(op: Op) -> Sequence[Axes]:
    """Add an axis of the classes."""
    count = op.plain("num_classes", -1)
    return [[*op.axes("self"), op.counted(0, -1) if count == -1 else count]]


@entry("glu")
def glu(op: Op) -> Sequence[Axes]:
    """Multiply one half of an axis with the gate that is the other."""
    data, dim = op.axes("self"), op.plain("dim", -1)
    op.across(data[dim])
    return [put(data, dim, op.divided(data[dim], 2))]
