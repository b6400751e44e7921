"""What importing the package and loading the extension cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Packages that take long to import, or that a script without a notebook does not need.
HEAVY = {"torch", "pandas", "ipywidgets", "jinja2", "numpy", "sympy", "IPython"}


def find_new_modules(code: str) -> set[str]:
    """Run code in a fresh Python; it prints the names of the modules of interest."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("line", ["import modelsummary_ipy", "import modelsummary_ipy; modelsummary_ipy.ForwardError"])
def test_importing_the_package_imports_nothing_heavy(line: str) -> None:
    assert find_new_modules(f"import sys; {line}; print(*({HEAVY!r} & set(sys.modules)))") == set()


def test_loading_the_extension_imports_nothing_heavy_but_the_shell_it_loads_into() -> None:
    code = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "modelsummary_ipy")
assert "summary" in shell.magics_manager.magics["line"]
print(*({HEAVY!r} & (set(sys.modules) - before)))
"""
    assert find_new_modules(code) == set()


def test_what_torch_sets_as_it_loads_its_compiler_is_taken_back() -> None:
    code = """
import os, warnings
import torch
from modelsummary_ipy import ModelSummary
before = dict(os.environ)
ModelSummary(torch.nn.Linear(4, 2), (3, 4)).to_html()
print(*(set(os.environ.items()) ^ set(before.items())))
"""
    assert find_new_modules(code) == set()
