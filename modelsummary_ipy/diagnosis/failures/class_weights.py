"""Losses with a weight for each class or label, and more or fewer of these than weights."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.creations import fix_creation
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver
from modelsummary_ipy.diagnosis.failures.parameters import resize_origin, resize_param
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.trace import TensorSpec


def explain_weights(ctx: FailureContext, x: Operand, axis: int, what: str) -> Diagnosis | None:
    """Explain a loss whose weights are not as many as the classes or labels of its predictions.

    Args:
        x: The predictions.
        axis: Their dim of classes or labels.
        what: ``"class"`` or ``"label"``.
    """
    count = x.shape[axis]
    for weight in _list_weights(ctx):
        given = weight.shape[0]
        if given in (1, count):
            continue
        reason = f"{given} weights for the {count} {what}{'es' if what == 'class' else 's'} of {write_shape(x.shape)}"
        narrower = resize_origin(ctx, x, given) if axis % x.rank == x.rank - 1 else fix_giver(ctx, x, given, axis)
        fixes = [resize_param(ctx, weight, [-1], count), fix_creation(ctx, weight, (count,)), narrower]
        return Diagnosis(f"{reason}: each {what} has one", f"{count} weights", fixes)
    return None


def _list_weights(ctx: FailureContext) -> list[Operand]:
    """List what a loss has one dim of: arguments of its function, or buffers of its module."""
    if ctx.call.kind == "op":
        return [x for x in ctx.operands[2:] if x.rank == 1]
    held = [ctx.trace.params[index] for index in ctx.fact.params] if ctx.fact is not None else []
    found = [fact for fact in held if len(fact.shape) == 1]
    return [Operand(TensorSpec(fact.names[0], fact.shape, fact.dtype, fact.device), None, fact.index) for fact in found]
