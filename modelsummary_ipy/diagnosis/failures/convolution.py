"""Convolutions: channels that don't match, channels in the wrong place, a missing batch, a window that doesn't fit."""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import replace
from typing import Any

from modelsummary_ipy.diagnosis.failures.constructions import fix_block
from modelsummary_ipy.diagnosis.failures.context import (
    GROW,
    NOTHING,
    RESHAPE,
    Diagnosis,
    FailureContext,
    Operand,
    Pair,
    dim_of,
    name_call,
)
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import widen_cut
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_argument,
    fix_giver,
    fix_line,
    fix_made,
    fix_module,
    fix_operand,
    read_arguments,
    remake,
    set_made,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.flattening import find_sides, is_map
from modelsummary_ipy.diagnosis.failures.frames import list_foldings
from modelsummary_ipy.diagnosis.failures.joins import explain_stacked
from modelsummary_ipy.diagnosis.failures.missing_dims import explain_kept_dim
from modelsummary_ipy.diagnosis.failures.module_code import write_module
from modelsummary_ipy.diagnosis.failures.parameters import find_param, resize_param
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword
from modelsummary_ipy.diagnosis.formatting import write_move, write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import CATS, EMBEDDINGS
from modelsummary_ipy.diagnosis.windows import Window, read_windows
from modelsummary_ipy.records.fixes import Candidate, LineEdit

_REDUCED = frozenset({"mean", "max", "amax", "min", "amin", "sum", "std", "var"})
_AXES = {1: "[N, C, L]", 2: "[N, C, H, W]", 3: "[N, C, D, H, W]"}


def explain_convolution(ctx: FailureContext) -> Diagnosis | None:
    """Explain a convolution whose input has the wrong shape."""
    if not ctx.function.startswith("conv") or not ctx.operands:
        return None
    spatial = int(ctx.function[-2])
    x = ctx.operands[0]
    if ctx.call.kind == "op" and len(ctx.operands) > 1 and ctx.operands[1].rank == 2:
        weight, ones = ctx.operands[1], ", None" * spatial
        reason = f"the weight {write_shape(weight.shape)} is a matrix: a kernel of size 1 has {spatial} dims of 1 too"
        kernel = write_shape((*weight.shape, *[1] * spatial))
        return Diagnosis(reason, f"a weight {kernel}", fix_operand(ctx, 1, f"{{}}[:, :{ones}]"))
    groups = ctx.given("groups")
    if ctx.call.kind == "op" and groups == x.shape[-spatial - 1] and ctx.operands[1].shape[:2] == (1, 1) != (groups, 1):
        reason = f"the weight has one kernel, and {groups} groups need one each"
        one = fix_operand(ctx, 1, f"{{}}.expand({{0}}.size({-spatial - 1}){', -1' * (spatial + 1)})")
        return Diagnosis(reason, f"a weight of {groups} kernels", one)
    channels = _find_channels(ctx)
    if channels is None:
        return None
    if x.rank not in (spatial + 1, spatial + 2):
        return _explain_rank(ctx, x, channels, spatial)
    axis = x.rank - spatial - 1
    if x.shape[axis] != channels:
        return _explain_channels(ctx, x, channels, spatial)
    return _explain_output_padding(ctx, spatial) or _explain_window(ctx, x, spatial)


def _explain_output_padding(ctx: FailureContext, spatial: int) -> Diagnosis | None:
    """A transposed convolution adds as much at the end as its stride, and more than it could choose from."""
    given = [ctx.given(name, default) for name, default in (("output_padding", 0), ("stride", 1), ("dilation", 1))]
    added, strides, dilations = (value if isinstance(value, tuple) else (value,) * spatial for value in given)
    if not ctx.function.startswith("conv_transpose") or not all(type(n) is int for n in (*added, *strides, *dilations)):
        return None
    most = tuple(max(stride, dilation) - 1 for stride, dilation in zip(strides, dilations, strict=False))
    odd = next((axis for axis, (size, limit) in enumerate(zip(added, most, strict=False)) if size > limit), None)
    if odd is None:
        return None
    reason = f"output_padding {added[odd]} must be smaller than stride {strides[odd]}"
    reason += f" or dilation {dilations[odd]}" if dilations[odd] > 1 else ""
    kept = tuple(min(size, limit) for size, limit in zip(added, most, strict=False))
    return Diagnosis(reason, f"output_padding of at most {most[odd]}", fix_module(ctx, output_padding=kept))


def _find_channels(ctx: FailureContext) -> int | None:
    """Return the channels that the convolution expects."""
    if ctx.call.kind == "module":
        channels = ctx.setting("in_channels")
        return channels if isinstance(channels, int) and channels > 0 else None  # a lazy one takes any
    if len(ctx.operands) < 2 or len(ctx.operands[1].shape) < 3:
        return None
    weight = ctx.operands[1].shape
    groups = ctx.arguments.get("groups", 1)
    if ctx.function.startswith("conv_transpose"):
        return weight[0]
    return weight[1] * groups if isinstance(groups, int) else None


def _explain_rank(ctx: FailureContext, x: Operand, channels: int, spatial: int) -> Diagnosis:
    expected = f"{_AXES[spatial]} with C = {channels}"
    reason = f"{write_shape(x.shape)} has {x.rank} dims, a {spatial}-d convolution expects {spatial + 2}"
    fix = NOTHING
    if (stacked := explain_stacked(ctx, x, 1, channels, expected)) is not None:
        return stacked
    if x.rank == spatial + 3:
        if (kept := explain_kept_dim(ctx, x, reason)) is not None:
            return kept
        if x.shape[1] == channels != x.shape[2]:
            reason += f": dim 1 has the {channels} channels, the {x.shape[2]} of dim 2 go into the batch"
            fix = fix_argument(ctx, "{}.transpose(1, 2).flatten(0, 1)")
            whole = (x.shape[0] * x.shape[2], channels, *x.shape[3:])
            return Diagnosis(reason, expected, fix, RESHAPE, candidates=ctx.change_input(x, shape=whole))
        reason += ": flatten the first two into one batch"
        return Diagnosis(reason, expected, list(list_foldings(ctx)), RESHAPE, (dim_of(-spatial - 1), channels))
    elif x.rank == 2 and spatial > 1 and x.shape[1] == channels:
        reason += f": a vector of {channels} numbers is a feature map of one position"
        fix = fix_argument(ctx, "{}[:, :" + ", None" * spatial + "]")
    elif x.rank == 2 and x.shape[1] > channels and (sides := find_sides(ctx, x, channels, spatial)) is not None:
        whole = (channels, *sides)
        reason += f"; {x.shape[1]} = {write_times(whole)}: the flat features are a feature map of {write_times(sides)}"
        fix = fix_argument(ctx, f"{{}}.unflatten(1, ({', '.join(map(str, whole))}))")
    elif x.rank == spatial and channels == 1:
        reason += ": the batch and channel dims are missing"
        fix = fix_argument(ctx, "{}[None, None]")
    return Diagnosis(reason, expected, fix, RESHAPE, (dim_of(-spatial - 1), channels))


def explain_positions(ctx: FailureContext, x: Operand, spatial: int, expected: str) -> Diagnosis | None:
    """Explain a feature map that is still a sequence, a step for each of its positions."""
    sides = _find_grid(ctx, x, spatial) if x.rank == 3 and spatial > 1 else None
    if sides is None:
        return None
    reason = f"{write_shape(x.shape)} has the positions of a feature map of {write_times(sides)} as steps"
    return Diagnosis(reason, expected, fix_argument(ctx, f"{{}}.transpose(1, 2).unflatten(2, {sides})"))


def _find_grid(ctx: FailureContext, x: Operand, spatial: int) -> tuple[int, ...] | None:
    """Find the sides of the feature map that a sequence of features was made of."""
    for call in ctx.flow.walk_back(x.link, 20):
        for spec in call.inputs:
            sides = spec.shape[2:]
            if len(sides) == spatial and spec.shape[0] == x.shape[0] and math.prod(sides) == x.shape[1]:
                return sides
    return None


def _explain_channels(ctx: FailureContext, x: Operand, channels: int, spatial: int) -> Diagnosis:
    axis = x.rank - spatial - 1
    got = x.shape[axis]
    where = "no batch dim" if x.rank == spatial + 1 else "dim 1"
    expected = f"{_AXES[spatial]} with C = {channels} (in_channels)"
    like_input = ctx.flow.is_like_input(x.link, x.shape)
    search = RESHAPE if like_input else ()
    goal = (dim_of(-spatial - 1), channels)
    if x.shape[-1] == channels and (made := explain_positions(ctx, x, spatial, expected)) is not None:
        return replace(made, search=search, goal=goal)
    if x.rank == 3 and spatial == 2 and x.shape[1] == channels and (flat := _write_signal_layers(ctx)):
        reason = f"{write_shape(x.shape)} is a signal, [batch, channels, steps]: a 2-d convolution reads feature maps"
        return Diagnosis(reason, expected, flat, search, goal)
    window = ctx.setting("kernel_size")
    if got == 1 and x.rank == spatial + 2 == 3 and isinstance(window, tuple) and window[0] > 1 == x.shape[1]:
        reason = f"{write_shape(x.shape)} has one channel of {x.shape[2]} steps, {ctx.owner} expects {channels} "
        reason += "channels"
        return Diagnosis(reason, expected, fix_module(ctx, in_channels=1), search, goal)
    if x.shape[-1] == channels and (like_input or not is_map(ctx, x)):
        reason = f"the last dim has the {channels} channels: {write_shape(x.shape)} is channels-last"
        fix = fix_argument(ctx, write_move(x.rank, x.rank - 1, axis))
        widths = [fact.settings.get("in_features") for fact in ctx.list_unread()]
        if x.rank == 2 and like_input and ctx.setting("out_channels", 0) * channels in widths:
            single = fix_argument(ctx, "{}.unsqueeze(1)") + fix_module(ctx, in_channels=1)
            reason = f"{write_shape(x.shape)} has no dim of channels: {channels} are the positions of a sample"
            return Diagnosis(reason, expected, [single, fix], search, goal)
        moved = (*x.shape[:axis], channels, *x.shape[axis:-1])
        fixes = [fix, _move_where_made(ctx, x, axis)]
        return Diagnosis(reason, expected, fixes, search, goal, ctx.change_input(x, shape=moved))
    is_only = x.shape[axis + 1 :].count(channels) == 1
    if is_only and x.shape[axis + 1] == channels and x.rank == spatial + 2 and (like_input or not is_map(ctx, x)):
        reason = f"dim {axis + 1} has the {channels} channels, dim {axis} has {got}: {write_shape(x.shape)}"
        fix = fix_argument(ctx, f"{{}}.transpose({axis}, {axis + 1})")
        swapped = (*x.shape[:axis], channels, got, *x.shape[axis + 2 :])
        return Diagnosis(reason, expected, fix, search, goal, ctx.change_input(x, shape=swapped))
    if x.rank == spatial + 1 and channels == 1:
        reason = f"{write_shape(x.shape)} has {x.rank} dims, so dim 0 was read as the channels: a dim is missing"
        return Diagnosis(reason, expected, fix_argument(ctx, "{}.unsqueeze(1)"), search, goal)
    if x.rank == spatial + 1 and (kept := _keep_dims(ctx, x)):
        reason = "the dim of channels was reduced and dropped: keepdim=True keeps it with size 1"
        return Diagnosis(reason, expected, kept)
    maker = ctx.flow.producer(x.link)
    plural = "channel" if got == 1 else "channels"
    giver = f"{ctx.describe_giver(x, axis - x.rank)} {got} {plural}"
    joined = ctx.flow.setting(maker, "dim", 0) if maker is not None and maker.type_name in CATS else None
    if maker is not None and isinstance(joined, int):
        sizes = [spec.shape[axis] for spec in maker.inputs if len(spec.shape) > axis]
        if joined % x.rank == axis:
            giver = f"cat outputs {' + '.join(map(str, sizes))} = {got} channels"
        if maker.inputs and sum(sizes) == channels != got:
            counts = f"{' + '.join(map(str, sizes))} = {channels} channels in dim {axis}"
            reason = f"cat joins along dim {joined}: there are {counts}"
            return Diagnosis(reason, expected, set_made(ctx, maker, "dim", 1, "1"), search, goal)
    if ctx.call.kind == "op" and channels == 1 and ctx.operands[1].shape[0] == 1:
        reason = f"the kernel is of one channel, the input has {got}: as many groups filter each with it"
        own = f"{{0}}.size({axis})"
        expanded = fix_operand(ctx, 1, f"{{}}.expand({own}{', -1' * (spatial + 1)})")
        fix = expanded and fix_line(ctx, add_keyword(expanded.text, ctx.function, "groups", str(got)))
        return Diagnosis(reason, expected, fix or NOTHING, search, goal)
    batches, left = divmod(got, channels)
    if ctx.call.kind == "op" and x.shape[0] == 1 and not left and batches == ctx.trace.inputs[0].spec.shape[0]:
        texts = read_arguments(ctx)
        reason = f"the {got} channels are those of {batches} samples, each of which has a kernel: they are its groups"
        per = f"{texts[1]}.size(1)" if len(texts) > 1 and texts[1].isidentifier() else str(channels)
        groups = f"{texts[0]}.size(1) // {per}" if texts else str(batches)
        fix = fix_line(ctx, add_keyword(ctx.line, ctx.function, "groups", groups))
        return Diagnosis(reason, expected, fix, search, goal)
    if x.rank == spatial + 1:
        giver += f" ({where}: {write_shape(x.shape)})"
    reason = f"{giver}, {ctx.owner} expects {channels}"
    groups = ctx.setting("groups", 1)
    changes: dict[str, Any] = {"in_channels": got}
    if isinstance(groups, int) and groups > 1:
        out = ctx.setting("out_channels", got)
        fitting = [n for n in range(1, groups + 1) if got % n == 0 and out % n == 0]
        changes["groups"] = got if groups == channels else max(fitting)
        if groups == channels and ctx.setting("out_channels") == channels:
            changes["out_channels"] = got
    fixes = [fix_block(ctx, channels, got), fix_module(ctx, **changes)]
    if (whole := widen_cut(ctx, x, axis - x.rank, channels)) is not None:
        reason += whole[0]
        fixes.insert(0, whole[1])
    if ctx.call.kind == "op":
        weight = replace(ctx.operands[1], param=find_param(ctx, ctx.operands[1]))  # it, or what was made like it
        fixes.append(resize_param(ctx, weight, [-spatial - 1], got))
    if changes.get("groups", groups) not in (groups, got):  # rather another layer before than other groups
        fixes = [fix_giver(ctx, x, channels, axis - x.rank), fixes[0] or fixes[1]]
    return Diagnosis(reason, expected, fixes, search, goal)


def _move_where_made(ctx: FailureContext, x: Operand, axis: int) -> Candidate:
    """Bring the channels to the front where another function joined them, which may do so for several layers."""
    maker, source = ctx.flow.producer(x.link), ctx.failure.source
    if maker is None or maker.kind != "op" or maker.source is None or source is None:
        return NOTHING
    if maker.source.function == source.function:
        return NOTHING
    around = write_move(x.rank, x.rank - 1, axis)
    return fix_made(ctx, maker, lambda items: items, around)


def explain_unbatched(pair: Pair) -> Diagnosis | None:
    """A convolution read a batch of maps as the channels of one: means and maxima dropped the dim of their channel."""
    for x in pair.both:
        for call in pair.ctx.flow.walk_back(x.link, 4):
            if call.kind != "module" or not call.type_name.startswith("Conv") or not call.inputs:
                continue
            read = Operand(call.inputs[0], call.input_links[0])
            kept = _keep_dims(pair.ctx, read) if read.rank == int(call.type_name[-2]) + 1 else NOTHING
            if kept:
                reason = f"{name_call(call)} read {write_shape(read.shape)} as one sample of {read.shape[0]} channels: "
                return Diagnosis(f"{reason}the dim of channels was reduced and dropped", "keepdim=True", kept)
    return None


def _write_signal_layers(ctx: FailureContext) -> Candidate:
    """Write the layer that failed and those that follow for signals: ``nn.Conv1d`` for ``nn.Conv2d``."""
    changes = []
    for fact in [ctx.fact, *ctx.list_unread()] if ctx.call.kind == "module" else []:
        if fact is None or not fact.type_name.endswith("2d") or not fact.type_module.startswith("torch."):
            continue
        sizes = [value for value in fact.settings.values() if isinstance(value, tuple) and value]
        code = write_module(fact, ctx.trace)
        if not code or any(len(set(value)) > 1 for value in sizes):
            return NOTHING
        changes.append(set_value(fact.path, code.replace("2d(", "1d(", 1)))
    return functools.reduce(operator.add, changes) if changes else NOTHING


def _keep_dims(ctx: FailureContext, x: Operand) -> Candidate:
    """Keep the dim that means and maxima over the channels drop: ``torch.mean(x, dim=1, keepdim=True)``."""
    joined = ctx.flow.producer(x.link)
    links = joined.input_links if joined is not None and joined.type_name in CATS else (x.link,)
    fixes: dict[int, Candidate] = {}  # by the first line of their statements, which several means may share
    for made in map(ctx.flow.producer, links):
        if (
            made is None
            or made.type_name not in _REDUCED
            or not made.inputs
            or ctx.flow.setting(made, "dim", None) != 1
        ):
            return NOTHING
        if len(made.outputs[0].shape) != len(made.inputs[0].shape) - 1:
            return NOTHING
        fix = set_made(ctx, made, "keepdim", 2, "True")
        if not fix or not isinstance(fix.edits[0], LineEdit):
            return NOTHING
        fixes[fix.edits[0].first] = fix
        ctx = replace(ctx, edits=(*ctx.edits, fix.edits[0]))
    return functools.reduce(operator.add, fixes.values())


def _explain_window(ctx: FailureContext, x: Operand, spatial: int) -> Diagnosis | None:
    found = find_window(ctx, x.shape[-spatial:])
    if found is None:
        return None
    axis, size, window = found
    padding = window.total_padding // 2
    padded = f"{size} + 2 × {padding} = {size + 2 * padding}" if padding else str(size)
    spread = f" (kernel {window.kernel}, dilation {window.dilation})" if window.dilation > 1 else ""
    reason = f"dim {x.rank - spatial + axis} is {padded}, the window is {window.extent} wide{spread}"
    fix = NOTHING
    ends = not any(fact.params for fact in ctx.list_unread())
    if ends and padding == 0 and window.dilation == 1 and len(set(x.shape[-spatial:])) == 1:  # it reads the whole map
        fix = fix_module(ctx, kernel_size=(size,) * spatial)
    kernel = ctx.setting("kernel_size")
    if isinstance(kernel, tuple) and spatial > 1 and kernel.count(1) == spatial - 1 and not padding:
        fix = fix_module(ctx, kernel_size=tuple(size if at == axis else 1 for at in range(spatial)))  # a whole axis
    fixes = [pad_tokens(ctx, x, axis, size, window.extent), fix or _pad_first(ctx)]
    if not fix and isinstance(kernel, tuple) and not padding and all(side % 2 for side in kernel):
        fixes.append(fix_module(ctx, padding=tuple(side // 2 for side in kernel)))
    return Diagnosis(reason, f"at least {window.extent - 2 * padding} in that dim", fixes, GROW)


def _pad_first(ctx: FailureContext) -> Candidate:
    """Let the first convolution keep the size, where the last one finds a map that is a little too small: LeNet's."""
    calls = [call for call in ctx.trace.calls[: ctx.call.index] if call.kind == "module" and call.type_name == "Conv2d"]
    fact = ctx.flow.module_of(calls[0]) if calls else None
    if fact is None or ctx.call.kind != "module":
        return NOTHING
    kernel, padding = fact.settings.get("kernel_size"), fact.settings.get("padding")
    if not isinstance(kernel, tuple) or padding != (0, 0) or not all(size % 2 for size in kernel) or max(kernel) < 3:
        return NOTHING
    kept = tuple(size // 2 for size in kernel)
    return remake(ctx, fact, padding=kept)


def find_window(ctx: FailureContext, sizes: tuple[int, ...]) -> tuple[int, int, Window] | None:
    """Find the axis on which a window is wider than what it slides over.

    Returns:
        ``(axis, size, window)``; ``None`` if it fits everywhere.
    """
    windows = read_windows(ctx.call, ctx.trace.modules)
    if len(windows) != len(sizes):
        return None
    for axis, (size, window) in enumerate(zip(sizes, windows, strict=True)):
        if window is not None and not window.transposed and size + window.total_padding < window.extent:
            return axis, size, window
    return None


def pad_tokens(ctx: FailureContext, x: Operand, axis: int, size: int, extent: int) -> Candidate:
    """Pad the tokens before they are looked up, to as many as the widest kernel reads.

    Args:
        x: What the convolution reads.
        axis: Which of its sides is too short.
        size: How long that side is.
        extent: How wide the window is.
    """
    table = next((call for call in ctx.flow.walk_back(x.link, 12) if call.type_name in EMBEDDINGS), None)
    ids = table.inputs[0] if table is not None and table.inputs else None
    if table is None or table.source is None or ids is None or len(ids.shape) != 2 or ids.shape[1] != size:
        return NOTHING
    there = ctx.at_line_of(table)
    name = find_name(next(iter(read_arguments(there, table)), ""))
    kernels = [fact.settings.get("kernel_size") for fact in ctx.list_unread()]
    widest = max([extent, *(kernel[axis] for kernel in kernels if isinstance(kernel, tuple) and len(kernel) > axis)])
    fix = fix_argument(there, f"F.pad({name}, (0, max({widest} - {name}.size(1), 0)))") if name else NOTHING
    return replace(fix, text=f"at {table.source.text}: {fix.text}") if fix and there.statement != ctx.statement else fix
