"""What operations do along axes against their meaning: softmaxes, masks, attention, and axes that meet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis, Factor
from modelsummary_ipy.axes.meaning_angles import AngleChecks
from modelsummary_ipy.axes.meaning_batch import BatchChecks
from modelsummary_ipy.axes.meaning_gates import GateChecks
from modelsummary_ipy.axes.meaning_ops import (
    ATTENTION,
    ELEMENTWISE,
    LABEL_LOSSES,
    LOG_SOFTMAXES,
    MOVES,
    NORMS,
    PRODUCTS,
    REDUCTIONS,
    RESIZES,
    SAME_SHAPE,
    SCORES,
    SOFTMAXES,
    is_named_feature,
    is_position,
)
from modelsummary_ipy.axes.meaning_scale import ScaleChecks
from modelsummary_ipy.axes.meaning_walk_protocol import Walk
from modelsummary_ipy.records.op_events import OpEvent, TensorRef


class Checks:
    """What is followed from operation to operation.

    Args:
        tables: Numbers of the tensors that are parameters or buffers.
    """

    def __init__(self, walk: Walk, tables: frozenset[int]) -> None:
        self._walk = walk
        self._tables = tables
        self._scores: set[int] = set()
        #: What a softmax made of anything but scores.
        self._gates: set[int] = set()
        #: Of what a softmax made: its axis, the place of that counted from the last, ``None`` where it is lost, and the
        #: operation that is at fault if another axis is summed: the softmax, ``None`` where it runs along the last dim.
        self._softmaxes: dict[int, tuple[Axis, int | None, int | None]] = {}
        #: What a softmax made, multiplied with what has its axis: the dims of the weights, from the last.
        self._weighted: dict[int, frozenset[int]] = {}
        self._sums: set[int] = set()
        #: The axes of softmaxes whose weights one product summed as it should; another may run over the other axis.
        self._well_summed: list[Axis] = []
        #: What a softmax made, multiplied with coordinates.
        self._placed: set[int] = set()
        #: The axes of a mask in what it was laid on, and the operation that did.
        self._masks: dict[int, tuple[list[Axis], int]] = {}
        #: Where the features were reduced and positions are left: the operation that did.
        self._featureless: dict[int, int] = {}
        #: By what they make, layers that read positions; the positions that a layer's features were laid on.
        self._read: dict[frozenset[str], tuple[int, Axis]] = {}
        self._gated: set[str] = set()
        #: Axes of the same steps several times over, and the operation that put them behind one another.
        self._doubled: dict[Factor, int] = {}
        self._scale = ScaleChecks(walk)
        self._halves = GateChecks(walk)
        self._angles = AngleChecks(walk)
        #: What a softmax over positions made of features: the operation, both axes.
        self._chosen: dict[int, tuple[int, Axis, Axis]] = {}
        #: Numbers of the tensors that an operation has read.
        self._seen: set[int] = set()
        self._shrunk: set[int] = set()
        self._batch = BatchChecks(walk, tables)

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]]) -> None:
        """Look at one operation, whose results have axes already.

        Args:
            refs: The tensors that it reads.
            met: Pairs of axes that had to be equal.
        """
        axes = self._walk.axes_of(refs[0]) if refs else []
        dims = event.args.get("dim", event.args.get("dims"))
        places = [dim for dim in (dims if isinstance(dims, list) else [dims]) if isinstance(dim, int) and axes]
        self._batch.follow(index, event, refs, met, places)
        self._angles.follow(index, event, refs, met)
        if not refs:
            return
        first, made = refs[0], event.outputs[0]
        self._seen |= {ref.number for ref in refs}
        rows = [self._walk.axes_of(ref)[0] for ref in refs[:2] if ref.shape] if event.op in LABEL_LOSSES else []
        self._check_order(index, [*met, (rows[0], rows[1])] if len(rows) == 2 else met)
        self._scale.follow(index, event, refs, places)
        self._halves.follow(index, event, refs)
        if event.op in SOFTMAXES | LOG_SOFTMAXES and places:
            self._check_softmax(index, event, first, axes, places[0])
        elif event.op in SAME_SHAPE | MOVES or (event.op == "aten.slice" and first.shape == made.shape):
            # 2.7 slices a whole dim for every ``:`` of an index.
            self._pass_on(index, event, refs)
        elif event.op == "aten.select" and len(axes) > 2 and axes[places[0]].is_feature and axes[places[0]].size > 3:
            if not axes[places[0]].factors[0].half and any(map(is_position, self._walk.axes_of(made))):
                self._featureless[made.number] = index
        elif event.op in REDUCTIONS and places:
            self._check_reduction(index, event, first, axes, places)
        elif event.op in ATTENTION:
            self._check_attention(index, self._walk.axes_of(refs[1]))
        elif event.op == "aten.cat":
            self._check_doubled(index, event, refs)
        if event.op in RESIZES:
            self._check_resize(index, first, made)
        if event.op in PRODUCTS:
            self._check_product(index, refs)
            self._check_parts(index, refs, met, made)
            if event.op == "aten.convolution" and len(axes) == 3 and refs[1].shape[-1] > 1:
                self._check_norm(index, event, axes)
            self._check_summed_heads(index, event, refs)
            self._check_gram(index, event, made)
            if event.op in SCORES and not any(ref.number in self._gates for ref in refs):
                self._check_aligned(index, refs, event, [pair for pair in met if not any(map(_is_part, pair))])
        elif event.op in NORMS:
            self._check_norm(index, event, axes)
        elif event.op in ELEMENTWISE and not event.op.endswith("_"):
            self._check_aligned(index, refs, event, met)
            if event.op == "aten.add" and len(refs) == 2 and any(ref.number in self._shrunk for ref in refs):
                axes = next(self._walk.axes_of(ref) for ref in refs if ref.number in self._shrunk)
                self._walk.find("shrunk", index, axes[-1])
        is_product = event.op in SCORES and not any(ref.number in self._tables for ref in refs)
        if is_product or (event.op in ELEMENTWISE and self._makes_pairs(refs, made)):
            self._scores.add(made.number)

    def finish(self, outputs: Sequence[TensorRef | None]) -> None:
        """Look at the outputs of the model: of features that were reduced nothing is left, of positions all is."""
        self._scale.finish()
        for roots, (index, data) in self._read.items():
            self._walk.find("gate" if roots & self._gated else "positions", index, data)
        for ref in outputs:
            if ref is not None and ref.number in self._chosen:
                chosen = self._chosen[ref.number]  # two of it are the starts and the ends of answers
                is_end = ref.number not in self._seen and chosen[2].size > 2
                self._walk.find("answers" if is_end else "classes", *chosen)
            if ref is not None and ref.number in self._featureless:
                place = next(axis for axis in self._walk.axes_of(ref) if is_position(axis))
                self._walk.find("vanished", self._featureless[ref.number], place)

    # -- softmax, attention -------------------------------------------------------------------------------------------

    def _check_softmax(self, index: int, event: OpEvent, first: TensorRef, axes: Sequence[Axis], place: int) -> None:
        axis = axes[place]
        is_score = first.number in self._scores
        if axis.size == 1 and not is_score and len(axes) > 1:
            self._walk.find("single", index, axis)
        features = axes[1 if len(axes) == 4 and not axes[-1].is_feature else -1]
        if is_position(axis) and features is not axis and features.is_feature and not features.factors[0].half:
            self._chosen[event.outputs[0].number] = index, axis, features
        if event.op in LOG_SOFTMAXES:
            if event.outputs[0].number in self._chosen:
                self._walk.find("classes", index, axis, features)
            return
        self._check_mask(axis, first)
        # Which features win, slots or experts or heads of a gate, is a choice; which positions do is what is summed.
        if not axis.has("B") and (is_score or is_position(axis) or axis.is_feature):
            back = place % len(axes) - len(axes)
            self._softmaxes[event.outputs[0].number] = axis, back, None if back == -1 else index
            if not is_score or (axis.is_feature and not axis.factors[0].half):
                self._gates.add(event.outputs[0].number)

    def _makes_pairs(self, refs: Sequence[TensorRef], made: TensorRef) -> bool:
        """Return whether two tensors are laid across each other: every position with every one."""
        if len(refs) < 2:
            return False
        lasts = [self._walk.axes_of(ref)[-2:] for ref in refs[:2]]
        if any(len(axes) < 2 for axes in lasts):
            return False
        (one, two), (three, four) = lasts
        across = (one.size == 1 and four.size == 1) or (two.size == 1 and three.size == 1)
        return across and all(map(is_position, self._walk.axes_of(made)[-2:]))

    def _pass_on(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        made = event.outputs[0]
        for ref in refs:
            if ref.number in self._scores:
                self._scores.add(made.number)
            if ref.number in self._sums:
                self._sums.add(made.number)
                if event.op == "aten.div" and ref is not refs[0]:
                    return  # weights that are divided by another sum are made to sum to one anew
            if ref.number in self._softmaxes and ref.number not in self._sums:
                axis, place, fault = self._softmaxes[ref.number]
                self._softmaxes[made.number] = axis, _move(place, event, ref.shape, made.shape), fault
                if ref.number in self._gates:
                    self._gates.add(made.number)
                if ref.number in self._weighted or self._weighs(event, refs, ref):
                    dims = frozenset(at - len(ref.shape) for at, size in enumerate(ref.shape) if size > 1)
                    self._weighted[made.number] = self._weighted.get(ref.number, dims)
                if self._places(event, refs, ref):
                    self._placed.add(made.number)
            if ref.number in self._featureless and len(refs) == 1:
                self._featureless[made.number] = self._featureless[ref.number]
            if ref.number in self._masks and ref.shape == made.shape:
                self._masks[made.number] = self._masks[ref.number]
        value = event.args.get("value")
        if event.op == "aten.masked_fill" and isinstance(value, (int, float)) and value < -1e3 and len(refs) > 1:
            self._masks[made.number] = self._walk.axes_of(refs[1]), index

    def _check_mask(self, axis: Axis, ref: TensorRef) -> None:
        """A mask that is the same at all places of the axis hides all of them or none."""
        if ref.number not in self._masks or axis.size < 2:
            return
        mask, at = self._masks[ref.number]
        place = next((dim - len(ref.shape) for dim, other in enumerate(self._walk.axes_of(ref)) if other is axis), None)
        is_constant = place is not None and (len(mask) < -place or mask[place].size == 1)
        if is_constant and any(other.size > 1 for other in mask[-2:]):
            self._walk.find("mask", at, axis)

    def _weighs(self, event: OpEvent, refs: Sequence[TensorRef], weights: TensorRef) -> bool:
        """Return whether the weights of a softmax are multiplied, entry by entry, with what has its axis."""
        others = [ref for ref in refs if ref is not weights]
        sizes = weights.shape
        return event.op == "aten.mul" and any(
            len(other.shape) >= len(sizes)
            and all(one in (1, two) for one, two in zip(sizes, other.shape[-len(sizes) :], strict=True))
            and not self._is_plain(other)
            for other in others
        )

    def _places(self, event: OpEvent, refs: Sequence[TensorRef], weights: TensorRef) -> bool:
        """Return whether the weights of a softmax are multiplied with the coordinates of positions."""
        last = self._walk.axes_of(weights)[-1]
        others = [ref for ref in refs if ref is not weights and ref.number not in self._tables]
        is_plain = event.op == "aten.mul" and is_position(last)
        return is_plain and any(
            math.prod(other.shape) == last.size == other.shape[-1] for other in others if other.shape
        )

    def _is_plain(self, ref: TensorRef) -> bool:
        return all(axis.is_plain for axis in self._walk.axes_of(ref))

    def _check_product(self, index: int, refs: Sequence[TensorRef]) -> None:
        """The weights of a softmax are summed over the axis along which they sum to one."""
        for turn, ref in enumerate(refs[-2:]):
            if ref.number not in self._softmaxes or ref.number in self._sums:
                continue
            mark, place, fault = self._softmaxes[ref.number]
            if ref.number in self._gates and not is_position(mark):
                continue  # features that are chosen
            axes = self._walk.axes_of(ref)
            is_whole = is_position(mark) and all(factor.kind == "feature" and not factor.half for factor in
                axes[-2 if turn and len(axes) > 1 else -1].factors)  # fmt: skip
            if any(self._is_plain(other) for other in refs) and not (is_whole and ref.number in self._gates):
                continue  # what a layer reads: heads that talk to each other
            summed = (-2 if turn else -1) if len(ref.shape) > 1 else -1
            if mark.size < 2 or axes[summed].size < 2:
                continue
            if place is None:
                place = next((-at for at, axis in enumerate(axes[::-1], 1) if axis is mark), None)
            is_other = not set(mark.factors) & set(axes[summed].factors)
            if place == summed:
                self._well_summed.append(mark)
            elif (place is not None or is_other) and not any(mark is axis for axis in self._well_summed):
                self._walk.find("softmax", index if fault is None else fault, mark, axes[summed])

    def _check_attention(self, index: int, keys: Sequence[Axis]) -> None:
        """Attention runs over positions, not over the parts of the features that are called heads."""
        axis = keys[-2]
        if len(axis.factors) == 1 and axis.is_feature and axis.factors[0].half and axis.size > 1:
            self._walk.find("heads", index, axis)

    def _check_reduction(
        self, index: int, event: OpEvent, ref: TensorRef, axes: Sequence[Axis], places: Sequence[int]
    ) -> None:
        made = event.outputs[0]
        reduced = [axes[place] for place in places]
        rest = self._walk.axes_of(made)
        if ref.number in self._softmaxes:
            self._sums.add(made.number)
            mark, place, fault = self._softmaxes[ref.number]
            is_placed = ref.number in self._placed and {-1, len(axes) - 1} & set(places)
            if mark.is_feature and is_placed and is_position(axes[-1]) and fault is not None:
                self._walk.find("softmax", fault, mark, axes[-1])
                return
            beside = [axis for axis in reduced if axis is not mark and axis.size > 1]
            if ref.number in self._placed and mark in reduced and all(map(is_position, [mark, *beside])) and beside:
                self._walk.find("softmax", index, mark, Axis(factor for axis in reduced for factor in axis.factors))
                return
            is_one = ref.number in self._weighted and mark.is_feature and place is not None and len(reduced) == 1
            back = places[0] % len(axes) - len(axes)
            is_beside = (
                ref.number in self._weighted and place is not None and abs(back - place) == 1 and len(places) == 1
            )
            is_list = reduced[0].is_plain or (is_position(mark) and reduced[0].is_feature)
            if (
                is_beside
                and back in self._weighted[ref.number]
                and reduced[0].size > 1
                and is_list
                and (is_position(mark) or mark.is_feature)
            ):
                self._walk.find("softmax", index if fault is None else fault, mark, reduced[0])
                return
            if is_one and is_position(reduced[0]) and places[0] % len(axes) - len(axes) != place:
                self._walk.find("weighed", index, mark, reduced[0])
        if any(map(is_named_feature, reduced)) and any(map(is_position, rest)):
            self._featureless.update((out.number, index) for out in event.outputs)

        for axis in reduced:
            if len(axis.factors) == 1 and axis.factors[0] in self._doubled:
                self._walk.find("doubled", self._doubled[axis.factors[0]], rest[-1])

    def _check_doubled(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """What several layers made of the same steps, one behind the other along the steps."""
        parts = [self._walk.axes_of(ref) for ref in refs]
        dim, made = event.args.get("dim", 0), self._walk.axes_of(event.outputs[0])[event.args.get("dim", 0)]
        rank = len(parts[0])
        if len(parts) < 2 or len(made.factors) != 1 or rank not in (3, 4) or any(len(axes) != rank for axes in parts):
            return
        places = [axes[dim] for axes in parts]
        features = [axes[-1 if rank == 3 else 1] for axes in parts]
        makers = {axis.roots for axis in features if axis.is_feature}
        is_same = is_position(places[0]) and all(place.factors == places[0].factors for place in places)
        if is_same and len(makers) == len(parts):
            if rank == 3:
                self._doubled[made.factors[0]] = index
            else:
                self._walk.find("stacked", index, places[0], features[0])

    # -- feature maps -------------------------------------------------------------------------------------------------

    def _check_resize(self, index: int, ref: TensorRef, made: TensorRef) -> None:
        """A resize to the size that is there, or to a smaller one."""
        before, after = ref.shape[2:], made.shape[2:]
        asked = [self._walk.by_size.get(size) for size in after]
        if len(after) == 2 and asked[0] is not None and asked[1] is not None and before != after:
            axes = self._walk.axes_of(ref)
            if asked[0].roots & axes[3].roots and asked[1].roots & axes[2].roots and not asked[0].roots & axes[2].roots:
                self._walk.find("turned", index, asked[0], asked[1])
        if before == after:
            self._walk.find("idle", index, self._walk.axes_of(ref)[-1])
        elif all(new < old for old, new in zip(before, after, strict=True)):
            self._shrunk.add(made.number)

    # -- axes that meet -----------------------------------------------------------------------------------------------

    def _check_parts(
        self, index: int, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]], made: TensorRef
    ) -> None:
        """A layer reads positions whose features were reduced: unless it makes a gate of them."""
        fault = next((self._featureless[ref.number] for ref in refs if ref.number in self._featureless), None)
        if fault is None:
            return
        for one, other in met:
            data = other if one.is_plain else one
            if one.is_plain != other.is_plain and is_position(data) and data.size > 1:
                self._read[self._walk.axes_of(made)[-1].roots] = fault, data

    def _check_norm(self, index: int, event: OpEvent, axes: Sequence[Axis]) -> None:
        """A layer that reads dim 1, a LayerNorm the last dim, of a sequence whose features stand in the other one."""
        if len(axes) != 3 or len(event.args.get("normalized_shape", [0])) != 1:
            return
        read, other = (axes[2], axes[1]) if "normalized_shape" in event.args else (axes[1], axes[2])
        if is_position(read) and other.is_feature:
            self._walk.find("normed", index, read, other)

    def _check_gram(self, index: int, event: OpEvent, made: TensorRef) -> None:
        """Features of every sample against those of all samples: ``view(b * c, h * w)`` times its transpose."""
        if event.op not in SCORES or len(made.shape) != 2:
            return
        rows, columns = self._walk.axes_of(made)
        if rows.factors == columns.factors and len(rows.factors) == 2:
            batch, features = rows.factors
            if batch.roots == {"B"} and features.kind == "feature":
                self._walk.find("gram", index, rows)

    def _check_summed_heads(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """A product of two tensors sums over the heads that their features were split into, with all else."""
        if event.op not in SCORES or any(self._is_plain(ref) for ref in refs):
            return
        factors = [factor for factor in self._walk.axes_of(refs[-2])[-1].factors if factor.size > 1]
        heads = next((factor for factor in factors if factor.kind == "feature" and factor.half == "outer"), None)
        if heads is None or len(factors) < 2:
            return
        rest = [factor for factor in factors if factor is not heads]
        if any(factor.whole is heads.whole and factor.half for factor in rest):
            self._walk.find("summed", index, Axis([heads]))

    def _check_aligned(
        self, index: int, refs: Sequence[TensorRef], event: OpEvent, met: Sequence[tuple[Axis, Axis]]
    ) -> None:
        made = self._walk.axes_of(event.outputs[0])
        if len(refs) > 1 and all(ref.number in self._scores for ref in refs):
            return  # of queries with keys, and with a table of positions
        for one, other in met:
            if one.size < 2 or "mixed" in {factor.kind for axis in (one, other) for factor in axis.factors}:
                continue
            if not one.is_plain and not other.is_plain and not one.roots & other.roots:
                feature, data = (one, other) if one.is_feature else (other, one)
                is_whole = not any(factor.half for factor in data.factors)  # of windows and chunks nothing is known
                is_whole = is_whole and (event.op in SCORES or not any(self._is_raw(ref, data) for ref in refs))
                if feature.is_feature and not data.is_feature and is_whole and (is_position(data) or data.has("B")):
                    self._walk.find("aligned", index, feature, data)
            elif one.is_feature != other.is_feature and one.roots & other.roots:
                self._gated |= (one if one.is_feature else other).roots - (other if one.is_feature else one).roots
            elif one.is_plain != other.is_plain and is_position(data := other if one.is_plain else one):
                is_channel = len(made) > 2 and made[1].is_feature and made[1].size == data.size
                if is_channel and made[1] is not data and any(self._is_vector(ref, data.size) for ref in refs):
                    self._walk.find("channels", index, data, made[1])

    def _is_raw(self, ref: TensorRef, axis: Axis) -> bool:
        """Return whether an axis is dim 1 of an input of three dims: steps, or channels of a signal."""
        axes = self._walk.axes_of(ref)
        return len(axes) == 3 and axes[1] is axis and not any(other.is_feature for other in axes)

    def _check_order(self, index: int, met: Sequence[tuple[Axis, Axis]]) -> None:
        """Rows that were flattened of the same axes in another order: the steps of a sample lie on other samples'."""
        for one, other in met:
            orders = [[factor for factor in axis.factors if factor.size > 1] for axis in (one, other)]
            is_turned = len(orders[0]) > 1 and orders[0] != orders[1] and set(orders[0]) == set(orders[1])
            places = {_place_of_batch(axis) for axis in (one, other)}
            if is_turned or places == {0, -1}:
                self._walk.find("reordered", index, one, other)

    def _is_vector(self, ref: TensorRef, size: int) -> bool:
        return ref.number in self._tables and [length for length in ref.shape if length > 1] == [size]


def _is_part(axis: Axis) -> bool:
    """Return whether nothing is known of an axis, or it is only a part of one."""
    return axis.is_plain or any(factor.half or factor.kind == "mixed" for factor in axis.factors)


def _place_of_batch(axis: Axis) -> int | None:
    """Return 0 where the rows of a sample stand behind one another (``repeat_interleave``), -1 where the samples do."""
    first, last = axis.factors[:1], axis.factors[-1:]
    if len(axis.factors) < 2 or sum("B" in factor.roots for factor in axis.factors) != 1:
        return None
    return 0 if first[0].roots == {"B"} else -1 if last[0].roots == {"B"} else None


def _move(place: int | None, event: OpEvent, before: Sequence[int], after: Sequence[int]) -> int | None:
    """Follow a place, counted from the last, through an operation."""
    if place is None or event.op in SAME_SHAPE:
        return place if len(before) <= len(after) else None
    rank, at = len(before), place + len(before)
    if event.op in ("aten.transpose", "aten.t"):
        one, two = (int(event.args.get(name, other)) % rank for name, other in (("dim0", 0), ("dim1", 1)))
        return {one: two, two: one}.get(at, at) - rank
    if event.op == "aten.permute":
        order = [int(dim) % rank for dim in event.args["dims"]]
        return order.index(at) - rank
    if event.op == "aten.unsqueeze":
        return place - 1 if event.args["dim"] % (rank + 1) > at else place
    if before[place:] == after[place:] and len(after) >= -place:
        return place
    sizes = [[dim for dim, size in enumerate(shape) if size > 1] for shape in (before, after)]
    if at in sizes[0] and [before[dim] for dim in sizes[0]] == [after[dim] for dim in sizes[1]]:
        return sizes[1][sizes[0].index(at)] - len(after)  # only dims of 1 came and went
    return None
