"""Searches among sizes, against trying them all."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from modelsummary_ipy.shapes.size_search import first_true, last_true, prime_factors, smallest_step


@given(st.integers(-50, 50), st.integers(0, 80), st.sampled_from([1, 2, 7, -1, -3]), st.integers(-1, 90))
def test_the_first_and_the_last_are_what_trying_all_finds(start: int, count: int, step: int, turn: int) -> None:
    sizes = range(start, start + count * step, step)
    after, before = list(sizes[turn:]) if turn >= 0 else list(sizes), list(sizes[:turn]) if turn >= 0 else []
    tried: list[int] = []

    def is_after(size: int) -> bool:
        tried.append(size)
        return size in after

    assert first_true(sizes, is_after) == (after[0] if after else None)
    assert last_true(sizes, lambda size: size in before) == (before[-1] if before else None)
    assert len(tried) <= math.ceil(math.log2(count + 1))


@given(st.integers(1, 3000), st.integers(1, 60))
def test_the_smallest_step_divides_the_step_and_works(step: int, period: int) -> None:
    found = smallest_step(step * period, lambda size: size % period == 0)

    assert found == period


@given(st.integers(1, 100_000))
def test_prime_factors_multiply_to_the_number(number: int) -> None:
    factors = prime_factors(number)

    assert math.prod(factors) == number
    assert factors == sorted(factors)
    assert all(prime_factors(factor) == [factor] for factor in factors)
