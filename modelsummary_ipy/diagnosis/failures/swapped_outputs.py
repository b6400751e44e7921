"""Outputs of a module that are unpacked in another order than it returns them."""

from __future__ import annotations

import ast

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, Pair
from modelsummary_ipy.diagnosis.failures.fixes import place_line, read_arguments, read_line, write_at
from modelsummary_ipy.diagnosis.failures.source_nodes import read_unpacking
from modelsummary_ipy.diagnosis.failures.statements import list_nodes, name_file, read_statement
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, Source


def explain_swapped(pair: Pair) -> Diagnosis | None:
    """A module returns ``a, b``, the line unpacks ``b, a``, and the other one has the size that is needed."""
    ctx = pair.ctx
    texts = read_arguments(ctx)
    for x, other, place, _ in pair.each():
        for call in _list_unpacked(pair, place):
            line = read_line(ctx, call.source)
            names, right = read_unpacking(line) or ([], "")
            at = call.output_links.index(x.link)
            fitting = [leaf for leaf, spec in enumerate(call.outputs) if leaf != at and spec.shape == other.shape]
            if len(names) != len(call.outputs) or texts[place : place + 1] != [names[at]] or len(fitting) != 1:
                continue
            names[at], names[fitting[0]] = names[fitting[0]], names[at]
            shapes = " and ".join(write_shape(spec.shape) for spec in call.outputs)
            reason = f"'{call.path}' returns {shapes}, and '{texts[place]}' is the one of {write_shape(x.shape)}"
            unpacked = place_line(ctx, call, f"{', '.join(names)} = {right}")
            return Diagnosis(reason, write_shape(other.shape), [unpacked, _turn_return(ctx, call)])
    return None


def _turn_return(ctx: FailureContext, call: Call) -> Candidate:
    """Return two outputs the other way round, in the module that made them: one line unpacks those of several."""
    inner = [other for other in ctx.trace.calls[call.index :] if other.output_links == call.output_links]
    fact = ctx.flow.module_of(inner[-1]) if inner else None
    if fact is None:
        return NOTHING
    for node in list_nodes(fact.forward_file, ast.FunctionDef):
        last = node.body[-1]
        is_own = fact.forward_line in (node.lineno, *(at.lineno for at in node.decorator_list))
        if is_own and isinstance(last, ast.Return) and isinstance(last.value, ast.Tuple) and len(last.value.elts) == 2:
            source = Source(name_file(ctx.trace, fact.forward_file), last.lineno, node.name, fact.forward_file)
            statement = read_statement(source)
            one, other = map(ast.unparse, last.value.elts)
            return NOTHING if statement is None else write_at(source, statement, f"return {other}, {one}")
    return NOTHING


def _list_unpacked(pair: Pair, place: int) -> list[Call]:
    """List the calls of the user's own modules beside the failed one that gave an operand and something else."""
    ctx, link = pair.ctx, pair.ctx.operands[place].link
    found = []
    for call in ctx.trace.calls[: max(ctx.call.index, 0)]:
        fact = ctx.flow.module_of(call)
        is_own = fact is not None and not fact.type_module.startswith("torch.")
        if is_own and call.parent == ctx.call.parent and len(call.outputs) > 1 and link in call.output_links:
            found.append(call)
    return found[::-1]
