"""Limits of several dims together: what is left of a ``view(-1, 784)``, a table that two sequences share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from modelsummary_ipy.axes.expr import Expr, Floor, Least, Root, constant, floor_of
from modelsummary_ipy.axes.minima import simplify
from modelsummary_ipy.axes.registry import Size
from modelsummary_ipy.axes.traced_op import Demand
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.retraced import Sizes
from modelsummary_ipy.shapes.demands import Demands
from modelsummary_ipy.shapes.demands import names_of as names_in
from modelsummary_ipy.shapes.expr_text import write
from modelsummary_ipy.shapes.tried_sizes import Constraint, TriedSizes

#: How many times its size a dim is tried at, where several together are divisible.
_MOST_TIMES = 4
#: Most sizes that are tried for where several dims are large enough together.
_MOST_STEPS = 8
_TRAINED_NORMS = names_of("batch norm", "instance norm")


class Parts(NamedTuple):
    """A product that must be divisible: ``B·H·W`` by 784, whichever dim it comes from.

    Attributes:
        product: The dims, without numbers.
        by: What divides it: a number, or its root, rounded down; 0 where it must be a square.
        demand: Of which it was read.
    """

    product: Expr
    by: Size
    demand: Demand

    def take(self, sizes: Sizes) -> bool:
        """Return whether nothing is left at some sizes."""
        value = int(self.product.value(sizes))
        by = self.by.value(sizes) if isinstance(self.by, Expr) else self.by
        return value % by == 0 if by else self.by != 0 or math.isqrt(max(value, 0)) ** 2 == value

    def write(self, order: Sequence[str]) -> str:
        """Write ``B·H·W divisible by 784``, ``H·W a square``."""
        return write(self.product, order) + (f" divisible by {_write(self.by)}" if self.by != 0 else " a square")


class Total(NamedTuple):
    """What must not be more than a number: ``T + T2`` than 31.

    Attributes:
        size: A sum or a product of several dims, that grows with each.
        most: The number.
        demand: Of which it was read.
    """

    size: Expr
    most: int
    demand: Demand


class JointLimits(TriedSizes):
    """Reads what operations demand of several dims together.

    Attributes:
        _parts: Products that must be divisible, once they are found.
    """

    _parts: tuple[Parts, ...] = ()

    def find_parts(self) -> Iterator[Parts]:
        """Find products that must be divisible: where something is left the model fails, and elsewhere it works."""
        found = []
        for demand in self._demands.all if self._demands is not None else ():
            parts = _read_parts(demand)
            left, other = ({}, {}) if parts is None else (self.find_left(parts), self._find_other(parts))
            if parts is not None and left and other and self._fails(left) and self._works(other):
                found.append(parts)
        for parts in found:  # thirds of which quarters are made: by 12
            same = [each.by for each in found if each is not parts and each.product == parts.product]
            mine, numbers = parts.by, [by for by in same if isinstance(by, int) and by]
            if not (isinstance(mine, int) and mine and any(by % mine == 0 for by in numbers)):
                yield parts

    def find_left(self, parts: Parts) -> dict[str, int]:
        """Return a size of a dim, near its own, at which something is left."""
        return next((at for at in self._near(parts) if not parts.take({**self._base, **at})), {})

    def _find_other(self, parts: Parts) -> dict[str, int]:
        """Return a size of a dim at which nothing is left, and more or less parts are made."""
        given = parts.product.value(self._base)
        others = ({**self._base, **at} for at in self._near(parts))
        return next((at for at in others if parts.product.value(at) != given and parts.take(at)), {})

    def _near(self, parts: Parts) -> Iterator[dict[str, int]]:
        """Yield other sizes of one dim, larger ones first, the batch last, that fit all else that is demanded."""
        assert self._demands is not None
        others = self._demands.without(parts.demand)
        for name in sorted(parts.product.names & {*self._base}, key=lambda name: (name == self._names.batch, name)):
            given = self._base[name]
            for size in (*range(given + 1, given * _MOST_TIMES + 2), *range(given - 1, 0, -1)):
                if others.take(self._samples.tied_to(name), size):
                    yield self._with_partner(name, size)

    def find_least(self, parts: Parts, name: str) -> int:
        """Return the smallest size of a dim that fits all else that is demanded, 1 if no size below it fails."""
        assert self._demands is not None
        least = self._demands.without(parts.demand).first(self._samples.tied_to(name), self._step(name))
        return least if least > 1 and self._fails(self._with_partner(name, least - 1)) else 1

    def find_totals(self, upper: Sizes) -> Iterable[tuple[tuple[str, ...], Constraint]]:
        """Find what several dims may be together, where each has the limit above that it has alone then.

        Returns:
            The dims, and the limit: ``T + T2 ≤ 31``.
        """
        for demand in self._demands.shared if self._demands is not None else ():
            total = _read_total(demand, self._samples.steps)
            names = () if total is None else tuple(name for name in self._base if name in total.size.names)
            if total is None or len(names) < 2 or not upper.keys() >= {*names}:
                continue
            ends = {name: self._last_of(total, name) for name in names}
            if any(upper[name] != end for name, end in ends.items()):
                continue
            pairs = [(one, two) for one, two in pairwise(names) if self._is_shared(total, one, two, upper)]
            if len(pairs) == len(names) - 1:
                beyond = [{name: end + self._step(name)} for name, end in ends.items()]
                ranges = {name: range(self._step(name), end + 1, self._step(name)) for name, end in ends.items()}
                text = f"{write(total.size, list(self._base))} ≤ {total.most}"
                yield names, self._build(text, *beyond, ranges=ranges)

    def _last_of(self, total: Total, name: str) -> int:
        size, step = self._base[name], self._step(name)
        while total.size.value({**self._base, name: size + step}) <= total.most:
            size += step
        return size

    def _is_shared(self, total: Total, one: str, two: str, upper: Sizes) -> bool:
        """Return whether one may be longer where the other is shorter, and not as long where it is longer."""
        beyond, more, less = upper[one] + self._step(one), self._base[two], self._base[two]
        while total.size.value({**self._base, one: upper[one], two: more}) <= total.most:
            more += self._step(two)
        demands = self._demands
        while less > 0 and demands is not None and not demands.fit({one: beyond, two: less}):
            less -= self._step(two)
        return less > 0 and self._works({one: beyond, two: less}) and self._fails({one: upper[one], two: more})

    def find_linked(self) -> Iterable[Constraint]:
        """Write ``⌈D2/4⌉ = D`` of dims that move in proportion: as operations demand, or as it was seen."""
        for one, two in self._samples.linked:
            alone = {one: self._base[one] + 1}
            shared = self._demands.shared if self._demands is not None else ()
            texts = [
                f"{_write(demand.one)} = {_write(demand.other)}"
                for demand in shared
                if demand.kind != "at least" and names_in(demand) == {one, two}
            ]
            less, more = sorted((one, two), key=lambda name: self._base[name])
            times, rest = divmod(self._base[more], self._base[less])
            beside = {less: self._base[less] + 1, more: (self._base[less] + 1) * times}
            if not texts and not rest and self._works(beside) and self._fails({more: self._base[more] + 1}):
                texts = [f"{more} = {times}·{less}"]
            texts = texts or [f"{name} = {self._base[name]} or few others" for name in (one, two)]
            if self._fails(alone):
                yield from (self._build(text, alone) for text in texts)
            every = self._demands.all if self._demands is not None else ()
            for name in (one, two):
                own = Demands([each for each in every if names_in(each) == {name}], self._base)
                step = own.step([name])
                for each in (own.multiples(name, step) or ()) if step > 1 else ():
                    yield self._build(each.write([name]), {name: each.beyond(self._base[name], 1)[0]})

    def find_shared(self, lower: dict[str, int], upper: dict[str, int]) -> Iterable[Constraint]:
        """Write ``L ≤ T`` where one dim may be as long as another is; the limits that follow are left out."""
        for demand in self._demands.shared if self._demands is not None else ():
            names = [name for name in self._base if name in names_in(demand)]
            alone = Demands([demand], self._base)
            if demand.kind != "at least" or len(names) != 2:
                continue
            for one, two in (names, names[::-1]):
                step = self._step(one)
                if one not in upper or alone.last([one], step) != upper[one]:
                    continue
                beyond = {one: upper[one] + step}
                sizes = range(self._base[two], _MOST_TIMES * self._base[two], self._step(two))
                longer = next((size for size in sizes if alone.fit({**beyond, two: size})), None)
                if longer is None or not self._works({**beyond, two: longer}):
                    continue
                yield self._build(_write_at_least(demand), beyond)
                upper_one = upper.pop(one)
                if two in lower and alone.first([two], self._step(two)) == lower[two]:
                    del lower[two]
                    least = self._demands.without(demand).first([two], self._step(two)) if self._demands else 1
                    fits = next(
                        (size for size in range(upper_one, 0, -1) if alone.fit({one: size, two: least})), upper_one
                    )
                    if self._works({one: fits, two: least}) and self._fails({one: fits, two: least - 1}):
                        lower[two] = least

    def has_other_factors(self, names: Sequence[str], upper: Sizes, lower: Sizes) -> bool:
        """Return whether sides beyond their limits work where another one is less: a layer takes as many pixels."""
        demands = self._demands
        for demand in demands.shared if demands is not None else ():
            sides = [name for name in self._base if name in names_in(demand) and name in upper]
            if demands is None or demand.kind == "at least" or len(sides) != 2 or not {*sides} & {*names}:
                continue
            for one, two in (sides, sides[::-1]):
                beyond = range(upper[one] + 1, _MOST_TIMES * upper[one] + 1)
                pairs = ({one: size, two: other} for size in beyond for other in range(1, lower.get(two, 1)))
                at = next((sizes for sizes in pairs if demands.fit(sizes)), None)
                if at is not None:
                    return self._works(at)
        return False

    def find_together(self, lower: Sizes) -> Iterable[Constraint]:
        """Write ``H or W ≥ 16 for B = 1``: in train mode a norm takes no single value of a channel.

        Each dim alone may be as small as its limit, and all of them together may not.
        """
        names = [name for name in self._samples.free if self._names.is_spatial(name) and self._may_end(name)]
        steps = {self._step(name) for name in names}
        is_norm = any(fact.training and fact.type_name in _TRAINED_NORMS for fact in self._trace.modules)
        if not is_norm or len(names) < 2 or len(steps) > 1 or any(len(self._samples.tied_to(n)) > 1 for n in names):
            return
        step = steps.pop()
        first = {name: self._base[name] % step or step for name in names}
        lows = {name: min(lower.get(name, low), self._smallest.get(name, low)) for name, low in first.items()}
        if self._works(lows) or not self._fails(lows):
            return
        start = max(lower.get(name, low) for name, low in first.items())
        sizes = range(start, start + _MOST_STEPS * step, step)
        enough = next((size for size in sizes if self._works({**lows, names[0]: size})), None)
        if enough is None or not all(self._works({**lows, name: enough}) for name in names[1:]):
            return
        below = dict.fromkeys(names, enough - step) if enough > start else lows
        if self._fails(below):
            is_single = self._base.get(self._names.batch) == 1 and self._works({**lows, self._names.batch: 2})
            words = f"{', '.join(names[:-1])} or {names[-1]} ≥ {enough}"
            yield self._build(words + f" for {self._names.batch} = 1" * is_single, below)


def _write(size: Size) -> str:
    return write(size) if isinstance(size, Expr) else str(size)


def _write_at_least(demand: Demand) -> str:
    """Write ``L ≤ T`` of ``T - L + 1 ≥ 1``."""
    one, other = (x if isinstance(x, Expr) else constant(x) for x in (demand.one, demand.other))
    more = (one - other).terms
    smaller, larger = (Expr(tuple(term for term in more if (term[1] < 0) == is_less)) for is_less in (True, False))
    return f"{write(smaller.scaled(-1))} ≤ {write(larger)}"


def _read_parts(demand: Demand) -> Parts | None:
    """Read ``n·⌊x/n⌋ = x`` of several dims, or ``⌊√x⌋² = x``."""
    for whole, size in ((demand.one, demand.other), (demand.other, demand.one)):
        if not isinstance(whole, Expr) or not isinstance(size, Expr) or demand.kind != "equal":
            continue
        squares = [atom for dims, _ in whole.terms for atom, power in dims if isinstance(atom, Root) and power == 2]
        if squares and _open_squares(whole) == size:
            return Parts(squares[0].inside, 0, demand)
        if (root := _read_root(whole, size)) is not None:
            return Parts(size, root, demand)
        (monomial, times), *more = whole.terms or (((), 0),)
        if more or len(monomial) != 1 or not isinstance(monomial[0][0], Floor):
            continue
        inside = monomial[0][0].inside
        is_whole = size in (inside.scaled(times), floor_of(inside.scaled(times)))
        if len(inside.names) > 1 and monomial[0][1] == 1 and len(inside.terms) == 1 and is_whole:
            dims, part = inside.terms[0]
            return Parts(Expr(((dims, 1),)), Fraction(part).denominator, demand)
    return None


def _read_root(whole: Expr, size: Expr) -> Expr | None:
    """Read ``⌊√x⌋·⌊x/⌊√x⌋⌋ = x``: patches are laid out in as many rows as their root."""
    for root in (Expr(((((atom, 1),), 1),)) for dims, _ in whole.terms for atom, _ in dims if isinstance(atom, Root)):
        if len(size.names) > 1 and root * (size // root) == whole:
            return root
    return None


def _open_squares(whole: Expr) -> Expr:
    """Write ``x`` for ``⌊√x⌋²``."""
    found = constant(0)
    for dims, part in whole.terms:
        term = constant(part)
        for atom, power in dims:
            if isinstance(atom, Root) and power == 2:
                term = term * atom.inside
            else:
                term = term * Expr(((((atom, power),), 1),))
        found = found + term
    return found


def _read_total(demand: Demand, steps: Sizes) -> Total | None:
    """Read a sum or a product that a number is not below: of a table, or of a part of one that is long enough.

    Args:
        steps: By name, what every size that works is a multiple of.
    """
    if demand.kind == "at least":
        more = demand.other - demand.one
    else:
        more = _read_cut(demand.one, demand.other) or _read_cut(demand.other, demand.one)
    if not isinstance(more, Expr):
        return None
    more = simplify(more, steps)
    terms = tuple(term for term in more.terms if term[0])
    most = -Fraction((more - Expr(terms)).value({}))
    if len(terms) == 1 and terms[0][1] > 0:  # H·W ≤ 6336 for H/8·W/8 ≤ 99
        return Total(Expr(((terms[0][0], 1),)), math.floor(most / terms[0][1]), demand)
    grows = all(part > 0 and Fraction(part).denominator == 1 for _, part in terms)
    return Total(Expr(terms), math.floor(most), demand) if terms and grows else None


def _read_cut(size: object, part: object) -> Expr | None:
    """Return by how much a size is more than the table that is cut to it: of ``min(T + T2, 31) + 1``."""
    if not (isinstance(size, Expr) and isinstance(part, Expr)):
        return None
    least = [dims for dims, _ in part.terms if len(dims) == 1 and isinstance(dims[0][0], Least)]
    if len(least) != 1:
        return None
    atom = least[0][0][0]
    assert isinstance(atom, Least)
    rest = part - Expr(((least[0], 1),))
    numbers = [each for each in atom.parts if each.constant_value is not None]
    others = [each for each in atom.parts if each.constant_value is None]
    if len(numbers) == len(others) == 1 and size - rest == others[0]:
        return others[0] - constant(numbers[0].constant_value or 0)
    return None
