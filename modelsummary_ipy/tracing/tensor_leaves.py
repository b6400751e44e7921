"""Nested values to named tensor leaves: what went in and out of a call, under its key path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.inputs.pytree import list_attributes, walk_leaves
from modelsummary_ipy.isolation.ignored_warnings import warnings_ignored
from modelsummary_ipy.model.tensor_meta import name_device, name_dtype
from modelsummary_ipy.records.trace import TensorSpec
from modelsummary_ipy.torch_compat.fakes import FakeTensor, disable_dispatch, disable_function

#: A tensor under its key path.
Leaf = tuple[str, Tensor]

_TENSORS = (Tensor,)
_specs: dict[tuple[str, Any, torch.dtype, torch.device], TensorSpec] = {}


def build_spec(name: str, tensor: Tensor) -> TensorSpec:
    """Write down a tensor's size, dtype and device; equal specs are one object, for 50,000 rows share a few hundred."""
    shape = _read_nested(tensor) if tensor.is_nested else tensor.shape
    key = (name, shape, tensor.dtype, tensor.device)
    spec = _specs.get(key)
    if spec is None:
        if len(_specs) > 100_000:
            _specs.clear()
        if any(isinstance(size, Tensor) for size in shape):
            return TensorSpec(name, _read_traced(shape), name_dtype(tensor.dtype), name_device(tensor.device))
        spec = TensorSpec(name, tuple(shape), name_dtype(tensor.dtype), name_device(tensor.device))
        _specs[key] = spec
    return spec


def _read_traced(shape: Any) -> tuple[int, ...]:
    """Return sizes as numbers: while ``torch.jit.trace`` runs they are tensors."""
    with disable_function(), disable_dispatch(), warnings_ignored():
        # torch warns that such a number is no step of what is traced
        return tuple(map(int, shape))


def _read_nested(tensor: Tensor) -> tuple[int, ...]:
    """Return a nested tensor's sizes; -1 is a ragged dim."""
    if tensor.layout == torch.jagged:
        return _read_jagged(tensor)
    with torch.no_grad(), disable_function(), disable_dispatch():  # reading a shape is no step of the forward
        shapes = [part.shape for part in tensor.unbind()]
    columns = zip(*shapes, strict=True)
    return (len(shapes), *(column[0] if len(set(column)) == 1 else -1 for column in columns))


def _read_jagged(tensor: Any) -> tuple[int, ...]:
    """Return the sizes of a jagged tensor; a dim that could be ragged and is not has the size that all its parts have.

    Only of real ones are the lengths of the parts known.
    """
    ragged = -1
    if not (tensor.offsets().is_meta or isinstance(tensor.offsets(), FakeTensor)):
        with disable_dispatch():  # looking is no step of the forward
            lengths = set((tensor.offsets().diff() if tensor.lengths() is None else tensor.lengths()).tolist())
        ragged = lengths.pop() if len(lengths) == 1 else -1
    return tuple(size if type(size) is int else ragged for size in tensor.shape)


def find_leaves(value: Any) -> list[Leaf]:
    """List the tensors in ``value`` with their key paths: through containers, dataclasses and plain objects (a cache).

    Sets and modules are not opened.
    """
    return [("", value)] if isinstance(value, Tensor) else list(walk_leaves(value, "", _TENSORS, opened=set()))


def find_argument_leaves(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...] = (), *, whole: bool = False
) -> list[Leaf]:
    """List the tensors among the arguments of a call, positional first.

    A tensor that is the one positional argument is bare (``""``); otherwise each is named by its parameter. A plain
    object (graph data, a batch class) is opened one level, of a part of a model only where nothing else carries a
    tensor.

    Args:
        args: Positional arguments, without ``self``.
        names: Parameter names of the positional arguments; positions beyond them are named ``[i]``.
        whole: Whether it is the model that is called.
    """
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return [("", args[0])]
    given = [(names[index] if index < len(names) else f"[{index}]", value) for index, value in enumerate(args)]
    given += kwargs.items()
    found: list[Leaf] = []
    closed: list[tuple[str, Any]] = []
    for name, value in given:
        if value is not None:
            before = len(found)
            found += walk_leaves(value, name, _TENSORS)
            if len(found) == before:
                closed.append((name, value))
    if not found or whole:
        for name, value in closed:
            before = len(found)
            for key, item in list_attributes(value):
                found += walk_leaves(item, name + key, _TENSORS)
            if whole and len(found) == before:  # a cache, whose layers are objects
                found += walk_leaves(value, name, _TENSORS, opened=set())
    elif len(found) == 1 and len(args) == 1 and isinstance(args[0], Tensor):
        return [("", found[0][1])]
    return found


def find_op_tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """List the tensors among the arguments of a torch function: bare, or in lists and tuples two deep."""
    found: list[Tensor] = []
    for value in args if not kwargs else (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += [item for item in value if isinstance(item, Tensor)]
            for item in value:
                if isinstance(item, (tuple, list)):
                    found += [inner for inner in item if isinstance(inner, Tensor)]
    return found
