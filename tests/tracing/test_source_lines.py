"""Whose code a line is."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from modelsummary_ipy.tracing.source_lines import _users


@pytest.mark.parametrize("package", ["einops", "opt_einsum"])
def test_a_package_that_checks_tensors_for_a_line_is_not_the_users(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType(package)
    module.__file__ = str(tmp_path / package / "__init__.py")
    monkeypatch.setitem(sys.modules, package, module)
    assert not _users(str(tmp_path / package / "contract.py"))
    assert _users(str(tmp_path / "net.py"))
