"""One walk over the operations of a trace for what the axes mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import modelsummary_ipy.axes.table  # noqa: F401  # registers all entries
from modelsummary_ipy.axes.meaning import Axis, Factor, plain_axis, roots_of, value_of
from modelsummary_ipy.axes.meaning_op import MeaningOp
from modelsummary_ipy.axes.meanings import Meanings
from modelsummary_ipy.axes.registry import Axes, OpaqueError, find_entry
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

#: Of an operation that was walked over: its place, itself, the tensors that it reads, pairs of axes that must be equal.
Step: TypeAlias = "tuple[int, OpEvent, Sequence[TensorRef], Sequence[tuple[Axis, Axis]]]"

_JOINS = frozenset({"aten.stack", "aten.cat"})


class MeaningWalk(Meanings):
    """Walks over the operations of a trace."""

    def steps(self) -> Iterator[Step]:
        """Walk to the end, and yield every operation whose results have axes now."""
        for index, event in enumerate(self.ops.events):
            if event.outputs:
                yield self._step(index, event)

    def _step(self, index: int, event: OpEvent) -> Step:
        op = MeaningOp(self, index, event)
        entry = find_entry(event.op)
        made: Sequence[Axes] = ()
        if entry is not None:
            try:
                made = entry(op)
            except (OpaqueError, ArithmeticError, IndexError):
                made = ()
        for place, ref in enumerate(event.outputs):
            axes = made[place] if place < len(made) and len(made[place]) == len(ref.shape) else None
            known = self.by_size
            numbers = [self._find_dim(s, index, place, dim) if s in known else None for dim, s in enumerate(ref.shape)]
            settled = None if axes is None else self._settle(axes, ref.shape, op, numbers)
            self.axes[ref.number] = settled or self._guess(ref.shape, op, numbers)
        self._follow_pieces(event)
        if event.op == "aten.cat":
            self._join_pieces(event)
        return index, event, op.refs, op.met

    def _find_dim(self, size: int, index: int, place: int, dim: int) -> Axis | None:
        """Return the dim of the input that a size of a result is: not B if it is the same at another batch."""
        axis = self.by_size.get(size)
        other = self._others[index] if self._others is not None and axis is not None and axis.has("B") else None
        shape = other.outputs[place].shape if other is not None and place < len(other.outputs) else ()
        return None if dim < len(shape) and shape[dim] == size else axis

    def _settle(
        self, axes: Axes, shape: tuple[int, ...], op: MeaningOp, numbers: Sequence[Axis | None]
    ) -> list[Axis] | None:
        """Return axes of the shape that torch gave; a number is a dim of that size, or a part of an axis."""
        if [size.size if isinstance(size, Axis) else size for size in axes] != [*shape]:
            return None
        settled: list[Axis] = []
        for dim, size in enumerate(axes):
            if isinstance(size, Axis) and not size.is_plain:
                settled.append(size)
                continue
            if value_of(size) > 1 and op.makes_features(dim, len(axes), size):
                roots = roots_of(op.contracted) - {"B"}
                out = f"the features of {self.paths.get(op.event.call, '') or 'the model'}"
                settled.append(Axis([Factor(value_of(size), "feature", roots | {out}, out)]))
            else:
                settled.append(size if isinstance(size, Axis) else numbers[dim] or self._name(size, op))
        return settled

    def _name(self, size: int, op: MeaningOp) -> Axis:
        """Return the axis that a number is: one that was taken apart and is put together, or that of a constant."""
        pieces = self._pieces.get(size) if op.name in _JOINS else None
        return pieces or plain_axis(size)

    def _join_pieces(self, event: OpEvent) -> None:
        """What was made of every entry of an axis, row by row: that axis, and the rows within it; batches: so many."""
        refs, made, dim = event.refs, event.outputs[0], event.args.get("dim", 0)
        parts = [self.axes_of(ref)[dim] for ref in refs if len(ref.shape) == len(made.shape)]
        if len(parts) < 2 or parts[0].size < 2 or any(part.factors != parts[0].factors for part in parts):
            return
        whole = self._pieces.get(len(refs)) or (plain_axis(len(refs)) if parts[0].roots == {"B"} else None)
        if whole is not None:
            self.axes[made.number][dim] = whole * parts[0]

    def _follow_pieces(self, event: OpEvent) -> None:
        """Note an axis of which every entry was taken, one by one."""
        if event.op not in ("aten.unbind", "aten.select") or not event.refs:
            return
        axes, dim = self.axes_of(event.refs[0]), event.args.get("dim", 0)
        taken = self._taken.setdefault((event.refs[0].number, dim % len(axes)), set())
        taken |= set(range(len(event.outputs))) if event.op == "aten.unbind" else {event.args["index"] % axes[dim].size}
        if len(taken) == axes[dim].size > 2 and not axes[dim].is_plain:
            self._pieces[axes[dim].size] = axes[dim]

    def _guess(self, shape: tuple[int, ...], op: MeaningOp, numbers: Sequence[Axis | None]) -> list[Axis]:
        """Name the axes of what no entry describes: a dim of that size, or one that may be anything of its inputs."""
        near = {axis.size: axis for axes in reversed(op.tensors()) for axis in axes}
        roots = roots_of(axis for axes in op.tensors() for axis in axes) - {"B"}
        return [
            number or near.get(size) or Axis([Factor(size, "mixed", roots, "mixed")] if size > 1 else [])
            for size, number in zip(shape, numbers, strict=True)
        ]
