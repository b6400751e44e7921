"""A fix of what a layer or a loss is given, written into the line that calls it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence

from modelsummary_ipy.records.fixes import Fix


def fix_caller(line: str, name: str, parameters: Sequence[str], fix: Fix) -> str:
    """Write the line that called a module with a fix of its arguments; ``""`` where it can't be written there.

    Args:
        line: ``"loss=criterion(out,y)"``.
        name: What it calls: ``"criterion"``.
        parameters: Of what it calls, in order.
        fix: ``criterion(input, target.squeeze(1))`` or ``target = target.squeeze(1)``.

    Example:
        >>> fix = Fix("crit(input, target.squeeze(1))", None, (), changes_input=True)
        >>> fix_caller("loss=crit(out,y)", "crit", ("input", "target"), fix)
        'loss = crit(out, y.squeeze(1))'
    """
    try:
        tree, changed = ast.parse(line.strip()), _read_fix(fix.text, name) if fix.changes_input else {}
    except SyntaxError:  # a line of several, or the head of a loop
        return ""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]
    if not changed or len(calls) != 1:
        return ""
    (call,) = calls
    if any(isinstance(arg, ast.Starred) for arg in call.args) or len(call.args) > len(parameters):
        return ""
    given = dict(zip(parameters, call.args, strict=False)) | {str(word.arg): word.value for word in call.keywords}
    if not changed.keys() <= given.keys():
        return ""
    made = {parameter: _Put(given).visit(value) for parameter, value in changed.items()}
    call.args = [made.get(parameter, arg) for parameter, arg in zip(parameters, call.args, strict=False)]
    for word in call.keywords:
        word.value = made.get(str(word.arg), word.value)
    return ast.unparse(tree)


def _read_fix(fix: str, name: str) -> dict[str, ast.expr]:
    """Read which parameters a fix changes, and to what."""
    statement, *more = ast.parse(fix).body
    if more:
        return {}
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return {statement.targets[0].id: statement.value}
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != name:
        return {}
    changed = [arg for arg in call.args if not isinstance(arg, ast.Name)]
    same = {arg.id for arg in call.args if isinstance(arg, ast.Name)}
    read = [{node.id for node in ast.walk(arg) if isinstance(node, ast.Name)} - same - {"torch"} for arg in changed]
    return {names.pop(): arg for names, arg in zip(read, changed, strict=True) if len(names) == 1}


class _Put(ast.NodeTransformer):
    """Puts the arguments of a call in the place of the parameters that they go to."""

    def __init__(self, given: dict[str, ast.expr]) -> None:
        self._given = given

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self._given[node.id]) if node.id in self._given else node
