"""What lies beside the model: globals that its forward writes to, other threads, the garbage collector."""

from __future__ import annotations

import concurrent.futures
import gc
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.isolation.threads import AloneWatch, is_alone
from tests.fresh_process import FreshProcesses

# -- what lies beside the model ---------------------------------------------------------------------------------------

_BOARD: list[str] = []


class Writes(nn.Module):
    """It writes to a global list, and waits for another thread to do so."""

    def __init__(self, reached: threading.Event, answered: threading.Event) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        object.__setattr__(self, "reached", reached)
        object.__setattr__(self, "answered", answered)

    def forward(self, x: Tensor) -> Tensor:
        _BOARD.append("trace")
        self.reached.set()
        self.answered.wait(20)
        return self.layer(x)


def test_what_a_forward_writes_to_a_global_list_is_taken_back() -> None:
    _BOARD[:] = ["before"]
    done = threading.Event()
    done.set()
    ModelSummary(Writes(threading.Event(), done), (2, 4))
    assert _BOARD == ["before"]


def test_what_another_thread_writes_to_it_meanwhile_stays() -> None:
    _BOARD[:] = ["before"]
    reached, answered, over = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        reached.wait(20)
        _BOARD.append("thread")
        answered.set()
        over.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        ModelSummary(Writes(reached, answered), (2, 4))
        assert "before" in _BOARD
        assert "thread" in _BOARD
    finally:
        over.set()
        thread.join()


def test_a_thread_is_alone_while_no_other_runs_the_users_code() -> None:
    assert is_alone()
    assert AloneWatch().holds()
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(is_alone()))
    thread.start()
    thread.join()  # this thread stands in a test, which is somebody's code
    assert told == [False]
    waiting = threading.Event()
    idle = threading.Thread(target=waiting.wait, args=(20,))
    idle.start()
    try:
        assert is_alone()  # Python's own code does not count
    finally:
        waiting.set()
        idle.join()


def test_a_thread_is_not_alone_where_others_may_begin_with_the_users_code() -> None:
    timer = threading.Timer(20, print)
    timer.start()
    assert not is_alone()
    timer.cancel()
    timer.join()
    assert is_alone()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        assert not is_alone()
    assert is_alone()


def test_a_cell_that_ran_meanwhile_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = types.SimpleNamespace(execution_count=3)
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    watch = AloneWatch()
    assert watch.holds()
    shell.execution_count += 1
    assert not watch.holds()


def test_without_a_shell_only_the_main_thread_knows_that_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsummary_ipy.isolation.threads.is_alone", lambda: True)
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(AloneWatch().holds()))
    thread.start()
    thread.join()
    assert told == [False]


# -- the garbage collector --------------------------------------------------------------------------------------------


@pytest.fixture
def collects() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.enable()
    yield
    if was_enabled:
        gc.enable()
    else:
        gc.disable()


@pytest.mark.usefixtures("collects")
def test_the_collector_is_as_it_was_after_a_summary_and_after_a_failure() -> None:
    ModelSummary(nn.Linear(4, 2), (2, 4))
    assert gc.isenabled()

    def fail() -> None:
        with collector_paused():
            with collector_paused():
                assert not gc.isenabled()
            assert not gc.isenabled()  # the outer block goes on
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gc.isenabled()
    gc.disable()
    ModelSummary(nn.Linear(4, 2), (2, 4))
    assert not gc.isenabled()


JOINS_THE_OLDEST = """
import gc, weakref
from modelsummary_ipy.isolation import global_state

global_state._MANY_OBJECTS = 0
gc.enable()
gc.collect()
with global_state.collector_paused():
    ring = []
    ring.append(ring)
    gone = weakref.ref(holder := type("Holder", (), {})())
    ring.append(holder)
    del holder, ring
assert gc.get_freeze_count() == 0
assert gone() is not None  # it was not read yet
gc.collect()
assert gone() is None
"""


def test_what_joins_the_oldest_objects_is_still_found_when_it_is_garbage(fresh: FreshProcesses) -> None:
    assert fresh.run(JOINS_THE_OLDEST) == (0, "", "")


@pytest.mark.usefixtures("collects")
def test_what_somebody_has_frozen_stays_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsummary_ipy.isolation.global_state._MANY_OBJECTS", 0)
    gc.freeze()
    count = gc.get_freeze_count()
    ModelSummary(nn.Linear(4, 2), (2, 4))
    assert count > 0
    assert gc.get_freeze_count() >= count - 1_000  # some of them may have gone by themselves


def test_a_module_that_imports_on_demand_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for an optional package, as speechbrain has: each attribute imports it, and it is not installed."""

    class Optional(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise ImportError(f"{name} was asked for")

    library, missing = types.ModuleType("library_of_layers"), Optional("optional_package")
    exec("from torch import nn\nclass Net(nn.Linear):\n    pass\n", vars(library))
    vars(library)["optional"] = missing
    ModelSummary(nn.Linear(4, 3), (2, 4))  # torch itself asks every module once, at its first fake
    monkeypatch.setitem(sys.modules, "library_of_layers", library)
    monkeypatch.setitem(sys.modules, "optional_package", missing)
    assert ModelSummary(vars(library)["Net"](4, 3), (2, 4)).error is None
