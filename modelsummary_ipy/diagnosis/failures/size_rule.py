"""Which sizes of the input work, where one was found that does: a range or a step, each end of it tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from modelsummary_ipy.shapes.size_search import first_true, last_true, prime_factors, smallest_step

#: Sizes above this many times the larger of the given one and the one that works are not tried.
_FAR = 4
_STEPS = (64, 60, 48, 36, 20, 14)


class SizeRule(NamedTuple):
    """The sizes that work.

    Attributes:
        low: The smallest; ``None`` if every smaller one works too.
        high: The largest; ``None`` if none was found.
        step: They are multiples of it.
    """

    low: int | None
    high: int | None
    step: int

    def write(self, names: list[str]) -> str:
        """``"48 ≤ H, W ≤ 55"``, ``"H and W divisible by 16"``, ``"T ≤ 32"``; ``""`` if all sizes work."""
        what = " and ".join(names)
        if self.low is not None and self.low == self.high:
            return f"{' = '.join(names)} = {self.low}"
        limits = f"{what} ≥ {self.low}" if self.low is not None else ""
        if self.high is not None:
            limits = f"{what} ≤ {self.high}" if self.low is None else f"{self.low} ≤ {', '.join(names)} ≤ {self.high}"
        if self.step == 1:
            return limits
        steps = f"{what} divisible by {self.step}"
        if self.high is None:
            return f"{steps} and ≥ {self.low}" if self.low is not None else steps
        return f"{steps}, {limits}"


def find_size_rule(works: Callable[[int], bool], good: int, given: int) -> SizeRule | None:
    """Find the sizes that work around one that does.

    Args:
        works: Tries a size.
        good: One that works.
        given: The user's, which does not.

    Returns:
        ``None`` if the sizes around are neither a range nor multiples.
    """
    step = _find_step(works, good)
    if step is None:
        return None
    far = _FAR * max(good, given) // step * step
    below = range(good % step or step, good, step)
    above = range(good, far + 1, step)
    low = first_true(below, works) or good
    high = None if works(far) else last_true(above, works)
    is_least = low <= step
    lowest = None if is_least or works(low - step) else low
    if (not is_least and lowest is None) or (high is not None and works(high + step)):
        return None  # no range
    if good % step:
        return None
    inside = [low + step, good - step, good + step, ((low + (high or far)) // 2) // step * step]
    if not all(works(size) for size in inside if low <= size <= (high or far)):
        return None
    return SizeRule(lowest, high, step)


def _find_step(works: Callable[[int], bool], good: int) -> int | None:
    """Return the step in which sizes work; ``None`` if there is none that was tried."""
    if works(good + 1) or (good > 1 and works(good - 1)):
        return 1
    for whole in _STEPS:
        if works(good + whole):
            step = smallest_step(whole, lambda size: works(good + size))
            parts = {step // prime for prime in prime_factors(step)}
            return step if not any(works(good + part) for part in parts) else None
    return 1
