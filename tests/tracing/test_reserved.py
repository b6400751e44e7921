"""What an allocator holds in reserve: the benchmark on a GPU, tried with an allocator that a real CPU step feeds."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import gpu
from modelsummary_ipy.records.allocator import CachingAllocator


class Faked(TorchDispatchMode):
    """A device that counts what really lives on the CPU, as a GPU's allocator would."""

    name = "cpu"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.allocator = CachingAllocator()
        self.alive: dict[int, Any] = {}
        self.now = self.peak = self.number = 0

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        address, nbytes = storage._cdata, storage.nbytes()
        if address in self.alive:
            return
        self.number += 1
        number = self.number

        def die(_: Any) -> None:
            del self.alive[address]
            self.now -= nbytes
            self.allocator.free(number)

        self.alive[address] = weakref.ref(storage, die)
        self.allocator.allocate(number, nbytes)
        self.now += nbytes
        self.peak = max(self.peak, self.now)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, torch.Tensor):
                self.see(value)
        return out

    def reset(self) -> None:
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            self.see(tensor)
        self.__enter__()

    def read(self) -> tuple[int, int]:
        self.__exit__(None, None, None)
        return self.peak, self.allocator.reserved_bytes


def build() -> nn.Module:
    layers = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 30 * 30, 100))


@pytest.mark.parametrize("batch", [8, 64])
def test_peak_and_reserve_are_those_that_a_real_step_makes(batch: int) -> None:
    model = build()
    case = gpu.GpuCase("convolutions", lambda: model, (batch, 3, 32, 32))
    peak, counted, reserved, held = gpu.measure(case, Faked(model))
    assert peak == pytest.approx(counted, rel=0.03)  # the loop still has the loss and the output of the batch before
    assert reserved == pytest.approx(held, rel=0.1)


def test_the_table_has_a_line_for_a_model_and_for_one_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build()
    good = gpu.GpuCase("good", lambda: model, (8, 3, 32, 32))
    bad = gpu.GpuCase("bad", lambda: nn.Linear(2, 2), (8, 3))
    monkeypatch.setattr(gpu, "CASES", (good, bad))
    gpu.main((), Faked(model))
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["MiB", "peak", "counted", "ratio", "reserved", "counted", "ratio"]
    assert first.split()[0] == "good"
    assert float(first.split()[3]) == pytest.approx(1, abs=0.03)
    assert second.startswith("bad")
    assert "RuntimeError" in second


def test_without_a_gpu_that_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main(())
    assert capsys.readouterr().out == "no GPU at hand: torch.cuda.is_available() is false, so nothing was compared\n"
    assert len(gpu.CASES) == 10
