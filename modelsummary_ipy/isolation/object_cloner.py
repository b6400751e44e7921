"""A clone of any object graph with every tensor converted: what is traced is never what the user holds."""

from __future__ import annotations

import array
import copy
import enum
import functools
import io
import itertools
import random
import types
import warnings
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from modelsummary_ipy.model.layer_spec import EMPTY, LayerSpec
from modelsummary_ipy.model.tensor_meta import TensorTemplate
from modelsummary_ipy.torch_compat.modules import COMPILED_MODULE_STATE, COMPILED_STATE, original_of_compiled

__all__ = ["Cloner"]

_ATOMS: frozenset[type] = frozenset(
    {bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, type, types.BuiltinFunctionType}
    | {torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, types.ModuleType, property}
)
#: Instances of classes from these packages are shared: locks, loggers, files and queues are not state of a model, and a
#: copied lock guards nothing. Sympy's expressions never change, and some are known by identity.
_SHARED_PACKAGES = frozenset(
    [
        "abc",
        "asyncio",
        "concurrent",
        "ctypes",
        "datetime",
        "decimal",
        "functools",
        "inspect",
        "io",
        "logging",
        "multiprocessing",
        "pathlib",
        "queue",
        "re",
        "socket",
        "subprocess",
        "sympy",
        "tempfile",
        "threading",
        "typing",
        "uuid",
        "weakref",
        "_io",
        "_thread",
        "_weakref",
    ]
)
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
        make_layer: Makes the layer that a ``LayerSpec`` stands for in a template.

    Attributes:
        modules: ``(original, clone)`` of every module that was cloned, in the order they were met; of a layer that was
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
    ) -> None:
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
        if isinstance(value, Tensor):
            return self._clone_tensor
        if isinstance(value, nn.Module):
            return self._clone_script_module if isinstance(value, torch.jit.ScriptModule) else self._clone_object
        if isinstance(value, tuple):
            return self._clone_tuple
        if isinstance(value, OrderedDict):
            return self._clone_ordered
        if isinstance(value, dict):
            return self._clone_dict
        if isinstance(value, (list, deque)):
            return self._clone_list
        if isinstance(value, (set, frozenset)):
            return self._clone_set
        if isinstance(value, types.SimpleNamespace):
            return self._clone_namespace
        if isinstance(value, np.ndarray):
            return self._clone_array
        if isinstance(value, functools.partial):
            return self._clone_partial
        if isinstance(value, (type, enum.Enum)) or kind.__module__.partition(".")[0] in _SHARED_PACKAGES:
            return self._share
        return self._clone_object if _has_python_state(kind) else self._share

    def _remember(self, original: Any, clone: Any) -> Any:
        self._memo[id(original)] = clone
        self._originals.append(original)
        return clone

    def _share(self, value: Any) -> Any:
        return self._remember(value, value)

    def _clone_tensor(self, value: Any) -> Any:
        clone = self._convert(value)
        self._remember(value, clone)
        self.tensors[id(value)] = clone
        kind = type(value)
        extras = value.extras if kind is TensorTemplate else value.__dict__ if kind in _PLAIN_TENSORS else None
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
        clone = self._remember(value, object.__new__(type(value)))
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
                    target[name] = {key: None if value is None else self(value) for key, value in [*item.items()]}
                elif name not in dropped:
                    target[name] = self(item)
            if is_module and "training" in state and not self._is_template:
                for name, kind in EMPTY.items():
                    if name not in target:
                        target[name] = kind()
        self._copy_slots(value, clone)
        return clone

    def _copy_slots(self, value: Any, clone: Any) -> None:
        for slot in _slots(type(value)):  # type: ignore[arg-type]  # classes have a hash, whatever their instances say
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
        clone = self._remember(value, self._convert_script(value))
        self.modules.append((value, clone))
        return clone

    def _clone_tuple(self, value: tuple[Any, ...]) -> Any:
        items = [self(item) for item in value]
        if id(value) in self._memo:  # reached again through one of its own items
            return self._memo[id(value)]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return self._share(value)
        return self._remember(value, tuple.__new__(type(value), items))

    def _clone_list(self, value: Any) -> Any:
        kind: Any = type(value)
        if kind is deque:
            clone = self._remember(value, deque(maxlen=value.maxlen))
        else:
            clone = self._remember(value, kind.__new__(kind))
            self._copy_attributes(value, clone)
        base = deque if isinstance(value, deque) else list
        base.extend(clone, [self(item) for item in base.copy(value)])
        return clone

    def _clone_dict(self, value: Any) -> Any:
        kind: Any = type(value)
        clone = self._remember(value, kind.__new__(kind))
        if isinstance(value, defaultdict):
            clone.default_factory = self(value.default_factory)
        self._copy_attributes(value, clone)
        for key, item in list(dict.items(value)):
            dict.__setitem__(clone, self(key), item if type(item) in _ATOMS else self(item))
        return clone

    def _clone_ordered(self, value: Any) -> Any:
        kind: Any = type(value)
        clone = self._remember(value, OrderedDict() if kind is OrderedDict else kind.__new__(kind))
        if value:
            for key, item in list(OrderedDict.items(value)):
                OrderedDict.__setitem__(clone, self(key), self(item))
        if kind is not OrderedDict:
            self._copy_attributes(value, clone)
        return clone

    def _clone_set(self, value: Any) -> Any:
        if not value:
            return self._share(value) if isinstance(value, frozenset) else self._remember(value, type(value)())
        return self._remember(value, type(value)([self(item) for item in list(value)]))

    def _copy_attributes(self, value: Any, clone: Any) -> None:
        for name, item in list(getattr(value, "__dict__", {}).items()):
            clone.__dict__[name] = self(item)

    def _clone_namespace(self, value: types.SimpleNamespace) -> Any:
        clone = self._remember(value, type(value).__new__(type(value)))
        self._copy_attributes(value, clone)
        return clone

    def _clone_method(self, value: types.MethodType) -> Any:
        owner = self(value.__self__)
        if owner is value.__self__:
            return self._share(value)
        return self._remember(value, types.MethodType(self(value.__func__), owner))

    def _clone_partial(self, value: functools.partial[Any]) -> Any:
        """What a class of a user's own makes of ``func`` does not matter: ``partial`` itself says what is called."""
        blank: Any = functools.partial.__new__(type(value), print)
        clone = self._remember(value, blank)
        functools.partial.__setstate__(clone, self(functools.partial.__reduce__(value)[2]))  # type: ignore[attr-defined]
        self._copy_slots(value, clone)
        return clone

    def _clone_cache(self, value: Any) -> Any:
        """What a function gave before is the user's: a cache that a model holds begins empty."""
        return self._remember(value, functools.lru_cache(**value.cache_parameters())(self(value.__wrapped__)))

    def _clone_function(self, value: types.FunctionType) -> Any:
        """A function is its code, but one that closes over a module, a tensor or a list would reach the original's.

        A compiled function is cloned as what it was compiled from: a trace runs eagerly.
        """
        original = original_of_compiled(value)
        if original is not None:
            return self._remember(value, self(original))
        if not value.__closure__ and not value.__dict__:
            return self._share(value)
        self._remember(value, value)  # stands for itself while its own closure is looked at
        cells = value.__closure__ or ()
        try:
            contents = [cell.cell_contents for cell in cells]
        except ValueError:  # a cell that is still empty
            return value
        clones = [self(content) for content in contents]
        if all(new is old for new, old in zip(clones, contents, strict=True)):
            return value
        closure = tuple(types.CellType(content) for content in clones)
        clone = types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, closure)
        clone.__kwdefaults__ = value.__kwdefaults__
        clone.__dict__.update(value.__dict__)
        clone.__qualname__, clone.__module__, clone.__doc__ = value.__qualname__, value.__module__, value.__doc__
        return self._remember(value, clone)

    def _clone_weakref(self, value: weakref.ref[Any]) -> Any:
        target = value()
        if target is None:
            return self._share(value)
        clone = self(target)
        return self._share(value) if clone is target else self._remember(value, weakref.ref(clone))

    def _clone_proxy(self, value: Any) -> Any:
        try:
            target = value.__init__.__self__  # a proxy hands on every attribute, and so says what it stands for
        except ReferenceError:
            return self._share(value)
        clone = self(target)
        return self._share(value) if clone is target else self._remember(value, weakref.proxy(clone))

    def _clone_weak(self, value: Any) -> Any:
        """A weak container holds the clones of what is cloned, and these live as long as the model's clone does."""
        clone = self._remember(value, type(value)())
        for item in list(value) if isinstance(value, weakref.WeakSet) else list(value.items()):
            if isinstance(value, weakref.WeakSet):
                clone.add(self(item))
            else:
                clone[self(item[0])] = self(item[1])
        return clone

    def _clone_array(self, value: Any) -> Any:
        return self._remember(value, value.copy())

    def _clone_bytes(self, value: Any) -> Any:
        return self._remember(value, value[:])

    def _clone_file(self, value: Any) -> Any:
        clone = self._remember(value, type(value)(value.getvalue()))
        clone.seek(value.tell())
        return clone

    def _clone_generator(self, value: torch.Generator) -> Any:
        clone = torch.Generator(device=value.device)
        clone.set_state(value.get_state())
        return self._remember(value, clone)

    def _clone_iterator(self, value: Any) -> Any:
        """An iterator is a way to make it, what it goes through and how far it came; a generator tells none of it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of itertools will tell no more from Python 3.14 on
            try:
                way, parts, *rest = value.__reduce__()
            except TypeError:
                return self._share(value)
        clone = way(*[self(part) for part in parts])
        if rest and rest[0] is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                clone.__setstate__(self(rest[0]))
        return self._remember(value, clone)

    def _clone_deep(self, value: Any) -> Any:
        return self._remember(value, copy.deepcopy(value))


@functools.lru_cache(maxsize=4096)
def _has_python_state(kind: type) -> bool:
    """Tell whether ``object.__new__`` and the attributes make a whole instance: no base is written in C.

    Classes bound from C++ (packed weights, ScriptObjects) pass for Python's but for their own ``__new__``.
    """
    for base in kind.__mro__:
        if base is object:
            continue
        own_new = base.__dict__.get("__new__")
        if not base.__flags__ & _HEAP_TYPE or (own_new is not None and not isinstance(own_new, staticmethod)):
            return False
    return all(base.__basicsize__ <= 512 for base in kind.__mro__)


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


@functools.lru_cache(maxsize=1024)
def _slots(kind: Any) -> tuple[types.MemberDescriptorType, ...]:
    """List the slots of a class and its bases, themselves and not by name: a class may hide one of its base's."""
    bases = [base for base in kind.__mro__ if base is not functools.partial]  # whose members are no slots
    return tuple(item for base in bases for item in vars(base).values() if type(item) is _SLOT)


_SLOT = types.MemberDescriptorType


_PLAIN_TENSORS = (Tensor, nn.Parameter)
_GONE_THROUGH: tuple[Any, ...] = ((), [], {}, {}.values(), {}.items(), set(), "", b"", range(0), deque())
_ITERATORS: tuple[Any, ...] = (
    *[type(iter(value)) for value in _GONE_THROUGH],
    *[type(reversed(value)) for value in _GONE_THROUGH[:3]],
    *(enumerate, filter, map, reversed, zip, itertools.accumulate, itertools.chain, itertools.count, itertools.cycle),
    *(itertools.compress, itertools.dropwhile, itertools.filterfalse, itertools.islice, itertools.product),
    *(itertools.repeat, itertools.starmap, itertools.takewhile, itertools.zip_longest),
)

_WAYS: dict[type, Callable[[Cloner, Any], Any]] = cast(
    dict[type, Callable[[Cloner, Any], Any]],
    {
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
        types.FunctionType: Cloner._clone_function,
        types.MethodType: Cloner._clone_method,
        functools.partial: Cloner._clone_partial,
        functools._lru_cache_wrapper: Cloner._clone_cache,
        weakref.ReferenceType: Cloner._clone_weakref,
        weakref.ProxyType: Cloner._clone_proxy,
        weakref.CallableProxyType: Cloner._clone_proxy,
        weakref.WeakKeyDictionary: Cloner._clone_weak,
        weakref.WeakValueDictionary: Cloner._clone_weak,
        weakref.WeakSet: Cloner._clone_weak,
        bytearray: Cloner._clone_bytes,
        array.array: Cloner._clone_bytes,
        io.BytesIO: Cloner._clone_file,
        io.StringIO: Cloner._clone_file,
        np.ndarray: Cloner._clone_array,
        torch.Generator: Cloner._clone_generator,
        random.Random: Cloner._clone_deep,
        np.random.Generator: Cloner._clone_deep,
        np.random.RandomState: Cloner._clone_deep,
        **dict.fromkeys(_ITERATORS, Cloner._clone_iterator),
    },
)
