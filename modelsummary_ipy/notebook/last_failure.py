"""The call of a module that failed last: what it was, which line made it, and what is said of it."""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

from modelsummary_ipy.inputs import name_positional
from modelsummary_ipy.notebook.caller_fix import fix_caller
from modelsummary_ipy.records.errors import ForwardError, InputError, write_error
from modelsummary_ipy.tracing.source_lines import read_line, to_source
from modelsummary_ipy.tracing.watch import SeenCall, find_failed_call


class LastFailure(NamedTuple):
    """The outermost module call in the last traceback.

    Attributes:
        error: What it raised.
        call: The module, and what it was given.
        place: ``"In [3] line 2"``; ``""`` where no line is found, as ``line`` and ``name`` are.
        line: ``"loss = criterion(y, labels)"``.
        name: By what name the line calls the module: ``"criterion"``.
    """

    error: BaseException
    call: SeenCall
    place: str
    line: str
    name: str

    def print(self, traced: ForwardError | None) -> None:
        """Print where the call was made, and what a trace of it shows.

        Args:
            traced: How the trace failed; ``None`` if it did not.
        """
        if self.place:
            said = ": ".join(filter(None, [self.place, self.line]))
            print(f"the call that failed, {said}")  # noqa: T201  # a line of the cell's output, above the table
        parameters = name_positional(self.call.model, "forward")
        for fix in traced.fixes[:1] if traced is not None else ():
            if fixed := fix_caller(self.line, self.name, parameters, fix):
                print(f"with the fix: {fixed}")  # noqa: T201
        if traced is None:
            raised = f"{type(self.error).__name__}: {write_error(self.error).partition(chr(10))[0]}"
            print(f"a trace, which has sizes and few values, came to its end: it does not show {raised}")  # noqa: T201


def find_last_failure() -> LastFailure:
    """Find the outermost module call in the last traceback.

    Raises:
        InputError: If nothing has failed, or not in a module's call.
    """
    last: BaseException | None = getattr(sys, "last_value", None)
    if last is None:
        raise InputError("no model, and nothing has failed", "a model", "%summary model (1, 3, 224, 224)")
    # An error that was raised because of another may have come out of no module itself.
    found = [(error, call) for error in _list_causes(last) if (call := find_failed_call(error)) is not None]
    if not found:
        wrong = f"the last error ({type(last).__name__}) was not raised in a module's call"
        raise InputError(wrong, "a model", "%summary model (1, 3, 224, 224)")
    error, call = found[0]
    return LastFailure(error, call, *_find_caller(error, call.model))


def _list_causes(error: BaseException) -> list[BaseException]:
    """List an exception and those it was raised because of: it may itself have come out of no module."""
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found


#: Files of torch that call a module, or that hold its functions of Python.
_OF_TORCH = ("torch/nn/modules/module.py", "torch/nn/functional.py", "torch/_jit_internal.py")


def _find_caller(error: BaseException, model: Any) -> tuple[str, str, str]:
    """Find the line that called a module, or a function of torch's, and by what name; ``""`` for what there is not.

    Example:
        ``("In [3] line 2", "loss = criterion(y, labels)", "criterion")``
    """
    entry, caller = error.__traceback__, None
    while entry is not None and not entry.tb_frame.f_code.co_filename.endswith(_OF_TORCH):
        caller, entry = entry, entry.tb_next
    if caller is None or entry is None:
        return "", "", ""
    frame = caller.tb_frame
    source = to_source((frame.f_code, caller.tb_lineno))
    line = read_line(source)
    held = {**frame.f_globals, **frame.f_locals}
    called = re.findall(r"(?<![\w.])([^\W\d][\w.]*)\(", line or "")
    function = type(model).__name__ if isinstance(vars(type(model)).get("forward"), staticmethod) else None
    names = (name for name in called if held.get(name) is model or name.rpartition(".")[2] == function)
    return source.text, line or "", next(names, "")
