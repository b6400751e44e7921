"""What to measure of a call while sizes are searched for: how large a dim is of what it reads."""

from __future__ import annotations

import math
from collections.abc import Callable

from modelsummary_ipy.records.trace import Call

#: A size that a call reads; ``None`` where it has none.
Measure = Callable[[Call], "int | None"]


def dim_of(axis: int, leaf: int = 0) -> Measure:
    """Measure one dim of one tensor that a call reads; both may be counted from the end."""

    def measure(call: Call) -> int | None:
        if not -len(call.inputs) <= leaf < len(call.inputs):
            return None
        shape = call.inputs[leaf].shape
        return shape[axis] if -len(shape) <= axis < len(shape) else None

    return measure


def product_from(axis: int) -> Measure:
    """Measure how many scalars the dims from ``axis`` on hold of the first tensor that a call reads."""
    return lambda call: math.prod(call.inputs[0].shape[axis:]) if call.inputs else None
