"""Functions made in a loop that read the loop's name when they are called: by then it stands for the last item."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import write_at
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, read_text, splice_node
from modelsummary_ipy.diagnosis.failures.statements import drop_remark, list_around, list_loops
from modelsummary_ipy.records.fixes import Candidate


def explain_late(ctx: FailureContext) -> Diagnosis | None:
    """Explain the last layer of a list that runs first, in a ``lambda`` that was made for another one."""
    container, _, item = ctx.call.path.rpartition(".")
    siblings = [fact for fact in ctx.trace.modules if fact.path.rpartition(".")[0] == container] if container else []
    if len(siblings) < 2 or siblings[-1].path != ctx.call.path or ctx.call.kind != "module" or not item:
        return None
    if any(call.path in {fact.path for fact in siblings[:-1]} for call in ctx.trace.calls):
        return None
    for made, name in _list_made(ctx):
        reason = f"the lambda reads {name} when it is called, and that is the last one then: the loop has ended"
        return Diagnosis(reason, f"{name}={name} among the lambda's arguments", _keep(ctx, made, name))
    return None


def _list_made(ctx: FailureContext) -> Iterator[tuple[ast.Lambda, str]]:
    """List the lambdas in loops that hold the failing line, each with the loop's name that it reads."""
    source = ctx.failure.source
    if source is None:
        return
    loops = list_loops(source)
    for made in list_around(source, (ast.Lambda,)):
        if not made.lineno <= source.line <= (made.end_lineno or made.lineno):
            continue
        read = {node.id for node in ast.walk(made.body) if isinstance(node, ast.Name)}
        read -= {item.arg for item in ast.walk(made.args) if isinstance(item, ast.arg)}
        for loop in loops:
            targets = [loop.target] if isinstance(loop, ast.For) else [part.target for part in loop.generators]
            names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
            if any(node is made for node in ast.walk(loop)):
                yield from ((made, name) for name in sorted(names & read))


def _keep(ctx: FailureContext, made: ast.Lambda, name: str) -> Candidate:
    """Give a lambda of a statement the loop's name as an argument with a default: ``lambda x, layer=layer: …``."""
    source = ctx.failure.source
    statement = ctx.read_at(made.lineno)
    if statement is None or source is None:
        return NOTHING
    line = drop_remark(statement.text)
    own = [node for node in find_nodes(line, ast.Lambda) if ast.unparse(node) == ast.unparse(made)]
    if len(own) != 1:
        return NOTHING
    arguments = ast.unparse(own[0].args)
    kept = f"{arguments}, {name}={name}" if arguments else f"{name}={name}"
    changed = splice_node(line, own[0], f"lambda {kept}: {read_text(line, own[0].body)}")
    return write_at(source, statement, changed)
