"""A real IPython with the extension and two models, and a form of a small model."""

from __future__ import annotations

import atexit
import builtins
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from traitlets.config import Config

from modelsummary_ipy import ModelSummary, Size
from modelsummary_ipy.notebook.form.form import SummaryForm

SETUP = """
import torch, torch.nn as nn
import numpy as np
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(1, 16, 3, padding=5)
        self.conv1 = nn.Conv2d(16, 32, 3)
    def forward(self, x, scale=1):
        return self.conv1(self.conv0(x))
    def encode(self, x, flag=False):
        return self.conv0(x)
class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
    def forward(self, ids, mask=None, use_cache=True):
        return {"states": self.embed(ids), "cache": torch.ones(1) if use_cache else None}
model, words = Net(), Words()
nets = {"a": model}
x = torch.zeros(1, 1, 32, 32)
B, H, W = 2, 40, 48
batch = {"x": x}
"""


@pytest.fixture
def bare_shell() -> Iterator[InteractiveShell]:
    """An IPython without a history file, as it comes up."""
    vars(builtins).pop("_", None)  # a doctest leaves its last value there, and IPython then keeps none of its own
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    yield shell
    atexit.unregister(shell.atexit_operations)
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(bare_shell: InteractiveShell) -> InteractiveShell:
    """An IPython with the extension and two models."""
    bare_shell.run_line_magic("load_ext", "modelsummary_ipy")
    assert bare_shell.run_cell(SETUP).success
    return bare_shell


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x: Any) -> Any:
        return self.fc(self.conv(x).flatten(1))


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def form(net: Net) -> SummaryForm:
    return ModelSummary(net, Size("B=2 3 H=8 W=8")).form(name="net")
