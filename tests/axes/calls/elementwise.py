"""Operations that work element by element, or keep the shape."""

from __future__ import annotations

from typing import Any

import torch

from tests.axes.calls.registry import call, overload
from tests.axes.draw import Call, Draw

_BOOLS = {"condition", "mask"}
_INTEGERS = {"bitwise", "__and", "__or", "__xor"}


def _dtype(name: str, argument: str) -> torch.dtype:
    if argument in _BOOLS:
        return torch.bool
    if name.startswith(tuple(_INTEGERS)):
        return torch.int64
    return torch.complex64 if name in ("imag",) else torch.float32


@call(
    "add sub mul div rsub pow relu gelu silu sigmoid tanh exp log log1p sqrt rsqrt neg abs clamp clamp_min clamp_max "
    "maximum minimum where eq ne lt gt le ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or "
    "bitwise_not bitwise_xor masked_fill hardtanh hardswish hardsigmoid leaky_relu elu softplus mish erf erfc erfinv "
    "sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh floor ceil round sign sgn reciprocal square "
    "remainder fmod floor_divide isnan isinf isfinite addcmul addcdiv lerp threshold expm1 logit "
    "exp2 log2 log10 trunc frac relu6 celu selu hypot xlogy __and__ __or__ __xor__ angle real imag polar complex "
    "log_sigmoid sinc hardshrink softshrink heaviside copysign logaddexp logaddexp2 "
    "positive special_expit signbit true_divide bitwise_left_shift bitwise_right_shift fmin fmax lgamma digamma "
    "isclose deg2rad rad2deg nan_to_num log_sigmoid_forward mse_loss smooth_l1_loss huber_loss binary_cross_entropy "
    "binary_cross_entropy_with_logits",
    in_place=True,
)
def elementwise(name: str, draw: Draw) -> Call:
    """Broadcast all tensors; in place the first one has all axes."""
    func = overload(name, draw.pick(*_tensor_overloads(name)))
    dims, args, kwargs = draw.dims(0, 4), [], {}
    in_place = name.endswith("_") and not name.endswith("__")
    alike = name.startswith(("binary", "log_sigmoid")) and "logits" not in name
    for argument in func._schema.arguments:
        kind = str(argument.type)
        if kind == "Tensor" or (kind == "Optional[Tensor]" and draw.maybe()):
            first = not args
            whole = alike or (name.startswith("binary") and argument.name in ("self", "target"))
            sizes = dims if (first and (in_place or draw.maybe())) or whole else draw.spread(dims)
            sizes = [] if name.startswith("masked_fill") and argument.name == "value" else sizes
            value: Any = draw.tensor(sizes, _dtype(name, argument.name))
        elif kind == "Optional[Tensor]":
            value = None
        elif argument.name == "reduction":
            value = draw.below(3)
        elif argument.name == "rounding_mode":
            value = draw.pick("floor", "trunc")
        elif argument.has_default_value():
            if argument.kwarg_only or (argument.name in ("min", "max") and not name.startswith("clamp")):
                continue
            value = argument.default_value
        else:
            value = {"bool": False, "int": 1, "float": 0.5}.get(kind, 2)
        if argument.kwarg_only:
            kwargs[argument.name] = value
        else:
            args.append(value)
    if name.rstrip("_") == "clamp" and args[1:] == [None, None]:
        args[1] = 0.5 if "Tensor" not in func._overloadname else draw.tensor([])
    return func, args, kwargs


def _tensor_overloads(name: str) -> list[str]:
    packet, found = getattr(torch.ops.aten, name), []
    for each in packet.overloads():
        arguments = getattr(packet, each)._schema.arguments
        kinds = [str(argument.type) for argument in arguments]
        known = all(k in ("Tensor", "Optional[Tensor]", "number", "Optional[number]", "bool", "int", "float",
                          "Optional[float]", "Optional[int]", "str", "Optional[str]") for k in kinds)  # fmt: skip
        if (
            known
            and len(kinds) > (name == "where")  # of a condition alone it lists the places
            and kinds[0] == "Tensor"
            and "out" not in each.split("_")
            and not any(argument.is_out for argument in arguments)
        ):
            found.append(each)
    return found


@call("_prelu_kernel prelu")
def prelu(name: str, draw: Draw) -> Call:
    """Take a weight for each channel, or one."""
    dims = [draw.dim(), draw.some(), *draw.dims(0, 2)]
    if name == "prelu":
        return overload(name), [draw.tensor(dims), draw.tensor([dims[1] if draw.maybe() else 1])], {}
    return overload(name), [draw.tensor(dims), draw.tensor([1, dims[1], *[1] * (len(dims) - 2)])], {}


@call("dist")
def dist(name: str, draw: Draw) -> Call:
    """Measure how far two tensors are apart."""
    dims = draw.dims(0, 3)
    return overload(name), [draw.tensor(dims), draw.tensor(draw.spread(dims))], {}


@call(
    "_to_copy clone detach alias lift_fresh lift_fresh_copy contiguous zero zeros_like ones_like empty_like "
    "rand_like randn_like conj _conj resolve_conj resolve_neg _neg_view bernoulli random exponential uniform geometric "
    "cauchy log_normal tril triu native_dropout full_like randint_like fill",
    in_place=True,
)
def unary(name: str, draw: Draw) -> Call:
    """Give a tensor, and what an operation needs besides."""
    stem = name.rstrip("_")
    more = {
        "bernoulli": [0.5], "geometric": [0.5], "native_dropout": [0.5, draw.maybe()], "full_like": [2.0],
        "randint_like": [9], "fill": [1.5],
    }.get(stem, [])  # fmt: skip
    low = 2 if stem in ("tril", "triu") else 0
    which = {"bernoulli": "float" if name.endswith("_") else "p", "fill": "Scalar"}.get(stem, "default")
    dtype = torch.complex64 if stem in ("_conj",) else torch.float32
    return overload(name, which), [draw.tensor(draw.dims(low, 4), dtype), *more], {}


@call("normal normal_")
def normal(name: str, draw: Draw) -> Call:
    """Draw around a tensor of means, with one of deviations, or make a tensor."""
    dims = draw.dims(0, 3)
    if name == "normal_":
        return overload(name, "default"), [draw.tensor(dims)], {}
    which = draw.pick("Tensor_float", "float_Tensor", "Tensor_Tensor", "float_float")
    if which == "float_float":
        return overload(name, which), [0.0, 1.0, dims], {"device": draw.device}
    mean = draw.tensor(dims) if which.startswith("Tensor") else 0.0
    deviation = draw.tensor(draw.spread(dims)) if which.endswith("Tensor") else 1.0
    return overload(name, which), [mean, deviation], {}


@call(
    "flip roll sort cumsum cumprod cummax cummin logcumsumexp _softmax _log_softmax softmax log_softmax _safe_softmax "
    "argsort renorm _fft_c2c"
)
def along(name: str, draw: Draw) -> Call:
    """Work along one axis, or several."""
    low = {"renorm": 2, "_fft_c2c": 1}.get(name, 0)
    dims = draw.dims(low, 4)
    rank, data = len(dims), draw.tensor(dims, torch.complex64 if name == "_fft_c2c" else torch.float32)
    at, many = draw.axis(rank), draw.axes(rank)
    if name == "flip":
        return overload(name), [data, many if rank else []], {}
    if name == "roll":
        return overload(name), [data, [1] * len(many), many] if rank else [data, [1]], {}
    if name == "renorm":
        return overload(name), [data, 2, at, 1], {}
    if name == "_fft_c2c":
        return overload(name), [data, sorted(dim % rank for dim in many), 0, True], {}
    which = "int" if name in ("softmax", "log_softmax") else "default"
    return overload(name, which), [data, at, *([False] if name in ("_softmax", "_log_softmax") else [])], {}


@call("masked_scatter masked_scatter_")
def masked_scatter(name: str, draw: Draw) -> Call:
    """Write into where a mask is true."""
    dims = draw.dims(0, 3)
    one = dims if name.endswith("_") or draw.maybe() else draw.spread(dims)
    return overload(name), [draw.tensor(one), draw.tensor(draw.spread(dims), torch.bool), draw.tensor([500])], {}


@call("index_put _index_put_impl _unsafe_index_put index_put_ _index_put_impl_")
def index_put(name: str, draw: Draw) -> Call:
    """Write at some places."""
    dims = [draw.some() for _ in range(3)]
    count = draw.dim()
    places = [None, draw.ints([count])] if draw.maybe() else [draw.ints([count]), draw.ints([count])]
    value = draw.tensor([]) if draw.maybe() else draw.tensor([1])
    return overload(name, "default"), [draw.tensor(dims), places, value], {}


@call("scatter scatter_add scatter_reduce scatter_ scatter_add_ scatter_reduce_")
def scatter(name: str, draw: Draw) -> Call:
    """Write along one axis."""
    dims, at = [draw.some(), draw.some(), draw.dim()], draw.axis(3)
    index = [min(size, 2) for size in dims]
    src, stem = draw.tensor(index), name.rstrip("_")
    if stem == "scatter" and draw.maybe():
        return overload(name, "value"), [draw.tensor(dims), at, draw.ints(index), 1.0], {}
    which = {"scatter": "src", "scatter_add": "default", "scatter_reduce": "two"}[stem]
    more = ["sum"] if stem == "scatter_reduce" else []
    return overload(name, which), [draw.tensor(dims), at, draw.ints(index), src, *more], {}


@call("index_add index_copy index_fill index_add_ index_copy_ index_fill_")
def index_write(name: str, draw: Draw) -> Call:
    """Write entries of one axis."""
    dims = [draw.some(), draw.dim(), draw.some()]
    at, count = draw.axis(3), draw.pick(1, 2)
    part = list(dims)
    part[at] = count
    if name.startswith("index_fill"):
        return overload(name, "int_Scalar"), [draw.tensor(dims), at, draw.ints([count]), 1.0], {}
    return overload(name, "default"), [draw.tensor(dims), at, draw.ints([count]), draw.tensor(part)], {}


@call("slice_scatter select_scatter diagonal_scatter")
def part_scatter(name: str, draw: Draw) -> Call:
    """Write into a view."""
    dims, at = [draw.some() + 2, draw.dim()], 0
    if name == "slice_scatter":
        return overload(name), [draw.tensor(dims), draw.tensor([2, dims[1]]), at, 0, 2], {}
    if name == "select_scatter":
        return overload(name), [draw.tensor(dims), draw.tensor([dims[1]]), at, 1], {}
    return overload(name), [draw.tensor([dims[0]] * 2), draw.tensor([dims[0]])], {}


@call("linalg_inv_ex linalg_cholesky_ex linalg_matrix_exp matrix_exp")
def square_matrices(name: str, draw: Draw) -> Call:
    """Give square matrices."""
    side = draw.some()
    return overload(name, "default"), [draw.tensor([*draw.dims(0, 2), side, side])], {}


@call("copy copy_")
def copy(name: str, draw: Draw) -> Call:
    """Copy one tensor into another."""
    dims = draw.dims(0, 3)
    return overload(name, "default"), [draw.tensor(dims), draw.tensor(draw.spread(dims))], {}


@call("nll_loss_forward nll_loss2d_forward")
def label_loss(name: str, draw: Draw) -> Call:
    """Give scores and labels, of a sample or of many, and perhaps a weight for each class."""
    classes, lead = draw.some(), draw.dims(0, 1)
    lead = [draw.some(), draw.some(), draw.some()] if "2d" in name else lead
    data, labels = draw.tensor([*lead[:1], classes, *lead[1:]]), draw.ints(lead)
    weight = draw.tensor([classes]) if draw.maybe() else None
    return overload(name, "default"), [data, labels, weight, draw.below(3), -100], {}


@call("bucketize")
def bucketize(name: str, draw: Draw) -> Call:
    """Give values and the ends of buckets."""
    return overload(name, "Tensor"), [draw.tensor(draw.dims(0, 3)), draw.tensor([draw.some()])], {}


@call("rrelu_with_noise")
def rrelu(name: str, draw: Draw) -> Call:
    """Give noise of the same shape."""
    dims = draw.dims(0, 3)
    return overload(name), [draw.tensor(dims), draw.tensor(dims), 0.1, 0.3, draw.maybe()], {}


@call("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams fake_quantize_per_tensor_affine_cachemask")
def fake_quantize(name: str, draw: Draw) -> Call:
    """Round to a scale."""
    data = draw.tensor(draw.dims(0, 3))
    if name.startswith("_"):
        zero, on = draw.tensor([1], torch.int32), draw.tensor([1], torch.int64)
        return overload(name), [data, draw.tensor([1]), zero, on, 0, 255], {}
    return overload(name), [data, 0.1, 0, 0, 255], {}


@call("channel_shuffle native_channel_shuffle")
def channel_shuffle(name: str, draw: Draw) -> Call:
    """Mix groups of channels."""
    groups = draw.pick(1, 2, 3)
    return overload(name), [draw.tensor([draw.dim(), draw.some() * groups, draw.some(), draw.some()]), groups], {}
