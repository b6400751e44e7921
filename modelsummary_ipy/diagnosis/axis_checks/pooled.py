"""Numbers of several samples together that come back into each: statistics of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.axes.meaning_op import PRODUCTS
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import ELEMENTWISE, REDUCTIONS
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_LAYS = PRODUCTS | ELEMENTWISE | {"aten.expand", "aten.repeat", "aten.rsub"}
_SPREADS = frozenset({"aten.var", "aten.std", "aten.var_mean"})
#: Of which a tensor may be divided to keep its numbers small, whatever its samples are.
_BOUNDS = frozenset(f"aten.{name}" for name in ("max", "amax", "min", "amin", "linalg_vector_norm", *["std", "var"]))


class _Pooled(NamedTuple):
    """Numbers of several samples: the operation ``event`` reduced their axis.

    Attributes:
        source: The tensor that it reduced.
        how: Its name.
        left: How many dims it left, of more than one entry.
        reduced: How many dims it reduced, of more than one entry; 0 of a tensor of one dim.
        is_inverse: Whether it is one divided by them.
    """

    event: int
    batch: Axis
    source: int
    how: str
    left: int
    reduced: int
    is_inverse: bool = False


class PooledChecks:
    """What is followed from operation to operation about numbers of a whole batch."""

    def __init__(self, walk: MeaningWalk, tables: frozenset[int]) -> None:
        self._walk = walk
        self._tables = tables
        #: What was made of numbers of several samples and has no batch: the operation that reduced it, and its axis.
        self._pooled: dict[int, _Pooled] = {}

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], places: Sequence[int]) -> None:
        """Look at one operation, whose results have axes already.

        Args:
            places: The dims of the first tensor that it runs along; none where it reduces all.
        """
        made = event.outputs[0]
        is_float = made.dtype.startswith("float")
        if not refs or not (is_float or event.op == "aten.sum"):  # the largest length is one of all
            return
        has_batch = any(axis.has("B") for axis in self._walk.axes_of(made))
        pooled = None if has_batch else self._find_pooled(index, event, refs[0], places)
        found = [self._pooled[ref.number] for ref in refs if ref.number in self._pooled]
        if pooled is not None:
            self._pooled[made.number] = pooled
        elif found and not has_batch:
            is_turned = event.op == "aten.reciprocal"
            self._pooled[made.number] = min(found)._replace(is_inverse=min(found).is_inverse != is_turned)
        elif found and event.op in _LAYS:
            self._check(event, refs, min(found))

    def _find_pooled(self, index: int, event: OpEvent, ref: TensorRef, places: Sequence[int]) -> _Pooled | None:
        """Return what an operation makes that reduces the samples, or takes one of them for all."""
        axes, made = self._walk.axes_of(ref), event.outputs[0]
        if event.op in REDUCTIONS:
            reduced = [axes[place] for place in places] or axes
        elif event.op == "aten.slice" and ref.number not in self._tables and made.shape[event.args.get("dim", 0)] == 1:
            reduced = [axes[event.args.get("dim", 0)]]
        else:
            return None
        reduced = [axis for axis in reduced if axis.size > 1]
        batch = next((axis for axis in reduced if axis.has("B")), None)
        if batch is None:
            return None
        left = sum(size > 1 for size in made.shape)
        return _Pooled(index, batch, ref.number, event.op, left, 0 if len(axes) < 2 else len(reduced))

    def _check(self, event: OpEvent, refs: Sequence[TensorRef], pooled: _Pooled) -> None:
        """Look at numbers of all samples that are laid on each: a warning unless a net may be meant so."""
        if not pooled.reduced and len(event.outputs[0].shape) < 2:
            return  # of one number of each sample, as advantages are: a loss
        is_last = refs[-1].number in self._pooled
        if pooled.how in ("aten.max", "aten.amax") and event.op == "aten.sub" and not pooled.left:
            return  # before an exponential, which would be too large
        is_divided = event.op == "aten.mul" if pooled.is_inverse else event.op == "aten.div" and is_last
        is_scale = is_divided and not pooled.left and pooled.how in _BOUNDS
        is_norm = event.op in ("aten.sub", "aten.div") and pooled.left and pooled.reduced > 1
        is_told = pooled.how in _SPREADS and event.op not in ("aten.sub", "aten.div", "aten.mul")
        self._walk.find("laid" if is_scale or is_norm or is_told else "reduced", pooled.event, pooled.batch)
        self._pooled = {number: other for number, other in self._pooled.items() if other.source != pooled.source}
