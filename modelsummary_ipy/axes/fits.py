"""Which steps, multiples or bounds make of the values of a size those of another, as an expression of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from modelsummary_ipy.axes.expr import Expr, constant
from modelsummary_ipy.axes.minima import least_of

#: Most steps of a floor that is read off values alone.
_MOST_STEP = 64
#: Nobody pads to a multiple of more.
_MOST_MULTIPLE = 512
_MOST_STRIDE = 16
#: Denominators of a share of a size, and how many times the size it may be: ``int(0.35 * T)`` is 7/20 of it. Nobody
#: takes 3/11, which ⌈T/4⌉ is at a few sizes.
_PARTS, _MOST_TIMES = (2, 3, 4, 5, 6, 8, 10, 20, 25, 50, 100), 4


def _count_windows(size: Expr, length: int) -> Expr:
    return (size + (length - 1)) // length


def fit_paddings(size: Expr, us: Sequence[int], values: Sequence[int]) -> list[Expr]:
    """Return every ``m·⌈u/m⌉ + c`` that has these values, likely ones first, if what is added varies.

    ``c`` is 0 where windows of ``m`` are to fit, and ``kernel - m`` where a stride of ``m`` is to see all. Of
    windows that are cut to small inputs it is ``min(u, m)·⌈u/m⌉``. What is added may be 1 to ``m`` too, to a
    multiple and a part: ``m - (u + m/2) % m``.
    """
    added = {v - u for u, v in zip(us, values, strict=True)}
    if len(added) < 2 or len(set(values)) < 2 or min(added) < 0:
        return []
    common = math.gcd(*values)
    fits = [(m, 0) for m in range(max(added) + 1, min(common, _MOST_MULTIPLE) + 1) if common % m == 0]
    for m in range(2, _MOST_STRIDE + 1):
        more = {v - -(-u // m) * m for u, v in zip(us, values, strict=True)}
        if len(more) == 1 and more != {0}:
            fits.append((m, more.pop()))
    found = [_count_windows(size, m).scaled(m) + c for m, c in fits]
    if not found and 0 in added:
        common = math.gcd(*(v for u, v in zip(us, values, strict=True) if u != v))
        for m in range(max(added) + 1, common + 1):
            if common % m == 0 and all(v == -(-u // m) * min(u, m) for u, v in zip(us, values, strict=True)):
                found.append(_count_windows(size, m) * least_of(size, constant(m)))
    between = math.gcd(*(value - values[0] for value in values))
    m = max(added)  # that a whole step is added where none need be shows which step it is
    if not found and min(added) > 0 and m <= _MOST_MULTIPLE and between % m == 0:
        c = values[0] % m
        found = [((size + (m - c)) // m).scaled(m) + c]
    return found


def fit_rests(size: Expr, us: Sequence[int], values: Sequence[int]) -> list[Expr]:
    """Return what is missing to the next ``m·k + c``: none to ``m - 1``, or 1 to ``m`` as of ``m - (u + m/2) % m``."""
    sums = [u + v for u, v in zip(us, values, strict=True)]
    common, most = math.gcd(*(each - sums[0] for each in sums)), max(values)
    m = next((m for m in range(max(most, 2), min(common, _MOST_MULTIPLE) + 1) if common % m == 0), 0)
    if not m or min(values) < 0 or min(len(set(values)), len(set(sums)) - 1) < 3:
        return []
    c = sums[0] % m
    found = [((size + more) // m).scaled(m) + c - size for more in (m - c, m - 1 - c)]
    wholes = [[(u + more) // m * m + c - u for u in us] for more in (m - c, m - 1 - c)]
    return [expr for expr, made in zip(found, wholes, strict=True) if made == [*values]]


def fit_clips(size: Expr, us: Sequence[Fraction | int], values: Sequence[int]) -> Iterator[Expr]:
    """Yield ``min(u, c)``, ``max(u, c)``, and what is more than ``c``, or less: each is met on both sides of ``c``."""
    pairs = list(zip(us, values, strict=True))
    differs = next((v for u, v in pairs if u != v), 0)
    one, rest = next(((u, v) for u, v in pairs if v), (0, 0))
    low, high = min(us), max(us)
    fits: list[tuple[int, int]] = []
    for kind, bound in enumerate((differs, differs, one - rest, one + rest)):  # no other bound may do
        if isinstance(bound, int) and low < bound < high and all(_clip(kind, u, bound) == v for u, v in pairs):
            clipped = {u for u, v in pairs if v == (bound if kind < 2 else 0) and u != bound}
            if len(clipped) > 1:  # what one size has is no bound
                fits.append((bound, kind))
    for bound, kind in sorted(fits):
        smaller = least_of(size, constant(bound))
        yield (smaller, size + bound - smaller, size - smaller, constant(bound) - smaller)[kind]


def _clip(kind: int, size: Fraction | int, bound: int) -> Fraction | int:
    """Return the smaller one, the larger one, what a size is more than a bound, or less."""
    return (min(size, bound), max(size, bound), max(size - bound, 0), max(bound - size, 0))[kind]


#: The ``(p, r, q)`` of ``⌊(p·u + r)/q⌋``; of ``p·u/q`` as Python rounds it there is no ``r``.
Share = tuple[int, int | None, int]


def fit_steps(us: Sequence[int], vs: Sequence[int]) -> list[Share]:
    """Find the ``v = ⌊(u + r)/q⌋``, two where there are several; none of too few values to tell."""
    if max(vs) - min(vs) < 2:  # several steps tell of one, a single one fits many
        return []
    fits: list[Share] = []
    (least, first), (most, last) = (pick(zip(vs, us, strict=True)) for pick in (min, max))
    steps, units = most - least, last - first  # of q units each, one more or less at most
    for step in range(max(2, -(-units // (steps + 1))), min(_MOST_STEP, units // (steps - 1)) + 1):
        low = max(step * v - u for u, v in zip(us, vs, strict=True))
        high = min(step * v - u + step - 1 for u, v in zip(us, vs, strict=True))
        fits += [(1, shift, step) for shift in range(low, high + 1)]
        fits += [(1, None, step)] * _is_rounded(us, vs, 1, step)
        if len(fits) > 1:
            break
    return fits[:2]


def fit_shares(us: Sequence[int], vs: Sequence[int]) -> list[Share]:
    """Find the ``v = ⌊(p·u + r)/q⌋``: what ``int(0.8 * T)`` makes of a size, and what it leaves."""
    fits: list[Share] = []
    if len(set(vs)) < 3 or min(us) < 1:
        return fits
    pairs = list(zip(us, vs, strict=True))
    for parts in _PARTS:
        low = max((v - 1) * parts // u + 1 for u, v in pairs)
        high = min(((v + 1) * parts - 1) // u for u, v in pairs)
        for share in range(max(low, 1), min(high, _MOST_TIMES * parts) + 1):
            if math.gcd(share, parts) == 1:
                rests = [r for r in (0, parts - 1) if all((share * u + r) // parts == v for u, v in pairs)]
                fits += [(share, rest, parts) for rest in rests]
                fits += [(share, None, parts)] * _is_rounded(us, vs, share, parts)
    return fits


def _is_rounded(us: Sequence[int], vs: Sequence[int], share: int, parts: int) -> bool:
    return all(round(Fraction(share * u, parts)) == v for u, v in zip(us, vs, strict=True))


def is_sure(us: Sequence[int], share: int, rest: int, parts: int) -> bool:
    """Return whether floats make the same of a share, of which a product may be just below the integer.

    ``int((1 - 0.8) * 5)`` is 0: a multiple was to be among the sizes. ``0.7 * 340`` is below 238, and so what is left.
    """
    shares = {share: math.ceil, parts - share: math.floor} if rest else {share: math.floor}
    multiples = range(parts, 4096, parts)
    as_counted = all(to_integer(p / parts * u) == p * u // parts for p, to_integer in shares.items() for u in multiples)
    return as_counted and any(u % parts == 0 for u in us)


def fit_multiples(us: Sequence[int], vs: Sequence[int], shift: int = -1) -> list[int]:
    """Find every ``m`` with ``v = m·⌈u/m⌉``: what padding to a multiple makes; none if every size is a multiple.

    Args:
        shift: Of ``m`` what is added before it is rounded down: 0 for ``v = m·⌊u/m⌋``.
    """
    common = math.gcd(*vs)
    fits = [
        m
        for m in range(2, min(common, _MOST_MULTIPLE) + 1)
        if common % m == 0 and all(v == (u + shift % m) // m * m for u, v in zip(us, vs, strict=True))
    ]
    return fits if fits and any(u % fits[0] for u in us) else []
