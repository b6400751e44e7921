"""Expressions written anew in the failing statement, or in one of its function that gave a name which it reads."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line, write_at
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, parse_line, read_text, splice_node
from modelsummary_ipy.diagnosis.failures.statements import Statement, drop_remark, list_stored, walk_function
from modelsummary_ipy.records.fixes import Candidate, LineEdit
from modelsummary_ipy.records.packages import PACKAGES
from modelsummary_ipy.records.trace import Call

#: Writes a node as the user did.
Write = Callable[[ast.AST], str]
#: Takes a node, the one around it and what writes a node; returns what may stand there.
Change = Callable[[ast.AST, "ast.AST | None", Write], Iterable[str]]
#: The same, each with what it is of.
Note = Callable[[ast.AST, "ast.AST | None", Write], Iterable[tuple[str, str]]]
_MOST_LINES = 6


def list_statements(ctx: FailureContext) -> Iterator[Statement]:
    """List the failing statement, then those of its function that give a name which it reads, the last one first."""
    if ctx.statement is None:
        return
    yield ctx.statement
    wanted, found = _read_names(ctx.line), [ctx.statement]
    for node in sorted(list_stored(ctx.failure.source), key=lambda node: -node.lineno):
        there = ctx.read_at(node.lineno) if node.id in wanted and node.lineno < ctx.statement.first else None
        if there is None or there in found or len(found) > _MOST_LINES:
            continue
        found.append(there)
        wanted |= _read_names(there.text)
        yield there


def write_words(call: ast.Call, write: Write) -> list[str]:
    """Write the arguments of a call as they are: ``["x", "dim=1"]``."""
    return [*map(write, call.args), *(f"{word.arg}={write(word.value)}" for word in call.keywords)]


def _read_names(line: str) -> set[str]:
    tree = parse_line(line)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree is not None else set()


def write_statement(ctx: FailureContext, statement: Statement, line: str) -> Candidate:
    """Write a statement of the user's anew; with its place, where it is not the failing one."""
    if not line or line == drop_remark(statement.text):
        return NOTHING
    if statement == ctx.statement:
        return fix_line(ctx, line)
    return write_at(ctx.failure.source, statement, line)


def find_own_call(ctx: FailureContext) -> Call:
    """Return the innermost call around the failed one, or itself, that a line of the user's made."""
    call = ctx.call
    while (call.source is None or call.source.filename.startswith(PACKAGES)) and call.parent is not None:
        call = ctx.trace.calls[call.parent]
    return call


def rewrite(ctx: FailureContext, change: Change, *, here: bool = False, alone: bool = False) -> list[Candidate]:
    """Write anew what a function has another text for.

    Args:
        change: Says what may stand in the place of a node.
        here: Whether the failing statement alone is changed.
        alone: Whether expressions that are written alike are changed one by one, and not together.
    """
    made: list[Candidate] = []
    for statement in list_statements(ctx):
        line = drop_remark(statement.text)
        tree = parse_line(line)
        groups: dict[object, tuple[list[ast.AST], str]] = {}
        for node, new in _list_changes(line, tree, change) if tree is not None else ():
            old = read_text(line, node)
            groups.setdefault((id(node) if alone else old, new), ([], new))[0].append(node)
        made += [write_statement(ctx, statement, _splice_all(line, nodes, new)) for nodes, new in groups.values()]
        if here:
            break
    return [item for item in made if item]


def change_alike(ctx: FailureContext, candidate: Candidate) -> Candidate:
    """Change with a line those of its function that give other names the same: both states of an LSTM."""
    edit = candidate.edits[0] if len(candidate.edits) == 1 else None
    new = next(iter(find_nodes(edit.text, ast.Assign)), None) if isinstance(edit, LineEdit) else None
    nodes = [node for node in walk_function(ctx.failure.source) if isinstance(node, ast.Assign)]
    old = next((node for node in nodes if isinstance(edit, LineEdit) and node.lineno == edit.first), None)
    made = NOTHING
    for node in nodes if new is not None and old is not None else ():
        there = ctx.read_at(node.lineno) if node is not old else None
        one = candidate if node is old else NOTHING
        if there is not None and old is not None and new is not None and ast.dump(node.value) == ast.dump(old.value):
            one = write_statement(ctx, there, f"{ast.unparse(node.targets[0])} = {ast.unparse(new.value)}")
        made = made + one if made and one else made or one
    return made or candidate


def rewrite_statement(statement: Statement, change: Change) -> Iterator[str]:
    """Write a statement anew, one expression at a time, for each text that there is for it."""
    line = drop_remark(statement.text)
    tree = parse_line(line)
    if tree is None:
        return
    for node, new in _list_changes(line, tree, change):
        yield splice_node(line, node, new)
        alike = [other for other in ast.walk(tree) if type(other) is type(node) and ast.dump(other) == ast.dump(node)]
        if len(alike) == 2 and isinstance(node, (ast.Name, ast.Attribute)):  # both sides of a square
            yield _splice_all(line, alike, new)


def explain_rewrite(
    ctx: FailureContext, change: Note, reason: str, expected: str, *, here: bool = True, alone: bool = False
) -> Diagnosis | None:
    """Explain a failure by what is written anew; ``None`` where nothing is.

    Args:
        change: Says of what a node is, and what may stand in its place.
        reason, expected: As of a ``Diagnosis``; ``{}`` is the first thing that a change is of.
        here, alone: As of ``rewrite``.
    """
    found: list[str] = []

    def note(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        for what, new in change(node, around, write):
            found.append(what)
            yield new

    fixes = rewrite(ctx, note, here=here, alone=alone)
    return Diagnosis(reason.replace("{}", found[0]), expected.replace("{}", found[0]), fixes) if found else None


def _list_changes(line: str, tree: ast.AST, change: Change) -> Iterator[tuple[ast.AST, str]]:
    around = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def write(node: ast.AST) -> str:
        return read_text(line, node) or ast.unparse(node)

    for node in ast.walk(tree):
        if isinstance(node, (ast.expr, ast.stmt)):
            yield from ((node, new) for new in change(node, around.get(id(node)), write))


def _splice_all(line: str, nodes: Iterable[ast.AST], new: str) -> str:
    """Write nodes of a line anew, from the last one to the first."""
    places = {(node.lineno, node.col_offset): node for node in nodes if isinstance(node, (ast.expr, ast.stmt))}
    for place in sorted(places, reverse=True):
        line = splice_node(line, places[place], new)
    return line
