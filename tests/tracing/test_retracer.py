"""One forward traced again: at other sizes, with other dtypes, in another mode, with everything measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.records.retraced import Budget
from modelsummary_ipy.tracing import retracer as retracer_module
from modelsummary_ipy.tracing.engine import run_engine
from modelsummary_ipy.tracing.retracer import Retracer, trace_fake


class Positions(nn.Module):
    """Tokens and a table of eight positions."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 4)
        self.positions = nn.Embedding(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))


def retrace(model: nn.Module, *args: Any, dims: tuple[tuple[str, ...], ...], budget: Budget | None = None) -> Retracer:
    traced = run_engine(model, ModelInputs(args))
    assert traced.request is not None
    return Retracer(traced.request, traced.trace, dims, budget)


def test_what_the_sizes_do_not_name_stays_as_it_was() -> None:
    retracer = retrace(nn.Conv2d(3, 4, 3), Size((2, 3, 8, 8)), dims=(("B", "C", "H", "W"),))
    found = retracer.at({"H": 20})

    assert found.works
    assert found.trace is not None
    assert found.trace.calls[0].inputs[0].shape == (2, 3, 20, 8)
    assert found.trace.calls[0].outputs[0].shape == (2, 4, 18, 6)
    assert retracer.at({"C": 5}).failed
    assert "expected input" in retracer.at({"C": 5}).reason


def test_dims_of_one_name_move_together_and_data_keeps_its_dtype() -> None:
    model = nn.Bilinear(3, 4, 5)
    retracer = retrace(model, torch.zeros(2, 3), torch.zeros(2, 4), dims=(("B", ""), ("B", "")))

    trace = retracer.at({"B": 7}).trace
    assert trace is not None
    assert [spec.shape for spec in trace.calls[0].inputs] == [(7, 3), (7, 4)]


def test_each_size_is_traced_once_and_the_budget_is_counted() -> None:
    retracer = retrace(nn.Linear(3, 2), Size((2, 3)), dims=(("B", "F"),), budget=Budget(calls=100, traces=2))

    first = retracer.at({"B": 4})
    assert retracer.at({"B": 4}) is first
    assert retracer.at({"B": 4, "F": 3}) is first
    assert (retracer.budget.calls, retracer.budget.traces) == (99, 1)
    assert retracer.at({"B": 5}).works
    spent = retracer.at({"B": 6})
    assert (spent.works, spent.failed, spent.trace) == (False, False, None)
    assert retracer.at({"B": 4}) is first
    assert retracer.within(Budget(100, 1)).at({"B": 6}).works


def test_an_index_beyond_a_table_is_a_failure_with_its_distance() -> None:
    retracer = retrace(Positions(), Size((2, 6), dtype="int64"), dims=(("B", "T"),))

    assert retracer.at({"T": 8}).works
    found = retracer.at({"T": 11})
    assert found.failed
    assert found.overrun == 3
    assert found.reason == "IndexError: index out of range in self: 10 in a table of 8 rows"


class Padded(Positions):
    """Positions counted from 2 on where no padding, id 1, is."""

    def forward(self, ids: Tensor) -> Tensor:
        mask = ids.ne(1).int()
        return self.tokens(ids) + self.positions(torch.cumsum(mask, 1).type_as(mask) * mask + 1)


def test_positions_counted_from_the_ids_that_were_given_end_with_their_table() -> None:
    ids = torch.full((2, 4), 7)
    retracer = retrace(Padded(), ids, dims=(("B", "T"),))

    assert Padded()(ids[:, :1].expand(2, 6)).shape == (2, 6, 4)
    with pytest.raises(IndexError):
        Padded()(ids[:, :1].expand(2, 7))
    assert retracer.at({"T": 6}).works
    found = retracer.at({"T": 7})
    assert (found.reason, found.overrun) == ("IndexError: index out of range in self: 8 in a table of 8 rows", 1)


def test_the_mode_is_part_of_what_is_traced() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).train()
    retracer = retrace(model, Size((4, 3)), dims=(("B", "F"),))

    assert retracer.at({"B": 1}).failed
    assert retracer.at({"B": 1}, training=False).works
    assert model.training


def test_sizes_and_dtypes_of_every_input_are_traced_and_written() -> None:
    retracer = retrace(nn.Embedding(50, 4), Size((2, 6), dtype="float32"), dims=(("B", "T"),))
    (spec,) = (fact.spec for fact in run_engine(nn.Embedding(50, 4), ModelInputs((Size((2, 6)),))).trace.inputs)
    other = (spec._replace(shape=(3, 9), dtype="int64"),)

    assert retracer.at(other).works
    assert retracer.write(other) == "(3, 9):int64"
    assert retracer.at((spec._replace(shape=(3, 0)),)).trace is None


def test_measuring_follows_what_autograd_saves_and_costs_no_budget() -> None:
    retracer = retrace(nn.Linear(3, 2), Size((2, 3)), dims=(("B", "F"),), budget=Budget(0, 0))

    small, large = retracer.measure(), retracer.measure({"B": 20})
    assert small is not None
    assert large is not None
    assert small.knows_saved
    assert small.calls[0].aten_ops
    assert large.calls[0].outputs[0].shape == (20, 2)
    assert retracer.at({"B": 20}).trace is None


class Force(nn.Module):
    """What differentiates in its forward, and refuses to run without grad."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Linear(3, 1)

    def forward(self, positions: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            raise ValueError("forces need gradients")
        positions = positions.requires_grad_()
        return torch.autograd.grad(self.energy(positions).sum(), positions, create_graph=True)[0]


class Hamiltonian(Force):
    """The same without the check."""

    def forward(self, positions: Tensor) -> Tensor:
        positions = positions.requires_grad_()
        return torch.autograd.grad(self.energy(positions).sum(), positions, create_graph=True)[0]


@pytest.mark.parametrize("kind", [Force, Hamiltonian])
def test_a_forward_that_differentiates_runs_at_the_sizes_at_which_it_runs_for_real(kind: type[nn.Module]) -> None:
    retracer = retrace(kind(), Size((4, 3)), dims=(("B", "F"),))

    assert kind()(torch.zeros(9, 3)).shape == (9, 3)
    assert retracer.at({"B": 9}).works
    assert retracer.at({"F": 5}).failed
    assert retracer.at({"B": 7}).works


@pytest.mark.parametrize("kind", [Force, Hamiltonian])
def test_under_the_users_own_no_grad_it_fails_at_every_size(kind: type[nn.Module]) -> None:
    retracer = retrace(kind(), Size((4, 3)), dims=(("B", "F"),))

    with torch.no_grad(), pytest.raises((RuntimeError, ValueError)):
        kind()(torch.zeros(9, 3))
    with torch.no_grad():
        assert retracer.at({"B": 9}).failed


class Chained(nn.Module):
    """A layer that expects five features, after something that gives three."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.layer = first, nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.first(x))


@pytest.mark.parametrize(("first", "num_traces"), [(nn.Identity(), 1), (Force(), 2)])
def test_only_what_fails_otherwise_without_grad_is_traced_again_with_it(
    first: nn.Module, num_traces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    retracer = retrace(Chained(first), Size((4, 3)), dims=(("B", "F"),))
    made: list[bool] = []

    def note(*args: Any, **options: Any) -> Any:
        made.append(torch.is_grad_enabled())
        return trace_fake(*args, **options)

    monkeypatch.setattr(retracer_module, "trace_fake", note)
    found = retracer.at({"B": 7})
    assert made == [False, True][:num_traces]
    assert "[7, 3] X [5, 2]" in found.reason
