"""Softmaxes: along which axis the weights sum to one, and over which they are summed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis, is_position
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import LOG_SOFTMAXES, MOVES, is_heads, move_place
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_AS_IS = MOVES | {"aten.clone", "aten._to_copy", "aten.detach", "aten.alias", "aten.expand"}


class SoftmaxChecks:
    """What became of scores and of the weights that softmaxes made of them.

    Args:
        tables: Numbers of the tensors that are parameters or buffers.

    Attributes:
        scores: Numbers of the tensors that are of every position with every one.
        gates: What a softmax made of anything but scores.
    """

    def __init__(self, walk: MeaningWalk, tables: frozenset[int]) -> None:
        self._walk = walk
        self._tables = tables
        self.scores: set[int] = set()
        self.gates: set[int] = set()
        #: Of what a softmax made: its axis, the place of that counted from the last, ``None`` where it is lost, and the
        #: operation that is at fault if another axis is summed: the softmax, ``None`` where it runs along the last dim.
        self._softmaxes: dict[int, tuple[Axis, int | None, int | None]] = {}
        #: What a softmax made, multiplied with what has its axis: the dims of the weights, from the last.
        self._weighted: dict[int, frozenset[int]] = {}
        self._slotted: set[int] = set()
        #: Weights of features, summed over positions: the axis of the softmax, and that operation.
        self._marginals: dict[int, tuple[Axis, int]] = {}
        self._sums: set[int] = set()
        #: The axes of softmaxes whose weights one product summed as it should; another may run over the other axis.
        self._well_summed: list[Axis] = []
        #: What a softmax made, multiplied with coordinates.
        self._placed: set[int] = set()
        #: What a softmax made, as it is; sums of it that are 1 everywhere: the operation, and the axis.
        self._pure: set[int] = set()
        self._ones: dict[int, tuple[int, Axis]] = {}
        #: What a log_softmax made: its axis, and the operation.
        self._logs: dict[int, tuple[Axis, int]] = {}
        #: Logarithms of shares to which others were added: the axis of the shares.
        self._joint: dict[int, Axis] = {}
        #: Chances of features: the axis of the softmax.
        self._chances: dict[int, Axis] = {}
        #: What a softmax over positions made of features: the operation, both axes.
        self._chosen: dict[int, tuple[int, Axis, Axis]] = {}

    def finish(self, output: TensorRef, *, is_read: bool) -> None:
        """Look at an output of the model: a choice of positions is an answer where nothing reads it."""
        if output.number in self._chosen:
            chosen = self._chosen[output.number]  # two of it are the starts and the ends of answers
            self._walk.find("classes" if is_read or chosen[2].size < 3 else "answers", *chosen)

    def check(self, index: int, event: OpEvent, first: TensorRef, axes: Sequence[Axis], place: int) -> None:
        """Look at a softmax, or a logarithm of one."""
        axis = axes[place]
        is_score = first.number in self.scores
        if axis.size == 1 and not is_score and len(axes) > 1:
            self._walk.find("single", index, axis)
        of_heads = len(axes) > 3 and axis is axes[-1] and all(map(is_heads, axes[-2:])) and axis.size == axes[-2].size
        if of_heads and any(map(is_position, axes[:-2])):
            self._walk.find("heads", index, axis)  # those of each step among themselves, and no step with another
        features = axes[1 if len(axes) == 4 and not axes[-1].is_feature else -1]
        is_whole = is_position(axis) and not any(factor.half for factor in features.factors)
        if features is not axis and features.is_feature and (is_whole or _is_of_boxes(axis, features)):
            self._chosen[event.outputs[0].number] = index, axis, features
        if axis.is_feature and not any(factor.half for factor in axis.factors):
            self._chances[event.outputs[0].number] = axis
        if event.op in LOG_SOFTMAXES:
            self._logs[event.outputs[0].number] = axis, index
            if event.outputs[0].number in self._chosen:
                self._walk.find("classes", index, axis, features)
            return
        self._pure.add(event.outputs[0].number)
        # Which features win, slots or experts or heads of a gate, is a choice; which positions do is what is summed.
        if not axis.has("B") and (is_score or is_position(axis) or axis.is_feature):
            back = place % len(axes) - len(axes)
            self._softmaxes[event.outputs[0].number] = axis, back, None if back == -1 else index
            if not is_score or (axis.is_feature and not axis.factors[0].half):
                self.gates.add(event.outputs[0].number)

    def makes_pairs(self, refs: Sequence[TensorRef], made: TensorRef) -> bool:
        """Return whether two tensors are laid across each other: every position with every one."""
        if len(refs) < 2:
            return False
        lasts = [self._walk.axes_of(ref)[-2:] for ref in refs[:2]]
        if any(len(axes) < 2 for axes in lasts):
            return False
        (one, two), (three, four) = lasts
        across = (one.size == 1 and four.size == 1) or (two.size == 1 and three.size == 1)
        return across and all(map(is_position, self._walk.axes_of(made)[-2:]))

    def pass_on(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """Look at an operation that keeps what its tensors are: weights, scores, what a mask was laid on."""
        made = event.outputs[0]
        if len(refs) == 1:
            number = refs[0].number
            if number in self._chances and made.dtype.startswith("float"):
                self._chances[made.number] = self._chances[number]
            if number in self._logs and event.op in _AS_IS:
                self._logs[made.number] = self._logs[number]
            if number in self._joint and event.op in _AS_IS:
                self._joint[made.number] = self._joint[number]
            if number in self._pure and event.op in _AS_IS:
                self._pure.add(made.number)
            if number in self._ones and event.op in _AS_IS:
                self._ones[made.number] = self._ones[number]
        elif event.op == "aten.mul":
            self._check_ones(refs)
        elif event.op == "aten.add" and len({*self._logs} & {ref.number for ref in refs}) == 1:
            log, other = refs if refs[0].number in self._logs else refs[::-1]
            if not is_plain(self._walk, other):
                self._joint[made.number] = self._logs[log.number][0]
        for ref in refs:
            if ref.number in self.scores:
                self.scores.add(made.number)
            if ref.number in self._sums:
                self._sums.add(made.number)
                if event.op == "aten.div" and ref is not refs[0]:
                    return  # weights that are divided by another sum are made to sum to one anew
            if ref.number in self._softmaxes and ref.number not in self._sums:
                axis, place, fault = self._softmaxes[ref.number]
                self._softmaxes[made.number] = axis, move_place(place, event, ref.shape, made.shape), fault
                if ref.number in self.gates:
                    self.gates.add(made.number)
                if place is not None and event.op == "aten.mul" and self._is_of_slots(refs, ref, place):
                    self._slotted.add(made.number)
                if ref.number in self._weighted or self._weighs(event, refs, ref):
                    dims = frozenset(at - len(ref.shape) for at, size in enumerate(ref.shape) if size > 1)
                    self._weighted[made.number] = self._weighted.get(ref.number, dims)
                if self._places(event, refs, ref):
                    self._placed.add(made.number)
            if ref.number in self._marginals and self._places(event, refs, ref):
                mark, at = self._marginals[ref.number]
                self._walk.find("softmax", at, mark, self._walk.axes_of(ref)[-1])

    def _weighs(self, event: OpEvent, refs: Sequence[TensorRef], weights: TensorRef) -> bool:
        """Return whether the weights of a softmax are multiplied, entry by entry, with what has its axis."""
        others = [ref for ref in refs if ref is not weights]
        sizes = weights.shape
        return event.op == "aten.mul" and any(
            len(other.shape) >= len(sizes)
            and all(
                one in (1, two) or (two == 1 and weights.number not in self.gates)
                for one, two in zip(sizes, other.shape[-len(sizes) :], strict=True)
            )
            and not is_plain(self._walk, other)
            for other in others
        )

    def _is_of_slots(self, refs: Sequence[TensorRef], weights: TensorRef, place: int) -> bool:
        """Return whether the weights of slots lie on the slots of another tensor, which a parameter made: centres."""
        others = [self._walk.axes_of(ref) for ref in refs if ref is not weights]
        return any(len(axes) >= -place and axes[place].is_plain and axes[place].size > 1 for axes in others)

    def _places(self, event: OpEvent, refs: Sequence[TensorRef], weights: TensorRef) -> bool:
        """Return whether the weights of a softmax are multiplied with the coordinates of positions."""
        last = self._walk.axes_of(weights)[-1]
        others = [ref for ref in refs if ref is not weights and (ref.number not in self._tables or _is_of_parts(last))]
        is_plain = event.op == "aten.mul" and (is_position(last) or _is_of_parts(last))
        return is_plain and any(
            math.prod(other.shape) == last.size == other.shape[-1] for other in others if other.shape
        )

    def check_product(self, index: int, refs: Sequence[TensorRef]) -> None:
        """The weights of a softmax are summed over the axis along which they sum to one."""
        self._check_ones(refs)
        for turn, ref in enumerate(refs[-2:]):
            if ref.number not in self._softmaxes or ref.number in self._sums:
                continue
            mark, place, fault = self._softmaxes[ref.number]
            axes = self._walk.axes_of(ref)
            if ref.number in self.gates and not is_position(mark):  # features that are chosen
                along = axes[-2 if turn and len(axes) > 1 else -1]
                if is_position(along) and fault is not None and not any(is_plain(self._walk, other) for other in refs):
                    self._walk.find("chosen", fault, mark, along)
                continue
            is_whole = is_position(mark) and all(factor.kind == "feature" and not factor.half for factor in
                axes[-2 if turn and len(axes) > 1 else -1].factors)  # fmt: skip
            if any(is_plain(self._walk, other) for other in refs) and not (is_whole and ref.number in self.gates):
                continue  # what a layer reads: heads that talk to each other
            summed = (-2 if turn else -1) if len(ref.shape) > 1 else -1
            if mark.size < 2 or axes[summed].size < 2 or (mark.is_feature and self._is_choice(refs, ref)):
                continue
            if place is None:
                place = next((-at for at, axis in enumerate(axes[::-1], 1) if axis is mark), None)
            is_other = not set(mark.factors) & set(axes[summed].factors)
            if place == summed:
                self._well_summed.append(mark)
            elif (place is not None or is_other) and not any(mark is axis for axis in self._well_summed):
                self._walk.find("softmax", index if fault is None else fault, mark, axes[summed])

    def _is_choice(self, refs: Sequence[TensorRef], weights: TensorRef) -> bool:
        """Return whether what is weighed has all axes of the weights: no queries, each part chooses a capsule."""
        own, *others = (
            Counter(factor for axis in self._walk.axes_of(ref) for factor in axis.factors)
            for ref in (weights, *(ref for ref in refs if ref is not weights))
        )
        return any(own <= other for other in others)

    def _check_ones(self, refs: Sequence[TensorRef]) -> None:
        """A sum of weights over their own axis is 1: of an einsum whose values lack the letter that is summed."""
        for ref in refs:
            if ref.number in self._ones:
                self._walk.find("ones", *self._ones.pop(ref.number))

    def check_loss(self, ref: TensorRef) -> None:
        """A loss reads logarithms that sum to one along its classes, dim 1."""
        axes = self._walk.axes_of(ref)
        if ref.number in self._logs and len(axes) > 1:
            axis, fault = self._logs[ref.number]
            rest = {factor for other in (axes[0], *axes[2:]) for factor in other.factors}
            if set(axis.factors) & rest and axis is not axes[1] and not axis.has("B"):  # that is told already
                self._walk.find("loss", fault, axis, axes[1])

    def check_best(self, index: int, ref: TensorRef, axis: Axis) -> None:
        """The best is looked for among positions, of chances that sum to one along the classes."""
        classes = self._chances.get(ref.number)
        axes = self._walk.axes_of(ref)
        if classes is not None and classes is not axis and is_position(axis) and any(classes is one for one in axes):
            self._walk.find("best", index, axis, classes)

    def check_attention(self, index: int, keys: Sequence[Axis]) -> None:
        """Attention runs over positions, not over the parts of the features that are called heads."""
        axis = keys[-2]
        if len(axis.factors) == 1 and axis.is_feature and axis.factors[0].half and axis.size > 1:
            self._walk.find("heads", index, axis)

    def check_reduction(
        self, index: int, event: OpEvent, ref: TensorRef, axes: Sequence[Axis], places: Sequence[int]
    ) -> bool:
        """Look at a sum or a mean of weights; ``True`` if they are summed over another axis than theirs."""
        joint = self._joint.get(ref.number)
        if (
            joint is not None
            and event.op in ("aten.sum", "aten.mean")
            and any(axes[place] is joint for place in places)
        ):
            self._walk.find("product", index, joint)
        elif joint is not None:
            self._joint[event.outputs[0].number] = joint
        if ref.number not in self._softmaxes:
            return False
        reduced = [axes[place] for place in places]
        self._sums.add(event.outputs[0].number)
        mark, place, fault = self._softmaxes[ref.number]
        is_own = len(places) == 1 and places[0] % len(axes) - len(axes) == place and mark.size > 1
        if event.op == "aten.sum" and ref.number in self._pure and is_own:
            self._ones[event.outputs[0].number] = index, mark
        if fault is not None and mark.is_feature and all(map(is_position, reduced)):
            self._marginals[event.outputs[0].number] = mark, fault
        is_placed = ref.number in self._placed and {-1, len(axes) - 1} & set(places)
        if mark.is_feature and is_placed and fault is not None and (is_position(axes[-1]) or _is_of_parts(axes[-1])):
            self._walk.find("softmax", fault, mark, axes[-1])
            return True
        beside = [axis for axis in reduced if axis is not mark and axis.size > 1]
        if ref.number in self._placed and mark in reduced and all(map(is_position, [mark, *beside])) and beside:
            self._walk.find("softmax", index, mark, Axis(factor for axis in reduced for factor in axis.factors))
            return True
        is_one = ref.number in self._weighted and mark.is_feature and place is not None and len(reduced) == 1
        back = places[0] % len(axes) - len(axes)
        dims = self._weighted.get(ref.number, frozenset())
        is_beside = place is not None and back != place and len(places) == 1
        is_beside = is_beside and not any(min(back, place or 0) < at < max(back, place or 0) for at in dims)
        is_of_pairs = ref.number not in self.gates and is_position(mark) and is_position(reduced[0])
        is_list = reduced[0].is_plain or (is_position(mark) and reduced[0].is_feature) or is_of_pairs
        if is_beside and back in dims and reduced[0].size > 1 and is_list and (is_position(mark) or mark.is_feature):
            self._walk.find("softmax", index if fault is None else fault, mark, reduced[0])
            return True
        is_one = is_one and ref.number not in self._slotted and not any(factor.half for factor in mark.factors)
        if is_one and is_position(reduced[0]) and places[0] % len(axes) - len(axes) != place:
            self._walk.find("weighed", index, mark, reduced[0])
        return False


def _is_of_parts(axis: Axis) -> bool:
    """Return whether an axis is what is left of features that were split: the atoms of each action."""
    return len(axis.factors) == 1 and axis.is_feature and axis.factors[0].half == "inner"


def _is_of_boxes(axis: Axis, features: Axis) -> bool:
    """Return whether an axis is of positions and of the anchors at each, and the other one of what each anchor has."""
    places, anchors = Axis(axis.factors[:-1]), axis.factors[-1:]
    is_half = bool(anchors) and anchors[0].half == "outer" and features.factors[0].whole is anchors[0].whole
    return is_half and is_position(places)


def is_plain(walk: MeaningWalk, ref: TensorRef) -> bool:
    """Return whether nothing is known of the axes of a tensor."""
    return all(axis.is_plain for axis in walk.axes_of(ref))
