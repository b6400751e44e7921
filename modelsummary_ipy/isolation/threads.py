"""Whether another thread may run the user's code meanwhile: then what changes beside a trace may be its doing."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from traceback import walk_stack

import torch

from modelsummary_ipy.records.packages import INSTALLED

_LIBRARIES = (*INSTALLED, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep, "<frozen")
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
#: What waits in these may begin with the user's code at any time.
_POOLS = (os.path.join("concurrent", "futures", "thread.py"), os.path.join("multiprocessing", "pool.py"))


class AloneWatch:
    """Watches from its making on whether this thread is the only one that runs the user's code."""

    def __init__(self) -> None:
        self._began_alone = is_alone()
        self._cells = _count_cells()

    def holds(self) -> bool:
        """Return whether it was alone all the time; in doubt it was not.

        Who looks at the beginning and at the end misses a cell that ran in between: these are counted. Where nothing
        counts them, only the main thread can know that there was none.
        """
        is_main = threading.current_thread() is threading.main_thread()
        knows = is_main or self._cells is not None
        return self._began_alone and knows and self._cells == _count_cells() and is_alone()


def is_alone() -> bool:
    """Return whether no other thread is in code that is neither Python's, an installed package's nor ours."""
    if any(isinstance(thread, threading.Timer) for thread in threading.enumerate()):
        return False
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)  # this very frame: it would refer to itself
    for innermost in frames.values():
        for frame, _ in walk_stack(innermost):
            name = frame.f_code.co_filename
            if not name.startswith(_LIBRARIES) or name.endswith(_POOLS):
                return False
    return True


#: Threads of the compiler: from the first ``torch.compile`` on one waits for its workers, as long as the process lives.
_COMPILER = os.path.join(_TORCH, "_inductor", "")
#: Where a thread stands that waits for another.
_WAITING = tuple(
    os.path.join(sysconfig.get_paths()["stdlib"], *parts)
    for parts in (("threading.py",), ("queue.py",), ("selectors.py",), ("concurrent", ""), ("multiprocessing", ""))
)


def may_run_torch_elsewhere() -> bool:
    """Return whether another thread is in code of torch's, or in the user's, which may call it at any moment.

    One of the user's that waits for a thread, an item of a queue or a socket is not running; one that torch makes wait
    (for a batch, say) is.
    """
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    for innermost in frames.values():
        waits = innermost.f_code.co_filename.startswith(_WAITING)
        for frame, _ in walk_stack(innermost):
            name = frame.f_code.co_filename
            is_torch = name.startswith(_TORCH) and not name.startswith(_COMPILER)
            if is_torch or not (waits or name.startswith(_LIBRARIES)):
                return True
    return False


def _count_cells() -> int | None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return None if shell is None else int(shell.execution_count)
