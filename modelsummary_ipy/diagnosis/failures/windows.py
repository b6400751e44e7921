"""Pooling, padding and interpolation: feature maps that are too small for the window that slides over them."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import GROW, NOTHING, RESHAPE, Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.convolution import explain_positions, find_window
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_argument,
    fix_giver,
    fix_line,
    fix_module,
    fix_operand,
    fix_setting,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword, change_operation
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.windows import read_windows


def explain_window(ctx: FailureContext) -> Diagnosis | None:
    """Explain a pool or a padding whose input has the wrong shape."""
    if not ctx.operands or not ctx.function:
        return None
    x = ctx.operands[0]
    if ctx.function == "pad":
        return _explain_padding(ctx, x)
    if ctx.function == "grid_sample" and len(ctx.operands) > 1:
        return _explain_places_read(ctx, ctx.operands[1])
    if ctx.function == "interpolate":
        return _explain_mode(ctx, x)
    if ctx.function.startswith("max_unpool") and len(ctx.operands) > 1:
        return _explain_places(ctx, x, ctx.operands[1])
    if ctx.function == "fold":
        return _explain_fold(ctx, x)
    if "_pool" not in ctx.function or not ctx.function[-2:-1].isdigit():
        return None
    spatial = int(ctx.function[-2])
    if x.rank not in (spatial + 1, spatial + 2):
        reason = f"{write_shape(x.shape)} has {x.rank} dims, a {spatial}-d pool expects {spatial + 2}"
        fix = NOTHING
        if x.rank == spatial + 3:
            ones = [axis for axis in range(2, x.rank) if x.shape[axis] == 1]
            fix = fix_argument(ctx, f"{{}}.squeeze({ones[-1]})" if ones else "{}.flatten(0, 1)")
        return Diagnosis(reason, f"{spatial + 2} dims with a batch, {spatial + 1} without", fix, RESHAPE)
    if 0 in x.shape[1:]:
        return Diagnosis(f"{write_shape(x.shape)} is empty", "a feature map that is not empty", NOTHING, GROW)
    found = find_window(ctx, x.shape[-spatial:])
    if found is None:
        return _explain_half_window(ctx)
    axis, size, window = found
    padding = window.total_padding // 2
    times = _count_halvings(ctx, x)
    before = f" after {times} layers that shrink it" if times > 1 else ""
    padded = f"{size} + 2 × {padding}" if padding else str(size)
    reason = f"dim {x.rank - spatial + axis} is {padded}{before}, the window is {window.extent} wide"
    reason += ": the output would be empty"
    whole = NOTHING
    if ctx.call.kind == "op" and times < 2 and window.extent > 3 and ctx.function[:3] in ("max", "avg"):
        # A pool over all that there is, whose size was worked out for a map of another size.
        line = change_operation(ctx.line, ctx.function, lambda items: [items[0], "1"], ctx.earlier)
        is_one = line.count(ctx.function) == 1
        whole = fix_line(ctx, line.replace(ctx.function, f"adaptive_{ctx.function}") if is_one else "")
    if times > 1 and ctx.call.kind == "module" and not whole:  # one of many, where the rest fits a map of this size
        whole = set_value(ctx.call.path, "nn.Identity()")
    return Diagnosis(reason, f"at least {window.extent - 2 * padding} in that dim", whole, GROW)


def _explain_half_window(ctx: FailureContext) -> Diagnosis | None:
    """A pool pads by more than half of its window, which torch refuses."""
    for window in read_windows(ctx.call, ctx.trace.modules):
        if window is not None and window.total_padding // 2 > window.most_pool_padding:
            most = window.most_pool_padding
            reason = f"padding {window.padding} is more than half of the window {window.kernel}"
            fixes = [fix_module(ctx, padding=most), fix_setting(ctx, ctx.function, "padding", 3, most)]
            return Diagnosis(reason, f"at most {most}", fixes[ctx.call.kind == "op"])
    return None


def _explain_places(ctx: FailureContext, x: Operand, places: Operand) -> Diagnosis | None:
    """A pool is undone with the places that it took its maxima from, and the map has other channels by now."""
    if x.shape[2:] != places.shape[2:] or x.rank < 3 or x.shape[1] == places.shape[1]:
        return None
    reason = f"the pool kept places for {places.shape[1]} channels, {ctx.describe_giver(x, 1 - x.rank)} {x.shape[1]}"
    return Diagnosis(reason, write_shape(places.shape), fix_giver(ctx, x, places.shape[1], 1 - x.rank))


def _explain_places_read(ctx: FailureContext, grid: Operand) -> Diagnosis | None:
    """A grid of places to read has its coordinates in dim 1, as channels."""
    count = grid.rank - 2
    if count not in (2, 3) or grid.shape[-1] == count or grid.shape[1] != count:
        return None
    reason = f"the grid {write_shape(grid.shape)} has its {count} coordinates in dim 1, they are to be last"
    return Diagnosis(reason, f"last dim = {count}", fix_operand(ctx, 1, "{}.movedim(1, -1)"))


_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}


def _explain_mode(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    """Each mode that interpolates between values is for one number of dims."""
    mode, fitting = ctx.given("mode"), _MODES.get(x.rank)
    if fitting is None or mode not in _MODES.values() or mode == fitting:
        return None
    spatial = 1 + list(_MODES.values()).index(mode)
    if (made := explain_positions(ctx, x, spatial, f"{spatial + 2} dims")) is not None:
        return made
    reason = f"mode '{mode}' enlarges {spatial + 2} dims, {write_shape(x.shape)} has {x.rank}"
    fix = fix_line(ctx, add_keyword(ctx.line, "interpolate", "mode", f"'{fitting}'"))
    if ctx.is_torch_layer and ctx.fact is not None:
        given = {name: ctx.setting(name) for name in ("size", "scale_factor", "align_corners")}
        words = "".join(f"{name}={value!r}, " for name, value in given.items() if value is not None)
        fix = set_value(ctx.fact.path, f"nn.Upsample({words}mode='{fitting}')")
    return Diagnosis(reason, f"mode '{fitting}'", fix)


def _explain_fold(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    """The windows that are put together were cut with other settings."""
    cut = next((call for call in ctx.flow.walk_back(x.link, 20) if call.type_name in ("unfold", "Unfold")), None)
    if cut is None:
        return None
    pairs = {name: (ctx.flow.setting(cut, name, default), ctx.given(name, default)) for name, default in _CUTS.items()}
    other = {name: pair for name, pair in pairs.items() if _write_sides(pair[0]) != _write_sides(pair[1])}
    if not other:
        return None
    words = " and ".join(f"{name} {_write_sides(one)}, put together with {_write_sides(two)}"
                         for name, (one, two) in other.items())  # fmt: skip
    reason = f"the {x.shape[-1]} windows were cut with {words}"
    if ctx.call.kind == "module":
        fix = fix_module(ctx, **{name: one for name, (one, _) in other.items()})
    else:
        line = ctx.line
        for name, (one, _) in other.items():
            line = add_keyword(line, "fold", name, _write_sides(one))
        fix = fix_line(ctx, line)
    return Diagnosis(reason, "the settings of unfold", fix, GROW)


_CUTS = {"padding": 0, "stride": 1, "dilation": 1}


def _write_sides(value: object) -> str:
    """``"3"`` for 3, (3,) and (3, 3), ``"(3, 1)"`` otherwise."""
    is_one = isinstance(value, tuple) and len(set(value)) == 1
    return str(value[0] if is_one and isinstance(value, tuple) else value)


def _count_halvings(ctx: FailureContext, x: Operand) -> int:
    """Count the calls on the way that made the feature map smaller."""
    count = 0
    for call in ctx.flow.walk_back(x.link):
        if not call.inputs or not call.outputs or call.type_name in ("flatten", "view", "reshape", "mean"):
            continue
        before, after = call.inputs[0].shape, call.outputs[0].shape
        if len(before) == len(after) > 2 and after[-1] < before[-1]:
            count += 1
    return count


def _explain_padding(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    padding = ctx.setting("padding") if ctx.call.kind == "module" else None
    padding = ctx.arguments.get("pad", padding)
    if not isinstance(padding, tuple) or not all(type(size) is int for size in padding):
        return None
    for place in range(len(padding) // 2):
        axis = x.rank - 1 - place
        most = max(padding[2 * place : 2 * place + 2])
        if axis >= 0 and most >= x.shape[axis]:
            reason = f"dim {axis} is {x.shape[axis]} and the padding mirrors {most} of it: it needs more than {most}"
            return Diagnosis(reason, f"more than {most} in dim {axis}", NOTHING, GROW)
    return None
