"""Products, attention, recurrent layers and windows."""

from __future__ import annotations

from typing import Any

import torch

from tests.axes.calls.registry import call, overload
from tests.axes.draw import Call, Draw


@call("scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math ")
def attention(name: str, draw: Draw) -> Call:
    """Give queries, keys, values, and a mask or none."""
    batch, heads, length, other, width = (draw.some() for _ in range(5))
    flash = name.endswith("cpu")
    value_width = width if flash else draw.some()
    mask = draw.pick(None, [length, other], [batch, 1, length, other], [1, 1, 1, other])
    query, key = draw.tensor([batch, heads, length, width]), draw.tensor([batch, heads, other, width])
    value = draw.tensor([batch, heads, other, value_width])
    kwargs = {} if mask is None else {"attn_mask": draw.tensor(mask)}
    return overload(name), [query, key, value], kwargs


@call("mkldnn_rnn_layer")
def mkldnn_rnn(name: str, draw: Draw) -> Call:
    """Run one layer of an LSTM in one direction."""
    steps, batch, width, hidden = draw.some(), draw.some(), draw.some(), draw.pick(4, 6)
    data = draw.tensor([steps, batch, width])
    weights = [draw.tensor([4 * hidden, width]), draw.tensor([4 * hidden, hidden]), draw.tensor([4 * hidden]),
               draw.tensor([4 * hidden])]  # fmt: skip
    states = [draw.tensor([1, batch, hidden]) for _ in range(2)]
    return overload(name), [data, *weights, *states, False, [], 2, hidden, 1, True, False, False, False], {}


@call("_thnn_fused_lstm_cell")
def fused_cell(name: str, draw: Draw) -> Call:
    """Give gates and a state."""
    batch, hidden = draw.some(), draw.some()
    gates = [draw.tensor([batch, hidden * 4]) for _ in range(2)]
    return overload(name), [*gates, draw.tensor([batch, hidden]), *[draw.tensor([hidden * 4]) for _ in range(2)]], {}


@call("mm _int_mm bmm addmm _addmm_activation baddbmm mv dot vdot addmv ger outer linear addmm_ baddbmm_ addmv_")
def product(name: str, draw: Draw) -> Call:
    """Multiply."""
    batch, rows, inner, columns = (draw.some() for _ in range(4))
    tensor, stem = draw.tensor, name.rstrip("_")
    func = overload(name, "default")
    if stem in ("mm", "_int_mm"):
        dtype = torch.int8 if name == "_int_mm" else torch.float32
        return func, [tensor([rows, inner], dtype), tensor([inner, columns], dtype)], {}
    if stem in ("bmm", "baddbmm"):
        pair = [tensor([batch, rows, inner]), tensor([batch, inner, columns])]
        full = [batch, rows, columns]
        if stem == "bmm":
            return func, pair, {}
        return func, [tensor(full if name.endswith("_") else draw.spread(full)), *pair], {}
    if stem in ("addmm", "_addmm_activation"):
        pair = [tensor([rows, inner]), tensor([inner, columns])]
        bias = [rows, columns] if name.endswith("_") else draw.pick([columns], [rows, columns], [1, columns])
        return func, [tensor(bias), *pair], {}
    if stem == "linear":
        data = [*draw.dims(0, 2), inner]
        return func, [tensor(data), tensor([columns, inner]), tensor([columns]) if draw.maybe() else None], {}
    if stem in ("ger", "outer"):
        return func, [tensor([rows]), tensor([columns])], {}
    if stem == "mv":
        return func, [tensor([rows, inner]), tensor([inner])], {}
    if stem == "addmv":
        return func, [tensor([rows]), tensor([rows, inner]), tensor([inner])], {}
    return func, [tensor([inner]), tensor([inner])], {}


@call("_grouped_mm")
def grouped(name: str, draw: Draw) -> Call:
    """Multiply groups of rows or columns."""
    count, rows, inner, columns = draw.some(), *(draw.some() * 8 for _ in range(3))
    one, two, has_groups = draw.pick(
        ([rows, inner], [count, inner, columns], True), ([count, rows, inner], [count, inner, columns], False),
        ([rows, inner], [inner, columns], True), ([count, rows, inner], [inner, columns], True),
    )  # fmt: skip
    groups = [draw.tensor([count], torch.int32)] if has_groups else []
    return overload(name), [draw.tensor(one, torch.bfloat16), draw.tensor(two, torch.bfloat16), *groups], {}


@call("_weight_norm_interface")
def norm_weight(name: str, draw: Draw) -> Call:
    """Scale a weight along its first or its last axis."""
    weight = [draw.some() + 1 for _ in range(draw.pick(2, 3))]  # torch divides by them
    dim = draw.pick(0, len(weight) - 1)
    norms = [size if place == dim else 1 for place, size in enumerate(weight)]
    return overload(name), [draw.tensor(weight), draw.tensor(norms), dim], {}


@call("_cdist_forward _euclidean_dist cdist")
def distances(name: str, draw: Draw) -> Call:
    """Measure how far vectors are apart."""
    lead, width = draw.dims(0, 2), draw.some()
    one, two = [*lead, draw.dim(), width], [*lead, draw.dim(), width]
    more = {"_cdist_forward": [2.0, None], "cdist": [2.0]}.get(name, [])
    return overload(name), [draw.tensor(one), draw.tensor(two), *more], {}


@call("_trilinear")
def trilinear(name: str, draw: Draw) -> Call:
    """Multiply three tensors, as ``Bilinear`` does."""
    batch, out, one, two = (draw.some() for _ in range(4))
    tensors = [draw.tensor([batch, one]), draw.tensor([out, one, two]), draw.tensor([batch, two])]
    return overload(name), [*tensors, [1, 3], [0], [1, 2], [2, 3]], {}


@call("convolution _convolution")
def convolution(name: str, draw: Draw) -> Call:
    """Slide a kernel, or spread one."""
    rank, groups, transposed = draw.pick(1, 2, 3), draw.pick(1, 1, 2), draw.maybe(0.35)
    inside, outside = draw.some() * groups, draw.some() * groups
    kernel = [draw.pick(1, 2, 3) for _ in range(rank)]
    stride, padding, dilation = ([draw.pick(*values) for _ in range(rank)] for values in ((1, 2), (0, 1), (1, 2)))
    extra = [draw.below(2) if transposed and s == 2 else 0 for s in stride]
    data = draw.tensor([draw.some(), inside, *[draw.some() for _ in range(rank)]])
    channels = [inside, outside // groups] if transposed else [outside, inside // groups]
    weight = draw.tensor([*channels, *kernel])
    bias = draw.tensor([outside]) if draw.maybe() else None
    more = [False, False, False, False] if name == "_convolution" else []
    return overload(name, "default"), [
        data, weight, bias, stride, padding, dilation, transposed, extra, groups, *more
    ], {}  # fmt: skip


@call(
    "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d"
)
def pool(name: str, draw: Draw) -> Call:
    """Slide a window."""
    count = int(name.split("pool")[1][0])
    kernel = [draw.pick(2, 3) for _ in range(count)]
    kernel = kernel[:1] if draw.maybe(0.2) else kernel
    stride = draw.pick([], [1] * count, [2] * count, [3])
    padding = draw.pick([0] * count, [1] * count)
    lead = [draw.some(), draw.some()] if draw.maybe() else [draw.some()]
    args: list[Any] = [draw.tensor([*lead, *[draw.some() for _ in range(count)]]), kernel, stride, padding]
    if "max" in name:
        args.append(draw.pick([1] * count, [2] * count))
    return overload(name, "default"), [*args, draw.maybe()], {}


@call(
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool1d "
    "adaptive_max_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"
)
def adaptive_pool(name: str, draw: Draw) -> Call:
    """Ask for sizes."""
    count = int(name[-2])
    lead = [draw.some(), draw.some()] if draw.maybe() else [draw.some()]
    data = draw.tensor([*lead, *[draw.some() for _ in range(count)]])
    return overload(name, "default"), [data, [draw.pick(1, 3, draw.some()) for _ in range(count)]], {}


@call(
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d upsample_linear1d "
    "upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"
)
def upsample(name: str, draw: Draw) -> Call:
    """Ask for sizes, or for a factor."""
    count = int(name[name.index("d", -4 if name.endswith("_aa") else -1) - 1])
    data = draw.tensor([draw.some() for _ in range(count + 2)])
    corners = [] if "nearest" in name else [draw.maybe()]
    if draw.maybe():
        return overload(name, "default"), [data, [draw.some() for _ in range(count)], *corners], {}
    if draw.maybe(0.3):
        return overload(name, "vec"), [data, [draw.some() for _ in range(count)], *corners, None], {}
    return overload(name, "vec"), [data, None, *corners, [draw.pick(1.0, 2.0, 3.0, 0.5, 1.5) for _ in range(count)]], {}


@call(
    "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d pad"
)
def pad(name: str, draw: Draw) -> Call:
    """Add to both ends, or take from them."""
    count = int(name[-2]) if name[-1] == "d" and name[-2].isdigit() else draw.pick(1, 2)
    sides = [draw.pick(0, 1, 2, 3, -1) for _ in range(2 * count)]
    lead = [draw.some(), draw.some()] if draw.maybe() else [draw.some()]
    return overload(name, "default"), [draw.tensor([*lead, *[draw.some() for _ in range(count)]]), sides], {}


@call("im2col col2im")
def im2col(name: str, draw: Draw) -> Call:
    """Make columns of windows, and back."""
    kernel, stride = [draw.pick(1, 2, 3), draw.pick(1, 2, 3)], [draw.pick(1, 2), 1]
    batch, channels, height, width = draw.some(), draw.some(), draw.some(), draw.some()
    lead = [batch] if draw.maybe(0.7) else []
    settings = [kernel, [1, 1], [draw.pick(0, 1), 0], stride]
    if name == "im2col":
        return overload(name), [draw.tensor([*lead, channels, height, width]), *settings], {}
    padding = settings[2]
    tall = (height + (2 * padding[0] - kernel[0])) // stride[0] + 1
    wide = (width + (2 * padding[1] - kernel[1])) // stride[1] + 1
    columns = draw.tensor([*lead, channels * (kernel[0] * kernel[1]), tall * wide])
    return overload(name), [columns, [height, width], *settings], {}


@call("unfold")
def unfold(name: str, draw: Draw) -> Call:
    """Slide a window over one axis."""
    dims = draw.dims(1, 3)
    at = draw.axis(len(dims))
    dims[at] = draw.some() + 2
    return overload(name), [draw.tensor(dims), at, draw.pick(1, 2, 3), draw.pick(1, 2)], {}


@call("grid_sampler_2d grid_sampler_3d")
def sample_grid(name: str, draw: Draw) -> Call:
    """Sample at points."""
    count = 3 if name.endswith("3d") else 2
    batch = draw.some()
    data = draw.tensor([batch, *[draw.some() for _ in range(count + 1)]])
    grid = draw.tensor([batch, *[draw.some() for _ in range(count)], count])
    return overload(name), [data, grid, 0, 0, False], {}


@call("pixel_shuffle pixel_unshuffle")
def pixel_shuffle(name: str, draw: Draw) -> Call:
    """Trade channels for pixels."""
    factor, lead = draw.pick(1, 2, 3), draw.dims(0, 2)
    one, two, three = draw.some(), draw.some(), draw.some()
    dims = [one * factor**2, two, three] if name == "pixel_shuffle" else [one, two * factor, three * factor]
    return overload(name), [draw.tensor([*lead, *dims]), factor], {}
