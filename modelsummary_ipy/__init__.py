"""Which shapes flow through a PyTorch model, and which of them are probably a mistake.

In a notebook ``%load_ext modelsummary_ipy``, then ``%summary model (1, 3, 224, 224)``; from Python
``ModelSummary(model, (1, 3, 224, 224))``. Importing the package imports nothing heavy: torch, pandas, ipywidgets and
jinja2 are imported when they are first needed.
"""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelsummary_ipy.costs.mac_formulas import register_mult_adds
    from modelsummary_ipy.display.comparison import Comparison
    from modelsummary_ipy.display.graph.picture import Picture
    from modelsummary_ipy.display.render.plan import Lever, Plan
    from modelsummary_ipy.display.series import Series
    from modelsummary_ipy.inputs.size import Size
    from modelsummary_ipy.notebook.form.form import SummaryForm
    from modelsummary_ipy.notebook.form.runs import Run
    from modelsummary_ipy.records.cache import Cache, Context
    from modelsummary_ipy.records.dims import Dim
    from modelsummary_ipy.records.errors import CheckError, ForwardError, InputError, ModelSummaryError
    from modelsummary_ipy.records.fixes import Fix
    from modelsummary_ipy.records.summary import Change, Cost, Flag, Memory, Row
    from modelsummary_ipy.records.trace import AtenOp, TensorSpec
    from modelsummary_ipy.records.training import BackwardOp, Held, Moment, Point, StorageLife, Training
    from modelsummary_ipy.records.view import View
    from modelsummary_ipy.shapes.own_ops import register_op
    from modelsummary_ipy.summary import ModelSummary

__all__ = [
    "AtenOp",
    "BackwardOp",
    "Cache",
    "Change",
    "CheckError",
    "Comparison",
    "Context",
    "Cost",
    "Dim",
    "Fix",
    "Flag",
    "ForwardError",
    "Held",
    "InputError",
    "Lever",
    "Memory",
    "ModelSummary",
    "ModelSummaryError",
    "Moment",
    "Picture",
    "Plan",
    "Point",
    "Row",
    "Run",
    "Series",
    "Size",
    "StorageLife",
    "SummaryForm",
    "TensorSpec",
    "Training",
    "View",
    "load_ipython_extension",
    "register_mult_adds",
    "register_op",
    "unload_ipython_extension",
]

__version__ = "0.1.0"

_HOMES = {
    "AtenOp": "records.trace",
    "BackwardOp": "records.training",
    "Cache": "records.cache",
    "Change": "records.summary",
    "CheckError": "records.errors",
    "Comparison": "display.comparison",
    "Context": "records.cache",
    "Cost": "records.summary",
    "Dim": "records.dims",
    "Fix": "records.fixes",
    "Flag": "records.summary",
    "ForwardError": "records.errors",
    "Held": "records.training",
    "InputError": "records.errors",
    "Lever": "display.render.plan",
    "Memory": "records.summary",
    "ModelSummary": "summary",
    "ModelSummaryError": "records.errors",
    "Moment": "records.training",
    "Picture": "display.graph.picture",
    "Plan": "display.render.plan",
    "Point": "records.training",
    "Row": "records.summary",
    "Run": "notebook.form.runs",
    "Series": "display.series",
    "Size": "inputs.size",
    "StorageLife": "records.training",
    "SummaryForm": "notebook.form.form",
    "TensorSpec": "records.trace",
    "Training": "records.training",
    "View": "records.view",
    "register_mult_adds": "costs.mac_formulas",
    "register_op": "shapes.own_ops",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    was_enabled = gc.isenabled()
    gc.disable()  # hundreds of files make objects that all stay: looking for garbage among them takes 0.1 s
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    finally:
        if was_enabled:
            gc.enable()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """Register ``%summary``; called by ``%load_ext modelsummary_ipy``."""
    from modelsummary_ipy.notebook.magics import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take ``%summary`` away and leave nothing behind; called by ``%unload_ext modelsummary_ipy``."""
    from modelsummary_ipy.notebook.magics import unload

    unload(ipython)
