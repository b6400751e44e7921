"""A layer in an ``nn.Sequential`` that returns several tensors: all of them are what the next one reads."""

from __future__ import annotations

import ast
import re

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line, write_at
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.rewriting import find_own_call
from modelsummary_ipy.diagnosis.failures.source_edits import write_loop
from modelsummary_ipy.diagnosis.failures.statements import list_nodes, read_statement
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, Source


def is_in_sequence(ctx: FailureContext, call: Call) -> bool:
    """Return whether an ``nn.Sequential`` runs a module: what it returns is all that the next one reads."""
    return call.parent is not None and ctx.trace.calls[call.parent].type_name == "Sequential"


def write_sequence(ctx: FailureContext, layer: Call, template: str) -> Candidate:
    """Write the ``nn.Sequential`` that runs a layer as a loop in which that layer is called otherwise.

    Args:
        layer: A call of one of torch's own.
        template: How it is called: ``"layer({0})[0]"``.

    Returns:
        Nothing where no line of the user's calls the ``nn.Sequential``.
    """
    own = find_own_call(ctx)
    fact = ctx.flow.module_of(layer)
    if fact is None or not fact.type_module.startswith("torch.") or own.type_name != "Sequential":
        return NOTHING
    if layer.parent != own.index or not own.path:
        return NOTHING

    def write(found: re.Match[str]) -> str:
        return f"{template.format(found[1])} if isinstance(layer, nn.{layer.type_name}) else {found[0]}"

    line, count = re.subn(r"(?<![\w.])layer\((\w+)\)", write, write_loop(ctx.line, name_member(own.path)))
    return fix_line(ctx, line) if count == 1 else NOTHING


def return_first(filename: str, line: int) -> Candidate:
    """Return the first of several at the end of a function, which begins at a line of a file."""
    for node in list_nodes(filename, ast.FunctionDef):
        last = node.body[-1]
        if node.lineno == line and isinstance(last, ast.Return) and isinstance(last.value, ast.Tuple):
            source = Source(filename.rpartition("/")[2], last.lineno, "", filename)
            statement, text = read_statement(source), f"return {ast.unparse(last.value.elts[0])}"
            return write_at(source, statement, text) if statement is not None else NOTHING
    return NOTHING
