"""Rows, steps, edges and pairs that are not as many in two tensors: parted, repeated, joined, or of another's size."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand, Pair, name_call
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_made,
    fix_operand,
    place_line,
    read_arguments,
    read_line,
    remake,
)
from modelsummary_ipy.diagnosis.failures.rewriting import Write, list_statements, rewrite, write_statement
from modelsummary_ipy.diagnosis.failures.source_edits import splice_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import (
    find_nodes,
    find_operation,
    find_targets,
    read_arguments_of,
    read_call,
    splice_node,
)
from modelsummary_ipy.diagnosis.failures.statements import drop_remark, find_parameters, list_names_before
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
        moved = fix_made(ctx, maker, lambda items: [items[0], str(axis)])
        fixes = [moved, fix_operand(ctx, place, f"{{}}.transpose({axis}, {axis + 1})")]
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


_MOST = 4


def explain_other_size(pair: Pair) -> Diagnosis | None:
    """One of two tensors was made by counting to a size, or expanded to it, and has too few or too many rows."""
    ctx = pair.ctx
    if len(pair.axes) != 1:
        return None
    for x, other, *_ in pair.each():
        had, came = x.shape[pair.axes[0]], other.shape[pair.axes[0]]
        if not _is_counted(ctx, x, had) or (came == 1 and ctx.function in CATS):  # a token that is to be expanded
            continue
        fixes = list(_list_sizes(ctx, had, came))
        reason = f"a table of {had} rows was made, {came} are needed"
        if (last := ctx.flow.producer(x.link)) is not None and last.type_name in ("expand", "repeat"):
            reason = f"{last.type_name}() made {had} steps, the other has {came}"
        return Diagnosis(reason, f"{came} rows", fixes[:_MOST]) if fixes else None
    return None


def _is_counted(ctx: FailureContext, x: Operand, size: int) -> bool:
    """Return whether a tensor was made of ``arange`` of a size, as tables of positions are, or expanded to it."""
    last = ctx.flow.producer(x.link)
    if last is not None and last.type_name in ("expand", "repeat") and size not in last.inputs[0].shape:
        return True
    made = [call for call in ctx.flow.before(x.link) if call.type_name in SIZED_FACTORIES]
    return any(call.outputs and call.outputs[0].shape == (size,) for call in made)


def _list_sizes(ctx: FailureContext, had: int, came: int) -> Iterator[Candidate]:
    """List statements in which a name or a read of a size ``had`` becomes a read of a size ``came``."""
    sources = dict.fromkeys(_list_named(ctx, came))
    for statement in list_statements(ctx):
        line = drop_remark(statement.text)
        for node in find_nodes(line, ast.Call):
            for item in node.args:
                text = ast.unparse(item)
                held = ctx.failure.names.get(text)
                is_size = held is not None and held.words == (str(had),)
                is_read = re.fullmatch(r"\w+\.(?:size\(-?\d\)|shape\[-?\d\])", text) is not None
                if is_size or is_read:
                    for name in sources:
                        yield write_statement(ctx, statement, splice_node(line, item, name))


def _list_named(ctx: FailureContext, size: int) -> Iterator[str]:
    """List how the function that failed may write a size: ``"steps.size(1)"``, the last tensor first."""
    source = ctx.failure.source
    for call in reversed(ctx.trace.calls[: max(ctx.call.index, 0)]):
        own = call.source is not None and source is not None and call.source.function == source.function
        if not own or call.source is None or source is None or call.source.filename != source.filename:
            continue
        found = ctx.read(call.source)
        targets = find_targets(found.text) if found is not None else []
        if len(targets) == 1 and call.outputs and found is not None and found.first < source.line:
            yield from (f"{targets[0]}.size({axis})" for axis, n in enumerate(call.outputs[0].shape) if n == size)


def explain_edges(pair: Pair) -> Diagnosis | None:
    """Explain nodes that were picked for each edge of a list that was joined, beside rows for those edges it had."""
    for x, other, _, there in pair.each():
        if x.rank != other.rank or x.rank < 2 or x.shape[0] <= other.shape[0]:
            continue
        joined = _find_joined(pair.ctx, x)
        counts = [spec.shape[-1] for spec in joined.inputs] if joined is not None else []
        name = next(iter(find_targets(read_line(pair.ctx, joined.source))), "") if joined is not None else ""
        if sum(counts) != x.shape[0] or other.shape[0] not in counts or not name:
            continue
        rows = other.shape[0]
        reason = f"cat made {name} of {' + '.join(map(str, counts))} = {x.shape[0]} edges, this has {rows} rows"
        given, rank = _find_given(pair.ctx, other)
        gap = f"{name}.size(1) - {{0}}.size(0)"
        pad = f"F.pad({{0}}, (0, {gap}), value=1.0)" if rank == 1 else f"F.pad({{0}}, (0, 0, 0, {gap}))"
        text = f"torch.cat([{', '.join(['{0}'] * len(counts))}])" if set(counts) == {rows} else pad

        def change(
            node: ast.AST, around: ast.AST | None, write: Write, text: str = text, given: str = given
        ) -> Iterator[str]:
            if isinstance(node, ast.Name) and node.id == given:
                yield text.format(given)

        own = rewrite(pair.ctx, change, here=True) if given else []
        whole = fix_operand(pair.ctx, there, text.replace("{0}", f"{{{there}}}"))
        return Diagnosis(reason, f"{x.shape[0]} rows", own or whole)
    return None


def _find_joined(ctx: FailureContext, x: Operand) -> Call | None:
    """Find the ``cat`` that made the list of edges by which rows were picked."""
    for call in ctx.flow.walk_back(x.link, 8):
        picks = [link for link, spec in zip(call.input_links, call.inputs, strict=False) if "int" in spec.dtype]
        if call.type_name in ("getitem", "index_select") and picks:
            steps = ctx.flow.walk_back(picks[0], 6)
            return next((step for step in steps if step.type_name in CATS), None)
    return None


def _find_given(ctx: FailureContext, x: Operand) -> tuple[str, int]:
    """Return the argument of the failing function that has the rows of a tensor, and its rank; ``""`` if none has."""
    links = {x.link, *(link for step in ctx.flow.walk_back(x.link, 12) for link in step.input_links[:1])}
    around = ctx.parent
    pairs = zip(around.input_links, around.inputs, strict=False) if around is not None else ()
    found = [(spec.name, len(spec.shape)) for link, spec in pairs if link in links and spec.shape[:1] == x.shape[:1]]
    known = find_parameters(ctx.failure.source)
    return next(((name, rank) for name, rank in found if name in known), ("", 0))
