"""The example in an error about inputs is a line that was tried."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.records.errors import InputError


def refuse(model: nn.Module, inputs: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        ModelSummary(model, inputs, **options)
    return caught.value.example


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 8)

    def forward(self, ids, segment_ids, scale: float):
        return self.words(ids) * scale + self.words(segment_ids)


class OneSize(nn.Module):
    """The head of a digit classifier takes 28 × 28 alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4 * 14 * 14, 10)

    def forward(self, image):
        return self.head(self.conv(image).flatten(1))


class Drawn(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.num_runs = 0

    def forward(self, x):
        self.num_runs += 1
        print("a forward")
        return self.fc(x) + torch.randn(4)


class Picky(nn.Module):
    def forward(self, x):
        if tuple(x.shape) != (7, 11, 3):
            raise ValueError("no")
        return x


class Stopped(nn.Module):
    def forward(self, x):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()),
        nn.Conv1d(4, 8, 3),
        nn.ConvTranspose3d(2, 2, 2),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
        nn.LSTM(7, 5),
        nn.GRUCell(7, 5),
        nn.Bilinear(2, 3, 4),
        nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)),
        nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 2)),
        nn.TransformerEncoderLayer(8, 2, batch_first=True),
        nn.MultiheadAttention(8, 2),
        nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU()),
        nn.Embedding(50, 8),
        Tokens(),
        OneSize(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_example_in_the_message_works_for_this_model(model: nn.Module) -> None:
    example = refuse(model, [(1,)] * 12)
    summary = eval(example, {"ModelSummary": ModelSummary, "model": model})
    assert summary.error is None
    assert summary.rows[0].outputs


def test_the_example_is_a_size_that_the_head_takes() -> None:
    assert refuse(OneSize(), {"img": (1, 1, 64, 64), "image": (1, 1, 64, 64)}) == "ModelSummary(model, (2, 1, 28, 28))"


def test_a_dtype_is_written_where_it_would_not_be_guessed() -> None:
    class Looked(nn.Module):
        def forward(self, codes: Any, ids: Any) -> Any:
            return torch.arange(50.0)[ids] + codes.bitwise_and(3)

    assert refuse(nn.Embedding(50, 8), [(1,)] * 3) == "ModelSummary(model, (2, 16))"
    example = refuse(Looked(), [(1,)] * 3)
    assert not example or re.search(r"'[^']*:int64'", example)


def test_without_a_size_that_works_there_is_no_example() -> None:
    assert refuse(Picky(), [(1,)] * 3) == ""
    assert refuse(Stopped(), [(1,)] * 3) == ""  # nor after Ctrl-C: what was wrong is still said


def test_a_search_for_an_example_touches_nothing_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = Drawn()
    before = torch.get_rng_state()
    assert refuse(model, [(1,)] * 3) == "ModelSummary(model, (2, 4))"
    assert model.num_runs == 0
    assert torch.equal(torch.get_rng_state(), before)
    assert capsys.readouterr() == ("", "")


def test_a_forward_that_is_to_run_once_is_not_run_for_an_example() -> None:
    assert refuse(OneSize(), [(1,)] * 3, trace_once=True) == ""


def test_an_example_of_an_error_is_kept() -> None:
    assert refuse(OneSize(), (1, 1, 28, 28), method="forwrd") == "method='forward'"
