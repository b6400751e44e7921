"""The form: sizes, dtypes, device and mode as widgets; every change is a new ``ModelSummary``."""

from __future__ import annotations

import html
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import torch

from modelsummary_ipy.errors import InputError
from modelsummary_ipy.facts import COLUMNS
from modelsummary_ipy.inputs import ModelInputs, Size
from modelsummary_ipy.tracer import TraceCancelled
from modelsummary_ipy.worker import TorchState, Worker

if TYPE_CHECKING:
    from modelsummary_ipy.summary import ModelSummary

__all__ = ["Run", "SummaryForm"]

_log = logging.getLogger(__name__)
_DTYPES = ("", "float32", "float64", "float16", "bfloat16", "int64", "int32", "bool", "uint8", "complex64")
_MODES = ("same", "train", "eval")
_ENGINES = ("auto", "fake", "real", "static")
_PROGRESS_SECONDS = 0.1


@dataclass(frozen=True)
class Settings:
    """Everything a run depends on, read from the fields; plain values, so that a run can be gone back to."""

    sizes: tuple[str, ...]
    dtypes: tuple[str, ...]
    device: str
    mode: str
    engine: str
    memory: str
    depth: str
    ops: bool
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One run of the form.

    Attributes:
        settings: What it was run with.
        summary: What came of it.
        line: The magic's line that gives the same.
    """

    settings: Settings
    summary: ModelSummary
    line: str

    @property
    def outcome(self) -> str:
        """``"ran"``, ``"2 warnings"`` or ``"failed in 'fc'"``."""
        if self.summary.error is not None:
            return f"failed in {self.summary.error.path!r}"
        count = sum(flag.severity != "note" for flag in self.summary.flags)
        return "ran" if not count else f"{count} warning{'s' if count > 1 else ''}"


class SummaryForm:
    """A form that summarises a model again with other sizes, dtypes, device and mode.

    The fields are read by a grammar; nothing typed is evaluated. A change runs by itself after 300 ms, in a thread that
    traces the shadow, so a training in another cell goes on undisturbed; a newer change cancels what runs.

    Args:
        inputs: The first inputs; data stays as it is until its size is edited.
        make: Makes a summary: ``(inputs, observer, **keywords) -> ModelSummary``.
        first: The summary to begin with.
        name: How the user calls the model, for ``insert as code``.

    Attributes:
        summary: The current ``ModelSummary``.
        history: Every ``Run``, the oldest first.
        widget: The widget to display.
    """

    def __init__(
        self,
        inputs: ModelInputs,
        make: Callable[..., ModelSummary],
        first: ModelSummary,
        name: str = "model",
    ) -> None:
        self._inputs = inputs
        self._make = make
        self._name = name
        self._state = TorchState.read()
        self._quiet = False  # true while the form itself sets its fields
        self.summary = first
        self.history: list[Run] = []
        self._worker: Worker[Settings] = Worker(self._run, self._show_own_error)
        self._build()
        self._keep(Run(self._read(), first, self._write_line(first)))
        self._show(first, None)

    # -- widgets ------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        wide = widgets.Layout(width="auto", flex="1 1 auto")
        narrow = {"description_width": "initial"}
        leaves = self._inputs.leaves()
        self._sizes = [
            widgets.Text(value=_write_size(value), description=name or "input", style=narrow, layout=wide)
            for name, value in leaves
        ]
        self._dtypes = [
            widgets.Dropdown(
                options=[(dtype or "as the layer wants", dtype) for dtype in _DTYPES],
                value=_dtype_of(value),
                description=f"dtype of {name or 'input'}",
                style=narrow,
            )
            for name, value in leaves
        ]
        self._errors = [widgets.HTML() for _ in leaves]
        self._dims: dict[str, widgets.BoundedIntText] = {}
        self._dim_box = widgets.HBox(layout=widgets.Layout(flex_flow="row wrap"))
        self._device = widgets.Dropdown(options=_list_devices(), value="", description="device", style=narrow)
        self._mode = widgets.Dropdown(options=_MODES, value="same", description="mode", style=narrow)
        self._engine = widgets.Dropdown(options=_ENGINES, value="auto", description="engine", style=narrow)
        self._memory = widgets.Text(placeholder="24GB", description="memory budget", style=narrow)
        self._depth = widgets.Text(placeholder="auto", description="depth", style=narrow)
        self._ops = widgets.Checkbox(value=False, description="show operations", indent=False)
        self._columns = widgets.SelectMultiple(
            options=COLUMNS, value=self.summary.view.columns, description="columns", rows=4, style=narrow
        )
        self._auto = widgets.Checkbox(value=True, description="run by itself", indent=False)
        self._run_button = widgets.Button(description="Run", tooltip="Run with these fields now")
        self._cancel_button = widgets.Button(description="Cancel", tooltip="Stop the run", disabled=True)
        self._code_button = widgets.Button(description="Insert as code", tooltip="Write the line that gives this")
        self._history_list = widgets.Dropdown(options=[], description="earlier runs", style=narrow, layout=wide)
        self._progress = widgets.HTML(value="")
        self._delta = widgets.HTML(value="")
        self._suggestions = widgets.HBox(layout=widgets.Layout(flex_flow="row wrap"))
        self._code = widgets.Textarea(
            description="code", style=narrow, layout=widgets.Layout(width="auto", display="none")
        )
        self._output = widgets.HTML(value="")
        self._follow_dims()
        self.widget = widgets.VBox(
            [
                *(
                    widgets.VBox([widgets.HBox([size, dtype]), error])
                    for size, dtype, error in zip(self._sizes, self._dtypes, self._errors, strict=True)
                ),
                self._dim_box,
                widgets.HBox([self._device, self._mode, self._engine, self._memory], layout=_wrapping()),
                widgets.HBox([self._depth, self._ops, self._columns], layout=_wrapping()),
                widgets.HBox(
                    [self._auto, self._run_button, self._cancel_button, self._code_button], layout=_wrapping()
                ),
                widgets.HBox([self._history_list]),
                self._code,
                self._progress,
                self._suggestions,
                self._delta,
                self._output,
            ]
        )
        self._listen()

    def _listen(self) -> None:
        watched = [*self._sizes, *self._dtypes, self._device, self._mode, self._engine, self._memory, self._depth]
        for widget in (*watched, self._ops, self._columns):
            widget.observe(self._on_change, names="value")
        for field in (*self._sizes, self._memory, self._depth):
            field.on_msg(self._on_message)
        self._run_button.on_click(lambda _: self.run(now=True))
        self._cancel_button.on_click(lambda _: self.cancel())
        self._code_button.on_click(lambda _: self._insert_code())
        self._history_list.observe(self._on_history, names="value")

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)

    # -- reading the fields -------------------------------------------------------------------------------------------

    def _read(self) -> Settings:
        return Settings(
            tuple(field.value for field in self._sizes),
            tuple(field.value for field in self._dtypes),
            self._device.value,
            self._mode.value,
            self._engine.value,
            self._memory.value.strip(),
            self._depth.value.strip(),
            self._ops.value,
            tuple(self._columns.value),
        )

    def _read_inputs(self, settings: Settings) -> ModelInputs | None:
        """Read the size fields; what is wrong with one is said under it."""
        changed: dict[str, Size] = {}
        well = True
        for (name, value), text, dtype, error in zip(
            self._inputs.leaves(), settings.sizes, settings.dtypes, self._errors, strict=True
        ):
            error.value = ""
            if text == _write_size(value) and dtype == _dtype_of(value):
                continue
            try:
                changed[name] = Size(text, dtype=dtype or None)
            except InputError as wrong:
                error.value = f'<span role="alert">{html.escape(str(wrong))}</span>'
                well = False
        return self._inputs.with_sizes(changed) if well else None

    # -- events -------------------------------------------------------------------------------------------------------

    def _on_change(self, change: Any) -> None:
        if self._quiet:
            return
        self._follow_dims()
        if self._read_inputs(self._read()) is not None and self._auto.value:
            self.run()

    def _on_message(self, widget: Any, content: Any, buffers: Any) -> None:
        """Run when Enter is pressed in a text field: its front end says so by a message of its own."""
        if isinstance(content, dict) and content.get("event") == "submit":
            self.run(now=True)

    def _follow_dims(self) -> None:
        """Show a number for every named dim; the sizes say what there is."""
        found: dict[str, int] = {}
        for text in (field.value for field in self._sizes):
            try:
                size = Size(text)
            except InputError:
                return
            found.update({name: number for name, number in zip(size.dims, size.shape, strict=True) if name})
        if list(found) != list(self._dims):
            for field in self._dims.values():
                field.close()
            self._dims = {
                name: widgets.BoundedIntText(
                    value=number, min=1, max=1 << 30, description=name, layout=widgets.Layout(width="160px")
                )
                for name, number in found.items()
            }
            for name, field in self._dims.items():
                field.observe(lambda change, name=name: self._on_dim(name, change["new"]), names="value")
            self._dim_box.children = tuple(self._dims.values())
        was, self._quiet = self._quiet, True
        for name, number in found.items():
            self._dims[name].value = number
        self._quiet = was

    def _on_dim(self, name: str, number: int) -> None:
        if self._quiet:
            return
        self._quiet = True
        for field in self._sizes:
            size = Size(field.value)
            shape = tuple(number if dim == name else old for dim, old in zip(size.dims, size.shape, strict=True))
            field.value = _write_size(size.with_shape(shape))
        self._quiet = False
        if self._auto.value:
            self.run()

    def _on_history(self, change: Any) -> None:
        if self._quiet or change["new"] is None:
            return
        run = self.history[change["new"]]
        self._restore(run.settings)
        before, self.summary = self.summary, run.summary
        self._show(run.summary, before)

    def _restore(self, settings: Settings) -> None:
        self._quiet = True
        for field, value in zip((*self._sizes, *self._dtypes), (*settings.sizes, *settings.dtypes), strict=True):
            field.value = value
        self._device.value, self._mode.value, self._engine.value = settings.device, settings.mode, settings.engine
        self._memory.value, self._depth.value, self._ops.value = settings.memory, settings.depth, settings.ops
        self._columns.value = settings.columns
        self._quiet = False
        self._follow_dims()

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, *, now: bool = False) -> None:
        """Run with the fields as they are: in 300 ms, or at once."""
        self._cancel_button.disabled = False
        self._worker.ask(self._read(), now=now)

    def cancel(self) -> None:
        """Stop the run; the table stays as it was."""
        self._worker.cancel()
        self._progress.value = "cancelled"
        self._cancel_button.disabled = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs; return whether that came true within ``timeout`` seconds."""
        return self._worker.wait(timeout)

    def _run(self, settings: Settings, stopped: Callable[[], bool]) -> None:
        """Do one run, in the worker's thread."""
        inputs = self._read_inputs(settings)
        if inputs is None:
            self._cancel_button.disabled = True
            return
        expected = len(self.summary.story.trace.calls)
        told = time.monotonic()

        def observe(count: int, path: str) -> bool:
            nonlocal told
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                of = f" of {expected}" if count <= expected else ""
                self._progress.value = f"layer {count}{of}: {html.escape(path)}"
            return stopped()

        try:
            with self._state.entered():
                summary = self._make(inputs, observe, **_keywords(settings))
                summary.view = _view_of(summary, settings)
                rendered = summary.to_html()
        except TraceCancelled:
            return
        except InputError as wrong:
            self._progress.value = f'<span role="alert">{html.escape(str(wrong))}</span>'
            self._cancel_button.disabled = True
            return
        if stopped():
            return
        before, self.summary = self.summary, summary
        self._keep(Run(settings, summary, self._write_line(summary)))
        self._show(summary, before, rendered)

    def _keep(self, run: Run) -> None:
        self.history.append(run)
        was, self._quiet = self._quiet, True
        self._history_list.options = [
            (f"{number + 1}: {', '.join(run.settings.sizes)} · {run.outcome}", number)
            for number, run in enumerate(self.history)
        ]
        self._history_list.value = len(self.history) - 1
        self._quiet = was

    def _show(self, summary: ModelSummary, before: ModelSummary | None, rendered: str | None = None) -> None:
        self._progress.value = ""
        self._cancel_button.disabled = True
        self._delta.value = _write_delta(before, summary) if before is not None and before is not summary else ""
        self._suggest(summary)
        self._output.value = rendered if rendered is not None else summary.to_html()

    def _suggest(self, summary: ModelSummary) -> None:
        """Offer sizes that work as buttons: one click fills them in and runs."""
        error = summary.error
        buttons = []
        for text in error.sizes if error is not None else ():
            button = widgets.Button(
                description=f"try {text}", tooltip="a size that works", layout=widgets.Layout(width="auto")
            )
            button.on_click(lambda _, text=text: self._take(text))
            buttons.append(button)
        for old in self._suggestions.children:
            old.close()
        self._suggestions.children = tuple(buttons)

    def _take(self, text: str) -> None:
        if self._sizes:
            self._sizes[0].value = text.strip()
            self.run(now=True)

    def _insert_code(self) -> None:
        self._code.value = self.history[-1].line if self.history else ""
        self._code.layout.display = "flex"

    def _write_line(self, summary: ModelSummary) -> str:
        settings = self._read()
        options = [f"--{name} {value}" for name, value in _keywords(settings).items() if value not in ("same", "auto")]
        inputs = self._read_inputs(settings)
        return " ".join(["%summary", self._name, inputs.as_line() if inputs is not None else "", *options]).strip()

    def _show_own_error(self, error: BaseException) -> None:
        """Show an error of ours, folded, and log it: it is a bug, and nobody should have to guess that it happened."""
        _log.error("the form failed", exc_info=error)
        text = html.escape("".join(traceback.format_exception(error)))
        self._progress.value = (
            f'<details><summary role="alert">the form itself failed: {html.escape(str(error) or type(error).__name__)}'
            f"</summary><pre>{text}</pre></details>"
        )
        self._cancel_button.disabled = True


def _wrapping() -> widgets.Layout:
    return widgets.Layout(flex_flow="row wrap")


def _list_devices() -> list[tuple[str, str]]:
    devices = [("where the model is", ""), ("cpu", "cpu"), ("meta", "meta")]
    devices += [(f"cuda:{index}", f"cuda:{index}") for index in range(torch.cuda.device_count())]
    return devices


def _write_size(value: Any) -> str:
    """Write a leaf's size as the field takes it: ``"B=8, 3, H=224, W=224"``."""
    if not isinstance(value, Size):
        value = Size(value.shape) if 0 not in value.shape else Size((1,))
    return ", ".join(
        f"{name}={number}" if name else str(number) for name, number in zip(value.dims, value.shape, strict=True)
    )


def _dtype_of(value: Any) -> str:
    dtype = str(value.dtype or "").removeprefix("torch.")
    return dtype if dtype in _DTYPES else ""


def _keywords(settings: Settings) -> dict[str, Any]:
    keywords: dict[str, Any] = {"mode": settings.mode, "engine": settings.engine}
    if settings.device:
        keywords["device"] = settings.device
    if settings.memory:
        keywords["memory"] = settings.memory
    return keywords


def _view_of(summary: ModelSummary, settings: Settings) -> Any:
    from modelsummary_ipy.summary import make_view

    depth = int(settings.depth) if settings.depth.isdigit() else None
    return make_view(summary.view, depth=depth, ops=settings.ops, columns=settings.columns or None)


def _write_delta(before: ModelSummary, after: ModelSummary) -> str:
    """Say in a line what moved in the totals, and in a table what moved otherwise than its formula predicts."""
    parts = []
    for word, old, new in (
        ("parameters", before.total_params, after.total_params),
        ("MACs", before.total_mult_adds, after.total_mult_adds),
    ):
        if old != new and old is not None and new is not None:
            parts.append(f"{word} {old:,} → {new:,}")
    moved = after.diff(before)._repr_html_()
    return f"<div>{html.escape(' · '.join(parts))}{moved}</div>"
