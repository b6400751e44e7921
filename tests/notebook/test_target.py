"""What a line asks about: a model, or a call as it was written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelsummary_ipy import InputError
from modelsummary_ipy.notebook.line_syntax import split_line
from modelsummary_ipy.notebook.target import Target, find_target


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a call that is traced is not made")

    def encode(self, x: Any, *more: Any, flag: bool = False) -> Any:
        raise AssertionError("a call that is traced is not made")

    def to(self, *args: Any, **kwargs: Any) -> Any:  # as models of transformers do
        return super().to(*args, **kwargs)

    def get_inner(self) -> nn.Module:
        return self.inner

    @classmethod
    def build(cls, size: int) -> nn.Module:
        return nn.Linear(size, size)

    @staticmethod
    def make(size: int) -> Any:
        return nn.Linear(size, size)


net = Net()
X = torch.zeros(1, 2)


def make(size: int) -> nn.Module:
    return nn.Linear(size, size)


NAMES = {
    "net": net, "nets": {"a b": net}, "x": X, "y": X, "batch": {"u": 1}, "nn": nn, "F": F, "make": make, "Net": Net,
    "encode": net.encode, "torch": torch, "penalty": 0.1,
}  # fmt: skip


def find(line: str, **more: Any) -> Target:
    return find_target(split_line(line), {**NAMES, **more})


@pytest.mark.parametrize(
    ("line", "expression", "method", "call"),
    [
        ("net(x)", "net", "forward", ((X,), {})),
        ("net(**batch)", "net", "forward", ((), {"u": 1})),
        ("nets['a b'](3)", "nets['a b']", "forward", ((3,), {})),
        ("net.encode(x, *[1, 2], flag=True)", "net", "encode", ((X, 1, 2), {"flag": True})),
        ("net.forward(3)", "net", "forward", ((3,), {})),
        ("net.__call__(3)", "net", "forward", ((3,), {})),
        ("encode(3)", "encode", "encode", ((3,), {})),
        ("(net)(3)", "net", "forward", ((3,), {})),
        ("net.eval()(3)", "net.eval()", "forward", ((3,), {})),
        ("net((1, 2))", "net", "forward", (((1, 2),), {})),
    ],
)
def test_a_call_of_a_module_is_taken_apart_and_not_made(line: str, expression: str, method: str, call: Any) -> None:
    assert find(line) == Target(expression, net, method, call)


@pytest.mark.parametrize(
    "line",
    [
        "y = net(x)",
        "y=net(x)",
        "y, z = net(x)",
        "self.y[0] = net(x)",
        "y += net(x)",
        "return net(x)",
        "net(x).sum()",
        "net(x).sum().backward()",
        "net(x)[0]",
        "net(x).logits[:, len(y):]",
        "-net(x)",
        "net(x) + penalty",
        "loss = F.mse_loss(net(x), y) + penalty * 2",
        "loss = penalty + F.mse_loss(input=net(x), target=y)",
        "a, b = [net(x), 1]",
        "print(net(x))",
    ],
)
def test_the_line_that_failed_may_stand_behind_the_magic_as_it_is(line: str) -> None:
    assert find(line) == Target("net", net, "forward", ((X,), {}))


def test_a_call_of_an_inner_module_is_a_call_of_that_module() -> None:
    assert find("net.inner(x)") == Target("net.inner", net.inner, "forward", ((X,), {}))


def test_what_a_traced_call_is_called_with_is_evaluated() -> None:
    made = find("net(net.inner(x))").call
    assert made is not None
    assert torch.equal(made[0][0], net.inner(X))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("make(3)", nn.Linear),
        ("nn.Linear(2, 2)", nn.Linear),
        ("Net.build(2)", nn.Linear),
        ("net.build(2)", nn.Linear),
        ("net.make(2)", nn.Linear),
        ("net.get_inner()", nn.Linear),
        ("net.eval()", Net),
        ("net.to('cpu')", Net),
        ("net.requires_grad_(True)", Net),
        ("nn.Sequential(make(2), nn.ReLU())", nn.Sequential),
        ("[make(2), 1][0]", nn.Linear),
    ],
)
def test_any_other_call_is_evaluated_to_get_the_model(line: str, kind: type) -> None:
    target = find(line)
    assert type(target.model) is kind
    assert (target.method, target.call, target.words) == ("forward", None, ())
    net.train()


def test_what_is_evaluated_is_evaluated_once() -> None:
    calls: list[str] = []

    def count(value: Any) -> Any:
        calls.append("")
        return value

    find("count(make(count(3)))", count=count)
    assert len(calls) == 2
    calls.clear()
    find("count(net)(count(x)).sum(count(1))", count=count)
    assert len(calls) == 2  # what stands outside the traced call is left alone


def test_the_words_behind_a_model_are_kept() -> None:
    assert find("net (1, 3) k=2") == Target("net", net, words=("(1, 3)", "k=2"))
    assert find("net x mask = None").words == ("x", "mask=None")
    assert find("nn.Linear(2, 2) (8, 2)").words == ("(8, 2)",)


def test_a_method_without_a_call_takes_the_words_behind_it() -> None:
    assert find("net.encode (1, 3)") == Target("net", net, "encode", words=("(1, 3)",))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x", "x is a Tensor; expected a torch.nn.Module such as net; for example %summary net"),
        ("F.relu(x)", "F.relu(x) is a Tensor; expected a torch.nn.Module such as net; for example %summary net"),
        ("None", "None is None; expected a torch.nn.Module such as net; for example %summary net"),
        ("Net", "the class Net; expected an instance of it; for example %summary Net(…)"),
        ("nett", "'nett' is not defined; did you mean net or nets?"),
        ("net(nope)", "'nope' is not defined"),
        ("net(1/0)", "1 / 0: ZeroDivisionError: division by zero"),
        ("net.nope(x)", "net.nope: AttributeError: 'Net' object has no attribute 'nope'"),
        ("nn.Linear('a')", "nn.Linear('a'): TypeError: Linear.__init__() missing 1 required positional argument"),
        ("net(x) (1, 3)", "'(1, 3)' after a call; expected a call, or a model and its inputs"),
        ("net]", "unmatched ']'"),
        ("class", "'class' can't be parsed; expected a size or a Python expression"),
    ],
)
def test_what_gives_no_model_is_reported_in_one_line(line: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        find(line)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert "__ms" not in str(caught.value)
