"""How many multiply-adds one aten operation does, from its sizes; ``None`` is unknown."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from modelsummary_ipy.costs.flop_registry import find_flop_formula
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import AtenOp

#: Counts the multiply-adds of one aten operation; ``None`` if its shapes do not determine it.
Formula = Callable[[AtenOp], "int | None"]

_formulas: dict[str, Formula] = {}
#: What follows from the axes that ``register_op`` was given.
_implied: dict[str, Formula] = {}


def register_mult_adds(op: Any, formula: Formula | None = None) -> Any:
    """Register how many multiply-adds an operation does: your own custom op, or one that a summary calls unknown.

    Args:
        op: The operation, ``torch.ops.mylib.fused_mlp``, one overload of it, or its name, ``"mylib::fused_mlp"``.
        formula: Takes the ``AtenOp`` (``inputs`` and ``outputs`` are sizes in order, ``arguments`` the plain ones) and
            returns the count, or ``None`` where the shapes do not determine it. Without it, a decorator is returned.

    Raises:
        InputError: If ``op`` is no operation, or ``formula`` can't be called.

    Example:
        >>> @register_mult_adds("mylib::fused_mlp")
        ... def count(aten_op):
        ...     rows, weight = aten_op.outputs[0][0], aten_op.inputs[1]
        ...     return rows * weight[0] * weight[1]
    """
    name = name_operation(op)
    if formula is None:
        return lambda given: register_mult_adds(name, given)
    if not callable(formula):
        raise InputError(f"formula {formula!r}", "a function from an AtenOp to an int")
    _formulas[name] = formula
    return formula


def imply_mult_adds(name: str, formula: Formula | None) -> None:
    """Count an operation by what its axes imply where no formula was registered; ``None`` takes that back."""
    if formula is None:
        _implied.pop(name, None)
    else:
        _implied[name] = formula


def name_operation(op: Any) -> str:
    """Return ``"aten.mm"`` for an operation, ``"aten.mm.default"`` for one overload of it."""
    name = op if isinstance(op, str) else str(op)
    name = name.replace("::", ".").removeprefix("torch.ops.")
    if name.count(".") not in (1, 2) or not all(part.isidentifier() for part in name.split(".")):
        example = "register_mult_adds('mylib::fused_mlp', lambda aten_op: …)"
        raise InputError(f"no operation {op!r}", "torch.ops.mylib.fused_mlp or 'mylib::fused_mlp'", example)
    return name


def find_formula(op: str) -> Formula | None:
    """Find the formula of ``"aten.addmm_.default"``: its overload's own, else its name's; in place counts alike.

    For an operation that is not aten's, torch's own registry of FLOPs comes last. There is no formula where a tensor is
    sparse, ``"aten.mm.default (sparse)"``: shapes do not show what is left out.
    """
    if op.endswith(")"):
        return None
    if "." not in op:
        return _formulas.get(f"higher_order.{op}")
    own = _formulas.get(op)
    if own is not None:
        return own
    name = op.rpartition(".")[0] or op
    known = _formulas.get(name) or _formulas.get(name.rstrip("_")) or _implied.get(name)
    return known or find_flop_formula(op)


class FormulaError(Exception):
    """A formula that a user registered raised; the cause is for the user to see."""


def count_aten_op(aten_op: AtenOp) -> int | None:
    """Count the multiply-adds of an aten operation; ``None`` without a formula or where the shapes are not enough."""
    formula = find_formula(aten_op.op)
    if formula is None:
        return None
    try:
        count = formula(aten_op)
    except Exception as error:
        if formula.__module__ != __name__:
            raise FormulaError(aten_op.op) from error
        if not isinstance(error, (TypeError, IndexError, KeyError)):
            raise
        return None  # an argument that the formula reads is missing
    return count if count is None or count >= 0 else None  # a ragged size is -1


def _formula(*names: str) -> Callable[[Formula], Formula]:
    def register(function: Formula) -> Formula:
        for name in names:
            _formulas[name if "." in name else f"aten.{name}"] = function
        return function

    return register


def _size(aten_op: AtenOp, position: int) -> tuple[int, ...]:
    size = aten_op.inputs[position]
    if size is None or -1 in size:
        raise IndexError(position)
    return size


def _argument(aten_op: AtenOp, name: str) -> Any:
    return dict(aten_op.arguments).get(name)


@_formula("mm", "bmm", "_int_mm", "_scaled_mm", "_scaled_mm_v2", "dot", "vdot", "mv")
def _count_product(aten_op: AtenOp) -> int:
    return _multiply(_size(aten_op, 0), _size(aten_op, 1))


@_formula("addmm", "baddbmm", "addbmm", "_addmm_activation", "addmv")
def _count_added_product(aten_op: AtenOp) -> int:
    return _multiply(_size(aten_op, 1), _size(aten_op, 2))


def _multiply(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """``(…, n, k) @ (…, k, m)``: every element of the left matrix is multiplied with every column of the right one."""
    return math.prod(left) * (right[-1] if len(right) > 1 else 1)


@_formula("_embedding_bag", "_embedding_bag_forward_only")
def _count_nothing(aten_op: AtenOp) -> int:
    """Count nothing by convention, as for all lookups, where a call is written down for its bytes."""
    return 0


@_formula("addr")
def _count_added_outer(aten_op: AtenOp) -> int:
    return math.prod(aten_op.outputs[0])


@_formula("aten.mul.Tensor")
def _count_outer(aten_op: AtenOp) -> int:
    """Only logged inside ``outer``, ``kron`` and ``einsum``: an outer product makes more than either factor has."""
    made = math.prod(aten_op.outputs[0])
    return made if made > max(math.prod(_size(aten_op, 0)), math.prod(_size(aten_op, 1))) else 0


@_formula("linear", "mkldnn_linear", "matmul", "_weight_int8pack_mm", "_mixed_dtypes_linear")
@_formula("_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu", "_weight_int4pack_mm_with_scales_and_zeros")
@_formula("quantized.linear", "quantized.linear_relu", "quantized.linear_dynamic", "quantized.linear_relu_dynamic")
@_formula("quantized.linear_dynamic_fp16", "quantized.linear_relu_dynamic_fp16", "quantized.linear_leaky_relu")
@_formula("quantized.linear_tanh", "quantized.linear_with_input_q_dq_qweight_dq_output_fp32")
@_formula("onednn.qlinear_pointwise", "_dyn_quant_matmul_4bit", "_cdist_forward", "_euclidean_dist", "_pdist_forward")
def _count_linear(aten_op: AtenOp) -> int:
    """Each output is a dot product over the last axis of the input, however the weight is packed, or a distance."""
    return math.prod(aten_op.outputs[0]) * _size(aten_op, 0)[-1]


@_formula("_grouped_mm", "_scaled_grouped_mm", "_scaled_grouped_mm_v2")
def _count_grouped(aten_op: AtenOp) -> int:
    """Each group of rows (or columns, or parts of the inner dim) is multiplied with one matrix of the stack."""
    left, right = _size(aten_op, 0), _size(aten_op, 1)
    if len(left) == 3 and len(right) == 2:  # columns are grouped
        return left[1] * left[2] * right[1]
    return math.prod(left) * right[-1]


@_formula("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution")
@_formula("cudnn_convolution_relu", "cudnn_convolution_add_relu", "miopen_convolution", "miopen_convolution_relu")
@_formula("miopen_convolution_add_relu", "miopen_depthwise_convolution", "_conv_depthwise2d", "conv_depthwise3d")
@_formula("_slow_conv2d_forward", "slow_conv3d_forward", "slow_conv_dilated2d", "slow_conv_dilated3d", "thnn_conv2d")
@_formula("_nnpack_spatial_convolution", "_mps_convolution", "torchvision.deform_conv2d")
@_formula(*(f"quantized.conv{rank}d{end}" for rank in (1, 2, 3) for end in ("", "_relu", "_dynamic")))
def _count_convolution(aten_op: AtenOp) -> int:
    """Each output is a dot product over ``(C_in / groups, *kernel)``, borders in full."""
    weight = _size(aten_op, 1)
    if _argument(aten_op, "transposed"):
        return math.prod(_size(aten_op, 0)) * math.prod(weight[1:])
    return math.prod(aten_op.outputs[0]) * math.prod(weight[1:])


@_formula("slow_conv_transpose2d", "slow_conv_transpose3d", "cudnn_convolution_transpose")
@_formula("miopen_convolution_transpose", "_mps_convolution_transpose")
@_formula(*(f"quantized.conv_transpose{rank}d{end}" for rank in (1, 2, 3) for end in ("", "_dynamic")))
def _count_transposed_convolution(aten_op: AtenOp) -> int:
    """Each input is spread over ``(C_out / groups, *kernel)``, borders that are cropped included."""
    return math.prod(_size(aten_op, 0)) * math.prod(_size(aten_op, 1)[1:])


@_formula("conv_tbc")
def _count_conv_tbc(aten_op: AtenOp) -> int:
    width, channels_in, _ = _size(aten_op, 1)
    return math.prod(aten_op.outputs[0]) * width * channels_in


@_formula("convolution_backward", "convolution_backward_overrideable")
def _count_convolution_backward(aten_op: AtenOp) -> int:
    """The gradients of input and weight each take as many as the forward, where they are wanted."""
    outer = _size(aten_op, 1) if _argument(aten_op, "transposed") else _size(aten_op, 0)
    wanted = sum(bool(mask) for mask in _argument(aten_op, "output_mask")[:2])
    return wanted * math.prod(outer) * math.prod(_size(aten_op, 2)[1:])


@_formula("linear_backward", "mkldnn_linear_backward")
def _count_linear_backward(aten_op: AtenOp) -> int:
    """The gradients of input and weight each take as many as the forward, where they are wanted."""
    wanted = sum(bool(mask) for mask in _argument(aten_op, "output_mask")[:2])
    return wanted * math.prod(_size(aten_op, 1)) * _size(aten_op, 2)[-1]


_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_attention_math_for_mps",
)


@_formula(*_ATTENTION, "scaled_dot_product_attention", "_triton_scaled_dot_attention")
@_formula("higher_order.flex_attention")
def _count_attention(aten_op: AtenOp) -> int:
    """``(B, H, L, E)`` queries against ``S`` keys, then ``Ev`` values; a causal mask is counted in full.

    With grouped queries the keys have fewer heads, but each query head is still multiplied with all its keys.
    """
    query, key, value = _size(aten_op, 0), _size(aten_op, 1), _size(aten_op, 2)
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


@_formula(*(f"{name}_backward" for name in _ATTENTION[:5]))
def _count_attention_backward(aten_op: AtenOp) -> int:
    """Scores again, then the gradients of weights, values, queries and keys: five products."""
    query, key, value = _size(aten_op, 1), _size(aten_op, 2), _size(aten_op, 3)
    return math.prod(query[:-1]) * key[-2] * (3 * query[-1] + 2 * value[-1])


@_formula("_flash_attention_forward", "_efficient_attention_forward", "_cudnn_attention_forward")
def _count_raw_attention(aten_op: AtenOp) -> int | None:
    """Heads come after positions here, ``(B, L, H, E)``; sequences packed without padding hide their lengths."""
    query, key, value = _size(aten_op, 0), _size(aten_op, 1), _size(aten_op, 2)
    if len(query) != 4 or any(size is not None and len(size) == 1 for size in aten_op.inputs[3:]):
        return None
    return math.prod(query[:-1]) * key[1] * (query[-1] + value[-1])


@_formula("_flash_attention_backward", "_efficient_attention_backward", "_cudnn_attention_backward")
def _count_raw_attention_backward(aten_op: AtenOp) -> int | None:
    """Five products, with heads after positions."""
    query, key, value = _size(aten_op, 1), _size(aten_op, 2), _size(aten_op, 3)
    if len(query) != 4 or any(size is not None and len(size) == 1 for size in aten_op.inputs[6:8]):
        return None
    return math.prod(query[:-1]) * key[1] * (3 * query[-1] + 2 * value[-1])


@_formula("_native_multi_head_attention", "_triton_multi_head_attention")
def _count_multi_head_attention(aten_op: AtenOp) -> int:
    """The fast path of ``MultiheadAttention``: projections in, two products, one projection out."""
    (batch, length, width), (_, others, _) = _size(aten_op, 0), _size(aten_op, 1)
    projections = 2 * length * width * width + 2 * others * width * width
    return batch * (projections + 2 * length * others * width)


@_formula("_transformer_encoder_layer_fwd")
def _count_encoder_layer(aten_op: AtenOp) -> int:
    """The fast path of ``TransformerEncoderLayer``: attention and the two layers behind it."""
    batch, length, width = _size(aten_op, 0)
    hidden = _size(aten_op, 9)[0]  # src, four of attention, four of norms, then the first layer's weight
    return batch * (4 * length * width * width + 2 * length * length * width + 2 * length * width * hidden)


@_formula("mkldnn_rnn_layer")
def _count_rnn_layer(aten_op: AtenOp) -> int:
    """One layer in one direction: every position is multiplied with the input's and the state's weights."""
    steps = math.prod(_size(aten_op, 0)[:-1])
    return steps * (math.prod(_size(aten_op, 1)) + math.prod(_size(aten_op, 2)))


@_formula("mkldnn_rnn_layer_backward")
def _count_rnn_layer_backward(aten_op: AtenOp) -> int:
    """The gradients of input and weights each take as many as the forward; both are computed, wanted or not."""
    steps = math.prod(_size(aten_op, 0)[:-1])
    return 2 * steps * (math.prod(_size(aten_op, 1)) + math.prod(_size(aten_op, 2)))


@_formula("_cudnn_rnn", "miopen_rnn", "_lstm_mps")
def _count_rnn(aten_op: AtenOp) -> int:
    """All layers and directions; packed input is ``(sum of true lengths, features)``, so padding is not counted.

    The weights are the matrices among the tensors before the last few, which are states and buffers; a matrix has two
    axes, a bias one and a state three.
    """
    steps = math.prod(_size(aten_op, 0)[:-1])
    return steps * sum(math.prod(size) for size in aten_op.inputs[1:] if size is not None and len(size) == 2)


@_formula("_cudnn_rnn_backward", "miopen_rnn_backward")
def _count_rnn_backward(aten_op: AtenOp) -> int:
    """As many as the forward for the gradients of the input, and as many for those of the weights if they are wanted.

    Nine tensors follow the weights; the output is among them, which has two axes where it is packed.
    """
    steps = math.prod(_size(aten_op, 0)[:-1])
    weights = sum(math.prod(size) for size in aten_op.inputs[1:-9] if size is not None and len(size) == 2)
    return (1 + bool(_argument(aten_op, "output_mask")[3])) * steps * weights


@_formula("_trilinear")
def _count_trilinear(aten_op: AtenOp) -> int:
    """Every element of the three tensors' common size; for ``Bilinear``, ``B · out · in1 · in2``."""
    sizes = []
    for position, name in enumerate(("expand1", "expand2", "expand3")):
        size = list(_size(aten_op, position))
        for axis in _argument(aten_op, name):
            size.insert(axis, 1)
        sizes.append(size)
    return math.prod(max(lengths) if min(lengths) else 0 for lengths in zip(*sizes, strict=True))


@_formula("_cdist_backward")
def _count_distances_backward(aten_op: AtenOp) -> int:
    """One vector's length per pair, for one of the two inputs."""
    return math.prod(_size(aten_op, 0)) * _size(aten_op, 1)[-1]


@_formula("_pdist_backward")
def _count_own_distances_backward(aten_op: AtenOp) -> int:
    """One vector's length for both of each pair."""
    return 2 * math.prod(_size(aten_op, 0)) * _size(aten_op, 1)[-1]


@_formula("affine_grid_generator")
def _count_affine_grid(aten_op: AtenOp) -> int:
    """Every point of the grid, with a 1 appended, is multiplied with ``theta``: ``(2, 3)`` or ``(3, 4)``."""
    grid, theta = aten_op.outputs[0], _size(aten_op, 0)
    return math.prod(grid[:-1]) * theta[-2] * theta[-1]
