"""Terms of a sum, and masks, that are the same along the dims of a softmax or a norm: it takes them out again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import (
    LOG_SOFTMAXES,
    MOVES,
    NORMS,
    REDUCTIONS,
    SOFTMAXES,
    move_place,
)
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_SUMS = frozenset({"aten.add", "aten.sub"})
#: After which a term is still one, and the same along the same dims; a product is by a number.
_KEEPS = MOVES | {
    f"aten.{name}"
    for name in ("clone", "detach", "alias", "_to_copy", "masked_fill", "add", "sub", "neg", "mul", "div")
}
#: What is made of one statistic is one: lengths that a distance is put together of, the largest score.
_OF_STATISTICS = _KEEPS | {"aten.pow", "aten.sqrt", "aten.log", "aten.expand"}


class _Term(NamedTuple):
    """What the operation ``event`` adds, or fills in, and the dims, from the last, along which that is the same."""

    kind: Literal["mask", "cancelled"]
    event: int
    same: frozenset[int]


class CancelledChecks:
    """What is followed from operation to operation about terms of sums."""

    def __init__(self, walk: MeaningWalk) -> None:
        self._walk = walk
        self._terms: dict[int, tuple[_Term, ...]] = {}
        self._statistics: set[int] = set()
        #: By the operation that added a term, what took it out, and along what; terms that something else reads too.
        self._taken: dict[int, tuple[_Term, Axis]] = {}
        self._live: set[int] = set()

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], places: Sequence[int]) -> None:
        """Look at one operation, whose results have axes already.

        Args:
            refs: The tensors that it reads, without the numbers that it is scaled by.
            places: The dims of the first tensor that it runs along, where it runs along some.
        """
        made = event.outputs[0]
        terms = [(ref, term) for ref in refs for term in self._terms.get(ref.number, ())]
        over = _list_taken(event, refs[0], places)
        kept: list[_Term] = []
        for ref, term in terms:
            if over and ref is refs[0] and over <= term.same:
                axes = self._walk.axes_of(ref)
                self._taken[term.event] = term, Axis(factor for at in sorted(over) for factor in axes[at].factors)
                continue
            is_kept = event.op in _KEEPS and (len(refs) == 1 or event.op not in ("aten.mul", "aten.div"))
            moved = {move_place(at, event, ref.shape, made.shape) for at in term.same} if is_kept else {None}
            if None in moved or len(moved) < len(term.same):
                self._live.add(term.event)
            else:
                kept.append(term._replace(same=frozenset(at for at in moved if at is not None)))
        kept += self._find_terms(index, event, refs, made)
        if kept:
            self._terms[made.number] = tuple(kept)
        if event.op in REDUCTIONS or (event.op in _OF_STATISTICS and {ref.number for ref in refs} <= self._statistics):
            self._statistics.update(ref.number for ref in event.outputs)

    def _find_terms(self, index: int, event: OpEvent, refs: Sequence[TensorRef], made: TensorRef) -> list[_Term]:
        """``h + t[:, :, None, None]``, and a mask of one column that fills scores with a very small number."""
        value = event.args.get("value")
        is_mask = event.op == "aten.masked_fill" and isinstance(value, (int, float)) and value < -1e3
        if len(refs) != 2 or not (is_mask or event.op in _SUMS):
            return []
        found = []
        for ref in refs[1:] if is_mask else refs:
            same = {
                -at for at in range(1, len(made.shape) + 1) if made.shape[-at] > 1 == ([1] * at + [*ref.shape])[-at]
            }
            is_data = is_mask or not all(axis.is_plain for axis in self._walk.axes_of(ref))
            if same and is_data and max(ref.shape, default=1) > 1 and ref.number not in self._statistics:
                found.append(_Term("mask" if is_mask else "cancelled", index, frozenset(same)))
        return found

    def finish(self, outputs: Collection[int]) -> None:
        """Report terms of which nothing is left.

        Args:
            outputs: Numbers of the tensors that the model returns.
        """
        self._live |= {term.event for number in outputs for term in self._terms.get(number, ())}
        for index, (term, axis) in self._taken.items():
            if index not in self._live:
                self._walk.find(term.kind, index, axis)


def _list_taken(event: OpEvent, ref: TensorRef, places: Sequence[int]) -> frozenset[int]:
    """Return the dims, from the last, along which a constant makes no difference to a softmax or a norm."""
    rank = len(ref.shape)
    over: Collection[int] = ()
    if event.op in SOFTMAXES | LOG_SOFTMAXES and places:
        over = [places[0] % rank]
    elif event.op == "aten.native_layer_norm":
        over = range(rank - len(event.args["normalized_shape"]), rank)
    elif event.op == "aten.native_group_norm":
        over = range(2 if event.args["group"] == ref.shape[1] else 1, rank)
    elif event.op in NORMS and event.args.get("training", True) and not event.op.endswith("no_training"):
        over = [dim for dim in range(rank) if dim != 1]
    return frozenset(dim - rank for dim in over if ref.shape[dim] > 1)
