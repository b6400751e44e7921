"""The names that users import, and what importing them costs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import modelsummary_ipy

PUBLIC = [
    "AtenOp",
    "BackwardOp",
    "Cache",
    "Change",
    "CheckError",
    "Comparison",
    "Context",
    "Cost",
    "Dim",
    "Fix",
    "Flag",
    "ForwardError",
    "Held",
    "InputError",
    "Lever",
    "Memory",
    "ModelSummary",
    "ModelSummaryError",
    "Moment",
    "Picture",
    "Plan",
    "Point",
    "Row",
    "Run",
    "Series",
    "Size",
    "StorageLife",
    "SummaryForm",
    "TensorSpec",
    "Training",
    "View",
    "load_ipython_extension",
    "register_mult_adds",
    "register_op",
    "unload_ipython_extension",
]


def test_the_public_names_are_these_and_sorted() -> None:
    assert modelsummary_ipy.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_documented_and_listed(name: str) -> None:
    value = getattr(modelsummary_ipy, name)
    assert inspect.getdoc(value)
    assert name in dir(modelsummary_ipy)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_found_where_it_is_written(name: str) -> None:
    """What users see in a traceback is where the thing is written."""
    value = getattr(modelsummary_ipy, name)
    home = value.__module__
    assert home.startswith("modelsummary_ipy")
    assert getattr(sys.modules[home], name) is value


def test_no_page_shows_a_path_inside_the_package() -> None:
    """What a page shows is typed: inside, files may move."""
    root = Path(__file__).parent.parent
    pages = [root / "README.md", root / "CHANGELOG.md", *(root / "notebooks").glob("*.ipynb")]
    pages += [page for page in (root / "docs").rglob("*.md") if page.parent.name != "design"]
    found = {
        (page.name, name)
        for page in pages
        for name in re.findall(r"\bmodelsummary_ipy\.(\w+)", page.read_text(encoding="utf-8"))
        if name not in (*PUBLIC, "marimo")  # a module to import where marimo is
    }
    assert found == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'modelsummary_ipy' has no attribute 'Summary'"):
        modelsummary_ipy.Summary


def test_a_star_import_gives_the_public_names_alone() -> None:
    names: dict[str, object] = {}
    exec("from modelsummary_ipy import *", names)
    assert sorted(name for name in names if not name.startswith("__")) == PUBLIC


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("modelsummary_ipy")
    except PackageNotFoundError:
        pytest.fail("install the package to test it: pip install -e .[test]")
    assert modelsummary_ipy.__version__ == installed


@pytest.mark.parametrize(("name", "needs_torch"), [("ModelSummary", True), ("Size", False)])
def test_names_that_need_torch_bring_torch_and_no_more(name: str, needs_torch: bool) -> None:
    code = f"import sys, modelsummary_ipy; modelsummary_ipy.{name}; print('torch' in sys.modules)"
    code += "; print(*sorted({'pandas', 'ipywidgets', 'jinja2', 'IPython'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(needs_torch)]
