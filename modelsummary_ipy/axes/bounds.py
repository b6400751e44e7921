"""How large the values of integer tensors may be: places that are looked up on an axis must be on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelsummary_ipy.axes.registry import Size
from modelsummary_ipy.records.op_events import OpEvent

#: Operations whose results have values of their input.
_KEEPS = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "slice"),
        *("select", "repeat", "clone", "detach", "alias", "_to_copy", "lift_fresh", "contiguous", "flip", "roll"),
        *("index", "index_select", "gather", "split", "unbind", "cat", "stack"),
    )
)


def find_bound(event: OpEvent, bounds: Mapping[int, Size], axes: Sequence[Sequence[Size]], end: Size) -> Size | None:
    """Return a number that every value of an operation's result is below; ``None`` if none is known.

    Args:
        bounds: What is known of tensors, by number.
        axes: The sizes of its tensor arguments.
        end: Of an ``arange``, where it ends.
    """
    known = [bounds.get(ref.number, 2 if ref.dtype == "bool" else None) for ref in event.refs]
    if event.op == "aten.arange":
        step = event.args.get("step", 1)
        return end if isinstance(step, int) and step > 0 and not isinstance(end, float) else None
    if not known or known[0] is None:
        return None
    if event.op in _KEEPS:
        return known[0] if event.op not in ("aten.cat", "aten.stack") or all(b == known[0] for b in known) else None
    if event.op == "aten.add":
        other = event.args.get("other")
        if isinstance(other, int) and other >= 0:
            return known[0] + other
        return known[0] + known[1] - 1 if len(known) > 1 and known[1] is not None else None
    if event.op == "aten.sub":
        other = event.args.get("other")
        if isinstance(other, int) and other >= 0:
            return known[0] - other
        return known[0] if len(known) > 1 and known[1] is not None else None  # positions are not negative
    if event.op == "aten.mul" and len(known) > 1 and known[1] is not None:
        return (known[0] - 1) * (known[1] - 1) + 1
    if event.op == "aten.cumsum" and known[0] == 2:
        return axes[0][event.args["dim"]] + 1
    return None
