"""Fixes of the model as a whole: its class called with another argument, or its configuration with another field."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from modelsummary_ipy.diagnosis.failures.constructions import (
    bind_arguments,
    change_argument,
    evaluate,
    find_init,
    is_plain_init,
)
from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.setters import find_class
from modelsummary_ipy.diagnosis.failures.statements import parse_file
from modelsummary_ipy.records.fixes import Candidate, ConfigEdit, LayerEdit
from modelsummary_ipy.records.packages import PACKAGES
from modelsummary_ipy.records.trace import ModuleFact, Trace

#: Names of arguments and fields that are lengths, sides or counts, the likeliest first.
_NAMES = re.compile(
    r"position|source|len|block|context|ctx|image|img|resol|size|channel|mel|vocab|label|class|batch|num|n_|win|patch|ws|mode"
)
#: Of these, what counts rows of a table: the side of a patch may be the same number by chance.
_COUNTS = re.compile(r"position|source|target|len|block|context|ctx|vocab|label|class|max")
_MOST = 3
#: An argument of another name is taken for a size that is the only one, and larger than this.
_FEW = 8


class RootCall(NamedTuple):
    """Where the model's class is called.

    Attributes:
        filename: Of the file or cell.
        node: The call.
        arguments: By name, those given and those by default.
    """

    filename: str
    node: ast.Call
    arguments: dict[str, Any]


def list_rebuilds(ctx: FailureContext, had: int, came: int) -> Iterator[Candidate]:
    """List how the model is made with ``came`` where an argument or a field of its configuration is ``had``."""
    if had == came:
        return
    yield from _list_roots(ctx, had, came)
    for fact in ctx.trace.modules:
        if fact.config and not fact.config.get("_name_or_path"):
            for name, value in _choose_fields(fact, had, came)[:_MOST]:
                yield write_rebuild(fact, name, value)
            return  # of the outermost


def write_rebuild(fact: ModuleFact, name: str, value: int) -> Candidate:
    """Make a model of the ``transformers`` anew, with another value of a field; nothing if it was loaded."""
    if not fact.config or fact.config.get("_name_or_path"):
        return Candidate()
    owner = f"self.{fact.path}" if fact.path else "model"
    text = f"config.{name} = {value}; {owner} = {fact.type_name}(config)"
    return Candidate(text, (ConfigEdit(fact.path, name, value),))


def name_setting(ctx: FailureContext, size: int) -> str:
    """Name the argument of the model's class, or the field of its configuration, that is a size.

    Returns:
        ``"max_len=100"``, ``"config.max_position_embeddings"``; ``""`` if none is known.
    """
    for fact in ctx.trace.modules:
        fields = [name for name, value in fact.config.items() if value == size and _COUNTS.search(name)]
        if fields:
            return f"config.{min(fields, key=_rank_name)}"
    root = _find_root(ctx, size)
    return f"{root[2][0]}={size}" if root is not None else ""


def _rank_name(name: str) -> int:
    found = _NAMES.search(name)
    return _NAMES.pattern.split("|").index(found[0]) if found is not None else len(_NAMES.pattern)


def _choose_fields(fact: ModuleFact, had: int, came: int) -> list[tuple[str, int]]:
    """Choose fields that are the size that was found, or half of it as of a convolution of stride 2 before a table."""
    found = [(name, came) for name, value in fact.config.items() if value == had]
    if had % 2 == came % 2 == 0:
        found += [(name, came // 2) for name, value in fact.config.items() if value == had // 2 and "pos" in name]
    named = [item for item in found if _NAMES.search(item[0])]
    return sorted(named, key=lambda item: _rank_name(item[0]))


def _find_root(ctx: FailureContext, size: int) -> tuple[RootCall | None, dict[str, Any], list[str]] | None:
    """Find how the model's class was called with a size: the call, all arguments, and names of those of that size."""
    fact = ctx.trace.modules[0]
    made = find_made(fact)
    if made is None or not is_plain_init(ctx.trace, fact, made):
        return None
    calls = find_root_calls(ctx.trace)
    given = next((call for call in calls if size in call.arguments.values()), None)
    arguments = given.arguments if given is not None else _read_arguments(fact, made) if not calls else None
    named = [
        name
        for name, value in (arguments or {}).items()
        if type(value) is int and value == size and _NAMES.search(name)
    ]
    same = [name for name, value in (arguments or {}).items() if type(value) is int and value == size > _FEW]
    named = sorted(named, key=_rank_name) or (same if len(same) == 1 else [])
    return (given, arguments or {}, named) if named else None


def find_made(fact: ModuleFact) -> ast.ClassDef | None:
    """Find the class whose ``__init__`` makes the model: its own, or one that it inherits from in the same file."""
    tree = parse_file(fact.forward_file) if fact.forward_file and not fact.forward_file.startswith(PACKAGES) else None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)} if tree is not None else {}
    made = classes.get(fact.type_name) or find_class(fact)
    while made is not None and find_init(made) is None:
        made = next(
            (classes[base.id] for base in made.bases if isinstance(base, ast.Name) and base.id in classes), None
        )
    return made


def _list_roots(ctx: FailureContext, had: int, came: int) -> Iterator[Candidate]:
    given, arguments, names = _find_root(ctx, had) or (None, {}, [])
    kind = ctx.trace.modules[0].type_name
    for name in names:
        changed = {**arguments, name: came}
        code = f"{kind}({', '.join(f'{key}={item!r}' for key, item in changed.items())})"
        text = change_argument(given.node, arguments, name, came) if given is not None else f"{kind}({name}={came})"
        yield Candidate(text, (LayerEdit("", code, text),))


def _read_arguments(fact: ModuleFact, made: ast.ClassDef) -> dict[str, Any] | None:
    """Return the arguments of a class that no line calls: those that it keeps under their names, and its defaults."""
    bound = bind_arguments(made, None, {})
    init = find_init(made)
    if bound is None or init is None:
        return None
    names = [item.arg for item in (*init.args.args[1:], *init.args.kwonlyargs)]
    kept = {name: fact.settings[name] for name in names if name in fact.settings}
    return {**bound, **kept} if set(names) <= {*bound, *kept} else None


def find_root_calls(trace: Trace) -> list[RootCall]:
    """Find where the class of the model is called, in its file and in cells, with arguments that can be read."""
    made = find_made(trace.modules[0])
    if made is None:
        return []
    trees = _parse_all(trace)
    names: dict[str, Any] = {}
    for tree in trees.values():
        for node in tree.body if tree is not None else ():
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                try:
                    names[node.targets[0].id] = evaluate(node.value, names)
                except LookupError:
                    names.pop(node.targets[0].id, None)
    found = []
    for name, call in _find_calls(trace, trees):
        arguments = bind_arguments(made, call, names)
        if arguments is not None:
            found.append(RootCall(name, call, arguments))
    return found[::-1]


def list_root_calls(trace: Trace) -> list[ast.Call]:
    """List the calls of the model's class in its file and in cells, the last one first."""
    return [call for _, call in _find_calls(trace, _parse_all(trace))][::-1]


def _parse_all(trace: Trace) -> dict[str, ast.Module | None]:
    files = [
        trace.modules[0].forward_file, *(name for name, entry in linecache.cache.items() if _is_cell(name, entry))
    ]  # fmt: skip
    return {name: parse_file(name) for name in dict.fromkeys(files)}


def _find_calls(trace: Trace, trees: Mapping[str, ast.Module | None]) -> Iterator[tuple[str, ast.Call]]:
    for name, tree in trees.items():
        for node in ast.walk(tree) if tree is not None else ():
            is_own = isinstance(node, ast.Call) and getattr(node.func, "id", "") == trace.modules[0].type_name
            if isinstance(node, ast.Call) and is_own and not any(isinstance(item, ast.Starred) for item in node.args):
                yield name, node


def _is_cell(name: str, entry: tuple[Any, ...]) -> bool:
    """Return whether an entry of Python's cache of source lines is code without a file: a cell of a notebook."""
    return len(entry) == 4 and entry[1] is None and not name.startswith("<frozen")
