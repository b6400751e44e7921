"""Look-alikes of ``training_bugs.py``: gradients that are kept away on purpose, activations in the right place."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import Size
from tests.corpus import clean
from tests.corpus.training_bugs import CLASSES, Mlp, Table

# --- activations and losses


@clean("wrong-activation", [(4, 16), CLASSES])
class LogSoftmaxBeforeNll(Mlp):
    def forward(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log = self.out(F.relu(self.a(x))).log_softmax(-1)
        return F.nll_loss(log, target), log.exp()


@clean("wrong-activation", [(4, 16), CLASSES])
class MixtureOfTwo(Mlp):
    """The logarithm is taken of the mean of two softmaxes."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        out = self.out
        both = [out(F.relu(layer(x))).softmax(-1) for layer in (self.a, self.b)]
        return F.nll_loss(torch.log((both[0] + both[1]) / 2 + 1e-8), target)


@clean("wrong-activation", [(4, 16), (4, 5)])
class FocalLoss(Mlp):
    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        logits = self.out(x)
        p = torch.sigmoid(logits)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (loss * (1 - (p * target + (1 - p) * (1 - target))) ** 2).mean()


@clean("wrong-activation", [(4, 16), CLASSES])
class Distilled(Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(16, 5).requires_grad_(False)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = F.softmax(self.teacher(x) / 4, dim=-1)
        logits = self.out(F.relu(self.a(x)))
        return F.cross_entropy(logits, target) + F.kl_div(F.log_softmax(logits / 4, -1), wanted, reduction="batchmean")


@clean("wrong-activation", (2, 6, 16))
class ExpertsMaskedBeforeTheyAreChosen(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        p = self.out(x).softmax(-1)
        weights, chosen = p.masked_fill(torch.zeros_like(p).bool(), float("-inf")).topk(2, -1)
        return (self.out.weight[chosen] * weights[..., None]).sum(-2) + self.a(x)


@clean("wrong-activation", (2, 7, 16))
class MaskedBySumAnew(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        weights = (self.a(x) @ self.b(x).transpose(1, 2)).softmax(-1)
        weights = weights.masked_fill(torch.ones(x.size(1), x.size(1)).triu(1).bool(), 0.0)
        return self.out(weights / weights.sum(-1, keepdim=True) @ x)


@clean("strange-order", (4, 16))
class LowRank(Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(16, 2, bias=False), nn.Linear(2, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(x) + self.up(self.down(x))))


# --- gradients


@clean("no-gradient", (4, 16))
class StraightThrough(Mlp):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.a(x)
        q = self.out.weight[torch.cdist(z, self.out.weight).argmin(1)]
        loss = F.mse_loss(q, z.detach()) + F.mse_loss(z, q.detach())
        return self.b(z + (q - z).detach()), loss


@clean("no-gradient", (4, 16))
class CodebookOfAverages(Mlp):
    """The table follows the features by a moving average, not by a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Embedding(9, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.a(x)
        q = self.codes(torch.cdist(z, self.codes.weight).argmin(1))
        return self.b(z + (q - z).detach()), F.mse_loss(z, q.detach())


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@clean("no-gradient", (4, 16))
class ItsOwnBackward(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(_Sign.apply(self.a(x)))


@clean("no-gradient", [(4, 16), (4, 16)])
class TargetNetwork(Mlp):
    """The one network follows the other by a moving average."""

    def __init__(self) -> None:
        super().__init__()
        self.online = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5))
        self.slow = copy.deepcopy(self.online)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return -F.cosine_similarity(self.online(x), self.slow(y).detach(), dim=-1).mean()


@clean("no-gradient", (4, 16))
class LossKeptInTheModule(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        self.auxiliary = F.mse_loss(self.b(h), x)
        return self.out(h.detach())


@clean("no-gradient", (4, 16))
class ActionAndValue(Mlp):
    """The trainer computes the probability of the action anew."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.out(torch.tanh(self.a(x))).argmax(-1), self.b(x)


@clean("no-gradient", [Size("3 7", dtype="int64"), Size("3 5", dtype="int64")])
class GreedyDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.encode = nn.Embedding(20, 8), nn.GRU(8, 8, batch_first=True)
        self.cell, self.out = nn.GRUCell(8, 8), nn.Linear(8, 20)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        state, word, outs = self.encode(self.embed(source))[1][0], target[:, 0], []
        for _ in range(target.size(1)):
            state = self.cell(self.embed(word), state)
            outs.append(self.out(state))
            word = outs[-1].argmax(-1)
        return torch.stack(outs, 1)


@clean("unread-result", (4, 16))
class ReadInABranch(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        h = self.b(x)
        y = self.out(self.a(x))
        if x.dim() == 3:
            y = y + h
        return y


# --- axes


@clean("batch-mixed", [(8, 16), (8,)])
class Advantages(Mlp):
    """Policy gradients: what is standardised over the batch reaches the loss alone."""

    def forward(self, x: Tensor, reward: Tensor) -> tuple[Tensor, Tensor]:
        value = self.b(x)[:, 0]
        advantage = (reward - value).detach()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        return -(self.out(self.a(x)).log_softmax(-1)[:, 0] * advantage).mean(), value


@clean("batch-mixed", (2, 3, 16, 16))
class StandardisedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()) / (self.weight.std() + 1e-5)
        return F.conv2d(x, weight, padding=1)


@clean("wrong-axis", (2, 12, 8, 6, 6))
class TemporalGate(nn.Module):
    """Squeeze and excite of the eight frames, of which there are fewer than channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv3d(12, 16, 1), nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.gate(x.mean((1, 3, 4))))[:, None, :, None, None]


@clean("wrong-axis", (2, 12, 16))
class CrossCovariance(Mlp):
    """Features attend to features: the length is 1 along the steps, which the product sums over."""

    def forward(self, x: Tensor) -> Tensor:
        q, k = (layer(x).view(*x.shape[:2], 4, 4).permute(0, 2, 3, 1) for layer in (self.a, self.b))
        scores = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1)
        return (scores @ k).permute(0, 3, 1, 2).reshape(x.shape)


@clean("wrong-axis", (3, 20, 16))
class GateOfFeatures(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return x + F.glu(torch.cat([self.a(x), self.b(x)], -1))


@clean("unread-result", (4, 16))
class ChangedInPlace(nn.Module):
    """Lines that give what they return no name, and change what they were called on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.seen = nn.Linear(16, 12), nn.ReLU(inplace=True), list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        self.act(h)
        h.clamp_(max=6.0)
        self.seen.append(h.mean())
        return h


@clean("batch-mixed", [(4, 16), (4, 3, 16)])
class RepeatedInTheSameOrder(Mlp):
    def forward(self, x: Tensor, choices: Tensor) -> Tensor:
        return self.out(self.a(x).repeat_interleave(choices.size(1), 0) + choices.flatten(0, 1))


@clean("batch-mixed", (4, 16))
class TwoViewsBehindOneAnother(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(torch.cat([x, x.flip(1)])) + self.b(x.repeat(2, 1)))).view(2, *x.shape[:1], 5)


@clean("swapped-roles", (2, 24, 7))
class VariatesAsTokens(nn.Module):
    """Each of the seven series is a token: its 24 steps are embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.back = nn.Linear(24, 32), nn.Linear(32, 24)
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.encoder(self.embed(x.transpose(1, 2)))).transpose(1, 2)


@clean("swapped-roles", (2, 1, 32, 64))
class ColumnsAsSteps(nn.Module):
    """Text is read by columns: the channels of a column with its height are its features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(1, 8, 3, 2, 1), nn.GRU(8 * 16, 16, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(F.relu(self.conv(x)).permute(0, 3, 1, 2).flatten(2))[0]


@clean("swapped-roles", [(4, 9, 16), (4, 6, 16)])
class StatesHandedOn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = (nn.LSTM(16, 16, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.decoder(y, self.encoder(x)[1])[0]


@clean("lasting-dropout", (4, 16))
class MonteCarloDropout(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(F.relu(self.a(x)), p=0.1, training=True)
        return self.out(F.dropout(h, 0.5, self.training))


@clean("wrong-activation", (4, 16))
class LogarithmOfWhatIsPositive(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(F.softplus(self.out(F.relu(self.a(x)))) + 1e-6)


@clean("unused-layer", (4, 9, 16))
class TableForAnotherMethod(Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.positions = Table()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(x)))

    def decode(self, x: Tensor) -> Tensor:
        return self.positions(x)


@clean("wrong-axis", (2, 10, 16))
class AsManyHeadsAsStepsElsewhere(nn.Module):
    """Where the axes are followed there are 19 steps: the number of heads is no number of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.scores = 19, nn.Linear(16, 38)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.scores(x).view(*x.shape[:2], self.heads, 2).sum(-1)
        return scores + x.new_zeros(*x.shape[:2], self.heads)
