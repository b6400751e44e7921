"""What operations do along axes against their meaning: softmaxes, masks, attention, tables, and what mixes samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.records.op_events import AxisFindingKind, OpEvent, TensorRef

__all__ = ["PRODUCTS", "Checks", "list_refs"]


def _names(*names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names)


#: Operations in which an axis that two tensors share disappears.
PRODUCTS = _names("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "linear", "convolution", "dot")
_REDUCTIONS = _names("mean", "sum", "var", "std", "amax", "amin", "linalg_vector_norm", "var_mean", "max", "min")
_PICKS = _names("argmax", "argmin", "gather", "index", "index_select", "topk")
_NORMS = _names("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm")
_RANDOM = _names("randn", "rand", "normal", "bernoulli")
_ELEMENTWISE = _names("add", "sub", "mul", "div", "where", "masked_fill", "maximum", "minimum")
_SCORES = _names("mm", "bmm", "baddbmm")
_ATTENTION = _names("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu")
_SOFTMAXES = _names("_softmax", "_safe_softmax", "softmax")
_ALONG = _names(
    "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "sort", "flip", "roll", "_fft_c2c", "_fft_r2c", "_fft_c2r"
)
#: After which scores are still scores, and a softmax is still one over the same axis.
_SAME_SHAPE = _names(
    "mul", "div", "add", "sub", "_to_copy", "clone", "detach", "alias", "native_dropout", "masked_fill", "where",
    "nan_to_num", "expand", "lift_fresh",
)  # fmt: skip
_MOVES = _names("transpose", "permute", "unsqueeze", "view", "_unsafe_view", "t", "squeeze")


class Walk(Protocol):
    """What the checks need of the walk."""

    by_size: dict[int, Axis]

    def axes_of(self, ref: TensorRef) -> list[Axis]:
        """Return the axes of a tensor."""

    def find(self, kind: AxisFindingKind, index: int, *axes: Axis) -> None:
        """Note what an operation does."""


class Checks:
    """What is followed from operation to operation.

    Args:
        walk: The walk.
        tables: Numbers of the tensors that are parameters or buffers.
    """

    def __init__(self, walk: Walk, tables: frozenset[int]) -> None:
        self._walk = walk
        self._tables = tables
        self._scores: set[int] = set()
        #: Of what a softmax made: its axis, and the place of that counted from the last, ``None`` where it is lost.
        self._softmaxes: dict[int, tuple[Axis, int | None]] = {}
        self._sums: set[int] = set()
        self._masks: dict[int, list[Axis]] = {}
        self._noise: set[int] = set()
        self._of_tables: set[int] = set(tables)
        self._featureless: set[int] = set()

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]]) -> None:
        """Look at one operation, whose results have axes already.

        Args:
            index: Its place.
            event: The operation.
            refs: The tensors that it reads.
            met: Pairs of axes that had to be equal.
        """
        if event.op in _RANDOM and not any(axis.has("B") for axis in self._walk.axes_of(event.outputs[0])):
            self._noise.add(event.outputs[0].number)
        if not refs:
            return
        contracted = [axis for pair in met for axis in pair if not axis.is_plain]
        first, made = refs[0], event.outputs[0].number
        axes = self._walk.axes_of(first)
        dims = event.args.get("dim", event.args.get("dims"))
        places = [dim for dim in (dims if isinstance(dims, list) else [dims]) if isinstance(dim, int) and axes]
        if event.op in _SOFTMAXES and places:
            if first.number in self._scores and not axes[places[0]].has("B"):  # which is another rule's
                self._softmaxes[made] = axes[places[0]], places[0] % len(axes) - len(axes)
            self._check_mask(index, axes[places[0]], first)
            if axes[places[0]].size == 1 and first.number not in self._scores and len(axes) > 1:
                self._walk.find("single", index, axes[places[0]])
        elif event.op in _SAME_SHAPE | _MOVES:
            self._pass_on(event, refs)
        elif event.op in _REDUCTIONS and places:
            self._check_reduction(index, event, first, axes, places)
        elif event.op in _ALONG:
            for place in places:
                if axes[place].has("B"):
                    self._walk.find("along", index, axes[place])
        elif event.op in _ATTENTION:
            self._check_attention(index, self._walk.axes_of(refs[1]))
        elif event.op == "aten.slice" and first.number in self._tables and first.shape != event.outputs[0].shape:
            end = self._walk.by_size.get(event.outputs[0].shape[event.args.get("dim", 0)])
            if end is not None and end.has("B"):
                self._walk.find("table", index, end)
        if event.op in PRODUCTS:
            self._check_product(index, refs, contracted)
            self._check_parts(index, refs, event, met)
        elif event.op in _NORMS:
            self._check_norm(index, axes)
        elif event.op in _PICKS:
            self._check_pick(index, event, axes, places)
        elif event.op == "aten.cat":
            self._check_joined(index, event, refs)
        elif event.op in _ELEMENTWISE and not event.op.endswith("_"):
            self._check_aligned(index, refs, event, met)
        if event.op in _SCORES and not any(ref.number in self._tables for ref in refs):
            self._scores.add(made)

    def _pass_on(self, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        made = event.outputs[0]
        if len(refs) == 1 and refs[0].number in self._of_tables:
            self._of_tables.add(made.number)
        for ref in refs:
            if ref.number in self._scores:
                self._scores.add(made.number)
            if ref.number in self._sums:
                self._sums.add(made.number)
                if event.op == "aten.div" and ref is not refs[0]:
                    return  # weights that are divided by another sum are made to sum to one anew
            if ref.number in self._softmaxes and ref.number not in self._sums:
                axis, place = self._softmaxes[ref.number]
                self._softmaxes[made.number] = axis, _move(place, event, ref.shape, made.shape)
            if ref.number in self._masks and ref.shape == made.shape:
                self._masks[made.number] = self._masks[ref.number]
        value = event.args.get("value")
        if event.op == "aten.masked_fill" and isinstance(value, (int, float)) and value < -1e3 and len(refs) > 1:
            self._masks[made.number] = self._walk.axes_of(refs[1])

    def _check_mask(self, index: int, axis: Axis, ref: TensorRef) -> None:
        """A mask that is the same at all places of the axis hides all of them or none."""
        mask = self._masks.get(ref.number)
        if mask is None or axis.size < 2:
            return
        place = next((dim - len(ref.shape) for dim, other in enumerate(self._walk.axes_of(ref)) if other is axis), None)
        is_constant = place is not None and (len(mask) < -place or mask[place].size == 1)
        if is_constant and any(other.size > 1 for other in mask[-2:]):
            self._walk.find("mask", index, axis)

    def _check_product(self, index: int, refs: Sequence[TensorRef], contracted: Sequence[Axis]) -> None:
        """The weights of a softmax are summed over the axis along which they sum to one."""
        for turn, ref in enumerate(refs[-2:]):
            if ref.number not in self._softmaxes or ref.number in self._sums:
                continue
            mark, place = self._softmaxes[ref.number]
            axes = self._walk.axes_of(ref)
            summed = (-2 if turn else -1) if len(ref.shape) > 1 else -1
            if mark.size < 2 or axes[summed].size < 2:
                continue
            if (place is not None and place != summed) or (
                place is None and not set(mark.factors) & {factor for axis in contracted for factor in axis.factors}
            ):
                self._walk.find("softmax", index, mark, axes[summed])

    def _check_attention(self, index: int, keys: Sequence[Axis]) -> None:
        """Attention runs over positions, not over the parts of the features that are called heads."""
        axis = keys[-2]
        if len(axis.factors) == 1 and axis.is_feature and axis.factors[0].half and axis.size > 1:
            self._walk.find("heads", index, axis)

    # -- the batch ----------------------------------------------------------------------------------------------------

    def _check_reduction(
        self, index: int, event: OpEvent, ref: TensorRef, axes: Sequence[Axis], places: Sequence[int]
    ) -> None:
        made = event.outputs[0]
        if ref.number in self._softmaxes:
            self._sums.add(made.number)
        reduced = [axes[place] for place in places]
        rest = self._walk.axes_of(made)
        if len(reduced) == 1 and reduced[0].has("B") and event.args.get("keepdim") and len(axes) > 1:
            self._walk.find("reduced", index, reduced[0])
        if len(reduced) == 1 and reduced[0].is_feature and any(map(_is_position, rest)):
            self._featureless.update(out.number for out in event.outputs)

    def _check_pick(self, index: int, event: OpEvent, axes: Sequence[Axis], places: Sequence[int]) -> None:
        """Look entries of the batch up, or where the largest one is."""
        given = event.args.get("indices")
        if isinstance(given, list):
            places = [place for place, item in enumerate(given) if isinstance(item, TensorRef)]
            if len(places) != 1 or event.outputs[0].shape != tuple(axis.size for axis in axes):
                return
        for place in places[:1]:
            if axes[place].has("B") and len(axes) > 1:
                self._walk.find("picked", index, axes[place])

    def _check_joined(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """Put a constant behind the batch, or two feature maps below each other."""
        if len(refs) < 2:
            return
        refs = [ref for ref in refs if len(ref.shape) == len(event.outputs[0].shape)]  # not one of no elements
        all_axes = [self._walk.axes_of(ref) for ref in refs]
        parts = [axes[event.args.get("dim", 0)] for axes in all_axes if axes]
        batches = [part for part in parts if part.has("B")]
        rest = [ref for ref, part in zip(refs, parts, strict=False) if not part.has("B")]
        if batches and rest and all(ref.number in self._of_tables for ref in rest):
            self._walk.find("joined", index, batches[0])
        is_map = all(len(axes) == 4 and axes[1].is_feature and all(map(_is_position, axes[2:])) for axes in all_axes)
        if is_map and len(parts) == 2 and parts[0].roots == parts[1].roots and all(part.size for part in parts):
            self._walk.find("stacked", index, parts[0])

    def _check_parts(
        self, index: int, refs: Sequence[TensorRef], event: OpEvent, met: Sequence[tuple[Axis, Axis]]
    ) -> None:
        """A product sums over the batch; a layer reads positions whose features were reduced."""
        keeps_batch = any(axis.has("B") for axis in self._walk.axes_of(event.outputs[0]))
        reads_reduced = any(ref.number in self._featureless for ref in refs)
        for one, other in met:
            if one.has("B") and other.has("B") and not keeps_batch and one.size > 1:
                self._walk.find("contracted", index, one)
            data = other if one.is_plain else one
            if reads_reduced and one.is_plain != other.is_plain and _is_position(data) and data.size > 1:
                self._walk.find("positions", index, data)

    # -- axes that meet -----------------------------------------------------------------------------------------------

    def _check_norm(self, index: int, axes: Sequence[Axis]) -> None:
        if len(axes) == 3 and _is_position(axes[1]) and axes[2].is_feature and not axes[1].is_feature:
            self._walk.find("normed", index, axes[1], axes[2])

    def _check_aligned(
        self, index: int, refs: Sequence[TensorRef], event: OpEvent, met: Sequence[tuple[Axis, Axis]]
    ) -> None:
        made = self._walk.axes_of(event.outputs[0])
        for one, other in met:
            if one.size < 2 or "mixed" in {factor.kind for axis in (one, other) for factor in axis.factors}:
                continue
            if not one.is_plain and not other.is_plain and not one.roots & other.roots:
                feature, data = (one, other) if one.is_feature else (other, one)
                if feature.is_feature and not data.is_feature and (_is_position(data) or data.has("B")):
                    self._walk.find("aligned", index, feature, data)
            elif one.is_plain != other.is_plain and _is_position(data := other if one.is_plain else one):
                is_channel = len(made) > 2 and made[1].is_feature and made[1].size == data.size
                if is_channel and made[1] is not data and any(self._is_vector(ref, data.size) for ref in refs):
                    self._walk.find("channels", index, data, made[1])
        if any(ref.number in self._noise for ref in refs) and any(axis.has("B") for axis in made):
            noise = next(ref for ref in refs if ref.number in self._noise)
            if sum(size > 1 for size in noise.shape) > 0 and len(refs) > 1:
                self._walk.find("noise", index, next(axis for axis in made if axis.has("B")))

    def _is_vector(self, ref: TensorRef, size: int) -> bool:
        return ref.number in self._tables and [length for length in ref.shape if length > 1] == [size]


#: How dims of the input that are positions are called: height, width, depth, length, time.
_POSITIONS = frozenset("HWDLT")


def _is_position(axis: Axis) -> bool:
    return bool(axis.factors) and all(
        factor.kind == "input" and all(root[0] in _POSITIONS for root in factor.roots) for factor in axis.factors
    )


def _move(place: int | None, event: OpEvent, before: Sequence[int], after: Sequence[int]) -> int | None:
    """Follow a place, counted from the last, through an operation."""
    if place is None or event.op in _SAME_SHAPE:
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
    return place if before[place:] == after[place:] and len(after) >= -place else None


def list_refs(event: OpEvent) -> list[TensorRef]:
    """Return all tensors among the arguments of an operation, in order."""
    found: list[TensorRef] = []
    for value in event.args.values():
        if isinstance(value, TensorRef):
            found.append(value)
        elif isinstance(value, list):
            found += [item for item in value if isinstance(item, TensorRef)]
    return found
