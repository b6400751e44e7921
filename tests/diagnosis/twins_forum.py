"""Models that fail as those of forum threads do, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import Twin, ints, register_in

__all__ = ["FORUM"]

FORUM: list[Twin] = []
twin = register_in(FORUM)


class StateBySize0(nn.Module):
    """The state has the batch of an input that the layer reads sequence-first."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(50, 12)
        self.rnn = nn.LSTM(12, 6, 2, bidirectional=True)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        e = self.emb(x)
        h0 = torch.zeros(4, x.size(0), 6)
        c0 = torch.zeros(4, x.size(0), 6)
        out, _ = self.rnn(e, (h0, c0))
        return self.fc(out[:, -1])


@twin(StateBySize0, ints(3, 10), reason="reads the input [3, 10, 12] as 3 steps of 10 samples")
class StateBySize0T(StateBySize0):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(12, 6, 2, bidirectional=True, batch_first=True)


class PaddingAsTargetMask(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True)
        self.emb, self.dec = nn.Embedding(50, 16), nn.TransformerDecoder(layer, 1)

    def forward(self, ids, pad, memory):
        return self.dec(self.emb(ids), memory, tgt_mask=pad)


@twin(PaddingAsTargetMask, ints(3, 9), torch.zeros(3, 9, dtype=torch.bool), (3, 7, 16), reason="key_padding_mask")
class PaddingAsTargetMaskT(PaddingAsTargetMask):
    def forward(self, ids, pad, memory):
        return self.dec(self.emb(ids), memory, tgt_key_padding_mask=pad)


class PaddingByPosition(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.emb, self.enc = nn.Embedding(50, 16), nn.TransformerEncoder(layer, 1)

    def forward(self, ids, pad):
        return self.enc(self.emb(ids), pad)


@twin(PaddingByPosition, ints(3, 9), torch.zeros(3, 9, dtype=torch.bool), reason="key_padding_mask")
class PaddingByPositionT(PaddingByPosition):
    def forward(self, ids, pad):
        return self.enc(self.emb(ids), src_key_padding_mask=pad)


class GridTooSmall(nn.Module):
    """The decoder begins at 7 × 7, as for pictures of 28."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(3, 6, 4, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 4, 2, 1), nn.Flatten())
        self.mu, self.up = nn.Linear(8 * 8 * 8, 5), nn.Linear(5, 8 * 7 * 7)
        self.dec = nn.Sequential(nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 4, 2, 1))

    def forward(self, x):
        z = self.up(self.mu(self.enc(x))).view(-1, 8, 7, 7)
        return self.dec(z) - x


@twin(GridTooSmall, (4, 3, 32, 32), reason="the decoder begins at 7 × 7")
class GridTooSmallT(GridTooSmall):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(5, 8 * 8 * 8)

    def forward(self, x):
        return self.dec(self.up(self.mu(self.enc(x))).view(-1, 8, 8, 8)) - x


class GridInALoss(GridTooSmall):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(5, 8 * 16 * 16)

    def forward(self, x):
        z = torch.reshape(self.up(self.mu(self.enc(x))), (x.size(0), 8, 16, 16))
        return F.binary_cross_entropy_with_logits(self.dec(z), x)


@twin(GridInALoss, (4, 3, 32, 32), reason="32 × 32 begins at 8 × 8")
class GridInALossT(GridTooSmallT):
    def forward(self, x):
        z = self.up(self.mu(self.enc(x))).view(-1, 8, 8, 8)
        return F.binary_cross_entropy_with_logits(self.dec(z), x)


class LabelAsAMap(nn.Module):
    """A label is embedded as a channel of the picture, and not reshaped to one."""

    def __init__(self):
        super().__init__()
        self.emb, self.fc = nn.Embedding(10, 5), nn.Linear(5, 12 * 12)
        self.conv = nn.Conv2d(2, 4, 3, 2, 1)

    def forward(self, x, y):
        label = self.fc(self.emb(y))
        return self.conv(torch.cat([x, label], 1)).flatten(1)


@twin(LabelAsAMap, (4, 1, 12, 12), ints(4), reason="144 numbers are 1 × 12 × 12")
class LabelAsAMapT(LabelAsAMap):
    def forward(self, x, y):
        label = self.fc(self.emb(y)).view(-1, 1, 12, 12)
        return self.conv(torch.cat([x, label], 1)).flatten(1)


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


class StateWithItsLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(8, 6, batch_first=True), nn.Linear(12, 3)

    def forward(self, x):
        steps, (h, _) = self.rnn(x)
        return self.out(torch.cat([h, steps[:, -1]], 1))


@twin(StateWithItsLayers, (4, 10, 8), reason="the state of 'rnn' has a dim of its layers")
class StateWithItsLayersT(StateWithItsLayers):
    def forward(self, x):
        steps, (h, _) = self.rnn(x)
        return self.out(torch.cat([h[-1], steps[:, -1]], 1))


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


class QueryStepsForKeys(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(32, 32), nn.Linear(24, 32)

    def forward(self, x, memory):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 8).transpose(1, 2)
        k = self.k(memory).view(b, t, 4, 8).transpose(1, 2)
        return (q @ k.transpose(-2, -1)).softmax(-1)


@twin(QueryStepsForKeys, (2, 10, 32), (2, 7, 24), reason="is not 2 × 10 × 4 × 8")
class QueryStepsForKeysT(QueryStepsForKeys):
    def forward(self, x, memory):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 8).transpose(1, 2)
        k = self.k(memory).view(b, -1, 4, 8).transpose(1, 2)
        return (q @ k.transpose(-2, -1)).softmax(-1)


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


class FlattenBeforeDropout(nn.Module):
    """The classifier begins with a dropout, so that no flattening stands right before its first Linear."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 6, 5, 2), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Dropout(), nn.Linear(6 * 7 * 7, 16), nn.ReLU(inplace=True), nn.Linear(16, 10))

    def forward(self, x):
        x = self.conv(x)
        x = torch.flatten(x)
        return self.head(x)


@twin(FlattenBeforeDropout, (4, 3, 32, 32), reason="the batch was flattened too")
class FlattenBeforeDropoutT(FlattenBeforeDropout):
    def forward(self, x):
        return self.head(torch.flatten(self.conv(x), 1))


class ShortcutWithoutStride(nn.Module):
    def __init__(self, stride=1):
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
        self.shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, stride, bias=False), nn.BatchNorm2d(16))

    def forward(self, x):
        out = self.main(x)
        out += self.shortcut(x)
        return F.relu(out)


@twin(
    ShortcutWithoutStride, (2, 8, 32, 32), reason="of the skip connection has stride 1, the layers that it bypasses 2"
)
class ShortcutWithoutStrideT(ShortcutWithoutStride):
    def __init__(self):
        super().__init__(2)


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


class DilatedBranches(nn.Module):
    def __init__(self, paddings=(1, 1, 1)):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        rates = zip((1, 4, 6), paddings, strict=True)
        self.branches = nn.ModuleList([nn.Conv2d(8, 4, 3, padding=p, dilation=d) for d, p in rates])
        self.out = nn.Conv2d(12, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.out(torch.cat([branch(x) for branch in self.branches], 1))


@twin(DilatedBranches, (2, 3, 40, 40), reason="'branches.1' has padding 1, 4 keeps the size")
class DilatedBranchesT(DilatedBranches):
    def __init__(self):
        super().__init__((1, 4, 6))


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


class KeysCutAlongTheSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Linear(24, 16), nn.Linear(24, 32)

    def forward(self, x):
        q = self.q(x)
        k, v = self.kv(x).chunk(2, dim=1)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


@twin(KeysCutAlongTheSteps, (2, 10, 24), reason="chunk() cuts dim 1 of [2, 10, 32]")
class KeysCutAlongTheStepsT(KeysCutAlongTheSteps):
    def forward(self, x):
        q = self.q(x)
        k, v = self.kv(x).chunk(2, dim=-1)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


class NoBatchAndAWidth(nn.Module):
    """Two mistakes: with a batch alone it fails at the Linear, which was made for pictures of 32."""

    def __init__(self, features=16 * 5 * 5):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc = nn.Linear(features, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2)
        return self.fc(x.view(x.size(0), -1))


class NoBatchAndAWidthT(NoBatchAndAWidth):
    def __init__(self):
        super().__init__(16 * 4 * 4)


FORUM.append(Twin(NoBatchAndAWidth, NoBatchAndAWidthT, ((1, 28, 28),), "the batch dim is missing", ((1, 1, 28, 28),)))


class StridedBranch(nn.Module):
    def __init__(self, stride=2):
        super().__init__()
        self.one = nn.Conv2d(8, 4, 1)
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride, 1), nn.Conv2d(8, 4, 1))

    def forward(self, x):
        return torch.cat([self.one(x), self.pool(x)], 1)


@twin(StridedBranch, (2, 8, 28, 28), reason="'pool.0' has stride 2")
class StridedBranchT(StridedBranch):
    def __init__(self):
        super().__init__(1)


class LevelNotEnlarged(nn.Module):
    """The coarse level was made of the fine one: it has to be enlarged, not kept from being coarse."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine).relu()
        return torch.cat([fine, coarse], 1)


@twin(LevelNotEnlarged, (2, 3, 28, 28))
class LevelNotEnlargedT(LevelNotEnlarged):
    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine).relu()
        return torch.cat([fine, F.interpolate(coarse, size=fine.shape[2:])], 1)


class KernelsOfThreeSizes(nn.Module):
    def __init__(self, padded=False):
        super().__init__()
        kernels = (3, 5, 7)
        self.convs = nn.ModuleList([nn.Conv1d(1, 4, k, padding=k // 2 if padded else 0) for k in kernels])
        self.fc = nn.Linear(12, 2)

    def forward(self, x):
        return self.fc(torch.cat([F.relu(conv(x)) for conv in self.convs], 1).mean(2))


@twin(KernelsOfThreeSizes, (4, 1, 50), reason="'convs.1' has padding 0, 2 keeps the size")
class KernelsOfThreeSizesT(KernelsOfThreeSizes):
    def __init__(self):
        super().__init__(True)


class AttentionOverAMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 1)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        f = self.conv(x)
        a, _ = self.attention(f, f, f)
        return self.out(a)


@twin(AttentionOverAMap, (2, 3, 6, 8), reason="is a feature map of 16 channels")
class AttentionOverAMapT(AttentionOverAMap):
    def forward(self, x):
        f = self.conv(x)
        steps = f.flatten(2).transpose(1, 2)
        a, _ = self.attention(steps, steps, steps)
        return self.out(a.transpose(1, 2).reshape(f.shape))


class CellStateWithoutABatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = torch.zeros(8)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.out(h)


@twin(CellStateWithoutABatch, (4, 5, 6), reason="this input needs [4, 8]")
class CellStateWithoutABatchT(CellStateWithoutABatch):
    def forward(self, x):
        h = torch.zeros(x.size(0), 8)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.out(h)


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


class EnlargedToAFixedSize(nn.Module):
    def __init__(self, side=64):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.Upsample(size=(side, side), mode="bilinear")
        self.out = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return x - self.out(self.up(self.down(x)))


@twin(EnlargedToAFixedSize, (1, 3, 128, 128), reason="'up' enlarges to 64 × 64, the other has 128 × 128")
class EnlargedToAFixedSizeT(EnlargedToAFixedSize):
    def __init__(self):
        super().__init__(128)


class StatesOfOneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(5, 16, num_layers=2, batch_first=True), nn.Linear(16, 1)

    def forward(self, x):
        h = (torch.zeros(1, x.size(0), 16), torch.zeros(1, x.size(0), 16))
        steps, _ = self.rnn(x, h)
        return self.fc(steps[:, -1])


@twin(StatesOfOneLayer, (8, 10, 5), reason="this input needs [2, 8, 16]")
class StatesOfOneLayerT(StatesOfOneLayer):
    def forward(self, x):
        h = (torch.zeros(2, x.size(0), 16), torch.zeros(2, x.size(0), 16))
        steps, _ = self.rnn(x, h)
        return self.fc(steps[:, -1])


class PredictionSmallerThanItsTarget(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.shuffle = nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)

    def forward(self, low, high):
        return F.l1_loss(self.shuffle(self.conv(low)), high)


@twin(PredictionSmallerThanItsTarget, (2, 3, 24, 24), (2, 3, 96, 96), reason="[48, 48] in one and [96, 96]")
class PredictionSmallerThanItsTargetT(PredictionSmallerThanItsTarget):
    def forward(self, low, high):
        return F.l1_loss(F.interpolate(self.shuffle(self.conv(low)), size=high.shape[2:]), high)


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


class StackForCat(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.both = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x):
        a = self.a(x)
        return self.both(torch.stack([a, self.b(a)], dim=1))


@twin(StackForCat, (2, 3, 16, 16), reason="cat joins their channels: 2 × 8")
class StackForCatT(StackForCat):
    def forward(self, x):
        a = self.a(x)
        return self.both(torch.cat([a, self.b(a)], dim=1))


class PackedIntoALinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 6, 6]), batch_first=True)
        steps, _ = self.rnn(packed)
        return self.fc(steps)


@twin(PackedIntoALinear, (3, 6, 8), reason="packed sequence")
class PackedIntoALinearT(PackedIntoALinear):
    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 6, 6]), batch_first=True)
        steps, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.fc(steps)


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


class WidthNotSqueezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.conv, self.fc = nn.Embedding(50, 16), nn.Conv2d(1, 8, (3, 16)), nn.Linear(8, 3)

    def forward(self, x):
        x = self.conv(self.emb(x).unsqueeze(1)).relu()
        x = F.max_pool1d(x, x.size(2))
        return self.fc(x.squeeze(2))


@twin(WidthNotSqueezed, ints(4, 12), reason="a 1-d pool expects 3")
class WidthNotSqueezedT(WidthNotSqueezed):
    def forward(self, x):
        x = self.conv(self.emb(x).unsqueeze(1)).relu().squeeze(3)
        x = F.max_pool1d(x, x.size(2))
        return self.fc(x.squeeze(2))


class StepsBesideVectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.tags = nn.Embedding(10, 8), nn.Embedding(5, 4)
        self.fc = nn.Linear(12, 1)

    def forward(self, user, tags):
        return self.fc(torch.cat([self.user(user), self.tags(tags)], dim=-1))


@twin(StepsBesideVectors, ints(6), ints(6, 3), reason="gives steps of 4 features")
class StepsBesideVectorsT(StepsBesideVectors):
    def forward(self, user, tags):
        return self.fc(torch.cat([self.user(user), self.tags(tags).mean(1)], dim=-1))


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


class GramOfBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        f = self.conv(x).flatten(2)
        return torch.mm(f, f.t())


@twin(GramOfBatch, (2, 3, 8, 8), reason="t() swaps the two dims of a matrix")
class GramOfBatchT(GramOfBatch):
    def forward(self, x):
        f = self.conv(x).flatten(2)
        return torch.bmm(f, f.transpose(1, 2))


class FramesIntoACnn(nn.Module):
    """Two classes at a batch of two: a fix that loses the batch gives as many numbers."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.rnn, self.fc = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x):
        f = self.cnn(x)
        out, _ = self.rnn(f)
        return self.fc(out[:, -1])


@twin(FramesIntoACnn, (2, 6, 3, 16, 16), reason="flatten the first two into one batch")
class FramesIntoACnnT(FramesIntoACnn):
    def forward(self, x):
        f = self.cnn(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        out, _ = self.rnn(f)
        return self.fc(out[:, -1])


class InceptionUnpadded(nn.Module):
    def __init__(self, padding=0):
        super().__init__()
        self.one = nn.Conv2d(16, 8, 1)
        self.three = nn.Sequential(nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 3, padding=padding))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=padding), nn.Conv2d(16, 8, 1))

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.pooled(x)], 1)


@twin(InceptionUnpadded, (2, 16, 14, 14), reason="'three.1' has padding 0, 1 keeps the size")
class InceptionUnpaddedT(InceptionUnpadded):
    def __init__(self):
        super().__init__(padding=1)


class QueriesOfOne(nn.Module):
    """The object queries of a detector, with a batch of one."""

    def __init__(self):
        super().__init__()
        self.conv, self.queries = nn.Conv2d(3, 16, 3, 2, 1), nn.Parameter(torch.zeros(5, 16))
        self.transformer = nn.Transformer(16, 2, 1, 1, 32)

    def forward(self, x):
        h = self.conv(x).flatten(2).permute(2, 0, 1)
        return self.transformer(h, self.queries.unsqueeze(1))


@twin(QueriesOfOne, (2, 3, 8, 8), reason="has a batch of one")
class QueriesOfOneT(QueriesOfOne):
    def forward(self, x):
        h = self.conv(x).flatten(2).permute(2, 0, 1)
        return self.transformer(h, self.queries.unsqueeze(1).repeat(1, x.size(0), 1))


class ShuffledByThree(nn.Module):
    def __init__(self, channels=3 * 2**2):
        super().__init__()
        self.conv, self.shuffle = nn.Conv2d(3, channels, 3, padding=1), nn.PixelShuffle(3)

    def forward(self, x):
        return self.shuffle(self.conv(x))


@twin(ShuffledByThree, (2, 3, 8, 8), reason="12 channels are not divisible by 3 × 3 = 9")
class ShuffledByThreeT(ShuffledByThree):
    def __init__(self):
        super().__init__(3 * 3**2)


class GatedAndShorter(nn.Module):
    """A WaveNet without padding: what is left is of the end, and so is what is added to it."""

    def __init__(self):
        super().__init__()
        self.filter, self.gate = nn.Conv1d(8, 8, 2, dilation=4), nn.Conv1d(8, 8, 2, dilation=4)
        self.out = nn.Conv1d(8, 8, 1)

    def forward(self, x):
        h = torch.tanh(self.filter(x)) * torch.sigmoid(self.gate(x))
        return self.out(h) + x


@twin(GatedAndShorter, (2, 8, 32), reason="32 against 28 in dim 2")
class GatedAndShorterT(GatedAndShorter):
    def forward(self, x):
        h = torch.tanh(self.filter(x)) * torch.sigmoid(self.gate(x))
        return self.out(h) + x[..., 4:]


class MaskOfTheLongest(nn.Module):
    def __init__(self, longest=16):
        super().__init__()
        self.emb, self.fc = nn.Embedding(50, 16), nn.Linear(16, 50)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.register_buffer("mask", torch.triu(torch.ones(longest, longest), 1).bool())

    def forward(self, x):
        return self.fc(self.encoder(self.emb(x), mask=self.mask))


@twin(MaskOfTheLongest, ints(2, 10), reason="the first 10 of its 16 are theirs")
class MaskOfTheLongestT(MaskOfTheLongest):
    def forward(self, x):
        return self.fc(self.encoder(self.emb(x), mask=self.mask[: x.size(1), : x.size(1)]))


class SixNumbersForAMatrix(nn.Module):
    """A spatial transformer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 6)

    def forward(self, x):
        theta = self.fc(x.flatten(1))
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


@twin(SixNumbersForAMatrix, (4, 1, 8, 8), reason="a matrix of 2 × 3 for each sample")
class SixNumbersForAMatrixT(SixNumbersForAMatrix):
    def forward(self, x):
        theta = self.fc(x.flatten(1)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


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


class PositionsForChannels(nn.Module):
    def __init__(self, channels=24):
        super().__init__()
        self.conv, self.fc = nn.Conv1d(channels, 8, 3, padding=1), nn.Linear(8 * 24, 1)

    def forward(self, x):
        return self.fc(self.conv(x).relu().flatten(1))


@twin(PositionsForChannels, (16, 24), reason="24 are the positions of a sample")
class PositionsForChannelsT(PositionsForChannels):
    def __init__(self):
        super().__init__(1)

    def forward(self, x):
        return self.fc(self.conv(x.unsqueeze(1)).relu().flatten(1))


class WordsTiedToAWiderState(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.emb, self.rnn = nn.Embedding(60, 24), nn.GRU(24, width, batch_first=True)

    def forward(self, x):
        out, _ = self.rnn(self.emb(x))
        return F.linear(out, self.emb.weight)


@twin(WordsTiedToAWiderState, ints(2, 6), reason="'rnn' (GRU) outputs 48 features")
class WordsTiedToAWiderStateT(WordsTiedToAWiderState):
    def __init__(self):
        super().__init__(24)


class VaeOfDigits(nn.Module):
    """Written for 28 × 28, given 32 × 32: encoder and decoder both name the grid."""

    def __init__(self, side=7):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 4, 2, 1), nn.ReLU())
        self.mu, self.logvar, self.up = (
            nn.Linear(8 * side * side, 6), nn.Linear(8 * side * side, 6), nn.Linear(6, 8 * side * side)
        )  # fmt: skip
        self.dec = nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1))

    def decode(self, z):
        h = self.up(z).view(-1, 8, 7, 7)
        return self.dec(h)

    def forward(self, x):
        h = self.enc(x)
        h = h.view(-1, 8 * 7 * 7)
        return self.decode(self.mu(h) + self.logvar(h).exp())


@twin(VaeOfDigits, (4, 1, 32, 32), reason="is not divisible by 392 = 8 × 7 × 7")
class VaeOfDigitsT(VaeOfDigits):
    def __init__(self):
        super().__init__(8)

    def decode(self, z):
        return self.dec(self.up(z).view(-1, 8, 8, 8))

    def forward(self, x):
        h = self.enc(x).flatten(1)
        return self.decode(self.mu(h) + self.logvar(h).exp())


class LayersOfDigits(nn.Sequential):
    def __init__(self, side=14):
        super().__init__(
            nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * side * side, 16),
            nn.Linear(16, 4 * side * side), nn.Unflatten(1, (4, side, side)), nn.ConvTranspose2d(4, 1, 4, 2, 1),
        )  # fmt: skip


class DigitsInLayers(nn.Module):
    def __init__(self, side=14):
        super().__init__()
        self.net = LayersOfDigits(side)

    def forward(self, x):
        return self.net(x)


@twin(DigitsInLayers, (4, 1, 32, 32), reason="expects 784 = 4 × 14 × 14")
class DigitsInLayersT(DigitsInLayers):
    def __init__(self):
        super().__init__(16)


class MaskedBy(nn.Module):
    """Attention whose mask is of another rank than the layer's."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, mask):
        out, _ = self.attn(x, x, x, attn_mask=mask)
        return out


def bools(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.bool)


@twin(MaskedBy, (3, 5, 8), bools(3, 2, 5, 5), reason="batch and heads are one dim here")
class MaskedByHeads(MaskedBy):
    def forward(self, x, mask):
        return super().forward(x, mask.flatten(0, 1))


class MaskedBySample(MaskedBy):
    """Each sample has a mask, which is the same for all heads."""


@twin(MaskedBySample, (3, 5, 8), bools(3, 1, 5, 5), reason="each of the 2 heads needs the mask of its sample")
class MaskedBySampleT(MaskedBy):
    def forward(self, x, mask):
        return super().forward(x, mask.flatten(0, 1).repeat_interleave(2, 0))


class PaddedBy(MaskedBy):
    def forward(self, x, mask):
        out, _ = self.attn(x, x, x, key_padding_mask=mask.unsqueeze(1))
        return out


@twin(PaddedBy, (3, 5, 8), bools(3, 5), reason="dim 1 of one is too many")
class PaddedByT(MaskedBy):
    def forward(self, x, mask):
        out, _ = self.attn(x, x, x, key_padding_mask=mask)
        return out


class MaskedProduct(nn.Module):
    """A mask of samples has no dim for the heads."""

    def forward(self, q, mask):
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)


@twin(MaskedProduct, (3, 2, 5, 4), bools(3, 5), reason="attn_mask is [3, 5]")
class MaskedProductT(MaskedProduct):
    def forward(self, q, mask):
        return super().forward(q, mask[:, None, None])


class WideLast(nn.Module):
    """The last convolution is to read the whole map, and the map is smaller."""

    def __init__(self, last=8):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(4, 8, 4, 2, 1), nn.LeakyReLU())
        self.last = nn.Conv2d(8, 1, last)

    def forward(self, x):
        return self.last(self.body(x)).view(-1)


@twin(WideLast, (2, 3, 16, 16), reason="dim 2 is 4, the window is 8 wide")
class WideLastT(WideLast):
    def __init__(self):
        super().__init__(4)


class Letters(nn.Module):
    """Classes where a layer expects them one-hot."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(27, 6, batch_first=True)

    def forward(self, x):
        out, _ = self.rnn(x)
        return out


@twin(Letters, ints(3, 5), reason="no dim has 27 features: classes have them when they are one-hot")
class LettersT(Letters):
    def forward(self, x):
        return super().forward(F.one_hot(x, 27).float())


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


class QueryOfSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Bilinear(6, 8, 1)

    def forward(self, query, context):
        query = query.unsqueeze(1)
        return self.score(query, context).softmax(1)


@twin(QueryOfSteps, (3, 6), (3, 9, 8), reason="'score' broadcasts no dim: [3, 1, 6] against [3, 9, 8]")
class QueryOfStepsT(QueryOfSteps):
    def forward(self, query, context):
        return self.score(query.unsqueeze(1).expand(-1, context.size(1), -1), context).softmax(1)


class GatesOfMaps(nn.Module):
    """A state made at the input's size meets gates that a convolution without padding made smaller."""

    def __init__(self, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(1 + 4, 8, 3, padding=padding)

    def forward(self, x):
        h = torch.zeros(x.size(0), 4, *x.shape[2:])
        gate, new = self.conv(torch.cat([x, h], 1)).chunk(2, 1)
        return gate.sigmoid() * h + new.tanh()


@twin(GatesOfMaps, (2, 1, 12, 12), reason="'conv' has padding 0, 1 keeps the size")
class GatesOfMapsT(GatesOfMaps):
    def __init__(self):
        super().__init__(1)


class LossOfSignals(nn.Module):
    def __init__(self, added=0):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv1d(1, 4, 5, 2, 2), nn.ReLU(), nn.Conv1d(4, 8, 5, 2, 2))
        self.dec = nn.Sequential(nn.ConvTranspose1d(8, 4, 5, 2, 2, added), nn.ConvTranspose1d(4, 1, 5, 2, 2, added))

    def forward(self, x):
        return F.l1_loss(self.dec(self.enc(x)), x, reduction="none")


@twin(LossOfSignals, (2, 1, 64), reason="with output_padding 0 'dec.0' and 'dec.1' give the smallest")
class LossOfSignalsT(LossOfSignals):
    def __init__(self):
        super().__init__(1)


class TransformOfPoints(nn.Module):
    """Nine numbers of each sample are a matrix, and are added to one."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 9)

    def forward(self, x, points):
        turn = self.fc(x) + torch.eye(3)
        return points @ turn


@twin(TransformOfPoints, (2, 8), (2, 7, 3), reason="[2, 9] has the 3 × 3 numbers of a matrix in one dim")
class TransformOfPointsT(TransformOfPoints):
    def forward(self, x, points):
        return points @ (self.fc(x).unflatten(1, (3, 3)) + torch.eye(3))


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


class StateAndNumbers(nn.Module):
    """The state of an LSTM of two layers stands beside numbers of each sample."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 6, 2, batch_first=True)
        self.fc = nn.Linear(6 + 7, 1)

    def forward(self, x, numbers):
        _, (h, _) = self.rnn(x)
        return self.fc(torch.cat([h, numbers], dim=1))


@twin(StateAndNumbers, (3, 4, 5), (3, 7), reason="the state of 'rnn' has a dim of its layers")
class StateAndNumbersT(StateAndNumbers):
    def forward(self, x, numbers):
        _, (h, _) = self.rnn(x)
        return self.fc(torch.cat([h[-1], numbers], dim=1))


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


class SlowAndFast(nn.Module):
    """One branch reads every eighth frame, and the other is strided to every fourth."""

    def __init__(self, stride=4):
        super().__init__()
        self.slow = nn.Conv1d(3, 8, 3, padding=1)
        self.fast = nn.Conv1d(3, 4, 5, stride, 2)

    def forward(self, x):
        return torch.cat([self.slow(x[..., ::8]), self.fast(x)], 1)


@twin(SlowAndFast, (2, 3, 32), reason="'fast' has stride (4,)")
class SlowAndFastT(SlowAndFast):
    def __init__(self):
        super().__init__(8)


class PooledChannels(nn.Module):
    """The mean and the maximum over the channels lose that dim."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        mean = torch.mean(x, dim=1)
        most, _ = torch.max(x, dim=1)
        weights = torch.cat([mean, most], dim=1)
        return x * torch.sigmoid(self.conv(weights))


@twin(PooledChannels, (3, 4, 8, 8), reason="the dim of channels was reduced and dropped: keepdim=True keeps it")
class PooledChannelsT(PooledChannels):
    def forward(self, x):
        weights = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(weights))


class OneNumberAStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(1, 6, batch_first=True)

    def forward(self, x):
        out, _ = self.rnn(x)
        return out[:, -1]


@twin(OneNumberAStep, (16, 10), reason="[16, 10] has one number a step, and no dim of features")
class OneNumberAStepT(OneNumberAStep):
    def forward(self, x):
        return super().forward(x.unsqueeze(-1))


class StatesOfSteps(nn.Module):
    """Both states of an LSTM are made with the steps for the batch, each on a line of its own."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, 2, batch_first=True)

    def forward(self, x):
        h0 = torch.zeros(2, x.size(1), 6)
        c0 = torch.zeros(2, x.size(1), 6)
        out, _ = self.rnn(x, (h0, c0))
        return out[:, -1]


@twin(StatesOfSteps, (16, 10, 4), reason="the hidden state is [2, 10, 6], this input needs [2, 16, 6]")
class StatesOfStepsT(StatesOfSteps):
    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class BlurOfColours(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", torch.ones(1, 1, 3, 3) / 9)

    def forward(self, x):
        return F.conv2d(x, self.kernel, padding=1)


@twin(BlurOfColours, (2, 3, 8, 8), reason="the kernel is of one channel, the input has 3")
class BlurOfColoursT(BlurOfColours):
    def forward(self, x):
        return F.conv2d(x, self.kernel.expand(3, 1, 3, 3), padding=1, groups=3)


class NormOfMaps(nn.Module):
    """The norm of whole maps has their sizes, one of which is also the last dim's."""

    def __init__(self, side=32):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 2, 1)
        self.norm = nn.LayerNorm([16, side, side])

    def forward(self, x):
        return self.norm(self.conv(x))


@twin(NormOfMaps, (2, 3, 32, 32), reason="input has last dims [16, 16, 16], 'norm' expects [16, 32, 32]")
class NormOfMapsT(NormOfMaps):
    def __init__(self):
        super().__init__(16)


class CutAndFolded(nn.Module):
    def forward(self, x):
        pieces = F.unfold(x, 3, padding=1)
        return F.fold(pieces.relu(), x.shape[2:], 3)


@twin(CutAndFolded, (2, 3, 8, 8), reason="the 64 windows were cut with padding 1, put together with 0")
class CutAndFoldedT(CutAndFolded):
    def forward(self, x):
        return F.fold(F.unfold(x, 3, padding=1).relu(), x.shape[2:], 3, padding=1)


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


class OneOfTwoStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x):
        state = torch.zeros(1, x.size(0), 6)
        out, _ = self.rnn(x, state)
        return out


@twin(OneOfTwoStates, (3, 5, 4), reason="an LSTM takes a pair of states (h_0, c_0), got one tensor [1, 3, 6]")
class OneOfTwoStatesT(OneOfTwoStates):
    def forward(self, x):
        return self.rnn(x)[0]


class ThreeOfAnLSTM(OneOfTwoStates):
    def forward(self, x):
        out, h, c = self.rnn(x)
        return out[:, -1] + h[-1] + c[-1]


@twin(ThreeOfAnLSTM, (3, 5, 4), reason="two values, the second a pair")
class ThreeOfAnLSTMT(OneOfTwoStates):
    def forward(self, x):
        out, (h, c) = self.rnn(x)
        return out[:, -1] + h[-1] + c[-1]


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


class OddHalves(nn.Module):
    """Rows and columns are halved by taking every second, and there is an odd number of them."""

    def forward(self, x):
        x = x.relu()
        a = x[:, 0::2, 0::2]
        b = x[:, 1::2, 0::2]
        c = x[:, 0::2, 1::2]
        d = x[:, 1::2, 1::2]
        return torch.cat([a, b, c, d], -1)


@twin(OddHalves, (2, 7, 7, 4), reason="every second of 7 × 7 and the others between are not as many")
class OddHalvesT(OddHalves):
    def forward(self, x):
        return super().forward(F.pad(x, (0, 0, 0, 1, 0, 1)))


class WordsAndPatches(nn.Module):
    """Words of 6 features are joined behind patches of 8."""

    def __init__(self, width=6):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.words = nn.Embedding(10, width)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, image, words):
        patches = self.patch(image).flatten(2).transpose(1, 2)
        return self.layer(torch.cat([patches, self.words(words)], 1))


@twin(WordsAndPatches, (2, 3, 16, 16), ints(2, 5), reason="the steps have 8 features in one and 6 in the other")
class WordsAndPatchesT(WordsAndPatches):
    def __init__(self):
        super().__init__(8)


class MapsOfScales(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 1, 4, 2, 1) for _ in range(3)])

    def forward(self, x):
        maps = []
        for conv in self.convs:
            maps.append(conv(x))
            x = F.avg_pool2d(x, 2)
        return torch.cat(maps, 1)


@twin(MapsOfScales, (2, 3, 32, 32), reason="cat joins maps of one size, and these are 16 × 16 and 8 × 8 and 4 × 4")
class MapsOfScalesT(MapsOfScales):
    def forward(self, x):
        pooled = [x, F.avg_pool2d(x, 2), F.avg_pool2d(x, 4)]
        maps = [conv(item) for conv, item in zip(self.convs, pooled, strict=True)]
        return torch.cat([F.interpolate(item, size=maps[0].shape[2:]) for item in maps], 1)


class PackedStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 6, batch_first=True)

    def forward(self, x):
        lengths = torch.full((x.size(0),), x.size(1))
        out, _ = self.rnn(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))
        return out[:, -1]


@twin(PackedStates, (3, 5, 8), reason="'rnn' (LSTM) was given a packed sequence and returns one")
class PackedStatesT(PackedStates):
    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class PointsOfAMap(nn.Module):
    """A layer gives another number of maps than the model says that there are points."""

    def __init__(self, channels=16):
        super().__init__()
        self.points = 17
        self.conv = nn.Conv2d(3, channels, 1)

    def forward(self, x):
        h = self.conv(x)
        b, _, height, width = h.shape
        return h.view(b, self.points, height * width).softmax(-1)


@twin(PointsOfAMap, (2, 3, 16, 16), reason="is not 2 × 17 × 256")
class PointsOfAMapT(PointsOfAMap):
    def __init__(self):
        super().__init__(17)


class GroupsInALine(nn.Module):
    def forward(self, x):
        b, c, h, w = x.shape
        return x.view(b, 5, c // 5, h, w).transpose(1, 2).reshape(b, c, h, w)


@twin(GroupsInALine, (2, 24, 4, 4), reason="24 channels are not divisible into 5 groups of 4")
class GroupsInALineT(GroupsInALine):
    def forward(self, x):
        b, c, h, w = x.shape
        return x.view(b, 4, c // 4, h, w).transpose(1, 2).reshape(b, c, h, w)


class AttentionOfOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attn(x)


@twin(AttentionOfOne, (2, 5, 8), reason="needs 'key' and 'value', which were not given")
class AttentionOfOneT(AttentionOfOne):
    def forward(self, x):
        return self.attn(x, x, x)


class TurnedWithBatch(nn.Module):
    def forward(self, x):
        return torch.softmax(torch.matmul(x, x.transpose(0, 1)), -1) @ x


@twin(TurnedWithBatch, (4, 10, 6), reason="transpose(0, 1) moves the batch of [4, 10, 6]")
class TurnedWithBatchT(TurnedWithBatch):
    def forward(self, x):
        return torch.softmax(x @ x.transpose(1, 2), -1) @ x


class PlacesOfMaxima(nn.Module):
    """A pool is undone behind a layer that gives other channels."""

    def __init__(self, channels=6):
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, x):
        x, places = self.pool(x)
        return self.unpool(self.conv(x), places)


@twin(PlacesOfMaxima, (2, 3, 8, 8), reason="the pool kept places for 3 channels, 'conv' (Conv2d) outputs 6")
class PlacesOfMaximaT(PlacesOfMaxima):
    def __init__(self):
        super().__init__(3)


class SentencesOfWords(nn.Module):
    """Words of sentences of documents are read, and then the sentences."""

    def __init__(self):
        super().__init__()
        self.words = nn.GRU(4, 6, batch_first=True)
        self.sentences = nn.GRU(6, 6, batch_first=True)

    def forward(self, x):
        _, h = self.words(x)
        _, h = self.sentences(h)
        return h[-1]


@twin(SentencesOfWords, (2, 3, 5, 4), reason="2 × 3 sequences of 5 steps are one batch")
class SentencesOfWordsT(SentencesOfWords):
    def forward(self, x):
        _, h = self.words(x.flatten(0, 1))
        return self.sentences(h[-1].unflatten(0, x.shape[:2]))[1][-1]


class MaskInALoop(nn.Module):
    """The mask of the longest sequence goes to each layer of a list."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)])
        self.register_buffer("mask", torch.ones(12, 12).triu(1).bool())

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, src_mask=self.mask)
        return x


@twin(MaskInALoop, (2, 5, 8), reason="attn_mask is [12, 12]: 5 queries attend to 5 keys")
class MaskInALoopT(MaskInALoop):
    def forward(self, x):
        for layer in self.layers:
            x = layer(x, src_mask=self.mask[: x.size(1), : x.size(1)])
        return x


class KernelOfEachSample(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 4, 3, 3))

    def forward(self, x, style):
        weight = (self.weight[None] * style[:, None, :, None, None]).flatten(0, 1)
        out = F.conv2d(x.reshape(1, -1, 8, 8), weight, padding=1)
        return out.view(x.size(0), 6, 8, 8)


@twin(KernelOfEachSample, (2, 4, 8, 8), (2, 4), reason="the 8 channels are those of 2 samples")
class KernelOfEachSampleT(KernelOfEachSample):
    def forward(self, x, style):
        weight = (self.weight[None] * style[:, None, :, None, None]).flatten(0, 1)
        return F.conv2d(x.reshape(1, -1, 8, 8), weight, padding=1, groups=2).view(2, 6, 8, 8)


class PoolsByWeights(nn.Module):
    """The weights of the steps are a vector of each sample, and what they pool is one too."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(6, 1)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        weights = self.score(x).squeeze(2).softmax(1)
        return self.fc(torch.bmm(weights, x))


@twin(PoolsByWeights, (3, 5, 6), reason="bmm expects two 3-d tensors, got [3, 5] and [3, 5, 6]")
class PoolsByWeightsT(PoolsByWeights):
    def forward(self, x):
        return self.fc(torch.bmm(self.score(x).transpose(1, 2).softmax(2), x).squeeze(1))


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


class PyramidWithoutUpsampling(nn.Module):
    """Both levels of a pyramid have a projection, and the coarser one is not enlarged."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.lateral, self.top = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 1)

    def forward(self, x):
        fine = self.one(x).relu()
        coarse = self.two(fine).relu()
        top = self.top(coarse)
        return self.lateral(fine) + top


@twin(PyramidWithoutUpsampling, (1, 3, 32, 32), reason="the coarser map is not enlarged to the finer")
class PyramidWithoutUpsamplingT(PyramidWithoutUpsampling):
    def forward(self, x):
        fine = self.one(x).relu()
        top = self.top(self.two(fine).relu())
        return self.lateral(fine) + F.interpolate(top, scale_factor=2)


class VectorOfOneDirection(nn.Module):
    """What scores the steps has the width of one direction, and the steps have both."""

    def __init__(self, width=6):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, bidirectional=True, batch_first=True)
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        out, _ = self.rnn(x)
        weights = torch.matmul(out.tanh(), self.vector).softmax(1)
        return (out * weights.unsqueeze(-1)).sum(1)


@twin(VectorOfOneDirection, (3, 5, 4), reason="[5 × 12] @ [6]: the inner 12 and 6 differ")
class VectorOfOneDirectionT(VectorOfOneDirection):
    def __init__(self):
        super().__init__(12)


class StateWithoutBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 6)

    def forward(self, x):
        h = torch.zeros(1, 6)
        out, _ = self.rnn(x, h)
        return out


@twin(StateWithoutBatch, (5, 3, 4), reason="the hidden state is [1, 6], this input needs [1, 3, 6]")
class StateWithoutBatchT(StateWithoutBatch):
    def forward(self, x):
        return self.rnn(x)[0]


class KernelOfOtherChannels(nn.Module):
    def __init__(self, channels=6):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.kernels = nn.Parameter(torch.zeros(8, channels, 1, 1))

    def forward(self, x):
        z = self.body(x)
        return F.conv2d(z, self.kernels)


@twin(KernelOfOtherChannels, (2, 3, 8, 8), reason="'body' (Conv2d) outputs 4 channels, the model expects 6")
class KernelOfOtherChannelsT(KernelOfOtherChannels):
    def __init__(self):
        super().__init__(4)


class PositionsLast(nn.Module):
    """The table of positions has the features where its positions belong."""

    def __init__(self, *shape):
        super().__init__()
        self.pos = nn.Parameter(torch.zeros(shape or (1, 12, 20)))

    def forward(self, x):
        return x + self.pos[:, : x.size(1)]


@twin(PositionsLast, (2, 9, 12), reason="'pos' [1, 12, 20] has the 12 features in dim 1, and its positions last")
class PositionsLastT(PositionsLast):
    def __init__(self):
        super().__init__(1, 20, 12)


class PairsOfNodes(nn.Module):
    """Each node with each other one: joined along the nodes, and not along the features."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(8, 1)

    def forward(self, x):
        one = x.unsqueeze(2).expand(-1, -1, x.size(1), -1)
        pairs = torch.cat([one, one.transpose(1, 2)], dim=2)
        return self.score(pairs).squeeze(-1).softmax(-1) @ x


@twin(PairsOfNodes, (2, 5, 4), reason="cat along dim 2, and 4 + 4 = 8")
class PairsOfNodesT(PairsOfNodes):
    def forward(self, x):
        one = x.unsqueeze(2).expand(-1, -1, x.size(1), -1)
        pairs = torch.cat([one, one.transpose(1, 2)], dim=-1)
        return self.score(pairs).squeeze(-1).softmax(-1) @ x


class ClassesLess(nn.Module):
    def __init__(self, classes=21):
        super().__init__()
        self.classes = nn.Linear(8, classes)

    def forward(self, x):
        return self.classes(x).view(x.size(0), -1, 20)


@twin(ClassesLess, (2, 4, 4, 8), reason="is not divisible by 2 × 20 = 40")
class ClassesLessT(ClassesLess):
    def __init__(self):
        super().__init__(20)


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


class LetterLess(nn.Module):
    def forward(self, weights, x):
        return torch.einsum("bqt,bd->bqd", weights, x)


@twin(LetterLess, (2, 3, 5), (2, 5, 4), reason="'bd' has 2 letters, x [2, 5, 4] has 3 dims")
class LetterLessT(nn.Module):
    def forward(self, weights, x):
        return weights @ x


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
