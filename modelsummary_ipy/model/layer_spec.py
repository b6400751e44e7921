"""Layers of torch's own that are set up alike: what they have in common is written down once, not 10,000 times."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from modelsummary_ipy.model.class_facts import read_class
from modelsummary_ipy.model.module_repr import ATOM_TYPES, is_short_tuple, read_extra_repr, read_settings
from modelsummary_ipy.model.tensor_meta import TensorMeta, read_meta
from modelsummary_ipy.records.trace import ParamFact, ParamKind

#: Attributes every module has, which are no settings.
MACHINERY = frozenset(vars(nn.Module()))
#: Which of these begin empty, hook dicts for the most part, and as what.
EMPTY: dict[str, Any] = {name: type(value) for name, value in vars(nn.Module()).items() if value in ({}, set())}
_CONSTANTS = {name: value for name, value in vars(nn.Module()).items() if name not in EMPTY}
_STORES: dict[str, Any] = dict.fromkeys(("_parameters", "_buffers", "_modules"))
_EXACT_TYPES = ATOM_TYPES - {float}
_MOST_KINDS = 10_000


class Offset(int):
    """A placeholder for a weight among those of its layer: the first, the second."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other  # comparing with a tensor returns a tensor

    __hash__ = int.__hash__


_OFFSETS = tuple(map(Offset, range(64)))


class LayerKind:
    """What torch's layers that are alike have in common: all but the values of their weights, and their mode.

    Attributes:
        cls: Their class.
        attributes: What one has besides weights, mode and what every module has: numbers, strings and tuples of these.
        kept: What of ``state`` is the same in every layer.
        state: What a layer's ``__dict__`` holds, without what it has for itself alone and without empty hook dicts.
        settings, extra_repr: As ``ModuleFact`` has them.
        head, tail: The fields of ``ModuleFact`` that name their class, and those behind ``training``.
        params, buffers: What is registered under which name: an ``Offset`` into ``metas``, or ``None``.
        weights: What their weights are, parameters first.
        metas: Size, dtype and so on of its weights, parameters first.
    """

    __slots__ = (
        "attributes", "buffers", "cls", "extra_repr", "head", "kept", "metas", "params", "settings", "state", "tail",
        "weights",
    )  # fmt: skip

    def __init__(self, module: nn.Module, attributes: dict[str, Any], metas: tuple[TensorMeta, ...]) -> None:
        self.cls: type[nn.Module] = type(module)
        self.attributes = attributes
        self.state = {**_CONSTANTS, **_STORES, **attributes}
        own = {"training", *_STORES}
        self.kept = {name: value for name, value in self.state.items() if name not in own}
        self.settings = read_settings(module, attributes)
        self.extra_repr = read_extra_repr(module)
        self.metas = metas
        offsets = iter(_OFFSETS)
        self.params, self.buffers = (
            {name: None if tensor is None else next(offsets) for name, tensor in vars(module)[store].items()}
            for store in ("_parameters", "_buffers")
        )
        named = {name: _PARAMETER for name, place in self.params.items() if place is not None}
        named |= {name: _BUFFER for name, place in self.buffers.items() if place is not None}
        self.weights = tuple([Weight(*pair, meta) for pair, meta in zip(named.items(), metas, strict=True)])
        facts = read_class(self.cls)
        self.head = (facts.name, facts.module)
        self.tail: tuple[Any, ...] = ("", False, False, (), *facts[2:], MappingProxyType({}))


_PARAMETER: ParamKind = "parameter"
_BUFFER: ParamKind = "buffer"


class Weight:
    """A weight of a layer of some kind.

    Attributes:
        name: Its name in the layer.
        facts: The fields of its ``ParamFact`` behind the first two.
    """

    __slots__ = ("facts", "name")

    def __init__(self, name: str, kind: ParamKind, meta: TensorMeta) -> None:
        self.name = name
        sizes = (meta.shape, meta.dtype_name, meta.device_name, meta.num, meta.nbytes, meta.requires_grad)
        self.facts = ParamFact(0, (), *sizes, kind)[2:]


class LayerSpec:
    """One layer of torch's: its kind and what it has for itself.

    Attributes:
        kind: What it has in common with those like it.
        index: Its number among the modules.
        parent: That of the module that it was met in first.
        first: The number of its first weight, where the others follow it and are its alone; else -1.
        training: Its mode.
    """

    # a weak dict may have it among its keys
    __slots__ = ("__weakref__", "_names", "first", "index", "kind", "parent", "training")

    def __init__(self, kind: LayerKind, index: int, parent: int | None, training: Any) -> None:
        self.kind = kind
        self.index = index
        self.parent = parent
        self.first = -1
        self.training = training
        self._names: str | tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """What it is registered under."""
        return (self._names,) if type(self._names) is str else self._names  # type: ignore[return-value]

    def add_path(self, path: str) -> None:
        """Add a path: most have one, which then takes no tuple."""
        self._names = path if self._names == () else (*self.paths, path)

    def __call__(self) -> None:
        """Do nothing: in a template this is where only callables may be, in a ``partial`` say."""


class _Shape:
    """The names of the attributes of an instance of one of torch's layers, in their order.

    Attributes:
        own: Those that not every module has.
        get: Takes weights, buffers and the values of ``own``.
    """

    __slots__ = ("get", "own")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.own = [name for name in names if name not in MACHINERY]
        self.get: Callable[[Any], tuple[Any, ...]] = itemgetter("_parameters", "_buffers", *self.own)


#: Returns what may have been put on a module since it was made: hooks, children.
_get_later = itemgetter(*(name for name in vars(nn.Module()) if name not in ("training", "_parameters", "_buffers")))
_shapes: dict[tuple[Any, tuple[str, ...]], _Shape] = {}
_kinds: dict[tuple[Any, ...], LayerKind] = {}


def find_kind(module: nn.Module) -> LayerKind | None:
    """Find what a layer has in common with those like it.

    Returns:
        The same object for layers that are alike; ``None`` for what is no layer of torch's, has hooks, children or
        attributes of other types, or holds a weight that is more than a size and a dtype.
    """
    cls: Any = type(module)
    if cls not in _torchs_layers:
        if not _is_torchs_layer(cls):
            return None
        _torchs_layers.add(cls)
    state = module.__dict__
    names = tuple(state)
    shape = _shapes.get((cls, names))
    if shape is None:
        shape = _find_shape(cls, names)
        if shape is None:
            return None
    params, buffers, *own = shape.get(state)
    if any(_get_later(state)):
        return None
    key: list[Any] = [cls, shape]
    for value in own:
        kind = type(value)
        if kind in _EXACT_TYPES:
            key += (kind, value)
        elif kind is float:
            key += (kind, repr(value))  # -0.0 equals 0.0 and reads otherwise
        elif is_short_tuple(value):
            inner = [*map(type, value)]
            key += (*inner, repr(value) if float in inner else value)
        else:
            return None
    key.append(len(params))
    for name, param in [*params.items()]:  # another thread may write to it meanwhile
        if param is None:
            key += (name, None)
        elif type(param) is nn.Parameter and param.is_leaf and not _has_attributes(param):
            key += (name, read_meta(param))
        else:
            return None
    for name, buffer in [*buffers.items()]:
        if buffer is None:
            key += (name, None)
        elif _is_described_by_meta(name, buffer):
            key += (name, read_meta(buffer))
        else:
            return None
    known = tuple(key)
    found = _kinds.get(known)
    if found is None:
        metas = tuple([part for part in key if type(part) is TensorMeta])
        if any(meta.stride is None for meta in metas) or len(metas) > len(_OFFSETS):
            return None
        if len(_kinds) > _MOST_KINDS:
            _kinds.clear()
        found = _kinds[known] = LayerKind(module, dict(zip(shape.own, own, strict=True)), metas)
    return found


def _find_shape(cls: Any, names: tuple[str, ...]) -> _Shape | None:
    if not MACHINERY.issubset(names):
        return None
    if len(_shapes) > _MOST_KINDS:
        _shapes.clear()
    shape = _shapes[cls, names] = _Shape(names)
    return shape


def _is_described_by_meta(name: str, buffer: Any) -> bool:
    """Return whether the values of a buffer are not needed: numbers that steer a forward are integers, or single."""
    if type(buffer) is not Tensor or buffer.requires_grad or _has_attributes(buffer):
        return False
    return name == "num_batches_tracked" or (buffer.is_floating_point() and buffer.dim() > 0)


def _has_attributes(tensor: Tensor) -> bool:
    """Return whether any was set; reading ``__dict__`` outright would make one that stays with the tensor."""
    return len(gc.get_referents(tensor)) > 1 and bool(tensor.__dict__)


_torchs_layers: set[type] = set()  # of a user's class nothing is kept: it would live for ever


def _is_torchs_layer(cls: type[nn.Module]) -> bool:
    """Return whether a class is one of torch's layers, whose ``repr`` shows their settings and nothing else."""
    name = cls.__module__
    return (
        name.startswith("torch.nn.modules.")
        and name != "torch.nn.modules.container"  # a list of parameters shows their sizes
        and not issubclass(cls, LazyModuleMixin)
        and getattr(sys.modules.get(name), cls.__name__, None) is cls
    )
