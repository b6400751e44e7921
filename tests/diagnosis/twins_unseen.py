"""Whole models as people ask about them, each with its repaired twin, of kinds that were once repaired otherwise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import Twin, ints, register_in

__all__ = ["UNSEEN"]

UNSEEN: list[Twin] = []
twin = register_in(UNSEEN)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 64)
        self.fc_mu = nn.Linear(64, 20)
        self.fc_logvar = nn.Linear(64, 10)
        self.fc3 = nn.Linear(20, 64)
        self.fc4 = nn.Linear(64, 784)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x):
        h = F.relu(self.fc1(x.view(-1, 784)))
        mu, logvar = self.fc_mu(h), self.fc_logvar(h)
        z = self.reparameterize(mu, logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))


@twin(VAE, (16, 1, 28, 28), reason="'fc_mu' outputs 20, 'fc_logvar' 10, of one input")
class VAET(VAE):
    def __init__(self):
        super().__init__()
        self.fc_logvar = nn.Linear(64, 20)


class Block(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class MiniResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(8, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32))
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        x = self.layer2(self.layer1(x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


@twin(MiniResNet, (2, 3, 32, 32), reason="8 channels against 16")
class MiniResNetT(MiniResNet):
    def __init__(self):
        super().__init__()
        self.layer1[0].shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16))


class Gate(nn.Module):
    def __init__(self, g, x, inter):
        super().__init__()
        self.wg, self.wx, self.psi = nn.Conv2d(g, inter, 1), nn.Conv2d(x, inter, 1), nn.Conv2d(inter, 1, 1)

    def forward(self, g, x):
        a = F.relu(self.wg(g) + self.wx(x))
        return x * torch.sigmoid(self.psi(a))


class GatedNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.e1, self.e2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.gate = Gate(16, 8, 4)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.e1(x)
        b = self.e2(self.pool(a))
        return self.out(self.gate(b, a))


class GateT(Gate):
    def forward(self, g, x):
        a = F.relu(F.interpolate(self.wg(g), size=x.shape[2:]) + self.wx(x))
        return x * torch.sigmoid(self.psi(a))


@twin(GatedNet, (2, 3, 32, 32), reason="the coarser map is not enlarged")
class GatedNetT(GatedNet):
    def __init__(self):
        super().__init__()
        self.gate = GateT(16, 8, 4)


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
        args = t * freqs
        return torch.cat([args.sin(), args.cos()], dim=-1)


class NoisePredictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(SinusoidalPosEmb(16), nn.Linear(16, 32), nn.SiLU())
        self.net = nn.Sequential(nn.Linear(2 + 32, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t):
        return self.net(torch.cat([x, self.time(t)], dim=1))


class SinT(SinusoidalPosEmb):
    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
        args = t[:, None] * freqs
        return torch.cat([args.sin(), args.cos()], dim=-1)


@twin(NoisePredictor, (12, 2), (12,), reason="each of 12 numbers with each of 8")
class NoisePredictorT(NoisePredictor):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(SinT(16), nn.Linear(16, 32), nn.SiLU())


class PrimaryCaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 9)
        self.caps = nn.Conv2d(16, 32, 9, 2)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = self.caps(x)
        return x.view(x.size(0), 32 * 6 * 6, 8)


@twin(PrimaryCaps, (3, 1, 28, 28), reason="3456 is not 3 × 1152 × 8")
class PrimaryCapsT(PrimaryCaps):
    def __init__(self):
        super().__init__()
        self.caps = nn.Conv2d(16, 256, 9, 2)


class HAN(nn.Module):
    def __init__(self, vocab=80, emb=12, hid=10):
        super().__init__()
        self.emb = nn.Embedding(vocab, emb)
        self.word, self.sent = nn.GRU(emb, hid, batch_first=True), nn.GRU(hid, hid, batch_first=True)
        self.fc = nn.Linear(hid, 3)

    def forward(self, docs):
        b, s, _w = docs.shape
        e = self.emb(docs)
        _, h = self.word(e)
        _, h2 = self.sent(h[-1].view(b, s, -1))
        return self.fc(h2[-1])


@twin(HAN, ints(3, 5, 8), reason="3 × 5 sequences of 8 steps are one batch")
class HANT(HAN):
    def forward(self, docs):
        b, s, _w = docs.shape
        _, h = self.word(self.emb(docs).flatten(0, 1))
        _, h2 = self.sent(h[-1].view(b, s, -1))
        return self.fc(h2[-1])
