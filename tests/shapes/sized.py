"""Models whose sizes have limits, and what is found of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.display.rows import build_rows
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.batch_trace import find_batch
from modelsummary_ipy.shapes.expr_text import evaluate
from modelsummary_ipy.shapes.formulas import Formulas, find_formulas
from modelsummary_ipy.summary import ModelSummary
from modelsummary_ipy.tracing.engine import run_engine
from tests.reference import quietly


class Net(nn.Module):
    """Layers and a function that runs them."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*self.layers, *inputs)


class UNet(nn.Module):
    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.down = nn.Conv2d(3, 3, 3, padding=1)
        self.up = nn.ConvTranspose2d(3, 3, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for _ in range(self.levels):
            kept.append(x)
            x = F.max_pool2d(self.down(x), 2)
        for _ in range(self.levels):
            x = self.up(x) + kept.pop()
        return x


class Positions(nn.Module):
    """Tokens with learned positions, looked up or sliced."""

    def __init__(self, most: int, *, lookup: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(100, 8)
        self.positions = nn.Embedding(most, 8)
        self.lookup = lookup

    def forward(self, ids: Tensor) -> Tensor:
        steps = torch.arange(ids.shape[1])
        places = self.positions(steps) if self.lookup else self.positions.weight[: ids.shape[1]]
        return self.tokens(ids) + places


def run(model: nn.Module, dtype: torch.dtype, *sizes: int) -> bool:
    """Return whether a real forward at this size comes to its end."""
    try:
        with quietly(), torch.no_grad():
            model(torch.zeros(sizes, dtype=dtype))
    except (RuntimeError, ValueError, IndexError):
        return False
    return True


def find(model: nn.Module, *shape: int, dtype: str | None = None) -> tuple[Any, Formulas]:
    """Return a trace at one size, and the formulas that are found."""
    traced = run_engine(model, ModelInputs((Size(shape, dtype=dtype),)))
    rows = build_rows(traced.trace)
    return traced, find_formulas(find_batch(traced.request, traced.trace, rows), traced.trace, rows)


def compare(ms: ModelSummary, model: nn.Module, sizes: dict[str, int], shape: tuple[int, ...]) -> None:
    """Compare all formulas with the rows of a real run; either may make operations that the other does not need."""
    seen = ModelSummary(model.eval(), torch.zeros(shape), engine="real").story.trace
    partners = align_calls(ms.story.trace, seen)
    compared = 0
    for row in ms.rows:
        partner = None if row.call is None else partners[row.call]
        for formula, spec in zip(
            ms.formulas.get(row.index, ()), () if partner is None else seen.calls[partner].outputs, strict=False
        ):
            if formula is not None:
                compared += 1
                assert tuple(evaluate(dim, sizes) for dim in formula) == spec.shape, (row.path, row.type_name, formula)
    assert compared
