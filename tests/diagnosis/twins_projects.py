"""Models of projects that fail as people write them: loops, tables, spectra, labels, places; each with its twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import Twin, ints, register_in

__all__ = ["PROJECTS"]

PROJECTS: list[Twin] = []
twin = register_in(PROJECTS)


class StatesOfTheSteps(nn.Module):
    """Both states read the batch on the axis of the steps, on a line each."""

    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(4, 6, 2, batch_first=True), nn.Linear(6, 1)

    def forward(self, x):
        h0 = torch.zeros(2, x.size(1), 6)
        c0 = torch.zeros(2, x.size(1), 6)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1])


@twin(StatesOfTheSteps, (7, 30, 4), reason="the hidden state is [2, 30, 6], this input needs [2, 7, 6]")
class StatesOfTheStepsT(StatesOfTheSteps):
    def forward(self, x):
        h0, c0 = torch.zeros(2, x.size(0), 6), torch.zeros(2, x.size(0), 6)
        return self.fc(self.lstm(x, (h0, c0))[0][:, -1])


class FlatWithItsBatch(nn.Module):
    start = 0

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(self.start), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x)


@twin(FlatWithItsBatch, (5, 3, 4, 4), reason="the batch was flattened too: 5 × 3 × 4 × 4 = 240")
class FlatWithItsBatchT(FlatWithItsBatch):
    start = 1


class OneNumberLess(nn.Module):
    """The layer gives a number more for every anchor than the view has."""

    def __init__(self):
        super().__init__()
        self.anchors, self.classes, self.pred = 3, 2, nn.Conv2d(4, 3 * (5 + 2), 1)

    def forward(self, x):
        b, _, h, w = x.shape
        p = self.pred(x)
        p = p.view(b, self.anchors, 4 + self.classes, h, w)
        return p.permute(0, 1, 3, 4, 2)


@twin(OneNumberLess, (2, 4, 4, 4), reason="2 × 21 × 4 × 4 = 672 is not 2 × 3 × 6 × 4 × 4 = 576")
class OneNumberLessT(OneNumberLess):
    def forward(self, x):
        b, _, h, w = x.shape
        return self.pred(x).view(b, self.anchors, 5 + self.classes, h, w).permute(0, 1, 3, 4, 2)


class WrongTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.user_bias, self.item_bias = nn.Embedding(10, 1), nn.Embedding(60, 1)

    def forward(self, user):
        item = torch.arange(50, 50 + user.size(0))
        return self.user_bias(user) + self.user_bias(item)


@twin(WrongTable, ints(4), reason="'item_bias' has as many")
class WrongTableT(WrongTable):
    def forward(self, user):
        return self.user_bias(user) + self.item_bias(torch.arange(50, 50 + user.size(0)))


class OddSpectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.mix = nn.Parameter(torch.ones(6, 5)), nn.Conv1d(6, 6, 1)

    def filter(self, x):
        spectrum = torch.fft.rfft(x)
        kept = spectrum[:, :, :5] * self.weight
        return torch.fft.irfft(F.pad(kept, (0, spectrum.size(-1) - 5)))

    def forward(self, x):
        return self.filter(x) + self.mix(x)


@twin(OddSpectrum, (3, 6, 33), reason="irfft gives 32 samples of a spectrum of 33: n= says how many")
class OddSpectrumT(OddSpectrum):
    def filter(self, x):
        spectrum = torch.fft.rfft(x)
        kept = spectrum[:, :, :5] * self.weight
        return torch.fft.irfft(F.pad(kept, (0, spectrum.size(-1) - 5)), n=x.size(-1))


class InputEveryTurn(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(10, 24), nn.Linear(24, 8)])
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        for layer in self.layers:
            out = torch.relu(layer(x))
        return self.last(out)


@twin(InputEveryTurn, (4, 10), reason="each turn of the loop reads 'x' again; 'layers.0' gave the 24 that are expected")
class InputEveryTurnT(InputEveryTurn):
    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.last(x)


class SkipsThatShrink(nn.Module):
    def __init__(self):
        super().__init__()
        self.dilated = nn.ModuleList([nn.Conv1d(6, 6, 2, dilation=2**k) for k in range(3)])

    def forward(self, x):
        skips = []
        for dilated in self.dilated:
            z = torch.tanh(dilated(x))
            skips.append(z)
            x = z + x[:, :, -z.size(2) :]
        return torch.stack(skips).sum(0)


@twin(SkipsThatShrink, (2, 6, 30), reason="3 signals of 29, 27, 23 steps: each was made from a shorter one")
class SkipsThatShrinkT(SkipsThatShrink):
    def forward(self, x):
        skips = []
        for dilated in self.dilated:
            z = torch.tanh(dilated(x))
            skips.append(z)
            x = z + x[:, :, -z.size(2) :]
        return sum(skip[..., -z.size(2) :] for skip in skips)


class PlacesNotGiven(nn.Module):
    """A batch of two unpacks in two names."""

    places = False

    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=self.places)
        self.conv, self.unpool = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)), nn.MaxUnpool2d(2)

    def forward(self, x):
        x, places = self.pool(x)
        return self.unpool(self.conv(x), places)


@twin(PlacesNotGiven, (2, 6, 8, 8), reason="'pool' gives one tensor, which x, places part by its samples")
class PlacesNotGivenT(PlacesNotGiven):
    places = True


class MaskOfStepsFirst(nn.Module):
    """The sequence is turned on purpose, and the mask with it, which is not to be."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(50, 16, padding_idx=0)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 1, enable_nested_tensor=False)

    def forward(self, x):
        mask = x == 0
        return self.encoder(self.emb(x).transpose(0, 1), src_key_padding_mask=mask.t())


@twin(MaskOfStepsFirst, ints(3, 9), reason="key_padding_mask is [9, 3], and [3, 9] before its dims were moved")
class MaskOfStepsFirstT(MaskOfStepsFirst):
    def forward(self, x):
        return self.encoder(self.emb(x).transpose(0, 1), src_key_padding_mask=x == 0)


class LayerOfLogits(nn.Module):
    """From torch 2.14 on the layer refuses its setting, before that the next line refuses the layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        p = nn.Softmax(self.fc(x))
        return p.max(-1).values


@twin(LayerOfLogits, (2, 6), reason="makes a layer with a tensor for its settings, and does not run it")
class LayerOfLogitsT(LayerOfLogits):
    def forward(self, x):
        return nn.Softmax(dim=-1)(self.fc(x)).max(-1).values


class CentersOfABasis(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("centers", torch.linspace(0, 5, 20))
        self.fc = nn.Linear(20, 4)

    def forward(self, positions):
        distances = torch.cdist(positions, positions)
        basis = torch.exp(-((distances - self.centers) ** 2))
        return self.fc(basis).sum((1, 2))


@twin(CentersOfABasis, (2, 6, 3), reason="each number of [2, 6, 6] is compared with the 20 centers")
class CentersOfABasisT(CentersOfABasis):
    def forward(self, positions):
        distances = torch.cdist(positions, positions)
        basis = torch.exp(-((distances.unsqueeze(-1) - self.centers) ** 2))
        return self.fc(basis).sum((1, 2))


class EvenAverage(nn.Module):
    kernel = 24

    def __init__(self):
        super().__init__()
        self.average, self.fc = nn.AvgPool1d(self.kernel, stride=1, padding=12), nn.Linear(48, 12)

    def forward(self, x):
        trend = self.average(x.transpose(1, 2)).transpose(1, 2)
        return self.fc((x - trend).transpose(1, 2))


@twin(EvenAverage, (4, 48, 7), reason="'average' of kernel 24 gives 49 steps of 48: an odd one keeps them")
class EvenAverageT(EvenAverage):
    kernel = 25
