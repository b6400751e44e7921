"""Who observes traces as they go on, how one is cancelled, and what an interrupt leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from modelsummary_ipy.isolation.interrupts import InterruptsDeferred

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


class Keeping:
    """A block of ``keeping_rows``.

    Attributes:
        is_interrupted: Whether an interrupt came in it, which ended a search or found none.
    """

    def __init__(self) -> None:
        self.is_interrupted = False


_keeping: dict[int, Keeping] = {}  # by thread


@contextmanager
def keeping_rows() -> Iterator[Keeping]:
    """Let an interrupt (Ctrl-C, a notebook's stop button) end the trace that runs, not the summary.

    In the block a summary keeps the rows so far and is shown with them. An interrupt that comes when no forward runs
    ends the search that it falls into, or nothing if none is left. Elsewhere it is raised, as in any code.
    """
    thread = threading.get_ident()
    if thread in _keeping:
        yield _keeping[thread]
        return
    is_done, keeping = False, Keeping()
    try:
        with InterruptsDeferred():
            _keeping[thread] = keeping
            try:
                yield keeping
                is_done = True
            finally:
                _keeping.pop(thread, None)
    except KeyboardInterrupt:
        if not is_done:
            raise
        keeping.is_interrupted = True


def find_keeping() -> Keeping | None:
    """Return the block in which an interrupt of this thread's summary leaves the rows so far."""
    return _keeping.get(threading.get_ident())
