"""Models whose bytes are compared with a real run's, each traced once for all tests of memory and of training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from tests.models import Square

__all__ = ["IDS", "MODELS", "TINY", "Does", "block", "conv_net", "trace_bytes"]


class Does(nn.Module):
    """A forward that is one function of the model and its inputs."""

    def __init__(self, function: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def block() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 16))


def checkpointed(use_reentrant: bool) -> nn.Module:
    def run(model: Any, x: Tensor) -> Tensor:
        return checkpoint(model.block, model.first(x), use_reentrant=use_reentrant).sigmoid()

    return Does(run, first=nn.Linear(16, 16), block=block())


def look_at_views(model: Any, x: Tensor) -> Tensor:
    y = model.layer(x).view(2, 4, 8).transpose(1, 2)[:, 1:3]
    return (y.exp().expand(3, 2, 2, 4).sum(0) * x[0, :1]).reshape(-1, 2)


def write_in_place(model: Any, x: Tensor) -> Tensor:
    return model.layer(x).exp_().mul_(2).add_(x).clamp_(0).sqrt_()


def write_into_parts(model: Any, x: Tensor) -> Tensor:
    y = model.layer(x).clone()
    y[:, 0] = y[:, 1] * 2
    y[0] = 1
    return y.tanh()


def drop_grad(model: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = model.first(x).relu()
    return model.second(y).relu()


def split_attention(model: Any, x: Tensor) -> Tensor:
    query, key, value = model.qkv(x).view(2, 6, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def freeze_first() -> nn.Module:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    model[0].requires_grad_(False)
    return model


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8),
        nn.GroupNorm(2, 8), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


TINY = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
IDS = {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def numbers(*size: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(size),)


def tokens(*size: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randint(0, 10, size),)


def layer(function: Callable[..., Any]) -> Callable[[], nn.Module]:
    return lambda: Does(function, layer=nn.Linear(8, 8))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Any, ...]]]] = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), numbers(8, 16)),
    "relu in place, dropout": (
        lambda: nn.Sequential(nn.Linear(16, 32), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(32, 4)),
        numbers(8, 16),
    ),
    "convolutions": (conv_net, numbers(4, 3, 32, 32)),
    "transposed, resampled": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(3, 8, 3, 2), nn.InstanceNorm2d(8), nn.LeakyReLU(0.1, True),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelShuffle(2),
        ),
        numbers(2, 3, 8, 8),
    ),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), numbers(2, 5, 16)),
    "decoder layer": (
        lambda: nn.TransformerDecoderLayer(16, 4, 32, batch_first=True, norm_first=True, activation="gelu"),
        lambda: (torch.randn(2, 5, 16), torch.randn(2, 7, 16)),
    ),
    "attention function": (lambda: Does(split_attention, qkv=nn.Linear(16, 48)), numbers(2, 6, 16)),
    "gru": (lambda: nn.GRU(4, 8, 2, bidirectional=True), numbers(5, 3, 4)),
    "lstm with projection": (lambda: nn.LSTM(4, 8, proj_size=3), numbers(5, 3, 4)),
    "lstm cell": (lambda: nn.LSTMCell(4, 8), numbers(5, 4)),
    "rnn": (lambda: nn.RNN(4, 8), numbers(5, 3, 4)),
    "views": (layer(look_at_views), numbers(8, 8)),
    "in place": (layer(write_in_place), lambda: (torch.rand(8, 8) + 1,)),
    "into parts": (layer(write_into_parts), numbers(8, 8)),
    "checkpoint": (lambda: checkpointed(False), numbers(8, 16)),
    "reentrant checkpoint": (lambda: checkpointed(True), numbers(8, 16)),
    "bfloat16": (
        lambda: nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 4)).bfloat16(),
        lambda: (torch.randn(8, 16).bfloat16(),),
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(10, 16), nn.LayerNorm(16), nn.Dropout(0.3), nn.Linear(16, 10)),
        tokens(4, 7),
    ),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(8, 8)), numbers(4, 8)),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(8, 8)), numbers(4, 8)),
    "bilinear": (lambda: nn.Bilinear(3, 4, 5), lambda: (torch.randn(2, 3), torch.randn(2, 4))),
    "tied": (layer(lambda model, x: F.linear(model.layer(x), model.layer.weight)), numbers(4, 8)),
    "no grad inside": (lambda: Does(drop_grad, first=nn.Linear(8, 8), second=nn.Linear(8, 8)), numbers(4, 8)),
    "frozen": (freeze_first, numbers(8, 16)),
    "own function": (layer(lambda model, x: Square.apply(model.layer(x))), numbers(4, 8)),
    "input with grad": (block, lambda: (torch.randn(8, 16, requires_grad=True),)),
    "loss": (
        layer(lambda model, x, y: F.cross_entropy(model.layer(x), y)),
        lambda: (torch.randn(4, 8), torch.tensor([0, 1, 2, 3])),
    ),
    "expanded input": (layer(lambda model, x: model.layer(x).relu()), lambda: (torch.randn(1, 8).expand(64, 8),)),
    "gpt2": (
        lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_layer=2, n_embd=64, n_head=4, **IDS)
        ),
        tokens(2, 16),
    ),
    "bert": (lambda: transformers.BertModel(transformers.BertConfig(**TINY, **IDS)), tokens(2, 16)),
    "llama": (
        lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY, **IDS, num_key_value_heads=2)),
        tokens(2, 16),
    ),
    "resnet": (
        lambda: transformers.ResNetModel(
            transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])
        ),
        numbers(2, 3, 32, 32),
    ),
}  # fmt: skip


class Weighed(NamedTuple):
    """A model, its inputs, and the summary of it; a test that runs it runs a copy."""

    model: nn.Module
    args: tuple[Any, ...]
    ms: ModelSummary


@functools.cache
def trace_bytes(name: str, mode: str = "train") -> Weighed:
    """Trace one of ``MODELS``."""
    make, give = MODELS[name]
    torch.manual_seed(0)
    model, args = make().train(mode == "train"), give()
    ms = ModelSummary(model, ModelInputs(args))
    assert (ms.engine, ms.error) == ("fake", None)
    return Weighed(model, args, ms)
