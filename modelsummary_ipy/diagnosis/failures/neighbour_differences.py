"""Differences of neighbours, of which there are one fewer than of what they are between."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.fixes import fix_operand
from modelsummary_ipy.diagnosis.formatting import write_shape


def explain_differences(pair: Pair) -> Diagnosis | None:
    """``z[..., 1:] - z[..., :-1]`` of S samples is used with all of them: it is padded at its end, or they are cut."""
    axis = pair.axes[0]
    for x, other, place, there in pair.each() if len(pair.axes) == 1 else ():
        size = x.shape[axis]
        if size + 1 != other.shape[axis] or not _is_of_neighbours(pair.ctx, x, axis):
            continue
        after = ", :" * (-axis - 1)
        fixes = [
            fix_operand(pair.ctx, place, f"F.pad({{}}, ({'0, 0, ' * (-axis - 1)}0, 1))"),
            fix_operand(pair.ctx, there, f"{{}}[..., :-1{after}]"),
        ]
        reason = f"{write_shape(x.shape)} are the differences of {size + 1} neighbours, which are one fewer: {size}"
        return Diagnosis(reason, write_shape(other.shape), fixes)
    return None


def _is_of_neighbours(ctx: FailureContext, x: Operand, axis: int) -> bool:
    """Return whether a tensor was made, by steps that keep the dim, of all but the first minus all but the last."""
    size = x.shape[axis]
    for call in ctx.flow.walk_back(x.link, 6):
        if not call.outputs or len(call.outputs[0].shape) < -axis or call.outputs[0].shape[axis] != size:
            return False
        if call.type_name == "diff":
            return True
        cuts = [ctx.flow.producer(link) for link in call.input_links]
        if call.type_name == "sub" and len(cuts) == 2 and all(cut is not None for cut in cuts):
            one, two = cuts
            is_cut = one is not None and two is not None and one.type_name == two.type_name == "getitem"
            if one is None or two is None or not is_cut or one.input_links[0] != two.input_links[0]:
                return False
            return len(one.inputs[0].shape) >= -axis and one.inputs[0].shape[axis] == size + 1
    return False
