"""What only a page with scripts has: search, levels, filters, copying a path, and moving among rows by arrow keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from tests.browser.hosts import Notebook, Server, find_head, find_row, is_open, show_page
from tests.wired_models import ListUNet


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu() + x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=5)
        self.body = nn.Sequential(Block(8), nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(8, 4, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.stem(x))


@pytest.fixture(scope="module")
def html() -> str:
    return ModelSummary(Net(), (2, 3, 16, 16)).to_html(standalone=True)


@pytest.fixture
def root(page: Page, html: str) -> Locator:
    show_page(page, html)
    return page.locator(".ms-root")


def read_names(root: Locator) -> list[str]:
    """The names of the rows that can be seen, from top to bottom."""
    return root.locator(".ms-r > summary th").evaluate_all(
        "heads => heads.filter(head => head.checkVisibility()).map(head => head.innerText.trim().split(/\\s/)[0])"
    )


def test_every_level_opens_and_closes(root: Locator) -> None:
    root.get_by_role("button", name="Open every level").or_(root.get_by_role("button", name="all")).first.click()
    assert read_names(root) == ["Net", "stem", "body", "0", "conv", "norm", "1", "2", "0"]
    for expected in (["Net", "stem", "body", "0", "1", "2"], ["Net", "stem", "body"], ["Net"]):
        root.get_by_role("button", name="One level less").click()
        assert read_names(root) == expected
    root.get_by_role("button", name="One level more").click()
    assert read_names(root) == ["Net", "stem", "body"]
    expect(root.get_by_role("status")).to_have_text("1 of 3 levels open")


def test_a_search_keeps_the_parents_of_what_it_finds_and_can_be_taken_back(root: Locator) -> None:
    before = read_names(root)
    search = root.get_by_role("searchbox", name="Search layers by name or type")
    search.fill("batchnorm")
    expect(root.get_by_role("status")).to_have_text("1 row")
    assert read_names(root) == ["Net", "body", "0", "norm"]
    search.fill("CONV2D body")
    expect(root.get_by_role("status")).to_have_text("2 rows")
    assert read_names(root) == ["Net", "body", "0", "conv", "2", "0"]
    search.fill("nothing like it")
    expect(root.get_by_role("status")).to_have_text("0 rows")
    assert read_names(root) == []
    search.press("Escape")
    assert read_names(root) == before
    expect(search).to_have_value("")


def test_only_the_rows_with_findings_can_be_kept(root: Locator) -> None:
    before = read_names(root)
    only = root.get_by_role("button", name="flagged")
    only.click()
    assert read_names(root) == ["Net", "stem"]
    expect(only).to_have_attribute("aria-pressed", "true")
    only.click()
    assert read_names(root) == before


def test_operations_are_shown_when_they_are_asked_for(root: Locator) -> None:
    root.get_by_role("button", name="all").click()
    assert "relu" not in read_names(root)
    foot = root.locator(".ms-ops")
    expect(foot).to_have_text(re.compile(r"^\d+ operations not shown$"))  # no word of a flag: the button is there
    root.get_by_role("button", name="operations").click()
    expect(foot).to_have_text(re.compile(r"^\d+ operations shown$"))
    names = read_names(root)
    assert names[names.index("norm") + 1 :][:2] == ["relu", "add"]
    root.get_by_role("button", name="operations").click()
    expect(foot).to_have_text(re.compile("not shown$"))
    assert "relu" not in read_names(root)


def test_of_operations_in_folded_blocks_the_footer_says_how_many_are_not_there(page: Page) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x)

    show_page(page, ModelSummary(nn.Sequential(*(Block() for _ in range(3))), (2, 4)).to_html())
    page.get_by_role("button", name="operations").click()
    expect(page.locator(".ms-ops")).to_have_text("1 of 3 operations shown")


@pytest.mark.parametrize("width", [900, 1000, 1280])
def test_the_totals_stand_side_by_side_where_there_is_room(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 600})
    show_page(page, ModelSummary(ListUNet(), (2, 1, 32, 32)).to_html())
    boxes = [total.bounding_box() for total in page.locator(".ms-total").all()]
    assert len(boxes) == 3
    assert len({box["y"] for box in boxes if box}) == 1


def test_a_saved_page_is_laid_out_where_no_script_runs(new_page: Callable[..., Page], tmp_path: Path) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(ModelSummary(ListUNet(), (2, 1, 32, 32)).save(tmp_path / "net.html").as_uri())
    style = "one => [getComputedStyle(one).fontFamily, getComputedStyle(one).textAlign]"
    assert page.locator(".ms-root").evaluate(style) == ["system-ui, sans-serif", "start"]
    heads = page.locator(".ms-cols th").evaluate_all("all => all.map(one => getComputedStyle(one).textAlign)")
    assert heads == ["left", "left", "right", "right"]
    assert page.locator(".ms-body table td:last-child").first.evaluate(style)[1] == "right"


def test_lines_of_a_failure_go_on_under_their_text(page: Page) -> None:
    page.set_viewport_size({"width": 480, "height": 900})
    show_page(page, ModelSummary(ListUNet(), (2, 1, 33, 32)).to_html())
    lefts = page.locator(".ms-fail span", has_text="reason").evaluate(
        """line => {
            const range = document.createRange();
            range.selectNodeContents(line);
            const lines = new Map();
            for (const box of range.getClientRects()) lines.set(box.top, Math.min(box.left, lines.get(box.top) ?? 1e9));
            return [...lines.values()];
        }"""
    )
    assert len(lefts) > 1
    assert min(lefts[1:]) > lefts[0] + 50


def test_the_path_of_a_row_is_copied_by_key_and_by_button(new_page: Callable[..., Page], html: str) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.route("https://example.org/", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.goto("https://example.org/")
    root = page.locator(".ms-root")
    root.get_by_role("button", name="all").click()
    find_head(find_row(root, "conv")).focus()
    page.keyboard.press("c")
    expect(root.get_by_role("status")).to_have_text("copied body.0.conv")
    assert page.evaluate("() => navigator.clipboard.readText()") == "body.0.conv"
    find_head(find_row(root, "stem")).focus()
    root.get_by_role("button", name="copy path").click()
    expect(root.get_by_role("status")).to_have_text("copied stem")
    assert page.evaluate("() => navigator.clipboard.readText()") == "stem"


def test_arrow_keys_move_among_the_rows_as_in_a_tree(page: Page, root: Locator) -> None:
    body = find_row(root, "body")
    find_head(find_row(root, "stem")).focus()
    page.keyboard.press("ArrowDown")
    expect(find_head(body)).to_be_focused()
    if is_open(body):
        page.keyboard.press("ArrowLeft")
    assert not is_open(body)
    page.keyboard.press("ArrowRight")
    assert is_open(body)
    page.keyboard.press("ArrowRight")
    expect(find_head(find_row(body, "0"))).to_be_focused()
    page.keyboard.press("Home")
    expect(find_head(find_row(root, "Net"))).to_be_focused()
    page.keyboard.press("/")
    expect(root.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(find_head(find_row(root, "Net"))).to_be_focused()


def test_a_path_can_be_selected_without_folding_its_row(page: Page, root: Locator) -> None:
    """Who drags over a name wants the name."""
    stem = find_row(root, "body")
    was = is_open(stem)
    box = find_head(stem).locator("th").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 130, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert page.evaluate("() => getSelection().toString().trim()") != ""
    assert is_open(stem) == was


def test_without_scripts_no_dead_control_is_seen(new_page: Callable[..., Page], html: str) -> None:
    page = new_page(java_script_enabled=False)
    page.set_content(html)
    assert page.locator("button, input").count() == 0
    row = find_row(page, "body")
    inner = find_row(row, "1")
    shown = inner.is_visible()
    find_head(row).click()
    assert inner.is_visible() != shown


def test_in_jupyterlab_the_keys_of_a_row_do_nothing_to_the_cell(page: Page, server: Server) -> None:
    """There `x` cuts the cell, the arrows leave it, and Enter edits it."""
    cells = [
        "%load_ext modelsummary_ipy",
        "from torch import nn\nmodel = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 2))",
        "%summary model (1, 4)",
    ]
    notebook = Notebook.open(page, server, server.write("keys.ipynb", cells))
    notebook.run_all()
    summary = notebook.wait_for_summary()
    notebook.wait_until_idle()  # between two pages the notebook has the focus for a moment
    row = find_row(summary, "0")
    find_head(row).focus()
    for key in ("x", "d", "d", "c", "a", "ArrowDown"):
        page.keyboard.press(key)
    expect(find_head(find_row(row, "0"))).to_be_focused()
    expect(page.locator(".jp-CodeCell")).to_have_count(len(cells))
    page.keyboard.press("/")
    page.keyboard.type("linear")
    expect(summary.get_by_role("status")).to_have_text("2 rows")
    expect(page.locator(".jp-CodeCell")).to_have_count(len(cells))


def test_the_page_asks_for_nothing_from_elsewhere(page: Page, html: str, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    assert asked == [(tmp_path / "page.html").as_uri()]


class Deep(nn.Module):
    """Fails far below what a screen shows."""

    def __init__(self) -> None:
        super().__init__()
        pairs = ((nn.Linear(size, size + 1), nn.ReLU()) for size in range(1, 41))
        self.layers = nn.Sequential(*(layer for pair in pairs for layer in pair))
        self.last = nn.Sequential(nn.Sequential(nn.Linear(7, 2)))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x))


def test_a_failed_page_opens_at_its_row_counts_one_finding_and_leads_back_to_the_row(page: Page) -> None:
    page.set_viewport_size({"width": 1000, "height": 600})
    show_page(page, f"<main>{ModelSummary(Deep(), (2, 1)).to_html()}</main>")
    told = page.locator(".ms-fail")
    expect(told).to_be_in_viewport()
    expect(page.locator(".ms-why")).to_contain_text("outputs 41 features")
    expect(page.get_by_role("button", name="flagged", exact=True)).to_be_visible()
    page.locator(".ms-body").evaluate("body => { body.scrollTop = 0; }")
    find_head(find_row(page, "last")).evaluate("head => { head.parentElement.open = false; }")
    expect(told).not_to_be_in_viewport()
    page.get_by_role("button", name="show the row").click()
    expect(told).to_be_in_viewport()
    expect(find_head(told.locator("xpath=.."))).to_be_focused()
