"""Formulas as people write them, and the values of what is written: ``"⌈H/32⌉·⌈W/32⌉ + 1"``."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from modelsummary_ipy.axes.expr import Atom, Coefficient, Expr, Floor, Least, Monomial, Root, constant, parts_of

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
        expr, largest = _find_largest(_move_number_inside(expr))
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
        most = [f"max({self._write_parts(parts)})" for parts in largest]
        return " + ".join([*most, written] if written else most)

    def _rank(self, atom: Atom) -> tuple[int, str, bool]:
        """Sort by the first name in it, a name before a floor or a sum of it."""
        names = {atom} if isinstance(atom, str) else frozenset().union(*(part.names for part in parts_of(atom)))
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
        below: list[str] = []
        for atom, power in monomial:
            text = self._write_atom(atom)
            raised = "" if abs(power) == 1 else "".join(_RAISED[int(digit)] for digit in str(abs(power)))
            (factors if power > 0 else below).append(text + raised)
        text = "/".join(("·".join(factors or ["1"]), *below))
        return text if coefficient.denominator == 1 else f"{text}/{coefficient.denominator}"

    def _write_parts(self, parts: Sequence[Expr]) -> str:
        """Write the parts of a minimum, what moves before a number."""
        return ", ".join(sorted(map(self.write, parts), key=lambda text: (text.lstrip("-").isdigit(), text)))

    def _write_atom(self, atom: Atom) -> str:
        if isinstance(atom, str):
            return atom
        if isinstance(atom, Least):
            return f"min({self._write_parts(atom.parts)})"
        if isinstance(atom, Root):
            return f"⌊√({self.write(atom.inside)})⌋"
        if isinstance(atom, Expr):
            text = self.write(atom)
            return text if _find_largest(atom)[0] == constant(0) else f"({text})"
        below, moving, number = _common_denominator(atom.inside)
        if number == below - 1 > 0:  # as a ceiling, where that is what was meant
            return f"⌈{self._write_over(moving, below)}⌉"
        return f"⌊{self._write_over(moving + number, below)}⌋"

    def _write_over(self, above: Expr, below: int) -> str:
        text = self.write(above)
        if below == 1:
            return text
        is_sum = len(above.terms) > 1 and _find_largest(above)[0] != constant(0)
        return f"({text})/{below}" if is_sum else f"{text}/{below}"


def _find_largest(expr: Expr) -> tuple[Expr, list[tuple[Expr, ...]]]:
    """Take maxima out: ``a + b - min(a, b)`` is ``max(a, b)``, ``a - min(a, 16)`` is ``max(a - 16, 0)``.

    Returns:
        What is left, and the parts of each maximum.
    """
    found: list[tuple[Expr, ...]] = []
    for term in expr.terms:
        atom = term[0][0][0] if term[1] == -1 and len(term[0]) == 1 and term[0][0][1] == 1 else None
        if not isinstance(atom, Least) or len(atom.parts) != 2:
            continue
        one, two = sorted(atom.parts, key=lambda part: part.constant_value is not None)
        needed = [*one.terms, *(two.terms if two.constant_value is None else ())]
        if not all(each in expr.terms for each in needed if each[0]):
            continue
        rest = expr - Expr((term,)) - one
        if two.constant_value is None:
            expr = rest - two
            found.append(atom.parts)
        else:
            number = constant(rest.constant_value or 0)
            expr = rest - number
            found.append((one - two + number, number))
    return expr, found


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


_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_POWERS = {sign: f"**{digit}" for digit, sign in enumerate(_RAISED)}
_FUNCTIONS: Mapping[str, Callable[..., Fraction | int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "root": lambda size: math.isqrt(max(math.floor(size), 0)),
    "min": min,
    "max": max,
}
_OPERATORS: Mapping[type[ast.operator], Callable[..., Fraction | int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
}  # fmt: skip
_BRACKETS = {"⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")", "√": "root", "·": "*", "−": "-"}


def evaluate(text: str, sizes: Mapping[str, int]) -> int:
    """Return the value of a written formula: ``evaluate("⌈H/32⌉", {"H": 224})`` is 7.

    Raises:
        KeyError: If a name has no size.
        ValueError: If the text is no formula, or its value at these sizes is no integer.
    """
    try:
        value = work_out(text, sizes)
    except ZeroDivisionError:
        raise ValueError(f"{text} divides by 0 at {dict(sizes)}") from None
    if value.denominator != 1:
        raise ValueError(f"{text} is not whole at {dict(sizes)}")
    return int(value)


def work_out(text: str, sizes: Mapping[str, int]) -> Fraction:
    """Return the value of a written formula, which may be no integer.

    Raises:
        KeyError: If a name has no size.
        ValueError: If the text is no formula.
    """
    return _value_of(_parse(text), sizes)


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
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        values = [_value_of(arg, sizes) for arg in node.args]
        if len(values) == 1 or node.func.id in ("min", "max"):
            return Fraction(_FUNCTIONS[node.func.id](*values))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return Fraction(_OPERATORS[type(node.op)](_value_of(node.left, sizes), _value_of(node.right, sizes)))
    raise ValueError("no formula")
