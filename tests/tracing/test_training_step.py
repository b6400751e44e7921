"""One training step on fakes: every byte that lives, at every moment, as in a real step on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.checkpoint import checkpoint

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.training import OPTIMIZERS
from tests.byte_models import MODELS, Does, trace_bytes
from tests.models import by_name, empty_caches
from tests.reference import difference, fingerprint, quietly
from tests.traced import trace_case
from tests.tracing.compared_steps import adamw, assert_equal, trace_training
from tests.tracing.real_step import real_optimizer, run_real_step, sum_outputs

pytestmark = pytest.mark.usefixtures("attention_as_traced")


#: One can't be trained; in the other a view is written to, and autograd goes back through a fake's view by the view
#: itself, through a real one's by ``as_strided``: its peaks are equal.
TRAINABLE = [name for name in MODELS if name not in ("in place", "transposed, resampled")]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_a_step_takes_what_a_real_one_takes(name: str, mode: Any) -> None:
    model, args, ms = trace_bytes(name, mode)
    assert_equal(ms.training, run_real_step(copy.deepcopy(model), args, optimizer=adamw))


def test_a_view_that_is_written_to_changes_no_peak() -> None:
    model, args, ms = trace_bytes("transposed, resampled")
    ours = ms.training
    real = run_real_step(copy.deepcopy(model), args, optimizer=adamw)
    peaks = (ours.forward_peak_bytes, ours.backward_peak_bytes, ours.optimizer_peak_bytes)
    assert peaks == (real.forward, real.backward, real.optimizer)


def test_what_is_written_over_before_the_backward_is_found() -> None:
    model, args, ms = trace_bytes("in place")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        run_real_step(copy.deepcopy(model), args, optimizer=adamw)
    ours = ms.training
    assert ours.reason.startswith("the backward fails: RuntimeError: one of the variables needed for gradient")
    assert ours.failure is not None


#: Models of ``tests.models`` that train in ways of their own.
OWN_WAYS = (
    "Residual", "Reused", "SharedModule", "MadeInForward", "Recursive", "Vae", "OwnParameters", "Uncalled",
    "CatchesAFailure", "checkpointed", "CheckpointedSequence", "Autocast", "NoGrad", "Gradients", "AsksForGrad",
    "SelfAttention", "Sdpa", "Dropouts", "Cells", "GraphNet", "ReadsLengths", "TwoInputs", "WithLoss",
    "SharedParametrization", "Hooked", "Tied", "Complex", "OwnFunction", "Functional",
)  # fmt: skip


@pytest.mark.parametrize("name", OWN_WAYS)
def test_a_step_of_an_unusual_model_takes_what_a_real_one_takes(name: str) -> None:
    case, ms = by_name(name), trace_case(name, "auto").ms
    empty_caches()
    with quietly():
        ours = ms.training
        real = run_real_step(case.build(), *case.inputs(), optimizer=adamw, method=case.method)
    assert_equal(ours, real)


def deep(use_reentrant: bool | None) -> nn.Module:
    """Six layers of which a checkpoint keeps the inputs alone; ``None``: without it."""

    def run(model: Any, x: Tensor) -> Tensor:
        x = model.first(x)
        for block in model.blocks:
            x = block(x) if use_reentrant is None else checkpoint(block, x, use_reentrant=use_reentrant)
        return model.last(x)

    blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16), nn.Tanh()) for _ in range(6))
    return Does(run, first=nn.Linear(16, 16), blocks=blocks, last=nn.Linear(16, 4))


def under_autocast(model: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model.second(model.first(x).relu())


def twice(model: Any, x: Tensor) -> Tensor:
    return model.layer(model.layer(x).relu())


EXTRA: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "checkpoints": (lambda: deep(False), (torch.randn(32, 16),)),
    "reentrant checkpoints": (lambda: deep(True), (torch.randn(32, 16, requires_grad=True),)),
    "autocast": (lambda: Does(under_autocast, first=nn.Linear(8, 8), second=nn.Linear(8, 8)), (torch.randn(4, 8),)),
    "one layer twice": (lambda: Does(twice, layer=nn.Linear(8, 8)), (torch.randn(4, 8),)),
    "a bfloat16 model": (lambda: deep(None).bfloat16(), (torch.randn(32, 16).bfloat16(),)),
}


@pytest.mark.parametrize("name", EXTRA)
def test_checkpoints_and_autocast_are_as_in_a_real_step(name: str) -> None:
    make, args = EXTRA[name]
    model = make()
    assert_equal(trace_training(model, *args), run_real_step(copy.deepcopy(model), args, optimizer=adamw))


def pool_positions(model: Any, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool1d(model.norm(model.first(model.before(x))).transpose(1, 2), 1)


def test_gradients_of_a_norm_lie_as_its_kernel_lays_them_out() -> None:
    layers = {"before": nn.Linear(8, 16), "first": nn.Linear(16, 32), "norm": nn.LayerNorm(32)}
    model, args = Does(pool_positions, **layers), (torch.randn(2, 6, 8),)
    assert_equal(trace_training(model, *args), run_real_step(copy.deepcopy(model), args, optimizer=adamw))


@pytest.mark.parametrize("settings", [{"num_layers": 2, "bidirectional": True}, {"dropout": 0.1, "num_layers": 2}, {}])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_lstm_takes_what_a_real_one_takes_its_workspace_too(settings: dict[str, Any], mode: str) -> None:
    for features, hidden, length in ((16, 24, 7), (48, 64, 5), (100, 10, 3)):
        model, args = nn.LSTM(features, hidden, **settings).train(mode == "train"), (torch.randn(length, 3, features),)
        assert_equal(trace_training(model, *args), run_real_step(copy.deepcopy(model), args, optimizer=adamw))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_batch_norm_before_all_that_trains_makes_no_gradient_of_its_input(mode: Any) -> None:
    model = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 2)).train(mode == "train")
    args = (torch.randn(256, 64),)
    assert_equal(trace_training(model, *args), run_real_step(copy.deepcopy(model), args, optimizer=adamw))


# -- optimizers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_what_a_real_one_takes(name: str) -> None:
    make, give = MODELS["convolutions"]
    model, args = make(), give()
    ms = ModelSummary(model, ModelInputs(args), optimizer=name)
    real = run_real_step(copy.deepcopy(model), args, optimizer=real_optimizer(name))
    assert_equal(ms.training, real)
    numbers = 4 * len(list(model.parameters())) if "ada" in name else 0  # step counts
    assert ms.memory.optimizer_bytes == real.state - numbers
    assert ms.memory.optimizer == name


def test_a_class_of_optimizers_serves_and_the_users_own_is_copied() -> None:
    model, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), torch.randn(8, 8)
    assert_equal(
        trace_training(model, x, optimizer=torch.optim.RAdam),
        run_real_step(copy.deepcopy(model), (x,), optimizer=torch.optim.RAdam),
    )

    def own(params: Any) -> torch.optim.Optimizer:
        first, *rest = params
        return torch.optim.AdamW([{"params": rest}, {"params": [first], "lr": 1.0}], amsgrad=True, foreach=False)

    mine = own(model.parameters())
    model(x).sum().backward()
    mine.step()
    hooked: list[int] = []
    mine.register_step_pre_hook(lambda *_: hooked.append(1))
    inputs = (x,)
    before = fingerprint(model, inputs), copy.deepcopy(mine.state_dict())
    ours = trace_training(model, x, optimizer=mine)
    assert difference(before[0], fingerprint(model, inputs)) == []
    assert str(before[1]) == str(mine.state_dict())
    assert hooked == []
    assert ours.optimizer == "AdamW"
    fresh = copy.deepcopy(model)
    fresh.zero_grad()
    assert_equal(ours, run_real_step(fresh, (x,), optimizer=own))


class FailsAtItsStep(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        raise ValueError("no step")


def test_an_optimizer_that_fails_is_told_and_leaves_values_unknown_to_other_traces() -> None:
    model = Does(lambda model, x: model.layer(x) * float(model.layer.weight.norm()), layer=nn.Linear(2, 2))
    plain = nn.Linear(2, 2)
    failing = ModelSummary(plain, (3, 2), optimizer=FailsAtItsStep(plain.parameters(), 0.1)).training
    assert failing.reason == "the optimizer's step fails: ValueError: no step"
    ms = ModelSummary(Does(lambda model, x: model.layer(x), layer=nn.Linear(2, 2)), (3, 2), optimizer="adafactor")
    assert ms.training.reason == ""
    mode = ms.pipeline.traced.shadow._own_mode()
    assert mode.assumed_number is None
    assert "needs" in ModelSummary(model, (3, 2), engine="fake").pipeline.traced.trace.failure.limit  # type: ignore[union-attr]


def test_gradients_of_the_user_stay_and_do_not_count() -> None:
    model, x = nn.Linear(8, 4), torch.randn(2, 8)
    bare = trace_training(model, x)
    model(x).sum().backward()
    inputs = (x,)
    before = fingerprint(model, inputs)
    with_gradients = trace_training(model, x)
    assert difference(before, fingerprint(model, inputs)) == []
    assert with_gradients.live_bytes == bare.live_bytes


def test_a_state_that_is_made_with_the_optimizer_is_there_before_the_step() -> None:
    model, args = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), (torch.randn(8, 8),)
    ours = trace_training(model, *args, optimizer=torch.optim.Adagrad)
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, optimizer=torch.optim.Adagrad))


def test_gradients_of_parameters_that_an_optimizer_leaves_out_stay() -> None:
    model, args = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), (torch.randn(8, 8),)
    mine = torch.optim.SGD(model[2].parameters(), 0.1, momentum=0.9)
    ours = trace_training(model, *args, optimizer=mine)
    real = run_real_step(
        copy.deepcopy(model), args, optimizer=lambda params: torch.optim.SGD(params[2:], 0.1, momentum=0.9)
    )
    assert_equal(ours, real)
    assert model[0].weight.grad is None


# -- what fails --------------------------------------------------------------------------------------------------------


class FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise ValueError("no way back")


def test_a_backward_that_fails_is_told_like_a_forward_that_fails() -> None:
    model = Does(
        lambda model, x: model.last(FailsBackward.apply(model.first(x))), first=nn.Linear(2, 2), last=nn.Tanh()
    )
    ms = ModelSummary(model, (3, 2), optimizer="sgd")
    step = ms.training
    assert ms.error is None
    assert step.peak_bytes is None
    assert step.reason == "the backward fails: ValueError: no way back"
    assert step.failure is not None
    assert step.failure.source_text == 'raise ValueError("no way back")'
    text = " ".join(ms.to_text().split())
    assert "the backward fails" in text
    assert "test_training_step.py:" in text
    assert "no way back" in text


def test_a_model_that_fakes_cannot_run_says_why_it_has_no_step() -> None:
    model = Does(lambda model, x: model.layer(x * 2 if x.sum() > 0 else x), layer=nn.Linear(8, 8))
    assert ".bool() at test_training_step.py:" in ModelSummary(model, torch.randn(4, 8)).training.reason


# -- what stands where -------------------------------------------------------------------------------------------------


def test_every_storage_has_a_category_a_row_and_a_line() -> None:
    def run(model: Any, x: Tensor) -> Tensor:
        return model.second(model.first(x).relu()).exp()

    model = Does(run, first=nn.Linear(4, 8), second=nn.Linear(8, 2))
    ms = ModelSummary(model, (16, 4), optimizer="sgd")
    kinds: dict[tuple[str, str], list[int]] = {}
    for life in ms.training.storages:
        row = ms.rows[life.row] if life.row is not None else None
        kinds.setdefault((life.category, row.path or row.type_name if row is not None else ""), []).append(life.nbytes)
        assert row is None or life.source == row.source
    loss = ("saved activation", "")
    assert kinds == {
        ("parameter", "first"): [128, 32], ("parameter", "second"): [64, 8], ("input", ""): [256],
        ("temporary", "first"): [512],  # relu saves what it makes, and not what it was given
        ("saved activation", "relu"): [512], ("temporary", "second"): [128], ("saved activation", "exp"): [128],
        loss: [4], ("activation gradient", ""): [4],
        ("activation gradient", "exp"): [128], ("activation gradient", "second"): [512],
        ("gradient", "second"): [64, 8], ("activation gradient", "relu"): [512], ("gradient", "first"): [128, 32],
    }  # fmt: skip
    phases = [moment.phase for moment in ms.training.moments]
    assert phases == sorted(phases, key=["forward", "backward", "optimizer"].index)


def test_the_peak_is_named_and_what_stands_there_adds_up() -> None:
    ms = trace_bytes("convolutions").ms
    step = ms.training
    assert step.peak_phase == "backward"
    assert step.peak_row is not None
    assert (
        ms.rows[step.peak_row].path == "2"
    )  # what it made, which the pooling saves too, what it was given, and two gradients
    assert sum(held.nbytes for held in step.held_at_peak) == step.peak_bytes
    known = sum(held.nbytes for held in step.held_at_peak if held.row is not None)
    assert sum(step.peak_share.values()) == pytest.approx(known / (step.peak_bytes or 1))
    assert max(point.nbytes for point in step.timeline) == step.peak_bytes
    assert all(sum(point.by_category) == point.nbytes for point in step.timeline)


def test_buffers_are_told_from_parameters() -> None:
    model, _, ms = trace_bytes("convolutions")
    begun = [life for life in ms.training.storages if not life.birth]
    for kind, tensors in (("parameter", model.parameters()), ("buffer", model.buffers())):
        assert sum(life.nbytes for life in begun if life.category == kind) == sum(each.nbytes for each in tensors)


def test_what_a_checkpoint_runs_again_belongs_to_the_rows_of_the_forward() -> None:
    ms = ModelSummary(deep(False), (32, 16))
    step = ms.training
    again = [moment for moment in step.moments if moment.is_recomputed]
    assert {ms.rows[moment.row].path for moment in again if moment.row is not None} == {
        f"blocks.{block}.{layer}" for block in range(6) for layer in range(4)
    }
    assert all(moment.phase == "backward" and moment.row is not None for moment in again)
    assert (step.peak_bytes or 0) < (ModelSummary(deep(None), (32, 16)).training.peak_bytes or 0)


@pytest.mark.parametrize("name", ["convolutions", "bert", "checkpoint", "views"])
def test_to_train_takes_never_less_than_to_run(name: str) -> None:
    make, give = MODELS[name]
    memory = ModelSummary(make(), ModelInputs(give()), optimizer="sgd").memory
    assert (memory.training_bytes or 0) >= (memory.inference_bytes or 0) > 0


# -- another tracker ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "encoder layer", "gpt2", "resnet"])
def test_torchs_own_tracker_says_the_same(name: str) -> None:
    model, args, ms = trace_bytes(name)
    ours, model = ms.training, copy.deepcopy(model)
    optimizer = adamw(model.parameters())
    tracker = MemTracker()
    tracker.track_external(model, optimizer, *args)
    with tracker:
        for _ in range(2):
            tracker.reset_mod_stats()
            output = model(*args)  # kept, as a loop's variable is
            loss = sum_outputs(output)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    peak = tracker.get_tracker_snapshot("peak")
    total = next(iter(peak.values()))["Total"]
    assert ours.peak_bytes == pytest.approx(total, rel=0.01)
