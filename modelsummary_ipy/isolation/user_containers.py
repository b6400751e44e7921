"""Containers of the user's that a trace wrote to: what they held before, and what in them is of a trace."""

from __future__ import annotations

import operator
import types
from collections import deque
from typing import Any

from torch import Tensor, nn

from modelsummary_ipy.isolation.namespaces import is_users_module
from modelsummary_ipy.model.tensor_meta import TAG
from modelsummary_ipy.torch_compat.fakes import FakeTensor

#: How deep a value is searched for a tensor of ours.
_DEEP = 8
ATOMS = frozenset({bool, int, float, str, bytes, type(None)})
SIMPLE = ATOMS | {types.FunctionType, types.ModuleType, type}


def copy_items(container: Any) -> Any:
    """Copy by the built-in class: some mappings of transformers import or build all their values when they are read."""
    if isinstance(container, dict):
        return dict(dict.items(container))
    base: Any = next(base for base in (list, set, deque) if isinstance(container, base))
    return list(base.__iter__(container))


def put_back(container: Any, before: Any) -> None:
    """Let a container hold what it held, in its order, if that is not so."""
    now = copy_items(container)
    if isinstance(container, dict):
        if list(now) != list(before) or not all(map(operator.is_, now.values(), before.values())):
            dict.clear(container)
            dict.update(container, before)
        return
    if len(now) == len(before) and all(map(operator.is_, now, before)):
        return
    if isinstance(container, set):
        set.clear(container)
        set.update(container, before)
        return
    base: Any = list if isinstance(container, list) else deque
    base.clear(container)
    base.extend(container, before)


def clean(container: Any, before: Any = ()) -> None:
    """Take what is ours out of a container; what it held before comes back if it was replaced."""
    if isinstance(container, dict):
        _clean_dict(container, before or {})
    elif isinstance(container, set):
        for item in [item for item in copy_items(container) if holds_traced(item)]:
            set.discard(container, item)
    else:
        _clean_list(container, list(before))


def _clean_dict(container: dict[Any, Any], before: dict[Any, Any]) -> None:
    now = copy_items(container)
    if len(now) == len(before) and all(map(operator.is_, now.values(), before.values())):
        return
    for key, value in now.items():
        if value is before.get(key) or not holds_traced(value):
            continue
        if key in before:
            dict.__setitem__(container, key, before[key])
        else:
            dict.__delitem__(container, key)


def _clean_list(container: Any, before: list[Any]) -> None:
    known = set(map(id, before))
    now = copy_items(container)
    kept = [item for item in now if id(item) in known or not holds_traced(item)]
    if len(kept) == len(now):
        return
    base: Any = list if isinstance(container, list) else deque
    base.clear(container)
    base.extend(container, before if len(kept) < len(before) else kept)


def holds_traced(value: Any, depth: int = _DEEP) -> bool:
    """Return whether a value is, or has inside, a tensor that a trace made."""
    if isinstance(value, Tensor):
        return isinstance(value, FakeTensor) or TAG in value.__dict__
    if depth == 0 or type(value) in SIMPLE:
        return False
    if isinstance(value, nn.Module):
        return any(holds_traced(tensor, 1) for tensor in (*value.parameters(), *value.buffers()))
    if isinstance(value, dict):
        return any(holds_traced(item, depth - 1) for item in copy_items(value).values())
    if isinstance(value, (list, set, deque)):
        return any(holds_traced(item, depth - 1) for item in copy_items(value))
    if isinstance(value, (tuple, frozenset)):
        return any(holds_traced(item, depth - 1) for item in tuple(value))
    state = getattr(value, "__dict__", None)
    return type(state) is dict and is_users_module(type(value).__module__) and holds_traced(state, depth - 1)
