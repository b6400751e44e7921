"""Where the samples are meant to be a sequence: attention among the rows of a table, and the numbering of rows."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import MOVES
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_VIEWS = frozenset({"aten.view", "aten._unsafe_view"})
_KEEPS = MOVES | {"aten._to_copy", "aten.clone"}
_INTO_ONES = frozenset({"aten.one_hot", "aten.scatter", "aten.scatter_"})


class StepChecks:
    """What is followed from operation to operation about samples that the code makes steps of one sequence."""

    def __init__(self, walk: MeaningWalk) -> None:
        self._walk = walk
        #: By the shape of rows into which the dims of samples were put, and the shape before: the operation that did.
        self._merged: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        #: From which operation to which the samples are steps.
        self._spans: list[tuple[int, int]] = []
        #: Numbers 0, 1, 2 …, and rows of zeros with a one.
        self._counts: set[int] = set()
        self._ones: set[int] = set()

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """Look at one operation that reads these tensors, whose results have axes already."""
        made = event.outputs[0]
        if event.op == "aten.arange":
            self._counts.add(made.number)
        elif event.op in _VIEWS and refs:
            self._follow_view(index, refs[0], made)
        if event.op in _INTO_ONES or (event.op == "aten.eq" and any(ref.number in self._counts for ref in refs)):
            self._ones.add(made.number)
        elif event.op in _KEEPS and len(refs) == 1:
            for known in (self._counts, self._ones):
                if refs[0].number in known:
                    known.add(made.number)

    def numbers_rows(self, event: OpEvent, refs: Sequence[TensorRef]) -> bool:
        """Return whether an operation counts the rows of each class: the places of tokens at their experts."""
        return event.op == "aten.cumsum" and refs[0].number in self._ones

    def is_meant(self, index: int) -> bool:
        """Return whether an operation runs where the samples are steps; known when the walk is at its end."""
        return any(begin < index < end for begin, end in self._spans)

    def _follow_view(self, index: int, ref: TensorRef, made: TensorRef) -> None:
        """``(B, n, d)`` as ``(1, B, n·d)`` and back, in one step or in several."""
        axes = self._walk.axes_of(ref)
        was, rows = (tuple(size for size in tensor.shape if size > 1) for tensor in (ref, made))
        if len(axes) > 2 and axes[0].roots == {"B"} and len(rows) == 2 and rows[0] == axes[0].size:
            self._merged.setdefault((rows, ref.shape), index)
            if made.shape[0] == 1:
                self._spans.append((index, len(self._walk.ops.events)))
        elif (was, made.shape) in self._merged:
            self._spans.append((self._merged[was, made.shape], index))
