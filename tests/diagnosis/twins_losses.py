"""Losses, masks, patterns, states and tokens that do not fit, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from einops.layers.torch import Rearrange
from torch import nn
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from tests.diagnosis.twins import ints, twin


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


class MaskOfQueries(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(6, 8)

    def forward(self, x, memory, xmask, cmask):
        scores = torch.bmm(self.q(x), self.k(memory).transpose(1, 2))
        return scores.masked_fill(xmask[:, None, :] == 0, -1e9).softmax(-1) @ memory


@twin(MaskOfQueries, (2, 5, 8), (2, 9, 6), (2, 5), (2, 9), reason="xmask is a mask of 5, the softmax runs over 9 keys")
class MaskOfQueriesT(MaskOfQueries):
    def forward(self, x, memory, xmask, cmask):
        scores = torch.bmm(self.q(x), self.k(memory).transpose(1, 2))
        return scores.masked_fill(cmask[:, None, :] == 0, -1e9).softmax(-1) @ memory


class PickedSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 4)

    def forward(self, steps, places):
        picked = torch.gather(steps, 1, places.unsqueeze(-1))
        return self.out(picked)


@twin(PickedSteps, (3, 9, 6), ints(3, 4), reason="the index [3, 4, 1] reads the first of 6 features")
class PickedStepsT(PickedSteps):
    def forward(self, steps, places):
        picked = torch.gather(steps, 1, places.unsqueeze(-1).expand(-1, -1, 6))
        return self.out(picked)


class PoolToWhat(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        x = F.adaptive_avg_pool2d(x)
        return self.out(x.flatten(1))


@twin(PoolToWhat, (2, 3, 8, 8), reason="adaptive_avg_pool2d needs 'output_size'")
class PoolToWhatT(PoolToWhat):
    def forward(self, x):
        x = F.adaptive_avg_pool2d(x, 1)
        return self.out(x.flatten(1))


class ClassesLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x, y):
        return F.cross_entropy(self.net(x), y)


@twin(ClassesLast, (2, 3, 6, 8), (2, 6, 8, 4), reason="have a number for each class, and the classes last")
class ClassesLastT(ClassesLast):
    def forward(self, x, y):
        return F.cross_entropy(self.net(x), y.permute(0, 3, 1, 2))


class QueryAndDocuments(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.documents = nn.Linear(5, 4), nn.Linear(6, 4)

    def forward(self, query, documents):
        return F.cosine_similarity(self.query(query), self.documents(documents), dim=-1)


@twin(QueryAndDocuments, (3, 5), (3, 7, 6), reason="[3, 1, 4] would broadcast")
class QueryAndDocumentsT(QueryAndDocuments):
    def forward(self, query, documents):
        return F.cosine_similarity(self.query(query).unsqueeze(1), self.documents(documents), dim=-1)


class KeysWithoutValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, memory):
        return self.attend(x, memory, x)[0]


@twin(KeysWithoutValues, (2, 5, 8), (2, 7, 8), reason="7 keys and 5 values")
class KeysWithoutValuesT(KeysWithoutValues):
    def forward(self, x, memory):
        return self.attend(x, memory, memory)[0]


class MemoryOfSteps(nn.Module):
    def forward(self, weights, memory):
        return torch.bmm(weights.softmax(-1), memory).squeeze(1)


@twin(MemoryOfSteps, (4, 1, 9), (9, 4, 6), reason="[9, 4, 6] has its steps first, [4, 1, 9] the batch")
class MemoryOfStepsT(MemoryOfSteps):
    def forward(self, weights, memory):
        return torch.bmm(weights.softmax(-1), memory.transpose(0, 1)).squeeze(1)


class KernelsOfAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs, self.out = nn.ModuleList([nn.Conv1d(4, 3, k) for k in (2, 3)]), nn.Linear(6, 2)

    def forward(self, x):
        maps = self.convs(x)
        return self.out(torch.cat([m.max(-1)[0] for m in maps], 1))


@twin(KernelsOfAList, (3, 4, 9), reason="a ModuleList holds layers and does not run them")
class KernelsOfAListT(KernelsOfAList):
    def forward(self, x):
        maps = [layer(x) for layer in self.convs]
        return self.out(torch.cat([m.max(-1)[0] for m in maps], 1))


class SlopesOfHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("slopes", torch.ones(4))

    def forward(self, scores):
        steps = torch.arange(scores.size(-1)).float()
        distances = steps[None] - steps[:, None]
        return (scores + self.slopes * distances).softmax(-1)


@twin(SlopesOfHeads, (2, 4, 9, 9), reason="4 numbers, each with all of [9, 9], are [4, 9, 9]")
class SlopesOfHeadsT(SlopesOfHeads):
    def forward(self, scores):
        steps = torch.arange(scores.size(-1)).float()
        distances = steps[None] - steps[:, None]
        return (scores + self.slopes[:, None, None] * distances).softmax(-1)


class HiddenSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.token = nn.Linear(6, 8), nn.Parameter(torch.zeros(8))

    def forward(self, x, hidden):
        h = self.encode(x)
        return torch.where(hidden, self.token, h)


@twin(HiddenSteps, (3, 5, 6), torch.zeros(3, 5, dtype=torch.bool), reason="[3, 5, 1] would broadcast")
class HiddenStepsT(HiddenSteps):
    def forward(self, x, hidden):
        h = self.encode(x)
        return torch.where(hidden.unsqueeze(-1), self.token, h)


class FlowAsGrid(nn.Module):
    def __init__(self):
        super().__init__()
        self.flow = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return F.grid_sample(x, torch.tanh(self.flow(x)), align_corners=False)


@twin(FlowAsGrid, (2, 1, 6, 8), reason="the grid [2, 2, 6, 8] has its 2 coordinates in dim 1")
class FlowAsGridT(FlowAsGrid):
    def forward(self, x):
        return F.grid_sample(x, torch.tanh(self.flow(x)).permute(0, 2, 3, 1), align_corners=False)


class FourTimesLarger(nn.Module):
    factor = 2

    def __init__(self):
        super().__init__()
        self.net, self.up = nn.Conv2d(3, 3 * self.factor**2, 3, padding=1), nn.PixelShuffle(self.factor)

    def forward(self, small, large):
        return F.l1_loss(self.up(self.net(small)), large)


@twin(FourTimesLarger, (1, 3, 6, 6), (1, 3, 24, 24), reason="'up' enlarges by 2 to 12 × 12, the target is 24 × 24")
class FourTimesLargerT(FourTimesLarger):
    factor = 4


class DecoderAlone(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, x):
        return self.decoder(x)


@twin(DecoderAlone, (2, 5, 8), reason="needs 'memory', which was not given")
class DecoderAloneT(DecoderAlone):
    def forward(self, x):
        return self.decoder(x, x)


class SelfPassedOn(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        return self.out.forward(self, x)


@twin(SelfPassedOn, (3, 6), reason="is given self, which a call of a layer passes on itself")
class SelfPassedOnT(SelfPassedOn):
    def forward(self, x):
        return self.out(x)


class FeaturesAsTokens(nn.Module):
    def __init__(self):
        super().__init__()
        config = DistilBertConfig(dim=8, hidden_dim=16, n_layers=1, n_heads=2, vocab_size=20)
        self.project, self.bert = nn.Linear(5, 8), DistilBertModel(config)

    def forward(self, x):
        return self.bert(self.project(x)).last_hidden_state


@twin(FeaturesAsTokens, (3, 7, 5), reason="are features, where token ids belong: inputs_embeds takes them")
class FeaturesAsTokensT(FeaturesAsTokens):
    def forward(self, x):
        return self.bert(inputs_embeds=self.project(x)).last_hidden_state


class TableOfRoberta(nn.Module):
    rows = 10

    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        config = RobertaConfig(**sizes, vocab_size=20, max_position_embeddings=self.rows, pad_token_id=1)
        self.net = RobertaModel(config)

    def forward(self, ids):
        return self.net(ids)[0]


@twin(TableOfRoberta, torch.full((2, 10), 5), reason="they are counted from behind the number of padding")
class TableOfRobertaT(TableOfRoberta):
    rows = 12


class ActionOfEach(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy, self.value = nn.Linear(8, 4), nn.Linear(8, 1)

    def forward(self, s, actions, returns):
        chosen = F.log_softmax(self.policy(s), -1).gather(1, actions)
        return chosen * (returns - self.value(s).squeeze(-1))


@twin(ActionOfEach, (6, 8), ints(6), (6,), reason="gather needs an index with as many dims")
class ActionOfEachT(ActionOfEach):
    def forward(self, s, actions, returns):
        chosen = F.log_softmax(self.policy(s), -1).gather(1, actions.unsqueeze(1)).squeeze(1)
        return chosen * (returns - self.value(s).squeeze(-1))


class LossOfEachStep(nn.Module):
    def forward(self, logits, labels, mask):
        each = F.cross_entropy(logits.view(-1, logits.size(-1)), labels.view(-1), reduction="none")
        return (each * mask).sum() / mask.sum()


@twin(LossOfEachStep, (3, 8, 10), ints(3, 8), torch.ones(3, 8), reason="has 3 × 8 numbers in one dim")
class LossOfEachStepT(LossOfEachStep):
    def forward(self, logits, labels, mask):
        each = F.cross_entropy(logits.view(-1, logits.size(-1)), labels.view(-1), reduction="none")
        return (each * mask.view(-1)).sum() / mask.sum()


class PaddingByPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x, memory, pads):
        causal = torch.ones(x.size(1), x.size(1)).triu(1).bool()
        return self.layer(x, memory, causal, pads.bool())


@twin(
    PaddingByPlace,
    (3, 6, 8),
    (3, 9, 8),
    ints(3, 6),
    reason="memory_mask is [3, 6]: a mask of each sample's keys is tgt",
)
class PaddingByPlaceT(PaddingByPlace):
    def forward(self, x, memory, pads):
        causal = torch.ones(x.size(1), x.size(1)).triu(1).bool()
        return self.layer(x, memory, causal, tgt_key_padding_mask=pads.bool())


class ConditionOfOtherSides(nn.Module):
    def __init__(self):
        super().__init__()
        self.vector, self.conv = nn.Linear(10, 4), nn.Conv2d(7, 4, 1)

    def forward(self, image, v):
        v = repeat(self.vector(v), "b c -> b c h w", h=image.shape[1], w=image.shape[2])
        return self.conv(torch.cat([image, v], 1))


@twin(ConditionOfOtherSides, (2, 3, 8, 8), (2, 10), reason="[2, 4, 3, 8] was repeated to dims 1 … of [2, 3, 8, 8]")
class ConditionOfOtherSidesT(ConditionOfOtherSides):
    def forward(self, image, v):
        v = repeat(self.vector(v), "b c -> b c h w", h=image.shape[2], w=image.shape[3])
        return self.conv(torch.cat([image, v], 1))


class OneStateForTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.rnn = nn.GRU(4, 6, 2, batch_first=True)

    def forward(self, image, x):
        h = self.first(image).unsqueeze(0)
        return self.rnn(x, h)[0]


@twin(OneStateForTwo, (3, 5), (3, 7, 4), reason="it is of one layer, and 'rnn' has 2")
class OneStateForTwoT(OneStateForTwo):
    def forward(self, image, x):
        h = self.first(image).unsqueeze(0)
        return self.rnn(x, h.repeat(2, 1, 1))[0]


class SignalsWithChannels(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        convs = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
        places = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
        self.net = Wav2Vec2Model(Wav2Vec2Config(**sizes, **convs, **places))

    def forward(self, x):
        return self.net(x).last_hidden_state.mean(1)


@twin(SignalsWithChannels, (2, 1, 400), reason="has 3 dims: the model takes 2, without the 1 of dim 1")
class SignalsWithChannelsT(SignalsWithChannels):
    def forward(self, x):
        return self.net(x.squeeze(1)).last_hidden_state.mean(1)


class EyeOfOneView(nn.Module):
    def forward(self, a, b):
        z = torch.cat([a, b], 0)
        sim = z @ z.T
        mask = torch.eye(a.size(0), dtype=torch.bool)
        return sim.masked_fill(mask, -1e9).logsumexp(1)


@twin(EyeOfOneView, (6, 4), (6, 4), reason="eye() makes")
class EyeOfOneViewT(EyeOfOneView):
    def forward(self, a, b):
        z = torch.cat([a, b], 0)
        sim = z @ z.T
        mask = torch.eye(z.size(0), dtype=torch.bool)
        return sim.masked_fill(mask, -1e9).logsumexp(1)


class PadsWithoutToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x, pads):
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1)
        return self.layer(x, src_key_padding_mask=pads)[:, 0]


@twin(PadsWithoutToken, (4, 9, 8), torch.zeros(4, 9, dtype=torch.bool), reason="4 samples of 10 keys each; 1 more")
class PadsWithoutTokenT(PadsWithoutToken):
    def forward(self, x, pads):
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1)
        return self.layer(x, src_key_padding_mask=F.pad(pads, (1, 0)))[:, 0]


class NodesForSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def forward(self, x):
        _, t, n, _ = x.shape
        h = self.mix(rearrange(x, "b t n d -> (b n) t d", n=n))
        return x + rearrange(h, "(b n) t d -> b t n d", n=t)


@twin(NodesForSteps, (2, 5, 9, 6), reason="(b n) with n = 5 needs a multiple of 5")
class NodesForStepsT(NodesForSteps):
    def forward(self, x):
        n = x.size(2)
        h = self.mix(rearrange(x, "b t n d -> (b n) t d"))
        return x + rearrange(h, "(b n) t d -> b t n d", n=n)


class PairsOfEpisodes(nn.Module):
    def forward(self, query, support):
        return torch.einsum("qd,kd->qk", query, support)


@twin(PairsOfEpisodes, (3, 10, 6), (3, 5, 6), reason="'qd' has 2 letters, query [3, 10, 6] has 3 dims")
class PairsOfEpisodesT(PairsOfEpisodes):
    def forward(self, query, support):
        return torch.einsum("bqd,bkd->bqk", query, support)


class FloatPlaces(nn.Module):
    def forward(self, x, places):
        return x[torch.arange(x.size(0)), places]


@twin(FloatPlaces, (5, 9, 8), (5,), reason="an index is of floats")
class FloatPlacesT(FloatPlaces):
    def forward(self, x, places):
        return x[torch.arange(x.size(0)), places.long()]


class DirectionsApart(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(4, 6, bidirectional=True, batch_first=True)
        self.decoder = nn.LSTM(4, 12, batch_first=True)

    def forward(self, x, y):
        _, (h, c) = self.encoder(x)
        return self.decoder(y, (h, c))[0]


@twin(DirectionsApart, (3, 8, 4), (3, 6, 4), reason="which both directions side by side have")
class DirectionsApartT(DirectionsApart):
    def forward(self, x, y):
        _, (h, c) = self.encoder(x)
        h, c = (torch.cat([s[::2], s[1::2]], -1) for s in (h, c))
        return self.decoder(y, (h, c))[0]


class StepsFirstLogits(nn.Module):
    def forward(self, logits, labels):
        return F.cross_entropy(logits.permute(0, 2, 1), labels)


@twin(StepsFirstLogits, (9, 4, 20), ints(4, 9), reason="the labels are [4, 9], the predictions of [9, 4]")
class StepsFirstLogitsT(StepsFirstLogits):
    def forward(self, logits, labels):
        return F.cross_entropy(logits.permute(0, 2, 1), labels.t())


class MaskOfOnes(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, mask):
        return self.attend(x, x, x, attn_mask=mask[:, None, None, :])[0]


@twin(MaskOfOnes, (3, 6, 8), torch.zeros(3, 6, dtype=torch.bool), reason="attn_mask is [3, 1, 1, 6]: a mask of each")
class MaskOfOnesT(MaskOfOnes):
    def forward(self, x, mask):
        return self.attend(x, x, x, key_padding_mask=mask)[0]


class ContextOfOneStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.GRU(4, 6, batch_first=True), nn.GRU(10, 6, batch_first=True)

    def forward(self, x, y):
        _, h = self.encoder(x)
        return self.decoder(torch.cat([y, h.permute(1, 0, 2)], -1), h)[0]


@twin(ContextOfOneStep, (3, 8, 4), (3, 5, 4), reason="cat never expands")
class ContextOfOneStepT(ContextOfOneStep):
    def forward(self, x, y):
        _, h = self.encoder(x)
        return self.decoder(torch.cat([y, h.permute(1, 0, 2).expand(-1, y.size(1), -1)], -1), h)[0]


class PatchesOfASignal(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.out = Rearrange("b c (n p) -> b n (p c)", p=8), nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.patch(x))


@twin(PatchesOfASignal, (2, 2, 40, 1), reason="'patch' has a pattern for another number of them")
class PatchesOfASignalT(PatchesOfASignal):
    def forward(self, x):
        return self.out(self.patch(x.squeeze(3)))
