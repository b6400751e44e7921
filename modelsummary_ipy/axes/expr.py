"""Sizes as expressions of named dims: polynomials over names, floors and minima, and their values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

#: A name, a floor, a root, a minimum, or a sum in parentheses (sums are not multiplied out).
Atom: TypeAlias = "str | Floor | Root | Least | Expr"
#: Factors with their powers; a negative one divides, inside of a floor.
Monomial = tuple[tuple[Atom, int], ...]
#: A whole number is an ``int``: most are, and these are added and compared at a tenth of what a fraction costs.
Coefficient = int | Fraction


@dataclass(frozen=True, slots=True)
class Floor:
    """An expression rounded down."""

    inside: Expr


@dataclass(frozen=True, slots=True)
class Root:
    """The square root of an expression, rounded down: of patches the side of their square."""

    inside: Expr


@dataclass(frozen=True, slots=True)
class Least:
    """The smallest of two or more expressions; a maximum is written as their sum less this."""

    parts: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Expr:
    """A sum of monomials with rational coefficients.

    Attributes:
        terms: ``(monomial, coefficient)``, no coefficient zero, no monomial twice; the empty monomial is the constant.
    """

    terms: tuple[tuple[Monomial, Coefficient], ...]
    _hash: int | None = field(default=None, init=False, repr=False, compare=False)
    _names: frozenset[str] | None = field(default=None, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        if self._hash is None:  # a walk looks up the same expressions thousands of times
            object.__setattr__(self, "_hash", hash(self.terms))
        return self._hash  # type: ignore[return-value]  # set above

    def __add__(self, other: Expr | int) -> Expr:
        return _collect([*self.terms, *_lift(other).terms])

    __radd__ = __add__

    def __sub__(self, other: Expr | int) -> Expr:
        return self + _lift(other).scaled(-1)

    def __rsub__(self, other: int) -> Expr:
        return _lift(other) - self

    def scaled(self, factor: Fraction | int) -> Expr:
        """Multiply every coefficient."""
        return _collect([(monomial, coefficient * factor) for monomial, coefficient in self.terms])

    def __mul__(self, other: Expr | int) -> Expr:
        """Multiply; a factor that is a sum stays together, so ``(H + 1)·(W + 1)`` is written as it was meant."""
        other = _lift(other)
        for this, that in ((self, other), (other, self)):
            if (number := this.constant_value) is not None:
                return that.scaled(number)
        left, right = _as_factor(self), _as_factor(other)
        powers: dict[Atom, int] = {}
        for atom, power in (*left[0], *right[0]):
            powers[atom] = powers.get(atom, 0) + power
        return Expr(((_sort_monomial(powers.items()), _whole(left[1] * right[1])),))

    __rmul__ = __mul__

    def __floordiv__(self, other: Expr | int) -> Expr:
        """Divide and round down; by an expression only where nothing is left, or by a root.

        Raises:
            ArithmeticError: If what is left of a division by an expression is not known.
        """
        number = _lift(other).constant_value
        if number is not None:
            return floor_of(self.scaled(Fraction(1) / number))
        assert isinstance(other, Expr)
        below, scale = _as_factor(other)
        powers = dict(below)
        terms: list[tuple[Monomial, Coefficient]] = []
        for monomial, coefficient in self.terms if len(below) and not _is_sum(below) else (_as_factor(self),):
            above = dict(monomial)
            for atom, power in powers.items():
                above[atom] = above.get(atom, 0) - power
            if any(power < 0 and not isinstance(atom, Root) for atom, power in above.items()):
                raise ArithmeticError(f"{self} is not divided by {other}")
            terms.append((_sort_monomial(above.items()), Fraction(coefficient) / scale))
        return floor_of(_collect(terms))

    def __rfloordiv__(self, other: int) -> Expr:
        return _lift(other) // self

    @property
    def constant_value(self) -> Coefficient | None:
        """Its value if it is a plain number."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def factors(self) -> tuple[Expr, ...]:
        """What it is a product of, without its number: ``H`` and ``W`` of ``2·H·W``; empty for a sum or one factor."""
        if len(self.terms) != 1 or (len(self.terms[0][0]) < 2 and self.terms[0][1] == 1):
            return ()
        return tuple(atom if isinstance(atom, Expr) else Expr(((((atom, 1),), 1),)) for atom, _ in self.terms[0][0])

    @property
    def names(self) -> frozenset[str]:
        """Every name in it."""
        if self._names is None:  # as its hash
            atoms = [atom for monomial, _ in self.terms for atom, _power in monomial]
            inside = (part.names for atom in atoms if not isinstance(atom, str) for part in parts_of(atom))
            found = frozenset(atom for atom in atoms if isinstance(atom, str)).union(*inside)
            object.__setattr__(self, "_names", found)
        return self._names  # type: ignore[return-value]  # set above

    def value(self, sizes: Mapping[str, int]) -> Coefficient:
        """Return its value at ``sizes``; an ``int`` where it is whole.

        Raises:
            KeyError: If a name has no size.
        """
        above, below = self._ratio(sizes)
        return above if below == 1 else _whole(Fraction(above, below))

    def _ratio(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """Return its value as a numerator and a denominator that may have a factor in common."""
        total, under = 0, 1
        for monomial, coefficient in self.terms:
            above, below = coefficient.as_integer_ratio()
            for atom, power in monomial:
                top, bottom = _ratio_of(atom, sizes)
                if power < 0:
                    top, bottom, power = bottom, top or 1, -power  # nothing works where a root is 0
                above *= top if power == 1 else top**power
                if bottom != 1:
                    below *= bottom**power
            total, under = (total + above, 1) if below == under == 1 else (total * below + above * under, under * below)
        return total, under


def _ratio_of(atom: Atom, sizes: Mapping[str, int]) -> tuple[int, int]:
    if type(atom) is str:
        return sizes[atom], 1
    if type(atom) is Floor:
        above, below = atom.inside._ratio(sizes)
        return above // below, 1
    if isinstance(atom, Root):
        above, below = atom.inside._ratio(sizes)
        return math.isqrt(max(above // below, 0)), 1
    if isinstance(atom, Least):
        return min(part.value(sizes) for part in atom.parts).as_integer_ratio()
    assert isinstance(atom, Expr)
    return atom._ratio(sizes)


def constant(number: int | Fraction) -> Expr:
    """Return a number as an expression."""
    return Expr((((), _whole(number)),)) if number else Expr(())


def symbol(name: str) -> Expr:
    """Return a named dim as an expression."""
    return Expr(((((name, 1),), 1),))


def cancel(one: Expr, other: Expr) -> tuple[Expr, Expr]:
    """Leave out the factors that two products have in common: ``H`` and ``4`` of ``B·H`` and ``4·B``."""
    if len(one.terms) != 1 or len(other.terms) != 1:
        return one, other
    ((mine, first),), ((theirs, second),) = one.terms, other.terms
    shared = {atom: min(power, dict(theirs).get(atom, 0)) for atom, power in mine}
    by = math.gcd(first, second) if isinstance(first, int) and isinstance(second, int) else 1

    def leave(monomial: Monomial, coefficient: Coefficient) -> Expr:
        left = [(atom, power - max(shared.get(atom, 0), 0)) for atom, power in monomial]
        return Expr(((_sort_monomial(left), _whole(Fraction(coefficient) / by)),))

    return leave(mine, first), leave(theirs, second)


def _lift(value: Expr | int) -> Expr:
    return value if isinstance(value, Expr) else constant(value)


def _whole(number: Coefficient) -> Coefficient:
    return number.numerator if number.denominator == 1 else number


def _collect(terms: Iterable[tuple[Monomial, Coefficient]]) -> Expr:
    sums: dict[Monomial, Coefficient] = {}
    for monomial, coefficient in terms:
        sums[monomial] = sums.get(monomial, 0) + coefficient
    return Expr(tuple((monomial, _whole(coefficient)) for monomial, coefficient in sums.items() if coefficient))


def _as_factor(expr: Expr) -> tuple[Monomial, Coefficient]:
    if len(expr.terms) == 1:
        return expr.terms[0]
    return ((expr, 1),), 1


def _is_sum(monomial: Monomial) -> bool:
    return any(isinstance(atom, Expr) for atom, _ in monomial)


def _sort_monomial(powers: Iterable[tuple[Atom, int]]) -> Monomial:
    """Put the factors in one order, whatever they came in: equal products are equal."""
    left = [(atom, power) for atom, power in powers if power]
    return tuple(left if len(left) < 2 else sorted(left, key=lambda item: repr(item[0])))


def parts_of(atom: Floor | Root | Least | Expr) -> tuple[Expr, ...]:
    """Return the expressions in a factor."""
    return atom.parts if isinstance(atom, Least) else (atom.inside if isinstance(atom, (Floor, Root)) else atom,)


def floor_of(expr: Expr, steps: Mapping[str, int] | None = None) -> Expr:
    """Round ``expr`` down, as simple as it can be written.

    A floor of a floor is one floor, ``⌊(⌊(H + 1)/2⌋ + 1)/2⌋ = ⌊(H + 3)/4⌋``: a chain of strided layers is one step.
    What is an integer at every size that works is taken out.

    Args:
        expr: What to round down.
        steps: By name, what every size that works is a multiple of.
    """
    expr = _open_inner_floor(expr)
    outer: list[tuple[Monomial, Coefficient]] = []
    rest: list[tuple[Monomial, Coefficient]] = []
    number: Coefficient = 0
    for monomial, coefficient in expr.terms:
        if not monomial:
            number = coefficient
        elif _is_integer_term(monomial, coefficient, steps or {}):
            outer.append((monomial, coefficient))
        else:
            rest.append((monomial, coefficient))
    outside = math.floor(number)
    if not rest:
        return _collect([*outer, ((), outside)])
    # The number inside is kept below 1, so that equal floors are equal: ⌊(H + 5)/2⌋ = ⌊(H + 1)/2⌋ + 2.
    inside = Floor(_collect([*rest, ((), number - outside)]))
    return _collect([*outer, (((inside, 1),), 1), ((), outside)])


def root_of(expr: Expr) -> Expr:
    """Return the square root of ``expr``, rounded down: ``H`` of ``H·H``."""
    monomial, coefficient = expr.terms[0] if len(expr.terms) == 1 else ((), 0)
    number = math.isqrt(max(coefficient.numerator, 0)) if coefficient.denominator == 1 else 0
    if monomial and number**2 == coefficient and all(power % 2 == 0 for _, power in monomial):
        return Expr(((tuple((atom, power // 2) for atom, power in monomial), number),))
    return Expr(((((Root(expr), 1),), 1),))


def find_square(size: Expr) -> Expr | None:
    """Return ``x`` of ``⌊√x⌋``, ``None`` of what is no root."""
    monomial, coefficient = size.terms[0] if len(size.terms) == 1 else ((), 0)
    atom = monomial[0][0] if len(monomial) == 1 and coefficient == monomial[0][1] == 1 else None
    return atom.inside if isinstance(atom, Root) else None


def _open_inner_floor(expr: Expr) -> Expr:
    """Turn ``⌊P⌋/t + c/t`` into ``P/t + c/t``: their floors are equal if ``t`` and ``c`` are integers."""
    for monomial, coefficient in expr.terms:
        if len(monomial) == 1 and isinstance(monomial[0][0], Floor) and monomial[0][1] == 1:
            steps = Fraction(1) / coefficient
            others = [(other, factor) for other, factor in expr.terms if other != monomial]
            if steps > 0 and steps.denominator == 1 and all((f * steps).denominator == 1 for _, f in others):
                inside = monomial[0][0].inside
                return _open_inner_floor(_collect([*inside.scaled(coefficient).terms, *others]))
    return expr


def _is_integer_term(monomial: Monomial, coefficient: Coefficient, steps: Mapping[str, int]) -> bool:
    for atom, power in monomial:
        if power < 0:
            return False
        if isinstance(atom, str):
            coefficient *= steps.get(atom, 1) ** power
        elif not isinstance(atom, Floor):
            terms = [term for part in parts_of(atom) for term in part.terms]
            if not all(_is_integer_term(*term, steps) for term in terms):
                return False
    return coefficient.denominator == 1
