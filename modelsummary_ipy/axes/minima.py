"""The smallest of some sizes, as simple as it can be written; what floors and minima are at the sizes that work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from modelsummary_ipy.axes.expr import (
    Coefficient,
    Expr,
    Floor,
    Least,
    Root,
    constant,
    floor_of,
    parts_of,
    root_of,
    symbol,
)


def least_of(*exprs: Expr) -> Expr:
    """Return the smallest of some expressions, as simple as it can be written: sizes of the input are 1 at least.

    Example:
        >>> least_of(symbol("T") + 2, constant(1)) == constant(1)
        True
    """
    parts: list[Expr] = []
    for part in [part for expr in exprs for part in _open_least(expr)]:
        if not any(_is_below(other, part) for other in parts):
            parts = [*(other for other in parts if not _is_below(part, other)), part]
    if len(parts) == 1:
        return parts[0]
    # A number is outside, so that equal minima are equal: min(T - 16, 0) = min(T, 16) - 16.
    number = next((_number(part) for part in parts if part.constant_value is None), 0)
    inside = Least(tuple(sorted([part - constant(number) for part in parts], key=repr)))
    return Expr(((((inside, 1),), 1),)) + constant(number)


def _open_least(expr: Expr) -> Iterator[Expr]:
    """Yield the parts of ``min(…) + n``, each with the number; of others the expression itself."""
    moving = [term for term in expr.terms if term[0]]
    atom = moving[0][0][0][0] if len(moving) == 1 and moving[0][1] == 1 and len(moving[0][0]) == 1 else None
    if isinstance(atom, Least) and moving[0][0][0][1] == 1:
        yield from (part + constant(_number(expr)) for part in atom.parts)
    else:
        yield expr


def _number(expr: Expr) -> Coefficient:
    return next((coefficient for monomial, coefficient in expr.terms if not monomial), 0)


def _is_below(one: Expr, other: Expr) -> bool:
    """Return whether ``one ≤ other`` at all sizes, as far as it can be seen."""
    least = _lower_bound(other - one)
    return least is not None and least >= 0


def _lower_bound(expr: Expr) -> Coefficient | None:
    """Return a number that no value of an expression is below; ``None`` if none is known."""
    total: Coefficient = 0
    for monomial, coefficient in expr.terms:
        for atom, power in monomial:
            bounds = [1] if isinstance(atom, str) else [_lower_bound(part) for part in parts_of(atom)]
            known = [bound for bound in bounds if bound is not None]
            if coefficient < 0 or power < 0 or len(known) < len(bounds) or (min(known) < 0 and len(monomial) > 1):
                return None
            least: Coefficient = math.floor(min(known)) if isinstance(atom, (Floor, Root)) else min(known)
            coefficient *= (math.isqrt(max(math.floor(least), 0)) if isinstance(atom, Root) else least) ** power
        total += coefficient
    return total


def has_least(expr: Expr) -> bool:
    """Return whether there is a minimum in it."""
    atoms = [atom for monomial, _ in expr.terms for atom, _power in monomial if not isinstance(atom, str)]
    return any(isinstance(atom, Least) or any(map(has_least, parts_of(atom))) for atom in atoms)


def list_minima(expr: Expr) -> Iterator[Least]:
    """Yield the minima in an expression."""
    for monomial, _ in expr.terms:
        for atom, _power in monomial:
            if isinstance(atom, Least):
                yield atom
            for part in () if isinstance(atom, str) else parts_of(atom):
                yield from list_minima(part)


def simplify(expr: Expr, steps: Mapping[str, int], settle: Callable[[Least], Expr | None] = lambda _: None) -> Expr:
    """Take every floor out that is whole at every size that works, and every minimum that is one of its parts there.

    Args:
        steps: As in ``floor_of``.
        settle: Returns which part a minimum is at every size that works, ``None`` for one that is more than one.
    """
    if not any(name in steps for name in expr.names) and not has_least(expr):
        return expr
    total = constant(0)
    for monomial, coefficient in expr.terms:
        product = constant(1)
        for atom, power in monomial:
            if power < 0 and isinstance(atom, Root):  # what a root divides
                ((below, _),) = root_of(simplify(atom.inside, steps, settle)).terms
                product = product * Expr(((tuple((each, more * power) for each, more in below), 1),))
                continue
            if isinstance(atom, str):
                factor = symbol(atom)
            else:
                parts = [simplify(part, steps, settle) for part in parts_of(atom)]
                if isinstance(atom, Least):
                    factor = settle(atom) or least_of(*parts)
                elif isinstance(atom, Root):
                    factor = root_of(parts[0])
                else:
                    factor = floor_of(parts[0], steps) if isinstance(atom, Floor) else parts[0]
            for _ in range(power):
                product = product * factor
        total = total + product.scaled(coefficient)
    return total
