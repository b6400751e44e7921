"""Ctrl-C while a trace runs: it stops the user's forward at once, and waits while switches are set or put back."""

from __future__ import annotations

import os
import signal
import threading
from threading import get_ident
from types import CodeType, FrameType, TracebackType
from typing import Any

__all__ = ["Gate", "Holding", "find_gate"]


class Gate:
    """Whether an interrupt may come through now; the main thread's, for no other ever gets one.

    Attributes:
        is_open: Whether the forward runs. It is set and cleared by plain assignments: Python looks for interrupts when
            a function is called or returns, so one can't come between.
        runners: Code of ours that runs the user's: what it calls may be interrupted, all else of ours may not, for
            torch calls it from C++ where an exception ends the process.
        is_pending: Whether one arrived that could not come through yet.
    """

    def __init__(self) -> None:
        self.is_open = True
        self.runners: frozenset[CodeType] = frozenset()
        self.depth = 0
        self.before: Any = None
        self.is_pending = False

    def deliver(self) -> None:
        """Raise what arrived in the meantime."""
        if self.is_pending:
            self.is_pending = False
            self.before(signal.SIGINT, None)

    def arrive(self, number: int, frame: FrameType | None) -> None:
        """Take an interrupt: pass it on, or keep it."""
        if self.is_open and self._is_users_turn(frame):
            self.before(number, frame)
        else:
            self.is_pending = True

    def _is_users_turn(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self.runners:
                return True
            if frame.f_code.co_filename.startswith(_OWN_FOLDER):
                return False
            frame = frame.f_back
        return True


_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_gate = Gate()


def find_gate() -> Gate:
    """Return the gate of this thread: to be opened around the user's code, and closed in a ``finally``."""
    return _gate if get_ident() == threading.main_thread().ident and _gate.depth else Gate()


class Holding:
    """In the block an interrupt waits, but for the user's code, which runs with the gate open."""

    def __init__(self) -> None:
        self._holds = False
        self._was_open = True

    def __enter__(self) -> Holding:
        if get_ident() != threading.main_thread().ident:
            return self
        if not _gate.depth:
            before = signal.getsignal(signal.SIGINT)
            if not callable(before):  # ignored, or not Python's to handle
                return self
            _gate.before, _gate.is_open, _gate.is_pending = before, False, False
            signal.signal(signal.SIGINT, _gate.arrive)
            self._was_open = True
        else:
            self._was_open, _gate.is_open = _gate.is_open, False
        _gate.depth += 1
        self._holds = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._holds:
            return
        _gate.depth -= 1
        if not _gate.depth and signal.getsignal(signal.SIGINT) == _gate.arrive:
            signal.signal(signal.SIGINT, _gate.before)
        _gate.is_open = self._was_open
        if self._was_open:
            _gate.deliver()
