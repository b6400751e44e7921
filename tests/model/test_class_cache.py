"""A class that is defined anew, as a cell that runs again does, is freed with all that it holds."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary


class Held:
    """What a class may hold: a data set, say."""


class Slotted:
    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 4


def define() -> tuple[Any, Any]:
    """Return a class, as a cell defines it, and one that its modules hold an instance of."""

    class Settings(Slotted):
        pass

    class Net(nn.Module):
        held = Held()

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.settings = nn.Linear(4, 2), Settings()

        def encode(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return torch.relu(self.layer(x)) * scale

        def forward(self, x: Tensor) -> Tensor:
            return self.encode(x).view(-1, 5 if x.shape[-1] == 3 else 2)

    return Net, Settings


@pytest.mark.parametrize("engine", ["fake", "real", "static"])
@pytest.mark.parametrize("inputs", [(2, 4), (2, 3)], ids=["works", "fails"])
def test_a_class_that_was_summarised_is_freed(engine: Any, inputs: tuple[int, ...]) -> None:
    net, settings = define()
    held = weakref.ref(net.held)
    classes = [weakref.ref(net), weakref.ref(settings)]
    model = net()
    ms = ModelSummary(model, inputs, engine=engine)
    ms.to_html()
    ms.annotated()
    del net, settings, model, ms
    for _ in range(3):  # what has a finalizer goes one collection later
        gc.collect()
    assert [reference() for reference in classes] == [None, None]
    assert held() is None
