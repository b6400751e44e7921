"""Which attributes a forward can read, and what its module keeps unregistered."""

from __future__ import annotations

import argparse
import ast
import difflib
import dis
import functools
import textwrap
from types import FunctionType, ModuleType

import torch
from torch import Tensor, nn

from modelsummary_ipy.model.attribute_reads import _ORDERS, _list_compares, find_reads
from modelsummary_ipy.model.module_tree import read_tree
from modelsummary_ipy.summary import ModelSummary


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.direct, self.by_helper, self.by_property = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.elsewhere, self.never, self.nested = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.by_cache, self.by_part = nn.Linear(2, 2), nn.Linear(2, 2)
        self.init_weights()

    def init_weights(self) -> None:
        nn.init.zeros_(self.never.weight)

    def helper(self, x: Tensor) -> Tensor:
        return self.by_helper(x)

    @property
    def head(self) -> nn.Module:
        return self.by_property

    @functools.cached_property
    def cached(self) -> nn.Module:
        return self.by_cache

    def _scale(self, x: Tensor, by: int) -> Tensor:
        return self.by_part(x) * by

    double = functools.partialmethod(_scale, by=2)

    def decode(self, x: Tensor) -> Tensor:
        return self.elsewhere(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.double(self.cached(self.head(self.helper(self.direct((lambda y: self.nested(y))(x))))))


def test_what_forward_leads_to_is_read_and_what_sets_a_module_up_is_not() -> None:
    reads = find_reads(Net, nn.Module)
    assert reads.forward is not None
    assert {"direct", "by_helper", "by_property", "by_cache", "by_part", "nested"} <= reads.forward
    assert not {"elsewhere", "never"} & reads.forward
    assert "elsewhere" in reads.elsewhere
    assert "never" not in reads.elsewhere


def test_who_looks_attributes_up_by_name_may_read_them_all() -> None:
    class Dynamic(Net):
        def forward(self, x: Tensor) -> Tensor:
            return getattr(self, "never")(x)  # noqa: B009  # as configurable models do

    assert find_reads(Dynamic, nn.Module).forward is None


def test_a_decorated_forward_is_read_below_its_decorator() -> None:
    def traced(function):  # type: ignore[no-untyped-def]
        @functools.wraps(function)
        def wrapper(*args: object) -> object:
            return function(*args)

        return wrapper

    class Decorated(Net):
        @traced
        def forward(self, x: Tensor) -> Tensor:
            return self.never(x)

    reads = find_reads(Decorated, nn.Module)
    assert reads.forward is not None
    assert "never" in reads.forward


def test_an_overridden_forward_is_not_read_but_where_the_new_one_calls_it() -> None:
    class Overrides(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.never(x)

    class Extends(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.never(super().forward(x))

    for cls, reads_direct in ((Overrides, False), (Extends, True)):
        reads = find_reads(cls, nn.Module)
        assert reads.forward is not None
        assert ("direct" in reads.forward, "never" in reads.forward) == (reads_direct, True)
        assert "direct" not in reads.elsewhere or reads_direct


def test_a_class_without_a_forward_of_its_own_is_not_known() -> None:
    assert find_reads(nn.ModuleList, nn.Module).forward is None


def test_trainable_tensors_in_plain_containers_are_found_with_their_place() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.registered = nn.Parameter(torch.ones(2))
            self.scales = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4))]
            self.more = {"a": torch.ones(5, requires_grad=True), "again": self.registered}
            self.fixed = torch.ones(6)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scales[0]

    tree = read_tree(Loose())
    places = {place: tree.params[index].shape for place, index in tree.modules[0].loose}
    assert places == {"scales[0]": (3,), "scales[1]": (4,), "more['a']": (5,)}
    assert [fact.names for fact in tree.params] == [("registered",), (), (), ()]
    ms = ModelSummary(Loose(), (2, 3))
    assert ms.total_params == 2
    touched = {index for call in ms.pipeline.traced.trace.calls for index in call.params}
    assert touched == {1}


def test_a_layer_that_the_forward_makes_is_distinguished_from_one_it_finds() -> None:
    found = nn.Linear(2, 2)

    class Makes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.Linear(2, 3)(KEPT[0](x))

    KEPT = [found]
    made = {fact.type_name + str(fact.settings["out_features"]): fact.made
            for fact in ModelSummary(Makes(), (4, 2)).pipeline.traced.trace.modules[1:]}  # fmt: skip
    assert made == {"Linear2": False, "Linear3": True}


def test_a_layer_that_the_first_forward_registers_is_not_made_again() -> None:
    class BuildsItself(nn.Module):
        fc: nn.Linear | None

        def __init__(self) -> None:
            super().__init__()
            self.fc = None

        def forward(self, x: Tensor) -> Tensor:
            if self.fc is None:
                self.fc = nn.Linear(x.shape[1], 3)
            return self.fc(x)

    ms = ModelSummary(BuildsItself(), (4, 2))
    assert [fact.made for fact in ms.pipeline.traced.trace.modules[1:]] == [False]
    assert [flag.severity for flag in ms.flags] == ["note"]


def test_code_that_orders_two_numbers_is_found_in_its_bytes_as_by_dis() -> None:
    functions = [value for module in (argparse, ast, difflib, textwrap) for value in _list_functions(module)]
    found = {}
    for function in functions:
        lines = dis.get_instructions(function)
        is_ordering = any(line.opname == "COMPARE_OP" and line.argval[0] in "<>" for line in lines)
        found[function] = is_ordering, not _ORDERS.isdisjoint(_list_compares(function.__code__))
    assert {expected for expected, _ in found.values()} == {True, False}
    assert [function for function, (expected, ours) in found.items() if expected != ours] == []


def _list_functions(module: ModuleType) -> list[FunctionType]:
    kinds = [value for value in vars(module).values() if isinstance(value, type)]
    return [value for owner in (module, *kinds) for value in vars(owner).values() if isinstance(value, FunctionType)]
