"""Operations whose result is evident: its size and strides follow from those of the arguments in one line.

Torch works out what an operation makes in twenty steps, a millisecond each time that a size is new. Of plain tensors
the commonest operations need none of them. Only what torch certainly makes is written down here; whatever else is given
to an operation (another order in memory, promoted dtypes, sizes that do not fit) is left to torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelsummary_ipy.torch_compat.fakes import FakeTensor, find_operator


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


def write_down(func: Any, args: Sequence[Any]) -> Layout | list[Layout] | None:
    """Return the layout of a result, or of several, where it is evident; ``None`` where torch has to compute it."""
    write = _EVIDENT.get(func)
    if write is None or not args:
        return None
    try:
        return write(*args)
    except TypeError:  # arguments that are left out, or not what they mostly are
        return None


def is_standard(tensor: Any) -> bool:
    """Return whether a tensor is contiguous; a dim of size 1 too has the stride that it would have in a new tensor."""
    return isinstance(tensor, FakeTensor) and tensor.stride() == standard_strides(tensor.shape)


def standard_strides(size: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a new tensor."""
    strides = [1]
    for length in reversed(size[1:]):
        strides.append(strides[-1] * max(length, 1))
    return tuple(reversed(strides)) if len(size) else ()


def _new(size: Sequence[int], dtype: torch.dtype) -> Layout:
    return Layout(size, standard_strides(size), dtype)


def _is_plain(*tensors: Any) -> bool:
    """Return whether tensors are standard, not empty, of one floating dtype and on one device."""
    first = tensors[0]
    return (
        all(map(is_standard, tensors))
        and first.is_floating_point()
        and all(t.dtype == first.dtype and t.fake_device == first.fake_device and t.numel() > 0 for t in tensors)
    )


def _order_strides(tensor: Any) -> tuple[int, ...] | None:
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


# -- elementwise -------------------------------------------------------------------------------------------------------


def _keep(data: Any, *rest: Any) -> Layout | None:
    """An activation: as its input."""
    if any(isinstance(value, (Tensor, complex)) for value in rest):
        return None
    if _is_plain(data):
        return _new(data.shape, data.dtype)
    stride = _order_strides(data)
    return None if stride is None else Layout(data.shape, stride, data.dtype)


def _write(data: Any) -> Layout | None:
    """An activation in place: its input itself, of which no two entries are one."""
    is_dense = _is_plain(data) or (isinstance(data, FakeTensor) and _order_strides(data) == data.stride())
    return Layout(data.shape, data.stride(), data.dtype) if is_dense else None


def _compare(data: Any, number: Any) -> Layout | None:
    is_plain = _is_plain(data) and isinstance(number, (bool, int, float))
    return _new(data.shape, torch.bool) if is_plain else None


def _fill_in(data: Any, mask: Any, number: Any) -> Layout | None:
    """A number where a mask of the same size is true."""
    is_plain = _is_plain(data) and is_standard(mask) and isinstance(number, (bool, int, float))
    is_alike = is_plain and mask.shape == data.shape and mask.fake_device == data.fake_device
    return _new(data.shape, data.dtype) if is_alike and mask.dtype == torch.bool else None


def _roll(data: Any, shifts: Any, dims: Any = ()) -> Layout | None:
    is_plain = _is_plain(data) and data.fake_device.type == "cpu" and len(shifts) == len(dims) > 0
    return _new(data.shape, data.dtype) if is_plain and all(0 <= dim < data.dim() for dim in dims) else None


def _go_back(grad: Any, data: Any, *rest: Any) -> Layout | None:
    """An activation's gradient: as the activation's input, or its output."""
    is_alike = _is_plain(grad, data) and grad.shape == data.shape
    return _new(data.shape, data.dtype) if is_alike and not any(isinstance(value, Tensor) for value in rest) else None


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
    if _is_plain(one, other):
        return _new(size, one.dtype)
    stride = _order_strides(one) if list(one.shape) == size else None
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
    return _new([*batch, rows, columns], one.dtype)


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
    return _new([*indices.shape, table.shape[1]], table.dtype) if indices.numel() > 0 else None


def _pick_rows(data: Any, indices: Any) -> Layout | None:
    """Rows of a table by one tensor of positions: the biases of a window by how far apart two pixels are."""
    at: Any = indices[0] if len(indices) == 1 else None
    if not (is_standard(data) and is_standard(at) and at.dtype in (torch.int64, torch.int32) and data.dim() > 0):
        return None
    if at.fake_device != data.fake_device or min(*at.shape, data.shape[0], *(side - 1 for side in data.shape[1:])) < 1:
        return None
    return _new([*at.shape, *data.shape[1:]], data.dtype)


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
    elif not _is_plain(*tensors):
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
    return _new(size, first.dtype)


# -- views -------------------------------------------------------------------------------------------------------------


def _view(data: Any, size: Any) -> Layout | None:
    if not is_standard(data) or data.numel() == 0 or not all(type(side) is int for side in size):
        return None
    known = math.prod(side for side in size if side != -1)
    if known < 1 or min(size, default=1) < -1 or list(size).count(-1) > 1:
        return None
    size = [data.numel() // known if side == -1 else side for side in size]
    return _new(size, data.dtype) if math.prod(size) == data.numel() else None


# -- feature maps ------------------------------------------------------------------------------------------------------


def _convolve(
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
    if data.dim() != weight.dim() or inner not in (1, 2, 3) or not _is_plain(*given) or groups < 1:
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
    return _new([data.shape[0], made, *sides], data.dtype)


def _pool(data: Any, kernel: Any, step: Any = (), pad: Any = 0, gap: Any = 1, up: bool = False) -> list[Layout] | None:
    """A maximum of windows, and where in its map each stands."""
    if data.dim() != 4 or not _is_plain(data):
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
    return [_new(size, data.dtype), _new(size, torch.int64)]


def _pair(value: Any) -> Sequence[int]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return values * 2 if len(values) == 1 else values


# -- norms -------------------------------------------------------------------------------------------------------------


def _are_for(size: Sequence[int], data: Any, params: Sequence[Any]) -> bool:
    """Return whether a norm's parameters, where it has some, are of a size and all else as the data's, on the CPU."""
    given = [param for param in params if param is not None]
    is_plain = (_is_plain(data, *given) if is_standard(data) else _order_strides(data) is not None) and data.numel() > 0
    is_alike = all(is_standard(p) and p.dtype == data.dtype and p.fake_device == data.fake_device for p in given)
    return data.fake_device.type == "cpu" and is_plain and is_alike and all(list(p.shape) == [*size] for p in given)


def _norm_channels(
    data: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *_: Any
) -> list[Layout] | None:
    """A batch norm: as its input, with two numbers a channel that a training keeps."""
    if data.dim() < 3 or not is_standard(data) or not _are_for(data.shape[1:2], data, (weight, bias, mean, variance)):
        return None
    if not training and (mean is None or variance is None):
        return None  # torch fails
    kept = _new([data.shape[1] if training else 0], data.dtype)
    return [_new(data.shape, data.dtype), kept, kept]


def _norm_last(data: Any, normed: Any, weight: Any, bias: Any, *_: Any) -> list[Layout] | None:
    """A layer norm: as its input, with two numbers for each of what is normed."""
    inner = len(normed)
    lead = data.shape[: data.dim() - inner]
    if not lead or list(data.shape[len(lead) :]) != [*normed] or not _are_for(normed, data, (weight, bias)):
        return None
    kept = _new([*lead, *[1] * inner], data.dtype)
    return [_new(data.shape, data.dtype), kept, kept]


def _resize(data: Any, sides: Any, *_: Any) -> Layout | None:
    """A resized feature map has the given size."""
    inner = data.dim() - 2
    is_plain = data.is_floating_point() and data.numel() > 0
    if not is_plain or sides is None or len(sides) != inner or min(sides) < 1:
        return None
    size = [*data.shape[:2], *sides]
    if is_standard(data):
        return _new(size, data.dtype)
    if inner != 2 or min(data.shape) < 2 or not data.is_contiguous(memory_format=torch.channels_last):
        return None
    channels, (height, width) = size[1], sides
    return Layout(size, (channels * height * width, 1, width * channels, channels), data.dtype)


def _sample_grid(data: Any, grid: Any, mode: int, padding: int, *_: Any) -> Layout | None:
    """A feature map that is sampled at a grid has the grid's points; torch computes that in 300 steps."""
    fits = data.dim() == grid.dim() == 4 and data.shape[0] == grid.shape[0] and grid.shape[-1] == 2
    if not fits or data.dtype != grid.dtype or not data.is_floating_point() or min(data.shape) < 1:
        return None
    if data.device != grid.device or min(grid.shape) < 1 or mode not in (0, 1, 2) or padding not in (0, 1, 2):
        return None
    size = [*data.shape[:2], *grid.shape[1:3]]
    return _new(size, data.dtype)


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
    _ATEN.convolution.default: _convolve,
    _ATEN.max_pool2d_with_indices.default: _pool,
    _ATEN.native_batch_norm.default: _norm_channels,
    _ATEN.native_layer_norm.default: _norm_last,
    _ATEN.upsample_bilinear2d.default: _resize,
    _ATEN.upsample_bicubic2d.default: _resize,
    _ATEN.upsample_linear1d.default: _resize,
    _ATEN.upsample_trilinear3d.default: _resize,
    _ATEN.grid_sampler_2d.default: _sample_grid,
}
