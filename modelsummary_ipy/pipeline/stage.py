"""``stage``: a property that one thread computes, once."""

from __future__ import annotations

from typing import Any, TypeVar

from modelsummary_ipy.isolation.interrupts import InterruptsDeferred
from modelsummary_ipy.records.lazy import lazy

T = TypeVar("T")


class stage(lazy[T]):  # reads as the decorator that it is
    """A property that one thread computes, once, while others that need it wait.

    An exception leaves it to be computed again: a form that cancels takes nothing from a cell that waits. A signal's
    handler waits for the next forward, or for the end.
    """

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> T:  # type: ignore[override]  # never of a class
        with InterruptsDeferred(), instance.lock:
            value: T = super().__get__(instance, owner)
            return value
