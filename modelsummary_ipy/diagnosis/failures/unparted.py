"""A batch that was folded for one layer and is read by a recurrent layer as the steps of a single sequence."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import place_line, read_line
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.source_edits import wrap_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import find_operands
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import RECURRENTS

_FOLDS = ("view", "reshape", "flatten")


def explain_unparted(ctx: FailureContext) -> Diagnosis | None:
    """Explain sentences of documents, or frames of videos, that were folded into the batch and not parted again."""
    batches = {fact.spec.shape[0] for fact in ctx.trace.inputs if len(fact.spec.shape) > 2}
    steps = ctx.flow.walk_back(ctx.operands[0].link, 20) if ctx.operands else ()
    layer = next((step for step in steps if step.type_name in RECURRENTS and step.kind == "module"), None)
    if layer is None or not layer.inputs or len(layer.inputs[0].shape) != 2 or not batches:
        return None
    rows = layer.inputs[0].shape[0]
    for call in ctx.flow.walk_back(layer.input_links[0], 40):
        before = call.inputs[0].shape if call.inputs else ()
        is_fold = call.type_name in _FOLDS and len(before) > 2 and call.outputs[0].shape[0] == rows
        if not is_fold or before[0] not in batches or before[0] * before[1] != rows:
            continue
        name = next(iter(find_operands(read_line(ctx, call.source), call.type_name)), "")
        template = f"{{}}.unflatten(0, {name}.shape[:2])"
        line = wrap_argument(read_line(ctx, layer.source), name_member(layer.path), template)
        reason = f"'{layer.path}' reads {write_shape(layer.inputs[0].shape)} as one sequence: its rows are "
        reason += f"{before[0]} × {before[1]} that were folded into one batch"
        expected = write_shape((before[0], before[1], layer.inputs[0].shape[1]))
        return Diagnosis(reason, expected, place_line(ctx, layer, line)) if name.isidentifier() and line else None
    return None
