"""Weights of eager-quantized layers: they lie in objects of C++, in a layout of their own, and are no parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.model.tensor_meta import TensorMeta, read_meta
from modelsummary_ipy.torch_compat.fakes import disable_dispatch, disable_function


def read_packed(packed: Any) -> list[tuple[str, Tensor, TensorMeta]]:
    """Return ``(name, stand-in, meta)`` of the weights that a packed object holds, ``[]`` for any other object.

    A stand-in is an empty tensor with an identity: what unpacking makes is a copy, and is let go.
    """
    found: list[tuple[str, Tensor, TensorMeta]] = []
    with disable_function(), disable_dispatch(), torch.no_grad():
        for place, parts in enumerate(_unpack(packed)):
            base = f"{place}." if place else ""
            for name, tensor in zip(("weight", "bias"), parts, strict=False):
                if isinstance(tensor, Tensor):
                    meta = read_meta(tensor.detach())
                    stand_in = torch.empty(meta.shape, dtype=_STORED.get(meta.dtype, meta.dtype), device="meta")
                    found.append((base + name, stand_in, meta))
    return found


_STORED = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}


def _unpack(packed: Any) -> Iterator[tuple[Any, ...]]:
    """Yield weight and bias of a packed layer, and of those that the state of a recurrent layer holds."""
    if not isinstance(packed, torch.ScriptObject):
        return
    try:
        if hasattr(packed, "unpack"):
            made = packed.unpack()
            yield made if isinstance(made, tuple) else (made,)
            return
        state = packed.__getstate__() if hasattr(packed, "__getstate__") else ()
    except RuntimeError:  # an engine that this machine does not have, a class that keeps its state to itself
        return
    for part in _list_objects(state):
        yield from _unpack(part)


def _list_objects(state: Any) -> Iterator[Any]:
    if isinstance(state, (tuple, list)):
        for part in state:
            yield from _list_objects(part)
    elif isinstance(state, torch.ScriptObject):
        yield state
