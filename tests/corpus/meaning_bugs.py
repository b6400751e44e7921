"""Bugs that no size shows: an axis is taken for another, at every size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import bug


class Attention(nn.Module):
    """One head over ``(B, T, C)``; what is wrong is in ``weigh``."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))

    def weigh(self, scores: Tensor) -> Tensor:
        return scores.softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(x.shape[-1])
        return self.weigh(scores) @ self.v(x)


@bug("attention-axis", ("", "softmax"), (3, 12, 16))
class SoftmaxOverTheQueries(Attention):
    def weigh(self, scores: Tensor) -> Tensor:
        return scores.softmax(1)


@bug("attention-axis", ("", "softmax"), (3, 12, 16))
class SoftmaxOverTheQueriesWithDropout(Attention):
    def weigh(self, scores: Tensor) -> Tensor:
        return F.dropout(F.softmax(scores, dim=-2), 0.1, self.training)


class Heads(nn.Module):
    """Four heads of ``scaled_dot_product_attention``."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.qkv, self.turned = nn.Linear(32, 96), turned

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (part.view(b, t, 4, 8) for part in self.qkv(x).chunk(3, -1))
        if self.turned:
            q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return (out.transpose(1, 2) if self.turned else out).reshape(b, t, 32)


@bug("attention-axis", ("", "scaled_dot_product_attention"), (3, 12, 32))
class AttentionOverTheHeads(Heads):
    def __init__(self) -> None:
        super().__init__(turned=False)


@bug("attention-axis", ("", "masked_fill"), [(3, 12, 16), (3, 12)])
class MaskOfQueries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2)
        scores = scores.masked_fill((mask == 0)[:, :, None], -1e9)
        return scores.softmax(-1) @ self.v(x)


@bug("batch-mixed", ("", "cumsum"), (4, 20))
class SumAlongTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).cumsum(0)


@bug("batch-mixed", ("", "flip"), (4, 12, 8))
class TurnedRoundTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        back = self.rnn(x.flip(0))[0]
        return torch.cat([self.rnn(x)[0], back], -1)


@bug("batch-mixed", ("", "fft_fft2"), (4, 12, 16))
class TransformedWithTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.fft.fft2(x, dim=(0, 1)).real)


@bug("batch-mixed", ("", "sort"), (4, 12))
class SortedAcrossSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).sort(0).values


@bug("reshape-swap", ("tokens", "view"), (2, 3, 256, 256))
class MapToTokensWhereOneDividesTheOther(nn.Module):
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 256, 16, 16)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x)
            b, c, h, w = x.shape
            return x.view(b, h * w, c)

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = self.Tokens(), nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tokens(x).mean(1))


@bug("wrong-axis", ("", "cross_entropy"), torch.zeros(4, 9, dtype=torch.long))
class LabelsInAnotherOrder(nn.Module):
    """The tags of step-first predictions are flattened batch-first."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.rnn, self.tags = nn.Embedding(50, 12), nn.LSTM(12, 8), nn.Linear(8, 50)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.rnn(self.emb(x.t()))[0]
        return F.cross_entropy(self.tags(steps).view(-1, 50), x.reshape(-1))


@bug("wrong-axis", ("", "mse_loss"), (4, 10, 6))
class RebuiltInAnotherOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.mse_loss(self.rnn(x.transpose(0, 1))[0].reshape(-1, 6), x.reshape(-1, 6))


@bug("reshape-swap", ("", "reshape"), (2, 3, 4, 16, 16))
class FramesTakenForChannels(nn.Module):
    """A video (B, C, T, H, W) is folded into pictures without its frames put beside the batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = self.conv(x.reshape(b * t, c, h, w)).mean((2, 3))
        return self.head(y.view(b, t, -1).mean(1))
