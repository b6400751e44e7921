"""Twins in which one of several is not as many as another: weights of classes, labels, windows, stacked features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin

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


class RealModes(nn.Module):
    def __init__(self, width=8, modes=16):
        super().__init__()
        self.modes = modes
        self.w = nn.Parameter(torch.randn(width, width, modes, dtype=torch.cfloat))

    def forward(self, x):
        ft = torch.fft.rfft(x)
        out = torch.zeros_like(ft)
        out[:, :, : self.modes] = torch.einsum("bix,iox->box", ft[:, :, : self.modes], self.w)
        return torch.fft.irfft(out, n=x.size(-1))


class TooManyModes(nn.Module):
    def __init__(self, modes=16):
        super().__init__()
        self.lift = nn.Conv1d(1, 8, 1)
        self.spectral = RealModes(8, modes)

    def forward(self, x):
        x = self.lift(x)
        return x + self.spectral(x)


@twin(TooManyModes, (2, 1, 16), reason="a real transform of 16 has 16 // 2 + 1 = 9 frequencies")
class TooManyModesT(TooManyModes):
    def __init__(self):
        super().__init__(9)


# -- sentences, edges -------------------------------------------------------------------------------------------------


class ShortSentence(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 16)
        self.convs = nn.ModuleList([nn.Conv2d(1, 8, (k, 16)) for k in (3, 4, 5)])
        self.fc = nn.Linear(24, 2)

    def forward(self, ids):
        x = self.embed(ids).unsqueeze(1)
        x = [F.relu(conv(x)).squeeze(3).amax(2) for conv in self.convs]
        return self.fc(torch.cat(x, 1))


@twin(ShortSentence, ints(2, 2), reason="dim 2 is 2, the window is 3 wide")
class ShortSentenceT(ShortSentence):
    def forward(self, ids):
        return super().forward(F.pad(ids, (0, 3)))


class LoopsWithoutRows(nn.Module):
    def __init__(self):
        super().__init__()
        self.msg = nn.Linear(20, 8)

    def forward(self, x, edge_index, edge_attr):
        loops = torch.arange(x.size(0)).repeat(2, 1)
        edge_index = torch.cat([edge_index, loops], dim=1)
        src, dst = edge_index
        m = self.msg(torch.cat([x[src], x[dst], edge_attr], dim=-1))
        return torch.zeros_like(x).index_add(0, dst, m), m


@twin(LoopsWithoutRows, (5, 8), ints(2, 9), (9, 4), reason="9 + 5 = 14 edges, this has 9 rows")
class LoopsWithoutRowsT(LoopsWithoutRows):
    def forward(self, x, edge_index, edge_attr):
        loops = torch.arange(x.size(0)).repeat(2, 1)
        src, dst = torch.cat([edge_index, loops], dim=1)
        edge_attr = torch.cat([edge_attr, edge_attr.new_zeros(x.size(0), edge_attr.size(1))])
        m = self.msg(torch.cat([x[src], x[dst], edge_attr], dim=-1))
        return torch.zeros_like(x).index_add(0, dst, m), m


class EdgesBothWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.edge = nn.Linear(4, 8)

    def forward(self, x, edge_index, edge_attr):
        both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        src, dst = both
        m = x[src] * self.edge(edge_attr).sigmoid()
        return torch.zeros_like(x).index_add(0, dst, m), m


@twin(EdgesBothWays, (5, 8), ints(2, 9), (9, 4), reason="9 + 9 = 18 edges, this has 9 rows")
class EdgesBothWaysT(EdgesBothWays):
    def forward(self, x, edge_index, edge_attr):
        src, dst = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        m = x[src] * self.edge(torch.cat([edge_attr, edge_attr])).sigmoid()
        return torch.zeros_like(x).index_add(0, dst, m), m


# -- calls that a container, a loop or a hint makes otherwise than they were meant ------------------------------------


class AttentionInSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(16), nn.MultiheadAttention(16, 4, batch_first=True), nn.Dropout(0.1))

    def forward(self, x):
        z = self.body(x)
        return x, z


@twin(AttentionInSequence, (2, 5, 16), reason="an nn.Sequential passes one tensor on")
class AttentionInSequenceT(AttentionInSequence):
    def forward(self, x):
        z = x
        for layer in self.body:
            z = layer(z, z, z)[0] if isinstance(layer, nn.MultiheadAttention) else layer(z)
        return x, z


class RecurrentInSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.GRU(8, 16, batch_first=True), nn.Linear(16, 2))

    def forward(self, x):
        return self.net(x)


@twin(RecurrentInSequence, (2, 5, 8), reason="returns (output, state)")
class RecurrentInSequenceT(RecurrentInSequence):
    def forward(self, x):
        return self.net[1](self.net[0](x)[0])


class HintWithoutMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(16, 4, 32, batch_first=True) for _ in range(2)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, is_causal=True)
        return x


@twin(HintWithoutMask, (2, 5, 16), reason="TransformerEncoderLayer needs src_mask too")
class HintWithoutMaskT(HintWithoutMask):
    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1))
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return x


class BindsLate(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(5, 6)})

    def forward(self, a, b):
        called = {}
        for name, layer in self.proj.items():
            called[name] = lambda z: layer(z).tanh()  # noqa: B023  # that is the mistake
        return called["a"](a) + called["b"](b)


@twin(BindsLate, (2, 4), (2, 5), reason="the lambda reads layer when it is called")
class BindsLateT(BindsLate):
    def forward(self, a, b):
        return self.proj["a"](a).tanh() + self.proj["b"](b).tanh()
