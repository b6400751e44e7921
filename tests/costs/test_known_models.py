"""Multiply-adds of models that people know, against counts by hand."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.summary import ModelSummary
from tests.costs.test_row_costs import Does, count
from tests.reference import HAS_GROUPED_PRODUCTS


def transformer_mult_adds(tokens: int, layers: int, width: int, hidden: int, texts: int = 1) -> int:
    """Count a stack of plain layers: four projections, two products over all positions, two layers behind them."""
    length = tokens // texts
    one = tokens * (4 * width**2 + 2 * width * hidden) + texts * 2 * length**2 * width
    return layers * one


def test_gpt2_of_four_layers() -> None:
    with torch.device("meta"):  # 67 M random numbers would take long
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=4)).eval()
    by_hand = transformer_mult_adds(128, 4, 768, 3072) + 128 * 768 * 50_257
    assert by_hand == 8_665_006_080  # 8,665 M; a tool that multiplies parameters by sizes says 59,402 M
    assert count(model, torch.zeros(1, 128, dtype=torch.int64, device="meta")) == by_hand


def test_bert_base() -> None:
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig()).eval()
    by_hand = transformer_mult_adds(8 * 128, 12, 768, 3072, texts=8) + 8 * 768**2  # and the pooler, once a text
    assert count(model, torch.zeros(8, 128, dtype=torch.int64, device="meta")) == by_hand


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_llama_with_grouped_queries_and_a_gated_layer(attention: str) -> None:
    config = transformers.LlamaConfig(
        hidden_size=256, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, intermediate_size=688,
        vocab_size=1000, attn_implementation=attention, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    tokens, keys = 2 * 64, 256 * 2 // 8
    layer = tokens * (2 * 256**2 + 2 * 256 * keys + 3 * 256 * 688) + 2 * 2 * 64**2 * 256
    # and the angles of the rotary embedding, a product of 16 frequencies (a head is 32 wide) with 64 positions
    angles = 16 * 64 * count_rotary_tables(model, 2, 64)
    assert count(model, torch.zeros(2, 64, dtype=torch.int64)) == 3 * layer + tokens * 256 * 1000 + angles


def count_rotary_tables(model: nn.Module, batch: int, length: int) -> int:
    """How many tables the rotary embedding makes by a product of matrices: seen by torch's own counter."""
    rotary = model.model.rotary_emb  # type: ignore[union-attr]
    positions = torch.arange(length)[None]
    with FlopCounterMode(display=False) as counter:
        rotary(torch.zeros(batch, length, 256), positions)
    return counter.get_total_flops() // 2 // (16 * length)


def resnet50_mult_adds(size: int) -> int:
    """Count a ResNet-50 whose bottlenecks stride in their 3 × 3: 4,089 M at 224² with the classifier."""
    side = size // 2
    total = side**2 * 64 * 3 * 49
    side //= 2
    width_in = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, width = 64 << stage, 256 << stage
        for block in range(blocks):
            before = side
            side = side // 2 if stage and not block else side
            total += before**2 * width_in * inner + side**2 * (inner * inner * 9 + inner * width)
            total += side**2 * width_in * width if not block else 0
            width_in = width
    return total + 2048 * 1000


def test_resnet50() -> None:
    assert resnet50_mult_adds(224) == 4_089_184_256
    with torch.device("meta"):
        model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)).eval()
    assert count(model, torch.zeros(1, 3, 224, 224, device="meta")) == resnet50_mult_adds(224)
    assert count(model, torch.zeros(2, 3, 64, 64, device="meta")) == 2 * resnet50_mult_adds(64)


class TopK(nn.Module):
    """Each token goes to the two best of four experts, each of which takes only what was sent to it."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 4)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, -1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, places = (chosen == number).nonzero(as_tuple=True)
            out = out.index_add(0, rows, expert(x[rows]) * weights[rows, places, None])
        return out


def test_a_mixture_counts_what_each_expert_was_sent() -> None:
    torch.manual_seed(0)
    ms = ModelSummary(TopK(), ModelInputs((torch.randn(12, 8),)))
    assert ms.engine == "real"  # who gets what depends on values
    assert ms.total_mult_adds == 12 * 8 * 4 + 12 * 2 * (2 * 8 * 16)
    assert ms.unknown_ops == ()


@pytest.mark.skipif(not HAS_GROUPED_PRODUCTS, reason="torch before 2.9 has none on a CPU")
@pytest.mark.parametrize("engine", ["fake", "real"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_grouped_products_count_each_row_once(dtype: torch.dtype, engine: str) -> None:
    def run(x: Tensor, weights: Tensor) -> Tensor:
        return torch._grouped_mm(x, weights, torch.tensor([3, 8], dtype=torch.int32))

    x, weights = torch.zeros(8, 16, dtype=dtype), torch.zeros(2, 16, 32, dtype=dtype)
    assert count(Does(run), x, weights, engine=engine) == 8 * 16 * 32
