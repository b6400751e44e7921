"""The table of any module at the end of a cell, through IPython's own formatters."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from modelsummary_ipy.inputs import ModelInputs
from modelsummary_ipy.tracing.watch import note_inputs


class AutoShow:
    """Shows modules as summaries until it is closed: with the size last used for each, else as the module tree."""

    def __init__(self, shell: Any) -> None:
        self._sizes: weakref.WeakKeyDictionary[nn.Module, ModelInputs] = weakref.WeakKeyDictionary()
        formatters = shell.display_formatter.formatters
        self._html = formatters["text/html"]
        has_page = getattr(shell, "kernel", None) is not None  # a terminal shows text alone
        self._text = None if has_page else formatters["text/plain"]
        self._before_html = self._html.for_type(nn.Module, self._show_html)
        self._before_text = self._text.for_type(nn.Module, self._show_text) if self._text is not None else None

    def remember(self, model: nn.Module, inputs: ModelInputs) -> None:
        """Use these sizes when ``model`` is shown next; no data is kept."""
        self._sizes[model] = note_inputs(inputs.args, inputs.kwargs)

    def close(self) -> None:
        """Show modules as they were shown before."""
        for formatter, before in ((self._html, self._before_html), (self._text, self._before_text)):
            if formatter is None:
                continue
            if before is None:
                formatter.pop(nn.Module, None)
            else:
                formatter.for_type(nn.Module, before)

    def _summarise(self, model: nn.Module) -> Any:
        from modelsummary_ipy.summary import ModelSummary

        inputs = self._sizes.get(model)
        return ModelSummary(model, inputs) if inputs is not None else ModelSummary(model, engine="static")

    def _show_html(self, model: nn.Module) -> str | None:
        own = getattr(model, "_repr_html_", None)  # a module that shows itself knows best
        return own() if callable(own) else str(self._summarise(model).to_html())

    def _show_text(self, model: nn.Module, printer: Any, cycle: bool) -> None:
        """A module inside a list or a dict stays its ``repr``: only a module at the end of a cell is a table."""
        alone = len(printer.stack) <= 1
        printer.text(self._summarise(model).to_text() if alone else repr(model))
