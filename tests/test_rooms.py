"""Who may import whom: the table of the design, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import modelsummary_ipy

PACKAGE = Path(modelsummary_ipy.__file__).parent

#: Packages that cost a second or more to import, or that a script without a notebook does without.
HEAVY = {"torch", "pandas", "ipywidgets", "jinja2", "numpy", "sympy", "IPython"}

#: Room → the rooms it may import. A room may only use what stands above it, so the table can't hold a circle.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "quick": set(),
    "facts": {"quick"},
    # what the user gave
    "sizes": {"errors"},
    "structure": {"sizes"},
    "arguments": {"errors"},
    "inputs": {"arguments", "errors", "facts", "sizes", "structure"},
    # the shadow, and the parts it is made of
    "leaves": {"facts"},
    "reads": set(),
    "looks": {"leaves"},
    "others": set(),
    "reprs": {"others"},
    "kinds": {"looks", "reprs"},
    "modules": {"facts", "kinds", "looks", "reads", "reprs"},
    "source": {"facts"},
    "clone": {"kinds", "looks"},
    "memo": set(),
    "namespaces": {"leaves", "others"},
    "interrupts": set(),
    "isolation": {"interrupts", "namespaces"},
    "smaller": set(),
    "fakes": {"clone", "looks", "memo", "smaller"},
    "late": {"kinds"},
    "layers": {"kinds", "late"},
    "shadow": {"clone", "facts", "fakes", "isolation", "kinds", "layers", "looks", "modules"},
    # the pass
    "calls": set(),
    "ops": set(),
    "fake_rules": {"fakes"},
    "repeats": {"facts", "fakes", "kinds", "leaves", "looks", "memo"},
    "mult_adds": {"errors", "facts"},
    "zero_ops": set(),
    "kernels": {"facts", "fakes", "leaves", "mult_adds", "zero_ops"},
    "tracer": {
        "calls", "errors", "facts", "inputs", "interrupts", "isolation", "kernels", "layers", "leaves", "modules",
        "ops", "fake_rules", "repeats", "shadow", "source",
    },
    "prepare": {"clone", "facts", "inputs", "leaves", "shadow", "tracer"},
    "checks": {"facts"},
    "infer": {"facts", "inputs", "sizes"},
    "engines": {
        "arguments", "checks", "errors", "facts", "fakes", "infer", "inputs", "interrupts", "isolation", "kernels",
        "leaves", "prepare", "shadow", "source", "tracer",
    },
    "watch": {"calls", "clone", "inputs", "leaves"},
    # what is made of it
    "costs": {"facts", "mult_adds"},
    "memory": {"costs", "errors", "facts"},
    "names": {"facts"},
    "algebra": set(),
    "notation": {"algebra"},
    "align": {"facts"},
    "fit": {"algebra"},
    "strides": {"algebra", "facts"},
    "probes": {"checks", "facts", "fakes", "inputs", "isolation", "leaves", "names", "prepare", "shadow", "tracer"},
    "points": {"facts", "names", "probes"},
    "formulas": {
        "algebra", "align", "engines", "facts", "fit", "inputs", "names", "notation", "points", "probes", "shadow",
        "strides", "tracer",
    },
    "constraints": {"notation", "engines", "facts", "formulas", "points", "probes"},
    "attempts": {"checks", "errors", "facts", "inputs", "isolation", "prepare", "shadow", "tracer"},
    "rows": {"facts"},
    "rules": {"facts"},
    "declarations": {"errors", "rules"},
    "failure": {"errors", "facts"},
    "diff": {"facts", "names", "notation"},
    # what is shown
    "annotate": {"facts"},
    "series": set(),
    "outline": {"facts"},
    "render": {"annotate", "facts", "outline"},
    "comparison": {"diff", "facts", "render"},
    # where the stages meet
    "summary": set(),  # everything above: filled in below
    # how people reach it
    "worker": set(),
    "settings": {"errors", "facts", "inputs"},
    "fields": {"errors", "facts", "inputs", "memory", "settings"},
    "page": set(),
    "reports": {"comparison", "inputs", "render", "settings", "summary"},
    "form": {
        "engines", "errors", "fields", "inputs", "page", "render", "reports", "settings", "summary", "tracer", "worker",
    },
    "command": {"errors", "sizes"},
    "target": {"arguments", "command", "errors"},
    "options": {"command", "errors"},
    "completion": set(),
    "cells": {"source"},
    "autoshow": {"inputs", "summary", "watch"},
    "magics": {
        "autoshow", "cells", "command", "completion", "errors", "facts", "inputs", "options", "summary", "target",
        "watch",
    },
}  # fmt: skip
ROOMS["summary"] = set(list(ROOMS)[: list(ROOMS).index("summary")])

#: The one import against the arrow: ``ms.form()`` opens the form, which is imported when it is asked for.
UPWARD = {"summary": {"form", "settings"}}

#: Rooms whose work is with tensors and modules. The others know numbers and words only, and are tested without torch.
WITH_TORCH = {
    "arguments", "attempts", "autoshow", "calls", "checks", "clone", "costs", "engines", "fakes", "fields",
    "formulas", "infer", "inputs", "isolation", "kernels", "kinds", "layers", "leaves", "looks", "memo", "memory",
    "modules", "namespaces",
    "ops", "fake_rules", "prepare", "probes", "repeats", "reprs", "shadow", "sizes", "smaller",
    "structure", "summary", "target", "tracer",
    "watch", "worker",
}  # fmt: skip

#: Room, or one file of it → other packages beyond the standard library that it may import.
PACKAGES: dict[str, set[str]] = {
    "clone": {"numpy"},
    "isolation": {"numpy"},
    "render/frame": {"pandas"},
    "render/html": {"jinja2", "markupsafe"},
    "render/parts": {"markupsafe"},
    "summary": {"IPython", "pandas"},
    "fields": {"ipywidgets"},
    "form": {"IPython", "ipywidgets"},
    "magics": {"IPython", "traitlets"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_file(file: Path) -> str:
    """``modelsummary_ipy/render/html.py`` is ``render/html``, ``rules/__init__.py`` is ``rules``."""
    return file.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")


def find_imports(text: str, package: tuple[str, ...]) -> set[str]:
    """Every import of a module's text, also those inside functions, as the dotted name it asks for in full."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            # `from modelsummary_ipy import rows` asks for a room, `from modelsummary_ipy.rows import Row` for its names
            found |= {f"{base}.{alias.name}" for alias in node.names} if base == "modelsummary_ipy" else {base}
    return found


def read_imports(file: Path) -> set[str]:
    package = ("modelsummary_ipy", *file.relative_to(PACKAGE).parts[:-1])
    return find_imports(file.read_text(encoding="utf-8"), package)


def find_rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("modelsummary_ipy.")}


def find_packages(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {"modelsummary_ipy"} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "summary"])
def test_a_room_may_use_only_rooms_above_it_in_the_table(room: str) -> None:
    above = list(ROOMS)[: list(ROOMS).index(room)]
    assert ROOMS[room] <= set(above)


@pytest.mark.parametrize("file", FILES, ids=name_file)
def test_a_room_imports_the_rooms_of_its_line_and_no_others(file: Path) -> None:
    room = name_file(file).split("/")[0]
    if room == "__init__":
        assert find_rooms(read_imports(file)) <= {
            "errors",
            "facts",
            "form",
            "inputs",
            "magics",
            "mult_adds",
            "sizes",
            "summary",
            "watch",
        }
    else:
        assert room in ROOMS, f"{room} is a new room: give it a line in the table, and in docs/design"
        assert find_rooms(read_imports(file)) - {room} - UPWARD.get(room, set()) <= ROOMS[room]


@pytest.mark.parametrize("file", FILES, ids=name_file)
def test_a_room_imports_the_packages_of_its_line_and_no_others(file: Path) -> None:
    name = name_file(file)
    torch = {"torch"} if name.split("/")[0] in WITH_TORCH else set()
    assert find_packages(read_imports(file)) <= PACKAGES.get(name, set()) | torch


def test_the_table_names_no_room_that_is_not_there() -> None:
    rooms = {name_file(file).split("/")[0] for file in FILES}
    assert set(ROOMS) <= rooms


def test_imports_are_seen_wherever_and_however_they_are_written() -> None:
    """The tests above would be worth little if they read only the top of a file."""
    text = """
import torch.nn
def f():
    from modelsummary_ipy.tracer import trace
    from ..shadow import Shadow
    from .. import rows
    from . import words
    from .parts import Line
"""
    names = find_imports(text, ("modelsummary_ipy", "render"))
    assert find_packages(names) == {"torch"}
    assert find_rooms(names) == {"tracer", "shadow", "rows", "render"}


@pytest.mark.parametrize("line", ["import modelsummary_ipy", "import modelsummary_ipy; modelsummary_ipy.ForwardError"])
def test_importing_the_package_imports_nothing_heavy(line: str) -> None:
    code = f"import sys; {line}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_loading_the_extension_imports_nothing_heavy_but_the_shell_it_loads_into() -> None:
    code = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "modelsummary_ipy")
assert "summary" in shell.magics_manager.magics["line"]
print(*sorted({HEAVY!r} & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
