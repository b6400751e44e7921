"""Elementwise operations whose operands' sizes do not fit."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures import (
    alignment,
    branch_sizes,
    convolution,
    earlier_reshapes,
    heads_order,
    learned_queries,
    linear,
    moving_averages,
    repeated_states,
    row_counts,
    skip_connections,
    unpacking,
)
from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    NOTHING,
    STEP,
    Diagnosis,
    FailureContext,
    Operand,
    Pair,
)
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_argument,
    fix_giver,
    fix_operand,
    name_input_size,
    read_arguments,
    resize_operand,
    set_value,
    write_size,
)
from modelsummary_ipy.diagnosis.failures.parameters import find_param, fix_creation, resize_origin
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, LINEARS, LOSSES, SIZED_FACTORIES
from modelsummary_ipy.model.torch_layers import OUTPUT_SETTINGS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import ModuleFact

_ELEMENTWISE = frozenset(
    """add sub mul div pow add_ sub_ mul_ div_ maximum minimum where lerp addcmul eq ne lt le gt ge logical_and
    kl_div logical_or and or xor masked_fill masked_fill_ fmod remainder atan2 floordiv copy_ expand_as mse_loss l1_loss
    smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits cosine_similarity
    pairwise_distance""".split()  # noqa: SIM905  # words, not a list
)


def explain_broadcast(ctx: FailureContext) -> Diagnosis | None:
    """Explain two tensors whose sizes can't be broadcast."""
    if ctx.function == "bilinear" and len(ctx.data) == 2:
        return _explain_bilinear(ctx)
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


def find_clashes(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Return the dims, counted from the end as negative numbers, in which two shapes can't be broadcast."""
    shared = min(len(left), len(right))
    return [-i for i in range(1, shared + 1) if left[-i] != right[-i] and 1 not in (left[-i], right[-i])]


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


def _explain_layout(pair: Pair) -> Diagnosis | None:
    """One of two maps has its channels last: the classes of ``F.one_hot`` of labels; or its sides the other way."""
    for x, other, place, _ in pair.each():
        if x.rank == other.rank > 3 and x.shape == (other.shape[0], other.shape[2], other.shape[1], *other.shape[3:]):
            reason = f"dims 1 and 2 of {write_shape(x.shape)} are the other way round in {write_shape(other.shape)}"
            return Diagnosis(reason, write_shape(other.shape), fix_operand(pair.ctx, place, "{}.transpose(1, 2)"))
        is_last = x.rank > 3 and x.shape[1:] == (*other.shape[2:], *other.shape[1:2])
        if is_last and x.shape[:1] == other.shape[:1] and x.shape[-1] != other.shape[-1]:
            reason = f"{write_shape(x.shape)} has the {x.shape[-1]} channels last, {write_shape(other.shape)} in dim 1"
            return Diagnosis(reason, write_shape(other.shape), fix_operand(pair.ctx, place, "{}.movedim(-1, 1)"))
    return None


def _explain_outer(pair: Pair) -> Diagnosis | None:
    """Numbers of the batch are to be multiplied with each of some constants: the frequencies of a time embedding."""
    ctx, both, places, _ = pair
    fed = [bool(ctx.flow.sources(x.link)) for x in both]
    if [x.rank for x in both] != [1, 1] or fed[0] == fed[1] or ctx.function not in ("mul", "div"):
        return None
    which = fed.index(True)
    samples, constants = both[which].shape[0], both[1 - which].shape[0]
    reason = f"each of {samples} numbers with each of {constants} is [{samples}, {constants}]: those need a dim of 1"
    return Diagnosis(reason, f"[{samples}, 1] and [{constants}]", fix_operand(ctx, places[which], "{}[:, None]"))


def _explain_each(pair: Pair) -> Diagnosis | None:
    """Each of some constants, one a head, is to go with a whole matrix of others: slopes with distances."""
    ctx = pair.ctx
    if ctx.function not in ("mul", "div", "pow") or any(ctx.flow.sources(x.link) for x in pair.both):
        return None
    for x, other, place, _ in pair.each():
        if x.rank == 1 and other.rank == 2 and len({x.shape[0], *other.shape}) == 2 and x.shape[0] != other.shape[0]:
            wanted = (*x.shape, *other.shape)
            reason = f"{x.shape[0]} numbers, each with all of {write_shape(other.shape)}, are {write_shape(wanted)}"
            return Diagnosis(reason, f"[{x.shape[0]}, 1, 1]", fix_operand(ctx, place, "{}[:, None, None]"))
    return None


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


def _explain_shuffled(pair: Pair) -> Diagnosis | None:
    """A loss compares an image with one that is larger than what a pixel shuffle gives."""
    ctx, function = pair.ctx, pair.ctx.function
    for x, other, *_ in pair.each() if pair.is_spatial and function in LOSSES else ():
        call = ctx.flow.producer(x.link)
        fact, factor = ctx.flow.module_of(call), other.shape[-1] // x.shape[-1]
        if call is None or fact is None or fact.type_name != "PixelShuffle" or factor < 2:
            continue
        if other.shape != (*x.shape[:2], *(factor * side for side in x.shape[2:])):
            continue
        before, scale = Operand(call.inputs[0], call.input_links[0]), fact.settings["upscale_factor"]
        wider = fix_giver(ctx, before, before.shape[1] * factor**2, -3)
        fix = wider + set_value(fact.path, f"nn.PixelShuffle({scale * factor})")
        sides = [write_times(item.shape[2:]) for item in (x, other)]
        reason = f"'{fact.path}' enlarges by {scale} to {sides[0]}, the target is {sides[1]}"
        return Diagnosis(reason, f"{scale * factor} times the sides", fix)
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


def _explain_heads(pair: Pair) -> Diagnosis | None:
    """Two layers side by side are of different widths: a mean and a logarithm of the variance, levels of a pyramid."""
    ctx, both, axis = pair.ctx, pair.both, pair.axes[0]
    makers = [ctx.flow.find_origin(x.link, x.shape, axis, OUTPUT_SETTINGS) for x in both]
    facts = [ctx.flow.module_of(call) for call in makers]
    one, other = makers
    if len(pair.axes) > 1 or one is None or other is None or None in facts or one.index == other.index:
        return None
    kinds = {one.type_name, other.type_name}
    is_pyramid = kinds <= CONVOLUTIONS and all(_is_pointwise(fact) for fact in facts) and axis == -3
    if not (is_pyramid or (kinds <= LINEARS and axis == -1 and one.input_links[:1] == other.input_links[:1])):
        return None
    if ctx.flow.leads_to(one, both[1].link) or ctx.flow.leads_to(other, both[0].link):
        return None  # a skip connection
    sizes = [x.shape[axis] for x in both]
    reason = f"'{one.path}' outputs {sizes[0]}, '{other.path}' {sizes[1]}, "
    reason += "and they are added" if is_pyramid else "of one input"
    names = ("out_channels",) if is_pyramid else ("in_features", "in_channels")  # of the levels that follow
    unread = [fact for fact in ctx.list_unread() if _is_pointwise(fact) or not is_pyramid]
    wanted = {width for fact in unread for width in map(fact.settings.get, names)}
    fixes = [fix_giver(ctx, both[1], sizes[0], axis), fix_giver(ctx, both[0], sizes[1], axis)]
    fixes = [fix for fix in (fixes[::-1] if sizes[1] in wanted and sizes[0] not in wanted else fixes) if fix]
    return Diagnosis(reason, "equal widths", fixes) if fixes else None


def _is_pointwise(fact: ModuleFact | None) -> bool:
    return fact is not None and set(fact.settings.get("kernel_size", ())) == {1}


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


def _explain_widths(pair: Pair) -> Diagnosis | None:
    """A loss compares, or a product takes, what two layers of different widths give."""
    ctx, (left, right), _, axes = pair
    is_loss, rank = ctx.function in LOSSES, max(left.rank, right.rank)
    if axes != [-1] and not (axes == [1 - rank] and rank > 2 and is_loss):
        return None
    if rank > 2 and (margin := branch_sizes.explain_margin(pair)) is not None:
        return margin
    if not is_loss and ctx.function not in ("mul", "div"):
        return None
    axis, sizes = axes[0], [x.shape[axes[0]] for x in pair.both]
    verb = "compares" if is_loss else "takes"
    reason = f"{ctx.function} {verb} numbers one to one: {write_shape(left.shape)} against {write_shape(right.shape)}"
    resize = resize_origin if axis == -1 else functools.partial(fix_giver, axis=axis)
    ways = [resize(ctx, right, sizes[0]), resize(ctx, left, sizes[1])]
    has_target = ctx.function.endswith("_loss")  # what is compared with it is made as wide
    fixes = [fix for fix in (ways[::-1] if has_target else ways) if fix]
    # A gate is of what a layer gives and of what it was given.
    shortcut = skip_connections.explain_residual(pair) if not is_loss else None
    fixes += shortcut.fixes if shortcut is not None else []
    return Diagnosis(reason, "equal shapes", fixes) if fixes else None


def _explain_missing_axes(pair: Pair) -> Diagnosis | None:
    """One tensor has fewer dims, and more of size 1 in the right places would work: a number for each channel."""
    ctx, (small, big, place, _) = pair.ctx, min(pair.each(), key=lambda item: item[0].rank)
    param, missing = find_param(ctx, small), big.rank - small.rank
    whole = {at: (*range(at), *range(at + missing, big.rank)) for at in range(1, small.rank + 1)}
    whole = {at: axes for at, axes in whole.items() if not find_clashes(_spread(small, axes, big.rank), big.shape)}
    has_inner = param is not None or (small.rank == 1 and big.shape[0] == 1)  # or a number for each sample of a state
    inner = itertools.combinations(range(1, big.rank), small.rank) if has_inner and 1 not in small.shape else ()
    parted = [axes for axes in inner if not find_clashes(_spread(small, axes, big.rank), big.shape)]
    if not missing or not (whole or parted):
        return None
    at = max(whole, key=lambda a: sum(x == y for x, y in zip(small.shape[:a], big.shape, strict=False)), default=0)
    axes = whole[at] if whole and not ((1,) in parted and big.rank > 2) else parted[0 if small.rank == 1 else -1]
    products = {call.type_name for call in ctx.flow.walk_back(big.link, 4)} & {"matmul", "bmm", "einsum"}
    is_made = small.rank > 2 and param is None
    is_mask = small.shape[-1:] == big.shape[-1:] and (small.spec.dtype == "bool" or (bool(products) and is_made))
    if is_mask:  # a mask is of the keys, which the softmax runs over
        axes = whole.get(max((a for a in whole if a < small.rank), default=0), axes)
    held = ctx.trace.params[param] if param is not None else None
    name = f"'{held.names[0]}' " if held is not None and held.shape == small.shape else ""
    wanted = write_shape(_spread(small, axes, big.rank)[axes[0] :])
    reason = f"{name}{write_shape(small.shape)} is aligned with the last dims of {write_shape(big.shape)}; "
    reason += f"{wanted} would broadcast"
    if is_mask:
        reason += f"; the softmax runs over the last dim, whose {small.shape[-1]} the mask has last"
    others = whole.values() if missing == 1 else ()
    templates = [_write_index(item, big.rank) for item in dict.fromkeys((axes, *others))]
    fixes = [fix_operand(ctx, place, text) for text in templates]
    if not any(fixes):  # in a library's code, of what the user's line gives it: ``dist.log_prob(target)``
        fixes = [made for text in templates for made in _change_arguments(ctx, text)]
    return Diagnosis(reason, wanted, fixes)


def _spread(x: Operand, axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return the shape of a tensor whose dims are brought to other places, with dims of 1 between them."""
    sizes = dict(zip(axes, x.shape, strict=True))
    return tuple(sizes.get(axis, 1) for axis in range(rank))


def _write_index(axes: tuple[int, ...], rank: int) -> str:
    """Write what brings dims to other places: ``"{}.unsqueeze(1)"``, ``"{}[:, None, None]"``."""
    index = [":" if axis in axes else "None" for axis in range(axes[0], rank)]
    if index.count("None") == 1:
        return f"{{}}.unsqueeze({index.index('None')})"
    while index[-1] == ":":
        index.pop()
    return f"{{}}[{', '.join(index)}]"


def _change_arguments(ctx: FailureContext, template: str) -> list[Candidate]:
    """Change each tensor that the line gives a call by its name, one by one."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        held = ctx.failure.names.get(write(node)) if isinstance(node, ast.Name) else None
        if held is not None and held.kind == "Tensor" and isinstance(around, ast.Call) and node in around.args:
            yield template.format(write(node))

    return rewrite(ctx, change, here=True, alone=True)


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
        found = (
            linear.explain_joined(pair.ctx, x, other.shape[-1], "equal shapes") if x.rank == other.rank > 1 else None
        )
        if found is not None:
            return found
    return None


def _explain_rows(pair: Pair) -> Diagnosis | None:
    """Rows are computed with those of another tensor: each with each of the others."""
    (left, right), function = pair.both, pair.ctx.function
    if pair.axes != [-2] or not left.rank == right.rank == 2 or function not in ("add", "sub", "mul"):
        return None
    wanted = (left.shape[0], right.shape[0], left.shape[1])
    reason = f"{left.shape[0]} rows against {right.shape[0]}: each with each of the others is {write_shape(wanted)}"
    fix = fix_operand(pair.ctx, pair.places[0], "{}.unsqueeze(1)")
    return Diagnosis(reason, "equal sizes, or 1, in every dim", fix, ANYWHERE)


def _fits_one(left: Sequence[int], right: Sequence[int]) -> bool:
    """Return whether two shapes of as many dims fit, and one of them is what comes out: not each row with each."""
    made = [max(sizes) for sizes in zip(left, right, strict=True)]
    return not find_clashes(left, right) and made in ([*left], [*right])


def _explain_permuted(pair: Pair) -> Diagnosis | None:
    """One of two tensors fits in exactly one other order of its dims: steps first for channels first."""
    fixes = []
    for x, other, place, _ in sorted(pair.each(), key=lambda each: each[0].numel):  # rather what is broadcast
        if x.rank != other.rank or not 2 < x.rank < 6:
            continue
        orders = [
            order for order in itertools.permutations(range(x.rank))
            if _fits_one([x.shape[axis] for axis in order], other.shape)
        ]  # fmt: skip
        if len(orders) == 1:
            fixes.append(fix_operand(pair.ctx, place, f"{{}}.permute({', '.join(map(str, orders[0]))})"))
    reason = f"{write_shape(pair.both[0].shape)} and {write_shape(pair.both[1].shape)} have their dims in other orders"
    return Diagnosis(reason, "one order of dims", fixes, ANYWHERE) if any(fixes) else None


#: What may explain a pair that does not fit, the surest first.
_OF_PAIRS: tuple[Callable[[Pair], Diagnosis | None], ...] = (
    heads_order.explain_unmoved_heads, row_counts.explain_edges, learned_queries.explain_folded_queries,
    earlier_reshapes.explain_cut_batch, earlier_reshapes.explain_cut_table, earlier_reshapes.explain_empty,
    earlier_reshapes.explain_longest, alignment.explain_other_mask, _explain_shuffled,
    _explain_flat, _explain_joined, _explain_each, alignment.explain_order, repeated_states.explain_repeat,
    repeated_states.explain_kept, repeated_states.explain_count, convolution.explain_unbatched, _explain_ranks,
    unpacking.explain_swapped, moving_averages.explain_differences, _explain_missing_axes, _explain_layout,
    _explain_outer, _explain_noise, alignment.explain_scaled_rows, alignment.explain_matrix,
    row_counts.explain_square_mask, _explain_constant, row_counts.explain_same_place, row_counts.explain_parted_rows,
    row_counts.explain_repeated_steps, alignment.explain_turned, alignment.explain_bias, alignment.explain_angles,
    alignment.explain_centers, alignment.explain_table, branch_sizes.explain_spectrum, branch_sizes.explain_grown,
    branch_sizes.explain_output_padding, explain_half_pixel, moving_averages.explain_moving,
    row_counts.explain_other_size, _explain_widths, _explain_heads, alignment.explain_pieces, alignment.explain_vector,
    skip_connections.explain_upsampling, skip_connections.explain_enlarged, skip_connections.explain_unstrided,
    skip_connections.explain_coarser, skip_connections.explain_shortcut, skip_connections.explain_residual,
    branch_sizes.explain_margin, branch_sizes.explain_pooled, branch_sizes.explain_padded_steps, _explain_rows,
    _explain_permuted,
)  # fmt: skip
