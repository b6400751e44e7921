"""Who observes traces as they go on, and how one is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Observer", "TraceCancelled", "TraceEndedError", "find_observer", "observing_progress"]

#: Is called with ``(number of calls so far, path)`` at every module; a true result cancels the trace.
Observer = Callable[[int, str], "bool | None"]


class TraceCancelled(BaseException):
    """The observer cancelled the trace; nothing of it is kept."""


class TraceEndedError(TraceCancelled):
    """A limit that the caller had set ended the trace."""


_observers: dict[int, Observer] = {}  # by thread


@contextmanager
def observing_progress(observer: Observer) -> Iterator[None]:
    """Let ``observer`` observe, and cancel, every trace that this thread makes in the block.

    A summary traces again for its flags, formulas and sizes that work: a form's Cancel is to end these too.
    """
    thread = threading.get_ident()
    outer = _observers.get(thread)
    _observers[thread] = observer
    try:
        yield
    finally:
        if outer is None:
            del _observers[thread]
        else:
            _observers[thread] = outer


def find_observer() -> Observer | None:
    """Return the observer of this thread's traces."""
    return _observers.get(threading.get_ident())
