"""Which sizes work around one that does: ranges and steps, each end tried; and no rule where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.diagnosis.failures.size_rule import find_size_rule


@pytest.mark.parametrize(
    ("works", "good", "given", "text"),
    [
        (lambda n: 48 <= n <= 55, 48, 64, "48 ≤ H, W ≤ 55"),
        (lambda n: 48 <= n <= 55, 54, 20, "48 ≤ H, W ≤ 55"),
        (lambda n: n >= 29, 32, 16, "H and W ≥ 29"),
        (lambda n: n <= 32, 20, 40, "H and W ≤ 32"),
        (lambda n: n == 24, 24, 40, "H = W = 24"),
        (lambda n: n % 16 == 0, 224, 225, "H and W divisible by 16"),
        (lambda n: n % 6 == 0 and n >= 12, 24, 25, "H and W divisible by 6 and ≥ 12"),
        (lambda n: n % 4 == 0 and 8 <= n <= 64, 32, 30, "H and W divisible by 4, 8 ≤ H, W ≤ 64"),
    ],
)
def test_a_range_or_a_step_is_found(works: Callable[[int], bool], good: int, given: int, text: str) -> None:
    tried = {good: True}

    def trace(size: int) -> bool:
        return tried.setdefault(size, works(size))

    rule = find_size_rule(trace, good, given)
    assert rule is not None and rule.write(["H", "W"]) == text
    if rule.low is not None:
        assert tried[rule.low] and not tried[rule.low - rule.step]
    if rule.high is not None:
        assert tried[rule.high] and not tried[rule.high + rule.step]


@pytest.mark.parametrize("works", [lambda n: n % 4 == 1, lambda n: n in (20, 33, 34)])
def test_no_rule_is_made_of_sizes_that_follow_none(works: Callable[[int], bool]) -> None:
    good = next(size for size in range(20, 60) if works(size))
    rule = find_size_rule(works, good, good + 2)
    assert rule is None or all(works(n) for n in range(rule.low or 1, (rule.high or 1) + 1, rule.step))


class Windows(nn.Module):
    """Windows of 4 × 4 of a feature map whose channels are last."""

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        return x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)


def test_a_dim_of_windows_is_no_fixed_size() -> None:
    assert ModelSummary(Windows(), (2, 20, 20, 12)).constraints == ("H and C divisible by 4",)
    assert Windows()(torch.zeros(2, 24, 16, 7)).shape == (48, 16, 7)
    with pytest.raises(RuntimeError):
        Windows()(torch.zeros(2, 22, 20, 12))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.marks = nn.Embedding(50, 16), nn.Embedding(50, 16)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.words(x) + self.marks(y)


def test_two_inputs_of_other_lengths_are_to_be_of_one_of_them() -> None:
    error = ModelSummary(Words(), [torch.zeros(2, size, dtype=torch.long) for size in (15, 17)]).error
    assert error is not None and error.sizes == ("(2, 15):int64 (2, 15):int64",)


class Frames(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(2) != 3000:
            raise ValueError(f"expected frames of length 3000, but found {x.size(2)}")
        return x.mean(2)


@pytest.mark.parametrize(
    ("model", "given", "size"),
    [
        (Frames(), [(1, 80, 1000)], "(1, 80, 3000)"),
        (nn.GRU(10, 20, batch_first=True), [(2, 10, 50)], "(2, 50, 10)"),
        (nn.MultiheadAttention(16, 4, batch_first=True), [(2, 5, 12)] * 3, "(2, 5, 16) (2, 5, 16) (2, 5, 16)"),
        (nn.Sequential(nn.Conv1d(1, 8, 80, 4), nn.MaxPool1d(16)), [(2, 1, 100)], "(2, 1, 192)"),
        (nn.Sequential(nn.Conv3d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4 * 8 * 14 * 14, 5)), [(1, 3, 16, 56, 56)],
         "(1, 3, 16, 28, 28)"),
        (nn.ConvTranspose2d(100, 8, 4), [(16, 100)], "(16, 100, 1, 1)"),
    ],
)  # fmt: skip
def test_sizes_of_signals_sequences_and_messages_are_natural(
    model: nn.Module, given: list[tuple[int, ...]], size: str
) -> None:
    error = ModelSummary(model, given if len(given) > 1 else given[0]).error
    assert error is not None and error.sizes[:1] == (size,)
    with pytest.raises((RuntimeError, ValueError, AssertionError)):
        model(*[torch.zeros(shape) for shape in given])
    model(*[torch.zeros([int(word) for word in text.split(", ")]) for text in size[1:-1].split(") (")])
