"""Rows, steps and pairs of steps that are not as many in two tensors, as one was parted, repeated or set out alone."""

from __future__ import annotations

import math

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Pair, name_call
from modelsummary_ipy.diagnosis.failures.fixes import fix_operand, place_line, read_arguments, read_line, remake
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation, splice_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import find_operation, read_arguments_of, read_call
from modelsummary_ipy.diagnosis.failures.statements import list_names_before
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import CATS, SIZED_FACTORIES
from modelsummary_ipy.model.torch_layers import OUTPUT_SETTINGS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call


def explain_same_place(pair: Pair) -> Diagnosis | None:
    """Each step of one sequence was to meet each of another, and both have their dim of one at the same place."""
    ctx, (left, right) = pair.ctx, pair.both
    rank = left.rank
    if rank != right.rank or len(pair.axes) != 1 or rank < 4:
        return None
    axis = rank + pair.axes[0]
    if axis < 1 or axis + 1 >= rank or left.shape[axis + 1] != 1 or right.shape[axis + 1] != 1:
        return None
    for x, place in ((right, pair.places[1]), (left, pair.places[0])):
        maker = ctx.flow.producer(x.link)
        if maker is None or maker.type_name != "unsqueeze" or ctx.flow.setting(maker, "dim") != axis + 1:
            continue
        line = change_operation(read_line(ctx, maker.source), "unsqueeze", lambda items: [items[0], str(axis)])
        fixes = [place_line(ctx, maker, line), fix_operand(ctx, place, f"{{}}.transpose({axis}, {axis + 1})")]
        reason = f"{write_shape(left.shape)} and {write_shape(right.shape)} have their dim of 1 at the same place: "
        return Diagnosis(f"{reason}each with each needs it at two", "dims of 1 at two places", fixes)
    return None


def explain_parted_rows(pair: Pair) -> Diagnosis | None:
    """Maps of a head are read as rows of so many numbers, and its convolution gives a number of channels too few."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        if pair.axes != [1 - x.rank] or x.rank != 3 or other.rank != 3:
            continue
        had, came = x.shape[1], other.shape[1]
        call = _find_parting(pair, ctx.flow.producer(x.link))
        steps = ctx.flow.walk_back(call.input_links[0], 4) if call is not None else ()
        fact = ctx.flow.module_of(next((step for step in steps if step.kind == "module"), None))
        name = next((name for name in OUTPUT_SETTINGS if fact is not None and fact.settings.get(name)), "")
        if call is None or fact is None or not name or fact.settings[name] * came % had:
            continue
        units, row = fact.settings[name] * came // had, call.outputs[0].shape[-1]
        if units % row or units == fact.settings[name]:
            continue
        reason = f"'{fact.path}' gives {fact.settings[name]} numbers for each position, rows of {row}: {had} rows "
        reason += f"against {came}; {units // row} rows are {units}"
        return Diagnosis(reason, f"{came} rows", remake(ctx, fact, **{name: units}))
    return None


def _find_parting(pair: Pair, call: Call | None) -> Call | None:
    """Find the reshape that made rows of a map, before they were joined with those of others."""
    for _ in range(6):
        if call is None or not call.inputs:
            return None
        before, after = call.inputs[0].shape, call.outputs[0].shape
        if call.type_name in ("view", "reshape") and len(before) == 4 and len(after) == 3:
            return call if math.prod(before[1:]) == math.prod(after[1:]) else None
        if call.type_name not in CATS and before != after:
            return None
        call = pair.ctx.flow.producer(call.input_links[0])
    return None


def explain_repeated_steps(pair: Pair) -> Diagnosis | None:
    """The steps of one of two tensors were repeated, the other was made of them before."""
    ctx = pair.ctx
    for x, other, _, there in pair.each():
        if len(pair.axes) != 1 or x.rank != other.rank or x.shape[pair.axes[0]] % other.shape[pair.axes[0]]:
            continue
        call = next((step for step in ctx.flow.walk_back(x.link, 3) if step.type_name == "repeat_interleave"), None)
        if call is None or not call.inputs or call.inputs[0].shape[pair.axes[0]] != other.shape[pair.axes[0]]:
            continue
        line = read_line(ctx, call.source)
        found = find_operation(line, "repeat_interleave")
        if len(found) != 1 or found[0][2] is None:
            continue
        words, named = read_arguments_of(line, found[0][2])
        is_method = len(found[0][1]) > len(words)
        given = ", ".join([*(words if is_method else words[1:]), *(f"{name}={text}" for name, text in named.items())])
        had, came = other.shape[pair.axes[0]], x.shape[pair.axes[0]]
        reason = f"{name_call(call)} made {came} steps of {had}, and the other has the {had}"
        return Diagnosis(reason, f"{came} steps", fix_operand(ctx, there, f"{{}}.repeat_interleave({given})"))
    return None


def explain_square_mask(pair: Pair) -> Diagnosis | None:
    """``torch.eye(N)`` beside the similarities of two views of N samples, which are ``2 * N`` by ``2 * N``."""
    ctx, texts = pair.ctx, read_arguments(pair.ctx)
    for x, other, _, there in pair.each():
        if x.rank != 2 or other.rank < 2 or len({*x.shape}) > 1 or len({*other.shape[-2:]}) > 1:
            continue
        maker = next((call for call in ctx.flow.walk_back(x.link, 5) if call.type_name in SIZED_FACTORIES), None)
        if maker is None or maker.outputs[0].shape != x.shape or ctx.flow.sources(x.link):
            continue
        had, came = x.shape[0], other.shape[-1]
        name = texts[there] if there < len(texts) and texts[there].isidentifier() else ""
        is_known = name and maker.source is not None and name in list_names_before(maker.source)
        size = f"{name}.size({0 if other.rank == 2 else -1})" if is_known else ""
        fix = _resize(ctx, maker, came, size)
        if fix:
            reason = f"{maker.type_name}() makes {had} × {had}, {write_shape(other.shape)} has {came} rows"
            return Diagnosis(reason, write_shape((came, came)), fix)
    return None


def _resize(ctx: FailureContext, maker: Call, came: int, size: str) -> Candidate:
    """Make a square tensor of another size: of ``size``, or as many times as many as the line says now."""
    line, had = read_line(ctx, maker.source), maker.outputs[0].shape[0]
    given = read_call(line, maker.type_name)[0]
    if not size and given and came % had == 0 and given[0].isidentifier():
        size = f"{came // had} * {given[0]}"
    rank = 1 if maker.type_name == "eye" and len(given) == 1 else 2
    changed = splice_argument(line, maker.type_name, (had,) * rank, (came,) * rank, {0: size, 1: size} if size else {})
    return place_line(ctx, maker, changed if changed != line else "")
