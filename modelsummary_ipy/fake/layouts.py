"""How a tensor lies in memory, and the layouts that are evident: of a new tensor, of one in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from modelsummary_ipy.torch_compat.fakes import FakeTensor


class Layout(NamedTuple):
    """How a result lies in memory.

    Attributes:
        size, stride, dtype: Of the result.
        offset: Of a view, how far into its tensor it begins.
    """

    size: Sequence[int]
    stride: Sequence[int]
    dtype: torch.dtype
    offset: int = 0


def is_standard(tensor: Any) -> bool:
    """Return whether a tensor is contiguous; a dim of size 1 too has the stride that it would have in a new tensor."""
    return isinstance(tensor, FakeTensor) and tensor.stride() == _standard_strides(tensor.shape)


def _standard_strides(size: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a new tensor."""
    strides = [1]
    for length in reversed(size[1:]):
        strides.append(strides[-1] * max(length, 1))
    return tuple(reversed(strides)) if len(size) else ()


def new_layout(size: Sequence[int], dtype: torch.dtype) -> Layout:
    """Return the layout of a new tensor."""
    return Layout(size, _standard_strides(size), dtype)


def are_plain(*tensors: Any) -> bool:
    """Return whether tensors are standard, not empty, of one floating dtype and on one device."""
    first = tensors[0]
    return (
        all(map(is_standard, tensors))
        and first.is_floating_point()
        and all(t.dtype == first.dtype and t.fake_device == first.fake_device and t.numel() > 0 for t in tensors)
    )


def order_strides(tensor: Any) -> tuple[int, ...] | None:
    """Return the strides of a new tensor in the order of a floating one; ``None`` where that is not evident."""
    if not isinstance(tensor, FakeTensor) or not tensor.is_floating_point() or min(tensor.shape, default=1) < 2:
        return None
    stride = tensor.stride()
    if len({*stride}) < len(stride) or 0 in stride:
        return None
    made, length = list(stride), 1
    for dim in sorted(range(len(stride)), key=stride.__getitem__):
        made[dim] = length
        length *= tensor.shape[dim]
    return tuple(made)
