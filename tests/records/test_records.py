"""A quick constructor makes what the one that ``dataclass`` writes would make."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from modelsummary_ipy.records import summary
from modelsummary_ipy.records import trace as facts
from modelsummary_ipy.records.quick import quick


@dataclasses.dataclass(frozen=True, slots=True)
class Slow:
    one: int
    two: str = "two"
    three: Mapping[str, int] = dataclasses.field(default_factory=dict)


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class Quick:
    one: int
    two: str = "two"
    three: Mapping[str, int] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, "b"), {}), ((), {"one": 1, "three": {"c": 3}}), ((1, "b", {}), {}), ((1,), {"two": "c"})],
)
def test_it_fills_the_same_fields(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    made = Quick(*args, **kwargs)
    assert type(made) is Quick
    assert dataclasses.asdict(made) == dataclasses.asdict(Slow(*args, **kwargs))
    assert made == Quick(*args, **kwargs)
    assert copy.deepcopy(made) == made == pickle.loads(pickle.dumps(made))


def test_a_default_that_is_made_is_made_anew() -> None:
    assert Quick(1).three is not Quick(1).three


@pytest.mark.parametrize("wrong", [{}, {"one": 1, "four": 4}])
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Quick(**wrong)


def test_it_stays_frozen() -> None:
    made = dataclasses.replace(Quick(1), two="b")
    assert made.two == "b"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.one = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.one
    with pytest.raises((AttributeError, TypeError)):
        made.four = 4  # type: ignore[attr-defined]


def test_it_is_called_as_before() -> None:
    assert list(inspect.signature(Quick).parameters) == list(inspect.signature(Slow).parameters)
    assert Quick.__init__.__annotations__ == Slow.__init__.__annotations__


@pytest.mark.parametrize("kind", [facts.Call, summary.Row, facts.ModuleFact, facts.ParamFact, facts.Kernel])
def test_the_facts_take_their_fields_in_order(kind: Any) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    made = kind(*range(len(names)))
    assert [getattr(made, name) for name in names] == list(range(len(names)))
