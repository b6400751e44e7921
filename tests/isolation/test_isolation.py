"""Nothing of the user's is touched: not by a trace, not by one that fails or is interrupted, not in another thread."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.isolation.global_state import globals_kept_once
from modelsummary_ipy.tracing.engine import Traced, run_engine
from tests import models
from tests.models import CASES, Case, by_name
from tests.reference import difference, fingerprint, quietly, seed
from tests.traced import trace_case

EVERY_KIND = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
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
