"""Parts of a tensor that meet again: halves of which one is the gate of the other, thirds that attend to each other."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis, Factor, is_position
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import ATTENTION, MOVES, SAME_SHAPE, SCORES
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_CUTS = frozenset({"aten.split", "aten.chunk", "aten.split_with_sizes"})
_KEEPS = MOVES | SAME_SHAPE
_BENDS = frozenset({"aten.sigmoid", "aten.silu", "aten.gelu", "aten.tanh", "aten.relu", "aten.exp"})


class GateChecks:
    """What is followed from operation to operation about parts of tensors."""

    def __init__(self, walk: MeaningWalk) -> None:
        self._walk = walk
        #: Parts of tensors: the operation that cut, and which part; what a sigmoid made of them; which axis was cut.
        self._cuts: dict[int, tuple[int, int]] = {}
        self._bent: dict[int, tuple[int, int]] = {}
        self._bends: dict[int, str] = {}
        self._negated: set[int] = set()
        self._cut_axes: dict[int, tuple[Axis, list[Axis]]] = {}
        #: What is divided by, or multiplied with, the exponential of a part.
        self._spread: dict[int, tuple[int, int]] = {}
        #: Batches that a ``cat`` put behind one another.
        self._joined: set[Factor] = set()
        #: Of tensors, where they were cut: the operation, the dim, after how many entries, whether those were taken.
        self._ends: dict[int, list[tuple[int, int, int, bool]]] = {}

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """Look at one operation that reads these tensors, whose results have axes already."""
        axes, made = self._walk.axes_of(refs[0]), event.outputs[0]
        if event.op == "aten.glu":
            self._check_halves(index, axes[event.args.get("dim", -1)], axes)
        elif event.op in _CUTS and len(event.outputs) in (2, 3) and axes:
            self._cuts |= {made.number: (index, part) for part, made in enumerate(event.outputs)}
            self._cut_axes[index] = axes[event.args.get("dim", 0)], axes
        elif event.op in _BENDS and len(refs) == 1 and refs[0].number in self._cuts:
            self._bent[made.number], self._bends[made.number] = self._cuts[refs[0].number], event.op
        elif self._cuts and event.op in _KEEPS and len(refs) == 1 and refs[0].number in self._cuts:
            self._cuts[made.number] = self._cuts[refs[0].number]
            if event.op == "aten.neg":
                self._negated.add(made.number)
        elif event.op == "aten.mul" and len(refs) == 2:
            self._check_gate(*refs)
            bent = [self._bent[ref.number] for ref in refs if ref.number in self._bent]
            if len(bent) == 1 and not any(ref.number in self._cuts for ref in refs):
                self._spread[made.number] = bent[0]
        elif event.op == "aten.add" and len(refs) == 2:
            for one, other in (refs, refs[::-1]):
                if one.number in self._spread and other.number in self._cuts:
                    self._check_both(self._spread[one.number], self._cuts[other.number])
        elif event.op in SCORES or event.op in ATTENTION:
            self._check_thirds(refs)
        elif event.op == "aten.cat":
            self._joined |= self._find_joined(event, refs)
            self._check_turned(index, refs)
        elif event.op == "aten.sub" and len(refs) == 2:
            self._check_uncut(*refs)
        elif event.op in ("aten.slice", "aten.select"):
            self._follow_ends(index, event, refs[0], made)

    def _follow_ends(self, index: int, event: OpEvent, ref: TensorRef, made: TensorRef) -> None:
        """``boxes[:, :4]`` and ``boxes[..., 4]``: the first four of one dim, and what is behind four of another."""
        dim = event.args.get("dim", 0) % len(ref.shape)
        size, start = ref.shape[dim], event.args["index"] if event.op == "aten.select" else event.args.get("start") or 0
        if event.args.get("step", 1) != 1 or start >= size:
            return
        cuts = self._ends.setdefault(ref.number, [])
        if event.op == "aten.slice" and start == 0 and 1 < made.shape[dim] < size:
            cuts.append((index, dim, made.shape[dim], True))
        elif start % size > 1 and (event.op == "aten.slice" or start % size == size - 1):
            cuts.append((index, dim, start % size, False))
        firsts, rests = ([cut for cut in cuts if cut[3] is is_first] for is_first in (True, False))
        for at, one, count, _ in firsts:
            behind = {other for _, other, begin, _ in rests if begin == count}
            if behind and one not in behind and ref.shape[min(behind)] == count + 1:
                axes = self._walk.axes_of(ref)
                if not any(other == min(behind) for _, other, _, _ in firsts) and not axes[one].has("B"):
                    self._walk.find("ends", at, axes[one], axes[min(behind)])
                    cuts.clear()

    def _check_thirds(self, refs: Sequence[TensorRef]) -> None:
        """Queries, keys and values that are each a third of the positions."""
        parts = {self._cuts[ref.number] for ref in refs if ref.number in self._cuts}
        cuts = {index for index, _ in parts}
        if len(parts) < 2 or len(cuts) != 1:
            return
        axis, axes = self._cut_axes[min(cuts)]
        features = [other for other in axes if other.is_feature]
        if is_position(axis) and features and not any(factor.half for factor in axis.factors):
            self._walk.find("thirds", min(cuts), axis, features[0])

    def _check_turned(self, index: int, refs: Sequence[TensorRef]) -> None:
        """``cat([b, a])`` of halves a and b of the samples; ``cat([-b, a])``: in a rotary embedding of the features."""
        (cut, part), (other, rest) = (self._cuts.get(ref.number, (-1, 0)) for ref in (refs[0], refs[-1]))
        if len(refs) != 2 or cut != other or part <= rest:
            return
        axis, axes = self._cut_axes[cut]
        if axis.roots == {"B"} and axis.factors[0].name == "B":  # and not two batches behind one another
            self._walk.find("exchanged", index, axis)
        elif refs[0].number in self._negated:
            self._check_halves(cut, axis, axes)

    def _find_joined(self, event: OpEvent, refs: Sequence[TensorRef]) -> set[Factor]:
        """Return the axis of samples of several tensors behind one another; none if it is another axis."""
        dim, made = event.args.get("dim", 0), event.outputs[0]
        parts = [self._walk.axes_of(ref)[dim] for ref in refs if len(ref.shape) == len(made.shape)]
        is_joined = len(parts) == 2 and all(part.roots == {"B"} for part in parts)
        return set(self._walk.axes_of(made)[dim].factors[:1]) if is_joined else set()

    def _check_uncut(self, one: TensorRef, other: TensorRef) -> None:
        """The difference of halves of the features, where the samples are still two batches behind one another."""
        if one.number in self._cuts and other.number in self._cuts:
            (index, part), (at, rest) = self._cuts[one.number], self._cuts[other.number]
            axis, axes = self._cut_axes[index]
            batches = [factor for other in axes if other is not axis for factor in other.factors]
            if index == at and part != rest and axis.is_feature and self._joined & set(batches):
                self._walk.find("uncut", index, axis)

    def _check_gate(self, one: TensorRef, other: TensorRef) -> None:
        """Half of a tensor, bent by a sigmoid, times the other half, as it is or bent by a tanh."""
        if (
            self._bends.get(one.number) != self._bends.get(other.number)
            and {one.number, other.number} <= self._bent.keys()
        ):
            self._check_both(self._bent[one.number], self._bent[other.number])
        for bent, plain in ((one, other), (other, one)):
            if bent.number in self._bent and plain.number in self._cuts:
                self._check_both(self._bent[bent.number], self._cuts[plain.number])

    def _check_both(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """Two parts of one tensor, not of two."""
        if one[0] == other[0] and one[1] != other[1]:
            self._check_halves(one[0], *self._cut_axes[one[0]])

    def _check_halves(self, index: int, axis: Axis, axes: Sequence[Axis]) -> None:
        """A gate that is one half of the positions, or of the samples, for the other."""
        features = [other for other in axes if other.is_feature]
        if features and not any(factor.half for factor in axis.factors):
            if is_position(axis):
                self._walk.find("halves", index, axis, features[0])
            elif axis.roots == {"B"} and not self._joined & set(axis.factors):
                self._walk.find("along", index, axis)
