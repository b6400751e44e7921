"""Elementwise operations whose operands' sizes do not fit."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures import (
    branch_sizes,
    convolution,
    dim_orders,
    dims_of_one,
    earlier_reshapes,
    heads_order,
    joins,
    learned_queries,
    moving_averages,
    repeated_states,
    row_counts,
    skip_connections,
    tables,
    unpacking,
    widths,
)
from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, NOTHING, STEP, Diagnosis, FailureContext, Pair
from modelsummary_ipy.diagnosis.failures.dims_of_one import find_clashes
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_argument,
    fix_line,
    fix_operand,
    name_input_size,
    read_arguments,
    resize_operand,
    write_size,
)
from modelsummary_ipy.diagnosis.failures.parameters import find_param, fix_creation
from modelsummary_ipy.diagnosis.failures.source_nodes import parse_line, read_text
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import LOSSES, SIZED_FACTORIES

_ELEMENTWISE = frozenset(
    """add sub mul div pow add_ sub_ mul_ div_ maximum minimum where lerp addcmul eq ne lt le gt ge logical_and
    kl_div logical_or and or xor masked_fill masked_fill_ fmod remainder atan2 floordiv copy_ expand_as mse_loss l1_loss
    smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits cosine_similarity
    pairwise_distance""".split()  # noqa: SIM905  # words, not a list
)


#: Words of torch's where a result is larger than the tensor that it is to be written into.
_WRITTEN = re.compile(r"output with shape (\[.*?\]) doesn't match the broadcast shape (\[.*?\])")


def _write_new(line: str, function: str) -> str:
    """Write a result into a new tensor: ``q = q + x`` for ``q += x``, ``q = q.add(x)`` for ``q.add_(x)``."""
    node = next(iter(getattr(parse_line(line), "body", [])), None)
    if isinstance(node, ast.AugAssign):
        value = ast.unparse(ast.BinOp(node.target, node.op, node.value))
        return f"{read_text(line, node.target)} = {value}"
    new = line.replace(f".{function}(", f".{function.rstrip('_')}(")
    return f"{new.partition('.')[0]} = {new}" if isinstance(node, ast.Expr) else new


def explain_broadcast(ctx: FailureContext) -> Diagnosis | None:
    """Explain two tensors whose sizes can't be broadcast."""
    if ctx.function == "bilinear" and len(ctx.data) == 2:
        return _explain_bilinear(ctx)
    if (written := _WRITTEN.match(ctx.failure.message)) is not None and ctx.call.kind == "op":
        reason = f"{ctx.function} writes into {written[1]}, and the result is {written[2]}: in place no shape changes"
        return Diagnosis(reason, written[1], fix_line(ctx, _write_new(ctx.line, ctx.function)))
    if ctx.function not in _ELEMENTWISE or len(ctx.operands) < 2:
        return None
    mask = ctx.operands[0]
    for at, x in enumerate(ctx.operands[1:3], 1) if ctx.function == "where" else ():
        if mask.shape == x.shape[: mask.rank] and x.rank > mask.rank and (axes := find_clashes(mask.shape, x.shape)):
            return _explain_pair(Pair(ctx, (mask, x), (0, at), axes))  # one truth value a step
    for index, left in enumerate(ctx.operands):
        for other, right in enumerate(ctx.operands[index + 1 :], index + 1):
            axes = find_clashes(left.shape, right.shape)
            if axes:
                return _explain_pair(Pair(ctx, (left, right), (index, other), axes))
    return None


def _explain_bilinear(ctx: FailureContext) -> Diagnosis | None:
    """The two inputs of a Bilinear need equal leading dims: none of one is broadcast."""
    for place, (x, other) in enumerate((ctx.data, ctx.data[::-1])):
        axes = [axis for axis in range(x.rank - 1) if other.rank == x.rank and x.shape[axis] != other.shape[axis]]
        if not axes or any(x.shape[axis] != 1 for axis in axes):
            continue
        sizes = [write_size(ctx, 1 - place, axis) if axis in axes else "-1" for axis in range(x.rank)]
        fix = fix_argument(ctx, f"{{}}.expand({', '.join(sizes)})", position=place) if all(sizes) else NOTHING
        reason = f"{ctx.owner} broadcasts no dim: {write_shape(x.shape)} against {write_shape(other.shape)}"
        return Diagnosis(reason, "equal sizes in every dim but the last", fix)
    return None


def _explain_pair(pair: Pair) -> Diagnosis:
    for explain in _OF_PAIRS:
        if (found := explain(pair)) is not None:
            return found
    left, right = pair.both
    rank = max(left.rank, right.rank)
    sizes = [f"dim {rank + axis}: {left.shape[axis]} against {right.shape[axis]}" for axis in reversed(pair.axes)]
    fixes = []
    if left.rank > 2 and right.rank > 2 and left.numel == right.numel and left.shape[-1] == right.shape[-1]:
        batch = pair.ctx.trace.inputs[0].spec.shape[:1] if pair.ctx.trace.inputs else ()
        made = [(x.shape[:1] == batch, place, there) for x, _, place, there in pair.each()]
        fixes = [fix_operand(pair.ctx, place, f"{{}}.reshape({{{there}}}.shape)") for _, place, there in sorted(made)]
    return Diagnosis(" and ".join(sizes), "equal sizes, or 1, in every dim", fixes, ANYWHERE)


def _explain_ranks(pair: Pair) -> Diagnosis | None:
    """A loss compares tensors of different ranks."""
    (left, right), function = pair.both, pair.ctx.function
    if left.rank == right.rank or function not in LOSSES or function == "cosine_similarity":
        return None
    sizes = f"{write_shape(left.shape)} against {write_shape(right.shape)}"
    return Diagnosis(f"{function} compares numbers one to one: {sizes}", "equal shapes")


def _explain_flat(pair: Pair) -> Diagnosis | None:
    """The steps of all samples are one dim in one tensor, a loss of each, and the other has both dims: so do pairs."""
    texts = read_arguments(pair.ctx)
    for x, other, place, there in pair.each():
        if x.rank == 1 and other.rank > 1 and x.numel == other.numel:
            reason = f"{write_shape(x.shape)} has {write_times(other.shape)} numbers in one dim, the other is "
            reason += write_shape(other.shape)
            compared = re.match(r"(\w+)\s*[<>=!]=", texts[there]) if there < len(texts) else None  # adj == 0
            like = compared[1] if compared is not None else f"{{{there}}}"
            fixes = [
                fix_operand(pair.ctx, there, "{}.flatten()"),
                fix_operand(pair.ctx, place, f"{{}}.view_as({like})"),
            ]
            return Diagnosis(reason, write_shape(x.shape), fixes)
    return None


def _explain_noise(pair: Pair) -> Diagnosis | None:
    """Noise was made like another tensor than the one that it goes with: ``torch.randn_like(h) * std``."""
    ctx = pair.ctx
    for x, other, place, there in pair.each():
        maker = ctx.flow.producer(x.link)
        is_like = maker is not None and maker.type_name.endswith("_like")
        if maker is None or not is_like or x.rank != other.rank or find_param(ctx, other) is not None:
            continue
        function = f"torch.{maker.type_name}"
        fixes = [fix_operand(ctx, place, f"{function}({{{there}}})")]
        reason = f"{maker.type_name}() was made like {write_shape(x.shape)}, and goes with {write_shape(other.shape)}"
        return Diagnosis(reason, write_shape(other.shape), fixes)
    return None


def _explain_constant(pair: Pair) -> Diagnosis | None:
    """A tensor that the forward makes of fixed sizes does not have the other's."""
    ctx = pair.ctx
    for x, other, _, there in pair.each():
        maker = ctx.flow.producer(x.link)
        if maker is None or maker.type_name not in SIZED_FACTORIES or x.rank != other.rank:
            continue
        texts = read_arguments(ctx)
        text = find_name(texts[there]) if there < len(texts) else ""
        name = name_input_size(ctx, other.shape[0]) or (f"{text}.size(0)" if text else "")
        fix = fix_creation(ctx, x, other.shape, {0: name} if name else {})
        unpadded = branch_sizes.explain_branches(ctx, pair.both) if pair.is_spatial else None
        if unpadded is not None:
            return replace(unpadded, fix=[*unpadded.fixes, fix])
        if fix:
            reason = f"{maker.type_name}() makes {write_shape(x.shape)}, the other is {write_shape(other.shape)}"
            return Diagnosis(reason, write_shape(other.shape), fix)
    return None


def _explain_matrix(pair: Pair) -> Diagnosis | None:
    """The numbers of a matrix stand in one dim where the other tensor is that matrix: a transform of each sample."""
    for flat, matrix, place, _ in pair.each():
        if flat.rank < 2 or matrix.rank != 2 or flat.shape[-1] != matrix.numel or 1 in matrix.shape:
            continue
        if not pair.ctx.flow.sources(flat.link):  # made by the code, an identity: it is as wide by chance
            continue
        reason = f"{write_shape(flat.shape)} has the {write_times(matrix.shape)} numbers of a matrix in one dim"
        fix = fix_operand(pair.ctx, place, f"{{}}.unflatten(-1, {matrix.shape})")
        return Diagnosis(reason, write_shape((*flat.shape[:-1], *matrix.shape)), fix)
    return None


def explain_half_pixel(pair: Pair) -> Diagnosis | None:
    """Two feature maps of one origin: between down- and upsampling half a pixel was dropped."""
    ctx, (left, right), places, axes = pair
    is_near = all(abs(left.shape[axis] - right.shape[axis]) <= max(2, left.shape[axis] // 4) for axis in axes)
    found = skip_connections.find_lost(ctx, left, right, axes[0]) if pair.is_spatial and is_near else None
    if found is None:
        return None
    lost, came_from_left = found
    up, other = places if came_from_left else places[::-1]
    kept = right if came_from_left else left
    sides = [write_times([x.shape[axis] for axis in sorted(axes)]) for x in (left, right)]
    where = " and ".join(str(left.rank + axis) for axis in sorted(axes))
    reason = f"{sides[0]} against {sides[1]} in dim {where}: {skip_connections.write_lost(lost)}"
    fixes = [resize_operand(ctx, up, other)]
    return Diagnosis(reason, f"two feature maps of {write_shape(kept.shape[2:])}", fixes, STEP)


def _explain_joined(pair: Pair) -> Diagnosis | None:
    """One was joined behind the other, along the batch, whose features were to be joined."""
    for x, other, *_ in pair.each():
        found = joins.explain_joined(pair.ctx, x, other.shape[-1], "equal shapes") if x.rank == other.rank > 1 else None
        if found is not None:
            return found
    return None


#: What may explain a pair that does not fit, the surest first.
_OF_PAIRS: tuple[Callable[[Pair], Diagnosis | None], ...] = (
    heads_order.explain_unmoved_heads, row_counts.explain_edges, learned_queries.explain_folded_queries,
    earlier_reshapes.explain_cut_batch, earlier_reshapes.explain_cut_table, earlier_reshapes.explain_empty,
    earlier_reshapes.explain_longest, tables.explain_other_mask, widths.explain_shuffled, _explain_flat,
    _explain_joined, dims_of_one.explain_each, tables.explain_order, repeated_states.explain_repeat,
    repeated_states.explain_kept, repeated_states.explain_count, convolution.explain_unbatched, _explain_ranks,
    unpacking.explain_swapped, moving_averages.explain_differences, dims_of_one.explain_missing_axes,
    dim_orders.explain_layout, dims_of_one.explain_outer, _explain_noise, dims_of_one.explain_scaled_rows,
    _explain_matrix, row_counts.explain_square_mask, _explain_constant, row_counts.explain_same_place,
    row_counts.explain_parted_rows, row_counts.explain_repeated_steps, dim_orders.explain_turned,
    widths.explain_bias, widths.explain_angles, dims_of_one.explain_centers, tables.explain_table,
    branch_sizes.explain_spectrum, branch_sizes.explain_grown, branch_sizes.explain_output_padding,
    explain_half_pixel, moving_averages.explain_moving, row_counts.explain_other_size, widths.explain_widths,
    widths.explain_heads, widths.explain_pieces, widths.explain_vector, skip_connections.explain_upsampling,
    skip_connections.explain_enlarged, skip_connections.explain_unstrided, skip_connections.explain_coarser,
    skip_connections.explain_shortcut, skip_connections.explain_residual, branch_sizes.explain_margin,
    branch_sizes.explain_pooled, branch_sizes.explain_padded_steps, dims_of_one.explain_rows,
    dim_orders.explain_permuted,
)  # fmt: skip
