"""Every entry of the table against torch, over drawn calls.

Two dozen calls of each operation run with all other tests; ``FUZZ_CASES=1000`` runs as many.
"""

from __future__ import annotations

import os

import pytest
import torch

import modelsummary_ipy.axes.table  # noqa: F401  # registers all entries
from modelsummary_ipy.axes import registry
from tests.axes.calls import CALLS
from tests.axes.compare import compare

NUM_CALLS = int(os.environ.get("FUZZ_CASES", "24"))
NAMES = sorted(name.removeprefix("aten.") for name in registry._entries)

#: What the entries do not demand: sizes that are settings (one scale, one zero point).
SETTINGS = {
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "fake_quantize_per_tensor_affine_cachemask",
}


def test_every_entry_is_of_an_operation_of_torch_that_is_drawn() -> None:
    assert [name for name in NAMES if not hasattr(torch.ops.aten, name)] == []
    assert [name for name in NAMES if name not in CALLS] == []
    assert [name for name in CALLS if registry.find_entry(f"aten.{name}") is None] == []


@pytest.mark.parametrize("name", sorted(CALLS))
def test_an_entry_agrees_with_torch(name: str) -> None:
    """Sizes of all results at numbers and at expressions, and calls that torch refuses."""
    found = compare(name, NUM_CALLS)
    assert found.wrong == []
    assert name in SETTINGS or found.taken == []
    assert found.ran >= NUM_CALLS // 4
    assert found.opaque <= found.ran // 2
