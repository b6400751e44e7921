"""Twins in which one of several is not as many as another: weights of classes, labels, windows, stacked features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import Twin, ints, register_in

__all__ = ["COUNTS"]

COUNTS: list[Twin] = []
twin = register_in(COUNTS)


# -- stack where cat was meant ----------------------------------------------------------------------------------------


class StackedHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(16, 4) for _ in range(4)])
        self.out = nn.Linear(16, 16)

    def forward(self, x):
        return self.out(torch.stack([h(x) for h in self.heads], -1)) + x


@twin(StackedHeads, (2, 5, 16), reason="cat joins their features: 4 × 4")
class StackedHeadsT(StackedHeads):
    def forward(self, x):
        return self.out(torch.cat([h(x) for h in self.heads], -1)) + x


class StackedTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 12), nn.Linear(7, 12)
        self.net = nn.Sequential(nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 3))

    def forward(self, user, item):
        z = torch.stack((self.a(user), self.b(item))).relu()
        return self.net(z)


@twin(StackedTowers, (4, 5), (4, 7), reason="cat joins their channels: 2 × 12")
class StackedTowersT(StackedTowers):
    def forward(self, user, item):
        z = torch.cat((self.a(user), self.b(item)), 1)
        return self.net(z)


class StackedPools(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        return self.norm(torch.stack([x.mean(1), x.amax(1)], dim=1))


@twin(StackedPools, (3, 5, 8), reason="2 tensors behind each other")
class StackedPoolsT(StackedPools):
    def forward(self, x):
        return self.norm(torch.cat([x.mean(1), x.amax(1)], dim=1))


# -- weights of classes -----------------------------------------------------------------------------------------------


class ThreeWeights(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.fc = nn.Linear(8, classes)
        self.loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x, y):
        return self.fc(x), self.loss(self.fc(x), y)


@twin(ThreeWeights, (5, 8), ints(5), reason="3 weights for the 4 classes")
class ThreeWeightsT(ThreeWeights):
    def __init__(self):
        super().__init__(3)


class WeightsWithoutAClass(nn.Module):
    def __init__(self, count=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.register_buffer("class_weights", torch.ones(count))

    def forward(self, x, y):
        out = self.conv(x)
        return out, F.cross_entropy(out, y, weight=self.class_weights)


@twin(WeightsWithoutAClass, (2, 3, 8, 8), ints(2, 8, 8), reason="4 weights for the 5 classes")
class WeightsWithoutAClassT(WeightsWithoutAClass):
    def __init__(self):
        super().__init__(5)


class WeightsOfLabels(nn.Module):
    def __init__(self, count=4):
        super().__init__()
        self.fc = nn.Linear(8, 6)
        self.loss = nn.BCEWithLogitsLoss(pos_weight=torch.ones(count))

    def forward(self, x, y):
        return self.loss(self.fc(x), y)


@twin(WeightsOfLabels, (5, 8), (5, 6), reason="4 weights for the 6 labels")
class WeightsOfLabelsT(WeightsOfLabels):
    def __init__(self):
        super().__init__(6)


# -- labels that the forward makes ------------------------------------------------------------------------------------


class LabelsOfOneView(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(16, 8)

    def forward(self, a, b):
        z = F.normalize(self.enc(torch.cat([a, b])), dim=1)
        sim = (z @ z.t()).masked_fill(torch.eye(z.size(0), dtype=torch.bool), -1e9)
        labels = torch.arange(a.size(0))
        return F.cross_entropy(sim, labels)


@twin(LabelsOfOneView, (4, 16), (4, 16), reason="each sample's label is its other view")
class LabelsOfOneViewT(LabelsOfOneView):
    def forward(self, a, b):
        z = F.normalize(self.enc(torch.cat([a, b])), dim=1)
        sim = (z @ z.t()).masked_fill(torch.eye(z.size(0), dtype=torch.bool), -1e9)
        labels = torch.arange(a.size(0))
        return F.cross_entropy(sim, torch.cat([labels + labels.size(0), labels]))


class LabelsOfTheQueue(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(16, 8)
        self.register_buffer("queue", torch.randn(8, 32))

    def forward(self, x, other):
        q = self.enc(x)
        logits = torch.cat([(q * self.enc(other)).sum(1, keepdim=True), q @ self.queue], dim=1)
        labels = torch.zeros(logits.shape[1], dtype=torch.long)
        return F.cross_entropy(logits, labels, reduction="none")


@twin(LabelsOfTheQueue, (4, 16), (4, 16), reason="zeros() makes 33")
class LabelsOfTheQueueT(LabelsOfTheQueue):
    def forward(self, x, other):
        q = self.enc(x)
        logits = torch.cat([(q * self.enc(other)).sum(1, keepdim=True), q @ self.queue], dim=1)
        labels = torch.zeros(logits.shape[0], dtype=torch.long)
        return F.cross_entropy(logits, labels, reduction="none")


# -- spectra ----------------------------------------------------------------------------------------------------------


class ShortWindow(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(48))

    def forward(self, x):
        return torch.stft(x, 64, 16, window=self.window, return_complex=True).abs()


@twin(ShortWindow, (2, 400), reason="the window has 48 values, stft reads 64 at a time")
class ShortWindowT(ShortWindow):
    def forward(self, x):
        return torch.stft(x, 64, 16, 48, window=self.window, return_complex=True).abs()


class LongWindow(nn.Module):
    def forward(self, x):
        window = torch.hann_window(256)
        return torch.stft(x, 128, 32, window=window, return_complex=True).abs()


@twin(LongWindow, (2, 1, 1000), reason="has 3 dims, stft reads signals [B, T]")
class LongWindowT(nn.Module):
    def forward(self, x):
        window = torch.hann_window(128)
        return torch.stft(x.squeeze(1), 128, 32, window=window, return_complex=True).abs()


class OtherInverse(nn.Module):
    def __init__(self, size=128):
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size))

    def forward(self, x):
        spectrum = torch.stft(x, 64, 16, return_complex=True, window=torch.hann_window(64))
        return torch.istft(spectrum, 128, 16, window=self.window)


@twin(OtherInverse, (2, 400), reason="128 // 2 + 1 = 65 frequencies, [2, 33, 26] has 33")
class OtherInverseT(OtherInverse):
    def forward(self, x):
        spectrum = torch.stft(x, 64, 16, return_complex=True, window=torch.hann_window(64))
        return torch.istft(spectrum, 64, 16, window=torch.hann_window(64))


class RealSpectrum(nn.Module):
    def forward(self, x):
        return torch.stft(x, 64, 16, window=torch.hann_window(64)).abs()


@twin(RealSpectrum, (2, 400), reason="has to be told whether it returns complex ones")
class RealSpectrumT(nn.Module):
    def forward(self, x):
        return torch.stft(x, 64, 16, window=torch.hann_window(64), return_complex=True).abs()
