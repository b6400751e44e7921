"""Mistakes that people make less often than those of the other files, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class GateOfOtherChannels(nn.Module):
    def __init__(self, units=16):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, units)

    def forward(self, x):
        x = self.conv(x)
        gate = self.fc(x.mean((2, 3)))
        return x * gate[:, :, None, None]


@twin(GateOfOtherChannels, (2, 3, 9, 9), reason="16 channels, the feature map has 8")
class GateOfOtherChannelsT(GateOfOtherChannels):
    def __init__(self):
        super().__init__(8)


class LearnedQueries(nn.Module):
    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(4, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        return self.attention(self.queries, x, x)[0]


@twin(LearnedQueries, (3, 6, 16), reason="it is repeated for each sample")
class LearnedQueriesT(LearnedQueries):
    def forward(self, x):
        return self.attention(self.queries.expand(len(x), -1, -1), x, x)[0]


class AttendsToChannels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 16, 3)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        x = self.conv(x)
        return self.attention(x, x, x)[0]


@twin(AttendsToChannels, (2, 8, 10), reason="dim 1 of the query has the 16 features")
class AttendsToChannelsT(AttendsToChannels):
    def forward(self, x):
        x = self.conv(x).transpose(1, 2)
        return self.attention(x, x, x)[0]


class KeysOfOtherFeatures(nn.Module):
    def __init__(self, features=12):
        super().__init__()
        self.query = nn.Linear(8, 16)
        self.key = nn.Linear(8, features)

    def forward(self, x):
        return F.scaled_dot_product_attention(self.query(x), self.key(x), x)


@twin(KeysOfOtherFeatures, (2, 5, 8), reason="the query has 16 features, the key has 12")
class KeysOfOtherFeaturesT(KeysOfOtherFeatures):
    def __init__(self):
        super().__init__(16)


class FlatAgainstImage(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return F.mse_loss(self.conv(x).flatten(1), x)


@twin(FlatAgainstImage, (2, 3, 8, 8), reason="mse_loss compares numbers one to one")
class FlatAgainstImageT(FlatAgainstImage):
    def forward(self, x):
        return F.mse_loss(self.conv(x), x)


class Classes(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 5)


class IntegersOfEachClass(Classes):
    def forward(self, x, labels):
        return F.cross_entropy(self.fc(x), labels)


@twin(IntegersOfEachClass, (2, 8), ints(2, 5), reason="as integers they are class indices")
class IntegersOfEachClassT(Classes):
    def forward(self, x, labels):
        return F.cross_entropy(self.fc(x), labels.float())


class IntegersAsProbabilities(Classes):
    def forward(self, x, labels):
        return F.binary_cross_entropy_with_logits(self.fc(x), labels)


@twin(IntegersAsProbabilities, (2, 8), ints(2, 5), reason="the targets are int64")
class IntegersAsProbabilitiesT(Classes):
    def forward(self, x, labels):
        return F.binary_cross_entropy_with_logits(self.fc(x), labels.float())


class ProductOfThreeDims(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 5))

    def forward(self, x):
        return torch.mm(x, self.weight)


@twin(ProductOfThreeDims, (2, 3, 8), reason="mm multiplies two matrices")
class ProductOfThreeDimsT(ProductOfThreeDims):
    def forward(self, x):
        return x @ self.weight


class NormOfOtherRank(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.norm(self.conv(x))


@twin(NormOfOtherRank, (2, 8, 10), reason="[2, 8, 8] has 3 dims")
class NormOfOtherRankT(NormOfOtherRank):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)


class GroupsOfOtherChannels(nn.Module):
    def __init__(self, channels=32):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.norm = nn.GroupNorm(4, channels)

    def forward(self, x):
        return self.norm(self.conv(x))


@twin(GroupsOfOtherChannels, (2, 3, 8, 8), reason="input has 16 channels")
class GroupsOfOtherChannelsT(GroupsOfOtherChannels):
    def __init__(self):
        super().__init__(16)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, 16, batch_first=True)


class OneStepWithoutADim(Recurrent):
    def forward(self, x):
        state = torch.zeros(1, x.shape[0], 16)
        return self.rnn(x[:, 0], state)[0]


@twin(OneStepWithoutADim, (2, 5, 8), reason="one sample without a batch")
class OneStepWithoutADimT(Recurrent):
    def forward(self, x):
        state = torch.zeros(1, x.shape[0], 16)
        return self.rnn(x[:, :1], state)[0]


class BatchFirstOfAState(Recurrent):
    def forward(self, x):
        state = torch.zeros(x.shape[0], 1, 16)
        return self.rnn(x, state)[0]


@twin(BatchFirstOfAState, (2, 5, 8), reason="its dims are in another order")
class BatchFirstOfAStateT(Recurrent):
    def forward(self, x):
        state = torch.zeros(1, x.shape[0], 16)
        return self.rnn(x, state)[0]


class DecoderOfOtherUnits(nn.Module):
    def __init__(self, units=32):
        super().__init__()
        self.encoder = nn.GRU(8, 16, batch_first=True)
        self.decoder = nn.GRU(8, units, batch_first=True)

    def forward(self, x):
        _, state = self.encoder(x)
        return self.decoder(x, state)[0]


@twin(DecoderOfOtherUnits, (2, 5, 8), reason="a hidden size of 16 against 32")
class DecoderOfOtherUnitsT(DecoderOfOtherUnits):
    def __init__(self):
        super().__init__(16)


class SidesThatDoNotFit(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 128)
        self.conv = nn.Conv2d(8, 3, 3)

    def forward(self, x):
        return self.conv(self.fc(x).unflatten(1, (8, 5, 5)))


@twin(SidesThatDoNotFit, (2, 8), reason="2 × 128 = 256 is not 2 ×")
class SidesThatDoNotFitT(SidesThatDoNotFit):
    def forward(self, x):
        return self.conv(self.fc(x).unflatten(1, (8, 4, 4)))


class ThreeValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        y = self.fc(x)
        return y, y * 2, y * 3


class UnpacksTwoOfThree(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = ThreeValues()

    def forward(self, x):
        mean, spread = self.encoder(x)
        return mean + spread


@twin(UnpacksTwoOfThree, (2, 8), reason="'encoder' (ThreeValues) returns 3 values, the line unpacks 2")
class UnpacksTwoOfThreeT(UnpacksTwoOfThree):
    def forward(self, x):
        mean, spread, _ = self.encoder(x)
        return mean + spread


class SplitsInTooFew(nn.Module):
    def __init__(self, units=16):
        super().__init__()
        self.qkv = nn.Linear(8, units)

    def forward(self, x):
        q, k, v = self.qkv(x).split(8, -1)
        return q + k + v


@twin(SplitsInTooFew, (2, 8))
class SplitsInTooFewT(SplitsInTooFew):
    def __init__(self):
        super().__init__(24)


class UnpacksASize(nn.Module):
    def forward(self, x):
        batch, steps = x.size(0)
        return x.reshape(batch * steps, -1)


@twin(UnpacksASize, (2, 3, 4), reason="x.size(0) is one number")
class UnpacksASizeT(nn.Module):
    def forward(self, x):
        batch, steps = x.shape[:2]
        return x.reshape(batch * steps, -1)


class ResizedToAllDims(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, 2)

    def forward(self, x):
        return F.interpolate(self.conv(x), x.shape) + x


@twin(ResizedToAllDims, (2, 3, 9, 9), reason="has the batch and the channels too")
class ResizedToAllDimsT(ResizedToAllDims):
    def forward(self, x):
        return F.interpolate(self.conv(x), x.shape[2:]) + x
