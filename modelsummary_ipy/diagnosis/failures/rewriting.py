"""Expressions written anew in the failing statement, or in one of its function that gave a name which it reads."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line
from modelsummary_ipy.diagnosis.failures.source_edits import parse_line, splice_node
from modelsummary_ipy.diagnosis.failures.statements import Statement, drop_remark, find_function
from modelsummary_ipy.records.fixes import Candidate, LineEdit

#: Writes a node as the user did.
Write = Callable[[ast.AST], str]
#: Takes a node, the one around it and what writes a node; returns what may stand there.
Change = Callable[[ast.AST, "ast.AST | None", Write], Iterable[str]]
_MOST_LINES = 6


def list_statements(ctx: FailureContext) -> Iterator[Statement]:
    """List the failing statement, then those of its function that give a name which it reads, the last one first."""
    if ctx.statement is None or ctx.failure.source is None:
        return
    yield ctx.statement
    source, function = ctx.failure.source, find_function(ctx.failure.source)
    wanted, found = _read_names(ctx.line), 0
    stored = [
        node for node in (ast.walk(function) if function is not None else ())
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.lineno < ctx.statement.first
    ]  # fmt: skip
    for node in sorted(stored, key=lambda node: -node.lineno):
        there = ctx.read(source._replace(line=node.lineno)) if node.id in wanted else None
        if there is None or there == ctx.statement or found == _MOST_LINES:
            continue
        found += 1
        wanted |= _read_names(there.text)
        yield there


def _read_names(line: str) -> set[str]:
    tree = parse_line(line)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree is not None else set()


def write_statement(ctx: FailureContext, statement: Statement, line: str) -> Candidate:
    """Write a statement of the user's anew; with its place, where it is not the failing one."""
    if not line or line == drop_remark(statement.text):
        return NOTHING
    if statement == ctx.statement:
        return fix_line(ctx, line)
    source = ctx.failure.source
    place = f"at {source._replace(line=statement.first).text}: " if source is not None else ""
    return Candidate(f"{place}{line}", (LineEdit(statement.filename, statement.first, statement.last, line),))


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
        seen: set[tuple[str, str]] = set()
        for node, new in _list_changes(line, tree, change) if tree is not None else ():
            old = ast.get_source_segment(line, node) or ""
            if not alone and (old, new) in seen:
                continue
            seen.add((old, new))
            text = splice_node(line, node, new) if alone else replace_alike(line, old, new)
            made.append(write_statement(ctx, statement, text))
        if here:
            break
    return [item for item in made if item]


def _list_changes(line: str, tree: ast.AST, change: Change) -> Iterator[tuple[ast.AST, str]]:
    around = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def write(node: ast.AST) -> str:
        return ast.get_source_segment(line, node) or ast.unparse(node)

    for node in ast.walk(tree):
        if isinstance(node, (ast.expr, ast.stmt)):
            yield from ((node, new) for new in change(node, around.get(id(node)), write))


def replace_alike(line: str, old: str, new: str) -> str:
    """Write every expression of a line anew that is written alike, from the last one to the first."""
    tree = parse_line(line)
    nodes = [
        node for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, (ast.expr, ast.stmt)) and ast.get_source_segment(line, node) == old
    ]  # fmt: skip
    places = {(node.lineno, node.col_offset): node for node in nodes}
    for place in sorted(places, reverse=True):
        line = splice_node(line, places[place], new)
    return line
