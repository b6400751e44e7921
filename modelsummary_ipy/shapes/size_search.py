"""Searches among sizes: which is the first or the last that works, and in which steps sizes work."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

Holds = Callable[[int], bool]


def first_true(sizes: Sequence[int], holds: Holds) -> int | None:
    """Return the first of ``sizes`` at which ``holds``, as it does at all that follow; ``None`` if it never does.

    Example:
        >>> first_true(range(1, 100), lambda size: size * size > 50)
        8
    """
    place = bisect_left(sizes, True, key=holds)
    return sizes[place] if place < len(sizes) else None


def last_true(sizes: Sequence[int], holds: Holds) -> int | None:
    """Return the last of ``sizes`` at which ``holds``, as it does at all before it; ``None`` if it never does.

    Example:
        >>> last_true(range(1, 100), lambda size: size * size < 50)
        7
    """
    place = bisect_left(sizes, True, key=lambda size: not holds(size))
    return sizes[place - 1] if place else None


def smallest_step(step: int, holds: Holds, *, upwards: bool = False) -> int:
    """Return the smallest divisor of a step that works which works too, prime by prime.

    Args:
        upwards: Whether to try the smallest first: where to fail takes less time than to work.

    Example:
        >>> smallest_step(96, lambda step: step % 4 == 0)
        4
    """
    for prime in dict.fromkeys(prime_factors(step)):
        without = [step // prime**power for power in range(1, prime_factors(step).count(prime) + 1)]
        found = next(filter(holds, reversed(without)), None) if upwards else last_true(without, holds)
        step = found or step
    return step


def prime_factors(number: int) -> list[int]:
    """Return the prime factors of ``number`` in order, each as often as it divides.

    Example:
        >>> prime_factors(24)
        [2, 2, 2, 3]
    """
    found: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found
