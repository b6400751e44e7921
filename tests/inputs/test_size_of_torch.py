"""Sizes and dtypes that torch made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelsummary_ipy import InputError, Size
from modelsummary_ipy.inputs.size import is_flat, read_dtype


def test_a_size_of_torch_is_a_size() -> None:
    assert Size(torch.Size((8, 3))) == Size("8 3")
    assert all(type(number) is int for number in Size(torch.Size((8, 3))).shape)
    assert is_flat(torch.Size([2, 3])) and not is_flat((torch.zeros(1), 2))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.half, "float16"), (np.float32, "float32"), (np.dtype("int32"), "int32"), ("bf16", "bfloat16")],
)
def test_a_dtype_has_one_name_however_it_is_written(dtype: object, name: str) -> None:
    assert Size("1", dtype=dtype).dtype == name


def test_dtypes_are_read_from_torch_and_text() -> None:
    assert read_dtype(torch.int64) == read_dtype("int64") == read_dtype("torch.int64") == read_dtype("long") == "int64"
    assert Size((1,), dtype=torch.bfloat16).dtype == "bfloat16"
    with pytest.raises(InputError, match=r"dtype 'int46'; expected a dtype of torch such as .*int64"):
        read_dtype("int46")


def test_every_dtype_of_torch_is_read_by_each_of_its_names() -> None:
    for name, dtype in vars(torch).items():
        if isinstance(dtype, torch.dtype):
            assert read_dtype(name) == read_dtype(dtype) == str(dtype).removeprefix("torch.")
