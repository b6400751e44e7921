"""From a summary to its form: the first settings, and how another summary is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelsummary_ipy.inputs import ModelInputs
from modelsummary_ipy.notebook.form.form import SummaryForm
from modelsummary_ipy.notebook.form.settings import Settings, dtype_of, write_size
from modelsummary_ipy.records.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from modelsummary_ipy.summary import ModelSummary


def open_form(summary: ModelSummary, name: str, model: nn.Module | None) -> SummaryForm:
    """Return the form of a summary; see ``ModelSummary.form``.

    Raises:
        InputError: If the model is gone, or the summary was made without inputs.
    """
    request, assumed = summary.pipeline.request, summary.assumed
    alive = model if model is not None else summary.pipeline.model()
    if alive is None:
        raise InputError("the model is gone", "a model kept in a variable, or passed", "ms.form(model=model)")
    if request.inputs is None:
        raise InputError(
            "a summary without inputs", "a size to begin with", "ModelSummary(model, (1, 3, 224, 224)).form()"
        )
    fixed = {
        "method": request.method,
        "expect": request.expect,
        "ignore": request.ignore,
        "loss": assumed.step.loss,
        "accumulate": assumed.step.accumulate if assumed.step.accumulate > 1 else None,
    }

    def make(inputs: ModelInputs, **keywords: Any) -> ModelSummary:
        if keywords.get("optimizer") == assumed.step.optimizer.name:  # it may be a class of the user's own
            keywords["optimizer"] = assumed.step.optimizer
        return type(summary)(alive, inputs, **{**fixed, **keywords})

    leaves = [leaf for _, leaf in request.inputs.leaves()]
    settings = Settings(
        tuple(map(write_size, leaves)),
        tuple(map(dtype_of, leaves)),
        "" if request.device is None else str(request.device),
        request.mode,
        request.engine,
        assumed.budget_text,
        assumed.step.optimizer.name,
        assumed.step.precision,
        summary.view.depth,
        summary.view.ops,
        summary.view.columns,
    )
    options = [("ignore", ",".join(request.ignore))] if request.ignore else []
    options += [("accumulate", str(assumed.step.accumulate))] if assumed.step.accumulate > 1 else []
    called = name if request.method == "forward" else f"{name}.{request.method}"
    return SummaryForm(request.inputs, make, summary, called, settings, options)
