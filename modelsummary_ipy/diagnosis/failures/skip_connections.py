"""Skip connections: what they bypass changes the shape, and they have no layer of their own, or one that does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, Operand, Pair, name_call
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_giver,
    fix_operand,
    read_arguments,
    remake,
    resize_operand,
    set_made,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.setters import find_conditions, find_module, list_tests
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, LINEARS, LOSSES, POOLS, TRANSPOSED_CONVOLUTIONS
from modelsummary_ipy.model.torch_layers import OUTPUT_SETTINGS
from modelsummary_ipy.records.fixes import Candidate, LayerEdit
from modelsummary_ipy.records.trace import Call, Link, ModuleFact, join_path


def explain_residual(pair: Pair) -> Diagnosis | None:
    """A skip connection past layers that changed the channels or strided: it needs a layer of its own."""
    ctx, (left, right), places, axes = pair
    rank = left.rank
    if rank != right.rank or ctx.function in LOSSES:  # a target is no skip connection
        return None
    if not ctx.flow.sources(left.link) & ctx.flow.sources(right.link):
        return None
    made = [_find_origin(ctx, x) for x in (left, right)]
    skip, main, place = (left, right, places[0]) if made[0] < made[1] else (right, left, places[1])
    channels = rank + axes[-1] == 1 or -(rank - 1) in axes
    path = join_path(ctx.call.path, "shortcut")
    if rank == 4 or (rank == 3 and _is_convolved(ctx, main)):
        strides = {find_stride(skip.shape[axis], main.shape[axis]) for axis in axes if rank + axis >= 2}
        if None in strides or len(strides) > 1:
            return None
        stride = strides.pop() if strides else 1
        if -rank in axes or (stride != 1 and _is_only_unpadded(ctx, main)):
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
    elif axes == [-1] and _has_features(ctx, skip):
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
    larger = NOTHING if channels or rank < 4 else resize_operand(ctx, sum(places) - place, place)
    ways = [_skip_nothing(ctx), fix, narrowed, replace(larger, rank=1)]
    return Diagnosis(reason, f"{write_shape(main.shape)} on both sides", ways)


def _is_only_unpadded(ctx: FailureContext, main: Operand) -> bool:
    """Return whether the last layer that made a map smaller is a convolution that does not stride: it is not padded."""
    for call in ctx.flow.walk_back(main.link, 20):
        before, after = ([spec.shape[2:] for spec in specs[:1]] for specs in (call.inputs, call.outputs))
        if before and after and before != after and len(call.inputs[0].shape) == main.rank:
            fact = ctx.flow.module_of(call)
            is_convolution = fact is not None and fact.type_name in CONVOLUTIONS
            return is_convolution and fact is not None and set(fact.settings.get("stride", ())) == {1}
    return False


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
    return set_value(join_path(fact.path, names[0]), "False") if len(names) == 1 else NOTHING


def explain_shortcut(pair: Pair) -> Diagnosis | None:
    """A skip connection has a layer of its own, which does not stride as the layers do that it bypasses."""
    ctx, axes = pair.ctx, pair.axes
    for skip, main, *_ in pair.each() if pair.is_spatial else ():
        strides = {find_stride(skip.shape[axis], main.shape[axis]) for axis in axes}
        layer = _find_shortcut(ctx, skip)
        stride = strides.pop()
        own = f"{ctx.fact.path}." if ctx.fact is not None and ctx.fact.path else ""
        if strides or stride is None or stride < 2 or layer is None or not layer.path.startswith(own):
            continue
        sides = f"{skip.shape[axes[0]]} against {main.shape[axes[0]]}"
        reason = f"'{layer.path}' of the skip connection has stride 1, the layers that it bypasses {stride}: {sides}"
        fix = remake(ctx, layer, stride=(stride,) * (main.rank - 2))
        return Diagnosis(reason, f"{write_shape(main.shape)} on both sides", fix)
    return None


def explain_unstrided(pair: Pair) -> Diagnosis | None:
    """A convolution of the failing line keeps the size, and what it is added to is as many times smaller as a stride.

    Beside a smaller branch that a layer of the same module gave a layer of its own would stride; a lateral one of
    kernel 1 would not.
    """
    ctx, axes = pair.ctx, pair.axes
    for fine, coarse, place, _ in pair.each() if pair.is_spatial else ():
        made = (call for call in ctx.flow.walk_back(fine.link, 4) if call.type_name in CONVOLUTIONS)
        call = next(made, None)
        fact = ctx.flow.module_of(call)
        texts = read_arguments(ctx)
        if coarse.shape[-1] == 1 or fact is None or call is None or call.type_name in TRANSPOSED_CONVOLUTIONS:
            continue
        strides = [find_stride(*sizes) for sizes in zip(fine.shape[2:], coarse.shape[2:], strict=True)]
        kernel, had = fact.settings.get("kernel_size"), fact.settings.get("stride")
        lines = [(outer.source, outer.parent) for outer in (call, *ctx.flow.around(call))]
        is_here = (ctx.call.source, ctx.call.parent) in lines and place < len(texts) and "(" in texts[place]
        if not is_here or not isinstance(kernel, tuple) or None in strides or had != (1,) * len(strides):
            continue
        if all(side > 1 for side, stride in zip(kernel, strides, strict=True) if stride != 1):
            sides = f"{fine.shape[axes[0]]} against {coarse.shape[axes[0]]}"
            times = max(stride or 1 for stride in strides)
            reason = f"'{fact.path}' has stride 1, and the other branch is {times} times smaller: {sides}"
            fix = remake(ctx, fact, stride=tuple(strides))
            return Diagnosis(reason, f"{write_shape(coarse.shape)} on both sides", fix)
    return None


def explain_coarser(pair: Pair) -> Diagnosis | None:
    """A coarser map is added to a finer one, as in a pyramid or a decoder, and was not enlarged to it.

    What a block reads, and adds to what its layers made of it, is left to the explanations of skip connections. So is
    what a classifier adds, whose maps only become coarser.
    """
    ctx, axes = pair.ctx, pair.axes
    for fine, coarse, there, at in pair.each() if pair.is_spatial else ():
        strides = [find_stride(fine.shape[axis], coarse.shape[axis]) for axis in axes]
        if any(stride is None or stride < 2 for stride in strides) or not _is_convolved(ctx, coarse):
            continue
        last = [fact for fact in ctx.trace.modules if not fact.children][-1:]
        is_classifier = any(fact.type_name in LINEARS for fact in last) and "up" not in ctx.line
        if is_classifier or _bypasses_block(ctx, fine, coarse):
            return None
        sizes = f"{coarse.shape[axes[0]]} against {fine.shape[axes[0]]}"
        reason = f"the coarser map is not enlarged to the finer: {sizes}"
        return Diagnosis(reason, f"{write_shape(fine.shape[2:])} on both sides", resize_operand(ctx, at, there))
    return None


def _bypasses_block(ctx: FailureContext, skip: Operand, main: Operand) -> bool:
    """Return whether a skip connection is what a block reads, past a convolution of kernel 1 at most."""
    block, link, layers = ctx.parent, skip.link, 0
    if block is None:
        return False
    while link is not None and link not in block.input_links:
        call = ctx.flow.producer(link)
        fact = ctx.flow.module_of(call)
        if call is None or (fact is not None and {*fact.settings.get("kernel_size", (1,))} != {1}):
            return False
        layers += call.type_name in CONVOLUTIONS
        link = call.input_links[0] if call.input_links and layers < 2 else None
    is_block = bool(block.path) or layers == 1  # what a whole model adds to its input is an image again
    return is_block and link is not None and _reads(ctx, main, link)


def _reads(ctx: FailureContext, x: Operand, link: Link) -> bool:
    """Return whether the module whose code failed made a tensor of another one, which it was given."""
    given = set(ctx.parent.input_links) if ctx.parent is not None else set()
    links = [x.link]
    for found in links:
        call = ctx.flow.producer(found) if found not in given else None
        links += [each for each in (call.input_links if call is not None else ()) if each not in links]
    return link in links


def explain_enlarged(pair: Pair) -> Diagnosis | None:
    """A transposed convolution, or an Upsample, enlarges more or less often than the other map is larger."""
    ctx = pair.ctx
    newest = sorted(pair.each(), key=lambda item: -1 if item[0].link is None else item[0].link.call, reverse=True)
    for x, other, *_ in newest if pair.is_spatial else ():  # what was made last, and not the sum of others
        call = next(
            (c for c in ctx.flow.walk_back(x.link, 3) if c.inputs and c.inputs[0].shape[2:] != x.shape[2:]), None
        )
        fact = ctx.flow.module_of(call)
        if call is None or call.outputs[0].shape[2:] != x.shape[2:] or len(call.inputs[0].shape) != x.rank:
            continue
        had, factors = (
            tuple(find_stride(big, small) or 0 for big, small in zip(sides, call.inputs[0].shape[2:], strict=True))
            for sides in (x.shape[2:], other.shape[2:])
        )
        if min(had) < 2 or 0 in factors or max(factors) < 2:
            continue
        if call.type_name == "interpolate" and len({*factors}) == 1:
            fix, name = set_made(ctx, call, "scale_factor", 2, str(factors[0])), "interpolate"
        elif fact is not None:
            fix, name = _enlarge(ctx, fact, factors), f"'{fact.path}'"
        else:
            continue
        if fix:
            sides = [write_times(tensor.shape[2:]) for tensor in (x, other)]
            times = [str(some[0]) if len({*some}) == 1 else write_times(some) for some in (had, factors)]
            reason = f"{name} enlarges {times[0]} times to {sides[0]}, {times[1]} times to the other's {sides[1]}"
            return Diagnosis(reason, f"two feature maps of {write_shape(other.shape[2:])}", fix)
    return None


def _enlarge(ctx: FailureContext, fact: ModuleFact, factors: tuple[int, ...]) -> Candidate:
    """Let a transposed convolution or an Upsample enlarge each side some times."""
    kernel = fact.settings.get("kernel_size")
    if fact.type_name in TRANSPOSED_CONVOLUTIONS and isinstance(kernel, tuple) and len(set(kernel)) == 1:
        wide = [kernel[0] if kernel[0] >= factor and (kernel[0] - factor) % 2 == 0 else factor for factor in factors]
        padding = tuple((side - factor) // 2 for side, factor in zip(wide, factors, strict=True))
        sized = {"kernel_size": tuple(wide), "stride": factors, "padding": padding}
        return remake(ctx, fact, **sized, output_padding=(0,) * len(factors))
    if fact.type_name == "Upsample" and fact.settings.get("scale_factor"):
        return _upsample(fact, f"scale_factor={factors if len({*factors}) > 1 else factors[0]}")
    return NOTHING


def _upsample(fact: ModuleFact, sides: str) -> Candidate:
    """Let an Upsample enlarge to other sides, in the same way."""
    options = {name: fact.settings.get(name) for name in ("mode", "align_corners")}
    kept = "".join(f", {name}={value!r}" for name, value in options.items() if value not in (None, "nearest"))
    return set_value(fact.path, f"nn.Upsample({sides}{kept})")


def explain_upsampling(pair: Pair) -> Diagnosis | None:
    """A layer enlarges to a size that is written down, and the input has another."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        for call in ctx.flow.walk_back(x.link, 6):
            fact = ctx.flow.module_of(call)
            size = fact.settings.get("size") if fact is not None and call.type_name == "Upsample" else None
            if fact is None or size is None or call.outputs[0].shape[2:] != x.shape[2:] or x.rank != other.rank:
                continue
            sides = [write_times(tensor.shape[2:]) for tensor in (x, other)]
            reason = f"'{fact.path}' enlarges to {sides[0]}, the other has {sides[1]}"
            fix = _upsample(fact, f"size={other.shape[2:]}")
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
    """Return the call that made a tensor, apart from those that only pass it on or pool it."""
    link = x.link
    while link is not None and link.call >= 0:
        call, fact = ctx.trace.calls[link.call], ctx.flow.module_of(ctx.trace.calls[link.call])
        passes = fact is not None and not fact.children and fact.type_name in ("Identity", "Sequential")
        if not passes and call.type_name not in POOLS:
            break
        link = call.input_links[0]
    return link.call if link is not None else -2


def _has_features(ctx: FailureContext, skip: Operand) -> bool:
    """Return whether the last dim of a skip connection has features: it is no difference or cut of positions."""
    origin = ctx.flow.find_origin(skip.link, skip.shape, -1, OUTPUT_SETTINGS)
    return origin is None or origin.kind == "module" or origin.type_name not in ("sub", "getitem", "diff")


def _find_identity(ctx: FailureContext, x: Operand) -> str:
    """Return the path of the Identity or the empty Sequential that a skip went through last; ``""`` if none."""
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
    return join_path(fact.path, unset) if unset else ""


def _is_convolved(ctx: FailureContext, x: Operand) -> bool:
    return any(call.type_name in CONVOLUTIONS for call in ctx.flow.walk_back(x.link, 8))


@dataclass(frozen=True)
class Lost:
    """A call that rounded a size down.

    Attributes:
        call: The call.
        before, after: The size of the axis.
        stride: By what it divides.
    """

    call: Call
    before: int
    after: int
    stride: int


def find_stride(before: int, after: int) -> int | None:
    """Return by what ``before`` was divided, rounding either way; ``None`` if by no integer."""
    for stride in (1, 2, 4, 8, 16, 32, 3):
        if after == -(-before // stride):
            return stride
    return before // after if after and not before % after else None


def find_lost(ctx: FailureContext, left: Operand, right: Operand, axis: int) -> tuple[Lost, bool] | None:
    """Find the call that divided an odd size on the way to one of two feature maps that should be equal.

    Args:
        left, right: The two feature maps.
        axis: The axis they differ on, counted from the end.

    Returns:
        The call that read one of the other one's size, or else the last that rounded, and whether it led to
        ``left``; ``None`` if none did.
    """
    found: list[tuple[bool, Lost, bool]] = []
    for x, other, is_left in ((left, right, True), (right, left, False)):
        for call in sorted(ctx.flow.before(x.link), key=lambda call: -call.index):
            lost = _read(call, axis)
            if lost is not None and not ctx.flow.leads_to(call, other.link):
                found.append((lost.before == other.shape[axis], lost, is_left))
    best = max(found, key=lambda item: (item[0], item[1].call.index), default=None)
    return (best[1], best[2]) if best is not None else None


def _read(call: Call, axis: int) -> Lost | None:
    if not call.inputs or not call.outputs:
        return None
    before, after = call.inputs[0].shape, call.outputs[0].shape
    if len(before) != len(after) or len(before) < -axis or len(before) < 3:
        return None
    size, made = before[axis], after[axis]
    if made == 0 or size < 2 * made - 1 or size == made:
        return None
    stride = round(size / made)
    return Lost(call, size, made, stride) if stride > 1 and size % stride else None


def write_lost(lost: Lost) -> str:
    """``"'down1' (MaxPool2d) reduced 25 to 12, and 25 / 2 is 12.5"``."""
    divided = f"{lost.before} / {lost.stride} is {lost.before / lost.stride:g}"
    return f"{name_call(lost.call)} reduced {lost.before} to {lost.after}, and {divided}"
