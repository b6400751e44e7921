"""Terms of a sum, masks and factors that are the same along the dims of a softmax or a norm: it takes them out again.

So is the carried score of a recursion that is the same along the dim that is summed: it goes through as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from modelsummary_ipy.axes.meaning import Axis, is_position
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
_FACTORS = frozenset({"aten.mul", "aten.div"})
_SOFTMAXES = SOFTMAXES | LOG_SOFTMAXES
#: After which a term is still one, and the same along the same dims; a product is by a number.
_KEEPS = MOVES | {
    f"aten.{name}"
    for name in ("clone", "detach", "alias", "_to_copy", "masked_fill", "add", "sub", "neg", "mul", "div")
}
#: What is made of one statistic is one: lengths that a distance is put together of, the largest score.
_OF_STATISTICS = _KEEPS | {"aten.pow", "aten.sqrt", "aten.log", "aten.expand"}
#: What the length of a tensor goes through before that is divided by it.
_OF_LENGTHS = frozenset(f"aten.{name}" for name in ("add", "clamp_min", "sqrt", "rsqrt", "reciprocal", "expand"))
_BESTS = frozenset({"aten.logsumexp", "aten.max", "aten.amax"})

Kind = Literal["mask", "cancelled", "scaled", "passed"]


class _Term(NamedTuple):
    """What the operation ``event`` adds, or fills in, and the dims, from the last, along which that is the same."""

    kind: Kind
    event: int
    same: frozenset[int]


class CancelledChecks:
    """What is followed from operation to operation about terms of sums, and factors."""

    def __init__(self, walk: MeaningWalk) -> None:
        self._walk = walk
        self._terms: dict[int, tuple[_Term, ...]] = {}
        self._statistics: set[int] = set()
        #: By the operation that added a term, what took it out, and along what; terms that something else reads too.
        self._taken: dict[int, tuple[_Term, Axis]] = {}
        self._live: set[int] = set()
        #: By a square that of which; by a length of which tensor, and along which dims, from the last.
        self._squares: dict[int, int] = {}
        self._lengths: dict[int, tuple[int, frozenset[int]]] = {}
        #: What is carried from one sum over states, or the best of them, to the next.
        self._scores: set[int] = set()

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], places: Sequence[int]) -> None:
        """Look at one operation, whose results have axes already.

        Args:
            refs: The tensors that it reads, without the numbers that it is scaled by.
            places: The dims of the first tensor that it runs along, where it runs along some.
        """
        made = event.outputs[0]
        terms = [(ref, term) for ref in refs for term in self._terms.get(ref.number, ())]
        over, divided = _list_taken(event, refs[0], places), self._follow_lengths(event, refs, places)
        if event.op in _BESTS or (event.op in _KEEPS and any(ref.number in self._scores for ref in refs)):
            self._scores.add(made.number)
        kept: list[_Term] = []
        for ref, term in terms:
            if term.kind == "passed" and event.op in _BESTS:
                self._check_passed(index, ref, term, places)
                continue
            taken, ends = over if ref is refs[0] and term.kind != "passed" else frozenset(), _FACTORS
            if term.kind == "scaled":
                if made.number in self._squares or made.number in self._lengths:
                    continue  # to be divided by it
                taken = divided[1] if divided[0] == ref.number else taken if event.op not in _SOFTMAXES else frozenset()
                ends = _SUMS
            if taken and taken <= term.same:
                axes = self._walk.axes_of(ref)
                self._taken[term.event] = term, Axis(factor for at in sorted(taken) for factor in axes[at].factors)
                continue
            is_kept = event.op in _KEEPS and (len(refs) == 1 or event.op not in ends)
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
        if len(refs) != 2 or not (is_mask or event.op in _SUMS or event.op == "aten.mul"):
            return []
        found = []
        for ref in refs[1:] if is_mask else refs:
            same = {
                -at for at in range(1, len(made.shape) + 1) if made.shape[-at] > 1 == ([1] * at + [*ref.shape])[-at]
            }
            axes, is_statistic = self._walk.axes_of(ref), ref.number in self._statistics
            is_data = is_mask or not all(axis.is_plain for axis in axes)
            if not same or not is_data or max(ref.shape, default=1) < 2:
                continue
            if event.op == "aten.add" and ref.number in self._scores:
                found.append(_Term("passed", index, frozenset(same)))
            elif not is_statistic and (event.op != "aten.mul" or any(axis.is_feature for axis in axes)):
                kind: Kind = "mask" if is_mask else "scaled" if event.op == "aten.mul" else "cancelled"
                found.append(_Term(kind, index, frozenset(same)))
        return found

    def _follow_lengths(
        self, event: OpEvent, refs: Sequence[TensorRef], places: Sequence[int]
    ) -> tuple[int, frozenset[int]]:
        """Note the length of a tensor along some of its dims; return both where that tensor is divided by it."""
        number, made = refs[0].number, event.outputs[0].number
        if event.op == "aten.pow" and event.args.get("exponent") == 2 and number not in self._lengths:
            self._squares[made] = number
        elif event.args.get("keepdim") and event.op in ("aten.sum", "aten.mean", "aten.linalg_vector_norm"):
            source = number if event.op == "aten.linalg_vector_norm" else self._squares.get(number)
            if source is not None and places:
                rank = len(refs[0].shape)
                self._lengths[made] = source, frozenset(place % rank - rank for place in places)
        elif event.op in _OF_LENGTHS and len(refs) == 1 and number in self._lengths:
            self._lengths[made] = self._lengths[number]
        elif event.op in _FACTORS and len(refs) == 2:
            return next((self._lengths[ref.number] for ref in refs if ref.number in self._lengths), (-1, frozenset()))
        return -1, frozenset()

    def _check_passed(self, index: int, ref: TensorRef, term: _Term, places: Sequence[int]) -> None:
        """``logsumexp(alpha[:, :, None] + transitions, 2)`` in a loop: no score of one state reaches another."""
        axes = self._walk.axes_of(ref)
        over = {place % len(axes) - len(axes) for place in places}
        if over and over <= term.same and not any(is_position(axes[at]) or axes[at].has("B") for at in over):
            self._walk.find("passed", index, Axis(factor for at in over for factor in axes[at].factors))

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
    if event.op in _SOFTMAXES and places:
        over = [places[0] % rank]
    elif event.op == "aten.native_layer_norm":
        over = range(rank - len(event.args["normalized_shape"]), rank)
    elif event.op == "aten.native_group_norm":
        over = range(2 if event.args["group"] == ref.shape[1] else 1, rank)
    elif event.op in NORMS and event.args.get("training", True) and not event.op.endswith("no_training"):
        over = [dim for dim in range(rank) if dim != 1]
    return frozenset(dim - rank for dim in over if ref.shape[dim] > 1)
