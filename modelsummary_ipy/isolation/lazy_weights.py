"""Layers made from a shared specification; in a large model their weights are made when they are first read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from modelsummary_ipy.isolation.lazy_dict import LazyDict
from modelsummary_ipy.model.layer_spec import EMPTY, LayerSpec, Offset

#: Gives an object a ``__dict__``.
set_state = vars(nn.Module)["__dict__"].__set__  # an attribute that is set goes through the module's own __setattr__
_STORES = ("_parameters", "_buffers", "_modules")
#: The names of the hook dicts that a module has, and what each is made of.
HOOK_DICTS = tuple((name, empty) for name, empty in EMPTY.items() if name not in _STORES)


def build_layer(spec: LayerSpec, make: Callable[[int], Any], *, lazy: bool) -> nn.Module:
    """Make a layer; the arguments are those of ``build_state``."""
    layer: nn.Module = object.__new__(spec.kind.cls)
    set_state(layer, build_state(spec, make, lazy=lazy))
    return layer


def build_state(spec: LayerSpec, make: Callable[[int], Any], *, lazy: bool) -> dict[str, Any]:
    """Make the ``__dict__`` of a layer.

    Args:
        spec: What it is to be.
        make: Makes the weight of a number; called twice for one, it returns the same tensor.
        lazy: Whether its weights are made when they are first read.
    """
    kind, first = spec.kind, spec.first

    def store(weights: Mapping[str, Any]) -> dict[str, Any]:
        if lazy and weights:
            return LazyWeights(weights, first, make)
        return {name: None if place is None else make(first + place) for name, place in weights.items()}

    state = kind.state.copy()
    for name, empty in HOOK_DICTS:
        state[name] = empty()
    state["training"] = spec.training
    state["_parameters"], state["_buffers"], state["_modules"] = store(kind.params), store(kind.buffers), {}
    return state


class LazyWeights(LazyDict):
    """Replaces ``_parameters`` or ``_buffers`` of a layer; an offset among its values is replaced when it is read.

    Args:
        weights: What to begin with: offsets and ``None``.
        first: The number of the layer's first weight.
        make: Makes the tensor of a number; called twice for one, it returns the same tensor.
    """

    __slots__ = ("_make", "first")

    def __init__(self, weights: Mapping[str, Any], first: int, make: Callable[[int], Any]) -> None:
        super().__init__(weights)
        self.first = first
        self._make = make

    def _read(self, name: str, value: Any) -> Any:
        if type(value) is Offset:
            value = self._make(self.first + value)
            dict.__setitem__(self, name, value)
        return value
