"""A forward that starts threads: the tasks of a pool are traced, and of plain threads it is said that they are not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from tqdm import tqdm

from modelsummary_ipy import ModelSummary

SUBMIT, START = ThreadPoolExecutor.submit, threading.Thread.start
NOTE = "the forward starts threads: what these call is in no row and in no total"


class Branches(nn.Module):
    """Runs two layers one after the other, or each in a thread of its own."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.how = nn.Linear(4, 4), nn.Conv1d(3, 3, 1), how

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.a, self.b)
        if self.how == "plain":
            u, v = [branch(x) for branch in branches]
        elif self.how == "thread":
            u, v = run_in_threads(branches, x)
        else:
            with ThreadPoolExecutor(2) as pool:
                if self.how == "map":
                    u, v = pool.map(lambda branch: branch(x), branches)
                elif self.how == "asyncio":
                    u, v = asyncio.run(run_in_loop(pool, branches, x))
                else:
                    u, v = [future.result() for future in [pool.submit(branch, x) for branch in branches]]
        return torch.relu(u) + v


class ShowsProgress(nn.Module):
    """A sampler's loop: the first progress bar of a process starts a thread that watches it."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in tqdm(range(3)):
            x = self.step(x)
        return x


def test_the_thread_that_watches_a_progress_bar_is_no_part_of_the_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tqdm, "monitor", None)
    ms = ModelSummary(ShowsProgress(), (2, 4))
    assert tqdm.monitor is not None  # it was started in the forward
    tqdm.monitor.exit()
    assert NOTE not in str(ms)
    assert ms.formulas


async def run_in_loop(pool: ThreadPoolExecutor, branches: Any, x: Tensor) -> list[Tensor]:
    loop = asyncio.get_running_loop()
    return list(await asyncio.gather(*[loop.run_in_executor(pool, branch, x) for branch in branches]))


def run_in_threads(branches: Any, x: Tensor) -> list[Tensor]:
    made: dict[int, Tensor] = {}
    threads = [
        threading.Thread(target=lambda place=place, branch=branch: made.__setitem__(place, branch(x)))
        for place, branch in enumerate(branches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [made[0], made[1]]


def list_rows(ms: ModelSummary) -> list[Any]:
    return [(row.path, row.type_name, row.status, row.inputs, row.outputs, row.num_params) for row in ms.rows]


@pytest.mark.parametrize("engine", ["fake", "real"])
@pytest.mark.parametrize("how", ["map", "submit", "asyncio"])
def test_the_tasks_of_a_pool_are_traced(how: str, engine: Any) -> None:
    plain = ModelSummary(Branches("plain"), (2, 3, 4), engine=engine)
    ms = ModelSummary(Branches(how), (2, 3, 4), engine=engine)
    assert ms.error is None
    assert list_rows(ms) == list_rows(plain)
    assert ms.total_mult_adds == plain.total_mult_adds == 2 * 3 * 4 * 4 + 2 * 3 * 3 * 4
    assert ms.flags == plain.flags == ()
    assert NOTE not in str(ms)
    assert (ThreadPoolExecutor.submit, threading.Thread.start) == (SUBMIT, START)


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_of_plain_threads_it_is_said_that_they_are_not(engine: Any) -> None:
    ms = ModelSummary(Branches("thread"), (2, 3, 4), engine=engine)
    assert ms.error is None
    assert ms[""].outputs[0].shape == (2, 3, 4)
    assert NOTE in str(ms)
    assert NOTE in ms.to_html()
    assert "formulas and sizes that work are not searched" in str(ms)  # where they fail, a thread prints a traceback
    assert ms.formulas == {}
    assert "unused-layer" not in [flag.rule for flag in ms.flags]  # it may be used there
    assert (ThreadPoolExecutor.submit, threading.Thread.start) == (SUBMIT, START)


@pytest.mark.parametrize("kept", [False, True])
def test_what_runs_in_other_threads_is_in_no_total(*, kept: bool) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.head = nn.Linear(4, 2)
            self.pool = pool if kept else None

        def forward(self, x: Tensor) -> Tensor:
            with ThreadPool(2) if self.pool is None else contextlib.nullcontext(self.pool) as one:
                return self.head(torch.cat(one.map(lambda part: part(x), self.parts)))

    with ThreadPool(2) as pool:
        ms = ModelSummary(Pooled(), (2, 4))
    assert ms[""].outputs[0].shape == (6, 2)
    assert NOTE in str(ms)
    assert ms.total_mult_adds == 6 * 4 * 2
    assert len(ms.unknown_ops) == 1
    assert ms.memory.forward_peak_bytes is None
    assert {row.absence for row in ms.rows if row.path.startswith("parts")} == {"threads"}


def test_what_ends_the_pool_of_a_loop_is_no_thread_of_the_forward() -> None:
    class Moves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        async def forward(self, x: Tensor) -> Tensor:
            return await asyncio.to_thread(self.layer, x)

    ms = ModelSummary(Moves(), (2, 4))
    assert NOTE not in str(ms)
    assert ms.total_mult_adds == 2 * 4 * 4
    assert ms.formulas[0] == (("B", "4"),)


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with ThreadPoolExecutor(1) as pool:
            future: Future[Tensor] = pool.submit(nn.Linear(5, 2), x)
            assert isinstance(future.exception(), RuntimeError)
            return future.result()


def test_a_task_that_fails_is_the_failure_of_who_reads_its_result() -> None:
    ms = ModelSummary(Fails(), (2, 3))
    assert ms.error is not None
    assert ms.error.row is not None
    assert ms.rows[ms.error.row].type_name == "Linear"


class Meets(nn.Module):
    """Waits until another thread has submitted a task of its own."""

    def forward(self, x: Tensor) -> Tensor:
        BEGAN.set()
        assert RAN.wait(20)
        return x + 1


BEGAN, RAN = threading.Event(), threading.Event()


def test_pools_of_other_threads_run_as_they_do() -> None:
    names: list[str] = []

    def submit() -> None:
        BEGAN.wait(20)
        with ThreadPoolExecutor(1, thread_name_prefix="own") as pool:
            names.append(pool.submit(lambda: threading.current_thread().name).result())
        RAN.set()

    thread = threading.Thread(target=submit)
    thread.start()
    ms = ModelSummary(Meets(), (2, 3))
    thread.join()
    assert ms.error is None
    assert names == ["own_0"]
    assert NOTE not in str(ms)
