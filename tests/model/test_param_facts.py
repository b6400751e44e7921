"""What is read of parameters and buffers beside their sizes: whether a square buffer is a causal mask."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modelsummary_ipy import ModelSummary

ONES, LOW = torch.ones(6, 6), torch.full((6, 6), -math.inf)


class Masked(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def read(buffer: Tensor) -> tuple[int, float, float] | None:
    trace = ModelSummary(Masked(buffer), (2, 6)).pipeline.traced.trace
    return next(param.triangle for param in trace.params if param.names == ("mask",))


@pytest.mark.parametrize(
    ("buffer", "triangle"),
    [
        (torch.tril(ONES), (0, 1, 0)),
        (torch.tril(ONES, 1).bool().view(1, 1, 6, 6), (1, True, False)),
        (torch.triu(LOW, 1), (0, 0, -math.inf)),
        (torch.triu(ONES), (-1, 0, 1)),
        (ONES, None),
        (torch.eye(6), None),
        (torch.tril(torch.arange(36.0).view(6, 6)), None),
        (torch.tril(torch.ones(6, 7)), None),
        (torch.tril(torch.ones(2, 2)), None),
        (torch.tril(ONES).to("meta"), None),
    ],
)
def test_a_causal_mask_in_a_buffer_is_read_and_nothing_else_is(
    buffer: Tensor, triangle: tuple[int, float, float] | None
) -> None:
    assert read(buffer) == triangle


class _Seen(TorchDispatchMode):
    """Writes down what is done with tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_of_the_users_does_not_see_a_mask_being_read() -> None:
    with _Seen() as seen:
        assert read(torch.tril(ONES)) == (0, 1.0, 0.0)
    assert not {"aten.view.default", "aten.select.int"} & {*seen.names}
