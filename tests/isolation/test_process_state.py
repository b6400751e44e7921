"""What a forward sets outside its model is as it was after a summary, whatever engine and however it ends."""

from __future__ import annotations

import gc
import os
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from modelsummary_ipy import ModelSummary


class Seen(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def without_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


ABANDONED: list[Any] = []


def enter(block: Any) -> None:
    """Enter a block and never leave it."""
    ABANDONED.append(block)
    block.__enter__()


def set_environment() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.pop("MS_GIVEN")
    os.environ["MS_CHANGED"] = "2"


LEAVES: dict[str, Callable[[], Any]] = {
    "environment": set_environment,
    "directory": lambda: os.chdir("/"),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "a device that was entered": lambda: enter(torch.device("meta")),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "autocast": lambda: enter(torch.autocast("cpu", dtype=torch.bfloat16)),
    "inference mode": lambda: enter(torch.inference_mode()),
    "no grad": lambda: torch.set_grad_enabled(False),
    "a generator without grad": lambda: enter(without_grad()),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "precision": lambda: torch.set_float32_matmul_precision("medium"),
    "a function mode": lambda: enter(Seen()),
    "a dispatch mode": lambda: enter(Dispatched()),
    "warnings": lambda: warnings.simplefilter("always"),
    "seeds": lambda: (random.seed(1), torch.manual_seed(1)),
}


class Leaves(nn.Module):
    def __init__(self, name: str, *, fails: bool) -> None:
        super().__init__()
        self.layer, self.name, self.fails = nn.Linear(4, 4), name, fails

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        LEAVES[self.name]()
        if self.fails:
            raise KeyError("at the end")
        return x * 2


#: pytest writes one as it goes on, and torch's compiler sets another when it is imported.
NOT_OURS = ("PYTEST_", "TORCHINDUCTOR_")


def read() -> dict[str, Any]:
    made = torch.ones(1) * 2
    return {
        "environment": {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)},
        "directory": os.getcwd(),
        "made": (made.dtype, made.device, type(made), made.is_inference()),
        "threads": torch.get_num_threads(),
        "autocast": [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")],
        "nesting": (torch.autocast_increment_nesting(), torch.autocast_decrement_nesting()),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "stacks": (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "device": torch.get_default_device(),
        "warnings": list(warnings.filters),
        "seeds": (random.getstate(), torch.initial_seed(), torch.default_generator.get_state().tolist()),
    }


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MS_GIVEN", "1")
    monkeypatch.setenv("MS_CHANGED", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("engine", ["fake", "real"])
@pytest.mark.parametrize("name", LEAVES)
def test_what_a_forward_leaves_is_put_back(name: str, engine: Any, *, fails: bool) -> None:
    model = Leaves(name, fails=fails)
    before = read()
    ms = ModelSummary(model, (2, 4), engine=engine)
    str(ms)
    assert ms.rows[1].outputs[0].shape == (2, 4)
    assert read() == before
    assert (ms.error is not None) == fails


def infer() -> Iterator[Tensor]:
    with torch.inference_mode():
        yield torch.ones(2)
        yield torch.ones(3)


class Infers(nn.Module):
    """What it enters is left when the copy of it dies."""

    def __init__(self, *, generates: bool) -> None:
        super().__init__()
        self.layer, self.generates = nn.Linear(4, 4), generates

    def forward(self, x: Tensor) -> Tensor:
        if self.generates:
            self.items = infer()
            next(self.items)
        else:
            self.mode = torch.inference_mode()
            self.mode.__enter__()
        return self.layer(x)


@pytest.mark.parametrize("engine", ["fake", "real"])
@pytest.mark.parametrize("generates", [False, True])
def test_an_inference_mode_that_dies_after_a_summary_changes_nothing(engine: Any, *, generates: bool) -> None:
    model = Infers(generates=generates)
    before = read()
    enter = torch.inference_mode.__enter__
    ms = ModelSummary(model, (2, 4), engine=engine)
    str(ms)
    del ms
    gc.collect()
    assert read() == before
    assert torch.inference_mode.__enter__ is enter


@pytest.mark.parametrize("name", ["no grad", "inference mode", "a generator without grad", "autocast"])
def test_what_its_user_has_entered_stays(name: str) -> None:
    model = Leaves(name, fails=False)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
        before = read()
        str(ModelSummary(model, (2, 4)))
        assert read() == before
    assert read()["modes"] == (True, False, False)


class Waits(nn.Module):
    """Lets another thread set the environment while it runs."""

    def forward(self, x: Tensor) -> Tensor:
        GO.set()
        DONE.wait(10)
        return x + 1


GO, DONE = threading.Event(), threading.Event()


def set_when_asked() -> None:
    GO.wait(10)
    os.environ["MS_OTHER"] = "mine"
    DONE.set()


def test_what_another_thread_sets_meanwhile_stays() -> None:
    thread = threading.Thread(target=set_when_asked)
    thread.start()
    ModelSummary(Waits(), (2, 4))
    thread.join()
    assert os.environ.pop("MS_OTHER") == "mine"


class FailsInACheckpoint(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.run, x, use_reentrant=False)

    def run(self, x: Tensor) -> Any:
        return checkpoint(nn.Sequential(self.layer, self.layer), x, use_reentrant=False)


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_a_checkpoint_that_fails_leaves_no_hooks_on_saved_tensors(engine: Any) -> None:
    """Up to torch 2.11 its hooks stay for as long as the exception is kept."""
    ms = ModelSummary(FailsInACheckpoint(), (3, 4), engine=engine)
    assert ms.error is not None
    assert ms.error.__cause__ is not None
    x = torch.ones(3, requires_grad=True)
    y = x * x
    y.sum().backward()  # with hooks of a checkpoint it would run the function again
    assert x.grad is not None
    assert x.grad.tolist() == [2.0] * 3
