"""Models of feature maps and signals that fail as in forum threads, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import TWINS, Twin, ints, twin


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


TWINS.append(Twin(NoBatchAndAWidth, NoBatchAndAWidthT, ((1, 28, 28),), "the batch dim is missing", ((1, 1, 28, 28),)))


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


class PredictionSmallerThanItsTarget(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.shuffle = nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)

    def forward(self, low, high):
        return F.l1_loss(self.shuffle(self.conv(low)), high)


@twin(PredictionSmallerThanItsTarget, (2, 3, 24, 24), (2, 3, 96, 96), reason="enlarges by 2 to 48 × 48")
class PredictionSmallerThanItsTargetT(PredictionSmallerThanItsTarget):
    def forward(self, low, high):
        return F.l1_loss(F.interpolate(self.shuffle(self.conv(low)), size=high.shape[2:]), high)


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
