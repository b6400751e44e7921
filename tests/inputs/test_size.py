"""Sizes and their grammar."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsummary_ipy import InputError, Size
from modelsummary_ipy.inputs.size import is_flat

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
dtypes = st.sampled_from([None, "float32", "int64", "bfloat16", "bool", "complex64"])


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    numbers = draw(st.lists(st.integers(1, 1_000), max_size=6))  # 6 of 10,000 are more than torch can count
    dims = draw(st.lists(st.just("") | names, min_size=len(numbers), max_size=len(numbers)))
    dims = [name if dims.index(name) == place else "" for place, name in enumerate(dims)]
    return Size(numbers, dims, draw(dtypes))


@given(sizes())
def test_what_is_printed_is_read_back(size: Size) -> None:
    assert Size(str(size)) == size
    assert eval(repr(size)) == size
    assert Size(size.words, dtype=size.dtype) == size


@given(sizes())
def test_a_copy_is_equal(size: Size) -> None:
    assert copy.deepcopy(size) == size == pickle.loads(pickle.dumps(size))
    assert hash(copy.copy(size)) == hash(size)


@pytest.mark.parametrize(
    ("text", "shape", "dims", "dtype"),
    [
        ("B=8 3 H=224 W=224", (8, 3, 224, 224), ("B", "", "H", "W"), None),
        ("(B=8, 3, H=224, W=224)", (8, 3, 224, 224), ("B", "", "H", "W"), None),
        ("[1,128]:int64", (1, 128), ("", ""), "int64"),
        ("5", (5,), ("",), None),
        ("(5,)", (5,), ("",), None),
        ("T = 7 , 2", (7, 2), ("T", ""), None),
        ("()", (), (), None),
        ("B=2, S=256, S", (2, 256, 256), ("B", "S", "S"), None),
    ],
)
def test_text_is_read(text: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: str | None) -> None:
    size = Size(text)
    assert (size.shape, size.dims, size.dtype) == (shape, dims, dtype)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ("0 3", "0 in size '0 3'; expected sizes of at least 1"),
        ("B=-1 3", "-1 in size 'B=-1 3'; expected sizes of at least 1"),
        ("1 2.5", "'2.5' in size '1 2.5'; expected a number"),
        ("B C", "'B' in size 'B C'; expected a number"),
        ("1 $", "'$' in size '1 $'"),
        ("B=1 B=2", "dim B with the sizes 1 and 2; expected one size for one name"),
        ("", "an empty size; expected sizes such as 8 or B=8"),
        ("8x3", "'8x3' in size '8x3'; expected a number, or NAME=number"),
        ("8 3)", "'3)' in size '8 3)'; expected sizes such as 8 or B=8"),
        (None, "size None; expected positive integers"),
        (2.5, "2.5 in size (2.5,); expected positive integers"),
        ((2**40, 2**40), f"size {(2**40, 2**40)}; expected at most {2**63 - 1} elements in a tensor"),
        ((2**40, 2**20, 3), f"size {(2**40, 2**20, 3)}; expected at most {2**63 - 1} bytes in a tensor"),
        ((1, True), "True in size (1, True); expected positive integers"),
        ((1, 2.0), "2.0 in size (1, 2.0); expected positive integers"),
        ((1, -3), "-3 in size (1, -3); expected sizes of at least 1"),
    ],
)
def test_a_wrong_size_is_reported_with_an_example(size: object, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Size(size)  # type: ignore[arg-type]
    assert str(caught.value).startswith(says)
    assert "(1, 3, 224, 224)" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_as_many_names_as_sizes_are_wanted_and_identifiers() -> None:
    with pytest.raises(InputError, match="1 dim names for 2 sizes"):
        Size((1, 2), dims=("B",))
    with pytest.raises(InputError, match="dim name 'B b'"):
        Size((1,), dims=("B b",))


@pytest.mark.parametrize("given", [(8, 3), [8, 3], (np.int64(8), np.int32(3)), range(8, 2, -5)])
def test_ints_of_any_sequence_are_a_size(given: object) -> None:
    assert Size(given) == Size("8 3")  # type: ignore[arg-type]
    assert all(type(number) is int for number in Size(given).shape)  # type: ignore[arg-type]


def test_one_int_is_a_size() -> None:
    assert Size(8) == Size("(8,)")


def test_a_size_does_not_change() -> None:
    size = Size("B=2 3")
    with pytest.raises(AttributeError):
        size.shape = (1,)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del size.dims  # type: ignore[misc]
    assert size.with_shape((4, 5)) == Size("B=4 5")
    assert size.with_shape((4,)) == Size("4")
    assert size.with_dtype("int64") == Size("B=2 3", dtype="int64")
    assert size == Size("B=2 3")


def test_numbers_in_a_row_are_one_size() -> None:
    assert is_flat((1, 3)) and is_flat([1]) and is_flat((1, 2.5))
    assert not is_flat(()) and not is_flat("12") and not is_flat(((1,), 2)) and not is_flat((object(), 2))
