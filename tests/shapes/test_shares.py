"""Shares of a size, ``int(0.8 * T)``: a formula that is right at all sizes, or none."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.shapes.expr_text import evaluate
from modelsummary_ipy.summary import ModelSummary
from tests.shapes.sized import compare


class Takes(nn.Module):
    """Takes a part of the steps, as a function of their number says."""

    def __init__(self, part: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.mix, self.part = nn.Linear(6, 4), part

    def forward(self, x: Tensor) -> Tensor:
        steps = max(x.shape[1], 1)
        return self.part(self.mix(x), steps)


#: A share of the steps, its formula, or ``None`` where no formula is right at all sizes.
SHARES: dict[str, tuple[Callable[[Tensor, int], Tensor], str | None]] = {
    "int(0.8 * T)": (lambda x, n: x[:, : int(0.8 * n)], "⌊4·T/5⌋"),
    "what int(0.4 * T) leaves": (lambda x, n: x[:, int(0.4 * n) :], "T - ⌊2·T/5⌋"),
    "int((1 - 0.8) * T) of floats": (lambda x, n: x[:, : int((1 - 0.8) * n)], "⌈T/5⌉ - 1"),
    "max(1, int(0.1 * T))": (lambda x, n: x[:, : max(1, int(0.1 * n))], "max(⌊T/10⌋, 1)"),
    "chunks longer than the input": (lambda x, n: torch.cat([x[:, i : i + 100] for i in range(0, n, 100)], 1), "T"),
    "int(0.7 * T), of 90 62": (lambda x, n: x[:, : int(0.7 * n)], None),
    "what int(0.7 * T) leaves": (lambda x, n: x[:, int(0.7 * n) :], None),
    "int(0.33 * T), as a third of a few": (lambda x, n: x[:, : int(0.33 * n)], None),
    "round(T / 2), of 43 22": (lambda x, n: x[:, : round(n / 2)], None),
    "round(T / 4)": (lambda x, n: x[:, : round(n / 4)], None),
    "a logarithm that is 5 of 32 to 63": (lambda x, n: x[:, : int(math.log2(n))], None),
    "an end that turns negative": (lambda x, n: x[:, : n - 16], None),
    "a start that turns 0": (lambda x, n: x[:, -int(0.3 * n) :], None),
    "a stride that changes": (lambda x, n: x[:, :: max(1, n // 8)], None),
}


@pytest.mark.parametrize("steps", [40, 41])
@pytest.mark.parametrize("case", SHARES)
def test_a_share_of_a_size_has_a_formula_that_is_right_at_all_sizes_or_none(case: str, steps: int) -> None:
    part, expected = SHARES[case]
    model = Takes(part).eval()
    ms = ModelSummary(model, (2, steps, 6))
    assert ms.formulas[0] == (None if expected is None else ("B", expected, "4"),)
    assert not ms.story.internal_errors
    if expected is not None:
        for length in [*range(1, 140), 300, 301]:
            made = model(torch.zeros(1, length, 6))
            assert evaluate(expected, {"T": length}) == made.shape[1], length


class KeepsSome(nn.Module):
    """Masks three quarters of the patches, and fills them in again."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mask = nn.Conv2d(3, 4, 4, 4), nn.Parameter(torch.zeros(1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).mT
        count = patches.shape[1]
        kept = int(count * (1 - 0.75))
        return torch.cat([patches[:, :kept], self.mask.repeat(len(x), count - kept, 1)], 1).relu()


def test_a_share_of_all_patches_has_a_formula() -> None:
    ms = ModelSummary(KeepsSome().eval(), (2, 3, 32, 32))
    assert all(None not in formulas for formulas in ms.formulas.values())
    for height, width in ((32, 32), (13, 23), (20, 12), (4, 8), (101, 60)):
        compare(ms, KeepsSome(), {"B": 3, "H": height, "W": width}, (3, 3, height, width))
