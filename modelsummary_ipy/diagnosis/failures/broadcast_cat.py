"""Operations on several tensors: sums and products that don't broadcast, cat and stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.alignment import (
    explain_bias,
    explain_channels,
    explain_margin,
    explain_ones,
    explain_order,
    explain_pieces,
    explain_pooled,
    explain_strided,
    explain_table,
    explain_vector,
)
from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    NOTHING,
    STEP,
    Diagnosis,
    FailureContext,
    Operand,
)
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_creation,
    fix_giver,
    fix_operand,
    fix_setting,
    name_input_size,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.lost_pixels import find_lost, find_stride, write_lost
from modelsummary_ipy.diagnosis.failures.module_code import write_module
from modelsummary_ipy.diagnosis.failures.setters import find_conditions, find_module, list_tests
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import (
    CONVOLUTIONS,
    EMBEDDINGS,
    LINEARS,
    LOSSES,
    RECURRENTS,
    SIZED_FACTORIES,
)
from modelsummary_ipy.records.fixes import Candidate, LayerEdit
from modelsummary_ipy.records.trace import ModuleFact

__all__ = ["explain_broadcast", "explain_cat", "find_clashes"]

_ELEMENTWISE = frozenset(
    """add sub mul div pow add_ sub_ mul_ div_ maximum minimum where lerp addcmul eq ne lt le gt ge logical_and
    kl_div logical_or and or xor masked_fill masked_fill_ fmod remainder atan2 floordiv copy_ expand_as mse_loss l1_loss
    smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits cosine_similarity
    pairwise_distance""".split()  # noqa: SIM905  # words, not a list
)


def explain_broadcast(ctx: FailureContext) -> Diagnosis | None:
    """Explain two tensors whose sizes can't be broadcast."""
    if ctx.function not in _ELEMENTWISE or len(ctx.operands) < 2:
        return None
    for index, left in enumerate(ctx.operands):
        for other, right in enumerate(ctx.operands[index + 1 :], index + 1):
            axes = find_clashes(left.shape, right.shape)
            if axes:
                return _explain_pair(ctx, (index, other), left, right, axes)
    return None


def find_clashes(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Return the dims, counted from the end as negative numbers, in which two shapes can't be broadcast."""
    shared = min(len(left), len(right))
    return [-i for i in range(1, shared + 1) if left[-i] != right[-i] and 1 not in (left[-i], right[-i])]


def _explain_pair(
    ctx: FailureContext, places: tuple[int, int], left: Operand, right: Operand, axes: list[int]
) -> Diagnosis:
    rank = max(left.rank, right.rank)
    expected = "equal sizes, or 1, in every dim"
    found = explain_channels(ctx, places, (left, right)) if left.rank != right.rank else None
    if found is None and left.rank != right.rank:
        found = _explain_missing_axes(ctx, places, left, right)
    found = found or _explain_constant(ctx, (left, right)) or explain_order(ctx, places, (left, right))
    found = found or explain_bias(ctx, (left, right), axes) or explain_table(ctx, places, (left, right), axes)
    if found is not None:
        return found
    spatial = [axis for axis in axes if rank + axis >= 2] if rank > 2 else []
    if spatial and left.rank == right.rank:
        halved = explain_half_pixel(ctx, places, left, right, spatial)
        if halved is not None and len(spatial) == len(axes):
            return halved
    compares = ctx.function in LOSSES or ctx.function in ("mul", "div")
    if axes == [-1] and compares and (found := _explain_widths(ctx, (left, right))) is not None:
        return found
    if len(axes) == 1 and (pieces := explain_pieces(ctx, (left, right), axes[0])) is not None:
        return pieces
    if len(axes) == 1 and (vector := explain_vector(ctx, (left, right), axes[0])) is not None:
        return vector
    if left.rank == right.rank:
        residual = _explain_upsampling(ctx, (left, right)) or _explain_shortcut(ctx, (left, right), axes)
        if residual is None and ctx.function not in LOSSES:  # a target is no skip connection
            residual = _explain_residual(ctx, places, left, right, axes)
        margin = residual or explain_margin(ctx, places, (left, right), axes)
        margin = margin or (explain_pooled(ctx, places, (left, right), axes) if len(spatial) == len(axes) else None)
        if margin is not None:
            return margin
    if axes == [-2] and left.rank == right.rank == 2 and ctx.function in ("add", "sub", "mul"):
        wanted = (left.shape[0], right.shape[0], left.shape[1])
        reason = f"{left.shape[0]} rows against {right.shape[0]}: each with each of the others is {write_shape(wanted)}"
        return Diagnosis(reason, expected, fix_operand(ctx, places[0], "{}.unsqueeze(1)"), ANYWHERE)
    words = " and ".join(
        f"dim {rank + axis}: {left.shape[axis]} against {right.shape[axis]}" for axis in reversed(axes)
    )
    return Diagnosis(words, expected, NOTHING, ANYWHERE)


def _explain_constant(ctx: FailureContext, pair: tuple[Operand, Operand]) -> Diagnosis | None:
    """A tensor that the forward makes of fixed sizes does not have the other's."""
    for x, other in (pair, pair[::-1]):
        maker = ctx.flow.producer(x.link)
        if maker is None or maker.type_name not in SIZED_FACTORIES or x.rank != other.rank:
            continue
        name = name_input_size(ctx, other.shape[0])
        fix = fix_creation(ctx, x, other.shape, {0: name} if name else {})
        if fix:
            reason = f"{maker.type_name}() makes {write_shape(x.shape)}, the other is {write_shape(other.shape)}"
            return Diagnosis(reason, write_shape(other.shape), fix)
    return None


def _explain_widths(ctx: FailureContext, pair: tuple[Operand, Operand]) -> Diagnosis | None:
    """A loss compares, or a product takes, what two layers of different widths give."""
    (left, right), sizes = pair, [x.shape[-1] for x in pair]
    verb = "compares" if ctx.function in LOSSES else "takes"
    reason = f"{ctx.function} {verb} numbers one to one: {write_shape(left.shape)} against {write_shape(right.shape)}"
    fixes = [fix for fix in (fix_giver(ctx, right, sizes[0]), fix_giver(ctx, left, sizes[1])) if fix]
    return Diagnosis(reason, "equal shapes", fixes[0], others=tuple(fixes[1:])) if fixes else None


def _explain_missing_axes(
    ctx: FailureContext, places: tuple[int, int], left: Operand, right: Operand
) -> Diagnosis | None:
    """One tensor has fewer dims, and one more of size 1 in the right place would work."""
    small, big, place = (left, right, places[0]) if left.rank < right.rank else (right, left, places[1])
    missing = big.rank - small.rank
    fitting = [
        at
        for at in range(small.rank + 1)
        if not find_clashes((*small.shape[:at], *[1] * missing, *small.shape[at:]), big.shape)
    ]
    if not fitting:
        return None
    at = max(fitting, key=lambda a: sum(x == y for x, y in zip(small.shape[:a], big.shape, strict=False)))
    is_mask = small.spec.dtype == "bool" and small.shape[-1] == big.shape[-1]
    if is_mask:  # a mask is of the keys, which the softmax runs over
        at = max(a for a in fitting if a < small.rank) if any(a < small.rank for a in fitting) else at
    template = f"{{}}.unsqueeze({at})"
    if missing > 1:
        index = ", ".join([":"] * at + ["None"] * missing)
        template = f"{{}}[{index}]"
    sizes = (*small.shape[:at], *[1] * missing, *small.shape[at:])
    reason = (
        f"{write_shape(small.shape)} is aligned with the last dims of {write_shape(big.shape)}; "
        f"{write_shape(sizes)} would broadcast"
    )
    if is_mask:
        reason += f"; the softmax runs over the last dim, whose {small.shape[-1]} the mask has last"
    others = [fix_operand(ctx, place, f"{{}}.unsqueeze({a})") for a in fitting if a != at and missing == 1]
    return Diagnosis(reason, f"{write_shape(sizes)}", fix_operand(ctx, place, template), others=tuple(others))


def explain_half_pixel(
    ctx: FailureContext, places: tuple[int, int], left: Operand, right: Operand, axes: list[int]
) -> Diagnosis | None:
    """Two feature maps of one origin: between down- and upsampling half a pixel was dropped."""
    gaps = [abs(left.shape[axis] - right.shape[axis]) for axis in axes]
    if not all(0 < gap <= max(2, left.shape[axis] // 4) for gap, axis in zip(gaps, axes, strict=True)):
        return None
    found = find_lost(ctx, left, right, axes[0])
    if found is None:
        return None
    lost, came_from_left = found
    up, other = (places[0], places[1]) if came_from_left else (places[1], places[0])
    kept = right if came_from_left else left
    sides = [write_times([x.shape[axis] for axis in sorted(axes)]) for x in (left, right)]
    where = " and ".join(str(left.rank + axis) for axis in sorted(axes))
    reason = f"{sides[0]} against {sides[1]} in dim {where}: {write_lost(lost)}"
    fix = fix_operand(ctx, up, f"F.interpolate({{}}, size={{{other}}}.shape[2:])")
    return Diagnosis(reason, f"two feature maps of {write_shape(kept.shape[2:])}", fix, STEP)


def _explain_residual(
    ctx: FailureContext, places: tuple[int, int], left: Operand, right: Operand, axes: list[int]
) -> Diagnosis | None:
    """A skip connection past layers that changed the channels or strided: it needs a layer of its own."""
    assert ctx.call is not None
    rank = left.rank
    made = [_find_origin(ctx, x) for x in (left, right)]
    skip, main, place = (left, right, places[0]) if made[0] < made[1] else (right, left, places[1])
    channels = rank + axes[-1] == 1 or -(rank - 1) in axes
    path = f"{ctx.call.path}.shortcut" if ctx.call.path else "shortcut"
    if rank == 4 or (rank == 3 and _is_convolved(ctx, main)):
        strides = {find_stride(skip.shape[axis], main.shape[axis]) for axis in axes if rank + axis >= 2}
        if None in strides or len(strides) > 1:
            return None
        stride = strides.pop() if strides else 1
        if -rank in axes:
            return None
        size = f"{skip.shape[1]}, {main.shape[1]}, 1" + (f", stride={stride}" if stride != 1 else "")
        layer = f"nn.Conv{rank - 2}d({size})"
        causes = []
        if channels:
            causes.append(f"{skip.shape[1]} channels against {main.shape[1]}")
        if stride != 1:
            sides = f"{skip.shape[axes[0]]} against {main.shape[axes[0]]}"
            causes.append(f"stride {stride} in between: {sides}")
        reason = f"the skip connection bypasses layers that change the shape: {'; '.join(causes)}"
    elif axes == [-1]:
        layer = f"nn.Linear({skip.shape[-1]}, {main.shape[-1]})"
        reason = f"the skip connection has {skip.shape[-1]} features, the layers it bypasses output {main.shape[-1]}"
    else:
        return None
    if not ctx.flow.sources(skip.link):
        return None
    passed = _find_identity(ctx, skip) or _find_unset(ctx)
    fix = set_value(passed, layer) if passed else set_value(path, layer) + fix_operand(ctx, place, "self.shortcut({})")
    for other in [] if passed else _list_alike(ctx):  # they run the same line
        fix = set_value(f"{other}.shortcut", "nn.Identity()") + fix
    narrowed = _narrow(ctx, main, skip.shape[axes[0]], axes[0]) if len(axes) == 1 else NOTHING
    options = [option for option in (_skip_nothing(ctx), fix, narrowed) if option]
    first = options[0] if options else NOTHING
    return Diagnosis(reason, f"{write_shape(main.shape)} on both sides", first, others=tuple(options[1:]))


def _narrow(ctx: FailureContext, main: Operand, size: int, axis: int) -> Candidate:
    """Let the bypassed layers end as they began, in every block that is made alike."""
    fix = fix_giver(ctx, main, size, axis)
    edit = fix.edits[0] if fix else None
    if not isinstance(edit, LayerEdit) or ctx.fact is None or not edit.path.startswith(f"{ctx.fact.path}."):
        return fix
    inner, giver = edit.path[len(ctx.fact.path) :], find_module(ctx.trace, edit.path)
    for path in _list_alike(ctx):
        other = find_module(ctx.trace, path + inner)
        if giver is not None and other is not None and other.settings == giver.settings:
            fix = fix + set_value(path + inner, edit.code)
    return fix


def _skip_nothing(ctx: FailureContext) -> Candidate:
    """Do without a skip connection that an attribute of the block asks for: ``self.use_res = False``."""
    fact, source = ctx.fact, ctx.failure.source
    if fact is None or source is None:
        return NOTHING
    names = [name for name in list_tests(source) if fact.settings.get(name) is True]
    return set_value(f"{fact.path}.{names[0]}" if fact.path else names[0], "False") if len(names) == 1 else NOTHING


def _explain_shortcut(ctx: FailureContext, pair: tuple[Operand, Operand], axes: list[int]) -> Diagnosis | None:
    """A skip connection has a layer of its own, which does not stride as the layers do that it bypasses."""
    rank = pair[0].rank
    if rank < 3 or any(rank + axis < 2 for axis in axes):
        return None
    for skip, main in (pair, pair[::-1]):
        strides = {find_stride(skip.shape[axis], main.shape[axis]) for axis in axes}
        layer = _find_shortcut(ctx, skip)
        stride = strides.pop()
        if strides or stride is None or stride < 2 or layer is None:
            continue
        sides = f"{skip.shape[axes[0]]} against {main.shape[axes[0]]}"
        reason = f"'{layer.path}' of the skip connection has stride 1, the layers that it bypasses {stride}: {sides}"
        fix = set_value(layer.path, write_module(layer, ctx.trace, stride=(stride,) * (rank - 2)))
        return Diagnosis(reason, f"{write_shape(main.shape)} on both sides", fix)
    return None


def _explain_upsampling(ctx: FailureContext, pair: tuple[Operand, Operand]) -> Diagnosis | None:
    """A layer enlarges to a size that is written down, and the input has another."""
    for x, other in (pair, pair[::-1]):
        for call in ctx.flow.walk_back(x.link, 6):
            fact = ctx.flow.module_of(call)
            size = fact.settings.get("size") if fact is not None and call.type_name == "Upsample" else None
            if fact is None or size is None or call.outputs[0].shape[2:] != x.shape[2:] or x.rank != other.rank:
                continue
            sides = [write_times(tensor.shape[2:]) for tensor in (x, other)]
            reason = f"'{fact.path}' enlarges to {sides[0]}, the other has {sides[1]}"
            options = {name: fact.settings.get(name) for name in ("mode", "align_corners")}
            kept = "".join(f", {name}={value!r}" for name, value in options.items() if value not in (None, "nearest"))
            fix = set_value(fact.path, f"nn.Upsample(size={other.shape[2:]}{kept})")
            return Diagnosis(reason, f"two feature maps of {write_shape(other.shape[2:])}", fix)
    return None


def _find_shortcut(ctx: FailureContext, skip: Operand) -> ModuleFact | None:
    """Return the convolution of a skip connection that has a layer of its own: of kernel 1 and stride 1."""
    for call in ctx.flow.walk_back(skip.link, 3):
        fact = ctx.flow.module_of(call)
        if fact is not None and call.type_name in CONVOLUTIONS:
            kernel, stride = fact.settings.get("kernel_size"), fact.settings.get("stride")
            is_pointwise = isinstance(kernel, tuple) and set(kernel) == {1}
            return fact if is_pointwise and isinstance(stride, tuple) and set(stride) == {1} else None
    return None


def _list_alike(ctx: FailureContext) -> list[str]:
    """List the paths of the other modules of the class whose code failed."""
    fact = ctx.fact
    same = [other for other in ctx.trace.modules if fact is not None and other.type_name == fact.type_name]
    return [other.path for other in reversed(same) if fact is not None and other.index != fact.index and other.path]


def _find_origin(ctx: FailureContext, x: Operand) -> int:
    """Return the call that made a tensor, an Identity that passed it on apart."""
    link = x.link
    while link is not None and link.call >= 0 and ctx.trace.calls[link.call].type_name == "Identity":
        link = ctx.trace.calls[link.call].input_links[0]
    return link.call if link is not None else -2


def _find_identity(ctx: FailureContext, x: Operand) -> str:
    """Return the path of the Identity or the empty Sequential that a skip went through last; ``""`` if none."""
    assert ctx.call is not None
    for call in reversed(ctx.trace.calls[: ctx.call.index]):
        fact = ctx.flow.module_of(call)
        if fact is None or fact.type_name not in ("Identity", "Sequential") or fact.children:
            continue
        links = (*call.output_links[:1], *call.input_links[:1])
        if call.parent == ctx.call.parent and x.link in links and call.outputs[0].shape == x.shape:
            return str(call.path)
    return ""


def _find_unset(ctx: FailureContext) -> str:
    """Return the path of a projection that a class makes only under a condition, and this module lacks."""
    fact = ctx.fact
    if fact is None:
        return ""
    own = {ctx.trace.modules[child].path.rpartition(".")[2] for child in fact.children}
    unset = next((name for name in find_conditions(fact) if name not in own), "")
    return f"{fact.path}.{unset}" if unset and fact.path else unset


def _is_convolved(ctx: FailureContext, x: Operand) -> bool:
    return any(call.type_name in CONVOLUTIONS for call in ctx.flow.walk_back(x.link, 8))


def explain_cat(ctx: FailureContext) -> Diagnosis | None:
    """Explain tensors that can't be concatenated or stacked."""
    if ctx.function not in ("cat", "concat", "concatenate", "stack", "hstack", "vstack") or len(ctx.operands) < 2:
        return None
    first = ctx.operands[0]
    dim = ctx.arguments.get("dim", 0)
    joins = ctx.function.startswith(("cat", "con")) and isinstance(dim, int) and first.rank > 0
    along = dim % first.rank if joins else None
    for place, x in enumerate(ctx.operands[1:], 1):
        if x.rank != first.rank:
            return _explain_cat_rank(ctx, place, x, along)
        axes = [a for a in range(x.rank) if a != along and x.shape[a] != first.shape[a]]
        if axes:
            return _explain_cat_axes(ctx, place, x, axes, along)
    return None


def _explain_cat_rank(ctx: FailureContext, place: int, x: Operand, along: int | None) -> Diagnosis:
    first = ctx.operands[0]
    small, big, at = (x, first, place) if x.rank < first.rank else (first, x, 0)
    reason = f"{write_shape(small.shape)} has {small.rank} dims, {write_shape(big.shape)} has {big.rank}"
    giver = ctx.flow.producer(big.link)
    is_state = giver is not None and giver.type_name in RECURRENTS and big.link is not None and big.link.leaf > 0
    if is_state and giver is not None and big.shape[1:] == small.shape:
        reason += f": the state of '{giver.path}' has a dim of its layers, the last of which is [-1]"
        return Diagnosis(reason, "tensors of the same rank", fix_operand(ctx, ctx.operands.index(big), "{}[-1]"))
    for axis in range(big.rank):
        grown = (*small.shape[:axis], 1, *small.shape[axis:])
        if len(grown) == big.rank and all(
            one == other for a, (one, other) in enumerate(zip(grown, big.shape, strict=True)) if a != along
        ):
            return Diagnosis(reason, "tensors of the same rank", fix_operand(ctx, at, f"{{}}.unsqueeze({axis})"))
    if small.rank == 2 and big.rank > 2 and along == 1 and set(big.shape[2:]) == {1} and small.shape[0] == big.shape[0]:
        reason += f": {write_shape(big.shape)} is a feature map of one position"
        fix = fix_operand(ctx, place if big is x else 0, "{}.flatten(1)")
        return Diagnosis(reason, "tensors of the same rank", fix)
    if small.rank == 2 and big.rank > 2 and along == 1 and small.shape[0] == big.shape[0]:
        other = ctx.operands.index(big)
        ones = ", None" * (big.rank - 2)
        fix = fix_operand(ctx, at, f"{{}}[:, :{ones}].expand(-1, -1, *{{{other}}}.shape[2:])")
        channels, rest = divmod(small.shape[1], max(math.prod(big.shape[2:]), 1))
        if big.rank > 3 and channels and not rest:
            reason += f": {small.shape[1]} numbers are {channels} × {write_times(big.shape[2:])}, a map of that size"
            mapped = fix_operand(ctx, at, f"{{}}.unflatten(1, ({channels}, *{{{other}}}.shape[2:]))")
            return Diagnosis(reason, "tensors of the same rank", mapped, others=(fix,))
        if big.rank == 3 and giver is not None and giver.type_name in EMBEDDINGS | LINEARS | RECURRENTS:
            reason += f": '{giver.path}' gives steps of {big.shape[2]} features, which are pooled first"
            return Diagnosis(reason, "tensors of the same rank", fix_operand(ctx, other, "{}.mean(1)"))
        axes = tuple(range(2, big.rank)) if big.rank > 3 else 2
        pooled = fix_operand(ctx, other, f"{{}}.mean({axes})")
        return Diagnosis(
            f"{reason}: a vector is repeated over the positions first, or the feature map pooled",
            "tensors of the same rank", fix, others=(pooled,),
        )  # fmt: skip
    return Diagnosis(reason, "tensors of the same rank", NOTHING, ANYWHERE)


def _explain_cat_axes(ctx: FailureContext, place: int, x: Operand, axes: list[int], along: int | None) -> Diagnosis:
    first = ctx.operands[0]
    rank = first.rank
    if rank > 2 and all(axis >= 2 for axis in axes):
        halved = explain_half_pixel(ctx, (0, place), first, x, [axis - rank for axis in reversed(axes)])
        pair, back = (first, x), [axis - rank for axis in reversed(axes)]
        halved = halved or explain_margin(ctx, (0, place), pair, back)
        strided = explain_strided(ctx, pair) if halved is None else None
        pooled = explain_pooled(ctx, (0, place), pair, back) if halved is None else None
        if strided is not None and pooled is not None:
            return replace(strided, others=(pooled.fix, *pooled.others))
        if (found := halved or strided or pooled) is not None:
            return found
    if (
        along is not None
        and len(axes) == 1
        and (ones := explain_ones(ctx, (0, place), (first, x), axes[0])) is not None
    ):
        return ones
    words = " and ".join(f"{first.shape[axis]} against {x.shape[axis]} in dim {axis}" for axis in axes)
    joins = (
        f"{ctx.function} concatenates along dim {along}" if along is not None else f"{ctx.function} needs equal shapes"
    )
    reason = f"{words}; {joins}"
    fix = NOTHING
    if along is not None and len(axes) == 1 and (rank < 4 or axes[0] < 2):
        reason = f"{words}, but {joins}"
        fix = fix_setting(ctx, ctx.function, "dim", 1, axes[0])
    return Diagnosis(reason, "equal sizes in every other dim", fix, () if fix else ANYWHERE)
