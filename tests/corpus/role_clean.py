"""Steps that are read on purpose, states of which one is enough, and statistics that a module is for."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import clean
from tests.corpus.made import Heads, Made, numbers


@clean("wrong-axis", (8, 30, 12))
class GateOfSteps(Made):
    """The mean of the features says how much each step counts."""

    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(12, 48, batch_first=True), "gate": nn.Linear(30, 30), "head": nn.Linear(48, 5)}

    def forward(self, x: Tensor) -> Tensor:
        h = self.rnn(x)[0]
        return self.head((h * self.gate(h.mean(-1)).sigmoid().unsqueeze(-1)).mean(1))


@clean("wrong-axis", (4, 22, 16), (4, 9, 24))
class TokensOfTwoKinds(Made):
    def make(self) -> dict[str, Any]:
        return {"one": nn.Linear(16, 24), "two": nn.Linear(24, 24), "head": nn.Linear(24, 3)}

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(torch.cat([self.one(x), self.two(y)], 1).mean(1))


@clean("wrong-axis", (4, 12, 20))
class NormsOnBothSides(Made):
    def make(self) -> dict[str, Any]:
        return {
            "conv": nn.Conv1d(12, 32, 3),
            "one": nn.BatchNorm1d(32),
            "two": nn.LayerNorm(32),
            "words": nn.Linear(32, 8),
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.words(self.two(self.one(self.conv(x)).transpose(1, 2))).mean(1)


@clean("attention-axis", (2, 15, 64))
class AsFourHeads(Heads):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.size(-1) ** 0.5
        return self.out(torch.einsum("bhqk,bhkd->bqhd", scores.softmax(-1), v).flatten(2))


@clean("attention-axis", (3, 3, 20, 24))
class WhereInTheMap(Made):
    def make(self) -> dict[str, Any]:
        return {"conv": nn.Conv2d(3, 8, 3, padding=1)}

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv(x).flatten(2).softmax(2)
        places = torch.linspace(-1, 1, x.size(3)).expand(x.size(2), -1).reshape(-1)
        return (weights * places).sum(-1)


@clean("batch-lost", (25, 6, 32))
class StepsFirst(Made):
    def make(self) -> dict[str, Any]:
        return {"attention": nn.MultiheadAttention(32, 4), "head": nn.Linear(32, 4)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(0))


class BatchWhitening(Made):
    """Takes the mean of the batch out of it, as its name says."""

    def make(self) -> dict[str, Any]:
        return {"scale": nn.Linear(16, 16)}

    def forward(self, x: Tensor) -> Tensor:
        return self.scale((x - x.mean(0)) / (x.var(0) + 1e-5).sqrt())


@clean("batch-mixed", (8, 16))
def whitened() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 16), BatchWhitening(), nn.ReLU(), nn.Linear(16, 2))


@clean("batch-mixed", [(4, 20), numbers(4)])
class LooksAmongClasses(Made):
    def make(self) -> dict[str, Any]:
        return {"values": nn.Linear(20, 6)}

    def forward(self, x: Tensor, action: Tensor) -> Tensor:
        return self.values(x).gather(1, action.unsqueeze(1)).squeeze(1)


@clean("swapped-roles", [(6, 18, 10), numbers(6)])
class StatesOfPaddedOnes(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.LSTM(10, 20, num_layers=2, batch_first=True, bidirectional=True)}

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.rnn(packed)
        return torch.cat([h[-2], h[-1]], -1)


@clean("swapped-roles", (3, 26, 48))
class OutputAndWeights(Made):
    def make(self) -> dict[str, Any]:
        return {"attention": nn.MultiheadAttention(48, 4, batch_first=True), "head": nn.Linear(48, 5)}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out, weights = self.attention(x, x, x)
        return self.head(out.mean(1)), weights


@clean("odd-map", (2, 8, 32, 32))
class EnlargedToTheSize(Made):
    def make(self) -> dict[str, Any]:
        return {"conv": nn.Conv2d(8, 8, 3, padding=1)}

    def forward(self, x: Tensor) -> Tensor:
        return x + F.interpolate(self.conv(F.max_pool2d(x, 2)), size=x.shape[-2:])


@clean("swapped-roles", (5, 14, 7))
class EndOfEachDirection(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(7, 16, batch_first=True, bidirectional=True)}

    def forward(self, x: Tensor) -> Tensor:
        out = self.rnn(x)[0]
        return torch.cat([out[:, -1, :16], out[:, 0, 16:]], -1)


@clean("batch-mixed", [(4, 30, 12), numbers(4)])
class EndsOfEach(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(12, 16, batch_first=True), "head": nn.Linear(16, 3)}

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][torch.arange(x.size(0)), lengths - 1])


@clean("wrong-axis", (3, 24, 16))
class HalfOfTheFeaturesIsTheGate(Made):
    def make(self) -> dict[str, Any]:
        return {"embed": nn.Linear(16, 64)}

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.embed(x).chunk(2, -1)
        return one * other.sigmoid()
