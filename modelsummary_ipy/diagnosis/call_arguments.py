"""What an operation was called with: its plain arguments by any of their names, and what they mean for dims."""

from __future__ import annotations

from typing import Any

from modelsummary_ipy.records.trace import Call

Size = tuple[int, ...]
#: Positions of dims.
Dims = tuple[int, ...]


def given_size(step: Call) -> Size | None:
    """Return the sizes an operation was called with, ``(-1, 400)`` of ``view``; ``None`` if with none."""
    value = argument(step, "size", "shape", "sizes", "repeats", "dims", "0", "1")
    if isinstance(value, int):
        value = (value,)
    is_size = isinstance(value, tuple) and all(isinstance(size, int) for size in value) and value
    return value if is_size else None


def argument(call: Call, *names: str, default: Any = None) -> Any:
    """Return a plain argument of an operation, by any of its names."""
    for name, value in call.arguments:
        if name in names:
            return value
    return default


def dims_argument(call: Call, rank: int) -> Dims | None:
    """Return the dims an operation was called with, counted from the front; ``None`` if with none."""
    value = argument(call, "dim", "axis", "dims", "1" if call.kind == "op" else "dim")
    if isinstance(value, bool) or value is None:
        return None
    listed = value if isinstance(value, tuple) else (value,)
    if not listed or not all(isinstance(dim, int) and -rank <= dim < rank for dim in listed):
        return None
    return tuple(dim % rank for dim in listed)


def einsum_labels(call: Call) -> tuple[tuple[str, ...], str] | None:
    """Return the labels of every operand of an ``einsum`` and of its output, one letter a dim.

    An ellipsis is written out in digits, the same digit for the same dim counted from the right. ``None`` if the call
    is no einsum, or its equation was not kept or does not fit the operands.
    """
    equation = argument(call, "equation", "0") if call.type_name == "einsum" else None
    if not isinstance(equation, str):
        return None
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if len(operands) != len(call.inputs):
        return None
    hidden = [
        len(spec.shape) - len(labels.replace("...", "")) for labels, spec in zip(operands, call.inputs, strict=True)
    ]
    digits = "9876543210"[10 - max(hidden) :] if 0 < max(hidden) <= 10 else ""
    written = [
        labels.replace("...", digits[len(digits) - more :] if more > 0 else "")
        for labels, more in zip(operands, hidden, strict=True)
    ]
    letters = "".join(operands).replace("...", "")
    result = right if arrow else "..." + "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    result = result.replace("...", digits)
    fits = all(len(labels) == len(spec.shape) for labels, spec in zip(written, call.inputs, strict=True))
    return (tuple(written), result) if fits and len(result) == len(call.outputs[0].shape) else None
