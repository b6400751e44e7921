"""Containers of arguments and results: walked by key path, mapped and rebuilt without touching the user's own."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.pytree import map_leaves, rebuild, replace_tensors, walk_leaves
from modelsummary_ipy.inputs.size import Size

Pair = namedtuple("Pair", ["left", "right"])


@dataclass(frozen=True)
class Frozen:
    x: Any
    note: str = "kept"


@dataclass
class Layer(nn.Module):
    x: Any

    def __hash__(self) -> int:
        return id(self)


class Graph:
    def __init__(self, x: Any) -> None:
        self.x = x


A, B = torch.zeros(2), torch.ones(3)

CASES: list[tuple[Any, list[str]]] = [
    (A, [""]),
    ((A, [B, None, 3]), ["[0]", "[1][0]"]),
    ({"a": A, 2: {"b": B}}, ["['a']", "[2]['b']"]),
    (Pair(A, "text"), [".left"]),
    (Frozen(Pair(1, B)), [".x.right"]),
    (OrderedDict(x=A), ["['x']"]),
    (UserDict(x=[A]), ["['x'][0]"]),
    (torch.max(torch.zeros(2, 3), 1), ["[0]", "[1]"]),
    ({A}, []),
    (Graph(A), []),
    (Tensor, []),
]


@pytest.mark.parametrize(("value", "names"), CASES, ids=lambda case: type(case).__name__)
def test_leaves_are_named_by_the_code_that_reaches_them(value: Any, names: list[str]) -> None:
    leaves = list(walk_leaves(value))
    assert [name for name, _ in leaves] == names
    for name, leaf in leaves:
        assert eval(f"value{name}", {"value": value}) is leaf


@pytest.mark.parametrize(("value", "names"), CASES, ids=lambda case: type(case).__name__)
def test_a_twin_with_other_leaves_is_of_the_same_type_and_leaves_the_original_alone(
    value: Any, names: list[str]
) -> None:
    before = list(walk_leaves(value))
    twin = map_leaves(value, "", lambda name, leaf: Size((7,)))
    assert type(twin) is (Size if isinstance(value, Tensor) else type(value))
    assert [(name, leaf.shape) for name, leaf in walk_leaves(twin)] == [(name, (7,)) for name in names]
    assert [(name, id(leaf)) for name, leaf in walk_leaves(value)] == [(name, id(leaf)) for name, leaf in before]


def test_what_holds_no_leaf_that_changes_is_itself() -> None:
    inner = [1, {"a": "text"}]
    value = (inner, A)
    assert map_leaves(value, "", lambda name, leaf: leaf) is value
    assert map_leaves(value, "", lambda name, leaf: B)[0] is inner


def test_modules_are_no_containers_also_those_that_are_dataclasses() -> None:
    layer = Layer.__new__(Layer)
    nn.Module.__init__(layer)
    layer.x = A
    assert list(walk_leaves([layer])) == []


def test_a_structure_that_contains_itself_comes_to_an_end() -> None:
    value: list[Any] = [A]
    value.append(value)
    assert len(list(walk_leaves(value))) == 13


def test_tensors_are_replaced_by_identity_in_containers_and_in_objects() -> None:
    other = torch.zeros(9)
    graph = Graph({"a": [A]})
    value = (A, [B, Frozen(A)], graph)
    made = replace_tensors(value, {id(A): other})
    assert made[0] is other
    assert made[1][0] is B
    assert made[1][1].x is other
    assert made[1][1].note == "kept"
    assert made[2] is graph
    assert graph.x["a"][0] is other
    assert value[1][1].x is A  # type: ignore[attr-defined]


def test_a_container_that_takes_no_other_tensor_keeps_its_own() -> None:
    class Strict(UserDict[str, Any]):
        def __setitem__(self, key: str, item: Any) -> None:
            if len(item) != 2:
                raise ValueError(key)
            super().__setitem__(key, item)

    value = Strict(x=A)
    assert replace_tensors([value], {id(A): B})[0] is value


def test_a_plain_dict_is_rebuilt_in_its_order() -> None:
    assert list(rebuild({"b": 1, "a": 2}, [3, 4]).items()) == [("b", 3), ("a", 4)]
