"""Numbers to the expression behind them, checked at sizes that the fit never saw."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from modelsummary_ipy.axes.expr import floor_of, symbol
from modelsummary_ipy.shapes.expr_text import evaluate, write
from modelsummary_ipy.shapes.fit_expr import Fitter, Known

POINTS = (
    {"B": 8, "H": 224, "W": 224, "T": 12},
    {"B": 9, "H": 224, "W": 224, "T": 12},
    {"B": 10, "H": 383, "W": 321, "T": 16},
    {"B": 13, "H": 257, "W": 511, "T": 29},
    {"B": 11, "H": 318, "W": 308, "T": 21},
)
ELSEWHERE = ({"B": 3, "H": 97, "W": 640, "T": 5}, {"B": 64, "H": 1000, "W": 33, "T": 77})


def make_fitter() -> Fitter:
    return Fitter(POINTS, held=4)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda B, H, W, T: 64, "64"),
        (lambda B, H, W, T: B, "B"),
        (lambda B, H, W, T: 12 * B, "12·B"),
        (lambda B, H, W, T: B * T, "B·T"),
        (lambda B, H, W, T: T + 1, "T + 1"),
        (lambda B, H, W, T: 2 * T - 1, "2·T - 1"),
        (lambda B, H, W, T: H * W + 1, "H·W + 1"),
        (lambda B, H, W, T: T * T, "T²"),
        (lambda B, H, W, T: H + W, "H + W"),
        (lambda B, H, W, T: -(-H // 2), "⌈H/2⌉"),
        (lambda B, H, W, T: H // 2, "⌊H/2⌋"),
        (lambda B, H, W, T: 2 * (H // 2), "2·⌊H/2⌋"),
    ],
)
def test_numbers_lead_to_the_expression_that_made_them(made: Callable[..., int], text: str) -> None:
    found = make_fitter().fit(tuple(made(**point) for point in POINTS))
    assert write(found) == text
    assert all(evaluate(text, point) == made(**point) for point in ELSEWHERE)


def test_numbers_that_follow_nothing_get_no_formula() -> None:
    assert make_fitter().fit((5, 77, 13, 1024, 6)) is None


def test_an_expression_that_misses_the_held_point_is_not_taken() -> None:
    """``T`` at every point but the one that no fit looks at: a branch in the code, say."""
    assert make_fitter().fit((12, 12, 16, 29, 22)) is None


def test_a_half_that_was_whole_only_by_chance_is_not_taken_for_a_half() -> None:
    points = tuple({"B": 2 + i, "T": size} for i, size in enumerate((12, 12, 16, 30, 20)))
    fitter = Fitter(points, held=4)
    assert fitter.fit((6, 6, 8, 15, 10)) is None
    assert write(Fitter(points, held=4, steps={"T": 2}).fit((6, 6, 8, 15, 10))) == "T/2"


def test_of_two_formulas_for_the_same_numbers_the_one_on_the_tensors_way_is_taken() -> None:
    """⌊(H + 3)/32⌋ and ⌊(H + 7)/32⌋ agree at all five points."""
    values = tuple((point["H"] + 3) // 32 for point in POINTS)
    assert values == tuple((point["H"] + 7) // 32 for point in POINTS)
    one, two = (floor_of((symbol("H") + more).scaled(Fraction(1, 32))) for more in (3, 7))
    fitter = make_fitter()
    assert fitter.fit(values, hints=[one]) == one
    assert fitter.fit(values, hints=[two]) == two
    assert fitter.fit(values, near=[Known(values, one, 2)], axis=2) == one
    assert fitter.fit(values) is None  # two calls gave two answers: numbers alone say nothing any more


def test_what_a_flatten_made_one_of_a_view_takes_apart() -> None:
    tall, wide = (floor_of((symbol(name) + 3).scaled(Fraction(1, 4))) for name in "HW")
    talls = tuple(int(tall.value(point)) for point in POINTS)
    wides = tuple(int(wide.value(point)) for point in POINTS)
    flat = Known(tuple(a * b for a, b in zip(talls, wides, strict=True)), tall * wide, 1)
    assert make_fitter().fit(wides, near=[flat], axis=2) == wide
    assert make_fitter().fit(flat.values, near=[Known(talls, tall, 2), Known(wides, wide, 3)]) == tall * wide


def test_padding_to_a_multiple_is_recognised() -> None:
    size = symbol("H")
    near = [Known(tuple(point["H"] for point in POINTS), size, 1)]
    found = make_fitter().fit(tuple(-(-point["H"] // 7) * 7 for point in POINTS), near=near, axis=1)
    assert write(found) == "7·⌈H/7⌉"


def test_a_first_point_of_its_own_kind_need_not_agree_where_that_is_allowed() -> None:
    points = ({"B": 1, "T": 5}, {"B": 2, "T": 5}, {"B": 3, "T": 9}, {"B": 6, "T": 22}, {"B": 4, "T": 14})
    values = (5, 2, 3, 6, 4)  # squeeze() took the batch of 1 away, and the next dim stands in its place
    assert Fitter(points, held=4).fit(values) is None
    assert write(Fitter(points, held=4, must_agree=False).fit(values)) == "B"


def test_a_call_that_was_not_made_at_enough_sizes_gets_no_formula() -> None:
    assert make_fitter().fit((8, None, None, 13, 11)) is None
    assert make_fitter().fit((8, 9, 10, 13, None)) is None
    assert write(make_fitter().fit((8, None, 10, 13, 11))) == "B"
