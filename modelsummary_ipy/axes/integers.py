"""Whose size an integer of the model's code is: found by its values in several traces at generic sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain, combinations_with_replacement, islice, permutations
from operator import add, eq, sub
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from modelsummary_ipy.axes.expr import Expr, constant, floor_of, root_of, symbol
from modelsummary_ipy.axes.fits import fit_clips, fit_multiples, fit_paddings, fit_rests, fit_shares, fit_steps, is_sure
from modelsummary_ipy.axes.minima import has_least, least_of

T = TypeVar("T")
#: What one integer was in every trace.
Values = tuple[int, ...]
Pair = tuple[Expr, Expr]
_MOST_FACTORS = 16
_MOST_SLOPE = 4
_MOST_CLIPPED = 2
#: Shares with these denominators are likelier than hundredths.
_FEW_PARTS = 20
#: What is made of two numbers, and of two sizes.
_WithValues: TypeAlias = "tuple[Expr, tuple[Fraction | int, ...]]"
_Way: TypeAlias = "tuple[Callable[[Any, Any], Any], Callable[[Expr, Expr], Expr]]"
_EITHER_WAY: tuple[_Way, ...] = (
    (add, add),
    (min, least_of),  # of which neither has these values: each was the smaller one
    (max, lambda one, two: one + two - least_of(one, two)),
)
_ONE_WAY: tuple[_Way, ...] = ((sub, sub),)


class Integers:
    """Expressions by their values in several traces.

    Args:
        samples: The sizes of each trace, by name.
        may_clip: Whether some are so small, and some so large, that a size that is clipped shows.
        doubted: Pairs of sizes: an integer that may be either is unknown; of others it is the first.
        later: What integers are that nothing explained where they were met, as an earlier walk shows farther on.

    Attributes:
        has_guessed: Whether an integer that moves was none of the sizes that its operation reads.
        rivals: Pairs of sizes that were alike in every trace where an integer was one of them.
        is_loose: Whether it may be a floor or a multiple of several steps, as far as the traces tell.
    """

    def __init__(
        self,
        samples: Sequence[Mapping[str, int]],
        *,
        may_clip: bool = False,
        doubted: Collection[Pair] = (),
        later: Mapping[Values, Expr] = MappingProxyType({}),
    ) -> None:
        self._samples = [dict(sample) for sample in samples]
        self._values: dict[Expr, tuple[Fraction | int, ...]] = {}
        self._known: dict[Values, Expr] = {}
        self._learnt: set[Expr] = set()
        self._ambiguous: set[Values] = set()
        self._unknown = 0
        self._may_clip = may_clip
        self._doubted = doubted
        self._later = later
        self._clipped: dict[Values, Expr | None] = {}
        self.has_guessed = False
        self.rivals: dict[Pair, None] = {}
        self.is_loose = False
        self._searched: dict[tuple[Values, tuple[Expr, ...]], Expr | None] = {}
        for name in samples[0]:
            values = tuple(sample[name] for sample in samples)
            if len(set(values)) > 1:
                self._known.setdefault(values, symbol(name))
        self._inputs = dict(self._known)

    def values(self, size: Expr | int) -> tuple[Fraction | int, ...]:
        """Return the value of a size in every trace."""
        if isinstance(size, int):
            return (size,) * len(self._samples)
        known = self._values.get(size)
        if known is None:
            found = (size.value(sample) for sample in self._samples)
            known = self._values[size] = tuple(int(v) if v.denominator == 1 else v for v in found)
        return known

    def learn(self, size: Expr | int) -> None:
        """Remember an expression; values that two expressions have had are not looked up again."""
        if isinstance(size, int) or size in self._learnt:
            return
        self._learnt.add(size)
        values = self.values(size)
        if has_least(size):  # of a minimum the traces may have met one part only
            if self._may_clip and len(set(values)) > 1 and not is_unknown(size):
                one = self._clipped.setdefault(values, size)  # type: ignore[arg-type]  # as below
                self._clipped[values] = one if one == size else None  # type: ignore[index]
            return
        known = self._known.setdefault(values, size)  # type: ignore[arg-type]  # whole numbers, equal as keys
        if is_unknown(known):
            self._known[values] = size  # type: ignore[index]  # as above
        elif known != size and values not in self._inputs:
            self._ambiguous.add(values)  # type: ignore[arg-type]

    def find(self, values: Values, near: Iterable[Expr | int] = ()) -> Expr | int | None:
        """Find the expression of an integer.

        Args:
            values: In every trace.
            near: The sizes that its operation reads: of several expressions it is most likely one of these.

        Returns:
            A number that is the same in all traces; an expression that has these values; ``None`` if there is none.
        """
        if len(set(values)) == 1:
            return values[0]
        close = [size for size in near if isinstance(size, Expr)]
        read = self.find_read(values, close)
        if read:
            return read[0]
        if values in self._inputs:
            return self._inputs[values]
        self.has_guessed = True
        if max(values) < 0:
            opposite = self.find(tuple(-value for value in values), near)
            return opposite if opposite is None else -1 * opposite
        if values in self._known and values not in self._ambiguous:
            return self._known[values]
        key = (values, tuple(close))
        if key not in self._searched:
            self._searched[key] = next(self._search(values, close), None)
        found = self._searched[key]
        if found is None and values in self._known:
            return self._known[values]
        return self._later.get(values) if found is None else found

    def find_quietly(self, values: Values, near: Iterable[Expr | int]) -> tuple[Expr | int | None, bool]:
        """Find the expression of an integer that no formula is made of, and whether it is guessed by its values."""
        state = self.has_guessed, self.is_loose, dict(self.rivals)
        self.has_guessed = False
        found, is_guessed = self.find(values, near), self.has_guessed
        self.has_guessed, self.is_loose, self.rivals = state
        return None if isinstance(found, Expr) and is_unknown(found) else found, is_guessed

    def explain(self) -> dict[Values, Expr]:
        """Return what unknown integers are by sizes met after them: a mask is as large as the map will be padded."""
        names = (f"?{number + 1}" for number in range(self._unknown))
        met = {tuple(sample[name] for sample in self._samples) for name in names}
        later = ((values, self._clipped.get(values) or self.find_known(values)) for values in met)
        return {values: expr for values, expr in later if expr is not None and not is_unknown(expr)}

    def find_read(self, values: Values, near: Iterable[Expr]) -> tuple[Expr | None] | None:
        """Find which of some sizes has these values: ``(None,)`` where that is in doubt, ``None`` if none has."""
        near = list(near)
        found = list(dict.fromkeys(size for size in near if self.values(size) == values))
        roots = (root_of(size) for size in near if len(size.names) > 1)
        if square := [root for root in roots if self.values(root) == values]:  # a side of a map, or the root of it
            known = self._known.get(values)
            found = list(dict.fromkeys([*found, *([known] if known is not None and not found else ()), *square]))
        if not found:
            return None
        pairs = [(found[0], size) for size in found[1:] if not is_unknown(found[0]) and not is_unknown(size)]
        self.rivals.update(dict.fromkeys(pairs))
        return (None,) if any(pair in self._doubted for pair in pairs) else (found[0],)

    def find_known(self, values: Values) -> Expr | None:
        """Return the one expression met so far that has these values, a dim of the input first."""
        return self._inputs.get(values) or (None if values in self._ambiguous else self._known.get(values))

    def is_input(self, values: Values) -> bool:
        """Return whether a dim of the input has these values."""
        return values in self._inputs

    def find_among(self, values: Values, places: tuple[int, ...]) -> Expr | int:
        """Find what an integer is that some traces alone have: a dim of the input first, if it is one alone.

        Args:
            values: In the traces that have it.
            places: Which traces these are.
        """
        if max(values) < 0 and len(set(values)) > 1:
            return -1 * self.find_among(tuple(-value for value in values), places)
        if len(set(values)) > 1 or (len(values) == 1 and values[0] > 2):
            for sizes in (self._inputs.values(), chain(self._known.values(), self._clipped.values())):
                found = {
                    s for s in sizes if s and all(self.values(s)[p] == v for p, v in zip(places, values, strict=True))
                }
                if found:
                    if len(found) == 1:
                        return found.pop()
                    break
        if len(set(values)) == 1:
            return values[0]
        by_place = dict(zip(places, values, strict=True))
        return self.unknown(tuple(by_place.get(place, values[0]) for place in range(len(self._samples))))

    def unknown(self, values: Values) -> Expr:
        """Return a new name for a size that nothing explains; no formula with it is shown."""
        self._unknown += 1
        name = f"?{self._unknown}"
        for sample, value in zip(self._samples, values, strict=True):
            sample[name] = value
        return symbol(name)

    def find_paddings(self, size: Expr, values: Values) -> list[Expr]:
        """Return every multiple that ``size`` may be padded to that has these values, likely ones first."""
        return fit_paddings(size, [int(u) for u in self.values(size)], values)

    def _search(self, values: Values, near: list[Expr]) -> Iterator[Expr]:
        """Yield ``min(u, c)``, ``c·u``, ``u + c``, ``⌊u/c⌋``, ``⌈u/c⌉``, ``c·u·v``, ``min(u, v)``, ``c·u + d``, …."""
        recent = list(self._known.values())[-48:]
        candidates = list(dict.fromkeys([*near, *self._inputs.values(), *recent]))
        # Nobody clips a product of all dims.
        for size in [size for size in candidates if len(size.names) <= _MOST_CLIPPED] if self._may_clip else ():
            yield from fit_clips(size, self.values(size), values)
        likely = list(dict.fromkeys([*near, *self._inputs.values()]))
        yield from self._scale_and_shift(likely, values)
        for size in near:  # of patches the side of a square
            if [math.isqrt(max(int(u), 0)) for u in self.values(size)] == list(values):
                yield root_of(size)
        for size in likely:
            if len(size.names) > _MOST_CLIPPED:
                continue  # nor pads one
            us = self.values(size)
            pairs = {(u, v) for u, v in zip(us, values, strict=True) if isinstance(u, int)}
            made = dict(pairs)
            whole = sorted(made)
            # What two traces have alike tells nothing more; three sizes tell of a step.
            if len(pairs) == len(whole) >= min(len(us), 3) and len(pairs) >= len(set(us)):
                yield from self._steps(size, whole, tuple(made[u] for u in whole))
                more = [u for u in whole if made[u] > 1]
                if self._may_clip and 2 < len(more) < len(whole):  # max(1, T // 3)
                    for found in self._steps(size, more, tuple(made[u] for u in more)):
                        if tuple(max(value, 1) for value in self.values(found)) == values:
                            yield found + 1 - least_of(found, constant(1))
        yield from self._scale_and_shift(candidates, values)
        with_values = ((size, self.values(size)) for size in candidates)
        moving = list(islice((pair for pair in with_values if len(set(pair[1])) > 1), _MOST_FACTORS))
        for one, two in combinations_with_replacement(moving, 2):
            yield from _multiply(one, two, values)
            yield from _combine(one, two, values, _EITHER_WAY)
        for pair in permutations(moving, 2):
            yield from _combine(*pair, values, _ONE_WAY)
        for size in candidates if len(set(values)) > 2 else ():
            us = self.values(size)
            slope = Fraction(values[1] - values[0]) / (us[1] - us[0]) if us[0] != us[1] else Fraction(0)
            if slope.denominator == 1 and 1 < slope <= _MOST_SLOPE:
                offset = values[0] - slope * us[0]
                if all(u * slope + offset == v for u, v in zip(us, values, strict=True)):
                    yield size.scaled(slope) + int(offset)

    def _scale_and_shift(self, sizes: Sequence[Expr], values: Values) -> Iterator[Expr]:
        for size in sizes:
            us = self.values(size)
            if 0 not in us and len(set(us)) > 1:
                ratio = Fraction(values[0]) / us[0]
                if not ratio:
                    continue
                if all(u * ratio == v for u, v in zip(us, values, strict=True)):
                    self.is_loose = self.is_loose or ratio.denominator > 1  # no trace shows which way it is rounded
                    yield size.scaled(ratio) if ratio.denominator == 1 else floor_of(size.scaled(ratio))
        for size in sizes:
            us = self.values(size)
            offset = values[0] - us[0]
            if len(set(us)) > 1 and isinstance(offset, int):
                if all(u + offset == v for u, v in zip(us, values, strict=True)):
                    yield size + offset
                if all(v == offset + 2 * us[0] - u for u, v in zip(us, values, strict=True)):
                    yield constant(values[0] + us[0]) - size

    def _steps(self, size: Expr, us: Sequence[int], values: Values) -> Iterator[Expr]:
        """Yield ``⌊(p·u + r)/q⌋``, ``c·⌈u/c⌉``, one more or less, and what makes ``u`` a multiple of ``c``."""
        steps = [] if size.factors else fit_steps(us, values)  # to a product nobody adds
        fits = self._note(list(dict.fromkeys([*steps, *fit_shares(us, values)])))
        # Of 49 / 100 small sizes make halves.
        few = [fit for fit in fits if fit[2] <= _FEW_PARTS and fit[1] in (None, 0, fit[2] - 1)]
        likely = fits if len(fits) == 1 else few
        for share, rest, parts in likely if len(likely) == 1 else ():
            if rest is not None and ((share, rest, parts) in steps or is_sure(us, share, rest, parts)):
                yield (size.scaled(share) + rest) // parts
        for more in (0, 1):  # of even sizes that are padded to be odd one more
            multiples = self._note(fit_multiples(us, [v - more for v in values], 0))
            if len(multiples) == 1:
                yield (size // multiples[0]).scaled(multiples[0]) + more
        for offset, plus in ((0, 0), (0, 1), (1, 0), (-1, 0)):
            wanted = [u * plus + v + offset for u, v in zip(us, values, strict=True)]
            for step in self._note(fit_multiples(us, wanted))[:1]:  # of a larger one, larger remainders would be met
                if not plus or len(set(values)) >= min(step, 3):  # two amounts are met by chance
                    multiple = ((size + (step - 1)) // step).scaled(step)
                    yield multiple - size if plus else multiple - offset
        rests = fit_rests(size, us, values)
        if len(rests) > 1:  # a trace parts them
            self.rivals[rests[0], rests[1]] = None
        yield from rests[:1]

    def _note(self, fits: list[T]) -> list[T]:
        """Note where several expressions have the same values."""
        self.is_loose = self.is_loose or len(fits) > 1
        return fits


def _multiply(one: _WithValues, two: _WithValues, values: Values) -> Iterator[Expr]:
    """Yield the product of two sizes times a number, or over one and rounded down, if it has these values."""
    (size, us), (other, vs) = one, two
    first, wanted = us[0] * vs[0], values[0]
    if first and 0 not in values and all(u * v * wanted == w * first for u, v, w in zip(us, vs, values, strict=True)):
        ratio, product = Fraction(wanted) / first, size * other
        yield product.scaled(ratio) if ratio.denominator == 1 else floor_of(product.scaled(ratio))


def _combine(one: _WithValues, two: _WithValues, values: Values, ways: Sequence[_Way]) -> Iterator[Expr]:
    """Yield what two sizes make that has these values."""
    (size, us), (other, vs) = one, two
    for of_numbers, of_sizes in ways:
        # The first value tells of most pairs.
        if of_numbers(us[0], vs[0]) == values[0] and all(map(eq, map(of_numbers, us, vs), values)):
            yield of_sizes(size, other)


def is_unknown(size: Expr) -> bool:
    """Return whether a part of a size is one that nothing explains."""
    return any(name.startswith("?") for name in size.names)
