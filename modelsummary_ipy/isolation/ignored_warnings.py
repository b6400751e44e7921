"""Ignore warnings of this thread alone: filters are the process's, and blocks of two threads may end in any order."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from modelsummary_ipy.isolation.forks import ForkedLock, restoring

_ignoring: dict[int, int] = {}  # by thread, how many blocks are open
_lock = ForkedLock()


class _OfIgnoring:
    """Stands where a filter has the pattern that a message must match."""

    def match(self, _: str) -> bool:
        return get_ident() in _ignoring


_FILTER: Any = ("ignore", _OfIgnoring(), Warning, None, 0)
_places: list[list[Any]] = []  # the lists that it stands in: a block of ``catch_warnings`` puts another in their place


@contextmanager
def warnings_ignored() -> Iterator[None]:
    """Ignore what this thread warns of in the block; other threads warn as before.

    What warned in the block, or before it in a trace, warns again afterwards, also where it is told but once.
    """
    thread = get_ident()

    def restore() -> None:
        with _lock.lock:
            _ignoring[thread] -= 1
            if not _ignoring[thread]:
                del _ignoring[thread]
            if not _ignoring:
                for filters in (*_places, warnings.filters):
                    filters[:] = list_filters(filters)  # type: ignore[index]  # a list, whatever the stubs say
                _places.clear()
                _forget_told()

    with _lock.lock:
        _ignoring[thread] = _ignoring.get(thread, 0) + 1
        filters: Any = warnings.filters
        if not any(item is _FILTER for item in filters):
            filters.insert(0, _FILTER)
            _places.append(filters)
    with restoring(restore):
        yield


def list_filters(filters: Any = None) -> list[Any]:
    """Return the filters of warnings, without that of this file."""
    return [item for item in (warnings.filters if filters is None else filters) if item is not _FILTER]


def set_filters(before: list[Any]) -> None:
    """Put filters back."""
    with _lock.lock:
        warnings.filters[:] = [_FILTER, *before] if _ignoring else before  # type: ignore[index]  # as above
        _forget_told()


def _forget_told() -> None:
    """Let the registries of what was told be made anew, as ``warnings`` does when its filters change."""
    with warnings.catch_warnings():
        pass
