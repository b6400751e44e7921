"""The markdown: the same story for issues and pull requests, and nothing in a name that is markup."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsummary_ipy.display.outline import RowNode, build_outline, visible
from modelsummary_ipy.display.render.markdown import render_markdown
from modelsummary_ipy.display.render.text import render_text
from modelsummary_ipy.records.view import View
from tests import stories

STORIES = {
    name: stories.STORIES[name] for name in ("two_convs", "bert_like", "failed_unet", "nested_leaves", "real_run")
}


def table_of(text: str) -> list[list[str]]:
    """Cells of the table's lines below its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def as_text(cell: str) -> str:
    """A cell without its markup."""
    return re.sub(r"\*\*|&emsp;|⚠️ |❌ ", "", cell).replace("<br>", " ").replace("&#95;", "_").replace("&#42;", "*")


@pytest.mark.parametrize("name", STORIES)
def test_the_markdown_of_a_story_is_as_it_was_read_and_agreed(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.md", render_markdown(STORIES[name](), View()))


@pytest.mark.parametrize("name", STORIES)
def test_markdown_and_text_show_the_same_rows(name: str) -> None:
    story = STORIES[name]()
    text = [" ".join(line.split()) for line in render_text(story, View()).splitlines()]
    joined = " ".join(text)
    for cells in table_of(render_markdown(story, View())):
        for cell in cells:
            for piece in re.split(r"<br>|→", cell):
                assert " ".join(as_text(piece).replace("*", "").split("(")[0].split()) in joined


@pytest.mark.parametrize("name", STORIES)
def test_every_row_in_view_is_one_line_of_the_table_with_as_many_cells_as_the_head(name: str) -> None:
    story = STORIES[name]()
    rows = table_of(render_markdown(story, View()))
    assert len(rows) == len(list(visible(build_outline(story, View(), open_rows=80))))
    assert {len(cells) for cells in rows} == {4}


def test_formula_and_source_are_columns_of_their_own() -> None:
    view = View(columns=("output", "formula", "params", "source"))
    text = render_markdown(stories.two_convs(), view)
    head = next(line for line in text.splitlines() if line.startswith("|"))
    assert head == "| layer | output | formula | params | source |"
    assert [row[2:] for row in table_of(text)][1] == ["[B, 16, H + 8, W + 8]", "160", "net.py:9"]


def test_dims_that_a_row_changes_are_bold() -> None:
    cells = {as_text(row[0]).split()[0]: row[1] for row in table_of(render_markdown(stories.two_convs(), View()))}
    assert cells["conv0"] == "[1, 1, 256, 256] → [1, **16**, **264**, **264**]"


def test_flags_are_a_list_with_path_words_and_fix() -> None:
    text = render_markdown(stories.two_convs(), View())
    assert (
        "- ⚠️ `conv0` **warning** grown-map: a stride-1 convolution grew the feature map from 256 × 256 to 264 × 264; "
        "fix: padding=1 keeps 256 × 256\n"
    ) in text


def test_a_failure_is_marked_in_the_table_and_told_below_as_code() -> None:
    text = render_markdown(stories.failed_unet(), View(), failure_text="ForwardError: cat\n  reason  64 is not 65")
    assert "*the forward failed in up1 (cat) at unet.py:22*" in text
    assert "\n    ForwardError: cat\n      reason  64 is not 65\n" in text
    assert [as_text(row[0]) for row in table_of(text) if "❌" in row[0]] == ["UNet", "up1 Up", "*cat*(dim=1)"]


@pytest.mark.parametrize("text", stories.HOSTILE)
def test_no_name_is_markup(text: str) -> None:
    check_harmless(text)


@settings(max_examples=80, deadline=None)
@given(text=st.text(min_size=1, max_size=40))
def test_whatever_a_name_is_the_table_keeps_its_cells(text: str) -> None:
    check_harmless(text)


def check_harmless(name: str) -> None:
    """Outside the code block: no tag, link, code span, emphasis or formula that a name opened."""
    story = stories.hostile(name)
    text = render_markdown(story, View())
    text.encode()
    rows = table_of(text)
    outline = build_outline(story, View(), open_rows=80)
    assert len(rows) == len([step for step in visible(outline) if isinstance(step.node, RowNode)])
    assert {len(cells) for cells in rows} == {4}
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert not re.search(r"<(?!br>|sub>|/sub>)", prose)
    assert not re.search(r"\]\(|\]:|!\[", prose)
    assert "$" not in prose
    assert "~" not in prose
    assert "`" not in re.sub(r"`[\w.]+`", "", prose)
