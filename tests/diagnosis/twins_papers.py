"""Models of papers as they are written anew, each with one mistake, and its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class AttentionOf(nn.Module):
    def __init__(self, width, read, heads=4):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_kv = nn.Linear(width, 32), nn.Linear(read, 64)
        self.to_out = nn.Linear(32, width)

    def forward(self, x, context):
        b = context.shape[0]
        k, v = self.to_kv(context).chunk(2, dim=-1)
        q, k, v = (t.reshape(b, -1, self.heads, 8).transpose(1, 2) for t in (self.to_q(x), k, v))
        return self.to_out(((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).flatten(2))


class LatentsWithoutBatch(nn.Module):
    def __init__(self, count=16):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(count, 32))
        self.cross = AttentionOf(32, 12)

    def forward(self, data):
        x = self.latents
        return x + self.cross(x, data)


@twin(LatentsWithoutBatch, (2, 50, 12), reason="'latents' [16, 32] has no batch")
class LatentsWithoutBatchT(LatentsWithoutBatch):
    def forward(self, data):
        x = self.latents.unsqueeze(0).repeat(data.size(0), 1, 1)
        return x + self.cross(x, data)


class LatentsThatDoNotPart(LatentsWithoutBatch):
    def __init__(self):
        super().__init__(15)


@twin(LatentsThatDoNotPart, (2, 50, 12), reason="'latents' [15, 32] has no batch")
class LatentsThatDoNotPartT(LatentsWithoutBatchT):
    def __init__(self):
        super().__init__(15)


class OfGraph(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 12, bias=False)

    def forward(self, x, adj):
        h = self.lin(x).view(-1, 3, 4)
        e = (h * self.a_src).sum(-1).unsqueeze(1) + (h * self.a_dst).sum(-1).unsqueeze(0)
        a = e.masked_fill(adj.unsqueeze(-1) == 0, -1e9).softmax(1)
        return torch.einsum("ijh,jhf->ihf", a, h).flatten(1)


class AttentionOfGraph(OfGraph):
    def __init__(self):
        super().__init__()
        self.a_src = nn.Parameter(torch.randn(4, 3))
        self.a_dst = nn.Parameter(torch.randn(4, 3))


@twin(AttentionOfGraph, (6, 8), (6, 6), reason="'a_src' [4, 3] has the dims of [6, 3, 4] in another order")
class AttentionOfGraphT(OfGraph):
    def __init__(self):
        super().__init__()
        self.a_src = nn.Parameter(torch.randn(3, 4))
        self.a_dst = nn.Parameter(torch.randn(3, 4))


class ModulatesOutputs(nn.Module):
    def __init__(self, units=12):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 8, 3, 3))
        self.affine = nn.Linear(16, units)

    def forward(self, x, w):
        b, c, h, wd = x.shape
        s = self.affine(w).view(b, 1, -1, 1, 1)
        weight = (self.weight.unsqueeze(0) * (s + 1)).flatten(0, 1)
        return F.conv2d(x.reshape(1, b * c, h, wd), weight, padding=1, groups=b).view(b, -1, h, wd)


@twin(
    ModulatesOutputs, (2, 8, 8, 8), (2, 16), reason="'affine' (Linear) outputs 12, 'weight' [12, 8, 3, 3] has 8 there"
)
class ModulatesOutputsT(ModulatesOutputs):
    def __init__(self):
        super().__init__(8)


class StepsBesideChannels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 4, 4)
        self.pos = nn.Parameter(torch.rand(64, 1, 32))
        self.layer = nn.TransformerEncoderLayer(32, 4, 64)

    def forward(self, x):
        h = self.conv(x)
        return self.layer(self.pos + 0.1 * h.flatten(2))


@twin(StepsBesideChannels, (2, 3, 32, 32), reason="have their dims in other orders")
class StepsBesideChannelsT(StepsBesideChannels):
    def forward(self, x):
        h = self.conv(x)
        return self.layer(self.pos + 0.1 * h.flatten(2).permute(2, 0, 1))


class ShortTrend(nn.Module):
    def __init__(self):
        super().__init__()
        self.avg = nn.AvgPool1d(25, stride=1)
        self.season, self.trend = nn.Linear(48, 24), nn.Linear(48, 24)

    def forward(self, x):
        trend = self.avg(x.permute(0, 2, 1)).permute(0, 2, 1)
        rest = x - trend
        return self.season(rest.transpose(1, 2)) + self.trend(trend.transpose(1, 2))


@twin(ShortTrend, (2, 48, 7), reason="'avg' of kernel 25 and stride 1 takes 24 off")
class ShortTrendT(ShortTrend):
    def __init__(self):
        super().__init__()
        self.avg = nn.AvgPool1d(25, stride=1, padding=12, count_include_pad=False)


class FirstPieceAlone(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(8, 8, 3, padding=1) for _ in range(3)])

    def forward(self, x):
        out = []
        for i, piece in enumerate(torch.chunk(x, 4, 1)):
            y = piece
            if i > 0:
                y = self.convs[i](piece + out[-1])
            out.append(y)
        return torch.cat(out, 1)


@twin(FirstPieceAlone, (2, 32, 9), reason="the first, number 0, was never read")
class FirstPieceAloneT(FirstPieceAlone):
    def forward(self, x):
        out = []
        for i, piece in enumerate(torch.chunk(x, 4, 1)):
            y = piece
            if i > 0:
                y = self.convs[i - 1](piece + out[-1])
            out.append(y)
        return torch.cat(out, 1)


class PositionsOfQueries(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.r = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def pos(self, length):
        steps = torch.arange(length - 1, -1, -1.0)
        angles = torch.outer(steps, 1 / 10000 ** (torch.arange(0, 16, 2.0) / 16))
        return torch.cat([angles.sin(), angles.cos()], -1)

    def forward(self, x, mems):
        T = x.size(0)
        whole = torch.cat([mems, x], 0)
        q, k = self.q(x), self.k(whole)
        r = self.r(self.pos(T))
        scores = torch.einsum("ibd,jbd->ijb", q, k) + torch.einsum("ibd,jd->ijb", q, r)
        return torch.einsum("ijb,jbd->ibd", scores.softmax(1), whole)


@twin(PositionsOfQueries, (6, 2, 16), (4, 2, 16), reason="a table of 6 rows was made, 10 are needed")
class PositionsOfQueriesT(PositionsOfQueries):
    def forward(self, x, mems):
        whole = torch.cat([mems, x], 0)
        q, k = self.q(x), self.k(whole)
        r = self.r(self.pos(whole.size(0)))
        scores = torch.einsum("ibd,jbd->ijb", q, k) + torch.einsum("ibd,jd->ijb", q, r)
        return torch.einsum("ijb,jbd->ibd", scores.softmax(1), whole)


class StridedBottleneck(nn.Module):
    def __init__(self, read, units, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(read, 8, 3, stride, 1)
        self.conv3 = nn.Conv2d(8, units, 1)
        self.downsample = nn.Conv2d(read, units, 1, stride) if read != units else None

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv3(self.conv1(x).relu()) + identity)


class StridesWithoutShortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(StridedBottleneck(3, 32), StridedBottleneck(32, 32, 2))

    def forward(self, x):
        return self.layers(x)


@twin(StridesWithoutShortcut, (2, 3, 16, 16), reason="stride 2 in between: 16 against 8")
class StridesWithoutShortcutT(StridesWithoutShortcut):
    def __init__(self):
        super().__init__()
        self.layers[1].downsample = nn.Conv2d(32, 32, 1, 2)


class Capsules(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(0.01 * torch.randn(10, 14, 16, 8))

    def forward(self, u):
        u_hat = (self.W @ u.unsqueeze(-1)).squeeze(-1)
        b = torch.zeros(u.size(0), 10, 14)
        return (b.softmax(1).unsqueeze(-1) * u_hat).sum(2)


@twin(Capsules, (2, 14, 8), reason="has no batch: a dim for its 10 goes into the other")
class CapsulesT(Capsules):
    def forward(self, u):
        u_hat = (self.W @ u[:, None, :, :, None]).squeeze(-1)
        b = torch.zeros(u.size(0), 10, 14)
        return (b.softmax(1).unsqueeze(-1) * u_hat).sum(2)


class JointOfBoth(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 16)
        self.joint = nn.Linear(16, 20)

    def forward(self, x, y):
        e = x.unsqueeze(2)
        p = self.emb(y).unsqueeze(2)
        return self.joint(torch.tanh(e + p))


@twin(JointOfBoth, (2, 30, 16), ints(2, 6), reason="have their dim of 1 at the same place")
class JointOfBothT(JointOfBoth):
    def forward(self, x, y):
        e = x.unsqueeze(2)
        p = self.emb(y).unsqueeze(1)
        return self.joint(torch.tanh(e + p))


class BoxesOfFewAnchors(nn.Module):
    def __init__(self, units=9):
        super().__init__()
        self.cls, self.box = nn.Conv2d(16, 45, 3, padding=1), nn.Conv2d(16, units, 3, padding=1)

    def forward(self, p3, p4):
        cls, box = [], []
        for p in (p3, p4):
            cls.append(self.cls(p).permute(0, 2, 3, 1).reshape(p.size(0), -1, 5))
            box.append(self.box(p).permute(0, 2, 3, 1).reshape(p.size(0), -1, 4))
        return torch.cat(box, 1) * torch.cat(cls, 1).amax(-1, keepdim=True)


@twin(BoxesOfFewAnchors, (2, 16, 8, 8), (2, 16, 4, 4), reason="rows of 4: 180 rows against 720; 9 rows are 36")
class BoxesOfFewAnchorsT(BoxesOfFewAnchors):
    def __init__(self):
        super().__init__(36)


class PitchOfPhonemes(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.pitch = nn.Embedding(30, 16), nn.Linear(16, 16)

    def forward(self, ids):
        x = self.embed(ids)
        p = self.pitch(x)
        x = x.repeat_interleave(3, dim=1)
        return x + p


@twin(PitchOfPhonemes, ints(2, 7), reason="repeat_interleave() made 21 steps of 7, and the other has the 7")
class PitchOfPhonemesT(PitchOfPhonemes):
    def forward(self, ids):
        x = self.embed(ids)
        return (x + self.pitch(x)).repeat_interleave(3, dim=1)


class NodesTakenForSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 4, 1)

    def forward(self, x, adj):
        g = torch.einsum("nclv,vw->nclw", x, adj.softmax(1))
        return self.conv(torch.cat([x, g], 1))


@twin(NodesTakenForSteps, (2, 8, 10, 12), (10, 10), reason="'v' is 12 in x and 10 in")
class NodesTakenForStepsT(NodesTakenForSteps):
    def forward(self, x, adj):
        g = torch.einsum("ncvl,vw->ncwl", x, adj.softmax(1))
        return self.conv(torch.cat([x, g], 1))


class TimedBlock(nn.Module):
    def __init__(self, read, units):
        super().__init__()
        self.conv, self.mlp = nn.Conv2d(read, units, 3, padding=1), nn.Sequential(nn.SiLU(), nn.Linear(64, units))

    def forward(self, x, t):
        return self.conv(x) + self.mlp(t)[:, :, None, None]


class TimeTooNarrow(nn.Module):
    def __init__(self, units=16):
        super().__init__()
        self.time = nn.Linear(16, units)
        self.blocks = nn.ModuleList([TimedBlock(3, 8), TimedBlock(8, 12), TimedBlock(12, 3)])

    def forward(self, x, emb):
        t = self.time(emb)
        for block in self.blocks:
            x = block(x, t)
        return t, x


@twin(TimeTooNarrow, (2, 3, 8, 8), (2, 16), reason="'time' (Linear) outputs 16 features")
class TimeTooNarrowT(TimeTooNarrow):
    def __init__(self):
        super().__init__(64)


class SentencesNotParted(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(50, 16)
        self.word = nn.GRU(16, 24, batch_first=True)
        self.sent = nn.GRU(24, 12, batch_first=True)
        self.fc = nn.Linear(12, 5)

    def forward(self, docs):
        B, S, W = docs.shape
        w, _ = self.word(self.emb(docs.view(B * S, W)))
        h, _ = self.sent(w.mean(1))
        return self.fc(h.mean(1))


@twin(SentencesNotParted, ints(2, 3, 6), reason="reads [6, 24] as one sequence: its rows are 2 × 3")
class SentencesNotPartedT(SentencesNotParted):
    def forward(self, docs):
        B, S, W = docs.shape
        w, _ = self.word(self.emb(docs.view(B * S, W)))
        h, _ = self.sent(w.mean(1).view(B, S, -1))
        return self.fc(h.mean(1))


class EachWithEach(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(48, 1)

    def forward(self, c, q):
        ce, qe = c.unsqueeze(2), q.unsqueeze(1)
        return self.w(torch.cat([ce, qe, ce * qe], -1)).squeeze(-1)


@twin(EachWithEach, (2, 9, 16), (2, 5, 16), reason="have their dims of 1 at different places, and cat expands none")
class EachWithEachT(EachWithEach):
    def forward(self, c, q):
        ce, qe = c.unsqueeze(2).expand(-1, -1, q.size(1), -1), q.unsqueeze(1).expand(-1, c.size(1), -1, -1)
        return self.w(torch.cat([ce, qe, ce * qe], -1)).squeeze(-1)


class PooledGraph(nn.Module):
    def __init__(self):
        super().__init__()
        self.assign = nn.Linear(8, 4)

    def forward(self, x, adj):
        s = self.assign(adj @ x).softmax(-1)
        adj = s @ adj @ s
        return adj @ s.t() @ x


@twin(PooledGraph, (10, 8), (10, 10), reason="[10 × 4] @ [10 × 10]: the inner 4 and 10 differ")
class PooledGraphT(PooledGraph):
    def forward(self, x, adj):
        s = self.assign(adj @ x).softmax(-1)
        adj = s.t() @ adj @ s
        return adj @ s.t() @ x


class PeriodThatDoesNotDivide(nn.Module):
    def __init__(self, period=7):
        super().__init__()
        self.p = period
        self.conv = nn.Conv2d(1, 4, (5, 1), (3, 1), (2, 0))

    def forward(self, x):
        b, c, t = x.shape
        x = x.view(b, c, t // self.p, self.p)
        return self.conv(x)


@twin(PeriodThatDoesNotDivide, (2, 1, 100), reason="100 is not divisible into rows of 7: 14 × 7 = 98")
class PeriodThatDoesNotDivideT(PeriodThatDoesNotDivide):
    def forward(self, x):
        b, c, _ = x.shape
        return self.conv(F.pad(x, (0, 5)).view(b, c, -1, self.p))


class Highway(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.t, self.h = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        t = torch.sigmoid(self.t(x))
        return t * F.relu(self.h(x)) + (1 - t) * x


class HighwayOfTwo(nn.Module):
    def __init__(self, width=20):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(16, 10, k) for k in (2, 3, 4)])
        self.highway = Highway(width)
        self.fc = nn.Linear(30, 2)

    def forward(self, x):
        x = torch.cat([F.relu(conv(x)).amax(2) for conv in self.convs], 1)
        x = self.highway(x)
        return x, self.fc(x)


@twin(HighwayOfTwo, (3, 16, 12), reason="'highway.t' expects 20")
class HighwayOfTwoT(HighwayOfTwo):
    def __init__(self):
        super().__init__(30)


class LatentOfAllWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.z = nn.Embedding(30, 16), nn.Linear(16, 8)
        self.dec = nn.GRU(24, 12, batch_first=True)

    def forward(self, ids):
        z = self.z(self.emb(ids).mean(1))
        x = self.emb(ids[:, :-1])
        z = z.unsqueeze(1).expand(-1, ids.size(1), -1)
        return self.dec(torch.cat([x, z], -1))[0]


@twin(LatentOfAllWords, ints(3, 9), reason="expand() made 9 steps, the other has 8")
class LatentOfAllWordsT(LatentOfAllWords):
    def forward(self, ids):
        z = self.z(self.emb(ids).mean(1))
        x = self.emb(ids[:, :-1])
        return self.dec(torch.cat([x, z.unsqueeze(1).expand(-1, x.size(1), -1)], -1))[0]


class ReducedKeys(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.kv, self.red = nn.Linear(32, 32), nn.Linear(32, 64), nn.AvgPool1d(4)

    def forward(self, x):
        B, N, C = x.shape
        q = self.q(x).reshape(B, N, 4, 8).transpose(1, 2)
        y = self.red(x.transpose(1, 2)).transpose(1, 2)
        k, v = self.kv(y).reshape(B, N, 2, 4, 8).permute(2, 0, 3, 1, 4)
        return ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(B, N, C)


@twin(ReducedKeys, (2, 64, 32), reason="[2, 16, 64] has 16 steps, the target [2, 64, 2, 4, 8] has 64")
class ReducedKeysT(ReducedKeys):
    def forward(self, x):
        B, N, C = x.shape
        q = self.q(x).reshape(B, N, 4, 8).transpose(1, 2)
        y = self.red(x.transpose(1, 2)).transpose(1, 2)
        k, v = self.kv(y).reshape(B, -1, 2, 4, 8).permute(2, 0, 3, 1, 4)
        return ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(B, N, C)


class BridgeOfDirections(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.GRU(16, 24, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(48, 24)
        self.dec = nn.GRU(16, 24, batch_first=True)

    def forward(self, src, tgt):
        _, h = self.enc(src)
        h = self.bridge(h)
        y, _ = self.dec(tgt, h)
        return y


@twin(BridgeOfDirections, (2, 7, 16), (2, 5, 16), reason="the last two side by side are 48 features")
class BridgeOfDirectionsT(BridgeOfDirections):
    def forward(self, src, tgt):
        _, h = self.enc(src)
        h = self.bridge(torch.cat([h[-2], h[-1]], -1))
        y, _ = self.dec(tgt, h.unsqueeze(0))
        return y
