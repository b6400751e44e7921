"""Cells: one run inside another, what is done with a magic's value, a fix that is offered as the next one."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from modelsummary_ipy.records.errors import ForwardError


def run_inside(shell: Any, cell: str) -> Any:
    """Run a cell inside the one that runs, under its number, and show its output but not its error.

    Args:
        cell: The text below ``%%summary``.

    Returns:
        IPython's ``ExecutionResult``: the value of the cell, and the error for the caller to raise.
    """
    hook, compiler = shell.displayhook, shell.compile
    outer = hook.exec_result
    cache = compiler.cache

    def cache_under_number(code: str, number: int = 0, **options: Any) -> Any:
        known = getattr(outer, "execution_count", None)
        return cache(code, number if known is None else known, **options)  # IPython has counted on: "In [n + 1]"

    with ExitStack() as stack:
        for name in ("showtraceback", "showsyntaxerror", "showindentationerror"):
            stack.enter_context(_replaced(shell, name, lambda *args, **kwargs: None))
        stack.enter_context(_replaced(compiler, "cache", cache_under_number))
        # IPython reads in the outer cell's text whether a `;` keeps the last value from being shown.
        stack.enter_context(_replaced(hook, "quiet", lambda: hook.semicolon_at_end_of_expression(cell)))
        try:
            return shell.run_cell(cell, store_history=False)
        finally:
            hook.exec_result = outer  # the inner run took the place of the cell that holds it


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let an attribute of one object be another for a while, and leave nothing behind in its ``__dict__``."""
    had = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def find_use(shell: Any) -> Literal["shown", "dropped", "kept"]:
    """Return what a cell does with the value of the line magic that runs.

    IPython shows the value of a cell's last line. That of a line before it, in a loop or in a file is dropped: the
    instruction after the call says so.
    """
    frame: Any = sys._getframe()
    while frame is not None and frame.f_code.co_name != "run_line_magic":
        frame = frame.f_back
    caller = None if frame is None else frame.f_back
    if caller is None or caller.f_globals is not shell.user_global_ns:
        return "shown"
    code = dis.get_instructions(caller.f_code)
    after = next((step.opname for step in code if step.offset > caller.f_lasti), "")
    if after == "POP_TOP":
        return "dropped"
    return "shown" if after.startswith(("PRINT_EXPR", "CALL_INTRINSIC", "RETURN")) else "kept"


def offer_fix(shell: Any, error: ForwardError | None) -> None:
    """Print the best fix of a failure as a diff, and offer what was written in a cell as the next cell."""
    best = error.fixes[0] if error is not None and error.fixes else None
    if best is None:
        print("nothing failed" if error is None else "no fix was found that works")  # noqa: T201  # a line of the output
        return
    print(best.patch or best.text)  # noqa: T201  # a line of the cell's output, above the table
    if best.source and "+++ b/In [" in (best.patch or ""):
        shell.set_next_input(best.source)
