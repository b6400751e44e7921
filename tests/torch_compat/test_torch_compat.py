"""Each private name of torch: the installed torch has it, and a summary without it says the same."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.fake import fast_fake_mode, shape_cache
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.torch_compat import FALLBACKS, MISSING, fakes, modes, modules
from modelsummary_ipy.tracing import aten_log, aten_ops, module_calls
from tests.fresh_process import FreshProcesses
from tests.models import by_name
from tests.reference import HAS_GROUPED_PRODUCTS, quietly, seed

MODELS = ("Residual", "Hooked", "Packed", "lazy")
#: What a release that lacks the first would lack with it, by the order in which they are probed.
TOGETHER = {
    "make_first_fake": ("make_bare_fake", "OVERRIDES_FAKE_MODE", "disable_dispatch", "unset_fake"),
    "mark_parameter": ("disable_dispatch", "unset_fake"),
    "version_of": ("set_version",),
    "set_module_call": ("call_module",),
    "call_module": ("set_module_call",),
}
SET_MODULE_CALL = modules.set_module_call


@pytest.mark.parametrize("name", FALLBACKS)
def test_this_torch_has_every_private_name(name: str) -> None:
    assert name not in MISSING or (name == "set_version" and torch.__version__.startswith("2.6."))


def summarise(name: str) -> tuple[Any, ...]:
    case = by_name(name)
    seed()
    args, kwargs = case.inputs()
    with quietly():
        ms = ModelSummary(case.build(), ModelInputs(args, kwargs), method=case.method)
        assert ms.error is None
        rows = [(r.path, r.type_name, r.kind, r.inputs, r.outputs, r.num_params, r.status) for r in ms.rows]
        costs = (ms.costs, ms.memory) if ms.engine == "fake" else None  # a real forward leaves bytes unknown
        return rows, ms.total_params, ms.total_mult_adds, costs


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return {name: summarise(name) for name in MODELS}


@pytest.mark.parametrize("name", FALLBACKS)
def test_a_summary_without_a_private_name_says_the_same(
    name: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for absent in (name, *TOGETHER.get(name, ())):
        home = next(home for home in (fakes, modules, modes) if hasattr(home, absent))
        original, users = getattr(home, absent), 0
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("modelsummary_ipy") and absent in vars(module):
                assert getattr(module, absent) is original
                monkeypatch.setattr(module, absent, FALLBACKS[absent])
                users += 1
        assert users > 1 or f" {absent}(" in inspect.getsource(home), "no module uses it"
    monkeypatch.setattr(
        fast_fake_mode, "_SHAPE_CACHE", shape_cache.ShapeCache(fast_fake_mode.build_fake)
    )  # nothing is remembered from before
    monkeypatch.setattr(aten_log, "find_plan", functools.cache(aten_ops.Plan))
    monkeypatch.setattr(aten_ops, "find_plan", aten_log.find_plan)
    take_call_away()
    try:
        for model in MODELS:
            *sure, costs = summarise(model)
            *as_usual, usual_costs = expected[model]
            assert sure == as_usual
            assert costs in (usual_costs, None)
            assert costs is not None or model == "Packed"  # which needs the values of its lengths
    finally:
        take_call_away()


def take_call_away() -> None:
    """Let the next trace install what observes module calls anew, whichever way that is done."""
    for set_call in (SET_MODULE_CALL, FALLBACKS["set_module_call"]):
        set_call(None)
    module_calls._is_installed = False


@pytest.mark.parametrize(
    "name",
    [
        "_unsafe_view.default",
        *["_grouped_mm.default" for _ in range(HAS_GROUPED_PRODUCTS)],
        "_native_batch_norm_legit.default",
        "_native_batch_norm_legit.no_stats",
        "_native_batch_norm_legit_no_training.default",
    ],
)
def test_an_operator_is_found_by_name(name: str) -> None:
    assert str(fakes.find_operator(name)) == f"aten.{name}"


def test_an_operator_that_this_torch_lacks_is_none() -> None:
    assert fakes.find_operator("no_such.default") is None
    assert fakes.find_operator("add.no_such") is None


@pytest.mark.parametrize(
    "name", ["lstm", "gru", "rnn_tanh", "rnn_relu", "_pack_padded_sequence", "_pad_packed_sequence"]
)
def test_a_recurrent_function_is_the_one_that_modes_get(name: str) -> None:
    assert fakes.variable_function(name) == getattr(torch, name)
    assert fakes.variable_function("no_such") is None


@pytest.mark.parametrize("name", ["lstm_data_impl", "gru_impl_data", "rnn_tanh_data", "rnn_relu_data"])
def test_a_recurrent_layer_has_its_steps(name: str) -> None:
    assert callable(fakes.decomposition_of(name))
    assert fakes.decomposition_of("no_such") is None


def test_a_higher_order_operator_has_a_shape_rule() -> None:
    assert callable(fakes.higher_order_rule(torch.ops.higher_order.cond))
    assert fakes.higher_order_rule(object()) is None


def test_the_exceptions_of_fakes_are_known() -> None:
    assert len(fakes.FAKE_ONLY_ERRORS) in (4, 5)  # 2.7 and older lack one
    assert all(fakes.from_torchs_fakes(kind) for kind in fakes.FAKE_ONLY_ERRORS)
    assert fakes.FAKE_LOGGER == "torch._subclasses.fake_tensor"


def test_a_view_has_its_base() -> None:
    base = torch.zeros(3)
    assert modules.view_base(base[1:]) is base
    assert modules.view_base(base) is None


def test_hooks_on_all_modules_are_seen() -> None:
    assert not modules.has_hooks(nn.Identity())
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert modules.has_hooks(nn.Identity())
    handle.remove()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, when it compiles
def test_what_a_wrapper_calls_is_found() -> None:
    inner = nn.Linear(2, 2)
    assert modules.find_wrapped(torch.compile(inner)) is inner  # type: ignore[arg-type]
    assert modules.find_wrapped(nn.DataParallel(inner)) is inner
    assert modules.find_wrapped(nn.Sequential(inner)) is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as above
def test_what_a_compiled_function_was_is_found() -> None:
    def double(x: Tensor) -> Tensor:
        return x * 2

    assert modules.original_of_compiled(torch.compile(double)) is double
    assert modules.original_of_compiled(double) is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as above
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_a_script_module_gets_a_second_object() -> None:
    scripted = torch.jit.script(nn.Linear(2, 2))
    second = modules.wrap_script_module(scripted)
    assert second is not scripted
    assert second.weight is not None
    assert modules.wrap_script_module(plain := nn.Linear(2, 2)) is plain


def test_whether_distributions_check_their_arguments_is_known() -> None:
    distribution = torch.distributions.Distribution
    before = modules.default_validation(distribution)
    distribution.set_default_validate_args(not before)
    try:
        assert modules.default_validation(distribution) is not before
    finally:
        distribution.set_default_validate_args(before)


def test_a_module_call_is_known_by_its_code() -> None:
    assert nn.Module.__call__.__code__ in modules.MODULE_CALL_CODES
    assert len(modules.MODULE_CALL_CODES) == 2  # ``__call__`` is one of the two


def test_probes_run_outside_the_modes_of_the_user() -> None:
    seen: list[Any] = []

    def find() -> bool:
        seen.append((torch.empty(0).device.type, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        return True

    from modelsummary_ipy.torch_compat import prefer

    with torch.device("meta"), torch.inference_mode():
        assert prefer("tried", find, False)
    del FALLBACKS["tried"]
    assert seen == [("cpu", False, True)]


def test_a_probe_that_fails_is_noted() -> None:
    from modelsummary_ipy.torch_compat import prefer

    assert prefer("tried", lambda: torch.no_such_name, "without") == "without"
    assert MISSING.pop() == "tried"
    del FALLBACKS["tried"]


IMPORTS_ALONE = """
import sys, torch
before = {name for name in sys.modules if name.startswith("torch.")}
from modelsummary_ipy import ModelSummary
from modelsummary_ipy.torch_compat import MISSING
heavy = [name for name in ("torch._dynamo", "torch._inductor", "sympy", "pandas") if name in sys.modules]
assert not heavy, heavy
assert not MISSING, MISSING
assert len({name for name in sys.modules if name.startswith("torch.")} - before) < 40
net = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval()
ms = ModelSummary(net, (8, 16), engine="real")
# The input, and what the first layer and ReLU made: what an operation imports midway would keep its tensors alive.
assert ms.memory.forward_peak_bytes == 4 * 8 * (16 + 32 + 32), ms.memory.forward_peak_bytes
"""


def test_to_import_the_package_does_not_load_the_compiler_and_a_first_real_run_does_before_it(
    fresh: FreshProcesses,
) -> None:
    ran = fresh.run(IMPORTS_ALONE)
    assert ran.returncode == 0, ran.stderr


FIRST_OF_A_PROCESS = """
import warnings
from tests.torch_compat.test_torch_compat import summarise
before = list(warnings.filters)
first = summarise("Residual")
assert warnings.filters == before, warnings.filters[0]
second = summarise("Residual")
assert first == second, (first[3][1], second[3][1])
"""


def test_the_first_summary_of_a_process_says_what_later_ones_say_and_adds_no_warning_filter(
    fresh: FreshProcesses,
) -> None:
    ran = fresh.run(FIRST_OF_A_PROCESS)
    assert ran.returncode == 0, ran.stderr
