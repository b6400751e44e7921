"""How a training step is made to fit a budget of memory: what to checkpoint, and what else helps, each tried."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from modelsummary_ipy.records.training import Phase


@dataclass(frozen=True)
class Lever:
    """A change of the step other than checkpoints, tried by tracing the step with it alone, or several at once.

    Attributes:
        name: What is changed: ``"bf16-mixed"``, ``"accumulate 4 batches of 16"``.
        peak_bytes: The step's peak with it.
        patch: Code that does it.
        is_assumed: Whether every step here has it already; ``peak_bytes`` is then the peak without it.
    """

    name: str
    peak_bytes: int
    patch: str
    is_assumed: bool = False


@dataclass(frozen=True)
class PlanFacts:
    """Which modules to checkpoint so that a training step fits a budget at the least multiply-adds run again.

    Every number is of a step that was traced with the patch applied to a copy of the model.

    Attributes:
        budget_bytes: The budget, and ``budget_text`` as it was typed: ``"24 GB"``.
        batch: Size of the batch, ``None`` if the input has none.
        peak_before_bytes: Peak of the step as it is; ``None`` if there is no step.
        peak_after_bytes: Peak with ``modules`` checkpointed, the lowest that was found where none fits.
        peak_phase, peak_path: What runs at that peak, and of which module; ``""`` outside all.
        modules: Paths of the modules to checkpoint, in the order in which they run.
        families: ``(type name, how many)`` of them, in that order.
        mult_adds: Multiply-adds of the step without checkpoints, forward and backward; ``None`` if some are unknown.
        added_mult_adds: Those of the forward that the checkpoints run again.
        patch: Code that checkpoints ``modules``; ``""`` if there is nothing to do.
        levers: Other changes, the best first.
        together: Several changes at once, checkpoints among them, tried where none fits alone: those that fit first.
        largest_batch: The largest batch that fits with ``modules`` checkpointed; searched only where ``batch`` does
            not, 0 if no batch does.
        num_steps: How many steps were traced.
        reason: Why there is no plan; ``""`` if there is one.
        untried: What the time did not suffice for.
        seconds: The time that was given.
    """

    budget_bytes: int
    budget_text: str
    batch: int | None = None
    peak_before_bytes: int | None = None
    peak_after_bytes: int | None = None
    peak_phase: Phase | None = None
    peak_path: str = ""
    modules: tuple[str, ...] = ()
    families: tuple[tuple[str, int], ...] = ()
    mult_adds: int | None = None
    added_mult_adds: int | None = 0
    patch: str = ""
    levers: tuple[Lever, ...] = ()
    together: tuple[Lever, ...] = ()
    largest_batch: int | None = None
    num_steps: int = 0
    reason: str = ""
    untried: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the step fits with the modules checkpointed."""
        return self.peak_after_bytes is not None and self.peak_after_bytes <= self.budget_bytes

    @property
    def added_share(self) -> float | None:
        """What runs again, as a share of the step's multiply-adds: 0.25; ``None`` if some are unknown."""
        if not self.added_mult_adds:
            return None if self.added_mult_adds is None else 0.0
        return self.added_mult_adds / self.mult_adds if self.mult_adds else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {**asdict(self), "fits": self.fits, "added_share": self.added_share}
