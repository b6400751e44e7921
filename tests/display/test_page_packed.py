"""How large a page is, what of it is packed, and what is read without its script."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup

from modelsummary_ipy.display.render.html import render_html
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.view import COLUMNS, View
from tests import stories
from tests.display.test_render_html import OPEN, detail_of, head_of, page, parse, row_named, rows_of, unpack, words_of
from tests.story_builder import StoryBuilder

# Size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [stories.flat, lambda: stories.bert_like(40, flagged=7), lambda: stories.all_different(900)]
)
def test_a_row_takes_no_more_than_550_bytes_before_its_detail(make: Callable[[], Story]) -> None:
    html = render_html(make(), View(depth=99, fold=False), packed=False)
    body = html[html.index('<div class="ms-body"') : html.index('<div class="ms-foot"')]
    about = re.sub(r'<dl class="ms-d">.*?</dl>', "", body, flags=re.S)
    about = re.sub(r'<details class="ms-a".*?</details>', "", about, flags=re.S)
    num_rows = about.count("<details")
    assert num_rows > 200
    assert len(about.encode()) / num_rows <= 550


@pytest.mark.parametrize(
    "make", [lambda: stories.mixture(61, 64), lambda: stories.all_different(12_000), lambda: stories.flat(3000)]
)
def test_a_model_of_more_than_ten_thousand_modules_is_a_page_of_100_kb(make: Callable[[], Story]) -> None:
    story = make()
    assert len(render_html(story, View()).encode()) <= 100_000
    html = render_html(story, View(), packed=False)
    assert len(html.encode()) <= 1_000_000
    shown = len(rows_of(parse(html)))
    assert shown <= 2000
    if shown == 2000:
        assert "not shown: to_frame() has them all" in html


def test_details_that_do_not_fit_are_left_out_and_counted() -> None:
    html = render_html(stories.flat(1900), View(), packed=False)
    soup = parse(html)
    without = sum(not row.select(":scope > dl.ms-d, :scope > details.ms-a") for row in rows_of(soup))
    assert without > 0
    assert f"details of {without:,} rows left out" in words_of(soup.select_one(".ms-foot"))


@pytest.mark.parametrize("make", [lambda: stories.flat(400), lambda: stories.all_different(900)])
def test_a_page_that_is_too_large_is_written_three_times_at_most(
    make: Callable[[], Story], monkeypatch: pytest.MonkeyPatch
) -> None:
    compress, written = zlib.compress, list[int]()

    def counted(data: bytes, level: int) -> bytes:
        written.append(len(data))
        return compress(data, level)

    monkeypatch.setattr(zlib, "compress", counted)
    assert 80_000 < len(render_html(make(), View()).encode()) <= 100_000
    assert 1 < len(written) <= 3


# Packed -----------------------------------------------------------------------------------------------------------


def whole_of(html: str) -> str:
    """Head and rows of a page that is not packed."""
    return html[html.index("<style>") : html.index('</div>\n<div class="ms-foot">')]


@pytest.mark.parametrize("name", stories.STORIES)
def test_what_the_script_unpacks_is_the_page_that_is_not_packed(name: str) -> None:
    options: dict[str, Any] = {
        "details": {
            0: [("net.py:7", "def forward(self, x):  # <B> 3"), ("net.py:9", "y")],
            1: [("In [1] line 2", "x")],
        },
        "operations": {1: [("aten.mm", 7)]},
    }
    html = render_html(stories.STORIES[name](), View(), **options)
    assert unpack(html) == whole_of(render_html(stories.STORIES[name](), View(), packed=False, **options))


def lines_of(soup: BeautifulSoup) -> list[list[str]]:
    """The texts of each row's cells; operations go along only for the script."""
    rows = [row for row in soup.select(".ms-body tr") if not row.find_parent(attrs={"hidden": "hidden"})]
    return [[words_of(cell).replace("[ ", "[").replace(" ]", "]").replace(" ,", ",") for cell in row] for row in rows]


def nesting_of(soup: BeautifulSoup) -> list[int]:
    return [len(row.find_parents("details")) - bool(row.find_parent("summary")) for row in soup.select(".ms-body tr")]


@pytest.mark.parametrize("view", [View(), OPEN, View(depth=99, ops=True, columns=COLUMNS)])
@pytest.mark.parametrize("name", stories.STORIES)
def test_without_the_script_every_row_reads_as_with_it(name: str, view: View) -> None:
    story = stories.STORIES[name]()
    plain, full = parse(render_html(story, view)), page(story, view)
    assert lines_of(plain) == lines_of(full)
    for gone in full.select("details[hidden]"):
        gone.decompose()
    assert nesting_of(plain) == nesting_of(full)
    assert [words_of(row.select_one("th")) for row in plain.select(".ms-body details[open]")] == [
        words_of(row.select_one("th"))
        for row in full.select(".ms-body details[open]")
        if row.select_one(":scope > details") or row.select_one(":scope > .ms-fail")
    ]
    for selector in (
        ".ms-f",
        ".ms-fail",
        ".ms-caveats",
        ".ms-given",
        ".ms-legend",
        ".ms-how",
        ".ms-more",
        ".ms-shares",
    ):
        assert [*map(words_of, plain.select(selector))] == [*map(words_of, full.select(selector))]


def test_without_the_script_only_notable_rows_have_details_and_these_are_whole() -> None:
    for make, notable in ((stories.two_convs, ["conv0"]), (stories.failed_unet, ["cat"])):
        plain, full = parse(render_html(make(), OPEN)), page(make())
        rows = [row for row in rows_of(plain) if detail_of(row)]
        assert [words_of(head_of(row).th).split(" ")[0] for row in rows] == notable
        for row, name in zip(rows, notable, strict=True):
            assert detail_of(row) == detail_of(row_named(full, name)) != {}


def test_what_does_not_fit_a_usual_page_fits_one_with_every_level() -> None:
    story = stories.all_different(900)
    usual, asked = (render_html(story, view) for view in (View(depth=9), OPEN))
    assert len(usual.encode()) <= 100_000 < len(asked.encode())
    assert "rows of 900 not shown" in usual
    assert "not shown: to_frame" not in asked
    assert len(lines_of(parse(asked))) == 901  # and the head


def test_an_empty_story_still_makes_a_page() -> None:
    story = Story(stories.two_convs().trace, ())
    assert rows_of(page(story)) == []
    bare = StoryBuilder("Net").story()
    assert [words_of(head_of(row).th) for row in rows_of(page(bare))] == ["Net"]
