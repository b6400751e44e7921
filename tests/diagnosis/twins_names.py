"""Models that read another tensor, layer, dim or size than they were to, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import twin


class UnreadBefore(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.text = nn.Linear(32, 24), nn.Linear(48, 24)

    def forward(self, image, text):
        seen = F.normalize(self.image(image), dim=-1)
        words = self.text(text)
        words = F.normalize(text, dim=-1)
        return seen @ words.t()


@twin(UnreadBefore, (4, 32), (4, 48), reason="the inner 24 and 48 differ")
class UnreadBeforeT(UnreadBefore):
    def forward(self, image, text):
        return F.normalize(self.image(image), dim=-1) @ F.normalize(self.text(text), dim=-1).t()


class GatedSignal(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.wide = nn.Conv1d(dim, 2 * dim, 1)
        self.deep = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)

    def forward(self, x):
        x = F.glu(self.wide(x))
        return self.deep(x)


@twin(GatedSignal, (2, 32, 50), reason="'wide' (Conv1d) outputs 64 channels, 'deep' expects 32")
class GatedSignalT(GatedSignal):
    def forward(self, x):
        return self.deep(F.glu(self.wide(x), dim=1))


class MeanOfAll(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 32, 3), nn.Linear(32, 7)

    def forward(self, x):
        x = self.conv(x)
        x = x.mean()
        return self.fc(x)


@twin(MeanOfAll, (4, 3, 20, 20), reason="0D and 2D")
class MeanOfAllT(MeanOfAll):
    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


class CrossArguments(nn.Module):
    def __init__(self, words=32, seen=48):
        super().__init__()
        self.cross = nn.MultiheadAttention(words, 4, kdim=seen, vdim=seen, batch_first=True)
        self.norm = nn.LayerNorm(words)

    def forward(self, v, q):
        fused, _ = self.cross(v, q, q)
        return self.norm(q + fused)


@twin(CrossArguments, (2, 16, 48), (2, 9, 32), reason="the query has 48 features, 'cross' expects 32")
class CrossArgumentsT(CrossArguments):
    def forward(self, v, q):
        return self.norm(q + self.cross(q, v, v)[0])


class Experts(nn.Module):
    def __init__(self, num=4, out=16):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(20, out) for _ in range(num)])
        self.gate, self.tower = nn.Linear(20, num), nn.Linear(out, 1)

    def forward(self, x):
        made = torch.cat([expert(x) for expert in self.experts], dim=1)
        mixed = (self.gate(x).softmax(1).unsqueeze(2) * made).sum(dim=1)
        return self.tower(mixed)


@twin(Experts, (10, 20), reason="is aligned with the last dims of [10, 4, 1]")
class ExpertsT(Experts):
    def forward(self, x):
        made = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.tower((self.gate(x).softmax(1).unsqueeze(2) * made).sum(dim=1))


class _Cell(nn.Module):
    def __init__(self, given=8, hidden=12):
        super().__init__()
        self.hidden = hidden
        self.conv = nn.Conv2d(given + hidden, hidden, 3, padding=1)

    def forward(self, x, state):
        return self.conv(torch.cat([x, state], dim=1)).tanh()

    def begin(self, batch, sides):
        height, width = sides
        return torch.zeros(batch, self.hidden, height, width)


class FrameSides(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.cell = nn.Conv2d(1, 8, 3, stride=2, padding=1), _Cell()

    def forward(self, frames):
        b, t, c, h, w = frames.size()
        maps = self.encoder(frames.view(b * t, c, h, w))
        maps = maps.view(b, t, *maps.shape[1:])
        state = self.cell.begin(b, (h, w))
        for i in range(t):
            state = self.cell(maps[:, i], state)
        return state


@twin(FrameSides, (2, 5, 1, 32, 32), reason="zeros() makes [2, 12, 32, 32]")
class FrameSidesT(FrameSides):
    def forward(self, frames):
        return torch.zeros(2, 12, 16, 16)


class _Chomp(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x[:, :, : -self.size]


class _Block(nn.Module):
    def __init__(self, kernel, dilation):
        super().__init__()
        padding = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(16, 16, kernel, padding=padding, dilation=dilation)
        self.chomp1 = _Chomp(kernel - 1)
        self.conv2 = nn.Conv1d(16, 16, kernel, padding=padding, dilation=dilation)
        self.chomp2 = _Chomp(kernel - 1)

    def forward(self, x):
        out = self.chomp1(self.conv1(x)).relu()
        out = self.chomp2(self.conv2(out)).relu()
        return out + x


class CausalBlocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(_Block(5, 1), _Block(5, 2), _Block(5, 4))

    def forward(self, x):
        return self.blocks(x)


@twin(CausalBlocks, (4, 16, 60), reason="pads by 8 more than it takes off")
class CausalBlocksT(CausalBlocks):
    def __init__(self):
        super().__init__()
        for block, size in zip(self.blocks, (4, 8, 16), strict=True):
            block.chomp1 = block.chomp2 = _Chomp(size)


class _Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage1, self.stage2 = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 32, 3, 2, 1)

    def forward(self, x):
        low = self.stage1(x)
        high = self.stage2(low)
        return {"low": low, "high": high, "pooled": high.mean((2, 3))}


class PooledOfMany(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = _Pyramid(), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.backbone(x))


@twin(PooledOfMany, (4, 1, 48, 64), reason="returns a dict of 3")
class PooledOfManyT(PooledOfMany):
    def forward(self, x):
        return self.head(self.backbone(x)["pooled"])


class BlurPool(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.channels = channels
        self.register_buffer("kernel", torch.ones(1, 1, 3, 3) / 9)

    def forward(self, x):
        return F.conv2d(self.conv(x), self.kernel, stride=2, groups=self.channels)


@twin(BlurPool, (2, 3, 32, 32), reason="the weight has one kernel, and 8 groups need one each")
class BlurPoolT(BlurPool):
    def forward(self, x):
        return F.conv2d(self.conv(x), self.kernel.repeat(8, 1, 1, 1), stride=2, groups=8)


class WindowMask(nn.Module):
    def __init__(self, dim=24, heads=3):
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(dim, 3 * dim)
        self.register_buffer("mask", torch.zeros(16, 16, 16))

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1)
        scores = scores + self.mask
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, N, C)


@twin(WindowMask, (32, 16, 24), reason="'mask' is of 16 windows, and [32, 3, 16, 16] has 2 times as many")
class WindowMaskT(WindowMask):
    def forward(self, x):
        return x


class TableOfStepsFirst(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.proj, self.out = nn.Linear(7, width), nn.Linear(width, 3)
        self.register_buffer("pe", torch.zeros(1, 500, width))

    def forward(self, x):
        x = self.proj(x.permute(1, 0, 2))
        x = x + self.pe[:, : x.size(0)]
        return self.out(x[-1])


@twin(TableOfStepsFirst, (6, 48, 7), reason="'pe' [1, 48, 32] has the steps in dim 1, [48, 6, 32] has them in dim 0")
class TableOfStepsFirstT(TableOfStepsFirst):
    def forward(self, x):
        x = self.proj(x.permute(1, 0, 2))
        return self.out((x + self.pe[0, : x.size(0), None])[-1])


class NeverCalled(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.reduce = nn.Linear(20, 48), nn.Linear(48, 24)
        self.one, self.two = nn.Linear(24, 3), nn.Linear(24, 4)

    def forward(self, x):
        h = torch.relu(self.enc(x))
        return self.one(h), self.two(h)


@twin(NeverCalled, (6, 20), reason="'enc' (Linear) outputs 48 features, 'one' expects 24")
class NeverCalledT(NeverCalled):
    def forward(self, x):
        h = self.reduce(torch.relu(self.enc(x)))
        return self.one(h), self.two(h)


class OtherBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 1)
        self.b, self.c = nn.Conv2d(24, 24, 3, padding=1), nn.Conv2d(48, 8, 1)

    def forward(self, image):
        x = self.stem(image).relu()
        a = self.a(x).relu()
        b = self.b(x).relu()
        return self.c(torch.cat([a, b], dim=1))


@twin(OtherBranch, (2, 3, 16, 16), reason="'stem' (Conv2d) outputs 16 channels, 'b' expects 24")
class OtherBranchT(OtherBranch):
    def forward(self, image):
        a = self.a(self.stem(image).relu()).relu()
        return self.c(torch.cat([a, self.b(a).relu()], dim=1))


class OtherSkip(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.fc1, self.fc2 = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        h = torch.relu(self.inp(x))
        y = torch.relu(self.fc1(h))
        y = self.fc2(y) + x
        return y


@twin(OtherSkip, (5, 16), reason="the skip connection has 16 features, the layers it bypasses output 32")
class OtherSkipT(OtherSkip):
    def forward(self, x):
        h = torch.relu(self.inp(x))
        return self.fc2(torch.relu(self.fc1(h))) + h


class MixedUp(nn.Module):
    def __init__(self):
        super().__init__()
        self.sound, self.sight = nn.GRU(40, 32, batch_first=True), nn.GRU(64, 32, batch_first=True)
        self.head = nn.Linear(64, 6)

    def forward(self, sound, sight):
        _, heard = self.sound(sight)
        _, seen = self.sight(sound)
        return self.head(torch.cat([heard[-1], seen[-1]], dim=-1))


@twin(MixedUp, (3, 50, 40), (3, 12, 64), reason="has 64 features per step, 'sound' expects 40")
class MixedUpT(MixedUp):
    def forward(self, sound, sight):
        return self.head(torch.cat([self.sound(sound)[1][-1], self.sight(sight)[1][-1]], dim=-1))


class DecoderView(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.up = nn.Linear(10, 64 * 4 * 4), nn.ConvTranspose2d(64, 1, 4, 2, 1)

    def forward(self, z):
        x = self.fc(z).view(-1, 32, 4, 4)
        return self.up(x)


@twin(DecoderView, (6, 10), reason="view() outputs 32 channels, 'up' expects 64")
class DecoderViewT(DecoderView):
    def forward(self, z):
        return self.up(self.fc(z).view(-1, 64, 4, 4))
