"""The form in a real JupyterLab: type a size, break it, take the suggestion, cancel; by mouse and by keyboard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.notebook.form.live_html import live_page
from tests.browser.conftest import open_pages
from tests.browser.hosts import PATIENCE, Notebook, Server, find_row, find_violations

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
            if x.shape[0] == 1234:
                time.sleep(0.1)
        return x
class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=5)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6 * 6 * 6, 10)
    def forward(self, x):
        return self.fc(nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 4).flatten(1))
net, slow, pooled = Net(), Slow(), Pooled()
tall = nn.Sequential(*(nn.Linear(size, size + 1) for size in range(1, 41)))
"""


@pytest.fixture(scope="module", params=["lab", "notebook", "voila"])
def notebook(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    name = f"form-{request.param}.ipynb"
    with open_pages(browser, name) as new:
        cells = ["%load_ext modelsummary_ipy", MODEL, "%summary -i net (B=2, 3, H=8, W=8)"]
        page = new(viewport={"width": 1280, "height": 1600})
        server.write(name, cells)
        if request.param == "voila":  # it runs the cells before it shows the page
            page.goto(server.address(f"voila/render/{name}"), wait_until="domcontentloaded", timeout=PATIENCE)
            yield Notebook(page)
            return
        opened = Notebook.open(page, server, name, app=request.param)
        opened.run_all()
        yield opened


@pytest.fixture
def form(notebook: Notebook) -> Locator:
    """The form's own output, not the static summary beside it."""
    found = notebook.page.locator(".jp-OutputArea-child", has=notebook.page.locator(".jupyter-widgets"))
    expect(found.locator("input[type=text]").first).to_be_visible(timeout=PATIENCE)
    return found


def field(form: Locator, label: str) -> Locator:
    return form.locator(".widget-text", has_text=label).locator("input")


def test_the_static_summary_is_an_output_of_its_own_and_is_not_shown_twice(notebook: Notebook, form: Locator) -> None:
    expect(form.locator(".ms-root")).to_contain_text("fc")
    expect(notebook.page.locator(".ms-root")).to_have_count(2)
    expect(notebook.page.locator(".ms-beside")).to_contain_text("needs a running kernel")
    expect(notebook.page.locator(".ms-beside")).to_be_hidden()


def wait_for_run(form: Locator, text: str) -> None:
    """Wait for the last table of a run: on a slow machine a first one stands there before its formulas are found."""
    expect(form.locator(".ms-root")).to_contain_text(text, timeout=PATIENCE)
    expect(form.get_by_role("button", name="Cancel")).to_be_disabled(timeout=PATIENCE)
    expect(form.locator(".ms-bar")).to_be_visible(timeout=PATIENCE)  # the page's script has run


def test_what_was_closed_and_searched_stays_so_after_another_run(form: Locator) -> None:
    wait_for_run(form, "[2, 10]")
    find_row(form, "Net").locator("xpath=./summary").click()
    field(form, "x").fill("B=7, 3, H=8, W=8")
    wait_for_run(form, "[7, 10]")
    expect(find_row(form, "Net")).to_have_js_property("open", False, timeout=PATIENCE)
    find_row(form, "Net").locator("xpath=./summary").click()
    form.get_by_role("searchbox").fill("linear")
    expect(find_row(form, "conv")).to_be_hidden()
    field(form, "x").fill("B=4, 3, H=8, W=8")
    wait_for_run(form, "[4, 10]")
    expect(form.get_by_role("searchbox")).to_have_value("linear", timeout=PATIENCE)
    expect(find_row(form, "conv")).to_be_hidden(timeout=PATIENCE)
    expect(find_row(form, "fc")).to_be_visible(timeout=PATIENCE)
    expect(field(form, "x")).to_be_focused()
    form.get_by_role("searchbox").fill("")
    expect(find_row(form, "conv")).to_be_visible(timeout=PATIENCE)
    expect(find_row(form, "Net")).to_have_js_property("open", True)


def test_who_stands_on_a_row_stands_on_it_after_another_run(form: Locator) -> None:
    field(form, "x").fill("B=3, 3, H=8, W=8")
    head = find_row(form, "conv").locator("xpath=./summary")
    head.focus()
    wait_for_run(form, "[3, 10]")
    expect(head).to_be_focused(timeout=PATIENCE)


def test_the_largest_batch_that_fits_is_one_click(form: Locator) -> None:
    form.get_by_label("memory budget").fill("1GB")
    before = field(form, "x").input_value()
    form.get_by_role("button", name="to train").click()
    expect(field(form, "x")).not_to_have_value(before, timeout=PATIENCE)
    expect(form.get_by_role("meter", name="of 1 GB")).to_be_visible(timeout=PATIENCE)
    form.get_by_label("memory budget").fill("")
    expect(form.get_by_role("meter", name="of 1 GB")).to_have_count(0, timeout=PATIENCE)


def test_the_options_open_and_close(form: Locator) -> None:
    form.get_by_role("button", name="More options").click()
    expect(form.get_by_label("engine")).to_be_visible()
    form.get_by_role("button", name="Fewer options").click()
    expect(form.get_by_label("engine")).to_be_hidden()


def test_a_typed_size_shows_its_table(form: Locator) -> None:
    field(form, "x").fill("B=5, 3, H=8, W=8")
    expect(form.locator(".ms-root")).to_contain_text("[5, 10]", timeout=PATIENCE)


def test_a_size_that_fails_shows_the_failing_row_and_a_click_mends_it(form: Locator) -> None:
    field(form, "x").fill("B=5, 3, H=16, W=16")
    wait_for_run(form, "the forward failed in fc")  # what is offered beside the first table is of the run before
    form.get_by_role("button", name="(B=").first.click()
    expect(form.locator(".ms-root")).not_to_contain_text("the forward failed", timeout=PATIENCE)


def test_a_size_that_is_none_is_shown_under_the_field(form: Locator) -> None:
    field(form, "x").fill("B=0, 3, H=8, W=8")
    expect(form.locator("[role=alert]").first).to_contain_text("sizes of at least 1")
    field(form, "x").fill("B=2, 3, H=8, W=8")
    expect(form.locator("[role=alert]")).to_have_count(0)


def test_a_half_typed_size_waits_for_its_end(form: Locator) -> None:
    field(form, "x").fill("B=4, 3, H=8, W=8")
    wait_for_run(form, "[4, 10]")
    field(form, "x").fill("")
    field(form, "x").press_sequentially("(B=9, 3, H=8, W=", delay=20)
    field(form, "x").page.wait_for_timeout(600)  # twice what the form waits for another letter
    expect(form.locator("[role=alert]")).to_have_count(0)
    expect(form.locator(".ms-root")).to_contain_text("[4, 10]")
    field(form, "x").press_sequentially("8)")
    wait_for_run(form, "[9, 10]")


def test_it_works_by_keyboard_alone_and_keeps_the_focus(notebook: Notebook, form: Locator) -> None:
    size = field(form, "x")
    size.focus()
    notebook.page.keyboard.press("Control+A")
    notebook.page.keyboard.type("B=6, 3, H=8, W=8")
    notebook.page.keyboard.press("Enter")
    expect(form.locator(".ms-root")).to_contain_text("[6, 10]", timeout=PATIENCE)
    expect(size).to_be_focused()
    notebook.page.keyboard.press("Tab")
    expect(form.get_by_label("dtype of x", exact=True)).to_be_focused()


def test_the_form_has_no_accessibility_violations(notebook: Notebook, form: Locator, axe: Path) -> None:
    assert find_violations(notebook.page, axe, ".jupyter-widgets.widget-vbox") == []


def test_sliders_copying_and_what_was_pressed_in_the_table(
    new_page: Callable[..., Page], server: Server, axe: Path
) -> None:
    cells = ["%load_ext modelsummary_ipy", MODEL, "%summary -i pooled (B=2, 3, H=16, W=16)"]
    page = new_page(viewport={"width": 1280, "height": 1600}, permissions=["clipboard-read", "clipboard-write"])
    opened = Notebook.open(page, server, server.write("slider.ipynb", cells))
    opened.run_all()
    form = page.locator(".jp-OutputArea-child", has=page.locator(".jupyter-widgets"))
    expect(form.locator(".ms-bar")).to_be_visible(timeout=PATIENCE)

    form.get_by_role("button", name="operations").click()
    form.get_by_role("button", name="source").click()
    form.get_by_role("button", name="params").click()
    ranked = form.get_by_role("columnheader", name="params")
    expect(ranked).to_have_attribute("aria-sort", "descending")
    slider = form.locator(".widget-slider", has_text="H").locator(".noUi-handle")
    slider.focus()
    slider.press("ArrowRight")
    expect(field(form, "x")).to_have_value("B=2, 3, H=17, W=16", timeout=PATIENCE)
    wait_for_run(form, "17, 16]")
    expect(slider).to_be_focused()
    expect(form.get_by_role("button", name="operations")).to_have_attribute("aria-pressed", "true", timeout=PATIENCE)
    expect(ranked).to_have_attribute("aria-sort", "descending", timeout=PATIENCE)
    expect(form.get_by_role("region", name="Annotated source")).to_be_visible()
    form.get_by_role("button", name="params").click()
    expect(find_row(form, "relu")).to_be_visible()

    form.get_by_role("button", name="Copy as code").click()
    expect(form.get_by_role("status").filter(has_text="copied")).to_be_visible(timeout=PATIENCE)
    assert page.evaluate("() => navigator.clipboard.readText()") == "%summary pooled (B=2, 3, H=17, W=16)"
    assert find_violations(page, axe, ".jupyter-widgets.widget-vbox") == []


def test_a_saved_form_is_its_table_and_a_sentence(new_page: Callable[..., Page], server: Server) -> None:
    """In JupyterLab without the kernel, and on a page that nbconvert makes."""
    name = server.write("saved.ipynb", ["%load_ext modelsummary_ipy", MODEL, "%summary -i net (B=2, 3, H=8, W=8)"])
    opened = Notebook.open(new_page(), server, name)
    opened.run_all()
    expect(opened.page.locator(".jupyter-widgets .ms-bar")).to_be_visible(timeout=PATIENCE)
    opened.save()
    again = (server.root / name).rename(server.root / "again.ipynb")  # another name has another kernel
    lab = Notebook.open(new_page(), server, again.name)
    expect(lab.page.get_by_text("model not found")).to_be_attached(timeout=PATIENCE)
    nbconvert = [sys.executable, "-m", "nbconvert", "--log-level=ERROR", "--to=html", again]
    subprocess.run(nbconvert, check=True)
    made = new_page()
    made.goto(again.with_suffix(".html").as_uri())
    for page in (lab.page, made):
        expect(page.locator(".ms-root")).to_have_count(1)
        expect(page.locator(".ms-root")).to_be_visible()
        sentence = page.get_by_text("needs a running kernel and ipywidgets").filter(visible=True)
        expect(sentence).to_have_count(1)
        expect(page.get_by_text("VBox").filter(visible=True)).to_have_count(0)
        expect(page.get_by_text("model not found").filter(visible=True)).to_have_count(0)


def test_a_run_can_be_cancelled(browser: Browser, server: Server) -> None:
    with open_pages(browser, "cancel.ipynb") as new:
        cells = ["%load_ext modelsummary_ipy", MODEL, "%summary -i slow (B=2, 4)"]
        opened = Notebook.open(new(), server, server.write("cancel.ipynb", cells))
        opened.run_all()
        found = opened.page.locator(".jp-OutputArea-output", has=opened.page.locator(".jupyter-widgets"))
        expect(field(found, "x")).to_be_visible(timeout=PATIENCE)
        field(found, "x").fill("B=1234, 4")
        expect(found).to_contain_text("layer", timeout=PATIENCE)
        found.get_by_role("button", name="Cancel").click()
        expect(found).to_contain_text("cancelled", timeout=PATIENCE)
        expect(found.locator(".ms-root")).to_contain_text("B=2")


def test_the_table_stays_scrolled_after_another_run(browser: Browser, server: Server) -> None:
    with open_pages(browser, "tall.ipynb") as new:
        cells = ["%load_ext modelsummary_ipy", MODEL, "%summary -i tall (B=2, 1)"]
        page = new(viewport={"width": 1280, "height": 500})
        opened = Notebook.open(page, server, server.write("tall.ipynb", cells))
        opened.run_all()
        found = page.locator(".jp-OutputArea-output", has=page.locator(".jupyter-widgets"))
        expect(found.locator(".ms-bar")).to_be_visible(timeout=PATIENCE)
        body = found.locator(".ms-body")
        body.evaluate(SCROLL, 120)
        field(found, "input").fill("B=7, 1")
        wait_for_run(found, "B=7")
        expect(body).to_have_js_property("scrollTop", 120, timeout=PATIENCE)


#: A reader scrolls over many frames; what is done in one is not seen by the page before the next.
SCROLL = """(element, top) => new Promise(done => {
    element.addEventListener("scroll", () => requestAnimationFrame(done), {once: true});
    element.scrollTop = top;
})"""

#: Shows pages one after the other: the next one as soon as the handler of the one before has run, before a frame.
PUT = """pages => new Promise(done => {
    const put = () => {
        const place = document.getElementById("place");
        place.innerHTML = pages.shift();
        place.lastElementChild.addEventListener("load", pages.length ? put : () => requestAnimationFrame(done));
    };
    put();
})"""


def make_page(num_layers: int) -> str:
    layers = (nn.Linear(size, size + 1) for size in range(1, num_layers + 1))
    return live_page(ModelSummary(nn.Sequential(*layers), (2, 1)).to_html(packed=False))


@pytest.mark.parametrize("between", [40, 17])
def test_a_page_between_two_takes_nothing_of_what_was_scrolled(new_page: Callable[..., Page], between: int) -> None:
    """The first table of a run may stand for less than a frame, and may be too short to be scrolled as far."""
    page = new_page(viewport={"width": 1280, "height": 500})
    page.set_content("<div id=place></div>")
    page.evaluate(PUT, [make_page(40)])
    page.locator(".ms-body").evaluate(SCROLL, 120)
    page.evaluate(PUT, [make_page(between), make_page(40)])
    expect(page.locator(".ms-body")).to_have_js_property("scrollTop", 120)
    page.evaluate(PUT, [make_page(between)])
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.evaluate(PUT, [make_page(40)])
    expect(page.locator(".ms-body")).to_have_js_property("scrollTop", 120)


def test_a_page_that_is_replaced_before_its_handler_runs_is_no_error(new_page: Callable[..., Page]) -> None:
    """Its style is loaded when it has no parent any more; ``new_page`` fails on any error of a script."""
    page = new_page()
    page.set_content("<div id=place></div>")
    put = "text => { for (const page of [text, '', text]) document.getElementById('place').innerHTML = page }"
    page.evaluate(put, live_page(ModelSummary(nn.Linear(2, 3), (1, 2)).to_html(packed=False)))
    expect(page.locator(".ms-bar")).to_have_count(1)
