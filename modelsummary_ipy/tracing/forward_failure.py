"""How the forward of a trace failed: the function and the call that raised, and the user's line."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, FunctionType, GeneratorType
from typing import Any

from modelsummary_ipy.records.errors import write_error
from modelsummary_ipy.records.trace import Failure
from modelsummary_ipy.tracing.call_builder import RunningCall
from modelsummary_ipy.tracing.failed_names import describe_names, list_near
from modelsummary_ipy.tracing.progress import TraceCancelled
from modelsummary_ipy.tracing.source_lines import Place, find_lines, read_line, to_source

#: ``(function, args, kwargs)`` of a torch function, to be tried again for real.
Operands = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]


class FailureLog:
    """Follows an exception outwards through the calls of a forward; the first function and call it meets raised it.

    Args:
        keeps: Whether it keeps the exception and the function's operands. An exception keeps the tensors of every frame
            that it went through, also after the forward, or a checkpoint, has caught it.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self._error: BaseException | int | None = None
        self._call: RunningCall | None = None
        self._function = ""
        self._operands: Operands | None = None

    def note_function(self, error: BaseException, name: str, operands: Operands | None) -> None:
        """Note that a torch function raised."""
        if not self._is_known(error) and not isinstance(error, TraceCancelled):
            self._function = name
            self._operands = operands if self._keeps else None

    def note_call(self, error: BaseException, call: RunningCall) -> None:
        """Note that an exception left a call."""
        call.status = "failed"
        if not self._is_known(error):
            self._error = error if self._keeps else id(error)
            self._call = call

    def _is_known(self, error: BaseException | None) -> bool:
        return error is not None and self._error == (error if self._keeps else id(error))

    def find_function(self, error: BaseException | None) -> tuple[str, Operands | None]:
        """Return name and operands of the torch function that raised the forward's exception, if one did."""
        return (self._function, self._operands) if self._is_known(error) else ("", None)

    def build_failure(self, error: BaseException, stop: CodeType) -> Failure:
        """Build the record of a forward's failure; ``stop`` is the code that runs a module's forward."""
        place: Place | None = None
        frame: FrameType | None = None
        inner = error.__traceback__
        while inner is not None:
            found = find_lines(inner.tb_frame, stop, 1)
            if found and found[0][0] is inner.tb_frame.f_code:
                place, frame = (inner.tb_frame.f_code, inner.tb_lineno), inner.tb_frame
            inner = inner.tb_next
        misspelt = _find_misspelt(error)
        if misspelt is not None:
            place = (misspelt.__code__, misspelt.__code__.co_firstlineno)
        source = to_source(place) if place else None
        call = self._call.index if self._call is not None and self._is_known(error) else None
        interrupted = isinstance(error, KeyboardInterrupt)
        text, name = write_error(error), type(error).__name__
        if misspelt is not None:
            text += f"; {misspelt.__qualname__.rpartition('.')[0].rpartition('.')[2]} has '{misspelt.__name__}'"
        names = describe_names(frame) if frame is not None and not interrupted else {}
        near = list_near(error, frame) if frame is not None and not interrupted else ()
        return Failure(call, name, text, source, read_line(source), interrupted=interrupted, names=names, near=near)


def _find_misspelt(error: BaseException) -> FunctionType | None:
    """Return the method that a class has in the place of its ``forward``; ``None`` if it has none that is like it."""
    entry = error.__traceback__ if isinstance(error, NotImplementedError) else None
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    if entry is None or entry.tb_frame.f_code.co_name != "_forward_unimplemented":
        return None
    own = vars(type(entry.tb_frame.f_locals["self"]))
    near = difflib.get_close_matches("forward", list(own), 1, 0.6)
    found = own[near[0]] if near else None
    return found if isinstance(found, FunctionType) else None


def close_generators(error: BaseException) -> None:
    """Close what ``torch.utils.checkpoint`` left open where its function failed or was interrupted.

    Up to torch 2.11 it keeps hooks on saved tensors in a generator, which lives as long as the exception has its frame.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            for value in frame.f_locals.values():
                if isinstance(value, GeneratorType):
                    value.close()
