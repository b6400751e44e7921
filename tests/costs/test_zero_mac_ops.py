"""Which operations count nothing, against torch's own list."""

from __future__ import annotations

import pytest
import torch

from modelsummary_ipy.costs import zero_mac_ops as zero_ops
from modelsummary_ipy.costs.mac_formulas import count_aten_op, find_formula
from modelsummary_ipy.costs.zero_mac_ops import is_zero_by_name
from modelsummary_ipy.records.trace import AtenOp


def aten_names() -> set[str]:
    every = torch._C._dispatch_get_all_op_names()
    names = {name[6:].partition(".")[0] for name in every if name.startswith("aten::")}
    return names | {name.rstrip("_") for name in names}


#: Operations among those that count nothing which some releases of torch lack.
NOT_IN_EVERY_TORCH = {
    *("_philox_key_fold_in", "_philox_key_split", "_philox_normal", "_philox_uniform", "_upsample_lanczos2d_aa"),
    *("_use_miopen_ctc_loss", "linalg__powsum", "miopen_ctc_loss", "_dyn_quant_pack_4bit_weight", "_fused_rms_norm"),
    "hash_tensor",
}


def test_every_name_that_counts_nothing_is_an_operation_of_torchs_and_has_no_formula() -> None:
    assert zero_ops._NAMES - aten_names() - NOT_IN_EVERY_TORCH == set()
    assert zero_ops._NAMES >= NOT_IN_EVERY_TORCH
    assert {name for name in zero_ops._NAMES if find_formula(f"aten.{name}.default") is not None} == set()


@pytest.mark.parametrize(
    ("op", "is_zero"),
    [
        ("aten.native_layer_norm.default", True),
        ("aten.native_layer_norm_backward.default", True),
        ("aten.embedding_dense_backward.default", True),
        ("aten._softmax_backward_data.default", True),
        ("aten.index_put_.default", True),
        ("aten._foreach_add_.List", True),
        ("aten._foreach_mm.default", False),
        ("aten.convolution.default", False),
        ("aten._fft_c2c.default", False),
        ("aten.linalg_inv_ex.default", False),
        ("mylib.softmax.default", False),
        ("_c10d_functional.all_reduce.default", True),
    ],
)
def test_a_name_tells_whether_an_operation_counts_nothing(op: str, is_zero: bool) -> None:
    assert is_zero_by_name(op) is is_zero


def test_ragged_sizes_are_unknown_not_negative() -> None:
    assert count_aten_op(AtenOp("aten.linear.default", ((2, -1, 4), (6, 4)), ((2, -1, 6),))) is None
