"""The runs of a form that can be gone back to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelsummary_ipy.display.render.formatting import format_short
from modelsummary_ipy.inputs import ModelInputs
from modelsummary_ipy.notebook.form.settings import Settings

if TYPE_CHECKING:
    from modelsummary_ipy.summary import ModelSummary


@dataclass
class Run:
    """One run of the form.

    Attributes:
        settings: What it was run with.
        inputs: The inputs that were, as text.
        line: The magic's line for the same.
        outcome: ``"ran"``, ``"2 findings"`` or ``"failed in 'fc'"``.
        total_params, total_mult_adds: As of its summary.
        summary: Its result; ``None`` once ten more have run: going back to it runs it again.
    """

    settings: Settings
    inputs: str
    line: str
    outcome: str
    total_params: int
    total_mult_adds: int | None
    summary: ModelSummary | None

    def equals(self, other: Run) -> bool:
        """Whether two runs were made with the same and found the same: a list would show the same line twice."""
        one, two = (replace(run.settings.traced, sizes=()) for run in (self, other))
        return one == two and self.title == other.title

    @property
    def title(self) -> str:
        """The run in a line."""
        settings = self.settings
        chosen = [
            value for value in (settings.device, settings.mode, settings.engine) if value not in ("", "same", "auto")
        ]
        macs = "" if self.total_mult_adds is None else f"{format_short(self.total_mult_adds)} MACs"
        return " · ".join(part for part in (self.inputs, *chosen, settings.memory, macs, self.outcome) if part)


def build_run(settings: Settings, inputs: ModelInputs, summary: ModelSummary, line: str) -> Run:
    """Record the settings of a run and its result."""
    count = sum(flag.severity != "note" for flag in summary.flags)
    outcome = f"{count} finding{'s' if count > 1 else ''}" if count else "ran"
    if summary.error is not None:
        outcome = f"failed in {summary.error.path!r}" if summary.error.path else "failed in the model"
    total_params, total_mult_adds = summary.total_params, summary.total_mult_adds
    return Run(settings, inputs.as_line(), line, outcome, total_params, total_mult_adds, summary)
