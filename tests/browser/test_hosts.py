"""A summary wherever notebooks are read: Notebook 7, Voila, nbconvert, VS Code, Colab, GitHub, its own page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lxml.html
import pytest
from playwright.sync_api import Locator, Page, expect
from torch import nn

from modelsummary_ipy import ModelSummary, Size
from tests.browser.hosts import (
    PATIENCE,
    Notebook,
    Server,
    find_head,
    find_port,
    find_row,
    find_violations,
    is_open,
    serve,
    show_page,
    wait_for_script,
)
from tests.wired_models import Joined

CELLS = [
    "%load_ext modelsummary_ipy",
    "from torch import nn\nmodel = nn.Sequential(nn.Conv2d(1, 16, 3, padding=5), nn.Sequential(nn.ReLU()))",
    "%summary model (1, 1, 32, 32)",
]

#: What GitHub leaves of a notebook's HTML: the tables and their text, without styles, classes or disclosures.
KEPT_BY_GITHUB = {
    "table",
    "tbody",
    "tr",
    "th",
    "td",
    "p",
    "div",
    "b",
    "i",
    "small",
    "code",
    "pre",
    "ul",
    "li",
    "dl",
    "dt",
    "dd",
}


@pytest.fixture(scope="module")
def summary() -> ModelSummary:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=5), nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU()))
    model[0].weight.requires_grad_(False)
    return ModelSummary(model, Size("B=2 3 H=64 W=48"), optimizer="adamw")


@pytest.fixture(scope="module")
def failed() -> ModelSummary:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), nn.ReLU())
    summary = ModelSummary(model, (2, 3, 8, 8))
    assert summary.error is not None
    return summary


def assert_folds(page: Page, inside: Locator) -> None:
    """A row folds and unfolds by a click and by a key."""
    wait_for_script(inside)
    row = find_row(inside, "1")
    inner = find_row(row, "0")
    expect(inner).to_be_visible()
    find_head(row).click()
    expect(inner).to_be_hidden()
    find_head(row).focus()
    page.keyboard.press("Enter")
    expect(inner).to_be_visible()


def test_in_notebook_7_it_runs_folds_and_has_no_violation(page: Page, server: Server, axe: Path) -> None:
    notebook = Notebook.open(page, server, server.write("seven.ipynb", CELLS), app="notebook")
    notebook.run_all()
    shown = notebook.wait_for_summary()
    expect(find_head(find_row(shown, "0"))).to_contain_text("padding=1 keeps the size")
    assert_folds(page, shown)
    assert find_violations(page, axe) == []


def test_in_voila_it_is_shown_and_folds(page: Page, server: Server, axe: Path) -> None:
    page.goto(server.address(f"voila/render/{server.write('served.ipynb', CELLS)}"))
    shown = page.locator(".ms-root")
    failed = page.get_by_text("There was an error when executing cell")
    expect(shown.or_(failed)).to_be_visible(timeout=PATIENCE)
    assert_folds(page, shown)
    assert find_violations(page, axe) == []


def test_in_a_page_that_nbconvert_made_it_folds(
    page: Page, server: Server, summary: ModelSummary, axe: Path, tmp_path: Path
) -> None:
    import nbformat
    from nbconvert import HTMLExporter

    name = server.write("converted.ipynb", [CELLS[-1]], [summary._repr_mimebundle_()])
    html, _ = HTMLExporter().from_notebook_node(nbformat.read(server.root / name, as_version=4))
    (tmp_path / "converted.html").write_text(html, encoding="utf-8")
    page.goto((tmp_path / "converted.html").as_uri(), wait_until="domcontentloaded")
    assert_folds(page, page.locator(".ms-root"))
    assert find_violations(page, axe) == []


MARIMO = """
import marimo
app = marimo.App()

@app.cell
def _():
    from torch import nn
    from modelsummary_ipy import ModelSummary
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=5), nn.Sequential(nn.ReLU()))
    ModelSummary(model, (1, 1, 32, 32))
    return ModelSummary, model

@app.cell
def _(ModelSummary, model):
    import marimo as mo
    import modelsummary_ipy.marimo
    modelsummary_ipy.marimo.register()
    mo.vstack([model, ModelSummary(model, (2, 1, 32, 32)), ModelSummary(model, (3, 1, 32, 32)).form()])
    return

if __name__ == "__main__":
    app.run()
"""


def test_in_marimo_it_is_shown_and_folds(page: Page, tmp_path: Path) -> None:
    """Which puts it into a frame of its own, because there is a script in it.

    A module shows marimo's own tree until ours is registered. Marimo has no Jupyter widgets: a form is its table there.
    """
    (tmp_path / "app.py").write_text(MARIMO)
    port = find_port()
    command = [sys.executable, "-m", "marimo", "-q", "run", tmp_path / "app.py", "--headless", "--no-token"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with serve(command, f"http://127.0.0.1:{port}/health", tmp_path / "log"):
        page.goto(f"http://127.0.0.1:{port}", wait_until="domcontentloaded")
        shown = page.frame_locator("iframe").nth(0).locator(".ms-root")
        expect(shown).to_be_visible(timeout=PATIENCE)
        assert_folds(page, shown)
        for number, text in enumerate(["read from the module tree", "[2, 16, 40, 40]", "needs a running kernel"], 1):
            frame = page.locator("iframe").nth(number)
            inside = frame.content_frame.locator("html")
            expect(inside).to_contain_text(text, timeout=PATIENCE)
            assert_folds(page, inside.locator(".ms-root"))


#: How a host says which theme it is in: attributes of <html> and <body>, and the colour behind the output.
THEMES = {
    "vscode light": ("", "class=vscode-light style='--vscode-editor-foreground:#3b3b3b;background:#fff'"),
    "vscode dark": ("", "class=vscode-dark style='--vscode-editor-foreground:#ccc;background:#1f1f1f'"),
    "vscode high contrast": ("", "class='vscode-dark vscode-high-contrast' style='background:#000'"),
    "vscode widget": ("", "class=vscode-light style='--vscode-editor-foreground:#3b3b3b;background:white'"),
    "colab light": ("theme=light", "style='background:#fff;color:#212121'"),
    "colab dark": ("theme=dark", "style='background:#383838;color:#d5d5d5'"),
    "lab dark": (
        "",
        "data-jp-theme-light=false style='--jp-content-font-color1:#fff;--jp-layout-color0:#111;background:#111'",
    ),
    "solarized light": (
        "",
        "class=vscode-light "
        "style='--vscode-editor-foreground:#657b83;--vscode-editor-background:#fdf6e3;background:#fdf6e3'",
    ),
    "solarized dark": (
        "",
        "class=vscode-dark "
        "style='--vscode-editor-foreground:#839496;--vscode-editor-background:#002b36;background:#002b36'",
    ),
}


def show_in_theme(page: Page, theme: str, html: str) -> None:
    root, body = THEMES[theme]
    show_page(page, f"<!doctype html><html lang=en {root}><title>a notebook</title><body {body}><main>{html}</main>")


@pytest.mark.parametrize("theme", THEMES)
def test_in_the_themes_of_other_hosts_every_word_can_be_read(
    page: Page, theme: str, summary: ModelSummary, failed: ModelSummary, axe: Path
) -> None:
    """axe-core computes the contrast of each piece of text with what lies behind it."""
    for shown in (summary, failed):
        show_in_theme(page, theme, shown.to_html())
        assert find_violations(page, axe) == []
    show_in_theme(page, theme, summary.to_html())


#: The colour of an element's text as red, green and blue up to 255, however the browser writes it.
READ_COLOUR = """root => {
    const brush = document.createElement("canvas").getContext("2d");
    brush.fillStyle = getComputedStyle(root).color;
    brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def test_a_dark_theme_is_taken_from_the_host_and_not_from_the_system(
    new_page: Callable[..., Page], summary: ModelSummary
) -> None:
    """A light notebook on a dark desktop stays light."""
    page = new_page(color_scheme="dark")
    colours = []
    for theme in ("colab light", "colab dark"):
        show_in_theme(page, theme, summary.to_html())
        colours.append(page.locator(".ms-root").evaluate(READ_COLOUR))
    light, dark = map(sum, colours)
    assert light < 384 < dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_of_its_own_follows_the_system(
    new_page: Callable[..., Page], scheme: str, summary: ModelSummary, failed: ModelSummary, axe: Path
) -> None:
    page = new_page(color_scheme=scheme)
    for shown in (failed, summary):
        show_page(page, shown.to_html(standalone=True))
        assert find_violations(page, axe, "html") == []
    assert_folds(page, page.locator(".ms-root"))


def test_forced_colours_keep_it_readable(new_page: Callable[..., Page], summary: ModelSummary, axe: Path) -> None:
    page = new_page(forced_colors="active", reduced_motion="reduce")
    show_page(page, summary.to_html(standalone=True))
    assert find_violations(page, axe, "html") == []
    text = page.locator(":is(.ms-root, .ms-r > summary, .ms-r td:not(:empty), .ms-f, .ms-total summary)")
    colours = text.evaluate_all("all => all.map(one => getComputedStyle(one).color)")
    assert set(colours) == {page.evaluate("() => getComputedStyle(document.body).color")}, "rows are text, not links"
    bars = page.locator(".ms-root *").evaluate_all(
        """all => all.map(one => getComputedStyle(one)).filter(
            style => parseFloat(style.borderLeftWidth) > 4 && style.borderLeftColor !== "rgb(255, 255, 255)").length"""
    )
    assert bars == 0, "an invisible border that makes room is no longer invisible"
    moving = page.locator(".ms-root *").evaluate_all(
        "all => all.filter(one => getComputedStyle(one).transitionDuration !== '0s' "
        "|| getComputedStyle(one).animationName !== 'none').length"
    )
    assert moving == 0


def test_at_320_pixels_nothing_is_cut_off_and_the_page_does_not_scroll_sideways(
    new_page: Callable[..., Page], summary: ModelSummary, failed: ModelSummary, axe: Path
) -> None:
    page = new_page(viewport={"width": 320, "height": 640})
    long_fix = ModelSummary(Joined(), (1, 4, 15, 15))
    assert long_fix.error is not None
    assert "interpolate(self.upsampling_of_what_was_pooled(" in long_fix.error.fix
    for shown in (failed, summary, long_fix):
        show_page(page, shown.to_html(standalone=True))
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
        assert find_violations(page, axe, "html") == []


#: Texts of number cells that reach into the bar beside them.
UNDER_A_BAR = """bars => bars.filter(bar => {
    const range = document.createRange();
    range.selectNode(bar.parentElement.firstChild);
    return range.getBoundingClientRect().right > bar.getBoundingClientRect().left;
}).map(bar => bar.parentElement.textContent)"""


@pytest.mark.parametrize(
    "columns", [("params", "macs"), ("params", "macs", "activation", "peak"), ("formula", "params")]
)
def test_a_bar_stands_beside_its_number_or_is_left_out(new_page: Callable[..., Page], columns: tuple[str, ...]) -> None:
    page = new_page()
    known = ModelSummary(nn.Sequential(nn.Linear(5000, 5000), nn.ReLU()), (2, 5000))
    known.view = replace(known.view, columns=("input", "output", *columns))
    show_page(page, known.to_html(standalone=True))
    bars, seen = page.locator("td meter:visible"), 0
    for width in range(700, 1240, 40):
        page.set_viewport_size({"width": width, "height": 640})
        assert bars.evaluate_all(UNDER_A_BAR) == [], f"{width} pixels wide"
        seen += bars.count()
    assert seen


def test_long_names_stay_in_the_columns_of_the_totals(new_page: Callable[..., Page]) -> None:
    page, block = new_page(viewport={"width": 1200, "height": 640}), nn.Sequential()
    block.add_module("projection_of_the_widest_layer_of_the_whole_encoder", nn.Linear(8, 64))
    block.add_module("projection_of_another_layer_with_a_very_long_name", nn.Linear(64, 8))
    show_page(page, ModelSummary(nn.Sequential(block), (2, 8), memory="1GB").to_html(standalone=True))
    for width in (1200, 420):
        page.set_viewport_size({"width": width, "height": 640})
        wide = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
        assert page.locator(".ms-total").evaluate_all(wide) == []
    aligned = "all => [...new Set(all.map(one => getComputedStyle(one).textAlign))]"
    assert page.locator(".ms-total .ms-to").evaluate_all(aligned) == ["start"], "a name of two lines is no heading"


PIECES = "all => all.map(one => one.getClientRects().length)"


def test_a_size_that_has_no_room_goes_to_the_next_line_whole(
    new_page: Callable[..., Page], summary: ModelSummary
) -> None:
    page = new_page()
    show_page(page, summary.to_html(standalone=True))
    tallest = 0
    for width in range(320, 900, 20):
        page.set_viewport_size({"width": width, "height": 640})
        pieces = page.locator("td > bdi:visible, td > span > bdi:visible").evaluate_all(PIECES)
        rows = page.locator("td:nth-child(2):visible").evaluate_all("all => all.map(one => one.offsetHeight)")
        assert set(pieces) == {1}, f"one piece each, {width} pixels wide"
        tallest = max(tallest, *rows)
    assert tallest > 25, "and yet there was no room for two on a line"


#: How far apart the first lines of the cells of each row are, in pixels.
FIRST_LINES = """rows => rows.map(row => {
    const range = document.createRange();
    const tops = [...row.cells].filter(cell => cell.textContent.trim()).map(cell => {
        range.selectNodeContents(cell);
        return Math.min(...[...range.getClientRects()].filter(box => box.height).map(box => box.top));
    });
    return Math.max(...tops) - Math.min(...tops);
})"""


def test_a_size_that_is_longer_than_its_column_leaves_the_row_on_its_first_line(new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 840, "height": 640})
    net = nn.Sequential(nn.Conv3d(3, 16, 3, padding=1), nn.ReLU())
    show_page(page, ModelSummary(net, (2000, 3, 16384, 10240, 10240), memory="90TB").to_html(standalone=True))
    rows = page.locator(".ms-r tr:visible")
    assert max(rows.evaluate_all("rows => rows.map(row => row.offsetHeight)")) > 60, "two lines each way"
    assert max(rows.evaluate_all(FIRST_LINES)) <= 2
    arrows = page.locator("td > bdi:visible").evaluate_all("all => all.map(one => one.offsetHeight)")
    assert max(arrows) < 50, "no line has the arrow alone"


def test_a_name_beside_five_columns_is_not_broken_in_a_narrow_notebook(new_page: Callable[..., Page]) -> None:
    known = ModelSummary(nn.TransformerEncoderLayer(16, 2, 32), (5, 2, 16), memory="24GB")
    page = new_page(viewport={"width": 740, "height": 900})
    show_page(page, known.to_html(standalone=True))
    lines = "all => all.map(one => one.offsetHeight)"
    assert max(page.locator(".ms-r > summary th:visible").evaluate_all(lines)) < 30, "a line each"
    narrow = page.locator(".ms-cols td, .ms-cols th").evaluate_all("all => all.map(one => one.offsetLeft)")
    first = page.locator(".ms-r tr:visible").first.locator("td, th")
    assert first.evaluate_all("all => all.map(one => one.offsetLeft)") == narrow, "below their heads"


def test_with_everything_stripped_but_tables_the_rows_still_read_in_order(page: Page, summary: ModelSummary) -> None:
    """As GitHub and nbviewer's strictest readers show it."""
    tree = lxml.html.fromstring(summary.to_html())
    for element in list(tree.iter()):
        if element is tree or not isinstance(element.tag, str):
            continue
        if element.tag in {"style", "script", "svg"}:
            element.drop_tree()
        elif element.tag not in KEPT_BY_GITHUB:
            element.drop_tag()
        else:
            element.attrib.clear()
    page.set_content(lxml.html.tostring(tree, encoding="unicode"))
    step, body = page.locator("tr").all_inner_texts()[:10], page.locator("tr").all_inner_texts()[10:]
    assert [line.split()[0] for line in (step[0], step[-1])] == ["peak", "all"]  # the table of the training step
    rows = [line.split() for line in body]
    names = [words[0] for words in rows]
    assert names == ["layer", "Sequential", "0", "1", "0", "1"]
    assert "[2, 16, 72, 56]" in " ".join(rows[2])
    assert "padding=1 keeps the size" in page.locator("body").inner_text()


def test_two_summaries_on_one_page_fold_each_for_itself(page: Page, summary: ModelSummary) -> None:
    """No ids, no state that one output could take from another."""
    show_page(page, f"<!doctype html><main>{summary.to_html()}{summary.to_html()}</main>")
    first, second = page.locator(".ms-root").all()
    find_head(find_row(first, "1")).click()
    assert not is_open(find_row(first, "1"))
    assert is_open(find_row(second, "1"))
    assert page.locator("[id]").count() == 0
