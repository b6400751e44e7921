"""Moving averages without padding, and differences of neighbours: they are fewer than what they are of."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.fixes import fix_operand, set_value
from modelsummary_ipy.diagnosis.failures.module_code import write_module
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import POOLS


def explain_moving(pair: Pair) -> Diagnosis | None:
    """One of two tensors went through a pool of stride 1, which took off as much as its window is wider than 1."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        gaps = {other.shape[axis] - x.shape[axis] for axis in pair.axes} if x.rank == other.rank else set()
        call = next((call for call in ctx.flow.walk_back(x.link, 4) if call.type_name in POOLS), None)
        fact = ctx.flow.module_of(call)
        if fact is None or len(gaps) != 1 or not fact.settings.get("kernel_size"):
            continue
        sides = [_read_side(fact.settings.get(name)) for name in ("kernel_size", "stride", "padding")]
        kernel, stride, padding = sides
        if stride != 1 or padding or kernel is None or kernel % 2 == 0 or gaps != {kernel - 1}:
            continue
        code = write_module(fact._replace(settings={**fact.settings, "padding": kernel // 2}), ctx.trace)
        if "Avg" in fact.type_name and code:
            code = f"{code[:-1]}, count_include_pad=False)"
        reason = f"'{fact.path}' of kernel {kernel} and stride 1 takes {kernel - 1} off and does not pad: "
        reason += f"{x.shape[pair.axes[0]]} against {other.shape[pair.axes[0]]}"
        return Diagnosis(reason, "equal sizes", set_value(fact.path, code))
    return None


def _read_side(value: object) -> int | None:
    """Read a setting that is equal for all sides."""
    items = set(value) if isinstance(value, tuple) else {value}
    item = items.pop() if len(items) == 1 else None
    return item if isinstance(item, int) else None


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
