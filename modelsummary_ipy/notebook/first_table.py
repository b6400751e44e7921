"""The table of ``%summary`` in a notebook: rows and flags at once, all of it in their place when it is found."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from modelsummary_ipy.notebook.keep import read_script

if TYPE_CHECKING:
    from modelsummary_ipy.summary import ModelSummary

__all__ = ["FirstTable"]

#: A model whose first trace took less is expected to have its whole table before a reader has looked at a part of it.
_PATIENCE_SECONDS = 0.05


class FirstTable:
    """Shows what a magic returns in two steps, through the formatter that IPython asks first.

    Args:
        shell: The running IPython shell; only one with a kernel has a page on which an output can be replaced.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._next: tuple[weakref.ref[ModelSummary], ModelSummary | None] | None = None
        self._formatter = shell.display_formatter.ipython_display_formatter
        self._type = ("modelsummary_ipy.summary", "ModelSummary")
        self.has_page = getattr(shell, "kernel", None) is not None
        if self.has_page:
            self._formatter.for_type_by_name(*self._type, self._show)

    def close(self) -> None:
        """Show summaries in one step again."""
        if self.has_page:
            self._formatter.pop(".".join(self._type), None)

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

        from modelsummary_ipy.tracing.progress import keeping_rows

        handle, before = None, expected[1]
        with keeping_rows():  # an interrupt ends the search, and the page says so
            if summary.pipeline.takes_longer_than(_PATIENCE_SECONDS):
                text, page = summary.to_text(formulas=False), summary.to_html(formulas=False, packed=False)
                keep = f"{read_script()}(document.currentScript && document.currentScript.parentElement);"
                first = {"text/html": f"{page}<script>{keep}</script>", "text/plain": text}
                handle = display(first, raw=True, display_id=True)
            whole = summary._repr_mimebundle_()
            # Of formulas that were not all found, nothing says which change is unexpected.
            changes = summary.diff(before) if before is not None and not summary.story.stopped else None
        if changes is not None and changes.unexpected:  # they stand above the table
            handle = handle.update(changes) if handle is not None else display(changes)
        if handle is None:
            display(whole, raw=True)
        else:
            handle.update(whole, raw=True)
