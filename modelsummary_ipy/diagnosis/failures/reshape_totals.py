"""A reshape to another number of elements, where nothing more particular explains it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import GROW, NOTHING, Diagnosis, FailureContext, Operand, product_from
from modelsummary_ipy.diagnosis.failures.decoder_grid import move_grid
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import move_thirds
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, fix_line, remake, set_value
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation
from modelsummary_ipy.diagnosis.formatting import factor_like, write_product, write_shape, write_times
from modelsummary_ipy.records.fixes import Candidate, LayerEdit


def explain_total(ctx: FailureContext, x: Operand, wanted: tuple[int, ...], fixed: int) -> Diagnosis:
    """Explain a target of another number of elements by what the line, or the layer before it, is to be."""
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
