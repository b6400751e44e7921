"""Losses, masks, patterns, states and tokens that do not fit, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import nn
from transformers import DistilBertConfig, DistilBertModel, T5Config, T5ForConditionalGeneration

from tests.diagnosis.twins import Twin, ints, register_in

__all__ = ["OF_LOSSES"]

OF_LOSSES: list[Twin] = []
twin = register_in(OF_LOSSES)


class StepsFirstMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1, enable_nested_tensor=False)

    def forward(self, ids):
        pad = ids == 0
        return self.encoder(self.embed(ids).transpose(0, 1), src_key_padding_mask=pad.t()).mean(0)


@twin(StepsFirstMask, ints(3, 5), reason="key_padding_mask is [5, 3], and [3, 5] before its dims were moved")
class StepsFirstMaskT(StepsFirstMask):
    def forward(self, ids):
        pad = ids == 0
        return self.encoder(self.embed(ids).transpose(0, 1), src_key_padding_mask=pad).mean(0)


class OneHotStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(16 + 10, 8)

    def forward(self, x, y):
        y = F.one_hot(y, 10)
        return self.encode(torch.cat([x.flatten(1), y.unsqueeze(1)], 1))


@twin(OneHotStep, (5, 1, 4, 4), ints(5), reason="without its dim of one it has as many")
class OneHotStepT(OneHotStep):
    def forward(self, x, y):
        y = F.one_hot(y, 10)
        return self.encode(torch.cat([x.flatten(1), y], 1))


class EdgesAsMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 4, batch_first=True)

    def forward(self, x, edges):
        return self.attend(x, x, x, attn_mask=edges == 7)[0]


@twin(EdgesAsMask, (5, 9, 8), (5, 9, 9), reason="each of the 4 heads needs the mask of its sample")
class EdgesAsMaskT(EdgesAsMask):
    def forward(self, x, edges):
        return self.attend(x, x, x, attn_mask=(edges == 7).repeat_interleave(4, 0))[0]


class CaptionMemory(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.image = nn.Embedding(30, 8), nn.Linear(12, 8)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 1)

    def forward(self, features, words):
        return self.decoder(self.words(words).permute(1, 0, 2), self.image(features))


@twin(CaptionMemory, (4, 6, 12), ints(4, 9), reason="the query has 4 there, the key 6")
class CaptionMemoryT(CaptionMemory):
    def forward(self, features, words):
        return self.decoder(self.words(words).permute(1, 0, 2), self.image(features).transpose(0, 1))


class PatchesOfChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(48, 8)

    def forward(self, image):
        x = rearrange(image, "b c (h p) (w q) -> b (h w) (p q c)", p=4, q=4)
        return self.project(x)


@twin(PatchesOfChannelsLast, (2, 8, 8, 3), reason="dim 3 of [2, 8, 8, 3] has the channels")
class PatchesOfChannelsLastT(PatchesOfChannelsLast):
    def forward(self, image):
        x = rearrange(image, "b (h p) (w q) c -> b (h w) (p q c)", p=4, q=4)
        return self.project(x)


class MeanOfMembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList([nn.Linear(6, 2) for _ in range(3)])

    def forward(self, x):
        outs = [net(x) for net in self.nets]
        return outs.mean(0)


@twin(MeanOfMembers, (4, 6), reason="outs is a list of tensors; .mean is an attribute of one")
class MeanOfMembersT(MeanOfMembers):
    def forward(self, x):
        outs = [net(x) for net in self.nets]
        return torch.stack(outs).mean(0)


class TokensToConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = x * x.mean((2, 3), keepdim=True)
        return self.project(rearrange(x, "b c h w -> b (h w) c"))


@twin(TokensToConvolution, (2, 8, 7, 6), reason="has the positions of a feature map of 7 × 6 as steps")
class TokensToConvolutionT(TokensToConvolution):
    def forward(self, x):
        return self.project(x * x.mean((2, 3), keepdim=True))


class CoarseLogits(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 5, 3, 2, 1))
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x, y):
        return self.loss(self.net(x), y)


@twin(CoarseLogits, (2, 3, 16, 16), ints(2, 16, 16), reason="the labels are of the image's 16 × 16 pixels")
class CoarseLogitsT(CoarseLogits):
    def forward(self, x, y):
        return self.loss(F.interpolate(self.net(x), size=y.shape[-2:], mode="bilinear"), y)


class ClassTokensOfSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        token = repeat(self.token, "() n d -> b n d", b=x.shape[1])
        return self.encoder(torch.cat([token, x], 1))[:, 0]


@twin(ClassTokensOfSteps, (3, 6, 8), reason="[6, 1, 8] was made 6 times, of a dim that is not the batch of 3")
class ClassTokensOfStepsT(ClassTokensOfSteps):
    def forward(self, x):
        token = repeat(self.token, "() n d -> b n d", b=x.shape[0])
        return self.encoder(torch.cat([token, x], 1))[:, 0]


class FourierMixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        mixed = torch.fft.fft2(x)
        return self.norm(x + mixed)


@twin(FourierMixing, (2, 5, 8), reason="a transform is complex, and is added to real numbers")
class FourierMixingT(FourierMixing):
    def forward(self, x):
        mixed = torch.fft.fft2(x).real
        return self.norm(x + mixed)


class LastOfPacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.out = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 2]), batch_first=True)
        steps, _h = self.gru(packed)
        return self.out(steps[:, -1])


@twin(LastOfPacked, (3, 5, 4), reason="was given a packed sequence and returns one")
class LastOfPackedT(LastOfPacked):
    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 2]), batch_first=True)
        _, h = self.gru(packed)
        return self.out(h[-1])


class PoolTooMany(nn.Module):
    last: type[nn.Module] = nn.MaxPool2d

    def __init__(self):
        super().__init__()
        pool = self.last(2) if self.last is nn.MaxPool2d else self.last()
        pairs = [nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*pairs, nn.Conv2d(4, 4, 1), pool)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.features(x).flatten(1))


@twin(PoolTooMany, (2, 3, 4, 4), reason="the output would be empty")
class PoolTooManyT(PoolTooMany):
    last = nn.Identity


class LossInForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 4)

    def forward(self, x, y):
        return nn.CrossEntropyLoss()(self.out(x), y[:, :1])


@twin(LossInForward, (7, 6), ints(7, 2), reason="cross_entropy takes one label per sample: [7], got [7, 1]")
class LossInForwardT(LossInForward):
    def forward(self, x, y):
        return nn.CrossEntropyLoss()(self.out(x), y[:, :1].squeeze(1))


class BestOfNext(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(4, 2)

    def forward(self, now, later, done):
        q = self.q(now).max(1).values
        best = self.q(later).max(1)
        return F.smooth_l1_loss(q, 0.9 * best * (1 - done))


@twin(BestOfNext, (5, 4), (5, 4), (5,), reason="max() along a dim returns (values, indices)")
class BestOfNextT(BestOfNext):
    def forward(self, now, later, done):
        q = self.q(now).max(1).values
        best = self.q(later).max(1).values
        return F.smooth_l1_loss(q, 0.9 * best * (1 - done))


class NextWord(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 8), nn.Linear(8, 20)

    def forward(self, words):
        logits = self.out(self.embed(words[:, :-1]))
        return F.cross_entropy(logits.reshape(-1, logits.size(-1)), words.reshape(-1))


@twin(NextWord, ints(4, 7), reason="4 × 6 against 4 × 7, each step is to predict the next of words")
class NextWordT(NextWord):
    def forward(self, words):
        logits = self.out(self.embed(words[:, :-1]))
        return F.cross_entropy(logits.reshape(-1, logits.size(-1)), words[:, 1:].reshape(-1))


class MaskOfTarget(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, src, tgt):
        pads = src.eq(0), tgt.eq(0)
        src, tgt = self.embed(src), self.embed(tgt)
        return self.net(src, tgt, src_key_padding_mask=pads[0], memory_key_padding_mask=pads[1])


@twin(MaskOfTarget, ints(3, 8), ints(3, 6), reason="those of the source, whose mask this is to be")
class MaskOfTargetT(MaskOfTarget):
    def forward(self, src, tgt):
        pads = src.eq(0), tgt.eq(0)
        src, tgt = self.embed(src), self.embed(tgt)
        return self.net(src, tgt, src_key_padding_mask=pads[0], memory_key_padding_mask=pads[0])


class WindowsJoined(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def forward(self, x):
        t = rearrange(x, "b (n p) (m q) c -> (b n m) (p q) c", p=4, q=4)
        return rearrange(self.mix(t), "(b n m) (p q) c -> b (n p) (m q) c", p=4, q=4, n=2)


@twin(WindowsJoined, (3, 8, 8, 6), reason="b is the batch")
class WindowsJoinedT(WindowsJoined):
    def forward(self, x):
        t = rearrange(x, "b (n p) (m q) c -> (b n m) (p q) c", p=4, q=4)
        return rearrange(self.mix(t), "(b n m) (p q) c -> b (n p) (m q) c", p=4, q=4, n=2, b=x.shape[0])


class MeanOfOneSide(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(reduce(self.conv(x), "b c h -> b c", "mean"))


@twin(MeanOfOneSide, (2, 3, 8, 8), reason='"b c h" has 3 dims')
class MeanOfOneSideT(MeanOfOneSide):
    def forward(self, x):
        return self.out(reduce(self.conv(x), "b c h w -> b c", "mean"))


class StateOfOtherSides(nn.Module):
    def __init__(self):
        super().__init__()
        self.gates = nn.Conv2d(3 + 4, 4, 3, padding=1)

    def forward(self, x):
        h = torch.zeros(x.size(0), 4, x.size(1), x.size(2))
        return self.gates(torch.cat([x, h], 1))


@twin(StateOfOtherSides, (2, 3, 8, 8), reason="zeros() makes [2, 4, 3, 8], the other is [2, 3, 8, 8]")
class StateOfOtherSidesT(StateOfOtherSides):
    def forward(self, x):
        h = torch.zeros(x.size(0), 4, x.size(2), x.size(3))
        return self.gates(torch.cat([x, h], 1))


def small_t5() -> nn.Module:
    config = T5Config(d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=20)
    return T5ForConditionalGeneration(config)


class NoTargets(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_t5()

    def forward(self, ids):
        return self.net(input_ids=ids).logits


@twin(NoTargets, ints(2, 5), reason="the decoder got no tokens: decoder_input_ids, or labels")
class NoTargetsT(NoTargets):
    def forward(self, ids):
        return self.net(input_ids=ids, decoder_input_ids=ids).logits


class WideEmbeddings(nn.Module):
    width = 12

    def __init__(self):
        super().__init__()
        config = DistilBertConfig(dim=8, hidden_dim=16, n_layers=1, n_heads=2, vocab_size=20)
        self.embed, self.bert = nn.Linear(5, self.width), DistilBertModel(config)

    def forward(self, x):
        return self.bert(inputs_embeds=self.embed(x)).last_hidden_state[:, 0]


@twin(WideEmbeddings, (3, 7, 5), reason="'embed' (Linear) outputs 12 features")
class WideEmbeddingsT(WideEmbeddings):
    width = 8
