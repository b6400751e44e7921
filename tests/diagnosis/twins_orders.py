"""Models with sizes, dims or arguments in another order, or a number of other layers, each with its repaired twin."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin

# -- in a line of the forward -----------------------------------------------------------------------------------------


class CentredScores(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Linear(8, 4)

    def forward(self, x):
        score = self.score(x)
        return score - score.mean(dim=1)


@twin(CentredScores, (5, 8), reason="[5] is aligned with the last dims of [5, 4]; [5, 1] would broadcast")
class CentredScoresT(CentredScores):
    def forward(self, x):
        score = self.score(x)
        return score - score.mean(dim=1, keepdim=True)


class GridOfSides(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.rows, self.columns = nn.Parameter(torch.zeros(40, 4)), nn.Parameter(torch.zeros(40, 4))

    def forward(self, x):
        x = self.conv(x)
        H, W = x.shape[-2:]
        columns = self.columns[:H].unsqueeze(0).repeat(H, 1, 1)
        rows = self.rows[:H].unsqueeze(1).repeat(1, W, 1)
        return x + torch.cat([columns, rows], dim=-1).permute(2, 0, 1)


@twin(GridOfSides, (2, 3, 48, 64), reason="")
class GridOfSidesT(GridOfSides):
    def forward(self, x):
        x = self.conv(x)
        H, W = x.shape[-2:]
        columns = self.columns[:W].unsqueeze(0).repeat(H, 1, 1)
        rows = self.rows[:H].unsqueeze(1).repeat(1, W, 1)
        return x + torch.cat([columns, rows], dim=-1).permute(2, 0, 1)


class Reads(nn.Module):
    def __init__(self, width, other):
        super().__init__()
        self.query, self.key = nn.Linear(width, 16), nn.Linear(other, 16)
        self.out = nn.Linear(16, width)

    def forward(self, x, given):
        q, k = self.query(x), self.key(given)
        return self.out((q @ k.transpose(1, 2)).softmax(-1) @ k)


class ReadsTheText(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.cross = nn.LayerNorm(24), Reads(24, 40)

    def forward(self, x, text):
        return x + self.cross(text, self.norm(x))


@twin(ReadsTheText, (2, 9, 24), (2, 5, 40), reason="features, 'cross.query' expects 24")
class ReadsTheTextT(ReadsTheText):
    def forward(self, x, text):
        return x + self.cross(self.norm(x), text)


class ParsesHeads(nn.Module):
    def __init__(self, width=24, heads=3):
        super().__init__()
        self.heads, self.width = heads, width // heads
        self.qkv, self.far = nn.Linear(width, 3 * width), nn.Embedding(9, width // heads)

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.width, self.heads).permute(2, 0, 3, 1, 4)
        far = self.far(torch.zeros(T, T, dtype=torch.long))
        scores = torch.einsum("bhid,bhjd->bhij", q, k) + torch.einsum("bhid,ijd->bhij", q, far)
        return torch.einsum("bhij,bhjd->bihd", scores.softmax(-1), v).flatten(2)


@twin(ParsesHeads, (2, 7, 24), reason="'d' is 3 in q and 8 in far")
class ParsesHeadsT(ParsesHeads):
    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        far = self.far(torch.zeros(T, T, dtype=torch.long))
        scores = torch.einsum("bhid,bhjd->bhij", q, k) + torch.einsum("bhid,ijd->bhij", q, far)
        return torch.einsum("bhij,bhjd->bihd", scores.softmax(-1), v).flatten(2)


class BoxesOfAnchors(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 21, 1)

    def forward(self, x):
        made = self.conv(x)
        B, _, H, W = made.shape
        made = made.view(B, 3, 7, H, W)
        sides = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
        grid = torch.stack(sides, 2).view(1, 1, H, W, 2)
        return torch.cat([made[..., :2] + grid, made[..., 2:]], -1).reshape(B, -1, 7)


@twin(BoxesOfAnchors, (2, 8, 6, 6), reason="")
class BoxesOfAnchorsT(BoxesOfAnchors):
    def forward(self, x):
        made = self.conv(x)
        B, _, H, W = made.shape
        made = made.view(B, 3, 7, H, W).movedim(2, -1)
        sides = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
        grid = torch.stack(sides, 2).view(1, 1, H, W, 2)
        return torch.cat([made[..., :2] + grid, made[..., 2:]], -1).reshape(B, -1, 7)


class TurnsPoints(nn.Module):
    def __init__(self):
        super().__init__()
        self.turn, self.conv = nn.Linear(3, 9), nn.Conv1d(3, 8, 1)

    def forward(self, x):
        turn = self.turn(x.mean(2)).view(-1, 3, 3)
        return self.conv(torch.bmm(x, turn)).amax(2)


@twin(TurnsPoints, (4, 3, 30), reason="[3 × 30] @ [3 × 3]: the inner 30 and 3 differ")
class TurnsPointsT(TurnsPoints):
    def forward(self, x):
        turn = self.turn(x.mean(2)).view(-1, 3, 3)
        return self.conv(torch.bmm(x.transpose(1, 2), turn).transpose(1, 2)).amax(2)


class LastOfWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.words = nn.Linear(10, 12), nn.Embedding(30, 8)
        self.lstm, self.project = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 12)
        self.head = nn.Linear(24, 3)

    def forward(self, x, words):
        _, (h, _) = self.lstm(self.words(words))
        words = self.project(h)
        return self.head(torch.cat([self.image(x), words], -1))


@twin(LastOfWords, (4, 10), ints(4, 6), reason="[4, 12] has 2 dims, [1, 4, 12] has 3")
class LastOfWordsT(LastOfWords):
    def forward(self, x, words):
        _, (h, _) = self.lstm(self.words(words))
        return self.head(torch.cat([self.image(x), self.project(h[-1])], -1))


class ResetsStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 16)

    def forward(self, x, done, h):
        outs = []
        for t in range(x.size(0)):
            keep = 1.0 - done[t]
            out, h = self.gru(x[t : t + 1], keep * h)
            outs.append(out)
        return torch.cat(outs)


@twin(ResetsStates, (5, 3, 8), (5, 3), (1, 3, 16), reason="[3] is aligned with the last dims of [1, 3, 16]; [3, 1]")
class ResetsStatesT(ResetsStates):
    def forward(self, x, done, h):
        outs = []
        for t in range(x.size(0)):
            out, h = self.gru(x[t : t + 1], (1.0 - done[t])[:, None] * h)
            outs.append(out)
        return torch.cat(outs)


class SkipsOneMore(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.downs = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(2)])
        self.ups = nn.ModuleList([nn.Conv2d(16, 8, 3, padding=1) for _ in range(3)])

    def forward(self, x):
        x = self.first(x)
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        for up in self.ups:
            x = up(torch.cat([x, skips.pop()], 1))
        return x


@twin(SkipsOneMore, (2, 3, 16, 16), reason="pop from empty list")
class SkipsOneMoreT(SkipsOneMore):
    def forward(self, x):
        x = self.first(x)
        skips = [x]
        for down in self.downs:
            x = down(x)
            skips.append(x)
        for up in self.ups:
            x = up(torch.cat([x, skips.pop()], 1))
        return x


class TwoLosses(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.loss = nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()), nn.BCELoss()

    def forward(self, real, fake):
        ones, zeros = torch.ones(real.size(0)), torch.zeros(fake.size(0), 1)
        return self.loss(self.net(real), ones) + self.loss(self.net(fake), zeros)


@twin(TwoLosses, (4, 6), (4, 6), reason="binary_cross_entropy compares numbers one to one: [4, 1] against [4]")
class TwoLossesT(TwoLosses):
    def forward(self, real, fake):
        ones, zeros = torch.ones(real.size(0), 1), torch.zeros(fake.size(0), 1)
        return self.loss(self.net(real), ones) + self.loss(self.net(fake), zeros)


# -- where the layers are made ----------------------------------------------------------------------------------------


class PadsInFront(nn.Conv1d):
    def __init__(self, width, kernel_size, dilation=1):
        super().__init__(width, width, kernel_size, dilation=dilation)
        self.front = kernel_size - 1

    def forward(self, x):
        return super().forward(F.pad(x, (self.front, 0)))


class Dilated(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([PadsInFront(8, 2, 2**at) for at in range(3)])
        self.out = nn.Conv1d(8, 4, 1)

    def forward(self, x):
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return self.out(x)


@twin(Dilated, (2, 8, 30), reason="30 against 29 in dim 2")
class DilatedT(Dilated):
    def __init__(self):
        super().__init__()
        for layer in self.layers:
            layer.front = layer.dilation[0]


class Shuffles(nn.Module):
    def __init__(self, width=8, scale=4):
        super().__init__()
        layers = []
        for _ in range(int(math.log2(scale))):
            layers += [nn.Conv2d(width, 2 * width, 3, padding=1), nn.PixelShuffle(2)]
        self.up, self.out = nn.Sequential(*layers), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        return self.out(self.up(x))


@twin(Shuffles, (1, 8, 12, 12), reason="'up.1' (PixelShuffle) outputs 4 channels, 'up.2' expects 8")
class ShufflesT(nn.Module):
    def __init__(self, width=8, scale=4):
        super().__init__()
        layers = []
        for _ in range(int(math.log2(scale))):
            layers += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2)]
        self.up, self.out = nn.Sequential(*layers), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        return self.out(self.up(x))


class MaskOfSteps(nn.Module):
    """A state, an action and a return a step: three tokens."""

    def __init__(self, most=8):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        mask = torch.triu(torch.ones(most, most, dtype=torch.bool), diagonal=1)
        self.register_buffer("mask", mask)

    def forward(self, x):
        B, T, _ = x.shape
        x = torch.stack((x, x, x), dim=2).view(B, 3 * T, -1)
        return self.layer(x, src_mask=self.mask[: x.size(1), : x.size(1)])


@twin(MaskOfSteps, (2, 8, 16), reason="24 queries attend to 24 keys")
class MaskOfStepsT(MaskOfSteps):
    def __init__(self):
        super().__init__(24)
