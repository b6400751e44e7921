"""Sequence-first on purpose, pairs on purpose, reshapes that keep the order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import clean


@clean("sequence-order", (8, 30, 16))
class TransposesFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.encoder = nn.Linear(16, 32), nn.TransformerEncoderLayer(32, 4, 64)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(self.fc(x).transpose(0, 1)).transpose(0, 1)
        return self.out(x[:, 0])


@clean("sequence-order", (30, 8, 16))
class SequenceFirstPooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(16, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0].mean(0))


@clean("sequence-order", (25, 6), dtypes="int64")
class SequenceFirstWithPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(80, 32)
        self.register_buffer("positions", torch.zeros(100, 1, 32))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 2, enable_nested_tensor=False)
        self.out = nn.Linear(32, 80)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.positions[: ids.shape[0]]
        mask = torch.full((ids.shape[0], ids.shape[0]), float("-inf")).triu(1)
        return self.out(self.encoder(x, mask))


@clean("sequence-order", (7, 4, 16))
class NothingSpeaksForEither(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(16, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out, (hidden, _) = self.rnn(x)
        return out, hidden


@clean("sequence-order", (2, 3, 32, 32))
class ObjectQueries(nn.Module):
    """Tokens of a map and learned queries, sequence-first as the decoder wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, 8)
        self.queries = nn.Parameter(torch.zeros(10, 32))
        self.decoder, self.box = nn.TransformerDecoderLayer(32, 4, 64), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).permute(2, 0, 1)
        queries = self.queries[:, None].expand(-1, x.shape[0], -1)
        return self.box(self.decoder(queries, tokens)).transpose(0, 1)


@clean("sequence-order", (4, 2, 12, 10))
class RecurrentOverBothAxes(nn.Module):
    """One layer over the steps, one over the channels, each folded into the other's batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = nn.GRU(2, 2, batch_first=True), nn.GRU(2, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, f = x.shape
        y = self.rows(x.permute(0, 3, 2, 1).reshape(b * f, t, c))[0].view(b, f, t, c)
        y = self.columns(y.transpose(1, 2).reshape(b * t, f, c))[0].view(b, t, f, c)
        return y.permute(0, 3, 1, 2)


@clean("sequence-order", (6, 9, 16))
class StepByStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        state, outs = None, []
        for step in range(x.shape[1]):
            out, state = self.rnn(x[:, step].unsqueeze(0), state)
            outs.append(self.out(out.squeeze(0)))
        return torch.stack(outs, 1)


# -- softmax, broadcast -----------------------------------------------------------------------------------------------


@clean("batch-mixed", (12, 5, 16))
class SequenceFirstAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.score = nn.GRU(16, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.rnn(x)[0]
        return (self.score(hidden).softmax(0) * hidden).sum(0)


@clean("batch-mixed", (8, 16), (8, 16))
class ContrastiveBothWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 8)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        scores = self.project(one) @ self.project(two).t()
        right = torch.arange(scores.shape[0])
        both = F.log_softmax(scores, 0) + F.log_softmax(scores, 1)
        return -both[right, right].mean()


@clean("batch-mixed", (2, 6, 16))
class ExpertsChooseTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, 16)
        chance = self.gate(tokens).softmax(0)
        weight, chosen = chance.topk(3, dim=0)  # each expert takes three tokens
        return torch.zeros_like(tokens).index_add(
            0, chosen.flatten(), (weight[..., None] * tokens[chosen]).flatten(0, 1)
        )


@clean("batch-broadcast", (8, 16))
class PairwiseDistances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc(x)
        return (z[:, None] - z[None]).pow(2).sum(-1).sqrt()


@clean("batch-broadcast", (8, 16))
class DistancesByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc(x)
        square = z.pow(2).sum(1, keepdim=True) + z.pow(2).sum(1)
        return (square - 2 * z @ z.t()).clamp(min=0).sqrt()


@clean("batch-broadcast", (8, 16), (8,))
class SameLabel(nn.Module):
    """Which samples share a label: a mask of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        z = F.normalize(self.fc(x), dim=1)
        same = label.unsqueeze(1) == label
        return (z @ z.t() * same.float()).sum() / same.float().sum()


@clean("batch-broadcast", (8, 16))
class RankingLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x).squeeze(-1)
        return F.softplus(score - score.unsqueeze(1)).mean()


@clean("batch-broadcast", (4, 6, 10, 10))
class BiasesAndGates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.fc = nn.Parameter(torch.ones(6, 1, 1)), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc(x.mean((2, 3))).sigmoid()
        return x * self.scale * gate[:, :, None, None] + torch.linspace(0, 1, 10)


# -- reshape ----------------------------------------------------------------------------------------------------------


@clean("reshape-swap", (2, 16, 24))
class HeadsSplitOff(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 3, 8).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(b, t, 24))


@clean("reshape-swap", (16, 4, 24))
class HeadsIntoTheBatch(nn.Module):
    """Sequence-first attention as torch writes it: heads and samples in one dim."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.rnn = nn.GRU(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rnn(x)[0]
        t, b, _ = x.shape
        q, k, v = (layer(x).contiguous().view(t, b * 3, 8).transpose(0, 1) for layer in (self.q, self.k, self.v))
        y = (q @ k.transpose(1, 2)).softmax(-1) @ v
        return y.transpose(0, 1).contiguous().view(t, b, 24)


@clean("reshape-swap", (4, 8, 16))
class LongerByView(nn.Module):
    """Twice the steps of half the width: sizes of a swap by chance, the order kept."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(16, 16), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        return self.out(x.view(x.shape[0], x.shape[1] * 2, x.shape[2] // 2))


@clean("reshape-swap", (2, 24, 6, 6))
class PixelShuffleByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(24, 24, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = self.conv(x).view(b, c // 4, 2, 2, h, w)
        return x.permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, h * 2, w * 2)


@clean("reshape-swap", (4, 12, 10))
class StatesOfBothDirections(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(10, 16, 2, batch_first=True, bidirectional=True), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.rnn(x)
        hidden = hidden.view(2, 2, x.shape[0], 16)[-1]
        return self.out(hidden.transpose(0, 1).reshape(x.shape[0], 32))


@clean("reshape-swap", (3, 3, 32, 32))
class GroupsOfSegments(nn.Module):
    """Shifts a part of the channels between the three segments of one clip."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        clips = y.view(y.shape[0] // 3, 3, *y.shape[1:])
        moved = torch.cat([clips[:, 1:, :2], torch.zeros_like(clips[:, :1, :2])], 1)
        y = torch.cat([moved, clips[:, :, 2:]], 2).view_as(y)
        return self.out(y.mean((2, 3)))


@clean("reshape-swap", (2, 12, 16))
class RelativeShift(nn.Module):
    """Scores of relative positions, skewed by a padding, a view and a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.places = nn.Linear(16, 16), nn.Parameter(torch.randn(23, 16))

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        scores = self.q(x) @ self.places.t()
        scores = F.pad(scores, (1, 0)).view(b, 2 * t, t)[:, 1:].reshape(b, t, 2 * t - 1)
        return scores[..., :t].softmax(-1) @ x
