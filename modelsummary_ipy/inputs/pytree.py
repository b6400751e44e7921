"""Containers of sizes and tensors: their leaves by name, a twin with other leaves, and how they are written."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.size import Size

__all__ = ["Leaf", "list_items", "map_leaves", "rebuild", "walk_leaves", "write_value"]

Leaf = Size | Tensor


def walk_leaves(value: Any, name: str) -> Iterator[tuple[str, Leaf]]:
    """Yield the sizes and tensors in ``value`` under their key paths; ``name`` is the path of ``value`` itself."""
    if isinstance(value, (Size, Tensor)):
        yield name, value
        return
    for key, item in list_items(value):
        yield from walk_leaves(item, name + key)


def list_items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is directly inside a container with the text that reaches it; ``leaves.py`` names alike."""
    if isinstance(value, (type, nn.Module)):
        return
    if dataclasses.is_dataclass(value):
        for part in dataclasses.fields(value):
            yield f".{part.name}", getattr(value, part.name, None)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"[{key!r}]", item
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name in value._fields:
            yield f".{name}", getattr(value, name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item


def map_leaves(value: Any, name: str, change: Callable[[str, Leaf], Leaf]) -> Any:
    """Return ``value`` with every leaf changed by ``change(name, leaf)``; what holds no changed leaf is itself."""
    if isinstance(value, (Size, Tensor)):
        return change(name, value)
    items = [(item, map_leaves(item, name + key, change)) for key, item in list_items(value)]
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
        return tuple.__new__(type(value), items)
    return items


def write_value(value: Any) -> str:
    """Write a value as the magic takes it: a tensor as its size, an object as ``<its type>``."""
    if isinstance(value, Size):
        return str(value)
    if isinstance(value, Tensor):
        shape = tuple(value.shape)
        return str(Size(shape, dtype=value.dtype)) if 0 not in shape else f"tensor{shape}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{key[1:]}={write_value(item)}" for key, item in list_items(value))
        return f"{type(value).__name__}({inner})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {write_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(write_value(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    plain = isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, type(None)))
    text = repr(value) if plain else ""
    return text if plain and len(text) <= 60 else f"<{type(value).__name__}>"  # an address in a repr says nothing
