"""A layer of torch's made of its kind: whole, or bare and with late weights where there are thousands of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from modelsummary_ipy.isolation.lazy_weights import LateWeights
from modelsummary_ipy.model.layer_spec import EMPTY, LayerSpec

__all__ = ["build_bare", "build_layer", "lending_hook_dicts"]

#: What a bare layer does without until somebody asks for it.
_LENT = {name: kind for name, kind in EMPTY.items() if name not in ("_parameters", "_buffers", "_modules")}
_FRESH = tuple(_LENT.items())
_set_state = vars(nn.Module)["__dict__"].__set__  # an attribute that is set goes through the module's own __setattr__


def build_layer(spec: LayerSpec, find: Callable[[int], Any]) -> nn.Module:
    """Make a layer.

    Args:
        spec: What it is to be.
        find: Gives the weight of a number.
    """
    state = {name: make() for name, make in _FRESH}
    state.update(spec.kind.state)
    first = spec.first
    return _fill(
        spec, state, lambda weights: {n: None if place is None else find(first + place) for n, place in weights.items()}
    )


def build_bare(spec: LayerSpec, make: Callable[[int], Any]) -> nn.Module:
    """Make a layer that has no hook dicts, to be run while these are lent, and whose weights are made when read.

    Args:
        spec: What it is to be.
        make: Makes the weight of a number.
    """
    first = spec.first
    return _fill(spec, spec.kind.state.copy(), lambda weights: LateWeights(weights, first, make) if weights else {})


def _fill(spec: LayerSpec, state: dict[str, Any], store: Callable[[dict[str, Any]], dict[str, Any]]) -> nn.Module:
    """Make a layer of what its ``__dict__`` begins with, and of what makes its dicts of weights."""
    kind = spec.kind
    layer: nn.Module = object.__new__(kind.cls)
    state["training"] = spec.training
    state["_parameters"], state["_buffers"], state["_modules"] = store(kind.params), store(kind.buffers), {}
    _set_state(layer, state)
    return layer


class _Lent:
    """What a bare layer finds where its hook dicts would be: an empty one, which is its own from then on."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, module: nn.Module | None, owner: type[nn.Module]) -> Any:
        if module is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        made = module.__dict__[self._name] = _LENT[self._name]()
        return made


_lock = threading.Lock()
_borrowers = 0


@contextmanager
def lending_hook_dicts() -> Iterator[None]:
    """Let bare layers find their hook dicts in the block.

    They are attributes of ``nn.Module`` for so long; a module that has its own, as any that was built has, sees nothing
    of them.
    """
    global _borrowers
    with _lock:
        _borrowers += 1
        if _borrowers == 1:
            for name in _LENT:
                setattr(nn.Module, name, _Lent(name))
    try:
        yield
    finally:
        with _lock:
            _borrowers -= 1
            if not _borrowers:
                for name in _LENT:
                    delattr(nn.Module, name)
