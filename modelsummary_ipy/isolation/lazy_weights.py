"""Layers made from a shared specification; in a large model their weights are made when they are first read."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any

from torch import nn

from modelsummary_ipy.model.layer_spec import EMPTY, LayerSpec, Offset

_set_state = vars(nn.Module)["__dict__"].__set__  # an attribute that is set goes through the module's own __setattr__
_STORES = ("_parameters", "_buffers", "_modules")
_HOOK_DICTS = tuple((name, empty) for name, empty in EMPTY.items() if name not in _STORES)


def build_layer(spec: LayerSpec, make: Callable[[int], Any], *, lazy: bool) -> nn.Module:
    """Make a layer.

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

    layer: nn.Module = object.__new__(kind.cls)
    state = kind.state.copy()
    for name, empty in _HOOK_DICTS:
        state[name] = empty()
    state["training"] = spec.training
    state["_parameters"], state["_buffers"], state["_modules"] = store(kind.params), store(kind.buffers), {}
    _set_state(layer, state)
    return layer


class LazyWeights(dict[str, Any]):
    """Replaces ``_parameters`` or ``_buffers`` of a layer; an offset among its values is replaced when it is read.

    Whatever Python code reads it by gives the tensor: also ``dict(weights)``, for a dict with an ``__iter__`` of its
    own is copied key by key.

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

    def __getitem__(self, name: str) -> Any:
        value = dict.__getitem__(self, name)
        if type(value) is Offset:
            value = self._make(self.first + value)
            dict.__setitem__(self, name, value)
        return value

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value as ``dict.get`` does."""
        return self[name] if name in self else default  # noqa: SIM401  # ``dict.get`` would not make it

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return all items, each made."""
        return self._made().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return all values, each made."""
        return self._made().values()

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of all values, each made."""
        return self._made()

    def pop(self, name: str, *default: Any) -> Any:
        """Take a value out as ``dict.pop`` does."""
        if name in self:
            dict.__setitem__(self, name, self[name])
        return dict.pop(self, name, *default)

    def popitem(self) -> tuple[str, Any]:
        """Take the last item out, made."""
        name = next(reversed(self))
        return name, self.pop(name)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a value, ``default`` from now on if there is none."""
        if name not in self:
            dict.__setitem__(self, name, default)
        return self[name]

    def _made(self) -> dict[str, Any]:
        return {name: self[name] for name in list(self)}

    def __or__(self, other: Any) -> Any:
        return self._made() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._made()

    def __eq__(self, other: object) -> bool:
        return self._made() == other

    __hash__ = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (self._made(),)
