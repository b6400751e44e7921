"""What the user gave → the arguments of one call."""

from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelsummary_ipy import InputError, ModelSummary, Size
from modelsummary_ipy.inputs import ModelInputs, check_device, check_model, read_call, read_inputs, set_dtypes


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Any, mask: Any = None, *, flag: bool = True) -> Any:
        return x

    def encode(self, x: Any) -> Any:
        return x


class Open(nn.Module):
    def forward(self, x: Any = None, **more: Any) -> Any:
        return more


def test_a_flat_sequence_of_ints_is_one_size() -> None:
    for given in ((1, 3, 8, 8), [1, 3, 8, 8], torch.Size([1, 3, 8, 8]), tuple(np.array([1, 3, 8, 8]))):
        assert read_inputs(Two(), given).args == (Size((1, 3, 8, 8)),)


def test_a_list_or_tuple_of_other_things_is_the_positional_arguments() -> None:
    data = torch.zeros(2, 3)
    assert read_inputs(Two(), [(1, 3), (1, 5)]).args == (Size("1 3"), Size("1 5"))
    mixed = read_inputs(Two(), (data, (2, 3)))
    assert mixed.args[0] is data
    assert mixed.args[1] == Size("2 3")


def test_a_dict_is_keywords_if_all_its_keys_are_parameters() -> None:
    given = read_inputs(Two(), {"x": (1, 3), "flag": False})
    assert (given.args, given.kwargs) == ((), {"x": Size("1 3"), "flag": False})


def test_a_dict_is_the_one_argument_if_none_of_its_keys_is_a_parameter() -> None:
    given = read_inputs(Two(), {"pixels": (1, 3), "ids": (1, 5)})
    assert given.args == ({"pixels": Size("1 3"), "ids": Size("1 5")},)
    assert given.kwargs == {}


def test_a_dict_with_some_strangers_is_an_error_that_names_them() -> None:
    with pytest.raises(InputError) as caught:
        read_inputs(Two(), {"x": (1, 3), "maks": (1, 3)})
    assert str(caught.value).startswith("keys 'maks'; expected parameters of forward: x, mask, flag; for example")


def test_a_method_that_takes_any_keyword_takes_the_dict_as_keywords() -> None:
    assert read_inputs(Open(), {"x": (1, 3), "anything": 1}).kwargs == {"x": Size("1 3"), "anything": 1}


def test_a_tokenizer_output_is_keywords() -> None:
    class Encoding(UserDict): ...  # as transformers' BatchEncoding is

    encoding = Encoding({"x": torch.zeros(1, 3), "mask": torch.ones(1, 3)})
    assert list(read_inputs(Two(), encoding).kwargs) == ["x", "mask"]


def test_a_dataclass_a_named_tuple_and_any_object_are_one_argument() -> None:
    @dataclass
    class Batch:
        x: Any

    Pair = namedtuple("Pair", "a b")  # noqa: PYI024  # what users have
    plain = type("Graph", (), {})()
    for value in (Batch(torch.zeros(1)), Pair(torch.zeros(1), torch.zeros(2)), plain):
        given = read_inputs(Two(), value)
        assert len(given.args) == 1
        assert type(given.args[0]) is type(value)


def test_an_array_becomes_a_tensor_of_its_dtype() -> None:
    given = read_inputs(Two(), np.zeros((2, 3), dtype=np.float32))
    assert given.args[0].dtype == torch.float32
    with pytest.raises(InputError, match="an array of dtype"):
        read_inputs(Two(), np.array(["a", "b"]))


def test_input_data_is_never_read_as_a_size() -> None:
    assert read_inputs(Two(), input_data=[[1, 2], 3]).args == ([1, 2], 3)
    with pytest.raises(InputError, match="input_size holds a Tensor"):
        read_inputs(Two(), input_size=[torch.zeros(1)])


def test_both_size_and_data_is_an_error() -> None:
    with pytest.raises(InputError, match="more than one of inputs, input_size and input_data"):
        read_inputs(Two(), input_size=(1, 3), input_data=torch.zeros(1, 3))


@pytest.mark.parametrize("given", [[(1,), (2,), (3,)], {"mask": (1, 3)}, [(1, 3), (1, 3), True, False]])
def test_arguments_that_do_not_fit_say_what_came_what_fits_and_an_example(given: Any) -> None:
    with pytest.raises(InputError) as caught:
        read_inputs(Two(), given)
    words = str(caught.value)
    assert "expected arguments of Two.forward(x, mask=None, *, flag=True)" in words
    assert words.endswith("for example ModelSummary(model, (1, 3))")
    ModelSummary(Two(), (1, 3))  # the example works


@pytest.mark.parametrize(
    ("model", "size"),
    [(nn.Conv2d(7, 2, 3), (1, 7, 64, 64)), (nn.Embedding(5, 2), (1, 16)), (nn.LSTM(6, 2), (1, 16, 6)), (nn.Conv1d(2, 2, 3), (1, 2, 64))],
)
def test_the_example_works_for_the_model(model: nn.Module, size: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        read_inputs(model, [(1,)] * 9)
    assert caught.value.example == f"ModelSummary(model, {size})"
    assert ModelSummary(model, size).error is None


def test_what_is_no_module_is_told() -> None:
    for value, says in ((Two, "the class Two; expected an instance of it"), (3, "model is an int"), (None, "model is None")):
        with pytest.raises(InputError) as caught:
            check_model(value)
        assert str(caught.value).startswith(says)


def test_a_device_that_is_not_there_is_told_with_those_that_are() -> None:
    assert check_device("cpu") == torch.device("cpu")
    assert check_device("meta") == torch.device("meta")
    missing = f"cuda:{torch.cuda.device_count() + 3}"
    for device in (missing, "gpu", 3.5):
        with pytest.raises(InputError, match="expected one of cpu, meta"):
            check_device(device)


def test_a_method_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"method='decode'; expected a method of Two such as encode"):
        read_inputs(Two(), (1, 3), method="decode")
    assert read_inputs(Two(), (1, 3), method="encode").args == (Size("1 3"),)


def test_dtypes_go_to_the_sizes_that_have_none() -> None:
    sizes = [(1, 3), Size("1 5", dtype="int32")]
    assert [leaf.dtype for _, leaf in read_inputs(Two(), sizes, dtypes=torch.float64).leaves()] == ["float64", "int32"]
    assert [leaf.dtype for _, leaf in read_inputs(Two(), sizes, dtypes=["bfloat16", None]).leaves()] == ["bfloat16", "int32"]
    assert [leaf.dtype for _, leaf in read_inputs(Two(), sizes, dtypes={"x": "int64"}).leaves()] == ["int64", "int32"]
    with pytest.raises(InputError, match="3 dtypes for 2 sizes"):
        read_inputs(Two(), sizes, dtypes=["int64"] * 3)
    with pytest.raises(InputError, match="dtypes for 'y'"):
        set_dtypes(read_inputs(Two(), sizes), {"y": "int64"})


def test_leaves_have_names_and_can_be_replaced_by_them() -> None:
    given = read_inputs(Two(), {"x": [torch.zeros(2, 3), {"deep": (4, 5)}], "flag": False})
    assert [name for name, _ in given.leaves()] == ["x[0]", "x[1]['deep']"]
    other = given.with_sizes({"x[1]['deep']": Size("9 9")})
    assert other.kwargs["x"][1] == {"deep": Size("9 9")}
    assert other.kwargs["x"][0] is given.kwargs["x"][0]
    assert given.kwargs["x"][1] == {"deep": Size("4 5")}


def test_the_line_of_inputs_is_what_the_magic_takes() -> None:
    given = read_inputs(Two(), {"x": Size("B=2 3"), "mask": Size("2 3", dtype="int64"), "flag": False})
    assert given.as_line() == "x=(B=2, 3) mask=(2, 3):int64 flag=False"
    assert ModelInputs((torch.zeros(4),)).as_line() == "(4,):float32"


def test_a_call_as_it_was_made_keeps_its_values() -> None:
    given = read_call(Two(), ((1, 2),), {"flag": False})
    assert given.args == ((1, 2),)
    with pytest.raises(InputError, match="got an unexpected keyword argument 'y'"):
        read_call(Two(), (), {"x": 1, "y": 2})


def test_nothing_is_traced_before_the_arguments_are_right() -> None:
    class Loud(nn.Module):
        def forward(self, x: Any) -> Any:
            raise AssertionError("ran")

    for arguments in ({"inputs": (1, 0)}, {"inputs": (1, 2), "device": "nowhere"}, {"inputs": (1, 2), "mode": "training"}):
        with pytest.raises(InputError):
            ModelSummary(Loud(), **arguments)
