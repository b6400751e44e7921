"""A training step in another precision, and of several batches, as a real one on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.records.errors import InputError
from tests.byte_models import MODELS, Does
from tests.tracing.compared_steps import adamw, assert_equal, trace_training
from tests.tracing.real_step import _Storages, real_optimizer, run_real_step

pytestmark = pytest.mark.usefixtures("attention_as_traced")


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "encoder layer", "bert", "checkpoint"])
def test_a_batch_after_the_first_finds_gradients_there(name: str) -> None:
    make, give = MODELS[name]
    model, args = make(), give()
    ours = trace_training(model, *args, accumulate=4)
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, optimizer=adamw, accumulate=4))


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "attention function", "encoder layer", "bert"])
def test_mixed_precision_takes_what_a_real_step_under_autocast_takes(name: str) -> None:
    make, give = MODELS[name]
    model, args = make(), give()
    ours = trace_training(model, *args, precision="bf16-mixed")
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, optimizer=adamw, autocast=True))


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "encoder layer", "bert"])
def test_a_model_cast_to_bfloat16_takes_what_a_real_one_takes(name: str) -> None:
    make, give = MODELS[name]
    model, args = make(), give()
    ours = trace_training(model, *args, precision="bf16")
    cast = tuple(arg.bfloat16() if arg.is_floating_point() else arg for arg in args)
    assert_equal(ours, run_real_step(copy.deepcopy(model).bfloat16(), cast, optimizer=adamw))


@pytest.mark.parametrize("name", ["perceptron", "bert"])
def test_to_run_is_in_the_precision_of_the_step_and_never_more_than_to_train(name: str) -> None:
    make, give = MODELS[name]
    model, args = make(), give()
    real = _Storages()
    for tensor in [*model.parameters(), *model.buffers(), *args]:
        real.see(tensor)
    real.live.append(real.now)
    with real, torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(*args)
    ms = ModelSummary(model, input_data=args, precision="bf16-mixed")
    assert ms.memory.inference_bytes == max(real.live)
    frozen = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 12 * 12, 2))
    frozen[:2].requires_grad_(False)
    for precision in ("as is", "bf16-mixed", "bf16"):
        memory = ModelSummary(frozen, (4, 3, 16, 16), precision=precision, optimizer="sgd").memory
        assert (memory.inference_bytes or 0) <= (memory.training_bytes or 0), precision


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16"])
def test_an_lstm_in_bfloat16_has_a_workspace_of_its_own(precision: str) -> None:
    for features, hidden, length in ((16, 24, 7), (300, 77, 11), (33, 500, 5)):
        model, args = nn.LSTM(features, hidden, num_layers=2), (torch.randn(length, 3, features),)
        ours, real = trace_training(model, *args, precision=precision), copy.deepcopy(model)
        if precision == "bf16":
            real, args = real.bfloat16(), (args[0].bfloat16(),)
        assert_equal(ours, run_real_step(real, args, optimizer=adamw, autocast=precision == "bf16-mixed"))


def pool_unnormed(model: Any, x: Tensor) -> Tensor:
    return model.norm(model.first(x).unflatten(1, (2, 16))).flatten(1).sum(0)


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(16), nn.GroupNorm(2, 2), nn.BatchNorm1d(2), nn.InstanceNorm1d(2, affine=True)]
)
def test_statistics_of_a_half_input_and_float32_weights_are_float32(norm: nn.Module, precision: str) -> None:
    model, args = Does(pool_unnormed, first=nn.Linear(8, 32), norm=norm), (torch.randn(4, 8),)
    ours = trace_training(model, *args, precision=precision)
    is_half = precision == "fp16-mixed"
    options: dict[str, Any] = {"dtype": torch.float16, "scaled": True} if is_half else {}
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, optimizer=adamw, autocast=True, **options))


def test_what_an_operation_refuses_in_another_precision_is_told() -> None:
    model = Does(lambda model, x: model.layer(x.float()), layer=nn.Linear(8, 8))
    assert trace_training(model, torch.randn(4, 8)).reason == ""
    refused = trace_training(model, torch.randn(4, 8), precision="bf16").reason
    assert refused.startswith("the forward fails: RuntimeError: mat1 and mat2 must have the same dtype")


@pytest.mark.parametrize("wrong", [{"precision": "int4"}, {"accumulate": 0}, {"accumulate": True}, {"accumulate": "2"}])
def test_a_precision_and_a_number_of_batches_are_checked(wrong: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        ModelSummary(nn.Linear(2, 2), (1, 2), **wrong)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-fused", "sgd-single"])
@pytest.mark.parametrize("name", ["perceptron", "convolutions", "attention function", "encoder layer", "bert"])
def test_float16_with_a_scaler_takes_what_a_real_step_takes(name: str, optimizer: str) -> None:
    make, give = MODELS[name]
    model, args = make(), give()
    ours = trace_training(model, *args, precision="fp16-mixed", optimizer=optimizer)
    options: dict[str, Any] = {"optimizer": real_optimizer(optimizer), "dtype": torch.float16, "scaled": True}
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, autocast=True, **options))


def test_float16_with_a_scaler_adds_the_gradients_of_batches() -> None:
    make, give = MODELS["perceptron"]
    model, args = make(), give()
    ours = trace_training(model, *args, precision="fp16-mixed", accumulate=4)
    options: dict[str, Any] = {"dtype": torch.float16, "scaled": True, "accumulate": 4}
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, optimizer=adamw, autocast=True, **options))


def test_an_optimizer_that_multiplies_does_so_without_autocast_after_any_number_of_batches() -> None:
    model, args = nn.Linear(32, 192), (torch.randn(8, 32),)
    ours = trace_training(model, *args, precision="bf16-mixed", accumulate=2, optimizer="adafactor")
    real = run_real_step(copy.deepcopy(model), args, optimizer=real_optimizer("adafactor"), autocast=True, accumulate=2)
    assert_equal(ours, real)


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_where_torch_has_no_autocast_that_is_the_reason(precision: str) -> None:
    model = nn.Linear(8, 8, device="meta")
    ms = ModelSummary(model, (2, 8), precision=precision)
    assert ms.training.reason == "torch has no autocast on meta: device='cpu' traces it there"
    assert ms.story.internal_errors == ()
    there = ModelSummary(model, (2, 8), precision=precision, device="cpu").training
    assert there.live_bytes == ModelSummary(nn.Linear(8, 8), (2, 8), precision=precision).training.live_bytes
