"""Models of whole tasks, a caption, a cost volume, that fail as people write them, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import Twin, ints, register_in

__all__ = ["TASKS"]

TASKS: list[Twin] = []
twin = register_in(TASKS)


class KeysOfSteps(nn.Module):
    def forward(self, query, keys):
        return torch.bmm(query.transpose(0, 1), keys.transpose(0, 1))


@twin(KeysOfSteps, (1, 5, 16), (9, 5, 16), reason="transposed, the second has 16 there")
class KeysOfStepsT(nn.Module):
    def forward(self, query, keys):
        return torch.bmm(query.transpose(0, 1), keys.permute(1, 2, 0))


class LearnedStates(nn.Module):
    layers = 1

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, 2, batch_first=True)
        self.h0, self.c0 = (nn.Parameter(torch.zeros(self.layers, 1, 6)) for _ in range(2))

    def forward(self, x):
        h0, c0 = self.h0.expand(-1, x.size(0), -1).contiguous(), self.c0.expand(-1, x.size(0), -1).contiguous()
        return self.rnn(x, (h0, c0))[0][:, -1]


@twin(LearnedStates, (5, 7, 4), reason="the hidden state is [1, 5, 6], this input needs [2, 5, 6]")
class LearnedStatesT(LearnedStates):
    layers = 2


class SecondWeight(nn.Module):
    rows = 8

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 12))
        self.second = nn.Parameter(0.1 * torch.randn(self.rows, 3))

    def forward(self, x, adjacency):
        return adjacency @ (adjacency @ x @ self.first).relu() @ self.second


@twin(SecondWeight, (10, 8), (10, 10), reason="[10 × 12] @ [8 × 3]: the inner 12 and 8 differ")
class SecondWeightT(SecondWeight):
    rows = 12


class ImageAsFirstWord(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.emb = nn.Linear(20, 8), nn.Embedding(50, 8)
        self.lstm, self.out = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 50)

    def forward(self, image, words):
        x = torch.cat((self.fc(image), self.emb(words)), 1)
        return self.out(self.lstm(x)[0])


@twin(ImageAsFirstWord, (4, 20), ints(4, 12), reason="[4, 8] has 2 dims, [4, 12, 8] has 3")
class ImageAsFirstWordT(ImageAsFirstWord):
    def forward(self, image, words):
        x = torch.cat((self.fc(image).unsqueeze(1), self.emb(words)), 1)
        return self.out(self.lstm(x)[0])


class CostVolume(nn.Module):
    channels = 16

    def __init__(self):
        super().__init__()
        self.features, self.match = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv3d(self.channels, 8, 3, padding=1)

    def forward(self, left, right):
        left, right = self.features(left), self.features(right)
        volume = torch.stack([torch.cat([left, right.roll(d, -1)], 1) for d in range(4)], 2)
        return self.match(volume)


@twin(CostVolume, (1, 3, 32, 64), (1, 3, 32, 64), reason="stack() outputs 32 channels, 'match' expects 16")
class CostVolumeT(CostVolume):
    channels = 32


class ShuffleByThree(nn.Module):
    factor = 2

    def __init__(self):
        super().__init__()
        self.up = nn.Sequential(nn.Conv2d(3, 16 * self.factor**2, 3, padding=1), nn.PixelShuffle(3))
        self.tail = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x):
        return self.tail(self.up(x))


@twin(ShuffleByThree, (1, 3, 8, 8), reason="64 channels are not divisible by 3 × 3 = 9")
class ShuffleByThreeT(ShuffleByThree):
    factor = 3


class OneWordOfOneSample(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.gru, self.out = nn.Embedding(50, 8), nn.GRU(8, 16, batch_first=True), nn.Linear(16, 50)

    def forward(self, word, h):
        y, h = self.gru(self.emb(word).view(1, 1, -1), h)
        return self.out(y.squeeze(1))


@twin(OneWordOfOneSample, ints(4, 1), (1, 4, 16), reason="view(1, 1, -1) is for a batch of one: of 4 samples")
class OneWordOfOneSampleT(OneWordOfOneSample):
    def forward(self, word, h):
        y, h = self.gru(self.emb(word), h)
        return self.out(y.squeeze(1))


class FlatFrames(nn.Module):
    """What each frame became is flattened on the line of the layer."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1))
        self.lstm, self.fc = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 6)

    def forward(self, x):
        steps = self.cnn(x).flatten(1)
        return self.fc(self.lstm(steps)[0][:, -1])


@twin(FlatFrames, (2, 5, 3, 16, 16), reason="has 5 dims, a 2-d convolution expects 4")
class FlatFramesT(FlatFrames):
    def forward(self, x):
        steps = self.cnn(x.flatten(0, 1)).flatten(1).unflatten(0, x.shape[:2])
        return self.fc(self.lstm(steps)[0][:, -1])


class FramesInThreeLines(FlatFrames):
    """The name of the video is that of what each frame became, and the dims are parted two lines below."""

    def forward(self, x):
        x = self.cnn(x)
        x = x.flatten(1)
        x, _ = self.lstm(x)
        return self.fc(x[:, -1])


@twin(FramesInThreeLines, (2, 5, 3, 16, 16), reason="has 5 dims, a 2-d convolution expects 4")
class FramesInThreeLinesT(FlatFramesT):
    pass


class LostChannel(nn.Module):
    """With two samples the mean and the maximum of each are the two channels that are expected."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        mean, most = x.mean(1), x.max(1)[0]
        return x * self.conv(torch.cat([mean, most], 1)).sigmoid()


@twin(LostChannel, (2, 8, 6, 6), reason="read [2, 12, 6] as one sample of 2 channels")
class LostChannelT(LostChannel):
    def forward(self, x):
        mean, most = x.mean(1, keepdim=True), x.amax(1, keepdim=True)
        return x * self.conv(torch.cat([mean, most], 1)).sigmoid()


class DoubledPyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine)
        return fine + F.interpolate(coarse, scale_factor=2, mode="nearest")


@twin(DoubledPyramid, (1, 3, 50, 50), reason="reduced 25 to 13")
class DoubledPyramidT(DoubledPyramid):
    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine)
        return fine + F.interpolate(coarse, size=fine.shape[2:], mode="nearest")
