"""The form in a real JupyterLab: type a size, break it, take the suggestion, cancel; by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import open_pages
from tests.browser.hosts import Notebook, Server, find_violations

MODEL = """
import time
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 4 * 4, 10)
    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))
class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(200))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            if x.shape[0] == 3:
                time.sleep(0.1)
        return x
net, slow = Net(), Slow()
"""


@pytest.fixture(scope="module")
def notebook(browser: Browser, server: Server) -> Iterator[Notebook]:
    with open_pages(browser, "form.ipynb") as new:
        cells = ["%load_ext modelsummary_ipy", MODEL, "%summary -i net (B=2, 3, H=8, W=8)"]
        opened = Notebook.open(new(viewport={"width": 1280, "height": 1600}), server, server.write("form.ipynb", cells))
        opened.run_all()
        yield opened


@pytest.fixture
def form(notebook: Notebook) -> Locator:
    """The form's own output, not the static summary beside it."""
    found = notebook.page.locator(".jp-OutputArea-output", has=notebook.page.locator(".jupyter-widgets"))
    expect(found.locator("input[type=text]").first).to_be_visible(timeout=60_000)
    return found


def field(form: Locator, label: str) -> Locator:
    return form.locator(".widget-text", has_text=label).locator("input")


def test_the_static_summary_stands_beside_the_form(notebook: Notebook, form: Locator) -> None:
    expect(notebook.page.locator(".ms-root")).to_have_count(2)
    expect(form.locator(".ms-root")).to_contain_text("fc")


def test_a_typed_size_shows_its_table(form: Locator) -> None:
    field(form, "x").fill("B=5, 3, H=8, W=8")
    expect(form.locator(".ms-root")).to_contain_text("[5, 10]", timeout=15_000)


def test_a_size_that_fails_shows_the_failing_row_and_a_click_mends_it(form: Locator) -> None:
    field(form, "x").fill("B=5, 3, H=16, W=16")
    expect(form.locator(".ms-root")).to_contain_text("the forward failed in fc", timeout=15_000)
    form.get_by_role("button", name="try (", exact=False).first.click()
    expect(form.locator(".ms-root")).not_to_contain_text("the forward failed", timeout=15_000)


def test_a_size_that_is_none_is_told_under_the_field(form: Locator) -> None:
    field(form, "x").fill("B=0, 3, H=8, W=8")
    expect(form.locator("[role=alert]").first).to_contain_text("sizes of at least 1")
    field(form, "x").fill("B=2, 3, H=8, W=8")
    expect(form.locator("[role=alert]")).to_have_count(0)


def test_it_works_by_keyboard_alone_and_keeps_the_focus(notebook: Notebook, form: Locator) -> None:
    size = field(form, "x")
    size.focus()
    notebook.page.keyboard.press("Control+A")
    notebook.page.keyboard.type("B=6, 3, H=8, W=8")
    notebook.page.keyboard.press("Enter")
    expect(form.locator(".ms-root")).to_contain_text("[6, 10]", timeout=15_000)
    expect(size).to_be_focused()
    notebook.page.keyboard.press("Tab")
    expect(form.get_by_label("dtype of x")).to_be_focused()


def test_the_form_has_no_accessibility_violations(notebook: Notebook, form: Locator, axe: Path) -> None:
    assert find_violations(notebook.page, axe, ".jp-OutputArea-output .jupyter-widgets") == []


def test_a_run_can_be_cancelled(browser: Browser, server: Server) -> None:
    with open_pages(browser, "cancel.ipynb") as new:
        cells = ["%load_ext modelsummary_ipy", MODEL, "%summary -i slow (B=2, 4)"]
        opened = Notebook.open(new(), server, server.write("cancel.ipynb", cells))
        opened.run_all()
        found = opened.page.locator(".jp-OutputArea-output", has=opened.page.locator(".jupyter-widgets"))
        expect(field(found, "x")).to_be_visible(timeout=60_000)
        field(found, "x").fill("B=3, 4")
        expect(found).to_contain_text("layer", timeout=15_000)
        found.get_by_role("button", name="Cancel").click()
        expect(found).to_contain_text("cancelled", timeout=5_000)
        expect(found.locator(".ms-root")).to_contain_text("B=2")
