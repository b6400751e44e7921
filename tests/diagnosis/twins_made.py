"""Models whose tables are too short for the input: their class, or their configuration, takes the size."""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, ViTConfig, ViTModel, WhisperConfig, WhisperModel

from tests.diagnosis.twins import TWINS, Twin, ints, twin

BERT = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 40}  # fmt: skip
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32,
       "patch_size": 8}  # fmt: skip
GPT = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, "use_cache": False,
       "bos_token_id": None, "eos_token_id": None}  # fmt: skip
WH = {"vocab_size": 100, "num_mel_bins": 16, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
      "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
      "max_source_positions": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
      "decoder_start_token_id": 1}  # fmt: skip


def vit(**fields: int) -> nn.Module:
    return ViTModel(ViTConfig(**{**VIT, **fields}))


def vit_image() -> nn.Module:
    return vit()


def vit_gray() -> nn.Module:
    return vit()


TWINS.append(
    Twin(
        vit_image,
        lambda: vit(image_size=64),
        ((2, 3, 64, 64),),
        "is 64 × 64, the positions are those of 32 × 32 (config.image_size)",
    )
)
TWINS.append(Twin(vit_gray, lambda: vit(num_channels=1), ((2, 1, 32, 32),), "has 1 channel, the model takes 3"))


class BertClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        config = BertConfig(**BERT)
        self.bert = BertModel(config)
        self.fc = nn.Linear(32, 3)

    def forward(self, ids):
        return self.fc(self.bert(ids).pooler_output)


@twin(BertClassifier, ints(2, 60), reason="has 40 (config.max_position_embeddings); needs T ≤ 40")
class BertClassifierT(BertClassifier):
    def __init__(self):
        super().__init__()
        self.bert = BertModel(BertConfig(**{**BERT, "max_position_embeddings": 60}))


class WhisperFrames(nn.Module):
    def __init__(self):
        super().__init__()
        self.whisper = WhisperModel(WhisperConfig(**WH)).encoder
        self.fc = nn.Linear(32, 4)

    def forward(self, mel):
        return self.fc(self.whisper(mel).last_hidden_state.mean(1))


@twin(WhisperFrames, (2, 16, 80), reason="needs F = 100")
class WhisperFramesT(WhisperFrames):
    def __init__(self):
        super().__init__()
        self.whisper = WhisperModel(WhisperConfig(**{**WH, "max_source_positions": 40})).encoder


class GptVocab(nn.Module):
    """A tokenizer with more words than the model's table."""

    def __init__(self):
        super().__init__()
        self.gpt = GPT2Model(GPT2Config(**{**GPT, "vocab_size": 100}))

    def forward(self, ids):
        return self.gpt(input_ids=ids).last_hidden_state


@twin(GptVocab, torch.full((2, 6), 119), reason="got 119 (config.vocab_size)")
class GptVocabT(GptVocab):
    def __init__(self):
        super().__init__()
        self.gpt = GPT2Model(GPT2Config(**{**GPT, "vocab_size": 120}))


class Net(nn.Module):
    def __init__(self, max_len=100):
        super().__init__()
        self.emb = nn.Embedding(50, 16)
        self.pos = nn.Parameter(torch.zeros(1, max_len, 16))

    def forward(self, ids):
        return self.emb(ids) + self.pos[:, : ids.size(1)]


def short_table():
    return Net(max_len=100)


class PE(nn.Module):
    def __init__(self, d, max_len=50):
        super().__init__()
        pe = torch.zeros(max_len, d)
        position = torch.arange(0, max_len, dtype=torch.float).unsqueeze(1)
        div = torch.exp(torch.arange(0, d, 2).float() * (-math.log(10000.0) / d))
        pe[:, 0::2] = torch.sin(position * div)
        pe[:, 1::2] = torch.cos(position * div)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


def root_pe():
    return PE(16)


class GPTish(nn.Module):
    def __init__(self, vocab=50, block_size=32, dim=16):
        super().__init__()
        self.block_size = block_size
        self.tok, self.pos = nn.Embedding(vocab, dim), nn.Embedding(block_size, dim)
        self.head = nn.Linear(dim, vocab)

    def forward(self, ids):
        t = torch.arange(ids.size(1))
        return self.head(self.tok(ids) + self.pos(t))


@twin(GPTish, ints(2, 48), reason="'pos' has 32 (block_size=32)")
class GPTishT(GPTish):
    def __init__(self):
        super().__init__(block_size=48)


class GPTassert(GPTish):
    def forward(self, ids):
        t = ids.size(1)
        assert t <= self.block_size, f"Cannot forward sequence of length {t}, block size is only {self.block_size}"
        return self.head(self.tok(ids) + self.pos(torch.arange(t)))


@twin(GPTassert, ints(2, 48), reason="block size is only 32")
class GPTassertT(GPTassert):
    def __init__(self):
        super().__init__(block_size=48)


class StatefulInit(nn.Module):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size
        self.rnn, self.fc = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)
        self.hidden = self.init_hidden()

    def init_hidden(self):
        return (torch.zeros(1, self.batch_size, 8), torch.zeros(1, self.batch_size, 8))

    def forward(self, x):
        self.hidden = self.init_hidden()
        out, self.hidden = self.rnn(x, self.hidden)
        return self.fc(out[:, -1])


@twin(StatefulInit, (20, 7, 4), reason="this input needs [1, 20, 8]")
class StatefulInitT(StatefulInit):
    def __init__(self):
        super().__init__(20)


TWINS.append(Twin(short_table, lambda: Net(128), (ints(2, 128),), "'pos' has 100 (max_len=100)"))


TWINS.append(Twin(root_pe, lambda: PE(16, 80), ((2, 80, 16),), "'pe' has 50 (max_len=50)"))
