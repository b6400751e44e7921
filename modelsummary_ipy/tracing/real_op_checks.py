"""What raises for real and not with fakes: dtypes, overlaps and empty dims that an operation refuses.

A fake operation looks at sizes; which dtypes a kernel takes is known to the kernel alone. So an operation whose dtypes
look suspect is run for real, on zeros of the same sizes and dtypes, and what it raises is raised. In a model whose
dtypes agree nothing is suspect and no arithmetic is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.model.torch_layers import functions_of
from modelsummary_ipy.torch_compat.fakes import FakeTensor
from modelsummary_ipy.tracing.replay import UnknownError, is_expanded, replay


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: All their tensors have one dtype, or a mix that the kernel accepts (bfloat16 data with float32 weights in a norm).
_SAME = _words(
    """linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul mm bmm mv dot
    addmm addmv addbmm baddbmm einsum tensordot cdist scaled_dot_product_attention multi_head_attention_forward
    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell layer_norm group_norm batch_norm
    instance_norm rms_norm grid_sample prelu index_add index_add_ index_copy index_copy_ binary_cross_entropy
    huber_loss smooth_l1_loss l1_loss mse_loss soft_margin_loss binary_cross_entropy_with_logits"""
)
#: Their first tensor is floating.
_FLOATING = _words(
    """softmax log_softmax softmin std var std_mean var_mean gelu silu hardswish mish softplus hardsigmoid celu
    log_sigmoid glu gumbel_softmax max_pool1d max_pool2d avg_pool2d adaptive_max_pool1d adaptive_max_pool2d
    fractional_max_pool2d fractional_max_pool3d fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices
    interpolate upsample unfold fold multinomial bernoulli bernoulli_ rand_like randn_like stft
    binary_cross_entropy_with_logits cross_entropy nll_loss lerp normal_ uniform_ cdist"""
)
#: Their second tensor holds classes, of two dtypes alone, or one probability for each.
_CLASSES = _words("nll_loss cross_entropy")
#: Their ``output_padding`` has a limit, and what they give may not be empty.
_TRANSPOSED = functions_of("transposed convolution")
_TRANSPOSED_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_TRANSPOSED_DEFAULTS = (("output_padding", 0), ("stride", 1), ("dilation", 1), ("padding", 0))
#: They refuse booleans.
_NOT_BOOL = _words("sub sub_ neg relu relu_ abs topk argmax argmin median cumsum cumprod pow addcmul addcdiv")
#: They write a result into a tensor whose dtype may be too narrow for it.
_INPLACE = _words("add_ sub_ mul_ div_ pow_ setitem masked_scatter masked_scatter_ index_put index_put_")
#: They accept integers and booleans.
_PUT = _words("setitem index_put index_put_")
_BITS = _words("and or xor invert bitwise_and bitwise_or bitwise_xor bitwise_not")
_INDEXED = frozenset({"index_select"})
#: Their second tensor is an index, whose dtype fakes do not look at; some kernels take no int32 if it is expanded.
_PLACED = _words(
    """gather scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ take put put_ index_fill
    index_fill_ index_copy index_copy_ index_reduce index_reduce_"""
)
#: Fakes of torch 2.9 take indices of any dtype.
_TABLES = frozenset({"embedding"})
#: They take the numbers of classes in one dtype.
_OF_CLASSES = _words("cross_entropy nll_loss")
#: Poolings that return where the largest values are.
_WITH_INDICES = _words(
    """max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d_with_indices
    adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices fractional_max_pool2d_with_indices
    fractional_max_pool3d_with_indices"""
)
#: They refuse complex numbers, which fakes take.
_NOT_COMPLEX = (
    _words(
        """relu relu_ relu6 hardtanh hardtanh_ elu elu_ selu selu_ celu celu_ rrelu rrelu_ leaky_relu leaky_relu_
    hardshrink softshrink log_sigmoid threshold threshold_ clamp dropout dropout1d dropout2d dropout3d feature_dropout
    alpha_dropout feature_alpha_dropout instance_norm batch_norm group_norm layer_norm avg_pool1d avg_pool2d
    avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d max_pool1d max_pool2d max_pool3d lp_pool1d lp_pool2d lp_pool3d fractional_max_pool2d
    fractional_max_pool3d mse_loss l1_loss huber_loss smooth_l1_loss soft_margin_loss hinge_embedding_loss
    multilabel_soft_margin_loss multilabel_margin_loss multi_margin_loss margin_ranking_loss triplet_margin_loss
    kl_div poisson_nll_loss gaussian_nll_loss binary_cross_entropy cosine_embedding_loss cosine_similarity
    pairwise_distance local_response_norm embedding_bag _threshold"""
    )
    | _WITH_INDICES
)
#: Of half precision no CPU kernel of theirs is.
_NOT_HALF = _words("avg_pool3d lp_pool3d local_response_norm rrelu rrelu_ multi_margin_loss multilabel_margin_loss")
#: They refuse integers: what they draw or multiply by is a fraction.
_NOT_INTEGER = _words(
    "rrelu rrelu_ leaky_relu leaky_relu_ max_pool1d dropout dropout1d dropout2d dropout3d alpha_dropout"
)
#: They pick an element, and there must be one.
PICKS_ONE = _words("max min median nanmedian mode kthvalue aminmax")
#: They refuse a tensor without elements, but for a batch of none.
_NOT_EMPTY = (
    PICKS_ONE
    | _words(
        """interpolate upsample adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
    pixel_shuffle pixel_unshuffle nll_loss cross_entropy"""
    )
    | _WITH_INDICES
)
#: They may write into their input, which then must not be expanded: one element would be written to several times.
_MAY_WRITE = _words(
    """_threshold relu relu_ relu6 hardtanh hardtanh_ elu elu_ selu selu_ celu celu_ rrelu rrelu_ leaky_relu leaky_relu_
    threshold threshold_ dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout hardsigmoid hardswish
    mish
    silu add_ sub_ mul_ div_ pow_ zero_ fill_ clamp_ copy_ sigmoid_ tanh_ exp_ sqrt_ abs_ neg_ masked_fill_ normal_
    uniform_ bernoulli_ setitem index_add_ scatter_ scatter_add_"""
)
#: Their two tensors have one size.
_ALIKE = _words("soft_margin_loss")
#: They resize dims, and none may come out empty.
_RESIZED = _words("interpolate upsample")
#: Fakes let them name an axis that is not there.
_AXIS = _words("softmax log_softmax softmin sort argsort")
_WATCHED = (
    _SAME | _FLOATING | _NOT_BOOL | _INPLACE | _BITS | _INDEXED | _PLACED | _TABLES | _AXIS | _NOT_COMPLEX | _NOT_HALF
    | _NOT_INTEGER | _NOT_EMPTY | _MAY_WRITE | _ALIKE | _RESIZED
)  # fmt: skip
#: Nothing is suspect of these where all tensors are of one floating dtype and none is expanded.
_PLAIN = (
    _WATCHED - _BITS - _INDEXED - _PLACED - _TABLES - _AXIS - _NOT_HALF - _NOT_EMPTY - _ALIKE - _RESIZED
    - {"index_add", "index_add_", "setitem"}
)  # fmt: skip
_AS_INDEX = (torch.int64, torch.int32, torch.bool)
_HALVES = (torch.float16, torch.bfloat16)
_ATOMS = frozenset({int, float, bool, str, type(None)})

#: Operation and dtypes that were tried before and ran.
_passed: set[tuple[Any, ...]] = set()


def check_operation(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise what ``func`` raises for real, if its dtypes are suspect; the tracer's guard for fakes.

    Args:
        func: A torch function about to run on fakes.
        name: ``"linear"``, ``"softmax"``, ``"mul_"``.

    Raises:
        Exception: Whatever the real operation raises on zeros of the same sizes and dtypes.
    """
    if name in _TRANSPOSED:
        _check_transposed(func, args, kwargs)
    if name not in _WATCHED or (name in _PLAIN and _is_all_one(args, kwargs)):
        return
    tensors = _tensors_in(args, kwargs)
    is_odd = bool(tensors) and _is_oddly_sized(name, tensors, args, kwargs)
    if not tensors or not (is_odd or _is_suspect(name, tensors, args)):
        return
    looks: list[tuple[Any, ...]] = [
        (tensor.dtype, tensor.shape if is_odd else tensor.dim(), 0 in tensor.shape, is_expanded(tensor))
        for tensor in tensors
    ]
    settings = [repr(value) for value in (*args, *kwargs.values()) if type(value) in _ATOMS]
    key = (name, torch.is_autocast_enabled("cpu"), *looks, *settings)
    if key in _passed:
        return
    if _try(func, args, kwargs):
        _passed.add(key)


def _try(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Raise what an operation raises on zeros; ``False`` if that is not known."""
    with torch.no_grad():
        error = replay(func, args, kwargs)
    if error is not None and not isinstance(error, UnknownError):
        raise error
    return error is None


def _check_transposed(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise what a transposed convolution raises for real about its sizes: fakes take any padding."""
    given = {**dict(zip(_TRANSPOSED_ARGUMENTS, args, strict=False)), **kwargs}
    kernel = given["weight"].shape[2:]
    dims = len(kernel)
    spread = [_spread(given.get(key, default), max(dims, 1)) for key, default in _TRANSPOSED_DEFAULTS]
    sizes = given["input"].shape[-dims:] if dims else ()
    for extra, stride, dilation, _ in zip(*spread, strict=False):
        if extra >= max(stride, dilation):
            raise RuntimeError(
                f"output padding must be smaller than either stride or dilation, but got output_padding: {extra}, "
                f"stride: {stride}, dilation: {dilation}"
            )
    for size, width, extra, stride, dilation, padding in zip(sizes, kernel, *spread, strict=False):
        if (size - 1) * stride - 2 * padding + dilation * (width - 1) + extra < 0:
            _try(func, args, kwargs)


def _spread(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims


def _is_all_one(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return quickly whether all tensors are fakes of one floating dtype: this runs thousands of times in a forward."""
    first = None
    for value in (*args, *kwargs.values()) if kwargs else args:
        kind = type(value)
        if kind is FakeTensor:
            dtype = value.dtype
            if 0 in value.stride():
                return False
            if first is None:
                if not dtype.is_floating_point:
                    return False
                first = dtype
            elif dtype is not first:
                return False
        elif kind not in _ATOMS and not (kind is tuple and value and type(value[0]) is int):
            return False
    return first is not None


def _tensors_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def _is_suspect(name: str, tensors: list[Tensor], args: tuple[Any, ...]) -> bool:
    first = tensors[0].dtype
    if (
        (name in _SAME and (not _is_inexact(first) or any(tensor.dtype != first for tensor in tensors)))
        or (name in _FLOATING and not first.is_floating_point)
        or (name in _NOT_BOOL and any(tensor.dtype == torch.bool for tensor in tensors))
        or (name in _NOT_COMPLEX and any(tensor.dtype.is_complex for tensor in tensors))
        or (name in _NOT_HALF and first in _HALVES)
        or (name in _NOT_INTEGER and not _is_inexact(first))
        or (name in _BITS and any(_is_inexact(tensor.dtype) for tensor in tensors))
        or (name in _INDEXED and tensors[-1].dtype not in (torch.int64, torch.int32))
        or (name in _PLACED and len(tensors) > 1 and tensors[1].dtype != torch.int64)
    ):
        return True
    if name in _CLASSES and len(tensors) > 1 and tensors[1].dtype not in (torch.int64, torch.uint8):
        return not tensors[1].dtype.is_floating_point
    if name in _TABLES and first not in (torch.int64, torch.int32):
        return True
    if name in _OF_CLASSES and len(tensors) > 1 and tensors[1].dtype in (torch.int32, torch.int16, torch.int8):
        return True
    if name not in _INPLACE:
        return False
    if name in ("setitem", "index_put", "index_put_", "masked_scatter", "masked_scatter_"):
        indices = [item for item in _tensors_in(args[1:2], {}) if item.dtype not in _AS_INDEX]
        return len(tensors) > 1 and (tensors[-1].dtype != first or bool(indices))
    narrow = not _is_inexact(first)
    return narrow and (name == "div_" or any(isinstance(value, float) for value in args) or tensors[-1].dtype != first)


def _is_oddly_sized(name: str, tensors: list[Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether shapes are such as fakes are known to accept: 16,000 wrong calls were compared."""
    if name in _AXIS:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        rank = max(tensors[0].dim(), 1)
        return type(dim) is int and not -rank <= dim < rank
    if name in _NOT_EMPTY and any(0 in tensor.shape for tensor in tensors):
        return True
    if name in _RESIZED and 1 in tensors[0].shape[2:]:
        return True
    if name in _MAY_WRITE and is_expanded(tensors[0]):
        return True
    if name in _ALIKE:
        return any(tensor.shape != tensors[0].shape for tensor in tensors)
    if name in ("index_add", "index_add_"):
        is_index = len(tensors) > 1 and tensors[1].dtype in (torch.int32, torch.int64)
        return not is_index or tensors[0].shape[1:] != tensors[-1].shape[1:]
    if name in _PUT and len(args) > 2 and isinstance(args[2], Tensor):
        return not _fits_places(args[0].shape, args[1] if isinstance(args[1], tuple) else (args[1],), args[2].shape)
    return False


def _fits_places(shape: torch.Size, index: tuple[Any, ...], value: torch.Size) -> bool:
    """Return whether a value can be laid on the places of an index: tensors side by side, and whole dims; else true."""
    at = [axis for axis, item in enumerate(index) if isinstance(item, Tensor)]
    others = [item for item in index if not isinstance(item, Tensor)]
    is_known = all(index[axis].dtype in (torch.int32, torch.int64) for axis in at)
    if not at or at != list(range(at[0], at[-1] + 1)) or any(item != slice(None) for item in others) or not is_known:
        return True
    try:
        places = torch.broadcast_shapes(*(index[axis].shape for axis in at))
        wanted = (*shape[: at[0]], *places, *shape[at[-1] + 1 :])
        return bool(torch.broadcast_shapes(wanted, value) == wanted)
    except RuntimeError:
        return False


def _is_inexact(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex
