"""Gates that are one half of a tensor for the other: ``glu``, and what is cut, bent and multiplied by hand."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.axes.meaning_ops import is_position
from modelsummary_ipy.axes.meaning_walk_protocol import Walk
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_CUTS = frozenset({"aten.split", "aten.chunk", "aten.split_with_sizes"})
_BENDS = frozenset({"aten.sigmoid", "aten.silu", "aten.gelu", "aten.tanh", "aten.relu"})


class GateChecks:
    """What is followed from operation to operation about halves of tensors."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        #: Halves of tensors: the operation that cut, and which half; what a sigmoid made of them; which axis was cut.
        self._cuts: dict[int, tuple[int, int]] = {}
        self._bent: dict[int, tuple[int, int]] = {}
        self._cut_axes: dict[int, tuple[Axis, list[Axis]]] = {}

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """Look at one operation that reads these tensors, whose results have axes already."""
        axes, made = self._walk.axes_of(refs[0]), event.outputs[0]
        if event.op == "aten.glu":
            self._check_halves(index, axes[event.args.get("dim", -1)], axes)
        elif event.op in _CUTS and len(event.outputs) == 2 and axes:
            self._cuts |= {made.number: (index, part) for part, made in enumerate(event.outputs)}
            self._cut_axes[index] = axes[event.args.get("dim", 0)], axes
        elif event.op in _BENDS and len(refs) == 1 and refs[0].number in self._cuts:
            self._bent[made.number] = self._cuts[refs[0].number]
        elif event.op == "aten.mul" and len(refs) == 2:
            self._check_gate(*refs)

    def _check_gate(self, one: TensorRef, other: TensorRef) -> None:
        """Half of a tensor, bent by a sigmoid, times the other half."""
        for bent, plain in ((one, other), (other, one)):
            if bent.number in self._bent and plain.number in self._cuts:
                (index, part), (at, rest) = self._bent[bent.number], self._cuts[plain.number]
                if index == at and part != rest:
                    self._check_halves(index, *self._cut_axes[index])

    def _check_halves(self, index: int, axis: Axis, axes: Sequence[Axis]) -> None:
        """A gate that is one half of the positions for the other."""
        features = [other for other in axes if other.is_feature]
        if is_position(axis) and features and not any(factor.half for factor in axis.factors):
            self._walk.find("halves", index, axis, features[0])
