"""Look-alikes of what axes show: the same operations where they are meant."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import clean
from tests.corpus.meaning_bugs import Attention, Heads


@clean("attention-axis", (3, 12, 16))
class PlainAttention(Attention):
    pass


@clean("attention-axis", (3, 12, 32))
class TurnedHeads(Heads):
    def __init__(self) -> None:
        super().__init__(turned=True)


@clean("attention-axis", (3, 12, 16))
class SlotAttention(nn.Module):
    """Slots compete for inputs; the weights of a slot are then made to sum to one."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(1, 5, 16))
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(self.slots).expand(x.shape[0], -1, -1)
        weights = (q @ self.k(x).transpose(1, 2)).softmax(1) + 1e-8
        weights = weights / weights.sum(-1, keepdim=True)
        return weights @ self.v(x)


@clean("attention-axis", (3, 12, 16))
class LinearAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        context = self.k(x).softmax(1).transpose(1, 2) @ self.v(x)
        return self.q(x).softmax(-1) @ context


@clean("attention-axis", (3, 12, 16))
class AttentionOfKeysFirst(nn.Module):
    """Scores are keys by queries, so the softmax over dim 1 is over the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.k(x) @ self.q(x).transpose(1, 2)).softmax(1)
        return weights.transpose(1, 2) @ self.v(x)


@clean("attention-axis", (3, 24, 7, 7))
class ChannelAttention(nn.Module):
    """Channels attend to channels, as XCiT and DANet do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(24, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q = self.conv(x).view(b, c, h * w)
        weights = (q @ q.transpose(1, 2)).softmax(-1)
        return (weights @ q).view(b, c, h, w)


@clean("attention-axis", [(3, 12, 16), (3, 12)])
class MaskOfKeys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2)
        scores = scores.masked_fill((mask == 0)[:, None], -1e9)
        return scores.softmax(-1) @ self.v(x)


@clean("attention-axis", (2, 6, 10, 32))
class AttentionOverTheFramesOfAPlace(nn.Module):
    """Positions are folded into the batch, and the frames attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, t, n, c = x.shape
        y = x.permute(0, 2, 1, 3).reshape(b * n, t, c)
        y = self.attn(y, y, y, need_weights=False)[0]
        return y.view(b, n, t, c).permute(0, 2, 1, 3)


@clean("batch-mixed", (4, 20))
class SumAlongTheSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).cumsum(1)


@clean("batch-mixed", (4, 20))
class RankLoss(nn.Module):
    """A loss over the sorted batch is one number."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        ranked = self.fc(x).squeeze(1).sort(0).values
        return (ranked[1:] - ranked[:-1]).relu().mean()


@clean("batch-mixed", (4, 12, 16))
class FourierMixing(nn.Module):
    """Tokens and features are mixed, as FNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.fft.fft2(x, dim=(1, 2)).real)


@clean("batch-mixed", (4, 12, 16))
class PositionsCutToTheLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 40, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.positions[:, : x.size(1)]


@clean("reshape-swap", (3, 12, 16))
class StepsJoinedInPairs(nn.Module):
    """Two neighbouring steps become one of twice the features, as in pyramidal encoders."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        return self.fc(x[:, : t // 2 * 2].reshape(b, t // 2, 2 * c))


@clean("reshape-swap", (3, 8, 16, 16))
class WindowsInOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = F.pad(x, (0, -w % 4, 0, -h % 4))
        h, w = x.shape[2:]
        x = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        return self.fc(x)


@clean("wrong-axis", torch.zeros(4, 9, dtype=torch.long))
class LabelsInTheirOrder(nn.Module):
    """Predictions and labels are both flattened steps first."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.rnn, self.tags = nn.Embedding(50, 12), nn.LSTM(12, 8), nn.Linear(8, 50)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.rnn(self.emb(x.t()))[0]
        return F.cross_entropy(self.tags(steps).view(-1, 50), x.t().reshape(-1))


@clean("reshape-swap", (2, 3, 4, 16, 16))
class FramesPutBesideTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = self.conv(x.transpose(1, 2).reshape(b * t, c, h, w)).mean((2, 3))
        return self.head(y.view(b, t, -1).mean(1))


@clean("attention-axis", (2, 12, 16))
class SlotsMadeMeans(nn.Module):
    """Positions choose a slot; the weights of a slot are then made to sum to one over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.slots, self.keys, self.values = nn.Parameter(torch.randn(5, 16)), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.einsum("sd,btd->bst", self.slots, self.keys(x))
        weights = F.normalize(scores.softmax(dim=1) + 1e-8, p=1, dim=-1)
        return torch.einsum("bst,btd->bsd", weights, self.values(x))


@clean("attention-axis", (2, 12, 16))
class LandmarksInverted(nn.Module):
    """Attention between landmarks is inverted by a few products from both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        q_few, k_few = q.unflatten(1, (-1, 3)).mean(2), k.unflatten(1, (-1, 3)).mean(2)
        inner = (q_few @ k_few.mT).softmax(-1)
        inverse = inner.mT / inner.sum(-1).max()
        for _ in range(2):
            inverse = 2 * inverse - inverse @ (inner @ inverse)
        return (q @ k_few.mT).softmax(-1) @ inverse @ ((q_few @ k.mT).softmax(-1) @ v)


@clean("unread-result", (2, 12, 16))
class ExpertsMovedToTheirDevice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for expert in self.experts:
            expert.to(x.device)
        return sum(expert(x) for expert in self.experts)


@clean("layer-rank", (2, 12, 16))
class NothingToDealOut(nn.Module):
    """A memory that is empty at first is reshaped and laid in front of the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.drop = nn.Linear(16, 16), nn.Dropout(0.1)
        self.conv = nn.Conv1d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.read(x)[:, :0].reshape(x.size(0), 0, 4, 4).flatten(2)
        h = torch.cat((memory, self.read(x)), dim=1)
        return self.drop(self.conv(h.mT).mT)


@clean("aligned-by-chance", [(2, 32, 8)])
class RotaryOfThreeAxes(nn.Module):
    """Time, height and width are stacked: three, which is no batch of one more, whatever a retrace takes."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 32)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.meshgrid(torch.arange(2.0), torch.arange(4.0), torch.arange(4.0), indexing="ij")
        grid = torch.stack(places).unsqueeze(0).repeat(x.size(0), 1, 1, 1, 1).flatten(2, 4).transpose(1, 2)
        angles = (torch.linspace(0, 1, 5) * (grid.unsqueeze(-1) * 2 - 1)).transpose(-1, -2).flatten(2)
        cos = angles.cos().repeat_interleave(2, dim=-1)
        return self.q(x) * torch.cat([torch.ones_like(cos[:, :, :2]), cos], dim=-1)
