"""Steps that are traced for a plan: on changed copies, with other settings, at other batches, within a time."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from modelsummary_ipy.costs import count_costs
from modelsummary_ipy.records.summary import Cost
from modelsummary_ipy.records.training import Training
from modelsummary_ipy.tracing.training_step import StepSettings

if TYPE_CHECKING:
    from modelsummary_ipy.pipeline.stages import Pipeline


class Trials:
    """Steps that are traced for a plan, within a time.

    Attributes:
        pipeline, settings, batch: Of the step as it is.
        num_steps: How many were traced.
        untried: What the time did not suffice for.
    """

    def __init__(self, pipeline: Pipeline, settings: StepSettings, batch: int | None, seconds: float) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.batch = batch
        self.num_steps = 0
        self.untried: list[str] = []
        self._until = monotonic() + seconds
        self._size = pipeline.batch.base.get("B")

    def has_time(self, what: str) -> bool:
        """Whether one more step may begin; if not, ``what`` is not tried."""
        if monotonic() < self._until:
            return True
        if what not in self.untried:
            self.untried.append(what)
        return False

    def run(self, change: str = "", settings: StepSettings | None = None, batch: int | None = None) -> Training:
        """Trace the step: on a changed copy, with other settings, at another batch."""
        self.num_steps += 1
        sizes = self.find_sizes(batch or self.batch)
        if not (change or sizes):
            return self.pipeline.training(settings or self.settings)
        return self.pipeline.trace_step(settings or self.settings, sizes, change)

    def find_sizes(self, batch: int | None) -> dict[str, int] | None:
        """Return the sizes of a batch, ``None`` for the one that was traced."""
        return None if batch in (None, self._size) else {self.pipeline.batch.names.batch: int(batch or 0)}

    def count(self) -> Mapping[int, Cost]:
        """Count the multiply-adds of the batch, by row."""
        sizes, retracer = self.find_sizes(self.batch), self.pipeline.batch.retracer
        first = self.pipeline.traced.trace
        if sizes is not None and retracer is not None:
            again = retracer.measure(sizes)
            if again is not None and again.failure is None and len(again.calls) == len(first.calls):
                return count_costs(again, self.pipeline.rows)[0]
            return {}
        return self.pipeline.counted.costs
