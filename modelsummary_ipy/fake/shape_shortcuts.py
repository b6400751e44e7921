"""Operations whose output shape at one size determines that at another: torch computes it once, for a small input.

A model has few numbers of channels and many sizes of feature maps. What does not depend on a size is computed once, in
torch's twenty steps, for an input that is 2 wherever the size does not matter, and is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelsummary_ipy.fake.layouts import Layout, is_standard, new_layout
from modelsummary_ipy.torch_compat.fakes import find_operator

_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class Smaller(NamedTuple):
    """A smaller question.

    Attributes:
        size: Of the input that replaces the first argument.
        memory_format: How it is to lie in memory.
        rest: The other arguments.
        grow: Makes the layouts of the results of those that the smaller input has.
        has_few: Whether the other tensors, which have a number a channel, are to have two as well.
    """

    size: Sequence[int]
    memory_format: torch.memory_format
    rest: Sequence[Any]
    grow: Callable[[Sequence[Tensor]], list[Layout]]
    has_few: bool = False


def find_smaller(func: Any, args: Sequence[Any]) -> Smaller | None:
    """Find smaller arguments for an operation; ``None`` if it has to be computed on its own."""
    reduce = _SMALLER.get(func)
    return reduce(args) if reduce is not None else None


def _norm_channels(args: Sequence[Any]) -> Smaller | None:
    """A batch norm: its first result has the size and strides of the input, the others a number a channel, or none."""
    data = args[0]
    layout = torch.contiguous_format if data.is_contiguous() else _LAYOUTS.get(data.dim(), torch.contiguous_format)
    if data.dim() < 3 or not data.is_contiguous(memory_format=layout):
        return None
    channels = data.shape[1]
    if any(isinstance(value, Tensor) and value.shape != (channels,) for value in args[1:]):
        return None

    def grow(made: Sequence[Tensor]) -> list[Layout]:
        sizes = [(channels,) if part.shape == (2,) else tuple(part.shape) for part in made[1:]]
        rest = [Layout(size, part.stride(), part.dtype) for size, part in zip(sizes, made[1:], strict=True)]
        return [Layout(data.size(), data.stride(), made[0].dtype), *rest]

    return Smaller([2] * data.dim(), layout, args[1:], grow, has_few=True)


def _norm_last(args: Sequence[Any]) -> Smaller | None:
    """A layer norm: every result keeps the dims before the normalized ones."""
    data, normed = args[0], list(args[1])
    lead = list(data.shape[: data.dim() - len(normed)])
    if not lead or list(data.shape[len(lead) :]) != normed or not is_standard(data):
        return None

    def grow(made: Sequence[Tensor]) -> list[Layout]:
        sizes = [[*lead, *part.shape[len(lead) :]] if part.dim() > len(lead) else list(part.shape) for part in made]
        return [new_layout(size, part.dtype) for size, part in zip(sizes, made, strict=True)]

    return Smaller([*[2] * len(lead), *normed], torch.contiguous_format, args[1:], grow)


def _norm_groups(args: Sequence[Any]) -> Smaller | None:
    """A group norm: the first result has the input's size, the others a number for each sample and group."""
    data, batch = args[0], args[3]
    if data.dim() < 3 or batch != data.shape[0] or not is_standard(data):
        return None

    def grow(made: Sequence[Tensor]) -> list[Layout]:
        sizes = [list(data.shape), *([batch, *part.shape[1:]] for part in made[1:])]
        return [new_layout(size, part.dtype) for size, part in zip(sizes, made, strict=True)]

    inner = data.dim() - 2
    rest = [*args[1:3], 2, args[4], 2**inner, *args[6:]]
    return Smaller([2, data.shape[1], *[2] * inner], torch.contiguous_format, rest, grow)


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
