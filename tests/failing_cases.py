"""What each of the failing models is given, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests import failing_models as m

__all__ = ["CASES", "Failing"]


@dataclass(frozen=True, slots=True)
class Failing:
    """A model that fails, and what is to be said of it.

    Attributes:
        make: The class, or a function that makes the model.
        inputs: Sizes, or tensors where a size would not do.
        path: Of the module it fails in.
        reason: A part of the reason.
        fix: A part of the fix; ``""`` where only sizes can be offered.
        sizes: The first size that is offered; ``""`` for none.
        line: Class or function whose line is marked, where it is not ``make``.
        name: Where one model stands here more than once.
    """

    make: Callable[[], nn.Module]
    inputs: tuple[Any, ...]
    path: str
    reason: str
    fix: str = ""
    sizes: str = ""
    line: Any = None
    name: str = ""

    @property
    def id(self) -> str:
        return self.name or self.make.__name__


CASES = [
    Failing(
        m.LinearAfterFlatten, ((2, 1, 40, 40),), "fc",
        "input has 16 × 7 × 7 = 784 features, 'fc' expects 400 = 16 × 5 × 5; needs 32 ≤ H, W ≤ 35, you gave 40",
        "fc = nn.Linear(784, 10)", "(2, 1, 32, 32)",
    ),
    Failing(m.LinearWithoutFlatten, ((2, 3, 7, 7),), "fc", "8 × 7 × 7 = 392: the feature map was not flattened",
            "self.fc(x.flatten(1))"),
    Failing(m.LinearChain, ((2, 20),), "fc2", "'fc1' (Linear) outputs 50 features, 'fc2' expects 64",
            "fc2 = nn.Linear(50, 10, bias=False)"),
    Failing(m.LinearOnChannelsFirst, ((2, 4, 30),), "fc", "dim 1 has the 12 features", "h.transpose(1, 2)"),
    Failing(m.LinearOnChannelsFirstMap, ((2, 3, 9, 9),), "fc", "dim 1 has the 12 features",
            "self.conv(x).mean((2, 3))"),
    Failing(m.FlattenedBatch, ((2, 1, 8, 8),), "fc", "2 × 4 × 8 × 8 = 512, of which 256 are one sample's",
            "x = x.flatten(1)"),
    Failing(m.Bidirectional, ((2, 5, 8),), "fc", "'lstm' is bidirectional: it outputs 2 × 16 = 32",
            "fc = nn.Linear(32, 2)"),
    Failing(m.WeightTransposed, ((2, 20),), "", "is transposed: a Linear's weight is [out, in]",
            "self.weight.t()", "(2, 5)"),
    Failing(m.ConcatenatedFeatures, ((2, 6),), "fc", "cat outputs 8 + 4 = 12 features",
            "fc = nn.Linear(12, 2)"),
    Failing(m.InputFeatures, ((2, 16),), "fc", "the model's input has 16 features, 'fc' expects 20",
            "fc = nn.Linear(16, 5)", "(2, 20)"),
    Failing(m.sequential_linear, ((2, 1, 8, 8),), "2", "4 × 8 × 8 = 256: the feature map was not flattened",
            "model.insert(2, nn.Flatten())"),
    Failing(m.ConvChannels, ((2, 3, 8, 8),), "conv2", "'conv1' (Conv2d) outputs 16 channels, 'conv2' expects 32",
            "conv2 = nn.Conv2d(16, 64, 3, stride=2, padding=1, bias=False)"),
    Failing(m.OneConv2d, ((1, 1, 9, 9),), "conv", "the model's input has 1 channel, 'conv' expects 3",
            "conv = nn.Conv2d(1, 8, 3)", "(1, 3, 9, 9)", name="gray_image"),
    Failing(m.OneConv2d, ((1, 9, 9, 3),), "conv", "[1, 9, 9, 3] is channels-last", "x.permute(0, 3, 1, 2)",
            "(1, 3, 9, 9)", name="channels_last_image"),
    Failing(m.OneConv2d, ((9, 9),), "conv", "[9, 9] has 2 dims", "", "(1, 3, 9, 9)", name="bare_image"),
    Failing(m.one_channel_2d, ((4, 9, 9),), "conv", "so dim 0 was read as the channels", "x.unsqueeze(1)",
            "(4, 1, 9, 9)", m.OneConv2d),
    Failing(m.OneConv1d, ((2, 30, 4),), "conv", "[2, 30, 4] is channels-last", "x.transpose(1, 2)", "(2, 4, 30)"),
    Failing(m.one_channel_1d, ((2, 30),), "conv", "so dim 0 was read as the channels", "x.unsqueeze(1)",
            "(2, 1, 30)", m.OneConv1d),
    Failing(m.Video, ((2, 5, 3, 9, 9),), "conv", "flatten the first two into one batch", "clip.flatten(0, 1)",
            "(5, 3, 9, 9)"),
    Failing(m.FramesByFunction, ((2, 5, 3, 9, 9),), "", "flatten the first two into one batch",
            "F.conv2d(x.flatten(0, 1), self.weight).unflatten(0, x.shape[:2])", "(5, 3, 9, 9)"),
    Failing(m.ConcatenatedSkip, ((2, 3, 8, 8),), "c", "cat outputs 8 + 8 = 16 channels, 'c' expects 8",
            "c = nn.Conv2d(16, 4, 1)"),
    Failing(m.ConvTransposed, ((2, 1, 8, 8),), "up", "'down' (Conv2d) outputs 8 channels, 'up' expects 16",
            "up = nn.ConvTranspose2d(8, 4, 2, stride=2)"),
    Failing(m.TooSmallForKernel, ((1, 1, 9, 9),), "conv2", "dim 2 is 5, the window is 7 wide",
            "self.conv2 = nn.Conv2d(4, 4, 5)", "(1, 1, 16, 16)"),
    Failing(m.Depthwise, ((1, 3, 8, 8),), "depth", "'point' (Conv2d) outputs 12 channels, 'depth' expects 8",
            "depth = nn.Conv2d(12, 12, 3, padding=1, groups=12)"),
    Failing(m.FunctionalConv, ((1, 1, 8, 8),), "", "the model's input has 1 channel",
            "self.weight = nn.Parameter(torch.zeros(8, 1, 3, 3))", "(1, 3, 8, 8)"),
    Failing(m.TooManyPools, ((1, 1, 28, 28),), "stages.4.1", "dim 2 is 1 after 4 layers that shrink it",
            "stages[4][1] = nn.Identity()", "(1, 1, 32, 32)"),
    Failing(m.ReflectionTooSmall, ((1, 1, 12, 12),), "", "the padding mirrors 3 of it", "", "(1, 1, 16, 16)"),
    Failing(m.UNetCat, ((1, 1, 50, 50),), "", "'pool2' (MaxPool2d) reduced 25 to 12, and 25 / 2 is 12.5",
            "F.interpolate(u, size=b.shape[2:])", "(1, 1, 48, 48)"),
    Failing(m.UNetAdd, ((1, 1, 25, 24),), "", "'down' (Conv2d) reduced 25 to 13, and 25 / 2 is 12.5",
            "F.interpolate(y, size=skip.shape[2:])", "(1, 1, 24, 24)"),
    Failing(m.ResidualAcrossStride, ((1, 8, 16, 16),), "", "stride 2 in between: 16 against 8",
            "shortcut = nn.Conv2d(8, 16, 1, stride=2)"),
    Failing(m.ResidualChannels, ((1, 8, 9, 9),), "", "8 channels against 24", "shortcut = nn.Conv2d(8, 24, 1)"),
    Failing(m.ResidualFeatures, ((2, 5, 16),), "",
            "the skip connection has 16 features, the layers it bypasses output 32",
            "shortcut = nn.Linear(16, 32)"),
    Failing(m.CatAlongTheWrongAxis, ((3, 6),), "", "8 against 4 in dim 1, but cat concatenates along dim 0", "dim=1"),
    Failing(m.CatOfRanks, ((3, 5, 8),), "", "[3, 8] has 2 dims, [3, 5, 8] has 3", "first.unsqueeze(1)"),
    Failing(m.GateWithoutAxes, ((2, 8, 5, 7),), "", "[2, 8] is aligned with the last dims", "gate[:, :, None, None]"),
    Failing(m.StepWithoutAxis, ((4, 5, 8), (4, 8)), "", "[4, 8] is aligned with the last dims",
            "self.fc(step).unsqueeze(1)"),
    Failing(m.PositionParameter, ((2, 40, 4),), "", "input has 40 positions, 'pos' has 32",
            "pos = nn.Parameter(torch.zeros(1, 40, 8))", "(2, 32, 4)"),
    Failing(m.PositionBuffer, ((2, 40),), "", "input has 40 positions, 'table' has 32; needs T ≤ 32, you gave 40",
            "table = torch.zeros(1, 40, 8)", "(2, 32)"),
    Failing(m.PositionEmbedding, ((2, 40),), "pos", "input has 40 positions, 'pos' has 32", "pos = nn.Embedding(40, 8)",
            "(2, 32)"),
    Failing(m.AttentionWithoutTranspose, ((2, 5, 8),), "", "transposed, the second has 8 there",
            "q @ k.transpose(-2, -1)"),
    Failing(m.MatmulFunction, ((2, 12),), "", "[2 × 12] @ [5 × 12]", "torch.matmul(x, self.weight.t())"),
    Failing(m.BmmOfFour, ((2, 3, 4, 5),), "", "bmm expects two 3-d tensors, got",
            "torch.matmul(x, x.transpose(-2, -1))"),
    Failing(m.LeftTransposed, ((2, 7, 5),), "", "transposed, the first has 7 there", "self.mix.transpose(-2, -1) @ x"),
    Failing(
        m.ViewThatCannotDivide, ((1, 1, 40, 40),), "",
        "1 × 16 × 7 × 7 = 784 is not divisible by 400 = 16 × 5 × 5; needs 32 ≤ H, W ≤ 35, you gave 40",
        "x = x.flatten(1)\nself.fc = nn.Linear(784, 10)", "(1, 1, 32, 32)",
    ),
    Failing(m.ViewWithBatch, ((20, 1, 7, 7),), "", "the target shape has a batch of 32, the input has 20",
            "x.view(x.size(0), -1, 49)", "(32, 1, 7, 7)"),
    Failing(m.HeadsThatDontDivide, ((2, 5, 64),), "", "64 features are not divisible into 6 heads of 10: 6 × 10 = 60",
            "self.heads = 4"),
    Failing(m.ViewAfterTranspose, ((2, 5, 8),), "", "view never copies, reshape does", "x.reshape(b, t * d)"),
    Failing(m.PermuteOfFour, ((3, 9, 9),), "", "permute has 4 dims, [3, 9, 9] has 3", "", "(1, 3, 9, 9)"),
    Failing(m.ShuffledChannels, ((1, 3, 8, 8),), "shuffle", "10 channels are not divisible by 2 × 2 = 4",
            "conv = nn.Conv2d(3, 12, 3, padding=1)"),
    Failing(m.SplitUneven, ((2, 8),), "", "4 + 6 = 10, and dim 1 has 8", "", "(2, 10)"),
    Failing(m.BatchNormChannels, ((2, 3, 8, 8),), "bn", "'conv' (Conv2d) outputs 16 channels, 'bn' expects 32",
            "bn = nn.BatchNorm2d(16)"),
    Failing(m.BatchNormOnSequence, ((2, 5, 6),), "bn", "the last dim has the 12 features",
            "self.bn(self.fc(x).transpose(1, 2)).transpose(1, 2)"),
    Failing(m.BatchNormWithoutBatch, ((3, 9, 9),), "bn", "the batch dim is missing",
            "model(x.unsqueeze(0))", "(1, 3, 9, 9)"),
    Failing(m.BatchOfOne, ((1, 6),), "bn", "in train mode the variance is over batch and positions",
            "model.eval()", "(2, 6)"),
    Failing(m.LayerNormFeatures, ((2, 6),), "norm", "'fc' (Linear) outputs 12 features, 'norm' expects 16",
            "norm = nn.LayerNorm(12)"),
    Failing(m.LayerNormOnMap, ((2, 3, 9, 9),), "norm", "dim 1 has the 12 features",
            "self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)"),
    Failing(m.GroupsThatDontDivide, ((1, 3, 9, 9),), "norm", "20 channels are not divisible into 8 groups",
            "norm = nn.GroupNorm(5, 20)"),
    Failing(m.RecurrentFeatures, ((2, 7),), "lstm",
            "'embed' (Embedding) outputs 12 features per step, 'lstm' expects 16",
            "lstm = nn.LSTM(12, 20, num_layers=2, batch_first=True)"),
    Failing(m.RecurrentChannelsFirst, ((2, 3, 30),), "gru", "dim 1 has the 12 features", "h.transpose(1, 2)"),
    Failing(m.HiddenSize, ((4, 5, 8),), "gru", "the hidden state is [1, 4, 16], this input needs [2, 4, 16]",
            "h = torch.zeros(2, x.size(0), 16)"),
    Failing(m.CellState, ((5, 4, 8),), "lstm", "the cell state is [1, 4, 8]", "c = torch.zeros(1, x.size(1), 16)"),
    Failing(m.CellHidden, ((4, 8), (3, 16)), "cell", "different batches: x 4, h 3", "", "(4, 8) (4, 16)"),
    Failing(m.TupleIntoLinear, ((2, 5, 8),), "fc", "'gru' (GRU) returns (output, state)", "self.fc(h[0])"),
    Failing(m.tuple_in_sequential, ((2, 5, 8),), "1", "'0' (LSTM) returns (output, state)", "x[0] before '1'"),
    Failing(m.TupleAttribute, ((2, 5, 8),), "", "'rnn' (RNN) returns (output, state)", "h[0].mean(1)"),
    Failing(m.StateOfGru, ((2, 5, 8),), "", "'gru' (GRU) returns one state", "out, h = self.gru(x)"),
    Failing(m.TupleFromAttention, ((2, 5, 16),), "", "'attn' (MultiheadAttention) returns (output, weights)",
            "x + self.attn(x, x, x)[0]"),
    Failing(m.TupleIntoNorm, ((2, 5, 16),), "norm", "'attn' (MultiheadAttention) returns (output, weights)",
            "self.norm(y[0])"),
    Failing(m.AttentionFeatures, ((2, 5, 8),), "attn", "the query has 24 features, 'attn' expects 16",
            "attn = nn.MultiheadAttention(24, 4, batch_first=True)"),
    Failing(m.AttentionBatchFirst, ((2, 5, 16), (2, 7, 16)), "attn", "batch_first=False reads dim 1 as the batch",
            "attn = nn.MultiheadAttention(16, 4, batch_first=True)"),
    Failing(m.MaskSize, ((2, 12, 16),), "attn", "attn_mask is [10, 10]: 12 queries attend to 12 keys",
            "mask = torch.ones(x.size(1), x.size(1), dtype=torch.bool).triu(1)"),
    Failing(m.PaddingMaskSize, ((2, 5, 16), "(2, 6):bool"), "attn",
            "key_padding_mask is [2, 6]: 2 samples of 5 keys", "", "(2, 5, 16) (2, 5):bool"),
    Failing(m.HalfAttention, ((2, 5, 16),), "attn", "got float16, 'attn' has float32 weights",
            "self.attn(x.float(), x.float(), x.float())[0]"),
    Failing(m.WholeMask, ((2, 5, 16), "(2, 5):int64"), "attn", "key_padding_mask is int64: a mask must be bool",
            "key_padding_mask=mask.bool()", "(2, 5, 16) (2, 5):bool"),
    Failing(m.DepthOfSource, ((2, 5, 8), (3, 5, 8)), "body",
            "batch_first=True reads dim 0 as the batch: the source has 2 there, the target 3", "",
            "(2, 5, 8) (2, 5, 8)"),
    Failing(m.ProductMask, ((2, 5, 16),), "", "attn_mask is [9, 9]: 5 queries attend to 5 keys",
            "mask = torch.zeros(5, 5)"),
    Failing(m.EmbeddingOfFloats, ((2, 5),), "embed", "embedding indices must be integers, got float32",
            "self.embed(x.long())"),
    Failing(m.DoubleInside, ((2, 4),), "fc", "got float64, 'fc' has float32 weights: .double() at", "x.float()"),
    Failing(m.HalfConv, ((1, 1, 9, 9),), "conv", "got float16, 'conv' has float32 weights: .half() at", "x.float()"),
    Failing(m.IntoLinear, (torch.zeros(2, 4, dtype=torch.uint8),), "fc", "got uint8, 'fc' has float32 weights",
            "model(x.float())", "(2, 4):float32", name="bytes_into_linear"),
    Failing(m.IntoLinear, (torch.zeros(2, 4, dtype=torch.float64),), "fc", "got float64, 'fc' has float32 weights",
            "x.float()", "(2, 4):float32", name="doubles_into_linear"),
    Failing(m.SoftmaxOfInts, ((2, 4),), "", "softmax needs floating point, got int64", "counts.float().softmax(-1)"),
    Failing(m.MaskMinus, ((2, 4),), "", "~mask inverts a mask", "return ~mask"),
    Failing(m.ScaledInPlace, ((2, 4),), "", "is written into int64", "n = n * 0.5"),
    Failing(m.MatmulMix, ((2, 4),), "", "got float32, the model has float64 weights",
            "x.double() @ self.basis", "(2, 4):float64"),
    Failing(m.OtherDevice, (torch.zeros(2, 4, device="meta"),), "", "zeros() at failing_models.py",
            "torch.zeros(4, device=h.device)"),
    Failing(m.Missing, ((2, 4),), "block", "Block.forward needs 'skip', which was not given", "self.block(x, skip)"),
    Failing(m.Surplus, ((2, 4),), "body", "Sequential.forward takes 1 argument, 2 were given", "self.body(x)"),
    Failing(m.StrangeKeyword, ((2, 4),), "block", "Block.forward has no argument 'mask'", "self.block(x, x)"),
    Failing(m.ListCalled, ((2, 4),), "layers", "a ModuleList holds layers and does not run them",
            "for layer in self.layers: x = layer(x)"),
    Failing(m.DictIntoLinear, ((2, 4),), "head", "'features' (Features) returns a dict of 2", "self.head(f['map'])"),
    Failing(m.UnpackedShape, ((3, 9, 9),), "", "the line unpacks 4: b, c, h, w", "model(x.unsqueeze(0))",
            "(1, 3, 9, 9)"),
    Failing(m.Misspelt, ((2, 4),), "", "the model has no 'encodr'; it has 'encoder'", "self.encoder(x)"),
    Failing(m.OwnWords, ((1, 3, 40, 40),), "", "width 40 is no multiple of 16", "", "(1, 3, 32, 32)"),
    Failing(m.ImageSize, ((1, 3, 40, 40),), "", "wrong image size", "", "(1, 3, 48, 48)"),
    Failing(m.Sliced, ((2, 5, 4),), "", "index 7 in dim 1 of [2, 5, 4]: the last one is 4", "", "(2, 8, 4)"),
    Failing(m.SoftmaxAxis, ((2, 4),), "", "dim=2, and [2, 4] has 2 dims: -2 … 1", "x.softmax(dim=-1)", "(1, 2, 4)"),
    Failing(m.Expanded, ((2, 5, 8),), "", "expand changes dims of size 1 only: dim 1 is 6, the target is 5",
            "query = nn.Parameter(torch.zeros(1, 5, 8))", "(2, 6, 8)"),
    Failing(m.NoReturn, ((2, 4),), "head", "'body' (Nothing) returned None: its forward has no return",
            "return x at the end of Nothing.forward"),
    Failing(m.Shared, ((2, 8),), "fc", "'fc' (Linear) outputs 6 features, 'fc' expects 8; its 1st call got [2, 8]"),
    Failing(m.InHelper, ((2, 5),), "", "[2 × 5] @ [3 × 5]", "return x @ weight.t()", "", m._helper),
    Failing(m.Deep, ((2, 3, 8, 8),), "stages.0.block.conv2", "'stages.0.block.conv1' (Conv2d) outputs 16 channels",
            "stages[0].block.conv2 = nn.Conv2d(16, 64, 3, stride=2, padding=1, bias=False)", "", m.ConvChannels),
]  # fmt: skip
