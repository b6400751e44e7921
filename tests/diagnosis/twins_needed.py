"""Natural models whose reason or fix is written for their kind, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class StepsFirstTable(nn.Module):
    def __init__(self, d=8, longest=50):
        super().__init__()
        self.embed = nn.Embedding(20, d)
        self.register_buffer("pe", torch.zeros(longest, 1, d))

    def forward(self, ids):
        x = self.embed(ids)
        return x + self.pe[: x.size(1)]


@twin(StepsFirstTable, ints(4, 9), reason="has the steps in dim 0")
class StepsFirstTableT(StepsFirstTable):
    def forward(self, ids):
        x = self.embed(ids)
        return x + self.pe[: x.size(1)].transpose(0, 1)


class TwoIntoOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8 + 3, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, state, action):
        return self.net(state, action)


@twin(TwoIntoOne, (4, 8), (4, 3), reason="2 were given")
class TwoIntoOneT(TwoIntoOne):
    def forward(self, state, action):
        return self.net(torch.cat([state, action], dim=-1))


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4, bias=False)

    def forward(self, x):
        y = self.fc(x)
        self.fc.weight = F.normalize(self.fc.weight, dim=1)
        return y


@twin(Normalized, (4, 8), reason="self.fc.weight is a parameter")
class NormalizedT(Normalized):
    def forward(self, x):
        y = self.fc(x)
        self.fc.weight.data = F.normalize(self.fc.weight, dim=1)
        return y


class Signs(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x, y):
        a = self.fc(x) > 0
        b = self.fc(y) > 0
        return (a - b).abs()


@twin(Signs, (4, 8), (4, 8), reason="bool tensors can't be subtracted")
class SignsT(Signs):
    def forward(self, x, y):
        a = self.fc(x) > 0
        b = self.fc(y) > 0
        return (a.float() - b.float()).abs()


class Transformed(nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))

    def forward(self, x):
        grid = F.affine_grid(self.theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


@twin(Transformed, (4, 1, 8, 8), reason="a matrix of 2 × 3 for each sample")
class TransformedT(Transformed):
    def forward(self, x):
        grid = F.affine_grid(self.theta.expand(x.size(0), -1, -1), x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class OneState(nn.Module):
    def __init__(self):
        super().__init__()
        self.h0 = nn.Parameter(torch.zeros(16))
        self.cell = nn.GRUCell(8, 16)

    def forward(self, x):
        h = self.h0
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return h


@twin(OneState, (3, 5, 8), reason="the hidden state is [16]")
class OneStateT(OneState):
    def forward(self, x):
        h = self.h0.expand(x.size(0), -1)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return h


class Unpadded(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(i, o, 3, stride, 1), nn.Conv2d(o, o, 3)
        self.short = nn.Conv2d(i, o, 1, stride)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.short(x))


class UnpaddedBlocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = Unpadded(3, 8), Unpadded(8, 16, 2)

    def forward(self, x):
        return self.two(self.one(x))


@twin(UnpaddedBlocks, (2, 3, 16, 16), reason="'one.conv2' has padding 0, 1 keeps the size")
class UnpaddedBlocksT(UnpaddedBlocks):
    def __init__(self):
        super().__init__()
        self.one.conv2, self.two.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)


class WidelyPadded(nn.Module):
    padding = 2

    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(3, 2, padding=self.padding)

    def forward(self, x):
        return self.pool(x)


@twin(WidelyPadded, (2, 3, 8, 8), reason="padding 2 is more than half of the window 3")
class WidelyPaddedT(WidelyPadded):
    padding = 1


class MethodNotCalled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 1)

    def forward(self, x):
        return self.fc(x).squeeze.sigmoid()


@twin(MethodNotCalled, (4, 8), reason="is a method, and is not called")
class MethodNotCalledT(MethodNotCalled):
    def forward(self, x):
        return self.fc(x).squeeze().sigmoid()


class HeadsByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"a": nn.Linear(8, 2), "b": nn.Linear(8, 3)})

    def forward(self, x):
        return self.heads("a")(x)


@twin(HeadsByName, (4, 8), reason="a ModuleDict holds layers")
class HeadsByNameT(HeadsByName):
    def forward(self, x):
        return self.heads["a"](x)


class SlopeAsText(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return F.leaky_relu(self.fc(x), "0.1")


@twin(SlopeAsText, (4, 8), reason='"0.1" is a text')
class SlopeAsTextT(SlopeAsText):
    def forward(self, x):
        return F.leaky_relu(self.fc(x), 0.1)


class VectorOfSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, 16, batch_first=True)

    def forward(self, x):
        out, h = self.rnn(x)
        return torch.bmm(h[-1], out).squeeze(-1)


@twin(VectorOfSteps, (3, 7, 8), reason="bmm expects two 3-d tensors")
class VectorOfStepsT(VectorOfSteps):
    def forward(self, x):
        out, h = self.rnn(x)
        return torch.bmm(out, h[-1].unsqueeze(-1)).squeeze(-1)
