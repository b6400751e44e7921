"""Blocks that are alike: what is wrong in one is found in each, and features are named by each one's own layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.pipeline.axis_findings import AxisFacts, find_axis_facts


class Block(nn.Module):
    """Attention and two layers; ``weigh`` makes weights of scores."""

    def __init__(self, weigh: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.up, self.down = nn.Linear(24, 40), nn.Linear(40, 24)
        self.weigh = weigh

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        batch, steps, width = x.shape
        q, k, v = (
            part.view(batch, -1, 4, width // 4).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, dim=-1)
        )
        if self.weigh is None:
            made = F.scaled_dot_product_attention(q, k, v)
        else:
            made = self.weigh(q @ k.transpose(-1, -2) / 6**0.5) @ v
        x = x + self.out(made.transpose(1, 2).reshape(batch, steps, width)) + memory
        return x + self.down(F.gelu(self.up(x)))


class Stack(nn.Module):
    """Blocks in a row; ``choose`` says what the block of a number reads besides what the one before it made."""

    def __init__(
        self,
        choose: Callable[[int, list[Tensor]], Tensor],
        weigh: Callable[[Tensor], Tensor] | None = None,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, 24), nn.Linear(24, 7)
        block = Block(weigh)
        self.blocks = nn.ModuleList(block if shared else Block(weigh) for _ in range(6))
        self.choose = choose

    def forward(self, ids: Tensor) -> Tensor:
        made = [self.table(ids)]
        for number, block in enumerate(self.blocks):
            made.append(block(made[-1], self.choose(number, made)))
        return self.head(made[-1])


def _find(stack: nn.Module) -> tuple[AxisFacts, ModelSummary]:
    ms = ModelSummary(stack.eval(), (3, 11), dtypes=["int64"])
    return find_axis_facts(ms.pipeline.batch, ms.pipeline.traced.trace), ms


MODELS = {
    "first": lambda: Stack(lambda number, made: made[0]),
    "last": lambda: Stack(lambda number, made: made[-1]),
    "another from the fourth on": lambda: Stack(lambda number, made: made[0] if number < 3 else made[2]),
    "each other": lambda: Stack(lambda number, made: made[number % 2]),
    "mirrored": lambda: Stack(lambda number, made: made[min(number, 5 - number)]),
    "shared": lambda: Stack(lambda number, made: made[0], shared=True),
    "weights": lambda: Stack(lambda number, made: made[0], lambda scores: scores.softmax(-1)),
    "wrong weights": lambda: Stack(lambda number, made: made[0], lambda scores: scores.softmax(-2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_wrong_weights_are_found_in_every_block(name: str) -> None:
    torch.manual_seed(0)
    found, ms = _find(MODELS[name]())
    rows = {call.index: call.path for call in ms.pipeline.traced.trace.calls}
    wrong = {rows[finding.call].partition(".attn")[0] for finding in found.findings if finding.kind == "softmax"}
    assert wrong == ({f"blocks.{number}" for number in range(6)} if name == "wrong weights" else set())


def test_features_of_a_block_are_named_by_its_own_layers() -> None:
    found, ms = _find(MODELS["first"]())
    paths = {call.path: call.index for call in ms.pipeline.traced.trace.calls if call.kind == "module"}
    origins = [found.origins[paths[f"blocks.{number}.qkv"]][0][-1] for number in range(6)]
    assert origins == [f"the features of blocks.{number}.qkv" for number in range(6)]
