"""What the pages of well-known models weigh, as a notebook holds them: kilobytes are facts, unlike seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary


class Double(nn.Sequential):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
        )  # fmt: skip


class UNet(nn.Module):
    """Three levels, 7 × 6 layers and 7 more: what a skip joins has the size of what it joins."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        self.down = nn.ModuleList(Double(a, b) for a, b in zip([3, *widths], widths[:-1], strict=False))
        self.pool = nn.MaxPool2d(2)
        self.middle = Double(widths[-2], widths[-1])
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Double(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.middle(x)
        for level in (2, 1, 0):
            x = self.up[level](torch.cat([self.grow[level](x), skips[level]], 1))
        return self.head(x)


def transformer(name: str, kind: str = "Model", **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        return getattr(transformers, name + kind)(getattr(transformers, f"{name}Config")(**settings)).eval()

    return build


@dataclass(frozen=True)
class Case:
    """A model, its input, the most kilobytes of its page (100 for any unless asked), and what of it goes in.

    Attributes:
        is_whole: Whether all rows are in it.
        has_details: Whether the details of all rows are in it.
    """

    name: str
    build: Callable[[], nn.Module]
    size: Any
    kilobytes: int
    is_whole: bool = True
    has_details: bool = True


LLAMA_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "use_cache": False,
}  # fmt: skip
T5_SMALL = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
CASES = (
    Case("ResNet-50", transformer("ResNet", "ForImageClassification"), (8, 3, 224, 224), 80),
    Case("BERT-base", transformer("Bert"), (8, 128), 60),
    Case("GPT-2", transformer("GPT2"), (2, 256), 70),
    Case("ViT-B-16", transformer("ViT"), (8, 3, 224, 224), 60),
    Case("U-Net", UNet, (2, 3, 256, 256), 50),
    Case("Llama-8B", transformer("Llama", "ForCausalLM", **LLAMA_8B), (1, 2048), 80),
    Case(
        "T5-small", transformer("T5", "ForConditionalGeneration", **T5_SMALL),
        {"input_ids": (1, 64), "decoder_input_ids": (1, 16)}, 100, has_details=False,
    ),
    Case(
        "900 layers of 37 widths",
        lambda: nn.Sequential(*(nn.Linear(at % 37 + 1, (at + 1) % 37 + 1) for at in range(900))), (2, 1), 100,
        is_whole=False, has_details=False,
    ),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_page_is_as_small_as_a_notebook_needs_it(case: Case) -> None:
    with torch.device("meta"):  # where nothing takes memory
        model = case.build()
    page = ModelSummary(model, case.size, device="meta").to_html()
    assert len(page.encode()) <= 1024 * case.kilobytes
    assert ("not shown: to_frame() has them all" not in page) == case.is_whole
    assert case.has_details <= ("details of" not in page)
