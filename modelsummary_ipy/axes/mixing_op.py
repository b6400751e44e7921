"""An operation as its entry reads it where one dim of the input is followed: which axes of its results are the dim."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from math import prod
from operator import add, floordiv, mul, sub
from typing import Any, NamedTuple

import modelsummary_ipy.axes.table  # noqa: F401  # registers all entries
from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size, find_entry, is_own
from modelsummary_ipy.records.op_events import OpEvent, TensorRef


class At(NamedTuple):
    """The dim is an axis of a tensor, or a part of one.

    Attributes:
        place: Which axis.
        inner: How many entries of the axis in a row belong to one entry of the dim; 0 if they no longer stand in the
            order of the dim, or not all of them do: what reads along the axis still reads across the dim.
    """

    place: int
    inner: int = 1


class Mixed(NamedTuple):
    """Entries depend on several of the dim: the operation that read across it."""

    by: int


class Unclear(NamedTuple):
    """Entries may depend on several of the dim: the operation of which that is not known."""

    by: int


#: Of a tensor; ``None`` if it does not depend on the dim.
State = At | Mixed | Unclear | None

#: Operations whose results depend on the shape of a tensor alone.
_NEW = frozenset(
    f"aten.{name}"
    for name in (
        *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like"),
        *("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "zero", "fill"),
    )
)
#: Operations whose entry says how large axes are, and not which they are.
_SIZES_ALONE = frozenset({"aten.as_strided"})


def is_in_order(state: State) -> bool:
    """Return whether the entries of a tensor are those of the dim, or do not depend on it."""
    return state is None or (isinstance(state, At) and state.inner > 0)


def follow(index: int, event: OpEvent, operand: int, at: At, num: int) -> list[State]:
    """Return how the results of an operation depend on a dim that one of its operands has.

    Args:
        index: Its place in the trace.
        operand: Which of its tensors, in order.
        at: Where that has the dim.
        num: The size of the dim.
    """
    name = event.op if event.op.endswith("__") else event.op.removesuffix("_")  # in place reads what the other reads
    entry = find_entry(name)
    if name in _NEW:
        return [None] * len(event.outputs)
    if entry is None or is_own(event.op) or name in _SIZES_ALONE:
        return [Unclear(index)] * len(event.outputs)
    op = _MixingOp(event._replace(op=name), operand, at, num)
    try:
        made = entry(op)
    except _AcrossError:
        return [Mixed(index)] * len(event.outputs)
    except (OpaqueError, ArithmeticError, IndexError):
        return [Unclear(index)] * len(event.outputs)
    found = [op.find_state(index, axes, ref) for axes, ref in zip(made, event.outputs, strict=False)]
    return [*found, *[Unclear(index)] * (len(event.outputs) - len(found))]


class _AcrossError(Exception):
    """An operation reads across the dim."""


class _Axis:
    """The size of an axis; ``inner`` is as of ``At`` where the dim lies on it, else ``None``.

    What arithmetic makes of an axis has the entries of the dim in another order, or not all of them.
    """

    __slots__ = ("inner", "size")

    def __init__(self, size: int, inner: int | None = None) -> None:
        self.size = size
        self.inner = inner

    @staticmethod
    def _compute(function: Callable[[int, int], int]) -> Callable[[_Axis, _Axis | int], _Axis]:
        def compute(self: _Axis, other: _Axis | int) -> _Axis:
            size = function(self.size, _value(other))
            return self if size == self.size else _Axis(size, 0 if _is_dim(self) or _is_dim(other) else None)

        return compute

    __add__ = __radd__ = _compute(add)
    __mul__ = __rmul__ = _compute(mul)
    __sub__, __rsub__ = _compute(sub), _compute(lambda size, other: other - size)
    __floordiv__ = _compute(floordiv)


def _value(size: _Axis | int) -> int:
    return size.size if isinstance(size, _Axis) else size


def _is_dim(size: Size) -> bool:
    return isinstance(size, _Axis) and size.inner is not None


class _MixingOp(Op):
    """One operation, of which one operand has the dim: axes that must be equal to its axis have the dim too."""

    def __init__(self, event: OpEvent, operand: int, at: At, num: int) -> None:
        event = _number_operands(event)
        super().__init__(event, self._copy_axes)
        self._num = num
        self._operand = operand
        self._is_read = False  # whether the entry looks at the operand
        self._axes = [[_Axis(size) for size in ref.shape] for ref in event.refs]
        self._axes[operand][at.place].inner = at.inner

    def _copy_axes(self, ref: TensorRef) -> list[Size]:
        self._is_read = self._is_read or ref.number == self._operand
        return list(self._axes[ref.number])

    def find_state(self, index: int, axes: Axes, ref: TensorRef) -> State:
        """Return what is known of a result: an axis that is in none of its axes was read across."""
        if tuple(map(_value, axes)) != ref.shape:
            return Unclear(index)
        found: list[State] = [At(place, size.inner) for place, size in enumerate(axes) if _is_dim(size)]
        if len(found) == 1 or 0 in ref.shape:
            return found[0] if found else None
        return Mixed(index) if self._is_read and not found else Unclear(index)

    def counted(self, output: int, dim: int) -> Size:
        raise OpaqueError("which entries there are depends on values")

    def equal(self, one: Size, other: Size) -> Size:
        if _value(one) != _value(other):
            raise OpaqueError(f"{_value(one)} and {_value(other)}")
        if isinstance(one, _Axis) and isinstance(other, _Axis):
            inner = other.inner if one.inner is None else one.inner
            one.inner = other.inner = inner
        return one if isinstance(one, _Axis) else other

    def at_least(self, size: Size, least: Size) -> None:
        """Sizes are those of a trace that came to its end."""

    def across(self, *sizes: Size) -> None:
        if any(map(_is_dim, sizes)):
            raise _AcrossError

    def least(self, size: Size, other: Size) -> Size:
        small = size if _value(size) <= _value(other) else other
        return _Axis(_value(small), 0) if not _is_dim(small) and (_is_dim(size) or _is_dim(other)) else small

    def reordered(self, size: Size) -> Size:
        return _Axis(_value(size), 0) if _is_dim(size) else size

    def resized(self, size: Size, length: Size, start: Size | None = None) -> Size:
        if not _is_dim(size):
            return length
        if start is None:
            return _Axis(_value(length), 0)
        return size if _value(length) == size.size else self._cut(size.inner, _value(length), _value(start))

    def inside(self, size: Size, part: Size) -> None:
        if _is_dim(size) or _is_dim(part):
            inner = size.inner if part.inner is None else part.inner
            size.inner = part.inner = inner if size.size == part.size else 0

    def join(self, sizes: Axes) -> Size:
        total, place = sum(map(_value, sizes)), next((at for at, size in enumerate(sizes) if _is_dim(size)), None)
        if place is None or len(sizes) == 1:
            return sizes[0] if len(sizes) == 1 else _Axis(total)
        return self._cut(sizes[place].inner, total, sum(map(_value, sizes[:place])))

    def _cut(self, inner: int, length: int, start: int) -> _Axis:
        """Return an axis on which the dim begins anew at ``start``: in order if that is there as a whole, or often."""
        run = inner * self._num
        is_whole = run and length % run == start % run == 0
        return _Axis(length, inner if is_whole else 0)

    def by_groups(self, read: Size, made: Size, groups: int) -> Size:
        if _is_dim(read) and read.inner * self._num == read.size and groups % self._num == 0:  # a sample a group
            return _Axis(_value(made), _value(made) // self._num)
        return made

    def repeat(self, size: Size, times: int) -> Size:
        return _Axis(size.size * times, size.inner) if _is_dim(size) else size * times

    def reshape(self, data: Axes, wanted: Axes) -> list[Size]:
        """A run of elements is one entry of the dim wherever it went."""
        total, rest = prod(map(_value, data)), prod(size for size in wanted if size != -1)
        made = [_Axis(total // (rest or 1) if size == -1 else size) for size in wanted]
        for place, size in enumerate(data):
            if _is_dim(size):
                self._place_run(size, prod(map(_value, data[place + 1 :])), made)
        return made

    def _place_run(self, size: _Axis, behind: int, made: list[_Axis]) -> None:
        run = (size.inner or 0) * behind
        left = prod(axis.size for axis in made)
        for axis in made:
            extent, left = left, left // (axis.size or 1)
            if run and run % left == 0 and extent % (run * self._num) == 0:
                axis.inner = run // left
                return
            if not run and axis.size == size.size and left == behind:
                axis.inner = 0
                return
        raise OpaqueError("parts of the dim in several axes")

    def value(self, size: Size) -> int:
        return _value(size)

    def known(self, size: Size) -> int | None:
        return None if _is_dim(size) and size.size == 1 else _value(size)  # of one entry of the dim: not to be lost


def _number_operands(event: OpEvent) -> OpEvent:
    """Give each operand the number of its place, for a tensor may be given twice."""
    places = count()

    def number(value: Any) -> Any:
        if isinstance(value, TensorRef):
            return value._replace(number=next(places))
        return [number(item) for item in value] if isinstance(value, list) else value

    return event._replace(args={name: number(value) for name, value in event.args.items()})
