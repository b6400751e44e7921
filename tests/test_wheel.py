"""The wheel as a user gets it: built, installed into an empty environment, and tried from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "modelsummary_ipy"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment with nothing in it but the wheel.

    What the wheel depends on is not installed a second time (torch alone is a gigabyte): those packages are lent from
    the environment of the tests, by a path that does not hold this package's own.
    """
    home = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    lent = site / "lent"
    lent.mkdir()
    for path in map(Path, {os.path.realpath(p) for p in sys.path if p.endswith("site-packages")}):
        for entry in path.iterdir():
            if "modelsummary" not in entry.name and entry.suffix != ".pth" and not (lent / entry.name).exists():
                (lent / entry.name).symlink_to(entry)
    (site / "lent.pth").write_text("lent\n")
    return python


#: One process answers for all tests: it imports torch, which takes longest.
CODE = """
import json, modelsummary_ipy
from importlib.metadata import version
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from modelsummary_ipy import ModelSummary
said = {"file": modelsummary_ipy.__file__, "version": version("modelsummary_ipy")}
ms = ModelSummary(nn.Sequential(nn.Conv2d(1, 16, 3, padding=5)), (1, 1, 8, 8))
said["page"] = ms.to_html(standalone=True, packed=False)
said["packed"] = ms.to_html(standalone=True)
said["params"] = ms.summary["Params"].tolist()
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "modelsummary_ipy")
shell.run_cell("from torch import nn; model = nn.Linear(4, 2)")
shell.run_cell("ms = %summary model (3, 4)").raise_error()
said["magic"] = shell.user_ns["ms"][""].outputs[0].shape
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the installed package says, run from a folder where no checkout can be imported by accident."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    folder = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run([python, "-c", CODE], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    """Against what git keeps, so that a template forgotten in the build configuration is seen."""
    listed = subprocess.run(["git", "ls-files", "modelsummary_ipy"], cwd=ROOT, capture_output=True, text=True)
    kept = set(listed.stdout.split()) or {
        str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("modelsummary_ipy/")}
    assert kept <= packed
    assert "modelsummary_ipy/py.typed" in packed
    assert {".css", ".js"} <= {Path(name).suffix for name in packed}
    assert not any("test" in name or "__pycache__" in name for name in packed)


def test_the_wheel_asks_for_five_packages_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.split(">")[0].strip() for line in required) == [
        "ipython", "ipywidgets", "jinja2", "pandas", "torch",
    ]  # fmt: skip
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra", [])) == {"test", "dev", "docs", "bench"}


def test_the_installed_package_is_the_wheels_and_not_the_checkout(
    wheel: Path, python: Path, said: dict[str, Any]
) -> None:
    assert Path(said["file"]).is_relative_to(python.parent.parent)
    assert said["version"] in wheel.name


def test_templates_styles_and_script_work_from_there(said: dict[str, Any]) -> None:
    assert [part for part in ("<style", "<script", ".ms-", "<details") if part not in said["page"]] == []
    assert "data-page=" in said["packed"]
    assert said["params"] == [160]


def test_the_magic_works_from_there(said: dict[str, Any]) -> None:
    assert said["magic"] == [3, 2]
