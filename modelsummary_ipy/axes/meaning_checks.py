"""What operations do along axes against their meaning: softmaxes, masks, attention, tables, and what mixes samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

__all__ = ["PRODUCTS", "Checks", "Kind", "list_refs"]

Kind = Literal["carved", "softmax", "heads", "mask", "table", "along"]


def _names(*names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names)


#: Operations in which an axis that two tensors share disappears.
PRODUCTS = _names("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "linear", "convolution", "dot")
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

    def find(self, kind: Kind, index: int, *axes: Axis) -> None:
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

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], contracted: Sequence[Axis]) -> None:
        """Look at one operation, whose results have axes already."""
        if not refs:
            return
        first, made = refs[0], event.outputs[0].number
        axes = self._walk.axes_of(first)
        dims = event.args.get("dim", event.args.get("dims"))
        places = [dim for dim in (dims if isinstance(dims, list) else [dims]) if isinstance(dim, int) and axes]
        if event.op in _SOFTMAXES and places:
            if first.number in self._scores and not axes[places[0]].has("B"):  # which is another rule's
                self._softmaxes[made] = axes[places[0]], places[0] % len(axes) - len(axes)
            self._check_mask(index, axes[places[0]], first)
        elif event.op in _SAME_SHAPE | _MOVES:
            self._pass_on(event, refs)
        elif event.op == "aten.sum" and first.number in self._softmaxes:
            self._sums.add(made)
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
        if event.op in _SCORES and not any(ref.number in self._tables for ref in refs):
            self._scores.add(made)

    def _pass_on(self, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        made = event.outputs[0]
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
