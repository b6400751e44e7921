"""The table of ``%summary`` as it comes in JupyterLab: a first one, and the whole in its place."""

from __future__ import annotations

import json

from playwright.sync_api import Page, expect

from tests.browser.hosts import PATIENCE, Notebook, Server, find_head, find_row, is_open, wait_for_script
from tests.browser.test_form import SCROLL

CELLS = [
    "%load_ext modelsummary_ipy\n%config SummaryMagics.formula_seconds = 1000",
    """
import time
from pathlib import Path
from torch import nn
from modelsummary_ipy.notebook import first_table
from modelsummary_ipy.pipeline import findings, progress_line

first_table._PATIENCE_SECONDS = 0
progress_line._PATIENCE_SECONDS = 0

def find_formulas(*args, _find=findings.find_formulas, **keywords):
    while not Path("go").exists():
        time.sleep(0.05)
    return _find(*args, **keywords)

findings.find_formulas = find_formulas
net = nn.Sequential(nn.Sequential(nn.Linear(1, 2), nn.ReLU()), *(nn.Linear(size, size + 1) for size in range(2, 41)))
""",
    "%summary net (B=2, 1)",
]


def test_the_whole_table_takes_the_place_of_the_first_as_its_reader_left_it(page: Page, server: Server) -> None:
    page.set_viewport_size({"width": 1280, "height": 700})
    name = server.write("first.ipynb", CELLS)
    notebook = Notebook.open(page, server, name)
    notebook.run_all()
    shown = notebook.wait_for_summary()
    expect(shown.get_by_role("toolbar")).to_be_visible()
    expect(shown).not_to_contain_text("works for")
    goes_on = page.get_by_text("formulas and sizes that work…")
    expect(goes_on).to_be_visible()
    was_open = is_open(find_row(shown, "0"))
    find_head(find_row(shown, "0")).click()
    find_head(find_row(shown, "3")).click()
    expect(find_row(shown, "3").locator(".ms-d")).to_be_visible()
    shown.locator(".ms-body").evaluate(SCROLL, 120)

    (server.root / "go").touch()
    expect(shown).to_contain_text("works for", timeout=PATIENCE)
    wait_for_script(shown)
    expect(notebook.summaries).to_have_count(1)
    expect(goes_on).to_have_count(0)
    expect(shown.locator(".ms-body")).to_have_js_property("scrollTop", 120)
    assert is_open(find_row(shown, "0")) != was_open
    expect(find_row(shown, "3").locator(".ms-d")).to_be_visible()

    notebook.save()
    outputs = json.loads((server.root / name).read_text())["cells"][-1]["outputs"]
    assert [output["output_type"] for output in outputs] == ["display_data"]
    saved = "".join(outputs[0]["data"]["text/html"])
    assert "works for" in saved
    assert "msShown = " not in saved, "what kept it is not saved"
