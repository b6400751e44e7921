"""Keywords of the constructor, and the number and names of the arguments."""

from __future__ import annotations

import functools
import inspect
import traceback
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from modelsummary_ipy import ModelSummary, Size
from modelsummary_ipy.inputs.reading import read_call
from modelsummary_ipy.inputs.signature import OF_SHOW
from modelsummary_ipy.records.errors import InputError
from tests.inputs.test_model_inputs import Net, Options, X, read, refuse

# -- keywords of the constructor ---------------------------------------------------------------------------------------


def test_keywords_of_the_constructor_are_inputs_by_name_as_the_magic_takes_them() -> None:
    by_dict, by_name = ModelSummary(Net(), {"x": (2, 3), "mask": X}), ModelSummary(Net(), x=(2, 3), mask=X)
    assert by_name.rows[0].inputs == by_dict.rows[0].inputs
    assert [leaf.name for leaf in by_name.rows[0].inputs] == ["x", "mask"]
    assert ModelSummary(Net(), (2, 3), k=2).rows[0].inputs[0].shape == (2, 3)
    assert ModelSummary(Net(), x="B=2, 3", method="encode").rows[0].inputs[0].shape == (2, 3)
    assert ModelSummary(Options(), ids=(2, 3), anything=1).error is None


def test_arguments_follow_one_another_as_in_a_call_of_the_model() -> None:
    assert [leaf.shape for leaf in ModelSummary(Net(), (2, 3), X).rows[0].inputs] == [(2, 3), (2, 3)]
    assert ModelSummary(nn.Conv2d(3, 4, 3), 1, 3, 8, 8).rows[0].outputs[0].shape == (1, 4, 6, 6)
    with pytest.raises(InputError, match="more than one of inputs, input_size and input_data"):
        ModelSummary(Net(), (2, 3), X, input_size=(2, 3))


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"mod": "eval"}, "no keyword 'mod' (did you mean 'mode'?); expected an option, or a parameter of forward: x,"),
        ({"msk": X}, "no keyword 'msk' (did you mean 'mask'?)"),
        ({"depth": 2}, "no keyword 'depth' (show(depth=…) takes it); expected an option, or a parameter of forward"),
        ({"x": X}, "(2, 3), x=(2, 3):float32: 'x' is given twice"),
    ],
)
def test_a_keyword_that_is_none_is_refused_before_anything_is_traced(keywords: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        ModelSummary(Net(), (2, 3), **keywords)
    assert str(caught.value).startswith(says)
    assert caught.value.example == "ModelSummary(model, (2, 3, 64, 64))"
    assert len(traceback.extract_tb(caught.value.__traceback__)) == 2, "this line, and one of the constructor's"


def test_what_show_alone_takes_is_named_as_such() -> None:
    made, shown = (inspect.signature(one).parameters for one in (ModelSummary, ModelSummary.show))
    assert set(OF_SHOW) == {name for name in shown if name not in made} - {"self"}


# -- number and names of the arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "received"),
    [
        ([(1, 3), (1, 4), (1, 5)], "(1, 3), (1, 4), (1, 5): 3 positional inputs, at most 2 are accepted"),
        ({}, "no input: 'x' is missing"),
        ({"mask": (1, 3)}, "mask=(1, 3): 'x' is missing"),
        ((), "no input: 'x' is missing"),
    ],
)
def test_wrong_arguments_say_what_came_and_what_is_expected(given: Any, received: str) -> None:
    error = refuse(Net(), given)
    assert (error.received, error.expected) == (received, "forward(x, mask=None, *, k=1)")


def test_a_call_that_gives_an_argument_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'x' is given twice"):
        read_call(Net(), (X,), {"x": X})
    with pytest.raises(InputError, match="no parameter 'imgs'"):
        read_call(Net(), (X,), {"imgs": X})
    assert read_call(Net(), (X,), {"k": 3}).kwargs == {"k": 3}


def test_a_long_signature_is_cut() -> None:
    class Many(nn.Module):
        def forward(self, a=None, b=None, c=None, d=None, e=None, f=None, g=None, h=None):
            return a

    assert refuse(Many(), {"a": (1,), "z": (1,)}).expected.endswith("a, b, c, d, e, f, g, h")
    error = refuse(Many(), [(1,)] * 9)
    assert error.expected == "forward(a=None, b=None, c=None, d=None, e=None, f=None, … 2 more)"


def test_what_a_decorator_or_a_hook_may_add_is_not_said_to_be_missing() -> None:
    def adding(function):
        @functools.wraps(function)
        def wrapper(self, *args, **kwargs):
            return function(self, *args, mask=None, **kwargs)

        return wrapper

    class Decorated(nn.Module):
        @adding
        def forward(self, x, mask):
            return x

    assert read((1, 3), Decorated()) == ((Size("1 3"),), {})
    assert refuse(Decorated(), {"x": (1, 3), "y": 1}).received.endswith("no parameter 'y'")
    hooked = nn.Bilinear(2, 3, 4)
    assert refuse(hooked, (1, 2)).received == "(1, 2): 'input2' is missing"
    hooked.register_forward_pre_hook(lambda module, args: (*args, torch.ones(1, 3)))
    assert read((1, 2), hooked) == ((Size("1 2"),), {})


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_models_whose_signature_says_nothing_take_anything() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(3, 2)))
    assert read((1, 3), scripted)[0] == (Size("1 3"),)


def test_a_compiled_model_takes_what_the_model_takes() -> None:
    compiled = torch.compile(Net(), backend="eager")
    assert read({"x": (1, 3)}, compiled) == ((), {"x": Size("1 3")})
    assert refuse(compiled, [(1,)] * 3).received.endswith("at most 2 are accepted")


def test_equal_names_have_equal_sizes() -> None:
    assert read([Size("B=2 3"), Size("B=2 4")])[0] == (Size("B=2 3"), Size("B=2 4"))
    assert refuse(Net(), [Size("B=2 3"), Size("B=4 4")]).received == "dim B is 2, but 4 in mask"


def test_a_loader_and_a_batch_with_its_labels_are_told_how_the_input_is_given() -> None:
    net = nn.Linear(3, 2)
    data = TensorDataset(torch.zeros(8, 3), torch.zeros(8, dtype=torch.int64))
    loader = DataLoader(data, batch_size=4)
    for given in (data, loader):
        assert f"a {type(given).__name__}; expected a batch of it" in str(refuse(net, given))
    assert "of a batch with its labels the input alone, batch[0]" in str(refuse(net, next(iter(loader))))
    assert ModelSummary(net, next(iter(loader))[0]).error is None
