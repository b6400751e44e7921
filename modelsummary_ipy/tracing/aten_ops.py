"""One aten operation of a trace, written down: what it is by its schema, and its sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.costs.mac_formulas import find_formula
from modelsummary_ipy.costs.zero_mac_ops import is_zero_by_name
from modelsummary_ipy.model.tensor_meta import name_dtype
from modelsummary_ipy.records.trace import AtenOp
from modelsummary_ipy.torch_compat.fakes import OpOverload, schema_of


class Plan:
    """How to write down one operation.

    Attributes:
        name: ``"aten.addmm.default"``.
        is_view: Whether it gives back storages it was given, and computes nothing.
        counts: Whether it is recorded: it multiplies and adds, or is unknown.
        is_outer: Whether it is written down only where it is how torch makes an outer product.
        arguments: Name of every argument, and whether it is a tensor or a list of them.
    """

    __slots__ = ("arguments", "counts", "is_outer", "is_view", "name")

    def __init__(self, func: Any) -> None:
        self.name = str(func)
        self.arguments: tuple[tuple[str, bool], ...] = ()
        self.is_outer = self.name == "aten.mul.Tensor"
        if not isinstance(func, OpOverload):  # a higher-order operation
            self.is_view, self.counts = False, True
            return
        schema = schema_of(func)
        self.arguments = tuple((argument.name, "Tensor" in str(argument.type)) for argument in schema.arguments)
        self.is_view = _is_view(func)
        is_known = find_formula(self.name) is not None and not self.is_outer
        self.counts = is_known or not (is_zero_by_name(self.name) or _is_zero(func))

    def counts_in(self, record: Any) -> bool:
        """Return whether it is recorded in a call, or outside all of them."""
        return self.counts or (self.is_outer and record is not None and record.type_name in _OUTER_PRODUCTS)


find_plan: Callable[[Any], Plan] = cache(Plan)


def write_counted(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any, record: Any) -> AtenOp | None:
    """Write down an operation that multiplies and adds, or is unknown, in a call; ``None`` for any other."""
    plan = find_plan(func)
    return find_aten_op(plan, args, kwargs, output) if plan.counts_in(record) else None


#: Functions that multiply every element of one tensor with every element of another, by broadcasting.
_OUTER_PRODUCTS = frozenset({"outer", "ger", "kron", "einsum"})


def gives_back(func: OpOverload) -> bool:
    """Return, by its schema, whether all that an operation gives is what it was given: a view of it, or itself."""
    aliases = [result.alias_info for result in schema_of(func).returns]
    return bool(aliases) and None not in aliases and "lift_fresh" not in func.name()


def _is_view(func: OpOverload) -> bool:
    """Return, by its schema, whether an operation gives back storages that it was given."""
    aliases = [result.alias_info for result in schema_of(func).returns]
    only_views = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
    # ``lift_fresh`` is where a tensor made of Python numbers is first seen.
    return func.namespace == "prim" or (only_views and "lift_fresh" not in func.name())


def _is_zero(func: OpOverload) -> bool:
    """Return, by its schema, whether an operation counts nothing: a view, a factory, or element by element."""
    schema = schema_of(func)
    if _is_view(func) or not any("Tensor" in str(argument.type) for argument in schema.arguments):
        return func.namespace in ("aten", "prim", "prims")
    if torch.Tag.pointwise in func.tags:
        return True
    if func.namespace != "aten":
        return False
    bare = schema.name.partition("::")[2].rstrip("_")
    return _is_pointwise(bare) or _is_pointwise(bare.removesuffix("_backward"))


def _is_pointwise(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    overloads = packet.overloads() if packet is not None and hasattr(packet, "overloads") else []
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in overloads)


_aten_ops: dict[Any, AtenOp] = {}

_MOST_ATEN_OPS = 10_000

_PLAIN = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format)


def find_aten_op(plan: Plan, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> AtenOp:
    """Return the record of an operation; equal ones are one object, for a net of 10,000 layers has a few dozen."""
    key = _write_key(plan, args, kwargs, output)
    if key is None:
        return _write_aten_op(plan, args, kwargs, output)
    aten_op = _aten_ops.get(key)
    if aten_op is None:
        if len(_aten_ops) > _MOST_ATEN_OPS:
            _aten_ops.clear()
        aten_op = _aten_ops[key] = _write_aten_op(plan, args, kwargs, output)
    return aten_op


def _write_key(plan: Plan, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Any:
    """Write down all that an AtenOp is made of; ``None`` where that takes more than sizes and numbers."""
    if not isinstance(output, Tensor):
        return None
    parts: list[Any] = [plan.name, output.dtype]
    for value in (*args, *kwargs, *kwargs.values(), output) if kwargs else (*args, output):
        if isinstance(value, Tensor):
            if value.layout is not torch.strided or value.is_nested:
                return None
            size = value.shape
            if not all(type(length) is int for length in size):
                return None
            parts.append(size)
        elif isinstance(value, _PLAIN):
            parts.append(value)
        elif isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
            parts.append(tuple(value))
        else:
            return None
    return tuple(parts)


def _write_aten_op(plan: Plan, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> AtenOp:
    inputs: list[tuple[int, ...] | None] = []
    plain: list[tuple[str, Any]] = []
    strange = ""
    if not plan.arguments:
        inputs = [_read_size(value) for value in args if isinstance(value, Tensor)]
    for position, (name, is_tensor) in enumerate(plan.arguments):
        value = args[position] if position < len(args) else kwargs.get(name)
        if isinstance(value, Tensor):
            inputs.append(_read_size(value))
            strange = strange or _name_layout(value)
        elif is_tensor:
            if isinstance(value, (list, tuple)):
                inputs += [_read_size(item) if isinstance(item, Tensor) else None for item in value]
            else:
                inputs.append(None)
        elif value is None or isinstance(value, (bool, int, float, str)):
            plain.append((name, value))
        elif isinstance(value, (list, tuple)) and len(value) <= 32:
            plain.append((name, tuple(value)))
        elif isinstance(value, torch.ScriptObject):
            inputs.append(_read_packed_size(value))
    made = output if isinstance(output, (tuple, list)) else (output,)
    tensors = [item for item in made if isinstance(item, Tensor)]
    dtype = name_dtype(tensors[0].dtype) if tensors else ""
    sizes = tuple(_read_size(item) for item in tensors)
    return AtenOp(f"{plan.name}{strange}", tuple(inputs), sizes, tuple(plain), dtype)


def _read_size(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's sizes, -1 for one that is ragged."""
    try:
        return tuple(size if type(size) is int else -1 for size in tensor.shape)
    except RuntimeError:  # a nested tensor
        return (-1,) * tensor.dim()


def _name_layout(tensor: Tensor) -> str:
    """``" (sparse)"`` if zeros are left out, and with them the products that a dense formula would count."""
    if tensor.layout is torch.strided or tensor.is_mkldnn or tensor.is_nested:
        return ""
    return " (sparse)"


def _read_packed_size(packed: Any) -> tuple[int, ...] | None:
    """Return the size of the weight in a quantized layer's packed parameters."""
    try:
        return tuple(packed.unpack()[0].shape)
    except Exception:  # noqa: BLE001  # whatever object a custom operation takes
        return None
