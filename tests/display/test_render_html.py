"""The page: its structure, what it says, what it weighs, and that no name can get out of its place."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest
from bs4 import BeautifulSoup, NavigableString, Tag

from modelsummary_ipy.display.outline import build_outline, walk
from modelsummary_ipy.display.render.html import render_html
from modelsummary_ipy.display.render.text import render_text
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.summary import Cost, Story
from modelsummary_ipy.records.view import COLUMNS, View
from tests import stories
from tests.story_builder import StoryBuilder, leaves

OPEN = View(depth=99)


def parse(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "lxml")


def page(story: Story, view: View = OPEN, **options: Any) -> BeautifulSoup:
    """The page as its script makes it."""
    return parse(render_html(story, view, packed=False, **options))


def unpack(html: str) -> str:
    """What a packed page's script puts in the place of the plain rows, in Python's own words."""
    (data,) = re.findall(r' data-page="([^"&<>`$\\\s]+)"', html)
    packed = base64.b85decode(data.translate(str.maketrans(",./:[", "&<>`$")))
    whole, _script, *listings = zlib.decompress(packed).decode().split("\x01")
    return re.sub(r'(<pre class="ms-x" data-at="[^"]*">)(?=</pre>)', lambda place: place[1] + listings.pop(0), whole)


def words_of(tag: Tag | None) -> str:
    assert tag is not None
    return " ".join(tag.get_text(" ").split())


def rows_of(soup: BeautifulSoup) -> list[Tag]:
    return soup.select("details.ms-r")


def head_of(row: Tag) -> Tag:
    table = row.select_one(":scope > summary > table")
    assert table is not None
    return table


def row_named(soup: BeautifulSoup, name: str) -> Tag:
    return next(row for row in rows_of(soup) if words_of(head_of(row).th).split(" ")[0] == name)


def detail_of(row: Tag) -> dict[str, str]:
    """Words and lines of a row's own detail."""
    terms = row.select(":scope > dl.ms-d > dt, :scope > details.ms-a > dl.ms-d > dt")
    return {words_of(term): words_of(term.find_next_sibling("dd")) for term in terms}  # type: ignore[arg-type]


def describe(tag: Tag, depth: int = 0) -> Iterator[str]:
    """The structure of a page, one line per element: what a golden file holds."""
    for child in tag.children:
        if isinstance(child, NavigableString):
            text = " ".join(child.split())
            if text:
                yield "  " * depth + text
        elif isinstance(child, Tag) and child.name not in ("style", "script"):
            name = ".".join([child.name, *child.get("class", [])])
            state = "".join(f" {word}" for word in ("open", "hidden") if word in child.attrs)
            yield "  " * depth + name + state
            yield from describe(child, depth + 1)


# Structure --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two_convs", "failed_unet", "nested_leaves"])
def test_the_structure_of_the_page_is_as_it_was_read_and_agreed(name: str, golden: Callable[[str, str], None]) -> None:
    root = page(stories.STORIES[name](), View()).select_one(".ms-root")
    assert root is not None
    golden(f"{name}.html.txt", "\n".join(describe(root)) + "\n")


@pytest.mark.parametrize("name", stories.STORIES)
def test_every_row_is_a_disclosure_whose_summary_holds_a_table_of_one_line(name: str) -> None:
    soup = page(stories.STORIES[name]())
    head = soup.select_one(".ms-cols")
    assert head is not None
    for row in rows_of(soup):
        table = head_of(row)
        assert "table-layout:fixed" in table["style"]
        assert len(table.find_all("tr")) == 1
        assert table.th is not None
        assert table.th["scope"] == "row"
        assert len(table.find_all(["th", "td"])) == len(head.find_all("th"))
        assert [col["width"] for col in table.find_all("col")] == [col["width"] for col in head.find_all("col")]


def test_rows_nest_as_the_outline_does() -> None:
    story = stories.bert_like(flagged=4)
    view = View(depth=99, ops=True)
    soup = page(story, view)
    steps = [step for step in walk(build_outline(story, view)) if not step.leaving]
    assert [len(row.find_parents("details", class_="ms-r")) for row in rows_of(soup)] == [step.depth for step in steps]


@pytest.mark.parametrize("name", stories.STORIES)
def test_the_page_says_what_the_text_says(name: str) -> None:
    """The same rows in the same order with the same sizes and numbers."""
    story = stories.STORIES[name]()
    lines = " ".join(" ".join(render_text(story, OPEN).split()).split("─")[-1].split())
    place = 0
    for row in rows_of(page(story)):
        table = head_of(row)
        assert table.th is not None
        inside_closed_group = any(
            "ms-g" in above["class"] and "open" not in above.attrs for above in row.find_parents("details")
        )
        if "hidden" in row.attrs or inside_closed_group:
            continue
        name_words = re.sub(r" (each of \d+|frozen|each of \d+, frozen)$", "", words_of(table.th))
        place = lines.index(name_words.split(" ")[0], place)
        for cell in table.find_all("td"):
            for line in re.split(r"<br/?>|→", cell.decode_contents()):
                said = words_of(parse(f"<p>{line}</p>"))
                assert re.sub(r"([\[(]) | ([\]),])", r"\1\2", said) in lines


def test_the_model_stands_first_then_what_ran_in_order() -> None:
    names = [words_of(head_of(row).th) for row in rows_of(page(stories.two_convs()))]
    assert names == ["Net", "conv0 Conv2d", "conv1 Conv2d"]


def test_identical_blocks_are_one_row_that_opens_to_one_of_them_and_to_the_list() -> None:
    soup = page(stories.bert_like())
    group = row_named(soup, "layer.0–11")
    assert words_of(head_of(group).th) == "layer.0–11 · 12 × BertLayer"
    assert detail_of(group)["blocks"] == ", ".join(f"encoder.layer.{number}" for number in range(12))
    (block,) = group.select(":scope > details.ms-r")
    assert words_of(head_of(block).th) == "layer.0 BertLayer each of 12"


def test_operations_go_along_hidden_where_they_ran_and_are_open_when_asked_for() -> None:
    story = stories.bert_like(num_layers=1)
    for view, hidden in ((View(depth=99), True), (View(depth=99, ops=True), False)):
        layer = row_named(page(story, view), "layer.0")
        rows = layer.select(":scope > details.ms-r")
        assert [words_of(head_of(row).th).split(" ")[0] for row in rows] == [
            "query", "key", "value", "scaled_dot_product_attention", "up", "gelu", "down",
        ]  # fmt: skip
        assert ["hidden" in row.attrs for row in rows] == [hidden and "ms-o" in row["class"] for row in rows]


# What a row shows -------------------------------------------------------------------------------------------------


def test_dims_that_a_row_changes_are_bold_and_named_dims_carry_their_colour() -> None:
    cell = head_of(row_named(page(stories.two_convs()), "conv0")).find_all("td")[0]
    assert words_of(cell).replace(" ", "") == "[1,1,256,256]→[1,16,264,264]"
    assert [bold.text for bold in cell.find_all("b")] == ["16", "264", "264"]
    batch, height, width = (cell.select_one(f".ms-{number}") for number in (0, 2, 3))
    assert (batch.text, height.text, width.text) == ("1", "256", "256")  # type: ignore[union-attr]
    assert cell["title"] == "[B, 1, H, W] → [B, 16, H + 8, W + 8]"


def title_of(tag: Tag | None) -> Any:
    assert tag is not None
    return tag.get("title", "")


@pytest.mark.parametrize(("flops", "times"), [(False, 1), (True, 2)])
def test_every_number_that_is_written_short_has_all_its_digits_in_its_title(flops: bool, times: int) -> None:
    story = stories.two_convs()
    soup = page(story, View(depth=99, columns=COLUMNS, flops=flops))
    digits = [f"{times * macs:,}" for macs in (10036224, 316311552)]
    cells = [head_of(row_named(soup, name)).select("td:not([style])") for name in ("conv0", "conv1")]
    assert [title_of(row[1]) for row in cells] == digits
    assert [title_of(row[0]) for row in cells] == ["", ""]  # 160 and 4,640 have them all
    assert title_of(cells[1][-2]) == "4,460,544 bytes"
    totals = [title_of(total.select_one("summary, div")) for total in soup.select(".ms-total")]
    assert totals[1] == f"{times * (10036224 + 316311552):,} {'FLOPs' if flops else 'MACs'}"
    assert "13,372,928 bytes" in {title_of(span) for span in soup.select(".ms-shares span")}
    shares = [title_of(span) for span in soup.select(".ms-total")[1].select(".ms-shares li span:last-child")]
    assert shares == digits[::-1]


def test_without_a_script_a_billion_of_parameters_and_the_totals_have_their_digits() -> None:
    build = StoryBuilder("Net", (1, 4), (1, 4))
    build.module("big", "Linear", (1, 4), (1, 4), params={"weight": (70_600_000, 1000)}, mult_adds=70_600_000_000)
    soup = parse(render_html(build.story(), View()))
    row = next(row for row in soup.select(".ms-body tr") if words_of(row.th).startswith("big"))
    assert [title_of(cell) for cell in row.select("td")[1:]] == ["70,600,000,000", ""]
    totals = [title_of(total.select_one("summary, div")) for total in soup.select(".ms-total")]
    assert totals == ["70,600,000,000 parameters", "70,600,000,000 MACs"]


def test_bytes_are_everywhere_written_as_the_budget_was() -> None:
    story = stories.two_convs()
    assert story.memory is not None
    story = replace(story, memory=replace(story.memory, budget_text="2 GB", budget_bytes=2 * 10**9))
    for written in (page(story, View(depth=99, columns=COLUMNS)).get_text(), render_text(story, View(columns=COLUMNS))):
        assert "4.46 MB" in written  # 4,460,544 bytes that conv1 keeps
        assert "iB" not in written


def test_the_legend_says_what_the_colours_mean() -> None:
    soup = page(stories.failed_unet())
    assert words_of(soup.select_one(".ms-legend")).replace(" ,", ",") == "B batch, C channels, H height, W width"
    assert soup.select_one(".ms-legend .ms-2").text == "H"  # type: ignore[union-attr]
    assert page(stories.real_run()).select_one(".ms-legend") is None
    build = StoryBuilder("Net", {"[0]": (2, 5), "[1]": (2, 7)}, (2, 7))
    build.rows[0] = build.rows[0]._replace(inputs=leaves({"src": (2, 5), "tgt": (2, 7)}))
    head = page(build.story(dims=[("B", "T"), ("B", "T2")]))
    assert words_of(head.select_one(".ms-legend")).replace(" ,", ",") == "B batch, T time, T2 time"
    assert words_of(head.select_one(".ms-given")).startswith("src [ B=2")


def test_every_leaf_stands_under_its_key() -> None:
    cell = head_of(row_named(page(stories.nested_leaves()), "rnn")).find_all("td")[0]
    text = words_of(cell)
    for said in ("input [2, 9, 16]", "hx[0] [1, 2, 32]", "hx[1] [1, 2, 32]", "→ [0] [2, 9,", "[1][0] [", "[1][1] ["):
        assert said in text
    assert len(cell.find_all("br")) == 5


def test_flags_stand_under_their_row_in_words_with_a_fix() -> None:
    row = row_named(page(stories.two_convs()), "conv0")
    (flag,) = row.select(":scope > summary > .ms-f")
    assert "ms-warning" in flag["class"]
    assert words_of(flag) == (
        "warning grown-map : a stride-1 convolution grew the feature map from 256 × 256 to 264 × 264"
        " fix: padding=1 keeps 256 × 256"
    )


def test_a_failure_opens_its_row_and_all_above_it_and_greys_what_was_not_reached() -> None:
    soup = page(stories.failed_unet(), View(depth=0), failure_text="ForwardError: cat\n  fix  pad to 80")
    failed = [row for row in rows_of(soup) if "ms-failed" in row["class"]]
    assert [words_of(head_of(row).th).split(" ")[0] for row in failed] == ["UNet", "up1", "cat"]
    assert all("open" in row.attrs for row in failed)
    (told,) = soup.select(".ms-fail")
    assert told.parent is failed[-1]
    assert told.text == "ForwardError: cat\n  fix  pad to 80"
    off = [row for row in rows_of(soup) if "ms-off" in row["class"]]
    assert [words_of(head_of(row).th).split(" ")[0] for row in off] == ["conv", "head"]
    assert all("not reached" in words_of(head_of(row)) for row in off)
    assert "34" in words_of(head_of(off[-1]))


def test_a_failure_outside_every_row_is_reported_in_the_header() -> None:
    story = stories.failed_unet()
    rows = tuple(row._replace(status="unreached") for row in story.rows)
    failure = replace(story.trace.failure, call=None)  # type: ignore[type-var]
    soup = page(replace(story, rows=rows, trace=replace(story.trace, failure=failure)), failure_text="no such argument")
    assert words_of(soup.select_one(".ms-head .ms-fail")) == "no such argument"


def test_of_a_failure_the_header_says_reason_fix_and_sizes_and_no_cost_is_unknown() -> None:
    failure = ForwardError("a", reason="2 < 3", advice="pad <x>", sizes=("(1, 2)", "(1, 4)"))
    for packed in (True, False):
        soup = parse(render_html(stories.failed_unet(), View(), failure_text="a", failure=failure, packed=packed))
        (why,) = soup.select(".ms-head .ms-why")
        assert words_of(why) == "reason 2 < 3 fix pad <x> sizes (1, 2) or (1, 4)"
        assert "?" not in {words_of(cell) for cell in soup.select(".ms-body td")}
    assert "?" not in render_text(stories.failed_unet(), OPEN)
    assert not page(stories.two_convs()).select(".ms-why")
    lines = page(stories.failed_unet(), failure_text="a", failure=ForwardError("a", advice="skip = a\nx = b(skip)"))
    assert [field.get_text() for field in lines.select(".ms-why dd")] == ["skip = a\nx = b(skip)"]


def test_frozen_and_uncalled_rows_are_marked_in_words() -> None:
    row = row_named(page(stories.bert_like()), "head")
    assert words_of(head_of(row).th) == "head Linear frozen"
    assert "not called" in words_of(head_of(row))
    assert "ms-off" in row["class"]


def test_a_row_knows_everything_of_itself_in_its_detail() -> None:
    soup = page(
        stories.two_convs(),
        operations={1: [("aten.convolution", 10036224), ("my::op", None)]},
        details={1: [("net.py:31", "x = self.conv0(x)  # B 16 <H + 8>")]},
    )
    row = row_named(soup, "conv0")
    assert detail_of(row) == {
        "path": "conv0",
        "module": "Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(5, 5))",
        "in": "[1, 1, 256, 256] = [B, 1, H, W] float32 cpu",
        "out": "[1, 16, 264, 264] = [B, 16, H + 8, W + 8] float32 cpu",
        "weights": "weight [16, 1, 3, 3] float32 144 bias [16] float32",
        "MACs": "10,036,224 (3.1% of the model) aten.convolution 10,036,224 my::op unknown",
        "kept": "256 KiB for the backward pass (262,144 bytes)",
        "source": "net.py:9",
    }
    assert row.select_one(":scope > pre.ms-x").text == "x = self.conv0(x)  # B 16 <H + 8>"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", stories.STORIES)
def test_every_row_has_a_detail(name: str) -> None:
    rows = rows_of(page(stories.STORIES[name]()))[1:]
    assert all(row.select(":scope > dl.ms-d, :scope > details.ms-a > dl.ms-d") for row in rows)


def test_shares_are_drawn_as_meters_between_nothing_and_the_whole() -> None:
    soup = page(stories.two_convs())
    values = {
        words_of(head_of(row).th).split(" ")[0]: [
            float(str(meter["value"])) for meter in head_of(row).find_all("meter")
        ]
        for row in rows_of(soup)
    }
    # 160 of 4800 parameters, 10,036,224 of 326,347,776 MACs
    assert values == {"Net": [1, 1], "conv0": [0.03, 0.03], "conv1": [0.97, 0.97]}


@pytest.mark.parametrize("columns", [("output",), ("params",), ("input", "output"), COLUMNS, ("formula", "macs"), ()])
def test_any_choice_of_columns_makes_a_page(columns: tuple[str, ...]) -> None:
    soup = page(stories.two_convs(), View(columns=columns))
    heads = [words_of(head) for head in soup.select(".ms-cols th")]
    assert heads[0] == "layer"
    assert [head for head in heads if head in ("params", "MACs", "activation")] == [
        {"params": "params", "macs": "MACs", "activation": "activation"}[column]
        for column in ("params", "macs", "activation")
        if column in columns
    ]
    cells = [words_of(cell) for cell in head_of(row_named(soup, "conv0")).select("th, td")]
    assert len(cells) == len(heads)
    for head, cell in (("source", "net.py:9"), ("formula", "[B, 16, H + 8, W + 8]")):
        assert (head in columns) == (head in heads)
        assert head not in columns or cells[heads.index(head)] == cell
    plain = parse(render_html(stories.two_convs(), View(columns=columns)))
    assert [words_of(head) for head in plain.select(".ms-cols th")] == heads
    rows = [[words_of(cell).replace(" ", "") for cell in row.select("th, td")] for row in plain.select(".ms-body tr")]
    assert [cell.replace(" ", "") for cell in cells] in rows


# Header and footer ------------------------------------------------------------------------------------------------


def test_the_header_has_the_totals_and_where_they_come_from() -> None:
    soup = page(stories.two_convs())
    totals = soup.select(".ms-total")
    assert [words_of(total.summary) for total in totals] == [
        "4,800 parameters", "326 M MACs", "12.8 MiB to run, 17.2 MiB to train (adamw)",
    ]  # fmt: skip
    assert [words_of(share) for share in totals[0].select("li")] == ["conv1 4,640 (96.7%)", "conv0 160 (3.3%)"]
    bars = totals[0].select("svg svg")
    assert [bar.title.text for bar in bars] == [  # type: ignore[union-attr]
        "Net: 4,800, 100%", "conv0: 160, 3.3%", "conv1: 4,640, 96.7%",
    ]  # fmt: skip
    assert [(bar["x"], bar["width"]) for bar in bars] == [("0%", "100%"), ("0%", "3.33%"), ("3.33%", "96.67%")]


def test_bars_of_the_chart_never_reach_out_of_the_bar_above() -> None:
    soup = page(stories.bert_like())
    for chart in soup.select("svg.ms-ice"):
        spans: dict[int, list[tuple[float, float]]] = {}
        for bar in chart.find_all("svg"):
            x, width = float(str(bar["x"])[:-1]), float(str(bar["width"])[:-1])
            spans.setdefault(int(str(bar["y"])) // 20, []).append((x, x + width))
        for level, bars in spans.items():
            assert all(first[1] <= second[0] + 0.02 for first, second in pairwise(bars))
            for start, end in bars if level else []:
                assert any(a - 0.02 <= start and end <= b + 0.02 for a, b in spans[level - 1])


def test_the_first_words_say_that_the_model_was_run_or_that_it_failed() -> None:
    assert words_of(page(stories.real_run()).select_one(".ms-head")).startswith("ran for real: .item() at net.py:41 ")
    assert words_of(page(stories.static_net()).select_one(".ms-head")).startswith("nothing was run")
    assert words_of(page(stories.failed_unet()).select_one(".ms-head")).startswith(
        "the forward failed in up1 (cat) at unet.py:22 "
    )


def test_the_footer_says_how_it_was_traced_and_what_is_left_out() -> None:
    assert words_of(page(stories.bert_like()).select_one(".ms-foot")) == (
        "traced with fake tensors: nothing was computed, nothing of the model was touched"
        " · 25 operations not shown (show(ops=True) shows them)"
        " · “each of”: the numbers of one of several blocks alike; the row above adds them up"
    )
    assert "each of" not in words_of(page(stories.two_convs()).select_one(".ms-foot"))
    soup = page(stories.all_different(3000), View(max_rows=100))
    assert "2,900 rows of 3,000 not shown: to_frame() has them all" in words_of(soup.select_one(".ms-foot"))
    hidden = [int(re.sub(r"\D", "", words_of(more))) for more in soup.select(".ms-more")]
    assert sum(hidden) == 2900


def test_unknown_costs_are_question_marks_and_the_total_is_unsure() -> None:
    soup = page(stories.nested_leaves())
    assert words_of(head_of(row_named(soup, "rnn")).find_all("td")[-1]) == "?"
    assert "≥" in words_of(page(stories.bert_like()).select_one(".ms-totals"))
    approximate = stories.two_convs()
    costs = {**approximate.costs, 2: Cost(1, 1, 4096, 4096, approximate=True)}
    soup = page(replace(approximate, costs=costs), View(columns=("activation",)))
    assert words_of(head_of(row_named(soup, "conv1")).td) == "~4.00 KiB"


# Hosts ------------------------------------------------------------------------------------------------------------

#: What an untrusted notebook leaves of a page (JupyterLab's sanitizer).
KEPT_ATTRIBUTES = {"class", "title", "style", "hidden", "open", "width", "value", "max", "min", "scope"}


@pytest.mark.parametrize("name", stories.STORIES)
def test_nothing_that_must_be_read_needs_what_an_untrusted_notebook_takes_away(name: str) -> None:
    soup = page(stories.STORIES[name]())
    body = soup.select_one(".ms-body")
    assert body is not None
    assert {tag.name for tag in body.find_all(True)} <= {
        "details", "summary", "table", "tbody", "tr", "th", "td", "col", "colgroup", "meter", "b", "bdi", "i", "em",
        "small", "span", "div", "br", "dl", "dt", "dd", "pre", "code", "p",
    }  # fmt: skip
    for tag in body.find_all(True):
        assert set(tag.attrs) - {"data-at"} <= KEPT_ATTRIBUTES, tag  # where a listing begins is for the script
    before = words_of(body)
    for gone in soup.select("style, script, svg"):
        gone.decompose()
    assert words_of(soup.select_one(".ms-body")) == before
    assert not soup.select("button, input, select")


@pytest.mark.parametrize("name", stories.STORIES)
def test_the_same_story_makes_the_same_bytes_without_ids_or_addresses(name: str) -> None:
    first, second = (render_html(stories.STORIES[name](), View()) for _ in range(2))
    assert first == second
    soup = parse(first)
    assert not soup.select("[id]")
    classes = {word for tag in soup.find_all(class_=True) for word in tag["class"]}
    assert all(word.startswith("ms-") for word in classes)
    for text in (re.sub(r' data-page="[^"]*"', "", first), unpack(first)):
        assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(", text)


def test_a_standalone_page_is_complete_and_an_output_is_only_a_part() -> None:
    whole = render_html(stories.two_convs(), View(), standalone=True)
    assert whole.startswith('<!DOCTYPE html>\n<html lang="en">')
    soup = parse(whole)
    assert soup.title is not None
    assert soup.title.text == "Net"
    assert [words_of(head) for head in soup.select("main h1")] == ["Net 1 warning"]
    assert "prefers-color-scheme" in unpack(whole)
    part = render_html(stories.two_convs(), View())
    assert part.startswith('<div class="ms-root"')
    assert not re.search(r"<(html|body|main|h1)\b", part)


def test_style_and_scripts_are_within_what_a_notebook_should_carry() -> None:
    for asset in (files("modelsummary_ipy.display.render")).iterdir():
        is_embedded = asset.name.endswith((".css", ".js"))
        assert not is_embedded or not re.search(rb"</(style|script)", asset.read_bytes(), re.I)
    html, packed = (render_html(stories.two_convs(), View(), packed=packed) for packed in (False, True))
    (style,) = re.findall(r"<style>(.*?)</style>", html, flags=re.S)
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    (loader,) = re.findall(r"<script>(.*?)</script>", packed, flags=re.S)
    assert 0 < len(base64.b85encode(zlib.compress((style + script).encode(), 9))) <= 13 * 1024
    assert 0 < len(loader.encode()) <= 1536


def test_wrappers_that_hold_all_but_nothing_take_no_level_of_the_chart() -> None:
    build = StoryBuilder("Model", (1, 8), (1, 8))
    body = build.module("body", "Body", (1, 8), (1, 8))
    blocks = build.module("body.blocks", "ModuleList", parent=body, status="uncalled")
    for number, width in enumerate((8, 16)):
        block = build.module(f"body.blocks.{number}", f"Block{number}", (1, 8), (1, 8), parent=blocks)
        build.module(f"body.blocks.{number}.fc", "Linear", (1, 8), (1, 8), parent=block, params={"weight": (width, 8)})
    build.module("norm", "LayerNorm", (1, 8), (1, 8), params={"weight": (1,)})
    soup = page(build.story(), standalone=True)
    total = soup.select(".ms-total")[0]
    assert [(bar["y"], words_of(bar.title)) for bar in total.select("svg svg")] == [
        ("0", "Model: 193, 100%"),
        ("20", "body.blocks: 192, 99.5%"),
        ("20", "norm: 1, 0.5%"),
        ("40", "body.blocks.0.fc: 64, 33.2%"),
        ("40", "body.blocks.1.fc: 128, 66.3%"),
    ]
    assert [words_of(share) for share in total.select("li")] == [
        "body.blocks.1 128 (66.3%)", "body.blocks.0 64 (33.2%)", "everything else 1 (0.5%)",
    ]  # fmt: skip
