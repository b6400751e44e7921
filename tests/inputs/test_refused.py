"""What is refused before anything is traced, in one line: models, methods, devices, dtypes, numbers in a call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from modelsummary_ipy import ModelSummary, Size
from modelsummary_ipy.inputs.signature import check_device
from modelsummary_ipy.records.errors import InputError
from tests.inputs.test_model_inputs import Batched, Net, X, read, refuse

# -- models, methods, devices -----------------------------------------------------------------------------------------


def test_a_class_is_no_model() -> None:
    assert str(refuse(Net, (1, 2))) == "the class Net; expected an instance of it; for example model = Net(…)"


@pytest.mark.parametrize(("value", "word"), [(X, "a Tensor"), (3, "an int"), (None, "None"), (torch.relu, "a ")])
def test_what_is_no_module_is_refused(value: Any, word: str) -> None:
    error = refuse(value, (1, 2))
    assert error.received.startswith(f"model is {word}")
    assert error.expected == "an instance of torch.nn.Module"


class ForgotSuper(nn.Module):
    def __init__(self) -> None:
        self.size = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_module_whose_init_forgot_super_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        ModelSummary(ForgotSuper(), (1, 2))
    alone = str(caught.value)
    assert alone.startswith("ForgotSuper was not initialised: its __init__ does not call super().__init__()")
    inside, listed = nn.Sequential(nn.Linear(2, 2)), nn.Sequential()
    inside._modules["1"] = ForgotSuper()
    listed.layers = [ForgotSuper()]  # type: ignore[assignment]  # a list registers nothing
    for model in (inside, listed):
        with pytest.raises(InputError) as caught:
            ModelSummary(model, (1, 2))
        assert str(caught.value) == alone


class MakesForgotSuper(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return ForgotSuper()(x)


def test_a_module_whose_init_forgot_super_is_named_where_a_forward_makes_it() -> None:
    ms = ModelSummary(MakesForgotSuper(), (1, 2))
    assert ms.error is not None
    assert ms.error.reason.startswith("ForgotSuper was not initialised: its __init__ does not call super().__init__()")


def test_a_method_that_is_not_there_is_answered_with_the_nearest() -> None:
    error = refuse(Net(), (1, 2), method="encod")
    assert str(error) == "method='encod'; expected a method of Net such as encode; for example method='encode'"


def test_a_device_that_is_not_there_is_answered_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("cuda").type == "cuda"
    assert check_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError) as caught:
        check_device("cuda:2")
    assert "one of cpu, meta, cuda:0, cuda:1" in str(caught.value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("cuda", "cuda:0", "gpu", "vulkan", 7, "hpu"):
        with pytest.raises(InputError):
            check_device(device)
    assert check_device("cpu") == torch.device("cpu")
    assert check_device(torch.device("meta")).type == "meta"


# -- dtypes -----------------------------------------------------------------------------------------------------------


def test_dtypes_are_one_for_all_one_each_or_by_name() -> None:
    given = [(1, 2), (3,)]
    assert read(given, dtypes=torch.float16)[0] == (Size("1 2:float16"), Size("(3,):float16"))
    assert read(given, dtypes=["int64", None])[0] == (Size("1 2:int64"), Size("(3,)"))
    assert read(given, dtypes={"mask": "bool"})[0] == (Size("1 2"), Size("(3,):bool"))
    assert read({"x": [(1, 2), (3,)]}, dtypes={"x": "int64"})[1]["x"] == [Size("1 2:int64"), Size("(3,):int64")]
    assert read({"x": [(1, 2), (3,)]}, dtypes={"x[1]": "int64"})[1]["x"] == [Size("1 2"), Size("(3,):int64")]


def test_a_size_that_has_a_dtype_keeps_it() -> None:
    assert read([Size("1 2:int64"), (3,)], dtypes="float16")[0] == (Size("1 2:int64"), Size("(3,):float16"))


@pytest.mark.parametrize(
    ("dtypes", "received"),
    [
        (["int64"], "1 dtypes for 2 sizes"),
        ({"msk": "bool"}, "dtypes for 'msk'"),
        ("flot32", "dtype 'flot32'"),
        (float, "dtype \"<class 'float'>\""),
    ],
)
def test_dtypes_that_fit_nothing_are_refused(dtypes: Any, received: str) -> None:
    assert refuse(Net(), [(1, 2), (3,)], dtypes=dtypes).received == received


def test_a_dtype_for_data_is_refused() -> None:
    assert refuse(Net(), X, dtypes="float16").received == "dtypes for inputs that are data"


def test_numbers_in_a_call_are_told_where_a_size_stands() -> None:
    assert "numbers in a call" in str(refuse(Net(), input_data=[1, 3, 32, 32]))
    assert "for example (2, 3, 32, 32)" in str(refuse(Net(), input_data=[None, 3, 32, 32]))
    assert "mask=[…]" not in str(refuse(Net(), [X, X, X]))
    assert "batch=[…]" in str(refuse(Batched(), [X, X]))
