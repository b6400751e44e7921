"""The models that every tool is measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A model and the input it is measured with.

    Attributes:
        name: What the table calls it.
        build: Makes the model.
        size: Size of its one input.
        dtype: Dtype of its one input.
        device: Device of the model and its input.
        rounds: How many times each tool is timed.
        tools: Names of the tools that are asked; empty for all.
    """

    name: str
    build: Callable[[], nn.Module]
    size: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    rounds: int = 5
    tools: tuple[str, ...] = ()

    def make_input(self) -> Tensor:
        """Make the input; ids are zero, which every embedding has."""
        return torch.zeros(self.size, dtype=self.dtype, device=self.device)


class Example(nn.Module):
    """The two convolutions of the first page."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 16, 3, padding=5)
        self.conv1 = nn.Conv2d(16, 32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(self.conv0(x))


def _transformer(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{name}Config")(**settings)
        return getattr(transformers, f"{name}Model")(config).eval()

    return build


def _llama_on_meta() -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=32000,
        use_cache=False,
    )
    with torch.device("meta"):
        return LlamaModel(config).eval()


def _sequential(count: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(count)))


IDS = torch.int64
CASES = (
    Case("example", Example, (1, 1, 256, 256), rounds=9),
    Case("ResNet-50 8×224²", _transformer("ResNet"), (8, 3, 224, 224)),
    Case("BERT-base 8×128", _transformer("Bert"), (8, 128), IDS),
    Case("ViT-B/16 8×224²", _transformer("ViT"), (8, 3, 224, 224)),
    Case("GPT-2 2×256", _transformer("GPT2", use_cache=False), (2, 256), IDS),
    Case("Llama-70B meta 1×2048", _llama_on_meta, (1, 2048), IDS, "meta", 3, ("rows", "everything", "bare", "forward")),
    Case("1,000 modules", _sequential(1_000), (2, 4)),
    Case("10,000 modules", _sequential(10_000), (2, 4), rounds=3, tools=("rows", "everything", "bare", "torchinfo")),
    Case("50,000 modules", _sequential(50_000), (2, 4), rounds=1, tools=("rows", "torchinfo")),
)
