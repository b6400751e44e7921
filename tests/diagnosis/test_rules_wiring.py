"""What the rules about wiring say where the corpus, which knows warnings only, can't tell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary, Size


class View(nn.Module):
    """Shares the layers of another module, as tensordict's views of a sequence do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class UsesAView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 4)
        self.__dict__["view"] = View(self.net)

    def forward(self, x: Tensor) -> Tensor:
        return self.view(x)


class UsesAViewAndMore(UsesAView):
    def __init__(self) -> None:
        super().__init__()
        self.__dict__["view"] = View(nn.Sequential(self.net, nn.Linear(4, 4)))


def test_a_layer_whose_parameters_are_registered_elsewhere_is_not_unregistered() -> None:
    assert ModelSummary(UsesAView(), (2, 4)).flags == ()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # from torch.export itself
def test_an_unflattened_export_has_no_unregistered_layers() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    exported = torch.export.export(net, (torch.randn(2, 4),), strict=False)  # as 2.7 does not by itself; it can't here
    ms = ModelSummary(torch.export.unflatten(exported), torch.randn(2, 4))
    assert [flag for flag in ms.flags if flag.rule == "unregistered-layer"] == []


def test_only_parameters_that_no_optimizer_sees_are_counted() -> None:
    (flag,) = (flag for flag in ModelSummary(UsesAViewAndMore(), (2, 4)).flags if flag.rule == "unregistered-layer")
    assert "no optimizer sees 20 parameters" in flag.message


class StepsFirst(nn.Module):
    """A layer that takes the first dim for steps, and a mean over the second."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(9, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0].mean(1))


@pytest.mark.parametrize("size", ["B=4 T=12 9", "N=4 T=12 9"])
def test_a_batch_by_another_name_is_the_batch_of_the_layers_too(size: str) -> None:
    flags = ModelSummary(StepsFirst(), Size(size)).flags
    assert [(flag.severity, flag.rule, flag.path) for flag in flags] == [("warning", "sequence-order", "rnn")]


class Codec(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(8, 2), nn.Linear(2, 8)

    def encode(self, x: Tensor) -> Tensor:
        return self.down(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.up(z)

    def step(self, x: Tensor) -> Tensor:
        return self(x).sum()

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)) if x.size(0) < 3 else self.encode(x)


@pytest.mark.parametrize(("method", "found"), [("encode", []), ("step", ["up"]), ("forward", ["up"])])
def test_layers_of_the_methods_that_were_not_asked_for_are_not_unused(method: str, found: list[str]) -> None:
    flags = ModelSummary(Codec(), (4, 8), method=method).flags
    assert [flag.path for flag in flags if flag.rule == "unused-layer"] == found


class AddsProduct(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x: Tensor, states: list[Tensor]) -> Tensor:
        out: Tensor = self.lin(x) + states[0] * states[1]
        return out


def test_one_tensor_given_twice_is_read_wherever_it_stands() -> None:
    state = torch.rand(4, 8)
    assert ModelSummary(AddsProduct(), torch.rand(4, 8), [state, state]).flags == ()
    (flag,) = ModelSummary(AddsProduct(), torch.rand(4, 8), [state, torch.rand(4, 8), torch.rand(4, 8)]).flags
    assert flag.rule == "unread-result"
