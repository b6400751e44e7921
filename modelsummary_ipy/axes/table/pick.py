"""Operations that take a part of an axis, or look entries up by an index."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, Size, entry

#: What torch writes for the end of an axis.
_END = 2**63 - 1


@entry("slice slice_copy")
def slice_axis(op: Op) -> Sequence[Axes]:
    """``x[start:end:step]`` of one axis."""
    data = op.axes("self")
    dim = op.plain("dim", 0) % len(data)
    step = op.plain("step", 1)
    full, first, last = data[dim], op.plain("start", 0), op.plain("end", _END)
    if first >= 0 > last and op.known(op.size("start", 0)) is not None and op.known(op.size("end")) is not None:
        length = full - op.least(full, first - last)
    else:
        begin, end = (_find_end(op, full, name, default) for name, default in (("start", 0), ("end", full)))
        length = end - begin if op.value(end) > op.value(begin) else 0
    data[dim] = length if step == 1 else (length + (step - 1)) // step
    return [data]


def _find_end(op: Op, full: Size, name: str, default: Size) -> Size:
    """Return where a slice begins or ends: counted from the end if negative, never outside the axis."""
    end = op.size(name)
    if end is None or op.plain(name) in (0, _END):
        return default if op.plain(name) != 0 else 0
    if op.plain(name) < 0:
        return full - op.least(0 - end, full)
    return op.least(end, full)


@entry("narrow narrow_copy")
def narrow(op: Op) -> Sequence[Axes]:
    """Take ``length`` entries of one axis."""
    data = op.axes("self")
    dim = op.plain("dim") % len(data)
    op.at_least(data[dim], op.size("length"))
    data[dim] = op.size("length")
    return [data]


@entry("select select_copy")
def select(op: Op) -> Sequence[Axes]:
    """Take one entry of an axis, which goes away."""
    data = op.axes("self")
    del data[op.plain("dim")]
    return [data]


@entry("split unsafe_split split_copy")
def split(op: Op) -> Sequence[Axes]:
    """Cut an axis into parts of one size; the last one may be smaller."""
    data = op.axes("self")
    dim, part = op.plain("dim", 0) % len(data), op.size("split_size")
    count = len(op.outputs)
    last = data[dim] - part * (count - 1)
    if count > 1:
        op.at_least(last, 1)
    op.at_least(part, last)
    parts = [op.least(part, data[dim] - part * i) for i in range(count)]
    return [[*data[:dim], size, *data[dim + 1 :]] for size in parts]


@entry("split_with_sizes unsafe_split_with_sizes split_with_sizes_copy")
def split_into(op: Op) -> Sequence[Axes]:
    """Cut an axis into parts of given sizes."""
    data, parts = op.axes("self"), op.sizes("split_sizes")
    dim = op.plain("dim", 0) % len(data)
    op.equal(data[dim], sum(parts[1:], parts[0]))
    return [[*data[:dim], part, *data[dim + 1 :]] for part in parts]


@entry("chunk unsafe_chunk")
def chunk(op: Op) -> Sequence[Axes]:
    """Cut an axis into so many parts."""
    data, count = op.axes("self"), op.plain("chunks")
    dim = op.plain("dim", 0) % len(data)
    part = (data[dim] + (count - 1)) // count
    last = data[dim] - part * (count - 1)
    return [[*data[:dim], last if i == count - 1 else part, *data[dim + 1 :]] for i in range(count)]


@entry("unbind unbind_copy")
def unbind(op: Op) -> Sequence[Axes]:
    """Cut an axis into its entries; the axis goes away."""
    data = op.axes("self")
    dim = op.plain("dim", 0) % len(data)
    op.equal(data[dim], len(op.outputs))
    return [[*data[:dim], *data[dim + 1 :]]] * len(op.outputs)


@entry("cat concat concatenate")
def concatenate(op: Op) -> Sequence[Axes]:
    """Add up one axis; all others are equal. A tensor of no elements with one axis is left out."""
    tensors = [axes for axes in op.axes_in("tensors") if not (len(axes) == 1 and op.known(axes[0]) == 0)]
    if not tensors:
        return [[0]]
    dim = op.plain("dim", 0) % len(tensors[0])
    made = list(tensors[0])
    for axes in tensors[1:]:
        op.equal(len(axes), len(made))
        for place, size in enumerate(axes):
            made[place] = made[place] + size if place == dim else op.equal(made[place], size)
    return [made]


@entry("stack")
def stack(op: Op) -> Sequence[Axes]:
    """Put tensors of one shape along a new axis."""
    tensors = op.axes_in("tensors")
    made = list(tensors[0])
    for axes in tensors[1:]:
        made = [op.equal(one, two) for one, two in zip(made, axes, strict=True)]
    made.insert(op.plain("dim", 0) % (len(made) + 1), op.count("tensors"))
    return [made]


@entry("repeat")
def repeat(op: Op) -> Sequence[Axes]:
    """Repeat every axis so many times."""
    data, times = op.axes("self"), op.sizes("repeats")
    data = [1] * (len(times) - len(data)) + data
    return [[op.repeat(size, count) for size, count in zip(data, times, strict=True)]]


@entry("embedding")
def embedding(op: Op) -> Sequence[Axes]:
    """Look rows of a table up: ``(B, T)`` to ``(B, T, F)``."""
    return [[*op.axes("indices"), op.axes("weight")[1]]]


@entry("index_select")
def index_select(op: Op) -> Sequence[Axes]:
    """Look entries of one axis up."""
    data, index = op.axes("self"), op.axes("index")
    if data:
        data[op.plain("dim")] = index[0] if index else 1
    return [data]


@entry("gather scatter scatter_add scatter_reduce")
def gather(op: Op) -> Sequence[Axes]:
    """Look entries up, or write them, at the places of an index, which is inside the data but along ``dim``."""
    data, index = op.axes("self"), op.axes("index")
    dim = op.plain("dim") % max(len(data), 1)
    for place, (size, part) in enumerate(zip(data, index, strict=True)):
        if place != dim:
            op.at_least(size, part)
    if op.has("src"):
        for size, part in zip(op.axes("src"), index, strict=True):
            op.at_least(size, part)
    return [index if op.name == "aten.gather" else data]


@entry("index_add index_copy")
def write_entries(op: Op) -> Sequence[Axes]:
    """Write entries of one axis, as many as the index has."""
    data, source, index = op.axes("self"), op.axes("source"), op.axes("index")
    dim = op.plain("dim") % max(len(data), 1)
    for place, size in enumerate(source):
        op.equal(size, index[0] if place == dim else data[place])
    return [data]


@entry("topk")
def topk(op: Op) -> Sequence[Axes]:
    """Keep the ``k`` largest entries of an axis."""
    data = op.axes("self")
    op.at_least(data[op.plain("dim", -1)], op.size("k"))
    data[op.plain("dim", -1)] = op.size("k")
    return [data, data]


@entry("multinomial")
def multinomial(op: Op) -> Sequence[Axes]:
    """Draw so many entries of the last axis."""
    return [[*op.axes("self")[:-1], op.size("num_samples")]]


@entry("kthvalue mode median")
def pick_one(op: Op) -> Sequence[Axes]:
    """Keep one entry of an axis."""
    data = op.axes("self")
    if op.plain("dim") is None and op.name != "aten.mode":
        return [[]]
    dim = op.plain("dim", -1)
    if data:
        data[dim : (dim + 1) or None] = [1] if op.plain("keepdim", False) else []
    return [data, data]


@entry("one_hot")
def one_hot(op: Op) -> Sequence[Axes]:
    """Add an axis of the classes."""
    count = op.plain("num_classes", -1)
    if count == -1:
        count = op.counted(0, -1)
    return [[*op.axes("self"), count]]


@entry("glu")
def glu(op: Op) -> Sequence[Axes]:
    """Multiply one half of an axis with the gate that is the other."""
    data = op.axes("self")
    dim = op.plain("dim", -1)
    half = data[dim] // 2
    op.equal(half * 2, data[dim])
    data[dim] = half
    return [data]
