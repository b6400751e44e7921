"""A thousand runs of the form: ``python -m benchmarks soak [runs]``; what grows is a leak."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Sequence

import psutil
import torch
from ipywidgets.widgets.widget import _instances
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from modelsummary_ipy import ModelSummary, Size
from modelsummary_ipy.notebook.form.form import SummaryForm

WARM = 120  # the list of runs is full from the hundredth on


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).flatten(1))


def count(net: nn.Module) -> dict[str, int]:
    """Count what must not grow."""
    gc.collect()
    things = gc.get_objects()
    return {
        "resident KiB": psutil.Process(os.getpid()).memory_info().rss >> 10,
        "threads": threading.active_count(),
        "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()),
        "widgets": len(_instances),
        "fake tensors": sum(type(thing) is FakeTensor for thing in things),
        "objects": len(things),
    }


def edit(form: SummaryForm, number: int) -> None:
    """Make one edit and wait for its run: sizes that work, sizes that fail, names that come and go, options."""
    kind = number % 5
    height = 16 if kind == 1 else 8
    name = "N" if kind == 2 else "B"
    form.fields.mode.value = "eval" if kind == 3 else "same"
    form.fields.memory.value = "1GB" if kind == 4 else ""
    form.fields.sizes[0].value = f"{name}={number % 7 + 2}, 3, H={height}, W=8"
    form.run(now=True)
    if not form.wait(120):
        raise TimeoutError(f"run {number} did not end")


def main(words: Sequence[str]) -> None:
    runs = int(words[0]) if words else 1000
    net = Net()
    form = ModelSummary(net, Size("B=2 3 H=8 W=8")).form(name="net", model=net)
    for number in range(runs + 1):
        if number == min(WARM, runs // 2):
            first = count(net)
        edit(form, number)
        if number % 200 == 0:
            print(number, count(net), flush=True)
    last = count(net)
    print("grown since warm:", {what: last[what] - first[what] for what in first})
