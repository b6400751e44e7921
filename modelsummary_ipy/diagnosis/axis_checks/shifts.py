"""Tensors that meet themselves, or are copied, some entries further: a sample and the next one, a feature and the next.

Along positions that is what a shift is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelsummary_ipy.axes.meaning import Axis, Factor, is_position
from modelsummary_ipy.axes.meaning_op import PRODUCTS
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import ALONG, ELEMENTWISE, RUNNING, is_named_feature
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_RISING = RUNNING | {"aten.sort", "aten.sigmoid"}
_KEEPS = frozenset({"aten.clone", "aten._to_copy", "aten.detach", "aten.alias"})


class _Slice(NamedTuple):
    """A part of the batch of a tensor: entries ``start`` to ``end`` of the tensor ``of``."""

    of: int
    start: int
    end: int

    def overlaps(self, other: _Slice) -> bool:
        """Return whether both have entries of the same number at other places: halves do not."""
        one, two = sorted((self, other), key=lambda part: part.start)
        return one.start < two.start < one.end and min(self.end - self.start, other.end - other.start) > 1


class ShiftChecks:
    """What is followed from operation to operation about parts of the batch, and shifts along features."""

    def __init__(self, walk: MeaningWalk) -> None:
        self._walk = walk
        self._slices: dict[int, _Slice] = {}
        #: Parts of features beside positions; numbers that rise along some dim, whose differences are meant.
        self._bands: dict[int, tuple[_Slice, Axis]] = {}
        self._rising: set[int] = set()
        #: Features that were shifted, by the operation that did: a layer that reads them shows that they are.
        self._shifted: dict[Factor, int] = {}

    def follow(self, index: int, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]]) -> None:
        """Look at one operation that reads these tensors, whose results have axes already.

        Args:
            met: Pairs of axes that had to be equal.
        """
        made = event.outputs[0]
        if event.op in _RISING or any(ref.number in self._rising for ref in refs):
            self._rising.add(made.number)
        if event.op == "aten.slice":
            self._follow_slice(event, refs[0], made)
        elif event.op == "aten.sub" and len({*self._bands} & {ref.number for ref in refs}) == 2:
            (one, axis), (other, _) = (self._bands[ref.number] for ref in refs[:2])
            if one.of == other.of and one.overlaps(other) and one.of not in self._rising:
                self._walk.find("neighbours", index, axis)
        elif event.op in _KEEPS and refs[0].number in self._slices:
            self._slices[made.number] = self._slices[refs[0].number]
        elif event.op == "aten.copy_" and all(ref.number in self._slices for ref in refs):
            self._check_copied(index, refs)
        elif event.op == "aten.cat":
            self._follow_cat(event, refs, made)
        elif event.op == "aten.constant_pad_nd":
            self._check_padded(index, event, refs[0])
        elif event.op in ALONG and isinstance(event.args.get("dims", event.args.get("dim")), list):
            self._check_planes(index, event, self._walk.axes_of(refs[0]))
        elif event.op in PRODUCTS and self._shifted:
            self._check_read(met)
        elif event.op in ELEMENTWISE and not event.op.endswith("_"):
            self._check_neighbours(index, refs, made)

    def _follow_slice(self, event: OpEvent, ref: TensorRef, made: TensorRef) -> None:
        axes, dim = self._walk.axes_of(ref), event.args.get("dim", 0)
        if not axes or event.args.get("step", 1) != 1:
            return
        if _is_of_samples(axes[dim]) and axes[dim].size > made.shape[dim] > 0:
            start = event.args.get("start") or 0
            start = start if start >= 0 else start + axes[dim].size
            self._slices[made.number] = _Slice(ref.number, start, start + made.shape[dim])
        elif ref.number in self._slices and not _is_of_samples(axes[dim]):
            self._slices[made.number] = self._slices[ref.number]
        elif axes[dim].is_feature and not axes[dim].factors[0].half and any(map(is_position, axes)):
            start = event.args.get("start") or 0
            self._bands[made.number] = _Slice(ref.number, start, start + made.shape[dim]), axes[dim]

    def _check_copied(self, index: int, refs: Sequence[TensorRef]) -> None:
        """``out[:-1] = x[1:]``: each sample at the place of the one before it."""
        into, out_of = (self._slices[ref.number] for ref in refs[:2])
        if into.overlaps(out_of):
            self._walk.find("along", index, *self._batches(refs[0]))

    def _check_neighbours(self, index: int, refs: Sequence[TensorRef], made: TensorRef) -> None:
        """``x[1:] - x[:-1]``, or ``x`` with itself shifted: a sample and the one behind it."""
        if not self._slices:
            return
        parts = [(ref, self._slice_of(ref)) for ref in refs if self._batches(ref)]
        if len(parts) == 1:
            self._slices[made.number] = parts[0][1]
        elif len(parts) == 2 and parts[0][1].of == parts[1][1].of and parts[0][1].overlaps(parts[1][1]):
            self._walk.find("along", index, *self._batches(parts[0][0]))

    def _follow_cat(self, event: OpEvent, refs: Sequence[TensorRef], made: TensorRef) -> None:
        """``cat([zeros, x[:-1]])``: the samples, shifted by as many as were put in front."""
        if len(refs) == 2 and refs[1].number in self._slices and refs[0].number not in self._slices:
            dim, part = event.args.get("dim", 0), self._slices[refs[1].number]
            if self._walk.axes_of(refs[1])[dim].has("B") and part.start == 0:
                self._slices[made.number] = _Slice(part.of, -refs[0].shape[dim], part.end)

    def _check_padded(self, index: int, event: OpEvent, ref: TensorRef) -> None:
        """``F.pad(x, (1, -1))`` on (B, T, C): each feature at the place of the next one."""
        pads, axes = event.args["pad"], self._walk.axes_of(ref)
        for place, axis in enumerate(reversed(axes)):
            before, after = pads[2 * place : 2 * place + 2] or (0, 0)
            if before and before == -after and len(axes) > 1:
                if axis.has("B"):
                    self._walk.find("along", index, axis)
                elif is_named_feature(axis) and len(axis.factors) == 1:
                    self._shifted[axis.factors[0]] = index

    def _check_planes(self, index: int, event: OpEvent, axes: Sequence[Axis]) -> None:
        """``roll(x, (1, 1), (1, 2))`` on (B, C, H, W): channels and rows, where rows and columns are meant."""
        dims = {dim % len(axes) for dim in event.args.get("dims", event.args.get("dim"))} if len(axes) == 4 else set()
        features = [axes[dim] for dim in dims if is_named_feature(axes[dim])]
        places = [dim for dim, axis in enumerate(axes) if is_position(axis)]
        if len(dims) == 2 == len(places) and features and len(dims & {*places}) == 1:
            self._walk.find("shifted", index, *features)

    def _check_read(self, met: Sequence[tuple[Axis, Axis]]) -> None:
        """A layer reads features, each of which stands at the place of the next one."""
        read = [axis.factors[0] for pair in met for axis in pair if len(axis.factors) == 1]
        for factor in read:
            if factor in self._shifted:
                self._walk.find("shifted", self._shifted.pop(factor), Axis([factor]))

    def _slice_of(self, ref: TensorRef) -> _Slice:
        size = next((axis.size for axis in self._batches(ref)), 1)
        return self._slices.get(ref.number, _Slice(ref.number, 0, size))

    def _batches(self, ref: TensorRef) -> list[Axis]:
        return [axis for axis in self._walk.axes_of(ref) if _is_of_samples(axis)][:1]


def _is_of_samples(axis: Axis) -> bool:
    """Return whether an axis is of all samples, and not of the frames that each video has in the batch."""
    return axis.has("B") and not any("B" in factor.roots and factor.half == "inner" for factor in axis.factors)
