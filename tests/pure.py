"""The tests that need no torch: ``python -m tests.pure`` runs them where importing torch is an error.

What they hold is decided on records made by hand: the rules, the explanations of failures, the renderers, the outline,
the algebra of shapes and the grammar of sizes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

PURE = (
    *(f"tests/diagnosis/test_{name}.py" for name in ("explain", "memory_patches", "rules_by_hand", "rules_pages")),
    *(f"tests/display/test_render_{name}.py" for name in ("frame", "html", "markdown", "plan", "text")),
    *(f"tests/display/test_{name}.py" for name in ("outline", "page_escapes", "page_packed", "step_picture")),
    *("tests/inputs/test_size.py", "tests/records", "tests/axes/test_expr.py", "tests/shapes/test_size_search.py"),
)


class TorchBlocker(MetaPathFinder):
    """Refuse to import torch."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torch":
            raise ImportError("a test on the list of tests/pure.py imports torch")
        return None


if __name__ == "__main__":
    sys.meta_path.insert(0, TorchBlocker())
    sys.exit(pytest.main([*PURE, *sys.argv[1:]]))
