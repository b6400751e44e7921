"""Modules and trainable tensors that a module keeps in plain attributes: in lists, dicts, functions and objects."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from modelsummary_ipy.model.module_repr import ATOMS

_MAX_SEARCH = 4
_MAX_ITEMS = 10_000


def find_unregistered(others: list[tuple[str, Any]], seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Find modules kept in a module's plain lists, dicts, tuples and objects, with the text that reaches them.

    Args:
        others: Where to look: what the module has besides numbers and strings.
        seen: ``id`` of every container looked into so far: a config that 200 layers share is read once.
    """
    for name, value in others:
        yield from _search(value, name, 0, seen)


def _search(value: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(value, nn.Module):
        yield name, value
        return
    if depth >= _MAX_SEARCH or isinstance(value, (*ATOMS, Tensor, type)) or id(value) in seen:
        return
    seen.add(id(value))
    for suffix, item, steps in _contents(value):
        if not isinstance(item, ATOMS):
            yield from _search(item, name + suffix, depth + steps, seen)


def _contents(value: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield what a container, a function or a plain object holds: how it is reached, itself, how deep that counts."""
    if isinstance(value, Mapping):
        for key, item in itertools.islice(list(value.items()), _MAX_ITEMS):
            yield f"[{key!r}]", item, 1
    elif isinstance(value, (list, tuple, deque)):
        for index, item in enumerate(list(itertools.islice(value, _MAX_ITEMS))):
            yield f"[{index}]", item, 1
    elif isinstance(value, FunctionType):
        for free, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # a cell that is still empty
                yield f".{free}", cell.cell_contents, 1
    elif isinstance(value, functools.partial):
        yield ".func", value.func, 1
        yield ".args", value.args, 1
    elif type(value).__module__ not in ("builtins", "logging", "threading", "weakref"):
        for key, item in list(getattr(value, "__dict__", {}).items()):
            if not key.startswith("__"):
                yield f".{key}", item, 2
        for kind in type(value).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else tuple(slots):
                with contextlib.suppress(AttributeError):  # a slot that was never filled
                    if not slot.startswith("__"):
                        yield f".{slot}", object.__getattribute__(value, slot), 2


def find_trainable(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Find the trainable tensors in a plain attribute, with the text that reaches them."""
    if isinstance(value, Tensor):
        if value.requires_grad and value.is_leaf:
            yield name, value
    elif depth < 2 and isinstance(value, Mapping):
        for key, item in itertools.islice(list(value.items()), _MAX_ITEMS):
            yield from find_trainable(item, f"{name}[{key!r}]", depth + 1)
    elif depth < 2 and isinstance(value, (list, tuple)):
        for index, item in enumerate(value[:_MAX_ITEMS]):
            yield from find_trainable(item, f"{name}[{index}]", depth + 1)
