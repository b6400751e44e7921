"""View, reshape, permute, split and index: sizes with another product, dims that don't exist."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from modelsummary_ipy.diagnosis.failures.constructions import list_constructions
from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    GROW,
    NOTHING,
    STEER,
    Diagnosis,
    FailureContext,
    Operand,
    dim_of,
    product_from,
)
from modelsummary_ipy.diagnosis.failures.decoder_grid import move_grid
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import move_thirds
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, fix_line, remake, set_value
from modelsummary_ipy.diagnosis.failures.learned_queries import explain_parted_queries
from modelsummary_ipy.diagnosis.failures.parameters import find_param_name, resize_param
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds, name_setting
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation, rename_method
from modelsummary_ipy.diagnosis.failures.source_nodes import find_operands
from modelsummary_ipy.diagnosis.formatting import factor_like, write_product, write_shape, write_times
from modelsummary_ipy.records.fixes import Candidate, LayerEdit
from modelsummary_ipy.records.trace import Call, TensorSpec, join_path


def explain_reshape(ctx: FailureContext) -> Diagnosis | None:
    """Explain a view or reshape to a size of another number of elements."""
    if ctx.function not in ("view", "reshape", "unflatten", "_unsafe_view", "expand", "pixel_shuffle"):
        return None
    if not ctx.operands:
        return None
    x = ctx.operands[0]
    if ctx.function == "pixel_shuffle":
        return _explain_shuffle(ctx, x)
    wanted = _read_target(ctx)
    if wanted is None:
        return None
    if ctx.function == "expand":
        return _explain_expand(ctx, x, wanted)
    if wanted.count(-1) > 1:
        return _explain_unknowns(ctx, wanted)
    fixed = math.prod([size for size in wanted if size != -1])
    total = x.numel
    if (fixed and total % fixed == 0 and -1 in wanted) or total == fixed:
        return _explain_strides(ctx, x)
    if (periods := _explain_periods(ctx, x, wanted)) is not None:
        return periods
    if (steps := _explain_steps(ctx, x, wanted)) is not None:
        return steps
    if (learned := explain_parted_queries(ctx, x, wanted)) is not None:
        return learned
    found = _explain_heads(ctx, x, wanted) or _explain_windows(ctx, x, wanted) or _explain_batch(ctx, x, wanted)
    return found or _explain_total(ctx, x, wanted, fixed)


def _read_target(ctx: FailureContext) -> tuple[int, ...] | None:
    value = ctx.arguments.get("size", ctx.arguments.get("shape", ctx.arguments.get("sizes")))
    if isinstance(value, int):
        value = (value,)
    if ctx.function == "unflatten":
        sizes, dim = ctx.given("unflattened_size" if ctx.call.kind == "module" else "sizes"), ctx.given("dim")
        shape = ctx.operands[0].shape
        if not isinstance(sizes, tuple) or not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
            return None
        value = (*shape[: dim % len(shape)], *sizes, *shape[dim % len(shape) + 1 :])
    if not isinstance(value, tuple) or not all(type(size) is int for size in value):
        return None
    return value


def _explain_unknowns(ctx: FailureContext, wanted: tuple[int, ...]) -> Diagnosis:
    reason = f"{write_shape(wanted)} has {wanted.count(-1)} unknown sizes: only one -1 can be worked out"

    def edit(items: list[str]) -> list[str] | None:
        at = next((index for index, item in enumerate(items[1:], 1) if item.strip("()") == "-1"), None)
        return None if at is None else [*items[:at], f"{items[0]}.size({at - 1})", *items[at + 1 :]]

    return Diagnosis(reason, "one -1", fix_line(ctx, change_operation(ctx.line, ctx.function, edit, ctx.earlier)))


def _explain_strides(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    if ctx.function != "view":
        return None
    maker = ctx.flow.producer(x.link)
    after = f" after {maker.type_name}" if maker is not None and maker.kind == "op" else ""
    reason = f"the tensor is not contiguous{after}: view never copies, reshape does"
    line = rename_method(ctx.line, "view", "reshape", ctx.earlier)
    return Diagnosis(reason, "a contiguous tensor", fix_line(ctx, line))


def _explain_heads(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    """The features are split into heads that don't divide them."""
    of_channels = x.rank > 2 and wanted[3:] == x.shape[2:] and wanted[0] in (-1, x.shape[0])
    if of_channels:
        x, wanted = Operand(x.spec._replace(shape=x.shape[:2])), wanted[:3]
    if x.rank < 2 or len(wanted) <= x.rank or -1 in wanted[-2:] or wanted.count(-1) > 1:
        return None
    heads, each = wanted[-2:]
    pieces = math.prod(wanted[x.rank - 1 : -2])  # 3, where one Linear gives queries, keys and values
    same = all(w in (-1, s) for w, s in zip(wanted, x.shape[:-1], strict=False))
    features = x.shape[-1] // pieces if pieces > 0 and x.shape[-1] % pieces == 0 else 0
    if not same or heads < 2 or features // heads != each or heads * each == features:
        return None
    what, noun = ("channels", "groups") if of_channels else ("features", "heads")
    reason = f"{features} {what} are not divisible into {heads} {noun} of {each}: {heads} × {each} = {heads * each}"
    fitting = [n for n in range(1, 2 * heads + 1) if features % n == 0]
    near = min(fitting, key=lambda n: (abs(n - heads), n))
    options: list[Candidate] = []
    if ctx.fact is not None:
        path = ctx.fact.path
        names = {
            size: [name for name, value in ctx.fact.settings.items() if value == size and type(value) is int]
            for size in (heads, each)
        }
        options += list_constructions(ctx, path, heads, near)
        if len(names[heads]) == 1:
            change = set_value(join_path(path, names[heads][0]), str(near))
            options.append(change)
    if not options and re.search(rf"\b{heads}\b", ctx.line):
        options.append(fix_line(ctx, re.sub(rf"\b{heads}\b", str(near), ctx.line)))
    whole = ctx.operands[0]
    options.append(fix_giver(ctx, whole, -(-features // each) * each * pieces, (x.rank - 1) - whole.rank))
    words = ", ".join(map(str, fitting))
    return Diagnosis(reason, f"a number of {noun} among {words}", options)


def _explain_steps(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    """The features are parted as they should, and the target has another number of steps: those of another tensor."""
    if x.rank != 3 or len(wanted) < 4 or -1 in wanted or wanted[0] != x.shape[0] or wanted[1] == x.shape[1]:
        return None
    if math.prod(wanted[2:]) != x.shape[2]:
        return None
    operands = find_operands(ctx.line, ctx.function, ctx.earlier)
    if len(operands) != len(wanted) + 1:
        return None
    line = change_operation(ctx.line, ctx.function, lambda items: [*items[:2], "-1", *items[3:]], ctx.earlier)
    reason = f"{write_shape(x.shape)} has {x.shape[1]} steps, the target {write_shape(wanted)} has {wanted[1]}"
    return Diagnosis(reason, f"{x.shape[1]} steps", fix_line(ctx, line))


def _explain_periods(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    """A signal is cut into rows of a length that does not divide it: ``x.view(b, c, t // period, period)``."""
    if wanted[:-2] != x.shape[:-1] or wanted[-1] < 2 or x.shape[-1] // wanted[-1] != wanted[-2]:
        return None
    operands = find_operands(ctx.line, ctx.function, ctx.earlier)
    if len(operands) < 3 or not re.search(rf"//\s*{re.escape(operands[-1])}$", operands[-2]):
        return None
    period, size = operands[-1], x.shape[-1]

    def edit(items: list[str]) -> list[str]:
        return [f"F.pad({items[0]}, (0, -{items[0]}.size(-1) % {period}))", *items[1:-2], "-1", period]

    rows, row = wanted[-2:]
    reason = f"{size} is not divisible into rows of {row}: {rows} × {row} = {rows * row}"
    line = change_operation(ctx.line, ctx.function, edit, ctx.earlier)
    return Diagnosis(reason, f"a multiple of {row}", fix_line(ctx, line), GROW)


def _explain_windows(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    """Sides are split into windows that don't divide them: ``view(B, H // 7, 7, W // 7, 7, C)``."""
    split, places = [], iter(wanted)
    for size in x.shape:
        one = next(places, 0)
        if one not in (size, -1):
            other = next(places, 0)
            if other < 2 or size // other != one:
                return None
            split.append((size, other))
    sides, windows = {size for size, _ in split}, {window for _, window in split}
    if next(places, None) is not None or len(windows) != 1 or -1 in wanted[1:] or (len(split) < 2 and x.rank == 4):
        return None
    window, path = windows.pop(), ctx.fact.path if ctx.fact is not None else ""
    odd = next((size for size, _ in split if size % window), None)
    if odd is None:
        return None
    fitting = [n for n in range(2, min(sides) + 1) if all(size % n == 0 for size in sides)]
    reason = f"{odd} is not divisible into windows of {window}"
    near = min(fitting, key=lambda n: abs(n - window), default=0)
    names = [name for name, value in (ctx.fact.settings if ctx.fact else {}).items() if value == window]
    options: list[Candidate] = []
    if near:
        options += [*list_rebuilds(ctx, window, near), *list_constructions(ctx, path, window, near)]
        options += [set_value(join_path(path, names[0]), str(near))] if len(names) == 1 else []
        options.append(fix_line(ctx, re.sub(rf"\b{window}\b", str(near), ctx.line)))
    goal = (product_from(0), math.prod(wanted))
    return Diagnosis(reason, f"sides divisible by {window}", options, ("usual", *GROW), goal)


def _explain_batch(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    """A batch size is hard-coded in the target, and the input has another."""
    if x.rank < 1 or len(wanted) < 2 or wanted[0] in (-1, x.shape[0]):
        return None
    rest = wanted[1:]
    batch = x.shape[0]
    each = x.numel // batch if batch else 0
    inner = math.prod([size for size in rest if size != -1])
    if not ((-1 in rest and inner and each % inner == 0) or inner == each):
        return None
    reason = f"the target shape has a batch of {wanted[0]}, the input has {batch}: {write_product(x.shape)}"

    def edit(items: list[str]) -> list[str] | None:
        is_there = len(items) > 1 and items[1].strip("()") == str(wanted[0])
        return [items[0], f"{items[0]}.size(0)", *items[2:]] if is_there else None

    fix = fix_line(ctx, change_operation(ctx.line, ctx.function, edit, ctx.earlier))
    return Diagnosis(reason, write_shape(wanted), fix, candidates=_change_batch(ctx, wanted[0]))


def _change_batch(ctx: FailureContext, batch: int) -> tuple[tuple[TensorSpec, ...], ...]:
    """Return the model's inputs with another batch."""
    specs = [fact.spec for fact in ctx.trace.inputs]
    if not specs or not specs[0].shape:
        return ()
    old = specs[0].shape[0]
    return (tuple(s._replace(shape=(batch, *s.shape[1:])) if s.shape[:1] == (old,) else s for s in specs),)


def _explain_total(ctx: FailureContext, x: Operand, wanted: tuple[int, ...], fixed: int) -> Diagnosis:
    known = [size for size in wanted if size != -1]
    came = write_product(x.shape)
    target = write_product(known) if len(known) > 1 else str(fixed)
    inner = x.shape[1:]
    fitting = factor_like(fixed, inner[0], len(inner) - 1) if len(inner) > 1 else None
    if fitting is not None and len(known) == 1:
        target = f"{fixed} = {write_times(fitting)}"
    verb = f"is not divisible by {target}" if -1 in wanted else f"is not {target}"
    fix = moved = NOTHING
    for channels in (1,) if x.rank > 3 else (x.rank - 1, 1):  # of a signal they stand before its steps
        is_whole = x.rank > 1 and fixed * x.shape[channels] % x.numel == 0
        if -1 not in wanted and is_whole and wanted[0] == x.shape[0]:
            fix = fix or fix_giver(ctx, x, fixed * x.shape[channels] // x.numel, channels - x.rank)
    if wanted[0] == -1 and x.rank == 2 and len(wanted) > 2 and -1 not in wanted[1:]:
        fix = fix_giver(ctx, x, fixed)  # a sample of each row
    if wanted.count(-1) == 1 and wanted[-1] > 2 and x.rank > 1 and x.shape[-1] % (wanted[-1] - 1) == 0:  # a class more
        more, maker = x.shape[-1] // (wanted[-1] - 1) * wanted[-1], ctx.flow.producer(x.link)
        fix = fix_giver(ctx, x, more)
        if maker is not None and maker.type_name == "permute" and maker.inputs[0].shape[1:2] == x.shape[-1:]:
            fix = fix_giver(ctx, Operand(maker.inputs[0], maker.input_links[0]), more, 1 - x.rank)
        if fix and x.shape[-1] % wanted[-1]:
            each = f"{x.shape[-1] // (wanted[-1] - 1)} × {wanted[-1] - 1}"
            reason = f"{came} {verb}; {x.shape[-1]} channels are {each}, and the target has {wanted[-1]}"
            return Diagnosis(reason, write_shape(wanted), _widen_others(ctx, fix, wanted[-1]))
    if wanted.count(-1) == 1 and wanted[-1] > 2 and abs(x.shape[-1] - wanted[-1]) == 1:  # a class less
        fix = fix or fix_giver(ctx, x, wanted[-1])
    if mended := _change_number(ctx, x, wanted) if -1 not in wanted else NOTHING:
        return Diagnosis(f"{came} {verb}", write_shape(wanted), [mended, *([fix] if fix else [])])
    if (thirds := move_thirds(ctx, x)) is not None:
        return Diagnosis(f"{came} {verb}; {thirds[0]}", write_shape(wanted), thirds[1])
    if len(wanted) == 2 and x.rank > 2:
        flat = change_operation(ctx.line, ctx.function, lambda items: f"{items[0]}.flatten(1)", ctx.earlier)
        fix = fix_line(ctx, flat)
        moved = fix + move_grid(ctx, fixed, x.shape[1:])
        reader = next((fact for fact in ctx.trace.modules if fact.settings.get("in_features") == fixed), None)
        if fix and reader is not None:
            fix = fix + remake(ctx, reader, in_features=math.prod(x.shape[1:]))
    if len(wanted) == 3 and x.rank == 2 and wanted[2] == -1 and wanted[0] > 0 and x.shape[0] % wanted[0] == 0:
        parted = change_operation(
            ctx.line, ctx.function, lambda items: f"{items[0]}.unflatten(0, ({items[1]}, -1))", ctx.earlier
        )
        fix = fix_line(ctx, parted)  # frames of each sample
    measure = product_from(1 if -1 in wanted and x.rank > 1 else 0)
    options = [option for option in (*_list_targets(ctx, x, wanted), moved, fix) if option]
    if fix and len(wanted) == 2:
        options.insert(0, options.pop())
    return Diagnosis(f"{came} {verb}", write_shape(wanted), options, GROW, (measure, fixed))


def _change_number(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Candidate:
    """Change the number of a sum that a target names, ``4 + classes``, where another gives what there is."""

    def edit(items: list[str]) -> list[str] | None:
        places = [place for place, text in enumerate(items[1:]) if re.search(r"\b\d+ \+ \w|\w \+ \d+\b", text)]
        if len(items) != len(wanted) + 1 or len(places) != 1:
            return None
        at = places[0]
        needed, left = divmod(x.numel, math.prod(size for place, size in enumerate(wanted) if place != at))
        numbers = re.findall(r"(?<![\w.])\d+(?![\w.])", items[at + 1])
        number = int(numbers[0]) + needed - wanted[at] if len(numbers) == 1 else 0
        if left or needed < wanted[at]:  # where a layer gives too little it is the layer's
            return None
        changed = re.sub(r"(?<![\w.])\d+(?![\w.])", str(number), items[at + 1])
        return [*items[: at + 1], re.sub(r"^\(([^()]*)\)$", r"\1", changed), *items[at + 2 :]]

    return fix_line(ctx, change_operation(ctx.line, ctx.function, edit, ctx.earlier))


def _widen_others(ctx: FailureContext, fix: Candidate, number: int) -> Candidate:
    """Give the layers beside one in its list a class more too: they predict for maps of other sizes."""
    edit = fix.edits[0]
    path = edit.path if isinstance(edit, LayerEdit) else ""
    place, _, number_of = path.rpartition(".")
    found = fix
    for fact in ctx.trace.modules if number_of.isdigit() else ():
        channels, (beside, _, other) = fact.settings.get("out_channels"), fact.path.rpartition(".")
        is_beside = beside == place and other.isdigit() and other != number_of
        if is_beside and isinstance(channels, int) and channels % (number - 1) == 0:
            found = found + remake(ctx, fact, out_channels=channels // (number - 1) * number)
    return found


def _list_targets(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Iterator[Candidate]:
    """List shapes that hold as many numbers: other sides of a feature map, a last dim that is worked out."""
    batch = x.shape[0]
    if x.rank > 1 and len(wanted) > 3 and wanted[0] in (-1, batch) and (each := x.numel // batch) % wanted[1] == 0:
        count = len(wanted) - 2
        side = round((each // wanted[1]) ** (1 / count))
        if side**count * wanted[1] == each and side != wanted[-1]:
            yield _write_sides(ctx, wanted, side)
    lead = math.prod(wanted[:-1])
    is_some = lead > 0 and x.numel % lead == 0 and x.numel > lead  # more than 1 in the last dim
    is_side = x.rank > 3 and wanted[-2:] == x.shape[-2:]  # and not the width of a map, which stays what it is
    if len(wanted) > 2 and wanted[0] > 0 and is_some and not is_side and ctx.function != "unflatten":
        open_end = change_operation(ctx.line, ctx.function, lambda items: [*items[:-1], "-1"], ctx.earlier)
        yield fix_line(ctx, open_end)


def _write_sides(ctx: FailureContext, wanted: tuple[int, ...], side: int) -> Candidate:
    """Write other sides of a feature map in the place of those that the target has."""
    count = len(wanted) - 2
    if ctx.call.kind == "module":
        sizes = (wanted[1], *[side] * count)
        return set_value(ctx.call.path, f"nn.Unflatten({ctx.given('dim')}, {sizes})")
    old = re.compile(rf"(?<![\w.]){', '.join(map(str, wanted[2:]))}(?![\w.])")
    new = ", ".join([str(side)] * count)
    return fix_line(ctx, old.sub(new, ctx.line)) if len(old.findall(ctx.line)) == 1 else NOTHING


def _explain_expand(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    for axis in range(1, x.rank + 1):
        if wanted[-axis] not in (-1, x.shape[-axis]) and x.shape[-axis] != 1:
            at = len(wanted) - axis
            where = f"dim {at} is {x.shape[-axis]}, the target is {wanted[-axis]}"
            reason = f"expand changes dims of size 1 only: {where}"
            goal = (_target_at(at), x.shape[-axis])
            options = [*list_rebuilds(ctx, x.shape[-axis], wanted[-axis]), resize_param(ctx, x, [-axis], wanted[-axis])]
            if table := _name_table(ctx, x, x.shape[-axis]):
                reason = f"input has {wanted[-axis]} positions, {table}"
                return Diagnosis(reason, f"at most {x.shape[-axis]}", options, STEER, goal)
            search = STEER if options[0] else ANYWHERE
            return Diagnosis(reason, "1, or the target size, in every dim", options[0], search, goal)
    return None


def _name_table(ctx: FailureContext, x: Operand, size: int) -> str:
    """Name the table of positions of a module that has a buffer of its length, and the field that says so."""
    name, field = find_param_name(ctx, x), name_setting(ctx, size)
    owner = name.rpartition(".")[0]
    beside = (fact for fact in ctx.trace.modules if fact.path.rpartition(".")[0] == owner and name)
    table = next((fact for fact in beside if fact.settings.get("num_embeddings") == size), None)
    if table is None:
        return f"'{name}' has {size} ({field})" if name and field else ""
    return f"'{table.path}' has {size}" + (f" ({field})" if field else "")


def _target_at(at: int) -> Any:
    """Measure one of the sizes in a call's arguments."""

    def measure(call: Call) -> int | None:
        target = dict(call.arguments).get("size")
        return target[at] if isinstance(target, tuple) and at < len(target) else None

    return measure


def _explain_shuffle(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    kept = ctx.given("upscale_factor")
    if type(kept) is not int or x.rank < 3 or x.shape[-3] % (kept * kept) == 0:
        return None
    channels = x.shape[-3]
    reason = f"{channels} channels are not divisible by {kept} × {kept} = {kept * kept}"
    maker = ctx.flow.producer(x.link)
    fact = ctx.flow.module_of(maker)
    fix = NOTHING
    if fact is not None and fact.settings.get("out_channels") == channels:
        # Made for another factor, 12 = 3 × 2 × 2 channels are an image of three; or with the factor once.
        reader = next((fact for fact in ctx.list_unread() if fact.settings.get("in_channels")), None)
        images = [channels // other for other in (4, 9, 16, 25, kept) if channels % other == 0]
        images = [count for count in images if count in (1, 3, ctx.trace.inputs[0].spec.shape[1])]
        images = images if reader is None else [reader.settings["in_channels"]]
        more = (images[0] if images else -(-channels // (kept * kept))) * kept * kept
        fix = remake(ctx, fact, out_channels=more)
    return Diagnosis(reason, f"channels divisible by {kept * kept}", fix)


def explain_split(ctx: FailureContext) -> Diagnosis | None:
    """Explain pieces that don't add up to the split dim."""
    if ctx.function not in ("split", "split_with_sizes") or not ctx.operands:
        return None
    x = ctx.operands[0]
    names = ("split_sizes", "split_size_or_sections", "split_size")
    sizes = next((ctx.arguments[name] for name in names if name in ctx.arguments), None)
    dim = ctx.arguments.get("dim", 0)
    if not isinstance(sizes, tuple) or type(dim) is not int or not -x.rank <= dim < x.rank:
        return None
    if sum(sizes) == x.shape[dim]:
        return None
    reason = f"{' + '.join(map(str, sizes))} = {sum(sizes)}, and dim {dim % x.rank} has {x.shape[dim]}"

    fix = fix_giver(ctx, x, sum(sizes), dim % x.rank - x.rank)
    return Diagnosis(reason, f"{sum(sizes)} in dim {dim % x.rank}", fix, STEER, (dim_of(dim), sum(sizes)))
