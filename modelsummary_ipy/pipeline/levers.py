"""What else lowers the peak of a training step, each tried alone: precision, accumulation, optimizer, activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from modelsummary_ipy.diagnosis.memory_patches import (
    KEEP_NO_GRADIENTS,
    write_accumulation,
    write_autocast,
    write_in_place,
    write_optimizer,
)
from modelsummary_ipy.pipeline.trials import Trials
from modelsummary_ipy.records.plan import Lever
from modelsummary_ipy.tracing.training_step import StepSettings, read_optimizer, without_foreach

__all__ = ["try_levers"]

#: Optimizers of less state, the more alike first; tried where the step's own keeps two tensors or more a parameter.
_LESS_STATE = ("adafactor", "lion", "momentum", "sgd")
_MOST_HALVINGS = 6


class _Change(NamedTuple):
    name: str
    patch: str
    settings: StepSettings | None = None
    code: str = ""
    batch: int | None = None


def try_levers(trials: Trials, budget: int, name: str) -> tuple[Lever, ...]:
    """Trace the step with each change alone.

    Args:
        trials: Of the step.
        budget: Bytes there are: batches are divided until a part fits.
        name: The expression of the model, for the patches.

    Returns:
        Those that run, the lowest peak first; last what every step assumes anyway.
    """
    found: list[Lever] = []
    for change in _list_changes(trials, name):
        if trials.has_time(change.name):
            step = trials.run(change.code, change.settings, change.batch)
            if step.peak_bytes is not None:
                found.append(Lever(change.name, step.peak_bytes, change.patch))
    found += _accumulate(trials, budget, name)
    found += _write_in_place(trials, name)
    found.sort(key=lambda lever: lever.peak_bytes)
    return (*found, *_keep_gradients(trials))


def _list_changes(trials: Trials, name: str) -> Iterator[_Change]:
    settings, trace = trials.settings, trials.pipeline.traced.trace
    if settings.precision == "as is" and any(fact.dtype == "float32" for fact in trace.params):
        device = trace.params[0].device.partition(":")[0]
        code = write_autocast(device, name)
        yield _Change("bf16-mixed", code, settings._replace(precision="bf16-mixed"))
    optimizer = settings.optimizer
    single = without_foreach(optimizer)
    if single is not None:
        yield _Change("foreach off", write_optimizer(single.name, name), settings._replace(optimizer=single))
    if optimizer.keeps_two:
        for other in _LESS_STATE:
            choice = settings._replace(optimizer=read_optimizer(other))
            yield _Change(other, write_optimizer(other, name), choice)


def _accumulate(trials: Trials, budget: int, name: str) -> list[Lever]:
    """Divide the batch, until a part fits, and add the gradients up."""
    batch, parts = trials.batch, 1
    best: Lever | None = None
    for _ in range(_MOST_HALVINGS):
        parts *= 2
        if batch is None or batch % parts:
            break
        what = f"accumulate {parts} batches of {batch // parts}"
        if not trials.has_time("gradient accumulation"):
            break
        settings = trials.settings._replace(accumulate=trials.settings.accumulate * parts)
        step = trials.run(settings=settings, batch=batch // parts)
        if step.peak_bytes is None:
            break
        if best is None or step.peak_bytes < best.peak_bytes:
            best = Lever(what, step.peak_bytes, write_accumulation(parts, name))
        if step.peak_bytes <= budget:
            break
    return [best] if best is not None else []


def _write_in_place(trials: Trials, name: str) -> list[Lever]:
    """Let activations that can write over what they are given do so; where all together fail, those that work alone."""
    modules = trials.pipeline.traced.trace.modules
    ran = {row.module for row in trials.pipeline.rows if row.status == "ran"}
    paths = [
        fact.path for fact in modules if fact.index in ran and fact.paths and fact.settings.get("inplace") is False
    ]
    if not paths or not trials.has_time("in-place activations"):
        return []
    step = trials.run(write_in_place(paths))
    if step.reason:
        paths = [path for path in paths if _works(trials, path)]
        step = trials.run(write_in_place(paths)) if paths else step
    if step.peak_bytes is None:
        return []
    return [Lever("in-place activations", step.peak_bytes, write_in_place(paths, name))]


def _works(trials: Trials, path: str) -> bool:
    return trials.has_time("in-place activations, each alone") and not trials.run(write_in_place([path])).reason


def _keep_gradients(trials: Trials) -> list[Lever]:
    """Say what ``set_to_none`` saves, which every step here has: a step that finds gradients there is one that adds."""
    if trials.settings.accumulate > 1 or not trials.has_time("zero_grad(set_to_none=False)"):
        return []
    step = trials.run(settings=trials.settings._replace(accumulate=2))
    if step.peak_bytes is None:
        return []
    return [Lever("set_to_none", step.peak_bytes, KEEP_NO_GRADIENTS, is_assumed=True)]
