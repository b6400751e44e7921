"""Patterns of einops that a tensor does not fit, each with its repaired twin."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import nn

from tests.diagnosis.twins import twin


class TokensToMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x):
        x = rearrange(x, "b (h w) c -> b c h w", h=7, w=7)
        return self.conv(x)


@twin(TokensToMap, (2, 64, 16), reason="(h w) with h = 7, w = 7 is 49, dim 1 of [2, 64, 16] is 64 = 8 × 8")
class TokensToMapT(TokensToMap):
    def forward(self, x):
        return self.conv(rearrange(x, "b (h w) c -> b c h w", h=8, w=8))


class EinopsRank(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return self.fc(rearrange(x, "b c h w -> b (h w) c"))


@twin(EinopsRank, (2, 49, 16), reason="it was rearranged before")
class EinopsRankT(EinopsRank):
    def forward(self, x):
        return self.fc(x)


class HeadsEinops(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(48, 144)

    def forward(self, x):
        q, k, v = rearrange(self.qkv(x), "b n (k h d) -> k b h n d", k=3, h=5)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


@twin(HeadsEinops, (2, 10, 48), reason="(k h d) with k = 3, h = 5 needs a multiple of 15")
class HeadsEinopsT(HeadsEinops):
    def forward(self, x):
        q, k, v = rearrange(self.qkv(x), "b n (k h d) -> k b h n d", k=3, h=4)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class TwoSizesUnknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x):
        return self.conv(rearrange(x, "b (h w) c -> b c h w"))


@twin(TwoSizesUnknown, (2, 64, 16), reason="64 = 8 × 8")
class TwoSizesUnknownT(TwoSizesUnknown):
    def forward(self, x):
        return self.conv(rearrange(x, "b (h w) c -> b c h w", h=8))


class NameLost(nn.Module):
    def forward(self, x):
        return rearrange(x, "b c h w -> b (h w)")


@twin(NameLost, (2, 3, 8, 8), reason="has c only on the left")
class NameLostT(NameLost):
    def forward(self, x):
        return rearrange(x, "b c h w -> b (c h w)")


class ClsRepeat(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, 16))

    def forward(self, x):
        cls = repeat(self.cls, "n d -> b n d", b=x.shape[0])
        return torch.cat([cls, x], 1)


@twin(ClsRepeat, (3, 10, 16), reason="[1, 1, 16] has 3")
class ClsRepeatT(ClsRepeat):
    def forward(self, x):
        return torch.cat([repeat(self.cls, "1 n d -> b n d", b=x.shape[0]), x], 1)


class EinopsGotWidth(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q = nn.Linear(20, 24)

    def forward(self, x):
        return rearrange(self.to_q(x), "b n (h d) -> b h n d", h=4, d=8)


@twin(EinopsGotWidth, (2, 5, 20), reason="(h d) with h = 4, d = 8 is 32")
class EinopsGotWidthT(EinopsGotWidth):
    def __init__(self):
        super().__init__()
        self.to_q = nn.Linear(20, 32)
