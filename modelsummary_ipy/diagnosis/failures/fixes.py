"""Fixes that several families of failures share: on the failing line, on the line that made a tensor, at a layer."""

from __future__ import annotations

import linecache
import re

from modelsummary_ipy.diagnosis.failures.context import FailureContext, Operand, drop_remark
from modelsummary_ipy.diagnosis.failures.module_code import name_member, write_change, write_module
from modelsummary_ipy.diagnosis.failures.source_edits import (
    change_operation,
    set_argument,
    splice_argument,
    wrap_argument,
)
from modelsummary_ipy.diagnosis.torch_names import SIZED_FACTORIES
from modelsummary_ipy.records.trace import Call, Source

__all__ = [
    "find_earlier",
    "fix_argument",
    "fix_creation",
    "fix_module",
    "fix_operand",
    "fix_setting",
    "place_line",
    "read_line",
    "resize_param",
]


def fix_argument(ctx: FailureContext, template: str, around: str = "{}", position: int = 0) -> str:
    """Change what the failing line passes on.

    Args:
        ctx: The failure.
        template: What becomes of the argument: ``"{}.flatten(1)"``.
        around: What becomes of the result: ``"{}.transpose(1, 2)"``.
        position: Which argument.

    Returns:
        The new line, or ``"x.flatten(1) before 'head.3'"`` where the line does not name the layer.
    """
    call = ctx.call
    if call is None:
        return ""
    line = ctx.line
    if call.kind == "module":
        new = wrap_argument(line, name_member(call.path), template, position, around)
    else:
        new = fix_operand(ctx, position, template, around)
    if new and new != line:
        return new
    if call.kind == "op" or not call.path:
        return ""
    after = f" and {around.format('y')} after it" if around != "{}" else ""
    return f"{template.format('x')} before {ctx.owner}{after}"


def fix_operand(ctx: FailureContext, position: int, template: str, around: str = "{}") -> str:
    """Change one operand of the failing operation, where the line holds it once; ``""`` otherwise.

    In the template ``{}`` is the operand, ``{0}`` and ``{1}`` the first and second.
    """
    if ctx.call is None:
        return ""
    where = re.sub(r"\{\}", f"{{{position}}}", template)

    def edit(operands: list[str], write: object) -> str | None:
        if len(operands) <= position or not callable(write):
            return None
        items = [where.format(*operands) if i == position else item for i, item in enumerate(operands)]
        return around.format(write("\0".join(items)))

    return change_operation(ctx.line, ctx.call.type_name, edit)


def fix_module(ctx: FailureContext, **changes: object) -> str:
    """Write the failed layer with other settings: ``"fc = nn.Linear(784, 10)"``; ``""`` if it is not torch's."""
    fact = ctx.fact
    if fact is None or ctx.call is None or find_earlier(ctx) is not None:
        return ""
    return write_change(fact.path, write_module(fact, ctx.trace, **changes))


def find_earlier(ctx: FailureContext) -> Call | None:
    """Return an earlier call of the failed layer that ran: changing the layer would break that one."""
    if ctx.call is None or ctx.call.kind != "module":
        return None
    calls = ctx.trace.calls[: ctx.call.index]
    return next((c for c in calls if c.kind == "module" and c.module == ctx.call.module and c.status == "ran"), None)


def resize_param(ctx: FailureContext, x: Operand, axis: int, size: int) -> str:
    """Write a parameter with another size on one axis: ``"pos = nn.Parameter(torch.zeros(1, 40, 8))"``.

    Returns:
        ``""`` if the tensor is no parameter, or a layer's weight.
    """
    if x.param is None:
        return ""
    fact = ctx.trace.params[x.param]
    if not fact.names or fact.kind != "parameter" or len(fact.shape) < -axis:
        return ""
    sizes = list(fact.shape)
    sizes[axis] = size
    return write_change(fact.names[0], f"nn.Parameter(torch.zeros({', '.join(map(str, sizes))}))")


def fix_setting(ctx: FailureContext, function: str, name: str, position: int, value: object) -> str:
    """Set one plain argument of a function that the failing line calls: ``dim=1``."""
    return set_argument(ctx.line, function, name, position, repr(value))


#: They return a tensor of the same shape.
_CARRIERS = frozenset(
    {"to", "triu", "tril", "bool", "float", "masked_fill", "masked_fill_", "logical_not", "zeros_like"}
)


def fix_creation(ctx: FailureContext, x: Operand, size: tuple[int, ...]) -> str:
    """Give a tensor that the forward makes another size, on the line that makes it.

    Returns:
        ``"at net.py:12: h = torch.zeros(2, 4, 16)"``; ``""`` if its line does not have the size.
    """
    for call in ctx.flow.walk_back(x.link, 6):
        if call.type_name in SIZED_FACTORIES:
            line = read_line(call.source)
            old = call.outputs[0].shape if call.outputs else ()
            new = splice_argument(line, call.type_name, old, size) if line else ""
            return f"at {call.source.text}: {new}" if call.source is not None and new and new != line else ""
        if call.kind != "op" or call.type_name not in _CARRIERS:
            return ""
    return ""


def read_line(source: Source | None) -> str:
    """Return the text of a line of the user's code, stripped of blanks and remarks; ``""`` if it can't be read."""
    if source is None or not source.filename:
        return ""
    return drop_remark(linecache.getline(source.filename, source.line).strip())


def place_line(ctx: FailureContext, call: Call, line: str) -> str:
    """Write a changed line of the call that made a tensor: with its place, where that is not the failing line's."""
    if call.source is None or not line:
        return ""
    return line if call.source == ctx.failure.source else f"at {call.source.text}: {line}"
