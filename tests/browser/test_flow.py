"""The rail beside the names, what it says to those who do not see it, and ranking by the head of a column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from tests import wired_models as models
from tests.browser.hosts import find_violations, show_page


def open_model(page: Page, model: nn.Module, inputs: Any, **options: Any) -> Locator:
    show_page(page, ModelSummary(model, inputs, **options).to_html(standalone=True))
    root = page.locator(".ms-root")
    expect(root).to_have_class("ms-root ms-page ms-js ms-flow ms-links")
    return root


def head(root: Locator, name: str) -> Locator:
    """The row of a name at any level, the first of several."""
    return root.locator(f'.ms-body > .ms-r summary:has(th:text-matches("^{name}\\\\b"))').first


def arrows(root: Locator) -> list[tuple[str, str]]:
    """Which rows the lines of the rail lead from and to, by where they are drawn."""
    found: list[list[str]] = root.evaluate("""root => {
        const body = root.querySelector(".ms-body");
        const top = body.getBoundingClientRect().top - body.scrollTop + body.clientTop;
        const box = (head) => head.getBoundingClientRect();
        const at = (y) => [...root.querySelectorAll(".ms-body > .ms-r, .ms-body .ms-r .ms-r")]
            .map(row => row.querySelector("summary")).filter(head => head.checkVisibility())
            .find(head => box(head).top - top <= y && y < box(head).bottom - top)
            .querySelector("th").firstChild.textContent.trim();
        return [...root.querySelectorAll(".ms-rail path")].flatMap(path => {
            const d = path.getAttribute("d"), from = Number(d.match(/^M[\\d.]+ ([\\d.]+)/)[1]);
            return [...d.matchAll(/M[\\d.]+ ([\\d.]+)q0 4/g)].map(end => [at(from), at(Number(end[1]) + 4)]);
        });
    }""")
    return sorted((source, target) for source, target in found)


def test_the_skips_of_a_unet_are_arcs_and_a_plain_sequence_has_no_rail(new_page: Callable[..., Page]) -> None:
    root = open_model(new_page(), models.UNet(), (1, 1, 32, 32))
    expect(root.locator(".ms-rail path")).to_have_count(6)
    assert arrows(root) == [(f"{letter}{n}", f"c{n}") for letter in "du" for n in (1, 2, 3)]
    plain = open_model(new_page(), models.plain(), models.IMAGE)
    assert plain.locator(".ms-rail").count() == 0
    assert plain.locator(".ms-body").evaluate("body => body.style.getPropertyValue('--ms-rail')") == ""


def test_the_rail_is_painted(page: Page) -> None:
    root = open_model(page, models.UNet(), (1, 1, 32, 32))
    expect(root.locator(".ms-rail path")).to_have_count(6)
    shown = page.screenshot()
    page.add_style_tag(content=".ms-rail { visibility: hidden }")
    assert page.screenshot() != shown


def test_the_rail_stays_where_the_page_is_hidden_for_one_frame(page: Page) -> None:
    root = open_model(page, models.UNet(), (1, 1, 32, 32))
    expect(root.locator(".ms-rail path")).to_have_count(6)
    count = root.evaluate("""root => new Promise(done => {
        root.style.display = "none";
        root.querySelector(".ms-body .ms-r").classList.toggle("ms-x"); // the rail is to be drawn in the next frame
        Promise.resolve().then(() => requestAnimationFrame(() => {
            const count = root.querySelectorAll(".ms-rail path").length;
            root.style.display = "";
            done(count);
        }));
    })""")
    assert count == 6


def test_the_rail_is_drawn_anew_when_rows_fold(page: Page) -> None:
    root = open_model(page, nn.Sequential(models.BasicBlock(3, 8, 2), nn.ReLU()), models.IMAGE)
    expect(root.locator(".ms-rail path")).to_have_count(3)
    assert ("bn2", "relu") in arrows(root)
    assert ("downsample", "relu") in arrows(root)
    assert ("0", "downsample") in arrows(root)
    head(root, "0").click()
    expect(root.locator(".ms-rail path")).to_have_count(0)
    head(root, "0").click()
    expect(root.locator(".ms-rail path")).to_have_count(3)
    root.get_by_role("searchbox").fill("bn2")
    expect(root.locator(".ms-rail path")).to_have_count(0)


def test_a_row_that_has_the_focus_lights_what_it_reads_and_who_reads_it(page: Page) -> None:
    root = open_model(page, models.UNet(), (1, 1, 32, 32))
    head(root, "c3").focus()
    expect(root.get_by_role("status")).to_have_text("reads d3 and u3; read by c3.0 and u2")
    expect(root.locator(".ms-rail path.ms-lit")).to_have_count(2)
    lit = root.locator("summary[data-lit] th").evaluate_all(
        "heads => heads.map(head => head.firstChild.textContent.trim())"
    )
    assert lit == ["d3", "u3", "0", "u2"]
    page.keyboard.press("ArrowUp")
    expect(root.get_by_role("status")).to_have_text("reads bottom; read by c3")
    head(root, "d2").hover()
    expect(root.locator(".ms-rail path.ms-lit")).to_have_count(1)


def test_a_number_is_named_with_what_it_is_in(page: Page) -> None:
    root = open_model(page, models.ListUNet(), (1, 1, 32, 32))
    head(root, "decs.1").focus()
    expect(root.get_by_role("status")).to_have_text("reads downs.0 and ups.1; read by decs.1.0")
    root = open_model(page, nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (1, 4))
    head(root, "1").focus()
    expect(root.get_by_role("status")).to_have_text("reads 0 Linear")


def test_of_more_than_eight_lanes_the_number_of_the_others_is_written(page: Page) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict(
                {f"part_{letter}": nn.Linear(4, 4 + at) for at, letter in enumerate("abcdefghijk")}
            )
            self.join = nn.ModuleDict(
                {f"join_{letter}": nn.Linear(4 + at, 4) for at, letter in enumerate("abcdefghijk")}
            )

        def forward(self, x: Tensor) -> list[Tensor]:
            made = [part(x) for part in self.parts.values()]
            return [join(one) for join, one in zip(self.join.values(), made, strict=True)]

    root = open_model(page, Wide(), (2, 4))
    expect(root.locator(".ms-rail path")).to_have_count(9)  # the input's lane ends where that of the last layer begins
    expect(root.locator(".ms-rail text")).to_have_text(["+3"])  # eleven tensors wait at once


def test_a_narrow_page_keeps_the_words_and_has_no_rail(new_page: Callable[..., Page]) -> None:
    root = open_model(new_page(viewport={"width": 320, "height": 700}), models.UNet(), (1, 1, 32, 32))
    expect(root.locator(".ms-rail path")).to_have_count(0)
    expect(head(root, "c3")).to_contain_text("← d3, u3")


def read_ranking(root: Locator) -> list[str]:
    return root.locator(".ms-rank th").evaluate_all("heads => heads.map(head => head.firstChild.textContent.trim())")


def test_the_head_of_a_column_ranks_the_layers_and_gives_the_tree_back(page: Page) -> None:
    root = open_model(page, models.UNet(), (1, 1, 32, 32))
    button = root.get_by_role("button", name="params")
    button.press("Enter")
    assert read_ranking(root)[:4] == ["bottom.0", "c3.0", "u3", "d3.0"]  # 64·32·9 + 64, 64·32·9 + 32, 64·32·4 + 32, …
    expect(root.locator('.ms-cols th[aria-sort="descending"]')).to_have_text("params")
    expect(root.locator(".ms-body > .ms-r").first).to_be_hidden()
    expect(root.get_by_role("status")).to_have_text("11 layers by params, the largest first")
    root.get_by_role("button", name="MACs").click()
    assert read_ranking(root)[:3] == ["c3.0", "c2.0", "c1.0"]  # equal: in the order in which they ran
    bars = root.locator(".ms-rank meter:is(td:last-child meter)").evaluate_all(
        "all => all.map(one => one.value / one.max)"
    )
    assert bars[:3] == [1, 1, 1], "they compare the layers, which are 15% of the model each"
    assert all(0 < bar < 1 for bar in bars[3:])
    root.locator(".ms-rank summary").first.click()
    root.get_by_role("button", name="copy path").click()
    root.get_by_role("button", name="MACs").click()
    assert root.locator(".ms-rank").count() == 0
    expect(root.locator(".ms-body > .ms-r").first).to_be_visible()
    assert root.locator(".ms-cols [aria-sort]").count() == 0


def test_layers_whose_numbers_are_written_alike_are_ranked_by_all_their_digits(page: Page) -> None:
    root = open_model(page, nn.Sequential(nn.Linear(1000, 1001), nn.Linear(1001, 1002)), (1, 1000))
    expect(head(root, "0").locator("td").last).to_have_text("1.00 M")
    expect(head(root, "1").locator("td").last).to_have_text("1.00 M")
    root.get_by_role("button", name="MACs").click()
    assert read_ranking(root) == ["1", "0"]  # 1001 · 1002 and 1000 · 1001


def test_memory_is_ranked_too_where_it_is_shown(page: Page) -> None:
    root = open_model(page, models.UNet(), (1, 1, 32, 32), memory="1GB")
    root.get_by_role("button", name="peak").click()
    assert read_ranking(root)[0] == "c1.1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_of_it_is_in_the_way_of_those_who_read_otherwise(
    new_page: Callable[..., Page], axe: Path, scheme: str
) -> None:
    page = new_page(color_scheme=scheme)
    root = open_model(page, models.UNet(), (1, 1, 32, 32))
    head(root, "c3").focus()
    assert find_violations(page, axe) == []
    root.get_by_role("button", name="MACs").click()
    assert find_violations(page, axe) == []


def test_what_a_repeated_block_was_given_comes_from_the_block_not_from_the_whole_stack(page: Page) -> None:
    root = open_model(page, nn.Sequential(*(models.PreNorm() for _ in range(3))), models.TOKENS)
    expect(root.locator(".ms-rail path")).to_have_count(2)
    assert arrows(root) == [("0", "norm2"), ("attend", "norm2")]
