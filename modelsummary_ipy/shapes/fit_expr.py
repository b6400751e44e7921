"""Values of a dim at several sizes to the expression behind them; none rather than one that is only likely."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations

from modelsummary_ipy.axes.expr import Expr, constant, floor_of, is_integer, is_same, symbol
from modelsummary_ipy.axes.integers import MOST_STEP, find_multiple, find_step

__all__ = ["Fitter", "Known", "Values"]

#: What one dim was in every trace; ``None`` where the call was not made.
Values = tuple["int | None", ...]

_MOST_FACTORS = 5
_MOST_PAIRS = 24


@dataclass(frozen=True, slots=True)
class Known:
    """A dim whose expression is known; ``axis`` is its place in the tensor it is a dim of."""

    values: Values
    expr: Expr
    axis: int = -1


@dataclass
class Fitter:
    """Finds expressions from the values of a dim in several traces, and keeps what it found.

    Args:
        samples: Sizes by name, one mapping per trace; the first is what the user gave.
        held: Index of the sample that no fit uses: what was found must predict it.
        steps: By name, what every size that works is a multiple of.
        must_agree: Whether the first sample must be predicted too; if not, it is left out where nothing predicts it: a
            size of 1 broadcasts and squeezes where no other does.
    """

    samples: Sequence[Mapping[str, int]]
    held: int
    steps: Mapping[str, int] = field(default_factory=dict)
    must_agree: bool = True

    def __post_init__(self) -> None:
        names = sorted({name for sample in self.samples for name in sample})
        moving = [name for name in names if len({sample[name] for sample in self.samples}) > 1]
        self.symbols = [Known(tuple(sample[name] for sample in self.samples), symbol(name)) for name in moving]
        self._known: dict[Values, Expr] = {known.values: known.expr for known in self.symbols}
        self._ambiguous: set[Values] = set()
        self._searched: dict[tuple[Values, bool, tuple[Expr, ...]], Expr | None] = {}
        self._found: list[Known] = list(self.symbols)

    def fit(
        self, values: Values, near: Sequence[Known] = (), hints: Sequence[Expr] = (), axis: int = -1
    ) -> Expr | None:
        """Find the expression behind ``values``.

        What the call's settings predict goes first, then the dims that it read, then all else: in few samples two
        formulas may give the same values, and the one made of the tensor's own inputs is right.

        Args:
            values: One per sample.
            near: Dims of the call's own input: what it most likely came from.
            hints: Expressions that the call's settings predict.
            axis: Which dim it is: of several near dims with these values the one at the same place is meant.

        Returns:
            An expression that is right in every sample, the held one included; ``None`` if there is none.
        """
        found = self._fit_by_call(values, near, hints, axis)
        if found is None:
            found = self._fit_by_numbers(values, near)
        if found is not None:
            self._note(values, found)
        return found

    def _fit_by_call(self, values: Values, near: Sequence[Known], hints: Sequence[Expr], axis: int) -> Expr | None:
        """Try what the call predicts and what it read."""
        everywhere = [i for i, value in enumerate(values) if value is not None]
        for hint in hints:
            if len(everywhere) > 3 and values[self.held] is not None and self._predicts(hint, values, everywhere):
                return hint
        same = [known for known in near if known.values == values]
        if same:
            return min(same, key=lambda known: known.axis != axis).expr
        numbers = {value for value in values if value is not None}
        if len(numbers) == 1 and None not in values:
            return constant(numbers.pop())
        for known in self._factors(near):  # what a flatten made one of, a view takes apart again
            if known.values == values:
                return known.expr
        for known in self._products(near):
            if known.values == values:
                return known.expr
        return None

    def _fit_by_numbers(self, values: Values, near: Sequence[Known]) -> Expr | None:
        """Try what is known of these values from other calls, then search."""
        if values not in self._ambiguous and (known := self._known.get(values)) is not None:
            return known
        key = (values, values in self._ambiguous, tuple(known.expr for known in near))
        if key not in self._searched:
            found = self._search(values, near)
            if found is None and not self.must_agree and values[0] is not None:
                found = self._search((None, *values[1:]), near)
            self._searched[key] = found
        return self._searched[key]

    def _note(self, values: Values, expr: Expr) -> None:
        """Remember an expression; values that two different ones have given are not used again."""
        if None in values or expr.constant_value is not None:
            return
        known = self._known.get(values)
        if known is None:
            self._known[values] = expr
            self._found.append(Known(values, expr))
        elif values not in self._ambiguous and not is_same(known, expr, self.steps):
            self._ambiguous.add(values)

    def _factors(self, near: Sequence[Known]) -> Iterator[Known]:
        for known in near:
            for factor in known.expr.factors:
                yield Known(tuple(int(factor.value(sample)) for sample in self.samples), factor)

    def _search(self, values: Values, near: Sequence[Known]) -> Expr | None:
        used = [i for i, value in enumerate(values) if value is not None and i != self.held]
        if values[self.held] is None or len(used) < 3:
            return None
        for candidate in self._candidates(values, used, near):
            if self._predicts(candidate, values, used) and self._predicts(candidate, values, [self.held]):
                return candidate
        return None

    def _predicts(self, expr: Expr, values: Values, places: Iterable[int]) -> bool:
        return all(expr.value(self.samples[i]) == values[i] for i in places)

    def _candidates(self, values: Values, used: list[int], near: Sequence[Known]) -> Iterator[Expr]:
        """Yield expressions that may fit, the most likely first; the caller checks them."""
        numbers = {values[i] for i in used}
        if len(numbers) == 1:
            yield constant(numbers.pop() or 0)
        single = _distinct([*near, *self.symbols])
        yield from (known.expr for known in single)
        if None in values:
            yield from (known.expr for known in self._found)
        products = list(self._products(near))
        sums = list(self._sums(near))
        yield from _lines(values, used, [*single, *sums, *products], self.steps, plain=True)
        yield from _lines(values, used, [*single, *sums, *products], self.steps, plain=False)
        for known in single:
            yield from _floors(values, used, known, self.steps)
        others = self._found if values not in self._ambiguous else []
        wide = _distinct([*single, *others])[:_MOST_PAIRS]
        pairs = [_times(a, b) for a, b in combinations(wide, 2)] + [_times(a, a) for a in wide]
        pairs += [_plus(a, b) for a, b in combinations(wide, 2)] + [_minus(a, b) for a in wide for b in wide if a != b]
        yield from _lines(values, used, [*wide, *pairs], self.steps, plain=True)
        yield from _lines(values, used, [*wide, *pairs], self.steps, plain=False)
        for known in products:
            yield from _floors(values, used, known, self.steps)

    def _products(self, near: Sequence[Known]) -> Iterator[Known]:
        """Yield products of several dims that are adjacent: what a flatten or a view merges."""
        apart = [part for known in near for part in (list(self._factors([known])) or [known])]
        moving = [known for known in apart if len(set(known.values)) > 1][:_MOST_FACTORS]
        for count in range(2, len(moving) + 1):
            for chosen in combinations(moving, count):
                product = chosen[0]
                for factor in chosen[1:]:
                    product = _times(product, factor)
                yield product

    def _sums(self, near: Sequence[Known]) -> Iterator[Known]:
        """Yield sums of all dims, and of pairs: what a concatenation makes."""
        if len(near) > 2:
            total = near[0]
            for other in near[1:]:
                total = _plus(total, other)
            yield total
        moving = [known for known in near if len(set(known.values)) > 1][:_MOST_FACTORS]
        for one, two in combinations(moving, 2):
            yield _plus(one, two)


def _distinct(known: Iterable[Known]) -> list[Known]:
    """Keep the first of each that moves at all."""
    found: dict[Values, Known] = {}
    for item in known:
        if len(set(item.values)) > 1:
            found.setdefault(item.values, item)
    return list(found.values())


def _times(a: Known, b: Known) -> Known:
    return Known(_each(a, b, lambda x, y: x * y), a.expr * b.expr)


def _plus(a: Known, b: Known) -> Known:
    return Known(_each(a, b, lambda x, y: x + y), a.expr + b.expr)


def _minus(a: Known, b: Known) -> Known:
    return Known(_each(a, b, lambda x, y: x - y), a.expr - b.expr)


def _each(a: Known, b: Known, operation: object) -> Values:
    assert callable(operation)
    return tuple(None if x is None or y is None else operation(x, y) for x, y in zip(a.values, b.values, strict=True))


def _lines(
    values: Values, used: list[int], known: Sequence[Known], steps: Mapping[str, int], *, plain: bool
) -> Iterator[Expr]:
    """Yield ``a·u + d``, the plain ones being ``u``, ``a·u`` and ``u + d``.

    ``u/2`` is taken only where ``u`` is even at every size, not where it happened to be.
    """
    for item in known:
        there = [i for i in used if item.values[i] is not None]
        if len(there) < len(used):
            continue
        us = [item.values[i] or 0 for i in used]
        vs = [values[i] or 0 for i in used]
        low, high = us.index(min(us)), us.index(max(us))
        if us[low] == us[high]:
            continue
        slope = Fraction(vs[high] - vs[low], us[high] - us[low])
        offset = vs[low] - slope * us[low]
        if slope == 0 or (plain and offset != 0 and slope != 1):
            continue
        if any(slope * u + offset != v for u, v in zip(us, vs, strict=True)):
            continue
        expr = item.expr.scaled(slope) + constant(offset)
        if slope.denominator == 1 or is_integer(expr, steps):
            yield expr


def _floors(values: Values, used: list[int], item: Known, steps: Mapping[str, int]) -> Iterator[Expr]:
    """Yield ``⌊(u + b)/c⌋`` and ``m·⌈u/m⌉``, where the numbers leave no other choice."""
    if any(item.values[i] is None for i in used):
        return
    us = [item.values[i] or 0 for i in used]
    vs = [values[i] or 0 for i in used]
    multiple = find_multiple(us, vs)
    if multiple:
        yield floor_of((item.expr + (multiple - 1)).scaled(Fraction(1, multiple)), steps).scaled(multiple)
    common = math.gcd(*(abs(v - vs[0]) for v in vs))
    for factor in [divisor for divisor in range(1, min(common, MOST_STEP) + 1) if common % divisor == 0]:
        offset = vs[0] % factor
        found = find_step(us, [v // factor for v in vs])
        if found is not None:
            shift, step = found
            yield floor_of((item.expr + shift).scaled(Fraction(1, step)), steps).scaled(factor) + offset
