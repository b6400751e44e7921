"""Maps that grow, collapse, or are halved where they can't be."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import bug


@bug("grown-map", ("conv0", "Conv2d"), (1, 1, 256, 256))
class TheExampleOf2017(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(1, 16, 3, padding=5), nn.Conv2d(16, 32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(self.conv0(x))


@bug("grown-map", ("stages.1.3", "Conv2d"), (2, 3, 64, 64))
class OneLayerOfMany(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def stage(a: int, b: int, padding: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(),
                nn.Conv2d(b, b, 3, padding=padding), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2),
            )  # fmt: skip

        self.stages = nn.Sequential(stage(3, 8, 1), stage(8, 16, 2), stage(16, 32, 1))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.stages(x)).flatten(1))


@bug("grown-map", ("mix", "Conv2d"), (2, 8, 20, 20))
class PaddedPointwise(nn.Module):
    """Padding left over when a kernel of 3 became one of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm, self.out = nn.Conv2d(8, 16, 1, padding=1), nn.BatchNorm2d(16), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.norm(self.mix(x))))


@bug("grown-map", ("net.2", "Conv1d"), (2, 4, 100))
class DilatedWithThePaddingOfAnother(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(4, 8, 3, dilation=2, padding=2), nn.ReLU(), nn.Conv1d(8, 8, 3, dilation=2, padding=4), nn.ReLU()
        )
        self.out = nn.Conv1d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.net(x))


@bug("grown-map", ("", "conv2d"), (2, 3, 32, 32))
class FunctionalConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, padding=4).relu()


def _backbone(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers)


@bug("collapsed-map", ("features.18", "Conv2d"), (2, 3, 64, 64))
class TooManyStrides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = _backbone(8, 8, 16, 16, 32, 32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@bug("collapsed-map", ("layer4.0.again", "Conv2d"), (2, 3, 32, 32))
class BackboneForLargerPictures(nn.Module):
    class Block(nn.Module):
        def __init__(self, a: int, b: int, stride: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(a, b, 3, stride, 1)
            self.again = nn.Conv2d(b, b, 3, 1, 1)
            self.skip = nn.Conv2d(a, b, 1, stride) if stride > 1 or a != b else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.again(F.relu(self.conv(x))) + self.skip(x))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.layer1 = nn.Sequential(self.Block(8, 8, 1))
        self.layer2 = nn.Sequential(self.Block(8, 8, 2))
        self.layer3 = nn.Sequential(self.Block(8, 16, 2))
        self.layer4 = nn.Sequential(self.Block(16, 16, 2))
        self.layer5 = nn.Sequential(self.Block(16, 16, 2))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            x = layer(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


@bug("collapsed-map", ("", "max_pool2d"), (2, 1, 28, 28))
class PooledToNothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 8), (8, 8), (8, 8), (8, 8)))
        self.out = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.max_pool2d(F.relu(conv(x)), 2)
        x = F.max_pool2d(x, 3, stride=1, padding=1)
        return self.out(x.flatten(1))


class _Halves(nn.Module):
    def __init__(self, mend: Any) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.out, self.mend = nn.Conv2d(16, 2, 1), mend

    def forward(self, x: Tensor) -> Tensor:
        skip = self.one(x)
        return self.out(torch.cat([skip, self.mend(self.up(self.two(self.pool(skip))), skip)], 1))


@bug("odd-map", ("pool", "MaxPool2d"), (2, 3, 33, 32), severity="note")
def odd_halves_padded() -> nn.Module:
    return _Halves(lambda x, skip: F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2])))


@bug("odd-map", ("pool", "MaxPool2d"), (2, 3, 30, 45), severity="note")
def odd_halves_resized() -> nn.Module:
    return _Halves(lambda x, skip: x if x.shape == skip.shape else F.interpolate(x, size=skip.shape[2:]))


@bug("uneven-padding", ("1", "Conv2d"), (2, 3, 24, 24), severity="note")
def padding_of_another_kernel() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 5, padding=1), nn.Conv2d(8, 4, 1))


@bug("uneven-padding", ("body.6", "Conv2d"), (2, 3, 24, 24), severity="note")
class TheOneThatTrims(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(5):
            layers += [nn.Conv2d(3 if number == 0 else 8, 8, 3, padding=0 if number == 3 else 1), nn.ReLU()]
        self.body, self.out = nn.Sequential(*layers), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x).mean((2, 3)))


@bug("uneven-padding", ("2", "Conv2d"), (2, 3, 32, 32), severity="note")
def more_than_half() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 2), nn.ReLU(), nn.Conv2d(8, 2, 1))
