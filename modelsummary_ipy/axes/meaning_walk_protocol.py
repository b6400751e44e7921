"""What the checks of a walk for meaning need of the walk."""

from __future__ import annotations

from typing import Protocol

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.records.op_events import AxisFindingKind, TensorRef


class Walk(Protocol):
    """A walk, as the checks see it."""

    by_size: dict[int, Axis]
    unsure: int

    def axes_of(self, ref: TensorRef) -> list[Axis]:
        """Return the axes of a tensor."""

    def find(self, kind: AxisFindingKind, index: int, *axes: Axis) -> None:
        """Note what an operation does."""
