"""Shapes, sizes and products as people write them, for flags and explanations."""

from __future__ import annotations

import math
from collections.abc import Sequence


def write_shape(shape: Sequence[int]) -> str:
    """``[32, 64, 7, 7]``."""
    return "[" + ", ".join(map(str, shape)) + "]"


def write_size(sizes: Sequence[int]) -> str:
    """``(8, 64)``, as flags write a shape."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def write_times(sizes: Sequence[object]) -> str:
    """``7 × 7``."""
    return " × ".join(map(str, sizes))


def write_window(sizes: Sequence[object]) -> str:
    """``3`` for a kernel, a stride or a padding of ``(3, 3)``, ``3 × 5`` where they differ."""
    return str(sizes[0]) if len(set(sizes)) == 1 else write_times(sizes)


def write_move(rank: int, start: int, end: int) -> str:
    """Write how a dim moves to another place: ``"{}.transpose(1, 2)"``, ``"{}.permute(0, 2, 3, 1)"``."""
    order = list(range(rank))
    order.insert(end, order.pop(start))
    if abs(start - end) == 1:
        return f"{{}}.transpose({min(start, end)}, {max(start, end)})"
    return f"{{}}.permute({', '.join(map(str, order))})"


def write_product(sizes: Sequence[int]) -> str:
    """``64 × 7 × 7 = 3136``; one number alone."""
    return str(sizes[0]) if len(sizes) == 1 else f"{write_times(sizes)} = {math.prod(sizes)}"


def factor_like(total: int, channels: int, num_spatial: int) -> tuple[int, ...] | None:
    """Split a number into channels and equal sides, as a flattened feature map is made of them.

    Args:
        total: 400.
        channels: 16.
        num_spatial: 2.

    Returns:
        ``(16, 5, 5)``; ``None`` if there are no whole equal sides.
    """
    if channels < 1 or total % channels or num_spatial < 1:
        return None
    rest = total // channels
    side = round(rest ** (1 / num_spatial))
    return (channels, *([side] * num_spatial)) if side**num_spatial == rest and side > 0 else None
