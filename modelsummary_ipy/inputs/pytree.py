"""Nested arguments and results: their leaves by key path, the same containers with other leaves, and as text.

Not ``torch.utils._pytree``: it opens no dataclass that was not registered, and its key paths are no Python.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.size import Size

Leaf = Size | Tensor

_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, functools.partial)
_PLAIN = (int, float, str, bool, type(None), type, nn.Module)
_NUMBERS = frozenset({int, float, bool, type(None)})
#: Nothing is nested so deep but a structure that contains itself.
_MAX_DEPTH = 12


def holds_numbers_alone(value: Any) -> bool:
    """Return whether a value is a plain list or tuple of numbers: one of millions is looked at no further."""
    return type(value) in (list, tuple) and _NUMBERS.issuperset(map(type, value))


def list_items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is directly inside a container with the text that reaches it.

    Opens tuples, lists, mappings, named tuples and dataclasses; not sets, other objects or modules.

    Example:
        >>> list(list_items({"logits": 1})), list(list_items([2, 3]))
        ([("['logits']", 1)], [('[0]', 2), ('[1]', 3)])
    """
    if isinstance(value, (type, nn.Module)):
        return
    if dataclasses.is_dataclass(value):  # before Mapping: transformers' ModelOutput is both, and read by attribute
        for part in dataclasses.fields(value):
            yield f".{part.name}", getattr(value, part.name, None)
    elif isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name in value._fields:
            yield f".{name}", getattr(value, name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item


def list_attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the public attributes of an object that is no container, with the text that reaches them.

    Of private ones mappings alone: graph libraries keep one behind properties. Modules, classes, functions have none.
    """
    if isinstance(value, (*_PLAIN, *_FUNCTIONS)):
        return
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        slots = [slot for cls in type(value).__mro__ for slot in getattr(cls, "__slots__", ())]
        attributes = {slot: getattr(value, slot, None) for slot in slots}
    for key, item in list(attributes.items()):
        if not key.startswith("_"):
            yield f".{key}", item
        elif isinstance(item, Mapping):
            yield "", item


def walk_leaves(
    value: Any, name: str = "", kinds: tuple[type, ...] = (Tensor, Size), depth: int = 0, opened: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and sizes in ``value`` under their key paths.

    Args:
        name: The path of ``value`` itself.
        kinds: What is a leaf.
        depth: How deep ``value`` is nested.
        opened: Of objects that are no containers, the ``id`` of those that were opened; ``None``: these stay closed.
    """
    if isinstance(value, kinds):
        yield name, value
        return
    if isinstance(value, _PLAIN) or depth > _MAX_DEPTH or holds_numbers_alone(value):
        return
    is_closed = True
    for key, item in list_items(value):
        is_closed = False
        yield from walk_leaves(item, name + key, kinds, depth + 1, opened)
    if is_closed and opened is not None and id(value) not in opened:
        opened.add(id(value))
        for key, item in list_attributes(value):
            yield from walk_leaves(item, name + key, kinds, depth + 1, opened)


def map_leaves(value: Any, name: str, change: Callable[[str, Leaf], Leaf]) -> Any:
    """Return ``value`` with every leaf changed by ``change(name, leaf)``; what holds no changed leaf is itself."""
    if isinstance(value, (Size, Tensor)):
        return change(name, value)
    return _map_items(value, lambda key, item: map_leaves(item, name + key, change))


def _map_items(value: Any, change: Callable[[str, Any], Any]) -> Any:
    if holds_numbers_alone(value):
        return value
    items = [(item, change(key, item)) for key, item in list_items(value)]
    return value if all(new is old for old, new in items) else rebuild(value, [new for _, new in items])


def rebuild(value: Any, items: list[Any]) -> Any:
    """Return a container like ``value`` with other items; the user's own is never changed."""
    if dataclasses.is_dataclass(value):
        made = copy.copy(value)  # no constructor: it may check, or compute
        for part, item in zip(dataclasses.fields(value), items, strict=True):
            object.__setattr__(made, part.name, item)
        return made
    if isinstance(value, Mapping):
        if type(value) is dict:
            return dict(zip(value, items, strict=True))
        twin: Any = copy.copy(value)
        for key, item in zip(list(value), items, strict=True):
            twin[key] = item
        return twin
    if isinstance(value, tuple):
        is_structseq = hasattr(value, "n_sequence_fields")  # what torch.max returns
        return type(value)(items) if is_structseq else tuple.__new__(type(value), items)
    return items


def replace_tensors(value: Any, fresh: Mapping[int, Tensor], depth: int = 0) -> Any:
    """Return ``value`` with other tensors, by the id of those they replace.

    Objects that are no containers, such as graph data or a cache, are changed in place, so ``value`` must be a clone.
    A container that takes no such tensor, as one that checks sizes, keeps its own.
    """
    if isinstance(value, Tensor):
        return fresh.get(id(value), value)
    if isinstance(value, _PLAIN) or depth > _MAX_DEPTH:
        return value
    with contextlib.suppress(Exception):
        value = _map_items(value, lambda _, item: replace_tensors(item, fresh, depth + 1))
    is_object = hasattr(value, "__dict__") and not isinstance(value, Mapping) and not dataclasses.is_dataclass(value)
    for name, item in list(vars(value).items()) if is_object else ():
        new = replace_tensors(item, fresh, depth + 1)
        if new is not item:
            with contextlib.suppress(AttributeError, TypeError):
                object.__setattr__(value, name, new)
    return value


def write_value(value: Any) -> str:
    """Write a value as the magic takes it: a tensor as its size, an object as ``<its type>``."""
    if isinstance(value, Size):
        return str(value)
    if isinstance(value, Tensor):
        if value.is_nested:  # it has no one size
            return f"<nested tensor of {value.size(0)}>"
        shape = tuple(value.shape)
        return str(Size(shape, dtype=value.dtype)) if 0 not in shape else f"tensor{shape}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{key[1:]}={write_value(item)}" for key, item in list_items(value))
        return f"{type(value).__name__}({inner})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {write_value(item)}" for key, item in value.items()) + "}"
    if holds_numbers_alone(value):
        return repr(value)
    if isinstance(value, (list, tuple)):
        inner = ", ".join(write_value(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    plain = isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, type(None)))
    text = repr(value) if plain else ""
    return text if plain and len(text) <= 60 else f"<{type(value).__name__}>"  # an address in a repr means nothing
