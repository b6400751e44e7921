"""The loss of a training step: given, the model's own, or none, each as in a real step on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.errors import InputError
from tests.byte_models import IDS, TINY, Does
from tests.tracing.compared_steps import adamw, assert_equal, trace_training
from tests.tracing.real_step import run_real_step

pytestmark = pytest.mark.usefixtures("attention_as_traced")


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


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("cross entropy", "a function of the output"),
        (3, "a function of the output"),
        (nn.MSELoss, "the class MSELoss as a loss; expected an instance of it"),
    ],
)
def test_what_is_no_loss_is_refused_before_anything_is_traced(loss: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
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
        "the step needs tensor values, which fakes have not: ctc_loss() at test_training_losses.py:"
    )


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()])
def test_a_loss_of_modules_serves_every_batch(loss: nn.Module) -> None:
    def real(output: Tensor) -> Tensor:
        if isinstance(loss, nn.CrossEntropyLoss):
            return loss(output, torch.zeros(8, dtype=torch.int64))
        return loss(output, torch.zeros_like(output))

    model, args = nn.Linear(4, 3), (torch.randn(8, 4),)
    ours = trace_training(model, *args, loss=loss, accumulate=2)
    assert_equal(ours, run_real_step(copy.deepcopy(model), args, optimizer=adamw, loss=real, accumulate=2))
