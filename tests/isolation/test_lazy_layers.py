"""Layers of a large model are whole only while somebody holds them: a forward can't tell that they were not."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.isolation.shadow import Shadow, ShadowTemplate

COUNT = 6


@pytest.fixture(autouse=True)
def every_layer_is_emptied_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsummary_ipy.isolation.shadow.MANY_MODULES", 0)
    monkeypatch.setattr("modelsummary_ipy.isolation.lazy_layers._MOST_WHOLE", 1)


def build() -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(COUNT)))


def build_shadow(model: nn.Module | None = None) -> Shadow:
    return ShadowTemplate(build() if model is None else model).build_fake_shadow(lazy=True)


def read_all(module: nn.Module) -> None:
    """Read every layer, twice: those that were held the first time are emptied the second time."""
    for _ in range(2):
        for _layer in module:  # type: ignore[attr-defined]
            del _layer


def count_whole(work: Shadow) -> int:
    assert work.layers is not None
    return len(work.layers.list_whole())


def test_layers_that_nobody_holds_are_empty() -> None:
    work = build_shadow()
    assert count_whole(work) == 0
    read_all(work.module)
    assert count_whole(work) <= 2
    held = list(work.module)
    assert count_whole(work) == COUNT
    assert [sorted(vars(layer)) for layer in held] == [sorted(vars(nn.Linear(4, 4)))] * COUNT
    del held
    read_all(work.module)
    assert count_whole(work) <= 3 < COUNT


def test_a_layer_is_the_same_object_each_time() -> None:
    work = build_shadow()
    before = [id(layer) for layer in work.module]
    read_all(work.module)
    assert [id(layer) for layer in work.module] == before
    assert len(set(before)) == COUNT
    assert [work.index_of[id(layer)] for layer in list(work.module)] == [*range(1, COUNT + 1)]


def set_attribute(layer: Any) -> Callable[[Any], bool]:
    layer.mark = "mine"
    return lambda now: bool(now.mark == "mine")


def set_number(layer: Any) -> Callable[[Any], bool]:
    layer.in_features = 77
    return lambda now: bool(now.in_features == 77)


def take_attribute(layer: Any) -> Callable[[Any], bool]:
    del layer.in_features
    return lambda now: not hasattr(now, "in_features")


def add_hook(layer: Any) -> Callable[[Any], bool]:
    layer.register_forward_hook(lambda *_: None)
    return lambda now: len(now._forward_hooks) == 1


def add_buffer(layer: Any) -> Callable[[Any], bool]:
    layer.register_buffer("seen", torch.zeros(3), persistent=False)
    return lambda now: now.seen.shape == (3,) and now._non_persistent_buffers_set == {"seen"}


def add_child(layer: Any) -> Callable[[Any], bool]:
    layer.inner = nn.ReLU()
    return lambda now: [name for name, _ in now.named_children()] == ["inner"]


def set_weight(layer: Any) -> Callable[[Any], bool]:
    layer.weight = nn.Parameter(torch.zeros(9, 4))
    return lambda now: now.weight.shape == (9, 4)


def take_weight(layer: Any) -> Callable[[Any], bool]:
    layer.bias = None
    return lambda now: now.bias is None


def mark_weight(layer: Any) -> Callable[[Any], bool]:
    layer.weight.mark = "mine"
    return lambda now: bool(now.weight.mark == "mine")


def set_class(layer: Any) -> Callable[[Any], bool]:
    class Mine(nn.Linear):
        pass

    layer.__class__ = Mine
    return lambda now: type(now) is Mine


def set_forward(layer: Any) -> Callable[[Any], bool]:
    layer.forward = lambda x: x
    return lambda now: bool(now.forward(3) == 3)


def set_mode(layer: Any) -> Callable[[Any], bool]:
    layer.eval()
    return lambda now: now.training is False


def hold_attributes(layer: Any) -> Callable[[Any], bool]:
    held = vars(layer)

    def is_seen(now: Any) -> bool:
        held["mark"] = "mine"
        return bool(now.mark == "mine")

    return is_seen


def hold_hooks(layer: Any) -> Callable[[Any], bool]:
    held = layer._forward_hooks

    def is_seen(now: Any) -> bool:
        held[0] = print
        return bool(now._forward_hooks == {0: print})

    return is_seen


def hold_weights(layer: Any) -> Callable[[Any], bool]:
    held = layer._parameters
    return lambda now: now._parameters is held


def hold_weakly(layer: Any) -> Callable[[Any], bool]:
    held = weakref.ref(layer)
    return lambda now: held() is now and held().out_features == 4  # type: ignore[union-attr]


def hold_a_method(layer: Any) -> Callable[[Any], bool]:
    held = layer.extra_repr
    return lambda now: held() == now.extra_repr()


CHANGES = [
    set_attribute, set_number, take_attribute, add_hook, add_buffer, add_child, set_weight, take_weight, mark_weight,
    set_class, set_forward, set_mode, hold_attributes, hold_hooks, hold_weights, hold_weakly, hold_a_method,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_a_forward_did_to_a_layer_is_still_there(change: Callable[[Any], Callable[[Any], bool]]) -> None:
    work = build_shadow()
    assert work.fake_mode is not None
    with work.fake_mode:
        is_there = change(work.module[2])  # type: ignore[index]
        read_all(work.module)
        assert is_there(work.module[2])  # type: ignore[index]


def test_a_layer_whose_weight_was_read_is_emptied_and_has_it_again() -> None:
    work: Any = build_shadow()
    weights = [layer.weight for layer in work.module]
    read_all(work.module)
    assert count_whole(work) <= 3
    assert all(layer.weight is weight for layer, weight in zip(work.module, weights, strict=True))
    assert [work.param_of[id(weight)] for weight in weights] == [2 * number for number in range(COUNT)]


def test_the_mode_of_all_layers_may_be_set_and_takes_no_room() -> None:
    work = build_shadow()
    work.module.eval()
    read_all(work.module)
    assert count_whole(work) <= 3 < COUNT
    assert not any(layer.training for layer in work.module)  # type: ignore[union-attr]
    assert work.layers is not None
    assert dict(work.layers.list_modes()) == dict.fromkeys(range(1, COUNT + 1), False)


def test_a_layer_in_two_places_is_one() -> None:
    model = build()
    model.append(model[0])
    model.also = [model[1]]  # type: ignore[assignment]
    work: Any = build_shadow(model)
    read_all(work.module)
    assert work.module[0] is work.module[COUNT]
    assert work.module[1] is work.module.also[0]


def test_children_are_read_as_from_any_dict() -> None:
    work = build_shadow()
    children: Any = work.module._modules
    layers = list(work.module)  # type: ignore[call-overload]
    names = [str(number) for number in range(COUNT)]
    assert list(children) == list(children.keys()) == names
    assert list(children.values()) == layers == list(reversed(list(reversed(children.values()))))
    assert list(children.items()) == list(reversed(list(reversed(children.items())))) == list(dict(children).items())
    assert children.copy() == {**children} == children == dict(zip(names, layers, strict=True))
    assert (children | {})["1"] is ({} | children)["1"] is children.get("1") is children.setdefault("1", None)
    assert repr(children) == repr(dict(zip(names, layers, strict=True)))
    assert layers[3] in children.values()
    assert children.get("no", 3) == children.pop("no", 3) == 3
    assert children.pop("3") is layers[3]
    assert children.popitem() == ("5", layers[5])
    assert list(work.module) == [*layers[:3], layers[4]]  # type: ignore[call-overload]
    children.clear()
    with pytest.raises(KeyError):
        children.popitem()


class Meddler(nn.Module):
    """Changes some of its layers, and then runs them all."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(COUNT))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:2]:
            layer.register_forward_hook(lambda module, args, output: torch.cat([output, output]))
        self.layers[2].weight = nn.Parameter(x.new_zeros(7, 4))
        self.layers[2].bias = None
        self.layers[3] = nn.Linear(7, 3)
        other = copy.deepcopy(self.layers)
        for layer in other[:3]:
            x = layer(x)
        return self.layers[3](x)


def test_a_forward_that_changes_layers_and_copies_them_is_traced_as_torch_runs_it() -> None:
    model = Meddler()
    with torch.no_grad():
        expected = copy.deepcopy(model)(torch.zeros(2, 4)).shape
    ms = ModelSummary(model, (2, 4), engine="fake")
    assert ms.error is None
    assert ms[""].outputs[0].shape == tuple(expected) == (8, 3)
    assert model.layers[2].weight.shape == (4, 4)
    assert not model.layers[0]._forward_hooks


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_facts_have_the_mode_that_was_asked_for(mode: Any) -> None:
    ms = ModelSummary(build(), (2, 4), engine="fake", mode=mode)
    assert [fact.training for fact in ms.pipeline.traced.trace.modules] == [mode == "train"] * (COUNT + 1)
