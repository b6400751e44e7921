"""Coordinates of the places of a map: which of a pair grows down the rows, and in which order they are read."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import is_position
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import MOVES, move_place
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_COUNTS = frozenset({"aten.arange", "aten.linspace"})
_KEEPS = frozenset(
    f"aten.{name}" for name in ("_to_copy", "clone", "div", "mul", "add", "sub", "rsub", "neg", "alias", "detach")
)
_FOLLOWED = _KEEPS | MOVES | {"aten.expand", "aten.repeat"}
_SAMPLERS = frozenset({"aten.grid_sampler_2d", "aten.grid_sampler"})


class CoordinateChecks:
    """What is followed from operation to operation about numbers that count the rows or the columns of a map."""

    def __init__(self, walk: MeaningWalk) -> None:
        self._walk = walk
        #: By tensor, the one dim along which its numbers grow, counted from the last.
        self._grow: dict[int, int] = {}
        #: By tensor of pairs of coordinates, the dim of the pair, and those along which the first and the second grow.
        self._pairs: dict[int, tuple[int, ...]] = {}

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """Look at one operation that reads these tensors, whose results have axes already."""
        made = event.outputs[0]
        if event.op in _COUNTS and made.shape[0] > 1:
            self._grow[made.number] = -1
        elif not self._grow:
            return
        elif event.op in _SAMPLERS and self._pairs.get(refs[-1].number) == (-1, -3, -2):
            self._walk.find("grid", index)
        elif event.op in ("aten.stack", "aten.cat") and len(refs) == 2:
            self._follow_pair(event, refs, made)
        elif event.op in _FOLLOWED:
            self._check_other_side(index, event, refs[0])
            self._pass_on(event, refs, made)

    def _check_other_side(self, index: int, event: OpEvent, ref: TensorRef) -> None:
        """``torch.arange(h) / (w - 1)``: rows that are counted, divided by the number of columns."""
        place, number = self._grow.get(ref.number), event.args.get("other")
        if event.op != "aten.div" or place is None or not isinstance(number, int):
            return
        own = self._walk.axes_of(ref)[place]
        sides = [self._walk.by_size.get(size) for size in (number, number + 1)]
        if own.size not in (number, number + 1) and is_position(own):
            for side in sides:
                if side is not None and is_position(side) and not side.roots & own.roots:
                    self._walk.find("other", index, own, side)

    def _follow_pair(self, event: OpEvent, refs: Sequence[TensorRef], made: TensorRef) -> None:
        """``torch.stack([ys, xs], -1)``: the one grows down the rows, the other along each."""
        grow = [self._grow.get(ref.number) for ref in refs]
        rank, dim = len(made.shape), event.args.get("dim", 0) % len(made.shape)
        if None in grow or made.shape[dim] != 2:
            return
        pair = dim - rank
        more = 1 if event.op == "aten.stack" else 0
        self._pairs[made.number] = (
            pair,
            *(place - (more if place + rank - more < dim else 0) for place in grow if place),
        )

    def _pass_on(self, event: OpEvent, refs: Sequence[TensorRef], made: TensorRef) -> None:
        for ref in refs:
            if ref.number in self._pairs:
                places = [move_place(place, event, ref.shape, made.shape) for place in self._pairs[ref.number]]
                if None not in places:
                    self._pairs[made.number] = tuple(place for place in places if place is not None)
        known = [ref for ref in refs if ref.number in self._grow]
        if len(known) == 1 and len([ref for ref in refs if ref.shape]) == 1:
            place = move_place(self._grow[known[0].number], event, known[0].shape, made.shape)
            if place is not None:
                self._grow[made.number] = place
