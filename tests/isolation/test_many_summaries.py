"""Many summaries, and a summary beside a thread that trains the model."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from tests.isolation.test_isolation import trace
from tests.models import CASES
from tests.reference import difference, fingerprint, quietly

#: How often the soak summarises every model; 100 is what a release is tried with.
SOAK = int(os.environ.get("MODELSUMMARY_SOAK", "2"))


# -- again and again --------------------------------------------------------------------------------------------------


def count_hooks() -> int:
    everyone = torch.nn.modules.module
    return sum(
        len(value)
        for name, value in vars(everyone).items()
        if name.startswith("_global_") and hasattr(value, "__len__")
    )


@pytest.mark.slow
def test_a_hundred_summaries_hold_no_more_than_two() -> None:
    """Memory, hooks and threads are steady; a few in the suite, a hundred of each model where requested."""
    with quietly():
        cases = [(case, case.build(), case.inputs()) for case in CASES]
    for _ in range(2):
        for case, model, inputs in cases:
            show(trace(case, model, inputs))
    gc.collect()
    objects, hooks, threads = len(gc.get_objects()), count_hooks(), threading.active_count()
    tensors = count_tensors()
    for _ in range(SOAK):
        for case, model, inputs in cases:
            show(trace(case, model, inputs))
    gc.collect()
    assert count_tensors() <= tensors
    assert (count_hooks(), threading.active_count()) == (hooks, threads)
    assert len(gc.get_objects()) - objects < 2 * len(cases) + 5 * SOAK


def show(ms: ModelSummary) -> None:
    """Make all that is made later too; in the suite the rows alone, for all else takes ten times as long."""
    if SOAK > 10:
        ms.to_text()


def count_tensors() -> int:
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def test_a_summary_pins_no_tensor_of_the_model() -> None:
    for engine in ("auto", "real"):
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        x = torch.zeros(2, 3)
        kept = ModelSummary(model, [x], engine=engine)
        references = [weakref.ref(model[0].weight), weakref.ref(model[1].running_mean), weakref.ref(x)]
        del model, x
        gc.collect()
        assert [reference() for reference in references] == [None, None, None]
        assert kept.rows


# -- beside a training thread -----------------------------------------------------------------------------------------


class Trained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(16, 1)
        self.steps = torch.zeros(1)
        self.history: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.steps.add_(1)
        self.history = [*self.history[-3:], x.mean()]
        return self.head(self.body(x))


def train(steps: int, losses: list[float], failures: list[BaseException], box: list[nn.Module]) -> None:
    try:
        torch.manual_seed(0)
        model = Trained()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        box.append(model)
        for step in range(steps):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            assert model.steps.item() == step + 1
    except BaseException as error:  # noqa: BLE001  # whatever ends the thread is the finding
        failures.append(error)


def test_a_thread_that_trains_is_not_disturbed() -> None:
    alone: list[float] = []
    beside: list[float] = []
    failures: list[BaseException] = []
    train(1000, alone, failures, [])
    box: list[nn.Module] = []
    thread = threading.Thread(target=train, args=(1000, beside, failures, box))
    thread.start()
    summaries = 0
    while thread.is_alive():
        if box:
            ms = ModelSummary(box[0], (4, 8))
            assert ms.error is None
            assert ms["head"].outputs[0].shape == (4, 1)
            summaries += 1
        time.sleep(0.1 if summaries > 5 else 0.001)
    assert failures == []
    assert summaries > 0
    assert beside == alone


def test_an_exported_program_with_a_range_of_sizes_is_copied() -> None:
    """Its ranges are sympy's numbers, which are known by identity and refuse to be written to."""
    with quietly():
        batch = torch.export.Dim("batch", min=2, max=64)
        exported = torch.export.export(
            nn.Linear(8, 4), (torch.randn(3, 8),), dynamic_shapes=({0: batch},), strict=False
        )
        model = exported.module()
        model.range = next(iter(exported.range_constraints.values()))
    before = fingerprint(model)
    ms = ModelSummary(model, (3, 8))
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (3, 4)
    assert difference(before, fingerprint(model)) == []
