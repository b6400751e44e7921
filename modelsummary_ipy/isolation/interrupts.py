"""Signals while a trace runs: handlers run at once in the user's forward, and wait while state is set or put back.

Ctrl-C is one of them; others are a test runner's alarm and a scheduler's SIGTERM. A handler may raise wherever Python
looks for signals. Between two steps of ours that would leave a switch turned, and in code that torch calls from C++ it
would end the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from threading import get_ident
from types import CodeType, FrameType, TracebackType
from typing import Any, NoReturn

import torch

from modelsummary_ipy.isolation.forks import restoring


class InterruptGate:
    """Whether signal handlers may run now; the main thread's, for Python runs them in no other.

    Attributes:
        is_open: Whether the forward runs. It is set and cleared by plain assignments: Python looks for signals when
            a function is called or returns, so one can't come between.
        runners: Code of ours that runs the user's: in what it calls handlers run, in all else of ours they wait.
        before: By signal, the handler that was there before.
        pending: Signals that arrived and wait for their handler, in order.
    """

    def __init__(self) -> None:
        self.is_open = True
        self.runners: frozenset[CodeType] = frozenset()
        self.depth = 0
        self.before: dict[int, Any] = {}
        self.pending: list[int] = []

    def deliver(self) -> None:
        """Run the handlers of what arrived in the meantime."""
        while self.pending:
            self._handle(self.pending.pop(0), sys._getframe(1))

    def arrive(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: run its handler, or keep it."""
        if self.is_open and self._is_users_turn(frame):
            self._handle(number, frame)
        elif number not in self.pending:
            self.pending.append(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            self.before[number](number, frame)
        except Exception as error:  # noqa: BLE001  # whatever it is, it goes on to whom it is meant for
            raise _HandlerRaised(error) from None

    def _is_users_turn(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self.runners:
                return True
            if frame.f_code.co_filename.startswith(_UNINTERRUPTED):
                return False
            frame = frame.f_back
        return True


#: Code that is called from C++ where an exception would end the process: ours, and what torch keeps private.
_UNINTERRUPTED = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.join(os.path.dirname(torch.__file__), "_"),
)
_gate = InterruptGate()


def find_gate() -> InterruptGate:
    """Return the gate of this thread: to be opened around the user's code, and closed in a ``finally``."""
    return _gate if get_ident() == threading.main_thread().ident and _gate.depth else InterruptGate()


class _HandlerRaised(BaseException):
    """Carries what a handler raised past every ``except Exception``, the model's and ours, to its caller."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class InterruptsDeferred:
    """In the block signal handlers wait, but for the user's code, which runs with the gate open.

    What a handler raises comes out of the outermost block as it was raised.
    """

    def __init__(self) -> None:
        self._holds = False
        self._was_open = True

    def __enter__(self) -> InterruptsDeferred:
        if get_ident() != threading.main_thread().ident:
            return self
        if not _gate.depth:
            _gate.is_open, _gate.pending, _gate.before = False, [], {}
            try:
                for number in _find_handled():
                    _gate.before[number] = signal.getsignal(number)
                    signal.signal(number, _gate.arrive)
            except BaseException:  # a handler that is not held yet raised
                _put_back()
                raise
            self._was_open = True
        else:
            self._was_open, _gate.is_open = _gate.is_open, False
        if not _gate.depth:
            self._open = restoring(_put_back)
            self._open.__enter__()
        _gate.depth += 1
        self._holds = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._holds:
            return
        _gate.depth -= 1
        if not _gate.depth:
            self._open.__exit__(None, None, None)
        _gate.is_open = self._was_open
        if isinstance(error, _HandlerRaised) and not _gate.depth:
            _raise_again(error.error)
        if self._was_open:
            try:
                _gate.deliver()
            except _HandlerRaised as raised:
                if _gate.depth:
                    raise
                _raise_again(raised.error)


def _raise_again(error: Exception) -> NoReturn:
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context  # not what carried it here


_SIGNALS = sorted(signal.valid_signals())


def _find_handled() -> list[int]:
    """List the signals that have a handler written in Python."""
    return [number for number in _SIGNALS if callable(signal.getsignal(number))]


def _put_back() -> None:
    if _gate.depth:  # in a child of another thread
        _gate.depth, _gate.is_open, _gate.pending = 0, True, []
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        _set_handlers_back()
        return
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        try:  # a handler that is back already must not raise before the others are
            signal.pthread_sigmask(signal.SIG_BLOCK, list(_gate.before))
        finally:
            _set_handlers_back()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _set_handlers_back() -> None:
    for number, handler in reversed(list(_gate.before.items())):
        if signal.getsignal(number) == _gate.arrive:  # else the forward set one of its own
            signal.signal(number, handler)
