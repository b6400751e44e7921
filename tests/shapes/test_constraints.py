"""Which sizes work: what is said, and that the real model agrees on both sides of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.summary import ModelSummary
from tests.shapes.sized import Net, Positions, UNet, run


def scan(a: Tensor, b: Tensor) -> Tensor:
    """Run a linear recurrence by doubling."""
    if a.shape[1] == 1:
        return b
    even, odd = slice(0, None, 2), slice(1, None, 2)
    later = scan(a[:, even] * a[:, odd], a[:, odd] * b[:, even] + b[:, odd])
    before = torch.cat([torch.zeros_like(later[:, :1]), later[:, :-1]], 1)
    return torch.stack([a[:, even] * before + b[:, even], later], 2).flatten(1, 2)


class Turned(nn.Module):
    """Turns an image by angles that its windows give, and folds features so that three samples may be of four."""

    def __init__(self) -> None:
        super().__init__()
        self.turn, self.read = nn.Conv2d(1, 1, 7), nn.Conv2d(1, 1, 13)
        self.angles, self.out = nn.Linear(25, 6), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        angles = self.angles(F.max_pool2d(self.turn(x), 4).view(-1, 25)).view(-1, 2, 3)
        x = F.grid_sample(x, F.affine_grid(angles, list(x.shape), align_corners=False), align_corners=False)
        made: Tensor = self.out(F.max_pool2d(self.read(x), 4).view(-1, 16))
        return made


class Exact(nn.Module):
    """A patch embedding that compares its image's size: with one size, or with what it divides."""

    def __init__(self, divisor: int = 0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 4, 4)
        self.divisor = divisor

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if (height % self.divisor or width % self.divisor) if self.divisor else (height, width) != (16, 16):
            raise ValueError(f"an image of {height}×{width}")
        return self.patches(x).flatten(2).mT


class Windows(nn.Module):
    """Patches of 4 in windows of 7."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.layer = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        return self.layer(x.view(b, h // 7, 7, w // 7, 7, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 49, c))


class Refused(nn.Module):
    """A layer that is given so many steps at most."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.longest = nn.Linear(6, 6), 37

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > self.longest:
            raise ValueError("too long")
        return self.layer(x)


class ShortOrWindows(nn.Module):
    """Takes windows of 8 steps, or all steps where there are no more."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        windows = 8 if x.shape[1] > 8 else x.shape[1]
        return self.layer(x.view(len(x), -1, windows, x.shape[2]))


class Pyramid(nn.Module):
    """Halves an image until it is small."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        made = []
        while min(x.shape[-2:]) > 4:
            made.append(self.layer(x))
            x = F.avg_pool2d(x, 2)
        return made[0]


def distances(steps: int) -> Tensor:
    return torch.arange(steps)[:, None] - torch.arange(steps)[None]


FLOAT, INT = torch.float32, torch.int64

#: Model, the size it is traced at, what is said, sizes that then work, sizes that then fail.
SAID: list[tuple[str, Callable[[], nn.Module], torch.dtype, tuple[int, ...], tuple[str, ...], list[Any], list[Any]]] = [
    ("unet", lambda: UNet(4), FLOAT, (2, 3, 256, 256), ("H and W divisible by 16", "C = 3"),
     [(1, 3, 16, 48), (3, 3, 272, 16)], [(2, 3, 264, 256), (2, 3, 256, 248), (2, 4, 256, 256)]),
    ("unet, two sizes", lambda: UNet(2), FLOAT, (1, 3, 32, 20), ("H and W divisible by 4", "C = 3"),
     [(1, 3, 36, 24)], [(1, 3, 34, 20), (1, 3, 32, 22)]),
    ("lookup", lambda: Positions(64, lookup=True), INT, (2, 10), ("T ≤ 64",), [(2, 64)], [(2, 65)]),
    ("slice", lambda: Positions(64, lookup=False), INT, (2, 10), ("T ≤ 64",), [(2, 64)], [(2, 65)]),
    ("slice, at its end", lambda: Positions(64, lookup=False), INT, (2, 64), ("T ≤ 64",), [(2, 64)], [(2, 65)]),
    ("slice, near its end", lambda: Positions(64, lookup=False), INT, (2, 62), ("T ≤ 64",), [(2, 64)], [(2, 65)]),
    ("lenet", lambda: Net(lambda a, b, f, x: f(F.max_pool2d(b(F.max_pool2d(a(x), 2)), 2).flatten(1)),
                          nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Linear(400, 10)),
     FLOAT, (4, 1, 32, 32), ("32 ≤ H, W ≤ 35 or few others", "C = 1"),
     [(4, 1, 35, 32), (4, 1, 32, 35)], [(4, 1, 36, 32), (4, 1, 31, 32), (4, 1, 32, 36), (4, 1, 32, 31)]),
    *((f"flat, from {side}", lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(4 * 64, 5)),
       FLOAT, (2, 3, side, side), ("32 ≤ H, W ≤ 35 or few others", "C = 3"),
       [(2, 3, 35, 32), (2, 3, 32, 35)], [(2, 3, 36, 34), (2, 3, 34, 36), (2, 3, 31, 34)]) for side in (33, 34, 35)),
    ("valid", lambda: nn.Sequential(nn.Conv1d(4, 8, 7, stride=3), nn.Conv1d(8, 8, 5, stride=2)), FLOAT, (2, 4, 100),
     ("L ≥ 19", "C = 4"), [(2, 4, 19)], [(2, 4, 18), (2, 3, 19)]),
    ("fixed", lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)), FLOAT, (2, 3, 8, 8),
     ("H = 8", "W = 8", "C = 3"), [(5, 3, 8, 8)], [(2, 3, 8, 9), (2, 3, 7, 8)]),
    ("square", lambda: Net(lambda f, x: f(x).flatten(2).mT.unflatten(1, (int((x.shape[2] * x.shape[3]) ** 0.5), -1)),
                           nn.Conv2d(3, 4, 1)),
     FLOAT, (2, 3, 16, 16), ("H = W or few others", "C = 3"),
     [(2, 3, 21, 21), (2, 3, 16, 64), (2, 3, 4, 5)], [(2, 3, 21, 16), (2, 4, 16, 16)]),
    ("the root of patches", lambda: Net(lambda f, x: f(x).flatten(2).view(
        len(x), 4, *[math.isqrt(f(x)[0, 0].numel())] * 2), nn.Conv2d(3, 4, 4, 4)),
     FLOAT, (2, 3, 32, 32), ("⌊H/4⌋·⌊W/4⌋ a square", "H and W ≥ 4", "C = 3"),
     [(2, 3, 36, 16), (2, 3, 4, 5), (2, 3, 19, 18)], [(2, 3, 36, 32), (2, 3, 3, 3), (2, 3, 8, 4)]),
    ("patches in a square", lambda: Net(lambda f, x: torch.special.bessel_j0(f(x)).flatten(2).mT.reshape(
        -1, int(f(x)[0, 0].numel() ** 0.5), int(f(x)[0, 0].numel() ** 0.5), 8), nn.Conv2d(4, 8, 2, 2)),
     FLOAT, (2, 4, 16, 16), ("H = W or few others", "H and W ≥ 2", "C = 4"),
     [(2, 4, 18, 18), (2, 4, 64, 16)], [(2, 4, 18, 16), (2, 4, 16, 8), (2, 4, 1, 1)]),
    ("the root of tokens", lambda: Net(lambda f, x: f(x).unflatten(1, [math.isqrt(x.shape[1])] * 2), nn.Linear(6, 5)),
     FLOAT, (2, 49, 6), ("T a square", "F = 6"), [(2, 1, 6), (2, 100, 6)], [(2, 48, 6), (2, 2, 6)]),
    ("batch norm", lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)).train(), FLOAT, (4, 6),
     ("B > 1 in train mode", "F = 6"), [(2, 6)], [(1, 6), (2, 7)]),
    ("batch norm, one sample", lambda: Net(lambda f, g, x: x + F.interpolate(g(f(x)), scale_factor=4),
                                           nn.Conv2d(3, 3, 4, 4), nn.BatchNorm2d(3)).train(),
     FLOAT, (1, 3, 32, 32), ("H and W divisible by 4", "H or W ≥ 8 for B = 1", "C = 3"),
     [(1, 3, 8, 4), (1, 3, 4, 8), (2, 3, 4, 4)], [(1, 3, 4, 4), (1, 3, 30, 32)]),
    ("batch norm in eval", lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)).eval(), FLOAT, (4, 6),
     ("F = 6",), [(1, 6)], [(2, 5)]),
    ("batch", lambda: Net(lambda f, x: f(x) + torch.ones(4, 1), nn.Linear(6, 5)), FLOAT, (4, 6),
     ("B = 4 or 1", "F = 6"), [(4, 6), (1, 6)], [(3, 6), (5, 6)]),
    ("a length that the code refuses", Refused, FLOAT, (2, 16, 6), ("T ≤ 37", "F = 6"), [(2, 37, 6)], [(2, 38, 6)]),
    ("distances in a table", lambda: Net(lambda f, x: (f(x) @ x.mT + torch.zeros(63)[distances(x.shape[1]) + 31]) @ x,
                                         nn.Linear(6, 6)),
     FLOAT, (2, 9, 6), ("T ≤ 32", "F = 6"), [(2, 32, 6)], [(2, 33, 6)]),
    ("frames of a signal", lambda: Net(lambda f, x: f(x.unfold(-1, 40, 20)), nn.Linear(40, 3)), FLOAT, (2, 1024),
     ("F ≥ 40",), [(2, 40), (2, 77)], [(2, 39)]),
    ("windows of patches", Windows, FLOAT, (2, 3, 56, 56), ("⌊H/4⌋ and ⌊W/4⌋ divisible by 7", "H and W ≥ 28", "C = 3"),
     [(2, 3, 28, 56), (2, 3, 59, 115), (1, 3, 112, 84)],
     [(2, 3, 60, 56), (2, 3, 56, 55), (2, 3, 56, 83), (2, 3, 3, 56)]),
    ("halves of strides that pad", lambda: Net(lambda a, b, x: a(x) + F.interpolate(b(a(x)), scale_factor=2),
                                               nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 3, 2, 1)),
     FLOAT, (2, 3, 64, 64), ("H ≤ 2 (other formulas) or ⌈H/2⌉ divisible by 2",
      "W ≤ 2 (other formulas) or ⌈W/2⌉ divisible by 2", "C = 3"),
     [(1, 3, 63, 40), (2, 3, 128, 67), (2, 3, 1, 64), (2, 3, 2, 2)], [(2, 3, 65, 64), (2, 3, 64, 62), (2, 3, 66, 63)]),
    ("a divisor and a long way down", lambda: Net(lambda f, x: f(f(x.unflatten(3, (-1, 8)).mean(4))),
                                                  nn.Conv2d(3, 3, 9, 4)),
     FLOAT, (1, 3, 320, 640), ("W divisible by 8", "H ≥ 41", "W ≥ 328", "C = 3"),
     [(1, 3, 41, 328), (2, 3, 64, 960)], [(1, 3, 40, 640), (1, 3, 320, 320), (1, 3, 320, 641)]),
    ("shares of the last row", lambda: Net(lambda f, x: f(x) / f(x)[:, :, -1:], nn.Conv2d(3, 4, 8, 8)),
     FLOAT, (2, 3, 64, 64), ("H and W ≥ 8", "C = 3"), [(2, 3, 8, 65)], [(2, 3, 7, 64), (2, 3, 64, 7)]),
    ("one patch over a table of positions", lambda: Net(lambda f, x: f(x) + torch.ones(1, 5, 4, 4),
                                                        nn.Conv2d(3, 5, 4, 4)),
     FLOAT, (2, 3, 16, 16), ("4 ≤ H ≤ 7 or 16 ≤ H ≤ 19", "4 ≤ W ≤ 7 or 16 ≤ W ≤ 19", "C = 3"),
     [(2, 3, 16, 19), (1, 3, 4, 17), (1, 3, 6, 7)], [(2, 3, 20, 16), (2, 3, 15, 16), (2, 3, 16, 8)]),
    ("channels last", lambda: Net(lambda f, c, x: c(f(x).permute(0, 3, 1, 2)), nn.Linear(8, 6), nn.Conv2d(6, 4, 3)),
     FLOAT, (2, 24, 24, 8), ("C and H ≥ 3", "W = 8"), [(2, 3, 24, 8), (2, 24, 3, 8)], [(2, 2, 24, 8), (2, 24, 2, 8)]),
    ("steps of twos", lambda: Net(lambda f, x: f(x[:, : x.shape[1] // 2 * 2].reshape(len(x), -1, 2 * x.shape[2]))[0],
                                  nn.LSTM(12, 3, batch_first=True)),
     FLOAT, (2, 30, 6), ("T ≥ 2", "F = 6"), [(2, 2, 6), (2, 7, 6)], [(2, 1, 6)]),
    ("halves of a width", lambda: Net(lambda f, x: torch.cat([f(x)[..., ::2], f(x)[..., 1::2]], 1), nn.Conv2d(3, 4, 1)),
     FLOAT, (2, 3, 16, 24), ("W divisible by 2", "C = 3"),
     [(1, 3, 17, 2), (2, 3, 5, 40)], [(2, 3, 16, 25), (2, 3, 16, 23)]),
    ("a size that the code compares", Exact, FLOAT, (2, 3, 16, 16), ("H = 16", "W = 16", "C = 3"),
     [(5, 3, 16, 16)], [(2, 3, 32, 32), (2, 3, 16, 17), (2, 3, 8, 8)]),
    ("sizes of which the code takes some", lambda: Exact(4), FLOAT, (2, 3, 16, 16), ("H and W divisible by 4", "C = 3"),
     [(5, 3, 16, 20)], [(2, 3, 18, 16), (2, 3, 16, 17)]),
    ("a layer for each part", lambda: Net(lambda f, x: sum(map(f, x.split(3, 1))), nn.Conv2d(3, 4, 1)),
     FLOAT, (2, 3, 8, 8), ("C divisible by 3",), [(2, 6, 8, 8)], [(2, 4, 8, 8), (2, 2, 8, 8)]),
    ("grey or colours", lambda: Net(lambda f, x: f(x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x),
                                    nn.Conv2d(3, 4, 1)),
     FLOAT, (2, 3, 8, 8), ("C = 3 or 1",), [(2, 1, 8, 8)], [(2, 4, 8, 8), (2, 2, 8, 8)]),
    ("groups of at most four samples", lambda: Net(lambda f, x: f(x).unflatten(0, (min(4, len(x)), -1)).std(0),
                                                   nn.Linear(6, 3)),
     FLOAT, (4, 6), ("B ≤ 3 (other formulas) or B divisible by 4", "F = 6"),
     [(1, 6), (2, 6), (3, 6), (8, 6)], [(5, 6), (6, 6)]),
    ("windows, or all of a short one", ShortOrWindows,
     FLOAT, (2, 24, 6), ("T ≤ 7 (other formulas) or T divisible by 8", "F = 6"),
     [(2, 3, 6), (2, 8, 6)], [(2, 9, 6), (2, 20, 6)]),
    ("halves that are added", lambda: Net(lambda f, x: f(torch.add(*x.tensor_split(2, 2))), nn.Conv2d(3, 4, 1)),
     FLOAT, (2, 3, 12, 16), ("H = 3 (other formulas) or H divisible by 2", "C = 3"),
     [(2, 3, 3, 16), (2, 3, 2, 5)], [(2, 3, 1, 16), (2, 3, 5, 5)]),
    ("thirds that are added", lambda: Net(lambda f, x: sum(f(x).chunk(3, 3)[i] for i in range(3)), nn.Conv2d(3, 4, 1)),
     FLOAT, (2, 3, 5, 24), ("5 ≤ W ≤ 7 (other formulas) or W divisible by 3", "C = 3"),
     [(2, 3, 5, 5), (1, 3, 1, 7), (2, 3, 5, 27)], [(2, 3, 5, 4), (2, 3, 5, 8), (2, 3, 5, 10), (2, 3, 5, 23)]),
    ("a layer with a stride beside a pool", lambda: Net(lambda f, g, x: g(f(x) + F.avg_pool2d(x, 2)),
                                                        nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 4, 2)),
     FLOAT, (2, 3, 40, 40), ("H = 3 (other formulas) or H divisible by 2",
      "W = 3 (other formulas) or W divisible by 2", "H and W ≥ 3", "C = 3"),
     [(2, 3, 3, 40), (2, 3, 4, 4)], [(2, 3, 2, 40), (2, 3, 5, 40)]),
    ("triplets in a batch", lambda: Net(lambda f, x: sum(f(x).chunk(3)[i] for i in range(3)), nn.Linear(6, 3)),
     FLOAT, (6, 6), ("B = 6 or few others", "F = 6"), [(9, 6), (7, 6)], [(1, 6), (2, 6), (8, 6), (10, 6)]),
    ("neighbours in a batch", lambda: Net(lambda f, x: f(x)[::2] * f(x)[1::2], nn.Linear(6, 3)),
     FLOAT, (8, 6), ("B ≤ 3 (other formulas) or B divisible by 2", "F = 6"),
     [(1, 6), (3, 6), (2, 6)], [(5, 6), (7, 6)]),
    ("patches of what is left of sides", lambda: Net(lambda f, x: f(x[..., : x.shape[2] // 4 * 4, :].reshape(
        len(x), x.shape[2] // 4, -1).mean(2)), nn.Identity()),
     FLOAT, (2, 3, 14, 5), ("H ≥ 4",), [(2, 3, 4, 5), (2, 1, 7, 1)], [(2, 3, 3, 5), (2, 3, 1, 5)]),
    ("a pyramid", Pyramid, FLOAT, (1, 3, 33, 45), ("H and W ≥ 5", "C = 3"),
     [(1, 3, 5, 5)], [(1, 3, 4, 45), (1, 3, 45, 4)]),
    ("features that a view folds", lambda: Net(lambda a, f, x: f(F.max_pool2d(a(x), 4).view(-1, 75)),
                                               nn.Conv2d(1, 3, 5), nn.Linear(75, 4)),
     FLOAT, (4, 1, 24, 24), ("24 ≤ H, W ≤ 27 or B·(⌊H/4⌋ - 1)·(⌊W/4⌋ - 1) divisible by 25", "H and W ≥ 8", "C = 1"),
     [(4, 1, 24, 27), (4, 1, 44, 24), (5, 1, 24, 8), (25, 1, 8, 8)], [(4, 1, 28, 24), (4, 1, 24, 7), (4, 1, 8, 24)]),
    ("features that a view folds where few heights fit", lambda: Net(
        lambda a, f, x: f(F.max_pool2d(a(x), 4).view(-1, 32)), nn.Conv2d(1, 2, 13), nn.Linear(32, 4)),
     FLOAT, (2, 1, 28, 28), ("28 ≤ H, W ≤ 31 or B·(⌊H/4⌋ - 3)·(⌊W/4⌋ - 3) divisible by 16", "H and W ≥ 16", "C = 1"),
     [(2, 1, 20, 28), (2, 1, 31, 28), (4, 1, 20, 20)], [(2, 1, 25, 28), (2, 1, 28, 27), (2, 1, 15, 28)]),
    ("the first samples in pairs", lambda: Net(
        lambda f, x: f(x[4:]) @ f(x[:4]).view(2, -1, 3).mean(1).T, nn.Linear(6, 3)),
     FLOAT, (8, 6), ("B ≥ 4 or few others", "F = 6"), [(4, 6), (5, 6), (2, 6)], [(3, 6), (1, 6)]),
    ("the end of a table of distances", lambda: Net(lambda f, x: torch.ones(
        24, 3)[24 - x.shape[1] :].T @ f(x), nn.Linear(6, 3)),
     FLOAT, (2, 10, 6), ("T ≤ 24", "F = 6"), [(2, 24, 6), (1, 1, 6)], [(2, 25, 6), (2, 30, 6)]),
    ("pixels that a view folds", lambda: Net(lambda f, x: f(x.view(-1, 784)), nn.Linear(784, 10)),
     FLOAT, (4, 1, 28, 28), ("B·C·H·W divisible by 784",), [(2, 1, 28, 14), (1, 2, 56, 7)],
     [(4, 1, 28, 29), (1, 1, 28, 27)]),
    ("patches in a table of positions", lambda: Net(lambda f, x: (t := f(x).flatten(2).mT) + torch.zeros(
        100, 6)[: t.shape[1]], nn.Conv2d(3, 6, 8, 8)),
     FLOAT, (2, 3, 24, 40), ("⌊H/8⌋·⌊W/8⌋ ≤ 100", "H and W ≥ 8", "C = 3"),
     [(2, 3, 160, 40), (2, 3, 8, 800), (2, 3, 87, 80)], [(2, 3, 168, 40), (2, 3, 88, 80), (2, 3, 24, 320)]),
    ("windows of features in a table", lambda: Net(lambda f, x: (f(F.pad(x, (0, 8)).unfold(-1, 16, 8)) + torch.ones(
        7, 5)).reshape(len(x) * x.shape[1], -1, 5).view(len(x), x.shape[1], -1), nn.Linear(16, 5)),
     FLOAT, (2, 3, 60), ("8 ≤ F ≤ 15 or 56 ≤ F ≤ 63",), [(1, 4, 63), (2, 3, 8)], [(2, 3, 64), (2, 3, 16), (2, 3, 7)]),
    ("frames of so many samples", lambda: Net(lambda f, x: f(x.view(len(x), -1, 80)), nn.Linear(80, 5)),
     FLOAT, (3, 1, 480), ("T·F divisible by 80",), [(2, 1, 80), (2, 2, 40)], [(2, 1, 100), (3, 1, 481)]),
    ("segments of frames that are channels", lambda: Net(lambda f, x: (y := f(x.view(-1, 3, x.shape[2]).mT)).view(
        len(y) // 4, 4, -1, 5).mean(1), nn.Linear(3, 5)),
     FLOAT, (2, 12, 7), ("B·T divisible by 12",), [(1, 12, 7), (4, 3, 7), (2, 6, 9)],
     [(2, 9, 7), (1, 6, 7), (2, 13, 7)]),
    ("an image that is turned first", Turned, FLOAT, (4, 1, 28, 28), ("28 ≤ H, W ≤ 29 or few others", "C = 1"),
     [(4, 1, 27, 28), (4, 1, 29, 29), (8, 1, 28, 26)], [(4, 1, 25, 28), (4, 1, 30, 28), (4, 1, 27, 27)]),
    ("what is left of two seasons", lambda: Net(lambda f, x: f(x)[:, -7:] + x[:, -14:-7, :1], nn.Linear(5, 1)),
     FLOAT, (3, 28, 5), ("T = 1 (other formulas) or T = 8 (other formulas) or T ≥ 14", "F = 5"),
     [(3, 1, 5), (3, 8, 5), (3, 14, 5)], [(3, 2, 5), (3, 7, 5), (3, 9, 5), (3, 13, 5)]),
    ("a scan by halves", lambda: Net(lambda f, x: scan(torch.sigmoid(f(x)), x), nn.Linear(3, 3)),
     FLOAT, (2, 32, 3), ("T = 3 (other formulas) or T a power of two", "F = 3"),
     [(2, 1, 3), (2, 3, 3), (2, 16, 3)], [(2, 5, 3), (2, 6, 3), (2, 7, 3), (2, 9, 3)]),
    ("anything", lambda: nn.AdaptiveAvgPool2d(1), FLOAT, (2, 8, 16, 16), (), [(1, 1, 1, 1), (5, 3, 7, 9)], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "dtype", "size", "said", "works", "fails"), [case[1:] for case in SAID], ids=[case[0] for case in SAID]
)
def test_what_is_said_of_sizes_is_true_of_the_real_model(
    make: Callable[[], nn.Module],
    dtype: torch.dtype,
    size: tuple[int, ...],
    said: tuple[str, ...],
    works: list[tuple[int, ...]],
    fails: list[tuple[int, ...]],
) -> None:
    model = make()
    assert ModelSummary(model, Size(size, dtype=str(dtype).removeprefix("torch."))).constraints == said
    assert all(run(model, dtype, *sizes) for sizes in [size, *works])
    assert not any(run(model, dtype, *sizes) for sizes in fails)


class Translator(nn.Module):
    """Two sentences with one table of positions, and masks of what is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(9, 8), nn.Parameter(torch.zeros(1, 40, 8))
        self.both = nn.Transformer(8, 2, 1, 1, 8, batch_first=True)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        inputs = [self.words(ids) + self.positions[:, : ids.size(1)] for ids in (src, tgt)]
        mask = self.both.generate_square_subsequent_mask(tgt.size(1))
        padding = {"src_key_padding_mask": src == 0, "tgt_key_padding_mask": tgt == 0}
        made: Tensor = self.both(*inputs, tgt_mask=mask, **padding)
        return made


class Joined(nn.Module):
    """Two sequences, one behind the other, with one table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(32, 6))

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        both = torch.cat([image, text], 1)
        return both + self.positions[: both.shape[1]]


def test_what_two_sequences_may_be_together_is_one_limit() -> None:
    model = Joined()
    assert ModelSummary(model, [(2, 10, 6), (2, 4, 6)]).constraints == ("T + T2 ≤ 32", "F = 6 or 1")
    for text, image in ((31, 1), (16, 16), (1, 31)):
        assert model(torch.zeros(2, text, 6), torch.zeros(2, image, 6)).shape == (2, 32, 6)
        with pytest.raises(RuntimeError, match="must match"):
            model(torch.zeros(2, text, 6), torch.zeros(2, image + 1, 6))


@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_a_demand_that_a_size_which_works_does_not_fit_is_no_limit() -> None:
    model = Translator()
    assert ModelSummary(model, ["B=2, S=12", "B=2, T=9"]).constraints == ("S and T ≤ 40",)
    for sizes, works in (((40, 9), True), ((12, 40), True), ((41, 9), False), ((12, 41), False)):
        assert (ModelSummary(model, [(2, size) for size in sizes]).error is None) == works


def test_sizes_that_only_move_together_are_reported() -> None:
    model = Net(lambda f, x: f(x) @ f(x).mT + f(x), nn.Conv2d(3, 4, 1))
    assert ModelSummary(model, (2, 3, 16, 16)).constraints == ("H = W", "C = 3")
    assert run(model, FLOAT, 2, 3, 21, 21)
    assert not run(model, FLOAT, 2, 3, 21, 16)


def test_a_model_that_fails_has_no_constraints() -> None:
    assert ModelSummary(nn.Linear(3, 2), (4, 5)).constraints == ()


class SignalAndTokens(nn.Module):
    """Each sample of a signal meets one token: neither may be longer than the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.emb = nn.Conv1d(8, 2, 3, padding=1), nn.Embedding(10, 2)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return torch.cat([self.conv(x), self.emb(ids).transpose(1, 2)], 1)


class SignalAndLabels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 2, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.conv(x), labels, reduction="none")


@pytest.mark.parametrize(
    ("mask", "said"), [((3, 10), "T = F2 or one of them 1"), ((3, 10, 10), "T = F2")], ids=["laid on it", "contracted"]
)
def test_a_mask_is_as_long_as_its_sequence(mask: tuple[int, ...], said: str) -> None:
    def mean(layer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        return mask @ layer(x) if mask.dim() == 3 else (layer(x) * mask[..., None]).sum(1)

    ms = ModelSummary(Net(mean, nn.Linear(4, 5)), [(3, 10, 4), mask])
    assert ms.constraints == (said, "F = 4")
    assert ms.formulas[0] == (("B", "T", "5") if len(mask) == 3 else ("B", "5"),)
    model = Net(mean, nn.Linear(4, 5))
    assert model(torch.ones(2, 17, 4), torch.ones(2, *[17 for _ in mask[1:]])).shape[-1] == 5
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 11, 4), torch.ones(2, *mask[1:]))


@pytest.mark.parametrize(
    ("kind", "limits", "formula"),
    [(SignalAndTokens, ("L = T", "C = 8"), ("B", "4", "L")), (SignalAndLabels, ("C = 8",), ("B", "L"))],
)
def test_dims_of_two_inputs_that_only_move_together_do(
    kind: type[nn.Module], limits: tuple[str, ...], formula: tuple[str, ...]
) -> None:
    ms = ModelSummary(kind(), (torch.randn(3, 8, 10), torch.zeros(3, 10, dtype=torch.long)))
    assert ms.constraints == limits
    assert ms.formulas[max(ms.formulas)] == (formula,)
    for length in (10, 13, 21):
        assert kind()(torch.randn(2, 8, length), torch.zeros(2, length, dtype=torch.long)).shape[-1] == length
    with pytest.raises((RuntimeError, ValueError)):
        kind()(torch.randn(2, 8, 11), torch.zeros(2, 10, dtype=torch.long))
