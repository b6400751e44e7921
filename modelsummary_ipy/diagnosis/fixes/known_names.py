"""What the names stand for that a constructor gives to its layers, read from the layers: ``hidden`` is 64."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping

from modelsummary_ipy.diagnosis.failures.module_code import write_module
from modelsummary_ipy.diagnosis.failures.setters import find_item
from modelsummary_ipy.records.trace import ModuleFact, Trace, join_path

_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
}  # fmt: skip


def read_known_names(trace: Trace, owner: ModuleFact, body: ast.ClassDef, line: int) -> dict[str, int]:
    """Read what the names among the arguments of layers stand for in the method of a class that has a line.

    A name that stands for two numbers, or that the method assigns, is left out.
    """
    methods = (node for node in body.body if isinstance(node, ast.FunctionDef))
    method = next((node for node in methods if node.lineno <= line <= (node.end_lineno or 0)), None)
    found: dict[str, set[int]] = {}
    nodes = list(ast.walk(method)) if method is not None else []
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for assign in nodes:
        target = assign.targets[0] if isinstance(assign, ast.Assign) else None
        if isinstance(assign, ast.Assign) and isinstance(target, ast.Attribute):
            for name, value in _read_layers(trace, join_path(owner.path, target.attr), assign.value):
                found.setdefault(name, set()).add(value)
    return {name: values.pop() for name, values in found.items() if len(values) == 1 and name not in assigned}


def _read_layers(trace: Trace, path: str, value: ast.expr) -> Iterator[tuple[str, int]]:
    for fact in trace.modules:
        inner = fact.path.removeprefix(f"{path}.") if fact.path != path else ""
        item: ast.expr | None = value
        for name in inner.split(".") if inner and inner != fact.path else ():
            item = find_item(item, name)
        code = write_module(fact, trace) if item is not None and inner != fact.path else ""
        made = ast.parse(code, mode="eval").body if code else None
        if isinstance(made, ast.Call) and isinstance(item, ast.Call):
            for written, known in zip(item.args, made.args, strict=False):
                size = evaluate_size(known, {})
                if isinstance(written, (ast.Name, ast.Attribute)) and size is not None:
                    yield ast.unparse(written), size


def evaluate_size(node: ast.expr, names: Mapping[str, int]) -> int | None:
    """Return the integer that an expression of known names is; ``None`` if it can't be told."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, (ast.Name, ast.Attribute)):
        return names.get(ast.unparse(node))
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPERATORS:
        return None
    left, right = evaluate_size(node.left, names), evaluate_size(node.right, names)
    if left is None or right is None or (isinstance(node.op, ast.FloorDiv) and right == 0):
        return None
    return _OPERATORS[type(node.op)](left, right)
