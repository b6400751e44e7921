"""The form: sizes, dtypes, device and mode as widgets; every change is a new ``ModelSummary``."""

from __future__ import annotations

import copy
import html
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from modelsummary_ipy.inputs import ModelInputs, Size
from modelsummary_ipy.notebook.form.fields import Fields, button, format_alert, show
from modelsummary_ipy.notebook.form.live_html import SENTENCE, copied_line, live_page, static_page
from modelsummary_ipy.notebook.form.reports import compare, list_offers, write_moved, write_training
from modelsummary_ipy.notebook.form.runs import Run, build_run
from modelsummary_ipy.notebook.form.settings import Settings, write_line
from modelsummary_ipy.notebook.form.worker import TorchState, Worker
from modelsummary_ipy.pipeline import TraceCancelled, observed
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.view import View, make_view

if TYPE_CHECKING:
    from modelsummary_ipy.summary import ModelSummary

_log = logging.getLogger(__name__)
_PROGRESS_SECONDS = 0.1
#: A run shows its table before the formulas are known if they are not there so soon: if it took this long up to then,
#: or the run before took this long in all.
_PATIENCE_SECONDS = 0.1
_WHOLE_PATIENCE_SECONDS = 0.2
#: Runs that can be gone back to, and how many of them keep their tables: one of ResNet-50 takes two megabytes.
_MOST_RUNS = 100
_MOST_TABLES = 10
_MOST_OFFERS = 8


class SummaryForm:
    """A form that summarises a model again with other sizes, dtypes, device and mode.

    The fields are read by a grammar; nothing typed is evaluated. A change runs by itself after 200 ms, in a thread that
    traces the shadow, so a training in another cell goes on undisturbed; a newer change cancels what runs.

    Args:
        inputs: The first inputs; data stays as it is until its size is edited.
        make: Makes a summary: ``(inputs, **keywords) -> ModelSummary``.
        first: The summary to begin with.
        name: How the user calls the model, for the line that is copied.
        settings: What the first summary was made with.
        fixed: Options of the line that have no field, with their values.

    Attributes:
        summary: The current ``ModelSummary``.
        history: The last 100 runs, the oldest first; one that is equal to an earlier one takes its place.
        line: The ``%summary`` line that gives the current table.
        fields: The fields.
        widget: The widget to display.
    """

    def __init__(
        self,
        inputs: ModelInputs,
        make: Callable[..., ModelSummary],
        first: ModelSummary,
        name: str = "model",
        settings: Settings | None = None,
        fixed: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._inputs = inputs
        self._make = make
        self._name = name
        self._fixed = fixed
        self._state = TorchState.read()
        self._quiet = False  # true while the form itself sets its list of runs
        self._took = 0.0  # seconds of the run before
        self._before: ModelSummary | None = None  # what the current summary is compared with
        self.line = ""
        self.summary = first
        self.history: list[Run] = []
        self._worker: Worker[tuple[Settings, bool]] = Worker(self._work, self._show_own_error)
        self.fields = Fields(
            inputs, first.view, first.assumed.step.optimizer.name, self._on_edit, lambda: self.run(now=True)
        )
        self._build()
        if settings is not None:
            self.fields.restore(settings)
        begun = self.fields.read()
        assert begun is not None
        self._keep(begun, inputs, first)
        self._show(first, live_page(first.to_html(packed=False)), "")

    # -- widgets ------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        row = {"flex_flow": "row wrap", "align_items": "center", "overflow": "visible", "grid_gap": "2px 6px"}
        self._auto = widgets.Checkbox(value=True, description="run on change", indent=False, layout={"width": "auto"})
        self._run_button = button("Run", "Run with these fields now", lambda: self.run(now=True))
        self._cancel_button = button("Cancel", "Stop the run", self.cancel)
        self._cancel_button.disabled = True
        self._options_button = button("More options", "Device, mode, engine, levels, columns", self._turn_options)
        self._code_button = button("Copy as code", "Copy the %summary line that gives this table", self._copy_code)
        self._history_list = widgets.Dropdown(
            options=[],
            description="runs",
            style={"description_width": "initial"},
            layout={"width": "auto", "flex": "1 1 260px", "min_width": "0"},
        )
        self._history_list.observe(self._on_history, names="value")
        self._code = widgets.HTML(layout={"display": "none"})
        self._progress = widgets.HTML(layout={"display": "none"})
        self._offers = [button("", "", lambda number=number: self._take(number)) for number in range(_MOST_OFFERS)]  # type: ignore[misc]
        self._offered: list[tuple[Size, ...]] = []
        self._offer_label = widgets.HTML(layout={"display": "none"})
        self._offer_box = widgets.HBox([self._offer_label, *self._offers], layout={**row, "display": "none"})
        self._moved = widgets.HTML(layout={"display": "none"})
        self._training = widgets.HTML(layout={"display": "none"})
        self.fields.training_box.children = (*self.fields.training_box.children, self._training)
        self._output = widgets.HTML()
        self.fields.options_box.layout.display = "none"
        self.widget = widgets.VBox(
            [
                self.fields.inputs_box,
                self.fields.training_box,
                widgets.HBox(
                    [
                        self._run_button,
                        self._cancel_button,
                        self._auto,
                        self._history_list,
                        self._code_button,
                        self._options_button,
                    ],
                    layout=row,
                ),
                self.fields.options_box,
                self._code,
                self._progress,
                self._offer_box,
                self._moved,
                self._output,
            ],
            layout={"max_width": "1200px", "overflow": "visible"},
        )

    def _ipython_display_(self) -> None:
        """Display the table as an output of its own, which a saved notebook keeps, and the form.

        What a place without widgets shows for the form is a sentence, not the repr of its widgets.
        """
        from IPython.display import display

        display({"text/html": static_page(self.summary.to_html()), "text/plain": str(self.summary)}, raw=True)
        display({**self.widget._repr_mimebundle_(), "text/plain": SENTENCE}, raw=True)

    def _repr_html_(self) -> str:
        """Return the table, for a place that shows HTML and no widgets, such as marimo."""
        return static_page(self.summary.to_html(packed=False))

    def close(self) -> None:
        """End the form: what runs is cancelled, and its widgets and the model are let go."""
        self._worker.cancel()
        for widget in (*_walk(self.widget), *self.fields.dims.spare):
            for part in ("layout", "style"):
                if hasattr(widget, part):
                    getattr(widget, part).close()
            widget.close()

    def _turn_options(self) -> None:
        box = self.fields.options_box.layout
        hidden = box.display == "none"
        box.display = "" if hidden else "none"
        self._options_button.description = "Fewer options" if hidden else "More options"

    def _copy_code(self) -> None:
        show(self._code, "")  # the same line once more is copied once more
        show(self._code, copied_line(self.line))

    # -- events -------------------------------------------------------------------------------------------------------

    def _on_edit(self) -> None:
        """Run what was edited; a run of an older text is cancelled."""
        settings = self.fields.read()
        if settings is None:
            self._worker.cancel()
            show(self._progress, "")
            self._cancel_button.disabled = True
        elif self._auto.value or self._is_view(settings):
            self._submit(settings, now=False)

    def _is_view(self, settings: Settings) -> bool:
        """Return whether only the view differs from that of the table: then nothing is traced."""
        return settings.traced == self._run_shown.settings.traced and not self._worker.busy

    def _on_history(self, change: Any) -> None:
        if self._quiet or change["new"] is None:
            return
        run = self.history[change["new"]]
        self._worker.cancel()
        self.fields.restore(run.settings)
        if run.summary is None:
            self.run(now=True)
            return
        self._before, self.summary, self._run_shown = self.summary, run.summary, run
        self._set_line(run.line)
        self._show(run.summary, *self._render(run.summary, self._before))

    def _take(self, number: int) -> None:
        """Fill in an offer and run it."""
        if number < len(self._offered):
            self.fields.fill(self._offered[number])
            self.run(now=True)

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, *, now: bool = False) -> None:
        """Run with the fields as they are, in 200 ms or at once; if one can't be read, nothing runs."""
        settings = self.fields.read(is_entered=True)
        if settings is not None:
            self._submit(settings, now=now)

    def _submit(self, settings: Settings, *, now: bool) -> None:
        self._cancel_button.disabled = False
        self._worker.submit((settings, now), now=now)

    def cancel(self) -> None:
        """Stop the run; the table stays as it was."""
        self._worker.cancel()
        show(self._progress, "<span role=status>cancelled: the table is that of the run before</span>")
        self._cancel_button.disabled = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs; return whether that came true within ``timeout`` seconds."""
        return self._worker.wait(timeout)

    def _work(self, request: tuple[Settings, bool], stopped: Callable[[], bool]) -> None:
        """Do one run, in the worker's thread; another view of the same is shown without a trace."""
        settings, is_asked = request
        run, shown = self._run_shown, self._output.value
        inputs = settings.read_inputs(self._inputs)
        known = run.summary if settings.traced == run.settings.traced and not is_asked else None
        before = self._before if known is not None else self.summary
        began = time.monotonic()
        try:
            with self._state.entered(), observed(self._make_observer(self.summary, stopped)):
                summary = self._view(known, settings) if known is not None else self._trace(inputs, settings)
                summary.flags  # noqa: B018  # computed in steps: a cancel stops between them
                is_slow = time.monotonic() - began > _PATIENCE_SECONDS or self._took > _WHOLE_PATIENCE_SECONDS
                if is_slow and known is None and not stopped():
                    self._output.value = live_page(summary.to_html(formulas=False, packed=False))
                if not stopped():
                    rendered, moved = self._render(summary, before)
        except TraceCancelled:
            return
        except InputError as wrong:
            show(self._progress, format_alert(str(wrong)))
            self._cancel_button.disabled = True
            return
        if stopped():
            self._output.value = shown
            return
        self.summary, self._before = summary, before
        if known is None:
            self._took = time.monotonic() - began
        self._keep(settings, inputs, summary)
        self._show(summary, rendered, moved)

    def _render(self, summary: ModelSummary, before: ModelSummary | None) -> tuple[str, str]:
        """Render the page of a summary, and what changed since the one before it."""
        changes = compare(before, summary)
        page = live_page(summary.to_html(flags=changes.flags if changes else (), packed=False))
        return page, write_moved(before, summary, changes)

    def _trace(self, inputs: ModelInputs, settings: Settings) -> ModelSummary:
        return self._view(self._make(inputs, **settings.keywords()), settings)

    def _view(self, summary: ModelSummary, settings: Settings) -> ModelSummary:
        """Return a summary as the settings show it; it shares what was found."""
        shown = copy.copy(summary)
        view = replace(View(), from_magic=True)
        shown.view = make_view(view, depth=settings.depth, ops=settings.ops, columns=settings.columns or None)
        return shown

    def _make_observer(self, before: ModelSummary, stopped: Callable[[], bool]) -> Callable[[int, str], bool]:
        """Return an observer of every layer of every trace: it shows progress ten times a second, and may cancel."""
        expected = sum(call.kind == "module" for call in before.story.trace.calls)
        shown_at = time.monotonic()
        traces = seen = last = 0

        def observe(count: int, path: str) -> bool:
            nonlocal shown_at, traces, seen, last
            traces, seen, last = (traces, seen + 1, count) if count > last else (traces + 1, 1, count)
            if time.monotonic() - shown_at > _PROGRESS_SECONDS and not stopped():
                shown_at = time.monotonic()
                where = f"layer {seen}{f' of {expected}' if seen <= expected else ''}"
                why = f" · trace {traces + 1}, at other sizes" if traces else ""
                show(self._progress, f"{where}: {html.escape(path)}{why}")
            return stopped()

        return observe

    def _keep(self, settings: Settings, inputs: ModelInputs, summary: ModelSummary) -> None:
        """Add a run to the list: it takes the place of an equal one, as another view does of what it is a view of."""
        run = build_run(settings, inputs, summary, write_line(self._name, inputs, settings, self._fixed))
        self.history = [old for old in self.history if not old.equals(run)]
        self.history.append(run)
        del self.history[:-_MOST_RUNS]
        for old in self.history[:-_MOST_TABLES]:
            old.summary = None
        self._quiet = True
        self._history_list.options = [
            (f"{number}: {run.title}", number - 1) for number, run in enumerate(self.history, 1)
        ]
        self._history_list.value = len(self.history) - 1
        self._quiet = False
        self._run_shown = run
        self._set_line(run.line)

    def _set_line(self, line: str) -> None:
        self.line = line
        show(self._code, "")  # what was copied gives another table

    # -- showing ------------------------------------------------------------------------------------------------------

    def _show(self, summary: ModelSummary, rendered: str, moved: str) -> None:
        show(self._moved, moved)
        show(self._training, write_training(summary))
        self.fields.dims.learn(summary.pipeline.ranges, failed=summary.error is not None)
        self._offer(summary)
        self._output.value = rendered
        show(self._progress, "")
        self._cancel_button.disabled = True  # last: who sees it disabled sees the table of the run

    def _offer(self, summary: ModelSummary) -> None:
        """Offer sizes as buttons."""
        label, offers = list_offers(summary, self.fields.read(), self._inputs)
        offers = offers[:_MOST_OFFERS]
        self._offered = [sizes for _, sizes in offers]
        for number, made in enumerate(self._offers):
            made.layout.display = "" if number < len(offers) else "none"
            made.description = offers[number][0] if number < len(offers) else ""
            made.tooltip = f"Run with {made.description}" if made.description else ""
        show(self._offer_label, html.escape(label) if offers else "")
        self._offer_box.layout.display = "flex" if offers else "none"

    def _show_own_error(self, error: BaseException) -> None:
        """Show an error of ours, folded, and log it: it is a bug."""
        _log.error("the form failed", exc_info=error)
        text = html.escape("".join(traceback.format_exception(error)))
        message = html.escape(str(error) or type(error).__name__)
        show(
            self._progress,
            f'<details><summary role="alert">the form itself failed: {message}</summary><pre>{text}</pre></details>',
        )
        self._cancel_button.disabled = True


def _walk(widget: Any) -> list[Any]:
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in _walk(child))]
