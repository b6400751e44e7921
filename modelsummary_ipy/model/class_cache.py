"""What is found of a class, kept as long as the class: one that a notebook defines anew goes with all it holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


def once_a_class(find: Callable[..., T]) -> Callable[..., T]:
    """Keep what a function of a class, and of what else it is given by position, returns; it must not hold the class.

    Example:
        >>> calls = []
        >>> @once_a_class
        ... def count(kind: type) -> int:
        ...     calls.append(kind.__name__)
        ...     return len(kind.__mro__)
        >>> count(bool), count(bool), calls
        (3, 3, ['bool'])
    """
    known: WeakKeyDictionary[type, dict[tuple[Hashable, ...], T]] = WeakKeyDictionary()

    @functools.wraps(find)
    def look_up(kind: type, *rest: Any) -> T:
        found = known.get(kind)
        if found is None:
            found = known[kind] = {}
        if rest not in found:
            found[rest] = find(kind, *rest)
        return found[rest]

    return look_up
