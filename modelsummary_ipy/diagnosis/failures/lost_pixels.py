"""Where on the way down half a pixel was dropped, and by how much a way down was strided."""

from __future__ import annotations

from dataclasses import dataclass

from modelsummary_ipy.diagnosis.failures.context import FailureContext, Operand, name_call
from modelsummary_ipy.records.trace import Call


@dataclass(frozen=True)
class Lost:
    """A call that rounded a size down.

    Attributes:
        call: The call.
        before, after: The size of the axis.
        stride: By what it divides.
    """

    call: Call
    before: int
    after: int
    stride: int


def find_stride(before: int, after: int) -> int | None:
    """Return by what ``before`` was divided, rounding either way; ``None`` if by no integer."""
    for stride in (1, 2, 4, 8, 16, 32, 3):
        if after == -(-before // stride):
            return stride
    return None


def find_lost(ctx: FailureContext, left: Operand, right: Operand, axis: int) -> tuple[Lost, bool] | None:
    """Find the call that divided an odd size on the way to one of two feature maps that should be equal.

    Args:
        left, right: The two feature maps.
        axis: The axis they differ on, counted from the end.

    Returns:
        The call that read one of the other one's size, or else the last that rounded, and whether it led to
        ``left``; ``None`` if none did.
    """
    found: list[tuple[bool, Lost, bool]] = []
    for x, other, is_left in ((left, right, True), (right, left, False)):
        for call in sorted(ctx.flow.before(x.link), key=lambda call: -call.index):
            lost = _read(call, axis)
            if lost is not None and not ctx.flow.leads_to(call, other.link):
                found.append((lost.before == other.shape[axis], lost, is_left))
    best = max(found, key=lambda item: (item[0], item[1].call.index), default=None)
    return (best[1], best[2]) if best is not None else None


def _read(call: Call, axis: int) -> Lost | None:
    if not call.inputs or not call.outputs:
        return None
    before, after = call.inputs[0].shape, call.outputs[0].shape
    if len(before) != len(after) or len(before) < -axis or len(before) < 3:
        return None
    size, made = before[axis], after[axis]
    if made == 0 or size < 2 * made - 1 or size == made:
        return None
    stride = round(size / made)
    return Lost(call, size, made, stride) if stride > 1 and size % stride else None


def write_lost(lost: Lost) -> str:
    """``"'down1' (MaxPool2d) reduced 25 to 12, and 25 / 2 is 12.5"``."""
    divided = f"{lost.before} / {lost.stride} is {lost.before / lost.stride:g}"
    return f"{name_call(lost.call)} reduced {lost.before} to {lost.after}, and {divided}"
