"""Operations whose output shape at one size determines that at another: torch computes it once, for a small input.

A model has few numbers of channels and many sizes of feature maps. What does not depend on a size is computed once, in
torch's twenty steps, for an input that is 2 wherever the size does not matter, and is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.torch_compat.fakes import find_operator

__all__ = ["Layout", "Smaller", "find_smaller", "write_down"]

#: Size, stride and dtype of a result.
Layout = tuple[Sequence[int], Sequence[int], torch.dtype]

_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class Smaller:
    """A smaller question.

    Attributes:
        size: Of the input that replaces the first argument.
        memory_format: How it is to lie in memory.
        rest: The other arguments.
        grow: Makes the layouts of the results of those that the smaller input has.
    """

    def __init__(
        self,
        size: Sequence[int],
        memory_format: torch.memory_format,
        rest: Sequence[Any],
        grow: Callable[[Sequence[Tensor]], list[Layout]],
    ) -> None:
        self.size = size
        self.memory_format = memory_format
        self.rest = rest
        self.grow = grow


def find_smaller(func: Any, args: Sequence[Any]) -> Smaller | None:
    """Find smaller arguments for an operation; ``None`` if it has to be computed on its own."""
    reduce = _SMALLER.get(func)
    return reduce(args) if reduce is not None else None


def write_down(func: Any, args: Sequence[Any]) -> Layout | None:
    """Return the layout of a new result where it is evident; ``None`` where torch has to compute it."""
    write = _PLAIN_TO_SEE.get(func)
    return write(args) if write is not None else None


def _is_standard(tensor: Tensor) -> bool:
    """Return whether a tensor is contiguous; a dim of size 1 too has the stride that it would have in a new tensor."""
    return tensor.stride() == _rows(tensor.shape)


def _rows(size: Sequence[int]) -> tuple[int, ...]:
    strides = [1]
    for length in reversed(size[1:]):
        strides.append(strides[-1] * max(length, 1))
    return tuple(reversed(strides)) if len(size) else ()


def _norm_channels(args: Sequence[Any]) -> Smaller | None:
    """A batch norm: its first result has the size and strides of the input, the others depend on the channels alone."""
    data = args[0]
    layout = torch.contiguous_format if data.is_contiguous() else _LAYOUTS.get(data.dim(), torch.contiguous_format)
    if data.dim() < 3 or not data.is_contiguous(memory_format=layout):
        return None

    def grow(made: Sequence[Tensor]) -> list[Layout]:
        rest: list[Layout] = [(part.size(), part.stride(), part.dtype) for part in made[1:]]
        return [(data.size(), data.stride(), made[0].dtype), *rest]

    return Smaller([2, data.shape[1], *[2] * (data.dim() - 2)], layout, args[1:], grow)


def _norm_last(args: Sequence[Any]) -> Smaller | None:
    """A layer norm: every result keeps the dims before the normalized ones."""
    data, normed = args[0], list(args[1])
    lead = list(data.shape[: data.dim() - len(normed)])
    if not lead or list(data.shape[len(lead) :]) != normed or not _is_standard(data):
        return None

    def grow(made: Sequence[Tensor]) -> list[Layout]:
        sizes = [[*lead, *part.shape[len(lead) :]] if part.dim() > len(lead) else list(part.shape) for part in made]
        return [(size, _rows(size), part.dtype) for size, part in zip(sizes, made, strict=True)]

    return Smaller([*[2] * len(lead), *normed], torch.contiguous_format, args[1:], grow)


def _norm_groups(args: Sequence[Any]) -> Smaller | None:
    """A group norm: the first result has the input's size, the others a number for each sample and group."""
    data, batch = args[0], args[3]
    if data.dim() < 3 or batch != data.shape[0] or not _is_standard(data):
        return None

    def grow(made: Sequence[Tensor]) -> list[Layout]:
        sizes = [list(data.shape), *([batch, *part.shape[1:]] for part in made[1:])]
        return [(size, _rows(size), part.dtype) for size, part in zip(sizes, made, strict=True)]

    inner = data.dim() - 2
    rest = [*args[1:3], 2, args[4], 2**inner, *args[6:]]
    return Smaller([2, data.shape[1], *[2] * inner], torch.contiguous_format, rest, grow)


def _resize(args: Sequence[Any]) -> Layout | None:
    """A resized feature map has the given size."""
    data, sides = args[0], args[1]
    inner = data.dim() - 2
    is_plain = data.is_floating_point() and data.numel() > 0
    if not is_plain or sides is None or len(sides) != inner or min(sides) < 1:
        return None
    size = [*data.shape[:2], *sides]
    if _is_standard(data):
        return size, _rows(size), data.dtype
    if inner != 2 or min(data.shape) < 2 or not data.is_contiguous(memory_format=torch.channels_last):
        return None
    channels, (height, width) = size[1], sides
    return size, (channels * height * width, 1, width * channels, channels), data.dtype


def _sample_grid(args: Sequence[Any]) -> Layout | None:
    """A feature map that is sampled at a grid has the grid's points; torch computes that in 300 steps."""
    data, grid, mode, padding = args[:4]
    fits = data.dim() == grid.dim() == 4 and data.shape[0] == grid.shape[0] and grid.shape[-1] == 2
    if not fits or data.dtype != grid.dtype or not data.is_floating_point() or min(data.shape) < 1:
        return None
    if data.device != grid.device or min(grid.shape) < 1 or mode not in (0, 1, 2) or padding not in (0, 1, 2):
        return None
    size = [*data.shape[:2], *grid.shape[1:3]]
    return size, _rows(size), data.dtype


_ATEN = torch.ops.aten
_SMALLER: dict[Any, Callable[[Sequence[Any]], Smaller | None]] = {
    _ATEN.native_batch_norm.default: _norm_channels,
    find_operator("_native_batch_norm_legit.default"): _norm_channels,
    find_operator("_native_batch_norm_legit.no_stats"): _norm_channels,
    find_operator("_native_batch_norm_legit_no_training.default"): _norm_channels,
    _ATEN.cudnn_batch_norm.default: _norm_channels,
    _ATEN.native_layer_norm.default: _norm_last,
    _ATEN.native_group_norm.default: _norm_groups,
}
_PLAIN_TO_SEE: dict[Any, Callable[[Sequence[Any]], Layout | None]] = {
    _ATEN.upsample_bilinear2d.default: _resize,
    _ATEN.upsample_bicubic2d.default: _resize,
    _ATEN.upsample_linear1d.default: _resize,
    _ATEN.upsample_trilinear3d.default: _resize,
    _ATEN.grid_sampler_2d.default: _sample_grid,
}
