"""Sliding windows, and what makes a feature map larger or smaller."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size, entry, put

#: A factor with a larger denominator is no number that somebody wrote, and is rounded.
_LARGEST_STEP = 64


def slide(
    op: Op, size: Size, kernel: Size, stride: int = 1, padding: int = 0, dilation: int = 1, *, ceil_mode: bool = False
) -> Size:
    """Return how many windows fit: ``⌊(size + 2·padding - dilation·(kernel - 1) - 1) / stride⌋ + 1``.

    Args:
        size: Of the axis.
        kernel, stride, padding, dilation: As torch takes them.
        ceil_mode: Whether the last window may end beyond the input, if it begins in it.
    """
    offset = (kernel - 1) * -dilation + (2 * padding - 1 + stride)
    if ceil_mode and isinstance(offset, int):  # of pools, whose kernels are numbers
        offset = min(offset, padding) + stride - 1
    if (kernel, stride, padding) != (1, 1, 0):
        op.across(size)
    made = (size + offset) // stride
    op.at_least(made, 1)
    return made


def _per_dim(value: Any, count: int, default: Any = None) -> list[int]:
    if value is None or value == []:
        value = default
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


@entry("convolution _convolution")
def convolution(op: Op) -> Sequence[Axes]:
    """``(B, C_in, …)`` to ``(B, C_out, …)``; transposed, the windows are spread over the output."""
    data, weight = op.axes("input"), op.axes("weight")
    count = len(weight) - 2
    lead, channels, spatial = data[: -count - 1], data[-count - 1], data[-count:]
    transposed, groups = op.setting("transposed", False), op.size("groups", 1)
    stride, padding, dilation, extra = (
        _per_dim(op.setting(name), count, default)
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0))
    )
    read, out = (weight[0], groups * weight[1]) if transposed else (groups * weight[1], weight[0])  # a group as a whole
    out = op.by_groups(channels, out, groups)
    op.equal(channels, read)
    if op.has("bias"):  # torch up to 2.14 finds a wrong one in its kernels alone
        op.equal(op.axes("bias")[0], out)
    made = []
    kernels = [size if (number := op.known(size)) is None else number for size in weight[2:]]
    for i, (size, kernel) in enumerate(zip(spatial, kernels, strict=True)):
        if transposed:
            op.across(size)
            extent = (kernel - 1) * dilation[i] + 1
            made.append(size * stride[i] + extent - (stride[i] + 2 * padding[i] - extra[i]))
            op.at_least(made[-1], 0)
        else:
            made.append(slide(op, size, kernel, stride[i], padding[i], dilation[i]))
    return [[*lead, 0 if op.known(channels) == 0 else out, *made]]


@entry(
    "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d"
)
def pool(op: Op) -> Sequence[Axes]:
    """Slide a window over the last axes; a stride that was not given is the kernel."""
    data = op.first()
    count = int(op.name.split("pool")[1][0])
    kernel = _per_dim(op.setting("kernel_size"), count)
    stride = _per_dim(op.setting("stride"), count, kernel)
    padding, dilation = _per_dim(op.setting("padding"), count, 0), _per_dim(op.setting("dilation"), count, 1)
    ceil_mode = bool(op.setting("ceil_mode", False))
    if op.name == "aten.avg_pool3d":
        for size, least in zip(data[-count:], kernel, strict=True):
            op.at_least(size, least)
    made = [
        slide(op, size, kernel[i], stride[i], padding[i], dilation[i], ceil_mode=ceil_mode)
        for i, size in enumerate(data[-count:])
    ]
    return [[*data[:-count], *made]] * 2


@entry(
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool1d "
    "adaptive_max_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"
)
def pool_to(op: Op) -> Sequence[Axes]:
    """Make the last axes as large as was asked for."""
    data, wanted = op.first(), op.sizes("output_size")
    pooled = data[-len(wanted) :]
    op.across(*pooled)
    return [[*data[: -len(wanted)], *map(op.resized, pooled, wanted)]] * 2


def _scale(size: Size, factor: float | None) -> Size | None:
    if factor is None or (exact := Fraction(factor)).denominator > _LARGEST_STEP:
        return None
    return size * exact.numerator // exact.denominator


@entry(
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d upsample_linear1d "
    "upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"
)
def upsample(op: Op) -> Sequence[Axes]:
    """Make the last axes as large as was asked for, or so many times as large."""
    data = op.first()
    op.across(*data[2:])
    names = ("scales",) if len(data) == 3 else ("scales_d", "scales_h", "scales_w")[5 - len(data) :]
    factors = op.plain("scale_factors") or [op.plain(name) for name in names]
    made = [_scale(size, factor) for size, factor in zip(data[2:], factors, strict=True)]
    if op.plain("output_size") is not None:  # with the factors that it was computed from, if it was
        asked = op.sizes("output_size")
        made = [
            size if more is None or op.value(more) != op.value(size) else more
            for size, more in zip(asked, made, strict=True)
        ]
    elif None in made:
        raise OpaqueError("a factor that is no simple fraction")
    for size in made:
        op.at_least(size, 1)
    return [[*data[:2], *map(op.resized, data[2:], made)]]


@entry(
    "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d pad"
)
def pad(op: Op) -> Sequence[Axes]:
    """Add to both ends of the last axes, the last one first."""
    data = op.first()
    sides = op.sizes("padding" if op.plain("padding") is not None else "pad")
    for place in range(len(sides) // 2):
        if op.name.startswith("aten.reflection"):
            op.at_least(data[-1 - place], max(sides[2 * place : 2 * place + 2], key=op.value) + 1)
        data[-1 - place] = op.padded(data[-1 - place], sides[2 * place], sides[2 * place + 1], -1 - place)
        op.at_least(data[-1 - place], op.name.startswith("aten.reflection"))
    return [data]


@entry("im2col")
def im2col(op: Op) -> Sequence[Axes]:
    """``(B, C, H, W)`` to ``(B, C·kernel, windows)``."""
    data, kernel = op.axes("self"), op.setting("kernel_size")
    return [[*data[:-3], data[-3] * (kernel[0] * kernel[1]), _count_windows(op, data[-2:])]]


def _count_windows(op: Op, sides: Axes) -> Size:
    windows: Size = 1
    for i, size in enumerate(sides):
        settings = (op.setting(name)[i] for name in ("kernel_size", "stride", "padding", "dilation"))
        windows = windows * slide(op, size, *settings)
    return windows


@entry("col2im")
def col2im(op: Op) -> Sequence[Axes]:
    """``(B, C·kernel, windows)`` to ``(B, C, H, W)``."""
    data, kernel, made = op.axes("self"), op.setting("kernel_size"), op.sizes("output_size")
    channels = op.divided(data[-2], kernel[0] * kernel[1])
    op.across(*data[-2:])
    for side in made:
        op.at_least(side, 1)
    op.equal(_count_windows(op, made), data[-1])
    return [[*data[:-2], channels, *made]]


@entry("unfold")
def unfold(op: Op) -> Sequence[Axes]:
    """Slide a window over one axis; the window is a new last one."""
    data, dim, width = op.axes("self"), op.plain("dimension"), op.known(op.size("size"))
    if width is None:
        raise OpaqueError("a window that depends on the input")
    return [[*put(data, dim, slide(op, data[dim], width, op.setting("step"))), width]]


@entry("as_strided")
def strided(op: Op) -> Sequence[Axes]:
    """Read the same memory as other axes: as windows of the last one, which is how frames of a signal are cut."""
    data, stride, made = op.axes("self"), op.plain("stride"), op.made()
    if len(made) == len(data) + 1 and stride[-1] == 1 and stride[-2] and not op.plain("storage_offset", 0):
        lengths = [*map(op.value, data[:-1]), (op.value(data[-1]) - made[-1]) // stride[-2] + 1, made[-1]]
        if tuple(lengths) == made:
            return [[*data[:-1], slide(op, data[-1], made[-1], stride[-2]), made[-1]]]
    return [op.sizes("size")]


@entry("grid_sampler_2d grid_sampler_3d")
def sample_grid(op: Op) -> Sequence[Axes]:
    """Sample a feature map at the points of a grid."""
    data, grid = op.axes("input"), op.axes("grid")
    op.equal(grid[-1], len(data) - 2)
    return [[op.equal(data[0], grid[0]), data[1], *grid[1:-1]]]


@entry("pixel_shuffle")
def pixel_shuffle(op: Op) -> Sequence[Axes]:
    """``(…, C·r², H, W)`` to ``(…, C, H·r, W·r)``."""
    *lead, channels, height, width = op.axes("self")
    factor = op.setting("upscale_factor")
    return [[*lead, op.divided(channels, factor**2), height * factor, width * factor]]


@entry("pixel_unshuffle")
def pixel_unshuffle(op: Op) -> Sequence[Axes]:
    """``(…, C, H·r, W·r)`` to ``(…, C·r², H, W)``."""
    *lead, channels, height, width = op.axes("self")
    factor = op.setting("downscale_factor")
    return [[*lead, channels * factor**2, op.divided(height, factor), op.divided(width, factor)]]
