"""Features, weights or samples that do not go together, as in forum threads: models, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class Prototypes(nn.Module):
    """Each query is to be compared with each prototype."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(20, 6)

    def forward(self, support, query):
        s, q = self.enc(support), self.enc(query)
        return ((q - s) ** 2).sum(-1)


@twin(Prototypes, (5, 20), (15, 20), reason="each with each of the others is [15, 5, 6]")
class PrototypesT(Prototypes):
    def forward(self, support, query):
        s, q = self.enc(support), self.enc(query)
        return ((q[:, None] - s) ** 2).sum(-1)


class BilinearWidths(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(10, 16), nn.Linear(12, 24)
        self.both = nn.Bilinear(16, 16, 8)

    def forward(self, a, b):
        return self.both(self.left(a), self.right(b))


@twin(BilinearWidths, (3, 10), (3, 12), reason="expects 16 as its input 2")
class BilinearWidthsT(BilinearWidths):
    def __init__(self):
        super().__init__()
        self.both = nn.Bilinear(16, 24, 8)


class EmbeddingsOfTwoWidths(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.text = nn.Linear(24, 16), nn.Linear(20, 8)

    def forward(self, image, text):
        a = F.normalize(self.image(image), dim=-1)
        b = F.normalize(self.text(text), dim=-1)
        return a @ b.t()


@twin(EmbeddingsOfTwoWidths, (6, 24), (6, 20), reason="the inner 16 and 8 differ")
class EmbeddingsOfTwoWidthsT(EmbeddingsOfTwoWidths):
    def __init__(self):
        super().__init__()
        self.text = nn.Linear(20, 16)


class OneNumberASample(nn.Module):
    def __init__(self):
        super().__init__()
        self.time, self.point = nn.Linear(1, 16), nn.Linear(2, 16)

    def forward(self, x, t):
        return torch.relu(self.point(x) + self.time(t))


@twin(OneNumberASample, (12, 2), (12,), reason="has one number a sample")
class OneNumberASampleT(OneNumberASample):
    def forward(self, x, t):
        return torch.relu(self.point(x) + self.time(t[:, None]))


class FactorsOfTwoWidths(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Embedding(50, 12), nn.Embedding(40, 8)

    def forward(self, u, i):
        return (self.user(u) * self.item(i)).sum(1)


@twin(FactorsOfTwoWidths, ints(6), ints(6), reason="takes numbers one to one")
class FactorsOfTwoWidthsT(FactorsOfTwoWidths):
    def __init__(self):
        super().__init__()
        self.item = nn.Embedding(40, 12)


class BiasOfAnotherWidth(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.fc, self.shift = nn.Linear(16, 16), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.fc(x) + self.shift


@twin(BiasOfAnotherWidth, (4, 16), reason="'shift' has 32 numbers, the other has 16 features")
class BiasOfAnotherWidthT(BiasOfAnotherWidth):
    def __init__(self):
        super().__init__(16)


class DeviationOfAnotherWidth(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.mean, self.log_std = nn.Linear(10, 3), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.mean(x) + self.log_std.exp() * torch.ones(x.size(0), 3)


@twin(DeviationOfAnotherWidth, (5, 10), reason="'log_std' has 4 numbers, the other has 3 features")
class DeviationOfAnotherWidthT(DeviationOfAnotherWidth):
    def __init__(self):
        super().__init__(3)


class OneHotLabels(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x, y):
        return F.nll_loss(F.log_softmax(self.fc(x), 1), y)


@twin(OneHotLabels, (8, 6), (8, 3), reason="one a sample")
class OneHotLabelsT(OneHotLabels):
    def forward(self, x, y):
        return F.nll_loss(F.log_softmax(self.fc(x), 1), y.argmax(1))


class WeightOfAnotherWidth(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 8))

    def forward(self, x):
        return x @ self.weight


@twin(WeightOfAnotherWidth, (7, 12), reason="the inner 12 and 16 differ")
class WeightOfAnotherWidthT(WeightOfAnotherWidth):
    def __init__(self):
        super().__init__(12)


class NodesAddedAlongFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 8)

    def forward(self, x, graph):
        h = self.fc(x)
        out = torch.zeros(4, 8)
        out.index_add_(1, graph, h)
        return out


@twin(NodesAddedAlongFeatures, (20, 6), ints(20), reason="for each of the 20 indices")
class NodesAddedAlongFeaturesT(NodesAddedAlongFeatures):
    def forward(self, x, graph):
        h = self.fc(x)
        out = torch.zeros(4, 8)
        out.index_add_(0, graph, h)
        return out


class NoiseOfClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16 + 10, 8)

    def forward(self, z, y):
        return self.fc(torch.cat([z, y], 1))


@twin(NoiseOfClass, (4, 16), ints(4), reason="one-hot, 10 classes give the 26 features that are expected")
class NoiseOfClassT(NoiseOfClass):
    def forward(self, z, y):
        return super().forward(z, F.one_hot(y, 10))


class TwoSums(nn.Module):
    """The second of two sums on a line is the one that fails."""

    def __init__(self):
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(5, 5))

    def forward(self, scores, emissions):
        best = scores.unsqueeze(2) + self.transitions + emissions
        return best.logsumexp(1)


@twin(TwoSums, (3, 5), (3, 5), reason="[3, 5] is aligned with the last dims of [3, 5, 5]")
class TwoSumsT(TwoSums):
    def forward(self, scores, emissions):
        return super().forward(scores, emissions.unsqueeze(1))


class WeightFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 8))

    def forward(self, x, adj):
        return F.relu(adj @ self.weight @ x)


@twin(WeightFirst, (10, 6), (10, 10), reason="of three factors the weight is multiplied last")
class WeightFirstT(WeightFirst):
    def forward(self, x, adj):
        return F.relu(adj @ x @ self.weight)


class PlacesAndCode(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2 + 16, 3)

    def forward(self, places, code):
        return self.fc(torch.cat([places, code], -1))


@twin(PlacesAndCode, (3, 10, 2), (3, 16), reason="a vector of each sample is repeated over the 10 positions")
class PlacesAndCodeT(PlacesAndCode):
    def forward(self, places, code):
        return super().forward(places, code.unsqueeze(1).expand(-1, places.size(1), -1))


class NoiseOfTheHidden(nn.Module):
    """Noise is made like the layer before, and scaled by a deviation of another width."""

    def __init__(self):
        super().__init__()
        self.enc, self.mean, self.deviation = nn.Linear(6, 20), nn.Linear(20, 4), nn.Linear(20, 4)
        self.dec = nn.Linear(4, 6)

    def forward(self, x):
        h = self.enc(x).relu()
        z = self.mean(h) + torch.randn_like(h) * self.deviation(h).exp()
        return self.dec(z)


@twin(NoiseOfTheHidden, (3, 6), reason="randn_like() was made like [3, 20], and goes with [3, 4]")
class NoiseOfTheHiddenT(NoiseOfTheHidden):
    def forward(self, x):
        h = self.enc(x).relu()
        deviation = self.deviation(h).exp()
        return self.dec(self.mean(h) + torch.randn_like(deviation) * deviation)


class PairsOfNodes(nn.Module):
    """Each node with each other one: joined along the nodes, and not along the features."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(8, 1)

    def forward(self, x):
        one = x.unsqueeze(2).expand(-1, -1, x.size(1), -1)
        pairs = torch.cat([one, one.transpose(1, 2)], dim=2)
        return self.score(pairs).squeeze(-1).softmax(-1) @ x


@twin(PairsOfNodes, (2, 5, 4), reason="cat joins along dim 2: there are 4 + 4 = 8 features")
class PairsOfNodesT(PairsOfNodes):
    def forward(self, x):
        one = x.unsqueeze(2).expand(-1, -1, x.size(1), -1)
        pairs = torch.cat([one, one.transpose(1, 2)], dim=-1)
        return self.score(pairs).squeeze(-1).softmax(-1) @ x


class TiedBack(nn.Module):
    """An encoder's weight leads back, not transposed, with a bias of the code's width."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(12, 5)
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x):
        return F.linear(self.enc(x).relu(), self.enc.weight, self.bias)


@twin(TiedBack, (3, 12), reason="the weight [5, 12] is transposed: a Linear's weight is [out, in]")
class TiedBackT(nn.Module):
    def forward(self, x):
        return x


class CodesOfOtherWidth(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.codes = nn.Parameter(torch.zeros(16, width))

    def forward(self, x):
        return torch.cdist(x, self.codes.expand(x.size(0), -1, -1)).argmin(-1)


@twin(CodesOfOtherWidth, (2, 5, 8), reason="the distances are between vectors of 8 and of 6 numbers")
class CodesOfOtherWidthT(CodesOfOtherWidth):
    def __init__(self):
        super().__init__(8)


class OtherOrder(nn.Module):
    def __init__(self):
        super().__init__()
        self.widen, self.narrow = nn.Linear(4, 10), nn.Linear(10, 4)

    def forward(self, x):
        return x + self.widen(self.narrow(x).relu())


@twin(OtherOrder, (2, 4), reason="the layers of the line are in the other order: 'narrow' expects 10 features, got 4")
class OtherOrderT(OtherOrder):
    def forward(self, x):
        return x + self.narrow(self.widen(x).relu())
