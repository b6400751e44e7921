"""A plan: which modules to checkpoint so that a training step fits a budget, found on its record, proved by tracing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from modelsummary_ipy.costs import find_largest_batch
from modelsummary_ipy.costs.checkpoint_choice import (
    Candidate,
    choose_checkpoints,
    find_candidates,
    predict_peak,
    sum_backward,
    sum_recomputed,
)
from modelsummary_ipy.diagnosis.memory_patches import write_checkpoints
from modelsummary_ipy.display import Plan
from modelsummary_ipy.pipeline.levers import Change, Levers
from modelsummary_ipy.pipeline.request import Assumptions
from modelsummary_ipy.pipeline.trials import Trials
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.summary import Cost, add_known
from modelsummary_ipy.records.training import Training
from modelsummary_ipy.shapes.size_search import first_true

if TYPE_CHECKING:
    from modelsummary_ipy.pipeline.stages import Pipeline

#: A choice is proved, and made again by what that showed, this often.
_MOST_ROUNDS = 8
#: The lowest peak is looked for in so many steps from nothing to the peak without checkpoints.
_STEPS = 1024


def find_plan(pipeline: Pipeline, assumed: Assumptions, batch: int | None, seconds: float, name: str) -> Plan:
    """Find what to checkpoint, and try what else helps.

    Args:
        assumed: The step, and the budget, which is given.
        batch: Another batch than the one that was traced.
        seconds: No step is begun after so long, but for the first one.
        name: The expression of the model, for the patch.
    """
    budget = assumed.budget
    assert budget is not None
    facts = Plan(budget, assumed.budget_text, batch or pipeline.batch.base.get("B"), seconds=seconds)
    trials = Trials(pipeline, assumed.step, facts.batch, seconds)
    base = trials.run()
    if base.reason:
        return replace(facts, reason=base.reason)
    facts = replace(facts, peak_before_bytes=base.peak_bytes, peak_after_bytes=base.peak_bytes)
    if base.peak_bytes is not None and base.peak_bytes <= budget:
        return _close(facts, pipeline, trials, base)
    costs = trials.count()
    found = _Search(pipeline, trials, base, costs, budget).run()
    again = sum_recomputed(found.step), sum_recomputed(base)
    facts = replace(
        facts,
        peak_after_bytes=found.step.peak_bytes,
        modules=tuple(one.path for one in found.chosen),
        families=_count_families(found.chosen),
        mult_adds=add_known(costs[0].mult_adds if costs else None, sum_backward(base)),
        added_mult_adds=None if again[0] is None or again[1] is None else again[0] - again[1],
        patch=_write_patch(pipeline, found.chosen, name),
    )
    if not facts.fits and facts.batch is not None:
        facts = replace(facts, largest_batch=_find_batch(pipeline, trials, found.chosen, facts))
    levers = Levers(trials, budget, name)
    facts = replace(facts, levers=levers.try_alone())
    if not facts.fits and not any(one.peak_bytes <= budget for one in facts.levers if not one.is_assumed):
        facts = replace(facts, together=levers.try_together(base.peak_bytes or 0, _as_change(pipeline, found, name)))
    return _close(facts, pipeline, trials, found.step)


def _as_change(pipeline: Pipeline, found: _Found, name: str) -> tuple[Change, int] | None:
    if not found.chosen:
        return None
    num, code = len(found.chosen), _write_patch(pipeline, found.chosen)
    what = f"{num} checkpoint{'s' if num > 1 else ''}"
    change = Change(what, "checkpoints", code=code, patch=_write_patch(pipeline, found.chosen, name))
    return change, found.step.peak_bytes or 0


def check_batch(batch: object, known: int | None) -> None:
    """Check that a batch can be planned; ``known`` is the one that was traced.

    Raises:
        InputError: If not.
    """
    if batch is not None and (type(batch) is not int or batch < 1):
        raise InputError(f"batch={batch!r}", "one or more examples", "batch=64")
    if batch is not None and known is None:
        raise InputError(f"batch={batch}", "a model whose input has a batch", "ms.plan(memory='24GB')")


def _close(facts: Plan, pipeline: Pipeline, trials: Trials, step: Training) -> Plan:
    row = pipeline.rows[step.peak_row] if step.peak_row is not None else None
    path = "" if row is None else row.path if row.kind == "module" else row.type_name
    return replace(
        facts, peak_phase=step.peak_phase, peak_path=path, num_steps=trials.num_steps, untried=tuple(trials.untried)
    )


class _Found:
    """Modules, and the step with these checkpointed."""

    def __init__(self, chosen: Sequence[Candidate], step: Training) -> None:
        self.chosen = chosen
        self.step = step
        self.added = sum_recomputed(step) or sum(one.mult_adds for one in chosen)


class _Search:
    """Chooses modules by the record of a step, proves the choice, and chooses again by what that showed."""

    def __init__(
        self, pipeline: Pipeline, trials: Trials, base: Training, costs: Mapping[int, Cost], budget: int
    ) -> None:
        self._pipeline = pipeline
        self._trials = trials
        self._base = base
        self._budget = budget
        scripted = {fact.index for fact in pipeline.traced.trace.modules if fact.type_module.startswith("torch.jit")}
        rows = {row.index for row in pipeline.rows if row.module in scripted}
        found = find_candidates(base, pipeline.rows, costs)
        self._candidates = [one for one in found if one.first_row not in rows]
        self._proved: dict[tuple[str, ...], Training] = {}
        self._working: dict[object, bool] = {}

    def run(self) -> _Found:
        """Return the modules that suffice at the least multiply-adds; those of the lowest peak if none suffice."""
        return self._find_cheapest() or self._find_lowest()

    def _find_cheapest(self) -> _Found | None:
        best: _Found | None = None
        margin = 0
        for _ in range(_MOST_ROUNDS):
            chosen = choose_checkpoints(self._base.live_bytes, self._budget - margin, self._candidates)
            if chosen is None or self._is_known(chosen):
                break
            step = self._prove(chosen)
            if step is None:
                break
            if step.reason:
                if not self._drop_failing(chosen):
                    break
                continue
            found = _Found(chosen, step)
            if (step.peak_bytes or 0) <= self._budget and (best is None or found.added < best.added):
                best = found
            margin = (step.peak_bytes or 0) - predict_peak(self._base.live_bytes, chosen)
        return best

    def _find_lowest(self) -> _Found:
        """Find the modules with the lowest peak that the record promises, those that fail left out."""
        best = _Found((), self._base)
        live, peak = self._base.live_bytes, self._base.peak_bytes or 0
        for _ in range(_MOST_ROUNDS):
            budgets = [peak * step // _STEPS for step in range(_STEPS)]
            lowest = first_true(budgets, lambda budget: choose_checkpoints(live, budget, self._candidates) is not None)
            chosen = choose_checkpoints(live, lowest, self._candidates) if lowest is not None else None
            if not chosen or self._is_known(chosen):
                break
            step = self._prove(chosen)
            if step is None or (step.reason and not self._drop_failing(chosen)):
                break
            if not step.reason:
                found = _Found(chosen, step)
                best = found if (step.peak_bytes or 0) < peak else best
                break
        for chosen, step in self._list_proved():
            if (step.peak_bytes or 0) < (best.step.peak_bytes or 0):
                best = _Found(chosen, step)
        return best

    def _list_proved(self) -> list[tuple[list[Candidate], Training]]:
        by_path = {one.path: one for one in self._candidates}
        return [
            ([by_path[path] for path in paths], step)
            for paths, step in self._proved.items()
            if not step.reason and all(path in by_path for path in paths)
        ]

    def _is_known(self, chosen: Sequence[Candidate]) -> bool:
        return tuple(one.path for one in chosen) in self._proved

    def _prove(self, chosen: Sequence[Candidate]) -> Training | None:
        """Trace the step with modules checkpointed; ``None`` when the time is over."""
        if not self._trials.has_time("fewer checkpoints"):
            return None
        step = self._trials.run(_write_patch(self._pipeline, chosen))
        self._proved[tuple(one.path for one in chosen)] = step
        return step

    def _drop_failing(self, chosen: Sequence[Candidate]) -> bool:
        """Leave out the families that can't be checkpointed; return whether there were any."""
        failing: set[object] = set()
        for one in {one.family: one for one in chosen}.values():
            if one.family not in self._working:
                step = self._prove([one])
                if step is None:
                    return False
                self._working[one.family] = not step.reason
            if not self._working[one.family]:
                failing.add(one.family)
        self._candidates = [one for one in self._candidates if one.family not in failing]
        return bool(failing)


def _find_batch(pipeline: Pipeline, trials: Trials, chosen: Sequence[Candidate], facts: Plan) -> int | None:
    """Find the largest batch that fits with modules checkpointed."""
    if facts.batch is None or pipeline.batch.retracer is None:
        return None
    patch = _write_patch(pipeline, chosen)

    def measure(size: int) -> int | None:
        if size == facts.batch:
            return facts.peak_after_bytes
        return trials.run(patch, batch=size).peak_bytes if trials.has_time("the largest batch that fits") else None

    return find_largest_batch(measure, facts.budget_bytes, facts.batch)


def _count_families(chosen: Sequence[Candidate]) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for one in chosen:
        counts[one.type_name] = counts.get(one.type_name, 0) + 1
    return tuple(counts.items())


def _write_patch(pipeline: Pipeline, chosen: Sequence[Candidate], name: str = "model") -> str:
    if not chosen:
        return ""
    trace = pipeline.traced.trace
    inside = tuple(f"{one.path}." for one in chosen)
    has_buffers = any(
        fact.kind == "buffer" and any(f"{path}.".startswith(inside) for path in fact.names) for fact in trace.params
    )
    return write_checkpoints([one.path for one in chosen], has_buffers=has_buffers, name=name)
