"""The table of ``%summary`` in a notebook: rows and flags at once, all of it in their place when it is found."""

from __future__ import annotations

import copy
import html
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelsummary_ipy.notebook.keep import read_script

if TYPE_CHECKING:
    from modelsummary_ipy.display.comparison import Comparison
    from modelsummary_ipy.summary import ModelSummary

#: What stands below the first table.
_GOES_ON = '<div role="status" style="font-size:12px">formulas and sizes that work…</div>'
#: A model whose first trace took less is expected to have its whole table before a reader has looked at a part of it.
_PATIENCE_SECONDS = 0.05


class FirstTable:
    """Shows what a magic returns in two steps, through the formatter that IPython asks first.

    Args:
        shell: The running IPython shell; only one with a kernel has a page on which an output can be replaced.
    """

    def __init__(self, shell: Any) -> None:
        self._next: tuple[weakref.ref[ModelSummary], ModelSummary | None] | None = None
        self._handle: Any = None  # of the line that says what goes on: the table takes its place
        self._formatter = shell.display_formatter.ipython_display_formatter
        self._type = ("modelsummary_ipy.summary", "ModelSummary")
        self.has_page = getattr(shell, "kernel", None) is not None
        if self.has_page:
            self._formatter.for_type_by_name(*self._type, self._show)

    def close(self) -> None:
        """Show summaries in one step again."""
        if self.has_page:
            self._formatter.pop(".".join(self._type), None)

    @contextmanager
    def showing_progress(self) -> Iterator[None]:
        """Show what a summary does while it takes over a second, where its table will be; a terminal has a line."""
        if not self.has_page:
            yield
            return
        from modelsummary_ipy.pipeline import writing_progress_with

        self._next = self._handle = None
        try:
            with writing_progress_with(self._write):
                yield
        finally:
            if self._next is None:  # no table comes
                self._show_in_place({"text/html": ""})

    def _write(self, line: str) -> None:
        if line:
            shown = f'<span role="status" style="font-size:12px">{html.escape(line)}</span>'
            self._show_in_place({"text/html": shown, "text/plain": line}, is_new=True)

    def _show_in_place(self, data: dict[str, str], *, is_new: bool = False) -> None:
        """Show something in the place of what this cell shows of a summary; without any only if it is new."""
        from IPython.display import display

        if self._handle is not None:
            self._handle.update(data, raw=True)
        elif is_new:
            self._handle = display(data, raw=True, display_id=True)

    def expect(self, summary: ModelSummary, before: ModelSummary | None) -> None:
        """Show this summary in two steps when the running cell displays it, below what changed since ``before``."""
        self._next = weakref.ref(summary), before

    def _show(self, summary: ModelSummary) -> None:
        """Display a summary, if it is the one that a magic has just returned.

        Raises:
            NotImplementedError: For any other: it is then displayed as it says itself.
        """
        expected, self._next = self._next, None
        if expected is None or expected[0]() is not summary:
            raise NotImplementedError
        from IPython.display import display

        from modelsummary_ipy.pipeline import writing_progress_with
        from modelsummary_ipy.tracing.progress import keeping_rows

        before, is_shown = expected[1], summary.pipeline.takes_longer_than(_PATIENCE_SECONDS)
        with keeping_rows():  # an interrupt ends the search, and the page says so
            if is_shown:
                first = copy.copy(summary)
                first.assumed = summary.assumed.unasked  # a training step comes after the table
                text, page = first.to_text(formulas=False), first.to_html(formulas=False, packed=False)
                keep = f"{read_script()}(document.currentScript && document.currentScript.parentElement);"
                data = {"text/html": f"{page}{_GOES_ON}<script>{keep}</script>", "text/plain": text}
                self._show_in_place(data, is_new=True)
            with writing_progress_with(_say_nothing if is_shown else self._write):
                whole = summary._repr_mimebundle_()
                # Of formulas that were not all found, nothing says which change is unexpected.
                changes = since_last(summary, before) if before is not None and not summary.story.stopped else None
        if changes is not None and changes.unexpected:  # they stand above the table
            if self._handle is None:
                display(changes)
            else:
                self._handle.update(changes)
                self._handle = None
        self._show_in_place(whole) if self._handle is not None else display(whole, raw=True)
        self._handle = None


def since_last(summary: ModelSummary, before: ModelSummary) -> Comparison:
    """Compare with the summary that the same expression had before, and say so."""
    changes = summary.diff(before)
    changes.title = "changed since the last summary of it:"
    return changes


def _say_nothing(line: str) -> None:
    """What is shown already says what goes on."""
