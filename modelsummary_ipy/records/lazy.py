"""``lazy``: a property that is computed once, without a lock."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

T = TypeVar("T")


class lazy(cached_property[T]):  # reads as the decorator that it is
    """A property that is computed when it is first read, by two threads at once perhaps twice.

    ``functools.cached_property`` holds a lock up to Python 3.11, one for all objects of a class: threads wait for each
    other's, and in a child that is forked meanwhile it stays held.
    """

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> T:  # type: ignore[override]  # never of a class
        kept = instance.__dict__
        if self.attrname not in kept:
            kept[self.attrname] = self.func(instance)
        value: T = kept[self.attrname]
        return value
