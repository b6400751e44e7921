"""Models that call torch as it is not to be called, as in forum threads, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class ComplexSpectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, wave):
        spectrum = torch.fft.rfft(wave.unfold(1, 32, 16))
        return self.conv(spectrum.unsqueeze(1))


@twin(ComplexSpectrum, (2, 128), reason="got complex64")
class ComplexSpectrumT(ComplexSpectrum):
    def forward(self, wave):
        spectrum = torch.fft.rfft(wave.unfold(1, 32, 16)).abs()
        return self.conv(spectrum.unsqueeze(1))


class MaxAndMean(nn.Module):
    """``max`` along a dim gives the indices too."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        most = x.max(1)
        return self.fc(torch.cat([most, x.mean(1)], -1))


@twin(MaxAndMean, (3, 5, 8), reason="max() along a dim returns (values, indices)")
class MaxAndMeanT(MaxAndMean):
    def forward(self, x):
        return self.fc(torch.cat([x.max(1)[0], x.mean(1)], -1))


class MaxPlusMean(MaxAndMean):
    def forward(self, x):
        most = x.max(dim=1)
        return most + x.mean(1)


@twin(MaxPlusMean, (3, 5, 8), reason="max() along a dim returns (values, indices)")
class MaxPlusMeanT(MaxAndMean):
    def forward(self, x):
        return x.amax(1) + x.mean(1)


class NotCalled(nn.Module):
    """A layer is passed on, and not what it returns."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.norm(self.conv)
        return x.relu()


@twin(NotCalled, (2, 3, 8, 8), reason="self.conv is the Conv2d itself, and not what it returns")
class NotCalledT(NotCalled):
    def forward(self, x):
        return self.norm(self.conv(x)).relu()


class NotCalledInSum(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)

    def forward(self, x):
        h = self.one(x)
        return h + self.two


@twin(NotCalledInSum, (2, 4), reason="self.two is the Linear itself, and not what it returns")
class NotCalledInSumT(NotCalledInSum):
    def forward(self, x):
        h = self.one(x)
        return h + self.two(h)


class LossOfAClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.criterion = nn.CrossEntropyLoss

    def forward(self, x, y):
        return self.criterion(self.fc(x), y)


@twin(LossOfAClass, (5, 4), ints(5), reason="self.criterion is a class")
class LossOfAClassT(LossOfAClass):
    def forward(self, x, y):
        return F.cross_entropy(self.fc(x), y)


class KeysOfModules(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleDict({"up": nn.Linear(4, 6), "down": nn.Linear(6, 2)})

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


@twin(KeysOfModules, (2, 4), reason="step is a key of self.steps: self.steps[step] is the module")
class KeysOfModulesT(KeysOfModules):
    def forward(self, x):
        for step in self.steps.values():
            x = step(x)
        return x


class SoftmaxOfTwo(nn.Module):
    def __init__(self, dim=2):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.probabilities = nn.Softmax(dim=dim)

    def forward(self, x):
        return self.probabilities(self.fc(x))


@twin(SoftmaxOfTwo, (2, 4), reason="dim=2, and [2, 3] has 2 dims: -2 … 1")
class SoftmaxOfTwoT(SoftmaxOfTwo):
    def __init__(self):
        super().__init__(-1)


class MapsModeOnSignals(nn.Module):
    def __init__(self, mode="bilinear"):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode=mode)

    def forward(self, x):
        return self.up(x)


@twin(MapsModeOnSignals, (2, 4, 10), reason="mode 'bilinear' enlarges 4 dims, [2, 4, 10] has 3")
class MapsModeOnSignalsT(MapsModeOnSignals):
    def __init__(self):
        super().__init__("linear")


class AllTurned(nn.Module):
    def forward(self, x):
        return torch.softmax(x @ x.T, -1) @ x


@twin(AllTurned, (2, 5, 8), reason=".T turns all dims of [2, 5, 8], .mT the last two")
class AllTurnedT(AllTurned):
    def forward(self, x):
        return torch.softmax(x @ x.transpose(1, 2), -1) @ x


class Misspelt(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.trainning)


@twin(Misspelt, (2, 5), reason="the model has no 'trainning'; it has 'training'")
class MisspeltT(Misspelt):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


class LayerOfATensor(nn.Module):
    """A layer is made of a tensor, and is not run."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        x = nn.MaxPool2d(self.one(x), 2)
        return self.two(x)


@twin(LayerOfATensor, (2, 3, 8, 8), reason="makes a layer with a tensor for its settings, and does not run it")
class LayerOfATensorT(LayerOfATensor):
    def forward(self, x):
        return self.two(F.max_pool2d(self.one(x), 2))


class DropoutOfATensor(nn.Module):
    def forward(self, x):
        return nn.Dropout(x)


@twin(DropoutOfATensor, (2, 3), reason="nn.Dropout(x) makes a layer with a tensor for its settings")
class DropoutOfATensorT(nn.Module):
    def forward(self, x):
        return F.dropout(x)


class CatWithoutList(nn.Module):
    def forward(self, x, y):
        return torch.cat(x.relu(), y)


@twin(CatWithoutList, (2, 3), (2, 3), reason="torch.cat takes its tensors as one list")
class CatWithoutListT(nn.Module):
    def forward(self, x, y):
        return torch.cat([x.relu(), y], dim=1)


class StackWithoutList(nn.Module):
    def forward(self, x, y):
        return torch.hstack(x, y) * torch.cat([y, x], 1)


@twin(StackWithoutList, (2, 3), (2, 3), reason="torch.hstack takes its tensors as one list")
class StackWithoutListT(nn.Module):
    def forward(self, x, y):
        return torch.hstack([x, y]) * torch.cat([y, x], 1)


class CatWithPosition(nn.Module):
    def forward(self, x, y):
        return torch.cat(x, y, 1)


@twin(CatWithPosition, (2, 3), (2, 3), reason="torch.cat takes its tensors as one list")
class CatWithPositionT(nn.Module):
    def forward(self, x, y):
        return torch.cat([x, y], 1)


class HalfOfSteps(nn.Module):
    def forward(self, x):
        half = x.size(1) / 2
        return x[:, :half] * x[:, half:].sigmoid()


@twin(HalfOfSteps, (2, 8), reason="an index is an integer, and / gives a float")
class HalfOfStepsT(nn.Module):
    def forward(self, x):
        return x[:, : x.size(1) // 2] * x[:, x.size(1) // 2 :].sigmoid()


class MeanOfThree(nn.Module):
    def forward(self, x):
        return x.mean(dim=[2, 3, 4])


@twin(MeanOfThree, (2, 3, 8, 8), reason="dim=[2, 3, 4], and [2, 3, 8, 8] has 4 dims")
class MeanOfThreeT(nn.Module):
    def forward(self, x):
        return x.mean(dim=[2, 3])


class MethodByAnotherName(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(4, 4)
        self.dec = nn.Linear(4, 6)

    def encode_x(self, x):
        return self.enc(x).relu()

    def forward(self, x):
        return self.dec(self.encode(x))


@twin(MethodByAnotherName, (3, 4), reason="the model has no 'encode'; it has 'encode_x'")
class MethodByAnotherNameT(MethodByAnotherName):
    def forward(self, x):
        return self.dec(self.encode_x(x))


class LetterLess(nn.Module):
    def forward(self, weights, x):
        return torch.einsum("bqt,bd->bqd", weights, x)


@twin(LetterLess, (2, 3, 5), (2, 5, 4), reason="'bd' has 2 letters, x [2, 5, 4] has 3 dims")
class LetterLessT(nn.Module):
    def forward(self, weights, x):
        return weights @ x


class JoinsNumbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)

    def forward(self, x, t):
        return self.fc(torch.cat([x, t], dim=1))


@twin(JoinsNumbers, (7,), (7,), reason="[7] has 1: stack makes another")
class JoinsNumbersT(JoinsNumbers):
    def forward(self, x, t):
        return self.fc(torch.stack([x, t], dim=1))


class MeanOfNeighbours(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mix = nn.Linear(width, width)

    def forward(self, x, edge_index):
        src, dst = edge_index
        return x + torch.zeros_like(x).index_add(0, dst, self.mix(x)[src])


class MeanOfNeighboursT(MeanOfNeighbours):
    def forward(self, x, edge_index):
        src, dst = edge_index.t()
        return x + torch.zeros_like(x).index_add(0, dst, self.mix(x)[src])


class EdgesAsPairs(nn.Module):
    """A graph's edges are a list of pairs, the layer takes two rows."""

    kind = MeanOfNeighbours

    def __init__(self, width=6):
        super().__init__()
        self.layer = self.kind(width)

    def forward(self, x, edge_index):
        return self.layer(x, edge_index)


@twin(EdgesAsPairs, (5, 6), torch.zeros(12, 2).long(), reason="edge_index is [12, 2]: its 2 are in the last dim")
class EdgesAsPairsT(EdgesAsPairs):
    kind = MeanOfNeighboursT
