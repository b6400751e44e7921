"""What a model checks of its input: sizes that equal a setting, multiples of a number, as many as weights have."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterator

from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.retraced import Retraced, Sizes
from modelsummary_ipy.records.trace import Failure, Trace

#: How a line begins that raises; the condition is in the line before, or what is asserted is in the line itself.
_ASSERTS = re.compile(r"assert |(?:torch\.)?_assert\(")
RAISES = re.compile(rf"raise|{_ASSERTS.pattern}")
#: What takes as many channels, or features, as its weights have.
_WITH_WEIGHTS = names_of("convolution", "linear")


def find_fixed(found: Retraced, at: Sizes) -> frozenset[str]:
    """Find the dims that must be as they are, by the line at which a trace failed: ``if height != self.size: raise``.

    Args:
        found: A trace at other sizes.
        at: Its sizes by name. One that two dims have shows nothing.

    Returns:
        Names of dims whose sizes stand there, as names of the function, against attributes of ``self``.
    """
    failure = None if found.trace is None else found.trace.failure
    test = None if failure is None else _read_condition(failure)
    if failure is None or test is None:
        return frozenset()
    differ = ast.Eq if _ASSERTS.match(failure.source_text) else ast.NotEq
    names = [_find_dim(failure, name, at) for name in _list_compared(test, differ)]
    return frozenset(name for name in names if name)


def find_steps(found: Retraced, at: Sizes) -> dict[str, int]:
    """Find, by dim, the number that it must be a multiple of: ``if height % 8 != 0: raise``.

    Args:
        found: A trace at other sizes.
        at: Its sizes by name.
    """
    failure = None if found.trace is None else found.trace.failure
    test = None if failure is None else _read_condition(failure)
    if failure is None or test is None:
        return {}
    steps: dict[str, int] = {}
    for part in ast.walk(test):
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mod) and isinstance(part.left, ast.Name):
            name, step = _find_dim(failure, part.left.id, at), part.right
            if name and isinstance(step, ast.Constant) and type(step.value) is int and step.value > 1:
                steps[name] = step.value
    return steps


def list_named(found: Retraced) -> list[int]:
    """List the integers, above 1, that the names of a function stand for in which a line raised."""
    failure = None if found.trace is None else found.trace.failure
    if failure is None or not RAISES.match(failure.source_text):
        return []
    numbers = [int(held.words[0]) for held in failure.names.values() if held.kind == "int"]
    return [number for number in dict.fromkeys(numbers) if number > 1]


def meets_weights(first: Trace, found: Retraced, sizes: tuple[int, int]) -> bool:
    """Return whether a trace failed in a layer whose weights have just as many as a dim of the input.

    Args:
        first: The trace at the given sizes.
        sizes: Of the dim, there and where it failed.
    """
    again = found.trace
    index = None if again is None or again.failure is None else again.failure.call
    if again is None or index is None or index >= len(first.calls):
        return False
    call, then = first.calls[index], again.calls[index]
    if call.type_name != then.type_name or call.type_name not in _WITH_WEIGHTS or not call.inputs:
        return False
    one, other = call.inputs[0].shape, then.inputs[0].shape
    moved = [pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]]
    return len(one) == len(other) and moved == [sizes]


def _read_condition(failure: Failure) -> ast.expr | None:
    """Return the condition under which a line raises, or what it asserts; ``None`` if that is not in one line."""
    if failure.source is None or not RAISES.match(failure.source_text):
        return None
    try:
        if _ASSERTS.match(failure.source_text):
            line = ast.parse(failure.source_text).body[0]
            if isinstance(line, ast.Assert):
                return line.test
            return line.value.args[0] if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) else None
        line_before = linecache.getline(failure.source.filename, failure.source.line - 1).strip()
        if line_before.startswith("if ") and line_before.endswith(":"):
            return ast.parse(line_before[3:-1].strip(), mode="eval").body
    except (SyntaxError, IndexError):  # a part of a statement of several lines
        pass
    return None


def _find_dim(failure: Failure, name: str, at: Sizes) -> str:
    """Return the one dim that a name of the function holds the size of; ``""`` if there is none."""
    held = failure.names.get(name)
    size = int(held.words[0]) if held is not None and held.kind == "int" else None
    dims = [dim for dim, its in at.items() if its == size]
    return dims[0] if len(dims) == 1 else ""


def _list_compared(test: ast.expr, differ: type[ast.cmpop]) -> Iterator[str]:
    """Yield the names each of which makes a line raise if it differs from an attribute of ``self``.

    Args:
        differ: How they are compared: ``!=`` where the line raises if the condition is true, ``==`` where it asserts.
    """
    if isinstance(test, ast.BoolOp):
        rest = [value for value in test.values if not _is_switch(value)]
        each = ast.Or if differ is ast.NotEq else ast.And
        for value in rest if isinstance(test.op, each) or len(rest) == 1 else []:
            yield from _list_compared(value, differ)
    elif isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], differ):
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
