"""Which sizes work by what operations demand: solved by evaluation, confirmed elsewhere by traces."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelsummary_ipy.axes.expr import Expr, constant, symbol
from modelsummary_ipy.axes.integers import Integers
from modelsummary_ipy.axes.registry import Size
from modelsummary_ipy.axes.traced_op import Demand
from modelsummary_ipy.axes.walk import Walk
from modelsummary_ipy.records.op_events import OpEvents
from modelsummary_ipy.records.retraced import Sizes
from modelsummary_ipy.shapes.multiple_of import MultipleOf, read_multiple
from modelsummary_ipy.shapes.size_search import last_true

#: Most steps in which sizes are tried against what is demanded, and how many of them.
_MOST_STEP = 128
_STEPS = (1, 2, 3, 5)
#: How many sizes from the given one on are tried one by one.
_MOST_NEAR = 64
#: Above this no limit is searched: tables of positions are shorter.
LARGEST = 200_000


class Demands:
    """What operations demand of the input's dims."""

    def __init__(self, demands: Sequence[Demand], base: Sizes) -> None:
        self._demands = [demand for demand in demands if names_of(demand)]
        self._base = base

    def first(self, names: Sequence[str], step: int) -> int:
        """Return the smallest size of dims that move together that works, in steps from the given one."""
        base = self._base[names[0]]
        sizes = range(base, (base % step or step) - 1, -step)
        return self._last(names, sizes) if base else 0

    def last(self, names: Sequence[str], step: int) -> int | None:
        """Return the largest size that works; ``None`` if there is no limit."""
        base = self._base[names[0]]
        relevant = self._relevant(names)
        span = step
        while base + span <= LARGEST and self._hold(relevant, names, base + span):
            span *= 2
        if base + span > LARGEST:
            return None
        return self._last(names, range(base, base + span, step))

    def step(self, names: Sequence[str]) -> int:
        """Return the smallest step in which dims that move together may grow; 0 if there is none."""
        relevant, base = self._relevant(names), self._base[names[0]]
        for step in range(1, _MOST_STEP + 1):
            if all(self._hold(relevant, names, base + step * count) for count in _STEPS):
                return step
        return 0

    def multiples(self, name: str, step: int) -> tuple[MultipleOf, ...] | None:
        """Read what must be divisible of a dim that takes other sizes too than those in steps of ``step``.

        Returns:
            Conditions that no others imply; ``None`` if something else is demanded of these sizes.
        """
        found: list[MultipleOf] = []
        base = self._base[name]
        for demand in self._demands:
            if names_of(demand) != {name} or demand.kind == "at least":
                continue
            one, other = (x if isinstance(x, Expr) else constant(x) for x in (demand.one, demand.other))
            read = read_multiple(one, other, name, step)
            if read is not None and read not in found:
                found.append(read)
        sizes = range(base, base + step)
        for each in sorted(found, key=lambda each: -sum(map(each.takes, sizes))):
            others = [other for other in found if other != each]
            if all(each.takes(size) for size in sizes if all(other.takes(size) for other in others)):
                found = others
        takes = [self.take([name], size) for size in sizes]
        if takes != [all(each.takes(size) for each in found) for size in sizes]:
            return None
        joined = (each._replace(by=math.prod(other.by for other in found)) for each in found)  # halves of halves
        return next(((each,) for each in joined if takes == list(map(each.takes, sizes))), tuple(found))

    def take(self, names: Sequence[str], size: int) -> bool:
        """Return whether a size of dims that move together fits all that is demanded."""
        return self._hold(self._relevant(names), names, size)

    def fit(self, sizes: Sizes) -> bool:
        """Return whether some sizes fit all that is demanded, other dims as given."""
        return all(_holds(demand, {**self._base, **sizes}) for demand in self._demands)

    def may_be_broadcast(self, names: Sequence[str], size: int) -> bool:
        """Return whether a size of dims that move together fits, or is broadcast: what follows then is not known."""
        sizes = {**self._base, **dict.fromkeys(names, size)}
        broken = [demand for demand in self._relevant(names) if not _holds(demand, sizes)]
        if any(demand.kind == "at least" for demand in broken):
            return False
        pairs = [
            (_value(demand.one, sizes), _value(demand.other, sizes)) for demand in broken if demand.kind == "alike"
        ]
        return not broken or any(1 in pair and 0 not in pair for pair in pairs)

    @property
    def all(self) -> Sequence[Demand]:
        """What is demanded."""
        return self._demands

    @property
    def shared(self) -> list[Demand]:
        """What is demanded of several dims together."""
        return [demand for demand in self._demands if len(names_of(demand)) > 1]

    def without(self, demand: Demand) -> Demands:
        """Return all but one demand, also where it is made again of a broadcast."""
        sides = {demand.one, demand.other}
        return Demands([each for each in self._demands if {each.one, each.other} != sides], self._base)

    def drop(self, names: Sequence[str], size: int) -> None:
        """Leave out what is demanded wrongly, as an integer was taken for another: a size that works does not fit."""
        wrong = [demand for demand in self._relevant(names) if not self._hold([demand], names, size)]
        self._demands = [demand for demand in self._demands if demand not in wrong]

    def _last(self, names: Sequence[str], sizes: range) -> int:
        relevant = self._relevant(names)
        near = sizes[:_MOST_NEAR]  # what is to be equal may fail there, and be equal again farther on
        fails = next((place for place, size in enumerate(near) if not self._hold(relevant, names, size)), None)
        if fails is not None:
            return sizes[max(fails - 1, 0)]
        return last_true(sizes[len(near) - 1 :], lambda size: self._hold(relevant, names, size)) or sizes[0]

    def _relevant(self, names: Sequence[str]) -> list[Demand]:
        return [demand for demand in self._demands if names_of(demand) & set(names)]

    def _hold(self, demands: Sequence[Demand], names: Sequence[str], size: int) -> bool:
        sizes = {**self._base, **dict.fromkeys(names, size)}
        return all(_holds(demand, sizes) for demand in demands)


def read_demands(ops: OpEvents, names: Sequence[Sequence[str]], base: Sizes, at: Sizes) -> Demands:
    """Walk over one trace alone: what its operations demand of one another's sizes, whatever integers its code has.

    Args:
        names: Per input leaf, a name per dim; those that ``base`` does not name keep their sizes.
    """
    given = [
        () if ref is None else [symbol(n) if n in base else size for n, size in zip(dims, ref.shape, strict=True)]
        for ref, dims in zip(ops.inputs, names, strict=True)
    ]
    demands = Walk(ops, (), given, Integers([at]), ops.repeats).run().demands.values()
    # An integer may be a size of the input's that did not move; one with the batch in it holds for that batch.
    moving = [demand for demand in demands if all(isinstance(x, Expr) for x in demand[1:3])]
    return Demands(moving, {name: at[name] for name in base})


def names_of(demand: Demand) -> frozenset[str]:
    """Return the names in what an operation demands."""
    found: frozenset[str] = frozenset()
    for size in (demand.one, demand.other):
        found |= size.names if isinstance(size, Expr) else frozenset()
    return found


def _holds(demand: Demand, sizes: Sizes) -> bool:
    one, other = _value(demand.one, sizes), _value(demand.other, sizes)
    return bool(one >= other if demand.kind == "at least" else one == other)


def _value(size: Size, sizes: Sizes) -> Size:
    return size.value(sizes) if isinstance(size, Expr) else size
