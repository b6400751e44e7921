"""What a sliding window does to a size: convolutions, their transposes and pools, as expressions of the size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from modelsummary_ipy.records.trace import Call, Trace
from modelsummary_ipy.shapes.expr import Expr, floor_of

__all__ = ["predict_windows"]


def predict_windows(
    trace: Trace, call: Call, sizes: Sequence[Expr | None], steps: Mapping[str, int]
) -> dict[int, Expr]:
    """Predict the spatial dims of a layer's first output from its settings.

    Args:
        trace: What the pass wrote down.
        call: A module's call or an operation.
        sizes: Expressions of the dims of its first input, ``None`` where unknown.
        steps: By name, what every size that works is a multiple of.

    Returns:
        Expressions by dim of the output; empty for a layer that is no sliding window.
    """
    settings = _read_settings(trace, call)
    kernel = settings.get("kernel_size")
    if kernel is None or not call.inputs or not call.outputs:
        return {}
    rank = _count_spatial(call, kernel)
    if rank is None or rank > len(sizes) - 1 or len(call.outputs[0].shape) != len(sizes):
        return {}
    windows = _list(kernel, rank)
    strides = _list(settings.get("stride"), rank) if settings.get("stride") not in (None, ()) else windows
    if "conv" in call.type_name.lower() and settings.get("stride") is None:
        strides = (1,) * rank
    dilations = _list(settings.get("dilation", 1), rank)
    padding = settings.get("padding", 0)
    predicted: dict[int, Expr] = {}
    for axis in range(rank):
        dim = len(sizes) - rank + axis
        size = sizes[dim]
        parts = (windows[axis], strides[axis], dilations[axis])
        if size is None or not all(isinstance(part, int) for part in parts):
            continue
        reach = dilations[axis] * (windows[axis] - 1)
        if isinstance(padding, str):
            around = reach if padding == "same" else 0
        else:
            around = 2 * _list(padding, rank)[axis]
        if settings.get("transposed"):
            extra = _list(settings.get("output_padding", 0), rank)[axis]
            predicted[dim] = (size - 1).scaled(strides[axis]) + (reach - around + extra + 1)
            continue
        more = strides[axis] - 1 if settings.get("ceil_mode") else 0
        predicted[dim] = floor_of((size + (around - reach - 1 + more)).scaled(Fraction(1, strides[axis])), steps) + 1
    return predicted


def _read_settings(trace: Trace, call: Call) -> Mapping[str, Any]:
    if call.kind == "module":
        return trace.modules[call.module].settings if call.module is not None else {}
    arguments = dict(call.arguments)
    if call.type_name.startswith("conv") and len(call.inputs) > 1:
        arguments["kernel_size"] = call.inputs[1].shape[2:]
        arguments["transposed"] = "transpose" in call.type_name
    return arguments


def _count_spatial(call: Call, kernel: Any) -> int | None:
    """Return how many dims the window slides over, from ``"Conv2d"``, ``"max_pool2d"`` or the kernel's own length."""
    for digit in "123":
        if f"{digit}d" in call.type_name.lower():
            return int(digit)
    return len(kernel) if isinstance(kernel, tuple) and 0 < len(kernel) <= 3 else None


def _list(value: Any, rank: int) -> tuple[Any, ...]:
    if isinstance(value, tuple):
        return value if len(value) == rank else (value * rank)[:rank] if len(value) == 1 else (None,) * rank
    return (value,) * rank
