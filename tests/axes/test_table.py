"""Every entry of the table against torch, over drawn calls.

Two dozen calls of each operation run with all other tests; ``AXES_CASES=1000`` runs as many.
"""

from __future__ import annotations

import math
import os

import pytest
import torch

import modelsummary_ipy.axes.table  # noqa: F401  # registers all entries
from modelsummary_ipy.axes import registry
from modelsummary_ipy.axes.table.products import CONTRACTIONS
from modelsummary_ipy.costs.mac_formulas import count_aten_op, find_formula
from modelsummary_ipy.records.trace import AtenOp
from tests.axes.calls import CALLS
from tests.axes.compare import compare

NUM_CALLS = int(os.environ.get("AXES_CASES", "24"))
NAMES = sorted(name.removeprefix("aten.") for name in registry._entries)

#: What the entries do not demand: sizes that are settings (one scale, one zero point), rows of a multiple of 16 bytes.
SETTINGS = {
    "_grouped_mm",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "fake_quantize_per_tensor_affine_cachemask",
}

#: Operations that 2.7 lacks, and what is drawn of the others.
LATER = {"_fused_rms_norm", "_grouped_mm"}
DRAWN = sorted(name for name in CALLS if name not in LATER or hasattr(torch.ops.aten, name))


def test_every_entry_is_of_an_operation_of_torch_that_is_drawn() -> None:
    assert [name for name in NAMES if name not in LATER and not hasattr(torch.ops.aten, name)] == []
    assert [name for name in NAMES if name not in CALLS] == []
    assert [name for name in CALLS if registry.find_entry(f"aten.{name}") is None] == []


@pytest.mark.parametrize("name", DRAWN)
def test_an_entry_agrees_with_torch(name: str) -> None:
    """Sizes of all results at numbers and at expressions, and calls that torch refuses."""
    found = compare(name, NUM_CALLS)
    assert found.wrong == []
    assert name in SETTINGS or found.taken == []
    assert found.ran >= NUM_CALLS // 4
    assert found.opaque <= found.ran // 2


@pytest.mark.parametrize("name", [name for name in CONTRACTIONS if find_formula(f"{name}.default")])
def test_the_letters_of_a_product_imply_its_multiply_adds(name: str) -> None:
    letters, arguments = CONTRACTIONS[name]
    lengths = {"b": 2, "i": 3, "j": 5, "k": 7}
    inputs, made = (
        [tuple(lengths[letter] for letter in part) for part in side.split(",")] for side in letters.split("->")
    )
    given = dict(zip(arguments.split(), inputs, strict=True))
    schema = getattr(torch.ops.aten, name.removeprefix("aten.")).default._schema
    sizes = tuple(given[argument.name] for argument in schema.arguments if argument.name in given)
    count = count_aten_op(AtenOp(f"{name}.default", sizes, tuple(made)))
    assert count == math.prod(lengths[letter] for letter in set(letters) - set(",->"))
