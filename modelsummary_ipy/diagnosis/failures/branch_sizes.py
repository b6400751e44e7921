"""Two feature maps or signals of different sizes: what padding, strides and kernels of their branches did to them."""

from __future__ import annotations

import ast
import functools
import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.constructions import list_constructions
from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.decoder_grid import explain_grid
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_operand,
    list_names,
    place_line,
    read_arguments,
    read_line,
    remake,
    resize_operand,
    wrap_made,
)
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword, wrap_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import read_call
from modelsummary_ipy.diagnosis.failures.statements import find_function
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, POOLS, TRANSPOSED_CONVOLUTIONS
from modelsummary_ipy.model.torch_layers import spatial_dims
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, ModuleFact


def explain_margin(pair: Pair) -> Diagnosis | None:
    """One of two maps or signals is larger by what convolutions without padding took off, or with padding put on."""
    if not pair.is_spatial:
        return None
    (ctx, both, places, axes), large = pair, pair.find_larger()
    big, small = both[large], both[1 - large]
    rank = big.rank
    gaps = {big.shape[axis] - small.shape[axis] for axis in axes}
    gap = gaps.pop()
    makers = [call.type_name for x in both for call in ctx.flow.walk_back(x.link, 12)]
    if gaps or gap < 1 or not CONVOLUTIONS.intersection(makers):
        return None
    sides = [write_times([x.shape[axis] for axis in sorted(axes)]) for x in (big, small)]
    if 2 * gap >= big.shape[axes[0]]:  # rather a stride, unless there is none
        return explain_branches(ctx, both)
    if (found := explain_grid(ctx, both)) is not None:
        return found
    if (found := explain_output_padding(pair) or explain_branches(ctx, both)) is not None:
        return found
    if rank == 3:
        name = _find_padded(ctx, big)
        reason = f"{sides[0]} against {sides[1]} in dim 2" + (
            f": '{name}' pads by {gap} more than it takes off" if name else ""
        )
        newest = f"{{}}[..., -{{{places[1 - large]}}}.size(-1):]"  # what is left of no padding is of the past
        oldest = f"{{}}[..., :{{{places[1 - large]}}}.size(-1)]"
        templates = [f"{{}}[..., :-{gap}]", oldest] if name else [newest]
        if _begins_as_number(ctx, places[large]):
            templates.append(f"({newest} if torch.is_tensor({{}}) else {{}})")
        cropped, padded = [fix_operand(ctx, places[large], cut) for cut in templates], _pad_before(ctx, small, gap)
        fixes = [*cropped, replace(padded, rank=1)] if _crops(ctx) else [padded, *cropped]
        return Diagnosis(reason, "signals of one length", fixes)
    before, after = gap // 2, gap - gap // 2
    margin = f"{before}:-{after}" if before else f":-{after}"
    cuts = ", ".join(margin if axis in axes else ":" for axis in range(2 - rank, 0))
    where = " and ".join(str(rank + axis) for axis in sorted(axes))
    reason = f"{sides[0]} against {sides[1]} in dim {where}: convolutions without padding took {gap} off the way"
    fixes = [
        fix_operand(ctx, places[large], f"{{}}[:, :, {cuts}]"),
        resize_operand(ctx, places[large], places[1 - large]),
    ]
    return Diagnosis(reason, f"two feature maps of {write_shape(small.shape[2:])}", fixes)


def explain_branches(ctx: FailureContext, operands: Sequence[Operand]) -> Diagnosis | None:
    """Convolutions and pools of some branches lack the padding that keeps the size, which those of others have."""
    operands = sorted(operands, key=lambda x: x.shape[2:], reverse=True)
    goal = next((call.inputs[0].shape[2:] for call in _list_convolutions(ctx, operands[0])[:1]), operands[0].shape[2:])
    layers: list[tuple[ModuleFact, tuple[int, ...]]] = []
    for x in operands:
        found = _list_shrinking(ctx, x, goal)
        if found is None:
            return None
        layers += found
    if len(operands) == 2 and len(layers) > 2:  # of many it is not said which
        return None
    sides = list(dict.fromkeys(write_times(x.shape[2:]) for x in operands))
    return _pad(ctx, layers, [sides[0], " and ".join(sides[1:])])


def _list_shrinking(
    ctx: FailureContext, x: Operand, goal: tuple[int, ...]
) -> list[tuple[ModuleFact, tuple[int, ...]]] | None:
    """List the layers that made a map smaller than ``goal``, each with the padding that keeps the size."""
    layers: list[tuple[ModuleFact, tuple[int, ...]]] = []
    now = x.shape[2:]
    for call in ctx.flow.walk_back(x.link, 12) if now != goal else ():
        fact = ctx.flow.module_of(call)
        before, after = call.inputs[0].shape[2:] if call.inputs else (), call.outputs[0].shape[2:]
        if before == after or fact is None or call.type_name not in CONVOLUTIONS | POOLS:
            continue
        padding = _find_same_padding(fact)
        if padding is None or after != now or call.type_name in TRANSPOSED_CONVOLUTIONS:
            return None
        layers.insert(0, (fact, padding))
        now = before
        if now == goal:
            break
    return layers if now == goal else None


def _strides_alike(ctx: FailureContext, other: Operand, fact: ModuleFact) -> bool:
    """Return whether the last convolution of the other branch strides as this one: what they read differs."""
    beside = (ctx.flow.module_of(call) for call in _list_convolutions(ctx, other)[:1])
    return any(that is not None and _list_sides(that, "stride") == _list_sides(fact, "stride") for that in beside)


def explain_strided(pair: Pair) -> Diagnosis | None:
    """A pooling or a convolution strides to bring one branch to the size of the other, and by too little or much."""
    ctx = pair.ctx
    for x, other, *_ in pair.each() if pair.is_spatial else ():
        makers = ((call, ctx.flow.module_of(call)) for call in ctx.flow.walk_back(x.link, 6))
        striding = (
            (call, fact) for call, fact in makers if fact is not None and set(_list_sides(fact, "stride")) - {1}
        )
        call, fact = next(striding, (None, None))
        if call is None or fact is None or call.outputs[0].shape[2:] != x.shape[2:]:
            continue
        before, strides = call.inputs[0].shape[2:], _list_sides(fact, "stride")
        is_transposed = call.type_name in TRANSPOSED_CONVOLUTIONS
        if is_transposed or any(other.link in call.input_links for call in ctx.flow.walk_back(x.link, 40)):
            continue  # it was made of the other one: it was not enlarged again
        wanted = tuple(-(-size // goal) for size, goal in zip(before, other.shape[2:], strict=True) if goal)
        if _strides_alike(ctx, other, fact) or len(wanted) != len(strides) or 0 in wanted or wanted == strides:
            continue
        sides = [write_times(tensor.shape[2:]) for tensor in (x, other)]
        reason = f"{sides[0]} against {sides[1]}: '{fact.path}' has stride {fact.settings['stride']}"
        stride = wanted if isinstance(fact.settings["stride"], tuple) else wanted[0]
        return Diagnosis(reason, "equal sizes", remake(ctx, fact, stride=stride))
    return None


def _find_same_padding(fact: ModuleFact) -> tuple[int, ...] | None:
    """Return the padding with which a convolution keeps a size; ``None`` if it strides, or its kernel is even."""
    kernels, strides, dilations = (_list_sides(fact, name) for name in ("kernel_size", "stride", "dilation"))
    if not kernels or set(strides) != {1}:
        return None
    if any(kernel % 2 == 0 for kernel in kernels):
        return None
    dilations = dilations or (1,) * len(kernels)  # a mean has none
    return tuple((kernel - 1) * dilation // 2 for kernel, dilation in zip(kernels, dilations, strict=True))


def _list_sides(fact: ModuleFact, name: str) -> tuple[int, ...]:
    """Return a setting per side: a pool's may be one number; ``()`` without it."""
    value = fact.settings.get(name, ())
    return value if isinstance(value, tuple) else (value,) * spatial_dims(fact.type_name)


def _pad(ctx: FailureContext, layers: list[tuple[ModuleFact, tuple[int, ...]]], sides: list[str]) -> Diagnosis | None:
    layers = [(fact, same) for fact, same in layers if _list_sides(fact, "padding") != same]
    if any(_list_sides(fact, "padding") == (2 * same[0],) for fact, same in layers):
        return None  # a causal convolution, whose end is cut off
    if not layers:
        return None
    fixes = [remake(ctx, fact, padding=padding) for fact, padding in layers]
    alike = [remake(ctx, other, padding=padding) for fact, padding in layers for other in _list_alike(ctx, fact)]
    had = [_write_padding(_list_sides(fact, "padding")) for fact, _ in layers]
    names = " and ".join(
        f"'{fact.path}' has padding {padding}, {_write_padding(same)} keeps the size"
        for padding, (fact, same) in zip(had, layers, strict=True)
    )
    reason = f"{sides[0]} against {sides[1]}: {names}"
    ways = [[*fixes, *alike], fixes] if alike else [fixes]
    return Diagnosis(reason, "equal sizes", [functools.reduce(operator.add, way) for way in ways])


def _list_alike(ctx: FailureContext, fact: ModuleFact) -> list[ModuleFact]:
    """List the layers of other blocks of its class that are as unpadded as one of a block is."""
    path = fact.path.rpartition(".")
    kinds = {other.path: other.type_name for other in ctx.trace.modules}
    return [
        other for other in ctx.trace.modules
        if other is not fact and other.type_name == fact.type_name and path[0]
        and other.path.rpartition(".")[2] == path[2] and kinds.get(other.path.rpartition(".")[0]) == kinds.get(path[0])
        and all(other.settings[name] == fact.settings[name] for name in ("kernel_size", "stride", "padding"))
        and kinds.get(path[0]) not in ("Sequential", "ModuleList")
    ]  # fmt: skip


def _write_padding(padding: tuple[int, ...]) -> str:
    """``"1"``, or ``"(1, 0)"`` where the sides differ."""
    return str(padding[0]) if len(set(padding)) == 1 else str(padding)


def _list_convolutions(ctx: FailureContext, x: Operand) -> list[Call]:
    return [call for call in ctx.flow.walk_back(x.link, 12) if call.type_name in CONVOLUTIONS and call.inputs]


def explain_spectrum(pair: Pair) -> Diagnosis | None:
    """``irfft`` gives an even number of samples unless it is told how many there were."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        back = next((call for call in ctx.flow.walk_back(x.link, 20) if call.type_name == "fft_irfft"), None)
        before = ctx.trace.calls[: back.index] if back is not None else ()
        there = next((call for call in reversed(before) if call.type_name == "fft_rfft"), None)
        if back is None or there is None or x.rank != other.rank or x.shape[-1] != other.shape[-1] - 1:
            continue
        given, _ = read_call(read_line(ctx, there.source), "rfft")
        if not given or not given[0].isidentifier():
            continue
        line = add_keyword(read_line(ctx, back.source), "irfft", "n", f"{given[0]}.size(-1)")
        reason = f"irfft gives {x.shape[-1]} samples of a spectrum of {there.inputs[0].shape[-1]}: n= says how many"
        return Diagnosis(reason, "signals of one length", place_line(ctx, back, line))
    return None


def explain_output_padding(pair: Pair) -> Diagnosis | None:
    """A decoder ends otherwise than it began: a transposed convolution gives the smallest of several sizes, or not."""
    ctx, (one, two) = pair.ctx, pair.both
    gaps = {two.shape[axis] - one.shape[axis] for axis in pair.axes}
    for x, gap in ((one, max(gaps)), (two, -max(gaps))) if pair.is_spatial and len(gaps) == 1 else ():
        layers: list[tuple[ModuleFact, int, int]] = []  # with what a change of its output padding adds at the end
        factor = 1
        for call in ctx.flow.walk_back(x.link, 16):
            fact = ctx.flow.module_of(call)
            if fact is None or call.type_name not in TRANSPOSED_CONVOLUTIONS:
                continue
            strides, added = _list_sides(fact, "stride"), _list_sides(fact, "output_padding")
            if len({*strides}) > 1 or {*added} not in ({0}, {1}):
                layers = []
                break
            new = strides[0] - 1 if gap > 0 else 0
            layers += [(fact, new, factor * (new - added[0]))] if new != added[0] else []
            factor *= strides[0]
        groups = (some for count in range(1, len(layers) + 1) for some in itertools.combinations(layers, count))
        chosen = next((some[::-1] for some in groups if sum(more for _, _, more in some) == gap), None)
        if chosen is not None:
            names = " and ".join(f"'{fact.path}'" for fact, *_ in chosen)
            sides = [write_times([t.shape[axis] for axis in sorted(pair.axes)]) for t in (one, two)]
            reason = " against ".join(sides[::-1] if pair.find_larger() else sides)
            if gap > 0:
                reason += (
                    f": with output_padding 0 {names} {'give' if len(chosen) > 1 else 'gives'} the smallest of the "
                )
                reason += "sizes that the stride could have come from"
            else:
                reason += f": output_padding of {names} adds a pixel that no stride dropped"
            fixes = [remake(ctx, fact, output_padding=(new,) * (x.rank - 2)) for fact, new, _ in chosen]
            fix = functools.reduce(operator.add, fixes)
            return Diagnosis(reason, "equal sizes", [_take_kernel(ctx, chosen[0][0], len(chosen)), fix])
    return None


def _take_kernel(ctx: FailureContext, fact: ModuleFact, count: int) -> Candidate:
    """Give a transposed convolution the kernel of another one of the model, where all else of them is alike."""
    kernel = fact.settings["kernel_size"]
    for other in ctx.trace.modules if count == 1 else ():
        is_alike = all(other.settings.get(name) == fact.settings[name] for name in ("stride", "padding", "dilation"))
        if other.type_name == fact.type_name and is_alike and other.settings["kernel_size"] != kernel:
            return remake(ctx, fact, kernel_size=other.settings["kernel_size"])
    return NOTHING


def _pad_before(ctx: FailureContext, small: Operand, gap: int) -> Candidate:
    """Pad in front of the one convolution without padding that a signal went through: its output is of the past."""
    shrinking = (c for c in _list_convolutions(ctx, small) if c.inputs[0].shape[-1] != c.outputs[0].shape[-1])
    call = next(shrinking, None)
    if call is None or call.inputs[0].shape[-1] - call.outputs[0].shape[-1] != gap:
        return NOTHING
    there = ctx.at_line_of(call)
    member = name_member(call.path)
    names = [f"self.{member}"] if member else list_names(there, call.path)[:-1]  # the last is the container's
    for name in names:
        padded = f"F.pad({{}}, (({name}.kernel_size[0] - 1) * {name}.dilation[0], 0))"
        line = wrap_argument(read_line(ctx, call.source), name.rpartition(".")[2], padded)
        if line:
            return place_line(ctx, call, line)
    return NOTHING


def _begins_as_number(ctx: FailureContext, place: int) -> bool:
    """Return whether an operand is a name that its function gives a number first: a sum that a loop adds to."""
    texts = read_arguments(ctx)
    return any(
        isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        and [ast.unparse(target) for target in node.targets] == texts[place : place + 1]
        for node in _walk_function(ctx)
    )  # fmt: skip


def _crops(ctx: FailureContext) -> bool:
    """Return whether the function cuts a tensor to the end of another elsewhere: ``x[..., -y.size(-1):]``."""
    return any(isinstance(node, ast.Slice) and isinstance(node.lower, ast.UnaryOp) for node in _walk_function(ctx))


def _walk_function(ctx: FailureContext) -> Iterator[ast.AST]:
    function = find_function(ctx.failure.source) if ctx.failure.source is not None else None
    return ast.walk(function) if function is not None else iter(())


def _find_padded(ctx: FailureContext, x: Operand) -> str:
    for call in ctx.flow.walk_back(x.link, 6):
        grows = call.inputs and call.outputs and call.inputs[0].shape[-1:] < call.outputs[0].shape[-1:]
        if call.type_name in CONVOLUTIONS and grows:
            return call.path
    return ""


def explain_padded_steps(pair: Pair) -> Diagnosis | None:
    """A padded convolution, or pool, made more steps than it read, and the steps are in dim 1 again."""
    ctx = pair.ctx
    for x, other, *_ in pair.each() if pair.axes == [-2] and pair.both[0].rank == pair.both[1].rank == 3 else ():
        found = [c for c in ctx.flow.walk_back(x.link) if c.type_name in CONVOLUTIONS | POOLS and c.outputs]
        sizes = [(c.inputs[0].shape[-1], c.outputs[0].shape[-1]) for c in found]
        call = next((c for c, size in zip(found, sizes, strict=True) if size == (other.shape[1], x.shape[1])), None)
        if call is None:
            if (even := _explain_even(ctx, found, x.shape[1], other.shape[1])) is not None:
                return even
            continue
        gap, fact = x.shape[1] - other.shape[1], ctx.flow.module_of(call)
        kernel = _list_sides(fact, "kernel_size") if fact is not None and call.type_name in POOLS else ()
        if fact is not None and gap == 1 and len(kernel) == 1 and kernel[0] % 2 == 0:
            counts = f"{x.shape[1]} steps of {other.shape[1]}"
            reason = f"'{call.path}' of kernel {kernel[0]} gives {counts}: an odd one keeps them"
            return Diagnosis(reason, "equal steps", remake(ctx, fact, kernel_size=(kernel[0] + 1,)))
        if gap > 0:
            reason = f"{x.shape[1]} steps against {other.shape[1]}: '{call.path}' pads by {gap} more than it takes off"
            return Diagnosis(reason, "equal steps", wrap_made(ctx, call, "{}", f"{{}}[..., :-{gap}]"))
    return None


def explain_grown(pair: Pair) -> Diagnosis | None:
    """Several convolutions pad the whole of what their kernels take, on both sides, as causal ones do: none is cut."""
    ctx, axis = pair.ctx, pair.axes[0]
    is_one = pair.axes in ([-1], [-2]) and pair.both[0].rank == pair.both[1].rank == 3
    for x, other, place, there in pair.each() if is_one else ():
        found = [call for call in ctx.flow.walk_back(x.link) if call.type_name in CONVOLUTIONS and call.outputs]
        gains = [call.outputs[0].shape[-1] - call.inputs[0].shape[-1] for call in found]
        gap = x.shape[axis] - other.shape[axis]
        if len(gains) > 1 and min(gains) > 0 and sum(gains) == gap:
            reason = f"{x.shape[axis]} steps against {other.shape[axis]}: '{found[-1].path}' and {len(found) - 1} more "
            reason += f"pad by {gap} more than they take off, and the end is not cut off"
            cut = f"[..., :{{{there}}}.size(-1)]" if axis == -1 else f"[:, :{{{there}}}.size(1)]"
            return Diagnosis(reason, "equal steps", fix_operand(ctx, place, f"{{}}{cut}"))
    return None


def _explain_even(ctx: FailureContext, found: Sequence[Call], made: int, wanted: int) -> Diagnosis | None:
    """An average of an even number of steps was given half of them, less one, in front and behind: one too few."""
    call = found[0] if found else None
    fact = ctx.flow.module_of(call)
    kernel = _list_sides(fact, "kernel_size") if fact is not None else ()
    if call is None or fact is None or len(kernel) != 1 or kernel[0] % 2 or made + 1 != wanted:
        return None
    if (call.inputs[0].shape[-1], call.outputs[0].shape[-1]) != (wanted + kernel[0] - 2, made):
        return None
    owner = fact.path.rpartition(".")[0]
    reason = f"'{call.path}' of kernel {kernel[0]} gives {made} steps of {wanted}: an odd one keeps them"
    fixes = [*list_rebuilds(ctx, kernel[0], kernel[0] + 1), *list_constructions(ctx, owner, kernel[0], kernel[0] + 1)]
    return Diagnosis(reason, "equal steps", fixes)


def explain_pooled(pair: Pair) -> Diagnosis | None:
    """One of two feature maps is smaller: the pooled branch of a pyramid, a level below."""
    large = pair.find_larger()
    x, other = pair.both[1 - large], pair.both[large]
    if not pair.is_spatial or x.rank != 4:
        return None
    reason = f"the feature map is {write_shape(x.shape[2:])} in one and {write_shape(other.shape[2:])} in the other"
    fix = resize_operand(pair.ctx, pair.places[1 - large], pair.places[large])
    return Diagnosis(reason, f"two feature maps of {write_shape(other.shape[2:])}", fix, ())
