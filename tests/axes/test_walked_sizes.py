"""What the walk says of the sizes of models, beside real runs at sizes that were never traced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelsummary_ipy import ModelSummary, Size
from modelsummary_ipy.shapes.expr_text import evaluate


class PaddedPatches(nn.Module):
    """Pads to whole patches only where they are not whole, and adds positions that it resizes only at other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.places = nn.Parameter(torch.zeros(1, 8, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        if width % 4:
            x = F.pad(x, (0, 4 - width % 4))
        if height % 4:
            x = F.pad(x, (0, 0, 0, 4 - height % 4))
        x = self.patch(x)
        places = self.places
        if x.shape[-2:] != places.shape[-2:]:
            places = F.interpolate(places, size=x.shape[-2:], mode="bilinear")
        x = x + places
        return x.permute(0, 2, 3, 1).reshape(-1, 8)


def test_what_comes_another_way_at_other_sizes_is_named_where_it_is_read() -> None:
    model = PaddedPatches()
    ms = ModelSummary(model, (2, 3, 32, 32))
    assert ms.formulas[ms["patch"].index] == (("B", "8", "⌈H/4⌉", "⌈W/4⌉"),)
    assert ms.formulas[0] == (("B·⌈H/4⌉·⌈W/4⌉", "8"),)
    assert model(torch.zeros(5, 3, 30, 45)).shape == (5 * 8 * 12, 8)
    assert None not in [leaf for leaves in ms.formulas.values() for leaf in leaves]


class Windows(nn.Module):
    """A map padded to windows of 7, of which the user's size has one: there the reshape needs no copy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        x = F.pad(x, (0, -w % 7, 0, -h % 7)).view(b, c, -(-h // 7), 7, -(-w // 7), 7)
        windows = x.permute(0, 2, 4, 3, 5, 1).reshape(-1, 49, c)
        return windows.mean(1).reshape(b * -(-h // 7) * -(-w // 7), c)


def test_a_reshape_that_copies_at_other_sizes_alone_has_its_formula() -> None:
    ms = ModelSummary(Windows(), (2, 8, 7, 7))
    assert None not in [leaf for leaves in ms.formulas.values() for leaf in leaves]
    assert ms.formulas[0] == (("B·⌈H/7⌉·⌈W/7⌉", "C"),)
    assert Windows()(torch.zeros(3, 8, 15, 20)).shape == (3 * 3 * 3, 8)


class Positions(nn.Module):
    """Learned positions that are looked up by ``arange``."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 8), nn.Embedding(33, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(2, ids.shape[1] + 2)
        return self.tokens(ids) + self.positions(places)[None]


def test_positions_beyond_their_table_are_a_limit() -> None:
    model = Positions()
    assert ModelSummary(model, Size((2, 10), dtype="int64")).constraints == ("T ≤ 31",)
    model(torch.zeros(2, 31, dtype=torch.int64))
    with pytest.raises(IndexError):
        model(torch.zeros(2, 32, dtype=torch.int64))


class Crop(nn.Module):
    """Two layers that fit at sizes from 62 to 65 only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 2, 4, stride=4), nn.Linear(2 * 15 * 15, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).flatten(1))


def test_a_range_is_written_as_a_range() -> None:
    model = Crop()
    assert ModelSummary(model, (2, 1, 61, 61)).constraints == ("60 ≤ H, W ≤ 63 or few others", "C = 1")
    for size, works in ((60, True), (63, True), (59, False), (64, False)):
        for shape in ((2, 1, size, 61), (2, 1, 61, size)):
            if works:
                model(torch.zeros(shape))
            else:
                with pytest.raises(RuntimeError):
                    model(torch.zeros(shape))


class Part(nn.Module):
    """Takes a part of a sequence."""

    def __init__(self, part: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.part, self.layer = part, nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(self.layer(x))


PLACES = torch.zeros(40, 8)


@pytest.mark.parametrize(
    ("part", "formula"),
    [
        (lambda x: x[:, -16:], "min(T, 16)"),
        (lambda x: x[:, :16], "min(T, 16)"),
        (lambda x: x[..., :16, None, :4], "min(T, 16)"),
        (lambda x: x[:, 4:], "max(T - 4, 0)"),
        (lambda x: x[:, 3:-4], "max(T - 7, 0)"),
        (lambda x: x[:, -9:-2], "min(T, 9) - min(T, 2)"),
        (lambda x: x[:, :16:3], "⌈min(T, 16)/3⌉"),
        (lambda x: x[:, 1:], "T - 1"),
        (lambda x: x[:, :1], "1"),
        (lambda x: x.split(16, 1)[0], "min(T, 16)"),
        (lambda x: PLACES[: x.shape[1]].expand(len(x), -1, -1), "min(T, 40)"),
        (lambda x: PLACES[: x.shape[1]] + x, "T"),
        (lambda x: x[:, torch.arange(x.shape[1])], "T"),
        (lambda x: x[:, 3:].unfold(1, 2, 1), "T - 4"),
    ],
)
@pytest.mark.parametrize("length", [7, 20])
def test_a_part_of_an_axis_ends_where_the_axis_does(
    part: Callable[[torch.Tensor], torch.Tensor], formula: str, length: int
) -> None:
    """Right at lengths that were never traced, on both sides of every number in the code."""
    model = Part(part)
    (found,) = ModelSummary(model, (2, length, 8)).formulas[0]
    assert found is not None
    assert found[1] == formula
    for other in (*range(1, 12), 15, 16, 17, 19, 33, 40, 41, 90):
        try:
            made = model(torch.zeros(3, other, 8)).shape
        except RuntimeError:
            continue
        assert made == tuple(evaluate(dim, {"B": 3, "T": other}) for dim in found)


class Clipped(nn.Module):
    """Its code takes the smaller of a size and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.longest = nn.Linear(8, 8), 50


class TakesLast(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = min(x.shape[1], self.longest)
        return self.layer(x[:, -count:])


class CutsLong(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > self.longest:
            x = x[:, -self.longest :]
        return self.layer(x)


class PadsShort(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = max(x.shape[1], 30)
        return self.layer(F.pad(x, (0, 0, 0, count - x.shape[1])))


class KeepsBest(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).topk(min(20, x.shape[1]), 1)[0]


class ThinsLong(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, ::2] if x.shape[1] > 100 else x)


class PoolsTenths(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool1d(self.layer(x).transpose(1, 2), max(1, x.shape[1] // 10))


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        (TakesLast, "min(T, 50)"),
        (CutsLong, "min(T, 50)"),
        (PadsShort, "max(T, 30)"),
        (KeepsBest, "min(T, 20)"),
        (ThinsLong, None),
        (PoolsTenths, None),
    ],
)
@pytest.mark.parametrize("length", [6, 70])
def test_what_the_code_does_to_longer_inputs_alone_is_in_the_formula(
    kind: type[Clipped], formula: str | None, length: int
) -> None:
    """No formula where none is right at all lengths; right at lengths that were never traced where there is one."""
    model = kind()
    (found,) = ModelSummary(model, (2, length, 8)).formulas[0]
    assert (found and found[1]) == formula
    for other in (1, 5, 19, 20, 21, 29, 31, 49, 50, 51, 90, 400) if found else ():
        made = model(torch.zeros(3, other, 8)).shape
        assert made == tuple(evaluate(dim, {"B": 3, "T": other}) for dim in found)


class Sides(nn.Module):
    """A map of at most 96 by 96."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        return F.adaptive_avg_pool2d(self.conv(x), (min(height, 96), min(width, 96)))


@pytest.mark.parametrize("side", [32, 128])
def test_sides_that_are_clipped_alike_are_told_apart(side: int) -> None:
    assert ModelSummary(Sides(), (2, 3, side, side)).formulas[0] == (("B", "4", "min(H, 96)", "min(W, 96)"),)


class Skip(nn.Module):
    """A map that is pooled, enlarged, and padded to the size it had."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 3, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(F.max_pool2d(x, 2))
        rows, columns = (x.shape[dim] - y.shape[dim] for dim in (2, 3))
        y = F.pad(y, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return torch.cat([y, x], 1)


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stft(x, 64, 16, window=torch.ones(64), return_complex=True).abs()


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.conv = nn.Linear(8, 6), nn.Conv2d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.layer(x).permute(0, 3, 1, 2))


class Twos(nn.Module):
    """Steps of two; longer inputs are more operations."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(16, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x[:, : x.shape[1] // 2 * 2].reshape(len(x), -1, 16))[0]


class MergesOdd(nn.Module):
    """Patches merged two by two; sides that are odd are padded."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        return torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)


@pytest.mark.parametrize(
    ("kind", "size", "formula", "others"),
    [
        (MergesOdd, (1, 21, 30, 4), ("B", "⌈H/2⌉", "⌈W/2⌉", "4·C"), [(2, 48, 9, 4), (1, 51, 81, 4), (1, 8, 8, 4)]),
        (Skip, (1, 3, 70, 90), ("B", "6", "H", "W"), [(2, 3, 3, 90), (1, 3, 64, 71)]),
        (Spectrum, (2, 1600), ("B", "33", "⌊F/16⌋ + 1"), [(3, 100), (2, 333)]),
        (ChannelsLast, (2, 24, 24, 8), ("B", "4", "C - 2", "H - 2"), [(2, 5, 24, 8), (3, 24, 9, 8)]),
        (Twos, (2, 30, 8), ("B", "⌊T/2⌋·F/8", "5"), [(2, 7, 8), (4, 12, 16)]),
    ],
)
def test_sizes_that_code_computes_are_right_at_sizes_never_traced(
    kind: type[nn.Module], size: tuple[int, ...], formula: tuple[str, ...], others: list[tuple[int, ...]]
) -> None:
    model = kind()
    ms = ModelSummary(model, size)
    assert ms.formulas[0] == (formula,)
    names = ms.pipeline.batch.names.dims[0]
    for other in others:
        sizes = dict(zip(names, other, strict=True))
        assert model(torch.zeros(other)).shape == tuple(evaluate(dim, sizes) for dim in formula)
