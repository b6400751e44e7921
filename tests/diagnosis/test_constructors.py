"""A model that is made anew to try a change of its classes leaves all that was there as it was."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from modelsummary_ipy import ModelSummary

WIDTHS: list[int] = []
SHARED = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1))


@dataclass
class Settings:
    """Of a model."""

    widths: list[int] = field(default_factory=lambda: [8, 8, 8])
    made: int = 0


class Chain(nn.Module):
    """Its second layer does not fit the first, nor the third the second."""

    def make(self, width: int) -> None:
        self.one, self.two = nn.Linear(8, width * 2), nn.Linear(width, width * 2)
        self.three, self.four = nn.Linear(width, width * 2), nn.Linear(width * 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.four(self.three(self.two(self.one(x))))


class Counts(Chain):
    """Counts how many were made."""

    number: ClassVar[int] = 0
    names: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        Counts.number += 1
        self.names.append("one")
        self.make(8)


class Lists(Chain):
    """Writes down what was made in a list of the file."""

    def __init__(self) -> None:
        super().__init__()
        WIDTHS.append(8)
        self.make(8)


class Pops(Chain):
    """Takes an entry out of its default."""

    def __init__(self, widths: list[int] = [8, 8, 8]) -> None:  # noqa: B006  # the point
        super().__init__()
        self.make(widths.pop())


class Reads(Chain):
    """Has a layer that others have too."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = SHARED
        self.make(8)


class Writes(Chain):
    """Writes into its settings."""

    def __init__(self, cfg: Settings) -> None:
        super().__init__()
        cfg.made += 1
        self.make(cfg.widths.pop())


class Sets(Chain):
    """Counts how many were made, by another word."""

    def __init__(self) -> None:
        super().__init__()
        setattr(Counts, "number", Counts.number + 1)  # noqa: B010  # the point
        self.make(8)


class Draws(Chain):
    """Draws numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = float(np.random.rand())
        self.make(8)


CFG = Settings()


@pytest.mark.parametrize("kind", [Counts, Lists, Pops, Reads, Sets, Draws, Writes])
def test_nothing_is_changed_by_a_model_that_is_made_anew(kind: type[nn.Module]) -> None:
    model = Writes(CFG) if kind is Writes else kind()
    model.train()
    SHARED.eval()
    weights = [id(parameter) for parameter in SHARED.parameters()]
    before = copy.deepcopy((Counts.number, Counts.names, WIDTHS, CFG, Pops.__init__.__defaults__))
    state, drawn = torch.get_rng_state(), np.random.get_state()
    error = ModelSummary(model, (4, 8)).error
    assert error is not None
    assert error.fixes
    assert (Counts.number, Counts.names, WIDTHS, CFG, Pops.__init__.__defaults__) == before
    assert [id(parameter) for parameter in SHARED.parameters()] == weights
    assert not any(module.training for module in SHARED.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(one, other) for one, other in zip(np.random.get_state(), drawn, strict=True))


class Plain(Chain):
    """Takes settings and only makes layers of them."""

    def __init__(self, cfg: Settings) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        channels = 4
        for width in cfg.widths:
            self.blocks.append(nn.Linear(channels, width * 2))
            channels = width
        self.head = nn.Linear(cfg.widths[-1] * 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


PLAIN = Settings([8, 12, 16])


def test_the_running_width_is_found_in_the_class() -> None:
    error = ModelSummary(Plain(PLAIN), (4, 4)).error
    assert error is not None
    assert "channels = width * 2" in error.fix
    assert error.patch is not None
    assert "+            channels = width * 2" in error.patch
