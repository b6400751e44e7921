"""Layers and calls made with another setting than the one meant, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class TwoRates(nn.Module):
    def __init__(self, alpha=4):
        super().__init__()
        self.alpha = alpha
        self.slow, self.fast = nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1)), nn.Conv3d(3, 4, 3, padding=1)
        self.lateral = nn.Conv3d(4, 8, (5, 1, 1), padding=(2, 0, 0))
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        slow, fast = self.slow(x[:, :, :: self.alpha]), self.fast(x)
        slow = torch.cat([slow, self.lateral(fast)], dim=1)
        return self.out(slow.mean((2, 3, 4)))


@twin(TwoRates, (2, 3, 16, 8, 8), reason="'lateral' has stride 1, and the other branch is 4 times smaller")
class TwoRatesT(TwoRates):
    def __init__(self):
        super().__init__()
        self.lateral = nn.Conv3d(4, 8, (5, 1, 1), stride=(4, 1, 1), padding=(2, 0, 0))


class TwoScales(nn.Module):
    def __init__(self):
        super().__init__()
        self.high, self.low = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16))

    def forward(self, x):
        high, low = self.high(x), self.low(x)
        return low + self.down(high)


@twin(TwoScales, (2, 3, 16, 16), reason="'down.0' has stride 1, and the other branch is 2 times smaller")
class TwoScalesT(TwoScales):
    def __init__(self):
        super().__init__()
        self.down[0] = nn.Conv2d(8, 16, 3, stride=2, padding=1)


class EnlargedTwoTimes(nn.Module):
    factor = 2

    def __init__(self):
        super().__init__()
        self.first, self.pool, self.mid = nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(4), nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.Upsample(scale_factor=self.factor, mode="bilinear")
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.first(x)
        return self.out(x + self.up(self.mid(self.pool(x))))


@twin(EnlargedTwoTimes, (2, 3, 16, 16), reason="'up' enlarges 2 times to 8 × 8, 4 times to the other's 16 × 16")
class EnlargedTwoTimesT(EnlargedTwoTimes):
    factor = 4


class OtherKernel(nn.Module):
    def __init__(self, last=3):
        super().__init__()
        self.encode = nn.Conv2d(1, 8, 4, 4)
        self.decode = nn.Sequential(nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, last, 2, 1))

    def forward(self, x):
        return F.mse_loss(self.decode(self.encode(x)), x)


@twin(OtherKernel, (2, 1, 28, 28), reason="28 × 28 against 27 × 27")
class OtherKernelT(OtherKernel):
    def __init__(self):
        super().__init__(last=4)


class GatedOnSteps(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.wide, self.gate = nn.Conv1d(d, 2 * d, 1), nn.GLU()
        self.deep = nn.Conv1d(d, d, 3, padding=1, groups=d)

    def forward(self, x):
        return self.deep(self.gate(self.wide(x.transpose(1, 2)))).transpose(1, 2)


@twin(GatedOnSteps, (2, 20, 8), reason="'deep' expects 8")
class GatedOnStepsT(GatedOnSteps):
    def __init__(self):
        super().__init__()
        self.gate = nn.GLU(1)


class ChompedTwice(nn.Module):
    def __init__(self, widths=(8, 8, 8), kernel=3):
        super().__init__()
        self.convs = nn.ModuleList()
        for level, width in enumerate(widths):
            dilation = 2**level
            pad = (kernel - 1) * dilation
            self.convs.append(nn.Conv1d(8, width, kernel, padding=pad, dilation=dilation))

    def forward(self, x):
        for conv in self.convs:
            y = conv(x)
            x = F.relu(y + x)
        return x


@twin(ChompedTwice, (2, 8, 40), reason="pads by 2 more than it takes off")
class ChompedTwiceT(ChompedTwice):
    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x)[..., : x.size(-1)] + x)
        return x


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(20, 8), nn.LSTM(8, 16, batch_first=True)
        self.out = nn.Linear(16, 2)

    def forward(self, ids):
        x, lengths = self.embed(ids), [9, 7, 8, 3]
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        _, (h, _) = self.rnn(packed)
        return self.out(h[-1])


@twin(Packed, ints(4, 9), reason="the steps in dim 0 and the batch in dim 1")
class PackedT(Packed):
    def forward(self, ids):
        x, lengths = self.embed(ids), [9, 7, 8, 3]
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.rnn(packed)[1][0][-1])


class BothLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 16, num_layers=2, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        _, (h, _) = self.rnn(x)
        return self.out(h.view(x.size(0), -1))


@twin(BothLayers, (4, 7, 8), reason="those of the last layer are [-1]")
class BothLayersT(BothLayers):
    def forward(self, x):
        return self.out(self.rnn(x)[1][0][-1])


class ManyLabels(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 6)

    def forward(self, x, labels):
        logits = self.fc(x)
        loss = F.cross_entropy(logits, labels)
        return loss, torch.sigmoid(logits)


@twin(ManyLabels, (3, 8), ints(3, 6), reason="sigmoid gives several classes a sample")
class ManyLabelsT(ManyLabels):
    def forward(self, x, labels):
        logits = self.fc(x)
        return F.binary_cross_entropy_with_logits(logits, labels.float()), logits.sigmoid()


class HalfTable(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.d = d
        angles = torch.outer(torch.arange(32.0), 1 / 10000 ** (torch.arange(0, d, 2) / d))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, x):
        steps = x.size(1)
        one, two = x.chunk(2, -1)
        return x * self.cos[:steps] + torch.cat([-two, one], -1) * self.sin[:steps]


@twin(HalfTable, (2, 10, 8), reason="each angle is for two of them")
class HalfTableT(HalfTable):
    def forward(self, x):
        steps = x.size(1)
        one, two = x.chunk(2, -1)
        cos, sin = (torch.cat([half[:steps], half[:steps]], -1) for half in (self.cos, self.sin))
        return x * cos + torch.cat([-two, one], -1) * sin


class Biaffine(nn.Module):
    def __init__(self, d=8, labels=5):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(labels, d, d)), nn.Parameter(torch.zeros(labels))

    def forward(self, head, dep):
        return torch.einsum("bxi,irj,byj->bxyr", head, self.weight, dep) + self.bias


@twin(Biaffine, (2, 6, 8), (2, 6, 8), reason="'i' is 8 in head and 5 in self.weight")
class BiaffineT(Biaffine):
    def forward(self, head, dep):
        return torch.einsum("bxi,rij,byj->bxyr", head, self.weight, dep) + self.bias


class AllFrequencies(nn.Module):
    def __init__(self, width=4, modes=6):
        super().__init__()
        self.modes = modes
        self.first = nn.Conv1d(2, width, 1)
        self.weights = nn.Parameter(torch.zeros(width, width, modes, dtype=torch.cfloat))

    def forward(self, x):
        x = self.first(x)
        ft = torch.fft.rfft(x)
        low = torch.einsum("bix,iox->box", ft, self.weights)
        return torch.fft.irfft(F.pad(low, (0, ft.size(-1) - self.modes)), n=x.size(-1))


@twin(AllFrequencies, (2, 2, 32), reason="'x' is 17 in ft and 6 in self.weights")
class AllFrequenciesT(AllFrequencies):
    def forward(self, x):
        x = self.first(x)
        ft = torch.fft.rfft(x)
        low = torch.einsum("bix,iox->box", ft[:, :, : self.modes], self.weights)
        return torch.fft.irfft(F.pad(low, (0, ft.size(-1) - self.modes)), n=x.size(-1))


class FramesApart(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.mix = nn.TransformerEncoderLayer(d, 2, 16, batch_first=True)

    def forward(self, x, frames=4):
        B, L, D = x.shape
        y = self.mix(x.reshape(B * frames, L // frames, D))
        return x + y


@twin(FramesApart, (3, 20, 8), reason="dim 0: 3 against 12 and dim 1: 20 against 5")
class FramesApartT(FramesApart):
    def forward(self, x, frames=4):
        B, L, D = x.shape
        return x + self.mix(x.reshape(B * frames, L // frames, D)).reshape(B, L, D)
