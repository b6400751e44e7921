"""Operations that work element by element: tensors are broadcast over each other."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, Size, entry

__all__ = ["broadcast"]


def broadcast(op: Op, tensors: Sequence[Axes]) -> list[Size]:
    """Align tensors at their last axes; an axis of 1 takes the other's size, any two others are equal."""
    rank = max((len(axes) for axes in tensors), default=0)
    found: list[Size] = []
    for place in range(-rank, 0):
        size: Size = 1
        for axes in tensors:
            if len(axes) >= -place:
                other = axes[place]
                size = other if op.known(size) == 1 else size if op.known(other) == 1 else op.equal(size, other)
        found.append(size)
    return found


@entry(
    "add sub mul div rsub pow relu gelu silu sigmoid tanh exp log log1p sqrt rsqrt neg abs clamp clamp_min clamp_max "
    "maximum minimum where eq ne lt gt le ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or "
    "bitwise_not bitwise_xor masked_fill hardtanh hardswish hardsigmoid leaky_relu elu softplus mish erf erfc erfinv "
    "sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh floor ceil round sign sgn reciprocal square "
    "remainder fmod floor_divide isnan isinf isfinite addcmul addcdiv lerp threshold _prelu_kernel prelu expm1 logit "
    "exp2 log2 log10 trunc frac relu6 celu selu hypot xlogy __and__ __or__ __xor__ angle real imag polar complex "
    "nan_to_num log_sigmoid log_sigmoid_forward sinc hardshrink softshrink heaviside copysign logaddexp logaddexp2 "
    "positive special_expit signbit true_divide bitwise_left_shift bitwise_right_shift fmin fmax dist lgamma digamma "
    "native_dropout_mask isclose deg2rad rad2deg"
)
def elementwise(op: Op) -> Sequence[Axes]:
    """``relu``, ``add``, ``where``: every tensor is broadcast over the others."""
    if op.name.endswith("_") and not op.name.endswith("__"):
        tensors = op.tensors()  # what is written to keeps its shape
        broadcast(op, tensors)
        return [tensors[0]]
    return [broadcast(op, op.tensors())]


@entry("log_sigmoid_forward")
def log_sigmoid(op: Op) -> Sequence[Axes]:
    """Give a second result: a buffer that is empty on some devices."""
    return [op.tensors()[0], list(op.made(1))]


@entry(
    "_to_copy clone detach alias lift_fresh lift_fresh_copy contiguous bernoulli uniform normal exponential fill zero "
    "zeros_like ones_like full_like empty_like rand_like randn_like randint_like tril triu conj _conj resolve_conj "
    "flip roll sort cumsum cumprod cummax cummin logcumsumexp _softmax _log_softmax softmax log_softmax _safe_softmax "
    "masked_scatter index_put _index_put_impl _unsafe_index_put scatter scatter_add scatter_reduce index_add "
    "index_copy index_fill slice_scatter select_scatter diagonal_scatter as_strided_scatter random geometric cauchy "
    "log_normal native_dropout linalg_inv_ex linalg_cholesky_ex _fft_c2c argsort copy nan_to_num rrelu_with_noise "
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams fake_quantize_per_tensor_affine_cachemask "
    "linalg_matrix_exp set_data resolve_neg _neg_view cumulative_trapezoid renorm matrix_exp masked_fill_ copy_ "
    "channel_shuffle native_channel_shuffle"
)
def same_shape(op: Op) -> Sequence[Axes]:
    """Keep the shape of the first tensor: copies, random numbers, what runs along an axis, what writes into a part."""
    first = op.tensors()[0]
    return [first, first]


@entry("mse_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits soft_margin_loss")
def loss(op: Op) -> Sequence[Axes]:
    """Compare two tensors element by element, and reduce all or nothing."""
    found = broadcast(op, op.tensors()[:2])
    return [found if op.plain("reduction", 1) == 0 else []]
