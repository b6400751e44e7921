"""How objects of Python, numpy and torch are cloned whose class is known: functions, references, caches, iterators."""

from __future__ import annotations

import array
import copy
import functools
import io
import itertools
import random
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from modelsummary_ipy.isolation.ignored_warnings import warnings_ignored
from modelsummary_ipy.torch_compat.modules import original_of_compiled


class Cloner(Protocol):
    """What these functions use of the ``Cloner`` in ``object_cloner.py``, which calls them."""

    def __call__(self, value: Any) -> Any:
        """Clone a value."""

    def remember(self, original: Any, clone: Any) -> Any:
        """Note the clone of an object, and return it."""

    def share(self, value: Any) -> Any:
        """Take the value itself for its clone."""

    def copy_attributes(self, value: Any, clone: Any) -> None:
        """Give the clone the value's attributes, cloned."""

    def copy_slots(self, value: Any, clone: Any) -> None:
        """Give the clone what the value holds in slots, cloned."""


def clone_namespace(cloner: Cloner, value: types.SimpleNamespace) -> Any:
    """Clone a namespace, or one of a class of the user's."""
    clone = cloner.remember(value, type(value).__new__(type(value)))
    cloner.copy_attributes(value, clone)
    return clone


def _clone_method(cloner: Cloner, value: types.MethodType) -> Any:
    owner = cloner(value.__self__)
    if owner is value.__self__:
        return cloner.share(value)
    return cloner.remember(value, types.MethodType(cloner(value.__func__), owner))


def clone_partial(cloner: Cloner, value: functools.partial[Any]) -> Any:
    """What a user's own class makes of ``func`` does not matter: ``partial`` itself has what is called."""
    blank: Any = functools.partial.__new__(type(value), print)
    clone = cloner.remember(value, blank)
    functools.partial.__setstate__(clone, cloner(functools.partial.__reduce__(value)[2]))  # type: ignore[attr-defined]
    cloner.copy_slots(value, clone)
    return clone


def _clone_cache(cloner: Cloner, value: Any) -> Any:
    """What a function gave before is the user's: a cache that a model holds begins empty."""
    return cloner.remember(value, functools.lru_cache(**value.cache_parameters())(cloner(value.__wrapped__)))


def _clone_weakref(cloner: Cloner, value: weakref.ref[Any]) -> Any:
    target = value()
    if target is None:
        return cloner.share(value)
    clone = cloner(target)
    return cloner.share(value) if clone is target else cloner.remember(value, weakref.ref(clone))


def _clone_proxy(cloner: Cloner, value: Any) -> Any:
    try:
        target = value.__init__.__self__  # a proxy forwards every attribute, and so has its target
    except ReferenceError:
        return cloner.share(value)
    clone = cloner(target)
    return cloner.share(value) if clone is target else cloner.remember(value, weakref.proxy(clone))


def _clone_weak(cloner: Cloner, value: Any) -> Any:
    """A weak container holds the clones of what is cloned, and these live as long as the model's clone does."""
    clone = cloner.remember(value, type(value)())
    for item in list(value) if isinstance(value, weakref.WeakSet) else list(value.items()):
        if isinstance(value, weakref.WeakSet):
            clone.add(cloner(item))
        else:
            clone[cloner(item[0])] = cloner(item[1])
    return clone


def clone_shallow(cloner: Cloner, value: Any) -> Any:
    """Copy an array with its class."""
    return cloner.remember(value, copy.copy(value))


def _clone_file(cloner: Cloner, value: Any) -> Any:
    clone = cloner.remember(value, type(value)(value.getvalue()))
    clone.seek(value.tell())
    return clone


def _clone_generator(cloner: Cloner, value: torch.Generator) -> Any:
    clone = torch.Generator(device=value.device)
    clone.set_state(value.get_state())
    return cloner.remember(value, clone)


def _clone_iterator(cloner: Cloner, value: Any) -> Any:
    """An iterator is a way to make it, what it goes through and its position; a generator shows none of them."""
    with warnings_ignored():
        # those of itertools can't be copied from Python 3.14 on
        try:
            way, parts, *rest = value.__reduce__()
        except TypeError:
            return cloner.share(value)
    clone = way(*[cloner(part) for part in parts])
    if rest and rest[0] is not None:
        with warnings_ignored():
            clone.__setstate__(cloner(rest[0]))
    return cloner.remember(value, clone)


def _clone_deep(cloner: Cloner, value: Any) -> Any:
    return cloner.remember(value, copy.deepcopy(value))


def _clone_function(cloner: Cloner, value: types.FunctionType) -> Any:
    """A function is its code, but one that closes over a module, a tensor or a list would reach the original's.

    A compiled function is cloned as what it was compiled from: a trace runs eagerly.
    """
    original = original_of_compiled(value)
    if original is not None:
        return cloner.remember(value, cloner(original))
    if not value.__closure__ and not value.__dict__:
        return cloner.share(value)
    cloner.remember(value, value)  # its own clone while its closure is visited
    cells = value.__closure__ or ()
    try:
        contents = [cell.cell_contents for cell in cells]
    except ValueError:  # a cell that is still empty
        return value
    clones = [cloner(content) for content in contents]
    if all(new is old for new, old in zip(clones, contents, strict=True)):
        return value
    closure = tuple(types.CellType(content) for content in clones)
    clone = types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, closure)
    clone.__kwdefaults__ = value.__kwdefaults__
    clone.__dict__.update(value.__dict__)
    clone.__qualname__, clone.__module__, clone.__doc__ = value.__qualname__, value.__module__, value.__doc__
    return cloner.remember(value, clone)


_GONE_THROUGH: tuple[Any, ...] = ((), [], {}, {}.values(), {}.items(), set(), "", b"", range(0), deque())
_ITERATORS: tuple[Any, ...] = (
    *[type(iter(value)) for value in _GONE_THROUGH],
    *[type(reversed(value)) for value in _GONE_THROUGH[:3]],
    *(enumerate, filter, map, reversed, zip, itertools.accumulate, itertools.chain, itertools.count, itertools.cycle),
    *(itertools.compress, itertools.dropwhile, itertools.filterfalse, itertools.islice, itertools.product),
    *(itertools.repeat, itertools.starmap, itertools.takewhile, itertools.zip_longest),
)

#: By class: ``(cloner, original) -> clone``.
CLONERS: dict[type, Callable[[Cloner, Any], Any]] = {
    types.FunctionType: _clone_function,
    types.MethodType: _clone_method,
    functools.partial: clone_partial,
    functools._lru_cache_wrapper: _clone_cache,
    weakref.ReferenceType: _clone_weakref,
    weakref.ProxyType: _clone_proxy,
    weakref.CallableProxyType: _clone_proxy,
    weakref.WeakKeyDictionary: _clone_weak,
    weakref.WeakValueDictionary: _clone_weak,
    weakref.WeakSet: _clone_weak,
    bytearray: clone_shallow,
    array.array: clone_shallow,
    io.BytesIO: _clone_file,
    io.StringIO: _clone_file,
    np.ndarray: clone_shallow,
    torch.Generator: _clone_generator,
    random.Random: _clone_deep,
    np.random.Generator: _clone_deep,
    np.random.RandomState: _clone_deep,
    **dict.fromkeys(_ITERATORS, _clone_iterator),
}
