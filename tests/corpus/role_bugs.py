"""Axes and tensors that are taken for others: steps for features, one state for another, a sample for a class."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import bug
from tests.corpus.made import Heads, Made, numbers


@bug("wrong-axis", ("", "mean"), (8, 30, 12))
class MeanOfFeatures(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.LSTM(12, 48, batch_first=True), "head": nn.Linear(30, 5)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(-1))


@bug("layer-rank", ("pool", "AdaptiveAvgPool1d"), (4, 33, 16))
class PoolsFeatures(Made):
    def make(self) -> dict[str, Any]:
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        return {"layer": layer, "pool": nn.AdaptiveAvgPool1d(1), "head": nn.Linear(33, 5)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.layer(x)).flatten(1))


@bug("wrong-axis", ("norm", "BatchNorm1d"), (6, 50, 9))
class BatchNormOfSteps(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(9, 24, batch_first=True), "norm": nn.BatchNorm1d(50), "head": nn.Linear(24, 4)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.rnn(x)[0])[:, -1])


@bug("wrong-axis", ("norm", "GroupNorm"), (4, 24, 18))
class GroupsOfSteps(Made):
    def make(self) -> dict[str, Any]:
        return {"embed": nn.Linear(18, 32), "norm": nn.GroupNorm(4, 24)}

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.embed(x))


@bug("wrong-axis", ("1", "LayerNorm"), (4, 12, 100))
def norm_over_the_length() -> nn.Module:
    return nn.Sequential(nn.Conv1d(12, 32, 5, padding=2), nn.LayerNorm(100), nn.ReLU(), nn.Conv1d(32, 8, 1))


@bug("wrong-axis", ("conv", "Conv1d"), numbers(4, 40))
class WordsAsChannels(Made):
    def make(self) -> dict[str, Any]:
        return {"words": nn.Embedding(80, 50), "conv": nn.Conv1d(40, 16, 3)}

    def forward(self, tokens: Tensor) -> Tensor:
        return self.conv(self.words(tokens)).amax(-1)


@bug("wrong-axis", ("", "cat"), (4, 22, 16))
class BranchesAlongTime(Made):
    def make(self) -> dict[str, Any]:
        return {"one": nn.Linear(16, 24), "two": nn.Linear(16, 24), "head": nn.Linear(24, 3)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.one(x), self.two(x)], 1).mean(1))


@bug("wrong-axis", ("", "div"), (2, 26, 64))
class ScaledByTheLength(Heads):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        return self.join(q @ k.mT / x.size(1) ** 0.5, v)


@bug("wrong-axis", ("", "interpolate"), (2, 3, 32, 48))
class WidthByHeight(Made):
    def make(self) -> dict[str, Any]:
        return {"down": nn.Conv2d(3, 8, 3, 2, 1)}

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.down(x), size=(x.shape[3], x.shape[2]))


@bug("odd-map", ("", "getitem"), (2, 8, 32, 32))
class EnlargedTwiceAsMuch(Made):
    def make(self) -> dict[str, Any]:
        return {"conv": nn.Conv2d(8, 8, 3, padding=1)}

    def forward(self, x: Tensor) -> Tensor:
        return x + F.interpolate(self.conv(F.max_pool2d(x, 2)), scale_factor=4.0)[:, :, : x.size(2), : x.size(3)]


@bug("attention-axis", ("", "einsum"), (2, 15, 64))
class ScoresSummedOverHeads(Heads):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        return self.join(torch.einsum("bhqd,bhkd->bqk", q, k).unsqueeze(1), v)


@bug("attention-axis", ("", "softmax"), (3, 3, 20, 24))
class WhereEachChannelIs(Made):
    def make(self) -> dict[str, Any]:
        return {"conv": nn.Conv2d(3, 8, 3, padding=1)}

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv(x).flatten(2).softmax(1)
        places = torch.linspace(-1, 1, x.size(3)).expand(x.size(2), -1).reshape(-1)
        return (weights * places).sum(-1)


@bug("batch-mixed", ("", "gather"), [(4, 20), numbers(4)])
class LooksAmongSamples(Made):
    def make(self) -> dict[str, Any]:
        return {"values": nn.Linear(20, 6)}

    def forward(self, x: Tensor, action: Tensor) -> Tensor:
        return self.values(x).gather(0, action.unsqueeze(0)).squeeze(0)


@bug("batch-mixed", ("", "mean"), (8, 3, 24, 24))
class CentredOverTheBatch(Made):
    def make(self) -> dict[str, Any]:
        return {"conv": nn.Conv2d(3, 8, 3, padding=1)}

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x - x.mean(0))


@bug("batch-mixed", ("", "argmax"), (6, 20))
class BestSampleOfAClass(Made):
    def make(self) -> dict[str, Any]:
        return {"head": nn.Linear(20, 7)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).argmax(0)


@bug("reshape-swap", ("", "view"), (2, 6, 3, 16, 16))
class FramesFoldedBackCrosswise(Made):
    def make(self) -> dict[str, Any]:
        return {"conv": nn.Conv2d(3, 12, 3, 2, 1), "rnn": nn.GRU(12, 10)}

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x.flatten(0, 1)).mean((2, 3))
        return self.rnn(h.view(x.size(1), x.size(0), -1))[0][-1]


@bug("batch-broadcast", ("", "mul"), [(3, 3, 16, 16), (3, 16, 16)])
class MapsAcrossSamples(Made):
    def make(self) -> dict[str, Any]:
        return {"conv": nn.Conv2d(3, 1, 3, padding=1)}

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (self.conv(x).sigmoid() * mask).sum()


@bug("swapped-roles", ("", "getitem"), (6, 18, 10))
class StateOfTheFirstLayer(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(10, 20, num_layers=3, batch_first=True)}

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[1][0]


@bug("swapped-roles", ("", "getitem"), (6, 18, 10))
class StateOfOneDirection(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.LSTM(10, 20, batch_first=True, bidirectional=True)}

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[1][0][-1]


@bug("swapped-roles", ("", "getitem"), (6, 18, 10))
class CellForState(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.LSTM(10, 20, batch_first=True)}

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[1][1][-1]


@bug("swapped-roles", ("", "getitem"), [(6, 18, 10), numbers(6)])
class LastStepOfPaddedOnes(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(10, 20, batch_first=True)}

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0][:, -1]


@bug("swapped-roles", ("attention", "MultiheadAttention"), (3, 26, 48))
class WeightsForOutput(Made):
    def make(self) -> dict[str, Any]:
        return {"attention": nn.MultiheadAttention(48, 4, batch_first=True), "head": nn.Linear(26, 5)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[1].mean(1))


@bug("unread-result", ("", "add"), (2, 8, 16, 16))
class AddedToItself(Made):
    def make(self) -> dict[str, Any]:
        return {"conv": nn.Conv2d(8, 8, 3, padding=1)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.relu(x + x)


@bug("repeated-layer", ("one", "Conv2d"), (2, 8, 16, 16))
class OneLayerOfTwoNames(Made):
    def make(self) -> dict[str, Any]:
        return dict(zip(("one", "two"), itertools.repeat(nn.Conv2d(8, 8, 3, padding=1)), strict=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.two(F.relu(self.one(x)))


@bug("swapped-roles", ("", "getitem"), (5, 14, 7))
class FirstStepOfBothDirections(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(7, 16, batch_first=True, bidirectional=True)}

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0][:, 0]


@bug("batch-mixed", ("", "getitem"), [(4, 30, 12), numbers(4)])
class EndsOfAllSamples(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(12, 16, batch_first=True), "head": nn.Linear(16, 3)}

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, lengths - 1])


@bug("wrong-axis", ("", "chunk"), (3, 24, 16))
class HalfOfTheStepsIsTheGate(Made):
    def make(self) -> dict[str, Any]:
        return {"embed": nn.Linear(16, 64)}

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.embed(x).chunk(2, 1)
        return one * other.sigmoid()


@bug("layer-rank", ("pool", "AvgPool1d"), (4, 20, 9))
class HalvesTheFeatures(Made):
    def make(self) -> dict[str, Any]:
        return {"rnn": nn.GRU(9, 32, batch_first=True), "pool": nn.AvgPool1d(2), "head": nn.Linear(16, 3)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.rnn(x)[0]))


@bug("odd-map", ("3", "ConvTranspose1d"), (2, 1, 400))
def signal_that_ends_short() -> nn.Module:
    enlarge = nn.ConvTranspose1d(16, 8, 4, 2), nn.ConvTranspose1d(8, 1, 8, 4)
    return nn.Sequential(nn.Conv1d(1, 8, 8, 4), nn.Conv1d(8, 16, 4, 2), *enlarge)
