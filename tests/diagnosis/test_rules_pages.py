"""Every rule has a page, and every page is about a rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelsummary_ipy.diagnosis.rules import RETRACES, RULES

PAGES = Path(__file__).parents[2] / "docs" / "rules"


def test_rules_and_pages_are_the_same() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} - {"index"} == set(RULES)
    assert set(RETRACES) <= set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_page_names_its_rule_a_severity_and_what_is_left_alone(rule: str) -> None:
    text = (PAGES / f"{rule}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {rule}\n")
    assert re.search(r"^\*(error|warning|note)\* · ", text, re.MULTILINE)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_what_it_finds_and_what_it_leaves_alone(rule: str) -> None:
    words = RULES[rule].__doc__ or ""
    assert words.startswith("Find ")
    assert re.search(r"[Ll]eaves?\s+alone", words)
