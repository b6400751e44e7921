"""What operations do along axes against their meaning: features that are lost, norms, and axes that meet."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis, Factor, is_position
from modelsummary_ipy.axes.meaning_op import PRODUCTS
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.angles import AngleChecks
from modelsummary_ipy.diagnosis.axis_checks.batch import BatchChecks
from modelsummary_ipy.diagnosis.axis_checks.cancelled import CancelledChecks
from modelsummary_ipy.diagnosis.axis_checks.coordinates import CoordinateChecks
from modelsummary_ipy.diagnosis.axis_checks.gates import GateChecks
from modelsummary_ipy.diagnosis.axis_checks.operations import (
    ALL_SOFTMAXES,
    ATTENTION,
    ELEMENTWISE,
    LABEL_LOSSES,
    MOVES,
    NORMS,
    REDUCTIONS,
    RESIZES,
    SAME_SHAPE,
    SCORES,
    is_named_feature,
)
from modelsummary_ipy.diagnosis.axis_checks.pooled import PooledChecks
from modelsummary_ipy.diagnosis.axis_checks.rows import RowChecks
from modelsummary_ipy.diagnosis.axis_checks.samples_as_steps import StepChecks
from modelsummary_ipy.diagnosis.axis_checks.scale import ScaleChecks
from modelsummary_ipy.diagnosis.axis_checks.shifts import ShiftChecks
from modelsummary_ipy.diagnosis.axis_checks.softmax import SoftmaxChecks, is_plain
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_KEEPS = SAME_SHAPE | MOVES


class Checks:
    """What is followed from operation to operation.

    Args:
        tables: Numbers of the tensors that are parameters or buffers.
    """

    def __init__(self, walk: MeaningWalk, tables: frozenset[int]) -> None:
        self._walk = walk
        self._tables = tables
        self._softmax = SoftmaxChecks(walk, tables)
        #: Where the features were reduced and positions are left: the operation that did.
        self._featureless: dict[int, int] = {}
        #: By what they make, layers that read positions; the positions that a layer's features were laid on.
        self._read: dict[frozenset[str], tuple[int, Axis]] = {}
        self._gated: set[str] = set()
        #: Features of the input to which a layer's were added.
        self._features: set[Factor] = set()
        #: Dims of the input that a layer reads as features, and features that were laid on dims: by which operation.
        self._contracted: set[Factor] = set()
        self._aligned: list[tuple[int, Axis, Axis]] = []
        #: Axes of the same steps several times over, and the operation that put them behind one another.
        self._doubled: dict[Factor, int] = {}
        self._scale = ScaleChecks(walk)
        self._halves = GateChecks(walk)
        self._angles = AngleChecks(walk, tables)
        self._rows = RowChecks(walk, tables)
        #: Products of two tensors of features, entry by entry: their sum is a score of each position.
        self._paired: set[int] = set()
        #: Numbers of the tensors that an operation has read.
        self._seen: set[int] = set()
        self._shrunk: set[int] = set()
        #: Maps that a resize made larger, and what was made of them; the first, and its heights; what became smaller.
        self._grown: set[int] = set()
        self._first_grown = 0, 0, 0
        self._back: set[int] = set()
        #: What a dropout keeps, and what that is scaled to.
        self._kept: set[int] = set()
        self._steps = StepChecks(walk)
        self._batch = BatchChecks(walk, tables, self._steps)
        self._pooled = PooledChecks(walk, tables)
        self._shifts = ShiftChecks(walk)
        self._coordinates = CoordinateChecks(walk)
        self._cancelled = CancelledChecks(walk)

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]]) -> None:
        """Look at one operation, whose results have axes already.

        Args:
            refs: The tensors that it reads.
            met: Pairs of axes that had to be equal.
        """
        axes = self._walk.axes_of(refs[0]) if refs else []
        dims = event.args.get("dim", event.args.get("dims"))
        places = [dim for dim in (dims if isinstance(dims, list) else [dims]) if isinstance(dim, int) and axes]
        self._steps.follow(index, event, refs)
        self._batch.follow(index, event, refs, met, places)
        self._pooled.follow(index, event, refs, places)
        self._shifts.follow(index, event, refs, met)
        self._coordinates.follow(index, event, refs)
        self._angles.follow(index, event, refs, met)
        if not refs:
            return
        refs = self._without_factors(event, refs)
        axes = self._walk.axes_of(refs[0])
        first, made = refs[0], event.outputs[0]
        self._seen |= {ref.number for ref in refs}
        rows = [self._walk.axes_of(ref)[0] for ref in refs[:2] if ref.shape] if event.op in LABEL_LOSSES else []
        self._check_order(index, met)
        self._cancelled.follow(index, event, refs, places)
        if event.op in LABEL_LOSSES:
            self._softmax.check_loss(first)
        if len(rows) == 2 and _has_classes(rows[0]) and not any(factor.kind == "feature" for factor in rows[1].factors):
            self._walk.find("reordered", index, *rows)
        self._scale.follow(index, event, refs, places)
        self._halves.follow(index, event, refs)
        self._rows.follow(index, event, refs, met, places)
        if event.op in ALL_SOFTMAXES and places:
            self._softmax.check(index, event, first, axes, places[0])
        elif event.op in _KEEPS or (event.op == "aten.slice" and first.shape == made.shape):
            # 2.7 slices a whole dim for every ``:`` of an index.
            self._softmax.pass_on(index, event, refs)
            if first.number in self._featureless and len(refs) == 1:
                self._featureless[made.number] = self._featureless[first.number]
        elif event.op == "aten.select" and len(axes) > 2 and axes[places[0]].is_feature and axes[places[0]].size > 3:
            if not axes[places[0]].factors[0].half and any(map(is_position, self._walk.axes_of(made))):
                self._featureless[made.number] = index
        elif event.op in REDUCTIONS and places:
            if not self._softmax.check_reduction(index, event, first, axes, places):
                self._check_reduction(index, event, first, [axes[place] for place in places])
        elif event.op == "aten.argmax" and places:
            self._softmax.check_best(index, first, axes[places[0]])
        elif event.op in ATTENTION:
            self._softmax.check_attention(index, self._walk.axes_of(refs[1]))
        elif event.op == "aten.cat":
            self._check_doubled(index, event, refs)
            if all(ref.number in self._featureless for ref in refs):
                self._featureless[made.number] = self._featureless[first.number]
        if event.op in RESIZES:
            self._check_resize(index, first, made)
        elif self._grown and any(ref.number in self._grown and ref.shape[2:] == made.shape[2:] for ref in refs):
            self._grown.add(made.number)
        self._note_contracted(event, axes, met)
        if event.op in PRODUCTS:
            self._softmax.check_product(index, refs)
            self._check_parts(index, refs, met, made)
            kernel = refs[1].shape[2:] if event.op == "aten.convolution" else ()
            if kernel and min(kernel) > 1 and max(kernel) == min(kernel):
                self._check_norm(index, event, axes)
            self._check_summed_heads(index, event, refs)
            self._check_gram(index, event, made)
            if event.op in SCORES and not any(ref.number in self._softmax.gates for ref in refs):
                self._check_aligned(index, refs, event, [pair for pair in met if not any(map(_is_part, pair))])
        elif event.op in NORMS:
            self._check_norm(index, event, axes)
        elif event.op in ELEMENTWISE and not event.op.endswith("_"):
            self._check_aligned(index, refs, event, met)
            if event.op == "aten.add" and len(refs) == 2 and any(ref.number in self._shrunk for ref in refs):
                axes = next(self._walk.axes_of(ref) for ref in refs if ref.number in self._shrunk)
                back = [ref.number in self._back for ref in refs]
                skip = refs[back.index(False)] if back.count(True) == 1 else None
                grown, low, high = self._first_grown  # what was made before, of a size that the first step up left out
                is_left = skip is not None and skip.number < grown and low < made.shape[2] < high
                self._walk.find("descended" if is_left else "shrunk", index, axes[-1])
        is_pair = event.op == "aten.mul" and len(refs) == 2 and refs[0].number != refs[1].number
        if is_pair and refs[0].shape == refs[1].shape and not any(is_plain(self._walk, ref) for ref in refs):
            self._paired.add(made.number)
        is_product = event.op in SCORES and not any(ref.number in self._tables for ref in refs)
        if is_product or (event.op in ELEMENTWISE and self._softmax.makes_pairs(refs, made)):
            self._softmax.scores.add(made.number)

    def _without_factors(self, event: OpEvent, refs: Sequence[TensorRef]) -> Sequence[TensorRef]:
        """Leave out what a product is only scaled by, a learned number, and what a dropout keeps."""
        if event.op == "aten.bernoulli_" or (event.op == "aten.div_" and refs[0].number in self._kept):
            self._kept.add(event.outputs[0].number)
        if event.op != "aten.mul" or len(refs) != 2:
            return refs
        return [ref for ref in refs if ref.shape and ref.number not in self._kept] or refs

    def _note_contracted(self, event: OpEvent, axes: Sequence[Axis], met: Sequence[tuple[Axis, Axis]]) -> None:
        """Note dims of the input that a layer's weights sum over: they are features, whatever they are called."""
        read = axes[-1:] if event.op == "aten.mkldnn_rnn_layer" else []
        if event.op in PRODUCTS:
            read = [axis for one, other in met if one.is_plain != other.is_plain for axis in (one, other)]
        ones = [axis.factors[0] for axis in read if len(axis.factors) == 1]
        self._contracted |= {factor for factor in ones if factor.kind == "input"}

    def finish(self, outputs: Sequence[TensorRef | None]) -> None:
        """Look at the outputs of the model: of features that were reduced nothing is left, of positions all is."""
        self._batch.finish()
        self._cancelled.finish({ref.number for ref in outputs if ref is not None})
        for index, feature, data in self._aligned:
            if not self._contracted & set(data.factors):
                self._walk.find("aligned", index, feature, data)
        for roots, (index, data) in self._read.items():
            self._walk.find("gate" if roots & self._gated else "positions", index, data)
        for ref in outputs:
            if ref is not None:
                self._softmax.finish(ref, is_read=ref.number in self._seen)
            if ref is not None and ref.number in self._featureless:
                for place in filter(is_position, self._walk.axes_of(ref)):
                    self._walk.find("vanished", self._featureless[ref.number], place)
                    break

    def _check_reduction(self, index: int, event: OpEvent, ref: TensorRef, reduced: Sequence[Axis]) -> None:
        rest = self._walk.axes_of(event.outputs[0])
        if any(map(is_named_feature, reduced)) and any(map(is_position, rest)) and ref.number not in self._paired:
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
            if ref.number in self._grown:
                self._back.add(made.number)
        elif all(new > old for old, new in zip(before, after, strict=True)):
            if not self._grown:
                self._first_grown = made.number, before[0], after[0]
            self._grown.add(made.number)

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
        """A layer that reads dim 1, a LayerNorm the last dim, of a sequence whose features stand in the other one.

        A convolution that reads the height of a map whose channels are last.
        """
        is_map = event.op == "aten.convolution" and len(axes) == 4
        if (len(axes) != 3 and not is_map) or len(event.args.get("normalized_shape", [0])) != 1:
            return
        read, other = (axes[-1], axes[1]) if "normalized_shape" in event.args else (axes[1], axes[-1])
        if is_position(read) and (other.is_feature or set(other.factors) & self._features):
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
        if event.op not in SCORES or any(is_plain(self._walk, ref) for ref in refs):
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
        if len(refs) > 1 and all(ref.number in self._softmax.scores for ref in refs):
            return  # of queries with keys, and with a table of positions
        for one, other in met:
            if one.is_feature != other.is_feature and all(map(is_named_feature, (one, other))):
                self._features.update((other if one.is_feature else one).factors)
            if one.size < 2 or "mixed" in {factor.kind for axis in (one, other) for factor in axis.factors}:
                continue
            if not one.is_plain and not other.is_plain and not one.roots & other.roots:
                feature, data = (one, other) if one.is_feature else (other, one)
                is_whole = not any(factor.half for factor in data.factors)  # of windows and chunks nothing is known
                is_whole = is_whole and (event.op in SCORES or not any(self._is_raw(ref, data) for ref in refs))
                if feature.is_feature and not data.is_feature and is_whole and (is_position(data) or data.has("B")):
                    self._aligned.append((index, feature, data))
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
            if len(one.factors) < 2:
                continue
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


def _has_classes(rows: Axis) -> bool:
    """Return whether rows of predictions are of features and a part of the steps: the rest is where classes should."""
    parts = [factor for factor in rows.factors if factor.size > 1]
    return any(factor.kind == "feature" for factor in parts) and any(factor.whole is not None for factor in parts)


def _place_of_batch(axis: Axis) -> int | None:
    """Return 0 where the rows of a sample stand behind one another (``repeat_interleave``), -1 where the samples do."""
    first, last = axis.factors[:1], axis.factors[-1:]
    if len(axis.factors) < 2 or sum("B" in factor.roots for factor in axis.factors) != 1:
        return None
    return 0 if first[0].roots == {"B"} else -1 if last[0].roots == {"B"} else None
