"""Where on the way down half a pixel was dropped, and by how much a way down was strided."""

from __future__ import annotations

from dataclasses import dataclass

from modelsummary_ipy.diagnosis.failures.context import FailureContext, Operand
from modelsummary_ipy.records.trace import Call, Link

__all__ = ["Lost", "find_lost", "find_stride", "write_lost"]


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
    """Return by what ``before`` was divided, rounding either way; ``None`` if by nothing whole."""
    for stride in (1, 2, 4, 8, 16, 32, 3):
        if after == -(-before // stride):
            return stride
    return None


def find_lost(ctx: FailureContext, left: Operand, right: Operand, axis: int) -> tuple[Lost, bool] | None:
    """Find the call that divided an odd size on the way to one of two maps that should be equal.

    Args:
        ctx: The failure.
        left, right: The two maps.
        axis: The axis they differ on, counted from the end.

    Returns:
        The call that read a map of the other one's size, or else the last that rounded, and whether it led to
        ``left``; ``None`` if none did.
    """
    found: list[tuple[bool, Lost, bool]] = []
    for x, other, is_left in ((left, right, True), (right, left, False)):
        for call in _ancestors(ctx, x.link):
            lost = _read(call, axis)
            if lost is not None and call.index not in _made_by(ctx, other):
                found.append((lost.before == other.shape[axis], lost, is_left))
    best = max(found, key=lambda item: (item[0], item[1].call.index), default=None)
    return (best[1], best[2]) if best is not None else None


def _made_by(ctx: FailureContext, x: Operand) -> set[int]:
    """Return the calls that led to a tensor."""
    return {call.index for call in _ancestors(ctx, x.link)}


def _ancestors(ctx: FailureContext, link: Link | None) -> list[Call]:
    """Return every call that led to a tensor, latest first."""
    seen: set[int] = set()
    work = [link]
    while work:
        at = work.pop()
        if at is not None and at.call >= 0 and at.call not in seen:
            seen.add(at.call)
            work.extend(ctx.trace.calls[at.call].input_links)
    return [ctx.trace.calls[index] for index in sorted(seen, reverse=True)]


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
    """``"'down1' (MaxPool2d) made 12 of 25, and 25 / 2 is no whole number"``."""
    name = f"'{lost.call.path}' ({lost.call.type_name})" if lost.call.kind == "module" else f"{lost.call.type_name}()"
    return (
        f"{name} made {lost.after} of {lost.before}, and {lost.before} / {lost.stride} is {lost.before / lost.stride:g}"
    )
