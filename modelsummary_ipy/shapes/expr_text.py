"""Formulas as people write them, and the values of what is written: ``"⌈H/32⌉·⌈W/32⌉ + 1"``."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from modelsummary_ipy.axes.expr import Coefficient, Expr, Floor, Monomial, constant

#: Names in the order people write them in a product.
_USUAL = ("B", "N", "T", "S", "L", "D", "C", "H", "W", "F")


def write(expr: Expr, order: Sequence[str] = _USUAL) -> str:
    """Write an expression.

    Args:
        order: Names in their order in a product; others come after them.

    Example:
        >>> from modelsummary_ipy.axes.expr import symbol
        >>> write(symbol("H") * symbol("B") + 1)
        'B·H + 1'
    """
    return _Writer(order).write(expr)


class _Writer:
    def __init__(self, order: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(order)}

    def write(self, expr: Expr) -> str:
        if not expr.terms:
            return "0"
        expr = _move_number_inside(expr)
        terms = [
            (tuple(sorted(monomial, key=lambda item: self._rank(item[0]))), coefficient)
            for monomial, coefficient in expr.terms
        ]
        written = ""
        for monomial, coefficient in sorted(terms, key=self._rank_term):
            text = self._write_term(monomial, -coefficient if coefficient < 0 else coefficient)
            if not written:
                written = f"-{text}" if coefficient < 0 else text
            else:
                written += f" {'-' if coefficient < 0 else '+'} {text}"
        return written

    def _rank(self, atom: str | Floor | Expr) -> tuple[int, str, bool]:
        """Sort by the first name in it, a name before a floor or a sum of it."""
        inside = atom.inside if isinstance(atom, Floor) else atom
        names = {inside} if isinstance(inside, str) else inside.names
        place, name = min(((self._places.get(name, len(self._places)), name) for name in names), default=(0, ""))
        return place, name, not isinstance(atom, str)

    def _rank_term(self, term: tuple[Monomial, Coefficient]) -> tuple[bool, int, list[tuple[int, str, bool]]]:
        """Sort the highest power first, what is taken away and the number last."""
        monomial, coefficient = term
        degree = sum(power for _, power in monomial)
        return coefficient < 0 or not monomial, -degree, [self._rank(atom) for atom, _ in monomial]

    def _write_term(self, monomial: Monomial, coefficient: Coefficient) -> str:
        factors: list[str] = []
        if coefficient.numerator != 1 or not monomial:
            factors.append(str(coefficient.numerator))
        for atom, power in monomial:
            text = self._write_atom(atom)
            factors.append(text if power == 1 else text + "".join(_RAISED[int(digit)] for digit in str(power)))
        text = "·".join(factors)
        return text if coefficient.denominator == 1 else f"{text}/{coefficient.denominator}"

    def _write_atom(self, atom: str | Floor | Expr) -> str:
        if isinstance(atom, str):
            return atom
        if isinstance(atom, Expr):
            return f"({self.write(atom)})"
        below, moving, number = _common_denominator(atom.inside)
        if number == below - 1:  # as a ceiling, where that is what was meant
            return f"⌈{self._write_over(moving, below)}⌉"
        return f"⌊{self._write_over(moving + number, below)}⌋"

    def _write_over(self, above: Expr, below: int) -> str:
        text = self.write(above)
        if below == 1:
            return text
        return f"({text})/{below}" if len(above.terms) > 1 else f"{text}/{below}"


def _move_number_inside(expr: Expr) -> Expr:
    """Write ``⌊(H - 3)/4⌋`` for ``⌊(H + 1)/4⌋ - 1``, but ``⌈H/4⌉ - 1`` and ``⌊H/4⌋ - 1`` as they are."""
    numbers = [coefficient for monomial, coefficient in expr.terms if not monomial]
    floors = [m for m, c in expr.terms if c == 1 and len(m) == 1 and isinstance(m[0][0], Floor) and m[0][1] == 1]
    if not numbers or len(floors) != 1 or len(expr.terms) != 2:
        return expr
    floor = floors[0][0][0]
    assert isinstance(floor, Floor)
    below, _, number = _common_denominator(floor.inside)
    if number in (0, below - 1):
        return expr
    return Expr(((((Floor(floor.inside + constant(numbers[0])), 1),), 1),))


def _common_denominator(inside: Expr) -> tuple[int, Expr, int]:
    """Split ``(P + n)/d`` into ``d``, ``P`` and ``n``."""
    below = math.lcm(*(coefficient.denominator for _, coefficient in inside.terms))
    above = inside.scaled(below)
    number = next((int(coefficient) for monomial, coefficient in above.terms if not monomial), 0)
    return below, above - number, number


# -- reading ----------------------------------------------------------------------------------------------------------

_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_POWERS = {sign: f"**{digit}" for digit, sign in enumerate(_RAISED)}
_BRACKETS = {"⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")", "·": "*", "−": "-"}


def evaluate(text: str, sizes: Mapping[str, int]) -> int:
    """Return the value of a written formula: ``evaluate("⌈H/32⌉", {"H": 224})`` is 7.

    Raises:
        KeyError: If a name has no size.
        ValueError: If the text is no formula, or its value at these sizes is no integer.
    """
    value = _value_of(_parse(text), sizes)
    if value.denominator != 1:
        raise ValueError(f"{text} is not whole at {dict(sizes)}")
    return int(value)


@lru_cache(maxsize=4096)
def _parse(text: str) -> ast.expr:
    plain = "".join(_BRACKETS.get(sign, _POWERS.get(sign, sign)) for sign in text)
    try:
        return ast.parse(plain, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no formula") from error


def _value_of(node: ast.expr, sizes: Mapping[str, int]) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.Name):
        return Fraction(sizes[node.id])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value_of(node.operand, sizes)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        value = _value_of(node.args[0], sizes)
        if node.func.id in ("floor", "ceil"):
            return Fraction(math.floor(value) if node.func.id == "floor" else math.ceil(value))
    if isinstance(node, ast.BinOp):
        left, right = _value_of(node.left, sizes), _value_of(node.right, sizes)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
        if isinstance(node.op, ast.Pow):
            return left ** int(right)
    raise ValueError("no formula")
