"""The sizes that the package keeps to: of its entries, its modules and its classes."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "modelsummary_ipy"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_the_package_has_at_most_sixteen_packages_and_modules() -> None:
    entries = [entry for entry in PACKAGE.iterdir() if (entry / "__init__.py").exists() or entry.suffix == ".py"]
    assert len([entry for entry in entries if entry.name != "__init__.py"]) <= 16


def test_no_module_has_more_than_five_hundred_lines() -> None:
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert len(sizes) > 200
    assert {name: size for name, size in sizes.items() if size > 500} == {}


def test_no_class_has_more_than_twenty_five_methods() -> None:
    classes = [
        node for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]  # fmt: skip
    counts = {node.name: sum(isinstance(item, ast.FunctionDef) for item in node.body) for node in classes}
    assert {name: count for name, count in counts.items() if count > 25} == {}
