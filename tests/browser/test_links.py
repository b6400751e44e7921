"""What the head and the source lead to: the largest rows, blocks of the charts, moments of a training step, lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests import wired_models as models
from tests.browser.hosts import find_violations
from tests.browser.test_flow import open_model, read_ranking


@pytest.fixture
def root(page: Page) -> Locator:
    return open_model(page, models.UNet(), (1, 1, 32, 32), optimizer="adamw")


def marked(root: Locator) -> list[str]:
    """The paths of the rows that are marked, the names of operations."""
    return root.locator("summary[data-to]").evaluate_all(
        """heads => heads.map(head => (head.parentElement.querySelector(':scope > .ms-d .ms-p, :scope > .ms-a .ms-p')
            || head.querySelector("th").firstChild).textContent.trim())"""
    )


def test_the_largest_under_a_total_lead_to_their_rows_whatever_is_shown(root: Locator, page: Page) -> None:
    root.get_by_role("searchbox").fill("pool")
    expect(root.get_by_role("status")).to_have_text("3 rows")
    root.get_by_role("button", name="bottom.0", exact=True).first.click()
    assert marked(root) == ["bottom.0"]
    expect(root.locator("summary[data-to]")).to_be_focused()
    root.get_by_role("button", name="params").click()
    assert read_ranking(root)[0] == "bottom.0"
    root.get_by_role("button", name="u3", exact=True).first.click()
    assert root.locator(".ms-rank").count() == 0
    assert marked(root) == ["u3"]


def test_a_block_of_a_chart_takes_the_whole_width_and_marks_its_row(root: Locator) -> None:
    chart = root.locator(".ms-ice").first
    chart.evaluate("chart => chart.closest('details').open = true")
    block = chart.locator('> svg:has(title:text-matches("^bottom\\\\.0:"))')
    narrow = block.evaluate("block => block.getBoundingClientRect().width")
    block.click()
    assert marked(root) == ["bottom.0"]
    expect(block).to_have_attribute("width", "100%")
    expect(chart.locator('> svg:has(title:text-matches("^u3:"))')).to_be_hidden()
    block.click()
    assert block.evaluate("block => block.getBoundingClientRect().width") == pytest.approx(narrow, abs=0.5)
    expect(chart.locator('> svg:has(title:text-matches("^u3:"))')).to_be_visible()


def test_labels_of_a_chart_have_room_in_their_blocks_at_any_width(new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 640, "height": 800})
    chart = open_model(page, models.UNet(), (1, 1, 32, 32)).locator(".ms-ice").first
    chart.evaluate("chart => chart.closest('details').open = true")
    words = []
    for width in (640, 360, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        assert page.evaluate(
            """() => [...document.querySelector(".ms-ice").querySelectorAll("text")].every(text => !text.textContent ||
                text.getBBox().width + 4 <= text.parentElement.querySelector("rect").getBBox().width)"""
        )
        words.append("".join(chart.locator("text").all_text_contents()))
    assert len(words[1]) < len(words[0]) <= len(words[2])


def test_a_chart_is_one_stop_of_the_keyboard_and_arrows_go_from_block_to_block(
    root: Locator, page: Page, axe: Path
) -> None:
    chart = root.locator(".ms-ice").first
    chart.evaluate("chart => chart.closest('details').open = true")
    chart.locator("xpath=ancestor::details/summary").focus()

    def focused() -> str:
        return str(page.evaluate("() => (document.activeElement.getAttribute('aria-label') || '').split(':')[0]"))

    seen = []
    for key in ("Tab", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(focused())
    assert seen == ["UNet", "d2.0", "d3.0", "bottom.0", "u3", "u3", "UNet", "UNet"]  # d1 is too narrow to be drawn
    page.keyboard.press("ArrowDown")
    width, stroke = chart.locator(":focus").evaluate(
        "block => [block.getBoundingClientRect().width, getComputedStyle(block.querySelector('rect')).strokeWidth]"
    )
    assert stroke == "3px"
    page.keyboard.press("Enter")
    assert marked(root) == [focused()]
    expect(chart.locator(":focus")).to_have_attribute("width", "100%")
    page.keyboard.press("Space")
    assert chart.locator(":focus").evaluate("block => block.getBoundingClientRect().width") == pytest.approx(width)
    page.keyboard.press("Tab")
    assert chart.locator(":focus").count() == 0
    assert find_violations(page, axe) == []


def test_a_moment_of_the_training_step_names_its_row_and_leads_to_it(root: Locator) -> None:
    step = root.locator(".ms-step")
    step.evaluate("step => step.closest('details').open = true")
    spot = step.locator('rect:has(title:text-matches("at the backward of c1.0"))')
    expect(spot).to_have_count(1)
    spot.dispatch_event("click")
    assert marked(root) == ["c1.0"]


def test_a_line_of_the_source_leads_to_all_rows_it_made(root: Locator) -> None:
    panel = root.get_by_role("region", name="Annotated source")
    expect(panel).to_be_hidden()
    root.get_by_role("button", name="source").press("Enter")
    expect(panel).to_be_visible()
    expect(panel).to_contain_text("wired_models.py:")
    panel.get_by_role("button", name="self.c3(").click()
    assert set(marked(root)) == {"u3", "cat", "c3"}
    root.get_by_role("button", name="source").click()
    expect(panel).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_of_it_is_in_the_way_of_those_who_read_otherwise(
    new_page: Callable[..., Page], axe: Path, scheme: str
) -> None:
    page = new_page(color_scheme=scheme)
    root = open_model(page, models.UNet(), (1, 1, 32, 32), memory="1GB")
    root.get_by_role("button", name="source").click()
    root.locator(".ms-total details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert find_violations(page, axe) == []
