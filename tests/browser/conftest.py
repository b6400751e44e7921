"""A Chromium, a Jupyter server, and a page that fails the test when a script on it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.hosts import Server, start_server
from tests.conftest import NO_CHROMIUM, find_chromium

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "build" / "browser"
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"

ARGUMENTS = [
    "--no-sandbox",  # as root, as in a container, there is none to be had
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; Playwright drives it and downloads none of its own."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all: JupyterLab, Notebook 7 and Voila."""
    root = tmp_path_factory.mktemp("notebooks")
    with start_server(root, tmp_path_factory.mktemp("log") / "jupyter.log") as started:
        yield started


@contextmanager
def open_pages(browser: Browser, name: str) -> Iterator[Callable[..., Page]]:
    """Give a function that opens pages; afterwards photograph each, close it, and fail on any script error on it."""
    opened: list[tuple[Page, list[str]]] = []

    def new(**options: object) -> Page:
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
        errors: list[str] = []
        # what fails in the application's own bundles is the application's (Notebook 7 does, on every start)
        page.on("pageerror", lambda error: None if "/static/" in (error.stack or "") else errors.append(str(error)))
        opened.append((page, errors))
        return page

    yield new
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-")
    for number, (page, _) in enumerate(opened):
        page.screenshot(path=SCREENSHOTS / f"{stem}{f'-{number}' if number else ''}.png")
        page.context.close()
    assert [error for _, errors in opened for error in errors] == []


@pytest.fixture
def new_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Open pages for one test; what they looked like at its end is in build/browser."""
    with open_pages(browser, request.node.name) as new:
        yield new


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A page of a usual size in the light theme."""
    return new_page()


@pytest.fixture(scope="session")
def axe() -> Path:
    """axe-core's script, which `make browser` gets from npm."""
    if not AXE.exists():
        pytest.skip("axe-core was not found: `make browser` gets it from npm")
    return AXE
