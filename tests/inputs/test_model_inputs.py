"""What the user gave, read as the arguments of one call."""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modelsummary_ipy import Size
from modelsummary_ipy.inputs.model_inputs import ModelInputs, set_dtypes
from modelsummary_ipy.inputs.reading import read_inputs
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves

X = torch.ones(2, 3)
Pair = collections.namedtuple("Pair", "left right")


class Net(nn.Module):
    def forward(self, x, mask=None, *, k=1):
        return x

    def encode(self, x):
        return x


class Batched(nn.Module):
    def forward(self, batch, **options):
        return batch


class Options(nn.Module):
    def forward(self, ids=None, **options):
        return ids


@dataclasses.dataclass
class Sample:
    image: Any
    label: int = 3


def read(given: Any, model: nn.Module | None = None, **options: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    found = read_inputs(Net() if model is None else model, given, **options)
    return found.args, found.kwargs


def refuse(*args: Any, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        read_inputs(*args, **options)
    assert "\n" not in str(caught.value)
    return caught.value


# -- what is a size, what is data, what is an argument ----------------------------------------------------------------


@pytest.mark.parametrize("given", [(1, 3, 8, 8), [1, 3, 8, 8], torch.Size((1, 3, 8, 8)), Size("1 3 8 8")])
def test_ints_in_a_row_are_one_size(given: Any) -> None:
    assert read(given) == ((Size("1 3 8 8"),), {})


def test_a_list_or_tuple_of_other_things_is_the_positional_arguments() -> None:
    assert read([(1, 3), (1, 4)]) == ((Size("1 3"), Size("1 4")), {})
    assert read(((1, 3), None)) == ((Size("1 3"), None), {})
    args, kwargs = read((X, (2, 3)))
    assert args[0] is X and args[1] == Size("2 3") and not kwargs


def test_a_dict_of_parameters_is_the_keywords() -> None:
    assert read({"x": (1, 3), "k": 3}) == ((), {"x": Size("1 3"), "k": 3})


def test_a_dict_of_none_of_the_parameters_is_the_one_argument() -> None:
    assert read({"image": (1, 3), "text": (1, 7)}) == (({"image": Size("1 3"), "text": Size("1 7")},), {})
    assert read({0: (1, 3)}) == (({0: Size("1 3")},), {})


def test_a_dict_of_some_of_the_parameters_names_the_unknown_keys() -> None:
    error = refuse(Net(), {"x": (1, 3), "msk": (1, 4)})
    assert error.received == "the keys 'x', 'msk': no parameter 'msk' (did you mean 'mask'?)"
    assert error.expected == "parameters of forward: x, mask, k"


def test_a_dict_for_a_forward_with_keywords_of_any_name_is_the_keywords() -> None:
    assert read({"ids": (1, 3), "extra": 1}, Options()) == ((), {"ids": Size("1 3"), "extra": 1})
    assert read({"extra": 1}, Options()) == ((), {"extra": 1})
    assert read({"batch": (1, 3), "extra": 1}, Batched()) == ((), {"batch": Size("1 3"), "extra": 1})


def test_a_dict_whose_keywords_would_leave_the_batch_missing_is_the_batch() -> None:
    assert read({"image": (1, 3)}, Batched()) == (({"image": Size("1 3")},), {})


def test_sizes_stand_anywhere_in_lists_tuples_and_dicts() -> None:
    assert read([[(1, 3), {"a": (2, 2)}, "text"]]) == (([Size("1 3"), {"a": Size("2 2")}, "text"],), {})
    ordered = collections.OrderedDict(a=(1, 3))
    found = read([ordered])[0][0]
    assert type(found) is collections.OrderedDict and found["a"] == Size("1 3")
    assert ordered == {"a": (1, 3)}  # the user's own stays as it was
    assert read([[Pair((1, 2), None)]])[0][0] == [Pair(Size("1 2"), None)]


def test_a_parameter_that_says_it_takes_ints_gets_them() -> None:
    class Resize(nn.Module):
        def forward(self, x, size=(8, 8), stride: tuple[int, int] | None = None, shape: torch.Tensor | None = None):
            return x

    _, kwargs = read({"x": (1, 3), "size": (16, 16), "stride": (2, 2), "shape": (4, 4)}, Resize())
    assert kwargs == {"x": Size("1 3"), "size": (16, 16), "stride": (2, 2), "shape": Size("4 4")}
    assert read([(1, 3), (16, 16)], Resize())[0] == (Size("1 3"), (16, 16))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("B=8, 3, H=224, W=224", Size("B=8 3 H=224 W=224")),
        ("(1, 3):int64", Size("1 3", dtype="int64")),
        (" ( 4, ) ", Size("4")),
        ("T=5", Size("T=5")),
    ],
)
def test_a_size_may_be_text_as_the_magic_takes_it(text: str, size: Size) -> None:
    assert read(text) == ((size,), {})
    assert read({"x": text}) == ((), {"x": size})


@pytest.mark.parametrize("text", ["text", "7", "1, a", "a photo, 3 cats", "", "(1, 2), (3, 4)", "1.5, 2"])
def test_any_other_text_is_data(text: str) -> None:
    assert read(text) == ((text,), {})


def test_a_parameter_that_says_it_takes_text_gets_it() -> None:
    class Tokenizes(nn.Module):
        def forward(self, text: str) -> str:
            return text

    assert read("1, 2", Tokenizes()) == (("1, 2",), {})
    assert read([["1, 2"]])[0] == (["1, 2"],)  # nor is it one inside a list: a batch of texts is


@pytest.mark.parametrize(
    "value",
    [X, nn.Parameter(X), Sample(X), Pair(X, X), object(), "text", 3, True, X.max(0), Sample],
    ids=["tensor", "parameter", "dataclass", "named tuple", "object", "text", "int", "bool", "torch.max", "class"],
)
def test_anything_else_is_one_argument_and_stays_as_it_is(value: Any) -> None:
    args, kwargs = read(value)
    assert len(args) == 1 and args[0] is value and not kwargs


def test_a_packed_sequence_is_one_argument() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(torch.ones(3, 2, 4), [3, 2])
    assert read(packed)[0][0] is packed


def test_what_a_tokenizer_returns_is_the_keywords() -> None:
    from transformers import BatchEncoding

    class Text(nn.Module):
        def forward(self, input_ids, attention_mask=None):
            return input_ids

    ids = torch.ones(1, 4, dtype=torch.int64)
    args, kwargs = read(BatchEncoding({"input_ids": ids, "attention_mask": ids}), Text())
    assert args == () and list(kwargs) == ["input_ids", "attention_mask"] and kwargs["input_ids"] is ids
    plain = BatchEncoding({"input_ids": [101, 7592, 102]})  # return_tensors was forgotten: tokens, not a size
    assert read(plain, Text())[1] == {"input_ids": [101, 7592, 102]}


class Detects(nn.Module):
    def forward(self, images: list[torch.Tensor], targets: Any = None) -> Any:
        return [image.mean() for image in images]


def test_a_list_for_a_parameter_of_a_list_of_tensors_is_one_argument() -> None:
    images = [torch.rand(3, 8, 8), torch.rand(3, 8, 6)]
    (given,), named = read(images, Detects())
    assert (given, named) == (images, {})
    assert read([(3, 8, 8), (3, 8, 6)], Detects())[0] == ([Size((3, 8, 8)), Size((3, 8, 6))],)
    assert read([X, X], Net())[0] == (X, X)
    assert read((images, None), Detects())[0] == (images, None)


# -- arrays -----------------------------------------------------------------------------------------------------------


def test_an_array_becomes_a_tensor_wherever_it_stands() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert torch.equal(read(array)[0][0], torch.from_numpy(array))
    assert torch.equal(read({"x": [array]})[1]["x"][0], torch.from_numpy(array))
    assert read(np.ones(3, dtype=np.int64))[0][0].dtype == torch.int64


def test_a_float64_array_takes_the_dtype_of_the_weights() -> None:
    assert read(np.ones((2, 3)), nn.Linear(3, 2))[0][0].dtype == torch.float32
    assert read(np.ones((2, 3)), nn.Linear(3, 2).double())[0][0].dtype == torch.float64
    assert read(np.ones((2, 3)), nn.Linear(3, 2).half())[0][0].dtype == torch.float16
    assert read(np.ones((2, 3)))[0][0].dtype == torch.float32  # no weights: what torch makes


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3)[::-1],
        np.broadcast_to(np.arange(3.0), (2, 3)),
        np.arange(6.0, dtype=">f8").reshape(2, 3),
    ],
    ids=["a view that runs backwards", "read-only", "of the other byte order"],
)
def test_arrays_that_torch_refuses_are_copied(array: np.ndarray) -> None:
    tensor = read(array)[0][0]
    assert tensor.tolist() == array.tolist()


@pytest.mark.parametrize("array", [np.array(["a", "b"]), np.array([None, 1])])
def test_arrays_that_hold_no_numbers_stay_as_they_are(array: np.ndarray) -> None:
    assert read(array)[0][0] is array


def test_a_forward_that_asks_for_arrays_gets_them() -> None:
    class Annotated(nn.Module):
        def forward(self, x: np.ndarray, y=None):
            return x

    class Converting(nn.Module):
        def forward(self, x):
            return torch.from_numpy(x)

    array = np.ones((2, 3), dtype=np.float32)
    assert read([array, None], Annotated())[0][0] is array
    assert read(array, Converting())[0][0] is array


# -- one kind by force ------------------------------------------------------------------------------------------------


def test_input_size_reads_sizes_alone() -> None:
    model = Net()
    assert read_inputs(model, input_size=(1, 3)).args == (Size("1 3"),)
    assert read_inputs(model, input_size="B=8 3").args == (Size("B=8 3"),)
    assert read_inputs(model, input_size=["B=8 3", (8, 4)]).args == (Size("B=8 3"), Size("8 4"))
    assert read_inputs(model, input_size={"x": (1, 3), "mask": None}).kwargs == {"x": Size("1 3"), "mask": None}
    assert refuse(model, input_size=X).received == "input_size contains a Tensor"
    assert "input_data" in refuse(model, input_size=X).expected
    assert refuse(model, input_size=[(1, 2), X]).received == "input_size contains a Tensor"
    assert refuse(model, input_size=8).received == "input_size contains an int"
    assert refuse(model, input_size=[(1, 2), 0.5]).received == "input_size contains a float"


def test_input_data_reads_data_alone() -> None:
    model = Net()
    assert read_inputs(model, input_data=[(1, 3), [4, 5]]).args == ((1, 3), [4, 5])
    assert read_inputs(model, input_data=X).args[0] is X
    assert read_inputs(model, input_data={"x": X, "k": 2}).kwargs == {"x": X, "k": 2}


@pytest.mark.parametrize("given", [{"input_data": X}, {"inputs": X}])
def test_sizes_and_data_at_once_are_refused(given: dict[str, Any]) -> None:
    error = refuse(Net(), **given, input_size=(1, 2))
    assert str(error) == "more than one of inputs, input_size and input_data; expected one of them"


# -- ModelInputs ------------------------------------------------------------------------------------------------------

leaves = st.just(X) | st.just(X.long())
structures = st.recursive(
    leaves | st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.builds(Pair, inner, inner)
        | st.builds(Sample, inner)
    ),
    max_leaves=8,
)


@given(st.lists(structures, min_size=2, max_size=3), st.dictionaries(st.sampled_from("uvw"), structures, max_size=2))
def test_leaves_have_the_names_that_the_tracer_gives_them(args: list[Any], kwargs: dict[str, Any]) -> None:
    inputs = ModelInputs(tuple(args), kwargs, ("x", "mask"))
    expected = [name for name, _ in find_argument_leaves(inputs.args, kwargs, inputs.names)]
    if inputs.leaves():
        assert [name for name, _ in inputs.leaves()] == expected


@given(st.lists(structures, max_size=3), st.dictionaries(st.sampled_from("uvw"), structures, max_size=2))
def test_every_leaf_can_be_replaced_by_its_name_and_nothing_else_changes(args: Any, kwargs: Any) -> None:
    inputs = ModelInputs(tuple(args), kwargs, ("x", "mask", "z"))
    before = repr(inputs)
    named = dict(inputs.leaves())
    changed = inputs.with_sizes({name: Size((number,)) for number, name in enumerate(named, start=1)})
    assert dict(changed.leaves()) == {name: Size((number,)) for number, name in enumerate(named, start=1)}
    assert repr(inputs) == before
    back = changed.with_sizes({})
    assert repr(back) == repr(changed)


def test_a_name_that_no_leaf_has_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        ModelInputs((Size("1 2"), X), names=("x", "mask")).with_sizes({"msk": Size("1")})
    assert str(caught.value) == "no input named 'msk'; expected 'x', 'mask'"


def test_a_size_or_tensor_that_stands_alone_has_the_name_of_its_parameter() -> None:
    assert [name for name, _ in read_inputs(Net(), (1, 3)).leaves()] == ["x"]
    assert [name for name, _ in ModelInputs((Size("1 3"),)).leaves()] == [""]


def test_arguments_are_written_as_the_magic_takes_them() -> None:
    inputs = read_inputs(Net(), {"x": Size("B=2 3"), "mask": X.long(), "k": False})
    assert inputs.as_line() == "x=(B=2, 3) mask=(2, 3):int64 k=False"
    assert inputs.describe() == "x=(B=2, 3), mask=(2, 3):int64, k=False"
    assert ModelInputs(([Size("1 2"), Size("3")],)).as_line() == "[[(1, 2), (3,)]]"
    assert ModelInputs().describe() == "no input"


def test_no_address_of_an_object_is_written() -> None:
    written = ModelInputs((object(), Sample(object()), nn.ReLU(), len)).as_line()
    assert not re.search(r"0x[0-9a-f]", written)
    assert written == "<object> Sample(image=<object>, label=3) <ReLU> <builtin_function_or_method>"


@given(st.lists(st.sampled_from([Size("B=2 3"), Size("(4,):int64"), Size("()"), Size("7 8:bool")]), min_size=1))
def test_setting_dtypes_touches_sizes_without_one_alone(given: list[Size]) -> None:
    inputs = set_dtypes(ModelInputs(tuple(given)), "int32")
    assert inputs.args == tuple(size if size.dtype else size.with_dtype("int32") for size in given)
