"""Operations that work element by element: tensors are broadcast over each other."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.expr import Expr
from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size, entry, put


def broadcast(op: Op, tensors: Sequence[Axes]) -> list[Size]:
    """Align tensors at their last axes; an axis of 1 takes the other's size, any two others are equal."""
    rank = max((len(axes) for axes in tensors), default=0)
    found: list[Size] = []
    for place in range(-rank, 0):
        size: Size = 1
        for axes in tensors:
            if len(axes) >= -place:
                other = axes[place]
                size = other if op.is_one(size) else size if op.is_one(other) else _equal(op, size, other)
        found.append(size)
    return found


def _equal(op: Op, one: Size, other: Size) -> Size:
    """Demand that two sizes are equal; a number stays one: it is right too where the other one is 1."""
    made = op.alike(one, other)
    is_expression = isinstance(made, Expr)  # what an axis means is not told by a number
    return next((size for size in (one, other) if isinstance(size, int)), made) if is_expression else made


@entry(
    "add sub mul div rsub pow relu gelu silu sigmoid tanh exp log log1p sqrt rsqrt neg abs clamp clamp_min clamp_max "
    "maximum minimum where eq ne lt gt le ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or "
    "bitwise_not bitwise_xor masked_fill hardtanh hardswish hardsigmoid leaky_relu elu softplus mish erf erfc erfinv "
    "sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh floor ceil round sign sgn reciprocal square "
    "remainder fmod floor_divide isnan isinf isfinite addcmul addcdiv lerp threshold _prelu_kernel expm1 logit "
    "exp2 log2 log10 trunc frac relu6 celu selu hypot xlogy __and__ __or__ __xor__ angle real imag polar complex "
    "nan_to_num log_sigmoid sinc hardshrink softshrink heaviside copysign logaddexp logaddexp2 "
    "positive special_expit signbit true_divide bitwise_left_shift bitwise_right_shift fmin fmax lgamma digamma "
    "isclose deg2rad rad2deg"
)
def elementwise(op: Op) -> Sequence[Axes]:
    """``relu``, ``add``, ``where``: every tensor is broadcast over the others."""
    made = broadcast(op, op.tensors())
    if op.name.endswith("_") and not op.name.endswith("__"):
        return [_keep(op, op.first(), made)]
    return [made]


def _keep(op: Op, written: Axes, made: Axes) -> Axes:
    """Return the axes of what is written to: nothing is broadcast beyond them."""
    op.equal_all(written, made[-len(written) :] if written else [])
    return written


#: The second result is a buffer that is empty on some devices.
entry("log_sigmoid_forward")(lambda op: [op.first(), [0] if op.made(1) == (0,) else op.first()])
#: Copies, random numbers, what writes into a part: the shape of the first tensor.
entry(
    "_to_copy clone detach alias lift_fresh lift_fresh_copy contiguous bernoulli uniform exponential fill zero "
    "zeros_like ones_like full_like empty_like rand_like randn_like randint_like tril triu conj _conj resolve_conj "
    "index_put _index_put_impl _unsafe_index_put index_fill slice_scatter select_scatter bucketize "
    "random geometric cauchy log_normal native_dropout rrelu_with_noise resolve_neg _neg_view "
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams fake_quantize_per_tensor_affine_cachemask"
)(lambda op: [op.first()] * 2)


@entry("diagonal_scatter")
def diagonal_scatter(op: Op) -> Sequence[Axes]:
    """Write into the diagonal of a square."""
    data = op.first()
    if op.plain("offset", 0) == 0 and len(data) == 2 and data[0] == data[1]:
        op.equal(op.axes("src")[0], data[0])
    return [data]


@entry("copy")
def write_over(op: Op) -> Sequence[Axes]:
    """Write one tensor over another."""
    data = op.first()
    return [_keep(op, data, broadcast(op, op.tensors()))]


@entry("masked_scatter")
def write_masked(op: Op) -> Sequence[Axes]:
    """Write entries of another tensor, one after the other, where a mask says so."""
    data, mask = op.axes("self"), op.axes("mask")
    op.across(*mask)
    made = broadcast(op, [data, mask])
    return [made if op.name == "aten.masked_scatter" else _keep(op, data, made)]


@entry("channel_shuffle native_channel_shuffle")
def shuffle(op: Op) -> Sequence[Axes]:
    """Mix groups of channels."""
    data = op.axes("self")
    op.divided(data[1], op.plain("groups"))
    return [put(data, 1, op.reordered(data[1]))]


@entry("prelu")
def prelu(op: Op) -> Sequence[Axes]:
    """Multiply negative values with one weight, or one for each channel."""
    data, weight = op.axes("self"), op.axes("weight")
    if weight and op.known(weight[0]) != 1:
        op.equal(weight[0], data[1])
    return [data]


def _reduced(op: Op, axes: Axes) -> Sequence[Axes]:
    return [axes if op.plain("reduction", 1) == 0 else []]


entry("mse_loss smooth_l1_loss huber_loss dist")(lambda op: _reduced(op, broadcast(op, op.tensors())))


@entry("binary_cross_entropy")
def cross_entropy(op: Op) -> Sequence[Axes]:
    """Compare probabilities with a target of their shape; only weights are broadcast."""
    data = op.axes("self")
    op.equal_all(data, op.axes("target"))
    if op.has("weight"):
        _keep(op, data, broadcast(op, [data, op.axes("weight")]))
    return _reduced(op, data)


@entry("binary_cross_entropy_with_logits")
def logits_loss(op: Op) -> Sequence[Axes]:
    """Compare logits with a target into which they are multiplied; the weights are multiplied into one of the two."""
    data, target = op.axes("self"), op.axes("target")
    if op.has("pos_weight"):
        _keep(op, data, broadcast(op, [data, op.axes("pos_weight"), target]))
    _keep(op, target, broadcast(op, [target, data]))
    if op.has("weight"):
        _keep(op, target, broadcast(op, [target, op.axes("weight")]))
    return _reduced(op, target)


@entry("nll_loss_forward nll_loss2d_forward")
def label_loss(op: Op) -> Sequence[Axes]:
    """Compare ``(B, classes, …)`` with labels ``(B, …)``; the second result is what the weights sum up to."""
    data, labels = op.axes("self"), op.axes("target")
    lead = [*data[:1], *data[2:]] if len(data) > 1 else []
    if len(lead) != len(labels):
        raise OpaqueError("labels of another rank")
    kept = op.equal_all(lead, labels)
    if op.has("weight"):
        op.equal(op.axes("weight")[0], data[1 % len(data)])
    return [*_reduced(op, kept), []]
