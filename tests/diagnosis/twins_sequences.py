"""Models of sequences (states, masks, attention) that fail as in forum threads, each with its repaired twin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class StateBySize0(nn.Module):
    """The state has the batch of an input that the layer reads sequence-first."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(50, 12)
        self.rnn = nn.LSTM(12, 6, 2, bidirectional=True)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        e = self.emb(x)
        h0 = torch.zeros(4, x.size(0), 6)
        c0 = torch.zeros(4, x.size(0), 6)
        out, _ = self.rnn(e, (h0, c0))
        return self.fc(out[:, -1])


@twin(StateBySize0, ints(3, 10), reason="reads the input [3, 10, 12] as 3 steps of 10 samples")
class StateBySize0T(StateBySize0):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(12, 6, 2, bidirectional=True, batch_first=True)


class PaddingAsTargetMask(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True)
        self.emb, self.dec = nn.Embedding(50, 16), nn.TransformerDecoder(layer, 1)

    def forward(self, ids, pad, memory):
        return self.dec(self.emb(ids), memory, tgt_mask=pad)


@twin(PaddingAsTargetMask, ints(3, 9), torch.zeros(3, 9, dtype=torch.bool), (3, 7, 16), reason="key_padding_mask")
class PaddingAsTargetMaskT(PaddingAsTargetMask):
    def forward(self, ids, pad, memory):
        return self.dec(self.emb(ids), memory, tgt_key_padding_mask=pad)


class PaddingByPosition(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.emb, self.enc = nn.Embedding(50, 16), nn.TransformerEncoder(layer, 1)

    def forward(self, ids, pad):
        return self.enc(self.emb(ids), pad)


@twin(PaddingByPosition, ints(3, 9), torch.zeros(3, 9, dtype=torch.bool), reason="key_padding_mask")
class PaddingByPositionT(PaddingByPosition):
    def forward(self, ids, pad):
        return self.enc(self.emb(ids), src_key_padding_mask=pad)


class StateWithItsLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(8, 6, batch_first=True), nn.Linear(12, 3)

    def forward(self, x):
        steps, (h, _) = self.rnn(x)
        return self.out(torch.cat([h, steps[:, -1]], 1))


@twin(StateWithItsLayers, (4, 10, 8), reason="the state of 'rnn' has a dim of its layers")
class StateWithItsLayersT(StateWithItsLayers):
    def forward(self, x):
        steps, (h, _) = self.rnn(x)
        return self.out(torch.cat([h[-1], steps[:, -1]], 1))


class QueryStepsForKeys(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(32, 32), nn.Linear(24, 32)

    def forward(self, x, memory):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 8).transpose(1, 2)
        k = self.k(memory).view(b, t, 4, 8).transpose(1, 2)
        return (q @ k.transpose(-2, -1)).softmax(-1)


@twin(QueryStepsForKeys, (2, 10, 32), (2, 7, 24), reason="has 7 steps, the target [2, 10, 4, 8] has 10")
class QueryStepsForKeysT(QueryStepsForKeys):
    def forward(self, x, memory):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 8).transpose(1, 2)
        k = self.k(memory).view(b, -1, 4, 8).transpose(1, 2)
        return (q @ k.transpose(-2, -1)).softmax(-1)


class KeysCutAlongTheSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Linear(24, 16), nn.Linear(24, 32)

    def forward(self, x):
        q = self.q(x)
        k, v = self.kv(x).chunk(2, dim=1)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


@twin(KeysCutAlongTheSteps, (2, 10, 24), reason="chunk() cuts dim 1 of [2, 10, 32]")
class KeysCutAlongTheStepsT(KeysCutAlongTheSteps):
    def forward(self, x):
        q = self.q(x)
        k, v = self.kv(x).chunk(2, dim=-1)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


class CellStateWithoutABatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = torch.zeros(8)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.out(h)


@twin(CellStateWithoutABatch, (4, 5, 6), reason="this input needs [4, 8]")
class CellStateWithoutABatchT(CellStateWithoutABatch):
    def forward(self, x):
        h = torch.zeros(x.size(0), 8)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.out(h)


class StatesOfOneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(5, 16, num_layers=2, batch_first=True), nn.Linear(16, 1)

    def forward(self, x):
        h = (torch.zeros(1, x.size(0), 16), torch.zeros(1, x.size(0), 16))
        steps, _ = self.rnn(x, h)
        return self.fc(steps[:, -1])


@twin(StatesOfOneLayer, (8, 10, 5), reason="this input needs [2, 8, 16]")
class StatesOfOneLayerT(StatesOfOneLayer):
    def forward(self, x):
        h = (torch.zeros(2, x.size(0), 16), torch.zeros(2, x.size(0), 16))
        steps, _ = self.rnn(x, h)
        return self.fc(steps[:, -1])


class PackedIntoALinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 6, 6]), batch_first=True)
        steps, _ = self.rnn(packed)
        return self.fc(steps)


@twin(PackedIntoALinear, (3, 6, 8), reason="packed sequence")
class PackedIntoALinearT(PackedIntoALinear):
    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 6, 6]), batch_first=True)
        steps, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.fc(steps)


class StepsBesideVectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.tags = nn.Embedding(10, 8), nn.Embedding(5, 4)
        self.fc = nn.Linear(12, 1)

    def forward(self, user, tags):
        return self.fc(torch.cat([self.user(user), self.tags(tags)], dim=-1))


@twin(StepsBesideVectors, ints(6), ints(6, 3), reason="gives steps of 4 features")
class StepsBesideVectorsT(StepsBesideVectors):
    def forward(self, user, tags):
        return self.fc(torch.cat([self.user(user), self.tags(tags).mean(1)], dim=-1))


class MaskOfTheLongest(nn.Module):
    def __init__(self, longest=16):
        super().__init__()
        self.emb, self.fc = nn.Embedding(50, 16), nn.Linear(16, 50)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.register_buffer("mask", torch.triu(torch.ones(longest, longest), 1).bool())

    def forward(self, x):
        return self.fc(self.encoder(self.emb(x), mask=self.mask))


@twin(MaskOfTheLongest, ints(2, 10), reason="the first 10 of its 16 are theirs")
class MaskOfTheLongestT(MaskOfTheLongest):
    def forward(self, x):
        return self.fc(self.encoder(self.emb(x), mask=self.mask[: x.size(1), : x.size(1)]))


class PositionsForChannels(nn.Module):
    def __init__(self, channels=24):
        super().__init__()
        self.conv, self.fc = nn.Conv1d(channels, 8, 3, padding=1), nn.Linear(8 * 24, 1)

    def forward(self, x):
        return self.fc(self.conv(x).relu().flatten(1))


@twin(PositionsForChannels, (16, 24), reason="24 are the positions of a sample")
class PositionsForChannelsT(PositionsForChannels):
    def __init__(self):
        super().__init__(1)

    def forward(self, x):
        return self.fc(self.conv(x.unsqueeze(1)).relu().flatten(1))


class WordsTiedToAWiderState(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.emb, self.rnn = nn.Embedding(60, 24), nn.GRU(24, width, batch_first=True)

    def forward(self, x):
        out, _ = self.rnn(self.emb(x))
        return F.linear(out, self.emb.weight)


@twin(WordsTiedToAWiderState, ints(2, 6), reason="'rnn' (GRU) outputs 48 features")
class WordsTiedToAWiderStateT(WordsTiedToAWiderState):
    def __init__(self):
        super().__init__(24)


class MaskedBy(nn.Module):
    """Attention whose mask is of another rank than the layer's."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, mask):
        out, _ = self.attn(x, x, x, attn_mask=mask)
        return out


def bools(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.bool)


@twin(MaskedBy, (3, 5, 8), bools(3, 2, 5, 5), reason="batch and heads are one dim here")
class MaskedByHeads(MaskedBy):
    def forward(self, x, mask):
        return super().forward(x, mask.flatten(0, 1))


class MaskedBySample(MaskedBy):
    """Each sample has a mask, which is the same for all heads."""


@twin(MaskedBySample, (3, 5, 8), bools(3, 1, 5, 5), reason="each of the 2 heads needs the mask of its sample")
class MaskedBySampleT(MaskedBy):
    def forward(self, x, mask):
        return super().forward(x, mask.flatten(0, 1).repeat_interleave(2, 0))


class PaddedBy(MaskedBy):
    def forward(self, x, mask):
        out, _ = self.attn(x, x, x, key_padding_mask=mask.unsqueeze(1))
        return out


@twin(PaddedBy, (3, 5, 8), bools(3, 5), reason="dim 1 of one is too many")
class PaddedByT(MaskedBy):
    def forward(self, x, mask):
        out, _ = self.attn(x, x, x, key_padding_mask=mask)
        return out


class MaskedProduct(nn.Module):
    """A mask of samples has no dim for the heads."""

    def forward(self, q, mask):
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)


@twin(MaskedProduct, (3, 2, 5, 4), bools(3, 5), reason="attn_mask is [3, 5]")
class MaskedProductT(MaskedProduct):
    def forward(self, q, mask):
        return super().forward(q, mask[:, None, None])


class Letters(nn.Module):
    """Classes where a layer expects them one-hot."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(27, 6, batch_first=True)

    def forward(self, x):
        out, _ = self.rnn(x)
        return out


@twin(Letters, ints(3, 5), reason="no dim has 27 features: classes have them when they are one-hot")
class LettersT(Letters):
    def forward(self, x):
        return super().forward(F.one_hot(x, 27).float())


class QueryOfSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Bilinear(6, 8, 1)

    def forward(self, query, context):
        query = query.unsqueeze(1)
        return self.score(query, context).softmax(1)


@twin(QueryOfSteps, (3, 6), (3, 9, 8), reason="'score' broadcasts no dim: [3, 1, 6] against [3, 9, 8]")
class QueryOfStepsT(QueryOfSteps):
    def forward(self, query, context):
        return self.score(query.unsqueeze(1).expand(-1, context.size(1), -1), context).softmax(1)


class StateAndNumbers(nn.Module):
    """The state of an LSTM of two layers stands beside numbers of each sample."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 6, 2, batch_first=True)
        self.fc = nn.Linear(6 + 7, 1)

    def forward(self, x, numbers):
        _, (h, _) = self.rnn(x)
        return self.fc(torch.cat([h, numbers], dim=1))


@twin(StateAndNumbers, (3, 4, 5), (3, 7), reason="the state of 'rnn' has a dim of its layers")
class StateAndNumbersT(StateAndNumbers):
    def forward(self, x, numbers):
        _, (h, _) = self.rnn(x)
        return self.fc(torch.cat([h[-1], numbers], dim=1))


class OneNumberAStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(1, 6, batch_first=True)

    def forward(self, x):
        out, _ = self.rnn(x)
        return out[:, -1]


@twin(OneNumberAStep, (16, 10), reason="[16, 10] has one number a step, and no dim of features")
class OneNumberAStepT(OneNumberAStep):
    def forward(self, x):
        return super().forward(x.unsqueeze(-1))


class StatesOfSteps(nn.Module):
    """Both states of an LSTM are made with the steps for the batch, each on a line of its own."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, 2, batch_first=True)

    def forward(self, x):
        h0 = torch.zeros(2, x.size(1), 6)
        c0 = torch.zeros(2, x.size(1), 6)
        out, _ = self.rnn(x, (h0, c0))
        return out[:, -1]


@twin(StatesOfSteps, (16, 10, 4), reason="the hidden state is [2, 10, 6], this input needs [2, 16, 6]")
class StatesOfStepsT(StatesOfSteps):
    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class OneOfTwoStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x):
        state = torch.zeros(1, x.size(0), 6)
        out, _ = self.rnn(x, state)
        return out


@twin(OneOfTwoStates, (3, 5, 4), reason="an LSTM takes a pair of states (h_0, c_0), got one tensor [1, 3, 6]")
class OneOfTwoStatesT(OneOfTwoStates):
    def forward(self, x):
        return self.rnn(x)[0]


class ThreeOfAnLSTM(OneOfTwoStates):
    def forward(self, x):
        out, h, c = self.rnn(x)
        return out[:, -1] + h[-1] + c[-1]


@twin(ThreeOfAnLSTM, (3, 5, 4), reason="two values, the second a pair")
class ThreeOfAnLSTMT(OneOfTwoStates):
    def forward(self, x):
        out, (h, c) = self.rnn(x)
        return out[:, -1] + h[-1] + c[-1]


class PackedStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 6, batch_first=True)

    def forward(self, x):
        lengths = torch.full((x.size(0),), x.size(1))
        out, _ = self.rnn(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))
        return out[:, -1]


@twin(PackedStates, (3, 5, 8), reason="'rnn' (LSTM) was given a packed sequence and returns one")
class PackedStatesT(PackedStates):
    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class AttentionOfOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attn(x)


@twin(AttentionOfOne, (2, 5, 8), reason="needs 'key' and 'value', which were not given")
class AttentionOfOneT(AttentionOfOne):
    def forward(self, x):
        return self.attn(x, x, x)


class TurnedWithBatch(nn.Module):
    def forward(self, x):
        return torch.softmax(torch.matmul(x, x.transpose(0, 1)), -1) @ x


@twin(TurnedWithBatch, (4, 10, 6), reason="transpose(0, 1) moves the batch of [4, 10, 6]")
class TurnedWithBatchT(TurnedWithBatch):
    def forward(self, x):
        return torch.softmax(x @ x.transpose(1, 2), -1) @ x


class SentencesOfWords(nn.Module):
    """Words of sentences of documents are read, and then the sentences."""

    def __init__(self):
        super().__init__()
        self.words = nn.GRU(4, 6, batch_first=True)
        self.sentences = nn.GRU(6, 6, batch_first=True)

    def forward(self, x):
        _, h = self.words(x)
        _, h = self.sentences(h)
        return h[-1]


@twin(SentencesOfWords, (2, 3, 5, 4), reason="2 × 3 sequences of 5 steps are one batch")
class SentencesOfWordsT(SentencesOfWords):
    def forward(self, x):
        _, h = self.words(x.flatten(0, 1))
        return self.sentences(h[-1].unflatten(0, x.shape[:2]))[1][-1]


class MaskInALoop(nn.Module):
    """The mask of the longest sequence goes to each layer of a list."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)])
        self.register_buffer("mask", torch.ones(12, 12).triu(1).bool())

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, src_mask=self.mask)
        return x


@twin(MaskInALoop, (2, 5, 8), reason="attn_mask is [12, 12]: 5 queries attend to 5 keys")
class MaskInALoopT(MaskInALoop):
    def forward(self, x):
        for layer in self.layers:
            x = layer(x, src_mask=self.mask[: x.size(1), : x.size(1)])
        return x


class PoolsByWeights(nn.Module):
    """The weights of the steps are a vector of each sample, and what they pool is one too."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(6, 1)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        weights = self.score(x).squeeze(2).softmax(1)
        return self.fc(torch.bmm(weights, x))


@twin(PoolsByWeights, (3, 5, 6), reason="bmm expects two 3-d tensors, got [3, 5] and [3, 5, 6]")
class PoolsByWeightsT(PoolsByWeights):
    def forward(self, x):
        return self.fc(torch.bmm(self.score(x).transpose(1, 2).softmax(2), x).squeeze(1))


class VectorOfOneDirection(nn.Module):
    """What scores the steps has the width of one direction, and the steps have both."""

    def __init__(self, width=6):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, bidirectional=True, batch_first=True)
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        out, _ = self.rnn(x)
        weights = torch.matmul(out.tanh(), self.vector).softmax(1)
        return (out * weights.unsqueeze(-1)).sum(1)


@twin(VectorOfOneDirection, (3, 5, 4), reason="[5 × 12] @ [6]: the inner 12 and 6 differ")
class VectorOfOneDirectionT(VectorOfOneDirection):
    def __init__(self):
        super().__init__(12)


class StateWithoutBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 6)

    def forward(self, x):
        h = torch.zeros(1, 6)
        out, _ = self.rnn(x, h)
        return out


@twin(StateWithoutBatch, (5, 3, 4), reason="the hidden state is [1, 6], this input needs [1, 3, 6]")
class StateWithoutBatchT(StateWithoutBatch):
    def forward(self, x):
        return self.rnn(x)[0]


class PositionsLast(nn.Module):
    """The table of positions has the features where its positions belong."""

    def __init__(self, *shape):
        super().__init__()
        self.pos = nn.Parameter(torch.zeros(shape or (1, 12, 20)))

    def forward(self, x):
        return x + self.pos[:, : x.size(1)]


@twin(PositionsLast, (2, 9, 12), reason="'pos' [1, 12, 20] has the 12 features in dim 1, and its positions last")
class PositionsLastT(PositionsLast):
    def __init__(self):
        super().__init__(1, 20, 12)


# -- a table beside tokens whose steps come first ---------------------------------------------------------------------


class PatchesBeforeTheBatch(nn.Module):
    def __init__(self, size=48):
        super().__init__()
        self.size = size
        self.table = nn.Parameter(torch.zeros((size // 4) ** 2, 1, 48))
        self.layer = nn.TransformerEncoderLayer(48, 4, 64)

    def forward(self, x):
        x = F.unfold(x, 4, stride=4).transpose(1, 2).transpose(0, 1).contiguous()
        return self.layer(x + self.table)


@twin(PatchesBeforeTheBatch, (2, 3, 64, 64), reason="input has 256 positions, 'table' has 144")
class PatchesBeforeTheBatchT(PatchesBeforeTheBatch):
    def __init__(self):
        super().__init__(64)


# -- sequences of sequences, and convolutions that look back ----------------------------------------------------------


class Document(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 16), nn.Linear(16, 4)
        self.words, self.sentences = nn.LSTM(16, 16, batch_first=True), nn.LSTM(16, 16, batch_first=True)


class WordsOfSentences(Document):
    def forward(self, ids):
        _, (h, _c) = self.words(self.embed(ids))
        out, _ = self.sentences(h)
        return self.head(out[:, -1])


@twin(WordsOfSentences, ints(2, 5, 12), reason="2 × 5 sequences of 12 steps are one batch")
class WordsOfSentencesT(Document):
    def forward(self, ids):
        _, (h, _c) = self.words(self.embed(ids).flatten(0, 1))
        out, _ = self.sentences(h[-1].unflatten(0, ids.shape[:2]))
        return self.head(out[:, -1])


class LastWords(Document):
    def forward(self, ids):
        out, _ = self.words(self.embed(ids))
        out, _ = self.sentences(out[:, -1])
        return self.head(out[:, -1])


@twin(LastWords, ints(2, 5, 12), reason="2 × 5 sequences of 12 steps are one batch")
class LastWordsT(Document):
    def forward(self, ids):
        out, _ = self.words(self.embed(ids).flatten(0, 1))
        out, _ = self.sentences(out[:, -1].unflatten(0, ids.shape[:2]))
        return self.head(out[:, -1])


class LooksBack(nn.Module):
    def __init__(self):
        super().__init__()
        reach = [nn.Conv1d(6, 16, 3, padding=2), nn.ReLU(), nn.Conv1d(16, 16, 3, padding=4, dilation=2), nn.ReLU()]
        self.net, self.head = nn.Sequential(*reach), nn.Linear(16, 1)

    def forward(self, x):
        y = self.net(x.transpose(1, 2)).transpose(1, 2)
        return self.head(y) + x[..., :1]


@twin(LooksBack, (2, 30, 6), reason="36 steps against 30: 'net.0' and 1 more pad by 6 more than they take off")
class LooksBackT(LooksBack):
    def forward(self, x):
        y = self.net(x.transpose(1, 2)).transpose(1, 2)[:, : x.size(1)]
        return self.head(y) + x[..., :1]


class LooksBackPast(LooksBack):
    def forward(self, x):
        x = x.transpose(1, 2)
        return self.net(x).mean(1, keepdim=True) + x


@twin(LooksBackPast, (2, 30, 6), reason="and the end is not cut off")
class LooksBackPastT(LooksBack):
    def forward(self, x):
        x = x.transpose(1, 2)
        return self.net(x)[..., : x.size(-1)].mean(1, keepdim=True) + x


# -- a state beside steps ---------------------------------------------------------------------------------------------


class StateBesideSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.LSTM(2, 16, batch_first=True)
        self.keys, self.query, self.score = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x):
        steps, (state, _) = self.encode(x)
        return self.score(torch.tanh(self.keys(steps) + self.query(state))).squeeze(-1).softmax(-1)


@twin(StateBesideSteps, (3, 7, 2), reason="have their dims in other orders")
class StateBesideStepsT(StateBesideSteps):
    def forward(self, x):
        steps, (state, _) = self.encode(x)
        return self.score(torch.tanh(self.keys(steps) + self.query(state[-1])[:, None])).squeeze(-1).softmax(-1)
