"""Fixes where the user's own classes are made: another argument, ``self.pos = PositionalEncoding(32, max_len=128)``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping, Set
from typing import Any

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.module_code import write_change
from modelsummary_ipy.diagnosis.failures.setters import find_class, find_item, find_module, find_setter
from modelsummary_ipy.diagnosis.failures.source_nodes import read_name, write_call
from modelsummary_ipy.diagnosis.failures.statements import parse_file
from modelsummary_ipy.model.torch_layers import LAYERS
from modelsummary_ipy.records.fixes import Candidate, LayerEdit
from modelsummary_ipy.records.packages import PACKAGES
from modelsummary_ipy.records.trace import ModuleFact, Trace

_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}  # fmt: skip
#: Modules whose functions change nothing outside, and names in calls of theirs that do: files, numpy's generators.
_LIBRARIES = frozenset({"nn", "torch", "math", "F", "np", "numpy"})
_OUTSIDE = frozenset(
    {"load", "save", "hub", "fromfile", "from_file", "tofile", "random", "cuda", "set_default_dtype",
     "set_default_device", "set_num_threads", "set_grad_enabled", "use_deterministic_algorithms"}
)  # fmt: skip
_BUILTINS = frozenset(
    {"super", "range", "len", "int", "float", "bool", "str", "tuple", "list", "dict", "set", "zip", "enumerate", "map",
     "reversed", "sorted", "max", "min", "sum", "abs", "round", "pow", "all", "any", "isinstance", "hasattr", "getattr",
     "setattr", "print", "ValueError", "TypeError"}
)  # fmt: skip


def list_constructions(ctx: FailureContext, path: str, old: int, new: int) -> Iterator[Candidate]:
    """List how a module of the user's own class is made with ``new`` for an argument that is ``old``.

    A class whose ``__init__`` may do more than make layers and tensors is left alone, for it is run to try it.
    """
    fact = find_module(ctx.trace, path)
    value = _find_call(ctx, path) if path and fact is not None else None
    made = find_class(fact) if fact is not None and value is not None else None
    if fact is None or value is None or made is None or old == new or not is_plain_init(ctx.trace, fact, made):
        return
    owner = _find_owner(ctx, path)
    arguments = bind_arguments(made, value, _read_names(ctx, owner) if owner is not None else {})
    if arguments is None:
        return
    given = {*list(arguments)[: len(value.args)], *(word.arg for word in value.keywords)}
    for key, known in arguments.items():
        if known != old or type(known) is not int:
            continue
        values = {**{place: item for place, item in arguments.items() if place in given or place == key}, key: new}
        code = f"{fact.type_name}({', '.join(f'{place}={item!r}' for place, item in values.items())})"
        text = change_argument(value, arguments, key, new)
        yield Candidate(write_change(path, text), (LayerEdit(path, code, text),))


def change_argument(call: ast.Call, arguments: Mapping[str, Any], name: str, value: int) -> str:
    """Write a call with another value of an argument, all else as it is; ``arguments`` in the order of their places."""
    places = list(arguments)[: len(call.args)]
    words = [str(value) if key == name else ast.unparse(item) for key, item in zip(places, call.args, strict=False)]
    named = {str(word.arg): ast.unparse(word.value) for word in call.keywords}
    named |= {} if name in places else {name: str(value)}
    return write_call(ast.unparse(call.func), words, named)


def fix_block(ctx: FailureContext, old: int, new: int) -> Candidate:
    """Make the block that the failed layer is in with another size, where the model has several of its class."""
    owner = _find_owner(ctx, ctx.call.path) if ctx.call.kind == "module" else None
    if owner is None or not owner.path:
        return Candidate()
    called = next((c for c in ctx.trace.calls if c.path == owner.path and c.kind == "module"), None)
    if called is None or called.input_links[:1] != ctx.call.input_links[:1]:
        return Candidate()  # what it reads was made in the block
    alike = [
        fact for fact in ctx.trace.modules if (fact.type_name, fact.type_module) == (owner.type_name, owner.type_module)
    ]
    inside = [fact for fact in ctx.trace.modules if fact.path.startswith(f"{owner.path}.")]
    is_width = sum(fact.settings.get("in_features") == old == fact.settings.get("out_features") for fact in inside) > 1
    made = list_constructions(ctx, owner.path, old, new)
    return next(made, Candidate()) if len(alike) > 1 or is_width else Candidate()


def _find_owner(ctx: FailureContext, path: str) -> ModuleFact | None:
    """Return the module of a class of the user's that makes the one at a path."""
    while path:
        path = path.rpartition(".")[0]
        fact = find_module(ctx.trace, path)
        if fact is not None and fact.forward_file and not fact.type_module.startswith("torch."):
            return fact
    return None


def _find_call(ctx: FailureContext, path: str) -> ast.Call | None:
    """Find the call that makes a module, where its class is called by its name and once."""
    owner, fact = _find_owner(ctx, path), find_module(ctx.trace, path)
    if owner is None or fact is None or fact.type_module.startswith("torch."):
        return None
    names = path[len(owner.path) :].strip(".").split(".")
    found = find_setter(owner, names[0])
    if found is None or len(found[0]) != 1:
        return None
    value: ast.expr | None = found[0][0].value
    for name in names[1:]:
        value = find_item(value, name)
    is_call = isinstance(value, ast.Call) and read_name(value.func) == fact.type_name
    starred = is_call and any(isinstance(item, ast.Starred) for item in value.args)  # type: ignore[union-attr]
    return value if isinstance(value, ast.Call) and is_call and not starred else None


def _read_names(ctx: FailureContext, owner: ModuleFact) -> dict[str, Any]:
    """Return what is known of the names that a class's ``__init__`` may use: its attributes, and its defaults."""
    node = find_class(owner)
    init = find_init(node) if node is not None else None
    known: dict[str, Any] = {f"self.{name}": value for name, value in owner.settings.items()}
    if init is not None:
        defaults = dict(zip([item.arg for item in init.args.args][::-1], init.args.defaults[::-1], strict=False))
        known |= {name: item.value for name, item in defaults.items() if isinstance(item, ast.Constant)}
        known |= {item.arg: owner.settings[item.arg] for item in init.args.args if item.arg in owner.settings}
        known = _read_given(ctx, owner, init) | known
    return known


def _read_given(ctx: FailureContext, owner: ModuleFact, init: ast.FunctionDef) -> dict[str, Any]:
    """Return the arguments of an ``__init__`` by what it makes of them: ``self.qkv = nn.Linear(width, 3 * width)``."""
    nodes = list(ast.walk(init))
    changed = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names = {item.arg for item in init.args.args} - changed
    found: dict[str, Any] = {}
    for node in nodes:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Attribute):
            continue
        fact = find_module(ctx.trace, f"{owner.path}.{target.attr}".lstrip("."))
        if isinstance(node.value, ast.Call) and fact is not None and fact.type_module.startswith("torch."):
            layer = LAYERS.get(fact.type_name)
            is_made = layer is not None and ast.unparse(node.value.func).rpartition(".")[2] == fact.type_name
            places = layer.arguments if layer is not None and is_made else ()
            given = [(item, fact.settings.get(place)) for item, place in zip(node.value.args, places, strict=False)]
        else:
            given = [(node.value, owner.settings.get(target.attr))]
        found |= {
            item.id: value for item, value in given
            if isinstance(item, ast.Name) and item.id in names and type(value) is int
        }  # fmt: skip
    return found


def find_init(node: ast.ClassDef) -> ast.FunctionDef | None:
    """Find the ``__init__`` that a class itself has."""
    return next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)


def bind_arguments(made: ast.ClassDef, value: ast.Call | None, names: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of a class by name, those given and those by default; ``None`` if one is not known."""
    init = find_init(made)
    positions, keywords = (value.args, value.keywords) if value is not None else ([], [])
    if init is None or init.args.vararg or init.args.kwarg or any(word.arg is None for word in keywords):
        return None
    keys = [item.arg for item in init.args.args[1:]]
    bound: dict[str, ast.expr] = dict(zip(keys[::-1], init.args.defaults[::-1], strict=False))
    bound |= {item.arg: node for item, node in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True) if node}
    own = set(bound)
    bound |= dict(zip(keys, positions, strict=False))
    bound |= {word.arg: word.value for word in keywords if word.arg}
    given = {*keys[: len(positions)], *(word.arg for word in keywords)}
    try:
        return {key: evaluate(bound[key], names if key in given or key not in own else {}) for key in
                [key for key in keys if key in bound] + [key for key in bound if key not in keys]}  # fmt: skip
    except LookupError:
        return None


def evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Work out a constant, a known name or a sum of such.

    Raises:
        LookupError: If it is something else.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Tuple, ast.List)):
        items = [evaluate(item, names) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    if isinstance(node, (ast.Name, ast.Attribute)):
        return names[ast.unparse(node)]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        one, other = evaluate(node.left, names), evaluate(node.right, names)
        if type(one) is int and type(other) is int and other:
            return _OPERATORS[type(node.op)](one, other)
    raise LookupError(ast.unparse(node))


def is_plain_init(trace: Trace, fact: ModuleFact, node: ast.ClassDef) -> bool:
    """Return whether a class's ``__init__``, with all of the user's that it calls, only makes layers and tensors."""
    files = dict.fromkeys([*(other.forward_file for other in trace.modules if other.forward_file), fact.forward_file])
    trees = [parse_file(name) for name in files if not name.startswith(PACKAGES)]
    made = {
        item.name: item
        for tree in trees
        if tree is not None
        for item in tree.body
        if isinstance(item, (ast.ClassDef, ast.FunctionDef))
    }
    return _is_plain(node, made, set())


def list_made_by(node: ast.ClassDef | ast.FunctionDef) -> list[ast.FunctionDef]:
    """List the functions that run when a class is called: ``__init__``, and methods that it names; or a function."""
    if isinstance(node, ast.FunctionDef):
        return [node]
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    found = [methods[name] for name in ("__init__",) if name in methods]
    for function in found:
        for item in ast.walk(function):
            is_own = isinstance(item, ast.Attribute) and read_name(item.value) == "self" and item.attr in methods
            if isinstance(item, ast.Attribute) and is_own and methods[item.attr] not in found:
                found.append(methods[item.attr])
    return found


#: Methods that change what they are of.
_CHANGING = frozenset(
    {"append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort", "update", "setdefault", "popitem",
     "add"}
)  # fmt: skip


def _changes_others(node: ast.AST, own: Set[str], given: Set[str], kept: Set[str]) -> bool:
    """Return whether a node changes what its function did not make: a global, a class, what it was given.

    Args:
        own: Names that the function gives something itself.
        given: Its parameters.
        kept: Attributes that the class's functions set on ``self``.
    """
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return True
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id in given:
        return isinstance(node.value, (ast.List, ast.Tuple, ast.ListComp))  # a list grows in its place
    changed: ast.AST | None = None
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        changed = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
        changed = node.func.value
    elif isinstance(node, ast.Call) and read_name(node.func) == "setattr" and node.args:
        return not (isinstance(node.args[0], ast.Name) and node.args[0].id in own | {"self"})
    above = ""
    while isinstance(changed, (ast.Attribute, ast.Subscript, ast.Call)):
        above = changed.attr if isinstance(changed, ast.Attribute) else above
        changed = changed.func if isinstance(changed, ast.Call) else changed.value
    if not isinstance(changed, ast.Name):
        return False
    return above not in {"", *kept} if changed.id == "self" else changed.id not in own | {"super"}


def _is_plain(
    node: ast.ClassDef | ast.FunctionDef, made: Mapping[str, ast.ClassDef | ast.FunctionDef], seen: set[str]
) -> bool:
    seen.add(node.name)
    attributes = [
        item for item in ast.walk(node) if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store)
    ]
    kept = {item.attr for item in attributes if read_name(item.value) == "self"}
    for function in list_made_by(node):
        nodes = list(ast.walk(function))
        own = {item.id for item in nodes if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
        given = {item.arg for item in nodes if isinstance(item, ast.arg)} - {"self"}
        if any(_changes_others(item, own, given, kept) for item in nodes):
            return False
        own |= given
        for call in [item for item in nodes if isinstance(item, ast.Call)]:
            root = call.func
            while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
                if isinstance(root, ast.Attribute) and root.attr in _OUTSIDE:
                    return False
                root = root.func if isinstance(root, ast.Call) else root.value
            if not isinstance(root, ast.Name) or root.id in own:
                continue
            if isinstance(call.func, ast.Attribute):
                if root.id not in _LIBRARIES | {"self", "super"}:
                    return False
            elif root.id in made:
                if root.id not in seen and not _is_plain(made[root.id], made, seen):
                    return False
            elif root.id not in _BUILTINS:
                return False
    return True
