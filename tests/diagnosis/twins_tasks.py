"""Models of whole tasks, a caption, a cost volume, that fail as people write them, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


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


class TwoViews(nn.Module):
    inner = 90

    def __init__(self):
        super().__init__()
        self.locate = nn.Sequential(nn.Conv2d(1, 8, 7), nn.MaxPool2d(2), nn.Conv2d(8, 10, 5), nn.MaxPool2d(2))
        self.fc = nn.Linear(self.inner, 6)

    def forward(self, x):
        theta = self.fc(self.locate(x).view(-1, 90)).view(-1, 2, 3)
        return F.grid_sample(x, F.affine_grid(theta, x.size(), align_corners=False), align_corners=False)


@twin(TwoViews, (4, 1, 32, 32), reason="is not divisible by 90")
class TwoViewsT(TwoViews):
    inner = 160

    def forward(self, x):
        theta = self.fc(self.locate(x).flatten(1)).view(-1, 2, 3)
        return F.grid_sample(x, F.affine_grid(theta, x.size(), align_corners=False), align_corners=False)


class TallColumns(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2), nn.MaxPool2d((2, 1)))
        self.rnn, self.fc = nn.LSTM(16, 8, bidirectional=True), nn.Linear(16, 37)

    def forward(self, x):
        x = self.cnn(x)
        x = x.squeeze(2).permute(2, 0, 1)
        return self.fc(self.rnn(x)[0])


@twin(TallColumns, (2, 1, 16, 40), reason="squeeze(2) drops a dim of 1, and there are 4")
class TallColumnsT(TallColumns):
    def forward(self, x):
        x = self.cnn(x).mean(2).permute(2, 0, 1)
        return self.fc(self.rnn(x)[0])


class HalfTheAngles(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", 1 / 10000 ** (torch.arange(0, 16, 2).float() / 16))

    def forward(self, q):
        angles = torch.outer(torch.arange(q.size(2)).float(), self.frequencies)
        cos, sin = angles.cos(), angles.sin()
        left, right = q.chunk(2, -1)
        return q * cos + torch.cat([-right, left], -1) * sin


@twin(HalfTheAngles, (2, 4, 10, 16), reason="of 8 angles for 16 features")
class HalfTheAnglesT(HalfTheAngles):
    def forward(self, q):
        angles = torch.outer(torch.arange(q.size(2)).float(), self.frequencies).repeat(1, 2)
        left, right = q.chunk(2, -1)
        return q * angles.cos() + torch.cat([-right, left], -1) * angles.sin()


class FineToCoarse(nn.Module):
    stride = 1

    def __init__(self):
        super().__init__()
        self.high, self.low = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 16, 3, 2, 1)
        self.down = nn.Conv2d(8, 16, 3, self.stride, 1)

    def forward(self, x):
        return self.low(x) + self.down(self.high(x))


@twin(
    FineToCoarse, (1, 3, 32, 32), reason="'down' has stride 1, and the other branch is 2 times smaller: 32 against 16"
)
class FineToCoarseT(FineToCoarse):
    stride = 2


class SevenByTwelve(nn.Module):
    """Windows of seven, as a Swin Transformer's, of a map of twelve."""

    window = 7

    def __init__(self):
        super().__init__()
        self.size, self.mix = self.window, nn.Linear(4, 4)

    def forward(self, x):
        B, H, W, C = x.shape
        w = self.size
        return self.mix(x.view(B, H // w, w, W // w, w, C).transpose(2, 3).reshape(-1, w * w, C))


@twin(SevenByTwelve, (2, 12, 12, 4), reason="12 is not divisible into windows of 7")
class SevenByTwelveT(SevenByTwelve):
    window = 6


class StatesBehindActions(nn.Module):
    dim = 1

    def __init__(self):
        super().__init__()
        self.state, self.action = nn.Linear(6, 8), nn.Embedding(5, 8)
        self.steps = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, states, actions):
        return self.steps(torch.cat([self.state(states), self.action(actions)], self.dim))


@twin(StatesBehindActions, (4, 10, 6), ints(4, 10), reason="cat joins along dim 1: there are 8 + 8 = 16 features")
class StatesBehindActionsT(StatesBehindActions):
    dim = 2


class ScaledPairs(nn.Module):
    """The scale stands in front of what it scales."""

    width = 32

    def __init__(self):
        super().__init__()
        self.image, self.words = nn.Linear(20, self.width), nn.Embedding(100, 16)
        self.scale = nn.Parameter(torch.tensor(2.6))

    def forward(self, image, words):
        image, words = F.normalize(self.image(image), dim=-1), F.normalize(self.words(words).mean(1), dim=-1)
        return self.scale.exp() * image @ words.t()


@twin(ScaledPairs, (4, 20), ints(4, 12), reason="[4 × 32] @ [16 × 4]: the inner 32 and 16 differ")
class ScaledPairsT(ScaledPairs):
    width = 16


class GateOfAnotherWidth(nn.Module):
    def __init__(self):
        super().__init__()
        self.p, self.t, self.shortcut = nn.Linear(48, 32), nn.Linear(48, 32), nn.Identity()

    def forward(self, x):
        t = torch.sigmoid(self.t(x))
        return t * self.p(x).relu() + (1 - t) * self.shortcut(x)


@twin(GateOfAnotherWidth, (5, 48), reason="mul takes numbers one to one: [5, 32] against [5, 48]")
class GateOfAnotherWidthT(GateOfAnotherWidth):
    def __init__(self):
        super().__init__()
        self.shortcut = nn.Linear(48, 32)


class StatesWithoutLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x, h, c):
        y, _ = self.rnn(x, (h, c))
        return y[:, -1]


@twin(StatesWithoutLayers, (5, 7, 4), (5, 6), (5, 6), reason="the state is [5, 6], a state has a dim of layers too")
class StatesWithoutLayersT(StatesWithoutLayers):
    def forward(self, x, h, c):
        return self.rnn(x, (h[None], c[None]))[0][:, -1]


class CodesOfAnotherWidth(nn.Module):
    width = 16

    def __init__(self):
        super().__init__()
        self.codes = nn.Embedding(10, self.width)

    def forward(self, x):
        return self.codes(torch.cdist(x, self.codes.weight).argmin(1))


@twin(CodesOfAnotherWidth, (7, 8), reason="vectors of 8 and of 16 numbers")
class CodesOfAnotherWidthT(CodesOfAnotherWidth):
    width = 8


class QueriesInFront(nn.Module):
    def __init__(self):
        super().__init__()
        self.queries, self.read = nn.Embedding(10, 8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        q = self.queries.weight.unsqueeze(1).repeat(1, x.size(0), 1)
        return self.read(q, x, x)[0]


@twin(QueriesInFront, (2, 12, 8), reason="the query has 10 there, the key 2")
class QueriesInFrontT(QueriesInFront):
    def forward(self, x):
        return self.read(self.queries.weight.expand(x.size(0), -1, -1), x, x)[0]


class ScaleOfFour(nn.Module):
    actions = 4

    def __init__(self):
        super().__init__()
        self.mean, self.log_scale = nn.Linear(8, 3), nn.Parameter(torch.zeros(1, self.actions))

    def forward(self, x):
        mean = self.mean(x)
        return mean + self.log_scale.exp() * torch.randn_like(mean)


@twin(ScaleOfFour, (10, 8), reason="'log_scale' has 4 numbers, the other has 3 features")
class ScaleOfFourT(ScaleOfFour):
    actions = 3


class TimeAsNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x, t):
        return self.fc(torch.cat([x, t], -1))


@twin(TimeAsNumber, (7, 2), torch.tensor(0.5), reason="a number is repeated for each sample first")
class TimeAsNumberT(TimeAsNumber):
    def forward(self, x, t):
        return self.fc(torch.cat([x, t.expand(x.size(0), 1)], -1))


class FilterOverElectrodes(nn.Module):
    electrodes = 64

    def __init__(self):
        super().__init__()
        self.times = nn.Conv2d(1, 8, (1, 15), padding=(0, 7))
        self.space, self.fc = nn.Conv2d(8, 16, (self.electrodes, 1), groups=8), nn.Linear(16 * 50, 4)

    def forward(self, x):
        return self.fc(self.space(self.times(x)).flatten(1))


@twin(FilterOverElectrodes, (2, 1, 22, 50), reason="dim 2 is 22, the window is 64 wide")
class FilterOverElectrodesT(FilterOverElectrodes):
    electrodes = 22


class TimesOneByOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.rnn = nn.Parameter(torch.randn(1, 7)), nn.LSTM(12, 8, batch_first=True)

    def forward(self, x, t):
        angles = torch.sin(t @ self.w)
        return self.rnn(torch.cat([x, angles], -1))[0]


@twin(TimesOneByOne, (4, 9, 5), (4, 9), reason="[4, 9] has one number for each, and no dim of one feature")
class TimesOneByOneT(TimesOneByOne):
    def forward(self, x, t):
        angles = torch.sin(t[..., None] @ self.w)
        return self.rnn(torch.cat([x, angles], -1))[0]


class MaskTokenOfTheEncoder(nn.Module):
    width = 16

    def __init__(self):
        super().__init__()
        self.enc, self.dec, self.head = nn.Linear(12, 16), nn.Linear(16, 8), nn.Linear(8, 12)
        self.mask = nn.Parameter(torch.zeros(1, 1, self.width))

    def forward(self, x):
        kept = self.dec(self.enc(x[:, :4]))
        masked = self.mask.expand(x.size(0), x.size(1) - 4, -1)
        return self.head(torch.cat([kept, masked], 1))


@twin(MaskTokenOfTheEncoder, (2, 16, 12), reason="the steps have 8 features in one and 16 in the other")
class MaskTokenOfTheEncoderT(MaskTokenOfTheEncoder):
    width = 8


class WholeMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.tril(torch.ones(16, 16)))

    def forward(self, q, k):
        weights = (q @ k.transpose(1, 2)).masked_fill(self.seen == 0, float("-inf")).softmax(-1)
        return weights @ k


@twin(WholeMask, (2, 10, 8), (2, 10, 8), reason="input has 10 positions, 'seen' has 16")
class WholeMaskT(WholeMask):
    def forward(self, q, k):
        seen = self.seen[: q.size(1), : k.size(1)]
        return (q @ k.transpose(1, 2)).masked_fill(seen == 0, float("-inf")).softmax(-1) @ k


class ThresholdsOfClasses(nn.Module):
    count = 4

    def __init__(self):
        super().__init__()
        self.score, self.thresholds = nn.Linear(20, 1, bias=False), nn.Parameter(torch.zeros(self.count))

    def forward(self, x, y):
        return F.binary_cross_entropy_with_logits(self.score(x) + self.thresholds, y)


@twin(ThresholdsOfClasses, (8, 20), (8, 5), reason="compares numbers one to one: [8, 4] against [8, 5]")
class ThresholdsOfClassesT(ThresholdsOfClasses):
    count = 5


class CellsOfAGrid(nn.Module):
    numbers = 30

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 7 * 7 * self.numbers)

    def forward(self, x):
        return self.fc(x).view(-1, 7, 7, 35)


@twin(CellsOfAGrid, (2, 16), reason="is not divisible by 7 × 7 × 35 = 1715")
class CellsOfAGridT(CellsOfAGrid):
    numbers = 35


class LengthsInARow(nn.Module):
    def forward(self, x, lengths):
        seen = torch.arange(x.size(1))[None, :] < lengths
        return (x * seen.unsqueeze(-1)).sum(1)


@twin(LengthsInARow, (4, 9, 3), ints(4), reason="[4] is aligned with the last dims of [1, 9]")
class LengthsInARowT(nn.Module):
    def forward(self, x, lengths):
        seen = torch.arange(x.size(1))[None, :] < lengths[:, None]
        return (x * seen.unsqueeze(-1)).sum(1)


class ShuffledSamples(nn.Module):
    channels = 30

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, self.channels, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        B, C, L = y.shape
        return y.view(B, C // 4, 4, L).transpose(2, 3).reshape(B, C // 4, L * 4)


@twin(ShuffledSamples, (2, 4, 10), reason="30 channels are not divisible into 7 groups of 4: 7 × 4 = 28")
class ShuffledSamplesT(ShuffledSamples):
    channels = 32


class MatrixOfEachSample(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights, self.bias = nn.Linear(8, 40), nn.Linear(8, 4)

    def forward(self, x, c):
        return torch.bmm(self.weights(c).view(-1, 4, 10), x) + self.bias(c)


@twin(MatrixOfEachSample, (6, 10), (6, 8), reason="bmm expects two 3-d tensors, got [6, 4, 10] and [6, 10]")
class MatrixOfEachSampleT(MatrixOfEachSample):
    def forward(self, x, c):
        return (self.weights(c).view(-1, 4, 10) @ x[..., None]).squeeze(-1) + self.bias(c)


class PooledShortcut(nn.Module):
    """The shortcut is pooled after the layers that it bypasses ran."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.project = nn.Conv2d(8, 16, 3, 2, 1), nn.AvgPool2d(2), nn.Identity()

    def forward(self, x):
        return self.conv(x) + self.project(self.pool(x))


@twin(PooledShortcut, (2, 8, 16, 16), reason="8 channels against 16")
class PooledShortcutT(PooledShortcut):
    def __init__(self):
        super().__init__()
        self.project = nn.Conv2d(8, 16, 1)


class TiedWords(nn.Module):
    hidden = 16

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(60, 12)
        self.rnn = nn.GRU(12, self.hidden, batch_first=True)

    def forward(self, x):
        return self.rnn(self.words(x))[0] @ self.words.weight.t()


@twin(TiedWords, ints(3, 9), reason="[9 × 16] @ [12 × 60]: the inner 16 and 12 differ")
class TiedWordsT(TiedWords):
    hidden = 12


class SegmentsOfEight(nn.Module):
    def __init__(self):
        super().__init__()
        self.segments, self.fc = 8, nn.Linear(12, 5)

    def forward(self, x):
        y = self.fc(x.flatten(0, 1))
        return y.view(x.size(0), self.segments, -1).mean(1)


@twin(SegmentsOfEight, (2, 6, 12), reason="12 × 5 = 60 is not divisible by 2 × 8 = 16")
class SegmentsOfEightT(SegmentsOfEight):
    def forward(self, x):
        return self.fc(x).mean(1)


class PeaksOfAllChannels(nn.Module):
    def forward(self, heat, sizes):
        places = heat.flatten(1).topk(5, 1)[1]
        return sizes.flatten(2).gather(2, places)


@twin(PeaksOfAllChannels, (2, 4, 4), (2, 3, 4, 4), reason="gather needs an index with as many dims as the tensor")
class PeaksOfAllChannelsT(nn.Module):
    def forward(self, heat, sizes):
        places = heat.flatten(1).topk(5, 1)[1]
        return sizes.flatten(2).gather(2, places[:, None].expand(-1, sizes.size(1), -1))


class FourTimes(nn.Module):
    stride = 4

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, 5, 3, 2, 1)
        self.up = nn.ConvTranspose2d(5, 5, 4, self.stride, (4 - self.stride) // 2)

    def forward(self, x):
        fine = self.fine(x)
        return self.up(self.coarse(fine)) + fine


@twin(FourTimes, (1, 3, 32, 32), reason="'up' enlarges 4 times to 32 × 32, 2 times to the other's 16 × 16")
class FourTimesT(FourTimes):
    stride = 2


class TokenForEachSample(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x):
        return torch.cat([self.token.repeat(1, x.size(0), 1), x], 1)


@twin(TokenForEachSample, (3, 10, 8), reason="repeats along dim 1, the 3 samples are in dim 0")
class TokenForEachSampleT(TokenForEachSample):
    def forward(self, x):
        return torch.cat([self.token.repeat(x.size(0), 1, 1), x], 1)


class TagsWithEnds(nn.Module):
    """The transitions are of two tags more than the layer scores: a begin and an end."""

    tags = 7

    def __init__(self):
        super().__init__()
        self.score, self.transitions = nn.Linear(16, self.tags), nn.Parameter(torch.randn(9, 9))

    def forward(self, x):
        scores = self.score(x)
        total = scores[:, 0]
        for step in range(1, scores.size(1)):
            total = torch.logsumexp(total.unsqueeze(2) + self.transitions + scores[:, step].unsqueeze(1), 1)
        return torch.logsumexp(total, 1)


@twin(TagsWithEnds, (3, 6, 16), reason="'transitions' [9, 9] is of 9 classes by 9, 'score' gives 7")
class TagsWithEndsT(TagsWithEnds):
    tags = 9


class MaskByOnes(nn.Module):
    """The mask is of numbers and is added to the scores: what it hides are keys."""

    def forward(self, q, mask):
        scores = q @ q.transpose(-1, -2) + (1 - mask.unsqueeze(1)) * -1e4
        return scores.softmax(-1) @ q


@twin(MaskByOnes, (3, 4, 9, 8), (3, 9), reason="whose 9 the mask has last")
class MaskByOnesT(nn.Module):
    def forward(self, q, mask):
        scores = q @ q.transpose(-1, -2) + (1 - mask[:, None, None]) * -1e4
        return scores.softmax(-1) @ q


class PositionsOfAMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.positions = nn.Conv1d(4, 8, 3, padding=1), nn.Parameter(torch.zeros(1, 50, 8))

    def forward(self, x):
        return (self.conv(x) + self.positions).transpose(1, 2)


@twin(PositionsOfAMap, (2, 4, 50), reason="'positions' [1, 50, 8] has its positions in dim 1, [2, 8, 50] has them last")
class PositionsOfAMapT(PositionsOfAMap):
    def forward(self, x):
        return self.conv(x).transpose(1, 2) + self.positions


class OneLetterForTwo(nn.Module):
    def forward(self, q, k):
        return torch.einsum("bqhd,bqhd->bhq", q, k).softmax(-1)


@twin(OneLetterForTwo, (2, 5, 4, 8), (2, 7, 4, 8), reason="'q' is 5 in q and 7 in k")
class OneLetterForTwoT(nn.Module):
    def forward(self, q, k):
        return torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)


class ManyNegatives(nn.Module):
    def forward(self, anchor, positive, negatives):
        return F.triplet_margin_loss(anchor, positive, negatives, reduction="none")


@twin(ManyNegatives, (4, 8), (4, 8), (4, 5, 8), reason="got 5 vectors for each of 4 anchors")
class ManyNegativesT(nn.Module):
    def forward(self, anchor, positive, negatives):
        return F.triplet_margin_loss(anchor[:, None], positive[:, None], negatives, reduction="none")


class StateOfTheSteps(nn.Module):
    """``batch_first=True`` was asked for, so it is the state that is wrong."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 6, batch_first=True)

    def begin(self, batch):
        return torch.zeros(1, batch, 6)

    def forward(self, x):
        h = self.begin(x.size(1))
        return self.rnn(x, h)[0]


@twin(StateOfTheSteps, (3, 7, 4), reason="the hidden state is [1, 7, 6], this input needs [1, 3, 6]")
class StateOfTheStepsT(StateOfTheSteps):
    def forward(self, x):
        h = self.begin(x.size(0))
        return self.rnn(x, h)[0]


class ParametersOfEight(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(10, 6), nn.PReLU(8)

    def forward(self, x):
        return self.act(self.fc(x))


@twin(ParametersOfEight, (5, 10), reason="'fc' (Linear) outputs 6 channels, 'act' has 8 parameters")
class ParametersOfEightT(ParametersOfEight):
    def __init__(self):
        super().__init__()
        self.act = nn.PReLU(6)


class HalvesOfNine(nn.Module):
    width = 9

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, self.width)

    def forward(self, x):
        return F.glu(self.fc(x))


@twin(HalvesOfNine, (5, 10), reason="glu halves dim 1 of [5, 9], which has 9: an odd number")
class HalvesOfNineT(HalvesOfNine):
    width = 10


class LargerOfTwo(nn.Module):
    """Two layers of two inputs: no skip connection, and no features to cut off."""

    width = 7

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(10, 6), nn.Linear(12, self.width)

    def forward(self, x, y):
        return torch.stack([torch.maximum(self.one(x), self.other(y)), self.one(x)], 1)


@twin(LargerOfTwo, (5, 10), (5, 12), reason="6 against 7")
class LargerOfTwoT(LargerOfTwo):
    width = 6


class KeysOfTheCache(nn.Module):
    def forward(self, q, k, old):
        k = torch.cat([old, k.view(2, 1, 4, 8).transpose(1, 2)], 1)
        return (q @ k.transpose(-1, -2)).softmax(-1)


@twin(KeysOfTheCache, (2, 4, 1, 8), (2, 1, 32), (2, 4, 6, 8), reason="6 against 1 in dim 2, but cat concatenates along")
class KeysOfTheCacheT(nn.Module):
    def forward(self, q, k, old):
        k = torch.cat([old, k.view(2, 1, 4, 8).transpose(1, 2)], 2)
        return (q @ k.transpose(-1, -2)).softmax(-1)


class WiderThanItsPlaces(nn.Module):
    width = 16

    def __init__(self):
        super().__init__()
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.first, self.middle = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, self.width, 3, padding=1)
        self.last = nn.Conv2d(self.width, 3, 1)

    def forward(self, x):
        x, places = self.pool(self.first(x))
        return self.last(self.unpool(self.middle(x), places))


@twin(WiderThanItsPlaces, (1, 3, 16, 16), reason="the pool kept places for 8 channels, 'middle' (Conv2d) outputs 16")
class WiderThanItsPlacesT(WiderThanItsPlaces):
    width = 8


class BiasOfHeadsLast(nn.Module):
    """The heads are moved to the front, and the order of queries and keys stays."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(15, 4))
        places = torch.arange(8)
        self.register_buffer("places", places[:, None] - places[None] + 7)

    def forward(self, q, k):
        return (q @ k.transpose(-1, -2) + self.bias[self.places]).softmax(-1)


@twin(BiasOfHeadsLast, (2, 4, 8, 6), (2, 4, 8, 6), reason="dim 1: 4 against 8 and dim 3: 8 against 4")
class BiasOfHeadsLastT(BiasOfHeadsLast):
    def forward(self, q, k):
        return (q @ k.transpose(-1, -2) + self.bias[self.places].permute(2, 0, 1)).softmax(-1)


class FrequenciesOfTheChannels(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(16, 16, 8, dtype=torch.cfloat))

    def forward(self, x):
        modes = torch.fft.rfft(x)
        kept = torch.einsum("bim,iom->bom", modes[:, :, :8], self.weights)
        return torch.fft.irfft(kept, n=x.size(1)).transpose(1, 2)


@twin(FrequenciesOfTheChannels, torch.zeros(2, 32, 16), reason="'i' is 32 in modes[:, :, :8] and 16 in self.weights")
class FrequenciesOfTheChannelsT(FrequenciesOfTheChannels):
    def forward(self, x):
        modes = torch.fft.rfft(x.transpose(1, 2))
        kept = torch.einsum("bim,iom->bom", modes[:, :, :8], self.weights)
        return torch.fft.irfft(kept, n=x.size(1)).transpose(1, 2)


class MixedValues(nn.Module):
    """A row for each sample, which is a vector again where a vector is added."""

    def __init__(self):
        super().__init__()
        self.weights, self.bias = nn.Linear(20, 48), nn.Linear(20, 16)

    def forward(self, q, state):
        mixed = torch.bmm(q, self.weights(state).view(-1, 3, 16)) + self.bias(state)
        return mixed.relu()


@twin(MixedValues, (5, 3), (5, 20), reason="bmm expects two 3-d tensors, got [5, 3] and [5, 3, 16]")
class MixedValuesT(MixedValues):
    def forward(self, q, state):
        mixed = torch.bmm(q[:, None], self.weights(state).view(-1, 3, 16)).squeeze(1) + self.bias(state)
        return mixed.relu()


class PlacesOfAnotherWidth(nn.Module):
    width = 8

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 16), nn.Embedding(64, self.width)

    def forward(self, x):
        return self.words(x) + self.places(torch.arange(x.size(1)))


@twin(PlacesOfAnotherWidth, ints(2, 12), reason="the steps have 16 features, 'places' (Embedding) outputs 8")
class PlacesOfAnotherWidthT(PlacesOfAnotherWidth):
    width = 16


class HeadsBehindSteps(nn.Module):
    """The heads of the queries are in front of their steps, and those of keys and values are not."""

    def forward(self, x):
        q = x.view(2, 10, 8, 4).transpose(1, 2)
        k, v = x.view(2, 10, 8, 4), x.view(2, 10, 8, 4)
        a = (q @ k.transpose(-2, -1)).softmax(-1)
        y = a @ v
        return y.transpose(1, 2).reshape(2, 10, 32)


@twin(HeadsBehindSteps, (2, 10, 32), reason="the batches [2, 8] and [2, 10] differ")
class HeadsBehindStepsT(nn.Module):
    def forward(self, x):
        q = x.view(2, 10, 8, 4).transpose(1, 2)
        return ((q @ q.mT).softmax(-1) @ q).transpose(1, 2).reshape(2, 10, 32)


class OwnWeight(nn.Module):
    width = 16

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, self.width))

    def forward(self, x):
        return F.linear(x, self.weight)


@twin(OwnWeight, (4, 20), reason="the model's input has 20 features")
class OwnWeightT(OwnWeight):
    width = 20


class AllButTheLastSample(nn.Module):
    """What was to be left out is the last word of each caption."""

    def __init__(self):
        super().__init__()
        self.image, self.words = nn.Linear(20, 8), nn.Embedding(30, 8)

    def forward(self, image, captions):
        words = self.words(captions[:-1])
        return torch.cat([self.image(image).unsqueeze(1), words], 1)


@twin(AllButTheLastSample, (8, 20), ints(8, 9), reason="[8, 9] was cut to [7, 9]: dim 0 has the samples")
class AllButTheLastSampleT(AllButTheLastSample):
    def forward(self, image, captions):
        words = self.words(captions[:, :-1])
        return torch.cat([self.image(image).unsqueeze(1), words], 1)


class CalledAsAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.layer(x, x, x)


@twin(CalledAsAttention, (2, 9, 8), reason="the second argument is a mask, and the keys are its own")
class CalledAsAttentionT(CalledAsAttention):
    def forward(self, x):
        return self.layer(x)


class RowsOfFeatures(nn.Module):
    """A vector of each sample is repeated beside itself, and not for each step."""

    def __init__(self):
        super().__init__()
        self.fc, self.rnn = nn.Linear(20, 8), nn.LSTM(13, 6, batch_first=True)

    def forward(self, image, steps):
        image = self.fc(image).repeat(1, steps.size(1))
        return self.rnn(torch.cat([steps, image], -1))[0]


@twin(RowsOfFeatures, (3, 20), (3, 6, 5), reason="puts 6 times the 8 features in a row")
class RowsOfFeaturesT(RowsOfFeatures):
    def forward(self, image, steps):
        image = self.fc(image).unsqueeze(1).repeat(1, steps.size(1), 1)
        return self.rnn(torch.cat([steps, image], -1))[0]


class OtherSkeleton(nn.Module):
    joints = 25

    def __init__(self):
        super().__init__()
        self.edges = nn.Parameter(torch.eye(self.joints))

    def forward(self, x):
        return torch.einsum("nctv,vw->nctw", x, self.edges)


@twin(OtherSkeleton, (2, 3, 30, 18), reason="'v' is 18 in x and 25 in self.edges")
class OtherSkeletonT(OtherSkeleton):
    joints = 18


class ConditionsBehindEachOther(nn.Module):
    def __init__(self):
        super().__init__()
        self.x, self.time, self.label = nn.Linear(2, 16), nn.Embedding(100, 8), nn.Embedding(10, 8)

    def forward(self, x, time, label):
        return self.x(x) + torch.cat([self.time(time), self.label(label)])


@twin(
    ConditionsBehindEachOther, (6, 2), ints(6), ints(6), reason="cat joins along dim 0: there are 8 + 8 = 16 features"
)
class ConditionsBehindEachOtherT(ConditionsBehindEachOther):
    def forward(self, x, time, label):
        return self.x(x) + torch.cat([self.time(time), self.label(label)], 1)


class StateOfALayerForACell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x, h, c):
        h, c = self.cell(x, (h, c))
        return h


@twin(StateOfALayerForACell, (5, 4), (1, 5, 6), (1, 5, 6), reason="a cell's state has no dim of layers")
class StateOfALayerForACellT(StateOfALayerForACell):
    def forward(self, x, h, c):
        return self.cell(x, (h[0], c[0]))[0]


class TokensOfTwoPatches(nn.Module):
    width = 16

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(3, self.width, 16, 16)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        small, large = self.small(x).flatten(2).transpose(1, 2), self.large(x).flatten(2).permute(0, 2, -2)
        return self.norm(torch.cat([small, large], 1))


@twin(TokensOfTwoPatches, (2, 3, 32, 32), reason="the steps have 8 features in one and 16 in the other")
class TokensOfTwoPatchesT(TokensOfTwoPatches):
    width = 8


class MixOfLayers(nn.Module):
    count = 3

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(4)])
        self.weights = nn.Parameter(torch.zeros(self.count))

    def forward(self, x):
        states = []
        for layer in self.layers:
            x = layer(x).tanh()
            states.append(x)
        return (self.weights.softmax(0)[:, None, None] * torch.stack(states)).sum(0)


@twin(MixOfLayers, (5, 6), reason="4 tensors are stacked, 'weights' has 3 numbers")
class MixOfLayersT(MixOfLayers):
    count = 4


class StepsOfTheFuture(nn.Module):
    """A convolution with padding on both sides, between two transposes."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate = nn.Conv1d(6, 6, 4, groups=6, padding=3), nn.Linear(6, 6)

    def forward(self, x):
        mixed = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return mixed * self.gate(x)


@twin(StepsOfTheFuture, (2, 10, 6), reason="13 steps against 10: 'conv' pads by 3 more than it takes off")
class StepsOfTheFutureT(StepsOfTheFuture):
    def forward(self, x):
        mixed = self.conv(x.transpose(1, 2))[..., :-3].transpose(1, 2)
        return mixed * self.gate(x)


class SharedKeys(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


@twin(SharedKeys, (2, 4, 6, 8), (2, 2, 6, 8), (2, 2, 6, 8), reason="batch and heads are [2, 4], the key's [2, 2]")
class SharedKeysT(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


class SharedKeysByHand(nn.Module):
    def forward(self, q, k, v):
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return weights @ v


@twin(SharedKeysByHand, (2, 4, 6, 8), (2, 2, 6, 8), (2, 2, 6, 8), reason="each of 2 heads of keys and values is for 2")
class SharedKeysByHandT(nn.Module):
    def forward(self, q, k, v):
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class PatchesOfVariables(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.places = nn.Linear(16, 8), nn.Parameter(torch.zeros(1, 11, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        patches = x.transpose(1, 2).unfold(-1, 16, 8)
        return self.encoder(self.embed(patches) + self.places)


@twin(PatchesOfVariables, (2, 96, 7), reason="[2, 7, 11, 8] has 4 dims, attention reads [batch, steps, features]")
class PatchesOfVariablesT(PatchesOfVariables):
    def forward(self, x):
        tokens = self.embed(x.transpose(1, 2).unfold(-1, 16, 8)) + self.places
        return self.encoder(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])


class SizesOfAnchors(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("anchors", torch.ones(3, 2))

    def forward(self, boxes):
        return boxes.exp() * self.anchors


@twin(SizesOfAnchors, (2, 3, 4, 4, 2), reason="[3, 1, 1, 2] would broadcast")
class SizesOfAnchorsT(SizesOfAnchors):
    def forward(self, boxes):
        return boxes.exp() * self.anchors[:, None, None]


class ShrinkingSkips(nn.Module):
    """A sum that begins with a number, of signals that each convolution shortens."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(4, 4, 2, dilation=2**level) for level in range(3)])
        self.mixes = nn.ModuleList([nn.Conv1d(4, 4, 1) for _ in range(3)])

    def forward(self, x):
        total = 0
        for layer, mix in zip(self.layers, self.mixes, strict=True):
            z = mix(layer(x).tanh())
            x = x[..., -z.size(-1) :] + z
            total = total + z
        return total


@twin(ShrinkingSkips, (2, 4, 20), reason="19 against 17 in dim 2")
class ShrinkingSkipsT(ShrinkingSkips):
    def forward(self, x):
        made = []
        for layer, mix in zip(self.layers, self.mixes, strict=True):
            z = mix(layer(x).tanh())
            x = x[..., -z.size(-1) :] + z
            made.append(z)
        return sum(each[..., -x.size(-1) :] for each in made)


class ChannelsForSamples(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6 * 8 * 8, 5)

    def forward(self, x):
        x = self.conv(x)
        x = x.view(x.size(1), -1)
        return self.fc(x)


@twin(ChannelsForSamples, (4, 3, 8, 8), reason="view made [6, 256] of [4, 6, 8, 8]: size(1) is no batch")
class ChannelsForSamplesT(ChannelsForSamples):
    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


class PoolOfAnotherSize(nn.Module):
    """The pool was to be over all steps that a convolution leaves."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv1d(4, 6, 3), nn.Linear(6, 2)

    def forward(self, x):
        pooled = F.max_pool1d(self.conv(x), x.size(2) - 1)
        return self.fc(pooled.squeeze(2))


@twin(PoolOfAnotherSize, (3, 4, 12), reason="dim 2 is 10, the window is 11 wide: the output would be empty")
class PoolOfAnotherSizeT(PoolOfAnotherSize):
    def forward(self, x):
        return self.fc(self.conv(x).amax(2))


class LabelsInRows(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.fc = nn.Embedding(20, 6), nn.Linear(6, 20)

    def forward(self, x, y):
        return F.cross_entropy(self.fc(self.words(x)).view(-1, 20), y)


@twin(LabelsInRows, ints(4, 7), ints(4, 7), reason="of predictions [28, 20] needs labels [28], got [4, 7]")
class LabelsInRowsT(LabelsInRows):
    def forward(self, x, y):
        return F.cross_entropy(self.fc(self.words(x)).view(-1, 20), y.view(-1))


class FourPixelsTooFew(nn.Module):
    """The digits of 28 pixels, for layers that were made for 32."""

    padding = 0

    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=self.padding), nn.AvgPool2d(2), nn.Conv2d(6, 8, 5), nn.AvgPool2d(2),
            nn.Conv2d(8, 12, 5),
        )  # fmt: skip
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        return self.fc(self.maps(x).flatten(1))


@twin(FourPixelsTooFew, (4, 1, 28, 28), reason="dim 2 is 4, the window is 5 wide")
class FourPixelsTooFewT(FourPixelsTooFew):
    padding = 2


class SignalAsMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(1, 8, 3), nn.MaxPool2d(2), nn.Linear(8 * 49, 2)

    def forward(self, x):
        return self.fc(self.pool(self.conv(x)).flatten(1))


@twin(SignalAsMap, (4, 1, 100), reason="[4, 1, 100] is a signal, [batch, channels, steps]")
class SignalAsMapT(SignalAsMap):
    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv1d(1, 8, 3), nn.MaxPool1d(2)


class StepsForChannels(nn.Module):
    channels = 100

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv1d(self.channels, 8, 3), nn.Linear(8 * 98, 2)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


@twin(StepsForChannels, (4, 1, 100), reason="[4, 1, 100] has one channel of 100 steps, 'conv' expects 100")
class StepsForChannelsT(StepsForChannels):
    channels = 1


class SqueezedSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv1d(6, 8, 3), nn.Linear(8, 2)

    def forward(self, x):
        x = F.max_pool1d(self.conv(x), 3)
        return self.fc(x.squeeze())


@twin(SqueezedSteps, (4, 6, 29), reason="squeeze() drops dims of 1, and there are 9")
class SqueezedStepsT(SqueezedSteps):
    def forward(self, x):
        return self.fc(self.conv(x)[..., :27].amax(2))


class BottleneckWithoutStride(nn.Module):
    """A block that ends in a convolution of kernel 1 too, as its shortcut does."""

    def __init__(self, stride=1):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.BatchNorm2d(16)
        )
        self.down = nn.Sequential(nn.Conv2d(8, 16, 1, stride=stride), nn.BatchNorm2d(16))

    def forward(self, x):
        return F.relu(self.main(x) + self.down(x))


@twin(BottleneckWithoutStride, (2, 8, 12, 12), reason="'down.0' of the skip connection has stride 1")
class BottleneckWithoutStrideT(BottleneckWithoutStride):
    def __init__(self):
        super().__init__(2)


class PyramidEnlargedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.fine, self.coarse = nn.Conv2d(8, 4, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        fine = F.relu(self.first(x))
        coarse = self.coarse(F.relu(self.second(fine)))
        return self.fine(fine) + F.interpolate(coarse, scale_factor=4)


@twin(PyramidEnlargedTwice, (1, 3, 32, 32), reason="interpolate enlarges 4 times to 32 × 32, 2 times to the other's 16")
class PyramidEnlargedTwiceT(PyramidEnlargedTwice):
    def forward(self, x):
        fine = F.relu(self.first(x))
        coarse = self.coarse(F.relu(self.second(fine)))
        return self.fine(fine) + F.interpolate(coarse, scale_factor=2)


class CausalInALoop(nn.Module):
    """Gated and dilated, the signal as long at the end as at first."""

    def __init__(self):
        super().__init__()
        self.dilated = nn.ModuleList([nn.Conv1d(8, 16, 2, dilation=2**k) for k in range(3)])
        self.mixed = nn.ModuleList([nn.Conv1d(8, 8, 1) for _ in range(3)])

    def forward(self, x):
        for dilated, mix in zip(self.dilated, self.mixed, strict=True):
            a, b = dilated(x).chunk(2, 1)
            x = x + mix(torch.tanh(a) * torch.sigmoid(b))
        return x


@twin(CausalInALoop, (2, 8, 50), reason="50 against 49 in dim 2")
class CausalInALoopT(CausalInALoop):
    def forward(self, x):
        for dilated, mix in zip(self.dilated, self.mixed, strict=True):
            a, b = dilated(F.pad(x, (dilated.dilation[0], 0))).chunk(2, 1)
            x = x + mix(torch.tanh(a) * torch.sigmoid(b))
        return x


class SkipsOfShrinking(nn.Module):
    """What the line above does to the signal, the sum needs too; it begins as a number."""

    def __init__(self):
        super().__init__()
        self.dilated = nn.ModuleList([nn.Conv1d(8, 16, 2, dilation=2**k) for k in range(3)])

    def forward(self, x):
        skips = 0
        for dilated in self.dilated:
            a, b = dilated(x).chunk(2, 1)
            z = torch.tanh(a) * torch.sigmoid(b)
            x = x[..., -z.size(-1) :] + z
            skips = skips + z
        return skips


@twin(SkipsOfShrinking, (2, 8, 50), reason="49 against 47 in dim 2")
class SkipsOfShrinkingT(SkipsOfShrinking):
    def forward(self, x):
        skips = 0
        for dilated in self.dilated:
            a, b = dilated(x).chunk(2, 1)
            z = torch.tanh(a) * torch.sigmoid(b)
            x = x[..., -z.size(-1) :] + z
            skips = (skips[..., -z.size(-1) :] if torch.is_tensor(skips) else skips) + z
        return skips


class RowsOfPixels(nn.Module):
    """Features of a larger picture in rows of what a smaller one gives; the loss is the first to notice."""

    numbers = 8 * 4 * 4

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(4)), nn.Linear(self.numbers, 5)

    def forward(self, x, labels):
        x = self.conv(x)
        x = x.view(-1, 8 * 4 * 4)
        return F.cross_entropy(self.fc(x), labels)


@twin(RowsOfPixels, (6, 3, 32, 32), ints(6), reason="view made 24 rows of 6 samples: a sample has 8 × 8 × 8")
class RowsOfPixelsT(RowsOfPixels):
    numbers = 8 * 8 * 8

    def forward(self, x, labels):
        return F.cross_entropy(self.fc(self.conv(x).flatten(1)), labels)


class HalfTheLatents(nn.Module):
    """A mean and a variance are cut out of what has the width of one of them."""

    width = 8

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(20, self.width), nn.Linear(8, 20)

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return self.decoder(z), mean, log_variance


@twin(HalfTheLatents, (5, 20), reason="8 in 2 pieces are 4 each")
class HalfTheLatentsT(HalfTheLatents):
    width = 16


class MaskOfATokenizer(nn.Module):
    """A mask of ones for tokens stands where an encoder takes one of pairs of tokens."""

    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(50, 16, padding_idx=0), nn.Linear(16, 3)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, ids, attention_mask):
        x = self.encoder(self.emb(ids), attention_mask)
        return self.head(x[:, 0])


@twin(MaskOfATokenizer, ints(4, 12), ints(4, 12), reason="src_key_padding_mask, bool and True where")
class MaskOfATokenizerT(MaskOfATokenizer):
    def forward(self, ids, attention_mask):
        x = self.encoder(self.emb(ids), src_key_padding_mask=attention_mask == 0)
        return self.head(x[:, 0])


class ColumnsInRows(nn.Module):
    """The sizes are those of a transpose; what stands in the rows is not."""

    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(1, 6, 3, padding=1), nn.GRU(6 * 8, 5, batch_first=True)

    def forward(self, x):
        x = self.conv(x).permute(0, 3, 1, 2)
        b, t, c, h = x.shape
        x = x.reshape(b, c * h, t)
        return self.rnn(x)[1][-1]


@twin(ColumnsInRows, (3, 1, 8, 11), reason="dim 1 has the 48 features, the last dim has 11")
class ColumnsInRowsT(ColumnsInRows):
    def forward(self, x):
        x = self.conv(x).permute(0, 3, 1, 2)
        return self.rnn(x.flatten(2))[1][-1]


class StepsOfTheLongest(nn.Module):
    """The batch is padded to more steps than its longest sequence has."""

    def __init__(self):
        super().__init__()
        self.rnn, self.score = nn.LSTM(6, 10, batch_first=True), nn.Linear(10, 1)

    def forward(self, x):
        lengths = torch.tensor([12, 9, 4, 7])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = self.rnn(packed)
        out, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        mask = torch.arange(x.size(1))[None, :] < lengths[:, None]
        return self.score(out).squeeze(-1).masked_fill(~mask, float("-inf")).softmax(1)


@twin(StepsOfTheLongest, (4, 15, 6), reason="gave the 12 steps of the longest sequence")
class StepsOfTheLongestT(StepsOfTheLongest):
    def forward(self, x):
        lengths = torch.tensor([12, 9, 4, 7])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = self.rnn(packed)
        out, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.size(1))
        mask = torch.arange(x.size(1))[None, :] < lengths[:, None]
        return self.score(out).squeeze(-1).masked_fill(~mask, float("-inf")).softmax(1)


class StepsFirstInOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Linear(26, 12)

    def forward(self, state, outputs):
        state = state.unsqueeze(1).repeat(1, outputs.shape[0], 1)
        return self.attn(torch.cat((state, outputs), dim=2)).sum(2).softmax(1)


@twin(StepsFirstInOne, (5, 12), (8, 5, 14), reason="5 against 8 in dim 0 and 8 against 5 in dim 1")
class StepsFirstInOneT(StepsFirstInOne):
    def forward(self, state, outputs):
        state = state.unsqueeze(1).repeat(1, outputs.shape[0], 1)
        return self.attn(torch.cat((state, outputs.transpose(0, 1)), dim=2)).sum(2).softmax(1)


def _one_hot(labels, number):
    return torch.zeros(labels.size(0), number).scatter_(1, labels, 1)


class KeptFunction(nn.Module):
    """The line that fails is in a function that the module keeps as an attribute."""

    def __init__(self, encode=_one_hot):
        super().__init__()
        self.encode, self.fc = encode, nn.Linear(10, 4)

    def forward(self, labels):
        return self.fc(self.encode(labels, 10))


@twin(KeptFunction, ints(5), reason="scatter_ needs an index with as many dims as the tensor")
class KeptFunctionT(KeptFunction):
    def __init__(self):
        super().__init__(lambda labels, number: torch.zeros(labels.size(0), number).scatter_(1, labels[:, None], 1))


class ValuesOfActions(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)

    def forward(self, states, actions, targets):
        values = self.net(states).gather(1, actions)
        return F.smooth_l1_loss(values, targets)


@twin(ValuesOfActions, (16, 4), ints(16), (16,), reason="gather needs an index with as many dims")
class ValuesOfActionsT(ValuesOfActions):
    def forward(self, states, actions, targets):
        values = self.net(states).gather(1, actions.unsqueeze(1)).squeeze(1)
        return F.smooth_l1_loss(values, targets)


class PiecesOfALayer(nn.Module):
    """What is split in three has the width of two of the pieces."""

    width = 2 + 8

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(16, self.width)

    def forward(self, x):
        step, b, c = self.proj(x).split([2, 8, 8], dim=-1)
        return step.mean(-1, keepdim=True) * b * c


@twin(PiecesOfALayer, (2, 6, 16), reason="2 + 8 + 8 = 18, and dim 2 has 10")
class PiecesOfALayerT(PiecesOfALayer):
    width = 2 + 8 + 8


class MatrixForAKernel(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 12))

    def forward(self, x):
        return F.conv2d(x, self.weight)


@twin(MatrixForAKernel, (2, 12, 4, 4), reason="the weight [12, 12] is a matrix: a kernel of size 1")
class MatrixForAKernelT(MatrixForAKernel):
    def forward(self, x):
        return F.conv2d(x, self.weight[:, :, None, None])


class GateOfHalf(nn.Module):
    width = 24

    def __init__(self):
        super().__init__()
        self.first, self.depth = nn.Conv1d(24, self.width, 1), nn.Conv1d(24, 24, 7, padding=3, groups=24)

    def forward(self, x):
        return self.depth(F.glu(self.first(x), dim=1))


@twin(GateOfHalf, (2, 24, 15), reason="24 in 2 pieces are 12 each")
class GateOfHalfT(GateOfHalf):
    width = 48


class SlotsWithoutADim(nn.Module):
    def forward(self, memory, key):
        return F.cosine_similarity(memory, key, dim=-1)


@twin(SlotsWithoutADim, (3, 10, 6), (3, 6), reason="[3, 1, 6] would broadcast")
class SlotsWithoutADimT(nn.Module):
    def forward(self, memory, key):
        return F.cosine_similarity(memory, key.unsqueeze(1), dim=-1)


class PiecesOfASize(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 12)

    def forward(self, x):
        i, o, u = torch.split(self.fc(x), 3, dim=1)
        return i * o + u


@twin(PiecesOfASize, (2, 5), reason="split() takes the size of a piece, chunk() how many pieces, 3")
class PiecesOfASizeT(PiecesOfASize):
    def forward(self, x):
        i, o, u = torch.chunk(self.fc(x), 3, dim=1)
        return i * o + u


class AdapterTheWrongWay(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(4, 16)), nn.Parameter(torch.zeros(40, 4))

    def forward(self, x):
        return x @ (self.down @ self.up) * 0.5


@twin(AdapterTheWrongWay, (2, 5, 16), reason="the other way round it is [40 × 4] @ [4 × 16]")
class AdapterTheWrongWayT(AdapterTheWrongWay):
    def forward(self, x):
        return x @ (self.up @ self.down).t() * 0.5


class NoBackground(nn.Module):
    """Heads of two levels; that of the first gives by chance what can be cut in rows of one class more."""

    more = 0

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(16, 24, 3, 2, 1)
        self.heads = nn.ModuleList(
            [nn.Conv2d(width, a * (3 + self.more), 3, padding=1) for width, a in ((16, 4), (24, 6))]
        )

    def forward(self, x):
        maps, found = [x, self.down(x)], []
        for head, level in zip(self.heads, maps, strict=True):
            found.append(head(level).permute(0, 2, 3, 1).reshape(x.size(0), -1, 4))
        return torch.cat(found, 1)


@twin(NoBackground, (2, 16, 6, 6), reason="18 channels are 6 × 3, and the target has 4")
class NoBackgroundT(NoBackground):
    more = 1


class NothingForTheBias(nn.Module):
    """One layer gives the weight and the bias of another, and is as wide as the weight."""

    def __init__(self, width=3 * 8):
        super().__init__()
        self.net = nn.Linear(5, width)

    def forward(self, x, context):
        params = self.net(context)
        weight, bias = params[:, :24].view(-1, 3, 8), params[:, 24:].view(-1, 3)
        return torch.bmm(weight, x.unsqueeze(-1)).squeeze(-1) + bias


@twin(NothingForTheBias, (4, 8), (4, 5), reason="the slice [4, 0] of [4, 24] is empty: all 24 lie before")
class NothingForTheBiasT(NothingForTheBias):
    def __init__(self):
        super().__init__(3 * 8 + 3)


class LatentsOfHalfTheBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(20, 12), nn.Linear(6, 20)

    def forward(self, x):
        mean, log_variance = torch.chunk(self.encoder(x), 2)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return self.decoder(z), mean, log_variance


@twin(LatentsOfHalfTheBatch, (8, 20), reason="chunk() cuts dim 0 of [8, 12]")
class LatentsOfHalfTheBatchT(LatentsOfHalfTheBatch):
    def forward(self, x):
        mean, log_variance = torch.chunk(self.encoder(x), 2, dim=1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return self.decoder(z), mean, log_variance


class LastKernelTooWide(nn.Module):
    padding = 0

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 8, 4), nn.Conv2d(8, 8, 4, 2)
        self.third, self.fc = nn.Conv2d(8, 8, 3, padding=self.padding), nn.Linear(8 * 2 * 2, 6)

    def forward(self, x):
        x = self.first(x).relu()
        x = self.second(x).relu()
        return self.fc(self.third(x).relu().flatten(1))


@twin(LastKernelTooWide, (2, 4, 28, 28), reason="dim 2 is 2, the window is 3 wide")
class LastKernelTooWideT(LastKernelTooWide):
    padding = 1


class TableOfSamples(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("pe", torch.zeros(50, 16))
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        x = x + self.pe[: x.size(0)]
        return self.fc(x.mean(1))


@twin(TableOfSamples, (4, 12, 16), reason="the table is cut to 4 rows, the samples; [4, 12, 16] has 12 steps")
class TableOfSamplesT(TableOfSamples):
    def forward(self, x):
        x = x + self.pe[: x.size(1)]
        return self.fc(x.mean(1))


class ThirdsOfSamples(nn.Module):
    """Queries, keys and values by index, of what has the samples first."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x):
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, 4, c // 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(b, n, -1))


@twin(ThirdsOfSamples, (4, 49, 24), reason="dim 0 of [4, 49, 3, 4, 6] has the samples, and its thirds are in dim 2")
class ThirdsOfSamplesT(ThirdsOfSamples):
    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(b, n, -1))


class DecoderOvergrown(nn.Module):
    added = 1

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8, 8, 3, 2, 1, self.added), nn.ConvTranspose2d(8, 4, 3, 2, 1, 1),
            nn.ConvTranspose2d(4, 1, 3, 2, 1, 1),
        )  # fmt: skip

    def forward(self, x):
        made = self.decoder(self.encoder(x))
        return F.mse_loss(made, x), made


@twin(DecoderOvergrown, (4, 1, 28, 28), reason="output_padding of 'decoder.0' adds a pixel that no stride dropped")
class DecoderOvergrownT(DecoderOvergrown):
    added = 0


class TargetOfAMixture(nn.Module):
    """The failing line is in torch's own code; what the user's line gives it lacks a dim."""

    def __init__(self):
        super().__init__()
        self.mean, self.scale = nn.Linear(8, 5 * 2), nn.Linear(8, 5 * 2)

    def forward(self, x, target):
        mean = self.mean(x).unflatten(-1, (5, 2))
        spread = torch.distributions.Normal(mean, F.softplus(self.scale(x)).unflatten(-1, (5, 2)), validate_args=False)
        return spread.log_prob(target).sum(-1)


@twin(TargetOfAMixture, (4, 12, 8), (4, 12, 2), reason="[4, 12, 1, 2] would broadcast")
class TargetOfAMixtureT(TargetOfAMixture):
    def forward(self, x, target):
        return super().forward(x, target.unsqueeze(2))


class OddCoupling(nn.Module):
    """Of an odd number the half that is changed is the larger one."""

    def __init__(self, width=3):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2 * width))

    def forward(self, x):
        one, other = x[:, :3], x[:, 3:]
        scale, shift = self.net(one).chunk(2, dim=1)
        return torch.cat([one, other * torch.exp(torch.tanh(scale)) + shift], dim=1)


@twin(OddCoupling, (9, 7), reason="mul takes numbers one to one: [9, 4] against [9, 3]")
class OddCouplingT(OddCoupling):
    def __init__(self):
        super().__init__(4)


class ActionOfAnIndex(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6 + 3, 32), nn.Linear(32, 1)

    def forward(self, obs, action):
        return self.fc2(F.relu(self.fc1(torch.cat([obs, action], dim=1))))


@twin(ActionOfAnIndex, (5, 6), ints(5), reason="one-hot, 3 classes give the 9 features that are expected")
class ActionOfAnIndexT(ActionOfAnIndex):
    def forward(self, obs, action):
        return super().forward(obs, F.one_hot(action, 3))
