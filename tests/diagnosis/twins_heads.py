"""Attention whose heads stay behind the steps, or that reads vectors without steps; each with its twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import twin


class Projections(nn.Module):
    def __init__(self, width=48, heads=4, longest=12):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.register_buffer("past", torch.ones(longest, longest).tril())


class OneLineEach(Projections):
    def forward(self, x):
        batch, steps, width = x.shape
        q = self.query(x).view(batch, steps, self.heads, self.size)
        k = self.key(x).view(batch, steps, self.heads, self.size)
        v = self.value(x).view(batch, steps, self.heads, self.size)
        scores = q @ k.transpose(-2, -1) / self.size**0.5
        scores = scores.masked_fill(self.past[:steps, :steps] == 0, float("-inf"))
        return (scores.softmax(-1) @ v).reshape(batch, steps, width)


@twin(OneLineEach, (2, 9, 48), reason="the heads of [2, 9, 4, 12] are in dim 2, behind the steps")
class OneLineEachT(Projections):
    def forward(self, x):
        batch, steps, width = x.shape
        q = self.query(x).view(batch, steps, self.heads, self.size).transpose(1, 2)
        k = self.key(x).view(batch, steps, self.heads, self.size).transpose(1, 2)
        v = self.value(x).view(batch, steps, self.heads, self.size).transpose(1, 2)
        scores = q @ k.transpose(-2, -1) / self.size**0.5
        scores = scores.masked_fill(self.past[:steps, :steps] == 0, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, steps, width)


class InALoop(Projections):
    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (layer(x).reshape(b, t, self.heads, -1) for layer in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(2, 3)) + torch.full((t, t), -1e9).triu(1)
        return torch.matmul(scores.softmax(-1), v).contiguous().view(b, t, -1)


@twin(InALoop, (2, 9, 48), reason="the scores are of 4 heads with 4, the mask is of 9 steps")
class InALoopT(Projections):
    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (
            layer(x).reshape(b, t, self.heads, -1).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = torch.matmul(q, k.transpose(2, 3)) + torch.full((t, t), -1e9).triu(1)
        return torch.matmul(scores.softmax(-1), v).transpose(1, 2).reshape(b, t, -1)


class AllInOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x, hidden):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, c // 4).unbind(2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=~hidden[:, None, None, :])
        return self.out(y.flatten(2))


@twin(AllInOne, (2, 7, 32), torch.zeros(2, 7, dtype=torch.bool), reason="the heads of [2, 7, 3, 4, 8] are in dim 3")
class AllInOneT(AllInOne):
    def forward(self, x, hidden):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, c // 4).transpose(1, 3).unbind(2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=~hidden[:, None, None, :])
        return self.out(y.transpose(1, 2).flatten(2))


class OfAnother(Projections):
    def forward(self, x, memory):
        b, t, c = x.shape
        q = self.query(x).view(b, t, self.heads, self.size)
        k = self.key(memory).view(b, memory.size(1), self.heads, self.size)
        v = self.value(memory).view(b, memory.size(1), self.heads, self.size)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(b, t, c)


@twin(OfAnother, (2, 9, 48), (2, 5, 48), reason="behind the steps: 9 steps against 5")
class OfAnotherT(Projections):
    def forward(self, x, memory):
        b, t, c = x.shape
        q = self.query(x).view(b, t, self.heads, self.size).transpose(1, 2)
        k = self.key(memory).view(b, memory.size(1), self.heads, self.size).transpose(1, 2)
        v = self.value(memory).view(b, memory.size(1), self.heads, self.size).transpose(1, 2)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(b, t, c)


# -- one vector of each sample beside steps ---------------------------------------------------------------------------


class VectorAsMemory(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.cross = nn.MultiheadAttention(32, 4, batch_first=batch_first)
        self.video, self.head = nn.Linear(8, 32), nn.Linear(64, 3)

    def forward(self, audio, clip):
        v = self.video(clip)
        y, _ = self.cross(audio, v, v)
        return self.head(torch.cat([y.mean(1), v], -1))


@twin(VectorAsMemory, (4, 10, 32), (4, 8), reason="[4, 32] has no steps, beside [4, 10, 32]: each sample has one key")
class VectorAsMemoryT(VectorAsMemory):
    def forward(self, audio, clip):
        v = self.video(clip)
        y, _ = self.cross(audio, v[:, None], v[:, None])
        return self.head(torch.cat([y.mean(1), v], -1))


class VectorsBehindSteps(VectorAsMemory):
    def __init__(self):
        super().__init__(batch_first=False)

    def forward(self, audio, clip):
        v = self.video(clip)
        y = self.cross(query=audio, key=v, value=v)[0]
        return self.head(torch.cat([y.mean(0), v], -1))


@twin(VectorsBehindSteps, (10, 4, 32), (4, 8), reason="[4, 32] has no steps, beside [10, 4, 32]")
class VectorsBehindStepsT(VectorsBehindSteps):
    def forward(self, audio, clip):
        v = self.video(clip)
        y = self.cross(query=audio, key=v[None], value=v[None])[0]
        return self.head(torch.cat([y.mean(0), v], -1))


class VectorAsQuery(nn.Module):
    def __init__(self):
        super().__init__()
        self.ask, self.cross = nn.Linear(8, 32), nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, question, steps):
        q = self.ask(question)
        y, weights = self.cross(q, steps, steps)
        return self.head(y + q), weights


@twin(VectorAsQuery, (4, 8), (4, 6, 32), reason="[4, 32] has no steps, beside [4, 6, 32]: each sample has one query")
class VectorAsQueryT(VectorAsQuery):
    def forward(self, question, steps):
        q = self.ask(question)
        y, weights = self.cross(q[:, None], steps, steps)
        return self.head(y[:, 0] + q), weights


class FirstOfOne(VectorAsQuery):
    def forward(self, question, steps):
        y = self.cross(self.ask(question), steps, steps)[0]
        return self.head(y[:, 0, :])


@twin(FirstOfOne, (4, 8), (4, 6, 32), reason="each sample has one query")
class FirstOfOneT(FirstOfOne):
    def forward(self, question, steps):
        y = self.cross(self.ask(question).unsqueeze(1), steps, steps)[0]
        return self.head(y[:, 0, :])


# -- what is joined to each sample, what is not embedded --------------------------------------------------------------


class Prompted(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.prompt = nn.Embedding(30, 16), nn.Parameter(torch.zeros(5, 16))
        self.head = nn.Linear(16, 30)

    def forward(self, ids):
        return self.head(torch.cat([self.prompt, self.embed(ids)], dim=1))


@twin(Prompted, torch.zeros(2, 9, dtype=torch.long), reason="it has no batch, and is repeated for each sample")
class PromptedT(Prompted):
    def forward(self, ids):
        return self.head(torch.cat([self.prompt.expand(len(ids), -1, -1), self.embed(ids)], dim=1))


class OneToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.head = nn.Parameter(torch.zeros(16)), nn.Linear(16, 3)

    def forward(self, x):
        x = torch.cat((self.token, x), 1)
        return self.head(x[:, 0])


@twin(OneToken, (4, 9, 16), reason="[16] has 1 dims, [4, 9, 16] has 3: it has no batch")
class OneTokenT(OneToken):
    def forward(self, x):
        x = torch.cat((self.token.expand(len(x), 1, -1), x), 1)
        return self.head(x[:, 0])


class TargetsAsTheyAre(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(7, 32), nn.Linear(32, 7)
        self.net = nn.Transformer(32, 4, 1, 1, 48, batch_first=True)

    def forward(self, x):
        later = torch.zeros(x.size(0), 12, x.size(2))
        return self.head(self.net(self.embed(x), later))


@twin(TargetsAsTheyAre, (2, 24, 7), reason="the target has 7 features, 'net' expects 32 (d_model)")
class TargetsAsTheyAreT(TargetsAsTheyAre):
    def forward(self, x):
        later = torch.zeros(x.size(0), 12, x.size(2))
        return self.head(self.net(self.embed(x), self.embed(later)))


# -- pairs in one dim -------------------------------------------------------------------------------------------------


class ScoredPairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.width, self.score = nn.Linear(5, 8, bias=False), nn.Linear(16, 1)

    def forward(self, nodes, edges):
        h = self.width(nodes)
        pairs = torch.cat([h.repeat_interleave(len(h), 0), h.repeat(len(h), 1)], 1)
        scores = F.leaky_relu(self.score(pairs)).squeeze(1)
        weights = scores.masked_fill(edges == 0, -1e9).softmax(1)
        return weights @ h


@twin(ScoredPairs, (6, 5), (6, 6), reason="[36] has 6 × 6 numbers in one dim, the other is [6, 6]")
class ScoredPairsT(ScoredPairs):
    def forward(self, nodes, edges):
        h = self.width(nodes)
        pairs = torch.cat([h.repeat_interleave(len(h), 0), h.repeat(len(h), 1)], 1)
        scores = F.leaky_relu(self.score(pairs)).view(len(h), len(h))
        return scores.masked_fill(edges == 0, -1e9).softmax(1) @ h


# -- too few channels for what they are parted in, and halves of the batch --------------------------------------------


class AnchorsOfMaps(nn.Module):
    def __init__(self, extra=4):
        super().__init__()
        self.anchors, self.numbers = 3, 3 + 5
        self.predict = nn.Conv2d(32, self.anchors * (3 + extra), 1)

    def forward(self, x):
        batch, _, height, width = x.shape
        y = self.predict(x).view(batch, self.anchors, self.numbers, height, width)
        return y.permute(0, 1, 3, 4, 2)


@twin(AnchorsOfMaps, (2, 32, 8, 8), reason="2 × 21 × 8 × 8 = 2688 is not 2 × 3 × 8 × 8 × 8 = 3072")
class AnchorsOfMapsT(AnchorsOfMaps):
    def __init__(self):
        super().__init__(5)


class GatedHalves(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.wide, self.narrow = nn.Linear(32, 128), nn.Linear(width, 32)

    def forward(self, x):
        a, b = self.wide(x).chunk(2, -1)
        return self.narrow(a * F.silu(b))


@twin(GatedHalves, (2, 9, 32), reason="chunk() outputs 64 features, 'narrow' expects 128")
class GatedHalvesT(GatedHalves):
    def __init__(self):
        super().__init__(64)


class AnotherJoin(Projections):
    """The first call behind the scores that gives three sizes is of the mask."""

    def forward(self, x, kept):
        b, t, c = x.shape
        q, k, v = (layer(x).view(b, t, self.heads, self.size) for layer in (self.query, self.key, self.value))
        scores = (q @ k.transpose(-2, -1)).masked_fill(self.past[:t, :t] == 0, float("-inf"))
        kept = kept.view(b, t, 1)
        out = (scores.softmax(-1) @ v).reshape(b, t, c)
        return out * kept


@twin(AnotherJoin, (2, 9, 48), (2, 9), reason="the heads of [2, 9, 4, 12] are in dim 2, behind the steps")
class AnotherJoinT(Projections):
    def forward(self, x, kept):
        return x * kept[..., None]
