"""Whether another thread runs the user's code now: then what changes beside a trace may be that thread's doing."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading

__all__ = ["is_alone"]

_LIBRARIES = (
    *(sysconfig.get_paths()[key] + os.sep for key in ("stdlib", "platstdlib", "purelib", "platlib")),
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    "<frozen",
)


def is_alone() -> bool:
    """Tell whether no other thread stands in code that is neither Python's, an installed package's nor ours."""
    own = threading.get_ident()
    for thread, innermost in list(sys._current_frames().items()):
        frame = innermost if thread != own else None
        while frame is not None:
            if not frame.f_code.co_filename.startswith(_LIBRARIES):
                return False
            frame = frame.f_back
    return True
