"""Dims that take few sizes, or several ranges: what is said of them, and formulas there, beside real runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.shapes.expr_text import evaluate

Shape = tuple[int, ...]
UP_TO = 70


class Tree(nn.Module):
    """Adds the steps in pairs until one is left, which only a power of two allows."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        means = [x.mean(1)]
        while x.shape[1] > 1:
            x = self.pair(torch.cat([x[:, ::2], x[:, 1::2]], -1))
            means.append(x.mean(1))
        return x[:, 0], torch.stack(means, 1)


class TwoRates(nn.Module):
    """Repeats the steps of a slow sequence for those of a fast one."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, fast: Tensor, slow: Tensor) -> tuple[Tensor, Tensor]:
        if fast.shape[1] % slow.shape[1]:
            raise ValueError("a multiple of the slow steps")
        return self.mix(fast) + slow.repeat_interleave(fast.shape[1] // slow.shape[1], 1), slow.mean(2)


class Masked(nn.Module):
    """Attention of 4 heads with a mask for each step with each, which may be the same for all."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(16, 48)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.read(x).unflatten(2, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        mask = mask * 2
        return ((q @ k.mT + mask).softmax(-1) @ v).transpose(1, 2).flatten(2), mask


class Grey(nn.Module):
    """Takes an image of colours, or a grey one, which it repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x / 2
        return self.layer(x.expand(-1, 3, -1, -1)), x


class Windows(nn.Module):
    """A spatial pyramid: windows so large that so many fit, padded where they do not; torch refuses some paddings."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        parts = []
        for count in (4, 2, 1):
            lengths = [math.ceil(side / count) for side in x.shape[2:]]
            added = [(length * count - side + 1) // 2 for length, side in zip(lengths, x.shape[2:], strict=True)]
            parts.append(F.max_pool2d(x, lengths, lengths, added).flatten(1))
        return torch.cat(parts, 1)


class Halves(nn.Module):
    """Recurrent layers, each of which reads two steps at once, and no last one that is left."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.GRU(2 * size, 5, batch_first=True) for size in (6, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if x.shape[1] % 2:
                x = x[:, :-1]
            x, _ = layer(x.unflatten(1, (-1, 2)).flatten(2))
        return x


class Bins(nn.Module):
    """Halves steps twice, and takes whole windows of 4 of what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(6, 5, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool1d(F.max_pool1d(self.layer(x.mT), 2), 2).mT
        count = x.shape[1]
        if count % 4:
            raise ValueError(f"{count} bins")
        return x[:, 2:-2], x.reshape(len(x), count // 4, 4, 5).mean(2)


class Chunks(nn.Module):
    """Fills steps up so that chunks of ten overlap by half, as a dual-path network does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer(x)
        gap = 10 - (5 + x.shape[1] % 10) % 10
        x = torch.cat([x, x.new_zeros(len(x), gap, 5)], 1)
        return x, x[:, :-5].contiguous().view(len(x), -1, 10, 5)


class Groups(nn.Module):
    """Compares the samples of groups of four, or of all where there are not as many."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, count = self.layer(x), len(x)
        size = min(4, count) if count % min(4, count) == 0 else count
        spread = x.reshape(size, -1, 5).std(0, correction=0)
        return torch.cat([x, spread.repeat(size, 1)], 1), spread


def run(model: nn.Module, shapes: list[Shape]) -> list[Shape] | None:
    """Run for real; ``None`` where that fails."""
    try:
        with torch.no_grad():
            made = model(*map(torch.zeros, shapes))
    except (RuntimeError, ValueError):
        return None
    return [tuple(leaf.shape) for leaf in (made if isinstance(made, tuple) else (made,))]


POWERS = (1, 2, 4, 8, 16, 32, 64)
RANGES = (*range(7, 9), *range(11, 17), *range(19, UP_TO))
#: Model, sizes and their names, what is said; of one of the names the sizes that work, as far as that is said.
CASES: dict[
    str, tuple[Callable[[], nn.Module], list[Shape], list[str], tuple[str, ...], str, Collection[int] | None]
] = {
    "a power of two": (Tree, [(2, 32, 6)], ["B T F"], ("T a power of two", "F = 6"), "T", POWERS),
    "a power of two, the least": (Tree, [(2, 4, 6)], ["B T F"], ("T a power of two", "F = 6"), "T", POWERS),
    "steps that divide others": (
        TwoRates, [(2, 50, 8), (2, 25, 8)], ["B T F", "B T2 F"],
        ("T divisible by 25", "T2 = 25 or few others", "F = 8"), "T2", None,
    ),
    "a mask that may be broadcast": (
        Masked, [(2, 13, 16), (2, 1, 13, 13)], ["B T F", "B C H W"],
        ("T = H or H = 1", "T = W or W = 1", "F = 16", "C = 1 or 4"), "W", (1, 13),
    ),
    "heads that a mask is broadcast over": (
        Masked, [(2, 13, 16), (2, 1, 13, 13)], ["B T F", "B C H W"],
        ("T = H or H = 1", "T = W or W = 1", "F = 16", "C = 1 or 4"), "C", (1, 4),
    ),
    "grey or colours": (Grey, [(2, 3, 8, 9)], ["B C H W"], ("C = 3 or 1",), "C", (1, 3)),
    "windows in ranges": (
        Windows, [(2, 3, 40, 40)], ["B C H W"],
        ("7 ≤ H ≤ 8 or 11 ≤ H ≤ 16 or H ≥ 19", "7 ≤ W ≤ 8 or 11 ≤ W ≤ 16 or W ≥ 19", "C = 3"), "H", RANGES,
    ),
    "windows of a sequence that was halved": (
        Bins, [(2, 64, 6)], ["B T F"], ("⌊T/4⌋ divisible by 4", "T ≥ 16", "F = 6"), "T",
        [size for size in range(16, UP_TO) if size // 4 % 4 == 0],
    ),
    "chunks that overlap": (Chunks, [(2, 31, 6)], ["B T F"], ("F = 6",), "T", range(1, UP_TO)),
    "groups of samples where these are whole": (Groups, [(4, 6)], ["B F"], ("F = 6",), "B", range(1, UP_TO)),
    "halves of what is left": (Halves, [(2, 31, 6)], ["B T F"], ("T ≥ 8", "F = 6"), "T", range(8, UP_TO)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_of_few_sizes_and_all_formulas_there_are_true_of_real_runs(case: str) -> None:
    make, shapes, names, said, name, works = CASES[case]
    model = make().eval()
    ms = ModelSummary(model, list(map(torch.zeros, shapes)))
    assert ms.constraints == said
    assert not ms.story.internal_errors
    num_known = 0
    given: dict[str, int] = {}
    for dims, shape in zip(names, shapes, strict=True):
        given.update(zip(dims.split(), shape, strict=True))
    for size in range(1, UP_TO):
        sizes = {**given, name: size}
        made = run(model, [tuple(sizes[one] for one in dims.split()) for dims in names])
        if works is not None:
            assert (made is not None) == (size in works), size
        for formula, shape in zip(ms.formulas[0], made or (), strict=made is not None):
            if formula is not None:
                num_known += 1
                assert tuple(evaluate(dim, sizes) for dim in formula) == shape, (size, formula)
    assert num_known
