"""Sizes that a reshape divides and that are not divisible: heads, windows, rows of a length."""

from __future__ import annotations

import math
import re
from functools import reduce
from operator import add

from modelsummary_ipy.diagnosis.failures.constructions import list_constructions
from modelsummary_ipy.diagnosis.failures.context import GROW, Diagnosis, FailureContext, Operand, product_from
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, fix_line, set_value
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation
from modelsummary_ipy.diagnosis.failures.source_nodes import find_operands
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import join_path


def explain_heads(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
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
            alike = [fact for fact in ctx.trace.modules if fact.settings == ctx.fact.settings]
            sizes = {names[heads][0]: near} | ({names[each][0]: features // near} if len(names[each]) == 1 else {})
            changes = [(fact.path, name, size) for fact in alike for name, size in sizes.items()]
            options.append(reduce(add, (set_value(join_path(path, name), str(size)) for path, name, size in changes)))
    if not options and re.search(rf"\b{heads}\b", ctx.line):
        options.append(fix_line(ctx, re.sub(rf"\b{heads}\b", str(near), ctx.line)))
    whole = ctx.operands[0]
    options.append(fix_giver(ctx, whole, -(-features // each) * each * pieces, (x.rank - 1) - whole.rank))
    words = ", ".join(map(str, fitting))
    return Diagnosis(reason, f"a number of {noun} among {words}", options)


def explain_windows(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
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


def explain_periods(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
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
