"""The sizes that are tried to tell one formula from another."""

from __future__ import annotations

import pytest

from modelsummary_ipy.shapes.dim_names import InputNames
from modelsummary_ipy.shapes.planned_sizes import plan_remainders


@pytest.mark.parametrize("side", [64, 224, 256, 384])
@pytest.mark.parametrize("window", [112, 224, 256])
def test_two_sides_are_once_in_different_numbers_of_windows(side: int, window: int) -> None:
    names = InputNames((("B", "C", "H", "W"),), batch="B")
    planned = plan_remainders(names, {"B": 1, "H": side, "W": side}, ["B", "H", "W"], {}, ())
    assert len(planned) == 3
    assert any(-(-at["H"] // window) != -(-at["W"] // window) for at in planned)
    assert {(at["H"] % 4, at["W"] % 4) for at in planned} == {(1, 1), (1, 0), (0, 1)}
