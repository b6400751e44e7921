"""The documentation builds without a warning, and what its pages show is what happens."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from torch import Tensor, nn
from traitlets.config import Config

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.diagnosis import rules as rules
from modelsummary_ipy.notebook.form.form import SummaryForm

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def find_blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and text, in order."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    done = subprocess.run(
        [*command, "--doctree-dir", tmp_path / "trees", DOCS, tmp_path / "html"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--engine" in (tmp_path / "html" / "magic.html").read_text(encoding="utf-8")
    assert "to_frame" in (tmp_path / "html" / "python.html").read_text(encoding="utf-8")


def test_every_rule_has_a_page_under_its_id_and_every_page_a_rule() -> None:
    pages = {page.stem for page in (DOCS / "rules").glob("*.md")} - {"index"}
    assert pages == set(rules.RULES)


def test_every_file_that_a_page_links_to_is_there() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"(?:src|srcset)=\"([^\":]+)\"", text)
        links += re.findall(r"\{image\} (\S+)", text)
        for link in links:
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize(
    ("page", "examples"), [("README.md", 2), ("docs/failures.md", 2), ("docs/formulas.md", 3), ("docs/costs.md", 4)]
)
def test_the_python_of_a_page_prints_what_the_page_says(page: str, examples: int) -> None:
    names: dict[str, Any] = {}
    compared = 0
    for (language, code), (following, text) in itertools.pairwise(find_blocks(ROOT / page)):
        if (language, following) == ("python", "text"):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, names)
            # torch 2.15 says which product it is that can't be made
            assert printed.getvalue().replace("Error: addmm: mat1", "Error: mat1") == text
            compared += 1
    assert compared == examples


class Classifier(nn.Module):
    """Takes an image, or ids and a flag: whatever the pages pass to `model`."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 4, 3)
        self.words = nn.Embedding(50, 4)

    def forward(self, x: Tensor | None = None, ids: Tensor | None = None, use_cache: bool = True) -> Tensor:
        return self.image(x).mean((2, 3)) if ids is None else self.words(ids).mean(1)


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 2)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(16, 4), nn.Linear(32, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a) + self.right(b)


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.run_line_magic("load_ext", "modelsummary_ipy")
    yield shell
    shell.run_line_magic("unload_ext", "modelsummary_ipy")
    InteractiveShell.clear_instance()


def find_lines() -> list[str]:
    """Every line of the pages that summarises something, but for those that show a grammar."""
    lines = []
    for page in (ROOT / "README.md", DOCS / "start.md", DOCS / "index.md"):
        text = page.read_text(encoding="utf-8")
        lines += [line for language, code in find_blocks(page) if language == "ipython" for line in code.splitlines()]
        lines += re.findall(r"^\| `(%summary [^`]+)`", text, re.MULTILINE)
    # a cell, a form and the call that failed last are tried in test_magics
    others = re.compile(r"%%summary|%summary\s*(#|$)|%summary -i")
    return sorted({line.strip() for line in lines if "%summary" in line and not others.match(line.strip())})


@pytest.mark.parametrize("line", find_lines())
def test_a_line_of_the_pages_gives_a_summary(shell: InteractiveShell, line: str) -> None:
    tokens = torch.zeros(1, 8, dtype=torch.long)
    shell.user_ns |= {
        "nn": nn,
        "torch": torch,
        "model": TwoInputs() if "(1, 16)" in line else Classifier(),
        "batch": {"ids": tokens} if "**" in line else torch.zeros(2, 3, 8, 8),
        "x": torch.zeros(2, 4) if "vae" in line else torch.zeros(2, 3, 8, 8),
        "vae": Autoencoder(),
        "B": 2, "H": 16, "W": 16,
        "nets": {"a": Classifier()}, "trainer": SimpleNamespace(model=Classifier()),
    }  # fmt: skip
    if "256, 256" in line:
        shell.user_ns["model"] = nn.Sequential(nn.Conv2d(1, 16, 3, padding=5), nn.Conv2d(16, 32, 3))
    bare = line.split("#")[0].split() == ["%summary"]
    with capture_output() as shown:
        if bare:
            shell.run_cell("model(torch.zeros(2, 1, 8, 8))")
        ran = shell.run_cell(f"{line}\ny = model(x)" if line.startswith("%%") else line)
    ran.raise_error()
    summary = shell.user_ns["ms"] if line.startswith("ms =") else ran.result
    if " -i " in line:
        assert isinstance(summary, SummaryForm)
        summary = summary.summary
    if line.startswith("%%"):
        (summary,) = summary
    assert isinstance(summary, ModelSummary), shown.stderr
    fails = bare or "(1, 3, 256, 256)" in line
    assert (summary.error is not None) == fails
    if not fails:
        assert summary[""].outputs
