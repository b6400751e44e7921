"""The same bugs in other hands: by einsum, through dicts, as functions, deep inside, in train mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import bug


def conv_bn(i: int, o: int, k: int = 3, s: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


@bug("batch-folded", ("", "reshape"), (5, 12, 40))
class SeriesViewedTooNarrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv1d(12, 24, 3, padding=1)
        self.p = nn.MaxPool1d(2)
        self.f = nn.Linear(120, 3)

    def forward(self, x: Tensor) -> Any:
        h = self.p(F.relu(self.c(x)))
        return self.f(torch.reshape(h, (-1, 120)))


@bug("batch-folded", ("", "view"), (4, 3, 8, 16, 16))
class VolumeViewedTooNarrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv3d(3, 8, 3, padding=1)
        self.p = nn.MaxPool3d((2, 4, 4))
        self.f = nn.Linear(128, 6)

    def forward(self, x: Tensor) -> Any:
        return self.f(self.p(self.c(x)).view(-1, 128))


@bug("batch-folded", ("inc", "cat"), (2, 16, 20, 20))
class InceptionAlongTheBatch(nn.Module):
    class Inc(nn.Module):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.a = nn.Conv2d(c, 16, 1)
            self.b = nn.Conv2d(c, 16, 3, padding=1)
            self.c = nn.Conv2d(c, 16, 5, padding=2)

        def forward(self, x: Tensor) -> Any:
            return torch.cat([self.a(x), self.b(x), self.c(x)], 0)

    def __init__(self) -> None:
        super().__init__()
        self.inc = self.Inc(16)
        self.tail = nn.Sequential(nn.Conv2d(16, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Any:
        return self.tail(self.inc(x))


@bug("batch-lost", ("", "sum"), (4, 6, 32))
class AttentionSumsSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(32, 1)
        self.o = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Any:
        a = torch.softmax(self.w(x), dim=1)
        return self.o((a * x).sum(dim=0))


@bug("batch-lost", ("dec.3.se", "mean"), (4, 8, 16, 16))
class GateDeepInADecoder(nn.Module):
    class Se(nn.Module):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.f = nn.Sequential(nn.Linear(c, c // 4), nn.ReLU(), nn.Linear(c // 4, c), nn.Sigmoid())

        def forward(self, x: Tensor) -> Any:
            w = self.f(x.mean((0, 2, 3)))
            return x * w[None, :, None, None]

    class Blk(nn.Module):
        def __init__(self, c: int, se: int) -> None:
            super().__init__()
            self.c = nn.Conv2d(c, c, 3, padding=1)
            self.se = GateDeepInADecoder.Se(c) if se else nn.Identity()

        def forward(self, x: Tensor) -> Any:
            return x + self.se(F.gelu(self.c(x)))

    def __init__(self) -> None:
        super().__init__()
        self.dec = nn.Sequential(*[self.Blk(8, i == 3) for i in range(6)])
        self.o = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Any:
        return self.o(self.dec(x))


@bug("batch-lost", ("", "einsum"), (4, 6, 8))
class EinsumSumsTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)
        self.o = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        return self.o(torch.einsum("btd->td", F.relu(self.q(x))))


@bug("batch-merged", ("", "ravel"), (1, 20, 8))
class RavelledSequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.LSTM(8, 16, batch_first=True)
        self.o = nn.Linear(320, 4)

    def forward(self, x: Tensor) -> Any:
        return self.o(self.l(x)[0].ravel())


@bug("batch-squeezed", ("enc", "squeeze"), (1, 1, 16000))
class EncoderOfSoundSqueezes(nn.Module):
    class Enc(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Conv1d(1, 32, 80, 16)
            self.p = nn.AdaptiveAvgPool1d(1)

        def forward(self, x: Tensor) -> Any:
            return self.p(F.relu(self.c(x))).squeeze()

    def __init__(self) -> None:
        super().__init__()
        self.enc = self.Enc()
        self.fc = nn.Linear(32, 35)

    def forward(self, x: Tensor) -> Any:
        return F.log_softmax(self.fc(self.enc(x)), dim=-1)


@bug("batch-squeezed", ("", "squeeze"), (1, 12, 8))
class LastStateSqueezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.LSTM(8, 16, batch_first=True)
        self.o = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Any:
        _, (h, _) = self.l(x)
        return self.o(h.squeeze())


@bug("batch-moved", ("dec", "stack"), (4, 16), severity="note")
class DecodedStepsInFront(nn.Module):
    class Dec(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.LSTMCell(16, 16)
            self.o = nn.Linear(16, 30)

        def forward(self, z: Tensor) -> Any:
            h = c = torch.zeros_like(z)
            outs = []
            for _ in range(7):
                h, c = self.c(z, (h, c))
                outs.append(self.o(h))
            return torch.stack(outs)

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Linear(16, 16)
        self.dec = self.Dec()

    def forward(self, x: Tensor) -> Any:
        return self.dec(torch.tanh(self.enc(x)))


@bug("batch-moved", ("", "einsum"), (4, 6, 8), severity="note")
class EinsumTurnsTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 12))

    def forward(self, x: Tensor) -> Any:
        return torch.einsum("btd,de->tbe", x, self.w).relu()


@bug("batch-fixed", ("", "reshape"), (4, 8, 24))
class HeadsForFourSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(24, 24)
        self.o = nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Any:
        q = self.q(x).reshape(4, 8, 3, 8).transpose(1, 2)
        a = (q @ q.transpose(-1, -2)).softmax(-1) @ q
        return self.o(a.transpose(1, 2).reshape(4, 8, 24))


@bug("batch-fixed", ("", "new_zeros"), (3, 5, 7))
class StateForThreeSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.LSTMCell(7, 9)
        self.o = nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Any:
        h = x.new_zeros(3, 9)
        c = x.new_zeros(3, 9)
        for t in range(x.size(1)):
            h, c = self.c(x[:, t], (h, c))
        return self.o(h)


@bug("batch-fixed", ("", "ones"), (4, 5, 7))
class MaskForFourSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Any:
        keep = torch.ones(4, 5, 1)
        return self.a(x * keep)


@bug("batch-mixed", ("head", "log_softmax"), (4, 3, 16, 16))
class PixelClassesOverTheBatch(nn.Module):
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Any:
            return self.c(x).log_softmax(0)

    def __init__(self) -> None:
        super().__init__()
        self.b = conv_bn(3, 8)
        self.head = self.Head()

    def forward(self, x: Tensor) -> Any:
        return self.head(self.b(x))


@bug("batch-broadcast", ("", "mse_loss"), (16, 5), (16,))
class LossPairsTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(5, 1)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return F.mse_loss(self.f(x), y)


@bug("batch-broadcast", ("", "smooth_l1_loss"), (16, 8), (16,))
class RobustLossPairsTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = nn.Linear(8, 1)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return F.smooth_l1_loss(self.n(x), y)


@bug("batch-broadcast", ("", "div"), (10, 10))
class NormsWithoutKeptDim(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Any:
        z = self.f(x)
        return z / z.norm(dim=1)


@bug("grown-map", ("layer3.1.conv2", "Conv2d"), (2, 3, 64, 64))
class GrownInTheLastStage(nn.Module):
    class B(nn.Module):
        def __init__(self, c: int, p: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(c, c, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(c)
            self.conv2 = nn.Conv2d(c, c, 3, padding=p)

        def forward(self, x: Tensor) -> Any:
            return F.relu(self.conv2(F.relu(self.bn(self.conv1(x)))))

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, s=2)
        self.layer1 = nn.Sequential(self.B(8, 1), self.B(8, 1))
        self.layer2 = nn.Sequential(self.B(8, 1), self.B(8, 1))
        self.layer3 = nn.Sequential(self.B(8, 1), self.B(8, 2))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.layer3(self.layer2(self.layer1(self.stem(x)))).mean((2, 3)))


@bug("grown-map", ("c.1", "Conv3d"), (2, 2, 8, 16, 16))
class GrownInTwoOfThreeDims(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=(1, 2, 2)), nn.ReLU())
        self.o = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.o(self.c(x).mean((2, 3, 4)))


@bug("collapsed-map", ("features.15", "Conv2d"), (2, 3, 32, 32))
def FiveHalvingsOfThirtyTwo() -> nn.Module:
    layers = []
    c = 3
    for o in (8, 16, 16, 16, 16):
        layers += [nn.Conv2d(c, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        c = o
    layers += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    from collections import OrderedDict

    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers), flat=nn.Flatten(), fc=nn.Linear(16, 10)))


@bug("sequence-order", ("enc", "TransformerEncoder"), (4, 12, 16))
class EncoderBehindAToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, 16))
        self.enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 2, enable_nested_tensor=False)
        self.o = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1)
        return self.o(self.enc(x)[:, 0])


@bug("sequence-order", ("blocks.1.attn", "MultiheadAttention"), (2, 16))
class OneAttentionOfThree(nn.Module):
    class Blk(nn.Module):
        def __init__(self, bf: int) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(16, 2, batch_first=bf)
            self.n = nn.LayerNorm(16)
            self.m = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

        def forward(self, x: Tensor) -> Any:
            y = self.n(x)
            x = x + self.attn(y, y, y, need_weights=False)[0]
            return x + self.m(x)

    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Embedding(64, 16)
        self.blocks = nn.ModuleList([self.Blk(True), self.Blk(False), self.Blk(True)])
        self.h = nn.Linear(16, 64)

    def forward(self, i: Tensor) -> Any:
        x = self.e(i)
        for b in self.blocks:
            x = b(x)
        return self.h(x)


@bug("sequence-order", ("dec", "GRU"), (4, 10, 6))
class DecoderInTheOtherOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.GRU(6, 12, batch_first=True)
        self.dec = nn.GRU(12, 12)
        self.o = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Any:
        y, _ = self.enc(x)
        z, _ = self.dec(y)
        return self.o(z)


@bug("reshape-swap", ("attn", "view"), (2, 10, 24))
class HeadsCutOutOfTheTime(nn.Module):
    class A(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Linear(24, 24)
            self.k = nn.Linear(24, 24)
            self.v = nn.Linear(24, 24)
            self.o = nn.Linear(24, 24)

        def forward(self, x: Tensor) -> Any:
            B, T, C = x.shape
            q, k, v = (f(x).view(B, 4, T, 6) for f in (self.q, self.k, self.v))
            y = F.scaled_dot_product_attention(q, k, v)
            return self.o(y.transpose(1, 2).reshape(B, T, C))

    def __init__(self) -> None:
        super().__init__()
        self.attn = self.A()
        self.h = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Any:
        return self.h(self.attn(x)[:, 0])


@bug("reshape-swap", ("", "reshape"), (2, 10, 24))
class HeadsMergedUnturned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(24, 72)
        self.o = nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Any:
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, 4, 6).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(-2, -1) / 6**0.5).softmax(-1) @ v
        return self.o(y.reshape(B, T, C))


@bug("reshape-swap", ("", "reshape"), (2, 16, 16, 3))
class ChannelsLastReadAsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = conv_bn(3, 8)
        self.h = nn.Linear(8, 2)

    def forward(self, img: Tensor) -> Any:
        return self.h(self.n(torch.reshape(img, (img.shape[0], 3, 16, 16))).mean((-1, -2)))


@bug("wrong-axis", ("blk.ln", "LayerNorm"), (2, 16, 8, 16))
class NormOfTheWidth(nn.Module):
    class Blk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dw = nn.Conv2d(16, 16, 7, padding=3, groups=16)
            self.ln = nn.LayerNorm(16)
            self.pw = nn.Conv2d(16, 16, 1)

        def forward(self, x: Tensor) -> Any:
            return x + self.pw(F.gelu(self.ln(self.dw(x))))

    def __init__(self) -> None:
        super().__init__()
        self.blk = self.Blk()
        self.h = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Any:
        return self.h(self.blk(x))


@bug("batch-folded", ("", "view"), {"x": (6, 3, 32, 32)})
class FoldedBesideAKeptLeaf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = nn.Sequential(conv_bn(3, 8, s=2), conv_bn(8, 16, s=2))
        self.f = nn.Linear(256, 4)

    def head(self, h: Tensor) -> Any:
        return self.f(h.view(-1, 256))

    def forward(self, x: Tensor) -> Any:
        h = self.n(x)
        return {"feat": h, "out": self.head(h)}


@bug("batch-lost", ("", "mean"), {"image": (8, 3, 16, 16), "text": (8, 12)})
class TwoTowersAveraged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v = conv_bn(3, 16)
        self.t = nn.Embedding(99, 16)
        self.o = nn.Linear(32, 4)

    def forward(self, image: Tensor, text: Tensor) -> Any:
        i = self.v(image).mean((2, 3))
        t = self.t(text).mean(1)
        z = torch.cat([i, t], -1)
        return {"logits": self.o(z.mean(0)), "z": z}


@bug("reshape-swap", ("", "view"), (4, 7, 6))
class StatesOfTwoSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.LSTM(6, 10, bidirectional=True, batch_first=True)
        self.o = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Any:
        _, (h, _) = self.g(x)
        return self.o(h.view(x.size(0), -1))


@bug("batch-squeezed", ("crit", "squeeze"), (1, 3, 32, 32), mode="train")
class CriticSqueezes(nn.Module):
    class C(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 16))

        def forward(self, x: Tensor) -> Any:
            return self.n(x).squeeze()

    def __init__(self) -> None:
        super().__init__()
        self.crit = self.C()

    def forward(self, x: Tensor) -> Any:
        return torch.sigmoid(self.crit(x))


@bug("batch-mixed", ("gate", "Softmax"), (8, 16))
class GateOverTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Linear(16, 4)
        self.gate = nn.Softmax(0)
        self.e = nn.ModuleList([nn.Linear(16, 6) for _ in range(4)])

    def forward(self, x: Tensor) -> Any:
        w = self.gate(self.g(x))
        return sum((w[:, i : i + 1] * e(x) for i, e in enumerate(self.e)))


@bug("batch-fixed", ("pos", "expand"), (4, 9, 12))
class TokenForFourSamples(nn.Module):
    class Pos(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls = nn.Parameter(torch.zeros(1, 1, 12))

        def forward(self, x: Tensor) -> Any:
            return torch.cat([self.cls.expand(4, -1, -1), x], 1)

    def __init__(self) -> None:
        super().__init__()
        self.pos = self.Pos()
        self.o = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Any:
        return self.o(self.pos(x)[:, 0])


@bug("unregistered-layer", ("", "matmul"), (4, 16))
class PlainTensorAsWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 8)
        self.w = [torch.randn(8, 4, requires_grad=True)]

    def forward(self, x: Tensor) -> Any:
        return self.a(x) @ self.w[0]


@bug("strange-dtype", ("pe", "add"), (4, 8, 16))
class PositionsFromNumpy(nn.Module):
    class Pe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("t", torch.from_numpy(np.sin(np.arange(8)[:, None] * np.ones((1, 16)))))

        def forward(self, x: Tensor) -> Any:
            return x + self.t

    def __init__(self) -> None:
        super().__init__()
        self.pe = self.Pe()
        self.n = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Any:
        return self.pe(self.n(x))


@bug("batch-folded", ("rec", "reshape"), (4, 7, 6), severity="note")
class StatesAsRows(nn.Module):
    class Rec(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.g = nn.GRU(6, 10, num_layers=2, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            _, h = self.g(x)
            return h.reshape(-1, 10)

    def __init__(self) -> None:
        super().__init__()
        self.rec = self.Rec()
        self.o = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Any:
        return self.o(self.rec(x))
