"""Slips of the pen where the user's classes make their layers: a loop too short, a width of another layer."""

from __future__ import annotations

import ast
import difflib
import functools
import itertools
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from modelsummary_ipy.diagnosis.failures.constructions import find_init, is_plain_init, list_made_by
from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import write_at
from modelsummary_ipy.diagnosis.failures.rebuilds import find_made, list_root_calls
from modelsummary_ipy.diagnosis.failures.rewriting import Change, Write, change_alike, rewrite_statement
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, find_set_twice, find_targets, read_name
from modelsummary_ipy.diagnosis.failures.statements import (
    Statement,
    find_function,
    list_methods,
    name_file,
    parse_file,
    read_statement,
)
from modelsummary_ipy.diagnosis.fixes import list_edits, number_edits
from modelsummary_ipy.records.fixes import Candidate, LineEdit, RemadeEdit, Trial
from modelsummary_ipy.records.packages import PACKAGES
from modelsummary_ipy.records.trace import ModuleFact, Source, Trace

#: So many calls of the model's class are tried, and so many statements of a class changed.
_MOST_CALLS = 3
_MOST_STATEMENTS = 30
#: So many are tried in all, and of each kind of one statement.
_MOST_SLIPS = 60
_MOST_OF_A_KIND = 10
_MOST_MAKERS = 6
#: A name that is given to a layer is followed so many statements back.
_MOST_HOPS = 3
#: What is left of ``c + (n - 1) * growth``: ``c + (n) * growth``.
_IN_BRACKETS = re.compile(r"(?<=[-+*/=] )\((\w+)\)")


class _Place(NamedTuple):
    """A statement that runs when a class's instance is made.

    Attributes:
        source: Its first line.
        function: What it is in.
    """

    source: Source
    statement: Statement
    function: ast.FunctionDef


def list_makings(ctx: FailureContext) -> Iterator[Candidate]:
    """List how the model that failed may have been made, nothing changed: one that fails in the same way is right."""
    fact = ctx.trace.modules[0]
    made = None if fact.forward_file.startswith(PACKAGES) else find_made(fact)
    if made is None or not is_plain_init(ctx.trace, fact, made):
        return
    calls = dict.fromkeys(ast.unparse(call) for call in list_root_calls(ctx.trace))
    yield from (Candidate(code, (RemadeEdit(code),)) for code in itertools.islice(calls, _MOST_CALLS))
    init = find_init(made)
    if init is not None and not calls:
        needed = init.args.args[1 : len(init.args.args) - len(init.args.defaults)]
        kept = [item.arg for item in (*init.args.args[1:], *init.args.kwonlyargs)]
        words = [
            f"{name}=old.{name}" for name in kept if name in {item.arg for item in needed} or name in fact.settings
        ]
        code = f"{fact.type_name}({', '.join(words)})"
        yield from (Candidate(text, (RemadeEdit(text),)) for text in dict.fromkeys((code, f"{fact.type_name}()")))


def list_constructor_slips(ctx: FailureContext, making: Candidate) -> Iterator[Candidate]:
    """List changes of one expression in the classes that made the layer that failed, or what gave it its input.

    Args:
        making: How the model is made.
    """
    seen: dict[object, Candidate] = {}
    distinct = (made for made in _list_all(ctx, making) if seen.setdefault(made.edits, made) is made)
    yield from itertools.islice(distinct, _MOST_SLIPS)


def _list_all(ctx: FailureContext, making: Candidate) -> Iterator[Candidate]:
    """List changes of the statements that name what failed, then of those that name what made it, then all others."""
    params = [index for x in ctx.operands[:2] for call in ctx.flow.walk_back(x.link, 2) for index in call.input_params]
    names = {
        name.rpartition(".")[2] for index in [*(x.param for x in ctx.operands[:2]), *params] if index is not None
        for name in ctx.trace.params[index].names
    }  # fmt: skip
    torchs = (fact for fact in ctx.trace.modules if fact.type_module.startswith("torch."))
    layers = {fact.path.rpartition(".")[2] for fact in torchs}  # one that does not fit was repaired by itself
    makers = [call for x in ctx.operands[:2] for call in ctx.flow.walk_back(x.link, _MOST_MAKERS)]
    places = _list_places(ctx)
    for lines in ([ctx.line], [ctx.at_line_of(call).line for call in makers]):
        read = [node for line in lines for node in find_nodes(line, ast.Attribute) if ast.unparse(node.value) == "self"]
        names |= {node.attr for node in read} - layers
        near = [place for place in places if names & set(re.findall(r"\w+", place.statement.text))]
        for _ in range(_MOST_HOPS):
            given = {node.id for place in near for node in find_nodes(place.statement.text, ast.Name)} - {"self"}
            near = [place for place in places if place in near or given & set(find_targets(place.statement.text))]
        yield from _list_changes(ctx, near, making)
        places = [place for place in places if place not in near]
    yield from _list_changes(ctx, places, making)


def _list_changes(ctx: FailureContext, places: Sequence[_Place], making: Candidate) -> Iterator[Candidate]:
    scale = number_edits.scale_by([place.function for place in places], find_function(ctx.failure.source))
    for kind in range(10):
        for place in places:
            changes = (
                _name_second(list_methods(place.source)),
                _keep_copy(place.function),
                list_edits.keep_order,
                list_edits.turn_order,
                number_edits.move_bounds(place.function),
                number_edits.regroup,
                number_edits.change_factor,
                number_edits.change_operator(place.function),
                scale,
                _take_names(place),
            )
            at = replace(ctx, failure=replace(ctx.failure, source=place.source, source_text=""))
            for candidate in itertools.islice(_rewrite(place, changes[kind]), _MOST_OF_A_KIND):
                for made in dict.fromkeys((change_alike(at, candidate), candidate)):
                    yield Candidate(made.text, (*making.edits, *made.edits), -1)
        if kind == 3:  # all convolutions of a class together
            padded = [candidate for place in places for candidate in _rewrite(place, number_edits.pad(place.function))]
            if padded:
                together = functools.reduce(operator.add, dict.fromkeys(padded))
                yield Candidate(together.text, (*making.edits, *together.edits), -1)


def _rewrite(place: _Place, change: Change) -> Iterator[Candidate]:
    """Write a statement anew, one expression at a time."""
    for line in rewrite_statement(place.statement, change):
        yield write_at(place.source, place.statement, _IN_BRACKETS.sub(r"\1", line))


def leaves_out(before: Trace, trial: Trial) -> bool:
    """Return whether a model has fewer blocks, or a shorter loop made fewer layers; a shortcut may not be needed."""
    after = trial.trace.modules
    has_loop = any(isinstance(edit, LineEdit) and "range(" in edit.text for edit in trial.candidate.edits)
    numbers = [
        sum(has_loop or not fact.type_module.startswith("torch.") for fact in facts)
        for facts in (before.modules, after)
    ]  # fmt: skip
    return numbers[1] < numbers[0]


def _list_owners(ctx: FailureContext) -> Iterator[ModuleFact]:
    """List the modules of the user's classes around the failed layer and around those that made its input.

    A class that inherits its forward from torch, an ``nn.Sequential``, is looked for in the file of the model's.
    """
    root = ctx.trace.modules[0]
    makers = (call for x in ctx.operands[:2] for call in ctx.flow.walk_back(x.link, _MOST_MAKERS))
    paths = dict.fromkeys(call.path for call in (ctx.call, *ctx.flow.around(ctx.call), *makers) if call.path)
    by_path = {path: fact for fact in ctx.trace.modules for path in fact.paths}
    for path in paths:
        while path:
            fact = by_path.get(path)
            is_inherited = fact is not None and fact.forward_file.startswith(PACKAGES)
            if fact is not None:
                is_own = is_inherited and fact.type_module == root.type_module
                yield fact._replace(forward_file=root.forward_file) if is_own else fact
            path = path.rpartition(".")[0]
    yield root


def _list_places(ctx: FailureContext) -> list[_Place]:
    """List the statements that make what failed, the likeliest first."""
    names = {name for call in (ctx.call, *ctx.flow.around(ctx.call)) for name in call.path.split(".")}
    seen: set[tuple[str, int]] = set()
    found: list[_Place] = []
    for fact in _list_owners(ctx):
        made = None if fact.forward_file.startswith(PACKAGES) else find_made(fact)
        if made is None or (fact.forward_file, made.lineno) in seen:
            continue
        seen.add((fact.forward_file, made.lineno))
        own = []
        for function in _list_functions(made, fact.forward_file):
            for node in ast.walk(function):
                if isinstance(node, ast.stmt) and node is not function and not isinstance(node, ast.FunctionDef):
                    file = name_file(ctx.trace, fact.forward_file)
                    place = Source(file, node.lineno, function.name, fact.forward_file)
                    statement = read_statement(place)
                    is_own = statement is not None and not re.match(r"super\(.*__init__\(\)$", statement.text)
                    if statement is not None and is_own and statement.first == node.lineno:
                        own.append(_Place(place, statement, function))
        found += sorted(own, key=functools.partial(_rank_place, names))[:_MOST_STATEMENTS]
    return sorted(found, key=functools.partial(_rank_place, names))


def _rank_place(names: set[str], place: _Place) -> tuple[bool, bool]:
    """Sort a statement: first those that make no layer, for a layer that does not fit was repaired by itself."""
    text = place.statement.text
    return "nn." in text, not any(f"self.{name}" in text for name in names if name)


def _list_functions(made: ast.ClassDef, filename: str) -> list[ast.FunctionDef]:
    """List what runs when the class is called: its own methods, and functions of its file that they call."""
    tree = parse_file(filename)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)} if tree is not None else {}
    found = list_made_by(made)
    called = (read_name(node.func) for item in found for node in ast.walk(item) if isinstance(node, ast.Call))
    return found + [functions[name] for name in dict.fromkeys(called) if name in functions]


def _take_names(place: _Place) -> Change:
    """Read another number of the function: ``out_channels`` for ``in_channels``."""
    args = place.function.args
    own = [
        node.id for node in ast.walk(place.function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.lineno < place.source.line
    ]  # fmt: skip
    names = [*(item.arg for item in (*args.args[1:], *args.kwonlyargs)), *own]

    made = [
        ast.unparse(node.targets[0]) for node in ast.walk(place.function)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
        and isinstance(node.value, ast.BinOp) and node.lineno < place.source.line
    ]  # fmt: skip

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterable[str]:
        is_given = isinstance(around, (ast.Call, ast.keyword, ast.BinOp, ast.Assign))
        if isinstance(node, ast.BinOp) and isinstance(around, (ast.Call, ast.keyword)):
            return own  # what was computed for it
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load) or not is_given or node.id not in names:
            return ()
        words = set(node.id.split("_"))
        others = [name for name in dict.fromkeys((*names, *made)) if name != node.id]
        return sorted(others, key=lambda name: not words & set(re.split(r"[._]", name)))  # head_dim for dim first

    return change


def _name_second(methods: Sequence[ast.FunctionDef]) -> Change:
    """Set an attribute that a forward calls and nothing sets, where another is set twice: ``self.bn3`` for ``bn2``."""
    twice, unset = find_set_twice(methods)

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        is_set = isinstance(around, ast.Assign) and isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if isinstance(node, ast.Attribute) and is_set and node.attr in twice:
            yield from (f"self.{name}" for name in difflib.get_close_matches(node.attr, unset, 3))

    return change


def _keep_copy(function: ast.FunctionDef) -> Change:
    """Keep a list of its own where the function then changes the one that it was given: ``self.dims = list(dims)``."""
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    changed = {read_name(func.value) for func in calls if isinstance(func, ast.Attribute) and func.attr in _IN_PLACE}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        is_kept = (
            isinstance(around, ast.Assign) and around.value is node and isinstance(around.targets[0], ast.Attribute)
        )
        if is_kept and isinstance(node, ast.Name) and node.id in changed:
            yield f"list({write(node)})"

    return change


#: What changes a list itself.
_IN_PLACE = ("reverse", "append", "insert", "pop", "extend", "remove", "sort")
