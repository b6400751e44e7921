"""Forwards that trace for TorchScript, exported modules, and the example of a Lightning module."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import InputError, ModelSummary
from tests.reference import quietly
from tests.tracing.test_kinds import build_layers


class TracesItself(nn.Module):
    """A forward that makes a ScriptModule of a layer, and calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Any:
        return torch.jit.trace(self.layer, x, check_trace=False)(x)


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_sizes_are_numbers_while_a_forward_traces_for_torchscript(engine: Any) -> None:
    with quietly():
        ms = ModelSummary(TracesItself(), (4, 3), engine=engine)
        assert ms["layer"].inputs[0].shape == (4, 3)
        assert ms["layer"].outputs[0].shape == (4, 2)
        assert all(type(size) is int for row in ms.rows for spec in row.outputs for size in spec.shape)
        ms.to_html()


class TracesAFunction(nn.Module):
    """A forward that traces a function of sizes, which are tensors while it is traced."""

    def forward(self, x: Tensor) -> Any:
        return torch.jit.trace(lambda t: t.view(int(t.shape[0]), t.size(1)), x, check_trace=False)(x)


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_sizes_that_a_trace_for_torchscript_writes_down_are_numbers(engine: Any) -> None:
    with quietly():
        ms = ModelSummary(TracesAFunction(), (4, 3), engine=engine)
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (4, 3)
    assert "jit::trace" in ms.unknown_ops  # under a mode torch traces results as constants


class TracesArithmetic(nn.Module):
    """A forward that traces a function which computes with sizes as tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Any:
        def scale(t: Tensor) -> Tensor:
            return t / t.size(0) + t.shape[1] * t.size(0) + t.numel()

        return torch.jit.trace(scale, self.layer(x), check_trace=False)(x)


def test_a_function_that_computes_with_sizes_is_traced_for_torchscript() -> None:
    with quietly():
        ms = ModelSummary(TracesArithmetic(), (4, 3))
    assert ms.error is None
    assert (ms["layer"].outputs[0].shape, ms.rows[0].outputs[0].shape) == ((4, 3), (4, 3))
    assert all(type(size) is int for row in ms.rows for spec in row.outputs for size in spec.shape)


class Holder:
    """What libraries put around a model."""

    def __init__(self) -> None:
        self.unet, self.steps = build_layers(), 10


def test_what_holds_a_model_and_is_none_is_told_which_module_to_pass() -> None:
    with pytest.raises(InputError, match=r"no torch\.nn\.Module itself; expected a module of it: model\.unet; for"):
        ModelSummary(Holder(), (2, 8))  # type: ignore[arg-type]  # that is the mistake
    with quietly():
        exported = torch.export.export(build_layers(), (torch.randn(2, 8),))
    with pytest.raises(InputError, match=r"ModelSummary\(model\.module\(\)"):
        ModelSummary(exported, (2, 8))  # type: ignore[arg-type]  # as above


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.inner(self.norm(x))
        return x + inner.relu()


class CallsABlockTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.blocks = nn.ModuleList([Block(), Block()])
        self.rnn = nn.GRU(8, 5, batch_first=True)

    def forward(self, x: Tensor, *, mask: Tensor) -> dict[str, Tensor]:
        x = self.blocks[0](self.blocks[1](self.blocks[0](self.stem(x))))
        return {"steps": self.rnn(x)[0] * mask.unsqueeze(-1), "mean": x.mean()}


@pytest.mark.parametrize("engine", ["fake", "real"])
@pytest.mark.parametrize("grad", [False, True])
def test_an_exported_module_has_the_rows_of_the_model_that_was_exported(engine: str, grad: bool) -> None:
    model, x, mask = CallsABlockTwice(), torch.randn(2, 3, 4), torch.ones(2, 3)
    seen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    def note(path: str, module: nn.Module, given: tuple[Tensor, ...], made: Any) -> None:
        made = made[0] if isinstance(made, tuple) else made
        seen.append((path, tuple(given[0].shape), tuple(made.shape)))

    with torch.set_grad_enabled(grad), quietly():
        exported = torch.export.export(model, (x,), {"mask": mask})
        handles = [
            module.register_forward_hook(functools.partial(note, path))
            for path, module in model.named_modules()
            if path and list(module.parameters())  # one without weights is not kept, and its operations are rows
        ]
        expected = model(x, mask=mask)
        for handle in handles:
            handle.remove()
        ms = ModelSummary(exported.module(), x, mask=mask, engine=engine)
        calls = [
            row
            for row in ms.rows
            if row.kind == "module" and row.status == "ran" and row.depth and row.path != "_guards_fn"
        ]
        assert sorted((row.path, row.inputs[0].shape, row.outputs[0].shape) for row in calls) == sorted(seen)
        assert {spec.shape for spec in ms.rows[0].outputs} == {tuple(made.shape) for made in expected.values()}
        whole = ModelSummary(model, x, mask=mask)
        assert ms.total_mult_adds == whole.total_mult_adds
        assert ms["rnn"].type_name == "GRU (exported)"
        assert ms.error is None


def test_an_exported_module_stays_in_the_mode_of_its_export() -> None:
    with quietly():
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        sizes = ({0: torch.export.Dim("B")},)
        exported = torch.export.export(model, (torch.randn(3, 4),), dynamic_shapes=sizes).module()
        ms = ModelSummary(exported, (7, 4))
        assert ms.formulas[0] == (("B", "4"),)
        assert ms.story.internal_errors == ()
        with pytest.raises(InputError, match="mode='eval' of a model that can't change it"):
            ModelSummary(nn.Sequential(exported), (7, 4), mode="eval")


class Lightning(nn.Module):
    """A model that says what it is to be tried with."""

    def __init__(self, example: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 3)
        self.example_input_array = example

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        y: Tensor = self.layer(x)
        return y if scale is None else y * scale


@pytest.mark.parametrize(
    "example",
    [torch.ones(4, 7), (torch.ones(4, 7), torch.ones(3)), {"x": torch.ones(4, 7), "scale": torch.ones(1)}],
)
def test_the_example_of_a_lightning_module_is_the_input_where_none_is_given(example: Any) -> None:
    ms = ModelSummary(Lightning(example))
    assert ms.error is None
    assert ms.rows[0].inputs[0].shape == (4, 7)
    assert len(ms.rows[0].inputs) == (1 if isinstance(example, Tensor) else 2)
    assert [fact.given for fact in ms.pipeline.traced.trace.inputs] == ["inferred"] * len(ms.rows[0].inputs)


@pytest.mark.parametrize("example", [(4, 7, 7), {"y": torch.ones(4, 7)}, 7])
def test_an_example_that_the_forward_does_not_take_is_none(example: Any) -> None:
    ms = ModelSummary(Lightning(example))
    assert ms.error is None
    assert ms.rows[0].inputs[0].shape[-1] == 7


class Halfway(nn.Module):
    """Counts from one half, as rotary positions of patches do."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(0.5, x.shape[-1], dtype=x.dtype)


def test_a_range_of_fractions_has_a_formula_and_no_error() -> None:
    ms = ModelSummary(Halfway(), (2, 6))
    assert ms.flags == ()
    assert ms.formulas[0] == (("B", "F"),)
    assert ms.story.internal_errors == ()
