"""Every bug of the corpus is found on its row, and no rule warns of a clean model."""

from __future__ import annotations

import pytest

from modelsummary_ipy.summary import ModelSummary
from tests.corpus import BUGS, CLEAN, Bug, Clean


def summarise(case: Bug | Clean) -> ModelSummary:
    """Summarise a case; by what a rule raises the test fails: see ``internal_errors``."""
    ms = ModelSummary(case.make(), case.inputs, **case.options)
    assert ms.error is None, ms.error
    return ms


def write_flags(ms: ModelSummary) -> list[str]:
    return [
        f"{flag.severity} {flag.rule} at {flag.path!r} ({ms.rows[flag.row].type_name}): {flag.message} | {flag.fix}"
        for flag in ms.flags
    ]


@pytest.mark.filterwarnings("ignore:Using a target size", "ignore:dropout2d")  # torch sees it too, and goes on
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_is_found_on_its_row_and_nothing_else_is_warned_of(bug: Bug) -> None:
    ms = summarise(bug)
    found = [(flag.rule, ms.rows[flag.row].path, ms.rows[flag.row].type_name, flag.severity) for flag in ms.flags]
    assert (bug.rule, *bug.at, bug.severity) in found, write_flags(ms)
    others = [flag.rule for flag in ms.flags if flag.severity != "note" and flag.rule != bug.rule]
    assert others == [], write_flags(ms)
    assert all(any(char.isdigit() for char in flag.message) for flag in ms.flags), write_flags(ms)


@pytest.mark.parametrize("case", CLEAN, ids=lambda case: case.name)
def test_a_clean_model_has_no_warning(case: Clean) -> None:
    ms = summarise(case)
    assert [flag for flag in ms.flags if flag.severity != "note"] == [], write_flags(ms)


def test_the_corpus_is_as_large_as_it_was_promised_to_be() -> None:
    assert len(BUGS) >= 60
    assert len(CLEAN) >= 60
