"""Where the memory goes: the breakdown, what a training step takes, and the largest batch that fits a budget."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from modelsummary_ipy.costs.row_costs import sum_saved
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.summary import Memory
from modelsummary_ipy.records.trace import ParamFact, TensorSpec, Trace
from modelsummary_ipy.records.training import Training

#: How many tensors of a gradient's size an optimizer keeps, its step counts left out; of others only a step tells.
_STATES = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2, "lion": 1}

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BUDGET = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?:(?P<prefix>[KMGT])(?P<binary>i?)B?|B)", re.IGNORECASE)
_LENGTH = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kKmM]?)")
_POSITIONS = {"": 1, "k": 1024, "m": 1024**2}
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
        prefix = (match["prefix"] or "").upper()
        nbytes = float(match["number"]) * (_BINARY[prefix] if match["binary"] else _UNITS[prefix])
    if nbytes is None or not math.isfinite(nbytes) or nbytes < 1:
        expected = "an amount with a unit" + ("" if isinstance(memory, str) else ", or a number of bytes")
        raise InputError(f"memory={memory!r}", expected, _EXAMPLE)
    return int(nbytes)


def read_context(context: int | str | None) -> int | None:
    """Read the length of a context: ``"32k"`` is 32,768 positions, as models are named by.

    Raises:
        InputError: If it is no length, or not two positions.

    Example:
        >>> read_context("32k"), read_context("1.5K"), read_context(1000)
        (32768, 1536, 1000)
    """
    if context is None:
        return None
    length: float = 0
    if isinstance(context, int) and not isinstance(context, bool):
        length = context
    elif isinstance(context, str) and (match := _LENGTH.fullmatch(context.strip())) is not None:
        length = float(match["number"]) * _POSITIONS[match["unit"].lower()]
    if length < 2 or length != math.floor(length):
        raise InputError(f"context={context!r}", "a number of positions, two or more", "context='32k'")
    return int(length)


def write_budget(nbytes: int, typed: Any = None) -> str:
    """Write an amount as ``read_budget`` takes it: as it was typed, else in the largest unit that is exact.

    Example:
        >>> write_budget(24_000_000_000), write_budget(1_610_612_736), write_budget(7), write_budget(1500, "1.5k")
        ('24 GB', '1536 MiB', '7 B', '1.5 KB')
    """
    if isinstance(typed, str) and (match := _BUDGET.fullmatch(typed.strip())) is not None:
        return f"{match['number']} {(match['prefix'] or '').upper()}{(match['binary'] or '').lower()}B"
    units = [
        (step**power, f"{prefix}{end}")
        for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "K"))
        for step, end in ((1000, "B"), (1024, "iB"))
    ]
    for size, unit in units:
        if nbytes % size == 0:
            return f"{nbytes // size} {unit}"
    return f"{nbytes} B"


def estimate_memory(trace: Trace, step: Training, *, approximate: bool, budget: int | None, budget_text: str) -> Memory:
    """Estimate where the memory goes, in a forward and in a training step.

    Args:
        trace: A trace that measured bytes; what it did not measure is unknown.
        step: The step; what it does not know is unknown.
        approximate: Whether what autograd saves is only nearly known.
        budget: Bytes there are; ``None`` takes the memory of the device that the model is on, if it is a real GPU.
        budget_text: The budget as it is shown.
    """
    parameters = [fact for fact in trace.params if fact.kind == "parameter"]
    gradients = sum(_count_gradient(fact) for fact in parameters if fact.trainable)
    saved = {number for call in trace.calls for number, _ in call.saved}
    if budget is None and (budget := _read_device_memory(trace.params)) is not None:
        budget_text = write_budget(budget)
    return Memory(
        param_bytes=sum(fact.nbytes for fact in parameters),
        buffer_bytes=sum(fact.nbytes for fact in trace.params if fact.kind == "buffer"),
        input_bytes=_count_input(trace),
        activation_bytes=sum_saved(trace),
        gradient_bytes=gradients,
        optimizer_bytes=_count_state(step, gradients),
        forward_peak_bytes=trace.peak_bytes if trace.failure is None else None,
        peak_bytes=step.peak_bytes,
        optimizer=step.optimizer,
        approximate=approximate,
        saved_input_bytes=sum(nbytes for number, nbytes in trace.input_storages if number in saved),
        budget_bytes=budget,
        budget_text=budget_text,
    )


def _count_state(step: Training, gradients: int) -> int | None:
    """Count what an optimizer keeps; its step counts, a number each, stay on the CPU."""
    if step.peak_bytes is not None:
        return step.state_bytes
    states = _STATES.get(step.optimizer.partition("-")[0])
    return None if states is None else states * gradients


def _count_gradient(fact: ParamFact) -> int:
    """Count the bytes of a gradient; of a sharded parameter those of this rank's part."""
    return TensorSpec("", fact.shape if fact.local_shape is None else fact.local_shape, fact.dtype, "").nbytes


def _count_input(trace: Trace) -> int:
    if trace.input_storages:
        return sum(nbytes for _, nbytes in trace.input_storages)
    return sum(fact.spec.nbytes for fact in trace.inputs)


def _read_device_memory(params: Sequence[ParamFact]) -> int | None:
    """Return the memory of the GPU that most parameters are on, ``None`` if this machine has no such GPU."""
    sizes: dict[str, int] = {}
    for fact in params:
        sizes[fact.device] = sizes.get(fact.device, 0) + fact.nbytes
    device = max(sizes, key=lambda name: sizes[name], default="cpu")
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)


def fit_batch(
    memory: Memory, batch: int, inference: Callable[[int], int | None], training: Callable[[int], int | None]
) -> Memory:
    """Find the largest batches that fit the budget, for a forward and for a training step.

    Args:
        memory: Of the batch that was traced, with a budget.
        batch: How large that was.
        inference, training: Trace at another batch, and return the bytes it takes; ``None`` where it does not run.
    """
    budget = memory.budget_bytes
    assert budget is not None

    def find(known: int | None, measure: Callable[[int], int | None]) -> int | None:
        return find_largest_batch(lambda size: known if size == batch else measure(size), budget, batch)

    return replace(
        memory,
        batch=batch,
        most_for_inference=find(memory.inference_bytes, inference),
        most_for_training=find(memory.training_bytes, training),
    )


def find_largest_batch(measure: Callable[[int], int | None], budget: int, start: int) -> int | None:
    """Find the largest batch that fits: it was traced and fits, and one more was traced and does not.

    Memory grows with the batch nearly always along a line, so a line through two traces predicts where to look.

    Args:
        measure: Bytes that a batch needs; ``None`` if that is unknown.
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
