"""Where on the way down half a pixel was dropped, and by how much a way down was strided."""

from __future__ import annotations

from dataclasses import dataclass

from modelsummary_ipy.facts import Call, Link

from .scene import Part, Scene

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


def find_lost(scene: Scene, small: Part, big: Part, axis: int) -> Lost | None:
    """Find the call on the way to the smaller map that divided an odd size.

    Args:
        scene: The failure.
        small, big: The two maps.
        axis: The axis they differ on, counted from the end.

    Returns:
        The call that read a map of the bigger one's size, or the last one before that rounded; ``None`` if none did.
    """
    found = [lost for call in _ancestors(scene, small.link) if (lost := _read(call, axis)) is not None]
    exact = [lost for lost in found if lost.before == big.shape[axis]]
    return (exact or found or [None])[0]  # type: ignore[list-item,return-value]


def _ancestors(scene: Scene, link: Link | None) -> list[Call]:
    """Return every call that led to a tensor, latest first."""
    seen: set[int] = set()
    work = [link]
    while work:
        at = work.pop()
        if at is not None and at.call >= 0 and at.call not in seen:
            seen.add(at.call)
            work.extend(scene.trace.calls[at.call].input_links)
    return [scene.trace.calls[index] for index in sorted(seen, reverse=True)]


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
