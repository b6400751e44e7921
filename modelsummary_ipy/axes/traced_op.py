"""An operation as its entry reads it in a walk for formulas: its integers in all traces show whose sizes they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any, Literal, NamedTuple

from modelsummary_ipy.axes.divide import divide_sizes, group_axes, read_group
from modelsummary_ipy.axes.expr import Expr, constant
from modelsummary_ipy.axes.integers import Integers, is_unknown
from modelsummary_ipy.axes.minima import has_least, least_of
from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.op_events import PLACES, OpEvent, TensorRef

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


class TracedOp(Op):
    """One operation in several traces.

    Args:
        index: Its place in the first one.
        partners: The same operation in others.
        places: Which traces these are, from 1.
        num_others: How many others there are: it may not be made at all sizes.
        integers: Whose sizes integers are.
        axes_of: As above.

    Attributes:
        is_alone: Whether it is not made in all traces.
        has_guessed: Whether an integer among its arguments was no size that is known.
        is_ambiguous: Whether it pads to one multiple or another, as far as the traces tell.
        demands: What it demands of sizes, each once.
        reaches: Of a lookup whose places are no size that it reads, the rows, and how many of them every trace reads.
    """

    def __init__(
        self,
        index: int,
        event: OpEvent,
        partners: Sequence[OpEvent],
        places: Sequence[int],
        num_others: int,
        integers: Integers,
        axes_of: Callable[[TensorRef], list[Size]],
    ) -> None:
        super().__init__(event, axes_of)
        self.partners = partners
        self.is_alone = len(places) < num_others
        self._places = (0, *places)  # of the traces that make it
        self._is_single = self.is_alone and not places
        self.is_reshape = event.op in _RESHAPES
        self.has_guessed = self.is_ambiguous = False
        self.demands: dict[tuple[Any, ...], Demand] = {}
        self.reaches: list[tuple[int, tuple[int, ...]]] = []
        self._num_others = num_others
        self._integers = integers
        self._index = index

    def axes_in(self, name: str) -> list[list[Size]]:
        if any(len(partner.args.get(name) or []) != len(self._args.get(name) or []) for partner in self.partners):
            raise OpaqueError(f"{name} has another length at other sizes")
        return super().axes_in(name)

    def count(self, name: str) -> Size:
        return self._size_of(super().count(name), [len(partner.args.get(name) or ()) for partner in self.partners])

    def setting(self, name: str, default: Any = None) -> Any:
        if any(partner.args.get(name) != self._args.get(name) for partner in self.partners):
            raise OpaqueError(f"{name} depends on the input")
        return self.plain(name, default)

    def size(self, name: str, default: Any = None) -> Size:
        value = self._args.get(name)
        if not isinstance(value, int):
            if any(partner.args.get(name) != value for partner in self.partners):
                raise OpaqueError(f"{name} is no integer, and another number at other sizes")
            return default if value is None else value
        return self._size_of(value, [partner.args.get(name) for partner in self.partners])

    def sizes(self, name: str) -> list[Size]:
        values = super().sizes(name)
        others = [partner.args.get(name) or [] for partner in self.partners]
        if any(len(other) != len(values) for other in others):
            raise OpaqueError(f"{name} has another length at other sizes")
        is_left = self.is_reshape and -1 in values and not self.is_alone
        if is_left and not all(self._is_read(each) for each in zip(values, *others, strict=True)):
            made = [self.outputs[0], *(partner.outputs[0].shape for partner in self.partners)]
            if grouped := self._read_groups(list(zip(*made, strict=True))):
                return grouped
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
        values = self._integers.values(size)
        return tuple(values[place] for place in self._places) if self.is_alone else values

    def _find_read(self, values: tuple[int, ...], near: Sequence[Expr]) -> Size | None:
        """Find which of some sizes an integer is, or whether it is a number."""
        if len(set(values)) == 1:  # 8 of min(T, 8), of which no trace may have less; 7 of ⌊F/8⌋ at few sizes
            return next((size for size in near if self.values(size) == values), values[0])
        if self.is_alone:
            return next((size for size in near if self.values(size) == values), None)
        return (self._integers.find_read(values, near) or (None,))[0]

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
            return read or self._integers.find_among((value, *others), self._places)
        if all(other == value for other in others):
            values = (value,) * (1 + self._num_others)
            least = (size for size in near if has_least(size) and self._integers.values(size) == values)
            return next(least, value)  # 16 of min(T, 16), read off a tensor that is longer in all traces
        if not all(isinstance(other, int) for other in others):
            raise OpaqueError("an integer that is none at other sizes")
        values = (value, *others)
        found = self._integers.find(values, near)  # the walk's own view of one operation
        self.has_guessed = self.has_guessed or (found not in near and self._integers.find_known(values) != found)
        return self._integers.unknown(values) if found is None else found

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

    def look_up(self, rows: Size) -> None:
        events = (self.event, *self.partners)
        values = tuple([event.args[PLACES] for event in events if PLACES in event.args])
        if len(values) < len(events) or self.is_alone:
            return
        places, is_guessed = self._integers.find_quietly(values, self._near)
        if is_guessed and isinstance(rows, int):
            self.reaches.append((rows, values))
        if places is not None and not (isinstance(rows, int) and isinstance(places, int)):
            self._demand("at least", rows, places)

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
        if (
            self.is_alone
            or isinstance(size, int)
            or not _is_computed([self.event, *self.partners])
            or self._integers.is_input(values)
        ):
            return given
        if len(set(values)) == 1 and size != values[0]:  # one window at all sizes that were traced
            window = values[0]
            more = ((size + (window - 1)) // window).scaled(window)
            self._integers.rivals[constant(window), more] = None
        multiples = self._integers.find_paddings(size, values)
        # Where no trace adds anything, or several multiples are as likely, more traces tell; of what may be padded to a
        # size that is there, that of a skip connection, those tell that confirm every guess.
        is_as_before = values == self._integers.values(size)
        is_likely = is_as_before and self._integers.find_known(values) is not None
        is_even = not multiples and self.known(before + after) not in (0, None)  # as odd sizes are padded by one
        if len(multiples) > 1 or len(set(values)) == 1 or is_likely or is_even:
            self.is_ambiguous = True
        return multiples[0] if multiples else given

    def reshape(self, data: Axes, wanted: Axes) -> list[Size]:
        return divide_sizes(self, data, wanted)

    def value(self, size: Size) -> int:
        return size if isinstance(size, int) else int(self._integers.values(size)[0])  # as above

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
        return size == 1 or (isinstance(size, Expr) and has_least(size) and {*self._integers.values(size)} == {1})


def _is_computed(pads: Sequence[OpEvent]) -> bool:
    """Return whether what is padded is no number of the code: it changes with the sizes, or is nothing at all."""
    lists = [event.args.get("pad") or event.args.get("padding") for event in pads]
    return any(added != lists[0] for added in lists) or not any(lists[0] or ())
