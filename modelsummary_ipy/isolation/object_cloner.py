"""A clone of any object graph with every tensor converted: what is traced is never what the user holds."""

from __future__ import annotations

import copy
import enum
import functools
import operator
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelsummary_ipy.fake.fake_subclasses import read_attributes
from modelsummary_ipy.isolation.known_classes import CLONERS, clone_namespace, clone_partial, clone_shallow
from modelsummary_ipy.model.class_cache import once_a_class
from modelsummary_ipy.model.layer_spec import EMPTY, LayerSpec
from modelsummary_ipy.model.tensor_meta import TensorTemplate
from modelsummary_ipy.torch_compat.distributed import SHARED_MODULES
from modelsummary_ipy.torch_compat.modules import COMPILED_MODULE_STATE, COMPILED_STATE

_ATOMS: frozenset[type] = frozenset(
    {bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, type, types.BuiltinFunctionType}
    | {torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, types.ModuleType, property}
)
#: Instances of classes from these packages are shared: locks, loggers, files and queues are not state of a model, and a
#: copied lock guards nothing. Sympy's expressions never change, and some are known by identity.
_SHARED_PACKAGES = frozenset([
    "abc", "asyncio", "concurrent", "ctypes", "datetime", "decimal", "functools", "inspect", "io", "logging",
    "multiprocessing", "pathlib", "queue", "re", "socket", "subprocess", "sympy", "tempfile", "threading",
    "typing", "uuid", "weakref", "_io", "_thread", "_weakref",
])  # fmt: skip
#: Dicts that every module has for itself alone: nothing else refers to them, so they need no place in the memo.
_REGISTRIES = frozenset({"_parameters", "_buffers", "_modules"})


class Cloner:
    """Clone modules, containers, plain objects and functions through one memo, so what was shared stays shared.

    Locks, files, enums, classes and whatever has no Python-level state are shared with the original.

    Args:
        convert: Makes the clone's tensor from the original's; called once for each tensor.
        convert_script: Makes the clone of a ScriptModule.
        leaf_types: Types that are converted too; two places that hold one such object get an object each.
        is_template: Whether the clone is only ever cloned again.
        ready: Clones that are there already, by ``id`` of the original.
        make_layer: Makes the layer of a ``LayerSpec`` in a template.
        register: Makes ``_modules`` of a module from what is registered in the template, with the specifications of
            layers in it; by default these are made at once.

    Attributes:
        modules: ``(original, clone)`` of every module that was cloned, in the order found; of a layer that was
            made of a ``LayerSpec``, that.
        tensors: ``id`` of the original to the clone's tensor.
    """

    def __init__(
        self,
        convert: Callable[[Any], Any],
        convert_script: Callable[[Any], Any] = copy.deepcopy,
        *,
        leaf_types: frozenset[type] = frozenset(),
        is_template: bool = False,
        ready: Mapping[int, Any] | None = None,
        make_layer: Callable[[LayerSpec, Cloner], nn.Module] | None = None,
        register: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self._register = register
        self._make_layer = make_layer
        self._is_template = is_template
        self._leaf_types = leaf_types
        self._convert = convert
        self._convert_script = convert_script
        self._memo: dict[int, Any] = dict(ready or {})
        self._originals: list[Any] = []  # an id in the memo must not be reused while we clone
        self.modules: list[tuple[Any, Any]] = []
        self.tensors: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        """Return the clone of ``value``."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind in self._leaf_types:
            return self._convert(value)
        key = id(value)
        if key in self._memo:
            return self._memo[key]
        way = _WAYS.get(kind)
        return self._find_way(value, kind)(value) if way is None else way(self, value)

    def _find_way(self, value: Any, kind: type) -> Callable[[Any], Any]:
        for base, way in _WAYS_OF_SUBCLASSES:
            if isinstance(value, base):
                return functools.partial(way, self)
        is_shared = kind.__module__ in SHARED_MODULES or kind.__module__.partition(".")[0] in _SHARED_PACKAGES
        is_shared = is_shared or isinstance(value, (type, enum.Enum)) or not _has_python_state(kind)
        return self.share if is_shared else self._clone_object

    def remember(self, original: Any, clone: Any) -> Any:
        """Put a clone into the memo before what is in it is cloned; returns it."""
        self._memo[id(original)] = clone
        self._originals.append(original)
        return clone

    def share(self, value: Any) -> Any:
        """Let the clone have the original itself."""
        return self.remember(value, value)

    def _clone_tensor(self, value: Any) -> Any:
        clone = self._convert(value)
        self.remember(value, clone)
        self.tensors[id(value)] = clone
        kind = type(value)
        extras = value.extras if kind is TensorTemplate else read_attributes(value)
        if extras and clone is not value:
            if type(clone) is TensorTemplate:
                target = clone.extras = clone.extras or {}
            else:
                target = clone.__dict__
            for name, item in list(extras.items()):
                target.setdefault(name, self(item))
        return clone

    def _clone_object(self, value: Any) -> Any:
        """Clone by state, not by constructor: neither ``__init__`` nor ``__setattr__`` of the user's class runs."""
        clone = self.remember(value, object.__new__(type(value)))
        is_module = isinstance(value, nn.Module)
        if is_module:
            self.modules.append((value, clone))
        state = getattr(value, "__dict__", None)
        dropped = COMPILED_MODULE_STATE if type(value).__name__ == "OptimizedModule" else COMPILED_STATE
        if state is not None:
            target = clone.__dict__
            items = list(state.items())
            if is_module:  # what is empty is made below
                items = [item for item in items if item[0] not in EMPTY or item[1]]
            for name, item in items:
                kind = type(item)
                if kind in _ATOMS:
                    target[name] = item
                elif name in _REGISTRIES and kind is dict:
                    target[name] = self._clone_registry(name, item)
                elif name not in dropped:
                    target[name] = self(item)
            if is_module and "training" in state and not self._is_template:
                for name, kind in EMPTY.items():
                    if name not in target:
                        target[name] = kind()
        self.copy_slots(value, clone)
        return clone

    def _clone_registry(self, name: str, registry: dict[str, Any]) -> dict[str, Any]:
        items = [*registry.items()]
        if name == "_modules" and self._register is not None and any(type(item) is LayerSpec for _, item in items):
            return self._register({key: item if type(item) is LayerSpec else self(item) for key, item in items})
        return {key: None if item is None else self(item) for key, item in items}

    def copy_slots(self, value: Any, clone: Any) -> None:
        """Clone what is in the slots of an object."""
        for slot in _slots(type(value)):
            try:
                item = slot.__get__(value)
            except AttributeError:  # a slot that was never filled
                continue
            slot.__set__(clone, self(item))

    def _clone_layer(self, spec: LayerSpec) -> Any:
        assert self._make_layer is not None
        layer = self._memo[id(spec)] = self._make_layer(spec, self)
        self.modules.append((spec, layer))
        return layer

    def _clone_script_module(self, value: torch.jit.ScriptModule) -> Any:
        clone = self.remember(value, self._convert_script(value))
        self.modules.append((value, clone))
        return clone

    def _clone_tuple(self, value: tuple[Any, ...]) -> Any:
        items = [self(item) for item in value]
        if id(value) in self._memo:  # reached again through one of its own items
            return self._memo[id(value)]
        if all(map(operator.is_, items, value)):  # no generator: what a signal raises in one that is closed is lost
            return self.share(value)
        return self.remember(value, tuple.__new__(type(value), items))

    def _clone_list(self, value: Any) -> Any:
        kind: Any = type(value)
        if kind is deque:
            clone = self.remember(value, deque(maxlen=value.maxlen))
        else:
            clone = self.remember(value, kind.__new__(kind))
            self.copy_attributes(value, clone)
        base = deque if isinstance(value, deque) else list
        base.extend(clone, [self(item) for item in base.copy(value)])
        return clone

    def _clone_dict(self, value: Any) -> Any:
        kind: Any = type(value)
        clone = self.remember(value, kind.__new__(kind))
        if isinstance(value, defaultdict):
            clone.default_factory = self(value.default_factory)
        self.copy_attributes(value, clone)
        for key, item in list(dict.items(value)):
            dict.__setitem__(clone, self(key), item if type(item) in _ATOMS else self(item))
        return clone

    def _clone_ordered(self, value: Any) -> Any:
        kind: Any = type(value)
        clone = self.remember(value, OrderedDict() if kind is OrderedDict else kind.__new__(kind))
        if value:
            for key, item in list(OrderedDict.items(value)):
                OrderedDict.__setitem__(clone, self(key), self(item))
        if kind is not OrderedDict:
            self.copy_attributes(value, clone)
        return clone

    def _clone_set(self, value: Any) -> Any:
        if not value:
            return self.share(value) if isinstance(value, frozenset) else self.remember(value, type(value)())
        return self.remember(value, type(value)([self(item) for item in list(value)]))

    def copy_attributes(self, value: Any, clone: Any) -> None:
        """Clone what is in the ``__dict__`` of an object."""
        for name, item in list(getattr(value, "__dict__", {}).items()):
            clone.__dict__[name] = self(item)


@once_a_class
def _has_python_state(kind: type) -> bool:
    """Return whether ``object.__new__`` and the attributes make a whole instance: no base is written in C.

    Classes bound from C++ (packed weights, ScriptObjects) look like Python's but for their own ``__new__``.
    """
    for base in kind.__mro__:
        if base is object:
            continue
        own_new = base.__dict__.get("__new__")
        if not base.__flags__ & _HEAP_TYPE or (own_new is not None and not isinstance(own_new, staticmethod)):
            return False
    return all(base.__basicsize__ <= 512 for base in kind.__mro__)


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


def _slots(kind: Any) -> tuple[types.MemberDescriptorType, ...]:
    """List the slots of a class and its bases, themselves and not by name: a class may hide one of its base's."""
    return _list_slots(kind) if _has_slots(kind) else ()


@once_a_class
def _has_slots(kind: type) -> bool:
    return bool(_list_slots(kind))  # these themselves hold the class


def _list_slots(kind: Any) -> tuple[types.MemberDescriptorType, ...]:
    bases = [base for base in kind.__mro__ if base is not functools.partial]  # whose members are no slots
    return tuple(item for base in bases for item in vars(base).values() if type(item) is _SLOT)


_SLOT = types.MemberDescriptorType


_WAYS: dict[type, Callable[[Cloner, Any], Any]] = {
    **CLONERS,
    TensorTemplate: Cloner._clone_tensor,
    Tensor: Cloner._clone_tensor,
    nn.Parameter: Cloner._clone_tensor,
    dict: Cloner._clone_dict,
    OrderedDict: Cloner._clone_ordered,
    LayerSpec: Cloner._clone_layer,
    list: Cloner._clone_list,
    tuple: Cloner._clone_tuple,
    set: Cloner._clone_set,
    frozenset: Cloner._clone_set,
}
#: The same for classes of the user's, by what they inherit from.
_WAYS_OF_SUBCLASSES: tuple[tuple[Any, Callable[[Cloner, Any], Any]], ...] = (
    (Tensor, Cloner._clone_tensor),
    (torch.jit.ScriptModule, Cloner._clone_script_module),
    (nn.Module, Cloner._clone_object),
    (tuple, Cloner._clone_tuple),
    (OrderedDict, Cloner._clone_ordered),
    (dict, Cloner._clone_dict),
    ((list, deque), Cloner._clone_list),
    ((set, frozenset), Cloner._clone_set),
    (types.SimpleNamespace, clone_namespace),
    (np.ndarray, clone_shallow),
    (functools.partial, clone_partial),
)
