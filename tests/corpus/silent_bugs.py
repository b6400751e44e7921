"""Bugs in the style of public code: they run, and an axis, a fold, a constant or an attention is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import Size
from tests.corpus import bug

# --- along, or over, the batch


@bug("batch-mixed", ("", "normalize"), (6, 3, 20, 20))
class EmbeddingNormalisedOverTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.project = nn.Linear(16, 24)

    def forward(self, image: Tensor) -> Tensor:
        return F.normalize(self.project(self.trunk(image)), dim=0)


@bug("batch-mixed", ("", "mean"), (4, 1600))
class WaveformStandardisedOverTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 8, 16, stride=8)
        self.head = nn.Linear(8, 5)

    def forward(self, wave: Tensor) -> Tensor:
        wave = (wave - wave.mean(0, keepdim=True)) / (wave.std(0, keepdim=True) + 1e-5)
        return self.head(self.stem(wave.unsqueeze(1)).relu().mean(-1))


@bug("batch-mixed", ("", "cumsum"), Size("B=3 T=9", dtype="int64"))
class PositionsCountedDownTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 12, padding_idx=1), nn.Embedding(40, 12)
        self.head = nn.Linear(12, 50)

    def forward(self, ids: Tensor) -> Tensor:
        mask = (ids != 1).int()
        places = torch.cumsum(mask, dim=0) * mask
        return self.head(self.words(ids) + self.places(places.long()))


@bug("batch-mixed", ("", "cumprod"), (10, 24, 3))
class TransmittanceAcrossRays(nn.Module):
    """A ray's samples are on axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, points: Tensor) -> Tensor:
        out = self.field(points)
        colour, alpha = out[..., :3].sigmoid(), 1 - torch.exp(-out[..., 3].relu())
        weights = alpha * torch.cumprod(1 - alpha + 1e-10, 0)
        return (weights[..., None] * colour).sum(1)


@bug("batch-mixed", ("", "fft_fft2"), (4, 18, 16))
class FourierMixingWithTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.ff = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + torch.fft.fft2(x, dim=(0, 2)).real)
        return x + self.ff(x).relu()


@bug("batch-mixed", ("", "topk"), (6, 40, 8))
class BestPointsOfAllSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        best = self.score(x).topk(4, dim=0).values
        return self.head(best.mean(1))


@bug("batch-mixed", ("", "roll"), (4, 8, 16, 10, 10))
class ShiftedIntoTheNextVideo(nn.Module):
    """Temporal shift: the roll goes along axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        shifted = torch.cat([torch.roll(x[:, :, :4], 1, dims=0), x[:, :, 4:]], 2)
        maps = self.conv(shifted.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.head(maps.mean((1, 3, 4)))


@bug("batch-mixed", ("", "roll"), (4, 8, 16, 10, 10))
class ShiftedInTheFold(nn.Module):
    """Frames of the videos stand one after the other: the last of one goes to the first of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[:2]
        frames = x.flatten(0, 1)
        frames = self.conv(torch.cat([frames[:, :4].roll(1, 0), frames[:, 4:]], 1))
        return self.head(frames.mean((2, 3)).view(b, t, -1).mean(1))


@bug("batch-mixed", ("", "normalize"), (5, 7, 24))
class StepsNormalisedInTheFold(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.rnn = nn.Linear(24, 16), nn.GRU(16, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        steps = F.normalize(self.fc(x.reshape(b * t, -1)), p=2, dim=0)
        return self.rnn(steps.view(b, t, -1))[0]


@bug("batch-mixed", ("", "softmax"), (6, 14, 32))
class InstancesWeighedAcrossBags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v, self.w, self.head = nn.Linear(32, 16), nn.Linear(16, 1), nn.Linear(32, 2)

    def forward(self, bags: Tensor) -> Tensor:
        weights = torch.softmax(self.w(torch.tanh(self.v(bags))), dim=0)
        return self.head((weights * bags).sum(1))


@bug("batch-mixed", ("", "einsum"), (4, 11, 16))
class AffinitySummedOverSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        affinity = torch.einsum("bnc,bmc->nm", self.q(x), self.k(x)).softmax(-1)
        return affinity @ x


@bug("batch-mixed", ("", "max"), (8, 50, 3))
class PointsPooledAcrossClouds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Linear(3, 32), nn.ReLU())
        self.both = nn.Linear(64, 6)

    def forward(self, points: Tensor) -> Tensor:
        local = self.local(points)
        whole = local.max(dim=0, keepdim=True)[0].expand_as(local)
        return self.both(torch.cat([local, whole], -1))


@bug("batch-mixed", ("", "sub"), (8, 20, 2))
class VelocityBetweenSamples(nn.Module):
    """Steps are on axis 1: ``x[:, 1:] - x[:, :-1]`` was meant."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(2, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, track: Tensor) -> Tensor:
        velocity = track[1:] - track[:-1]
        return self.head(self.rnn(velocity)[0][:, -1])


@bug("batch-mixed", ("", "flip"), (4, 12, 8))
class ReversedSamples(nn.Module):
    """A hand-made bidirectional pass: the steps were to be turned round."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = nn.GRU(8, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        back = self.back(x.flip(0))[0].flip(0)
        return self.head(torch.cat([self.there(x)[0], back], -1))


# --- two axes on each other because their sizes are equal


@bug("wrong-axis", ("", "add"), [(2, 3, 32, 32), (2, 16)])
class TimeAlongTheWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.time = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(16, 32)
        self.out = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.out(self.stem(x) + self.time(t)[:, None, None, :])


@bug("wrong-axis", ("", "mul"), (2, 3, 24, 24))
class LayerScaleAlongTheWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 24, 7, padding=3, groups=24)
        self.gamma = nn.Parameter(1e-6 * torch.ones(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.gamma * self.deep(x)


@bug("wrong-axis", ("", "add"), (4, 1, 32))
class BiasAlongTheTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bias = nn.Conv1d(1, 32, 3, padding=1, bias=False), nn.Parameter(torch.zeros(32))
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.conv(x) + self.bias).relu().mean(-1))


@bug("wrong-axis", ("", "mul"), [(2, 8, 32), (2, 10)])
class FilmAlongTheTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.film = nn.Conv1d(8, 32, 3, padding=1), nn.Linear(10, 64)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition).unsqueeze(1).chunk(2, -1)
        return self.conv(x) * (1 + scale) + shift


@bug("wrong-axis", ("", "mul"), (3, 3, 16, 16))
class GateAlongTheWidth(nn.Module):
    """Squeeze and excitation, its gate broadcast from the wrong end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.gate = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = self.gate(x.mean((2, 3)))
        return x * gate.view(x.shape[0], 1, 1, -1)


@bug("wrong-axis", ("", "masked_fill"), [(4, 10, 32), (4, 10)])
class MaskOfSamplesOnHeads(nn.Module):
    """The padding mask is (B, 1, T): it broadcasts as (1, B, 1, T), samples on heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, 8).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / 8**0.5
        scores = scores.masked_fill(keep[:, None, :] == 0, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c))


@bug("wrong-axis", ("", "masked_fill"), [(6, 6, 16), (6, 6)])
class MaskOfSamplesOnQueries(nn.Module):
    """A mask (B, T) over scores (B, T, T) with as many samples as steps."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2)
        return scores.masked_fill(keep == 0, -1e9).softmax(-1) @ self.v(x)


@bug("wrong-axis", ("fc", "Linear"), (4, 1, 32))
class LinearOverTheTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv1d(1, 32, 3, padding=1), nn.Linear(32, 64)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(self.conv(x)).relu().mean(1))


@bug("wrong-axis", ("norm", "BatchNorm1d"), (4, 16, 5))
class BatchNormOfTheSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.head = nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.fc(x)).relu().mean(1))


@bug("wrong-axis", ("norm", "LayerNorm"), (2, 3, 24, 24))
class LayerNormOfTheWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 24, 3, padding=1), nn.LayerNorm(24)
        self.head = nn.Conv2d(24, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stem(x)))


@bug("wrong-axis", ("", "max"), (4, 3, 64))
class MaxOverFeaturesForPoints(nn.Module):
    """PointNet: the maximum goes over the points, axis 2."""

    def __init__(self) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv1d(3, 32, 1), nn.ReLU(), nn.Conv1d(32, 64, 1))
        self.head = nn.Linear(64, 10)

    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.local(points).max(1)[0])


@bug("wrong-axis", ("", "add"), (3, 20, 8))
class TransposedResidual(nn.Module):
    """The convolution wants (B, C, T); its result was not turned back."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.conv, self.head = nn.Linear(8, 20), nn.Conv1d(20, 20, 3, padding=1), nn.Linear(20, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        return self.head(x + self.conv(x.transpose(1, 2)))


@bug("wrong-axis", ("", "add"), (2, 40, 24))
class PositionsOnTheChannels(nn.Module):
    """A learned (T, C) table added to what is (B, C, T), T equal to C."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.place = nn.Conv1d(40, 24, 3, padding=1), nn.Parameter(torch.zeros(24, 24))
        self.layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) + self.place[: x.shape[-1]]
        return self.layer(x.transpose(1, 2))


# --- the batch of the output


@bug("batch-mixed", ("", "cat"), (4, 3, 32, 32))
class ClassTokenOnTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 16, 24))
        self.layer, self.head = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True), nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = self.layer(torch.cat([self.token, x], 0))
        return self.head(x[:, 0])


@bug("unread-result", ("", "getitem"), [(9, 8), Size("2 30", dtype="int64")])
class EdgesForNodes(nn.Module):
    """The messages of a graph are never summed at their targets: a row an edge comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source = edges[0]
        return self.update(self.message(x).index_select(0, source).relu())


@bug("batch-folded", ("", "cat"), (4, 3, 16, 16), severity="note")
class FlippedViewsLeftOnTheBatch(nn.Module):
    """Test-time augmentation that forgets to average its two halves."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, image: Tensor) -> Tensor:
        return self.net(torch.cat([image, image.flip(-1)], 0)).softmax(-1)


@bug("batch-folded", ("", "view"), (4, 1, 28, 28))
class FlattenedToTheWrongWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.fc1, self.fc2 = nn.Linear(80, 50), nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.c1(x), 2).relu()
        x = F.max_pool2d(self.c2(x), 2).relu()
        x = x.view(-1, 80)
        return self.fc2(self.fc1(x).relu())


# --- reshapes


@bug("reshape-swap", ("", "view"), (2, 3, 16, 16))
class TokensByView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.layer = nn.Conv2d(3, 32, 4, 4), nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image)
        x = x.view(x.size(0), -1, 32)
        return self.head(self.layer(x).mean(1))


@bug("reshape-swap", ("", "view"), (2, 10, 32))
class HeadsSplitByView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b = x.size(0)
        q, k, v = (layer(x).view(b, 4, -1, 8) for layer in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).reshape(b, -1, 32))


@bug("reshape-swap", ("", "reshape"), (2, 10, 32))
class HeadsMergedByView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.o(out.reshape(b, n, c))


@bug("reshape-swap", ("", "view"), (2, 3, 12, 12))
class DepthToSpaceByView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        return self.body(x).view(b, 3, h * 2, w * 2)


@bug("reshape-swap", ("", "view"), (2, 16, 12, 12))
class SpaceToDepthByView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(64, 32, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return self.body(x.view(b, c * 4, h // 2, w // 2))


@bug("reshape-swap", ("", "view"), (2, 3, 32, 32))
class BoxesWithoutPermute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, 4, 1), nn.Conv2d(16, 3 * 9, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        out = self.head(self.stem(image))
        out = out.view(out.size(0), -1, 9)
        return out[..., :4], out[..., 4:].sigmoid()


@bug("reshape-swap", ("", "view"), (2, 6, 3, 16, 16))
class FramesForChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv3d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, video: Tensor) -> Tensor:
        b, t, c, h, w = video.size()
        return self.head(self.conv(video.view(b, c, t, h, w)).mean((2, 3, 4)))


@bug("reshape-swap", ("", "reshape"), (2, 3, 32, 32))
class PatchesByReshape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(3 * 8 * 8, 40), nn.Linear(40, 10)

    def forward(self, image: Tensor) -> Tensor:
        b, c, h, w = image.shape
        patches = image.reshape(b, (h // 8) * (w // 8), c * 8 * 8)
        return self.head(self.embed(patches).mean(1))


@bug("reshape-swap", ("", "view"), (2, 16, 40))
class ImageFromPatchesByView(nn.Module):
    """Sixteen tokens, each a patch of 4 × 4 in three colours."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = nn.Linear(40, 48)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.pixels(tokens).view(tokens.size(0), 3, 16, 16)


@bug("reshape-swap", ("", "reshape"), (3, 9, 10))
class LastStatesOfBothDirections(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(10, 16, batch_first=True, bidirectional=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        return self.head(state.reshape(x.size(0), -1))


# --- attention


@bug("attention-axis", ("", "softmax"), (2, 9, 32))
class HeadsWeighTheQueries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)).softmax(dim=2)
        return self.o((weights @ v).transpose(1, 2).reshape(b, n, c))


@bug("attention-axis", ("", "softmax"), (2, 9, 32))
class HeadsCompete(nn.Module):
    """The softmax goes over the four heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        weights = F.softmax(q @ k.transpose(-2, -1), dim=1)
        return self.o((weights @ v).transpose(1, 2).reshape(b, n, c))


@bug("attention-axis", ("", "bmm"), (2, 16, 9, 9))
class NonLocalWithoutTranspose(nn.Module):
    """Self-attention of a generator: the product wants the weights transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Conv2d(16, 2, 1), nn.Conv2d(16, 2, 1), nn.Conv2d(16, 16, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        query = self.query(x).view(b, -1, h * w).permute(0, 2, 1)
        weights = torch.bmm(query, self.key(x).view(b, -1, h * w)).softmax(dim=-1)
        out = torch.bmm(self.value(x).view(b, -1, h * w), weights)
        return self.gamma * out.view(b, c, h, w) + x


@bug("attention-axis", ("", "softmax"), [(2, 7, 12), (2, 7, 7)])
class GraphAttentionOverTargets(nn.Module):
    """Row i holds the neighbours of node i: the softmax goes along the row."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.source, self.target = nn.Linear(12, 8), nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        h = self.w(x)
        scores = F.leaky_relu(self.target(h) + self.source(h).transpose(1, 2))
        scores = scores.masked_fill(adjacency == 0, -9e15)
        return F.elu(F.softmax(scores, dim=1) @ h)


@bug("attention-axis", ("", "scaled_dot_product_attention"), (2, 9, 32))
class SdpaOverTheHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = (layer(x).view(b, t, 4, c // 4) for layer in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v).reshape(b, t, c))


@bug("attention-axis", ("", "sum"), (3, 12, 16))
class PoolingWeighsTheFeatures(nn.Module):
    """Additive pooling: weights that sum to one over the features, summed over the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.head = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).softmax(-1)
        return self.head((weights * x).sum(1))


@bug("attention-axis", ("", "softmax"), (2, 9, 16))
class ExpertsChosenByTokens(nn.Module):
    """A mixture of experts: the gates of a token sum to one over the experts, not over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(16, 4), nn.Parameter(torch.randn(4, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gate(x).softmax(dim=1)
        out = torch.einsum("btc,ecd->bted", x, self.experts)
        return torch.einsum("bte,bted->btd", gates, out)


# --- constants


@bug("batch-mixed", ("", "getitem"), (4, 15, 16))
class TableCutByTheBatch(nn.Module):
    """The tutorial's positional encoding is for (T, B, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pe", torch.randn(100, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + self.pe[: x.size(0)])


@bug("batch-mixed", ("places", "Embedding"), Size("B=4 T=15", dtype="int64"))
class PlacesOfTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.head = nn.Embedding(40, 16), nn.Embedding(64, 16), nn.Linear(16, 40)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.places(torch.arange(ids.size(0), device=ids.device)).unsqueeze(1)
        return self.head(self.words(ids) + places)


@bug("batch-mixed", ("", "mul"), (8, 20))
class OneNoiseForAllSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_var, self.decode = nn.Linear(20, 6), nn.Linear(20, 6), nn.Linear(6, 20)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_var = self.mean(x), self.log_var(x)
        std = torch.exp(0.5 * log_var)
        return self.decode(mean + torch.randn(std.shape[1:]) * std)


@bug("batch-mixed", ("", "mul"), (8, 3, 16, 16), severity="note")
class OnePathDroppedForAll(nn.Module):
    """Stochastic depth draws one number for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        keep = (torch.rand(1, 1, 1, 1, device=x.device) < 0.9).float()
        return x + self.conv(x) * keep / 0.9


# --- height and width


@bug("wrong-axis", ("", "cat"), (2, 3, 16, 16))
class BranchesOnTheHeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.a(x), self.b(x)], 2).relu())


@bug("uneven-sides", ("", "pad"), (2, 3, 16, 16))
class PaddedAtTheSidesOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(F.pad(x, (1, 1))).relu())


@bug("uneven-sides", ("", "interpolate"), (2, 3, 16, 16))
class OneSideEnlarged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x).relu()
        return self.up(F.interpolate(x, size=(x.size(2) * 2, x.size(3))))


@bug("odd-map", ("decoder.2", "ConvTranspose2d"), (2, 1, 32, 32))
class EndsAtTwentyFive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU())
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 3, 2, 2), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


@bug("idle-resize", ("", "interpolate"), (2, 3, 32, 32), severity="note")
class ResizedToItsOwnSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.out = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        low = self.c1(x).relu()
        up = F.interpolate(self.c2(low), size=low.shape[-2:], mode="bilinear")
        return self.out(up)


@bug("idle-resize", ("", "add"), (2, 3, 32, 32), severity="note")
class FineShrunkToCoarse(nn.Module):
    """A pyramid adds the coarse map, enlarged, to the fine one; here the fine one shrinks."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.out = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.c1(x).relu()
        coarse = self.c2(fine).relu()
        return self.out(coarse + F.interpolate(fine, size=coarse.shape[-2:]))


# --- a layer and what it is given


@bug("layer-rank", ("drop", "Dropout2d"), (3, 12, 16))
class FeatureDropoutOnTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.drop, self.fc2 = nn.Linear(16, 32), nn.Dropout2d(0.2), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(self.drop(self.fc1(x).relu()))


@bug("wrong-axis", ("head.3", "Softmax"), (6, 20))
class SoftmaxOfOneLogit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 1), nn.Softmax(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


@bug("wrong-axis", ("", "softmax"), (3, 12, 16))
class PoolingWeightsThatAreAllOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score, self.head = nn.Linear(16, 1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.score(x), -1)
        return self.head((weights * x).sum(1))


@bug("wrong-axis", ("", "cross_entropy"), [(6, 20), Size("6", dtype="int64")])
class CrossEntropyOfOneLogit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self.net(x), target)


@bug("wrong-axis", ("", "cross_entropy"), (3, 10), (3, 10), dtypes="int64")
class CrossEntropyOverTheSteps(nn.Module):
    """Logits (B, T, V) with as many steps as words: classes are axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(10, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, ids: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.rnn(self.words(ids))[0]), target)


@bug("wrong-axis", ("", "log_softmax"), Size("B=3 T=14", dtype="int64"))
class LogProbabilitiesOverTheSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(30, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 30)

    def forward(self, ids: Tensor) -> Tensor:
        return F.log_softmax(self.head(self.rnn(self.words(ids))[0]), dim=1)


# --- a pinned batch


@bug("batch-fixed", ("", "zeros"), (4, 6, 16))
class StateOfFourSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(4, 16)
        for step in x.unbind(1):
            state = torch.tanh(self.cell(step) + state)
        return self.head(state)


@bug("batch-fixed", ("", "randn"), (8, 10))
class NoiseForEight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(14, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.cat([x, torch.randn(8, 4)], 1))


@bug("batch-fixed", ("", "repeat"), (4, 9, 16))
class BasisForFour(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        basis = torch.eye(16).repeat(4, 1, 1)
        return torch.bmm(self.fc(x), basis)


@bug("batch-mixed", ("", "index_select"), (4, 9, 16), severity="note")
class FirstFourOnly(nn.Module):
    """Whatever the batch, the first four samples are used."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.index_select(0, torch.arange(4)).mean(1))


# --- the same block four times


@bug("repeated-layer", ("layers.0", "TransformerEncoderLayer"), (2, 8, 16))
class FourTimesOneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)] * 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
