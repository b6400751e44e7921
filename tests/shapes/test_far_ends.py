"""Limits of sides that end between the given size and those that are planned, and formulas of what moves a little only.

Every limit is tried in real runs on both sides, every formula of the output at real sizes.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.shapes.expr_text import evaluate


class Rotated(nn.Module):
    """A video model with a table for frames, rows and columns, each cut to what is there and laid out by it."""

    def __init__(self, most: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv3d(4, 12, (1, patch, patch), (1, patch, patch))
        for name in ("frames", "rows", "columns"):
            self.register_buffer(name, torch.ones(most, 4))

    def forward(self, x: Tensor) -> Tensor:
        _, _, t, h, w = x.shape
        h, w = h // self.patch, w // self.patch
        table = torch.cat(
            [
                self.frames[:t].view(t, 1, 1, -1).expand(t, h, w, -1),
                self.rows[:h].view(1, h, 1, -1).expand(t, h, w, -1),
                self.columns[:w].view(1, 1, w, -1).expand(t, h, w, -1),
            ],
            dim=-1,
        ).reshape(1, t * h * w, 12)
        tokens: Tensor = self.embed(x).flatten(2).transpose(1, 2)
        return (tokens * table).transpose(1, 2).unflatten(2, (t, h, w))


class Centred(nn.Module):
    """A table of positions of which the middle is taken; it says itself that larger images have none."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.embed = nn.Conv2d(3, 8, 2, 2)
        self.register_buffer("table", torch.zeros(1, 8, most, most))

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.embed(x)
        h, w = tokens.shape[2:]
        if h > self.most or w > self.most:
            raise ValueError(f"{h} x {w} patches, the table has {self.most}")
        top, left = (self.most - h) // 2, (self.most - w) // 2
        return tokens + self.table[:, :, top : top + h, left : left + w]


def _runs(model: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        model(torch.zeros(shape))
    except (RuntimeError, ValueError):
        return False
    return True


CASES = [
    (Rotated(32, 2), (1, 4, 2, 16, 16), ("D ≤ 32", "2 ≤ H, W ≤ 65", "C = 4"), {2: (1, 32), 3: (2, 65), 4: (2, 65)}),
    (Rotated(24, 1), (2, 4, 5, 10, 12), ("D, H and W ≤ 24", "C = 4"), {2: (1, 24), 3: (1, 24), 4: (1, 24)}),
    (Centred(16), (2, 3, 16, 16), ("2 ≤ H, W ≤ 33", "C = 3"), {2: (2, 33), 3: (2, 33)}),
    (Centred(20), (2, 3, 20, 24), ("2 ≤ H, W ≤ 41", "C = 3"), {2: (2, 41), 3: (2, 41)}),
]


@pytest.mark.parametrize(("model", "shape", "limits", "ends"), CASES)
def test_a_side_that_fails_far_off_has_the_last_size_that_runs(
    model: nn.Module, shape: tuple[int, ...], limits: tuple[str, ...], ends: dict[int, tuple[int, int]]
) -> None:
    assert ModelSummary(model, shape).constraints == limits
    for dim, (low, high) in ends.items():
        for size, runs in ((low - 1, False), (low, True), (high, True), (high + 1, False)):
            assert _runs(model, (*shape[:dim], size, *shape[dim + 1 :])) is (runs and size > 0)


@pytest.mark.parametrize(("model", "shape"), [case[:2] for case in CASES])
def test_a_side_that_moves_a_little_only_is_in_the_formulas(model: nn.Module, shape: tuple[int, ...]) -> None:
    ms = ModelSummary(model, shape)
    (formula,) = ms.formulas[0]
    assert formula is not None
    names = ("B", "C", "D", "H", "W") if len(shape) == 5 else ("B", "C", "H", "W")
    for more in (1, 2, 3):
        other = (*shape[:2], *(size + more * turn for turn, size in enumerate(shape[2:], 1)))
        sizes = dict(zip(names, other, strict=True))
        assert tuple(evaluate(dim, sizes) for dim in formula) == tuple(model(torch.zeros(other)).shape)


class Placed(nn.Module):
    """Patches of an image with a place for each, of tables that are cut to as many."""

    def __init__(self, *table: int, patches: tuple[int, ...] = (8,)) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Conv2d(3, 16, patch, patch) for patch in patches)
        self.tables = nn.ParameterList(torch.zeros(*table[:-1], table[-1] * 64 // patch**2, 16) for patch in patches)

    def forward(self, x: Tensor) -> Tensor:
        found = 0
        for embed, table in zip(self.embeds, self.tables, strict=True):
            tokens = embed(x).flatten(2).transpose(1, 2)
            found = found + (tokens + table[..., : tokens.shape[1], :]).mean(1)
        return found  # type: ignore[return-value]


@pytest.mark.parametrize("table", [(1, 64), (64,)], ids=["of a batch of one", "without a batch"])
def test_a_table_that_is_cut_limits_both_sides_together(table: tuple[int, ...]) -> None:
    model = Placed(*table)
    assert ModelSummary(model, (2, 3, 64, 64)).constraints[0] == "⌊H/8⌋·⌊W/8⌋ ≤ 64"
    for height in (8, 9, 64, 71, 72, 128, 32, 130, 256):
        for width in (8, 9, 64, 71, 72, 128, 32, 130, 256):
            assert _runs(model, (2, 3, height, width)) is ((height // 8) * (width // 8) <= 64)


def test_what_two_tables_ask_for_is_said_once() -> None:
    limits = ModelSummary(Placed(1, 64, patches=(8, 16)), (2, 3, 64, 64)).constraints
    assert limits.count("⌊H/8⌋·⌊W/8⌋ ≤ 64") == 1
    assert len(set(limits)) == len(limits)
