"""Where the user's classes make their layers: the assignments in ``__init__``, and the items of containers in them."""

from __future__ import annotations

import ast
from typing import TypeGuard

from modelsummary_ipy.diagnosis.failures.source_nodes import read_name
from modelsummary_ipy.diagnosis.failures.statements import list_around, list_nodes
from modelsummary_ipy.records.trace import ModuleFact, Source, Trace

_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


def find_module(trace: Trace, path: str) -> ModuleFact | None:
    """Return the facts of the module at a path; ``None`` if there is none."""
    return next((fact for fact in trace.modules if path in fact.paths), None)


def find_setter(owner: ModuleFact, name: str) -> tuple[list[ast.Assign], ast.ClassDef] | None:
    """Find where a class, or one that it inherits from in the same file, sets an attribute of its instances.

    Returns:
        The assignments, and the class; no assignments and the first class if none sets it.
    """
    classes = _list_classes(owner)
    wanted = [node for node in classes if node.name == owner.type_name and _spans_forward(node, owner)]
    wanted += [node for node in classes if _spans_forward(node, owner) and node not in wanted][-1:]
    wanted += [node for node in classes if node.name == owner.type_name and node not in wanted]
    for node in wanted:
        inner = list(ast.walk(node))
        setters = [item for item in inner if isinstance(item, ast.Assign) and _is_own(item.targets[0], name)]
        setters += [made for item in inner if (made := _read_registered(item, name)) is not None]
        if setters:
            return setters, node
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        wanted += [other for other in classes if other.name in bases and other not in wanted]
    return ([], wanted[0]) if wanted else None


def _read_registered(node: ast.AST, name: str) -> ast.Assign | None:
    """Read ``self.register_buffer("mask", torch.ones(5))`` as an assignment of that name, at the same place."""
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or read_name(call.func) not in ("register_buffer", "register_parameter"):
        return None
    if len(call.args) < 2 or not isinstance(call.args[0], ast.Constant) or call.args[0].value != name:
        return None
    target = ast.Attribute(ast.Name("self", ast.Load()), name, ast.Store())
    return ast.copy_location(ast.Assign([target], call.args[1]), node)


def find_class(fact: ModuleFact) -> ast.ClassDef | None:
    """Find the class of a module in the file that has its forward; ``None`` if it is not there."""
    return next(
        (node for node in _list_classes(fact) if node.name == fact.type_name and _spans_forward(node, fact)), None
    )


def _list_classes(fact: ModuleFact) -> list[ast.ClassDef]:
    return list_nodes(fact.forward_file, ast.ClassDef)


def _spans_forward(node: ast.ClassDef, owner: ModuleFact) -> bool:
    return node.lineno <= owner.forward_line <= (node.end_lineno or 0)


def _is_own(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.value, ast.Name)


def find_item(value: ast.expr | None, name: str) -> ast.expr | None:
    """Find an item of ``nn.Sequential(…)``, ``nn.ModuleList([…])`` or ``nn.ModuleDict({…})`` as it is written.

    Of a loss it is the argument of a name: ``weight``.
    """
    if isinstance(value, ast.Call) and read_name(value.func).endswith("Loss"):
        return next((word.value for word in value.keywords if word.arg == name), None)
    if not isinstance(value, ast.Call) or read_name(value.func) not in _CONTAINERS:
        return None
    items: list[ast.expr] = list(value.args)
    if len(items) == 1 and isinstance(items[0], (ast.List, ast.Tuple)):
        items = list(items[0].elts)
    elif ast.unparse(value.func).endswith("ModuleList"):
        return None  # made by a loop
    if name.isdigit():
        index = int(name)
        if index >= len(items) or any(isinstance(item, ast.Starred) for item in items[: index + 1]):
            return None
        return items[index]
    if len(items) == 1 and isinstance(items[0], ast.Dict):
        for key, item in zip(items[0].keys, items[0].values, strict=True):
            if isinstance(key, ast.Constant) and key.value == name:
                return item
    return None


def find_conditions(fact: ModuleFact) -> list[str]:
    """List the attributes that a class's forward calls only if they are set: ``if self.downsample is not None``."""
    nodes = find_forward(fact)
    called = {item.func.attr for item in nodes if isinstance(item, ast.Call) and _is_self(item.func)}
    tests = [item.test for item in nodes if isinstance(item, (ast.If, ast.IfExp))]
    return [item.attr for test in tests for item in ast.walk(test) if _is_self(item) and item.attr in called]


def find_forward(fact: ModuleFact) -> list[ast.AST]:
    """List the nodes of a module's forward; none where it can't be read."""
    return [
        item for node in list_nodes(fact.forward_file, ast.FunctionDef) for item in ast.walk(node)
        if fact.forward_line in (node.lineno, *(item.lineno for item in node.decorator_list))
    ]  # fmt: skip


def list_tests(source: Source) -> list[str]:
    """List the attributes that the ``if`` around a line, or in it, tests: ``["use_res"]``."""
    found = []
    kinds: tuple[type[ast.If | ast.IfExp], ...] = (ast.If, ast.IfExp)
    for node in list_around(source, kinds):
        if _is_self(node.test):
            body = node.body if isinstance(node.body, list) else [node.body]
            if body[0].lineno <= source.line <= (body[-1].end_lineno or body[-1].lineno):
                found.append(node.test.attr)
    return found


def _is_self(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
