"""Inputs, tensors and forwards of rarer kinds: each is answered, and what is said is so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization

from modelsummary_ipy import InputError, ModelSummary
from tests.reference import quietly, watch_with_hooks


def build_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU()).eval()


def test_a_frozen_script_module_is_answered() -> None:
    with quietly():
        frozen = torch.jit.freeze(torch.jit.script(build_layers()))
        ms = ModelSummary(frozen, (2, 8))
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (2, 16)
    assert ms.total_mult_adds == 2 * 8 * 16


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.parametrize("engine", ["auto", "real", "static"])
def test_nested_tensors_go_in(layout: Any, engine: Any) -> None:
    with quietly():
        x = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)], layout=layout)
        model = build_layers()
        ms = ModelSummary(model, x, engine=engine)
        assert ms.error is None
        assert "nested" not in str(ms.error)
        ms.to_html()
        if engine != "static":
            calls, _ = watch_with_hooks(model, "forward", (x,), {})
            seen = [(list(call.inputs), list(call.outputs)) for call in calls]
            rows = [row for row in ms.rows if row.kind == "module"]
            assert [([s.shape for s in row.inputs], [s.shape for s in row.outputs]) for row in rows] == seen
    if layout is torch.jagged and engine != "static":
        assert ms.total_mult_adds == (3 + 5) * 8 * 16


class Graph(nn.Module):
    """Neighbours are summed by a sparse matrix."""

    def __init__(self, adjacency: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.lin = nn.Linear(5, 7)

    def forward(self, x: Tensor, adjacency: Tensor | None = None) -> Tensor:
        return (self.adjacency if adjacency is None else adjacency) @ self.lin(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["csr", "csc", "bsr"])
@pytest.mark.parametrize("is_buffer", [False, True])
def test_compressed_sparse_matrices_are_run_for_real(name: str, is_buffer: bool) -> None:
    with quietly():
        sizes = (2,) if name == "bsr" else ()
        adjacency = getattr(torch.eye(10), f"to_sparse_{name}")(*sizes)
        x = torch.randn(10, 5)
        ms = ModelSummary(Graph(adjacency), x) if is_buffer else ModelSummary(Graph(None), [x, adjacency])
        assert ms.error is None
        assert ms.engine == "real"
        assert ms.rows[0].outputs[0].shape == (10, 7)
        assert all("(sparse)" in op for op in ms.unknown_ops)


def quantize_layers(model: nn.Module, example: Tensor) -> nn.Module:
    """Calibrate and convert, as eager quantization does."""
    model.eval().qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)  # type: ignore[assignment]
    quantization.prepare(model, inplace=True)
    model(example)
    quantization.convert(model, inplace=True)
    return model


@pytest.mark.parametrize("engine", ["auto", "real", "static"])
def test_packed_weights_of_quantized_layers_are_counted(engine: Any) -> None:
    with quietly():
        for model, x in (
            (nn.Sequential(nn.Linear(100, 50), nn.Linear(50, 2, bias=False)), torch.randn(2, 100)),
            (nn.Sequential(nn.LSTM(20, 8, 2)), torch.randn(3, 2, 20)),
        ):
            scalars = sum(param.numel() for param in model.parameters())
            kept = sum(param.numel() * (1 if param.dim() == 2 else 4) for param in model.parameters())
            small = quantization.quantize_dynamic(model, {nn.Linear, nn.LSTM})
            ms = ModelSummary(small, x, engine=engine)
            assert ms.error is None
            assert ms.total_params == scalars
            assert ms.trainable_params == 0
            assert ms.memory.param_bytes == kept
        conv = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 8, 3), quantization.DeQuantStub())
        small = quantize_layers(conv, torch.randn(1, 3, 8, 8))
        ms = ModelSummary(small, torch.randn(1, 3, 8, 8), engine=engine)
        assert ms["1"].own_params == ms.total_params == 8 * 3 * 9 + 8
        assert ms.memory.param_bytes == 8 * 3 * 9 + 8 * 4


class Yields(nn.Module):
    """A forward that gives its steps one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        for _ in range(3):
            x = self.lin(x)
            yield x


class Awaits(Yields):
    """A forward that is a coroutine, and waits for nothing."""

    async def forward(self, x: Tensor) -> Any:
        return self.lin(x)


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_a_forward_that_is_a_generator_runs_to_its_end(engine: Any) -> None:
    ms = ModelSummary(Yields(), (2, 4), engine=engine)
    assert [row.path for row in ms.rows if row.kind == "module"] == ["", "lin", "lin", "lin"]
    assert [spec.name for spec in ms.rows[0].outputs] == ["[0]", "[1]", "[2]"]
    assert ms.total_mult_adds == 3 * 2 * 4 * 4


def test_a_forward_that_is_a_coroutine_runs() -> None:
    ms = ModelSummary(Awaits(), (2, 4))
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (2, 4)
    assert ms.total_mult_adds == 2 * 4 * 4


class Raises(nn.Module):
    """A forward that raises what it is given."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = [error]

    def forward(self, x: Tensor) -> Tensor:
        raise self.error[0]


class Unsayable(Exception):
    """Its text can't be had."""

    def __str__(self) -> str:
        raise KeyError("no text")


def test_an_exception_whose_text_raises_is_a_finding_like_any_other() -> None:
    ms = ModelSummary(Raises(Unsayable()), (1, 2))
    assert ms.error is not None
    assert "its __str__ raised KeyError" in str(ms.error)
    assert isinstance(ms.error.__cause__, Unsayable)
    assert "Unsayable" in ms.to_html()


def test_no_message_is_longer_than_2000_characters() -> None:
    ms = ModelSummary(Raises(ValueError("a" * 5_000_000)), (1, 2))
    assert len(str(ms.error)) <= 2000
    assert len(ms.to_html()) < 200_000
    with pytest.raises(InputError) as caught:
        ModelSummary(build_layers(), {"input": {"a": list(range(100_000))}})
    assert len(str(caught.value)) <= 2000
