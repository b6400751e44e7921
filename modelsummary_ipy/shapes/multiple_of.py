"""What must be divisible of a dim: ``⌈H/8⌉`` by 2, as a map of it is halved, and laid on itself when it is doubled."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from modelsummary_ipy.axes.expr import Expr, constant, symbol
from modelsummary_ipy.shapes.expr_text import write

#: How many times the period sizes are evaluated at.
_TIMES = 3


class MultipleOf(NamedTuple):
    """A condition on one dim.

    Attributes:
        name: Of the dim.
        size: What is divisible: ``⌊H/4⌋`` of patches of 4.
        by: What divides it.
        period: After how many sizes it repeats itself.
    """

    name: str
    size: Expr
    by: int
    period: int

    @property
    def is_plain(self) -> bool:
        """Whether it is of the dim itself."""
        return self.size == symbol(self.name)

    def write(self, names: Sequence[str]) -> str:
        """Write ``⌊H/4⌋ and ⌊W/4⌋ divisible by 7``."""
        texts = [re.sub(rf"\b{self.name}\b", name, write(self.size)) for name in names]
        return f"{', '.join(texts[:-1])} and {texts[-1]}".removeprefix(" and ") + f" divisible by {self.by}"

    def takes(self, size: int) -> bool:
        """Return whether nothing is left of a size."""
        return self.size.value({self.name: size}) % self.by == 0

    def beyond(self, size: int, step: int) -> tuple[int, int]:
        """Return the nearest sizes above and below one, in steps, that are not taken."""
        sizes = range(step, self.period + 1, step)
        above = next(size + more for more in sizes if not self.takes(size + more))
        return above, next(size - less for less in sizes if not self.takes(size - less))


def in_patches(name: str, patch: int, length: int, *, rounds_up: bool) -> MultipleOf:
    """Return that a dim is of whole windows, ``length`` patches long; ``rounds_up``: as after layers that pad."""
    return MultipleOf(name, (symbol(name) + (patch - 1 if rounds_up else 0)) // patch, length, patch * length)


def read_multiple(one: Expr, other: Expr, name: str, period: int) -> MultipleOf | None:
    """Read ``2·⌊(H + 15)/16⌋ = ⌈H/8⌉`` as one of ``⌈H/8⌉``, which is divisible by 2.

    Args:
        one, other: What must be equal, of one dim alone.
        period: After how many sizes it repeats itself.

    Returns:
        ``None`` if it says something else.
    """
    sizes = range(1, _TIMES * period + 1)
    equal = [one.value({name: size}) == other.value({name: size}) for size in sizes]
    if all(equal):
        return None
    for whole, size in ((one, other), (other, one)):
        parts = [Fraction(part) for dims, part in whole.terms if dims]
        by = math.gcd(*(part.numerator for part in parts)) if all(part.denominator == 1 for part in parts) else 1
        rest = next((int(part) % by for dims, part in whole.terms if not dims), 0) if by > 1 else 0
        found = size - constant(rest)
        if by > 1 and equal == [found.value({name: at}) % by == 0 for at in sizes]:
            return MultipleOf(name, found, by, period)
    first = equal.index(True) + 1 if any(equal) else 0
    for by in range(2, period + 1):
        if equal == [(at - first) % by == 0 for at in sizes]:
            return MultipleOf(name, symbol(name) - constant(first % by), by, period)
    return None
