"""Models of papers that fail as people write them, each with its repaired twin: attention, rays, capsules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class Pooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.ask, self.tell = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, seeds, x):
        q = torch.cat(self.ask(seeds).chunk(2, 2), 0)
        k = torch.cat(self.tell(x).chunk(2, 2), 0)
        out = torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(2), k)
        return torch.cat(out.chunk(2, 0), 2)


class SeedsOfOneSample(nn.Module):
    def __init__(self):
        super().__init__()
        self.seeds, self.pooling = nn.Parameter(torch.randn(1, 3, 8)), Pooling()

    def forward(self, x):
        return self.pooling(self.seeds, x).mean(1)


@twin(SeedsOfOneSample, (5, 7, 8), reason="'seeds' [1, 3, 8] is repeated for each of 5 samples first")
class SeedsOfOneSampleT(SeedsOfOneSample):
    def forward(self, x):
        return self.pooling(self.seeds.repeat(len(x), 1, 1), x).mean(1)


class Deltas(nn.Module):
    def __init__(self):
        super().__init__()
        self.density = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1))

    def forward(self, start, times):
        points = start[:, None, :] + times[..., None]
        density = self.density(points).squeeze(-1)
        steps = times[:, 1:] - times[:, :-1]
        return (density * (2 * steps)).sum(1)


@twin(Deltas, (4, 2), (4, 9), reason="[4, 8] are the differences of 9 neighbours, which are one fewer: 8")
class DeltasT(Deltas):
    def forward(self, start, times):
        points = start[:, None, :] + times[..., None]
        density = self.density(points).squeeze(-1)
        steps = F.pad(times[:, 1:] - times[:, :-1], (0, 1))
        return (density * (2 * steps)).sum(1)


class Rates(nn.Module):
    keeps = False

    def __init__(self):
        super().__init__()
        self.rates = nn.ModuleList(
            [nn.Conv1d(4, 4, 3, dilation=rate, padding=rate if self.keeps else 0) for rate in (1, 3)]
        )
        self.point, self.out = nn.Conv1d(4, 4, 1), nn.Conv1d(12, 2, 1)

    def forward(self, x):
        return self.out(torch.cat([self.point(x), *(conv(x).relu() for conv in self.rates)], 1))


@twin(Rates, (2, 4, 30), reason="'rates.0' has padding 0, 1 keeps the size and 'rates.1' has padding 0, 3 keeps")
class RatesT(Rates):
    keeps = True


class LikenessOfViews(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 4)

    def forward(self, one, two):
        z = F.normalize(torch.cat((self.embed(one), self.embed(two))), dim=1)
        likeness = z @ z.T
        own = torch.eye(one.shape[0], device=z.device).bool()
        return likeness.masked_fill(own, -9.0).logsumexp(1)


@twin(LikenessOfViews, (5, 6), (5, 6), reason="eye() makes 5 × 5, [10, 10] has 10 rows")
class LikenessOfViewsT(LikenessOfViews):
    def forward(self, one, two):
        z = F.normalize(torch.cat((self.embed(one), self.embed(two))), dim=1)
        likeness = z @ z.T
        own = torch.eye(len(z), device=z.device).bool()
        return likeness.masked_fill(own, -9.0).logsumexp(1)


class LikenessOfViewsOfNumber(LikenessOfViews):
    def forward(self, one, two):
        n = one.shape[0]
        others = ~torch.eye(n, dtype=torch.bool)
        z = F.normalize(torch.cat((self.embed(one), self.embed(two))), dim=1)
        likeness = z @ z.T
        return (likeness * others).sum(1)


@twin(LikenessOfViewsOfNumber, (5, 6), (5, 6), reason="eye() makes 5 × 5, [10, 10] has 10 rows")
class LikenessOfViewsOfNumberT(LikenessOfViews):
    def forward(self, one, two):
        n = one.shape[0]
        others = ~torch.eye(2 * n, dtype=torch.bool)
        z = F.normalize(torch.cat((self.embed(one), self.embed(two))), dim=1)
        likeness = z @ z.T
        return (likeness * others).sum(1)


class FastWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.mix, self.down = nn.Linear(1, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x):
        fast = {name: 0.9 * value for name, value in self.named_parameters()}
        h = torch.tanh(x @ self.up.weight + fast["up.bias"])
        h = torch.tanh(h @ self.mix.weight + fast["mix.bias"])
        return h @ self.down.weight + fast["down.bias"]


@twin(FastWeights, (4, 1), reason="a Linear's weight is [out, in]: transposed, it has 1 there")
class FastWeightsT(FastWeights):
    def forward(self, x):
        return self.down(torch.tanh(self.mix(torch.tanh(self.up(x)))))


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.past, self.future = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.past(x), self.future(x)


class SwappedParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Parts() for _ in range(2)])

    def forward(self, x):
        total = 0
        for block in self.blocks:
            ahead, behind = block(x)
            x = x - behind
            total = total + ahead
        return x, total


@twin(SwappedParts, (4, 12), reason="'blocks.0' returns [4, 12] and [4, 3], and 'behind' is the one of [4, 3]")
class SwappedPartsT(SwappedParts):
    def forward(self, x):
        total = 0
        for block in self.blocks:
            behind, ahead = block(x)
            x = x - behind
            total = total + ahead
        return x, total


class Votes(nn.Module):
    def __init__(self, count, kinds):
        super().__init__()
        self.route = nn.Parameter(torch.randn(1, kinds, count, 6, 4) / 10)

    def forward(self, x):
        return torch.matmul(self.route, x[:, None, :, :, None]).squeeze(-1).mean(2)


class CountOfAnotherSize(nn.Module):
    side = 4

    def __init__(self):
        super().__init__()
        self.parts = nn.Conv2d(1, 8, 3, stride=2)
        self.votes = Votes(2 * self.side * self.side, 5)

    def forward(self, x):
        parts = self.parts(x).unflatten(1, (2, 4)).movedim(2, -1).flatten(1, 3)
        return self.votes(parts).norm(dim=-1)


@twin(CountOfAnotherSize, (3, 1, 13, 13), reason="'votes.route' [1, 5, 32, 6, 4] is made for 32, and 72 came")
class CountOfAnotherSizeT(CountOfAnotherSize):
    side = 6


class StepsFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.items, self.attend, self.out = nn.Embedding(20, 8), nn.MultiheadAttention(8, 2), nn.Linear(8, 20)

    def forward(self, items):
        x = self.items(items)
        length = x.size(0)
        later = torch.triu(torch.ones(length, length), 1).bool()
        x = x.permute(1, 0, 2)
        x = x + self.attend(x, x, x, attn_mask=later)[0]
        return self.out(x.permute(1, 0, 2))


@twin(StepsFirst, ints(3, 9), reason="attn_mask is [3, 3]: 3 is the batch, dim 0 has 9 steps")
class StepsFirstT(StepsFirst):
    def forward(self, items):
        x = self.items(items)
        length = x.size(1)
        later = torch.triu(torch.ones(length, length), 1).bool()
        x = x.permute(1, 0, 2)
        x = x + self.attend(x, x, x, attn_mask=later)[0]
        return self.out(x.permute(1, 0, 2))


class Angles(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.register_buffer("rate", 100.0 ** (-torch.arange(0, width, 2) / width))

    def forward(self, steps):
        angles = torch.outer(torch.arange(steps), self.rate).repeat(1, 2)
        return angles.cos(), angles.sin()


class AnglesOfAllHeads(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qk = nn.Linear(width, 2 * width)
        self.angles = Angles(width)

    def forward(self, x):
        cos, sin = self.angles(x.size(1))
        q, k = (part.unflatten(2, (3, -1)).transpose(1, 2) for part in self.qk(x).chunk(2, -1))
        q = q * cos + q.roll(4, -1) * sin
        k = k * cos + k.roll(4, -1) * sin
        return q @ k.mT


def angles_of_all_heads():
    return AnglesOfAllHeads(*[24])


@twin(angles_of_all_heads, (2, 7, 24), reason="'angles' gives each of 7 steps 24 features, [2, 3, 7, 8] has 8")
def angles_of_all_heads_t():
    model = angles_of_all_heads()
    model.angles = Angles(8)
    return model


class BatchFirstLetters(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters = nn.Linear(6, 9)

    def forward(self, x, targets, lengths):
        scores = self.letters(x).log_softmax(2)
        steps = torch.full_like(lengths, x.size(1))
        return F.ctc_loss(scores, targets, steps, lengths)


@twin(BatchFirstLetters, (3, 14, 6), 1 + ints(3, 4), 4 + ints(3), reason="it has the batch of 3 first")
class BatchFirstLettersT(BatchFirstLetters):
    def forward(self, x, targets, lengths):
        scores = self.letters(x).log_softmax(2).transpose(0, 1)
        steps = torch.full_like(lengths, x.size(1))
        return F.ctc_loss(scores, targets, steps, lengths)
