"""A mistake of this package costs no row: it is logged, shown below the table, and fails the tests."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from modelsummary_ipy.diagnosis.rules import RULES
from modelsummary_ipy.pipeline import findings, stages
from modelsummary_ipy.records.internal_errors import attempt
from modelsummary_ipy.summary import ModelSummary
from tests.models import CASES, Case
from tests.reference import quietly
from tests.traced import trace_case


def raise_error(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("our own mistake")


def check_shown(ms: ModelSummary, line: str, logged: list[str]) -> None:
    """The line stands once below the table of every output, and the log has the traceback."""
    for text in (ms.to_text(), ms.to_markdown().replace("&#95;", "_"), ms.to_html()):
        assert text.count(line) == 1
    assert ms.to_dict()["internal_errors"] == [line]
    assert len(ms.rows) > 1
    assert "Traceback" in logged[0]
    assert "ZeroDivisionError: our own mistake" in logged[0]
    logged.clear()


def test_a_rule_that_raises_is_reported_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, internal_errors: list[str]
) -> None:
    monkeypatch.setitem(RULES, "wrong-axis", raise_error)
    ms = ModelSummary(nn.Sequential(nn.Conv2d(1, 2, 3, padding=5), nn.ReLU()), (2, 1, 16, 16))
    check_shown(ms, "rule wrong-axis failed: please report it", internal_errors)
    assert [flag.rule for flag in ms.flags] == ["grown-map"]


@pytest.mark.parametrize(
    ("home", "name", "line"),
    [
        (findings, "find_formulas", "finding formulas failed: please report it"),
        (stages, "count_costs", "counting costs failed: please report it"),
    ],
)
def test_a_stage_that_raises_is_reported_and_the_rows_are_there(
    home: ModuleType, name: str, line: str, monkeypatch: pytest.MonkeyPatch, internal_errors: list[str]
) -> None:
    monkeypatch.setattr(home, name, raise_error)
    check_shown(ModelSummary(nn.Sequential(nn.Linear(4, 2)), (3, 4)), line, internal_errors)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SIZES", "explanation linear failed: please report it"),
        ("find_sizes", "the search for sizes that work failed: please report it"),
    ],
)
def test_an_explanation_that_raises_is_reported_and_the_failure_is_reported_with_torchs_message(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch, internal_errors: list[str]
) -> None:
    broken: Any = {"linear": raise_error} if name == "SIZES" else raise_error
    monkeypatch.setattr(importlib.import_module("modelsummary_ipy.diagnosis.failures.explain"), name, broken)
    ms = ModelSummary(nn.Sequential(nn.Linear(4, 2), nn.Linear(3, 2)), (5, 4))
    assert ms.error is not None
    assert "mat1 and mat2" in ms.error.message
    check_shown(ms, line, internal_errors)


def test_what_is_reported_twice_stands_once_below_the_table(internal_errors: list[str]) -> None:
    errors: list[str] = []
    assert [attempt("counting", errors, raise_error, 7) for _ in range(2)] == [7, 7]
    assert errors == ["counting failed: please report it"]
    assert len(internal_errors) == 2
    internal_errors.clear()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("engine", ["auto", "real"])
def test_no_rule_raises_for_a_model_of_any_kind(case: Case, engine: str) -> None:
    ms = trace_case(case.name, engine).ms
    with quietly():
        assert ms.story.internal_errors == ()
