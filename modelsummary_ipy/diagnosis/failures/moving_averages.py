"""Pools that move by one step and are not padded: their average is shorter than what it is of."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, Pair
from modelsummary_ipy.diagnosis.failures.fixes import set_value
from modelsummary_ipy.diagnosis.failures.module_code import write_module
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
