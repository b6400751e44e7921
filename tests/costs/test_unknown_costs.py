"""What has unknown costs, and operations of one's own that are given a formula."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from modelsummary_ipy.costs.mac_formulas import register_mult_adds
from modelsummary_ipy.costs.row_costs import count_costs
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.summary import Cost
from modelsummary_ipy.records.trace import AtenOp
from modelsummary_ipy.summary import ModelSummary
from tests.costs.test_row_costs import Does, count, summarise


class Spectral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.after = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.fft.rfft(self.before(x)).real)


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_an_operation_without_a_formula_makes_its_row_unknown_and_is_left_out_of_the_total(engine: str) -> None:
    ms = summarise(Spectral(), torch.zeros(5, 4), engine=engine)
    assert ms.unknown_ops == ("aten::_fft_r2c",)
    assert ms.total_mult_adds == 5 * 16 + 5 * 6
    found = {row.path or row.type_name: ms.costs[row.index].mult_adds for row in ms.rows if row.type_name != "real"}
    assert found == {"Spectral": None, "before": 80, "fft_rfft": None, "after": 30}


def test_costs_of_rows_add_up_and_one_unknown_spreads_upward() -> None:
    ms = summarise(Spectral(), torch.zeros(5, 4))
    trace = ms.pipeline.traced.trace
    costs, unknown = count_costs(trace, ms.rows)
    assert unknown == ("aten::_fft_r2c",)
    assert set(costs) == {row.index for row in ms.rows}
    assert all(isinstance(cost, Cost) for cost in costs.values())
    own = [cost.own_mult_adds for cost in costs.values() if cost.own_mult_adds is not None]
    assert math.fsum(own) == 110


@pytest.mark.filterwarnings("ignore:Sparse CSR")  # torch says that it is new
def test_a_product_with_a_sparse_matrix_is_unknown() -> None:
    ms = summarise(Does(lambda x: torch.mm(x.to_sparse_csr(), x)), torch.eye(3), engine="real")
    assert ms.unknown_ops == ("aten::mm (sparse)",)


@pytest.fixture
def own_op() -> Iterator[Any]:
    library = torch.library.Library("ms_costs", "DEF")
    library.define("fused(Tensor x, Tensor weight, int times) -> Tensor")
    library.impl("fused", lambda x, weight, times: (x @ weight) * times, "CompositeExplicitAutograd")
    torch.library.register_fake("ms_costs::fused", lambda x, w, times: x.new_empty(x.shape[0], w.shape[1]), lib=library)
    yield torch.ops.ms_costs.fused
    library._destroy()


def test_an_own_operation_is_unknown_until_it_has_a_formula(own_op: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsummary_ipy.costs.mac_formulas._formulas", {})
    model, x, weight = Does(lambda x, w: own_op(x, w, 3)), torch.zeros(5, 4), torch.zeros(4, 6)
    assert summarise(model, x, weight).unknown_ops == ("ms_costs::fused",)

    @register_mult_adds("ms_costs::fused")
    def count_fused(kernel: AtenOp) -> int:
        rows, inner = kernel.inputs[0] or (0, 0)
        return rows * inner * kernel.outputs[0][1] * dict(kernel.arguments)["times"]

    assert count(model, x, weight) == 5 * 4 * 6 * 3
    for op in (own_op, own_op.default):
        register_mult_adds(op, lambda kernel: 7)
        assert count(model, x, weight) == 7
    register_mult_adds(own_op.default, lambda kernel: None)
    assert summarise(model, x, weight).unknown_ops == ("ms_costs::fused",)


def test_a_mistake_in_an_own_formula_is_shown_not_swallowed(own_op: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsummary_ipy.costs.mac_formulas._formulas", {})
    register_mult_adds(own_op, lambda kernel: kernel.inputs[9][0])
    ms = summarise(Does(lambda x: own_op(x, x, 1)), torch.zeros(4, 4))
    with pytest.raises(IndexError):
        _ = ms.total_mult_adds


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsummary_ipy.costs.mac_formulas._formulas", {})
    monkeypatch.setattr(flop_counter, "flop_registry", dict(flop_counter.flop_registry))


def test_a_formula_of_torchs_registry_counts_an_own_operation(own_op: Any, registry: None) -> None:
    model, x, weight = Does(lambda x, w: own_op(x, w, 3)), torch.zeros(5, 4), torch.zeros(4, 6)
    assert summarise(model, x, weight).unknown_ops == ("ms_costs::fused",)

    @register_flop_formula(own_op)
    def count_flops(left: Any, right: Any, times: int, *, out_shape: Any) -> int:
        assert (left, right, out_shape) == ((5, 4), (4, 6), (5, 6))
        return 2 * left[0] * left[1] * right[1] * times

    ms = summarise(model, x, weight)
    assert (ms.total_mult_adds, ms.unknown_ops) == (5 * 4 * 6 * 3, ())
    with FlopCounterMode(display=False) as counter:
        model(x, weight)
    assert counter.get_total_flops() == 2 * 5 * 4 * 6 * 3
    register_mult_adds(own_op, lambda kernel: 7)
    assert count(model, x, weight) == 7


def test_a_formula_that_was_registered_for_raw_tensors_gets_tensors_without_values(own_op: Any, registry: None) -> None:
    model, x = Does(lambda x: own_op(x, x, 1)), torch.zeros(4, 4, dtype=torch.float64)

    @register_flop_formula(own_op, get_raw=True)
    def count_flops(left: Any, right: Any, times: int, out_val: Any = None) -> int:
        return int(left.numel() * out_val.shape[1] * left.element_size())

    assert count(model, x) == 4 * 4 * 4 * 8 // 2
    flop_counter.flop_registry[own_op] = lambda left, *args, out_val: int(left.sum().item())
    assert summarise(model, x).unknown_ops == ("ms_costs::fused",)


def test_lists_options_and_what_is_not_given_reach_a_formula_of_torchs_registry(registry: None) -> None:
    library = torch.library.Library("ms_lists", "DEF")
    library.define("mix(Tensor x, Tensor[] others, Tensor? bias=None, *, float scale=1.0) -> Tensor")
    library.impl("mix", lambda x, others, bias=None, scale=1.0: x.clone(), "CompositeExplicitAutograd")
    torch.library.register_fake("ms_lists::mix", lambda x, others, bias=None, scale=1.0: x.new_empty(3), lib=library)
    seen: list[Any] = []

    @register_flop_formula(torch.ops.ms_lists.mix)
    def count_flops(*args: Any, out_shape: Any, **named: Any) -> int:
        seen.append((args, named, out_shape))
        return 10

    x = torch.zeros(3)
    assert count(Does(lambda x: torch.ops.ms_lists.mix(x, [x[:1], x[:2]], scale=2.0)), x) == 5
    assert seen[0] == (((3,), [(1,), (2,)], None), {"scale": 2.0}, (3,))
    library._destroy()


def test_a_mistake_in_a_formula_of_torchs_registry_is_shown(own_op: Any, registry: None) -> None:
    register_flop_formula(own_op)(lambda left, right: left[9])
    with pytest.raises(TypeError):
        _ = summarise(Does(lambda x: own_op(x, x, 1)), torch.zeros(4, 4)).total_mult_adds


@pytest.mark.parametrize("op", ["fused", "a::b::c::d", "my lib::fused", 3, None])
def test_what_is_no_operation_is_refused(op: Any) -> None:
    with pytest.raises(InputError, match="no operation"):
        register_mult_adds(op, lambda kernel: 1)


def test_a_formula_that_can_not_be_called_is_refused() -> None:
    with pytest.raises(InputError, match="a function from an AtenOp"):
        register_mult_adds("mylib::fused", 12)


def test_a_forward_that_fails_has_unknown_costs_on_the_way_to_the_failure() -> None:
    ms = ModelSummary(nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 4), nn.Linear(4, 4)), (2, 4))
    assert [ms.costs[row.index].mult_adds for row in ms.rows] == [None, 64, None, None]
    assert ms.total_mult_adds == 64


def test_a_static_summary_has_no_costs() -> None:
    ms = ModelSummary(nn.Linear(4, 4), engine="static")
    assert (dict(ms.costs), ms.total_mult_adds, ms.unknown_ops) == ({}, None, ())
