"""Models that fail by a slip of the pen: another name, dim, order or number than was meant; each with its twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class LevelOfTheLine(nn.Module):
    """The level that is to be enlarged was made and is read nowhere."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 12, 3, padding=1),
            nn.Conv2d(18, 2, 1),
        )
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x):
        x1_0 = self.one(F.max_pool2d(x, 2))
        x2_0 = self.two(F.max_pool2d(x1_0, 2))  # noqa: F841  # the point
        return self.out(torch.cat([x1_0, self.up(x1_0)], 1))


@twin(LevelOfTheLine, (2, 3, 16, 16), reason="[8, 8] in one and [16, 16] in the other")
class LevelOfTheLineT(LevelOfTheLine):
    def forward(self, x):
        x1_0 = self.one(F.max_pool2d(x, 2))
        x2_0 = self.two(F.max_pool2d(x1_0, 2))
        return self.out(torch.cat([x1_0, self.up(x2_0)], 1))


class LargestOfTheOther(nn.Module):
    """The largest score of each query was taken, where that of each context word is weighed."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 1)

    def forward(self, context, query):
        scores = context @ query.transpose(1, 2)
        weights = scores.max(dim=1)[0].softmax(-1)
        return self.fc(torch.bmm(weights.unsqueeze(1), context).squeeze(1))


@twin(LargestOfTheOther, (2, 9, 8), (2, 5, 8), reason="the inner 5 and 9 differ")
class LargestOfTheOtherT(LargestOfTheOther):
    def forward(self, context, query):
        weights = (context @ query.transpose(1, 2)).max(dim=2)[0].softmax(-1)
        return self.fc(torch.bmm(weights.unsqueeze(1), context).squeeze(1))


class RowsForWidths(nn.Module):
    sizes = (6, 20)

    def __init__(self):
        super().__init__()
        self.codes = nn.Embedding(*self.sizes)

    def forward(self, z):
        distances = (z**2).sum(-1, keepdim=True) - 2 * z @ self.codes.weight.t() + (self.codes.weight**2).sum(-1)
        return self.codes(distances.argmin(-1))


@twin(RowsForWidths, (4, 6), reason="[4 × 6] @ [20 × 6]: the inner 6 and 20 differ")
class RowsForWidthsT(RowsForWidths):
    sizes = (20, 6)


class JoinedForStacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, padding=1)

    def forward(self, last, total):
        places = torch.cat([last, total], dim=1)
        return self.conv(places).transpose(1, 2)


@twin(JoinedForStacked, (3, 9), (3, 9))
class JoinedForStackedT(JoinedForStacked):
    def forward(self, last, total):
        return self.conv(torch.stack([last, total], dim=1)).transpose(1, 2)


class SpectraOfTwoLengths(nn.Module):
    def forward(self, x, kernel):
        steps = x.size(-1)
        there = torch.fft.rfft(kernel, n=steps)
        here = torch.fft.rfft(x, n=2 * steps)
        return torch.fft.irfft(here * there, n=2 * steps)[..., :steps]


@twin(SpectraOfTwoLengths, (2, 4, 16), (4, 16))
class SpectraOfTwoLengthsT(SpectraOfTwoLengths):
    def forward(self, x, kernel):
        there, here = (torch.fft.rfft(item, n=32) for item in (kernel, x))
        return torch.fft.irfft(here * there, n=32)[..., :16]


class OneTooFewInFront(nn.Module):
    """A causal convolution is padded by one step less than its kernel reaches back."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(6, 6, 2, dilation=2**i) for i in range(3)])

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = x + layer(F.pad(x, (2**i * (2 - 1) - 1, 0)))
        return x


@twin(OneTooFewInFront, (2, 6, 20), reason="20 against 19")
class OneTooFewInFrontT(OneTooFewInFront):
    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = x + layer(F.pad(x, (2**i, 0)))
        return x


class StepsOfTheHeight(nn.Module):
    """The columns of a line of text are its steps; here its rows are."""

    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(1, 8, 3, padding=1), nn.GRU(32, 6)

    def unroll(self, x):
        x = x.permute(2, 0, 1, 3)
        return x.flatten(2)

    def forward(self, x):
        return self.rnn(self.unroll(self.conv(x)))[0]


@twin(StepsOfTheHeight, (2, 1, 4, 15), reason="120 features per step, 'rnn' expects 32")
class StepsOfTheHeightT(StepsOfTheHeight):
    def unroll(self, x):
        return x.permute(3, 0, 1, 2).flatten(2)


class ZerosLikeTheInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift, self.cell = nn.Linear(5, 8), nn.GRUCell(8, 8)

    def forward(self, x, edges):
        h = self.lift(x).relu()
        gathered = torch.zeros_like(x)
        gathered.index_add_(0, edges[1], h[edges[0]])
        return self.cell(gathered, h)


@twin(ZerosLikeTheInput, (7, 5), ints(2, 6))
class ZerosLikeTheInputT(ZerosLikeTheInput):
    def forward(self, x, edges):
        h = self.lift(x).relu()
        return self.cell(torch.zeros_like(h).index_add_(0, edges[1], h[edges[0]]), h)


class NotTurned(nn.Module):
    """Both products read the name that was to be the matrix turned."""

    def forward(self, s, x, a):
        st = s
        return torch.bmm(st, x), torch.bmm(torch.bmm(st, a), s)


@twin(NotTurned, (2, 9, 4), (2, 9, 6), (2, 9, 9), reason="the inner 4 and 9 differ")
class NotTurnedT(nn.Module):
    def forward(self, s, x, a):
        st = s.transpose(1, 2)
        return torch.bmm(st, x), torch.bmm(torch.bmm(st, a), s)


class FarFromItsConvolution(nn.Module):
    """A padded convolution made more steps than it read, and a scan over them lies between."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 4, groups=6, padding=3)

    def forward(self, x, gate):
        u = self.conv(x.transpose(1, 2)).transpose(1, 2)
        h, states = torch.zeros_like(u[:, 0]), []
        for t in range(u.size(1)):
            h = 0.5 * h + u[:, t]
            states.append(h)
        return torch.stack(states, 1) * gate


@twin(FarFromItsConvolution, (2, 9, 6), (2, 9, 6), reason="'conv' pads by 3 more than it takes off")
class FarFromItsConvolutionT(FarFromItsConvolution):
    def forward(self, x, gate):
        h, states = torch.zeros_like(x[:, 0]), []
        for u in self.conv(x.transpose(1, 2))[..., : x.size(1)].unbind(-1):
            h = 0.5 * h + u
            states.append(h)
        return torch.stack(states, 1) * gate


class Average(nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel
        self.mean = nn.AvgPool1d(kernel, stride=1)

    def forward(self, x):
        more = (self.kernel - 1) // 2
        x = torch.cat([x[:, :1].repeat(1, more, 1), x, x[:, -1:].repeat(1, more, 1)], 1)
        return self.mean(x.transpose(1, 2)).transpose(1, 2)


class TrendOfEven(nn.Module):
    def __init__(self, kernel=8):
        super().__init__()
        self.trend = Average(kernel)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x - self.trend(x))


@twin(TrendOfEven, (2, 30, 4), reason="'trend.mean' of kernel 8 gives 29 steps of 30: an odd one keeps them")
class TrendOfEvenT(TrendOfEven):
    def __init__(self):
        super().__init__(9)


class FirstStateOfTheInput(nn.Module):
    def __init__(self, channels=1, hidden=6):
        super().__init__()
        self.channels, self.hidden = channels, hidden
        self.conv = nn.Conv2d(channels + hidden, 2 * hidden, 3, padding=1)

    def start(self, x):
        return torch.zeros(x.size(0), self.channels, x.size(2), x.size(3))

    def forward(self, x):
        h = self.start(x)
        for _ in range(2):
            gate, new = self.conv(torch.cat([x, h], 1)).chunk(2, 1)
            h = gate.sigmoid() * new.tanh()
        return h


@twin(FirstStateOfTheInput, (2, 1, 8, 8), reason="cat outputs 1 + 1 = 2 channels, 'conv' expects 7")
class FirstStateOfTheInputT(FirstStateOfTheInput):
    def start(self, x):
        return torch.zeros(x.size(0), self.hidden, x.size(2), x.size(3))


class NeighboursLast(nn.Module):
    """A helper joins features in the last dim, for several convolutions."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(6, 8, 1), nn.Conv2d(16, 8, 1)

    def pair(self, x):
        x = x.transpose(1, 2)
        around = x[:, :, None].expand(-1, -1, 4, -1)
        return torch.cat([around, x[:, :, None].expand_as(around)], dim=3)

    def forward(self, x):
        x = self.one(self.pair(x)).amax(-1)
        return self.two(self.pair(x)).amax(-1)


@twin(NeighboursLast, (2, 3, 16), reason="the last dim has the 6 channels: [2, 16, 4, 6] is channels-last")
class NeighboursLastT(NeighboursLast):
    def pair(self, x):
        return super().pair(x).permute(0, 3, 1, 2)


class TransformOfTransform(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2))


@twin(TransformOfTransform, (2, 5, 8), reason="a transform is complex, and is added to real numbers")
class TransformOfTransformT(TransformOfTransform):
    def forward(self, x):
        return self.norm(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)


class MaskOfAllSteps(nn.Module):
    """A pool leaves every second step, and the padding mask has all."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, pads):
        x = F.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2)
        return self.attention(x, x, x, key_padding_mask=pads, need_weights=False)[0]


@twin(MaskOfAllSteps, (2, 12, 8), torch.zeros(2, 12, dtype=torch.bool), reason="one of 2 steps is kept")
class MaskOfAllStepsT(MaskOfAllSteps):
    def forward(self, x, pads):
        x = F.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2)
        return self.attention(x, x, x, key_padding_mask=pads[:, ::2], need_weights=False)[0]


class DepthKept(nn.Module):
    kernel = (2, 2, 2)

    def __init__(self):
        super().__init__()
        self.down, self.pool = nn.Conv3d(1, 4, 3, padding=1), nn.MaxPool3d((1, 2, 2))
        self.up, self.out = nn.ConvTranspose3d(4, 4, self.kernel, stride=self.kernel), nn.Conv3d(8, 2, 1)

    def forward(self, x):
        x = self.down(x)
        return self.out(torch.cat([x, self.up(self.pool(x))], 1))


@twin(DepthKept, (1, 1, 4, 8, 8), reason="1 × 2 × 2 times to the other's 4 × 8 × 8")
class DepthKeptT(DepthKept):
    kernel = (1, 2, 2)


class TokenOfAColumn(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 8))

    def forward(self, x):
        return self.weight * x


@twin(TokenOfAColumn, (5, 6), reason="each of the 6 numbers of a sample scales a row of 'weight' [6, 8]")
class TokenOfAColumnT(TokenOfAColumn):
    def forward(self, x):
        return self.weight * x.unsqueeze(-1)


class StateOfBothDirections(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(3, 6, batch_first=True, bidirectional=True)
        self.cell, self.fc = nn.GRUCell(1, self.width()), nn.Linear(self.width(), 1)

    def width(self):
        return 6

    def forward(self, x):
        _, h = self.encoder(x)
        h = self.cell(x[:, -1, :1], torch.cat([h[0], h[1]], 1))
        return self.fc(h)


@twin(StateOfBothDirections, (4, 9, 3), reason="it is of 12 features, 'cell' has hidden_size=6")
class StateOfBothDirectionsT(StateOfBothDirections):
    def width(self):
        return 12


class TransformerOfOurs(nn.Module):
    """A model whose own name begins like those of torch's layers; its mask is of the samples, by a helper."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def mask(self, steps):
        return torch.full((steps, steps), float("-inf")).triu(1)

    def forward(self, x):
        return self.layer(x, src_mask=self.mask(x.size(0)))


@twin(TransformerOfOurs, (3, 9, 8), reason="the mask is of these 3 as steps")
class TransformerOfOursT(TransformerOfOurs):
    def forward(self, x):
        return self.layer(x, src_mask=self.mask(x.size(1)))


class ShortIndex(nn.Module):
    """For real, another kernel reads an expanded index, and it takes int64 alone."""

    def forward(self, x, edges):
        found = torch.zeros_like(x)
        return found.scatter_add_(0, edges[1].unsqueeze(-1).expand(-1, x.size(1)), x[edges[0]])


@twin(ShortIndex, (10, 16), torch.zeros(2, 30, dtype=torch.int32), reason="the index is int32")
class ShortIndexT(ShortIndex):
    def forward(self, x, edges):
        return super().forward(x, edges.long())


class StatesAsWide(nn.Module):
    """The last states are as wide as the layer wants, and are not what it is for: the steps are."""

    directions = 1

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(5, 6, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(6 * self.directions, 3)

    def forward(self, x):
        out, h = self.rnn(x)  # noqa: RUF059  # the point
        return self.fc(out)


@twin(StatesAsWide, (3, 11, 5), reason="'rnn' is bidirectional: it outputs 2 × 6 = 12 features, 'fc' expects 6")
class StatesAsWideT(StatesAsWide):
    directions = 2


class HeightFirst(nn.Module):
    """What is padded to the size of a skip connection is padded along the other sides."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        skip = self.down(x)
        y = self.up(F.max_pool2d(skip, 2))
        dy, dx = skip.size(2) - y.size(2), skip.size(3) - y.size(3)
        y = F.pad(y, [dy // 2, dy - dy // 2, dx // 2, dx - dx // 2])
        return self.out(torch.cat([skip, y], 1))


@twin(HeightFirst, (2, 3, 17, 20), reason="[17, 20]")
class HeightFirstT(HeightFirst):
    def forward(self, x):
        skip = self.down(x)
        y = self.up(F.max_pool2d(skip, 2))
        dy, dx = skip.size(2) - y.size(2), skip.size(3) - y.size(3)
        y = F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.out(torch.cat([skip, y], 1))


class HalvesTheSteps(nn.Module):
    """The gate of a convolution module halves the steps, where it is to halve the channels."""

    def __init__(self, d=12):
        super().__init__()
        self.widen, self.depth = nn.Conv1d(d, 2 * d, 1), nn.Conv1d(d, d, 3, padding=1, groups=d)
        self.norm = nn.BatchNorm1d(d)

    def forward(self, x):
        h = F.glu(self.widen(x.transpose(1, 2)), dim=-1)
        return x + F.silu(self.norm(self.depth(h))).transpose(1, 2)


@twin(HalvesTheSteps, (2, 20, 12), reason="outputs 24 channels, 'depth' expects 12")
class HalvesTheStepsT(HalvesTheSteps):
    def forward(self, x):
        h = F.glu(self.widen(x.transpose(1, 2)), dim=1)
        return x + F.silu(self.norm(self.depth(h))).transpose(1, 2)


class LargestOfTheChannels(nn.Module):
    """The largest is taken over the channels of each point, not over the points."""

    def __init__(self):
        super().__init__()
        self.points, self.head = nn.Conv1d(3, 32, 1), nn.Linear(32, 5)

    def forward(self, x):
        y = F.relu(self.points(x))
        return self.head(torch.max(y, dim=1)[0])


@twin(LargestOfTheChannels, (4, 3, 50), reason="outputs 50 features, 'head' expects 32")
class LargestOfTheChannelsT(LargestOfTheChannels):
    def forward(self, x):
        y = F.relu(self.points(x))
        return self.head(torch.max(y, dim=2)[0])


class EnlargesToTheGate(nn.Module):
    """The map of weights is enlarged to the size of the gate, which it has, not to that of what it weighs."""

    def __init__(self):
        super().__init__()
        self.gate, self.look = nn.Conv2d(8, 4, 1), nn.Conv2d(6, 4, 2, stride=2)
        self.weigh = nn.Conv2d(4, 1, 1)

    def forward(self, x, g):
        weights = torch.sigmoid(self.weigh(F.relu(self.gate(g) + self.look(x))))
        weights = F.interpolate(weights, size=g.shape[2:], mode="bilinear", align_corners=False)
        return x * weights


@twin(EnlargesToTheGate, (2, 6, 16, 12), (2, 8, 8, 6), reason="6 against 12")
class EnlargesToTheGateT(EnlargesToTheGate):
    def forward(self, x, g):
        weights = torch.sigmoid(self.weigh(F.relu(self.gate(g) + self.look(x))))
        return x * F.interpolate(weights, size=x.shape[2:], mode="bilinear", align_corners=False)


class StepsOfTheBatch(nn.Module):
    """A loop over steps reads samples: the sequences are batch first."""

    def __init__(self):
        super().__init__()
        self.read, self.cell, self.out = nn.Linear(5 + 3, 12), nn.GRUCell(12, 12), nn.Linear(12, 2)

    def step(self, state, action, seen):
        return self.cell(F.elu(self.read(torch.cat([seen, action], -1))), state)

    def forward(self, seen, actions):
        state = seen.new_zeros(seen.size(0), 12)
        states = []
        for t in range(seen.size(1)):
            state = self.step(state, actions[t], seen[t])
            states.append(state)
        return self.out(torch.stack(states, 1))


@twin(StepsOfTheBatch, (4, 6, 5), (4, 6, 3))
class StepsOfTheBatchT(StepsOfTheBatch):
    def forward(self, seen, actions):
        state = seen.new_zeros(seen.size(0), 12)
        states = []
        for t in range(seen.size(1)):
            state = self.step(state, actions[:, t], seen[:, t])
            states.append(state)
        return self.out(torch.stack(states, 1))


class FlatBlocks(nn.Module):
    """Blocks lie in one list, stage by stage, and are read as if each stage had one."""

    def __init__(self):
        super().__init__()
        self.num_kernels = 3
        self.ups = nn.ModuleList([nn.ConvTranspose1d(16, 8, 4, 2, 1), nn.ConvTranspose1d(8, 4, 4, 2, 1)])
        self.blocks = nn.ModuleList([nn.Conv1d(c, c, k, padding=k // 2) for c in (8, 4) for k in (3, 5, 7)])

    def forward(self, x):
        for i, up in enumerate(self.ups):
            x = up(x)
            total = 0
            for j in range(self.num_kernels):
                total = total + self.blocks[i + j](x)
            x = total / self.num_kernels
        return x


@twin(FlatBlocks, (2, 16, 10), reason="outputs 4 channels, 'blocks.1' expects 8")
class FlatBlocksT(FlatBlocks):
    def forward(self, x):
        for i, up in enumerate(self.ups):
            x = up(x)
            total = 0
            for j in range(self.num_kernels):
                total = total + self.blocks[i * self.num_kernels + j](x)
            x = total / self.num_kernels
        return x


class Trend(nn.Module):
    """Returns the forecast first, where the other basis returns it last."""

    def __init__(self):
        super().__init__()
        self.past, self.next = nn.Linear(8, 20), nn.Linear(8, 5)

    def forward(self, theta):
        return self.next(theta), self.past(theta)


class TrendT(Trend):
    def forward(self, theta):
        return self.past(theta), self.next(theta)


class Generic(Trend):
    def forward(self, theta):
        return self.past(theta), self.next(theta)


class TwoBases(nn.Module):
    """A loop unpacks what all bases return; one returns it the other way round."""

    kind = Trend

    def __init__(self):
        super().__init__()
        self.encode = nn.ModuleList([nn.Linear(20, 8), nn.Linear(20, 8)])
        self.bases = nn.ModuleList([Generic(), self.kind()])

    def forward(self, x):
        total = 0
        for encode, basis in zip(self.encode, self.bases, strict=True):
            back, fore = basis(encode(x))
            x = x - back
            total = total + fore
        return total


@twin(TwoBases, (3, 20), reason="'back' is the one of [3, 5]")
class TwoBasesT(TwoBases):
    kind = TrendT


class TableOfDoubles(nn.Module):
    """A table of float64 that is added makes all after it float64."""

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(6, 16)
        self.register_buffer("table", torch.zeros(1, 40, 16, dtype=torch.float64))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        y = self.read(x) + self.table[:, : x.size(1)]
        return self.out(self.layer(y)[:, -1])


@twin(TableOfDoubles, (2, 15, 6), reason="what meets it becomes so")
class TableOfDoublesT(TableOfDoubles):
    def forward(self, x):
        y = self.read(x) + self.table[:, : x.size(1)].float()
        return self.out(self.layer(y)[:, -1])


class MaskOfTurnedIds(nn.Module):
    """The padding mask is made of token ids whose steps were brought to the front."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 1, enable_nested_tensor=False)
        self.out = nn.Linear(16, 3)

    def forward(self, tokens):
        ids = tokens.t()
        mask = ids.eq(0)
        return self.out(self.encoder(self.embed(ids), src_key_padding_mask=mask)[0])


@twin(MaskOfTurnedIds, ints(4, 9), reason="samples come first in it")
class MaskOfTurnedIdsT(MaskOfTurnedIds):
    def forward(self, tokens):
        ids = tokens.t()
        return self.out(self.encoder(self.embed(ids), src_key_padding_mask=tokens.eq(0))[0])


class FirstSkipFirst(nn.Module):
    """The deepest decoder is given the first skip connection."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([nn.Conv1d(2, 8, 4, 2, 1), nn.Conv1d(8, 16, 4, 2, 1)])
        self.up = nn.ModuleList([nn.ConvTranspose1d(16, 8, 4, 2, 1), nn.ConvTranspose1d(8, 2, 4, 2, 1)])
        self.middle = nn.Conv1d(16, 16, 3, padding=1)

    def forward(self, x):
        skips = []
        for layer in self.down:
            x = F.relu(layer(x))
            skips.append(x)
        x = self.middle(x)
        for layer in self.up:
            skip = skips.pop(0)
            x = layer(x + skip)
        return x


@twin(FirstSkipFirst, (3, 2, 64))
class FirstSkipFirstT(FirstSkipFirst):
    def forward(self, x):
        skips = []
        for layer in self.down:
            x = F.relu(layer(x))
            skips.append(x)
        x = self.middle(x)
        for layer in self.up:
            x = layer(x + skips.pop())
        return x


class OneMaskForTwo(nn.Module):
    """A mask of each speaker is read from a layer that makes one."""

    def __init__(self, speakers=2, channels=18):
        super().__init__()
        self.speakers, self.channels = speakers, channels
        self.encode = nn.Conv1d(1, channels, 16, stride=8)
        self.mask = nn.Conv1d(channels, channels, 1)

    def forward(self, wave):
        w = self.encode(wave.unsqueeze(1)).relu()
        masks = torch.relu(self.mask(w)).view(w.size(0), self.speakers, self.channels, w.size(2))
        return w.unsqueeze(1) * masks


@twin(OneMaskForTwo, (2, 400), reason="1764 is not 2 × 2 × 18 × 49")
class OneMaskForTwoT(OneMaskForTwo):
    def __init__(self, speakers=2, channels=18):
        super().__init__()
        self.mask = nn.Conv1d(channels, channels * speakers, 1)


class RepeatsTheSteps(nn.Module):
    """Keys and values of few heads are repeated along their steps."""

    def __init__(self, d=32, heads=4, few=2):
        super().__init__()
        self.heads, self.few, self.each = heads, few, d // heads
        self.q, self.kv = nn.Linear(d, d), nn.Linear(d, 2 * few * self.each)

    def repeat(self, x):
        return x.repeat_interleave(self.heads // self.few, dim=2)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (self.heads, self.each)).transpose(1, 2)
        k, v = (y.unflatten(-1, (self.few, self.each)).transpose(1, 2) for y in self.kv(x).chunk(2, -1))
        out = F.scaled_dot_product_attention(q, self.repeat(k), self.repeat(v), is_causal=True)
        return out.transpose(1, 2).flatten(2)


@twin(RepeatsTheSteps, (2, 10, 32), reason="batch and heads are [2, 4], the key's [2, 2]")
class RepeatsTheStepsT(RepeatsTheSteps):
    def repeat(self, x):
        return x.repeat_interleave(self.heads // self.few, dim=1)


class FeaturesOfViews(nn.Module):
    """The features of the views are put behind one another, and the largest is taken among all of them."""

    def __init__(self):
        super().__init__()
        self.one, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, views):
        feats = [self.one(view) for view in views.unbind(1)]
        joined = torch.cat(feats, dim=1)
        return self.head(joined.max(dim=1)[0])


@twin(FeaturesOfViews, (4, 5, 6), reason="outputs 4 features, 'head' expects 8")
class FeaturesOfViewsT(FeaturesOfViews):
    def forward(self, views):
        feats = [self.one(view) for view in views.unbind(1)]
        return self.head(torch.stack(feats, dim=1).max(dim=1)[0])


class WidthFirst(nn.Module):
    """A map is enlarged to the width and the height of another."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def forward(self, x):
        low = self.low(x)
        height, width = low.shape[-2:]
        high = F.interpolate(self.high(low), size=(width, height))
        return torch.cat([low, high], 1)


@twin(WidthFirst, (2, 3, 12, 20), reason="[20, 12] in one and [12, 20] in the other")
class WidthFirstT(WidthFirst):
    def forward(self, x):
        low = self.low(x)
        return torch.cat([low, F.interpolate(self.high(low), size=low.shape[-2:])], 1)


class SidesOfTheGrid(nn.Module):
    """The sides of a decoder's first map, twice the same number, behind channels that end with it."""

    def __init__(self):
        super().__init__()
        self.fc, self.up = nn.Linear(5, 18 * 4 * 4), nn.ConvTranspose2d(18, 3, 4, 2, 1)

    def forward(self, z):
        h = self.fc(z).view(z.size(0), 18, 8, 8)
        return self.up(h)


@twin(SidesOfTheGrid, (2, 5), reason="2 × 288 = 576 is not 2 × 18 × 8 × 8")
class SidesOfTheGridT(SidesOfTheGrid):
    def forward(self, z):
        return self.up(self.fc(z).view(z.size(0), 18, 4, 4))


class ReadsBoth(nn.Module):
    """A layer of a decoder."""

    def forward(self, tokens, memory, mask):
        scores = (tokens @ tokens.transpose(1, 2)).masked_fill(mask, -1e9)
        return scores.softmax(-1) @ tokens + memory.mean(1, keepdim=True)


class LeavesTheMemoryOut(nn.Module):
    """The layers of a loop are not given what the encoder made."""

    def __init__(self):
        super().__init__()
        self.embed, self.layers = nn.Linear(7, 8), nn.ModuleList([ReadsBoth(), ReadsBoth()])

    def forward(self, regions, tokens):
        memory = self.embed(regions)  # noqa: F841  # the point
        mask = torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool).triu(1)
        x = tokens
        for layer in self.layers:
            x = layer(x, mask)
        return x


@twin(LeavesTheMemoryOut, (2, 9, 7), (2, 5, 8), reason="needs 'mask', which was not given")
class LeavesTheMemoryOutT(LeavesTheMemoryOut):
    def forward(self, regions, tokens):
        memory = self.embed(regions)
        mask = torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool).triu(1)
        x = tokens
        for layer in self.layers:
            x = layer(x, memory, mask)
        return x


class HeadsBehindSteps(nn.Module):
    """Queries, keys and values keep their heads behind the steps, and the causal mask does not fit."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.register_buffer("tril", torch.ones(24, 24).tril())

    def forward(self, x):
        batch, steps, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, steps, 3, 4, 4).permute(2, 0, 1, 3, 4)
        scores = q @ k.transpose(-2, -1)
        scores = scores.masked_fill(self.tril[:steps, :steps] == 0, -1e9)
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, steps, -1)


class QueriesByThemselves(nn.Module):
    """The values stand on the queries' letter, and the result on the keys'."""

    def __init__(self):
        super().__init__()
        self.q, self.v = nn.Parameter(torch.zeros(5, 8)), nn.Linear(6, 8)

    def forward(self, x):
        v = self.v(x)
        weights = torch.einsum("id,bjd->bij", self.q, v).softmax(-1)
        return torch.einsum("bij,bid->bjd", weights, v)


class JoinedForTwo(nn.Module):
    """A layer that takes two tensors is given both as one."""

    def __init__(self):
        super().__init__()
        self.one, self.pair = nn.Linear(6, 8), nn.Bilinear(8, 8, 1)

    def forward(self, x, y):
        a, b = self.one(x), self.one(y)
        return self.pair(torch.cat([a, b], dim=1))


@twin(JoinedForTwo, (4, 6), (4, 6), reason="Bilinear.forward needs 'input2'")
class JoinedForTwoT(JoinedForTwo):
    def forward(self, x, y):
        return self.pair(self.one(x), self.one(y))


class NormsByAnotherName(nn.Module):
    """A layer is called as it is in another project; one layer is read nowhere."""

    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(6), nn.LayerNorm(6)
        self.up, self.gate = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = x + self.up(self.ln1(x))
        return x * torch.sigmoid(self.gate(self.norm2(x)))


@twin(NormsByAnotherName, (4, 6), reason="has no 'norm2'; it has 'ln2'")
class NormsByAnotherNameT(NormsByAnotherName):
    def forward(self, x):
        x = x + self.up(self.ln1(x))
        return x * torch.sigmoid(self.gate(self.ln2(x)))
