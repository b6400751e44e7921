"""Code locations: from a frame to the user's line, and from a line to its name."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import threading
import traceback
from functools import cache
from types import CodeType, FrameType, TracebackType

from modelsummary_ipy.records.packages import PACKAGES, find_file
from modelsummary_ipy.records.trace import Source

#: A place in code, cheap to take and without text: turned into a ``Source`` when the trace is over.
Place = tuple[CodeType, int]

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"] + os.sep

#: Packages whose functions check or rearrange tensors on behalf of a line of the user's.
_CHECKERS = ("einops", "jaxtyping", "beartype", "typeguard", "opt_einsum")


@cache
def _users(filename: str) -> bool:
    """Return whether code from ``filename`` is the user's or a library's model code, not torch's, ours or Python's."""
    standard = filename.startswith(_STANDARD_LIBRARY) and not filename.startswith(PACKAGES)
    folders = tuple(filter(None, map(_find_folder, ("torch", *_CHECKERS))))
    return not (standard or filename.startswith((_OWN_FOLDER, *folders, "<frozen")))


def _find_folder(name: str) -> str:
    """Return where a package that was imported is; ``""`` if it was not."""
    file = find_file(name)
    return os.path.dirname(file) + os.sep if file else ""


def find_lines(frame: FrameType | None, stop: CodeType, most: int = 8) -> tuple[Place, ...]:
    """Walk outwards from ``frame`` to the frame of code ``stop`` and keep the user's lines, innermost first.

    Args:
        stop: The code object of the tracer's own wrapper: what is outside it belongs to the calling module.
        most: How many lines to keep at most.
    """
    found: list[Place] = []
    while frame is not None and len(found) < most:
        code = frame.f_code
        if code is stop:
            break
        # A class that only passes a call or an index on is not the line a reader looks for.
        if _users(code.co_filename) and code.co_name not in ("__call__", "__getitem__", "__getattr__"):
            found.append((code, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)


def to_source(place: Place) -> Source:
    """Name a place as people do: a file's name, or the cell it was typed in."""
    code, line = place
    return Source(_name_file(code.co_filename), line, code.co_name, code.co_filename)


def _name_file(filename: str) -> str:
    cell = _name_cell(filename)
    return cell or os.path.basename(filename)


def _name_cell(filename: str) -> str:
    """Return ``"In [5]"`` if IPython compiled ``filename`` from a cell, else ``""``."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    compiler = getattr(shell, "compile", None)
    if compiler is None or not hasattr(compiler, "format_code_name"):
        return ""
    named = compiler.format_code_name(filename)
    if not named:
        return ""
    number = str(named[1]).removeprefix("In[").removesuffix("]")
    return f"In [{number}]"


def read_line(source: Source | None) -> str:
    """Return the text of the line, stripped; ``""`` if it can't be read."""
    if source is None or not source.filename:
        return ""
    return linecache.getline(source.filename, source.line).strip()


def trim_error(error: BaseException) -> None:
    """Leave only the user's lines in the traceback of an exception and of its causes, and no variables.

    An exception that is kept keeps every frame it went through, each of these its caller, and so the tensors of a whole
    forward and of the caller of the summary. So the frames are replaced by others that have a file, a line and a
    name, and nothing else.
    """
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        traceback.clear_frames(inner.__traceback__)
        places: list[Place] = []
        entry = inner.__traceback__
        while entry is not None:
            if _users(entry.tb_frame.f_code.co_filename):
                places.append((entry.tb_frame.f_code, entry.tb_lineno))
            entry = entry.tb_next
        inner.__traceback__ = _stand_in(places)
        inner = inner.__cause__ or inner.__context__


class _StandInError(Exception):
    """Raised to have a frame, and caught."""


def _stand_in(places: list[Place]) -> TracebackType | None:
    """Make a traceback of frames that hold nothing, in a thread of its own: a frame keeps its caller."""
    made: list[TracebackType | None] = [None]

    def build() -> None:
        for code, line in reversed(places):
            text = "\n" * (line - 1) + "raise _StandInError"
            stub = compile(text, code.co_filename, "exec").replace(co_name=code.co_name)
            try:
                exec(stub, {"_StandInError": _StandInError, "__name__": code.co_filename})
            except _StandInError as raised:
                entry = raised.__traceback__.tb_next if raised.__traceback__ is not None else None
                if entry is not None:
                    made[0] = TracebackType(made[0], entry.tb_frame, entry.tb_lasti, line)

    thread = threading.Thread(target=build, name="modelsummary-traceback")
    thread.start()
    thread.join()
    return made[0]
