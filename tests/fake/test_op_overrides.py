"""What torch does behind every mode's back: ``istft`` asks its window's values, ``ctc_loss`` those of its lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary


class Enhances(nn.Module):
    """Masks the spectrum of a signal, and gives the signal back."""

    def __init__(self, *, as_method: bool = False) -> None:
        super().__init__()
        self.as_method = as_method
        self.register_buffer("window", torch.hann_window(128))
        self.mask = nn.Conv1d(65, 65, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x, 128, 32, window=self.window, return_complex=True)
        spectrum = spectrum * torch.sigmoid(self.mask(spectrum.abs()))
        if self.as_method:
            return spectrum.istft(128, 32, window=self.window)
        return torch.istft(spectrum, 128, 32, window=self.window, length=x.size(1))


@pytest.mark.parametrize("as_method", [False, True])
def test_a_signal_is_put_together_again_with_fakes(as_method: bool) -> None:
    model = Enhances(as_method=as_method)
    summary = ModelSummary(model, (2, 1600))
    assert summary.pipeline.traced.trace.engine == "fake"
    assert summary.constraints == ("F ≥ 65",)
    (batch, length), *_ = summary.formulas[0]
    assert (batch, length) == ("B", "32·⌊F/32⌋" if as_method else "F")
    for size in (65, 333, 1600):
        made = model(torch.randn(2, size)).shape
        assert (
            ModelSummary(model, (2, size)).rows[0].outputs[0].shape
            == made
            == (2, size // 32 * 32 if as_method else size)
        )
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 64))


class Reads(nn.Module):
    """Reads letters off steps, with a loss of all alignments."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.head, self.loss = nn.Linear(12, 10), nn.CTCLoss(**options)

    def forward(self, x: Tensor, letters: Tensor, steps: Tensor, lengths: Tensor) -> Tensor:
        return self.loss(self.head(x).log_softmax(-1).transpose(0, 1), letters, steps, lengths)


class ReadsAll(Reads):
    """All steps and all letters count."""

    def forward(self, x: Tensor, letters: Tensor) -> Tensor:
        steps, lengths = (torch.full((len(x),), size) for size in (x.size(1), letters.size(1)))
        return super().forward(x, letters, steps, lengths)


SIGNAL, LETTERS = torch.randn(3, 20, 12), torch.randint(1, 10, (3, 7))
STEPS, LENGTHS = torch.tensor([20, 18, 15]), torch.tensor([5, 7, 3])
CTC = [
    (ReadsAll(), (SIGNAL, LETTERS)),
    (ReadsAll(reduction="none", zero_infinity=True), (SIGNAL, LETTERS)),
    (Reads(reduction="sum"), (SIGNAL, LETTERS, STEPS, LENGTHS)),
    (Reads(), (SIGNAL, torch.randint(1, 10, (15,)), STEPS, LENGTHS)),
]


@pytest.mark.parametrize(("model", "inputs"), CTC)
def test_alignments_are_summed_with_fakes_where_their_lengths_are_known(
    model: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    summary = ModelSummary(model, input_data=inputs)
    assert summary.pipeline.traced.trace.engine == "fake"
    assert summary.rows[0].outputs[0].shape == model(*inputs).shape
    saved_inputs = summary.memory.saved_input_bytes
    assert summary.costs[0].activation_bytes == measure_saved(model, inputs) + saved_inputs
    assert summary.training.reason == ""


def test_the_sizes_of_a_loss_of_alignments_are_told() -> None:
    summary = ModelSummary(ReadsAll(reduction="none"), input_data=(SIGNAL, LETTERS))
    assert summary.formulas[0] == (("B",),)
    assert summary.constraints == ("F = 12",)


@pytest.mark.parametrize(
    ("steps", "letters", "message"),
    [
        (torch.tensor([20, 18, 25]), LETTERS, "input_lengths to have value at most 20"),
        (STEPS, LETTERS[:, :6], "at least 7 at dimension 1"),
        (STEPS[:2], LETTERS, "input_lengths must be of size batch_size"),
    ],
)
def test_lengths_that_do_not_fit_fail_as_they_do_for_real(steps: Tensor, letters: Tensor, message: str) -> None:
    model, inputs = Reads(), (SIGNAL, letters, steps, LENGTHS)
    with pytest.raises(RuntimeError, match=message):
        model(*inputs)
    error = ModelSummary(model, input_data=inputs).error
    assert error is not None
    assert message in str(error)


def measure_saved(model: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Measure what autograd saves in a real run, without the inputs and what is the model's."""
    saved = dict[int, int]()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.state_dict().values(), *inputs)}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(tensor: Any) -> Any:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        kept = model(*inputs)
    assert kept.requires_grad
    return sum(nbytes for pointer, nbytes in saved.items() if pointer not in own)


def test_the_saved_bytes_of_an_inverse_transform_are_those_of_a_real_run() -> None:
    model, inputs = Enhances(), (torch.randn(2, 1600),)
    assert ModelSummary(model, input_data=inputs).costs[0].activation_bytes == measure_saved(model, inputs)
