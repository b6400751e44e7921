"""What numbers are divided by: a statistic of the whole batch, or a norm along positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelsummary_ipy.axes.meaning import Axis, Factor, is_position
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import MOVES, REDUCTIONS, SAME_SHAPE, SCORES, SOFTMAXES
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_KEEPING = SAME_SHAPE | {"aten.clamp_min", "aten.clamp_min_", "aten.clamp", "aten.sqrt", "aten.add_", "aten.expand"}
_FACTORS = frozenset({"aten.mul", "aten.div", "aten.native_layer_norm", "aten.rsqrt"})
_SAME = SAME_SHAPE | MOVES
_BOUNDED = frozenset({"aten.clamp", "aten.clamp_min", "aten._to_copy", "aten.clamp_min_", "aten.clamp_", "aten.add_"})
_LAYS = frozenset({"aten.div", "aten.sub", "aten.mul"})
_PASSING = _KEEPING | MOVES


class _Norm(NamedTuple):
    """A length along an axis, or what was divided by it: made by the operation ``event``."""

    axis: Axis
    event: int


class _Sum(NamedTuple):
    """What an operation made of a tensor of several dims, along one behind the first, which went away."""

    source: int
    place: int
    is_inverse: bool = False


class ScaleChecks:
    """What is followed from operation to operation about sums that numbers are divided by."""

    def __init__(self, walk: MeaningWalk) -> None:
        self._walk = walk
        #: Products of two tensors.
        self._products: set[int] = set()
        self._multiplied: set[int] = set()
        self._bare: set[int] = set()
        self._norms: dict[int, _Norm] = {}
        self._units: dict[int, _Norm] = {}
        self._sums: dict[int, _Sum] = {}
        #: One length of all samples together, and what is left of it behind a number: the operation, and the batch.
        self._overall: dict[int, tuple[int, Axis]] = {}
        self._compared: dict[int, tuple[int, Axis]] = {}
        #: Squares, by tensor that of which; sums along an axis, whether of squares; what is the square of a sum.
        self._squares: dict[int, int] = {}
        self._square_sums: dict[int, tuple[int, Axis, bool]] = {}
        self._summed_squares: dict[int, tuple[int, Axis]] = {}

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], places: Sequence[int]) -> None:
        """Look at one operation, whose results have axes already.

        Args:
            refs: The tensors that it reads.
            places: The dims of the first tensor that it runs along, where it runs along some.
        """
        made = event.outputs[0]
        axes = self._walk.axes_of(refs[0])
        if event.op == "aten.linalg_vector_norm" and len(places) == 1:
            self._check_length(refs[0], axes, axes[places[0]])
            if event.args.get("keepdim"):
                self._norms[made.number] = _Norm(axes[places[0]], index)
        elif event.op == "aten.div" and len(refs) == 2:
            self._check_unit(event, *refs)
        elif event.op in SCORES and len(refs) == 2:
            self._check_scores(*refs)
        elif event.op == "aten.linalg_vector_norm" and not places and len(axes) > 1:
            self._overall.update((made.number, (index, axis)) for axis in axes if axis.has("B"))
        elif refs[0].number in self._overall and len(refs) == 1:
            if event.op in ("aten.sub", "aten.add"):
                self._compared[made.number] = self._overall[refs[0].number]
        elif event.op == "aten.pow" and refs[0].number in self._compared:
            self._walk.find("overall", *self._compared[refs[0].number])
        elif event.op in ("aten.mul", "aten.div") and refs[0].number in self._products:
            self._check_root(index, event, axes)
        elif event.op == "aten.sub" and len(refs) == 2:
            self._check_pairs(index, *refs)
        elif event.op in SOFTMAXES and refs[0].number in self._bare:
            self._walk.find("unscaled", index, axes[-1])
        self._follow_sums(index, event, refs, places)
        self._follow_squares(index, event, refs[0], places)
        self._follow_bare(event, refs, made)
        if event.op in SCORES or (event.op in MOVES and refs[0].number in self._products):
            self._products.add(made.number)
        self._pass_on(event, refs)

    def _follow_squares(self, index: int, event: OpEvent, ref: TensorRef, places: Sequence[int]) -> None:
        """Sums along one dim, of squares or squared themselves: of which tensor, along which axis."""
        number, made = ref.number, event.outputs[0].number
        if event.op in ("aten.rsqrt", "aten.sqrt") and number in self._summed_squares:
            self._walk.find("rooted", index, self._summed_squares[number][1])
        elif event.op == "aten.add" and number in self._summed_squares:
            self._summed_squares[made] = self._summed_squares[number]
        elif event.op in ("aten.sum", "aten.mean") and len(places) == 1 and len(ref.shape) > 1:
            axis = self._walk.axes_of(ref)[places[0]]
            source = self._squares.get(number)
            if source is not None and event.args.get("keepdim"):
                self._norms[made] = _Norm(axis, index)  # of its root too
            self._square_sums[made] = (number, axis, False) if source is None else (source, axis, True)
        elif event.op == "aten.pow" and event.args.get("exponent") == 2:
            if number in self._square_sums and not self._square_sums[number][2]:
                self._summed_squares[made] = self._square_sums[number][:2]
            self._squares[made] = number

    def _check_pairs(self, index: int, one: TensorRef, other: TensorRef) -> None:
        """``v.sum(2) ** 2 - (v ** 2).sum(2)``: products of all pairs of features of one vector."""
        squared, squares = self._summed_squares.get(one.number), self._square_sums.get(other.number)
        if squared is None or squares is None or squared != squares[:2] or not squares[2]:
            return
        if squared[1].is_feature and any(map(is_position, self._walk.axes_of(one))):
            self._walk.find("fields", index, squared[1])

    def _follow_bare(self, event: OpEvent, refs: Sequence[TensorRef], made: TensorRef) -> None:
        """Scores of heads that nothing has multiplied or divided, nor their queries and keys."""
        is_factor = event.op in _FACTORS
        if is_factor or (event.op in _PASSING and any(ref.number in self._multiplied for ref in refs)):
            self._multiplied.add(made.number)
        elif event.op in SCORES and len(refs) == 2 and not any(ref.number in self._multiplied for ref in refs):
            summed = self._walk.axes_of(refs[0])[-1].factors
            places = self._walk.axes_of(made)[-2:]
            if (
                len(summed) == 1
                and summed[0].half == "inner"
                and summed[0].kind == "feature"
                and all(map(is_position, places))
            ):
                self._bare.add(made.number)
        elif event.op in _SAME and refs[0].number in self._bare:
            self._bare.add(made.number)

    def _follow_sums(self, index: int, event: OpEvent, refs: Sequence[TensorRef], places: Sequence[int]) -> None:
        """``a / a.sum(1)`` of a square matrix: the sums of its rows lie on its columns."""
        first, made = refs[0], event.outputs[0]
        known = self._sums.get(first.number)
        if event.op in REDUCTIONS and len(places) == 1 and len(made.shape) == len(first.shape) - 1 > 0:
            place = places[0] % len(first.shape)
            if place and first.shape[place] > 1:
                self._sums[made.number] = _Sum(first.number, place)
        elif known is not None and (event.op in _BOUNDED or (event.op == "aten.add" and len(refs) == 1)):
            self._sums[made.number] = known
        elif known is not None and (event.op == "aten.reciprocal" or event.args.get("exponent") == -1):
            self._sums[made.number] = known._replace(is_inverse=True)
        elif len(refs) == 2 and event.op in _LAYS and refs[1].number in self._sums and made.shape == first.shape:
            total = self._sums[refs[1].number]
            if total.source == first.number and total.is_inverse == (event.op == "aten.mul"):
                self._walk.find("degrees", index, Axis([Factor(total.place, "plain", name=str(total.place))]))

    def _check_root(self, index: int, event: OpEvent, axes: Sequence[Axis]) -> None:
        """Scores that are divided by the root of the number of steps, not by that of the features they summed."""
        value = event.args.get("other")
        if isinstance(value, float) and value > 0:
            square = value**2 if event.op == "aten.div" else value**-2
            steps = self._walk.by_size.get(round(square))
            is_root = abs(square - round(square)) < 1e-6 * square and steps is not None and is_position(steps)
            if is_root and steps is not None and all(map(is_position, axes[-2:])):
                self._walk.find("root", index, steps)

    def _pass_on(self, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        made = event.outputs[0].number
        if (self._norms or self._units) and (event.op in _PASSING or (event.op == "aten.add" and len(refs) == 1)):
            for ref in refs[:1]:
                if ref.number in self._norms:
                    self._norms[made] = self._norms[ref.number]
                if ref.number in self._units:
                    self._units[made] = self._units[ref.number]

    def _check_unit(self, event: OpEvent, one: TensorRef, other: TensorRef) -> None:
        if other.number in self._norms:
            norm = self._units[event.outputs[0].number] = self._norms[other.number]
            axes = self._walk.axes_of(one)
            if len(axes) == 3 and norm.axis is axes[1] and is_position(axes[1]) and axes[2].is_feature:
                self._walk.find("unit", norm.event, axes[1], axes[2])

    def _check_length(self, ref: TensorRef, axes: Sequence[Axis], axis: Axis) -> None:
        """Capsules whose length is read along another axis than the one along which they were squashed."""
        unit = self._units.get(ref.number)
        if unit is not None and axis.size > 1 and any(other is unit.axis is not axis for other in axes):
            self._walk.find("length", unit.event, unit.axis, axis)

    def _check_scores(self, one: TensorRef, other: TensorRef) -> None:
        """A product of tensors of length 1 is a cosine only along the axis of that length."""
        units = [self._units.get(ref.number) for ref in (one, other)]
        summed = self._walk.axes_of(one)[-1]
        if summed.size < 2:
            return
        for unit in units:
            if unit is None or set(unit.axis.factors) & set(summed.factors):
                return
        for unit in units:
            if unit is not None and (is_position(unit.axis) or unit.axis.has("B")):
                self._walk.find("scores", unit.event, unit.axis, summed)
