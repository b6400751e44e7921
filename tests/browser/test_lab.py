"""A summary in JupyterLab: run there, opened from a colleague, by mouse, by keyboard, and as a screen reader has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from torch import nn

from modelsummary_ipy import ModelSummary
from tests.browser.conftest import SCREENSHOTS, open_pages
from tests.browser.hosts import Notebook, Server, find_head, find_row, find_violations, is_open

MODEL = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=5), nn.ReLU())
        self.head = nn.Conv2d(16, 32, 3)
    def forward(self, x):
        return self.head(self.stem(x))
model = Net()
"""
SUMMARY = "%summary model (1, 1, 256, 256)"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=5), nn.ReLU())
        self.head = nn.Conv2d(16, 32, 3)

    def forward(self, x):
        return self.head(self.stem(x))


@pytest.fixture(scope="module")
def saved() -> dict[str, str]:
    """What a notebook keeps of a summary."""
    return ModelSummary(Net(), (1, 1, 256, 256))._repr_mimebundle_()


@pytest.fixture(scope="module", params=["trusted", "untrusted"])
def notebook(
    request: pytest.FixtureRequest, browser: Browser, server: Server, saved: dict[str, str]
) -> Iterator[Notebook]:
    """A notebook in which the summary was just run, or the file of somebody else, opened and not run."""
    name = f"{request.param}.ipynb"
    with open_pages(browser, name) as new:
        if request.param == "untrusted":
            yield Notebook.open(new(), server, server.write(name, [SUMMARY], [saved]))
        else:
            opened = Notebook.open(new(), server, server.write(name, ["%load_ext modelsummary_ipy", MODEL, SUMMARY]))
            opened.run_all()
            yield opened


def test_a_row_folds_and_unfolds_by_mouse(notebook: Notebook) -> None:
    summary = notebook.wait_for_summary()
    stem, inner = find_row(summary, "stem"), find_row(find_row(summary, "stem"), "0")
    assert is_open(stem)
    expect(inner).to_be_visible()
    find_head(stem).click()
    expect(inner).to_be_hidden()
    expect(find_row(summary, "head")).to_be_visible()
    find_head(stem).click()
    expect(inner).to_be_visible()


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_row_folds_and_unfolds_by_keyboard(notebook: Notebook, key: str) -> None:
    summary = notebook.wait_for_summary()
    stem, inner = find_row(summary, "stem"), find_row(find_row(summary, "stem"), "0")
    find_head(stem).focus()
    notebook.page.keyboard.press(key)
    expect(inner).to_be_hidden()
    expect(find_head(stem)).to_be_focused()
    notebook.page.keyboard.press(key)
    expect(inner).to_be_visible()


def test_tab_goes_from_row_to_row_in_the_order_they_are_read(notebook: Notebook) -> None:
    summary = notebook.wait_for_summary()
    find_head(find_row(summary, "stem")).focus()
    seen = []
    for _ in range(6):
        notebook.page.keyboard.press("Tab")
        seen.append(
            notebook.page.evaluate("() => document.activeElement.querySelector('th')?.textContent.trim() ?? ''")
        )
    names = [name.split()[0] for name in seen if name]
    assert names[:3] == ["0", "1", "head"] or (names == ["0"] and not summary.get_by_role("toolbar").count())


def test_sizes_parameters_and_the_flag_are_there_to_be_read(notebook: Notebook) -> None:
    summary = notebook.wait_for_summary()
    conv = find_head(find_row(summary, "0"))
    expect(conv).to_contain_text("[1, 1, 256, 256] → [1, 16, 264, 264]")
    expect(conv).to_contain_text("160")
    expect(conv).to_contain_text("padding=1 keeps the size")
    expect(conv).to_be_visible()


def test_columns_stand_below_each_other(notebook: Notebook) -> None:
    """Rows stand in tables of their own; that they line up is the work of fixed widths, and can be lost."""
    summary = notebook.wait_for_summary()
    lefts = summary.locator("details tr").evaluate_all(
        """rows => rows.filter(row => row.checkVisibility()).map(
            row => [...row.cells].slice(1).map(cell => Math.round(cell.getBoundingClientRect().left)))"""
    )
    assert len(lefts) == 5
    for left in zip(*lefts, strict=True):
        assert max(left) - min(left) <= 1


def test_axe_finds_nothing(notebook: Notebook, axe: Path) -> None:
    notebook.wait_for_summary()
    assert find_violations(notebook.page, axe) == []


def test_axe_finds_nothing_in_the_dark_theme(notebook: Notebook, axe: Path, request: pytest.FixtureRequest) -> None:
    notebook.wait_for_summary()
    notebook.set_theme("JupyterLab Dark")
    try:
        notebook.page.screenshot(path=SCREENSHOTS / f"dark-{request.node.callspec.id}.png")
        assert find_violations(notebook.page, axe) == []
    finally:
        notebook.set_theme("JupyterLab Light")


def test_what_was_saved_reads_the_same_when_it_is_opened_again(
    page: Page, new_page: Callable[..., Page], server: Server
) -> None:
    """Trusted then, since this server made it: with styles, and without being run."""
    name = server.write("again.ipynb", ["%load_ext modelsummary_ipy", MODEL, SUMMARY])
    first = Notebook.open(page, server, name)
    first.run_all()
    text = first.wait_for_summary().locator("details").first.inner_text()
    first.save()
    second = Notebook.open(new_page(), server, name)
    assert second.wait_for_summary().locator("details").first.inner_text() == text
