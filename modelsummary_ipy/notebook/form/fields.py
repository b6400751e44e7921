"""The fields of the form: widgets in, ``Settings`` out; the error of a field is shown under it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets

from modelsummary_ipy.costs import read_budget
from modelsummary_ipy.inputs import ModelInputs, Size, list_devices
from modelsummary_ipy.notebook.form.dims import DimFields
from modelsummary_ipy.notebook.form.settings import DTYPES, Settings, dtype_of, is_half_typed, read_leaf, write_size
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.training import PRECISIONS
from modelsummary_ipy.records.view import COLUMNS, View, show_memory

_MODES = [("as the model is", "same"), ("train", "train"), ("eval", "eval")]
_OPTIMIZERS = ("adamw", "adam", "sgd", "momentum", "adafactor", "lion")
_ENGINES = [("auto", "auto"), ("fake: nothing is run", "fake"), ("real: a copy runs", "real"), ("static", "static")]
_AMOUNT_BEGUN = re.compile(r"[\d.]+\s*[kmgtKMGT]?i?")  # "24G" goes on
_WIDE = {"width": "auto", "flex": "1 1 240px", "min_width": "0"}
_FIT = {"description_width": "initial"}
_ROW = {"flex_flow": "row wrap", "align_items": "center", "overflow": "visible", "grid_gap": "2px 14px"}


class Fields:
    """The fields of a form.

    Args:
        inputs: The inputs to begin with, one line each.
        edited: Called when a field that can be read was changed.
        entered: Called when Enter was pressed in one.

    Attributes:
        inputs_box: The size fields, and a field for every named dim.
        training_box: Budget, optimizer and precision of the training step.
        options_box: All other fields.
    """

    def __init__(
        self, inputs: ModelInputs, view: View, optimizer: str, edited: Callable[[], None], entered: Callable[[], None]
    ) -> None:
        self._inputs = inputs
        self._edited = edited
        self._entered = entered
        self._has_budget = False  # as the columns of memory are checked
        self._quiet = False  # true while the form itself sets its fields
        self.dims = DimFields(self._on_dim)
        self._build_inputs()
        self._build_training(optimizer)
        self._build_options(view)
        self._follow_dims()
        for field in (*self.sizes, *self.dtypes, self.depth, *self._plain.values(), *self.columns.values()):
            field.observe(self._on_change, names="value")
        for field in (*self.sizes, self.memory, self.depth):
            field.on_msg(self._on_message)

    def _build_inputs(self) -> None:
        leaves = self._inputs.leaves()
        width = f"{min(24, max((len(name) for name, _ in leaves), default=0) + 1)}ch"
        self.sizes = [
            widgets.Text(
                value=write_size(value),
                description=name or "input",
                placeholder="B=8, 3, H=224, W=224",
                style={"description_width": width if len(leaves) > 1 else "initial"},
                layout=_WIDE,
                continuous_update=True,
            )
            for name, value in leaves
        ]
        self.dtypes = [_dtype_field(name, dtype_of(value)) for name, value in leaves]
        self.errors = [widgets.HTML(layout={"display": "none"}) for _ in leaves]
        lines = [
            widgets.VBox([widgets.HBox([size, dtype], layout={"flex_flow": "row wrap"}), error])
            for size, dtype, error in zip(self.sizes, self.dtypes, self.errors, strict=True)
        ]
        self.inputs_box = widgets.VBox([*lines, self.dims.box])

    def _build_training(self, optimizer: str) -> None:
        known = _OPTIMIZERS if optimizer in _OPTIMIZERS else (*_OPTIMIZERS, optimizer)
        self.memory = widgets.Text(
            placeholder="24GB", description="memory budget", style=_FIT, layout={"width": "190px"}
        )
        self.memory_error = widgets.HTML(layout={"display": "none"})
        self.optimizer = _choose(known, "optimizer")
        self.optimizer.value = optimizer
        self.precision = _choose(PRECISIONS, "precision")
        self.training_box = widgets.VBox(
            [widgets.HBox([self.memory, self.optimizer, self.precision], layout=_ROW), self.memory_error]
        )

    def _build_options(self, view: View) -> None:
        self.device = _choose([("where the model is", ""), *((name, name) for name in list_devices())], "device")
        self.mode = _choose(_MODES, "mode")
        self.engine = _choose(_ENGINES, "engine")
        depth = "" if view.depth is None else str(view.depth)
        self.depth = widgets.Text(
            value=depth, placeholder="auto", description="levels open", style=_FIT, layout={"width": "150px"}
        )
        self.depth_error = widgets.HTML(layout={"display": "none"})
        self.ops = _check("show operations", view.ops)
        self._plain = {
            "device": self.device, "mode": self.mode, "engine": self.engine, "memory": self.memory,
            "optimizer": self.optimizer, "precision": self.precision, "ops": self.ops,
        }  # fmt: skip
        self.columns = {name: _check(name, name in view.columns) for name in COLUMNS}
        self.options_box = widgets.VBox(
            [
                widgets.HBox([self.device, self.mode, self.engine], layout=_ROW),
                widgets.HBox([self.depth, self.ops], layout=_ROW),
                self.depth_error,
                widgets.HBox([widgets.HTML("columns"), *self.columns.values()], layout=_ROW),
            ]
        )

    # -- reading and setting ------------------------------------------------------------------------------------------

    def read(self, *, is_entered: bool = False) -> Settings | None:
        """Read all fields; ``None`` if one of them can't be read; the error is shown under it.

        Args:
            is_entered: Whether the fields are complete, as Enter says: a size that is half typed is then an error.
        """
        is_valid = True
        for text, dtype, error in zip(self.sizes, self.dtypes, self.errors, strict=True):
            if not is_entered and is_half_typed(text.value):
                show(error, "")
                is_valid = False
                continue
            is_valid &= _check_field(error, lambda text=text, dtype=dtype: read_leaf(text.value, dtype.value))  # type: ignore[misc]
        memory = self.memory.value.strip()
        if not is_entered and _AMOUNT_BEGUN.fullmatch(memory):
            show(self.memory_error, "")
            is_valid = False
        else:
            is_valid &= _check_field(self.memory_error, lambda: _read_memory(memory))
        is_valid &= _check_field(self.depth_error, lambda: _read_depth(self.depth.value))
        if not is_valid:
            return None
        self._follow_memory(bool(memory))
        chosen = tuple(name for name, box in self.columns.items() if box.value)
        settings = Settings(
            tuple(field.value for field in self.sizes),
            tuple(field.value for field in self.dtypes),
            depth=_read_depth(self.depth.value),
            columns=View().columns if memory and chosen == show_memory(View()).columns else chosen,
            **{**{name: field.value for name, field in self._plain.items()}, "memory": memory},
        )
        if self.errors and not _check_field(self.errors[-1], lambda: settings.read_inputs(self._inputs)):
            return None
        return settings

    def restore(self, settings: Settings) -> None:
        """Set every field, without a run."""
        with self._setting():
            for field, value in zip((*self.sizes, *self.dtypes), (*settings.sizes, *settings.dtypes), strict=True):
                field.value = value
            for name, field in self._plain.items():
                field.value = getattr(settings, name)
            self.depth.value = "" if settings.depth is None else str(settings.depth)
            for name, box in self.columns.items():
                box.value = name in settings.columns
            self._has_budget = False
        self._follow_dims()
        self.read()

    def fill(self, sizes: tuple[Size, ...]) -> None:
        """Write one size into each size field, without a run."""
        with self._setting():
            for field, dtype, size in zip(self.sizes, self.dtypes, sizes, strict=True):
                field.value = write_size(size)
                if size.dtype is not None and size.dtype in {value for _, value in dtype.options}:
                    dtype.value = size.dtype
        self._follow_dims()

    @contextmanager
    def _setting(self) -> Iterator[None]:
        """Set fields in the block without running."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    # -- events -------------------------------------------------------------------------------------------------------

    def _on_change(self, change: Any) -> None:
        if not self._quiet:
            self._follow_dims()
            self._edited()

    def _on_message(self, widget: Any, content: Any, buffers: Any) -> None:
        """Run when Enter is pressed in a text field: its front end sends a message of its own."""
        if isinstance(content, dict) and content.get("event") == "submit":
            self._entered()

    def _follow_memory(self, has_budget: bool) -> None:
        """Check or uncheck the columns of memory where a budget comes or goes, as the table has them."""
        if has_budget == self._has_budget:
            return
        self._has_budget = has_budget
        usual = View().columns, show_memory(View()).columns
        if tuple(name for name, box in self.columns.items() if box.value) in usual:
            with self._setting():
                for name, box in self.columns.items():
                    box.value = name in usual[has_budget]

    def _follow_dims(self) -> None:
        """Show a field for every named dim of the sizes."""
        found: dict[str, int] = {}
        for text in (field.value for field in self.sizes):
            if is_half_typed(text):
                return
            try:
                size = Size(text)
            except InputError:
                return
            found.update({name: number for name, number in zip(size.dims, size.shape, strict=True) if name})
        self.dims.show(found)

    def _on_dim(self, name: str, number: int) -> None:
        """Write the new number wherever the name is used."""
        with self._setting():
            for text in self.sizes:
                try:
                    size = Size(text.value)
                    shape = (number if dim == name else old for dim, old in zip(size.dims, size.shape, strict=True))
                    text.value = write_size(size.with_shape(shape))
                except InputError:
                    continue  # half typed, or too much for torch to count: the field keeps what it has
        self._follow_dims()
        self._edited()


def _choose(options: Any, label: str) -> Any:
    return widgets.Dropdown(options=options, description=label, style=_FIT, layout={"width": "auto"})


def _check(label: str, value: bool) -> Any:
    return widgets.Checkbox(value=value, description=label, indent=False, layout={"width": "auto"})


def _dtype_field(name: str, dtype: str) -> Any:
    known = DTYPES if dtype in ("", *DTYPES) else (*DTYPES, dtype)
    options = [("as the layer needs", ""), *((known, known) for known in known)]
    return widgets.Dropdown(
        options=options,
        value=dtype,
        description=f"dtype of {name}" if name else "dtype",
        style=_FIT,
        layout={"width": "auto", "flex": "0 0 auto"},
    )


def _read_memory(text: str) -> int | None:
    try:
        return read_budget(text or None)
    except InputError as wrong:
        raise InputError(repr(text), f"{wrong.expected}, such as 24GB") from wrong


def _read_depth(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 5):
        raise InputError(f"{text!r} levels", "0 or more levels, or nothing", "2")
    return int(text)


def _check_field(error: Any, read: Callable[[], Any]) -> bool:
    """Read a field, show in ``error`` what is wrong with it, and return whether it is valid."""
    try:
        read()
    except InputError as wrong:
        show(error, format_alert(f"{wrong.received}; expected {wrong.expected}" if wrong.expected else wrong.received))
        return False
    show(error, "")
    return True


def button(label: str, tooltip: str, act: Callable[[], None]) -> Any:
    """Return a button as wide as its label."""
    made = widgets.Button(description=label, tooltip=tooltip, layout={"width": "auto"})
    made.on_click(lambda _: act())
    return made


def format_alert(text: str) -> str:
    """Write a line that a screen reader reads at once."""
    return f'<span role="alert" style="color:var(--jp-error-color1,#b42318)">{html.escape(text)}</span>'


def show(field: Any, text: str) -> None:
    """Show HTML; without any, no empty line is left."""
    field.value = text
    field.layout.display = "" if text else "none"
