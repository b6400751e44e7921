"""What a forward prints, writes to stderr or logs shows once: a thread's output is held back while a trace runs.

A debugger stops in the first trace, whose output is shown from then on, and in no other.
"""

from __future__ import annotations

import bdb
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType
from typing import Any, TextIO

from modelsummary_ipy.isolation.forks import ForkedLock, restoring
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred


class Held:
    """What one block holds back, in order.

    Attributes:
        will_show: Whether it is shown when the block is over, or when a debugger stops in it.
        parts: What is to be written, and how.
        is_released: Whether nothing is held back any more.
    """

    def __init__(self, *, will_show: bool) -> None:
        self.will_show = will_show
        self.parts: list[tuple[Callable[[Any], object], Any]] = []
        self.is_released = False

    def show(self) -> None:
        """Write what was held back, where a block outside this one may hold it."""
        parts, self.parts = self.parts, []
        for write, part in parts:
            write(part)


_held: dict[int, list[Held]] = {}  # by thread, what its open blocks hold, the innermost last
_lock = ForkedLock()


def _find_holder() -> Held | None:
    for held in reversed(_held.get(threading.get_ident(), ())):
        if not held.is_released:
            return held
    return None


def count_held() -> int:
    """Return how many pieces of output this thread's innermost block holds."""
    held = _find_holder()
    return 0 if held is None else len(held.parts)


def forget_held(count: int) -> None:
    """Let the innermost block forget all but its first pieces: of a trace that is made again."""
    held = _find_holder()
    if held is not None:
        del held.parts[count:]


class _Router:
    """Replaces ``sys.stdout`` or ``sys.stderr`` while any thread holds its output back; other threads write as before.

    There is one for all threads, so that blocks of several threads may end in any order.

    Attributes:
        passed_to: What it replaces.
    """

    def __init__(self, name: str, passed_to: TextIO) -> None:
        self._name = name
        self.passed_to = passed_to

    def write(self, text: str) -> int:
        held = _find_holder()
        if held is None:
            return self.passed_to.write(text)
        held.parts.append((partial(_write, self._name), text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.passed_to, name)


def _write(name: str, text: str) -> None:
    getattr(sys, name).write(text)


_STREAMS = ("stdout", "stderr")
_logger: Any = logging.Logger
_debugger: Any = bdb.Bdb
_call_handlers, _set_trace = _logger.callHandlers, _debugger.set_trace  # those of the blocks' beginning


def _log_or_hold(logger: logging.Logger, record: logging.LogRecord) -> None:
    held = _find_holder()
    if held is None:
        _call_handlers(logger, record)
    else:
        held.parts.append((logger.callHandlers, record))


def _stop_in_first(debugger: bdb.Bdb, frame: FrameType | None = None) -> None:
    blocks = _held.get(threading.get_ident(), [])
    if all(held.will_show for held in blocks):
        for held in blocks:
            held.is_released = True
            held.show()
        _set_trace(debugger, frame or sys._getframe(1))


def _route() -> None:
    global _call_handlers, _set_trace
    for name in _STREAMS:
        # Whoever put its own writer there meanwhile is caught too; ours may have been put back by such a one.
        current = getattr(sys, name)
        if current is not None and not isinstance(current, _Router):
            setattr(sys, name, _Router(name, current))
    if _logger.callHandlers is not _log_or_hold:
        _call_handlers, _logger.callHandlers = _logger.callHandlers, _log_or_hold
    if _debugger.set_trace is not _stop_in_first:
        _set_trace, _debugger.set_trace = _debugger.set_trace, _stop_in_first


def _route_no_more() -> None:
    for name in _STREAMS:
        if isinstance(current := getattr(sys, name), _Router):
            setattr(sys, name, current.passed_to)
    if _logger.callHandlers is _log_or_hold:
        _logger.callHandlers = _call_handlers
    if _debugger.set_trace is _stop_in_first:
        _debugger.set_trace = _set_trace


class quiet_output(InterruptsDeferred):  # a block, as contextlib names its own
    """Hold back what this thread prints, writes to stderr and logs; other threads go on as before.

    An interrupt waits for its end, but for the user's forward: it must find the output where it was.

    Args:
        will_show: Whether the caller shows what was held back; after an exception it is shown at once.
    """

    def __init__(self, *, will_show: bool = False) -> None:
        super().__init__()
        self._held = Held(will_show=will_show)

    def __enter__(self) -> Held:  # type: ignore[override]
        super().__enter__()
        self._thread = threading.get_ident()
        with _lock.lock:
            _held.setdefault(self._thread, []).append(self._held)
            _route()
        self._block = restoring(self._restore)
        self._block.__enter__()
        return self._held

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(None, None, None)
        if error[0] is not None and self._held.will_show:
            self._held.show()
        super().__exit__(*error)

    def _restore(self) -> None:
        with _lock.lock:
            blocks = _held[self._thread]
            blocks[:] = [held for held in blocks if held is not self._held]
            if not blocks:
                del _held[self._thread]
            if not _held:
                _route_no_more()


def set_stream(name: str, before: Any) -> None:
    """Put ``sys.stdout`` or ``sys.stderr`` back after a forward that put another writer there.

    What holds output back by now stays in front of it.
    """
    with _lock.lock:
        if isinstance(before, _Router) and not _held:  # those that held output back are through
            before = before.passed_to
        current = getattr(sys, name)
        if not isinstance(current, _Router):
            setattr(sys, name, before)
        elif not isinstance(before, _Router):
            current.passed_to = before
