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


class Halving(nn.Module):
    """Halves the steps until few are left, of which the layer takes one."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Conv1d(6, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.mix(x.mT)
        while x.shape[2] > 2:
            x = F.max_pool1d(F.pad(x, (0, 1)), 3, 2)
        return self.out(x.squeeze()), x.mean(2)


class Vocoder(nn.Module):
    """Adds a tone to each frame, of a pitch for each."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.tone = nn.ConvTranspose1d(6, 4, 8, 4, 2), nn.Conv1d(1, 4, 1)

    def forward(self, frames: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
        tone = self.tone(F.interpolate(pitch.unsqueeze(1), scale_factor=4.0))
        return self.up(frames) + tone, tone.cumsum(2)


class TwoScales(nn.Module):
    """Joins the map of an image and that of a smaller one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, large: Tensor, small: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([self.first(large), self.second(small)], 1)
        return F.interpolate(both, large.shape[2:]), both


class Decisions(nn.Module):
    """Puts states and actions in turn; the last action may be missing, all others may not."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.action, self.places = nn.Linear(6, 8), nn.Linear(5, 8), nn.Parameter(torch.zeros(200, 8))

    def forward(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        steps, is_missing = states.shape[1], int(actions.shape[1] < states.shape[1])
        turns = torch.zeros(len(states), 2 * steps - is_missing, 8)
        turns[:, ::2] = self.state(states)
        turns[:, 1::2] = self.action(actions)[:, is_missing - steps :]
        return turns + self.places[: turns.shape[1]], actions.relu()


class Samples(nn.Module):
    """Takes the largest of as many steps as the logarithm says, which must be one at least."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.mix(x)
        return x[:, : max(0, math.floor(math.log2(x.shape[1] / 4)))].max(1)[0], x


class Kept(nn.Module):
    """Keeps four fifths of a graph's nodes, two at least, of which there must be two."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.topk(self.score(x).squeeze(-1), max(2, int(0.8 * len(x))))[1]
        return x[kept].relu(), x.relu()


def run(model: nn.Module, shapes: list[Shape]) -> list[Shape] | None:
    """Run for real; ``None`` where that fails."""
    try:
        with torch.no_grad():
            made = model(*map(torch.zeros, shapes))
    except (RuntimeError, ValueError, IndexError):
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
    "a loop that ends at one step or two": (
        Halving, [(2, 28, 6)], ["B T F"], ("F = 6", "T = 28 or few others"), "T", None,
    ),
    "two inputs of as many steps": (
        Vocoder, [(2, 6, 12), (2, 12)], ["B C L", "B W"], ("L = W", "C = 6"), "L", (12,),
    ),
    "an image and one half as large": (
        TwoScales, [(2, 3, 32, 44), (2, 3, 16, 22)], ["B C H W", "B C H2 W2"],
        ("⌈H/4⌉ = ⌈H2/2⌉", "⌈W/4⌉ = ⌈W2/2⌉", "C = 3"), "H2", (15, 16),
    ),
    "actions that may be more": (
        Decisions, [(2, 12, 6), (2, 11, 5)], ["B T F", "B T2 F2"],
        ("T ≤ 12", "T2 = 1 or T2 ≥ 11", "F = 6", "F2 = 5"), "T2", (1, *range(11, UP_TO)),
    ),
    "the largest of some": (Samples, [(2, 48, 6)], ["B T F"], ("T ≥ 8", "F = 6"), "T", range(8, UP_TO)),
    "a part of a graph": (Kept, [(17, 6)], ["B F"], ("B > 1", "F = 6"), "B", range(2, UP_TO)),
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
