"""``None`` where a tensor belongs: a forward without a return, a part that a model does not have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line
from modelsummary_ipy.diagnosis.failures.rewriting import Write, explain_rewrite
from modelsummary_ipy.diagnosis.failures.statements import list_methods, read_last_statement
from modelsummary_ipy.records.fixes import Candidate, LineEdit


def explain_none(ctx: FailureContext) -> Diagnosis:
    """Explain ``None`` that was passed on: by what returned it."""
    if (found := re.match(r"(\w+) = (\1\.(?:append|extend|insert)\(.*)", ctx.line)) is not None:
        reason = f"{found[1]}.append() changes the list and returned None, which the line gives its name"
        return Diagnosis(reason, "no assignment", fix_line(ctx, found[2]))
    before = [c for c in ctx.trace.calls if c.kind == "module" and c.index < ctx.call.index and not c.outputs]
    silent = next((call for call in reversed(before) if call.status == "ran"), None)
    if silent is None:
        return _explain_method(ctx) or Diagnosis(f"got None, {ctx.owner} expects a tensor", "a tensor")
    fact = ctx.flow.module_of(silent)
    name = f"{silent.type_name}.forward"
    fix = _write_return(fact.forward_file, fact.forward_line, name) if fact is not None else NOTHING
    reason = f"'{silent.path}' ({silent.type_name}) returned None: its forward has no return"
    return Diagnosis(reason, "a tensor", fix)


def _explain_method(ctx: FailureContext) -> Diagnosis | None:
    """A method of the user's that the same function calls has no return."""
    source, methods = ctx.failure.source, {node.name: node for node in list_methods(ctx.failure.source)}
    if source is None:
        return None
    here = next((node for node in methods.values() if node.lineno <= source.line <= (node.end_lineno or 0)), None)
    for call in [node for node in ast.walk(here) if isinstance(node, ast.Call)] if here is not None else []:
        called = methods.get(call.func.attr) if isinstance(call.func, ast.Attribute) else None
        if called is None or any(isinstance(node, ast.Return) for node in ast.walk(called)):
            continue
        fix = _write_return(source.filename, called.lineno, called.name)
        if fix and called.name != "__init__":
            return Diagnosis(f"self.{called.name}() returned None: it has no return", "a tensor", fix)
    return None


def _write_return(filename: str, line: int, function: str) -> Candidate:
    """Return what the last statement of a function makes, which begins at a line of a file."""
    last = read_last_statement(filename, line)
    if last is None:
        return NOTHING
    statement, name = last
    text = f"{statement.text}\nreturn {name}" if name else f"return {statement.text}"
    edit = LineEdit(statement.filename, statement.first, statement.last, text)
    return Candidate(f"return {name or statement.text} at the end of {function}", (edit,))


def explain_absent(ctx: FailureContext) -> Diagnosis | None:
    """A part that a model may have is ``None``, and is added all the same: a bias, a mask."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.BinOp):
            for one, other in ((node.right, node.left), (node.left, node.right)):
                held = ctx.failure.names.get(write(one))
                if held is not None and held.kind == "NoneType":
                    whole = f"{write(other)} if {write(one)} is None else {write(node)}"
                    yield write(one), whole if isinstance(around, (ast.Assign, ast.Return)) else f"({whole})"

    return explain_rewrite(ctx, change, "{} is None, and takes part all the same", "a tensor")
