"""A plan that a training step fits a budget, to be read, shown and written."""

from __future__ import annotations

from dataclasses import dataclass

from modelsummary_ipy.display.render.plan import render_plan_html, render_plan_text
from modelsummary_ipy.records.plan import PlanFacts


@dataclass(frozen=True, repr=False)
class Plan(PlanFacts):
    """Which modules to checkpoint so that a training step fits a budget, and what else helps, each tried by tracing.

    Besides these it has ``fits``, ``added_share`` (what runs again, as a share of the step's multiply-adds) and
    ``to_dict()``.

    Attributes:
        budget_bytes, budget_text, batch: What was asked for.
        peak_before_bytes, peak_after_bytes: The step's peak without and with the checkpoints.
        peak_phase, peak_path: What runs at the latter.
        modules, families: Paths to checkpoint, and how many of which class they are.
        mult_adds, added_mult_adds: Of the step without checkpoints, and what these run again.
        patch: Code that checkpoints them.
        levers, together: Other changes, each alone, the best first; where none fits, several at once.
        largest_batch: Where the batch does not fit, the largest one that does with these checkpoints.
        num_steps, seconds, untried: How many steps were traced, in what time, and what that did not suffice for.
        reason: Why there is no plan; ``""`` if there is one.
    """

    def __str__(self) -> str:
        return render_plan_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render_plan_html(self)
