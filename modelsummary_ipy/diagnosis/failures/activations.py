"""Activations with a size of their own: PReLU's parameters, and the halves of GLU."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, set_value
from modelsummary_ipy.diagnosis.formatting import write_shape


def explain_activation(ctx: FailureContext) -> Diagnosis | None:
    """Explain a PReLU of another number of channels, and a GLU of an odd number."""
    x = ctx.operands[0] if ctx.operands else None
    if x is None or x.rank < 2:
        return None
    if ctx.function == "prelu":
        channels, taken = x.shape[1], ctx.weights[0].shape[0] if ctx.weights and ctx.weights[0].shape else 0
        if taken in (0, 1, channels):
            return None
        reason = f"{ctx.describe_giver(x, 1 - x.rank)} {channels} channels, {ctx.owner} has {taken} parameters"
        own = (
            set_value(ctx.fact.path, f"nn.PReLU({channels})")
            if ctx.fact is not None and ctx.is_torch_layer
            else NOTHING
        )
        fixes = [own, fix_giver(ctx, x, taken, 1 - x.rank)]
        return Diagnosis(reason, f"dim 1 = {taken}, or one parameter", fixes)
    dim = ctx.given("dim", -1)
    if ctx.function != "glu" or type(dim) is not int or not -x.rank <= dim < x.rank or x.shape[dim] % 2 == 0:
        return None
    axis = dim % x.rank - x.rank
    reason = f"glu halves dim {x.rank + axis} of {write_shape(x.shape)}, which has {x.shape[axis]}: an odd number"
    return Diagnosis(reason, "an even size", fix_giver(ctx, x, x.shape[axis] + 1, axis))
