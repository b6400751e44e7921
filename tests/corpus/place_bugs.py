"""Bugs of places: entries that are moved along the wrong dim, coordinates in the other order, parts of two dims."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import Size
from tests.corpus import bug

IDS = "int64"


class Resample(nn.Module):
    """A map is read where a small network says, beside each place."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(3, 2, 3, padding=1)

    def places(self, height: int, width: int) -> Tensor:
        ys = torch.linspace(-1, 1, height)[:, None].expand(height, width)
        xs = torch.linspace(-1, 1, width)[None].expand(height, width)
        return torch.stack([xs, ys], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        moved = self.places(*x.shape[2:])[None] + self.offsets(x).permute(0, 2, 3, 1).tanh()
        return F.grid_sample(x, moved, align_corners=False)


@bug("wrong-axis", ("", "grid_sample"), (2, 3, 16, 20))
class RowsBeforeColumns(Resample):
    def places(self, height: int, width: int) -> Tensor:
        sides = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        return torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1)


@bug("wrong-axis", ("", "grid_sample"), (2, 3, 16, 20))
class RowsBeforeColumnsAsChannels(Resample):
    """Coordinates are two channels, ``(2, H, W)``, until they are read."""

    def places(self, height: int, width: int) -> Tensor:
        pairs = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
        return pairs.permute(1, 2, 0) / 8 - 1


@bug("batch-mixed", ("", "setitem"), (8, 16, 6, 7))
class FramesOfOtherVideos(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        moved = x.clone()
        moved[:-1, :4] = x[1:, :4]
        return self.conv(moved)


@bug("wrong-axis", ("", "pad"), (4, 12, 32))
class PreviousFeature(nn.Module):
    """The last dim is shifted, and the steps were meant."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.key = nn.Parameter(torch.full((32,), 0.5)), nn.Linear(32, 64)

    def forward(self, x: Tensor) -> Tensor:
        before = F.pad(x, (1, -1))
        return self.key(torch.lerp(before, x, self.mix)).relu().square()


@bug("batch-mixed", ("", "log_softmax"), (5, 30, 20))
class RecogniserOverTheBatch(nn.Module):
    """Steps come first, as a CTC loss wants them, and dim 1 is the batch then."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.classes = nn.GRU(20, 24, batch_first=True), nn.Linear(24, 11)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.rnn(x)[0]).transpose(0, 1).log_softmax(1)


@bug("wrong-axis", ("", "gather"), [Size("6 10"), Size("6", dtype=IDS)])
class ValueOfTheFirstAction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.values(state).gather(0, action[:, None])[:, 0]


@bug("wrong-axis", ("", "gather"), (3, 20, 16))
class FirstFeatureOfTheBest(nn.Module):
    """An index of one column looks up one feature of each chosen step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        best = h.norm(dim=-1).topk(4, dim=1).indices
        return h.gather(1, best[..., None])


@bug("wrong-axis", ("", "reshape"), (2, 3, 12, 14))
class SmallMapsSideBySide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3 * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        parts = self.conv(x).view(b, c, 2, 2, h, w)
        return parts.permute(0, 1, 2, 4, 3, 5).reshape(b, c, 2 * h, 2 * w)


@bug("wrong-axis", ("", "cumsum"), (2, 20, 32))
class SumsOverTheHeads(nn.Module):
    """Causal linear attention, whose sums run along dim 1: steps before the heads were brought there."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (4, 8)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        states = (k[..., :, None] * v[..., None, :]).cumsum(1)
        return self.out((q[..., None, :] @ states).squeeze(-2).transpose(1, 2).flatten(2))


@bug("wrong-axis", ("", "getitem"), [(2, 20, 16), (2, 20, 5)])
class BoxesOfTheFirstFour(nn.Module):
    """``[:, :4]`` are four boxes, and the fourth entry of each is the score."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        found = self.head(x).sigmoid()
        boxes = (found[:, :4] - target[..., :4].mean(1, keepdim=True)[..., :1]).abs().mean()
        return boxes + F.binary_cross_entropy(found[..., 4], target[..., 4].sigmoid())


@bug("wrong-axis", ("", "sub"), Size("8 5", dtype=IDS))
class PairsWithinAField(nn.Module):
    """A factorization machine's products of pairs, of the features of each field."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first = nn.Embedding(50, 8), nn.Embedding(50, 1)

    def forward(self, fields: Tensor) -> Tensor:
        v = self.table(fields)
        pairs = v.sum(-1).pow(2) - v.pow(2).sum(-1)
        return self.first(fields).sum(1) + 0.5 * pairs.sum(1, keepdim=True)


@bug("wrong-axis", ("", "norm"), (4, 9, 16))
class SquashedAcrossCapsules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.votes = nn.Parameter(torch.randn(9, 5, 16, 8))

    def forward(self, x: Tensor) -> Tensor:
        s = torch.einsum("bid,ijdk->bjk", x, self.votes)
        length = s.norm(dim=1, keepdim=True)
        return (length.square() / (1 + length.square()) * s / (length + 1e-8)).norm(dim=-1)


@bug("reshape-swap", ("", "view"), [Size("30 16"), Size("2 60", dtype=IDS)])
class EdgesInTheOtherOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(16, 8)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        pairs = edges.view(-1, 2)
        return self.lin(x + torch.zeros_like(x).index_add(0, pairs[:, 1], x[pairs[:, 0]]))


@bug("reshape-swap", ("", "reshape"), (2, 3, 16, 20))
class StripsForPatches(nn.Module):
    """Runs of rows of one channel: 4 · 5 tokens of 3 · 4 · 4 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(48, 24), nn.Parameter(torch.zeros(1, 20, 24))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return (self.embed(x.reshape(b, (h // 4) * (w // 4), c * 16)) + self.places).mean(1)


@bug("reshape-swap", ("", "reshape"), (2, 3, 16, 8, 8))
class FramesToChannelsInARow(nn.Module):
    """Four frames side by side become channels; a reshape alone takes frames that are far apart."""

    def __init__(self) -> None:
        super().__init__()
        self.fast, self.join = nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = self.fast(x)
        b, c, t, h, w = f.shape
        return self.join(f.reshape(b, c * 4, t // 4, h, w)).mean((2, 3, 4))
