"""Children that are forked while another thread traces: that thread is not in them, and can put nothing back.

What it has set is put back in the child by the thread that forked; locks that it holds are replaced.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from threading import get_ident
from types import TracebackType

_open: dict[int, list[Callable[[], object]]] = {}  # by thread, what its blocks put back, the innermost last


class restoring:  # a block, as contextlib names its own
    """Call ``restore`` when the block ends; in a child that another thread forks meanwhile, at once.

    Args:
        restore: Puts back what is the process's; what is a thread's own is gone with it.
    """

    def __init__(self, restore: Callable[[], object]) -> None:
        self._restore = restore
        self._thread = get_ident()

    def __enter__(self) -> None:
        _open.setdefault(self._thread, []).append(self._restore)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        restore, self._restore = self._restore, _nothing  # it may lead back to who holds this
        try:
            restore()
        finally:
            blocks = _open.get(self._thread, [])
            if restore in blocks:
                blocks.remove(restore)
            if not blocks:
                _open.pop(self._thread, None)


def _nothing() -> None: ...


_locks: weakref.WeakSet[ForkedLock] = weakref.WeakSet()


class ForkedLock:
    """A lock that a child has anew unless the thread that forked it holds it.

    Attributes:
        lock: To be entered.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _locks.add(self)


def _free_child() -> None:
    for held in _locks:
        is_owned: Callable[[], bool] = getattr(held.lock, "_is_owned", lambda: False)
        if not is_owned():
            held.lock = threading.RLock()
    thread = get_ident()
    with ExitStack() as stack:  # each is called, whatever another raises
        for other in [other for other in _open if other != thread]:
            for restore in _open.pop(other):
                stack.callback(restore)


if hasattr(os, "register_at_fork"):  # Windows forks nothing
    os.register_at_fork(after_in_child=_free_child)
