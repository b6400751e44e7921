"""Operations whose result is evident: its size and strides follow from those of the arguments in one line.

Torch works out what an operation makes in twenty steps, a millisecond each time that a size is new. Of plain tensors
the commonest operations need none of them. Only what torch certainly makes is written down here; whatever else is given
to an operation (another order in memory, promoted dtypes, sizes that do not fit) is left to torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.fake.layouts import Layout, are_plain, is_standard, new_layout, order_strides
from modelsummary_ipy.fake.map_layouts import convolve, norm_channels, norm_last, pool, resize, sample_grid
from modelsummary_ipy.torch_compat.fakes import FakeTensor, find_operator


def write_down(func: Any, args: Sequence[Any]) -> Layout | list[Layout] | None:
    """Return the layout of a result, or of several, where it is evident; ``None`` where torch has to compute it."""
    write = _EVIDENT.get(func)
    if write is None or not args:
        return None
    try:
        return write(*args)
    except TypeError:  # arguments that are left out, or not what they mostly are
        return None


# -- elementwise -------------------------------------------------------------------------------------------------------


def _keep(data: Any, *rest: Any) -> Layout | None:
    """An activation: as its input."""
    if any(isinstance(value, (Tensor, complex)) for value in rest):
        return None
    if are_plain(data):
        return new_layout(data.shape, data.dtype)
    stride = order_strides(data)
    return None if stride is None else Layout(data.shape, stride, data.dtype)


def _write(data: Any) -> Layout | None:
    """An activation in place: its input itself, of which no two entries are one."""
    is_dense = are_plain(data) or (isinstance(data, FakeTensor) and order_strides(data) == data.stride())
    return Layout(data.shape, data.stride(), data.dtype) if is_dense else None


def _compare(data: Any, number: Any) -> Layout | None:
    is_plain = are_plain(data) and isinstance(number, (bool, int, float))
    return new_layout(data.shape, torch.bool) if is_plain else None


def _fill_in(data: Any, mask: Any, number: Any) -> Layout | None:
    """A number where a mask of the same size is true."""
    is_plain = are_plain(data) and is_standard(mask) and isinstance(number, (bool, int, float))
    is_alike = is_plain and mask.shape == data.shape and mask.fake_device == data.fake_device
    return new_layout(data.shape, data.dtype) if is_alike and mask.dtype == torch.bool else None


def _roll(data: Any, shifts: Any, dims: Any = ()) -> Layout | None:
    is_plain = are_plain(data) and data.fake_device.type == "cpu" and len(shifts) == len(dims) > 0
    return new_layout(data.shape, data.dtype) if is_plain and all(0 <= dim < data.dim() for dim in dims) else None


def _go_back(grad: Any, data: Any, *rest: Any) -> Layout | None:
    """An activation's gradient: as the activation's input, or its output."""
    is_alike = are_plain(grad, data) and grad.shape == data.shape
    return (
        new_layout(data.shape, data.dtype)
        if is_alike and not any(isinstance(value, Tensor) for value in rest)
        else None
    )


def _combine(one: Any, other: Any) -> Layout | None:
    """A sum or product: of the size that both are broadcast to, or a number added; in the order of the first."""
    if isinstance(other, (bool, int, float)):
        return _keep(one)
    if not (isinstance(one, FakeTensor) and isinstance(other, FakeTensor)):
        return None
    rank = max(one.dim(), other.dim())
    pairs = list(zip(*([*[1] * (rank - each.dim()), *each.shape] for each in (one, other)), strict=True))
    if any(mine != its and 1 not in (mine, its) for mine, its in pairs):
        return None
    size = [mine * its if 1 in (mine, its) else mine for mine, its in pairs]
    if are_plain(one, other):
        return new_layout(size, one.dtype)
    stride = order_strides(one) if list(one.shape) == size else None
    is_alike = one.dtype == other.dtype and one.fake_device == other.fake_device and other.dim() > 0
    return None if stride is None or not is_alike else Layout(size, stride, one.dtype)


# -- products ----------------------------------------------------------------------------------------------------------


def _multiply(one: Any, other: Any) -> Layout | None:
    if not (isinstance(one, FakeTensor) and isinstance(other, FakeTensor) and one.dim() == other.dim()):
        return None
    is_alike = one.dtype == other.dtype and one.is_floating_point() and one.fake_device == other.fake_device
    *batch, rows, inner = one.shape
    *others, left, columns = other.shape
    if not is_alike or batch != others or inner != left or one.numel() == 0 or other.numel() == 0:
        return None
    return new_layout([*batch, rows, columns], one.dtype)


def _multiply_matrices(one: Any, other: Any) -> Layout | None:
    return _multiply(one, other) if isinstance(one, Tensor) and one.dim() == 2 else None


def _multiply_batches(one: Any, other: Any) -> Layout | None:
    return _multiply(one, other) if isinstance(one, Tensor) and one.dim() == 3 else None


def _multiply_add(bias: Any, one: Any, other: Any) -> Layout | None:
    made = _multiply_matrices(one, other)
    if made is None or not isinstance(bias, FakeTensor) or bias.shape != (made.size[1],):
        return None
    return made if bias.dtype == made.dtype and bias.fake_device == one.fake_device else None


def _look_up(table: Any, indices: Any, *_: Any) -> Layout | None:
    if not (isinstance(table, FakeTensor) and table.dim() == 2 and table.numel() > 0 and is_standard(indices)):
        return None
    if indices.dtype not in (torch.int64, torch.int32) or indices.fake_device != table.fake_device:
        return None
    return new_layout([*indices.shape, table.shape[1]], table.dtype) if indices.numel() > 0 else None


def _pick_rows(data: Any, indices: Any) -> Layout | None:
    """Rows of a table by one tensor of positions: the biases of a window by how far apart two pixels are."""
    at: Any = indices[0] if len(indices) == 1 else None
    if not (is_standard(data) and is_standard(at) and at.dtype in (torch.int64, torch.int32) and data.dim() > 0):
        return None
    if at.fake_device != data.fake_device or min(*at.shape, data.shape[0], *(side - 1 for side in data.shape[1:])) < 1:
        return None
    return new_layout([*at.shape, *data.shape[1:]], data.dtype)


def _join(tensors: Any, dim: int = 0) -> Layout | None:
    if not isinstance(tensors, (list, tuple)) or not tensors:
        return None
    rest = [t for t in tensors if t.dim() != 1 or t.numel()]
    if rest and len(rest) < len(tensors):  # what a cache that is still empty is joined with, in the usual order
        first = rest[0]
        is_alike = all(t.dtype == first.dtype and t.fake_device == first.fake_device for t in tensors)
        if (
            not is_alike
            or not first.is_floating_point()
            or not all(t.numel() and t.layout is torch.strided for t in rest)
        ):
            return None
    elif not are_plain(*tensors):
        return None
    tensors = rest
    first, rank = tensors[0], tensors[0].dim()
    if not -rank <= dim < rank or any(t.dim() != rank for t in tensors):
        return None
    dim %= rank
    size = list(first.shape)
    size[dim] = sum(t.shape[dim] for t in tensors)
    if any(t.shape[at] != size[at] for t in tensors for at in range(rank) if at != dim):
        return None
    return new_layout(size, first.dtype)


# -- views -------------------------------------------------------------------------------------------------------------


def _view(data: Any, size: Any) -> Layout | None:
    if not is_standard(data) or data.numel() == 0 or not all(type(side) is int for side in size):
        return None
    known = math.prod(side for side in size if side != -1)
    if known < 1 or min(size, default=1) < -1 or list(size).count(-1) > 1:
        return None
    size = [data.numel() // known if side == -1 else side for side in size]
    return new_layout(size, data.dtype) if math.prod(size) == data.numel() else None


_ATEN = torch.ops.aten
_ACTIVATIONS = (
    *("relu", "gelu", "silu", "tanh", "sigmoid", "exp", "neg", "rsqrt", "sqrt", "erf", "sin", "cos", "abs"),
    *("hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "softplus", "clamp", "mish"),
)
_WITH_BACKWARD = ("threshold", "gelu", "silu", "tanh", "sigmoid", "hardtanh", "hardswish", "hardsigmoid", "leaky_relu")
_EVIDENT: dict[Any, Callable[..., Layout | list[Layout] | None]] = {
    **{getattr(_ATEN, name).default: _keep for name in _ACTIVATIONS},
    **{getattr(_ATEN, f"{name}_backward").default: _go_back for name in _WITH_BACKWARD},
    _ATEN.pow.Tensor_Scalar: _keep,
    _ATEN.rsub.Scalar: _combine,
    **{getattr(_ATEN, name).default: _write for name in ("relu_", "silu_", "sigmoid_", "tanh_", "gelu_")},
    **{getattr(_ATEN, name).Scalar: _compare for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    _ATEN.masked_fill.Scalar: _fill_in,
    _ATEN.roll.default: _roll,
    **{getattr(_ATEN, name).Tensor: _combine for name in ("add", "sub", "mul", "div")},
    _ATEN.mm.default: _multiply_matrices,
    _ATEN.bmm.default: _multiply_batches,
    _ATEN.addmm.default: _multiply_add,
    _ATEN.embedding.default: _look_up,
    _ATEN.index.Tensor: _pick_rows,
    _ATEN.cat.default: _join,
    _ATEN.view.default: _view,
    find_operator("_unsafe_view.default"): _view,
    _ATEN.convolution.default: convolve,
    _ATEN.max_pool2d_with_indices.default: pool,
    _ATEN.native_batch_norm.default: norm_channels,
    _ATEN.native_layer_norm.default: norm_last,
    _ATEN.upsample_bilinear2d.default: resize,
    _ATEN.upsample_bicubic2d.default: resize,
    _ATEN.upsample_linear1d.default: resize,
    _ATEN.upsample_trilinear3d.default: resize,
    _ATEN.grid_sampler_2d.default: sample_grid,
}
