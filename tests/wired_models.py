"""Models in which a row's input is often not the row before it: skips, joins, splits, two streams, experts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """ResNet's: a skip past two convolutions, through a projection where the size changes."""

    def __init__(self, given: int, made: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.downsample = None
        if stride > 1 or given != made:
            self.downsample = nn.Sequential(nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


def convs(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.d1, self.d2, self.d3 = convs(1, 8), convs(8, 16), convs(16, 32)
        self.pool = nn.MaxPool2d(2)
        self.bottom = convs(32, 64)
        self.u3, self.u2, self.u1 = (nn.ConvTranspose2d(2 * n, n, 2, 2) for n in (32, 16, 8))
        self.c3, self.c2, self.c1 = convs(64, 32), convs(32, 16), convs(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        d1 = self.d1(x)
        d2 = self.d2(self.pool(d1))
        d3 = self.d3(self.pool(d2))
        y = self.bottom(self.pool(d3))
        y = self.c3(torch.cat([d3, self.u3(y)], 1))
        y = self.c2(torch.cat([d2, self.u2(y)], 1))
        y = self.c1(torch.cat([d1, self.u1(y)], 1))
        return self.head(y)


class ListUNet(nn.Module):
    """A U-Net whose blocks are in lists; two of these are called in turn, so that their rows stand apart."""

    def __init__(self) -> None:
        super().__init__()
        self.downs = nn.ModuleList([convs(1, 8), convs(8, 16)])
        self.mid = convs(16, 32)
        self.ups = nn.ModuleList([nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.decs = nn.ModuleList([convs(32, 16), convs(16, 8)])

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            skips.append(down(x))
            x = torch.max_pool2d(skips[-1], 2)
        x = self.mid(x)
        for up, dec in zip(self.ups, self.decs, strict=True):
            x = dec(torch.cat([skips.pop(), up(x)], 1))
        return x


class Joined(nn.Module):
    """An odd side fails, and the line that mends it has no place to break at."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(8, 1, 1)
        self.upsampling_of_what_was_pooled = nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.upsampling_of_what_was_pooled(self.pool(x)), x], 1))


class DenseLayer(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(given)
        self.conv = nn.Conv2d(given, 4, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.conv(F.relu(self.norm(torch.cat(features, 1))))


class DenseNet(nn.Module):
    """Every layer reads all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 8, 3, padding=1)
        for at in range(5):
            setattr(self, f"layer{at + 1}", DenseLayer(8 + 4 * at))
        self.head = nn.Conv2d(28, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.conv0(x)]
        for at in range(5):
            features.append(getattr(self, f"layer{at + 1}")(features))
        return self.head(torch.cat(features, 1)).mean((2, 3))


class Translator(nn.Module):
    """Torch's own encoder and decoder, with cross attention."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 32, batch_first=True), 2)
        self.head = nn.Linear(16, 50)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.encoder(self.words(source))
        return self.head(self.decoder(self.words(target), memory))


class PreNorm(nn.Module):
    """``x + attend(norm(x))``, then ``x + mlp(norm(x))``: the last sum is in no row."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attend, self.mlp = nn.Linear(16, 16), nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Experts(nn.Module):
    """A mixture: a gate weighs what four experts make of one input."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)) for _ in range(4))
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        made = torch.stack([expert(x) for expert in self.experts], -1)
        return self.norm((made * weights.unsqueeze(-2)).sum(-1))


class Pyramid(nn.Module):
    """A feature pyramid: lateral convolutions, summed from the top down, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.c3, self.c4, self.c5 = (nn.Conv2d(given, 16, 3, 2, 1) for given in (3, 16, 16))
        self.lat3, self.lat4, self.lat5 = (nn.Conv2d(16, 8, 1) for _ in range(3))
        self.out3, self.out4, self.out5 = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c3 = self.c3(x)
        c4 = self.c4(c3)
        c5 = self.c5(c4)
        p5 = self.lat5(c5)
        p4 = self.lat4(c4) + F.interpolate(p5, scale_factor=2.0)
        p3 = self.lat3(c3) + F.interpolate(p4, scale_factor=2.0)
        return self.out3(p3), self.out4(p4), self.out5(p5)


class Unrolled(nn.Module):
    """One cell, called for every step, reads the state that its call before made."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, steps: Tensor) -> Tensor:
        state = steps.new_zeros(steps.shape[0], 8)
        for step in steps.unbind(1):
            state = self.cell(step, state)
        return self.out(state)


IMAGE, TOKENS = (2, 3, 32, 32), (2, 5, 16)


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()), nn.Flatten())
