"""Whatever a name is, it stays in its place: pages of hostile names keep their elements."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsummary_ipy.display.render.html import render_html
from tests import stories
from tests.display.test_render_html import OPEN, page, parse, unpack


def skeleton(soup: BeautifulSoup) -> list[tuple[str, tuple[str, ...]]]:
    """Elements and the names of their attributes; the labels of the chart come and go with their length."""
    return [(tag.name, tuple(sorted(tag.attrs))) for tag in soup.find_all(True) if tag.name != "text"]


# Safety -----------------------------------------------------------------------------------------------------------


def check_contained(text: str) -> None:
    """Whatever the user's strings are, the page has the elements and attributes it has with harmless ones."""
    for failure in ("", text):
        html = render_hostile(text, failure)
        html.encode()
        assert (skeleton(parse(html)), skeleton(parse(unpack(html)))) == calm_skeletons(len(failure.splitlines()))


def render_hostile(text: str, failure: str) -> str:
    details, operations = {1: [(text, text)], 2: [("net.py:2", text)]}, {1: [(text, 1)]}
    options: dict[str, Any] = {"details": details, "operations": operations, "standalone": True}
    return render_html(stories.hostile(text), OPEN, failure_text=failure, **options)


@functools.cache
def calm_skeletons(num_lines: int) -> tuple[Any, Any]:
    html = render_hostile("calm", "\n".join("a" * num_lines))
    return skeleton(parse(html)), skeleton(parse(unpack(html)))


@pytest.mark.parametrize("text", stories.HOSTILE)
def test_no_name_gets_out_of_its_place(text: str) -> None:
    check_contained(text)
    visible = page(stories.hostile(text)).get_text()
    assert "\u202e" not in visible
    assert "\x1b" not in visible


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=30).filter(str.strip))
def test_whatever_a_name_is_the_page_keeps_its_elements(text: str) -> None:
    check_contained(text)


@settings(max_examples=40, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            ["<", ">", "/", '"', "'", "&", "=", "`", "{{", "}}", "{%", "script", "details", "on", " ", "a", "-->"]
        ),
        min_size=1,
        max_size=12,
    )
    .map("".join)
    .filter(str.strip)
)
def test_pieces_of_markup_never_become_markup(text: str) -> None:
    check_contained(text)
