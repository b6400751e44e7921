"""One training step on fakes: every byte that lives, at every moment, as in a real step on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.checkpoint import checkpoint

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.training import OPTIMIZERS, Training
from tests.byte_models import IDS, MODELS, TINY, Does, trace_bytes
from tests.models import by_name, empty_caches
from tests.reference import difference, fingerprint, quietly
from tests.traced import trace_case
from tests.tracing.real_step import RealStep, _Storages, real_optimizer, run_real_step, sum_outputs

pytestmark = pytest.mark.usefixtures("attention_as_traced")


def adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, foreach=True)


def trace_training(model: nn.Module, *args: Any, **options: Any) -> Training:
    ms = ModelSummary(model, ModelInputs(args), **options)
    assert (ms.engine, ms.error) == ("fake", None)
    return ms.training


def assert_equal(ours: Training, real: RealStep) -> None:
    assert ours.reason == ""
    assert list(ours.live_bytes) == real.live
    peaks = (ours.forward_peak_bytes, ours.backward_peak_bytes, ours.optimizer_peak_bytes)
    assert peaks == (real.forward, real.backward, real.optimizer)
    assert ours.peak_bytes == max(real.live)


# -- every byte, at every moment --------------------------------------------------------------------------------------


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


# -- optimizers -------------------------------------------------------------------------------------------------------


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


# -- the loss ---------------------------------------------------------------------------------------------------------


def test_a_loss_may_be_given_and_its_target_is_made_up() -> None:
    model, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), torch.randn(8, 8)
    given: list[tuple[Any, Callable[[Any], Tensor]]] = [
        (nn.CrossEntropyLoss(), lambda y: F.cross_entropy(y, torch.zeros(8, dtype=torch.int64))),
        (F.l1_loss, lambda y: F.l1_loss(y, torch.zeros(8, 4))),
        (lambda y: y.square().mean(), lambda y: y.square().mean()),
    ]
    for loss, real in given:
        ours = trace_training(model, x, loss=loss)
        assert_equal(ours, run_real_step(copy.deepcopy(model), (x,), optimizer=adamw, loss=real))
    assert trace_training(model, x, loss=nn.MSELoss()).reason == ""


def test_the_models_own_loss_is_taken() -> None:
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**TINY, **IDS))
    ids, labels = torch.ones(2, 6, dtype=torch.int64), torch.tensor([0, 1])
    kwargs = {"input_ids": ids, "labels": labels}
    ours = ModelSummary(model, ModelInputs((), kwargs)).training
    assert_equal(ours, run_real_step(model, (), kwargs, optimizer=adamw))


@pytest.mark.parametrize("loss", ["cross entropy", 3, nn.MSELoss])
def test_what_is_no_loss_is_refused_before_anything_is_traced(loss: Any) -> None:
    with pytest.raises(InputError, match="a function of the output"):
        ModelSummary(nn.Linear(2, 2), (1, 2), loss=loss)


def test_a_loss_that_is_no_number_is_an_error_of_the_argument() -> None:
    ms = ModelSummary(nn.Linear(2, 3), (4, 2), loss=lambda y: y)
    with pytest.raises(InputError, match=r"a tensor of size \[4, 3\]"):
        ms.training
    assert ms.memory.training_bytes is None
    assert "to run" in ms.to_text()


def test_without_anything_to_train_the_reason_is_given() -> None:
    frozen = ModelSummary(nn.Linear(2, 2).requires_grad_(False), (1, 2))
    assert frozen.training.reason == "nothing to train: no parameter requires grad"
    assert (frozen.training.peak_bytes, frozen.training.peak_row, frozen.training.held_at_peak) == (None, None, ())
    counts = ModelSummary(Does(lambda model, x: model.layer(x).argmax(1), layer=nn.Linear(2, 2)), (3, 2))
    assert counts.training.reason == "no loss can be made: the model gives no floating tensor"
    detached = ModelSummary(Does(lambda model, x: model.layer(x).detach(), layer=nn.Linear(2, 2)), (3, 2))
    assert detached.training.reason == "no loss can be made: no output requires grad"


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


# -- what stands where ------------------------------------------------------------------------------------------------


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


# -- another tracker --------------------------------------------------------------------------------------------------


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


# -- precision and accumulation ---------------------------------------------------------------------------------------


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


def pool_positions(model: Any, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool1d(model.norm(model.first(model.before(x))).transpose(1, 2), 1)


def test_gradients_of_a_norm_lie_as_its_kernel_lays_them_out() -> None:
    layers = {"before": nn.Linear(8, 16), "first": nn.Linear(16, 32), "norm": nn.LayerNorm(32)}
    model, args = Does(pool_positions, **layers), (torch.randn(2, 6, 8),)
    assert_equal(trace_training(model, *args), run_real_step(copy.deepcopy(model), args, optimizer=adamw))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda output: output.mean(0), r"the loss is a tensor of size \[3\], and no number"),
        (lambda output: output.nope(), "the loss fails: AttributeError: 'Tensor' object has no attribute 'nope'"),
        (lambda output: output @ output, "the loss fails: RuntimeError: "),
        (
            lambda output: F.cross_entropy(output, torch.zeros(2).int()),
            "the loss fails: RuntimeError: expected (target|scalar)",
        ),
    ],
)
def test_a_loss_that_fails_is_told_as_a_loss_and_not_as_the_forward(loss: Any, words: str) -> None:
    ms = ModelSummary(nn.Linear(4, 3), (2, 4), loss=loss)
    with pytest.raises(InputError, match=f"{words}.*expected a function that gives one number"):
        _ = ms.training
    text = " ".join(ms.to_text().split())
    assert "the loss" in text
    assert "the forward fails" not in text
    assert ms.error is None


@pytest.mark.parametrize("settings", [{"num_layers": 2, "bidirectional": True}, {"dropout": 0.1, "num_layers": 2}, {}])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_lstm_takes_what_a_real_one_takes_its_workspace_too(settings: dict[str, Any], mode: str) -> None:
    for features, hidden, length in ((16, 24, 7), (48, 64, 5), (100, 10, 3)):
        model, args = nn.LSTM(features, hidden, **settings).train(mode == "train"), (torch.randn(length, 3, features),)
        assert_equal(trace_training(model, *args), run_real_step(copy.deepcopy(model), args, optimizer=adamw))


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


#: Losses of ``(prediction, target)``, each alike; the loss of two is in the memory of all that it is a mean of.
LOSSES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.soft_margin_loss, F.kl_div, F.poisson_nll_loss,
    F.binary_cross_entropy_with_logits, F.cross_entropy, F.cosine_embedding_loss,
)  # fmt: skip


@pytest.mark.parametrize("loss", [*LOSSES, lambda x, y: F.binary_cross_entropy(x.sigmoid(), y)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_every_loss_takes_what_a_real_one_takes(loss: Any, reduction: str) -> None:
    def own(output: Tensor) -> Tensor:
        target = torch.ones_like(output)
        if loss is F.cosine_embedding_loss:
            return F.cosine_embedding_loss(output, target, torch.ones(8), reduction=reduction)
        return loss(output, target) if "lambda" in loss.__name__ else loss(output, target, reduction=reduction)

    model, args = nn.Linear(4, 3), (torch.randn(8, 4),)
    for _ in range(2):  # the second time from memory
        ours = trace_training(model, *args, loss=own)
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, optimizer=adamw, loss=own))


def test_a_loss_that_fakes_cannot_run_is_not_told_as_wrong() -> None:
    def loss(output: Tensor) -> Tensor:
        lengths = torch.randint(3, 4, (1,))  # whose values fakes do not know
        return F.ctc_loss(output.log_softmax(1), torch.ones(3).long(), torch.tensor([8]), lengths)

    ours = trace_training(nn.Linear(4, 3), torch.randn(8, 4), loss=loss)
    assert ours.reason.startswith(
        "the step needs tensor values, which fakes have not: ctc_loss() at test_training_step.py:"
    )


def test_what_an_operation_refuses_in_another_precision_is_told() -> None:
    model = Does(lambda model, x: model.layer(x.float()), layer=nn.Linear(8, 8))
    assert trace_training(model, torch.randn(4, 8)).reason == ""
    refused = trace_training(model, torch.randn(4, 8), precision="bf16").reason
    assert refused.startswith("the forward fails: RuntimeError: mat1 and mat2 must have the same dtype")


def test_a_model_that_fakes_cannot_run_says_why_it_has_no_step() -> None:
    model = Does(lambda model, x: model.layer(x * 2 if x.sum() > 0 else x), layer=nn.Linear(8, 8))
    assert ".bool() at test_training_step.py:" in ModelSummary(model, torch.randn(4, 8)).training.reason


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_batch_norm_before_all_that_trains_makes_no_gradient_of_its_input(mode: Any) -> None:
    model = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 2)).train(mode == "train")
    args = (torch.randn(256, 64),)
    assert_equal(trace_training(model, *args), run_real_step(copy.deepcopy(model), args, optimizer=adamw))


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


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()])
def test_a_loss_of_modules_serves_every_batch(loss: nn.Module) -> None:
    def real(output: Tensor) -> Tensor:
        if isinstance(loss, nn.CrossEntropyLoss):
            return loss(output, torch.zeros(8, dtype=torch.int64))
        return loss(output, torch.zeros_like(output))

    model, args = nn.Linear(4, 3), (torch.randn(8, 4),)
    ours = trace_training(model, *args, loss=loss, accumulate=2)
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, optimizer=adamw, loss=real, accumulate=2))


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
