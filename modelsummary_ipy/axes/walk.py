"""One walk over the operations of a trace: the axes of every tensor as expressions of the input's dims."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import modelsummary_ipy.axes.table  # noqa: F401  # registers all entries
from modelsummary_ipy.axes.expr import Expr
from modelsummary_ipy.axes.integers import Integers, is_unknown
from modelsummary_ipy.axes.registry import Axes, EntryError, OpaqueError, Size, find_entry, is_own
from modelsummary_ipy.axes.traced_op import Demand, TracedOp
from modelsummary_ipy.records.op_events import OpEvent, OpEvents, Repeat, TensorRef

#: Of how many sizes one is looked for first where a tensor came through operations that are not made at all sizes.
_MOST_NEAR = 8


@dataclass
class Walked:
    """What a walk found.

    Attributes:
        axes: By number of a tensor, the sizes of its axes.
        demands: What operations demand, each once.
        opaque: By name, how many calls of operations had no entry, or one that does not apply.
        wrong: Operations whose entry contradicted torch: index of the event, what the entry gave, what torch gave.
        contradicted: By operation, a line about the first call that contradicts what the table, or a user, says of it.
        reaches: Of lookups whose places are no size that they read, the rows, and how many of them every trace reads.
        is_ambiguous: Whether a padding may be to one multiple or another, as far as the traces tell.
        is_loose: Whether another integer may be a floor or a multiple of several steps, as far as they tell.
    """

    axes: dict[int, list[Size]] = field(default_factory=dict)
    demands: dict[tuple[Any, ...], Demand] = field(default_factory=dict)
    opaque: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, Any, Any]] = field(default_factory=list)
    contradicted: dict[str, str] = field(default_factory=dict)
    reaches: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    is_ambiguous: bool = False
    is_loose: bool = False


class Walk:
    """Walks over the operations of one trace; what others were at other sizes shows whose size an integer is.

    Args:
        others: The same operations at other sizes, aligned.
        given: Per input leaf of the model the sizes of its axes.
        integers: Whose sizes integers are; its samples are the trace's own, then those of ``others``.
        repeats: What repeats the same operations in all traces: of equal axes it makes equal ones.
        are_same: Whether all traces made the same operations: else some read what others, that this one did not make,
            have made of a tensor.
    """

    def __init__(
        self,
        ops: OpEvents,
        others: Sequence[Sequence[OpEvent | None]],
        given: Sequence[Axes],
        integers: Integers,
        repeats: Mapping[int, Repeat] | None = None,
        *,
        are_same: bool = True,
    ) -> None:
        self._ops = ops
        self._others = others
        self._repeats = repeats or {}
        self._are_same = are_same
        self._unknown: list[int] = []  # operations without an entry that agrees with torch
        self._integers = integers
        self.found = Walked()
        #: Of tensors that operations made which are not made at all sizes, the sizes that these read.
        self._alone: dict[int, list[Size]] = {}
        for ref, axes in zip(ops.inputs, given, strict=True):
            if ref is not None:
                self.found.axes[ref.number] = list(axes)

    @property
    def events(self) -> Sequence[OpEvent]:
        """The operations."""
        return self._ops.events

    def run(self) -> Walked:
        """Walk to the end."""
        walked = 0
        for index, event in enumerate(self._ops.events):
            if index < walked:
                continue
            repeat = self._repeats.get(index)
            if repeat is not None and self._repeat(repeat):
                walked = index + repeat.length
                continue
            partners = [other[index] for other in self._others]
            places = [place for place, partner in enumerate(partners, 1) if partner is not None]
            self._step(index, event, [partner for partner in partners if partner is not None], places)
        self.found.is_loose = self._integers.is_loose
        return self.found

    def _repeat(self, repeat: Repeat) -> bool:
        """Give what operations make the axes of what those that they repeat made, if they read the same axes."""
        axes = self.found.axes
        place = bisect_left(self._unknown, repeat.like)
        if place < len(self._unknown) and self._unknown[place] < repeat.like + repeat.length:
            return False
        for one, two in repeat.given:
            if axes.get(one) != axes.get(two):
                return False
        for one, two in repeat.made:
            axes[two] = axes[one]
        return True

    def _step(self, index: int, event: OpEvent, partners: list[OpEvent], places: list[int]) -> None:
        if not event.outputs:
            return
        op = TracedOp(index, event, partners, places, len(self._others), self._integers, self.axes_of)
        if op.is_alone:
            read = (size for ref in event.refs for size in self._alone.get(ref.number) or self.axes_of(ref))
            near = list(dict.fromkeys(size for size in read if isinstance(size, Expr)))[:_MOST_NEAR]
            self._alone.update((ref.number, near) for ref in event.outputs)
        elif self._alone or not self._are_same:
            self._anchor(event, partners)
        entry = find_entry(event.op)
        made: Sequence[Axes] | None = None
        if entry is not None:
            try:
                made = entry(op)
            except EntryError as error:
                self._contradict(event, partners, str(error))
            except (OpaqueError, ArithmeticError):
                made = None
        self.found.is_ambiguous = self.found.is_ambiguous or op.is_ambiguous
        if made is None:
            self.found.opaque[event.op] += 1
            self._unknown.append(index)
        elif not self._agrees(made, event, op):
            self.found.wrong.append((index, made, event.outputs))
            self._unknown.append(index)
            self._contradict(event, partners, f"gives {[tuple(map(op.value, axes)) for axes in made]}")
            made = None
        else:
            for key, demand in () if op.is_alone else op.demands.items():
                self.found.demands.setdefault(key, demand)
            self.found.reaches += op.reaches
        for place, ref in enumerate(event.outputs):
            axes = self._name_unknown(made[place], op) if made is not None else self._name(place, ref, op)
            self.found.axes[ref.number] = axes
            for size in axes:
                self._integers.learn(size)

    def _anchor(self, event: OpEvent, partners: Sequence[OpEvent]) -> None:
        """Name the axes of what came another way at other sizes, through a padding that these need not, say."""
        for name, value in event.args.items():
            many = value if isinstance(value, list) else [value]
            for place, ref in enumerate(many):
                if not isinstance(ref, TensorRef) or (self._are_same and ref.number not in self._alone):
                    continue
                others = [partner.args.get(name) for partner in partners]
                theirs = [other[place] if isinstance(other, list) and place < len(other) else other for other in others]
                refs = [other for other in theirs if isinstance(other, TensorRef)]
                if len(refs) < len(partners) or any(len(other.shape) != len(ref.shape) for other in refs):
                    continue
                shapes = [ref.shape, *(other.shape for other in refs)]
                axes = self.axes_of(ref)
                is_known = [
                    self._integers.values(size) == each
                    for size, each in zip(axes, zip(*shapes, strict=True), strict=True)
                ]
                if ref.number not in self._alone and all(is_known):
                    continue
                near = self._alone.pop(ref.number, [size for size in axes if isinstance(size, Expr)])
                near = [*near, *(size for other in event.refs if other is not ref for size in self.axes_of(other))]
                for dim, values in enumerate(zip(*shapes, strict=True)):
                    if not is_known[dim]:
                        found = self._integers.find(values, near)
                        axes[dim] = self._integers.unknown(values) if found is None else found
                self.found.axes[ref.number] = axes

    def _contradict(self, event: OpEvent, partners: Sequence[OpEvent], entry: str) -> None:
        """Write down, once an operation, that an entry says something else than torch.

        Of this package's own only where no integer was guessed before, and all traces made the same operations of as
        many dims: a wrong guess is no fault of the entry, nor is the same operation in another turn of a loop, nor a
        ``squeeze`` of what is 1 at some sizes.
        """
        ranks = {tuple(len(ref.shape) for ref in each.outputs) for each in (event, *partners)}
        may_be_fault = not self._integers.has_guessed and self._are_same and len(ranks) == 1
        if event.op in self.found.contradicted or not (is_own(event.op) or may_be_fault):
            return
        given = ", ".join(str(ref.shape) for ref in event.refs)
        made = ", ".join(str(ref.shape) for ref in event.outputs)
        name = event.op.replace(".", "::", 1)
        what = f"register_op {name!r}" if is_own(event.op) else f"the entry of {name} in call {event.call}"
        self.found.contradicted[event.op] = f"{what}: of {given} it {entry}, torch makes {made}"

    def _agrees(self, made: Sequence[Axes], event: OpEvent, op: TracedOp) -> bool:
        if len(made) < len(event.outputs) or (is_own(event.op) and len(made) > len(event.outputs)):
            return False
        for axes, *refs in zip(made, event.outputs, *(partner.outputs for partner in op.partners), strict=False):
            if any(len(ref.shape) != len(axes) for ref in refs):
                return False
            for dim, size in enumerate(axes):
                values = [size] * len(refs) if isinstance(size, int) else op.values(size)
                if any(ref.shape[dim] != value for ref, value in zip(refs, values, strict=False)):
                    return False
        return True

    def _name_unknown(self, axes: Axes, op: TracedOp) -> list[Size]:
        """Look for what a size of unknown parts is together: ``⌈H/2⌉`` of a padding that the code computes.

        One of guessed parts is a size that is known, if there is one: what is padded to it says less of its owner.
        """
        found = list(axes)
        for dim, size in enumerate(axes):
            if isinstance(size, Expr) and (op.has_guessed or is_unknown(size)):
                values = tuple(map(int, self._integers.values(size)))
                known = self._integers.find(values) if is_unknown(size) else self._integers.find_known(values)
                found[dim] = size if known is None or (isinstance(known, Expr) and is_unknown(known)) else known
        return found

    def _name(self, place: int, ref: TensorRef, op: TracedOp) -> list[Size]:
        """Name the axes of what nothing describes by their values."""
        self._integers.has_guessed = True
        beside = (partner.outputs[place : place + 1] for partner in op.partners)
        shapes = [ref.shape, *(refs[0].shape if refs else () for refs in beside)]
        near = [size for axes in op.tensors() for size in axes]
        named: list[Size] = []
        for dim, size in enumerate(ref.shape):
            if len(shapes) == 1 + len(self._others) and all(len(shape) == len(ref.shape) for shape in shapes):
                values = tuple(shape[dim] for shape in shapes)
                found = self._integers.find(values, near)
                named.append(self._integers.unknown(values) if found is None else found)
            else:
                named.append(self._integers.unknown((size,) * (1 + len(self._others))))
        return named

    def axes_of(self, ref: TensorRef) -> list[Size]:
        """Return the axes of a tensor; of a parameter, or one that was there before, its numbers."""
        return list(self.found.axes.get(ref.number, ref.shape))
