"""Sizes that a forward computes (paddings, windows that are cut): each formula beside real runs at other sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.shapes.expr_text import evaluate
from modelsummary_ipy.summary import ModelSummary


class Merges(nn.Module):
    """Halves a map of patches, by four slices of what is padded to an even size, as often as there are layers."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 4, stride=4)
        self.layers = nn.ModuleList(nn.Linear(16, 4) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        for layer in self.layers:
            height, width, _ = x.shape[-3:]
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
            parts = [x[..., i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
            x = layer(torch.cat(parts, -1))
        return x


class WindowsOf8(nn.Module):
    """Cuts patches into windows of 8, and takes what was padded away again."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 4, stride=4)
        self.mix = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        b, height, width, c = x.shape
        x = F.pad(x, (0, 0, 0, (8 - width % 8) % 8, 0, (8 - height % 8) % 8))
        _, high, wide, _ = x.shape
        x = x.view(b, high // 8, 8, wide // 8, 8, c).permute(0, 1, 3, 2, 4, 5)
        x = self.mix(x.reshape(b * (high // 8) * (wide // 8), 64, c))
        x = x.view(b, high // 8, wide // 8, 8, 8, c).permute(0, 1, 3, 2, 4, 5).reshape(b, high, wide, c)
        return x[:, :height, :width, :].contiguous()


def cut_windows(x: Tensor) -> Tensor:
    """Cut a sequence into windows of 8, or of all of it where it is shorter."""
    window = 8
    if x.shape[1] <= window:
        window = x.shape[1]
    x = F.pad(x, (0, 0, 0, -x.shape[1] % window))
    return x.view(len(x), x.shape[1] // window, window, -1)


class CutWindows(nn.Module):
    """Has a function that compares sizes, and no code of its own that does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(cut_windows(x)).relu()


@pytest.mark.parametrize(
    ("model", "given", "others"),
    [
        (
            Merges,
            (1, 3, 224, 224),
            [(1, 3, 268, 198), (2, 3, 197, 205), (1, 3, 36, 52), (3, 3, 68, 4), (1, 3, 212, 44)],
        ),
        (WindowsOf8, (1, 3, 224, 224), [(1, 3, 229, 215), (2, 3, 260, 197), (1, 3, 36, 52), (3, 3, 133, 4)]),
    ],
)
def test_a_padding_to_a_multiple_is_seen_where_the_given_size_needs_none(
    model: type[nn.Module], given: tuple[int, ...], others: list[tuple[int, ...]]
) -> None:
    ms = ModelSummary(model().eval(), given)
    assert all(None not in formulas for formulas in ms.formulas.values())
    assert "H and W ≥ 4" in ms.constraints
    for other in others:
        compare(ms, model(), dict(zip("BCHW", other, strict=True)), other)


def test_a_window_that_is_cut_to_a_short_input_gets_no_formula_of_longer_ones() -> None:
    ms = ModelSummary(CutWindows().eval(), (2, 16, 4))
    for length in (1, 3, 7, 8, 9, 17, 40):
        compare(ms, CutWindows(), {"B": 3, "T": length}, (3, length, 4))


def compare(ms: ModelSummary, model: nn.Module, sizes: dict[str, int], shape: tuple[int, ...]) -> None:
    """Compare all formulas with the rows of a real run."""
    seen = ModelSummary(model.eval(), torch.zeros(shape), engine="real")
    assert [row.type_name for row in seen.rows] == [row.type_name for row in ms.rows]
    for row, other in zip(ms.rows, seen.rows, strict=True):
        for formula, spec in zip(ms.formulas.get(row.index, ()), other.outputs, strict=True):
            if formula is not None:
                assert tuple(evaluate(dim, sizes) for dim in formula) == spec.shape, (row.path, row.type_name, formula)
