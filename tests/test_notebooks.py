"""Every notebook, executed from top to bottom in a real kernel, and what its cells show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import lxml.html
import pytest

if TYPE_CHECKING:
    import nbformat

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


def execute(name: str, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook as `make demo` does; what it printed is in the failure if it fails."""
    done = subprocess.run(
        [sys.executable, NOTEBOOKS / "run.py", NOTEBOOKS / name, folder], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(folder / name) in done.stdout
    return read(folder / name)


def read(path: Path) -> nbformat.NotebookNode:
    import nbformat  # 1.5 s, for its checker of schemas: not while tests are collected

    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def quickstart(folder: Path) -> nbformat.NotebookNode:
    return execute("quickstart.ipynb", folder)


def find_cell(notebook: nbformat.NotebookNode, start: str) -> nbformat.NotebookNode:
    return next(cell for cell in notebook.cells if cell.cell_type == "code" and start in cell.source)


def read_output(notebook: nbformat.NotebookNode, start: str, mime: str = "text/plain") -> str:
    """What the first cell with ``start`` in it shows; it must show one thing, not two.

    A line of progress, which only a summary of over a second has, is empty when it is over.
    """
    shown = [out for out in find_cell(notebook, start).outputs if any(out.get("data", {}).values())]
    assert len(shown) == 1
    return str(shown[0]["data"][mime])


def test_no_cell_of_the_quickstart_fails_or_writes_to_stderr(quickstart: nbformat.NotebookNode) -> None:
    for cell in quickstart.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text


def test_the_two_convolutions_show_the_flag_in_html_and_in_text(quickstart: nbformat.NotebookNode) -> None:
    for mime in ("text/html", "text/plain", "text/markdown"):
        shown = read_output(quickstart, "ms = %summary model", mime)
        assert "padding=1 keeps the size" in shown
        assert shown.count("264") > 1


def test_the_data_frame_is_the_seeds(quickstart: nbformat.NotebookNode) -> None:
    assert read_output(quickstart, "ms.summary").splitlines() == [
        "    Name    Type               InSz              OutSz  Params",
        "0  conv0  Conv2d   [1, 1, 256, 256]  [1, 16, 264, 264]     160",
        "1  conv1  Conv2d  [1, 16, 264, 264]  [1, 32, 262, 262]    4640",
    ]


def test_the_totals_are_those_of_the_models(quickstart: nbformat.NotebookNode) -> None:
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

    resnet = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    bert = BertModel(BertConfig())
    for model, start in ((resnet, "resnet_summary = %summary"), (bert, "%summary bert(**batch)")):
        total = sum(parameter.numel() for parameter in model.parameters())
        assert f"{total:,}" in read_output(quickstart, start)
        assert f"{total:,}" in read_output(quickstart, start, "text/html")


def test_a_call_is_traced_with_the_sizes_that_it_was_given(quickstart: nbformat.NotebookNode) -> None:
    assert "[8, 128, 768]" in read_output(quickstart, "%summary bert(**batch)")


def test_a_model_that_does_not_fit_together_shows_what_ran_and_what_failed(quickstart: nbformat.NotebookNode) -> None:
    shown = read_output(quickstart, "failed = %summary classifier")
    assert "[32, 64, 7, 7]" in shown
    assert "3136" in shown
    assert "failed" in shown


def test_with_auto_on_a_model_shows_its_table_with_the_size_it_last_had(quickstart: nbformat.NotebookNode) -> None:
    (cell,) = (cell for cell in quickstart.cells if cell.source == "model")
    (output,) = cell.outputs
    assert "[1, 32, 70, 70]" in lxml.html.fromstring(output["data"]["text/html"]).text_content()


def test_the_standalone_page_is_a_whole_page(quickstart: nbformat.NotebookNode, folder: Path) -> None:
    page = (folder / "resnet.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")


@pytest.fixture(scope="module")
def memory(folder: Path) -> nbformat.NotebookNode:
    return execute("memory.ipynb", folder)


def test_the_way_from_an_out_of_memory_error_ends_with_a_plan_that_fits(memory: nbformat.NotebookNode) -> None:
    for cell in memory.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text
    for mime in ("text/html", "text/plain"):
        assert "does not fit 400 MB: needs " in read_output(memory, "ms = %summary model", mime)
        assert "fits 400 MB with" in read_output(memory, "plan = ms.plan()", mime)
    assert find_cell(memory, "exec(plan.patch").outputs[-1].text == "True True\n"
    assert find_cell(memory, "torch.allclose").outputs[-1].text == "True\n"
    assert "even fully checkpointed it needs" in read_output(memory, 'ms.plan(memory="60MB")')
