"""Expressions of sizes: what they are worth, how they are written, and that the two agree."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsummary_ipy.axes.expr import Expr, constant, floor_of, root_of, symbol
from modelsummary_ipy.axes.minima import least_of, simplify
from modelsummary_ipy.shapes.expr_text import evaluate, write

B, H, W, T = map(symbol, "BHWT")


def halve(expr: Expr, times: int = 1) -> Expr:
    """What a convolution of kernel 3, stride 2 and padding 1 makes of a size, again and again."""
    for _ in range(times):
        expr = floor_of((expr - 1).scaled(Fraction(1, 2))) + 1
    return expr


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (constant(0), "0"),
        (constant(64), "64"),
        (H, "H"),
        (H + 8, "H + 8"),
        (H - 8, "H - 8"),
        (T.scaled(2) - 1, "2·T - 1"),
        (constant(3) - H, "-H + 3"),
        (B * T, "B·T"),
        (T * B, "B·T"),
        (B.scaled(4), "4·B"),
        (H * H, "H²"),
        (H * W + 1, "H·W + 1"),
        (H.scaled(Fraction(1, 2)), "H/2"),
        (B * H * W.scaled(Fraction(1, 49)), "B·H·W/49"),
        (floor_of(H.scaled(Fraction(1, 2))), "⌊H/2⌋"),
        (halve(H), "⌈H/2⌉"),
        (halve(H, 5), "⌈H/32⌉"),
        (floor_of((H - 11).scaled(Fraction(1, 4))), "⌊(H - 11)/4⌋"),
        (floor_of((H - 12).scaled(Fraction(1, 4))), "⌊H/4⌋ - 3"),
        (halve(H, 2) * halve(W, 2) + 1, "⌈H/4⌉·⌈W/4⌉ + 1"),
        ((H.scaled(Fraction(1, 16)) + 1) * (W.scaled(Fraction(1, 16)) + 1), "(H/16 + 1)·(W/16 + 1)"),
        (floor_of((T + 2).scaled(Fraction(1, 3))).scaled(3), "3·⌈T/3⌉"),
        (least_of(T, constant(16)), "min(T, 16)"),
        (root_of(H * W) + 1, "⌊√(H·W)⌋ + 1"),
        (root_of(4 * H * H), "2·H"),
        (T - least_of(T, constant(16)), "max(T - 16, 0)"),
        (B * (T - least_of(T, constant(4))), "B·max(T - 4, 0)"),
        (T + H + 2 - least_of(T, H), "max(H, T) + 2"),
        ((least_of(T, constant(16)) + 2) // 3, "⌈min(T, 16)/3⌉"),
        (least_of(least_of(T, constant(16)) + 1, constant(9)), "min(T, 8) + 1"),
        (least_of(T + 2, constant(3)), "3"),
    ],
)
def test_expressions_are_written_the_way_people_write(expr: Expr, text: str) -> None:
    assert write(expr) == text


def test_names_of_the_user_stand_in_the_order_of_the_input() -> None:
    product = symbol("rows") * symbol("cols") * symbol("batch")
    assert write(product, ("batch", "rows", "cols")) == "batch·rows·cols"
    assert write(product) == "batch·cols·rows"


def test_a_chain_of_strided_layers_is_one_division() -> None:
    """LeNet on paper: two convolutions of kernel 5 and two pools of 2."""
    size = H
    for _ in range(2):
        size = floor_of((size - 4).scaled(Fraction(1, 2)))
    assert write(size) == "⌊H/4⌋ - 3"
    assert all(size.value({"H": h}) == ((h - 4) // 2 - 4) // 2 for h in range(16, 80))


def test_what_divides_by_the_step_of_a_size_needs_no_floor() -> None:
    assert write(floor_of((H + 1).scaled(Fraction(1, 2)), {"H": 16})) == "H/2"
    assert write(floor_of((H + 1).scaled(Fraction(1, 32)), {"H": 16})) == "⌊(H + 1)/32⌋"


def test_a_sum_is_kept_together_in_a_product_and_comes_apart_again() -> None:
    product = (H + 1) * (T + 2)
    assert set(product.factors) == {H + 1, T + 2}
    assert (H + 1).factors == ()
    assert product.names == {"H", "T"}


def test_what_is_whole_whatever_its_sizes_is_taken_out_of_a_floor() -> None:
    whole, half = (H + 1) * W, (H.scaled(Fraction(1, 2)) + 1) * W
    assert floor_of(whole) == whole
    assert write(floor_of(half)) == "⌊(H/2 + 1)·W⌋"
    assert floor_of(half, {"H": 4}) == half


def test_a_minimum_is_one_of_its_parts_where_that_is_said() -> None:
    twice = B * least_of(T, constant(16))
    assert simplify(twice, {}) == twice
    assert simplify(twice, {}, lambda _: constant(16)) == B.scaled(16)


def test_values_of_written_formulas_follow_school_rules() -> None:
    sizes = {"B": 3, "H": 225, "W": 30, "T2": 7}
    assert evaluate("⌈H/32⌉", sizes) == 8
    assert evaluate("⌊(H - 3)/4⌋·B + 1", sizes) == 55 * 3 + 1
    assert evaluate("2·B² - 1", sizes) == 17
    assert evaluate("-T2 + 9", sizes) == 2
    assert evaluate("4096", {}) == 4096
    assert evaluate("min(T2, 5)·max(B - 4, 0, 2)", sizes) == 10


@pytest.mark.parametrize("text", ["H +", "f(H)", "H or 1", "'H'", "H/2", "__import__('os')"])
def test_what_is_no_formula_or_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"formula|whole"):
        evaluate(text, {"H": 3})


def test_a_name_without_a_size_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="H"):
        evaluate("H + 1", {"W": 3})


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> Expr:
    """Any expression that the arithmetic of expressions can make."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([B, H, W, T, constant(draw(st.integers(-9, 9)))]))
    one = draw(expressions(depth=depth - 1))
    way = draw(st.sampled_from(["add", "sub", "mul", "scale", "floor", "root", "least"]))
    if way == "scale":
        return one.scaled(Fraction(draw(st.integers(1, 5)), draw(st.integers(1, 5))))
    if way == "floor":
        return floor_of(one.scaled(Fraction(1, draw(st.integers(1, 9)))))
    if way == "root":
        return root_of(one)
    two = draw(expressions(depth=depth - 1))
    if way == "least":
        return least_of(one, two)
    return one + two if way == "add" else one - two if way == "sub" else one * two


def test_a_whole_part_of_a_minimum_is_no_ceiling() -> None:
    expr = floor_of(least_of(B.scaled(Fraction(1, 2)), H))
    assert evaluate(write(expr), {"B": 1, "H": 1}) == 0
    assert evaluate(write(expr), {"B": 7, "H": 9}) == 3


@given(expressions(), st.fixed_dictionaries({name: st.integers(1, 300) for name in "BHWT"}))
def test_what_is_written_is_worth_what_was_meant(expr: Expr, sizes: dict[str, int]) -> None:
    value = expr.value(sizes)
    if value.denominator == 1:
        assert evaluate(write(expr), sizes) == value


@given(expressions(), expressions(), st.fixed_dictionaries({name: st.integers(1, 300) for name in "BHWT"}))
def test_the_least_of_two_is_the_smaller_one(one: Expr, two: Expr, sizes: dict[str, int]) -> None:
    assert least_of(one, two).value(sizes) == min(one.value(sizes), two.value(sizes))


@given(expressions(), st.integers(1, 40), st.fixed_dictionaries({name: st.integers(1, 300) for name in "BHWT"}))
def test_a_simplified_floor_is_the_floor(expr: Expr, divisor: int, sizes: dict[str, int]) -> None:
    whole = floor_of(expr)
    assert floor_of(whole.scaled(Fraction(1, divisor))).value(sizes) == math.floor(whole.value(sizes) / divisor)
