"""Sines and cosines of counted positions: on which axis they are laid, and what they turn."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis, is_position
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import ATTENTION, MOVES, SAME_SHAPE, SCORES
from modelsummary_ipy.diagnosis.axis_checks.softmax import is_plain
from modelsummary_ipy.records.op_events import AxisFindingKind, OpEvent, TensorRef

_WAVES = frozenset({"aten.sin", "aten.cos", "aten.polar"})
_LAYS = frozenset({"aten.mul", "aten.add"})
_JOINS = frozenset(f"aten.{name}" for name in ("cat", "stack", "slice", "select", "view_as_complex", "view_as_real"))
_KEEPS = SAME_SHAPE | MOVES | _JOINS | {"aten.repeat", "aten.split", "aten.chunk"}


class AngleChecks:
    """What is followed from operation to operation about the numbers 0, 1, 2 … and their sines."""

    def __init__(self, walk: MeaningWalk, tables: frozenset[int]) -> None:
        self._walk = walk
        self._counts: set[int] = set()
        self._waves: set[int] = set()
        #: Products with sines, and sums of two of them: turned by an angle.
        self._laid: set[int] = set()
        self._turned: set[int] = set()
        #: What is made of the numbers 0, 1, 2 … up to the size of the batch.
        self._rows: set[int] = set()
        #: Tables, and the first rows of them.
        self._tables = tables
        self._firsts: set[int] = set()

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]]) -> None:
        """Look at one operation, whose results have axes already."""
        made = event.outputs[0]
        is_of_rows = event.op == "aten.arange" or (self._rows and any(ref.number in self._rows for ref in refs))
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
            if len(laid) == 1 and is_plain(self._walk, laid[0]):
                self._check_heads(index, laid[0], made, met, kind)
        counted = self._counts | self._waves
        if event.op == "aten.arange" or (
            any(ref.number in counted for ref in refs)
            and all(ref.number in counted or is_plain(self._walk, ref) for ref in refs)
        ):
            is_wave = event.op in _WAVES or any(ref.number in self._waves for ref in refs)
            (self._waves if is_wave else self._counts).add(made.number)
        elif self._waves:
            self._follow_turned(index, event, refs)

    def _follow_turned(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """Rotary embeddings: products with sines turn both queries and keys, or neither."""
        numbers = {ref.number for ref in refs}
        if event.op == "aten.mul" and len(numbers & self._waves) == 1 < len(numbers):
            is_complex = event.outputs[0].dtype.startswith("complex")
            (self._turned if is_complex else self._laid).add(event.outputs[0].number)
        elif event.op in ("aten.add", "aten.sub") and len(numbers & self._laid) == 2:
            self._turned.add(event.outputs[0].number)
        elif event.op in _KEEPS and numbers & self._turned:
            self._turned.update(made.number for made in event.outputs)
        elif len(self._turned & {ref.number for ref in refs[:2]}) == 1 < len(numbers):
            is_of_pairs = all(map(is_position, self._walk.axes_of(event.outputs[0])[-2:]))
            if event.op in ATTENTION or (event.op in SCORES and is_of_pairs):
                self._walk.find("unturned", index)

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
