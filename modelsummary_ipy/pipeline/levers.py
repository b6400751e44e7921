"""What else lowers the peak of a step: precision, accumulation, optimizer, activations; alone, and together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from modelsummary_ipy.diagnosis.memory_patches import KEEP_NO_GRADIENTS, write_in_place, write_optimizer, write_step
from modelsummary_ipy.display.render.plan import Lever
from modelsummary_ipy.pipeline.trials import Trials
from modelsummary_ipy.tracing.training_step import read_optimizer, without_foreach

#: Optimizers of less state, the more alike first; tried where the step's own keeps two tensors or more a parameter.
_LESS_STATE = ("adafactor", "lion", "momentum", "sgd")
_MOST_HALVINGS = 6
#: So many combinations of one size are tried.
_MOST_TOGETHER = 4


class Change(NamedTuple):
    """One change of the step.

    Attributes:
        name: What it is called.
        kind: Of two of one kind only one can be.
        settings: What it replaces in the settings of the step.
        parts: How many parts the batch is divided in.
        code: What changes a copy, which it reads as ``model``.
        patch: What the user pastes, but for a new loop.
        device: Where the loop is under autocast; ``""`` for nowhere.
    """

    name: str
    kind: str
    settings: Mapping[str, Any] = {}
    parts: int = 1
    code: str = ""
    patch: str = ""
    device: str = ""


class Levers:
    """Traces the step with changes.

    Args:
        budget: Bytes there are: batches are divided until a part fits.
        name: The expression of the model, for the patches.
    """

    def __init__(self, trials: Trials, budget: int, name: str) -> None:
        self._trials = trials
        self._budget = budget
        self._name = name
        self._tried: list[tuple[Change, int]] = []

    def try_alone(self) -> tuple[Lever, ...]:
        """Trace the step with each change alone.

        Returns:
            Those that run, the lowest peak first; last what every step assumes anyway.
        """
        for change in self._list_changes():
            if self._trials.has_time(change.name):
                self._note(change, self._run([change]))
        self._accumulate()
        self._write_in_place()
        found = [self._write([change], peak) for change, peak in self._tried]
        return (*sorted(found, key=lambda lever: lever.peak_bytes), *self._keep_gradients())

    def try_together(self, base: int, checkpoints: tuple[Change, int] | None) -> tuple[Lever, ...]:
        """Trace the step with two changes or more: of each size those that promise most, until one of them fits.

        Args:
            base: The step's peak without any.
            checkpoints: Those with the lowest peak, and that peak; ``None`` if none lower it.

        Returns:
            Those that were tried and run: what fits first, fewer changes before more, then by peak.
        """
        every = [*self._tried, checkpoints] if checkpoints is not None else self._tried
        known = [  # of an optimizer that torch has not there is no code to paste
            (change, peak) for change, peak in every if peak < base and (change.patch or change.kind != "optimizer")
        ]
        found: list[tuple[int, Lever]] = []
        for size in range(2, len({change.kind for change, _ in known}) + 1):
            sets = [each for each in combinations(known, size) if len({change.kind for change, _ in each}) == size]
            sets.sort(key=lambda each: math.prod(peak / base for _, peak in each))
            for each in sets[:_MOST_TOGETHER]:
                changes = [change for change, _ in each]
                name = " + ".join(change.name for change in changes)
                peak = self._run(changes) if self._trials.has_time(name) else None
                if peak is not None:
                    found.append((size, self._write(*self._divide_less(changes, peak))))
            if any(lever.peak_bytes <= self._budget for _, lever in found):
                break
        fits = sorted(
            (one for one in found if one[1].peak_bytes <= self._budget), key=lambda one: (one[0], one[1].peak_bytes)
        )
        rest = sorted((one for one in found if one not in fits), key=lambda one: one[1].peak_bytes)
        return tuple(lever for _, lever in [*fits, *rest])

    def _divide_less(self, changes: list[Change], peak: int) -> tuple[list[Change], int]:
        """Divide the batch in half as many parts, as long as the step still fits."""
        while peak <= self._budget and any(each.parts > 2 for each in changes):
            fewer = [self._divide(each.parts // 2) if each.parts > 2 else each for each in changes]
            less = self._run(fewer) if self._trials.has_time("fewer parts of a batch") else None
            if less is None or less > self._budget:
                break
            changes, peak = fewer, less
        return changes, peak

    def _divide(self, parts: int) -> Change:
        return Change(f"accumulate {parts} batches of {(self._trials.batch or 0) // parts}", "batch", parts=parts)

    def _run(self, changes: Sequence[Change]) -> int | None:
        trials = self._trials
        settings = trials.settings._replace(
            **{name: value for each in changes for name, value in each.settings.items()}
        )
        parts = math.prod(each.parts for each in changes)
        batch = None if parts == 1 or trials.batch is None else trials.batch // parts
        settings = settings._replace(accumulate=settings.accumulate * parts)
        return trials.run("\n".join(filter(None, (each.code for each in changes))), settings, batch).peak_bytes

    def _note(self, change: Change, peak: int | None) -> None:
        if peak is not None:
            self._tried.append((change, peak))

    def _write(self, changes: Sequence[Change], peak: int) -> Lever:
        patches = [each.patch for each in changes if each.patch]
        device, parts = "".join(each.device for each in changes), math.prod(each.parts for each in changes)
        if device or parts > 1:
            patches.append(write_step(self._name, device, parts))
        return Lever(" + ".join(each.name for each in changes), peak, "\n".join(patches))

    def _list_changes(self) -> Iterator[Change]:
        settings, trace = self._trials.settings, self._trials.pipeline.traced.trace
        if settings.precision == "as is" and any(fact.dtype == "float32" for fact in trace.params):
            device = trace.params[0].device.partition(":")[0]
            yield Change("bf16-mixed", "precision", {"precision": "bf16-mixed"}, device=device)
        optimizer = settings.optimizer
        single = without_foreach(optimizer)
        if single is not None:
            patch = write_optimizer(single.name, self._name)
            yield Change("foreach off", "optimizer", {"optimizer": single}, patch=patch)
        for other in _LESS_STATE if optimizer.keeps_two else ():
            patch = write_optimizer(other, self._name)
            yield Change(other, "optimizer", {"optimizer": read_optimizer(other)}, patch=patch)

    def _accumulate(self) -> None:
        """Divide the batch, until a part fits, and add the gradients up."""
        batch, parts = self._trials.batch, 1
        best: tuple[Change, int] | None = None
        for _ in range(_MOST_HALVINGS):
            parts *= 2
            if batch is None or batch % parts or not self._trials.has_time("gradient accumulation"):
                break
            change = self._divide(parts)
            peak = self._run([change])
            if peak is None:
                break
            if best is None or peak < best[1]:
                best = change, peak
            if peak <= self._budget:
                break
        if best is not None:
            self._note(*best)

    def _write_in_place(self) -> None:
        """Let activations that can write over what they are given do so; where all fail, those that work alone."""
        trials = self._trials
        modules = trials.pipeline.traced.trace.modules
        ran = {row.module for row in trials.pipeline.rows if row.status == "ran"}
        paths = [
            fact.path for fact in modules if fact.index in ran and fact.paths and fact.settings.get("inplace") is False
        ]
        if not paths or not trials.has_time("in-place activations"):
            return
        if trials.run(write_in_place(paths)).reason:
            paths = [path for path in paths if self._works(path)]
        if paths:
            code, patch = write_in_place(paths), write_in_place(paths, self._name)
            change = Change("in-place activations", "in place", code=code, patch=patch)
            self._note(change, self._run([change]))

    def _works(self, path: str) -> bool:
        trials = self._trials
        return trials.has_time("in-place activations, each alone") and not trials.run(write_in_place([path])).reason

    def _keep_gradients(self) -> list[Lever]:
        """Say what ``set_to_none`` saves, which every step here has: one that finds gradients there adds."""
        trials = self._trials
        if trials.settings.accumulate > 1 or not trials.has_time("zero_grad(set_to_none=False)"):
            return []
        step = trials.run(settings=trials.settings._replace(accumulate=2))
        if step.peak_bytes is None:
            return []
        return [Lever("set_to_none", step.peak_bytes, KEEP_NO_GRADIENTS, is_assumed=True)]
