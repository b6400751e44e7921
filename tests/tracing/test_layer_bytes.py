"""A trace with grad in which layers like others are not run tells of bytes and history what one that runs all tells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.tracing.engine import run_engine
from modelsummary_ipy.tracing.layer_bytes import LayerBytes
from modelsummary_ipy.tracing.retracer import trace_fake
from tests.reference import quietly
from tests.zoo import ZOO


class Looped(nn.Module):
    """Layers that are called five times each, in the way that ``run`` calls them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(5):
            x = self.run(x)
        return x

    def run(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Recurrent(nn.Module):
    """A cell that gives two tensors, of which the first call gets one twice."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 4)
        for _ in range(5):
            h, c = self.cell(x, (h, c))
        return h + c


class Shared(Looped):
    """Parts of one tensor, then a parameter, go into one layer."""

    def run(self, x: Tensor) -> Tensor:
        one, two = x[:, :2], x[:, 2:]
        both = torch.cat([self.layers[0](one), self.layers[0](two)], 1)
        return both + self.layers[0](self.layers[0].weight.t()).sum()


class Checkpointed(Looped):
    def run(self, x: Tensor) -> Tensor:
        return torch.as_tensor(checkpoint(super().run, super().run(x), use_reentrant=False))


class WithoutGrad(Looped):
    def run(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = super().run(x)
        return super().run(x)


class Overwritten(Looped):
    def run(self, x: Tensor) -> Tensor:
        return super().run(x).mul_(2)


def make_frozen() -> nn.Module:
    model = Looped(nn.Linear(4, 4), nn.Linear(4, 4))
    model.layers[0].requires_grad_(False)
    return model


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "cells": (Recurrent, (2, 3)),
    "convolutions": (lambda: Looped(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()), (2, 3, 8, 8)),
    "in place": (lambda: Looped(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Dropout(0.1)), (2, 4)),
    "sequences": (lambda: Looped(nn.LayerNorm(4), nn.Linear(4, 4, bias=False), nn.GELU()), (2, 3, 4)),
    "frozen": (make_frozen, (2, 4)),
    "parts of a tensor": (lambda: Shared(nn.Linear(2, 2)), (2, 4)),
    "checkpoints": (lambda: Checkpointed(nn.Linear(4, 4), nn.Tanh()), (2, 4)),
    "without grad": (lambda: WithoutGrad(nn.Linear(4, 4), nn.Tanh()), (2, 4)),
    "overwritten": (lambda: Overwritten(nn.Linear(4, 4), nn.Tanh()), (2, 4)),
}  # fmt: skip


def count_repeats(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note the layers that are not run."""
    found: list[object] = []
    repeat: Any = LayerBytes.repeat

    def note(self: Any, *args: Any) -> Any:
        found.append(self)
        return repeat(self, *args)

    monkeypatch.setattr(LayerBytes, "repeat", note)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_of_layers_that_are_called_again_is_that_of_one_that_runs_them(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    build, size = MODELS[name]
    request = run_engine(build().train(), ModelInputs((torch.zeros(size),), {})).request
    assert request is not None
    repeats = count_repeats(monkeypatch)
    made = trace_fake(request)
    assert len(repeats) >= 3
    repeats.clear()
    in_full = trace_fake(request, in_full=True)
    assert repeats == []
    assert made is not None
    assert in_full is not None
    assert made[0].trace == in_full[0].trace
    assert in_full[0].trace.knows_saved


@pytest.mark.parametrize("animal", [a for a in ZOO if not a.needs_values][::6], ids=lambda animal: animal.name)
def test_an_architecture_has_the_bytes_of_a_trace_that_runs_every_layer(animal: Any) -> None:
    with quietly():
        request = run_engine(animal.build(), ModelInputs((), animal.inputs()), mode="train").request
        assert request is not None
        made, in_full = trace_fake(request), trace_fake(request, in_full=True)
    assert made is not None
    assert in_full is not None
    assert made[0].trace == in_full[0].trace


@pytest.mark.parametrize("name", ["cells", "sequences"])
def test_what_autograd_saves_is_what_it_saves_for_real(name: str) -> None:
    build, size = MODELS[name]
    model, x = build(), torch.zeros(size)
    params = {param.untyped_storage().data_ptr() for param in model.parameters()}
    kept: dict[int, Any] = {}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in params:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        output = model(x)
    assert output.requires_grad
    ms = ModelSummary(model, input_data=x)
    assert ms.costs[0].activation_bytes == sum(storage.nbytes() for storage in kept.values())
    assert ms.pipeline.traced.trace.trained == frozenset(range(len(params)))


def test_a_forward_that_goes_backward_itself_is_run_in_full_and_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Penalty(Looped):
        def forward(self, x: Tensor) -> Tensor:
            print("here")
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(super().forward(x).sum(), x, create_graph=True)
            return slope.pow(2)

    model = Penalty(nn.Linear(4, 4), nn.Tanh())
    ms = ModelSummary(model, (2, 4))
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == model(torch.zeros(2, 4)).shape
    assert [row.type_name for row in ms.rows].count("Linear") == 5
    assert capsys.readouterr().out == "here\nhere\n"  # once for the summary, once for the call above
