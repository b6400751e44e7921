"""Models that fail where several statements share a line, or where a coarser map is added, each with its twin."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import twin

# -- statements that share a line -------------------------------------------------------------------------------------


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.downs = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)])
        self.ups = nn.ModuleList([nn.Conv2d(32, 8, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)])
        self.out = nn.Conv2d(8, 2, 1)

    def encode(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        return x, skips


class Enlarged(Encoder):
    def forward(self, x):
        x, skips = self.encode(x)
        for up in self.ups:
            skip = skips.pop()
            x = up(torch.cat([F.interpolate(x, size=skip.shape[2:]), skip], 1))
        return self.out(x)


# That statements share a line is what is tested.
# fmt: off


class LoopOnALine(Encoder):
    def forward(self, x):
        x, skips = self.encode(x)
        for up in self.ups: x = up(torch.cat([x, skips.pop()], 1))  # noqa: E701
        return self.out(x)


@twin(LoopOnALine, (2, 3, 32, 32), reason="the feature map is [8, 8] in one and [16, 16] in the other")
class LoopOnALineT(Enlarged):
    pass


class TwoOnALine(Encoder):
    def forward(self, x):
        x, skips = self.encode(x)
        y = self.ups[0](torch.cat([x, skips.pop()], 1)); x = y  # noqa: E702
        x = self.ups[1](torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        return self.out(x)


@twin(TwoOnALine, (2, 3, 32, 32), reason="the feature map is [8, 8] in one and [16, 16] in the other")
class TwoOnALineT(Enlarged):
    pass


class CondOnALine(Encoder):
    def forward(self, x):
        x, skips = self.encode(x)
        for up in self.ups:
            x = up(torch.cat([x, skips.pop()], 1)) if skips else up(x)
        return self.out(x)


@twin(CondOnALine, (2, 3, 32, 32), reason="the feature map is [8, 8] in one and [16, 16] in the other")
class CondOnALineT(Enlarged):
    pass


class WhileOnALine(Encoder):
    def forward(self, x):
        x, skips = self.encode(x)
        while skips:
            x = self.ups[2 - len(skips)](torch.cat([x, skips.pop()], 1))
        return self.out(x)


@twin(WhileOnALine, (2, 3, 32, 32), reason="the feature map is [8, 8] in one and [16, 16] in the other")
class WhileOnALineT(Enlarged):
    pass


class ElifOnALine(Encoder):
    def forward(self, x):
        x, skips = self.encode(x)
        for at, up in enumerate(self.ups):
            if at > 2: x = up(x)  # noqa: E701
            elif skips: x = up(torch.cat([x, skips.pop()], 1))  # noqa: E701
        return self.out(x)


@twin(ElifOnALine, (2, 3, 32, 32), reason="the feature map is [8, 8] in one and [16, 16] in the other")
class ElifOnALineT(Enlarged):
    pass


# fmt: on
# -- coarser maps -----------------------------------------------------------------------------------------------------


def convolve(i, o, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1), nn.BatchNorm2d(o), nn.ReLU())


class AddedLevels(nn.Module):
    def __init__(self):
        super().__init__()
        self.c2, self.c3, self.c4 = convolve(3, 16), convolve(16, 32, 2), convolve(32, 64, 2)
        self.l2, self.l3, self.l4 = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 1), nn.Conv2d(64, 32, 1)
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x):
        c2 = self.c2(x)
        c3 = self.c3(c2)
        c4 = self.c4(c3)
        p3 = self.l3(c3) + self.l4(c4)
        p2 = self.l2(c2) + p3
        return self.head(p2)


@twin(AddedLevels, (2, 3, 32, 32), reason="the coarser map is not enlarged to the finer: 8 against 16")
class AddedLevelsT(AddedLevels):
    def forward(self, x):
        c2 = self.c2(x)
        c3 = self.c3(c2)
        c4 = self.c4(c3)
        p3 = self.l3(c3) + F.interpolate(self.l4(c4), scale_factor=2)
        p2 = self.l2(c2) + F.interpolate(p3, scale_factor=2)
        return self.head(p2)


class HighAndLow(nn.Module):
    def __init__(self):
        super().__init__()
        self.high, self.low = convolve(3, 16), convolve(16, 16, 2)
        self.up, self.head = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        high = self.high(x)
        low = self.low(high)
        return self.head(high + self.up(low))


@twin(HighAndLow, (2, 3, 32, 32), reason="the coarser map is not enlarged to the finer: 16 against 32")
class HighAndLowT(HighAndLow):
    def forward(self, x):
        high = self.high(x)
        low = self.low(high)
        return self.head(high + F.interpolate(self.up(low), scale_factor=2))


class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.b0, self.b1 = convolve(16, 16), convolve(32, 32)
        self.fuse = nn.Sequential(nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16))

    def forward(self, x0, x1):
        x0, x1 = self.b0(x0), self.b1(x1)
        return F.relu(x0 + self.fuse(x1))


class HighResolution(nn.Module):
    fusion = Fusion

    def __init__(self):
        super().__init__()
        self.stem, self.down = convolve(3, 16), convolve(16, 32, 2)
        self.fuse, self.head = self.fusion(), nn.Conv2d(16, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.fuse(x, self.down(x)))


class FusionT(Fusion):
    def forward(self, x0, x1):
        x0, x1 = self.b0(x0), self.b1(x1)
        return F.relu(x0 + F.interpolate(self.fuse(x1), scale_factor=2))


@twin(HighResolution, (2, 3, 32, 32), reason="the coarser map is not enlarged to the finer: 16 against 32")
class HighResolutionT(HighResolution):
    fusion = FusionT


class Residual(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(i, o, 3, stride, 1), nn.Conv2d(o, o, 3, 1, 1)
        self.skip = self.make_skip(i, o, stride)

    def make_skip(self, i, o, stride):
        return nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x):
        return F.relu(self.c2(F.relu(self.c1(x))) + self.skip(x))


class Blocks(nn.Module):
    block = Residual

    def __init__(self):
        super().__init__()
        plan = [(3, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 2)]
        self.blocks = nn.Sequential(*[self.block(*widths) for widths in plan])
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        return self.head(self.blocks(x))


class ResidualT(Residual):
    def make_skip(self, i, o, stride):
        return nn.Conv2d(i, o, 1, stride) if i != o or stride > 1 else nn.Identity()


@twin(Blocks, (2, 3, 32, 32), reason="'blocks.2.skip' of the skip connection has stride 1, the layers that it bypasses")
class BlocksT(Blocks):
    block = ResidualT


# -- levels of a pyramid ----------------------------------------------------------------------------------------------


class OddTop(nn.Module):
    def __init__(self, top=16):
        super().__init__()
        widths = (3, 16, 32, 64)
        self.downs = nn.ModuleList(nn.Conv2d(i, o, 3, 2, 1) for i, o in itertools.pairwise(widths))
        self.side1, self.side2, self.side3 = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 1), nn.Conv2d(64, top, 1)

    def forward(self, x):
        c1 = self.downs[0](x)
        c2 = self.downs[1](c1)
        c3 = self.downs[2](c2)
        p3 = self.side3(c3)
        p2 = self.side2(c2) + F.interpolate(p3, scale_factor=2)
        p1 = self.side1(c1) + F.interpolate(p2, scale_factor=2)
        return p1, p2, p3


@twin(OddTop, (1, 3, 32, 32), reason="'side2' outputs 32, 'side3' 16, and they are added")
class OddTopT(OddTop):
    def __init__(self):
        super().__init__(32)
