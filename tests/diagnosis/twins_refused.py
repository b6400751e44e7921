"""Models that Python or a function's signature refuses, each with its repaired twin."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class ForgottenSelf(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(conv1(x))  # noqa: F821  # that is what is wrong
        return self.fc(x.mean((2, 3)))


@twin(ForgottenSelf, (2, 3, 8, 8), reason="self.conv1 is the model's")
class ForgottenSelfT(ForgottenSelf):
    def forward(self, x):
        return self.fc(F.relu(self.conv1(x)).mean((2, 3)))


class TrainForTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = x.view(x.size[0], -1)
        x = F.dropout(F.relu(self.fc1(x)), 0.5, training=self.train)
        return self.fc2(x)


@twin(TrainForTraining, (5, 3, 4), reason="x.size is a method, and is not called")
class TrainForTrainingT(TrainForTraining):
    def forward(self, x):
        return self.fc2(F.dropout(F.relu(self.fc1(x.view(x.size(0), -1))), 0.5, training=self.training))


class CalledShape(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))

    def forward(self, x):
        b = x.shape(0)
        return self.fc(torch.cat([self.token.expand(b, -1, -1), x], dim=1))


@twin(CalledShape, (3, 5, 6), reason="x.shape is no method, and is called")
class CalledShapeT(CalledShape):
    def forward(self, x):
        return self.fc(torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1))


class WrongKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return F.leakyrelu(F.interpolate(self.conv(x), scale=2), 0.2)


@twin(WrongKeyword, (2, 3, 8, 8), reason="F has no 'leakyrelu'; it has 'leaky_relu'")
class WrongKeywordT(WrongKeyword):
    def forward(self, x):
        return F.leaky_relu(F.interpolate(self.conv(x), scale_factor=2), 0.2)


class ClassForLayer(nn.Module):
    """A comma makes a tuple of a layer, and a class stands for a layer of it."""

    def __init__(self, act=nn.ReLU):
        super().__init__()
        self.enc = (nn.Linear(10, 4),)
        self.act = act
        self.dec = nn.Linear(4, 10)

    def forward(self, x):
        return self.dec(self.act(self.enc(x)))


@twin(ClassForLayer, (3, 10), reason="self.enc is a tuple of one")
class ClassForLayerT(ClassForLayer):
    def __init__(self):
        super().__init__()
        self.enc, self.act = nn.Linear(10, 4), nn.ReLU()


class RootOfANumber(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.q, self.k, self.d = nn.Linear(d, d), nn.Linear(d, d), d

    def forward(self, x):
        s = self.q(x) @ self.k(x).transpose(0, 2, 1) / torch.sqrt(self.d)
        s = s.masked_fill(torch.ones(s.size(1), s.size(1)).tril() == 0, "-inf")
        return F.softmax(s, dim=-1) @ x


@twin(RootOfANumber, (2, 5, 8), reason="permute takes one")
class RootOfANumberT(RootOfANumber):
    def forward(self, x):
        s = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(self.d)
        s = s.masked_fill(torch.ones(s.size(1), s.size(1)).tril() == 0, float("-inf"))
        return F.softmax(s, dim=-1) @ x


class CountedLayers(nn.Module):
    def __init__(self, sizes=(6, 8, 3)):
        super().__init__()
        self.sizes, self.num = sizes, len(sizes)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])

    def forward(self, x):
        for i in self.num:
            x = self.layers[i](x)
        return x


@twin(CountedLayers, (4, 6), reason="self.num is one number")
class CountedLayersT(CountedLayers):
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class FloatMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Linear(6, 1)

    def forward(self, x, mask):
        s = self.score(x).squeeze(-1).masked_fill(mask, -1e9)
        return (s.softmax(1).unsqueeze(-1) * x).sum(1)


@twin(FloatMask, (3, 5, 6), (3, 5), reason="masked_fill reads booleans")
class FloatMaskT(FloatMask):
    def forward(self, x, mask):
        return super().forward(x, mask.bool())


class NoDownsample(nn.Module):
    def __init__(self, downsample=None):
        super().__init__()
        self.conv, self.downsample = nn.Conv2d(4, 4, 3, padding=1), downsample

    def forward(self, x):
        identity = self.downsample(x)
        return F.relu(self.conv(x) + identity)


@twin(NoDownsample, (2, 4, 6, 6), reason="self.downsample is None, and is called")
class NoDownsampleT(NoDownsample):
    def forward(self, x):
        return F.relu(self.conv(x) + x)


class CellWithTwoStates(nn.Module):
    """A cell of one state, whose outputs are collected in a list that was never made."""

    def __init__(self):
        super().__init__()
        self.cell, self.fc = nn.GRUCell(5, 8), nn.Linear(8, 2)

    def forward(self, x):
        h = torch.zeros(x.size(0), 8)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], h)  # noqa: RUF059  # as people write it
            outs.append(h)  # noqa: F821  # that is what is wrong
        return self.fc(outs)  # noqa: F821


@twin(CellWithTwoStates, (3, 4, 5), reason="returns one tensor, and the line unpacks 2 values")
class CellWithTwoStatesT(CellWithTwoStates):
    def forward(self, x):
        h, outs = torch.zeros(x.size(0), 8), []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            outs.append(h)
        return self.fc(torch.stack(outs, dim=1))


class MethodWithoutSelf(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(9, 3), nn.Linear(3, 9)

    def encode(x):
        return x.flatten(1)

    def forward(self, x):
        return self.dec(self.enc(self.encode(x)))


@twin(MethodWithoutSelf, (4, 3, 3), reason="encode is a method, and has no self")
class MethodWithoutSelfT(MethodWithoutSelf):
    def forward(self, x):
        return self.dec(self.enc(x.flatten(1)))


class UndefinedRelu(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.l2, self.l3 = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x):
        x = self.relu(self.l1(x))
        x = self.relu(self.l2(x))
        return self.sigmoid(self.l3(x))


@twin(UndefinedRelu, (3, 5), reason="the model has no 'relu'")
class UndefinedReluT(UndefinedRelu):
    def forward(self, x):
        return torch.sigmoid(self.l3(F.relu(self.l2(F.relu(self.l1(x))))))


class NoBatchSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.p = nn.LSTM(4, 6, batch_first=True), 0.2

    def init_hidden(self, batch_size):
        return torch.zeros(1, batch_size, 6), torch.zeros(1, batch_size, 6)

    def forward(self, x):
        hidden = self.init_hidden()
        out, hidden = self.lstm(F.pad(x, 1)[:, :, 1:-1], hidden)
        return self.p(out[:, -1])


@twin(NoBatchSize, (3, 5, 4), reason="init_hidden needs 'batch_size'")
class NoBatchSizeT(NoBatchSize):
    def forward(self, x):
        return self.lstm(x, self.init_hidden(x.size(0)))[0][:, -1] * self.p


class Overwritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool, self.gamma = nn.MaxPool2d(2), nn.Parameter(torch.ones(4))
        self.fc = nn.Linear(4 * 3 * 3, 5)

    def forward(self, x):
        self.gamma.clamp_(0, 1)
        self.pool = self.pool(x * self.gamma[:, None, None])
        x = self.pool.view(-1, 4 * 3 * 3)
        return self.fc(x)


@twin(Overwritten, (2, 4, 6, 6), reason="a parameter is changed in place")
class OverwrittenT(Overwritten):
    def forward(self, x):
        return self.fc(self.pool(x * self.gamma.clamp(0, 1)[:, None, None]).flatten(1))


class BeyondTheLast(CountedLayers):
    def forward(self, x):
        for i in range(len(self.sizes)):
            x = torch.relu(self.layers[i](x))
        return x


@twin(BeyondTheLast, (4, 6), reason="self.layers has 2 layers, 0 … 1, and the line reads number 2")
class BeyondTheLastT(CountedLayersT):
    pass


class Arrays(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.fc = nn.Embedding(9, 4), nn.Linear(7, 2)

    def forward(self, ids, x):
        return self.fc(np.concatenate([self.emb(ids), x], axis=1))


@twin(Arrays, ints(5), (5, 3), reason="np.concatenate makes an array of numpy's")
class ArraysT(Arrays):
    def forward(self, ids, x):
        return self.fc(torch.cat([self.emb(ids), x], dim=1))


class OneBranch(nn.Module):
    def __init__(self, norm=False):
        super().__init__()
        self.norm, self.a, self.b = norm, nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        if self.norm:
            out = F.normalize(x)
        return torch.cat(1, [self.a(out), self.b(out)])


@twin(OneBranch, (2, 4), reason="out has no value on this way through the function")
class OneBranchT(OneBranch):
    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], 1)


class MaskOfATensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.enc(x, nn.Transformer.generate_square_subsequent_mask(x))


@twin(MaskOfATensor, (2, 5, 8), reason="x is a tensor, and one number is read")
class MaskOfATensorT(MaskOfATensor):
    def forward(self, x):
        return self.enc(x, nn.Transformer.generate_square_subsequent_mask(x.size(1)))


class PairReadTwice(nn.Module):
    """A module that returns a pair is read by several lines; another has a longer name than it is called by."""

    def __init__(self):
        super().__init__()
        self.rnn, self.score, self.text_head = nn.GRU(6, 6, batch_first=True), nn.Linear(6, 1), nn.Linear(6, 2)
        self.bias, self.two = None, nn.Sequential(nn.Linear(6, 6))

    def forward(self, x):
        a, b = self.two(x, x)
        enc = self.rnn(a + b)
        weights = self.score(enc).softmax(1)
        return self.head((weights * enc).sum(1)) + self.bias


@twin(PairReadTwice, (3, 5, 6), reason="Sequential.forward takes 1 argument, 2 were given")
class PairReadTwiceT(PairReadTwice):
    def forward(self, x):
        enc = self.rnn(self.two(x) + self.two(x))[0]
        return self.text_head((self.score(enc).softmax(1) * enc).sum(1))


class FractionsAtOnce(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.cell = nn.Parameter(torch.ones(3)), nn.RNNCell(3, 3)

    def forward(self, x):
        h, w = x.shape[1], x.shape[2]
        top, left = h / 2, w / 2
        x = self.gate(x[:, top, left : left + 2])
        for t in x.size(1):
            hx = self.cell(x[:, t], hx)  # noqa: F821  # that is what is wrong
        return hx


@twin(FractionsAtOnce, (2, 8, 8, 3), reason="// gives an integer")
class FractionsAtOnceT(FractionsAtOnce):
    def forward(self, x):
        return self.cell(x[:, 4, 5], self.cell(x[:, 4, 4]))


class LabelsAndAxis(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.fc = nn.Embedding(9, 4), nn.Linear(4, 5)

    def forward(self, ids, tags):
        p = F.softmax(self.fc(self.emb(ids)), dim=-1, reduction="mean")
        return F.nll_loss(p.log(), tags.float())


@twin(LabelsAndAxis, ints(3, 7), ints(3, 7), reason="softmax has no argument 'reduction'")
class LabelsAndAxisT(LabelsAndAxis):
    def forward(self, ids, tags):
        return F.nll_loss(self.fc(self.emb(ids)).log_softmax(-1).transpose(1, 2), tags)


class Levels(nn.Module):
    """Levels of a pyramid are collected, and the last one is read."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 6, 3, 2), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        levels = []
        x = self.a(x)
        levels.append(x)
        levels.append(self.b(x))
        return self.head(levels)


@twin(Levels, (2, 3, 16, 16), reason="levels is a list of tensors")
class LevelsT(Levels):
    def forward(self, x):
        return self.head(self.b(self.a(x)))


class Attending(nn.Module):
    """It returns its weights too, which the next one in an ``nn.Sequential`` can't read."""

    def __init__(self):
        super().__init__()
        self.att = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        y, w = self.att(x, x, x)
        return x + y, w


class TuplesInSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Attending(), Attending())
        self.acts = nn.ModuleDict({"ReLU": nn.ReLU(), "GELU": nn.GELU()})
        self.act = "relu"

    def forward(self, x):
        x = self.acts[self.act](x)
        return self.blocks(x).mean(axes=1)


@twin(TuplesInSequence, (2, 5, 8), reason="self.acts has no key 'relu'")
class TuplesInSequenceT(TuplesInSequence):
    def forward(self, x):
        return self.blocks[1](self.blocks[0](x.relu())[0])[0].mean(1)


class OneListForThree(nn.Module):
    def __init__(self):
        super().__init__()
        self.nets, self.loss = nn.ModuleList([nn.Linear(4, 6), nn.Linear(4, 6)]), nn.TripletMarginLoss()

    def forward(self, x, edges):
        src, dst = edges
        h = [self.nets(x[src]) for i in range(2)]
        return self.loss([h[0], h[1], h[1][dst]]), F.mse_loss(h[0] - h[1])


@twin(OneListForThree, (6, 4), (2, 6), reason="an index is of floats")
class OneListForThreeT(OneListForThree):
    def forward(self, x, edges):
        one, two = (net(x[edges[0].long()]) for net in self.nets)
        return self.loss(one, two, two[edges[1].long()]), F.mse_loss(one, two)


class StateFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.token = nn.GRU(5, 7, batch_first=True), nn.Parameter(torch.zeros(1, 1, 5))

    def forward(self, x):
        x = torch.cat([self.token.expand(x.size(), -1, -1), x], dim=1)
        out = self.rnn(torch.zeros(1, x.size(0), 7), x)
        return self.up(out[:, -1])

    def up(self, x):
        maps = x[:, :, None, None].expand(-1, -1, 2, 2)
        return F.interpolate(maps, maps.size)


@twin(StateFirst, (3, 4, 5), reason="x.size() is the size of every dim")
class StateFirstT(StateFirst):
    def forward(self, x):
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], dim=1)
        return self.rnn(x)[0][:, -1, :, None, None].expand(-1, -1, 2, 2)


class ThreeOfOne(nn.Module):
    def __init__(self, d=8, h=2):
        super().__init__()
        self.qkv, self.h = nn.Linear(d, 3 * d), h
        self.each = d / h
        self.levels, self.anchors = nn.ModuleList([nn.Linear(d, d)]), [[1, 2], [3, 4]]

    def forward(self, x):
        b, t = x.shape
        q, k, v = self.qkv(x)
        for _i, level in self.levels:
            v = level(v)
        v = (q @ k.transpose(1, 2)).softmax(-1) @ v
        return v.view(b, t, self.h, self.each) * self.anchors.view(2, 2, 1)[:, 0]


@twin(ThreeOfOne, (2, 5, 8), reason="the line unpacks 2: b, t")
class ThreeOfOneT(ThreeOfOne):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        v = (q @ k.transpose(1, 2)).softmax(-1) @ self.levels[0](v)
        return v.view(2, 5, self.h, 4) * torch.ones(2, 1)


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.slow, self.log_std = nn.Linear(6, 6), nn.Linear(6, 6), -0.5

    def target(self, x):
        with torch.no_grad():
            y = self.slow(x)  # noqa: F841  # as people forget it

    def forward(self, x):
        x = F.max_pool1d(x)
        relu = F.relu(self.fc(x))
        out = relu(self.fc(relu)) * torch.exp(self.log_std)
        return F.cosine_similarity(out, self.target(x), dim=-1)


@twin(Slow, (3, 4, 12), reason="max_pool1d needs 'kernel_size'")
class SlowT(Slow):
    def forward(self, x):
        return self.fc(F.max_pool1d(x, 2))[..., 0]


class OneOfTwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(8, 6), nn.Linear(6, 3)
        self.parts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, x):
        f = x.permute(2, 0, 1)
        f = f.relu()
        f = self.rnn(f)
        f = self.fc(f).log_softmax(2)
        for part in enumerate(self.parts):
            f = part(f)
        return f


@twin(OneOfTwoInputs, (4, 8, 5), reason="'rnn' (LSTM) returns (output, state)")
class OneOfTwoInputsT(OneOfTwoInputs):
    def forward(self, x):
        return self.fc(self.rnn(x.permute(2, 0, 1))[0])


class LoopOfPairs(nn.Module):
    """States one by one, an assigned ``append``, ``math`` of a tensor, an embedding for its table."""

    def __init__(self):
        super().__init__()
        self.cell, self.codes = nn.LSTMCell(4, 6), nn.Embedding(9, 6)

    def forward(self, x):
        h, c = torch.chunk(x.new_zeros(x.size(0), 12), dim=1)
        outs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], h, c)
            outs = outs.append(h)
        z = math.sin(torch.mean(outs, dim=0)).sum(-1)
        return self.codes(torch.cdist(h + z[:, None], self.codes).argmin(-1))


@twin(LoopOfPairs, (3, 5, 4), reason="chunk needs 'chunks'")
class LoopOfPairsT(LoopOfPairs):
    def forward(self, x):
        return self.codes(x[:, 0, 0].long())


class Gate(nn.Module):
    def forward(x):
        return x * torch.sigmoid(x)


class SubmoduleWithoutSelf(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.gate = nn.Conv1d(4, 6, 3), Gate()

    def forward(self, x):
        x = self.gate(self.conv(x.transpose((0, 2, 1))))
        return (x + torch.randn(x)).sum(1, 2)


@twin(SubmoduleWithoutSelf, (2, 8, 4), reason="transpose swaps two dims")
class SubmoduleWithoutSelfT(SubmoduleWithoutSelf):
    def forward(self, x):
        return self.conv(x.permute(0, 2, 1)).sum((1, 2))
