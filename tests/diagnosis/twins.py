"""Models that fail, each with its repaired twin: what a fix is to give is what the twin gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TWINS", "Twin", "ints", "twin"]


@dataclass(frozen=True, slots=True)
class Twin:
    """A model that fails and its repaired twin.

    Attributes:
        broken: Makes the model.
        repaired: Makes its twin; ``None`` if it is the input that was wrong.
        inputs: What both are given.
        reason: A part of the reason.
        right: What the twin is given where that is something else.
    """

    broken: Callable[[], nn.Module]
    repaired: Callable[[], nn.Module] | None
    inputs: tuple[Any, ...]
    reason: str = ""
    right: tuple[Any, ...] = ()

    @property
    def id(self) -> str:
        return self.broken.__name__


TWINS: list[Twin] = []


def twin(broken: Callable[[], nn.Module], *inputs: Any, reason: str = "") -> Callable[[Any], Any]:
    """Register a class as the repaired twin of another: ``@twin(Broken, (4, 3), reason="…")``."""

    def register(repaired: Any) -> Any:
        TWINS.append(Twin(broken, repaired, inputs, reason))
        return repaired

    return register


def ints(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


# -- the input --------------------------------------------------------------------------------------------------------


def without_a_batch() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 47 * 47, 10)
    )  # fmt: skip


class NormsWithoutABatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


class PooledWithoutABatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 5)
        self.fc = nn.Linear(8 * 16, 4)

    def forward(self, x):
        x = F.max_pool1d(self.conv(x), 6)
        return self.fc(x.view(x.size(0), -1))


TWINS += [
    Twin(without_a_batch, None, ((3, 96, 96),), "the batch dim is missing", ((1, 3, 96, 96),)),
    Twin(NormsWithoutABatch, None, ((3, 33, 33),), "the batch dim is missing", ((1, 3, 33, 33),)),
    Twin(PooledWithoutABatch, None, ((2, 100),), "the batch dim is missing", ((1, 2, 100),)),
]

# -- losses -----------------------------------------------------------------------------------------------------------


class Loss(nn.Module):
    width = 5

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(8, self.width)

    def forward(self, x, y):
        z = self.f(x)
        return F.cross_entropy(z, y)


class OfSteps(Loss):
    pass


@twin(OfSteps, (4, 12, 8), ints(4, 12), reason="classes on dim 1")
class OfStepsTwin(Loss):
    def forward(self, x, y):
        return F.cross_entropy(self.f(x).transpose(1, 2), y)


class LossLayer(Loss):
    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x, y):
        z = self.f(x)
        return self.loss(z, y)


@twin(LossLayer, (16, 8), ints(16, 1), reason="one label per sample")
class LossLayerTwin(Loss):
    def forward(self, x, y):
        return F.cross_entropy(self.f(x), y.squeeze(1))


class FloatLabels(Loss):
    pass


@twin(FloatLabels, (16, 8), torch.zeros(16), reason="integers")
class FloatLabelsTwin(Loss):
    def forward(self, x, y):
        return F.cross_entropy(self.f(x), y.long())


class Segmented(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 7, 1)

    def forward(self, x, y):
        return F.cross_entropy(self.c(x), y)


@twin(Segmented, (2, 3, 8, 8), ints(2, 1, 8, 8), reason="[2, 8, 8]")
class SegmentedTwin(Segmented):
    def forward(self, x, y):
        return F.cross_entropy(self.c(x), y.squeeze(1))


class Binary(Loss):
    width = 1

    def forward(self, x, y):
        z = self.f(x)
        return F.binary_cross_entropy_with_logits(z, y)


@twin(Binary, (64, 8), torch.zeros(64), reason="[64, 1]")
class BinaryTwin(Loss):
    width = 1

    def forward(self, x, y):
        return F.binary_cross_entropy_with_logits(self.f(x).squeeze(1), y)


class Likelihood(Loss):
    def forward(self, x, y):
        z = self.f(x).log_softmax(-1)
        return F.nll_loss(z, y)


@twin(Likelihood, (4, 12, 8), ints(4, 12), reason="classes on dim 1")
class LikelihoodTwin(Loss):
    def forward(self, x, y):
        return F.nll_loss(self.f(x).log_softmax(-1).transpose(1, 2), y)


class Divergence(Loss):
    def forward(self, x, y):
        z = self.f(x).log_softmax(-1)
        return F.kl_div(z, y, reduction="batchmean")


@twin(Divergence, (6, 3, 8), (6, 5))
class DivergenceTwin(Loss):
    def forward(self, x, y):
        return F.kl_div(self.f(x).log_softmax(-1), y.unsqueeze(1), reduction="batchmean")


class Cosine(Loss):
    def forward(self, x, y):
        z = self.f(x)
        return F.cosine_embedding_loss(z, z, y)


@twin(Cosine, (6, 8), (6, 1))
class CosineTwin(Loss):
    def forward(self, x, y):
        z = self.f(x)
        return F.cosine_embedding_loss(z, z, y.squeeze(1))


# -- sequences --------------------------------------------------------------------------------------------------------


class Translator(nn.Module):
    first = False

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(8, 2, 1, 1, 16, batch_first=self.first)

    def forward(self, source, target):
        return self.body(source, target)


class TranslatorOfBatches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(8, 2, 1, 1, 16)

    def forward(self, source, target):
        return self.body(source, target)


@twin(TranslatorOfBatches, (4, 9, 8), (4, 6, 8), reason="batch_first=False")
class TranslatorTwin(Translator):
    first = True


class MaskedEncoder(nn.Module):
    first = False

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16)

    def forward(self, x):
        mask = torch.ones(x.size(1), x.size(1), dtype=torch.bool).triu(1)
        return self.layer(x, src_mask=mask)


@twin(MaskedEncoder, (4, 9, 8), reason="batch_first")
class MaskedEncoderTwin(MaskedEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


class FixedState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.LSTM(10, 16, 2, batch_first=True)
        self.f = nn.Linear(16, 3)

    def forward(self, x):
        h0 = torch.zeros(2, 64, 16)
        c0 = torch.zeros(2, 64, 16)
        y, _ = self.l(x, (h0, c0))
        return self.f(y[:, -1])


@twin(FixedState, (30, 20, 10), reason="the hidden state is [2, 64, 16]")
class FixedStateTwin(FixedState):
    def forward(self, x):
        h0 = torch.zeros(2, x.size(0), 16)
        y, _ = self.l(x, (h0, h0))
        return self.f(y[:, -1])


class StateOfSteps(FixedState):
    def forward(self, x):
        h0 = torch.zeros(2, x.size(1), 16)
        y, _ = self.l(x, (h0, h0))
        return self.f(y[:, -1])


TWINS.append(Twin(StateOfSteps, FixedStateTwin, ((30, 20, 10),), "the hidden state is [2, 20, 16]"))


class StateOfOneDirection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.GRU(10, 16, bidirectional=True, batch_first=True)

    def forward(self, x):
        h = x.new_zeros(1, x.size(0), 16)
        return self.g(x, h)[0]


@twin(StateOfOneDirection, (5, 20, 10), reason="1 layers × 2 directions")
class StateOfBothDirections(StateOfOneDirection):
    def forward(self, x):
        return self.g(x, x.new_zeros(2, x.size(0), 16))[0]


class EncoderState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.GRU(8, 16, bidirectional=True, batch_first=True)
        self.d = nn.GRU(8, 16, batch_first=True)

    def forward(self, source, target):
        return self.d(target, self.e(source)[1])[0]


@twin(EncoderState, (4, 12, 8), (4, 9, 8), reason="2 directions")
class EncoderStateTwin(EncoderState):
    def forward(self, source, target):
        return self.d(target, self.e(source)[1].sum(0, keepdim=True))[0]


class KeyMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)

    def forward(self, x, m):
        a = self.q(x) @ x.transpose(1, 2)
        a = a.masked_fill(m == 0, -1e9)
        return a.softmax(-1) @ x


@twin(KeyMask, (12, 20, 8), (12, 20), reason="softmax")
class KeyMaskTwin(KeyMask):
    def forward(self, x, m):
        a = self.q(x) @ x.transpose(1, 2)
        return a.masked_fill((m == 0).unsqueeze(1), -1e9).softmax(-1) @ x


class HeadMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)

    def forward(self, x, m):
        h = self.q(x).unflatten(-1, (2, 4)).transpose(1, 2)
        a = h @ h.transpose(-2, -1)
        a = a.masked_fill(m == 0, -1e9)
        return a.softmax(-1) @ h


@twin(HeadMask, (12, 20, 8), (12, 20))
class HeadMaskTwin(HeadMask):
    def forward(self, x, m):
        h = self.q(x).unflatten(-1, (2, 4)).transpose(1, 2)
        a = h @ h.transpose(-2, -1)
        return a.masked_fill((m == 0)[:, None, None], -1e9).softmax(-1) @ h


class LearnedPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Embedding(100, 32)
        self.p = nn.Parameter(torch.zeros(1, 64, 32))

    def forward(self, x):
        return self.e(x) + self.p


@twin(LearnedPositions, ints(2, 50), reason="50 positions, 'p' has 64")
class LearnedPositionsTwin(LearnedPositions):
    def forward(self, x):
        return self.e(x) + self.p[:, : x.size(1)]


class CausalBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)
        self.register_buffer("tril", torch.ones(32, 32).tril())

    def forward(self, x):
        a = self.q(x) @ x.transpose(1, 2)
        a = a.masked_fill(self.tril == 0, -1e9)
        return a.softmax(-1) @ x


@twin(CausalBuffer, (2, 20, 8))
class CausalBufferTwin(CausalBuffer):
    def forward(self, x):
        a = self.q(x) @ x.transpose(1, 2)
        t = a.size(1)
        return a.masked_fill(self.tril[:t, :t] == 0, -1e9).softmax(-1) @ x


class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.cat([self.token, x], 1)
        return self.fc(x[:, 0])


@twin(ClassToken, (4, 9, 8))
class ClassTokenTwin(ClassToken):
    def forward(self, x):
        return self.fc(torch.cat([self.token.expand(x.size(0), -1, -1), x], 1)[:, 0])


class KeysOfAnotherWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x, memory):
        return self.a(x, memory, memory)[0]


@twin(KeysOfAnotherWidth, (2, 5, 16), (2, 7, 24))
class KeysOfAnotherWidthTwin(KeysOfAnotherWidth):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.MultiheadAttention(16, 4, kdim=24, vdim=24, batch_first=True)


# -- maps -------------------------------------------------------------------------------------------------------------


class ChannelBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 16, 3)
        self.b = nn.Parameter(torch.zeros(16))

    def forward(self, x):
        x = self.c(x)
        return x + self.b


@twin(
    ChannelBias,
    (4, 3, 32, 32),
    reason="'b' [16] is aligned with the last dims",
)
class ChannelBiasTwin(ChannelBias):
    def forward(self, x):
        return self.c(x) + self.b.view(-1, 1, 1)


class Unpadded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 8, 3)
        self.mid = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        skip = self.down(x)
        x = self.up(self.mid(skip))
        return self.out(torch.cat([skip, x], 1))


@twin(Unpadded, (2, 1, 66, 66), reason="64")
class UnpaddedTwin(Unpadded):
    def forward(self, x):
        skip = self.down(x)
        x = self.up(self.mid(skip))
        gap = (skip.size(2) - x.size(2)) // 2
        return self.out(torch.cat([skip[:, :, gap:-gap, gap:-gap], x], 1))


class Chomped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv1d(8, 8, 3, padding=2)

    def forward(self, x):
        y = self.c(x)
        return x + y.relu()


@twin(Chomped, (2, 8, 40), reason="40")
class ChompedTwin(Chomped):
    def forward(self, x):
        return x + self.c(x)[:, :, :-2].relu()


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.out = nn.Conv2d(11, 2, 1)

    def forward(self, x):
        return self.out(torch.cat([self.a(x), self.pool(x)], 1))


@twin(Pyramid, (2, 3, 12, 12))
class PyramidTwin(Pyramid):
    def forward(self, x):
        return self.out(torch.cat([self.a(x), F.interpolate(self.pool(x), size=x.shape[2:])], 1))


class TwoUnknowns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        x = self.c(x)
        return x.view(-1, 8, -1).mean(2)


@twin(TwoUnknowns, (4, 3, 6, 6), reason="only one -1")
class TwoUnknownsTwin(TwoUnknowns):
    def forward(self, x):
        x = self.c(x)
        return x.view(x.size(0), 8, -1).mean(2)


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 8, 3, stride=1, output_padding=1)

    def forward(self, x):
        return self.up(x)


@twin(Padded, (1, 3, 8, 8), reason="output_padding 1 must be smaller than stride 1")
class PaddedTwin(Padded):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 8, 3, stride=1)


class NotPooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(self.c(x))


@twin(NotPooled, (2, 3, 20, 20))
class NotPooledTwin(NotPooled):
    def forward(self, x):
        return self.fc(self.c(x).mean((2, 3)))


class NotFlattenedNorFitted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(1024, 10)

    def forward(self, x):
        return self.fc(self.c(x))


@twin(NotFlattenedNorFitted, (2, 3, 20, 20))
class FlattenedAndFitted(NotFlattenedNorFitted):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16 * 9 * 9, 10)

    def forward(self, x):
        return self.fc(self.c(x).flatten(1))


class ResidualOfIdentity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.down = nn.Identity()

    def forward(self, x):
        return self.body(x) + self.down(x)


@twin(ResidualOfIdentity, (2, 8, 12, 12), reason="8 channels against 16")
class ResidualOfIdentityTwin(ResidualOfIdentity):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(8, 16, 1)


class GroupsOfThree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(6, 12, 3, groups=3)

    def forward(self, x):
        return self.b(self.a(x))


@twin(GroupsOfThree, (2, 3, 9, 9))
class GroupsOfThreeTwin(GroupsOfThree):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Conv2d(8, 12, 3, groups=2)


# -- products and indices ---------------------------------------------------------------------------------------------


class Scores(nn.Module):
    def forward(self, q, k):
        return torch.einsum("bhid,bhjd->bhij", q, k)


@twin(Scores, (2, 4, 10, 8), (2, 4, 8, 10), reason="'d' is 8 in q and 10 in k")
class ScoresTwin(nn.Module):
    def forward(self, q, k):
        return torch.einsum("bhid,bhdj->bhij", q, k)


class Gathered(nn.Module):
    def forward(self, x, idx):
        return torch.gather(x, 1, idx)


@twin(Gathered, (4, 9), ints(4), reason="as many dims")
class GatheredTwin(nn.Module):
    def forward(self, x, idx):
        return torch.gather(x, 1, idx.unsqueeze(1))


class FloatIndex(nn.Module):
    def forward(self, x, idx):
        return torch.gather(x, 1, idx)


@twin(FloatIndex, (4, 9), torch.zeros(4, 3), reason="int64")
class FloatIndexTwin(nn.Module):
    def forward(self, x, idx):
        return torch.gather(x, 1, idx.long())


class Counted(nn.Module):
    def forward(self, index, src):
        count = src.new_zeros(2)
        return count.scatter_add_(0, index, src)


@twin(Counted, torch.zeros(10), torch.zeros(10), reason="int64")
class CountedTwin(nn.Module):
    def forward(self, index, src):
        return src.new_zeros(2).scatter_add_(0, index.long(), src)


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 7)

    def forward(self, h, adj):
        return self.fc(h) @ adj


@twin(Graph, (10, 5), (10, 10))
class GraphTwin(Graph):
    def forward(self, h, adj):
        return adj @ self.fc(h)


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(8, 1)

    def forward(self, x):
        w = self.score(x).squeeze(-1).softmax(1)
        return (x * w).sum(1)


@twin(Weighted, (4, 9, 8))
class WeightedTwin(Weighted):
    def forward(self, x):
        w = self.score(x).squeeze(-1).softmax(1)
        return (x * w.unsqueeze(2)).sum(1)


class Scaled(nn.Module):
    def forward(self, q, k):
        return torch.bmm(q, k) / math.sqrt(q.size(-1))


@twin(Scaled, (2, 9, 8), (2, 7, 8))
class ScaledTwin(nn.Module):
    def forward(self, q, k):
        return torch.bmm(q, k.transpose(1, 2)) / math.sqrt(q.size(-1))


class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        skips = []
        x = self.a(x)
        skips.append(x)
        x = self.b(F.max_pool2d(x, 2))
        x = F.interpolate(x, scale_factor=2)
        return self.out(torch.cat([x, skips.pop()], 1))


@twin(Skips, (1, 1, 25, 25), reason="25 / 2 is 12.5")
class SkipsTwin(Skips):
    def forward(self, x):
        skip = self.a(x)
        x = self.b(F.max_pool2d(skip, 2))
        return self.out(torch.cat([F.interpolate(x, size=skip.shape[2:]), skip], 1))
