"""One walk over the operations of a trace: the axes of every tensor as expressions of the input's dims."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from typing import Any, Literal, NamedTuple

import modelsummary_ipy.axes.table  # noqa: F401  # registers all entries
from modelsummary_ipy.axes.bounds import find_bound, find_lookup
from modelsummary_ipy.axes.divide import divide_sizes, group_axes, read_group
from modelsummary_ipy.axes.expr import Expr, constant, floor_of, has_least, least_of
from modelsummary_ipy.axes.integers import Integers, is_unknown
from modelsummary_ipy.axes.registry import Axes, EntryError, Op, OpaqueError, Size, find_entry, is_own
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.op_events import OpEvent, OpEvents, Repeat, TensorRef

_INTEGERS = frozenset({"int64", "int32"})
#: Of how many sizes one is looked for first where a tensor came through operations that are not made at all sizes.
_MOST_NEAR = 8
_RESHAPES = frozenset({"aten.view", "aten._unsafe_view", "aten.reshape", "aten._reshape_alias"})


Kind = Literal["equal", "alike", "at least"]


class Demand(NamedTuple):
    """What an operation demands of sizes that depend on the input.

    Attributes:
        kind: ``"equal"``; ``"alike"``: equal, or one of them 1; ``"at least"``: the first is not below the second.
        one, other: The sizes.
        event: Which operation demands it.
    """

    kind: Kind
    one: Size
    other: Size
    event: int


@dataclass
class Walked:
    """What a walk found.

    Attributes:
        axes: By number of a tensor, the sizes of its axes.
        demands: What operations demand, each once.
        opaque: By name, how many calls of operations had no entry, or one that does not apply.
        wrong: Operations whose entry contradicted torch: index of the event, what the entry gave, what torch gave.
        contradicted: By operation, a line about the first call that contradicts what the table, or a user, says of it.
        is_ambiguous: Whether a padding may be to one multiple or another, as far as the traces tell.
        is_loose: Whether another integer may be a floor or a multiple of several steps, as far as they tell.
    """

    axes: dict[int, list[Size]] = field(default_factory=dict)
    demands: dict[tuple[Any, ...], Demand] = field(default_factory=dict)
    opaque: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, Any, Any]] = field(default_factory=list)
    contradicted: dict[str, str] = field(default_factory=dict)
    is_ambiguous: bool = False
    is_loose: bool = False


class Walk:
    """Walks over the operations of one trace; what others were at other sizes shows whose size an integer is.

    Args:
        others: The same operations at other sizes, aligned.
        given: Per input leaf of the model the sizes of its axes.
        integers: Whose sizes integers are; its samples are the trace's own, then those of ``others``.
        repeats: What repeats the same operations in all traces: of equal axes it makes equal ones.
    """

    def __init__(
        self,
        ops: OpEvents,
        others: Sequence[Sequence[OpEvent | None]],
        given: Sequence[Axes],
        integers: Integers,
        repeats: Mapping[int, Repeat] | None = None,
    ) -> None:
        self._ops = ops
        self._others = others
        self._repeats = repeats or {}
        self._unknown: list[int] = []  # operations without an entry that agrees with torch
        self._integers = integers
        self.found = Walked()
        self._bounds: dict[int, Size] = {}
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
        axes, bounds = self.found.axes, self._bounds
        place = bisect_left(self._unknown, repeat.like)
        if place < len(self._unknown) and self._unknown[place] < repeat.like + repeat.length:
            return False
        for one, two in repeat.given:
            if axes.get(one) != axes.get(two) or bounds.get(one) != bounds.get(two):
                return False
        for one, two in repeat.made:
            axes[two] = axes[one]
            if one in bounds:
                bounds[two] = bounds[one]
        return True

    def _step(self, index: int, event: OpEvent, partners: list[OpEvent], places: list[int]) -> None:
        if not event.outputs:
            return
        op = _Op(self, index, event, partners, places)
        if op.is_alone:
            read = (size for ref in event.refs for size in self._alone.get(ref.number) or self.axes_of(ref))
            near = list(dict.fromkeys(size for size in read if isinstance(size, Expr)))[:_MOST_NEAR]
            self._alone.update((ref.number, near) for ref in event.outputs)
        elif self._alone:
            self._anchor(event, partners)
        entry = find_entry(event.op)
        made: Sequence[Axes] | None = None
        if entry is not None:
            try:
                made = entry(op)
            except EntryError as error:
                self._contradict(event, str(error))
            except (OpaqueError, ArithmeticError):
                made = None
        if made is None:
            self.found.opaque[event.op] += 1
            self._unknown.append(index)
        elif not self._agrees(made, event, op):
            self.found.wrong.append((index, made, event.outputs))
            self._unknown.append(index)
            self._contradict(event, f"gives {[tuple(map(op.value, axes)) for axes in made]}")
            made = None
        else:
            for key, demand in () if op.is_alone else op.demands.items():
                self.found.demands.setdefault(key, demand)
            self._follow_values(index, event, op)
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
                if not isinstance(ref, TensorRef) or ref.number not in self._alone:
                    continue
                others = [partner.args.get(name) for partner in partners]
                theirs = [other[place] if isinstance(other, list) and place < len(other) else other for other in others]
                refs = [other for other in theirs if isinstance(other, TensorRef)]
                if len(refs) < len(partners) or any(len(other.shape) != len(ref.shape) for other in refs):
                    continue
                near = self._alone.pop(ref.number)
                near = [*near, *(size for other in event.refs if other is not ref for size in self.axes_of(other))]
                shapes = [ref.shape, *(other.shape for other in refs)]
                axes = self.axes_of(ref)
                for dim, values in enumerate(zip(*shapes, strict=True)):
                    if self._integers.values(axes[dim]) != values:
                        found = self._integers.find(values, near)
                        axes[dim] = self._integers.unknown(values) if found is None else found
                self.found.axes[ref.number] = axes

    def _contradict(self, event: OpEvent, entry: str) -> None:
        """Write down, once an operation, that an entry says something else than torch.

        Of this package's own only where no integer was guessed before: a wrong guess is no fault of the entry.
        """
        if event.op in self.found.contradicted or not (is_own(event.op) or not self._integers.has_guessed):
            return
        given = ", ".join(str(ref.shape) for ref in event.refs)
        made = ", ".join(str(ref.shape) for ref in event.outputs)
        name = event.op.replace(".", "::", 1)
        what = f"register_op {name!r}" if is_own(event.op) else f"the entry of {name} in call {event.call}"
        self.found.contradicted[event.op] = f"{what}: of {given} it {entry}, torch makes {made}"

    def _follow_values(self, index: int, event: OpEvent, op: _Op) -> None:
        """Demand that positions are inside the table in which they are looked up."""
        lookup = find_lookup(event)
        if lookup is not None:
            table, dim, indices = lookup
            rows, bound = self.axes_of(table)[dim], self._bounds.get(indices.number)
            if bound is not None and not (isinstance(rows, int) and isinstance(bound, int)):
                demand = Demand("at least", rows, bound, index)
                self.found.demands.setdefault(demand[:3], demand)
        if event.outputs[0].dtype in _INTEGERS:
            bound = find_bound(event, self._bounds, op.tensors(), op.size("end"))
            if bound is not None:
                self._bounds.update((ref.number, bound) for ref in event.outputs)

    def _agrees(self, made: Sequence[Axes], event: OpEvent, op: _Op) -> bool:
        if len(made) < len(event.outputs) or (is_own(event.op) and len(made) > len(event.outputs)):
            return False
        for axes, *refs in zip(made, event.outputs, *(partner.outputs for partner in op.partners), strict=False):
            if any(len(ref.shape) != len(axes) for ref in refs):
                return False
            for dim, size in enumerate(axes):
                if isinstance(size, int):
                    if any(ref.shape[dim] != size for ref in refs):
                        return False
                else:
                    if any(ref.shape[dim] != value for ref, value in zip(refs, op.values(size), strict=False)):
                        return False
        return True

    def _name_unknown(self, axes: Axes, op: _Op) -> list[Size]:
        """Look for what a size of unknown parts is together: ``⌈H/2⌉`` of a padding that the code computes.

        One of guessed parts is a size that is known, if there is one: what is padded to it says less of its owner.
        """
        found = list(axes)
        for dim, size in enumerate(axes):
            if isinstance(size, Expr) and (op.has_guessed or is_unknown(size)):
                values = tuple(map(int, self._integers.values(size)))
                known = self._integers.find(values) if is_unknown(size) else self._integers.find_known(values)
                found[dim] = size if known is None else known
        return found

    def _name(self, place: int, ref: TensorRef, op: _Op) -> list[Size]:
        """Name the axes of what nothing describes by their values."""
        self._integers.has_guessed = True
        shapes = [ref.shape]
        for partner in op.partners:
            shapes.append(partner.outputs[place].shape if place < len(partner.outputs) else ())
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


class _Op(Op):
    def __init__(
        self, walk: Walk, index: int, event: OpEvent, partners: Sequence[OpEvent], places: Sequence[int]
    ) -> None:
        super().__init__(event, walk.axes_of)
        #: The same operation in other traces, in all but where it is alone.
        self.partners = partners
        self.is_alone = len(places) < len(walk._others)
        self._places = (0, *places)  # of the traces that make it
        self._is_single = self.is_alone and not places
        self.is_reshape = event.op in _RESHAPES
        #: Whether an integer among its arguments was no size that is known.
        self.has_guessed = False
        self.demands: dict[tuple[Any, ...], Demand] = {}
        self._walk = walk
        self._index = index

    def axes_in(self, name: str) -> list[list[Size]]:
        if any(len(partner.args.get(name) or []) != len(self._args.get(name) or []) for partner in self.partners):
            raise OpaqueError(f"{name} has another length at other sizes")
        return super().axes_in(name)

    def count(self, name: str) -> Size:
        return self._size_of(super().count(name), [len(partner.args.get(name) or ()) for partner in self.partners])

    def size(self, name: str, default: Any = None) -> Size:
        value = self._args.get(name)
        if not isinstance(value, int):
            if any(partner.args.get(name) != value for partner in self.partners):
                raise OpaqueError(f"{name} is no integer, and another number at other sizes")
            return default if value is None else value
        return self._size_of(value, [partner.args.get(name) for partner in self.partners])

    def sizes(self, name: str) -> list[Size]:
        values = self._args.get(name)
        if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
            raise OpaqueError(f"{name} is no list of integers")
        others = [partner.args.get(name) or [] for partner in self.partners]
        if any(len(other) != len(values) for other in others):
            raise OpaqueError(f"{name} has another length at other sizes")
        if any((value == -1) != (other[place] == -1) for place, value in enumerate(values) for other in others):
            # What is left is left to torch at some sizes only.
            made = [self.outputs[0], *(partner.outputs[0].shape for partner in self.partners)]
            if all(len(shape) == len(values) for shape in made):
                values, *others = [
                    [size if value == -1 else value for value, size in zip(each, shape, strict=True)]
                    for each, shape in zip([values, *others], made, strict=True)
                ]
        if self.is_reshape and -1 not in values:
            grouped = None if self._is_single else self._read_groups(list(zip(values, *others, strict=True)))
            if grouped is not None:
                return grouped
            unread = [place for place, each in enumerate(zip(values, *others, strict=True)) if not self._is_read(each)]
            if len(unread) == 1:  # torch was asked for what is left, or could have been
                values = [-1 if place in unread else value for place, value in enumerate(values)]
                others = [[-1 if place in unread else size for place, size in enumerate(other)] for other in others]
        return [self._size_of(value, [other[place] for other in others]) for place, value in enumerate(values)]

    def _read_groups(self, wanted: list[tuple[int, ...]]) -> list[Size] | None:
        """Read the axes that a reshape asks for off those that it makes them of; ``None`` if that says nothing new."""
        data = self.axes("self")
        groups = group_axes([self.values(size) for size in data], wanted)
        if groups is None:
            return None
        made: list[Size] = []
        for mine, theirs in groups:
            near = [size for size in data[mine] if isinstance(size, Expr)]
            near += [factor for size in near for factor in size.factors]
            given = [self._find_read(values, near) for values in wanted[theirs]]
            try:
                found = read_group(self, data[mine], given)
            except ArithmeticError:
                found = None
            if found is None:
                return None
            made += found
        return made

    def values(self, size: Size) -> tuple[Fraction | int, ...]:
        """Return what a size was in every trace that makes the operation."""
        values = self._walk._integers.values(size)
        return tuple(values[place] for place in self._places) if self.is_alone else values

    def _find_read(self, values: tuple[int, ...], near: Sequence[Expr]) -> Size | None:
        """Find which of some sizes an integer is, or whether it is a number."""
        if len(set(values)) == 1:  # 8 of min(T, 8), of which no trace may have less
            return next((size for size in near if has_least(size) and self.values(size) == values), values[0])
        if self.is_alone:
            return next((size for size in near if self.values(size) == values), None)
        return (self._walk._integers.find_read(values, near) or (None,))[0]

    def counted(self, output: int, dim: int) -> Size:
        """Name it by its values: a trace with fakes knows those of masks that the code makes of sizes alone."""
        partners = [partner.outputs[output].shape[dim] for partner in self.partners]
        return self._size_of(self.outputs[output][dim], partners)

    def _is_read(self, values: Sequence[int]) -> bool:
        """Return whether an integer is a number, or one of the sizes that the operation reads."""
        if self._is_single:
            return any(values[0] == self.value(size) for size in (*self._near, *chain(*self.tensors())))
        return len(set(values)) == 1 or any(self.values(size) == values for size in self._near)

    @lazy
    def _near(self) -> list[Expr]:
        """The sizes that the operation reads, and what they are products of."""
        sizes = [size for axes in self.tensors() for size in axes if isinstance(size, Expr)]
        return [*sizes, *(factor for size in sizes for factor in size.factors)]

    def _size_of(self, value: int, others: Sequence[Any]) -> Size:
        near = self._near
        if self.is_alone:  # an operation that is not made at all sizes: sizes that are there show whose size it is
            read = next((size for size in near if self.values(size) == (value, *others)), None)
            return read or self._walk._integers.find_among((value, *others), self._places)
        if all(other == value for other in others):
            values = (value,) * (1 + len(self._walk._others))
            least = (size for size in near if has_least(size) and self._walk._integers.values(size) == values)
            return next(least, value)  # 16 of min(T, 16), read off a tensor that is longer in all traces
        if not all(isinstance(other, int) for other in others):
            raise OpaqueError("an integer that is none at other sizes")
        values = (value, *others)
        found = self._walk._integers.find(values, near)  # the walk's own view of one operation
        self.has_guessed = self.has_guessed or (found not in near and self._walk._integers.find_known(values) != found)
        return self._walk._integers.unknown(values) if found is None else found

    def equal(self, one: Size, other: Size) -> Size:
        return self._relate("equal", one, other)

    def alike(self, one: Size, other: Size) -> Size:
        return self._relate("alike", one, other)

    def _relate(self, kind: Kind, one: Size, other: Size) -> Size:
        if one is other or one == other:
            return one
        self._demand(kind, one, other)
        if isinstance(one, int) or (isinstance(other, Expr) and (has_least(one) or is_unknown(one))):
            return other
        return one

    def at_least(self, size: Size, least: Size) -> None:
        if not (isinstance(size, int) and isinstance(least, int)) and size != least:
            self._demand("at least", size, least)

    def least(self, size: Size, other: Size) -> Size:
        numbers = [self.known(size), self.known(other)]
        if numbers == [None, None]:  # that the other one may be smaller at other sizes is left to the traces there
            small, large = (size, other) if self.value(size) <= self.value(other) else (other, size)
            self.at_least(large, small)
            return small
        if None not in numbers:
            return min(size, other, key=self.value)
        return least_of(*(constant(each) if isinstance(each, int) else each for each in (size, other)))

    def padded(self, size: Size, before: Size, after: Size, dim: int) -> Size:
        """Return the multiple that an axis is padded to, where the code adds another number at other sizes."""
        given = super().padded(size, before, after, dim)
        outputs = [self.outputs, *([ref.shape for ref in partner.outputs] for partner in self.partners)]
        values = tuple(made[0][dim] for made in outputs)
        if self.is_alone or isinstance(size, int) or not self._is_computed() or self._walk._integers.is_input(values):
            return given
        if len(set(values)) == 1 and size != values[0]:  # one window at all sizes that were traced
            window = values[0]
            more = floor_of((size + (window - 1)).scaled(Fraction(1, window))).scaled(window)
            self._walk._integers.rivals[constant(window), more] = None
        multiples = self._walk._integers.find_multiples(size, values)
        # Where no trace adds anything, or several multiples are as likely, more traces tell; of what may be padded to a
        # size that is there, that of a skip connection, those tell that confirm every guess.
        is_as_before = values == self._walk._integers.values(size)
        is_likely = is_as_before and self._walk._integers.find_known(values) is not None
        if len(multiples) > 1 or len(set(values)) == 1 or is_likely:
            self._walk.found.is_ambiguous = True
        return multiples[0] if multiples else given

    def _is_computed(self) -> bool:
        """Return whether what is padded is no number of the code: it changes with the sizes, or is nothing at all."""
        lists = [event.args.get("pad") or event.args.get("padding") for event in (self.event, *self.partners)]
        return any(added != lists[0] for added in lists) or not any(lists[0] or ())

    def reshape(self, data: Axes, wanted: Axes) -> list[Size]:
        return divide_sizes(self, data, wanted)

    def repeat(self, size: Size, times: int) -> Size:
        return size * times

    def value(self, size: Size) -> int:
        return size if isinstance(size, int) else int(self._walk._integers.values(size)[0])  # as above

    def _demand(self, kind: Kind, one: Size, other: Size) -> None:
        if isinstance(one, int) and isinstance(other, int):
            raise OpaqueError(f"{one} and {other}")  # torch let it pass: it is meant otherwise
        self.demands.setdefault((kind, one, other), Demand(kind, one, other, self._index))

    def known(self, size: Size) -> int | None:
        if isinstance(size, int):
            return size
        value = size.constant_value if isinstance(size, Expr) else None
        return int(value) if value is not None else None

    def is_one(self, size: Size) -> bool:
        """Look at all traces for a minimum too: of ``x[:, -1:]`` it is 1, or nothing is left."""
        return size == 1 or (isinstance(size, Expr) and has_least(size) and {*self._walk._integers.values(size)} == {1})
