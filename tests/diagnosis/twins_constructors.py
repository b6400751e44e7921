"""Models whose layers were made by a slip of the pen where the class makes them; each with its twin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import twin


class Widened(nn.Module):
    """A block that gives more channels than its width, as those of a ResNet-50."""

    expansion = 4

    def __init__(self, channels, width):
        super().__init__()
        self.one = nn.Conv2d(channels, width, 1)
        self.two = nn.Conv2d(width, width, 3, padding=1)
        self.three = nn.Conv2d(width, width * self.expansion, 1)

    def forward(self, x):
        return F.relu(self.three(F.relu(self.two(F.relu(self.one(x))))))


class ForgetsTheExpansion(nn.Module):
    """The running number of channels is the width of the last block, not what it gives."""

    def __init__(self):
        super().__init__()
        self.channels = 16
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.one = self.make_stage(8, 2)
        self.two = self.make_stage(12, 2)
        self.head = nn.Linear(12 * Widened.expansion, 5)

    def make_stage(self, width, depth):
        blocks = []
        for _ in range(depth):
            blocks.append(Widened(self.channels, width))
            self.channels = width
        return nn.Sequential(*blocks)

    def forward(self, x):
        return self.head(self.two(self.one(self.stem(x))).mean((2, 3)))


@twin(ForgetsTheExpansion, (2, 3, 16, 16), reason="outputs 32 channels, 'one.1.one' expects 8")
class ForgetsTheExpansionT(ForgetsTheExpansion):
    def make_stage(self, width, depth):
        blocks = []
        for _ in range(depth):
            blocks.append(Widened(self.channels, width))
            self.channels = width * Widened.expansion
        return nn.Sequential(*blocks)


class TakesTheFirstSkip(nn.Module):
    """The widths of the skip connections are taken from the front, the maps themselves from the end."""

    def __init__(self, widths=(8, 16, 32)):
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        channels, skips = 3, []
        for width in widths:
            self.down.append(nn.Conv2d(channels, width, 3, padding=1))
            channels = width
            skips.append(width)
        self.middle = nn.Conv2d(channels, channels, 3, padding=1)
        for width in reversed(widths):
            self.up.append(nn.Conv2d(channels + skips.pop(0), width, 3, padding=1))
            channels = width
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        maps = []
        for layer in self.down:
            x = F.relu(layer(x))
            maps.append(x)
        x = F.relu(self.middle(x))
        for layer in self.up:
            x = F.relu(layer(torch.cat([x, maps.pop()], 1)))
        return self.head(x)


@twin(TakesTheFirstSkip, (2, 3, 16, 16), reason="expects 40")
class TakesTheFirstSkipT(TakesTheFirstSkip):
    def __init__(self, widths=(8, 16, 32)):
        super().__init__()
        channels, skips = 32, list(widths)
        self.up = nn.ModuleList()
        for width in reversed(widths):
            self.up.append(nn.Conv2d(channels + skips.pop(), width, 3, padding=1))
            channels = width


@dataclass
class Anchors:
    """What a detector's boxes are made of."""

    width: int = 16
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    scales: tuple[float, ...] = (1.0, 1.3)


class AddsRatiosAndScales(nn.Module):
    """A head for a box of each ratio and of each scale, where there is one of each pair."""

    def __init__(self, cfg: Anchors | None = None):
        super().__init__()
        cfg = cfg or Anchors()
        self.stem = nn.Conv2d(3, cfg.width, 3, stride=2, padding=1)
        num_anchors = len(cfg.ratios) + len(cfg.scales)
        self.head = nn.Conv2d(cfg.width, num_anchors * 4, 1)
        sides = [ratio * scale for ratio in cfg.ratios for scale in cfg.scales]
        self.register_buffer("sides", torch.tensor(sides)[None, :, None])

    def forward(self, x):
        y = self.head(F.relu(self.stem(x)))
        boxes = y.flatten(2).view(y.size(0), -1, 4, y.size(2) * y.size(3)).transpose(2, 3)
        place = boxes[..., :2] + self.sides[..., None]
        size = boxes[..., 2:].exp() * self.sides[..., None]
        return torch.cat([place, size], -1)


@twin(AddsRatiosAndScales, (2, 3, 16, 16), reason="")
class AddsRatiosAndScalesT(AddsRatiosAndScales):
    def __init__(self, cfg: Anchors | None = None):
        super().__init__(cfg)
        cfg = cfg or Anchors()
        self.head = nn.Conv2d(cfg.width, len(cfg.ratios) * len(cfg.scales) * 4, 1)


def make_bank(n_fft, n_bands):
    """Make weights of a spectrum's bins, for each band; there is one bin more than half the window."""
    bins = torch.linspace(0, 1, n_fft // 2)
    edges = torch.linspace(0, 1, n_bands + 1)
    return ((bins[:, None] >= edges[:-1]) & (bins[:, None] <= edges[1:])).float()


class CountsHalfTheBins(nn.Module):
    """A bank of filters, made by a function, that has a row too few."""

    def __init__(self, n_fft=64, n_bands=10, classes=4):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("bank", make_bank(n_fft, n_bands))
        self.fc = nn.Linear(n_bands, classes)

    def forward(self, wave):
        spectrum = torch.fft.rfft(wave.unfold(-1, self.n_fft, self.n_fft // 2)).abs()
        return self.fc(torch.matmul(spectrum, self.bank).log1p()).mean(1)


@twin(CountsHalfTheBins, (2, 512), reason="the inner 33 and 32 differ")
class CountsHalfTheBinsT(CountsHalfTheBins):
    def __init__(self, n_fft=64, n_bands=10, classes=4):
        super().__init__(n_fft, n_bands, classes)
        self.bank = make_bank(n_fft + 2, n_bands)


class WidensTheWrongLayer(nn.Module):
    """The layer after the one that the position joins again is to be wider; the count of layers begins at one."""

    def __init__(self, depth=6, width=24):
        super().__init__()
        self.skips = (2,)
        self.layers = nn.ModuleList(
            [nn.Linear(3, width)] + [nn.Linear(width + 3 if i in self.skips else width, width) for i in range(1, depth)]
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        h = x
        for i, layer in enumerate(self.layers):
            h = F.relu(layer(h))
            if i in self.skips:
                h = torch.cat([x, h], -1)
        return self.head(h)


@twin(WidensTheWrongLayer, (10, 3), reason="")
class WidensTheWrongLayerT(WidensTheWrongLayer):
    def __init__(self, depth=6, width=24):
        super().__init__(depth, width)
        self.layers = nn.ModuleList(
            [nn.Linear(3, width)]
            + [nn.Linear(width + 3 if i in self.skips else width, width) for i in range(depth - 1)]
        )


class PadsByTheDilation(nn.Module):
    """Two convolutions of kernel 5 are padded as those of kernel 3."""

    def __init__(self, channels, kernel, dilation):
        super().__init__()
        self.gate = nn.Conv1d(channels, channels, kernel, padding=dilation, dilation=dilation)
        self.value = nn.Conv1d(channels, channels, kernel, padding=dilation, dilation=dilation)

    def forward(self, x):
        return x + torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))


class PadsByTheReach(PadsByTheDilation):
    def __init__(self, channels, kernel, dilation):
        nn.Module.__init__(self)
        self.gate = nn.Conv1d(channels, channels, kernel, padding=dilation * (kernel - 1) // 2, dilation=dilation)
        self.value = nn.Conv1d(channels, channels, kernel, padding=dilation * (kernel - 1) // 2, dilation=dilation)


class DilatedStack(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.blocks = nn.Sequential(*[PadsByTheDilation(6, 5, 2**level) for level in range(depth)])

    def forward(self, x):
        return self.blocks(x)


@twin(DilatedStack, (2, 6, 40), reason="has padding 1, 2 keeps the size")
class DilatedStackT(DilatedStack):
    def __init__(self, depth=3):
        nn.Module.__init__(self)
        self.blocks = nn.Sequential(*[PadsByTheReach(6, 5, 2**level) for level in range(depth)])


class LateralsTheOtherWay(nn.Module):
    """The layers that read the maps are made for the last map first."""

    def __init__(self, widths=(8, 16, 32)):
        super().__init__()
        self.stages, before = nn.ModuleList(), 3
        for width in widths:
            self.stages.append(nn.Conv2d(before, width, 3, stride=2, padding=1))
            before = width
        self.laterals = nn.ModuleList([nn.Conv2d(width, 12, 1) for width in reversed(widths)])

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [lateral(each).mean((2, 3)) for lateral, each in zip(self.laterals, maps, strict=True)]


@twin(LateralsTheOtherWay, (2, 3, 32, 32), reason="outputs 8 channels, 'laterals.0' expects 32")
class LateralsTheOtherWayT(LateralsTheOtherWay):
    def __init__(self, widths=(8, 16, 32)):
        super().__init__(widths)
        self.laterals = nn.ModuleList([nn.Conv2d(width, 12, 1) for width in widths])


class TakesTooMuchOff(nn.Module):
    """What a convolution pads is taken off at one end; a second convolution pads more."""

    def __init__(self, kernel=3, dilation=2):
        super().__init__()
        self.one = nn.Conv1d(4, 4, kernel, padding=(kernel - 1) * dilation, dilation=dilation)
        self.two = nn.Conv1d(4, 4, kernel, padding=(kernel - 1) * dilation + 2, dilation=dilation)
        self.cut = (kernel - 1) * dilation

    def forward(self, x):
        out = self.two(self.one(x)[:, :, : -self.cut])
        return x + out[:, :, : -self.cut]


@twin(TakesTooMuchOff, (2, 4, 20), reason="'two' pads by 4 more than it takes off")
class TakesTooMuchOffT(TakesTooMuchOff):
    def forward(self, x):
        out = self.two(self.one(x)[:, :, : -self.cut])
        return x + out[:, :, : x.size(2)]
