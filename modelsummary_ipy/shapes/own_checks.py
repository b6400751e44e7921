"""Which dims the model's own code compares with its settings, and takes no other: ``if height != self.size: raise``."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator

from modelsummary_ipy.records.retraced import Retraced, Sizes


def find_fixed(found: Retraced, at: Sizes) -> frozenset[str]:
    """Find the dims that must be as they are, by the line before the ``raise`` at which a trace failed.

    Args:
        found: A trace at other sizes.
        at: Its sizes by name. One that two dims have shows nothing.

    Returns:
        Names of dims whose sizes stand there, as names of the function, against attributes of ``self``.
    """
    failure = None if found.trace is None else found.trace.failure
    if failure is None or failure.source is None or not failure.source_text.startswith("raise"):
        return frozenset()
    line = linecache.getline(failure.source.filename, failure.source.line - 1).strip()
    if not line.startswith("if ") or not line.endswith(":"):
        return frozenset()
    try:
        test = ast.parse(line[3:-1].strip(), mode="eval").body
    except SyntaxError:  # the end of a condition of several lines
        return frozenset()
    held = [failure.names.get(name) for name in _list_compared(test)]
    sizes = {int(each.words[0]) for each in held if each is not None and each.kind == "int"}
    return frozenset(name for name, size in at.items() if size in sizes and [*at.values()].count(size) == 1)


def _list_compared(test: ast.expr) -> Iterator[str]:
    """Yield the names each of which makes a condition true if it differs from an attribute of ``self``."""
    if isinstance(test, ast.BoolOp):
        rest = [value for value in test.values if not _is_switch(value)]
        for value in rest if isinstance(test.op, ast.Or) or len(rest) == 1 else []:
            yield from _list_compared(value)
    elif isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.NotEq):
        one, other = test.left, test.comparators[0]
        for name, setting in ((one, other), (other, one)):
            if isinstance(name, ast.Name) and _is_setting(setting):
                yield name.id


def _is_switch(test: ast.expr) -> bool:
    """Return whether a condition is of no size: ``not interpolate``."""
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and isinstance(test.operand, ast.Name)


def _is_setting(value: ast.expr) -> bool:
    """Return whether a value is an attribute of ``self``, or an item of one: ``self.image_size[0]``."""
    while isinstance(value, (ast.Attribute, ast.Subscript)):
        if isinstance(value, ast.Subscript) and not isinstance(value.slice, ast.Constant):
            return False
        value = value.value
    return isinstance(value, ast.Name) and value.id == "self"
