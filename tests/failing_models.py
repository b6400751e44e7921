"""Models whose forward fails, one for each mistake that people make; ``# ✗`` marks the line that is to be named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Built(nn.Module):
    """A model whose layers are made by the functions that its class is given, by the attribute they become."""

    def __init_subclass__(cls, **makers: Callable[[], Any]) -> None:
        cls.makers = makers

    makers: dict[str, Callable[[], Any]]

    def __init__(self) -> None:
        super().__init__()
        for name, make in self.makers.items():
            setattr(self, name, make())


# -- linear -----------------------------------------------------------------------------------------------------------


class LinearAfterFlatten(
    Built, conv1=lambda: nn.Conv2d(1, 6, 5), conv2=lambda: nn.Conv2d(6, 16, 5), fc=lambda: nn.Linear(400, 10)
):
    def forward(self, x):
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        x = x.flatten(1)
        return self.fc(x)  # ✗


class LinearWithoutFlatten(Built, conv=lambda: nn.Conv2d(3, 8, 3, padding=1), fc=lambda: nn.Linear(392, 10)):
    def forward(self, x):
        x = self.conv(x)
        return self.fc(x)  # ✗


class LinearChain(Built, fc1=lambda: nn.Linear(20, 50), fc2=lambda: nn.Linear(64, 10, bias=False)):
    def forward(self, x):
        x = self.fc1(x).relu()
        return self.fc2(x)  # ✗


class LinearOnChannelsFirst(Built, conv=lambda: nn.Conv1d(4, 12, 3), fc=lambda: nn.Linear(12, 3)):
    def forward(self, x):
        h = self.conv(x)
        return self.fc(h)  # ✗


class LinearOnChannelsFirstMap(Built, conv=lambda: nn.Conv2d(3, 12, 3), fc=lambda: nn.Linear(12, 3)):
    def forward(self, x):
        return self.fc(self.conv(x))  # ✗


class FlattenedBatch(Built, conv=lambda: nn.Conv2d(1, 4, 3, padding=1), fc=lambda: nn.Linear(256, 10)):
    def forward(self, x):
        x = self.conv(x)
        x = x.flatten()
        return self.fc(x)  # ✗


class Bidirectional(
    Built, lstm=lambda: nn.LSTM(8, 16, batch_first=True, bidirectional=True), fc=lambda: nn.Linear(16, 2)
):
    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])  # ✗


class WeightTransposed(Built, weight=lambda: nn.Parameter(torch.zeros(20, 5))):
    def forward(self, x):
        return F.linear(x, self.weight)  # ✗


class ConcatenatedFeatures(
    Built, left=lambda: nn.Linear(6, 8), right=lambda: nn.Linear(6, 4), fc=lambda: nn.Linear(8, 2)
):
    def forward(self, x):
        both = torch.cat([self.left(x), self.right(x)], dim=-1)
        return self.fc(both)  # ✗


class InputFeatures(Built, fc=lambda: nn.Linear(20, 5)):
    def forward(self, x):
        return self.fc(x)  # ✗


def sequential_linear() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Linear(256, 10))


# -- convolution ------------------------------------------------------------------------------------------------------


class ConvChannels(
    Built,
    conv1=lambda: nn.Conv2d(3, 16, 3, padding=1),
    conv2=lambda: nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
):
    def forward(self, x):
        x = self.conv1(x)
        return self.conv2(x)  # ✗


class OneConv2d(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3)

    def forward(self, x):
        return self.conv(x)  # ✗


class FramesByFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight)  # ✗


class OneConv1d(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 8, 3)

    def forward(self, x):
        return self.conv(x)  # ✗


class Video(Built, conv=lambda: nn.Conv2d(3, 8, 3)):
    def forward(self, clip):
        return self.conv(clip)  # ✗


class ConcatenatedSkip(
    Built,
    a=lambda: nn.Conv2d(3, 8, 3, padding=1),
    b=lambda: nn.Conv2d(8, 8, 3, padding=1),
    c=lambda: nn.Conv2d(8, 4, 1),
):
    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        return self.c(torch.cat([a, b], 1))  # ✗


class ConvTransposed(
    Built, down=lambda: nn.Conv2d(1, 8, 3, stride=2, padding=1), up=lambda: nn.ConvTranspose2d(16, 4, 2, stride=2)
):
    def forward(self, x):
        return self.up(self.down(x))  # ✗


class TooSmallForKernel(Built, conv1=lambda: nn.Conv2d(1, 4, 5), conv2=lambda: nn.Conv2d(4, 4, 7)):
    def forward(self, x):
        x = self.conv1(x)
        return self.conv2(x)  # ✗


class Depthwise(Built, point=lambda: nn.Conv2d(3, 12, 1), depth=lambda: nn.Conv2d(8, 8, 3, groups=8, padding=1)):
    def forward(self, x):
        return self.depth(self.point(x))  # ✗


class FunctionalConv(Built, weight=lambda: nn.Parameter(torch.zeros(8, 3, 3, 3))):
    def forward(self, x):
        return F.conv2d(x, self.weight, padding=1)  # ✗


# -- pools ------------------------------------------------------------------------------------------------------------


class TooManyPools(
    Built,
    stages=lambda: nn.Sequential(*[nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)) for _ in range(5)]),
):
    def forward(self, x):
        return self.stages(x)  # ✗


class ReflectionTooSmall(Built, pool=lambda: nn.AvgPool2d(4)):
    def forward(self, x):
        x = self.pool(x)
        return F.pad(x, (3, 3, 3, 3), mode="reflect")  # ✗


# -- skips ------------------------------------------------------------------------------------------------------------


class UNetCat(
    Built,
    enc1=lambda: nn.Conv2d(1, 4, 3, padding=1),
    pool1=lambda: nn.MaxPool2d(2),
    enc2=lambda: nn.Conv2d(4, 8, 3, padding=1),
    pool2=lambda: nn.MaxPool2d(2),
    mid=lambda: nn.Conv2d(8, 8, 3, padding=1),
    up2=lambda: nn.ConvTranspose2d(8, 8, 2, stride=2),
    dec2=lambda: nn.Conv2d(16, 8, 3, padding=1),
    up1=lambda: nn.ConvTranspose2d(8, 4, 2, stride=2),
    dec1=lambda: nn.Conv2d(8, 1, 3, padding=1),
):
    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(self.pool1(a))
        m = self.mid(self.pool2(b))
        u = self.up2(m)
        d = self.dec2(torch.cat([u, b], dim=1))  # ✗
        return self.dec1(torch.cat([self.up1(d), a], dim=1))


class UNetAdd(
    Built,
    enc=lambda: nn.Conv2d(1, 4, 3, padding=1),
    down=lambda: nn.Conv2d(4, 4, 3, stride=2, padding=1),
    up=lambda: nn.Upsample(scale_factor=2),
):
    def forward(self, x):
        skip = self.enc(x)
        y = self.up(self.down(skip))
        return y + skip  # ✗


class ResidualAcrossStride(
    Built, conv1=lambda: nn.Conv2d(8, 16, 3, stride=2, padding=1), conv2=lambda: nn.Conv2d(16, 16, 3, padding=1)
):
    def forward(self, x):
        y = self.conv2(self.conv1(x).relu())
        return y + x  # ✗


class ResidualChannels(Built, body=lambda: nn.Conv2d(8, 24, 3, padding=1)):
    def forward(self, x):
        out = self.body(x)
        out += x  # ✗
        return out


class ResidualFeatures(Built, mlp=lambda: nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 32))):
    def forward(self, x):
        return x + self.mlp(x)  # ✗


class CatAlongTheWrongAxis(Built, a=lambda: nn.Linear(6, 8), b=lambda: nn.Linear(6, 4)):
    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)])  # ✗


class CatOfRanks(Built, token=lambda: nn.Parameter(torch.zeros(1, 8))):
    def forward(self, x):
        first = self.token.expand(x.size(0), 8)
        return torch.cat([first, x], dim=1)  # ✗


class GateWithoutAxes(Built, fc=lambda: nn.Linear(8, 8)):
    def forward(self, x):
        gate = self.fc(x.mean((2, 3))).sigmoid()
        return x * gate  # ✗


class StepWithoutAxis(Built, fc=lambda: nn.Linear(8, 8)):
    def forward(self, x, step):
        return x + self.fc(step)  # ✗


class PositionParameter(Built, embed=lambda: nn.Linear(4, 8), pos=lambda: nn.Parameter(torch.zeros(1, 32, 8))):
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


class PositionEmbedding(Built, embed=lambda: nn.Embedding(100, 8), pos=lambda: nn.Embedding(32, 8)):
    def forward(self, ids):
        where = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        return self.embed(ids) + self.pos(where)  # ✗


# -- products ---------------------------------------------------------------------------------------------------------


class AttentionWithoutTranspose(Built, q=lambda: nn.Linear(8, 8), k=lambda: nn.Linear(8, 8)):
    def forward(self, x):
        q, k = self.q(x), self.k(x)
        return (q @ k).softmax(-1)  # ✗


class MatmulFunction(Built, weight=lambda: nn.Parameter(torch.zeros(5, 12))):
    def forward(self, x):
        return torch.matmul(x, self.weight)  # ✗


class BmmOfFour(nn.Module):
    def forward(self, x):
        return torch.bmm(x, x.transpose(-2, -1))  # ✗


class LeftTransposed(Built, mix=lambda: nn.Parameter(torch.zeros(7, 3))):
    def forward(self, x):
        return self.mix @ x  # ✗


# -- views ------------------------------------------------------------------------------------------------------------


class ViewThatCannotDivide(
    Built, conv1=lambda: nn.Conv2d(1, 6, 5), conv2=lambda: nn.Conv2d(6, 16, 5), fc=lambda: nn.Linear(400, 10)
):
    def forward(self, x):
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        x = x.view(-1, 400)  # ✗
        return self.fc(x)


class ViewWithBatch(Built, conv=lambda: nn.Conv2d(1, 4, 3, padding=1)):
    def forward(self, x):
        x = self.conv(x)
        return x.view(32, -1, 49)  # ✗


class HeadsThatDontDivide(Built, heads=lambda: 6, q=lambda: nn.Linear(64, 64)):
    def forward(self, x):
        b, t, d = x.shape
        q = self.q(x)
        return q.view(b, t, self.heads, d // self.heads)  # ✗


class ViewAfterTranspose(nn.Module):
    def forward(self, x):
        b, t, d = x.shape
        x = x.transpose(1, 2)
        return x.view(b, t * d)  # ✗


class PermuteOfFour(Built, fc=lambda: nn.Linear(3, 3)):
    def forward(self, x):
        return self.fc(x.permute(0, 2, 3, 1))  # ✗


class ShuffledChannels(Built, conv=lambda: nn.Conv2d(3, 10, 3, padding=1), shuffle=lambda: nn.PixelShuffle(2)):
    def forward(self, x):
        return self.shuffle(self.conv(x))  # ✗


class SplitUneven(Built, fc=lambda: nn.Linear(8, 8)):
    def forward(self, x):
        a, b = x.split([4, 6], dim=-1)  # ✗
        return self.fc(torch.cat([a, b], dim=-1)[..., :8])


# -- norms ------------------------------------------------------------------------------------------------------------


class BatchNormChannels(Built, conv=lambda: nn.Conv2d(3, 16, 3), bn=lambda: nn.BatchNorm2d(32)):
    def forward(self, x):
        return self.bn(self.conv(x))  # ✗


class BatchNormOnSequence(Built, fc=lambda: nn.Linear(6, 12), bn=lambda: nn.BatchNorm1d(12)):
    def forward(self, x):
        return self.bn(self.fc(x))  # ✗


class BatchNormWithoutBatch(Built, conv=lambda: nn.Conv2d(3, 8, 3), bn=lambda: nn.BatchNorm2d(8)):
    def forward(self, x):
        return self.bn(self.conv(x))  # ✗


class BatchOfOne(Built, fc=lambda: nn.Linear(6, 4), bn=lambda: nn.BatchNorm1d(4)):
    def forward(self, x):
        return self.bn(self.fc(x))  # ✗


class LayerNormFeatures(Built, fc=lambda: nn.Linear(6, 12), norm=lambda: nn.LayerNorm(16)):
    def forward(self, x):
        return self.norm(self.fc(x))  # ✗


class LayerNormOnMap(Built, conv=lambda: nn.Conv2d(3, 12, 3), norm=lambda: nn.LayerNorm(12)):
    def forward(self, x):
        return self.norm(self.conv(x))  # ✗


class GroupsThatDontDivide(Built, conv=lambda: nn.Conv2d(3, 20, 3), norm=lambda: nn.GroupNorm(8, 32)):
    def forward(self, x):
        return self.norm(self.conv(x))  # ✗


# -- recurrent --------------------------------------------------------------------------------------------------------


class RecurrentFeatures(
    Built, embed=lambda: nn.Embedding(50, 12), lstm=lambda: nn.LSTM(16, 20, num_layers=2, batch_first=True)
):
    def forward(self, ids):
        return self.lstm(self.embed(ids))[0]  # ✗


class RecurrentChannelsFirst(Built, conv=lambda: nn.Conv1d(3, 12, 3), gru=lambda: nn.GRU(12, 20, batch_first=True)):
    def forward(self, x):
        h = self.conv(x)
        return self.gru(h)[0]  # ✗


class HiddenSize(Built, gru=lambda: nn.GRU(8, 16, num_layers=2, batch_first=True)):
    def forward(self, x):
        h = torch.zeros(1, x.size(0), 16)
        return self.gru(x, h)[0]  # ✗


class CellState(Built, lstm=lambda: nn.LSTM(8, 16)):
    def forward(self, x):
        h = torch.zeros(1, x.size(1), 16)
        c = torch.zeros(1, x.size(1), 8)
        return self.lstm(x, (h, c))[0]  # ✗


class CellHidden(Built, cell=lambda: nn.GRUCell(8, 16)):
    def forward(self, x, h):
        return self.cell(x, h)  # ✗


class TupleIntoLinear(Built, gru=lambda: nn.GRU(8, 16, batch_first=True), fc=lambda: nn.Linear(16, 2)):
    def forward(self, x):
        h = self.gru(x)
        return self.fc(h)  # ✗


def tuple_in_sequential() -> nn.Module:
    return nn.Sequential(nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 2))


class TupleAttribute(Built, rnn=lambda: nn.RNN(8, 16, batch_first=True)):
    def forward(self, x):
        h = self.rnn(x)
        return h.mean(1)  # ✗


class StateOfGru(Built, gru=lambda: nn.GRU(8, 16, batch_first=True)):
    def forward(self, x):
        out, (h, c) = self.gru(x)  # ✗  # noqa: RUF059  # what is not there is the point
        return h


# -- attention --------------------------------------------------------------------------------------------------------


class TupleFromAttention(
    Built, attn=lambda: nn.MultiheadAttention(16, 4, batch_first=True), norm=lambda: nn.LayerNorm(16)
):
    def forward(self, x):
        return self.norm(x + self.attn(x, x, x))  # ✗


class TupleIntoNorm(Built, attn=lambda: nn.MultiheadAttention(16, 4, batch_first=True), norm=lambda: nn.LayerNorm(16)):
    def forward(self, x):
        y = self.attn(x, x, x)
        return self.norm(y)  # ✗


class AttentionFeatures(
    Built, fc=lambda: nn.Linear(8, 24), attn=lambda: nn.MultiheadAttention(16, 4, batch_first=True)
):
    def forward(self, x):
        x = self.fc(x)
        return self.attn(x, x, x)[0]  # ✗


class AttentionBatchFirst(Built, attn=lambda: nn.MultiheadAttention(16, 4)):
    def forward(self, x, memory):
        return self.attn(x, memory, memory)[0]  # ✗


class MaskSize(Built, attn=lambda: nn.MultiheadAttention(16, 4, batch_first=True)):
    def forward(self, x):
        mask = torch.ones(10, 10, dtype=torch.bool).triu(1)
        return self.attn(x, x, x, attn_mask=mask)[0]  # ✗


class PaddingMaskSize(Built, attn=lambda: nn.MultiheadAttention(16, 4, batch_first=True)):
    def forward(self, x, mask):
        return self.attn(x, x, x, key_padding_mask=mask)[0]  # ✗


class HalfAttention(Built, attn=lambda: nn.MultiheadAttention(16, 4, batch_first=True)):
    def forward(self, x):
        x = x.half()
        return self.attn(x, x, x)[0]  # ✗


class WholeMask(Built, attn=lambda: nn.MultiheadAttention(16, 4, batch_first=True)):
    def forward(self, x, mask):
        return self.attn(x, x, x, key_padding_mask=mask)[0]  # ✗


class DepthOfSource(Built, body=lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True)):
    def forward(self, source, target):
        return self.body(source, target)  # ✗


class ProductMask(Built, qkv=lambda: nn.Linear(16, 48)):
    def forward(self, x):
        q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        mask = torch.zeros(9, 9)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # ✗


# -- dtypes and devices -----------------------------------------------------------------------------------------------


class EmbeddingOfFloats(Built, embed=lambda: nn.Embedding(10, 4)):
    def forward(self, x):
        x = x / 2
        return self.embed(x)  # ✗


class DoubleInside(Built, fc=lambda: nn.Linear(4, 4)):
    def forward(self, x):
        x = x.double()
        return self.fc(x)  # ✗


class HalfConv(Built, conv=lambda: nn.Conv2d(1, 4, 3)):
    def forward(self, x):
        x = x.half()
        return self.conv(x)  # ✗


class IntoLinear(Built, fc=lambda: nn.Linear(4, 4)):
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


class OtherDevice(Built, fc=lambda: nn.Linear(4, 4, device="meta")):
    def forward(self, x):
        h = self.fc(x)
        return h + torch.zeros(4, device="cpu")  # ✗


# -- arguments --------------------------------------------------------------------------------------------------------


class Block(Built, fc=lambda: nn.Linear(4, 4)):
    def forward(self, x, skip):
        return self.fc(x) + skip


class Missing(Built, block=lambda: Block()):
    def forward(self, x):
        skip = x
        return self.block(x) + skip  # ✗


class Surplus(Built, body=lambda: nn.Sequential(nn.Linear(4, 4))):
    def forward(self, x):
        skip = x
        return self.body(x, skip)  # ✗


class StrangeKeyword(Built, block=lambda: Block()):
    def forward(self, x):
        return self.block(x, x, mask=None)  # ✗


class ListCalled(Built, layers=lambda: nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])):
    def forward(self, x):
        x = self.layers(x)  # ✗
        return x


class Features(Built, fc=lambda: nn.Linear(4, 4)):
    def forward(self, x):
        return {"map": self.fc(x), "raw": x}


class DictIntoLinear(Built, features=lambda: Features(), head=lambda: nn.Linear(4, 2)):
    def forward(self, x):
        f = self.features(x)
        return self.head(f)  # ✗


class UnpackedShape(Built, conv=lambda: nn.Conv2d(3, 4, 3)):
    def forward(self, x):
        b, c, h, w = x.shape  # ✗  # noqa: RUF059  # what is not there is the point
        return self.conv(x)


class Misspelt(Built, encoder=lambda: nn.Linear(4, 4)):
    def forward(self, x):
        return self.encodr(x)  # ✗


class OwnWords(Built, conv=lambda: nn.Conv2d(3, 4, 4, stride=4)):
    def forward(self, x):
        if x.shape[-1] % 16:
            raise ValueError(f"width {x.shape[-1]} is no multiple of 16")  # ✗
        return self.conv(x)


class ImageSize(Built, image_size=lambda: 48, conv=lambda: nn.Conv2d(3, 4, 16, stride=16)):
    def forward(self, x):
        assert x.shape[2:] == (self.image_size, self.image_size), "wrong image size"  # ✗
        return self.conv(x)


class Sliced(Built, fc=lambda: nn.Linear(4, 4)):
    def forward(self, x):
        x = self.fc(x)
        return x[:, 7]  # ✗


class SoftmaxAxis(nn.Module):
    def forward(self, x):
        return x.softmax(dim=2)  # ✗


class Expanded(Built, query=lambda: nn.Parameter(torch.zeros(1, 6, 8))):
    def forward(self, x):
        query = self.query.expand(x.size(0), x.size(1), 8)  # ✗
        return query + x


class Nothing(Built, fc=lambda: nn.Linear(4, 4)):
    def forward(self, x):
        x = self.fc(x)


class NoReturn(Built, body=lambda: Nothing(), head=lambda: nn.Linear(4, 2)):
    def forward(self, x):
        x = self.body(x)
        return self.head(x)  # ✗


class Shared(Built, fc=lambda: nn.Linear(8, 6)):
    def forward(self, x):
        x = self.fc(x)
        return self.fc(x)  # ✗


def _helper(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight  # ✗


class InHelper(Built, weight=lambda: nn.Parameter(torch.zeros(3, 5))):
    def forward(self, x):
        return _helper(x, self.weight)


class Deep(
    Built,
    stem=lambda: nn.Conv2d(3, 8, 3, padding=1),
    stages=lambda: nn.ModuleList([nn.ModuleDict({"block": ConvChannels()})]),
):
    def forward(self, x):
        x = self.stem(x)[:, :3]
        for stage in self.stages:
            x = stage["block"](x)
        return x


def one_channel_2d() -> nn.Module:
    return OneConv2d(1)


def one_channel_1d() -> nn.Module:
    return OneConv1d(1)
