"""Sequence layers that take the batch for the time, features that are read along the wrong axis."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import bug


@bug("sequence-order", ("lstm", "LSTM"), (8, 12, 16))
class LastStepOfASequenceFirstLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(16, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out[:, -1, :])


@bug("sequence-order", ("rnn", "GRU"), (16, 40), dtypes="int64")
class TextClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 24)
        self.rnn = nn.GRU(24, 32, num_layers=2, bidirectional=True)
        self.head = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 3))

    def forward(self, ids: Tensor) -> Tensor:
        hidden, _ = self.rnn(self.embed(ids))
        return self.head(hidden.mean(dim=1))


@bug("sequence-order", ("encoder", "TransformerEncoder"), (4, 3, 32, 32))
class PatchesIntoAnEncoder(nn.Module):
    """Tokens of a map, batch first, in an encoder that isn't."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, stride=8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 2, enable_nested_tensor=False)
        self.out = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.out(self.encoder(tokens).mean(1))


@bug("sequence-order", ("blocks.0.attend", "MultiheadAttention"), (4, 20, 32))
class AttentionWithinBlocks(nn.Module):
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.attend = nn.LayerNorm(32), nn.MultiheadAttention(32, 4)
            self.mlp = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)
            x = x + self.attend(y, y, y, need_weights=False)[0]
            return x + self.mlp(x)

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 20, 32))
        self.blocks = nn.ModuleList(self.Block() for _ in range(2))
        self.out = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        return self.out(x)


@bug("sequence-order", ("rnn", "LSTM"), (4, 16, 50))
class ConvolutionsThenRecurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(16, 24, 5, padding=2), nn.BatchNorm1d(24), nn.ReLU(), nn.MaxPool1d(2))
        self.rnn, self.out = nn.LSTM(24, 32), nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.rnn(self.conv(x).permute(0, 2, 1))
        return self.out(hidden)


@bug("sequence-order", ("rnn", "GRU"), (6, 10, 12))
class FlattenedSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(12, 8), nn.Linear(80, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0].flatten(1))


@bug("sequence-order", ("rnn", "LSTM"), (4, 1, 16, 60))
class OneTransposeTooMany(nn.Module):
    """Batch-first layer, sequence-first tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 12, (16, 3), padding=(0, 1)), nn.ReLU())
        self.rnn, self.out = nn.LSTM(12, 20, batch_first=True), nn.Linear(20, 30)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).squeeze(2).permute(2, 0, 1)
        return self.out(self.rnn(x)[0]).transpose(0, 1)


@bug("sequence-order", ("first", "LSTM"), (4, 15, 8))
class OneLayerOfTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(8, 16), nn.LSTM(16, 16, batch_first=True)
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(self.first(x)[0])[1][0][-1])


@bug("sequence-order", ("lstm", "LSTM"), (5, 30, 10))
class AttentionPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.score, self.out = nn.LSTM(10, 16), nn.Linear(16, 1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.lstm(x)
        weights = self.score(torch.tanh(hidden)).softmax(1)
        return self.out(torch.bmm(weights.transpose(1, 2), hidden).squeeze(1))


@bug("sequence-order", ("encoder", "TransformerEncoderLayer"), (4, 9, 24))
class TokenInFront(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 24))
        self.encoder, self.out = nn.TransformerEncoderLayer(24, 4, 48), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.out(self.encoder(x)[:, 0])


# -- softmax, broadcast, reshape --------------------------------------------------------------------------------------


@bug("batch-mixed", ("softmax", "Softmax"), (8, 20))
class SoftmaxOfTheFirstDim(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.softmax = nn.Linear(20, 10), nn.Softmax(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(self.fc(x))


@bug("batch-mixed", ("", "softmax"), (4, 12, 16))
class AttentionOverTheSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 4
        return torch.softmax(scores, dim=0) @ self.value(x)


@bug("batch-mixed", ("pool.norm", "Softmax"), (4, 12, 16))
class SoftmaxThatChoseItself(nn.Module):
    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.norm = nn.Linear(16, 1), nn.Softmax()

        def forward(self, x: Tensor) -> Tensor:
            return (self.norm(self.score(x)) * x).sum(1)

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.out = self.Pool(), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.out(self.pool(x))


@bug("batch-mixed", ("", "log_softmax"), (4, 3, 16, 16))
class SegmentationOverTheSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.out(F.relu(self.body(x))), 0)


@bug("batch-broadcast", ("", "sub"), (8, 20), (8,))
class ColumnMinusRow(nn.Module):
    """Predictions are a column, targets a row: their difference is a square."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 1)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return (self.fc(x) - target).pow(2).mean()


@bug("batch-broadcast", ("norm", "sub"), (8, 8))
class MeanWithoutKeepdim(nn.Module):
    """Fits because there are as many features as samples."""

    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(1)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.out = nn.Linear(8, 8), self.Norm(), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.fc(x)))


@bug("batch-broadcast", ("critic", "add"), (6, 12))
class AdvantageSquared(nn.Module):
    """A duelling head whose value kept its dim while the mean lost it."""

    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value, self.score = nn.Linear(16, 1), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.value(x) + self.score(x).mean(1)

    def __init__(self) -> None:
        super().__init__()
        self.body, self.critic = nn.Sequential(nn.Linear(12, 16), nn.ReLU()), self.Critic()

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(self.body(x))


@bug("reshape-swap", ("", "view"), (4, 20, 12))
class ViewForConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(12, 16, 3, padding=1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(x.shape[0], x.shape[2], x.shape[1])
        return self.out(self.conv(x).mean(2))


@bug("reshape-swap", ("tokens", "reshape"), (2, 3, 32, 32))
class MapToTokens(nn.Module):
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 24, 4, stride=4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x)
            return x.reshape(x.shape[0], -1, x.shape[1])

    def __init__(self) -> None:
        super().__init__()
        self.tokens = self.Tokens()
        self.encoder = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(self.tokens(x)).mean(1)


@bug("reshape-swap", ("", "view"), (2, 36, 20))
class TokensToMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.conv = nn.Linear(20, 20), nn.Conv2d(20, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.fc(x).view(x.shape[0], 20, 6, 6))


@bug("reshape-swap", ("", "reshape"), (4, 15, 8))
class StateLayersIntoSamples(nn.Module):
    """``(2, B, H)`` reshaped to ``(B, 2·H)``: samples get each other's directions."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        return self.out(state.reshape(x.shape[0], -1))


@bug("reshape-swap", ("", "view"), (12, 5, 8))
class BatchAndTimeByView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.rnn(x)[0]
        return self.out(hidden.contiguous().view(x.shape[1], x.shape[0], 16))


@bug("reshape-swap", ("heads", "view"), (2, 16, 24))
class HeadsBeforeSteps(nn.Module):
    """``view(B, heads, T, d)`` without the transpose."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)

        def split(self, x: Tensor) -> Tensor:
            return x.view(x.shape[0], 3, x.shape[1], 8)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            q, k, v = (self.split(part.contiguous()) for part in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).flatten(2))

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.fc = self.Heads(), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.heads(x).mean(1))
