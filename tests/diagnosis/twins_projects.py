"""Models of projects that fail as people write them: loops, tables, spectra, labels, places; each with its twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class StatesOfTheSteps(nn.Module):
    """Both states read the batch on the axis of the steps, on a line each."""

    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(4, 6, 2, batch_first=True), nn.Linear(6, 1)

    def forward(self, x):
        h0 = torch.zeros(2, x.size(1), 6)
        c0 = torch.zeros(2, x.size(1), 6)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1])


@twin(StatesOfTheSteps, (7, 30, 4), reason="the hidden state is [2, 30, 6], this input needs [2, 7, 6]")
class StatesOfTheStepsT(StatesOfTheSteps):
    def forward(self, x):
        h0, c0 = torch.zeros(2, x.size(0), 6), torch.zeros(2, x.size(0), 6)
        return self.fc(self.lstm(x, (h0, c0))[0][:, -1])


class FlatWithItsBatch(nn.Module):
    start = 0

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(self.start), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x)


@twin(FlatWithItsBatch, (5, 3, 4, 4), reason="the batch was flattened too: 5 × 3 × 4 × 4 = 240")
class FlatWithItsBatchT(FlatWithItsBatch):
    start = 1


class OneNumberLess(nn.Module):
    """The layer gives a number more for every anchor than the view has."""

    def __init__(self):
        super().__init__()
        self.anchors, self.classes, self.pred = 3, 2, nn.Conv2d(4, 3 * (5 + 2), 1)

    def forward(self, x):
        b, _, h, w = x.shape
        p = self.pred(x)
        p = p.view(b, self.anchors, 4 + self.classes, h, w)
        return p.permute(0, 1, 3, 4, 2)


@twin(OneNumberLess, (2, 4, 4, 4), reason="2 × 21 × 4 × 4 = 672 is not 2 × 3 × 6 × 4 × 4 = 576")
class OneNumberLessT(OneNumberLess):
    def forward(self, x):
        b, _, h, w = x.shape
        return self.pred(x).view(b, self.anchors, 5 + self.classes, h, w).permute(0, 1, 3, 4, 2)


class WrongTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.user_bias, self.item_bias = nn.Embedding(10, 1), nn.Embedding(60, 1)

    def forward(self, user):
        item = torch.arange(50, 50 + user.size(0))
        return self.user_bias(user) + self.user_bias(item)


@twin(WrongTable, ints(4), reason="'item_bias' has as many")
class WrongTableT(WrongTable):
    def forward(self, user):
        return self.user_bias(user) + self.item_bias(torch.arange(50, 50 + user.size(0)))


class OddSpectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.mix = nn.Parameter(torch.ones(6, 5)), nn.Conv1d(6, 6, 1)

    def filter(self, x):
        spectrum = torch.fft.rfft(x)
        kept = spectrum[:, :, :5] * self.weight
        return torch.fft.irfft(F.pad(kept, (0, spectrum.size(-1) - 5)))

    def forward(self, x):
        return self.filter(x) + self.mix(x)


@twin(OddSpectrum, (3, 6, 33), reason="irfft gives 32 samples of a spectrum of 33: n= says how many")
class OddSpectrumT(OddSpectrum):
    def filter(self, x):
        spectrum = torch.fft.rfft(x)
        kept = spectrum[:, :, :5] * self.weight
        return torch.fft.irfft(F.pad(kept, (0, spectrum.size(-1) - 5)), n=x.size(-1))


class InputEveryTurn(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(10, 24), nn.Linear(24, 8)])
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        for layer in self.layers:
            out = torch.relu(layer(x))
        return self.last(out)


@twin(InputEveryTurn, (4, 10), reason="each turn of the loop reads 'x' again; 'layers.0' gave the 24 that are expected")
class InputEveryTurnT(InputEveryTurn):
    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.last(x)


class SkipsThatShrink(nn.Module):
    def __init__(self):
        super().__init__()
        self.dilated = nn.ModuleList([nn.Conv1d(6, 6, 2, dilation=2**k) for k in range(3)])

    def forward(self, x):
        skips = []
        for dilated in self.dilated:
            z = torch.tanh(dilated(x))
            skips.append(z)
            x = z + x[:, :, -z.size(2) :]
        return torch.stack(skips).sum(0)


@twin(SkipsThatShrink, (2, 6, 30), reason="3 signals of 29, 27, 23 steps: each was made from a shorter one")
class SkipsThatShrinkT(SkipsThatShrink):
    def forward(self, x):
        skips = []
        for dilated in self.dilated:
            z = torch.tanh(dilated(x))
            skips.append(z)
            x = z + x[:, :, -z.size(2) :]
        return sum(skip[..., -z.size(2) :] for skip in skips)


class PlacesNotGiven(nn.Module):
    """A batch of two unpacks in two names."""

    places = False

    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=self.places)
        self.conv, self.unpool = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)), nn.MaxUnpool2d(2)

    def forward(self, x):
        x, places = self.pool(x)
        return self.unpool(self.conv(x), places)


@twin(PlacesNotGiven, (2, 6, 8, 8), reason="'pool' gives one tensor, which x, places part by its samples")
class PlacesNotGivenT(PlacesNotGiven):
    places = True


class MaskOfStepsFirst(nn.Module):
    """The sequence is turned on purpose, and the mask with it, which is not to be."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(50, 16, padding_idx=0)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 1, enable_nested_tensor=False)

    def forward(self, x):
        mask = x == 0
        return self.encoder(self.emb(x).transpose(0, 1), src_key_padding_mask=mask.t())


@twin(MaskOfStepsFirst, ints(3, 9), reason="key_padding_mask is [9, 3], and [3, 9] before its dims were moved")
class MaskOfStepsFirstT(MaskOfStepsFirst):
    def forward(self, x):
        return self.encoder(self.emb(x).transpose(0, 1), src_key_padding_mask=x == 0)


class LayerOfLogits(nn.Module):
    """From torch 2.14 on the layer refuses its setting, before that the next line refuses the layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        p = nn.Softmax(self.fc(x))
        return p.max(-1).values


@twin(LayerOfLogits, (2, 6), reason="makes a layer with a tensor for its settings, and does not run it")
class LayerOfLogitsT(LayerOfLogits):
    def forward(self, x):
        return nn.Softmax(dim=-1)(self.fc(x)).max(-1).values


class CentersOfABasis(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("centers", torch.linspace(0, 5, 20))
        self.fc = nn.Linear(20, 4)

    def forward(self, positions):
        distances = torch.cdist(positions, positions)
        basis = torch.exp(-((distances - self.centers) ** 2))
        return self.fc(basis).sum((1, 2))


@twin(CentersOfABasis, (2, 6, 3), reason="each number of [2, 6, 6] is compared with the 20 centers")
class CentersOfABasisT(CentersOfABasis):
    def forward(self, positions):
        distances = torch.cdist(positions, positions)
        basis = torch.exp(-((distances.unsqueeze(-1) - self.centers) ** 2))
        return self.fc(basis).sum((1, 2))


class EvenAverage(nn.Module):
    kernel = 24

    def __init__(self):
        super().__init__()
        self.average, self.fc = nn.AvgPool1d(self.kernel, stride=1, padding=12), nn.Linear(48, 12)

    def forward(self, x):
        trend = self.average(x.transpose(1, 2)).transpose(1, 2)
        return self.fc((x - trend).transpose(1, 2))


@twin(EvenAverage, (4, 48, 7), reason="'average' of kernel 24 gives 49 steps of 48: an odd one keeps them")
class EvenAverageT(EvenAverage):
    kernel = 25


class SkipsFromTheStart(nn.Module):
    """The skips are read first to last, and the decoders were made for last to first."""

    def __init__(self):
        super().__init__()
        self.downs = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)])
        self.middle = nn.Conv2d(16, 32, 3, padding=1)
        self.ups = nn.ModuleList([nn.Conv2d(32 + 16, 16, 3, padding=1), nn.Conv2d(16 + 8, 8, 3, padding=1)])

    def forward(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up, skip in zip(self.ups, skips, strict=True):
            x = F.interpolate(x, size=skip.shape[-2:])
            x = up(torch.cat((x, skip), dim=1))
        return x


@twin(SkipsFromTheStart, (2, 3, 16, 16), reason="cat outputs 32 + 8 = 40 channels, 'ups.0' expects 48")
class SkipsFromTheStartT(nn.Module):
    def forward(self, x):
        return x[:, :1].expand(-1, 8, -1, -1)


class SampleForColumn(nn.Module):
    """A row of the categories is a sample, and each table reads a column."""

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(5, 4) for _ in range(3))
        self.fc = nn.Linear(3 * 4 + 2, 1)

    def forward(self, categories, numbers):
        made = []
        for i, table in enumerate(self.tables):
            made.append(table(categories[i]))
        x = torch.cat(made, 1)
        return self.fc(torch.cat([x, numbers], 1))


@twin(SampleForColumn, ints(6, 3), (6, 2), reason="3 against 6 in dim 0")
class SampleForColumnT(SampleForColumn):
    def forward(self, categories, numbers):
        made = [table(categories[:, i]) for i, table in enumerate(self.tables)]
        return self.fc(torch.cat([*made, numbers], 1))


class SetTwice(nn.Module):
    """A copied line sets the norm of the layer before once more."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.bn1 = nn.BatchNorm2d(16)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x))).mean((2, 3))


@twin(SetTwice, (2, 3, 12, 12), reason="'bn1' expects 16; __init__ sets bn1 twice, and bn2 never")
class SetTwiceT(SetTwice):
    def __init__(self):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(16)


class ListOfAnother(nn.Module):
    """The list that is kept is turned round for the decoder after it was kept."""

    def __init__(self, dims=None):
        super().__init__()
        if dims is None:
            dims = [8, 16]
        self.dims = dims
        self.down = nn.Conv2d(3, dims[-1], 4, 4)
        self.middle = nn.Linear(dims[-1] * 16, dims[-1] * 16)
        dims.reverse()
        self.up = nn.ConvTranspose2d(dims[0], 3, 4, 4)

    def forward(self, x):
        h = self.middle(self.down(x).flatten(1)).view(-1, self.dims[-1], 4, 4)
        return self.up(h)


@twin(ListOfAnother, (2, 3, 16, 16), reason="view() outputs 8 channels, 'up' expects 16")
class ListOfAnotherT(ListOfAnother):
    def __init__(self):
        super().__init__()
        self.dims = [8, 16]


class Enlarge(nn.Sequential):
    def __init__(self, width):
        steps = []
        for _ in range(2):
            steps.append(nn.Conv2d(width, 2 * width, 3, 1, 1))
            steps.append(nn.PixelShuffle(2))
        super().__init__(*steps)


class ShuffledTwice(nn.Module):
    """The class is an ``nn.Sequential`` of its own, whose forward is torch's."""

    def __init__(self, width=8):
        super().__init__()
        self.head, self.up = nn.Conv2d(3, width, 3, padding=1), Enlarge(width)
        self.tail = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        return self.tail(self.up(self.head(x)))


@twin(ShuffledTwice, (1, 3, 6, 6), reason="'up.1' (PixelShuffle) outputs 4 channels, 'up.2' expects 8")
class ShuffledTwiceT(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=4)


def plain(width, out):
    return nn.Conv2d(width, out, 3, 1)


class Cleaner(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = plain(width, width), plain(width, width)

    def forward(self, x):
        return x + self.b(F.relu(self.a(x)))


class NoPadding(nn.Module):
    """All convolutions are made by one function, which pads none."""

    def __init__(self, width=6):
        super().__init__()
        self.head, self.tail = plain(1, width), plain(width, 1)
        self.body = nn.Sequential(*[Cleaner(width) for _ in range(2)])

    def forward(self, x):
        return x - self.tail(self.body(self.head(x)))


@twin(NoPadding, (1, 1, 24, 24), reason="convolutions without padding took 4 off the way")
class NoPaddingT(nn.Module):
    def forward(self, x):
        return x


class PartedSamples(nn.Module):
    """Queries, keys and values are thirds of the features, and ``chunk`` without a dim parts the batch."""

    def __init__(self, dim=16):
        super().__init__()
        self.heads, self.qkv, self.proj = 4, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).chunk(3)
        q, k, v = (t.reshape(b, n, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-2, -1)
        out = scores.softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(b, n, -1))


@twin(PartedSamples, (8, 12, 16), reason="the target shape has a batch of 8, the input has 3")
class PartedSamplesT(nn.Module):
    def forward(self, x):
        return x


class HeightForWidth(nn.Module):
    """``pad`` counts from the last dim, the features, and the height's comes last."""

    def __init__(self, dim=6, window=4):
        super().__init__()
        self.window, self.fc = window, nn.Linear(window * window * dim, 3)

    def forward(self, x):
        B, H, W, C = x.shape
        k = self.window
        bottom, right = (k - H % k) % k, (k - W % k) % k
        y = F.pad(x, (0, 0, 0, bottom, 0, right))
        y = y.reshape(B, (H + bottom) // k, k, (W + right) // k, k, C).permute(0, 1, 3, 2, 4, 5)
        return self.fc(y.flatten(3))


@twin(HeightForWidth, (2, 14, 9, 6), reason="2 × 17 × 11 × 6")
class HeightForWidthT(HeightForWidth):
    def forward(self, x):
        return super().forward(F.pad(x, (0, 0, 0, 3, 0, 2)))


def join(windows, size, H, W):
    B = windows.shape[0] // (H * W // size**2)
    x = windows.view(B, H // size, W // size, size, size, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, -1)


class WidthBeforeHeight(nn.Module):
    """The function takes the height first, and is given the width."""

    def __init__(self, dim=6, size=2):
        super().__init__()
        self.size, self.mix = size, nn.Linear(dim, dim)

    def forward(self, x):
        B, H, W, C = x.shape
        s = self.size
        windows = x.view(B, H // s, s, W // s, s, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, C)
        return x + join(self.mix(windows), s, W, H)


@twin(WidthBeforeHeight, (3, 8, 4, 6), reason="dims 1 and 2 of [3, 8, 4, 6] are the other way round in [3, 4, 8, 6]")
class WidthBeforeHeightT(WidthBeforeHeight):
    def forward(self, x):
        return x


class FirstFeature(nn.Module):
    """``gather`` gives what its index has: one feature of each step."""

    def __init__(self, dim=8):
        super().__init__()
        self.encoder, self.fc = nn.TransformerEncoderLayer(dim, 2, 16, batch_first=True), nn.Linear(dim, 3)

    def forward(self, x):
        kept = x.norm(dim=-1).argsort(dim=1)[:, :4]
        x = torch.gather(x, 1, kept.unsqueeze(-1))
        return self.fc(self.encoder(x))


@twin(FirstFeature, (2, 10, 8), reason="the index [2, 4, 1] reads the first of 8 features")
class FirstFeatureT(FirstFeature):
    def forward(self, x):
        return self.fc(self.encoder(x[:, :4]))


class SqueezedSample(nn.Module):
    """``squeeze()`` drops the batch of one too, and what it is joined with has it."""

    def __init__(self):
        super().__init__()
        self.conv, self.meta, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(2, 4), nn.Linear(10, 3)

    def forward(self, x, meta):
        pooled = F.adaptive_avg_pool2d(self.conv(x), 1).squeeze()
        return self.fc(torch.cat([pooled, self.meta(meta)], dim=1))


@twin(SqueezedSample, (1, 3, 9, 9), (1, 2), reason="squeeze() drops every dim of 1, the batch too")
class SqueezedSampleT(SqueezedSample):
    def forward(self, x, meta):
        return self.fc(torch.cat([self.conv(x).mean((2, 3)), self.meta(meta)], dim=1))


class Activated(nn.Module):
    def __init__(self, width, out, act=nn.ReLU):
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, padding=1)
        self.act = act

    def forward(self, x):
        return self.act(self.conv(x))


class KeptClass(nn.Module):
    """A block keeps the class of its activation, and calls it: the next layer is given a module."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(Activated(1, 4), nn.AvgPool2d(2), Activated(4, 8), nn.AvgPool2d(2))

    def forward(self, x):
        return self.features(x)


@twin(KeptClass, (2, 1, 8, 8), reason="self.act of 'features.0' is the class ReLU, and no layer of it was made")
class KeptClassT(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, 4).expand(-1, 8, -1, -1)


class BothDirectionsGiven(nn.Module):
    """Each step of the decoder is given the state of the step before, the first one that of both directions."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(5, 6, 2, bidirectional=True, batch_first=True)
        self.decoder, self.fc = nn.GRU(4, 6, 2, batch_first=True), nn.Linear(6, 9)

    def forward(self, x, y):
        _, state = self.encoder(x)
        made = []
        for t in range(y.size(1)):
            out, state = self.decoder(y[:, t : t + 1], state)
            made.append(self.fc(out[:, 0]))
        return torch.stack(made, 1)


@twin(BothDirectionsGiven, (3, 8, 5), (3, 4, 4), reason="2 layers × 2 directions")
class BothDirectionsGivenT(BothDirectionsGiven):
    def forward(self, x, y):
        return self.fc(self.decoder(y)[0])


class TiedWidths(nn.Module):
    """The output layer shares the embedding's weight, which is not as wide as what it reads."""

    def __init__(self, words=50, width=12, hidden=20):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(words, width), nn.GRU(width, hidden, batch_first=True)
        self.out = nn.Linear(hidden, words)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(self.rnn(self.embed(x))[0])


@twin(TiedWidths, ints(3, 7), reason="the weight of 'out' is that of 'embed' [50, 12]: of 12 features, got 20")
class TiedWidthsT(TiedWidths):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(12, 20, batch_first=True), nn.Linear(20, 50)


class PaddedToTheBatch(nn.Module):
    """Steps are padded to the longest sequence, and joined with features of all steps."""

    def __init__(self):
        super().__init__()
        self.embed, self.extra = nn.Embedding(9, 4), nn.Embedding(3, 12)
        self.rnn, self.out = nn.LSTM(4, 6, bidirectional=True, batch_first=True), nn.Linear(12, 5)

    def forward(self, ids, kinds):
        lengths = torch.tensor([5, 7, 2])
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        h, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(h + self.extra(kinds))


@twin(PaddedToTheBatch, ints(3, 9), ints(3, 9), reason="pad_packed_sequence gave the 7 steps")
class PaddedToTheBatchT(PaddedToTheBatch):
    def forward(self, ids, kinds):
        return self.out(self.extra(kinds))


class SizeOfTheFeatures(nn.Module):
    """The heat maps are parted by the number of channels of what they were made of."""

    def __init__(self, channels=16, points=5):
        super().__init__()
        self.conv = nn.Conv2d(channels, points, 1)

    def forward(self, x):
        B, C, H, W = x.shape
        heat = self.conv(x)
        chance = heat.view(B, C, -1).softmax(-1)
        places = torch.arange(H * W) / (H * W)
        return (chance * places).sum(-1)


@twin(SizeOfTheFeatures, (2, 16, 8, 8), reason="input has 20 positions, the other tensor has 64")
class SizeOfTheFeaturesT(SizeOfTheFeatures):
    def forward(self, x):
        return self.conv(x).mean((2, 3))


class MemoryOfChannels(nn.Module):
    """What the decoder attends to has its channels first, as a convolution gives them."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
        self.conv, self.decoder = nn.Conv1d(3, 8, 3), nn.TransformerDecoder(layer, 2)

    def forward(self, x, y):
        memory = self.conv(x)
        return self.decoder(y, memory)


@twin(MemoryOfChannels, (2, 3, 20), (2, 5, 8), reason="dim 1 of the key has the 8 features, the last dim has 18")
class MemoryOfChannelsT(MemoryOfChannels):
    def forward(self, x, y):
        return self.decoder(y, self.conv(x).transpose(1, 2))


class RowsBeforeTheHead(nn.Module):
    """The head was made for all columns side by side, and for the numbers."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Embedding(7, 4), nn.Linear(3 * 4 + 2, 1)

    def forward(self, columns, numbers):
        x = self.embed(columns)
        return self.fc(torch.cat([x, numbers], dim=-1))


@twin(RowsBeforeTheHead, ints(6, 3), (6, 2), reason="flat, 3 × 4 + 2 = 14 features are expected")
class RowsBeforeTheHeadT(RowsBeforeTheHead):
    def forward(self, columns, numbers):
        return self.fc(torch.cat([self.embed(columns).flatten(1), numbers], 1))


class LowRank(nn.Module):
    """Both factors of the update are written as a Linear's weight is."""

    def __init__(self, width=6, out=9, rank=2):
        super().__init__()
        self.base = nn.Linear(width, out)
        self.a, self.b = nn.Parameter(torch.randn(rank, width)), nn.Parameter(torch.zeros(out, rank))

    def forward(self, x):
        return self.base(x) + (x @ self.a @ self.b) * 0.5


@twin(LowRank, (4, 5, 6), reason="the inner 6 and 2 differ; transposed, the second has 6 there")
class LowRankT(LowRank):
    def forward(self, x):
        return self.base(x)


class NeighboursOfSamples(nn.Module):
    """The index is of the vertices, and reads the samples."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3 * 4, 6)

    def forward(self, x, neighbours):
        B, V, C = x.shape
        near = x[neighbours]
        return self.fc(near.reshape(B, V, 4 * C))


@twin(NeighboursOfSamples, (2, 10, 3), ints(10, 4), reason="the target shape has a batch of 2, the input has 10")
class NeighboursOfSamplesT(NeighboursOfSamples):
    def forward(self, x, neighbours):
        return self.fc(x[:, neighbours].flatten(2))


class TokensEnlarged(nn.Module):
    """The tokens of a map are enlarged as if they were the map."""

    def __init__(self):
        super().__init__()
        self.proj, self.mix, self.out = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        t = self.mix(self.proj(x).flatten(2).transpose(1, 2))
        return self.out(F.interpolate(t, scale_factor=4, mode="bilinear"))


@twin(TokensEnlarged, (2, 3, 16, 24), reason="has the positions of a feature map of 4 × 6 as steps")
class TokensEnlargedT(TokensEnlarged):
    def forward(self, x):
        return self.out(F.interpolate(self.proj(x), scale_factor=4))


class HintOfAnotherWidth(nn.Module):
    """The student's hint is narrower than the teacher's features, which have a head too."""

    def __init__(self):
        super().__init__()
        self.teacher, self.head = nn.Conv2d(3, 32, 3), nn.Linear(32, 5)
        self.student, self.hint = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 1)

    def forward(self, x):
        features, own = self.teacher(x), self.student(x)
        return F.mse_loss(self.hint(own), features), self.head(features.mean((2, 3))), features


@twin(HintOfAnotherWidth, (2, 3, 8, 8), reason="[2, 16, 6, 6] against [2, 32, 6, 6]")
class HintOfAnotherWidthT(HintOfAnotherWidth):
    def __init__(self):
        super().__init__()
        self.hint = nn.Conv2d(8, 32, 1)


class NoiseTheOtherWay(nn.Module):
    """The outer product of the noise has its dims the other way round than the weight."""

    def __init__(self, width=6, out=4):
        super().__init__()
        self.width, self.out = width, out
        self.mean, self.spread = nn.Parameter(torch.randn(out, width)), nn.Parameter(torch.ones(out, width))

    def forward(self, x):
        noise = torch.outer(torch.randn(self.width), torch.randn(self.out))
        return F.linear(x, self.mean + self.spread * noise), self.spread


@twin(NoiseTheOtherWay, (3, 6), reason="'spread' [4, 6] has the dims of [6, 4] in another order")
class NoiseTheOtherWayT(NoiseTheOtherWay):
    def forward(self, x):
        return F.linear(x, self.mean), self.spread


class HeightOfTwo(nn.Module):
    """``squeeze(2)`` drops a height of one, and the map has two rows."""

    def __init__(self):
        super().__init__()
        self.conv, self.along, self.out = nn.Conv2d(1, 4, (6, 3)), nn.Conv1d(4, 4, 3, padding=1), nn.Linear(4, 1)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = x.squeeze(2)
        x = x + self.along(x)
        return self.out(x.transpose(1, 2)).squeeze(-1)


@twin(HeightOfTwo, (3, 1, 7, 20), reason="squeeze(2) drops a dim of 1, and there are 2")
class HeightOfTwoT(HeightOfTwo):
    def forward(self, x):
        x = self.conv(x).mean(2)
        return self.out((x + self.along(x)).transpose(1, 2)).squeeze(-1)


class TwoSumsInALine(nn.Module):
    """Each step reads a sample, in a line that adds twice."""

    def __init__(self, tags=5):
        super().__init__()
        self.emit, self.moves = nn.Linear(4, tags), nn.Parameter(torch.zeros(tags, tags))

    def forward(self, x):
        e = self.emit(x)
        best = e[:, 0]
        for t in range(1, e.size(1)):
            scores = best.unsqueeze(2) + self.moves + e[t].unsqueeze(1)
            best = scores.logsumexp(1)
        return best.logsumexp(1)


@twin(TwoSumsInALine, (2, 9, 4), reason="dim 0: 2 against 9")
class TwoSumsInALineT(TwoSumsInALine):
    def forward(self, x):
        return self.emit(x).sum((1, 2))
