"""What a forward prints shows once: a thread's output is held back while the model is traced again."""

from __future__ import annotations

import sys
import threading
from typing import Any, TextIO

from modelsummary_ipy.isolation.forks import ForkedLock, restoring
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred


class _Router:
    """Replaces ``sys.stdout`` while any thread holds its output back; other threads print as before.

    There is one for all threads, so that blocks of several threads may end in any order.

    Attributes:
        passed_to: What ``sys.stdout`` was.
        caught: By thread, the lists that its open blocks fill, the innermost last.
    """

    def __init__(self, passed_to: TextIO) -> None:
        self.passed_to = passed_to
        self.caught: dict[int, list[list[str]]] = {}

    def write(self, text: str) -> int:
        blocks = self.caught.get(threading.get_ident())
        if not blocks:
            return self.passed_to.write(text)
        blocks[-1].append(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.passed_to, name)


_lock = ForkedLock()


class quiet_output(InterruptsDeferred):  # a block, as contextlib names its own
    """Catch what this thread prints; other threads print as before. Gives the list that fills with the text.

    An interrupt waits for its end, but for the user's forward: it must find the output where it was.
    """

    def __enter__(self) -> list[str]:  # type: ignore[override]
        super().__enter__()
        caught: list[str] = []
        with _lock.lock:
            # Whoever put its own writer there meanwhile is caught too; ours may have been put back by such a one.
            current: Any = sys.stdout
            self._router = current if isinstance(current, _Router) else _Router(current)
            self._router.caught.setdefault(threading.get_ident(), []).append(caught)
            sys.stdout = self._router
        self._caught, self._thread = caught, threading.get_ident()
        self._block = restoring(self._restore)
        self._block.__enter__()
        return caught

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(None, None, None)
        super().__exit__(*error)

    def _restore(self) -> None:
        thread = self._thread
        with _lock.lock:
            blocks = self._router.caught[thread]
            blocks[:] = [block for block in blocks if block is not self._caught]
            if not blocks:
                del self._router.caught[thread]
            if not self._router.caught and sys.stdout is self._router:
                sys.stdout = self._router.passed_to


def read_output() -> Any:
    """Return what ``sys.stdout`` is, for ``set_output``."""
    return sys.stdout


def set_output(before: Any) -> None:
    """Put ``before`` back after a forward that put another writer there, below what holds output back by now."""
    with _lock.lock:
        if isinstance(before, _Router) and not before.caught:  # those that held output back are through
            before = before.passed_to
        current: Any = sys.stdout
        if not isinstance(current, _Router):
            sys.stdout = before
        elif not isinstance(before, _Router):
            current.passed_to = before
