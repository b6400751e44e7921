"""Sizes that a forward computes (paddings, windows that are cut): each formula beside real runs at other sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.shapes.expr_text import evaluate
from modelsummary_ipy.summary import ModelSummary
from tests.shapes.sized import compare


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

    length = 8

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 4, stride=4)
        self.mix = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        b, height, width, c = x.shape
        n = self.length
        x = F.pad(x, (0, 0, 0, (n - width % n) % n, 0, (n - height % n) % n))
        _, high, wide, _ = x.shape
        x = x.view(b, high // n, n, wide // n, n, c).permute(0, 1, 3, 2, 4, 5)
        x = self.mix(x.reshape(b * (high // n) * (wide // n), n * n, c))
        x = x.view(b, high // n, wide // n, n, n, c).permute(0, 1, 3, 2, 4, 5).reshape(b, high, wide, c)
        return x[:, :height, :width, :].contiguous()


class WindowsOf128(WindowsOf8):
    """Has one window at small sizes, and as many along the height as along the width at most others."""

    length = 128


class SamePools(nn.Module):
    """Pads so that pools with a stride of 2 see all, as much as each size needs."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        for kernel in (3, 5, 3):
            added = [max((-(-side // 2) - 1) * 2 + kernel - side, 0) for side in x.shape[2:]]
            x = F.pad(x, (added[1] // 2, added[1] - added[1] // 2, added[0] // 2, added[0] - added[0] // 2))
            x = F.max_pool2d(self.mix(x), kernel, 2)
        return x


class WindowsOrAll(nn.Module):
    """Runs on the whole map where it is one window, as at the given size, and on windows elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 4, stride=4)
        self.mix = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        b, c, height, width = x.shape
        if height == width == 7:
            return self.mix(x)
        x = F.pad(x, (0, -width % 7, 0, -height % 7)).permute(0, 2, 3, 1)
        high, wide = x.shape[1] // 7, x.shape[2] // 7
        x = x.view(b, high, 7, wide, 7, c).transpose(2, 3).reshape(b * high * wide, 7, 7, c)
        x = self.mix(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).view(b, high, wide, 7, 7, c)
        x = x.transpose(2, 3).reshape(b, high * 7, wide * 7, c)[:, :height, :width]
        return x.permute(0, 3, 1, 2)


class FewPositions(nn.Module):
    """Takes sides of 160 to 191 only, for a table of positions, and asks for eighths of them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 4, stride=4)
        self.table = nn.Parameter(torch.zeros(1, 4, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, (x.shape[2] // 8, x.shape[3] // 8))
        return self.patch(x) + self.table


class SamePatches(nn.Module):
    """Pads so that layers with a stride of 2 see all, and takes sides of 193 to 224 only."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, stride=2) for _ in range(5))
        self.head = nn.Linear(3 * 49, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            added = [max((-(-side // 2) - 1) * 2 + 3 - side, 0) for side in x.shape[2:]]
            x = layer(F.pad(x, (added[1] // 2, added[1] - added[1] // 2, added[0] // 2, added[0] - added[0] // 2)))
        return self.head(x.flatten(1))


class PoolsSmall(nn.Module):
    """Pools a map that is smaller than a kernel to its size."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.layer = nn.Conv2d(3, 4, 8, stride=8), nn.Conv2d(4, 4, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(widen(self.patch(x)))


def widen(x: Tensor) -> Tensor:
    """Give each side at least 7 positions."""
    return F.adaptive_avg_pool2d(x, [max(side, 7) for side in x.shape[2:]]) if min(x.shape[2:]) < 7 else x


class AddsTable(nn.Module):
    """Takes sides of 160 to 191, and of 32 to 63: one position is broadcast over the table."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 32, stride=32)
        self.table = nn.Parameter(torch.zeros(1, 4, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.patch(x) + self.table


def cut_windows(x: Tensor) -> Tensor:
    """Cut a sequence into windows of 8, or of all of it where it is shorter."""
    window = 8
    if x.shape[1] <= window:
        window = x.shape[1]
    x = F.pad(x, (0, 0, 0, -x.shape[1] % window))
    return x.view(len(x), x.shape[1] // window, window, -1)


class ShiftedWindows(nn.Module):
    """Adds a table of distances in windows of 7 that are cut to small maps, and shifts the map where they are not."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 4, stride=4)
        self.distances = nn.Parameter(torch.zeros(49, 49))

    def forward(self, x: Tensor) -> Tensor:
        x = attend_in_windows(self.patch(x).permute(0, 2, 3, 1), self.distances)
        return x.permute(0, 3, 1, 2)


def attend_in_windows(x: Tensor, distances: Tensor) -> Tensor:
    """Attend among the positions of each window, and not across the border that a shift makes."""
    sides, shifts = [7, 7], [3, 3]
    for place, side in enumerate(x.shape[1:3]):
        if side <= 7:
            sides[place], shifts[place] = side, 0
    area = sides[0] * sides[1]
    table = distances[:area, :area]
    b, height, width, c = x.shape
    x = F.pad(x, (0, 0, 0, -width % sides[1], 0, -height % sides[0]))
    _, high, wide, _ = x.shape
    if sum(shifts):
        x = torch.roll(x, (-shifts[0], -shifts[1]), (1, 2))
    rows, columns = high // sides[0], wide // sides[1]
    x = x.view(b, rows, sides[0], columns, sides[1], c).transpose(2, 3).reshape(b * rows * columns, area, c)
    scores = x @ x.transpose(1, 2) + table
    if sum(shifts):
        mask = x.new_zeros(high, wide)
        mask[-shifts[0] :, -shifts[1] :] = 1
        mask = mask.view(rows, sides[0], columns, sides[1]).transpose(1, 2).reshape(rows * columns, area)
        scores = scores.view(b, rows * columns, area, area) + (mask.unsqueeze(1) - mask.unsqueeze(2))
        scores = scores.view(-1, area, area)
    x = (scores.softmax(-1) @ x).view(b, rows, columns, sides[0], sides[1], c).transpose(2, 3)
    return x.reshape(b, high, wide, c)[:, :height, :width, :].contiguous()


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
        (WindowsOf128, (1, 3, 96, 96), [(1, 3, 608, 200), (2, 3, 260, 600)]),
        (WindowsOf128, (1, 3, 224, 224), [(1, 3, 608, 200), (2, 3, 260, 600), (1, 3, 36, 1052), (3, 3, 533, 4)]),
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


def test_windows_that_are_cut_to_a_short_input_have_a_formula_at_all_lengths() -> None:
    ms = ModelSummary(CutWindows().eval(), (2, 16, 4))
    assert ms.formulas[0] == (("B", "⌈T/8⌉", "min(T, 8)", "4"),)
    for length in (1, 3, 7, 8, 9, 17, 40):
        compare(ms, CutWindows(), {"B": 3, "T": length}, (3, length, 4))


def test_windows_that_are_cut_and_shifted_have_formulas_at_all_sizes() -> None:
    """Also of what is made of the window's area before the map is cut, and of a mask that only shifted ones have."""
    ms = ModelSummary(ShiftedWindows().eval(), (1, 3, 112, 112))
    calls = [row.index for row in ms.rows if row.call is not None]
    assert all(None not in ms.formulas[row] for row in calls)
    for height, width in ((112, 112), (61, 90), (28, 140), (45, 20), (12, 16), (200, 7)):
        compare(ms, ShiftedWindows(), {"B": 2, "H": height, "W": width}, (2, 3, height, width))


def test_a_padding_that_a_stride_needs_is_seen() -> None:
    ms = ModelSummary(SamePools().eval(), (1, 3, 96, 96))
    assert all(None not in formulas for formulas in ms.formulas.values())
    for height, width in ((97, 98), (99, 103), (33, 35), (12, 101), (5, 6)):
        compare(ms, SamePools(), {"B": 2, "H": height, "W": width}, (2, 3, height, width))


def test_a_size_that_a_few_steps_do_not_change_is_no_number() -> None:
    ms = ModelSummary(FewPositions().eval(), (1, 3, 160, 160))
    for height, width in ((160, 160), (163, 188), (175, 169)):
        compare(ms, FewPositions(), {"B": 2, "H": height, "W": width}, (2, 3, height, width))


def test_a_map_that_is_broadcast_over_a_table_has_its_size() -> None:
    ms = ModelSummary(AddsTable().eval(), (1, 3, 160, 160))
    assert ms.formulas[0] == (("B", "4", "5", "5"),)
    for height, width in ((191, 160), (40, 45)):
        compare(ms, AddsTable(), {"B": 2, "H": height, "W": width}, (2, 3, height, width))


def test_sides_that_move_little_are_traced_further_off() -> None:
    ms = ModelSummary(SamePatches().eval(), (1, 3, 224, 224))
    assert "193 ≤ H, W ≤ 224" in ms.constraints
    for height, width in ((224, 193), (193, 224), (200, 217), (210, 205)):
        compare(ms, SamePatches(), {"B": 3, "H": height, "W": width}, (3, 3, height, width))


def test_a_pool_of_small_maps_alone_is_in_the_formula() -> None:
    ms = ModelSummary(PoolsSmall().eval(), (1, 3, 56, 56))
    assert ms.formulas[ms["layer"].index] is not None
    assert None not in ms.formulas[ms["layer"].index]
    for height, width in ((56, 56), (16, 90), (120, 9), (64, 200)):
        compare(ms, PoolsSmall(), {"B": 3, "H": height, "W": width}, (3, 3, height, width))


def test_a_branch_of_the_given_size_alone_has_the_formula_of_the_other_where_both_agree() -> None:
    ms = ModelSummary(WindowsOrAll().eval(), (1, 3, 28, 28))
    row = ms["mix"]
    (formula,) = ms.formulas[row.index]
    assert formula is not None
    for height, width in ((28, 28), (61, 90), (112, 4), (57, 200)):
        windows = -(-(height // 4) // 7) * -(-(width // 4) // 7)
        assert evaluate(formula[0], {"B": 3, "H": height, "W": width}) == 3 * windows


class Periods(nn.Module):
    """Pads a wave to a multiple of 7, which 44100 is, and of 6 too."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(1, 2, (5, 1), (3, 1), (2, 0))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 7:
            x = F.pad(x, (0, 7 - x.shape[-1] % 7), "reflect")
        return self.mix(x.view(len(x), 1, -1, 7))


class EveryFourth(nn.Module):
    """Takes a quarter of the points."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, torch.arange(x.shape[1] // 4) * 4].relu()


class Resized(nn.Module):
    """Makes a map three quarters as large, and half as large as an odd one."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        small = self.mix(F.interpolate(x, scale_factor=0.75, mode="bilinear"))
        return F.interpolate(small, (x.shape[2] // 2, x.shape[3] // 2)).relu()


class CutsSquare(nn.Module):
    """Cuts the largest square out of the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return self.mix(x[:, :, top : top + side, left : left + side])


class Segments(nn.Module):
    """Pads to segments of 40 that overlap by half, by 1 to 40 steps."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.pad(x, (0, 40 - (20 + x.shape[-1]) % 40)), (20, 20))
        return (x[..., :-20].unflatten(-1, (-1, 40)) + x[..., 20:].unflatten(-1, (-1, 40))).relu()


class Spectra(nn.Module):
    """Takes spectra of few heights, and of any width."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Conv2d(1, 8, 3, 4), nn.Linear(8 * 20, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(x.unsqueeze(1)).permute(0, 3, 1, 2).flatten(2))


class CutTable(nn.Module):
    """Adds a table of 64 positions, cut to as many patches as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.table = nn.Conv2d(3, 4, 8, 8), nn.Parameter(torch.ones(64, 4))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).mT
        return patches + self.table[: patches.shape[1]]


class Thirds(nn.Module):
    """Pads to a multiple of 3 and joins as many steps."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, -x.shape[1] % 3))
        return x.reshape(len(x), x.shape[1] // 3, 3 * x.shape[2]).relu()


class FillsUp(nn.Module):
    """Repeats every fourth frame, and the last one where that is too few."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Conv1d(1, 6, 8, 4, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.frames(x.unsqueeze(1))
        made = F.avg_pool1d(frames, 4)[..., None].repeat(1, 1, 1, 4).flatten(2)
        if made.shape[2] < frames.shape[2]:
            made = torch.cat([made, made[..., -1:].repeat(1, 1, frames.shape[2] - made.shape[2])], 2)
        return made


@pytest.mark.parametrize(
    ("model", "given", "others"),
    [
        (FillsUp, (2, 124), [(1, 128), (3, 13), (2, 127)]),
        (Thirds, (2, 50, 4), [(1, 51, 4), (3, 94, 4), (2, 22, 4)]),
        (CutTable, (2, 3, 64, 64), [(1, 3, 71, 65), (2, 3, 33, 50), (2, 3, 8, 60)]),
        (Segments, (2, 500), [(3, 460), (1, 541), (2, 80), (2, 19)]),
        (Spectra, (2, 80, 100), [(1, 80, 131), (3, 82, 23), (2, 79, 400)]),
        (Periods, (2, 1, 22050), [(3, 1, 22041), (1, 1, 22094), (2, 1, 50)]),
        (EveryFourth, (2, 200, 3), [(3, 203, 3), (2, 7, 3), (1, 514, 3)]),
        (Resized, (2, 3, 65, 97), [(1, 3, 66, 130), (3, 3, 35, 64), (2, 3, 9, 100)]),
        (CutsSquare, (2, 3, 64, 64), [(1, 3, 108, 38), (2, 3, 37, 39), (3, 3, 64, 63)]),
    ],
)
def test_numbers_that_few_traces_leave_open_are_found_by_more(
    model: type[nn.Module], given: tuple[int, ...], others: list[tuple[int, ...]]
) -> None:
    ms = ModelSummary(model().eval(), given)
    assert all(None not in formulas for formulas in ms.formulas.values())
    (dims,) = (fact.dims for fact in ms.story.trace.inputs)
    for other in others:
        compare(ms, model(), dict(zip(dims, other, strict=True)), other)
