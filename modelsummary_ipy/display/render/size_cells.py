"""Tensors -> lines: every leaf under its key, and the dims that a row changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from modelsummary_ipy.display.render.formatting import brief, format_dim
from modelsummary_ipy.records.trace import Formula, TensorSpec

#: From this many leaves on, neighbours that differ in a number of their key, or are in one list, share a line.
_MANY_LEAVES = 5
_MOST_LABEL = 100
_MOST_DIMS = 24
_DIGITS = re.compile(r"\d+")


def format_dims(shape: Sequence[int]) -> list[str]:
    """Every dim as text; the first ones of a tensor that has very many."""
    return [*map(format_dim, shape[:_MOST_DIMS]), *(("…",) if len(shape) > _MOST_DIMS else ())]


def format_size(shape: Sequence[int]) -> str:
    """``[1, 3, 224, 224]``; the ragged dim of a nested tensor reads ``ragged``."""
    return "[" + ", ".join(format_dims(shape)) + "]"


def format_formula(formula: Formula) -> str:
    """``[B, 64, ⌈H/2⌉, ⌈W/2⌉]``."""
    return "[" + brief(", ".join(formula)) + "]"


class Line(NamedTuple):
    """Leaves that are shown as one line.

    Attributes:
        label: Key path, ``""`` for a bare tensor, ``"[0][0] … [11][1]"`` for several.
        shape: Their size.
        times: How many leaves it has.
        bold: Per dim, whether the row changed it.
        formula: Its formula if known.
    """

    label: str
    shape: tuple[int, ...]
    times: int = 1
    bold: tuple[bool, ...] = ()
    formula: Formula | None = None


def format_leaves(
    leaves: Sequence[TensorSpec], formulas: Sequence[Formula | None] = (), against: Sequence[TensorSpec] = ()
) -> tuple[Line, ...]:
    """One line per leaf; of five and more, neighbours of one size share a line that are in one list (those of a cache).

    So do those whose keys differ in numbers only.

    Args:
        formulas: Per leaf its formula or ``None``; may be shorter.
        against: The input tensors, to mark what the row changed; empty to mark nothing.
    """
    lines: list[Line] = []
    start = 0
    while start < len(leaves):
        stop = start + 1
        if len(leaves) >= _MANY_LEAVES:
            key, known = _find_list(leaves[start].name), formulas[start : start + 1]
            while stop < len(leaves) and leaves[stop].shape == leaves[start].shape:
                if _find_list(leaves[stop].name) != key or formulas[stop : stop + 1] != known:
                    break
                stop += 1
        first, last = leaves[start], leaves[stop - 1]
        label = first.name if stop == start + 1 else f"{first.name} … {last.name}"
        bold = changed_dims(first, against) if against else ()
        formula = formulas[start] if start < len(formulas) else None
        lines.append(Line(brief(label, _MOST_LABEL), first.shape, stop - start, bold, formula))
        start = stop
    return tuple(lines)


def _find_list(name: str) -> str:
    """``.past_key_values.layers`` for ``.past_key_values.layers[3].keys``; else the key without its numbers."""
    return name.partition("[")[0] or _DIGITS.sub("#", name)


def changed_dims(leaf: TensorSpec, against: Sequence[TensorSpec]) -> tuple[bool, ...]:
    """Find per dim of an output whether the row changed it.

    The output is held against the input of the same name, else the most similar one of the same rank, else the first.
    With another rank, what is between the common head and the common tail is what changed.

    Example:
        >>> changed_dims(TensorSpec("", (8, 400), "float32", "cpu"), [TensorSpec("", (8, 16, 5, 5), "float32", "cpu")])
        (False, True)
    """
    shape = leaf.shape
    if len(against) == 1 and len(against[0].shape) == len(shape):
        return tuple(map(int.__ne__, shape, against[0].shape))
    same_rank = [other.shape for other in against if len(other.shape) == len(shape)]
    same_name = [other.shape for other in against if other.name == leaf.name and other.name]
    if same_rank and not same_name:
        before = max(same_rank, key=lambda other: sum(map(int.__eq__, other, shape)))
    else:
        before = same_name[0] if same_name else against[0].shape
    if len(before) == len(shape):
        return tuple(map(int.__ne__, shape, before))
    head = 0
    while head < min(len(before), len(shape)) and before[head] == shape[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(shape)) - head and before[-1 - tail] == shape[-1 - tail]:
        tail += 1
    return tuple(head <= at < len(shape) - tail for at in range(len(shape)))


def format_leaf(line: Line, *, mark: tuple[str, str] = ("", "")) -> str:
    """``.logits [8, 10]``; ``mark`` goes around dims that changed."""
    dims = [
        f"{mark[0]}{dim}{mark[1]}" if at < len(line.bold) and line.bold[at] else dim
        for at, dim in enumerate(format_dims(line.shape))
    ]
    size = "[" + ", ".join(dims) + "]"
    times = f"{line.times} × " if line.times > 1 else ""
    return f"{line.label} {times}{size}" if line.label else f"{times}{size}"
