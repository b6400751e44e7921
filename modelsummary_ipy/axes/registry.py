"""The entries of the table: which function says what an operation does to axes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any, TypeVar

from modelsummary_ipy.records.op_events import OpEvent, TensorRef

#: The size of an axis: an ``int``, or anything that is added, multiplied and divided like one. A walk at sizes passes
#: numbers, a walk at formulas passes expressions.
Size = Any
#: The sizes of one tensor's axes.
Axes = Sequence[Size]


class OpaqueError(Exception):
    """What an operation makes is not known: its sizes come from torch, its formulas from several traces."""


class EntryError(OpaqueError):
    """A user's entry contradicts what torch ran."""


class Given(ABC):
    """What an entry reads of an operation: its tensors and its other arguments.

    Args:
        axes_of: Returns the axes of a tensor.

    Attributes:
        name: ``"aten.addmm"``.
        refs: The tensors among its arguments, in order.
        outputs: The shapes that torch gave.
    """

    def __init__(self, event: OpEvent, axes_of: Callable[[TensorRef], list[Size]]) -> None:
        self.name = event.op
        self.event = event
        self.refs = event.refs
        self.outputs: Sequence[tuple[int, ...]] = [ref.shape for ref in event.outputs]
        self._args = event.args
        self._axes_of = axes_of

    def has(self, name: str) -> bool:
        """Return whether a tensor was given for an argument."""
        return isinstance(self._args.get(name), TensorRef)

    def axes(self, name: str) -> list[Size]:
        """Return the axes of a tensor argument."""
        value = self._args.get(name)
        if not isinstance(value, TensorRef):
            raise OpaqueError(f"no tensor {name}")
        return self._axes_of(value)

    def axes_in(self, name: str) -> list[list[Size]]:
        """Return the axes of every tensor in a list of them."""
        return [self._axes_of(item) for item in self._args.get(name) or [] if isinstance(item, TensorRef)]

    def tensors(self) -> list[list[Size]]:
        """Return the axes of all tensors among the arguments, in order."""
        return [self._axes_of(ref) for ref in self.refs]

    def first(self) -> list[Size]:
        """Return the axes of the first tensor."""
        return self._axes_of(self.refs[0])

    def dtypes(self, name: str) -> list[str]:
        """Return the dtypes of the tensors in a list of them."""
        return [item.dtype for item in self._args.get(name) or [] if isinstance(item, TensorRef)]

    def count(self, name: str) -> Size:
        """Return how many tensors are in a list of them."""
        return len(self._args[name])

    def plain(self, name: str, default: Any = None) -> Any:
        """Return an argument that is no size: a flag, a dim, a kernel."""
        value = self._args.get(name, default)
        return default if value is None else value

    def setting(self, name: str, default: Any = None) -> Any:
        """Return an argument that is the same at all sizes: a kernel, a stride."""
        return self.plain(name, default)

    def size(self, name: str, default: Any = None) -> Size:
        """Return an integer argument that may be a size of the input's."""
        return self.plain(name, default)

    def sizes(self, name: str) -> list[Size]:
        """Return a list of integers that may be sizes of the input's."""
        values = self._args.get(name)
        if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
            raise OpaqueError(f"{name} is no list of integers")
        return list(values)

    def made(self, output: int = 0) -> tuple[int, ...]:
        """Return the shape that torch gave an output: for what no argument says."""
        return self.outputs[output] if output < len(self.outputs) else ()

    @abstractmethod
    def counted(self, output: int, dim: int) -> Size:
        """Return a size of a result that depends on values, not on sizes."""


class Op(Given):
    """One operation, as an entry reads it, and what the entry says of its sizes."""

    @abstractmethod
    def equal(self, one: Size, other: Size) -> Size:
        """Demand that two sizes are equal, and return the one that says more."""

    def equal_all(self, one: Axes, other: Axes) -> list[Size]:
        """Demand that all axes of two tensors are equal."""
        return [self.equal(mine, its) for mine, its in zip(one, other, strict=True)]

    def divided(self, size: Size, count: Size) -> Size:
        """Divide a size, and demand that nothing is left."""
        part = size // count
        self.equal(part * count, size)
        return part

    def alike(self, one: Size, other: Size) -> Size:
        """Demand that two sizes are equal, or one of them 1, and return the one that says more."""
        return self.equal(one, other)

    @abstractmethod
    def at_least(self, size: Size, least: Size) -> None:
        """Demand that a size is not below another."""

    def inside(self, size: Size, part: Size) -> None:
        """Demand that an axis is not below another, whose entries are its first ones."""
        self.at_least(size, part)

    def across(self, *sizes: Size) -> None:
        """Say that an entry of a result depends on several along these axes, though a result may have them."""

    def look_up(self, rows: Size) -> None:
        """Say that the values of a tensor are places on an axis."""

    def reordered(self, size: Size) -> Size:
        """Return an axis with its entries in another order."""
        return size

    def resized(self, size: Size, length: Size, start: Size | None = None) -> Size:
        """Return the axis of so many entries that another has, or makes: in a row from ``start``, or in any order."""
        return length

    def join(self, sizes: Axes) -> Size:
        """Return the axis of several, one behind the other."""
        return reduce(add, sizes)

    def by_groups(self, read: Size, made: Size, groups: int) -> Size:
        """Return the second axis, each group of which is made of one group of the first."""
        return made

    @abstractmethod
    def least(self, size: Size, other: Size) -> Size:
        """Return the smaller of two sizes."""

    @abstractmethod
    def reshape(self, data: Axes, wanted: Axes) -> list[Size]:
        """Return the axes asked for, of the same elements in the same order; -1 is what is left of them."""

    def repeat(self, size: Size, times: int) -> Size:
        """Return the axis of so many copies of another, one behind the other."""
        return size * times

    def padded(self, size: Size, before: Size, after: Size, dim: int) -> Size:
        """Return an axis with so much added to its ends, the axis ``dim`` of the result."""
        return size + before + after

    @abstractmethod
    def value(self, size: Size) -> int:
        """Return what a size was in the trace."""

    @abstractmethod
    def known(self, size: Size) -> int | None:
        """Return a size that is a number, ``None`` for one that depends on the input."""

    def is_one(self, size: Size) -> bool:
        """Return whether a size is 1 at all sizes that were traced."""
        return self.known(size) == 1


#: Returns the axes of every output.
Entry = Callable[[Op], Sequence[Axes]]
E = TypeVar("E", bound=Callable[..., Any])

_entries: dict[str, Entry] = {}
#: Operations whose entry a user gave.
_own: set[str] = set()


def entry(names: str) -> Callable[[E], E]:
    """Register a function for aten operations, by their names without ``aten.``, separated by spaces."""

    def register(function: E) -> E:
        for name in names.split():
            _entries[f"aten.{name}"] = function
        return function

    return register


def put(axes: Axes, dim: int, *sizes: Size) -> list[Size]:
    """Put sizes, or none, in the place of one axis."""
    dim %= len(axes) or 1
    return [*axes[:dim], *sizes, *axes[dim + 1 :]]


def insert(axes: Axes, dim: int, size: Size) -> list[Size]:
    """Put a new axis at a place of what is made."""
    dim %= len(axes) + 1
    return [*axes[:dim], size, *axes[dim:]]


def register_entry(name: str, function: Entry) -> None:
    """Register a user's function for an operation, ``"mylib.fused_mlp"``."""
    _entries[name] = function
    _own.add(name)


def is_own(name: str) -> bool:
    """Return whether a user gave the entry of an operation."""
    return name in _own


def find_entry(name: str) -> Entry | None:
    """Find the entry of ``"aten.relu_"``: its own, else that of the operation that is not in place."""
    return _entries.get(name) or _entries.get(name.rstrip("_"))
