"""Layers of a large model that hold something only while somebody holds them, or once the forward has changed them."""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import is_, itemgetter
from typing import Any

from torch import Tensor, nn

from modelsummary_ipy.isolation.lazy_dict import LazyDict
from modelsummary_ipy.isolation.lazy_weights import HOOK_DICTS, set_state
from modelsummary_ipy.model.layer_spec import LayerSpec

#: So many layers are left whole after they were read.
_MOST_WHOLE = 16
#: The ``__dict__`` of all layers that are empty now, to which nobody has a reference.
_EMPTY: dict[str, Any] = {}


class LayerTable:
    """The layers of torch's of one shadow: a layer is filled when it is read, and is the same object each time.

    It is emptied again once nothing but this table refers to it, or to what it holds, and all it holds is as it was
    made. So a forward can't tell that it was empty.

    Args:
        specs: The specification of each layer, by index; ``None`` for other modules.
        build: Makes the ``__dict__`` of a layer.
        index_of: Gets the index of each layer that is filled, by ``id``.
        weights: Those that were made, by number.
    """

    def __init__(
        self,
        specs: Sequence[LayerSpec | None],
        build: Callable[[LayerSpec], dict[str, Any]],
        index_of: dict[int, int],
        weights: Mapping[int, Tensor],
    ) -> None:
        self._specs = specs
        self._build = build
        self._index_of = index_of
        self._weights = weights
        self._layers: list[nn.Module | None] = [None] * len(specs)
        self._whole: OrderedDict[int, LayerSpec] = OrderedDict()
        self._modes: dict[int, bool] = {}  # of those that are empty, where it is not the model's

    def get(self, spec: LayerSpec) -> nn.Module:
        """Return the layer of a specification, whole."""
        index = spec.index
        layer = self._layers[index]
        if index not in self._whole:
            if layer is None:
                layer = self._layers[index] = object.__new__(spec.kind.cls)
            state = self._build(spec)
            if self._modes:
                state["training"] = self._modes.pop(index, spec.training)
            set_state(layer, state)
            self._index_of[id(layer)] = index
            self._whole[index] = spec
        assert layer is not None
        if len(self._whole) > _MOST_WHOLE:
            self._empty_oldest() or self._empty_oldest()  # the oldest may be the one that is read
        return layer

    def list_whole(self) -> list[nn.Module]:
        """List the layers that are whole: those that anything was done to are among them."""
        return [layer for index in self._whole if (layer := self._layers[index]) is not None]

    def find(self, index: int) -> nn.Module | None:
        """Return the layer of an index; ``None`` if that is of another module."""
        spec = self._specs[index] if index < len(self._specs) else None
        return None if spec is None else self.get(spec)

    def has(self, index: int) -> bool:
        """Return whether an index is that of a layer."""
        return self._specs[index] is not None

    def list_modes(self) -> Iterator[tuple[int, bool]]:
        """List the layers whose mode is perhaps not the model's, by index, and whether it is train mode."""
        yield from self._modes.items()
        for index in self._whole:
            yield index, bool(vars(self._layers[index])["training"])

    @property
    def classes(self) -> set[type[nn.Module]]:
        """The classes of all layers."""
        return {spec.kind.cls for spec in self._specs if spec is not None}

    def _empty_oldest(self) -> bool:
        """Empty the layer that was looked at longest ago; return whether it could be."""
        index, spec = self._whole.popitem(last=False)
        if _count_holders(self._layers, index) != _ALONE or not _is_as_made(self._layers[index], spec, self._weights):
            self._whole[index] = spec  # looked at again when all others have been
            return False
        layer = self._layers[index]
        mode = vars(layer)["training"]
        if mode is not spec.training:
            self._modes[index] = mode
        del self._index_of[id(layer)]
        set_state(layer, _EMPTY)
        return True


_STORES = ("_parameters", "_buffers", "_modules")
_get_hook_dicts = itemgetter(*(name for name, _ in HOOK_DICTS))
_get_stores = itemgetter(*_STORES)


def _count_holders(layers: Sequence[Any], index: int) -> tuple[int, int, int, int]:
    """Count the references to a layer that a list holds, to its ``__dict__``, and to the containers in that."""
    layer = layers[index]
    state = layer.__dict__
    held = (*_get_hook_dicts(state), *_get_stores(state))
    inside = max(map(sys.getrefcount, held))
    return sys.getrefcount(layer), weakref.getweakrefcount(layer), sys.getrefcount(state), inside


#: What is counted of a layer that nothing but the list holds.
_ALONE = _count_holders([nn.Identity()], 0)


def _is_as_made(layer: Any, spec: LayerSpec, weights: Mapping[int, Tensor]) -> bool:
    """Return whether a layer holds what it was made with, its mode aside."""
    kind, state = spec.kind, layer.__dict__
    if type(layer) is not kind.cls or len(state) != len(kind.state) + len(HOOK_DICTS) or any(_get_hook_dicts(state)):
        return False
    if not all(map(is_, map(state.get, kind.kept), kind.kept.values())):
        return False
    for made, store in zip((kind.params, kind.buffers, _EMPTY), _get_stores(state), strict=True):
        if len(made) != len(store):
            return False
        for name, place in made.items():
            value = dict.get(store, name, _EMPTY)  # not compared: a comparison of tensors is a step of the forward
            if value is not place and (place is None or value is not weights.get(spec.first + place)):
                return False
    return True


class LazyLayers(LazyDict):
    """Replaces ``_modules`` of a module: the layers of torch's among its values are read from the table.

    Args:
        values: Modules, ``None`` and specifications of layers.
        table: Has the layers.
    """

    __slots__ = ("_table",)

    def __init__(self, values: dict[str, Any], table: LayerTable) -> None:
        super().__init__(values)
        self._table = table

    def _read(self, name: str, value: Any) -> Any:
        return self._table.get(value) if type(value) is LayerSpec else value
