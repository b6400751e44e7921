"""Sines and cosines of counted positions: on which axis they are laid."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.records.op_events import AxisFindingKind, OpEvent, TensorRef

_WAVES = frozenset({"aten.sin", "aten.cos", "aten.polar"})
_LAYS = frozenset({"aten.mul", "aten.add"})


class AngleChecks:
    """What is followed from operation to operation about the numbers 0, 1, 2 … and their sines."""

    def __init__(self, walk: MeaningWalk, tables: frozenset[int]) -> None:
        self._walk = walk
        self._counts: set[int] = set()
        self._waves: set[int] = set()
        #: What is made of the numbers 0, 1, 2 … up to the size of the batch.
        self._rows: set[int] = set()
        #: Tables, and the first rows of them.
        self._tables = tables
        self._firsts: set[int] = set()

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]]) -> None:
        """Look at one operation, whose results have axes already."""
        made, counts = event.outputs[0], event.op == "aten.arange"
        if counts:
            self._counts.add(made.number)
        is_of_rows = counts or (self._rows and any(ref.number in self._rows for ref in refs))
        batches = [axis for axis in self._walk.axes_of(made) if axis.has("B")] if is_of_rows else []
        if batches:
            self._rows.add(made.number)
            if event.op in _WAVES:
                self._walk.find("numbered", index, *batches)
        if event.op == "aten.slice" and _is_beginning(event, refs[0], made) and refs[0].number in self._tables:
            self._firsts.add(made.number)
        kinds: tuple[tuple[AxisFindingKind, set[int]], ...] = (("angles", self._waves), ("rows", self._firsts))
        for kind, known in kinds:
            laid = [ref for ref in refs if ref.number in known] if event.op in _LAYS and len(refs) == 2 else []
            if len(laid) == 1:
                self._check_heads(index, laid[0], made, met, kind)
        waves = [ref for ref in refs if ref.number in self._waves]
        is_counted = waves or any(ref.number in self._counts for ref in refs)
        if is_counted and all(axis.is_plain for axis in self._walk.axes_of(made)):
            (self._waves if waves or event.op in _WAVES else self._counts).add(made.number)

    def _check_heads(
        self, index: int, waves: TensorRef, made: TensorRef, met: Sequence[tuple[Axis, Axis]], kind: AxisFindingKind
    ) -> None:
        """A rotary embedding on (B, T, heads, d) whose positions lie on the heads."""
        angles = self._walk.axes_of(waves)
        for one, other in met:
            data = other if one.is_plain else one
            is_of_angles = any(axis is one or axis is other for axis in angles[:-1])
            is_heads = len(data.factors) == 1 and data.is_feature and data.factors[0].half == "outer"
            if is_of_angles and is_heads and data.size > 1 and data is not self._walk.axes_of(made)[-1]:
                self._walk.find(kind, index, data)


def _is_beginning(event: OpEvent, table: TensorRef, made: TensorRef) -> bool:
    """Return whether a slice takes the first rows, and not all."""
    is_first = event.args.get("dim", 0) == 0 and not event.args.get("start")
    return is_first and len(made.shape) > 1 and table.shape[0] > made.shape[0] > 1
