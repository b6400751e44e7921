"""The magic's line: words, sizes, and calls as they are written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from modelsummary_ipy import InputError, Size
from modelsummary_ipy.command import find_target, read_words, split_line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model (1, 3, 224, 224)", ["model", "(1, 3, 224, 224)"]),
        ("nets['a b'] (1, 3) --depth 2", ["nets['a b']", "(1, 3)", "--depth", "2"]),
        ("model x  # what of this (", ["model", "x"]),
        ("model x;", ["model", "x"]),
        ("model x; # quiet", ["model", "x"]),
        ("model f('#', \"a;\")", ["model", "f('#', \"a;\")"]),
        ("nn.Linear(2, 2) (1, 2)", ["nn.Linear(2, 2)", "(1, 2)"]),
        ("m ids=(1, 128):int64 name='it\\'s (' ", ["m", "ids=(1, 128):int64", "name='it\\'s ('"]),
        ("", []),
        ("   ;", []),
    ],
)
def test_a_line_is_split_outside_brackets_and_quotes(line: str, words: list[str]) -> None:
    assert split_line(line) == words


@pytest.mark.parametrize("line", ["model (1, 3", "model 'x", "model 1)"])
def test_what_is_not_closed_is_told(line: str) -> None:
    with pytest.raises(InputError, match="not closed"):
        split_line(line)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.made = 0

    def forward(self, x: Any) -> Any:
        raise AssertionError("a call that is traced is not made")

    def encode(self, x: Any, *more: Any, flag: bool = False) -> Any:
        raise AssertionError("a call that is traced is not made")


net = Net()
names = {"net": net, "nets": {"a": net}, "x": torch.zeros(1, 2), "batch": {"x": 1}, "nn": nn, "make": lambda n: nn.Linear(n, n)}


@pytest.mark.parametrize(
    ("text", "expression", "method", "call"),
    [
        ("net(x)", "net", "forward", ((names["x"],), {})),
        ("net(**batch)", "net", "forward", ((), {"x": 1})),
        ("nets['a'](3)", "nets['a']", "forward", ((3,), {})),
        ("net.encode(x, *[1, 2], flag=True)", "net", "encode", ((names["x"], 1, 2), {"flag": True})),
        ("net.forward(3)", "net", "forward", ((3,), {})),
    ],
)
def test_a_call_of_a_module_is_taken_apart_and_not_made(text: str, expression: str, method: str, call: Any) -> None:
    target = find_target(text, names)
    assert target.model is net
    assert (target.expression, target.method, target.call) == (expression, method, call)


def test_a_call_of_an_inner_module_is_a_call_of_that_module() -> None:
    target = find_target("net.inner(x)", names)
    assert (target.model, target.expression, target.method) == (net.inner, "net.inner", "forward")


@pytest.mark.parametrize("text", ["make(3)", "nn.Linear(2, 2)", "net.eval()", "net.inner.float()", "net.train(False)"])
def test_any_other_call_is_evaluated_to_get_the_model(text: str) -> None:
    target = find_target(text, names)
    assert isinstance(target.model, nn.Module)
    assert target.call is None
    net.train()


def test_a_name_that_is_not_defined_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'nt' is not defined; did you mean net"):
        find_target("nt", names)
    with pytest.raises(InputError, match="expected a Python expression"):
        find_target("net +", names)


def test_words_are_sizes_data_and_plain_values() -> None:
    data = torch.zeros(2)
    here = {"B": 4, "H": 8, "W": 8, "data": data, "cfg": {"n": 5}}
    args, kwargs = read_words(["(B, 3, H, W)", "data", "ids=(1, 128):int64", "use_cache=False", "n=cfg['n']"], here)
    assert args == [Size("B=4 3 H=8 W=8"), data]
    assert kwargs == {"ids": Size("1 128", dtype="int64"), "use_cache": False, "n": 5}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("(B=8, 3, H=224, W=224)", Size("B=8 3 H=224 W=224")),
        ("[1, 2]", Size("1 2")),
        ("(1, 2*3)", Size("1 6")),
        ("(N=n, 3)", Size("N=7 3")),
        ("(1,)", Size("1")),
        ("None", None),
        ("'text'", "text"),
        ("{'a': (1, 2)}", {"a": (1, 2)}),
        ("[t, t]", "two"),
    ],
)
def test_a_word_is_read(word: str, value: Any) -> None:
    t = torch.zeros(1)
    read = read_words([word], {"n": 7, "t": t})[0][0]
    assert read == ([t, t] if value == "two" else value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x:int64"], "expected a Python expression"),
        (["(1, 0)"], "0 in size"),
        (["(B, 3)"], "'B' is not defined"),
        (["a=1", "(1, 2)"], "behind a keyword"),
        (["a=1", "a=2"], "'a' twice"),
        (["(1, 2):int46"], "dtype 'int46'"),
    ],
)
def test_a_word_that_makes_no_sense_is_told(words: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_words(words, {})
