"""What the first summary of a process needs, imported while the kernel waits for a cell."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

#: So long a kernel has run no cell: those of "Run all" follow each other at once.
_IDLE_SECONDS = 0.5


class IdleImports:
    """Imports what a summary needs, a part at a time, once torch is imported and no cell runs.

    A part keeps a kernel busy for up to a second, and a first summary would import them all. Nothing is run or made,
    so there is nothing of the user's that could be touched. A shell without a kernel has no loop that waits.

    Args:
        shell: The running IPython shell.
        may_import: Asked before each part.
    """

    def __init__(self, shell: Any, may_import: Callable[[], bool]) -> None:
        self._events = shell.events
        self._may_import = may_import
        self._parts = list(_PARTS)
        self._timer: asyncio.TimerHandle | None = None
        self._is_hooked = getattr(shell, "kernel", None) is not None
        if self._is_hooked:
            self._events.register("pre_run_cell", self._stop)
            self._events.register("post_run_cell", self._wait)

    def close(self) -> None:
        """Import nothing more."""
        self._stop()
        if self._is_hooked:
            self._is_hooked = False
            self._events.unregister("pre_run_cell", self._stop)
            self._events.unregister("post_run_cell", self._wait)

    def _stop(self, info: Any = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, result: Any = None) -> None:
        self._stop()
        if threading.current_thread() is threading.main_thread():
            with suppress(RuntimeError):  # a cell that no loop has run
                self._timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._import_next)

    def _import_next(self) -> None:
        self._timer = None
        if "torch" not in sys.modules or not self._may_import():
            return  # the next cell may change that
        self._parts.pop(0)()
        if self._parts:
            self._timer = asyncio.get_running_loop().call_later(0, self._import_next)
        else:
            self.close()


def _import_compiler(part: int) -> None:
    from modelsummary_ipy.torch_compat.compiler import COMPILER_PARTS, load_compiler

    load_compiler(COMPILER_PARTS[part])


_PARTS: tuple[Callable[[], object], ...] = (
    partial(_import_compiler, 0),
    partial(_import_compiler, 1),
    partial(import_module, "modelsummary_ipy.notebook.target"),
    partial(import_module, "modelsummary_ipy.summary"),
    partial(import_module, "modelsummary_ipy.display.render.html"),
)
