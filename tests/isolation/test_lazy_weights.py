"""Layers that are alike: what is known of them by their kind, and layers that are made of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.isolation.lazy_weights import LazyWeights, build_layer
from modelsummary_ipy.model.layer_spec import find_kind
from modelsummary_ipy.model.module_tree import read_tree
from modelsummary_ipy.torch_compat import FALLBACKS
from modelsummary_ipy.torch_compat.modules import storage_address, storage_key


def with_hook(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda *_: None)
    return layer


def with_attribute(layer: nn.Module, name: str, value: Any) -> nn.Module:
    setattr(layer, name, value)
    return layer


def with_mark(layer: Any) -> nn.Module:
    layer.weight.mark = "mine"
    return layer  # type: ignore[no-any-return]


class Subclass(nn.Linear):
    pass


ALIKE: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(3, 4),
    "linear without bias": lambda: nn.Linear(3, 4, bias=False),
    "linear in bfloat16": lambda: nn.Linear(3, 4, dtype=torch.bfloat16),
    "linear on meta": lambda: nn.Linear(3, 4, device="meta"),
    "frozen linear": lambda: nn.Linear(3, 4).requires_grad_(False),
    "linear of other sizes": lambda: nn.Linear(4, 3),
    "conv": lambda: nn.Conv2d(2, 3, 3),
    "conv with padding": lambda: nn.Conv2d(2, 3, 3, padding=1),
    "conv that lies otherwise": lambda: nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last),
    "batch norm": lambda: nn.BatchNorm2d(4),
    "batch norm with momentum": lambda: nn.BatchNorm2d(4, momentum=0.0),
    "batch norm with minus nothing": lambda: nn.BatchNorm2d(4, momentum=-0.0),
    "batch norm without statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "activation": nn.ReLU,
    "activation in place": lambda: nn.ReLU(inplace=True),
    "dropout of one": lambda: nn.Dropout(1),
    "dropout of 1.0": lambda: nn.Dropout(1.0),
    "dropout of true": lambda: nn.Dropout(True),
    "embedding": lambda: nn.Embedding(5, 4),
    "marked": lambda: with_attribute(nn.Linear(3, 4), "mark", "mine"),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "a subclass": lambda: Subclass(3, 4),
    "a hook": lambda: with_hook(nn.Linear(3, 4)),
    "a child": lambda: with_attribute(nn.Linear(3, 4), "inner", nn.ReLU()),
    "an object": lambda: with_attribute(nn.Linear(3, 4), "mark", []),
    "an attribute of a weight": lambda: with_mark(nn.Linear(3, 4)),
    "a lazy weight": lambda: nn.LazyLinear(4),
    "a weight that was computed": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
    "a number that counts": lambda: with_attribute(nn.Linear(3, 4), "steps", nn.Buffer(torch.tensor(3))),
    "a container": lambda: nn.Sequential(),
}


@pytest.mark.parametrize("name", ALIKE)
def test_layers_that_are_alike_have_one_kind(name: str) -> None:
    kind = find_kind(ALIKE[name]())
    assert kind is not None
    assert find_kind(ALIKE[name]()) is kind


def test_layers_that_differ_in_anything_have_kinds_of_their_own() -> None:
    kinds = [find_kind(make()) for make in ALIKE.values()]
    assert len(set(map(id, kinds))) == len(ALIKE)


@pytest.mark.parametrize("name", OTHERS)
def test_of_what_more_is_to_be_said_there_is_no_kind(name: str) -> None:
    assert find_kind(OTHERS[name]()) is None


def test_looking_at_a_weight_leaves_nothing_on_it() -> None:
    layer = nn.Linear(3, 4)
    assert find_kind(layer) is not None
    import gc

    assert {} not in gc.get_referents(layer.weight)


def without_values(state: dict[str, Any]) -> dict[str, Any]:
    stores = ("_parameters", "_buffers")
    names = {store: {name: None if w is None else w.shape for name, w in state[store].items()} for store in stores}
    return {**state, **names}


@pytest.mark.parametrize("lazy", [False, True], ids=["whole", "lazy"])
@pytest.mark.parametrize("name", ALIKE)
def test_a_layer_that_is_made_has_all_that_a_layer_has(name: str, lazy: bool) -> None:
    given = ALIKE[name]().eval()
    tree = read_tree(given)
    spec = tree.specs[0]
    assert spec is not None
    made = build_layer(spec, tree.tensors.__getitem__, lazy=lazy)
    assert type(made) is type(given)
    assert without_values(vars(made)) == without_values(vars(given))
    types = [dict if type(value) is LazyWeights else type(value) for value in vars(made).values()]
    assert types == [type(vars(given)[name]) for name in vars(made)]
    assert repr(made) == repr(given)


class Meddler(nn.Module):
    """Puts hooks on its layers, copies one and asks one for what only a whole layer has."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        handle = self.layers[1].register_forward_hook(lambda module, args, output: torch.cat([output, output]))
        x = self.layers[1](self.layers[0](x))
        handle.remove()
        assert not self.layers[1]._forward_hooks
        assert not self.layers[2]._state_dict_hooks
        self.layers[2].register_buffer("seen", torch.zeros(3), persistent=False)
        assert [name for name, _ in self.layers[2].named_buffers()] == ["seen"]
        return self.layers[3](copy.copy(self.layers[2])(x))


def test_a_forward_that_meddles_with_thousands_of_layers_sees_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsummary_ipy.isolation.shadow.MANY_MODULES", 0)
    before = set(vars(nn.Module))
    ms = ModelSummary(Meddler(), (2, 4), engine="fake")
    assert ms.error is None
    assert [row.outputs[0].shape for row in ms.rows if row.status == "ran" and row.kind == "module"][1:] == [
        *((2, 4), (4, 4), (4, 4), (4, 4)),
    ]
    assert set(vars(nn.Module)) == before


def test_tensors_of_one_storage_have_one_number() -> None:
    x = torch.zeros(4, 4)
    expected = storage_key(x.untyped_storage())
    assert storage_address(x) == storage_address(x[1:]) == expected != storage_address(torch.zeros(4, 4))
    assert FALLBACKS["storage_address"](x) == FALLBACKS["storage_address"](x.t()) == expected
    key = FALLBACKS["storage_key"]
    assert key(x.untyped_storage()) == key(x.t().untyped_storage()) != key(torch.zeros(1).untyped_storage())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: [x, x[2:]], [64, 0]),
        (lambda x: [x[:2], x[2:], x], [32, 32, 0]),
        (lambda x: [x[:1].expand(8, 4)], [64]),
        (lambda x: [x.t()], [64]),
        (lambda x: [x.detach()], [64]),
    ],
    ids=["a part after the whole", "parts before", "expanded", "transposed", "alone"],
)
def test_bytes_are_counted_once_for_each_storage(make: Callable[[Tensor], list[Tensor]], expected: list[int]) -> None:
    model = nn.Module()
    for index, tensor in enumerate(make(torch.zeros(4, 4))):
        model.register_buffer(f"part{index}", tensor)
    assert [fact.nbytes for fact in read_tree(model).params] == expected


def test_a_storage_that_was_given_back_has_no_bytes() -> None:
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.untyped_storage().resize_(0)
    assert [fact.nbytes for fact in read_tree(layer).params] == [0]
