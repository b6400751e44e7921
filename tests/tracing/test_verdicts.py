"""Whether a layer runs: a summary says what a real call of it says. ``python -m benchmarks verdicts`` tries 20,000."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.verdicts import judge, reason_of
from modelsummary_ipy import ModelSummary
from modelsummary_ipy.fake.fake_tensors import make_fake
from modelsummary_ipy.fake.fast_fake_mode import make_fake_mode
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.tracing.engine import run_engine
from tests.reference import quietly


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_layers_at_random_settings_pass_where_they_pass_for_real(start: int) -> None:
    verdicts = [verdict for seed in range(start, start + 100) if (verdict := judge(seed)) is not None]
    assert len(verdicts) > 50
    assert {bool(verdict.real) for verdict in verdicts} == {True, False}
    assert [verdict for verdict in verdicts if verdict.kind and not reason_of(verdict)] == []


COMPLEX = torch.complex64
REFUSED: list[tuple[nn.Module, Tensor]] = [
    (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=2), torch.randn(1, 4, 5, 5)),
    (nn.ConvTranspose2d(4, 4, 2, padding=2, dilation=3), torch.randn(1, 4, 1, 4)),
    (nn.ConvTranspose3d(4, 4, 1, padding=1), torch.randn(4, 2, 3, 4)),
    (nn.ConvTranspose1d(1, 6, (2, 3)), torch.randn(8, 1, 4)),
    (nn.Conv2d(4, 4, (2, 2, 2)), torch.randn(1, 4, 5, 5)),
    (nn.FractionalMaxPool3d(1, output_size=1), torch.ones(2, 3, 4, 4, 4, dtype=torch.int32)),
    (nn.ReLU(), torch.randn(2, 3, dtype=COMPLEX)),
    (nn.ReLU(inplace=True), torch.randn(1, 3).expand(4, 3)),
    (nn.Dropout(inplace=True), torch.randn(3).expand(4, 3)),
    (nn.AvgPool3d(2), torch.randn(1, 4, 4, 4, 4, dtype=torch.bfloat16)),
    (nn.AdaptiveAvgPool3d(2), torch.randn(2, 4, 4, 0, 4)),
    (nn.RReLU(), torch.ones(2, 3, dtype=torch.int64)),
    (nn.InstanceNorm2d(3), torch.randn(2, 3, 4, 4, dtype=COMPLEX)),
    (nn.AdaptiveAvgPool2d(2), torch.randn(2, 3, 4, 4, dtype=COMPLEX)),
    (nn.ReLU6(inplace=True), torch.ones(1, 3, dtype=torch.uint8).expand(4, 3)),
    (nn.LocalResponseNorm(3), torch.randn(2, 4, 5, 4, dtype=torch.bfloat16)),
    (nn.UpsamplingBilinear2d(scale_factor=0.5), torch.randn(1, 3, 1, 5)),
]
TAKEN: list[tuple[nn.Module, Tensor]] = [
    (nn.ConvTranspose2d(4, 4, 2, padding=1, dilation=3), torch.randn(1, 4, 1, 4)),
    (nn.ReLU(), torch.randn(1, 3).expand(4, 3)),
    (nn.Dropout(), torch.randn(3).expand(4, 3)),
    (nn.AdaptiveAvgPool3d(2), torch.randn(0, 4, 4, 4, 4)),
    (nn.Tanh(), torch.randn(2, 3, dtype=COMPLEX)),
    (nn.Linear(3, 2, dtype=COMPLEX), torch.randn(2, 3, dtype=COMPLEX)),
    (nn.AvgPool2d(2), torch.randn(1, 4, 4, 4, dtype=torch.bfloat16)),
    (nn.ReLU(), torch.ones(2, 3, dtype=torch.int64)),
    (nn.UpsamplingBilinear2d(scale_factor=2), torch.randn(1, 3, 1, 5)),
    (nn.LocalResponseNorm(3), torch.randn(2, 4, 5, dtype=torch.bfloat16)),
]


@pytest.mark.parametrize("engine", ["auto", "fake"])
@pytest.mark.parametrize(
    ("layer", "x"), [*REFUSED, *TAKEN], ids=lambda value: str(value)[:40] if isinstance(value, nn.Module) else ""
)
def test_dtypes_overlaps_and_empty_dims_are_refused_as_for_real(layer: nn.Module, x: Tensor, engine: Any) -> None:
    try:
        layer(x)
    except (RuntimeError, NotImplementedError) as error:
        expected = str(error)
    else:
        expected = ""
    with quietly():
        ms = ModelSummary(layer, input_data=x, engine=engine)
    assert ("" if ms.error is None else str(ms.error.__cause__)).split(":")[0] == expected.split(":")[0]


class ExpandsThenWrites(nn.Module):
    """Writes in place to what it expanded."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, None].expand(-1, 4, -1).add_(1)


def test_writing_to_an_expanded_tensor_fails_with_the_line() -> None:
    ms = ModelSummary(ExpandsThenWrites(), (2, 3))
    assert ms.error is not None
    assert "more than one element of the written-to tensor" in str(ms.error.__cause__)
    assert ms.error.source is not None
    assert ms.error.source.startswith("test_verdicts.py:")


LOSSES = [
    nn.MultiMarginLoss(), nn.MultiLabelMarginLoss(), nn.HuberLoss(), nn.SmoothL1Loss(), nn.L1Loss(), nn.MSELoss(),
    nn.SoftMarginLoss(), nn.HingeEmbeddingLoss(), nn.PoissonNLLLoss(), nn.BCEWithLogitsLoss(),
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses_refuse_the_dtypes_that_they_refuse_for_real(loss: nn.Module) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.int32, torch.bool):
        x = torch.ones(3, 4).to(dtype)
        for target in (torch.zeros(3, dtype=torch.int64), torch.zeros(3, 4, dtype=torch.int64), torch.ones(3, 4)):
            with quietly():
                try:
                    loss(x, target)
                except Exception as error:  # noqa: BLE001  # is what we compare
                    refused = type(error).__name__
                else:
                    refused = ""
                error = run_engine(loss, ModelInputs((x, target), {})).error
            assert ("" if error is None else type(error).__name__) == refused, (dtype, target.shape, error)


def test_classes_of_a_picture_are_of_the_dtypes_that_a_real_loss_takes() -> None:
    x = torch.randn(2, 4, 5, 6)
    for dtype in (torch.int64, torch.uint8, torch.int32, torch.int16, torch.bool):
        target = torch.zeros(2, 5, 6, dtype=dtype)
        for loss in (nn.NLLLoss(), nn.CrossEntropyLoss()):
            try:
                loss(x, target)
            except RuntimeError as error:
                refused = str(error)
            else:
                refused = ""
            assert str(run_engine(loss, ModelInputs((x, target), {})).error or "") == refused


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "cuda()": lambda x: x.cuda(),
    "to()": lambda x: x.to("cuda"),
    "to() a device": lambda x: x.to(torch.device("cuda", 0)),
    "zeros": lambda x: x + torch.zeros(3, 4, device="cuda"),
    "zeros alone": lambda x: torch.zeros(3, 4, device="cuda"),
    "tensor": lambda x: torch.tensor([1.0, 2.0], device="cuda"),
    "new_zeros": lambda x: x.new_zeros(3, 4, device="cuda"),
    "zeros_like": lambda x: torch.zeros_like(x, device="cuda"),
    "where it is": lambda x: x.to("cuda" if torch.cuda.is_available() else "cpu"),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_device_that_is_not_here_is_refused_as_for_real(move: Callable[[Tensor], Tensor]) -> None:
    """A torch built for CUDA, as pip gives it, fakes such a device on any machine."""

    class Moves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return move(x)

    try:
        Moves()(torch.zeros(3, 4))
    except (AssertionError, RuntimeError) as error:
        expected = str(error)
    else:
        expected = ""
    ms = ModelSummary(Moves(), (3, 4), engine="fake")
    assert ("" if ms.error is None else str(ms.error.__cause__)) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
def test_a_model_made_of_fakes_may_be_on_a_device_that_is_not_here() -> None:
    with FakeTensorMode():
        weight = torch.empty(3, 4, device="cuda")
    mode = make_fake_mode()
    with mode, pytest.raises((AssertionError, RuntimeError)):
        torch.empty(2, device="cuda")
    assert make_fake(weight, mode).device == torch.device("cuda:0")
    with mode:
        assert torch.empty(2, device="cuda").device == torch.device("cuda:0")
