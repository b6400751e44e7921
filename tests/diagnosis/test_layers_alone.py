"""A layer or a loss alone, as a training loop calls it: no line of a model is to change, but what it is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary


def floats(*shape: int) -> Tensor:
    return torch.rand(shape)


def labels(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).remainder(5).reshape(shape)


CE, BCE = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()
CASES: dict[str, tuple[nn.Module, dict[str, Any], str]] = {
    "one-label": (CE, {"input": floats(8, 10), "target": labels(8, 1)}, "model(input, target.squeeze(1))"),
    "float-labels": (CE, {"input": floats(8, 10), "target": floats(8)}, "model(input, target.long())"),
    "one-hot": (CE, {"input": floats(8, 5), "target": F.one_hot(labels(8), 5)}, "model(input, target.float())"),
    "classes-last": (
        CE, {"input": floats(4, 12, 50), "target": labels(4, 12)}, "model(input.transpose(1, 2), target)",
    ),
    "steps": (CE, {"input": floats(48, 50), "target": labels(4, 12)}, "model(input, target.flatten())"),
    "coarse": (
        CE,
        {"input": floats(2, 5, 8, 8), "target": labels(2, 16, 16)},
        'model(torch.nn.functional.interpolate(input, size=target.shape[-2:], mode="bilinear"), target)',
    ),
    "integers": (BCE, {"input": floats(8, 1), "target": labels(8, 1)}, "model(input, target.float())"),
    "column": (BCE, {"input": floats(8, 1), "target": floats(8)}, "model(input.squeeze(1), target)"),
    "classes": (
        nn.MSELoss(),
        {"input": floats(8, 10), "target": labels(8)},
        "model(input, torch.nn.functional.one_hot(target, 10).float())",
    ),
    "images": (
        nn.L1Loss(), {"input": floats(8, 784), "target": floats(8, 1, 28, 28)}, "model(input, target.flatten(1))",
    ),
    "batch-first": (
        nn.CTCLoss(),
        {
            "log_probs": floats(4, 50, 20),
            "targets": labels(4, 10),
            "input_lengths": torch.full((4,), 50),
            "target_lengths": torch.full((4,), 10),
        },
        "model(log_probs.transpose(0, 1), targets, input_lengths, target_lengths)",
    ),
    "features": (nn.Linear(16, 4), {"x": floats(8, 16, 5)}, "model(x.transpose(1, 2))"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(("layer", "given", "text"), CASES.values(), ids=CASES)
def test_what_it_is_given_is_changed(layer: nn.Module, given: dict[str, Tensor], text: str) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        layer(*given.values())
    error = ModelSummary(layer, tuple(given.values())).error
    assert error is not None
    assert error.fix == text
    real = eval(text, {"model": layer, "torch": torch, **given})
    assert error.fixes[0].outputs[0].shape == real.shape


@pytest.mark.parametrize(
    ("layer", "given", "text"),
    [
        (nn.Linear(16, 4), (floats(8, 12),), "model = nn.Linear(12, 4)"),
        (
            nn.LSTM(8, 16),
            (floats(5, 4, 8), (floats(1, 5, 16), floats(1, 5, 16))),
            "model = nn.LSTM(8, 16, batch_first=True)",
        ),
    ],
)
def test_or_it_is_made_anew(layer: nn.Module, given: tuple[Any, ...], text: str) -> None:
    error = ModelSummary(layer, given).error
    assert error is not None
    assert error.fix == text
    scope: dict[str, Any] = {"nn": nn}
    exec(text, scope)
    scope["model"](*given)


def test_labels_of_other_pixels_fail_as_they_do_for_real() -> None:
    given = floats(4, 3, 64, 64), labels(4, 32, 32) % 3
    with pytest.raises(RuntimeError, match="size mismatch"):
        CE(*given)
    error = ModelSummary(CE, given).error
    assert error is not None
    assert error.reason.startswith(
        "cross_entropy of predictions [4, 3, 64, 64] needs labels [4, 64, 64], got [4, 32, 32]"
    )


def test_the_width_of_a_transformer_alone_is_read() -> None:
    error = ModelSummary(nn.Transformer(16, 2, 1, 1, 32, batch_first=True), [(4, 10, 16), (3, 7, 16)]).error
    assert error is not None
    assert error.reason == "batch_first=True reads dim 0 as the batch: the source has 4 there, the target 3"
