"""Sizes that depend on others, and conditions on parts of a side: what is said of each, beside real runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.shapes.expr_text import evaluate
from tests.shapes.sized import Net

Shape = tuple[int, ...]
Sizes = dict[str, int]


def _runs(model: nn.Module, shapes: Iterable[Shape]) -> Shape | None:
    """Return the size of the result of a real run; ``None`` where it fails."""
    try:
        with torch.no_grad():
            return tuple(model(*(torch.rand(shape) for shape in shapes)).shape)
    except (RuntimeError, IndexError):
        return None


def _compare(
    model: nn.Module, shapes: list[str], base: Sizes, holds: Callable[..., bool], moved: Iterable[Sizes]
) -> list[str]:
    """Compare what is said, and the formula of the result, with real runs; return what is said."""

    def at(sizes: Sizes) -> list[Shape]:
        return [
            tuple(sizes[dim] if dim.isalnum() and not dim.isdigit() else int(dim) for dim in s.split()) for s in shapes
        ]

    model.eval()
    ms = ModelSummary(model, [torch.rand(shape) for shape in at(base)])
    assert not ms.story.internal_errors
    formula = ms.formulas[0][0]
    assert formula is not None
    ran = 0
    for change in moved:
        sizes = {**base, **change}
        made = _runs(model, at(sizes))
        assert (made is not None) == holds(**sizes), (sizes, ms.constraints)
        if made is not None and "(other formulas)" not in "".join(ms.constraints):
            ran += 1
            assert tuple(evaluate(dim, sizes) for dim in formula) == made, sizes
    assert ran != 1
    return list(ms.constraints)


def hourglass(stem: nn.Module, inner: nn.Module, x: Tensor) -> Tensor:
    x = F.max_pool2d(stem(x), 2)
    kept = []
    for _ in range(3):
        kept.append(x)
        x = F.max_pool2d(inner(x), 2)
    for _ in range(3):
        x = kept.pop() + F.interpolate(x, scale_factor=2.0)
    return x


def neck(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
    fine = first(x)
    return torch.cat([F.interpolate(second(fine), scale_factor=2.0), fine], 1)


def _sides(most: int, *least: Sizes) -> list[Sizes]:
    return [{name: size} for name in ("H", "W") for size in range(1, most)] + list(least)


def test_halves_of_a_part_of_a_side_are_one_condition() -> None:
    model = Net(hourglass, nn.Conv2d(3, 6, 7, 2, 3), nn.Conv2d(6, 6, 3, padding=1))
    said = _compare(
        model, ["B 3 H W"], {"B": 1, "H": 64, "W": 96},
        lambda H, W, **_: all((side + 1) // 4 % 8 == 0 and side >= 31 for side in (H, W)),
        _sides(140, {"H": 97, "W": 159}),
    )  # fmt: skip
    assert said == ["⌊(H + 1)/4⌋ and ⌊(W + 1)/4⌋ divisible by 8", "H and W ≥ 31", "C = 3"]


def test_an_even_side_with_an_even_number_of_strides_are_two_conditions() -> None:
    model = Net(
        neck,
        nn.Sequential(nn.Conv2d(12, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)),
        nn.Conv2d(8, 8, 3, 2, 1),
    )
    said = _compare(
        model, ["B 3 H W"], {"B": 1, "H": 64, "W": 96},
        lambda H, W, **_: all(side % 2 == 0 and -(-side // 8) % 2 == 0 for side in (H, W)),
        _sides(100, {"H": 62, "W": 42}),
    )  # fmt: skip
    assert said == ["H and W divisible by 2", "⌈H/8⌉ and ⌈W/8⌉ divisible by 2", "C = 3"]


def test_steps_of_three_are_seen_where_the_number_of_calls_depends_on_the_length() -> None:
    def forecast(down: nn.Module, up: nn.Module, x: Tensor) -> Tensor:
        total = sum(down(x[:, step]) for step in range(x.shape[1]))
        return x[:, -1] + up(total)

    model = Net(forecast, nn.Conv2d(1, 8, 5, 3, 1), nn.ConvTranspose2d(8, 1, 5, 3, 1))
    said = _compare(
        model, ["B C 1 H W"], {"B": 2, "C": 4, "H": 30, "W": 36},
        lambda H, W, **_: H % 3 == 0 and W % 3 == 0, _sides(70, {"C": 2, "H": 63}),
    )  # fmt: skip
    assert "H and W divisible by 3" in said


def test_of_a_side_of_1_that_is_broadcast_other_formulas_are_told() -> None:
    def gate(down: nn.Module, up: nn.Module, x: Tensor) -> Tensor:
        above = up(down(x))
        return torch.cat([x * above.sigmoid(), above], 1)

    model = Net(gate, nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 2, 2))
    said = _compare(
        model, ["B 1 H W"], {"B": 2, "H": 32, "W": 32},
        lambda H, W, **_: all(side == 1 or side % 2 == 0 for side in (H, W)), _sides(40, {"H": 1, "W": 1}),
    )  # fmt: skip
    assert said == [f"{side} = 1 (other formulas) or {side} divisible by 2" for side in "HW"] + ["C = 1"]


def test_lengths_of_two_inputs_that_move_in_proportion_do() -> None:
    def speak(video: nn.Module, sound: nn.Module, frames: Tensor, steps: Tensor) -> Tensor:
        stacked = steps.reshape(len(steps), steps.shape[1] // 4, steps.shape[2] * 4)
        return torch.cat([video(frames).mean((3, 4)).transpose(1, 2), sound(stacked)], -1)

    model = Net(speak, nn.Conv3d(1, 8, 3, padding=1), nn.Linear(52, 16))
    pairs = [{"D": frames, "T": steps} for frames, steps in itertools.product((5, 6, 7, 12), (20, 24, 27, 28, 48))]
    said = _compare(
        model, ["B 1 D H W", "B T 13"], {"B": 2, "D": 6, "H": 14, "W": 18, "T": 24}, lambda D, T, **_: T == 4 * D, pairs
    )
    assert said[:2] == ["D = ⌊T/4⌋", "T divisible by 4"]

    def fuse(slow: nn.Module, fast: nn.Module, one: Tensor, two: Tensor) -> Tensor:
        return torch.cat([slow(one), fast(two)], 1)

    model = Net(fuse, nn.Conv3d(3, 12, (1, 3, 3)), nn.Conv3d(3, 8, (5, 3, 3), (4, 1, 1), (2, 0, 0)))
    pairs = [{"D": slow, "D2": fast} for slow, fast in itertools.product((3, 4, 5, 8), range(8, 40))]
    said = _compare(
        model, ["B 3 D H W", "B 3 D2 H W"], {"B": 1, "D": 4, "H": 20, "W": 20, "D2": 16},
        lambda D, D2, **_: -(-D2 // 4) == D, pairs,
    )  # fmt: skip
    assert "D = ⌈D2/4⌉" in said


def test_a_sequence_may_be_as_long_as_another_one() -> None:
    def mark(layer: nn.Module, x: Tensor, marks: Tensor) -> Tensor:
        return layer(x + marks[:, : x.shape[1]])

    pairs = [{"T": one, "T2": two} for one, two in itertools.product((2, 20, 30, 31, 60), (24, 30, 31, 70))]
    said = _compare(
        Net(mark, nn.Linear(8, 8)), ["B T 8", "B T2 8"], {"B": 2, "T": 24, "T2": 30}, lambda T, T2, **_: T <= T2, pairs
    )
    assert "T ≤ T2" in said


def test_a_feature_map_that_slides_over_another_one_is_no_larger() -> None:
    def correlate(layer: nn.Module, small: Tensor, large: Tensor) -> Tensor:
        kernel, data = layer(small), layer(large)
        batch, channels, height, width = data.shape
        return F.conv2d(data.reshape(1, batch * channels, height, width), kernel, groups=batch)

    moved = [{"H": one, "H2": two} for one, two in itertools.product((9, 24, 31, 60), (15, 31, 47, 62))]
    said = _compare(
        Net(correlate, nn.Conv2d(3, 8, 3, 2)), ["B 3 H W", "B 3 H2 W2"],
        {"B": 2, "H": 24, "W": 24, "H2": 47, "W2": 47},
        lambda H, W, H2, W2, **_: (H + 1) // 2 <= (H2 + 1) // 2 and (W + 1) // 2 <= (W2 + 1) // 2, moved,
    )  # fmt: skip
    assert said[:2] == ["⌈H/2⌉ ≤ ⌈H2/2⌉", "⌈W/2⌉ ≤ ⌈W2/2⌉"]


def test_patches_laid_out_in_as_many_rows_as_their_root_must_be_divisible_by_it() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, 4)
            self.table = nn.Parameter(torch.zeros(1, 225, 8))
            self.pool = nn.Conv2d(8, 16, 3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            tokens = tokens + self.table[:, : tokens.shape[1]]
            rows = int(math.sqrt(tokens.shape[1]))
            return self.pool(tokens.transpose(1, 2).reshape(len(x), 8, rows, -1))

    def holds(H: int, W: int, **_: int) -> bool:
        number = (H // 4 - 1) * (W // 4 - 1)
        return 0 < number <= 225 and H >= 8 and W >= 8 and number % math.isqrt(number) == 0

    moved = [{"H": height, "W": width} for height in (8, 15, 31, 32, 48, 60, 67, 68) for width in range(7, 80, 3)]
    said = _compare(Pooled(), ["B 3 H W"], {"B": 2, "H": 64, "W": 64}, holds, moved)
    assert said[0] == "(⌊H/4⌋ - 1)·(⌊W/4⌋ - 1) ≤ 225"
    assert "(⌊H/4⌋ - 1)·(⌊W/4⌋ - 1) divisible by ⌊√((⌊H/4⌋ - 1)·(⌊W/4⌋ - 1))⌋" in said


def test_a_layer_of_as_many_pixels_takes_other_sides_too() -> None:
    def classify(layer: nn.Module, head: nn.Module, x: Tensor) -> Tensor:
        return head(F.max_pool2d(layer(x), 4).flatten(1))

    model = Net(classify, nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 6 * 9, 5))
    said = _compare(
        model, ["B 3 H W"], {"B": 2, "H": 24, "W": 36}, lambda H, W, **_: (H // 4) * (W // 4) == 54,
        _sides(50, {"H": 36, "W": 24}, {"H": 12, "W": 72}),
    )  # fmt: skip
    assert said == ["24 ≤ H ≤ 27 or few others", "36 ≤ W ≤ 39 or few others", "C = 3"]


@pytest.mark.parametrize("size", [48, 62])
def test_what_is_made_for_a_map_before_it_is_padded_has_formulas(size: int) -> None:
    class Windowed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 2, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x)
            high, wide = (-(-side // 7) * 7 for side in x.shape[2:])
            mask = torch.zeros(1, 1, high, wide)
            mask = mask.view(1, 1, high // 7, 7, wide // 7, 7).mean((3, 5))
            x = F.pad(x, (0, wide - x.shape[3], 0, high - x.shape[2]))
            return F.max_pool2d(x, 7) + mask

    ms = ModelSummary(Windowed().eval(), torch.rand(1, 3, size, 64))
    assert all(None not in ms.formulas[row.index] for row in ms.rows)
    for height, width in ((32, 90), (57, 200), (130, 31)):
        made = _runs(Windowed(), [(1, 3, height, width)])
        formula = ms.formulas[0][0] or ()
        assert tuple(evaluate(dim, {"B": 1, "H": height, "W": width}) for dim in formula) == made


def test_samples_that_only_move_together_with_steps_have_limits() -> None:
    model = Net(lambda f, x, keep: (f(x) @ f(x).mT).masked_fill(keep == 0, -1e9), nn.Linear(4, 4))
    ms = ModelSummary(model, [(6, 6, 4), (6, 6)])
    assert ms.constraints == ("B = T or one of them 1", "B = F2 or one of them 1", "F = 4")
    for samples, steps, length in ((9, 9, 9), (1, 6, 6), (2, 1, 2), (6, 6, 1)):
        assert model(torch.zeros(samples, steps, 4), torch.zeros(samples, length)).shape[0] == samples
    for samples, steps, length in ((5, 6, 6), (4, 4, 2)):
        with pytest.raises(RuntimeError):
            model(torch.zeros(samples, steps, 4), torch.zeros(samples, length))
