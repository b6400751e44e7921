"""Families of nets that do odd things on purpose: flows, policies, graphs, codebooks, sequence-first and more."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import clean


def conv_bn(i: int, o: int, k: int = 3, s: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


@clean("batch-folded", (2, 16, 16, 12))
class ShiftedWindows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = nn.LayerNorm(12)
        self.a = nn.MultiheadAttention(12, 2, batch_first=True)
        self.o = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        B, H, W, C = x.shape
        y = (
            torch.roll(self.n(x), (-2, -2), (1, 2))
            .view(B, H // 4, 4, W // 4, 4, C)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(-1, 16, C)
        )
        y = self.a(y, y, y)[0].view(B, H // 4, W // 4, 4, 4, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
        return self.o((x + torch.roll(y, (2, 2), (1, 2))).mean((1, 2)))


@clean("batch-folded", (2, 5, 3, 16, 16))
class FramesOneByOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Sequential(conv_bn(3, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.l = nn.LSTM(8, 12, batch_first=True)
        self.o = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Any:
        b, t = x.shape[:2]
        f = self.c(x.flatten(0, 1)).view(b, t, -1)
        return self.o(self.l(f)[0][:, -1])


@clean("reshape-swap", (2, 16, 8, 8))
class GroupsShuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Conv2d(16, 16, 1, groups=4)
        self.o = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.g(x)
        b, c, h, w = y.shape
        return self.o(y.view(b, 4, c // 4, h, w).transpose(1, 2).contiguous().view(b, c, h, w))


@clean("batch-folded", (2, 10, 16))
class ExpertsOnFlatTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Linear(16, 4)
        self.e = nn.ModuleList([nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(4)])

    def forward(self, x: Tensor) -> Any:
        flat = x.reshape(-1, 16)
        w, i = self.g(flat).softmax(-1).topk(2)
        out = torch.zeros_like(flat)
        for k, e in enumerate(self.e):
            m = (i == k).to(flat.dtype) * w
            out = out + m.sum(-1, keepdim=True) * e(flat)
        return out.view_as(x)


@clean("batch-folded", (8, 3, 16, 16), (8, 3, 16, 16), mode="train")
class TwoViewsContrasted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(conv_bn(3, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16))

    def forward(self, a: Tensor, b: Tensor) -> Any:
        z = F.normalize(self.f(torch.cat([a, b])), dim=-1)
        n = a.size(0)
        sim = z @ z.t() / 0.1
        sim = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), -1000000000.0)
        tgt = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
        return F.cross_entropy(sim, tgt)


@clean("batch-moved", (8, 20), (8, 20))
class BothWaysOfLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(20, 16)
        self.b = nn.Linear(20, 16)
        self.t = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, y: Tensor) -> Any:
        a = F.normalize(self.a(x), dim=1)
        b = F.normalize(self.b(y), dim=1)
        layer = self.t.exp() * a @ b.T
        return (layer, layer.T)


@clean("batch-lost", (2, 3, 16, 16), mode="train")
class CodesOfVectors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Conv2d(3, 8, 4, 4)
        self.cb = nn.Embedding(32, 8)
        self.d = nn.ConvTranspose2d(8, 3, 4, 4)

    def forward(self, x: Tensor) -> Any:
        z = self.e(x).permute(0, 2, 3, 1)
        f = z.reshape(-1, 8)
        d = (f**2).sum(1, keepdim=True) + (self.cb.weight**2).sum(1) - 2 * f @ self.cb.weight.t()
        i = d.argmin(1)
        q = self.cb(i).view(z.shape)
        loss = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(q.detach(), z)
        q = z + (q - z).detach()
        avg = F.one_hot(i, 32).float().mean(0)
        perp = torch.exp(-(avg * (avg + 1e-10).log()).sum())
        return (self.d(q.permute(0, 3, 1, 2)), loss, perp, i)


@clean("sequence-order", (20, 4, 16))
class EncoderOfSequenceFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pe = nn.Parameter(torch.zeros(50, 1, 16))
        self.t = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 2, enable_nested_tensor=False)
        self.o = nn.Linear(16, 9)

    def forward(self, src: Tensor) -> Any:
        return self.o(self.t(src + self.pe[: src.size(0)]))


@clean("batch-folded", (35, 20))
class WordsSequenceFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Embedding(100, 16)
        self.r = nn.LSTM(16, 24, 2)
        self.d = nn.Linear(24, 100)

    def forward(self, ids: Tensor) -> Any:
        y, h = self.r(self.e(ids))
        return (F.log_softmax(self.d(y).view(-1, 100), dim=1), h)


@clean("batch-folded", (2, 100, 256), (2, 100, 4))
class BoxesAsRows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(256, 32)
        self.c = nn.Linear(32, 21)
        self.b = nn.Linear(32, 84)

    def forward(self, feats: Tensor, boxes: Tensor) -> Any:
        h = F.relu(self.f(feats.view(-1, 256)))
        return (self.c(h), self.b(h))


@clean("batch-lost", (30, 16), (2, 60))
class NodesWithoutABatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 32)
        self.b = nn.Linear(32, 7)

    def conv(self, x: Tensor, ei: Tensor) -> Any:
        src, dst = ei
        return torch.zeros_like(x).index_add(0, dst, x[src]) + x

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        edge_index = edge_index.long().clamp(0, 29)
        return F.log_softmax(self.conv(self.b(F.relu(self.conv(self.a(x), edge_index))), edge_index), dim=1)


@clean("batch-broadcast", (30, 16), (30, 30))
class AttentionOfNodes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(16, 8, bias=False)
        self.a1 = nn.Linear(8, 1)
        self.a2 = nn.Linear(8, 1)

    def forward(self, h: Tensor, adj: Tensor) -> Any:
        z = self.w(h)
        e = F.leaky_relu(self.a1(z) + self.a2(z).T)
        e = torch.where(adj > 0, e, -9000000000000000.0 * torch.ones_like(e))
        return F.elu(F.softmax(e, dim=1) @ z)


@clean("batch-squeezed", (8, 6))
class FlowAndItsLogarithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 6)) for _ in range(4)])

    def forward(self, x: Tensor) -> Any:
        ld = torch.zeros(x.size(0))
        for n in self.nets:
            a, b = x.chunk(2, 1)
            sc, t = n(a).chunk(2, 1)
            b = b * sc.exp() + t
            ld = ld + sc.sum(1)
            x = torch.cat([b, a], 1)
        return (x, ld)


@clean("batch-lost", (8, 3, 8, 8))
class MixedChannelsOfAFlow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.eye(3))

    def forward(self, x: Tensor) -> Any:
        h, w = x.shape[2:]
        return (F.conv2d(x, self.w[:, :, None, None]), torch.slogdet(self.w)[1] * h * w)


@clean("batch-squeezed", (16, 4))
class PolicyAndValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Sequential(nn.Linear(4, 32), nn.Tanh())
        self.pi = nn.Linear(32, 2)
        self.v = nn.Linear(32, 1)
        self.log_std = nn.Parameter(torch.zeros(2))

    def forward(self, o: Tensor) -> Any:
        h = self.b(o)
        d = torch.distributions.Normal(self.pi(h), self.log_std.exp())
        a = d.rsample()
        return (a, d.log_prob(a).sum(-1), self.v(h).squeeze(-1))


@clean("batch-folded", (5, 8, 84), mode="eval")
class RolloutsTimeMajor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(84, 16)
        self.l = nn.LSTM(16, 16)
        self.p = nn.Linear(16, 4)
        self.v = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Any:
        T, B = x.shape[:2]
        h = F.relu(self.f(x.view(T * B, -1))).view(T, B, -1)
        h, _ = self.l(h)
        h = h.view(T * B, -1)
        return (self.p(h).view(T, B, -1), self.v(h).view(T, B))


@clean("batch-lost", (4, 16))
class SamplesAveraged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Linear(16, 8)
        self.d = nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Any:
        m = self.m(x)
        e = torch.randn(5, *m.shape)
        return self.d(m + e).mean(0)


@clean("batch-lost", (2, 3, 32, 32))
class GramOfEverySample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = conv_bn(3, 8)
        self.d = conv_bn(8, 16, s=2)

    def gram(self, f: Tensor) -> Any:
        b, c, h, w = f.shape
        f = f.view(b, c, h * w)
        return f @ f.transpose(1, 2) / (c * h * w)

    def forward(self, x: Tensor) -> Any:
        a = self.c(x)
        return [self.gram(a), self.gram(self.d(a))]


@clean("batch-merged", (1, 3, 32, 32))
class GramOfOnePicture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = conv_bn(3, 8)

    def forward(self, x: Tensor) -> Any:
        a, b, c, d = self.c(x).size()
        f = self.c(x).view(a * b, c * d)
        return torch.mm(f, f.t()).div(a * b * c * d)


@clean("batch-mixed", (2, 1, 28, 28))
class CapsulesRouted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(1, 16, 9)
        self.p = nn.Conv2d(16, 32, 9, 2)
        self.W = nn.Parameter(torch.randn(1, 144, 10, 16, 8))

    def squash(self, x: Tensor, d: Tensor = -1) -> Any:
        n = (x**2).sum(d, keepdim=True)
        return n / (1 + n) * x / (n + 1e-08).sqrt()

    def forward(self, x: Tensor) -> Any:
        u = self.squash(self.p(F.relu(self.c(x))).view(x.size(0), 32, -1).permute(0, 2, 1).reshape(x.size(0), -1, 8))
        uh = (self.W @ u[:, :, None, :, None]).squeeze(-1)
        b = torch.zeros(x.size(0), 144, 10, 1)
        for _ in range(2):
            c = b.softmax(2)
            v = self.squash((c * uh).sum(1, keepdim=True))
            b = b + (uh * v).sum(-1, keepdim=True)
        return v.squeeze(1).norm(dim=-1)


@clean("batch-fixed", (4, 8), (4, 10, 3))
class WeightsFromANet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h = nn.Linear(8, 3 * 5 + 5)

    def forward(self, z: Tensor, x: Tensor) -> Any:
        p = self.h(z)
        W = p[:, :15].view(-1, 5, 3)
        b = p[:, 15:]
        return torch.bmm(x, W.transpose(1, 2)) + b[:, None]


@clean("reshape-swap", (2, 1, 28, 28))
class PictureStraightened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Sequential(
            nn.Conv2d(1, 8, 7), nn.MaxPool2d(2, 2), nn.ReLU(), nn.Conv2d(8, 10, 5), nn.MaxPool2d(2, 2), nn.ReLU()
        )
        self.f = nn.Sequential(nn.Linear(90, 32), nn.ReLU(), nn.Linear(32, 6))
        self.o = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Any:
        t = self.f(self.l(x).view(-1, 90)).view(-1, 2, 3)
        x = F.grid_sample(x, F.affine_grid(t, x.size(), align_corners=False), align_corners=False)
        return self.o(x.flatten(1))


@clean("batch-merged", (2, 8, 8, 8), (2, 16))
class KernelsOfEverySample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Linear(16, 8 * 9)

    def forward(self, x: Tensor, z: Tensor) -> Any:
        B, C, H, W = x.shape
        k = self.k(z).view(B * C, 1, 3, 3)
        return F.conv2d(x.reshape(1, B * C, H, W), k, padding=1, groups=B * C).view(B, C, H, W)


@clean("batch-lost", (5, 3, 16, 16), (20, 3, 16, 16))
class PrototypesOfClasses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Sequential(conv_bn(3, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, sup: Tensor, q: Tensor) -> Any:
        p = self.e(sup).view(5, 1, -1).mean(1)
        z = self.e(q)
        return -((z[:, None] - p[None]) ** 2).sum(-1)


@clean("reshape-swap", (2, 3, 64, 64))
class BoxesOfTwoMaps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv_bn(3, 8, s=2)
        self.b = conv_bn(8, 8, s=2)
        self.c = nn.ModuleList([nn.Conv2d(8, 12, 3, padding=1) for _ in range(2)])

    def forward(self, x: Tensor) -> Any:
        fs = [self.a(x)]
        fs.append(self.b(fs[0]))
        return torch.cat(
            [c(f).permute(0, 2, 3, 1).reshape(x.size(0), -1, 4) for c, f in zip(self.c, fs, strict=True)], 1
        )


@clean("reshape-swap", (2, 3, 64, 64))
class GridOfBoxes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv_bn(3, 8, s=2)
        self.h = nn.Conv2d(8, 3 * 9, 1)

    def forward(self, x: Tensor) -> Any:
        p = self.h(self.a(x))
        b, _, h, w = p.shape
        p = p.view(b, 3, 9, h, w).permute(0, 1, 3, 4, 2).contiguous()
        gy, gx = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        xy = (p[..., :2].sigmoid() + torch.stack([gx, gy], -1)) * 2
        return torch.cat([xy, p[..., 2:]], -1).view(b, -1, 9)


@clean("collapsed-map", (2, 4, 32, 32))
class PooledBesideDilated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bs = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=d, dilation=d) for d in (1, 6, 12)])
        self.g = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
        self.o = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Any:
        return self.o(torch.cat([b(x) for b in self.bs] + [F.interpolate(self.g(x), x.shape[2:])], 1))


@clean("grown-map", (2, 4, 100))
class CausalByASubclass(nn.Module):
    class Causal(nn.Conv1d):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x)[:, :, : -self.padding[0]]

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Sequential(
            *[x for d in (1, 2, 4) for x in (self.Causal(4, 4, 3, padding=2 * d, dilation=d), nn.ReLU())]
        )
        self.o = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.o(self.c(x).transpose(1, 2))


@clean("sequence-order", (2, 2, 80, 100))
class ColumnsReadInOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(2, 8, 3, (2, 2), 1)
        self.r = nn.GRU(8 * 40, 16, bidirectional=True)
        self.o = nn.Linear(32, 11)

    def forward(self, x: Tensor) -> Any:
        f = self.c(x)
        f = f.flatten(1, 2).permute(2, 0, 1)
        y, _ = self.r(f)
        return self.o(y).log_softmax(2)


@clean("sequence-order", (4, 12), (4, 9))
class AttentionBetweenTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Embedding(50, 16)
        self.b = nn.Embedding(60, 16)
        self.e = nn.GRU(16, 16, batch_first=True)
        self.d = nn.GRU(16, 16, batch_first=True)
        self.at = nn.Linear(16, 16)
        self.o = nn.Linear(32, 60)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        m, h = self.e(self.a(x))
        q, _ = self.d(self.b(y), h)
        w = (self.at(q) @ m.mT).softmax(-1)
        return self.o(torch.cat([q, w @ m], -1))


@clean("batch-broadcast", (4, 12))
class MaskedMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Embedding(50, 16, padding_idx=0)
        self.o = nn.Linear(16, 2)

    def forward(self, ids: Tensor) -> Any:
        m = (ids != 0).float()[..., None]
        return self.o((self.e(ids) * m).sum(1) / m.sum(1).clamp(min=1))


@clean("batch-broadcast", (8, 10))
class AdvantageKeepsItsDim(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(10, 6)
        self.v = nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Any:
        a = self.a(x)
        return self.v(x) + a - a.mean(1, keepdim=True)


@clean("batch-broadcast", (16, 32))
class FactorisedPairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(32, 8))
        self.l = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Any:
        a = (x @ self.v) ** 2
        b = x**2 @ self.v**2
        return torch.sigmoid(self.l(x).squeeze(1) + 0.5 * (a - b).sum(1))


@clean("batch-moved", (16, 10), dtypes=[torch.int64])
class FieldsEmbeddedApart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.ModuleList([nn.Embedding(20, 4) for _ in range(10)])
        self.m = nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Any:
        e = torch.stack([m(x[:, i]) for i, m in enumerate(self.e)], 1)
        fm = 0.5 * (e.sum(1) ** 2 - (e**2).sum(1)).sum(1)
        return torch.sigmoid(self.m(e.flatten(1)).squeeze(1) + fm)


@clean("reshape-swap", (2, 16, 8, 8))
class PixelsAttend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Conv2d(16, 4, 1)
        self.k = nn.Conv2d(16, 4, 1)
        self.v = nn.Conv2d(16, 16, 1)
        self.g = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        B, C, H, W = x.shape
        q = self.q(x).view(B, -1, H * W).permute(0, 2, 1)
        a = (q @ self.k(x).view(B, -1, H * W)).softmax(-1)
        return self.g * (self.v(x).view(B, C, -1) @ a.mT).view(B, C, H, W) + x


@clean("wrong-axis", (2, 16, 8, 8))
class GatesOfBothKinds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16))
        self.c = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Any:
        w = torch.sigmoid(self.m(x.mean((2, 3))) + self.m(x.amax((2, 3))))[..., None, None]
        x = x * w
        return x * torch.sigmoid(self.c(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


@clean("collapsed-map", (2, 16, 8, 8))
class ChannelsConvolved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.AdaptiveAvgPool2d(1)
        self.c = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Any:
        y = self.c(self.p(x).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * y.sigmoid()


@clean("reshape-swap", (2, 8, 12, 10))
class SkeletonInTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(3, 10, 10))
        self.c = nn.Conv2d(8, 24, 1)
        self.t = nn.Conv2d(8, 8, (9, 1), padding=(4, 0))

    def forward(self, x: Tensor) -> Any:
        y = self.c(x)
        n, _, t, v = y.shape
        y = y.view(n, 3, 8, t, v)
        return self.t(torch.einsum("nkctv,kvw->nctw", y, self.A))


@clean("batch-folded", (4, 64, 3))
class PointsTurned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Sequential(nn.Conv1d(3, 16, 1), nn.ReLU())
        self.f = nn.Linear(16, 9)
        self.c = nn.Conv1d(3, 16, 1)
        self.o = nn.Linear(16, 5)

    def forward(self, p: Tensor) -> Any:
        x = p.transpose(2, 1)
        m = self.f(self.t(x).max(2)[0]).view(-1, 3, 3) + torch.eye(3)
        x = (p @ m).transpose(2, 1)
        return F.log_softmax(self.o(self.c(x).max(2)[0]), 1)


@clean("batch-folded", (2, 20, 3))
class NeighboursByOffset(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(6, 8, 1)
        self.o = nn.Linear(8, 2)

    def forward(self, p: Tensor) -> Any:
        d = torch.cdist(p, p)
        i = d.topk(4, largest=False)[1]
        B, N, k = i.shape
        i = (i + torch.arange(B).view(-1, 1, 1) * N).view(-1)
        f = p.reshape(B * N, -1)[i].view(B, N, k, 3)
        c = p[:, :, None].expand_as(f)
        return self.o(self.c(torch.cat([f - c, c], 3).permute(0, 3, 1, 2)).amax(-1).amax(-1))


@clean("batch-folded", (2, 10, 16), mode="train")
class LossBesideLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(16, 30)

    def forward(self, h: Tensor) -> Any:
        logits = self.l(h)
        lab = logits.argmax(-1)
        return {"loss": F.cross_entropy(logits[:, :-1].reshape(-1, 30), lab[:, 1:].reshape(-1)), "logits": logits}


@clean("wrong-axis", (4, 16, 12))
class TokensAndChannelsMixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.c = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        self.n = nn.LayerNorm(12)
        self.o = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        x = x + self.t(self.n(x).transpose(1, 2)).transpose(1, 2)
        return self.o((x + self.c(self.n(x))).mean(1))


@clean("reused-layer", (2, 4, 16, 16))
class MapsRemembered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Conv2d(12, 32, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        h = c = torch.zeros(x.size(0), 8, *x.shape[2:])
        for _ in range(3):
            i, f, o, g = self.g(torch.cat([x, h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return (h, c)


@clean("batch-broadcast", (3, 7), (3,))
class ForwardAlgorithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.T = nn.Parameter(torch.randn(7, 7))

    def forward(self, emis: Tensor, lens: Tensor) -> Any:
        a = emis
        for _ in range(3):
            a = torch.logsumexp(a[:, :, None] + self.T[None], 1) + emis
        return torch.logsumexp(a, 1).mean()


@clean("batch-broadcast", (2, 6, 8), (2, 6, 6))
class ArcsOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(5, 9, 9))
        self.l = nn.Linear(8, 8)

    def forward(self, x: Tensor, m: Tensor) -> Any:
        y = torch.cat([self.l(x), torch.ones_like(x[..., :1])], -1)
        y = y.unsqueeze(1)
        return (y @ self.W @ y.transpose(-1, -2)).permute(0, 2, 3, 1) + m[..., None]


@clean("batch-lost", (6, 3, 16, 16))
class CropsAveraged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Sequential(conv_bn(3, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.h = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Any:
        outs = [self.h(self.b(c)) for c in (x, x.flip(-1))]
        return torch.cat(outs).view(2, x.size(0), -1).mean(0)


@clean("odd-map", (1, 3, 32, 32))
class PyramidOfLevels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv_bn(3, 8, s=2)
        self.b = conv_bn(8, 8, s=2)
        self.l = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Any:
        a = self.a(x)
        b = self.b(a)
        return {"p2": self.l(a) + F.interpolate(self.l(b), size=a.shape[-2:]), "p3": self.l(b)}


@clean("reshape-swap", (4, 1, 66))
class PeriodsOfSound(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(1, 4, (5, 1), (3, 1), (2, 0))
        self.p = nn.Conv2d(4, 1, (3, 1), 1, (1, 0))

    def forward(self, x: Tensor) -> Any:
        b, c, t = x.shape
        x = F.pad(x, (0, 5 - t % 5), "reflect")
        x = self.p(self.c(x.view(b, c, -1, 5)))
        return torch.flatten(x, 1, -1)


@clean("batch-broadcast", (4, 6), (4, 8, 6))
class CandidateAgainstHistory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(24, 1)

    def forward(self, q: Tensor, k: Tensor) -> Any:
        Q = q[:, None].expand(-1, k.size(1), -1)
        w = self.f(torch.cat([Q, k, Q - k, Q * k], -1))
        return (w.transpose(1, 2) @ k).squeeze(1)


@clean("batch-moved", (2, 12, 64))
class AttentionByEinsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(64, 192)
        self.o = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Any:
        q, k, v = (t.unflatten(-1, (4, 16)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        c = torch.einsum("bhnd,bhne->bhde", k.softmax(-2), v)
        return self.o(torch.einsum("bhde,bhnd->bhne", c, q.softmax(-1)).transpose(1, 2).flatten(2))


@clean("batch-lost", (2, 12, 8))
class EinsumOfPairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        return torch.einsum("bij,bkj->bik", self.l(x), x).softmax(-1)


@clean("batch-broadcast", (8, 5), (8,))
class LossOfEqualRanks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(5, 1)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return (F.mse_loss(self.f(x).squeeze(-1), y), F.mse_loss(self.f(x), y[:, None]))


@clean("odd-map", (2, 3, 33, 33))
class CroppedAtTheEnd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv_bn(3, 8, s=2)
        self.u = nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.u(self.a(x))
        return y[:, :, : x.shape[2], : x.shape[3]]


@clean("sequence-order", (6, 5, 16))
class SeedsPoolASet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Parameter(torch.randn(1, 1, 16))
        self.a = nn.MultiheadAttention(16, 2, batch_first=True)
        self.o = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Any:
        return self.o(self.a(self.q.expand(x.size(0), -1, -1), x, x)[0].squeeze(1))


@clean("batch-moved", (3, 10, 4))
class StatesScanned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(-torch.rand(4, 6))
        self.b = nn.Linear(4, 6)

    def forward(self, u: Tensor) -> Any:
        h = torch.zeros(u.size(0), 4, 6)
        ys = []
        for t in range(u.size(1)):
            h = torch.exp(self.A) * h + u[:, t, :, None] * self.b(u[:, t])[:, None]
            ys.append(h.sum(-1))
        return torch.stack(ys, 1)


@clean("batch-lost", (4, 10), mode="train")
class CrossCorrelation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Sequential(nn.Linear(10, 12), nn.BatchNorm1d(12))

    def forward(self, x: Tensor) -> Any:
        z = self.p(x)
        z2 = self.p(x + 0.1 * torch.randn_like(x))
        c = z.T @ z2 / x.size(0)
        return ((c - torch.eye(12)) ** 2).sum()


@clean("batch-broadcast", (4, 10), mode="train")
class SamplesCompared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.T = nn.Parameter(torch.randn(10, 6 * 3))
        self.o = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Any:
        M = (x @ self.T).view(-1, 6, 3)
        d = (M[None] - M[:, None]).abs().sum(3)
        return self.o(torch.cat([x, torch.exp(-d).sum(0) - 1], 1))


@clean("batch-lost", (4, 8, 4, 4), mode="train")
class DeviationAsChannel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(9, 1, 4)

    def forward(self, x: Tensor) -> Any:
        sd = torch.sqrt(x.var(0, unbiased=False) + 1e-08).mean().view(1, 1, 1, 1).expand(x.size(0), 1, 4, 4)
        return self.c(torch.cat([x, sd], 1)).view(-1)


@clean("batch-folded", (1, 3, 16, 16))
class BoxesOfOnePicture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = conv_bn(3, 8)
        self.h = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        p = self.h(self.c(x))
        return p.permute(0, 2, 3, 1).reshape(-1, 4)


@clean("batch-folded", (2, 7, 3, 16, 16))
class ViewsPooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = nn.Sequential(conv_bn(3, 8), nn.AdaptiveAvgPool2d(1))
        self.h = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        B, V = x.shape[:2]
        y = self.n(x.view(-1, *x.shape[2:]))
        return self.h(y.view(B, V, -1).max(1)[0])


@clean("batch-lost", (10, 8, 16))
class AttentionOverStepsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Any:
        return (F.softmax(self.score(x), 0) * x).sum(0)


@clean("batch-moved", (20, 16))
class BagAndItsAttention(nn.Module):
    """One answer for a bag of instances, and what each instance weighed in it."""

    def __init__(self) -> None:
        super().__init__()
        self.values, self.gates, self.score = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(8, 1)
        self.head = nn.Linear(16, 1)

    def forward(self, bag: Tensor) -> Any:
        attention = self.score(torch.tanh(self.values(bag)) * torch.sigmoid(self.gates(bag))).T.softmax(1)
        return torch.sigmoid(self.head(attention @ bag)), attention
