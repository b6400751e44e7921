"""Statements of the user's source: the whole text of the one that a line belongs to."""

from __future__ import annotations

import ast
import io
import linecache
import re
import textwrap
import tokenize
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from modelsummary_ipy.records.trace import ModuleFact, Source, Trace

_Node = TypeVar("_Node", bound=ast.AST)


class Statement(NamedTuple):
    """A statement, or the head of one that holds others.

    Attributes:
        filename: As the code object has it.
        first, last: Its 1-based lines.
        text: These lines, without the indentation of the first.
    """

    filename: str
    first: int
    last: int
    text: str


#: A model is written in a few files, and rows of them alternate: of each all, or some of its functions and classes.
_MOST_TREES = 128
_trees: dict[tuple[str, int, int], tuple[list[str], ast.Module | None]] = {}


def parse_file(filename: str) -> ast.Module | None:
    """Parse a file or a cell as ``linecache`` has it; ``None`` if it is no Python."""
    lines = linecache.getlines(filename)
    return _parse(filename, lines, 0, len(lines))


def parse_around(source: Source) -> ast.Module | None:
    """Parse the function or class at the margin of a file that a line is in; the whole file where there is none.

    Most of a file of transformers is of layers that a model has not.
    """
    lines, line = linecache.getlines(source.filename), source.line
    first = next((at for at in range(min(line, len(lines)) - 1, -1, -1) if lines[at].startswith(_HEADS)), -1)
    last = next((at for at in range(first + 1, len(lines)) if lines[at][0] not in _WITHIN), len(lines))
    tree = _parse(source.filename, lines, first, last) if 0 <= first < line <= last else None
    return parse_file(source.filename) if tree is None else tree


#: What begins a function or a class at the margin; what stands there within one: an empty line, a bracket at the end.
_HEADS = ("def ", "class ", "async def ")
_WITHIN = " \t\r\n\f#)]}"


def _parse(filename: str, lines: list[str], first: int, last: int) -> ast.Module | None:
    known = _trees.get((filename, first, last))
    if known is None or known[0] is not lines:  # it has one list until it reads the file again
        try:
            tree = ast.parse("\n" * first + "".join(lines[first:last]))
        except (SyntaxError, ValueError):
            tree = None
        if len(_trees) >= _MOST_TREES:
            _trees.clear()
        known = _trees[filename, first, last] = lines, tree
    return known[1]


def list_nodes(filename: str, kind: type[_Node]) -> list[_Node]:
    """List the nodes of one class in a file or a cell, in the order of ``ast.walk``; none if it is no Python."""
    tree = parse_file(filename)
    return [*_list_by_kind(tree).get(kind, ())] if tree is not None else []


def list_around(source: Source, kinds: tuple[type[_Node], ...]) -> list[_Node]:
    """List the nodes of some kinds in the function or class at the margin of a file that a line is in."""
    tree = parse_around(source) if source.filename else None
    found = _list_by_kind(tree) if tree is not None else {}
    return [node for kind in kinds for node in found.get(kind, ())]  # type: ignore[misc]  # of these kinds


@lru_cache(maxsize=_MOST_TREES)
def _list_by_kind(tree: ast.Module) -> dict[type[ast.AST], list[ast.AST]]:
    found: dict[type[ast.AST], list[ast.AST]] = {}
    for node in ast.walk(tree):
        found.setdefault(type(node), []).append(node)
    return found


@lru_cache(maxsize=_MOST_TREES)
def list_functions(tree: ast.Module) -> tuple[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str], ...]:
    """List the functions of a file, each with the class whose body it is in, an inner one after the one around it."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return tuple(
        (node, block.name if isinstance(block, ast.ClassDef) else "")
        for node, block in list_statements(tree)
        if isinstance(node, functions)
    )


def list_statements(block: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
    """List the statements of a block, each with the one whose block it is in, an inner one after the one around it."""
    found: list[tuple[ast.AST, ast.AST]] = [(block, block)]
    for around, _ in found:  # expressions, nine nodes of ten, hold none
        found += [(node, around) for body in _list_bodies(around) for node in body]
    return found[1:]


def _list_bodies(block: ast.AST) -> list[list[ast.AST]]:
    """List the blocks of a statement that have something in them: statements, handlers of exceptions, cases."""
    names = ("body", "handlers", "orelse", "finalbody", "cases")
    return [body for name in names if isinstance(body := getattr(block, name, None), list) and body]


def read_statement(source: Source | None) -> Statement | None:
    """Return the statement that a line belongs to; ``None`` if it can't be read."""
    if source is None or not source.filename:
        return None
    lines = linecache.getlines(source.filename)
    if not 0 < source.line <= len(lines):
        return None
    tree = parse_around(source)
    first, last = _find_range(tree.body, source.line) if tree is not None else (source.line, source.line)
    text = textwrap.dedent("".join(lines[first - 1 : last])) if last > first else lines[first - 1].strip()
    return Statement(source.filename, first, last, text.rstrip())


def name_file(trace: Trace, filename: str) -> str:
    """Return what a person calls a file or cell that lines of a trace are in: ``"In [5]"``."""
    sources = (source for call in trace.calls for source in (call.source, *call.lines) if source is not None)
    return next((source.file for source in sources if source.filename == filename), filename.rpartition("/")[2])


def read_last_statement(filename: str, line: int) -> tuple[Statement, str] | None:
    """Return the last statement of a function, and the name that it assigns, ``""`` if it is an expression.

    Args:
        filename: Of the function.
        line: Its first line, that of a decorator if it has one.
    """
    for node in list_nodes(filename, ast.FunctionDef):
        if line in (node.lineno, *(item.lineno for item in node.decorator_list)):
            last = node.body[-1]
            while isinstance(last, (ast.With, ast.AsyncWith)):
                last = last.body[-1]
            target = last.targets[0] if isinstance(last, ast.Assign) else getattr(last, "target", None)
            name = target.id if isinstance(target, ast.Name) else ""
            statement = read_statement(Source("", last.lineno, "", filename))
            return (statement, name) if statement is not None and (name or isinstance(last, ast.Expr)) else None
    return None


def find_imports(filename: str) -> set[str]:
    """Return the names that a file imports on its outer level.

    A cell of a notebook, whose imports are another cell's, imports what it takes attributes of: ``nn`` in
    ``nn.Module``.
    """
    tree = parse_file(filename)
    found = [node for node in (tree.body if tree is not None else ()) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.asname or alias.name.partition(".")[0] for node in found for alias in node.names}
    if names & {"F", "nn", "torch"}:
        return names
    read = (node.value for node in list_nodes(filename, ast.Attribute))
    return names | {node.id for node in read if isinstance(node, ast.Name)}


def use_imports(filename: str, code: str) -> str:
    """Write ``F.`` as the file names it that imports no ``F``: ``nn.functional.``, ``torch.nn.functional.``."""
    names = find_imports(filename)
    if "F" in names or not names & {"nn", "torch"}:
        return code
    return re.sub(r"(?<![\w.])F\.", "nn.functional." if "nn" in names else "torch.nn.functional.", code)


Loop = ast.For | ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp


def list_loops(source: Source) -> list[Loop]:
    """List the loops and comprehensions in the function or class at the margin that a line is in."""
    kinds: tuple[type[Loop], ...] = (ast.For, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
    return list_around(source, kinds)


def find_loops(source: Source | None) -> list[tuple[str, ast.expr]]:
    """List the names that loops around a line give to items, each with what is looped over, the innermost first."""
    found: list[tuple[int, str, ast.expr]] = []
    for node in list_loops(source) if source is not None else ():
        if source is None or not node.lineno <= source.line <= (node.end_lineno or node.lineno):
            continue
        for loop in [node] if isinstance(node, ast.For) else node.generators:
            names = [item.id for item in ast.walk(loop.target) if isinstance(item, ast.Name)]
            found += [(-node.lineno, name, loop.iter) for name in names]
    return [(name, over) for _, name, over in sorted(found, key=lambda item: item[0])]


def find_loop(source: Source) -> int:
    """Return the line where the outermost loop of its function begins that a line is in; 0 if it is in none."""
    loops = (node for node in walk_function(source) if isinstance(node, (ast.For, ast.While)))
    return min((loop.lineno for loop in loops if loop.lineno < source.line <= (loop.end_lineno or 0)), default=0)


def find_loop_names(source: Source, container: str) -> list[str]:
    """List the names that loops around a line give to the items of ``self.<container>``, the innermost loop first."""
    return [
        name for name, over in find_loops(source)
        if any(isinstance(item, ast.Attribute) and item.attr == container for item in ast.walk(over))
    ]  # fmt: skip


def find_function(source: Source | None) -> ast.FunctionDef | None:
    """Return the innermost function that a line is in."""
    tree = parse_around(source) if source is not None and source.filename else None
    return _find_inner(tree, source.line) if source is not None and tree is not None else None


def walk_function(source: Source | None) -> list[ast.AST]:
    """List the nodes of the innermost function that a line is in."""
    function = find_function(source)
    return list(ast.walk(function)) if function is not None else []


def list_stored(source: Source | None) -> list[ast.Name]:
    """List where the function that a line is in gives something a name."""
    return [node for node in walk_function(source) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def list_read(source: Source | None) -> list[str]:
    """List the names that the function that a line is in reads, each as often as it does."""
    nodes = walk_function(source)
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]


@lru_cache(maxsize=1024)
def _find_inner(tree: ast.Module, line: int) -> ast.FunctionDef | None:
    functions = (node for node, _ in list_functions(tree) if isinstance(node, ast.FunctionDef))
    found = [node for node in functions if node.lineno <= line <= (node.end_lineno or node.lineno)]
    return max(found, key=lambda node: node.lineno, default=None)


def list_methods(source: Source | None) -> list[ast.FunctionDef]:
    """List the methods of the class that a line is in."""
    classes = list_nodes(source.filename, ast.ClassDef) if source is not None else []
    around = [kind for kind in classes if source and kind.lineno <= source.line <= (kind.end_lineno or 0)]
    return [node for kind in around for node in kind.body if isinstance(node, ast.FunctionDef)]


def list_names_before(source: Source | None) -> list[str]:
    """List what a function has names for before a line: what it assigned, the last first, then its parameters."""
    before = [node for node in list_stored(source) if source is not None and node.lineno < source.line]
    before.sort(key=lambda node: -node.lineno)
    return list(dict.fromkeys([*[node.id for node in before], *find_parameters(source)]))


def find_parameters(source: Source | None) -> list[str]:
    """List the parameters of the function that a line is in, without ``self``."""
    inner = find_function(source)
    return [item.arg for item in inner.args.args if item.arg != "self"] if inner is not None else []


def _find_range(body: Sequence[ast.stmt], line: int) -> tuple[int, int]:
    """Return the first and the last line of the innermost statement with that line; of a block's head, the head's."""
    for node in body:
        if not node.lineno <= line <= (node.end_lineno or node.lineno):
            continue
        blocks = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
        blocks += [item.body for name in ("handlers", "cases") for item in getattr(node, name, [])]
        inner = [block for block in blocks if block]
        for block in inner:
            if block[0].lineno <= line <= (block[-1].end_lineno or 0):
                return _find_range(block, line)
        if inner and line < inner[0][0].lineno:
            return node.lineno, max(node.lineno, inner[0][0].lineno - 1)
        return (line, line) if inner else (node.lineno, node.end_lineno or node.lineno)
    return line, line


def drop_remark(line: str) -> str:
    """Return a line of code without the comment at its end; a line that is no whole statement stays as it is."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(line).readline))
    except (tokenize.TokenError, SyntaxError):
        return line
    start = next((token.start[1] for token in tokens if token.type == tokenize.COMMENT), len(line))
    return line[:start].rstrip()


def list_forward_parameters(fact: ModuleFact) -> tuple[str, ...]:
    """List the parameters of a module's forward, without ``self``."""
    tree = parse_file(fact.forward_file)
    for node, _ in list_functions(tree) if tree is not None else ():
        if fact.forward_line in (node.lineno, *(item.lineno for item in node.decorator_list)):
            return tuple(item.arg for item in (*node.args.args[1:], *node.args.kwonlyargs))
    return ()
