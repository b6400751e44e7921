"""What a forward prints shows once: output of a thread held back while it is traced again."""

from __future__ import annotations

import sys
import threading
from typing import Any, TextIO

from modelsummary_ipy.isolation.interrupts import Holding

__all__ = ["quiet_output"]


class _ThreadWriter:
    """Writes of one thread go to ``catch``, those of all others where they always went."""

    def __init__(self, catch: list[str], passed_to: TextIO, thread: int) -> None:
        self._catch = catch
        self._passed_to = passed_to
        self._thread = thread

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._passed_to.write(text)
        self._catch.append(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._passed_to, name)


class quiet_output(Holding):  # a block, as contextlib names its own
    """Catch what this thread prints; other threads print as before. Gives the list that fills with the text.

    An interrupt waits for its end, but for the user's forward: it must find the output where it was.
    """

    def __enter__(self) -> list[str]:  # type: ignore[override]
        super().__enter__()
        caught: list[str] = []
        self._before = sys.stdout
        self._writer: Any = _ThreadWriter(caught, self._before, threading.get_ident())
        sys.stdout = self._writer
        return caught

    def __exit__(self, *error: Any) -> None:
        if sys.stdout is self._writer:
            sys.stdout = self._before
        super().__exit__(*error)
