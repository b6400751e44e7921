"""Tensors that are concatenated or stacked: other ranks, other sizes, another dim."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.branch_sizes import (
    explain_branches,
    explain_margin,
    explain_pooled,
    explain_strided,
)
from modelsummary_ipy.diagnosis.failures.broadcasting import explain_half_pixel
from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    NOTHING,
    STEP,
    Diagnosis,
    FailureContext,
    Operand,
    Pair,
)
from modelsummary_ipy.diagnosis.failures.dims_of_one import explain_ones
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import explain_cut_batch, undo_move
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_line,
    fix_made,
    fix_operand,
    fix_setting,
    name_input_size,
    place_line,
    read_arguments,
    read_line,
)
from modelsummary_ipy.diagnosis.failures.missing_dims import explain_squeezed
from modelsummary_ipy.diagnosis.failures.parameters import find_param, fix_creation, resize_origin
from modelsummary_ipy.diagnosis.failures.repeated_states import explain_count, explain_kept
from modelsummary_ipy.diagnosis.failures.row_counts import explain_edges, explain_other_size
from modelsummary_ipy.diagnosis.failures.skip_connections import explain_enlarged, explain_unstrided
from modelsummary_ipy.diagnosis.failures.source_edits import put_before
from modelsummary_ipy.diagnosis.failures.source_nodes import (
    find_nodes,
    find_operation,
    read_name,
    read_text,
    splice_node,
)
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, MAP_LAYERS, RECURRENTS, SIZED_FACTORIES
from modelsummary_ipy.model.torch_layers import functions_of
from modelsummary_ipy.records.fixes import Candidate


def explain_cat(ctx: FailureContext) -> Diagnosis | None:
    """Explain tensors that can't be concatenated or stacked."""
    if ctx.function not in ("cat", "concat", "concatenate", "stack", "hstack", "vstack") or len(ctx.operands) < 2:
        return None
    first = ctx.operands[0]
    dim = ctx.arguments.get("dim", 0)
    joins = ctx.function.startswith(("cat", "con")) and isinstance(dim, int) and first.rank > 0
    if joins and dim == first.rank == 1 and len({x.shape for x in ctx.operands}) == 1:
        reason = f"cat joins along dims that there are, and {write_shape(first.shape)} has 1: stack makes another"
        line = ctx.line.replace("cat(", "stack(") if ctx.line.count("cat(") == 1 else ""
        return Diagnosis(reason, "2 dims, or stack", fix_line(ctx, line))
    along = dim % first.rank if joins else None
    if joins and along is not None and (outer := _explain_outer(ctx, along)) is not None:
        return outer
    for place, x in enumerate(ctx.operands[1:], 1):
        if x.rank != first.rank:
            return _explain_cat_rank(ctx, place, x, dim if joins and dim >= first.rank else along)
        axes = [a for a in range(x.rank) if a != along and x.shape[a] != first.shape[a]]
        if axes:
            pair = Pair(ctx, (first, x), (0, place), [axis - first.rank for axis in reversed(axes)])
            found = (
                explain_edges(pair)
                or explain_cut_batch(pair)
                or explain_kept(pair)
                or explain_count(pair)
                or explain_lengths(ctx)
                or explain_shrinking(ctx)
                or (explain_branches(ctx, ctx.operands) if pair.is_spatial and along == 1 else None)
                or explain_crops(ctx, axes, along)
                or explain_other_size(pair)
            )
            return found or _explain_cat_axes(pair, axes, along)
    return None


def _explain_outer(ctx: FailureContext, along: int) -> Diagnosis | None:
    """Tensors have their dims of one at different places, as each with each has: ``cat`` does not expand them."""
    rank = ctx.operands[0].rank
    if any(x.rank != rank for x in ctx.operands) or len({x.shape[along] for x in ctx.operands}) > 1:
        return None
    sizes = [{x.shape[axis] for x in ctx.operands} - {1} for axis in range(rank) if axis != along]
    ones = {tuple(axis for axis in range(rank) if axis != along and x.shape[axis] == 1) for x in ctx.operands} - {()}
    if any(len(size) > 1 for size in sizes) or len(ones) < 2:
        return None
    found = find_operation(ctx.line, ctx.function, ctx.earlier)
    call = found[0][2] if len(found) == 1 else None
    given = call.args[0] if call is not None and call.args else None
    line = ""
    if isinstance(given, (ast.List, ast.Tuple)):
        texts = ", ".join(read_text(ctx.line, item) for item in given.elts)
        line = splice_node(ctx.line, given, f"torch.broadcast_tensors({texts})")
    shapes = " and ".join(dict.fromkeys(write_shape(x.shape) for x in ctx.operands))
    reason = f"{shapes} have their dims of 1 at different places, and cat expands none"
    return Diagnosis(reason, "equal sizes in every other dim", fix_line(ctx, line))


def _explain_cat_rank(ctx: FailureContext, place: int, x: Operand, along: int | None) -> Diagnosis:
    first = ctx.operands[0]
    small, big, at = (x, first, place) if x.rank < first.rank else (first, x, 0)
    reason = f"{write_shape(small.shape)} has {small.rank} dims, {write_shape(big.shape)} has {big.rank}"
    if (squeezed := explain_squeezed(ctx, small)) is not None:
        return replace(squeezed, reason=f"{reason}: {squeezed.reason}")
    found = _find_rank(ctx, small, big, at, along)
    if found is None:
        return Diagnosis(reason, "tensors of the same rank", NOTHING, ANYWHERE)
    return Diagnosis(reason + found[0], "tensors of the same rank", found[1])


def _expand_learned(ctx: FailureContext, small: Operand, big: Operand, at: int) -> Candidate:
    """Repeat learned steps, or one, for each sample: prompts, registers, a class token."""
    param = find_param(ctx, small)
    is_learned = param is not None and ctx.trace.params[param].shape == small.shape and not ctx.flow.sources(small.link)
    if not is_learned or big.rank != 3 or small.rank not in (1, 2) or small.shape[-1:] != big.shape[-1:]:
        return NOTHING
    batch = name_input_size(ctx, big.shape[0]) or f"{{{ctx.operands.index(big)}}}.size(0)"
    steps = "1" if small.rank == 1 else "-1"
    return fix_operand(ctx, at, f"{{}}.expand({batch}, {steps}, -1)")


def _find_rank(
    ctx: FailureContext, small: Operand, big: Operand, at: int, along: int | None
) -> tuple[str, Candidate | list[Candidate]] | None:
    """Find what gives two tensors one rank: words, and fixes; ``at`` is the place of the one with fewer dims."""
    other = ctx.operands.index(big)

    def fits(shape: tuple[int, ...]) -> bool:
        pairs = enumerate(zip(shape, small.shape, strict=False))
        return len(shape) == small.rank and all(one == two for axis, (one, two) in pairs if axis != along)

    unread = {fact.settings.get("in_features") for fact in ctx.list_unread()}
    is_wide = sum(x.shape[-1] for x in ctx.operands if x.shape) in unread
    rests = {axis: (*big.shape[:axis], *big.shape[axis + 1 :]) for axis in range(1, big.rank) if big.shape[axis] == 1}
    places = [axis for axis, rest in rests.items() if fits(rest) and (is_wide or rest != small.shape)]
    squeezed = [fix_operand(ctx, other, f"{{}}.squeeze({axis})") for axis in places[:1]]
    if (undone := undo_move(ctx, big, fits)) or squeezed:
        return ": without its dim of one it has as many", [undone, *squeezed]
    if along == 1 and (learned := _expand_learned(ctx, small, big, at)):
        return ": it has no batch, and is repeated for each sample", learned
    giver = ctx.flow.producer(big.link)
    is_state = giver is not None and giver.type_name in RECURRENTS and big.link is not None and big.link.leaf > 0
    if is_state and giver is not None and big.shape[1:-1] == small.shape[:-1] and along != 0:
        words = f": the state of '{giver.path}' has a dim of its layers, the last of which is [-1]"
        return words, fix_operand(ctx, other, "{}[-1]")
    if not small.shape and along == big.rank - 1:
        sizes = ", ".join(f"{{{other}}}.size({axis})" for axis in range(big.rank - 1))
        return ": a number is repeated for each sample first", fix_operand(ctx, at, f"{{}}.expand({sizes}, 1)")
    read = {fact.settings.get("input_size") for fact in ctx.list_unread()}
    is_step = small.shape[-1:] == big.shape[-1:] and big.shape[-1] in read
    is_pooled = small.rank == 2 and big.rank == 3 and along == 1 and small.shape[0] == big.shape[0] and not is_step
    if is_pooled and giver is not None and is_wide:
        words = f": '{giver.path}' gives steps of {big.shape[2]} features, which are pooled first"
        texts = ("{}[:, -1]", "{}.mean(1)") if giver.type_name in RECURRENTS else ("{}.mean(1)",)
        return words, [fix_operand(ctx, other, text) for text in texts]
    widths = [fact.settings.get("in_features", 0) for fact in ctx.list_unread()]
    numbers = list(dict.fromkeys(width - big.shape[-1] for width in widths if width - big.shape[-1] > 1))
    if small.spec.dtype == "int64" and small.shape == big.shape[:-1] and numbers and along == big.rank - 1:
        words = f": one-hot, {numbers[0]} classes give the {numbers[0] + big.shape[-1]} features that are expected"
        return words, [fix_operand(ctx, at, f"F.one_hot({{}}, {count})") for count in numbers[:3]]
    flat = math.prod(big.shape[1:])
    rest = sum(x.shape[-1] for x in ctx.operands if x.rank == 2)
    if small.rank == 2 and along in (1, big.rank - 1) and flat + rest in unread and ctx.operands.count(big) == 1:
        words = f": flat, {write_times(big.shape[1:])} + {rest} = {flat + rest} features are expected"
        return words, fix_operand(ctx, other, "{}.flatten(1)")
    for axis in range(big.rank):
        grown = (*small.shape[:axis], 1, *small.shape[axis:])
        if len(grown) == big.rank and all(
            one == other for a, (one, other) in enumerate(zip(grown, big.shape, strict=True)) if a != along
        ):
            return "", fix_operand(ctx, at, f"{{}}.unsqueeze({axis})")
    if small.rank == 2 and big.rank > 2 and along == 1 and set(big.shape[2:]) == {1} and small.shape[0] == big.shape[0]:
        return f": {write_shape(big.shape)} is a feature map of one position", fix_operand(ctx, other, "{}.flatten(1)")
    if small.rank == 2 and big.rank > 2 and along == 1 and small.shape[0] == big.shape[0]:
        ones = ", None" * (big.rank - 2)
        fix = fix_operand(ctx, at, f"{{}}[:, :{ones}].expand(-1, -1, *{{{other}}}.shape[2:])")
        channels, rest = divmod(small.shape[1], max(math.prod(big.shape[2:]), 1))
        if big.rank > 3 and channels and not rest:
            words = f": {small.shape[1]} numbers are {channels} × {write_times(big.shape[2:])}, a map of that size"
            return words, [fix_operand(ctx, at, f"{{}}.unflatten(1, ({channels}, *{{{other}}}.shape[2:]))"), fix]
        axes = tuple(range(2, big.rank)) if big.rank > 3 else 2
        pooled = fix_operand(ctx, other, f"{{}}.mean({axes})")
        flattened = fix_operand(ctx, other, "{}.flatten(1)")
        return ": a vector is repeated over the positions first, or the feature map pooled", [fix, pooled, flattened]
    maker = ctx.flow.producer(small.link)
    counts = ctx.flow.setting(maker, "repeats") if maker is not None and maker.type_name == "repeat" else None
    if maker is not None and big.rank == 3 and along == 2 and counts == (1, big.shape[1]) and big.shape[1] > 1:
        whole = maker.inputs[0].shape
        words = f": repeat{counts} of {write_shape(whole)} puts {counts[1]} times the {whole[1]} features in a row"
        return words, fix_made(ctx, maker, lambda items: f"{items[0]}.unsqueeze(1).repeat(1, {items[2]}, 1)")
    if small.rank == 2 and big.rank > 2 and along == big.rank - 1 and small.shape[0] == big.shape[0]:
        words = f": a vector of each sample is repeated over the {write_times(big.shape[1:-1])} positions first"
        sizes = ", ".join(f"{{{other}}}.size({axis})" for axis in range(1, big.rank - 1))
        ones = ", None" * (big.rank - 2)
        return words, fix_operand(ctx, at, f"{{}}[:{ones}].expand(-1, {sizes}, -1)")
    return None


def _explain_halves(pair: Pair, axes: list[int]) -> Diagnosis | None:
    """The even and the odd rows of a map with an odd number of them are not as many."""
    ctx, (first, x) = pair.ctx, pair.both
    makers = [ctx.flow.producer(item.link) for item in (first, x)]
    cut = makers[0]
    if cut is None or any(maker is None or maker.type_name != "getitem" or not maker.inputs for maker in makers):
        return None
    whole = cut.inputs[0].shape
    if len(whole) != first.rank or any(first.shape[axis] + x.shape[axis] != whole[axis] for axis in axes):
        return None
    odd = [axis for axis in range(1, len(whole)) if whole[axis] % 2 and first.shape[axis] == -(-whole[axis] // 2)]
    line = read_line(ctx, cut.source)
    found = re.search(r"= (\w+)\[", line)
    name, fix = found[1] if found is not None else "", NOTHING
    if name and odd:
        order = range(len(whole) - 1, odd[0] - 1, -1)  # F.pad reads them from the last
        pads = ", ".join(f"0, {name}.size({axis}) % 2" if axis in odd else "0, 0" for axis in order)
        fix = place_line(ctx, cut, put_before(line, f"{name} = F.pad({name}, ({pads}))", name))
    sizes = " × ".join(str(whole[axis]) for axis in odd)
    shapes = f"{write_shape(first.shape)} and {write_shape(x.shape)}"
    reason = f"every second of {sizes} and the others between are not as many: {shapes}"
    return Diagnosis(reason, "an even size", fix, STEP)


def _explain_steps(pair: Pair, along: int | None) -> Diagnosis | None:
    """Steps of other numbers of features are joined one behind the other: tokens of words behind those of an image."""
    ctx, (first, x) = pair.ctx, pair.both
    if along is None or first.rank < 3 or pair.axes != [-1] or along == first.rank - 1:
        return None
    made = ((item, call) for item in pair.both for call in ctx.flow.walk_back(item.link, 6))
    if any(call.type_name in CONVOLUTIONS and call.outputs[0].shape == item.shape for item, call in made):
        return None  # signals, whose last dim has no features
    sizes = first.shape[-1], x.shape[-1]
    fixes = [resize_origin(ctx, x, sizes[0]), resize_origin(ctx, first, sizes[1])]
    names = ("embed_dim", "in_features", "d_model")
    readers = {fact.settings.get(name) for fact in ctx.list_unread() for name in names}
    fixes = fixes[::-1] if sizes[1] in readers and sizes[0] not in readers else fixes
    reason = f"the steps have {sizes[0]} features in one and {sizes[1]} in the other"
    return Diagnosis(reason, "steps of equal features", fixes) if any(fixes) else None


#: What works on feature maps.
_OF_MAPS = MAP_LAYERS | functions_of("convolution", "pool", "adaptive pool", "upsampling")


def _explain_made(pair: Pair, axes: list[int]) -> Diagnosis | None:
    """The forward makes a tensor of other sizes than what it is joined with."""
    ctx = pair.ctx
    for x, other, _, there in pair.each():
        maker = ctx.flow.producer(x.link)
        shifted = all(axis and x.shape[axis] == other.shape[axis - 1] for axis in axes) and len(axes) < x.rank
        if maker is not None and shifted and maker.type_name in ("repeat", "expand"):
            line = re.sub(
                r"(\.shape\[|\.size\()([1-9])(?=[\])])",
                lambda found: f"{found[1]}{int(found[2]) + 1}",
                read_line(ctx, maker.source),
            )
            reason = f"{write_shape(x.shape)} was repeated to dims {axes[0] - 1} … of {write_shape(other.shape)}, "
            reason += f"its sides are dims {axes[0]} …"
            return Diagnosis(reason, write_shape(other.shape), place_line(ctx, maker, line))
        if maker is None or maker.type_name not in SIZED_FACTORIES or maker.outputs[0].shape != x.shape:
            continue
        texts = read_arguments(ctx)
        name = find_name(texts[there]) if there < len(texts) else ""
        names = {axis: f"{name}.size({axis})" for axis in range(min(axes), x.rank)} if name else {}
        sizes = tuple(other.shape[axis] if axis in axes else size for axis, size in enumerate(x.shape))
        fix = fix_creation(ctx, x, sizes, names)
        if fix:
            reason = f"{maker.type_name}() makes {write_shape(x.shape)}, the other is {write_shape(other.shape)}"
            return Diagnosis(reason, write_shape(sizes), fix)
    return None


def _explain_cat_axes(pair: Pair, axes: list[int], along: int | None) -> Diagnosis:
    ctx, (first, x) = pair.ctx, pair.both
    if (found := _explain_made(pair, axes)) is not None:
        return found
    if (found := _explain_steps(pair, along) or _explain_halves(pair, axes)) is not None:
        return found
    made = {call.type_name for item in pair.both for call in ctx.flow.walk_back(item.link, 20)}
    are_heads = bool(made & {"transpose", "permute"}) and not made & _OF_MAPS
    is_other_dim = along is not None and len(axes) == 1 and are_heads
    if pair.is_spatial and not is_other_dim:
        if (found := explain_half_pixel(pair) or explain_unstrided(pair) or explain_margin(pair)) is not None:
            return found
        strided, pooled = explain_strided(pair), explain_pooled(pair)
        if strided is not None and pooled is not None:
            return replace(strided, fix=[*strided.fixes, *pooled.fixes])
        enlarged = explain_enlarged(pair) if len(axes) < first.rank - 2 else None  # else rather another level's map
        if (found := strided or pooled or enlarged) is not None:
            return found
    has_one = 1 in (first.shape[axes[0]], x.shape[axes[0]]) and along == first.rank - 1
    if along is not None and (has_one or not is_other_dim) and (ones := explain_ones(pair)) is not None:
        return ones
    words = " and ".join(f"{first.shape[axis]} against {x.shape[axis]} in dim {axis}" for axis in axes)
    joins = (
        f"{ctx.function} concatenates along dim {along}" if along is not None else f"{ctx.function} needs equal shapes"
    )
    reason = f"{words}; {joins}"
    fix = NOTHING
    if len(axes) == 2 and [first.shape[axis] for axis in axes] == [x.shape[axis] for axis in axes[::-1]]:
        turn = f"{{}}.transpose({axes[0]}, {axes[1]})"  # steps first in one, the batch first in the other
        turned = [fix_operand(ctx, ctx.operands.index(item), turn) for item in (x, first)]
        return Diagnosis(reason, "equal sizes in every other dim", turned)
    if along is not None and len(axes) == 1 and (first.rank < 4 or axes[0] < 2 or is_other_dim):
        reason = f"{words}, but {joins}"
        fix = fix_setting(ctx, ctx.function, "dim", 1, axes[0])
    return Diagnosis(reason, "equal sizes in every other dim", fix, () if fix else ANYWHERE)


def explain_lengths(ctx: FailureContext) -> Diagnosis | None:
    """Sequences of several lengths are stacked."""
    shapes = [x.shape for x in ctx.operands]
    if ctx.function != "stack" or not all(shapes) or len({shape[1:] for shape in shapes}) != 1:
        return None
    if ctx.arguments.get("dim", 0) not in (0, 1):
        return None
    lengths = ", ".join(map(str, dict.fromkeys(shape[0] for shape in shapes)))
    items = _find_list(ctx.line, "stack")
    reason = f"{len(shapes)} sequences of lengths {lengths}: stack needs equal ones, pad_sequence pads to the longest"
    wanted = (len(shapes), max(shape[0] for shape in shapes), *shapes[0][1:])
    is_first = "True" if ctx.arguments.get("dim", 0) == 0 else "False"
    new = f"nn.utils.rnn.pad_sequence({items[1]}, batch_first={is_first})" if items is not None else ""
    fix = fix_line(ctx, splice_node(ctx.line, items[0], new) if items is not None else "")
    return Diagnosis(reason, write_shape(wanted), fix)


def explain_shrinking(ctx: FailureContext) -> Diagnosis | None:
    """Signals that convolutions without padding made shorter one by one are stacked: each is cut to the last."""
    shapes = [x.shape for x in ctx.operands]
    lengths = [shape[-1] for shape in shapes if len(shape) == 3]
    is_one_kind = len(lengths) == len(shapes) and len({shape[:2] for shape in shapes}) == 1
    if ctx.function != "stack" or not is_one_kind or lengths != sorted(lengths, reverse=True):
        return None
    items = _find_list(ctx.line, "stack")
    reason = f"{len(shapes)} signals of {', '.join(map(str, lengths))} steps: each was made from a shorter one"
    if items is None or not items[1].isidentifier():
        return Diagnosis(reason, f"{lengths[-1]} steps each")
    cut = f"[item[..., -{items[1]}[-1].size(-1):] for item in {items[1]}]"
    return Diagnosis(reason, f"{lengths[-1]} steps each", fix_line(ctx, splice_node(ctx.line, items[0].args[0], cut)))


def explain_crops(ctx: FailureContext, axes: list[int], along: int | None) -> Diagnosis | None:
    """Images of several sizes are joined along the batch, to be run at once, or maps of a list along the channels."""
    shapes = [x.shape for x in ctx.operands]
    if along not in (0, 1) or any(len(shape) != 4 for shape in shapes) or any(axis < 2 for axis in axes):
        return None
    if along and len({shape[1] for shape in shapes}) > 1:
        return None
    sizes = " and ".join(dict.fromkeys(write_times(shape[2:]) for shape in shapes))
    items = _find_list(ctx.line, ctx.function)
    reason = f"cat joins {'maps' if along else 'batches of images'} of one size, and these are {sizes}"
    expected = f"images of {write_times(shapes[0][2:])}, or a run for each"
    name = items[1] if items is not None else ""
    if items is None or not name.isidentifier():
        return None if along else Diagnosis(reason, expected)
    outer = [
        node for node in find_nodes(ctx.line, ast.Call) if len(node.args) == 1 and not node.keywords
        and ast.dump(node.args[0]) == ast.dump(items[0]) and ast.unparse(node.func).startswith("self.")
    ]  # fmt: skip
    called = ast.unparse(items[0].func)
    each = f"{called}([{ast.unparse(outer[0].func)}(item) for item in {name}])" if outer else ""
    rest = "".join(f", {ast.unparse(item)}" for item in (*items[0].args[1:], *items[0].keywords))
    alike = f"{called}([F.interpolate(item, size={name}[0].shape[2:]) for item in {name}]{rest})"
    fixes = [fix_line(ctx, splice_node(ctx.line, outer[0], each))] if outer and not along else []
    fixes.append(fix_line(ctx, splice_node(ctx.line, items[0], alike)))
    return Diagnosis(reason, expected, fixes)


def _find_list(line: str, function: str) -> tuple[ast.Call, str] | None:
    """Find the one call of a function in a line, and what it is given first."""
    calls = [node for node in find_nodes(line, ast.Call) if node.args and read_name(node.func) == function]
    return (calls[0], read_text(line, calls[0].args[0])) if len(calls) == 1 else None
