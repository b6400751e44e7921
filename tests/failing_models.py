"""Models whose forward fails, one for each mistake that people make; ``# ✗`` marks the line that is to be named."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# -- linear -----------------------------------------------------------------------------------------------------------


class LinearAfterFlatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc = nn.Linear(400, 10)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        x = x.flatten(1)
        return self.fc(x)  # ✗


class LinearWithoutFlatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(392, 10)

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x)  # ✗


class LinearChain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(20, 50)
        self.fc2 = nn.Linear(64, 10, bias=False)

    def forward(self, x):
        x = self.fc1(x).relu()
        return self.fc2(x)  # ✗


class LinearOnChannelsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 12, 3)
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        h = self.conv(x)
        return self.fc(h)  # ✗


class LinearOnChannelsFirstMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3)
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        return self.fc(self.conv(x))  # ✗


class FlattenedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(256, 10)

    def forward(self, x):
        x = self.conv(x)
        x = x.flatten()
        return self.fc(x)  # ✗


class Bidirectional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])  # ✗


class WeightTransposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(20, 5))

    def forward(self, x):
        return F.linear(x, self.weight)  # ✗


class ConcatenatedFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 8)
        self.right = nn.Linear(6, 4)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        both = torch.cat([self.left(x), self.right(x)], dim=-1)
        return self.fc(both)  # ✗


class InputFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 5)

    def forward(self, x):
        return self.fc(x)  # ✗


def sequential_linear() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Linear(256, 10))


# -- convolution ------------------------------------------------------------------------------------------------------


class ConvChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)

    def forward(self, x):
        x = self.conv1(x)
        return self.conv2(x)  # ✗


class OneConv2d(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3)

    def forward(self, x):
        return self.conv(x)  # ✗


class OneConv1d(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 8, 3)

    def forward(self, x):
        return self.conv(x)  # ✗


class Video(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, clip):
        return self.conv(clip)  # ✗


class ConcatenatedSkip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        return self.c(torch.cat([a, b], 1))  # ✗


class ConvTransposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 4, 2, stride=2)

    def forward(self, x):
        return self.up(self.down(x))  # ✗


class TooSmallForKernel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 5)
        self.conv2 = nn.Conv2d(4, 4, 7)

    def forward(self, x):
        x = self.conv1(x)
        return self.conv2(x)  # ✗


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Conv2d(3, 12, 1)
        self.depth = nn.Conv2d(8, 8, 3, groups=8, padding=1)

    def forward(self, x):
        return self.depth(self.point(x))  # ✗


class FunctionalConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight, padding=1)  # ✗


# -- pools ------------------------------------------------------------------------------------------------------------


class TooManyPools(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(*[nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)) for _ in range(5)])

    def forward(self, x):
        return self.stages(x)  # ✗


class ReflectionTooSmall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(4)

    def forward(self, x):
        x = self.pool(x)
        return F.pad(x, (3, 3, 3, 3), mode="reflect")  # ✗


# -- skips ------------------------------------------------------------------------------------------------------------


class UNetCat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc1 = nn.Conv2d(1, 4, 3, padding=1)
        self.pool1 = nn.MaxPool2d(2)
        self.enc2 = nn.Conv2d(4, 8, 3, padding=1)
        self.pool2 = nn.MaxPool2d(2)
        self.mid = nn.Conv2d(8, 8, 3, padding=1)
        self.up2 = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.dec2 = nn.Conv2d(16, 8, 3, padding=1)
        self.up1 = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.dec1 = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(self.pool1(a))
        m = self.mid(self.pool2(b))
        u = self.up2(m)
        d = self.dec2(torch.cat([u, b], dim=1))  # ✗
        return self.dec1(torch.cat([self.up1(d), a], dim=1))


class UNetAdd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Conv2d(1, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x):
        skip = self.enc(x)
        y = self.up(self.down(skip))
        return y + skip  # ✗


class ResidualAcrossStride(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        y = self.conv2(self.conv1(x).relu())
        return y + x  # ✗


class ResidualChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(8, 24, 3, padding=1)

    def forward(self, x):
        out = self.body(x)
        out += x  # ✗
        return out


class ResidualFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x):
        return x + self.mlp(x)  # ✗


class CatAlongTheWrongAxis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 4)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)])  # ✗


class CatOfRanks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 8))

    def forward(self, x):
        first = self.token.expand(x.size(0), 8)
        return torch.cat([first, x], dim=1)  # ✗


class GateWithoutAxes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        gate = self.fc(x.mean((2, 3))).sigmoid()
        return x * gate  # ✗


class StepWithoutAxis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x, step):
        return x + self.fc(step)  # ✗


class PositionParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.pos = nn.Parameter(torch.zeros(1, 32, 8))

    def forward(self, x):
        return self.embed(x) + self.pos  # ✗


class PositionBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 8)
        self.register_buffer("table", torch.zeros(1, 32, 8))

    def forward(self, ids):
        h = self.embed(ids)
        return h + self.table[:, : ids.shape[1]]  # ✗


class PositionEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 8)
        self.pos = nn.Embedding(32, 8)

    def forward(self, ids):
        where = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        return self.embed(ids) + self.pos(where)  # ✗


# -- products ---------------------------------------------------------------------------------------------------------


class AttentionWithoutTranspose(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)
        self.k = nn.Linear(8, 8)

    def forward(self, x):
        q, k = self.q(x), self.k(x)
        return (q @ k).softmax(-1)  # ✗


class MatmulFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(5, 12))

    def forward(self, x):
        return torch.matmul(x, self.weight)  # ✗


class BmmOfFour(nn.Module):
    def forward(self, x):
        return torch.bmm(x, x.transpose(-2, -1))  # ✗


class LeftTransposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(7, 3))

    def forward(self, x):
        return self.mix @ x  # ✗


# -- views ------------------------------------------------------------------------------------------------------------


class ViewThatCannotDivide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc = nn.Linear(400, 10)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        x = x.view(-1, 400)  # ✗
        return self.fc(x)


class ViewWithBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        return x.view(32, -1, 49)  # ✗


class HeadsThatDontDivide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = 6
        self.q = nn.Linear(64, 64)

    def forward(self, x):
        b, t, d = x.shape
        q = self.q(x)
        return q.view(b, t, self.heads, d // self.heads)  # ✗


class ViewAfterTranspose(nn.Module):
    def forward(self, x):
        b, t, d = x.shape
        x = x.transpose(1, 2)
        return x.view(b, t * d)  # ✗


class ReshapeFixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 60)

    def forward(self, x):
        x = self.fc(x)
        return x.reshape(-1, 8, 8)  # ✗


class PermuteOfFour(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x.permute(0, 2, 3, 1))  # ✗


class ShuffledChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.conv(x))  # ✗


class SplitUneven(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        a, b = x.split([4, 6], dim=-1)  # ✗
        return self.fc(torch.cat([a, b], dim=-1)[..., :8])


# -- norms ------------------------------------------------------------------------------------------------------------


class BatchNormChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.bn = nn.BatchNorm2d(32)

    def forward(self, x):
        return self.bn(self.conv(x))  # ✗


class BatchNormOnSequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 12)
        self.bn = nn.BatchNorm1d(12)

    def forward(self, x):
        return self.bn(self.fc(x))  # ✗


class BatchNormWithoutBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn(self.conv(x))  # ✗


class BatchOfOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.bn(self.fc(x))  # ✗


class LayerNormFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 12)
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        return self.norm(self.fc(x))  # ✗


class LayerNormOnMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3)
        self.norm = nn.LayerNorm(12)

    def forward(self, x):
        return self.norm(self.conv(x))  # ✗


class GroupsThatDontDivide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 20, 3)
        self.norm = nn.GroupNorm(8, 32)

    def forward(self, x):
        return self.norm(self.conv(x))  # ✗


# -- recurrent --------------------------------------------------------------------------------------------------------


class RecurrentFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.lstm = nn.LSTM(16, 20, num_layers=2, batch_first=True)

    def forward(self, ids):
        return self.lstm(self.embed(ids))[0]  # ✗


class RecurrentChannelsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 12, 3)
        self.gru = nn.GRU(12, 20, batch_first=True)

    def forward(self, x):
        h = self.conv(x)
        return self.gru(h)[0]  # ✗


class HiddenSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 16, num_layers=2, batch_first=True)

    def forward(self, x):
        h = torch.zeros(1, x.size(0), 16)
        return self.gru(x, h)[0]  # ✗


class CellState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16)

    def forward(self, x):
        h = torch.zeros(1, x.size(1), 16)
        c = torch.zeros(1, x.size(1), 8)
        return self.lstm(x, (h, c))[0]  # ✗


class CellHidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 16)

    def forward(self, x, h):
        return self.cell(x, h)  # ✗


class TupleIntoLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 16, batch_first=True)
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        h = self.gru(x)
        return self.fc(h)  # ✗


def tuple_in_sequential() -> nn.Module:
    return nn.Sequential(nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 2))


class TupleAttribute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, 16, batch_first=True)

    def forward(self, x):
        h = self.rnn(x)
        return h.mean(1)  # ✗


class StateOfGru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 16, batch_first=True)

    def forward(self, x):
        out, (h, c) = self.gru(x)  # ✗  # noqa: RUF059  # what is not there is the point
        return h


# -- attention --------------------------------------------------------------------------------------------------------


class TupleFromAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        return self.norm(x + self.attn(x, x, x))  # ✗


class TupleIntoNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        y = self.attn(x, x, x)
        return self.norm(y)  # ✗


class AttentionFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 24)
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        x = self.fc(x)
        return self.attn(x, x, x)[0]  # ✗


class AttentionBatchFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4)

    def forward(self, x, memory):
        return self.attn(x, memory, memory)[0]  # ✗


class MaskSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        mask = torch.ones(10, 10, dtype=torch.bool).triu(1)
        return self.attn(x, x, x, attn_mask=mask)[0]  # ✗


class PaddingMaskSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x, mask):
        return self.attn(x, x, x, key_padding_mask=mask)[0]  # ✗


class HalfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        x = x.half()
        return self.attn(x, x, x)[0]  # ✗


class WholeMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x, mask):
        return self.attn(x, x, x, key_padding_mask=mask)[0]  # ✗


class DepthOfSource(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, source, target):
        return self.body(source, target)  # ✗


class ProductMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        mask = torch.zeros(9, 9)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # ✗


# -- dtypes and devices -----------------------------------------------------------------------------------------------


class EmbeddingOfFloats(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)

    def forward(self, x):
        x = x / 2
        return self.embed(x)  # ✗


class DoubleInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = x.double()
        return self.fc(x)  # ✗


class HalfConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        x = x.half()
        return self.conv(x)  # ✗


class IntoLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x)  # ✗


class SoftmaxOfInts(nn.Module):
    def forward(self, x):
        counts = (x > 0).long()
        return counts.softmax(-1)  # ✗


class MaskMinus(nn.Module):
    def forward(self, x):
        mask = x > 0
        return 1 - mask  # ✗


class ScaledInPlace(nn.Module):
    def forward(self, x):
        n = x.argsort(-1)
        n *= 0.5  # ✗
        return n


class MatmulMix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", torch.zeros(4, 4, dtype=torch.float64))

    def forward(self, x):
        return x @ self.basis  # ✗


class OtherDevice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4, device="meta")

    def forward(self, x):
        h = self.fc(x)
        return h + torch.zeros(4, device="cpu")  # ✗


# -- arguments --------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, skip):
        return self.fc(x) + skip


class Missing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x):
        skip = x
        return self.block(x) + skip  # ✗


class Surplus(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4))

    def forward(self, x):
        skip = x
        return self.body(x, skip)  # ✗


class StrangeKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x):
        return self.block(x, x, mask=None)  # ✗


class ListCalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x):
        x = self.layers(x)  # ✗
        return x


class Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return {"map": self.fc(x), "raw": x}


class DictIntoLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = Features()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        f = self.features(x)
        return self.head(f)  # ✗


class UnpackedShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        b, c, h, w = x.shape  # ✗  # noqa: RUF059  # what is not there is the point
        return self.conv(x)


class Misspelt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)

    def forward(self, x):
        return self.encodr(x)  # ✗


class OwnWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, stride=4)

    def forward(self, x):
        if x.shape[-1] % 16:
            raise ValueError(f"width {x.shape[-1]} is no multiple of 16")  # ✗
        return self.conv(x)


class ImageSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image_size = 48
        self.conv = nn.Conv2d(3, 4, 16, stride=16)

    def forward(self, x):
        assert x.shape[2:] == (self.image_size, self.image_size), "wrong image size"  # ✗
        return self.conv(x)


class Sliced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.fc(x)
        return x[:, 7]  # ✗


class SoftmaxAxis(nn.Module):
    def forward(self, x):
        return x.softmax(dim=2)  # ✗


class Expanded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 6, 8))

    def forward(self, x):
        query = self.query.expand(x.size(0), x.size(1), 8)  # ✗
        return query + x


class Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.fc(x)


class NoReturn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Nothing()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.body(x)
        return self.head(x)  # ✗


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 6)

    def forward(self, x):
        x = self.fc(x)
        return self.fc(x)  # ✗


def _helper(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight  # ✗


class InHelper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 5))

    def forward(self, x):
        return _helper(x, self.weight)


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stages = nn.ModuleList([nn.ModuleDict({"block": ConvChannels()})])

    def forward(self, x):
        x = self.stem(x)[:, :3]
        for stage in self.stages:
            x = stage["block"](x)
        return x


def one_channel_2d() -> nn.Module:
    return OneConv2d(1)


def one_channel_1d() -> nn.Module:
    return OneConv1d(1)
