"""What torch does behind every mode's back: an inverse Fourier transform asks its window's values."""

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


def test_its_saved_bytes_are_those_of_a_real_run() -> None:
    model, saved = Enhances(), dict[int, int]()
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(tensor: Any) -> Any:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        kept = model(torch.randn(2, 1600))
    assert kept.requires_grad
    real = sum(nbytes for pointer, nbytes in saved.items() if pointer not in own)
    assert ModelSummary(model, (2, 1600)).costs[0].activation_bytes == real
