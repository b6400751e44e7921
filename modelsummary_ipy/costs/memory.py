"""Where the memory goes: the breakdown, what a training step takes, and the largest batch that fits a budget."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from modelsummary_ipy.costs.row_costs import sum_saved
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.summary import Memory
from modelsummary_ipy.records.trace import ParamFact, TensorSpec, Trace

__all__ = [
    "OPTIMIZERS",
    "check_optimizer",
    "estimate_memory",
    "find_largest_batch",
    "fit_batch",
    "read_budget",
    "write_budget",
]

#: How many tensors of a gradient's size an optimizer keeps; Adam's step counts stay on the CPU.
OPTIMIZERS = {"sgd": 0, "momentum": 1, "adamw": 2}

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BUDGET = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<prefix>[KMGT]?)(?P<binary>i?)B?", re.IGNORECASE)
_EXAMPLE = "memory='24GB'"

#: A batch that still fits at this size is bounded by something else.
_MOST_BATCH = 1 << 30
_MOST_TRACES = 40


def read_budget(memory: Any) -> int | None:
    """Read what a user calls an amount of memory, in bytes.

    Args:
        memory: ``"24GB"`` (10⁹ bytes each), ``"24GiB"`` (2³⁰), ``"512 MB"``, or a number of bytes; ``None`` stays.

    Raises:
        InputError: If it is none of these, or nothing is left of it.

    Example:
        >>> read_budget("24GB"), read_budget("1.5 GiB")
        (24000000000, 1610612736)
    """
    if memory is None:
        return None
    nbytes: float | None = None
    if isinstance(memory, (int, float)) and not isinstance(memory, bool):
        nbytes = memory
    elif isinstance(memory, str) and (match := _BUDGET.fullmatch(memory.strip())) is not None:
        prefix = match["prefix"].upper()
        if not match["binary"] or prefix:
            nbytes = float(match["number"]) * (_BINARY[prefix] if match["binary"] else _UNITS[prefix])
    if nbytes is None or not math.isfinite(nbytes) or nbytes < 1:
        raise InputError(f"memory={memory!r}", "an amount with a unit, or a number of bytes", _EXAMPLE)
    return int(nbytes)


def write_budget(nbytes: int) -> str:
    """Write an amount as ``read_budget`` takes it, in the largest unit that is exact.

    Example:
        >>> write_budget(24_000_000_000), write_budget(1_610_612_736), write_budget(7)
        ('24GB', '1536MiB', '7B')
    """
    units = [
        (step**power, f"{prefix}{end}")
        for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "K"))
        for step, end in ((1000, "B"), (1024, "iB"))
    ]
    for size, unit in units:
        if nbytes % size == 0:
            return f"{nbytes // size}{unit}"
    return f"{nbytes}B"


def check_optimizer(optimizer: object) -> None:
    """Check the name of an optimizer.

    Raises:
        InputError: If it is none that is known.
    """
    if optimizer not in OPTIMIZERS:
        raise InputError(f"optimizer={optimizer!r}", f"one of {', '.join(OPTIMIZERS)}", "optimizer='adamw'")


def estimate_memory(
    trace: Trace, *, optimizer: str = "adamw", approximate: bool = False, budget: int | None = None
) -> Memory:
    """Estimate where the memory goes, for a forward and for a training step.

    Args:
        trace: A trace that measured bytes; what it did not measure is unknown.
        optimizer: ``"sgd"``, ``"momentum"`` or ``"adamw"``.
        approximate: Whether what autograd saves is only nearly known.
        budget: Bytes there are; ``None`` takes the memory of the device that the model is on, if it is a real GPU.
    """
    parameters = [fact for fact in trace.params if fact.kind == "parameter"]
    gradients = sum(_count_gradient(fact) for fact in parameters if fact.trainable)
    saved = {number for call in trace.calls for number, _ in call.saved}
    is_whole = trace.failure is None
    return Memory(
        param_bytes=sum(fact.nbytes for fact in parameters),
        buffer_bytes=sum(fact.nbytes for fact in trace.params if fact.kind == "buffer"),
        input_bytes=_count_input(trace),
        activation_bytes=sum_saved(trace),
        gradient_bytes=gradients,
        optimizer_bytes=OPTIMIZERS[optimizer] * gradients,
        forward_peak_bytes=trace.peak_bytes if is_whole else None,
        optimizer=optimizer,
        approximate=approximate,
        saved_input_bytes=sum(nbytes for number, nbytes in trace.input_storages if number in saved),
        budget_bytes=budget if budget is not None else _read_device_memory(trace.params),
    )


def _count_gradient(fact: ParamFact) -> int:
    """Count the bytes of a gradient; of a sharded parameter those of this rank's part."""
    return TensorSpec("", fact.shape if fact.local_shape is None else fact.local_shape, fact.dtype, "").nbytes


def _count_input(trace: Trace) -> int:
    if trace.input_storages:
        return sum(nbytes for _, nbytes in trace.input_storages)
    return sum(fact.spec.nbytes for fact in trace.inputs)


def _read_device_memory(params: tuple[ParamFact, ...]) -> int | None:
    """Return the memory of the GPU that most parameters are on, ``None`` if this machine has no such GPU."""
    sizes: dict[str, int] = {}
    for fact in params:
        sizes[fact.device] = sizes.get(fact.device, 0) + fact.nbytes
    device = max(sizes, key=lambda name: sizes[name], default="cpu")
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)


def fit_batch(memory: Memory, batch: int, measure: Callable[[int], Memory | None]) -> Memory:
    """Find the largest batches that fit the budget, for a forward and for a training step.

    Args:
        memory: Of the batch that was traced, with a budget.
        batch: How large that was.
        measure: Traces at another batch; ``None`` where the model does not run.
    """
    assert memory.budget_bytes is not None
    known: dict[int, Memory | None] = {batch: memory}

    def find(size: int) -> Memory | None:
        if size not in known:
            known[size] = measure(size)
        return known[size]

    def inference(size: int) -> int | None:
        found = find(size)
        return found.inference_bytes if found is not None else None

    def training(size: int) -> int | None:
        found = find(size)
        return found.training_bytes if found is not None else None

    return replace(
        memory,
        batch=batch,
        most_for_inference=find_largest_batch(inference, memory.budget_bytes, batch),
        most_for_training=find_largest_batch(training, memory.budget_bytes, batch),
    )


def find_largest_batch(measure: Callable[[int], int | None], budget: int, start: int) -> int | None:
    """Find the largest batch that fits: it was traced and fits, and one more was traced and does not.

    Memory grows with the batch nearly always along a line, so a line through two traces predicts where to look.

    Args:
        measure: Bytes that a batch needs; ``None`` if that is unknown.
        budget: Bytes there are.
        start: Where to begin; that size is known to run.

    Returns:
        The batch; 0 if not even one example fits; ``None`` if a size that had to be traced does not run, or if
        memory does not grow with the batch.
    """
    fits, too_much = 0, _MOST_BATCH
    points: dict[int, int] = {}
    size = start
    for step in range(_MOST_TRACES):
        needed = measure(size)
        if needed is None:
            return None
        points[size] = needed
        if needed <= budget:
            fits = size
        else:
            too_much = size
        if too_much - fits <= 1:
            return fits if too_much < _MOST_BATCH else None
        size = _guess_next(points, budget, fits, too_much, halve=step > 8)
    return None


def _guess_next(points: dict[int, int], budget: int, fits: int, too_much: int, *, halve: bool) -> int:
    """Choose a size strictly between one that fits and one that does not."""
    if halve and too_much < _MOST_BATCH:
        return (fits + too_much) // 2
    if len(points) == 1:
        (only,) = points
        guess = only * 2 if fits else max(only // 2, 1)
    else:
        near = sorted(points, key=lambda size: abs(points[size] - budget))[:2]
        low, high = min(near), max(near)
        slope = (points[high] - points[low]) / (high - low)
        guess = low + math.floor((budget - points[low]) / slope) if slope > 0 else fits * 16
    return min(max(guess, fits + 1), too_much - 1)
