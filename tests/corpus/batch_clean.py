"""The batch goes odd ways and comes home, or is rightly gone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import clean

# -- folded and unfolded ----------------------------------------------------------------------------------------------


@clean("batch-folded", (4, 6, 3, 32, 32))
class TimeDistributed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.rnn = nn.GRU(8, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        batch, time = x.shape[:2]
        features = self.trunk(x.flatten(0, 1)).view(batch, time, -1)
        return self.rnn(features)[0][:, -1]


@clean("batch-folded", (2, 16, 16, 8))
class Windows(nn.Module):
    """Attention within windows of a map whose channels are last."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        windows = x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        windows = self.attend(windows, windows, windows)[0]
        windows = windows.view(b, h // 4, w // 4, 4, 4, c)
        return windows.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)


@clean("batch-folded", (2, 8, 16, 16))
class ChannelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.conv(x)


@clean("batch-folded", (20, 7), dtypes="int64")
class WordModel(nn.Module):
    """Every step of every sample is a row for the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(100, 16), nn.LSTM(16, 24, batch_first=True)
        self.out = nn.Linear(24, 100)

    def forward(self, ids: Tensor) -> Tensor:
        hidden, _ = self.rnn(self.embed(ids))
        return F.log_softmax(self.out(hidden).view(-1, 100), dim=1)


@clean("batch-folded", (4, 3, 32, 32), (4, 3, 32, 32))
class TwoViews(nn.Module):
    """Contrastive: the projections of two inputs, one below the other."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.project = nn.Linear(8, 4)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return F.normalize(self.project(torch.cat([self.trunk(one), self.trunk(two)])), dim=1)


@clean("batch-folded", (4, 3, 32, 32))
class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = self.trunk(torch.cat([x, x.flip(-1)]))
        one, two = both.chunk(2)
        return self.out(torch.cat([one, two], dim=1)).squeeze(1)


@clean("batch-folded", (4, 8, 10, 10))
class SpatialSoftmax(nn.Module):
    """Where in the map each channel is, as coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 6, 3, padding=1)
        self.register_buffer("place", torch.rand(100, 2))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv(x).view(-1, 100).softmax(-1)
        return (weights @ self.place).view(-1, 6 * 2)


@clean("batch-folded", (4, 12, 3, 16, 16))
class ViewsOfAnObject(nn.Module):
    """Multi-view: features of every view, the best of them over the views."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.trunk(x.view(-1, 3, 16, 16))
        y = y.view(x.shape[0], 12, *y.shape[1:])
        return self.out(y.amax(1).flatten(1))


# -- rightly gone -----------------------------------------------------------------------------------------------------


@clean("batch-lost", (8, 10), (8, 10))
class Distance(nn.Module):
    """A loss: one number."""

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return (one - two).pow(2).sum(1).mean()


@clean("batch-lost", (8, 3, 16, 16), (8, 3, 16, 16))
class DiceByClass(nn.Module):
    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        chance = scores.softmax(1)
        both = (chance * target).sum((0, 2, 3))
        return 1 - 2 * both / (chance.sum((0, 2, 3)) + target.sum((0, 2, 3)) + 1e-6)


@clean("batch-lost", (8, 6, 10, 10))
class OwnBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((0, 2, 3))
        var = x.var((0, 2, 3), unbiased=False)
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return self.conv(x * self.weight[:, None, None] + self.bias[:, None, None])


@clean("batch-lost", (8, 16, 6, 6))
class Codebook(nn.Module):
    """Vector quantisation with how much of the codebook a batch used."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Embedding(32, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = x.permute(0, 2, 3, 1).reshape(-1, 16)
        far = flat.pow(2).sum(1, keepdim=True) + self.codes.weight.pow(2).sum(1) - 2 * flat @ self.codes.weight.t()
        chosen = far.argmin(1)
        near = self.codes(chosen).view(x.shape[0], 6, 6, 16).permute(0, 3, 1, 2)
        used = F.one_hot(chosen, 32).float().mean(0)
        return x + (near - x).detach(), F.mse_loss(near, x.detach()), used


@clean("batch-lost", (50, 32))
class BagOfInstances(nn.Module):
    """Attention over the instances of one bag: dim 0 is no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(32, 16), nn.ReLU())
        self.attend = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        weights = F.softmax(self.attend(h).t(), dim=1)
        return self.out(weights @ h)


@clean("batch-lost", (30, 8), (30, 30))
class GraphReadout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        h = torch.relu(adjacency @ self.one(nodes))
        h = torch.relu(adjacency @ self.two(h))
        return self.out(h.mean(0))


@clean("batch-lost", (4, 8, 12, 12))
class GramMatrix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        flat = y.transpose(0, 1).flatten(1)
        return flat @ flat.t() / flat.shape[1]


@clean("batch-lost", (8, 16))
class Experts(nn.Module):
    """Top-1 routing with the share that each expert got."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        chance = self.gate(x).softmax(-1)
        out = sum(chance[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))
        return out, chance.mean(0)


@clean("batch-lost", (8, 5, 16))
class Ensemble(nn.Module):
    """Heads stacked in front and averaged there."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(16, 3) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([head(x) for head in self.heads]).mean(0)


# -- sequence-first and other layouts ---------------------------------------------------------------------------------


@clean("batch-moved", (4, 1, 32, 100))
class ReadsALine(nn.Module):
    """Convolutions, a recurrent layer over the width, answers time first for a CTC loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, None)))
        self.rnn, self.out = nn.LSTM(16, 32, bidirectional=True), nn.Linear(64, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).squeeze(2).permute(2, 0, 1)
        return self.out(self.rnn(x)[0])


@clean("batch-moved", (4, 60, 16))
class SpeechForCtc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.GRU(16, 32, batch_first=True), nn.Linear(32, 30)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.out(self.body(x)[0].transpose(0, 1)), dim=-1)


@clean("batch-moved", (35, 20), dtypes="int64")
class SequenceFirstModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(50, 16), nn.LSTM(16, 16), nn.Linear(16, 50)

    def forward(self, ids: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden, state = self.rnn(self.embed(ids))
        return self.out(hidden), state


@clean("batch-moved", (4, 10, 32))
class ExitsStacked(nn.Module):
    """The answer of every layer, as detection transformers give them for their losses."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True) for _ in range(3))
        self.out = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        exits = []
        for layer in self.layers:
            x = layer(x)
            exits.append(x)
        return self.out(torch.stack(exits))


@clean("batch-moved", (4, 10, 16))
class LastState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(16, 32, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[1]


@clean("batch-moved", (8, 16), (8, 16))
class Similarities(nn.Module):
    """Every text with every image."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.image = nn.Linear(16, 8), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scale * F.normalize(self.text(text), dim=-1) @ F.normalize(self.image(image), dim=-1).t()
        return scores, scores.t()


# -- sizes of the batch -----------------------------------------------------------------------------------------------


@clean("batch-squeezed", (1, 3, 16, 16))
class SqueezeOfNamedDims(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 1, 1), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x).squeeze(1).mean(1))


@clean("batch-squeezed", (4, 6, 16))
class SqueezeThatIsUndone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).squeeze().view(x.shape[0], -1).softmax(1)
        return (weights[..., None] * x).sum(1)


@clean("batch-fixed", (4, 8, 6, 6))
class DeviationOfGroups(nn.Module):
    """The minibatch deviation of a well-known critic: groups of four samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(9, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        group = min(b, 4)
        y = x.view(group, -1, c, h, w)
        y = (y.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)
        return self.conv(torch.cat([x, y.repeat(group, 1, h, w)], 1))


@clean("batch-fixed", (4, 3, 8, 8))
class FramesOfOneClip(nn.Module):
    """The frames of clips are its batch, and one clip was given: five frames are none, eight are two."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Conv2d(3, 6, 3)
        self.time = nn.Conv3d(6, 6, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.space(x)
        clips = maps[None].reshape(len(x) // 4, 4, *maps.shape[1:]).transpose(1, 2)
        return self.time(clips).transpose(1, 2).reshape(maps.shape)


@clean("batch-fixed", (5, 5, 8))
class PositionsAsManyAsSamples(nn.Module):
    """Five learned positions and, by chance, five samples: sequence-first, so dim 0 can't grow."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(5, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + self.positions)


@clean("batch-merged", (6, 4))
class FlatVector(nn.Module):
    """Unbatched on purpose: a policy that reads the whole board."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, board: Tensor) -> Tensor:
        return self.body(board.flatten())


@clean("batch-folded", (2, 4, 8, 8))
class Modulated(nn.Module):
    """Weights of its own for every sample: the batch as groups of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.style = nn.Parameter(torch.randn(6, 4, 3, 3)), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        style = self.style(x.mean((2, 3)))
        weight = self.weight[None] * style[:, None, :, None, None]
        y = F.conv2d(x.reshape(1, b * c, h, w), weight.reshape(b * 6, c, 3, 3), padding=1, groups=b)
        return y.reshape(b, 6, h, w)


@clean("batch-folded", (2, 3, 20, 20))
class AnchorsOfAMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores, self.boxes = nn.Conv2d(3, 9 * 2, 1), nn.Conv2d(3, 9 * 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scores(x).permute(0, 2, 3, 1).reshape(-1, 2)
        return scores, self.boxes(x).permute(0, 2, 3, 1).reshape(-1, 4)


@clean("batch-lost", (12, 6))
class SetByRecurrence(nn.Module):
    """The nodes of one graph, read one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, nodes: Tensor) -> Tensor:
        return self.out(self.rnn(nodes[None])[0][:, -1])
