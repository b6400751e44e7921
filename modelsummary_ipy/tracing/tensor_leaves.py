"""Nested values to named tensor leaves: what went in and out of a call, under its key path."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake

from modelsummary_ipy.model.tensor_meta import name_device, name_dtype
from modelsummary_ipy.records.trace import TensorSpec

__all__ = ["build_spec", "find_argument_leaves", "find_leaves", "read_shape"]

Leaf = tuple[str, Tensor]


_MAX_DEPTH = 12
_specs: dict[tuple[str, Any, torch.dtype, torch.device], TensorSpec] = {}


def build_spec(name: str, tensor: Tensor) -> TensorSpec:
    """Write down a tensor's size, dtype and device; equal specs are one object, for 50,000 rows share a few hundred."""
    shape = read_shape(tensor) if tensor.is_nested else tensor.shape
    key = (name, shape, tensor.dtype, tensor.device)
    try:
        spec = _specs.get(key)
    except TypeError:  # symbolic sizes have no hash
        return TensorSpec(name, tuple(shape), name_dtype(tensor.dtype), name_device(tensor.device))
    if spec is None:
        if len(_specs) > 100_000:
            _specs.clear()
        spec = TensorSpec(name, tuple(shape), name_dtype(tensor.dtype), name_device(tensor.device))
        _specs[key] = spec
    return spec


def read_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's sizes; -1 stands for the ragged dim of a nested tensor."""
    if not tensor.is_nested:
        return tuple(tensor.shape)
    if tensor.layout == torch.jagged:
        return _read_jagged(tensor)
    sizes = tensor._nested_tensor_size()  # the only way to ask a strided nested tensor
    columns = sizes.t().tolist()
    return (sizes.shape[0], *(column[0] if len(set(column)) == 1 else -1 for column in columns))


def _read_jagged(tensor: Any) -> tuple[int, ...]:
    """Return the sizes of a jagged tensor; a dim that could be ragged and is not has the size that all its parts have.

    Only of real ones are the lengths of the parts known.
    """
    ragged = -1
    if not (tensor.offsets().is_meta or is_fake(tensor.offsets())):
        with torch._C._DisableTorchDispatch():  # looking is no step of the forward
            lengths = set((tensor.offsets().diff() if tensor.lengths() is None else tensor.lengths()).tolist())
        ragged = lengths.pop() if len(lengths) == 1 else -1
    return tuple(size if type(size) is int else ragged for size in tensor.shape)


def find_leaves(value: Any) -> list[Leaf]:
    """List the tensors in ``value`` with their key paths: through tuples, lists, dicts, named tuples and dataclasses.

    Sets, arbitrary objects and modules are not opened.
    """
    if isinstance(value, Tensor):
        return [("", value)]
    found: list[Leaf] = []
    _collect(value, "", found, 0)
    return found


def _collect(value: Any, name: str, found: list[Leaf], depth: int) -> None:
    if isinstance(value, Tensor):
        found.append((name, value))
        return
    if value is None or isinstance(value, (int, float, str, bool)) or depth > _MAX_DEPTH:
        return
    for key, item in _items(value):
        _collect(item, name + key, found, depth + 1)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is directly inside a container with the text that reaches it."""
    if isinstance(value, type):
        return
    if dataclasses.is_dataclass(value):  # before dict: a transformers ModelOutput is both, and read by attribute
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name, None)
    elif isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for field_name in value._fields:
            yield f".{field_name}", getattr(value, field_name)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield f"[{index}]", item


def find_argument_leaves(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...] = ()) -> list[Leaf]:
    """List the tensors among the arguments of a call, positional first.

    A tensor that is the one positional argument is bare (``""``); otherwise each is named by its parameter.

    Args:
        args: Positional arguments, without ``self``.
        kwargs: Keyword arguments.
        names: Parameter names of the positional arguments; positions beyond them are named ``[i]``.
    """
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return [("", args[0])]
    found: list[Leaf] = []
    for index, value in enumerate(args):
        if value is not None:
            _collect(value, names[index] if index < len(names) else f"[{index}]", found, 0)
    for key, value in kwargs.items():
        if value is not None:
            _collect(value, key, found, 0)
    if not found:
        for index, value in enumerate((*args, *kwargs.values())):
            _collect_object(value, names[index] if index < len(names) else f"[{index}]", found)
    elif len(found) == 1 and len(args) == 1 and isinstance(args[0], Tensor):
        return [("", found[0][1])]
    return found


def _collect_object(value: Any, name: str, found: list[Leaf]) -> None:
    """Open a plain object (graph data, a batch class) one level: only where nothing else carried a tensor."""
    if isinstance(value, (torch.nn.Module, type)) or callable(value):
        return
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        slots = [slot for cls in type(value).__mro__ for slot in getattr(cls, "__slots__", ())]
        attributes = {slot: getattr(value, slot, None) for slot in slots}
    for key, item in list(attributes.items()):
        if isinstance(item, Mapping) and key.startswith("_"):
            _collect(item, name, found, 1)  # storage behind properties, as graph libraries keep it
        elif not key.startswith("_"):
            _collect(item, f"{name}.{key}", found, 1)
