"""Models that fail where a list, a table, a norm or a batch is read the other way, each with its repaired twin."""

from __future__ import annotations

import torch
from torch import nn

from tests.diagnosis.twins import TWINS, Twin, ints, twin

# -- a list that was filled is read from its end ----------------------------------------------------------------------


class PyramidOfRain(nn.Module):
    """A decoder over radar frames adds what each level of its encoder gave."""

    def __init__(self):
        super().__init__()
        self.downs = nn.ModuleList([nn.Conv1d(4, 8, 3, padding=1), nn.Conv1d(8, 16, 3, padding=1)])
        self.ups = nn.ModuleList([nn.Conv1d(32, 8, 3, padding=1), nn.Conv1d(16, 4, 3, padding=1)])
        self.mix = nn.Conv1d(16, 16, 1)

    def forward(self, x):
        kept = []
        for down in self.downs:
            x = down(x).relu()
            kept.append(x)
        x = self.mix(x)
        for i, up in enumerate(self.ups):
            x = up(torch.cat([x, kept[i]], dim=1))
        return x


@twin(PyramidOfRain, (2, 4, 20), reason="channels")
class PyramidOfRainT(PyramidOfRain):
    def forward(self, x):
        kept = []
        for down in self.downs:
            x = down(x).relu()
            kept.append(x)
        x = self.mix(x)
        for i, up in enumerate(self.ups):
            x = up(torch.cat([x, kept[-1 - i]], dim=1))
        return x


class StagesOfReading(nn.Module):
    """A tabular decoder joins the widths of its encoder, the last one first."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.ModuleList([nn.Linear(12, 9), nn.Linear(9, 5)])
        self.widen = nn.ModuleList([nn.Linear(10, 9), nn.Linear(18, 12)])
        self.between = nn.Linear(5, 5)

    def forward(self, x):
        stages = []
        for layer in self.narrow:
            x = torch.tanh(layer(x))
            stages.append(x)
        x = self.between(x)
        for step in range(2):
            earlier = stages[step]
            x = self.widen[step](torch.cat((earlier, x), dim=-1))
        return x


@twin(StagesOfReading, (7, 12), reason="14")
class StagesOfReadingT(StagesOfReading):
    def forward(self, x):
        stages = []
        for layer in self.narrow:
            x = torch.tanh(layer(x))
            stages.append(x)
        x = self.between(x)
        for step in range(2):
            earlier = stages[-1 - step]
            x = self.widen[step](torch.cat((earlier, x), dim=-1))
        return x


# -- in place no shape changes ----------------------------------------------------------------------------------------


class SharedAnchors(nn.Module):
    """Anchors that all images share are moved by what each image says."""

    def __init__(self):
        super().__init__()
        self.register_buffer("anchors", torch.zeros(1, 9, 4))
        self.move = nn.Linear(6, 4)

    def forward(self, x):
        boxes = self.anchors.clone()
        boxes += self.move(x).unsqueeze(1)
        return boxes


@twin(SharedAnchors, (5, 6), reason="in place no shape changes")
class SharedAnchorsT(SharedAnchors):
    def forward(self, x):
        boxes = self.anchors.clone()
        boxes = boxes + self.move(x).unsqueeze(1)
        return boxes


class GatedPrior(nn.Module):
    """A prior is scaled by a gate of every step."""

    def __init__(self):
        super().__init__()
        self.gate, self.out = nn.Linear(5, 8), nn.Linear(8, 2)

    def forward(self, steps):
        prior = torch.ones(8)
        prior.mul_(self.gate(steps).sigmoid())
        return self.out(prior)


@twin(GatedPrior, (3, 10, 5), reason="mul_ writes into [8], and the result is [3, 10, 8]")
class GatedPriorT(GatedPrior):
    def forward(self, steps):
        prior = torch.ones(8)
        prior = prior.mul(self.gate(steps).sigmoid())
        return self.out(prior)


# -- heads that do not divide, in every block -------------------------------------------------------------------------


class PartedPitches(nn.Module):
    def __init__(self, width, voices):
        super().__init__()
        self.voices, self.size = voices, width // voices
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, t, c = x.shape
        h = self.proj(x).view(b, t, self.voices, self.size).softmax(-2)
        return h.reshape(b, t, c)


class MelodyOfVoices(nn.Module):
    voices = 4

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*[PartedPitches(30, self.voices) for _ in range(3)])
        self.out = nn.Linear(30, 2)

    def forward(self, x):
        return self.out(self.blocks(x))


@twin(MelodyOfVoices, (2, 6, 30), reason="30 features are not divisible into 4 heads of 7: 4 × 7 = 28")
class MelodyOfVoicesT(MelodyOfVoices):
    voices = 5


class ParcelsOfCells(PartedPitches):
    def forward(self, x):
        q = self.proj(x).view(x.size(0), x.size(1), self.voices, self.size).transpose(1, 2)
        return (q @ q.transpose(-2, -1)).softmax(-1).mean(1) @ x


class CellTypes(nn.Module):
    voices = 5

    def __init__(self):
        super().__init__()
        self.first, self.second = (ParcelsOfCells(16, self.voices) for _ in range(2))

    def forward(self, x):
        return self.second(self.first(x)).amax(1)


@twin(CellTypes, (3, 8, 16), reason="16 features are not divisible into 5 heads of 3: 5 × 3 = 15")
class CellTypesT(CellTypes):
    voices = 4


# -- a norm as the norm beside it -------------------------------------------------------------------------------------


class TimesAndSensors(nn.Module):
    def __init__(self, second):
        super().__init__()
        self.before, self.after = nn.LayerNorm(10), nn.LayerNorm(second)
        self.times, self.sensors = nn.Linear(6, 6), nn.Linear(10, 10)

    def forward(self, x):
        x = x + self.times(self.before(x).transpose(1, 2)).transpose(1, 2)
        return x + self.sensors(self.after(x))


def norm_of_times() -> nn.Module:
    return TimesAndSensors(6)


def norm_of_sensors() -> nn.Module:
    return TimesAndSensors(10)


class GenesOfSamples(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(20), nn.LayerNorm(7)
        self.ff = nn.Linear(20, 20)

    def forward(self, x):
        return self.ff(self.norm2(x + self.norm1(x)))


@twin(
    GenesOfSamples,
    (4, 7, 20),
    reason="the last dim is normalized, as by 'norm1'",
)
class GenesOfSamplesT(GenesOfSamples):
    def __init__(self):
        super().__init__()
        self.norm2 = nn.LayerNorm(20)


# -- labels that count from one, and the table that is too small ------------------------------------------------------


class DigitsFromOne(nn.Module):
    def __init__(self, n_digits=4):
        super().__init__()
        self.style = nn.Embedding(n_digits, 6)
        self.up = nn.Linear(10, 12)
        self.register_buffer("digits", torch.tensor([1, 2, 3, 4]))

    def forward(self, noise):
        return self.up(torch.cat([noise, self.style(self.digits)], dim=1))


@twin(DigitsFromOne, (4, 4), reason="the table has rows 0 … 3, got 4")
class DigitsFromOneT(DigitsFromOne):
    def forward(self, noise):
        return self.up(torch.cat([noise, self.style(self.digits - 1)], dim=1))


class BiasOfSongs(nn.Module):
    """Songs are counted from 1, and one of their tables has no row for the last."""

    def __init__(self, n_songs=6):
        super().__init__()
        self.songs = nn.Embedding(n_songs + 1, 3)
        self.bias = nn.Embedding(n_songs, 1)

    def forward(self, song):
        return self.songs(song).sum(-1, keepdim=True) + self.bias(song)


@twin(BiasOfSongs, torch.tensor([[1, 6], [2, 3]]), reason="the table has rows 0 … 5, got 6")
class BiasOfSongsT(BiasOfSongs):
    def __init__(self, n_songs=6):
        super().__init__()
        self.bias = nn.Embedding(n_songs + 1, 1)


# -- steps that come first are packed as samples ----------------------------------------------------------------------


class PackedSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 5, batch_first=True)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, [12, 7, 9], batch_first=True, enforce_sorted=False)
        y, _ = self.rnn(packed)
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0].amax(1)


@twin(PackedSteps, (12, 3, 4), reason="[12, 3, 4] was packed with 3 lengths")
class PackedStepsT(PackedSteps):
    def forward(self, x):
        return super().forward(x.transpose(0, 1))


class PackedVisits(nn.Module):
    def __init__(self):
        super().__init__()
        self.codes = nn.Embedding(30, 6)
        self.rnn = nn.LSTM(6, 8, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, visits):
        steps, lengths = self.codes(visits), [3, 9, 5, 2]
        packed = nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.rnn(packed)
        return self.out(h[-1])


@twin(PackedVisits, ints(9, 4), reason="the steps come first in it")
class PackedVisitsT(PackedVisits):
    def forward(self, visits):
        return super().forward(visits.t())


# -- a name that a layer gets by way of others ------------------------------------------------------------------------


class BandsOfPower(nn.Module):
    def __init__(self, window=16, bands=6):
        super().__init__()
        self.window = window
        bins = window // 2
        places = torch.arange(bins).float()
        rows = torch.stack([torch.exp(-(places - 3.0 * i).abs()) for i in range(bands)])
        self.filters = nn.Parameter(rows)

    def forward(self, x):
        power = torch.fft.rfft(x, n=self.window).abs()
        return power @ self.filters.t()


@twin(BandsOfPower, (3, 16), reason="differ")
class BandsOfPowerT(BandsOfPower):
    def __init__(self):
        super().__init__()
        self.filters = nn.Parameter(torch.zeros(6, 9))


class BlendOfVoices(nn.Module):
    """A blend of neighbouring frames, whose lengths are counted from a hop."""

    def __init__(self, hop=4, frames=3):
        super().__init__()
        reach = hop * frames - 1
        ramp = torch.linspace(0, 1, reach)
        fade = ramp.repeat(2, 1)
        self.fade = nn.Parameter(fade)

    def forward(self, x):
        return x @ self.fade.t()


@twin(BlendOfVoices, (5, 12), reason="[5 × 12] @ [11 × 2]: the inner 12 and 11 differ")
class BlendOfVoicesT(BlendOfVoices):
    def __init__(self):
        super().__init__()
        self.fade = nn.Parameter(torch.zeros(2, 12))


# -- a dim of one beside vectors --------------------------------------------------------------------------------------


class ContextOfOneQuery(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(11, 3)

    def forward(self, query, memory):
        weights = torch.softmax(query.unsqueeze(1) @ memory.transpose(1, 2), dim=-1)
        context = torch.bmm(weights, memory)
        return self.out(torch.cat([query[:, :5], context], dim=1))


@twin(ContextOfOneQuery, (4, 6), (4, 9, 6), reason="without its dim of one it has as many")
class ContextOfOneQueryT(ContextOfOneQuery):
    def forward(self, query, memory):
        weights = torch.softmax(query.unsqueeze(1) @ memory.transpose(1, 2), dim=-1)
        context = torch.bmm(weights, memory)
        return self.out(torch.cat([query[:, :5], context.squeeze(1)], dim=1))


class StateOfOneLayer(nn.Module):
    """Readings and the state of one layer, whose batch was put first, are joined."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 8, batch_first=True)
        self.head = nn.Linear(10, 1)

    def forward(self, series, static):
        _, h = self.rnn(series)
        return self.head(torch.cat([static, h.transpose(0, 1)], dim=1))


@twin(StateOfOneLayer, (5, 12, 3), (5, 2), reason="without its dim of one it has as many")
class StateOfOneLayerT(StateOfOneLayer):
    def forward(self, series, static):
        _, h = self.rnn(series)
        return self.head(torch.cat([static, h[-1]], dim=1))


TWINS.append(Twin(norm_of_times, norm_of_sensors, ((2, 6, 10),), "the last dim is normalized, as by 'before'"))
