"""A plan that a training step fits a budget, to be read, shown and written."""

from __future__ import annotations

from dataclasses import dataclass, fields

from modelsummary_ipy.display.render.plan import render_plan_html, render_plan_text
from modelsummary_ipy.records.plan import PlanFacts

__all__ = ["Plan"]


@dataclass(frozen=True, repr=False)
class Plan(PlanFacts):
    """Which modules to checkpoint so that a training step fits a budget, and what else helps; see ``PlanFacts``."""

    @classmethod
    def of(cls, facts: PlanFacts) -> Plan:
        """Return a plan of these facts."""
        return cls(**{field.name: getattr(facts, field.name) for field in fields(facts)})

    def __str__(self) -> str:
        return render_plan_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render_plan_html(self)
