"""The layouts of what operations on feature maps, and norms, make of plain tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from modelsummary_ipy.fake.layouts import Layout, are_plain, is_standard, new_layout, order_strides


def convolve(
    data: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    more: Any,
    groups: int,
) -> Layout | None:
    """A convolution of a batch on the CPU: one that is given its channels first gives them first."""
    inner = weight.dim() - 2
    given = (data, weight) if bias is None else (data, weight, bias)
    if data.dim() != weight.dim() or inner not in (1, 2, 3) or not are_plain(*given) or groups < 1:
        return None
    if data.fake_device.type != "cpu" or any(len(setting) != inner for setting in (stride, padding, dilation, more)):
        return None
    read, made = (
        (weight.shape[0], weight.shape[1] * groups) if transposed else (weight.shape[1] * groups, weight.shape[0])
    )
    if data.shape[1] != read or read % groups or made % groups or (bias is not None and bias.shape != (made,)):
        return None
    if min(*stride, *dilation) < 1 or min(*padding, *more) < 0:
        return None
    sides = []
    for side, kernel, step, pad, gap, plus in zip(
        data.shape[2:], weight.shape[2:], stride, padding, dilation, more, strict=True
    ):
        reach = gap * (kernel - 1) + 1
        if transposed and plus >= max(step, gap):
            return None
        sides.append((side - 1) * step - 2 * pad + reach + plus if transposed else (side + 2 * pad - reach) // step + 1)
        if sides[-1] < 1 or (not transposed and side + 2 * pad < reach):
            return None
    return new_layout([data.shape[0], made, *sides], data.dtype)


def pool(data: Any, kernel: Any, step: Any = (), pad: Any = 0, gap: Any = 1, up: bool = False) -> list[Layout] | None:
    """A maximum of windows, and where in its map each stands."""
    if data.dim() != 4 or not are_plain(data):
        return None
    sides = []
    for side, *window in zip(
        data.shape[2:], *(_pair(value) for value in (kernel, step or kernel, pad, gap)), strict=True
    ):
        length, stride, margin, dilation = window
        if min(length, stride, dilation) < 1 or not 0 <= margin <= length // 2:
            return None
        free = side + 2 * margin - dilation * (length - 1) - 1
        if free < 0:
            return None
        sides.append((free + (stride - 1 if up else 0)) // stride + 1)
        sides[-1] -= up and (sides[-1] - 1) * stride >= side + margin  # the last window begins within the map
    size = [*data.shape[:2], *sides]
    return [new_layout(size, data.dtype), new_layout(size, torch.int64)]


def _pair(value: Any) -> Sequence[int]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return values * 2 if len(values) == 1 else values


def norm_channels(
    data: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *_: Any
) -> list[Layout] | None:
    """A batch norm: as its input, with two numbers a channel that a training keeps."""
    if data.dim() < 3 or not is_standard(data) or not _are_for(data.shape[1:2], data, (weight, bias, mean, variance)):
        return None
    if not training and (mean is None or variance is None):
        return None  # torch fails
    kept = new_layout([data.shape[1] if training else 0], data.dtype)
    return [new_layout(data.shape, data.dtype), kept, kept]


def norm_last(data: Any, normed: Any, weight: Any, bias: Any, *_: Any) -> list[Layout] | None:
    """A layer norm: as its input, with two numbers for each of what is normed."""
    inner = len(normed)
    lead = data.shape[: data.dim() - inner]
    if not lead or list(data.shape[len(lead) :]) != [*normed] or not _are_for(normed, data, (weight, bias)):
        return None
    kept = new_layout([*lead, *[1] * inner], data.dtype)
    return [new_layout(data.shape, data.dtype), kept, kept]


def _are_for(size: Sequence[int], data: Any, params: Sequence[Any]) -> bool:
    """Return whether a norm's parameters, where it has some, are of a size and all else as the data's, on the CPU."""
    given = [param for param in params if param is not None]
    is_plain = (are_plain(data, *given) if is_standard(data) else order_strides(data) is not None) and data.numel() > 0
    is_alike = all(is_standard(p) and p.dtype == data.dtype and p.fake_device == data.fake_device for p in given)
    return data.fake_device.type == "cpu" and is_plain and is_alike and all(list(p.shape) == [*size] for p in given)


def resize(data: Any, sides: Any, *_: Any) -> Layout | None:
    """A resized feature map has the given size."""
    inner = data.dim() - 2
    is_plain = data.is_floating_point() and data.numel() > 0
    if not is_plain or sides is None or len(sides) != inner or min(sides) < 1:
        return None
    size = [*data.shape[:2], *sides]
    if is_standard(data):
        return new_layout(size, data.dtype)
    if inner != 2 or min(data.shape) < 2 or not data.is_contiguous(memory_format=torch.channels_last):
        return None
    channels, (height, width) = size[1], sides
    return Layout(size, (channels * height * width, 1, width * channels, channels), data.dtype)


def sample_grid(data: Any, grid: Any, mode: int, padding: int, *_: Any) -> Layout | None:
    """A feature map that is sampled at a grid has the grid's points; torch computes that in 300 steps."""
    fits = data.dim() == grid.dim() == 4 and data.shape[0] == grid.shape[0] and grid.shape[-1] == 2
    if not fits or data.dtype != grid.dtype or not data.is_floating_point() or min(data.shape) < 1:
        return None
    if data.device != grid.device or min(grid.shape) < 1 or mode not in (0, 1, 2) or padding not in (0, 1, 2):
        return None
    size = [*data.shape[:2], *grid.shape[1:3]]
    return new_layout(size, data.dtype)
