"""Nothing of the user's is touched: not by a trace, not by one that fails or is interrupted, not in another thread."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import gc
import os
import random
import sys
import threading
import time
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.isolation.global_state import collector_paused, globals_kept_once
from modelsummary_ipy.isolation.threads import AloneWatch, is_alone
from modelsummary_ipy.tracing.engine import Traced, run_engine
from tests import models
from tests.fresh_process import FreshProcesses
from tests.models import CASES, Case, by_name
from tests.reference import difference, fingerprint, quietly, seed
from tests.traced import trace_case

EVERY_KIND = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
#: How often the soak summarises every model; 100 is what a release is tried with.
SOAK = int(os.environ.get("MODELSUMMARY_SOAK", "2"))
#: At how many calls of every model a fault is thrown, spread from the first to the last.
FAULTS = int(os.environ.get("MODELSUMMARY_FAULTS", "3"))


@pytest.fixture(autouse=True)
def caches_are_empty() -> None:
    """Begin with nothing in the caches among the test models' globals."""
    models.empty_caches()


def trace(case: Case, model: nn.Module, inputs: Any, engine: str = "auto") -> ModelSummary:
    args, kwargs = inputs
    with quietly():
        return ModelSummary(model, ModelInputs(args, kwargs), method=case.method, engine=engine)  # type: ignore[arg-type]


# -- a trace ----------------------------------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("engine", ["auto", "real"])
def test_a_summary_leaves_everything_as_it_was(case: Case, engine: str) -> None:
    traced = trace_case(case.name, engine)
    assert traced.ms.error is None
    assert traced.changed == []


@pytest.mark.parametrize("make", [random.Random, np.random.default_rng, np.random.RandomState])
def test_a_generator_that_a_model_holds_draws_what_it_would_have_drawn(make: Any) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise = make(0)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.noise.normal(0.0, 1.0) if make is not random.Random else x + self.noise.random()

    model, untouched = Noisy(), Noisy()
    assert ModelSummary(model, (2, 3)).error is None
    zero = torch.zeros(1)
    assert torch.equal(model(zero), untouched(zero))


@pytest.mark.parametrize(
    "name", ["Residual", "TensorsAside", "InContainers", "Caches", "lazy", "Hooked", "Seeds", "Packed"]
)
def test_what_is_derived_later_leaves_everything_as_it_was(name: str) -> None:
    case = by_name(name)
    model, inputs = case.build(), case.inputs()
    seed()
    before = fingerprint(model, inputs)
    ms = trace(case, model, inputs)
    with quietly():
        assert ms.formulas is not None
        assert ms.flags is not None
        assert ms.costs is not None
        assert ms.to_text()
    assert difference(before, fingerprint(model, inputs)) == []


def test_the_fingerprint_sees_a_change_of_each_kind() -> None:
    """A test that can't fail proves nothing: change one thing at a time and look."""
    case = by_name("Hooked")
    model, inputs = case.build(), case.inputs()
    before = fingerprint(model, inputs)
    assert difference(before, fingerprint(model, inputs)) == []
    first: Any = model.first
    changes = [
        lambda: first.weight.data.add_(1),
        lambda: setattr(first, "note", 1),
        lambda: first.eval(),
        lambda: model.features.append(1),
        lambda: inputs[0][0].mul_(2),
        lambda: torch.rand(1),
        lambda: random.random(),
        lambda: np.random.rand(),
        lambda: first.register_forward_hook(print),
        lambda: models.positions(2, 2),
        lambda: models._ANGLES.setdefault(99, torch.zeros(1)),
        lambda: torch.backends.mha.set_fastpath_enabled(False),
        lambda: setattr(models.Globals, "calls", 99),
    ]
    for number, change in enumerate(changes):
        old = fingerprint(model, inputs, models.Globals)
        change()
        assert difference(old, fingerprint(model, inputs, models.Globals)) != [], number
    torch.backends.mha.set_fastpath_enabled(True)
    models.Globals.calls = 0


def test_a_cached_function_answers_with_real_tensors_afterwards() -> None:
    case = by_name("Caches")
    model, (args, _) = case.build(), case.inputs()
    ModelSummary(model, args)
    assert type(model(*args)) is Tensor
    assert type(models.positions(5, 8)) is Tensor
    assert models.positions.cache_info().misses == 1  # only the real call


@functools.lru_cache
def _look_up(size: int) -> Tensor:
    return torch.ones(size)


class _LooksUp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert _look_up(x.shape[-1]) is _look_up(x.shape[-1])
        return x * _look_up(x.shape[-1])


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_a_cached_function_gives_the_same_again_in_a_trace(engine: Any) -> None:
    assert ModelSummary(_LooksUp(), (2, 3), engine=engine).error is None
    assert _look_up.cache_info().misses == 0
    assert type(_look_up(3)) is Tensor
    _look_up.cache_clear()


def _install(name: str, source: str) -> Any:
    """Make a module of an installed package."""
    module: Any = type(sys)(name)
    module.__file__ = str(Path(torch.__file__).parent.parent / name.replace(".", "/")) + ".py"
    sys.modules[name] = module
    exec(source, vars(module))
    return module


_seen: list[int] = []


class _StartsAnew(nn.Module):
    """What a trace leaves on its class, in a global and in a cache the next one does not find."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        assert not _seen
        assert not type(self).calls
        _seen.append(x.shape[1])
        type(self).calls += 1
        return x + _look_up(x.shape[1]) + _look_up(1)


def test_a_trace_finds_nothing_of_the_one_before_it() -> None:
    model = _StartsAnew()
    with globals_kept_once():  # as many traces in a row do
        summaries = [ModelSummary(model, size) for size in ((2, 5), (3, 7))]
        assert [summary.formulas[0] for summary in summaries] == [(("B", "F"),)] * 2
    assert (_seen, model.calls, _look_up.cache_info().misses) == ([], 0, 0)
    assert torch.equal(model(torch.zeros(1, 2)), torch.full((1, 2), 2.0))
    _seen.clear()
    _look_up.cache_clear()
    _StartsAnew.calls = 0


def test_no_fake_hides_where_a_library_keeps_what_its_functions_made() -> None:
    """In a cache or a table of a module that the library uses, and the model does not; or of one of its classes."""

    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.identity = transforms.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = self.identity(x)
            return globals()["_quadrature"](x)  # type: ignore[no-any-return]

    names = ("some_flows.tables", "some_flows.utils", "some_flows.transforms")
    tables = _install(
        names[0],
        "import functools, torch\n"
        "kept = {}\n"
        "class Nodes:\n"
        "    make = staticmethod(functools.lru_cache(lambda size: torch.ones(size)))\n"
        "def weights(size):\n"
        "    if size not in kept:\n"
        "        kept[size] = torch.ones(size)\n"
        "    return kept[size]\n",
    )
    _install(
        names[1],
        "from some_flows.tables import Nodes, weights\n"
        "def integrate(x):\n"
        "    return x * Nodes.make(x.shape[-1]) * weights(x.shape[-1])\n",
    )
    transforms = _install(
        names[2],
        "import functools, torch\n"
        "from some_flows.utils import integrate\n"
        "def quadrature(x):\n"
        "    return integrate(x) * Beside.make(x.shape[-1])\n"
        "class Beside:\n"
        "    make = staticmethod(functools.lru_cache(lambda size: torch.ones(size)))\n"
        "class Identity(torch.nn.Identity):\n"
        "    pass\n",
    )
    globals()["_quadrature"] = transforms.quadrature
    try:
        ModelSummary(Asks(), (2, 3))
        assert tables.kept == {}
        assert type(Asks()(torch.ones(2, 3))) is Tensor
    finally:
        for name in names:
            del sys.modules[name]
        del globals()["_quadrature"]


def test_no_fake_hides_in_a_library_cache() -> None:
    @functools.lru_cache
    def table(size: int) -> Tensor:
        return torch.ones(size)

    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * table(x.shape[-1])

    module = type(sys)("some_library")
    module.__file__ = str(Path(torch.__file__).parent.parent / "some_library.py")
    module.table = table  # type: ignore[attr-defined]
    table.__module__ = "some_library"
    sys.modules["some_library"] = module
    globals()["_library_table"] = table
    try:
        ModelSummary(Asks(), (2, 3))
        assert type(table(3)) is Tensor
    finally:
        del sys.modules["some_library"], globals()["_library_table"]


def test_generators_go_on_where_they_were() -> None:
    for engine in ("fake", "real"):
        seed()
        expected = (torch.rand(3), random.random(), np.random.rand())
        seed()
        for name in ("Chance", "Seeds", "Dropouts"):
            case = by_name(name)
            model, inputs = case.make(), case.inputs()
            seed()
            trace(case, model, inputs, engine)
            seed_after = (torch.rand(3), random.random(), np.random.rand())
            assert torch.equal(seed_after[0], expected[0])
            assert seed_after[1:] == expected[1:]


class _DescribesRandomTensors(nn.Module):
    """It builds an example of what it makes to say what that is, as flows do."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1

    def extra_repr(self) -> str:
        return f"makes {torch.randn(3).shape}"


@pytest.mark.parametrize("engine", ["auto", "real", "static"])
def test_a_description_that_draws_random_numbers_leaves_the_generator(engine: Any) -> None:
    before = torch.get_rng_state()
    ModelSummary(nn.Sequential(_DescribesRandomTensors()), (2, 2), engine=engine)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("draws", [False, True])
def test_a_class_that_is_first_met_in_a_forward_is_described_without_fakes(draws: bool) -> None:
    class Fresh(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

        def extra_repr(self) -> str:
            return f"makes {torch.randn(3).shape}" if draws else ""

    class Makes(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return Fresh()(x)

    before = torch.get_rng_state()
    ms = ModelSummary(Makes(), (2, 2))
    assert ms.engine == "fake"
    assert torch.equal(torch.get_rng_state(), before)


class _SampledWeight(nn.Module):
    """Its weight is drawn when it is read, and it keeps count: a layer of a Bayesian net."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            self.drawn.append(1)
            return torch.ones(2, 2)
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        return f"weight={tuple(self.weight.shape)}"


@pytest.mark.parametrize("engine", ["auto", "real", "static"])
def test_what_is_made_when_it_is_asked_for_is_not_asked_for(engine: Any) -> None:
    model = nn.Sequential(_SampledWeight())
    ms = ModelSummary(model, (2, 2), engine=engine)
    assert ms.error is None
    assert model[0].drawn == []


def test_draws_of_another_thread_are_not_taken_back() -> None:
    """Fakes draw nothing, so what torch's generator did meanwhile was somebody else's doing."""
    drawn = threading.Event()

    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            thread = threading.Thread(target=lambda: (torch.rand(5), drawn.set()))
            thread.start()
            thread.join()
            return x + torch.rand_like(x)

    torch.manual_seed(7)
    torch.rand(5)
    expected = torch.rand(2)
    torch.manual_seed(7)
    ModelSummary(Waits(), (2, 2))
    assert drawn.is_set()
    assert torch.equal(torch.rand(2), expected)


def test_a_model_that_is_being_printed_in_another_thread_prints_there(capsys: pytest.CaptureFixture[str]) -> None:
    class Talks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            thread = threading.Thread(target=lambda: print("other"))
            thread.start()
            thread.join()
            print("mine")
            return x

    ModelSummary(Talks(), (1, 1))
    assert sorted(capsys.readouterr().out.split()) == ["mine", "other"]


# -- faults -----------------------------------------------------------------------------------------------------------


class Fault(Exception):
    """What is thrown into a forward."""


def throw_at(number: int, error: type[BaseException], *, after: bool) -> Any:
    """Hook every module so that the call of that number raises as it begins, or as it ends."""
    count = 0

    def hook(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise error

    everyone = torch.nn.modules.module
    return everyone.register_module_forward_hook(hook) if after else everyone.register_module_forward_pre_hook(hook)


def run(case: Case, model: nn.Module, inputs: Any, engine: Any) -> Traced:
    args, kwargs = inputs
    with quietly():
        return run_engine(model, ModelInputs(args, kwargs), method=case.method, engine=engine)


@EVERY_KIND
@pytest.mark.parametrize("engine", ["auto", "real"])
def test_a_fault_at_any_hook_leaves_everything_as_it_was(case: Case, engine: str) -> None:
    first = trace_case(case.name, engine).ms.pipeline.traced.trace
    made = [call for call in first.calls if call.kind == "module"]
    calls = len(made) - (case.method != "forward")  # no hook sees a method
    ended = calls - sum(call.status == "failed" for call in made)
    model, inputs = case.build(), case.inputs()
    seed()
    if case.name == "Registers":
        gc.collect()  # its weak set forgets what is gone
    before = fingerprint(model, inputs)
    most = FAULTS if engine == "auto" else FAULTS - 1
    for number in sorted({round(1 + place * (calls - 1) / (most - 1)) for place in range(most)}):
        for after in (False, True):
            handle = throw_at(number, Fault, after=after)
            traced = run(case, model, inputs, engine)
            handle.remove()
            is_thrown = number <= (ended if after else calls)
            if is_thrown and case.kind not in ("random", "compiled"):  # chance or a script decides how many there are
                assert isinstance(traced.error, Fault)
            handle = throw_at(number, KeyboardInterrupt, after=after)
            with contextlib.suppress(KeyboardInterrupt):
                run(case, model, inputs, engine)
            handle.remove()
    seed()
    assert difference(before, fingerprint(model, inputs)) == []


def test_a_fault_is_the_failure_of_the_row_it_happened_in() -> None:
    case = by_name("mlp")
    for number, path in enumerate(["", "0", "1", "2"], start=1):
        handle = throw_at(number, Fault, after=False)
        ms = trace(case, case.build(), case.inputs())
        handle.remove()
        assert ms.error is not None
        assert ms.error.path == path


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
