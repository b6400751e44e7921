"""Formulas that users gave torch's own registry, ``torch.utils.flop_counter.register_flop_formula``, read for MACs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from modelsummary_ipy.records.trace import AtenOp
from modelsummary_ipy.torch_compat.fakes import schema_of


def find_flop_formula(op: str) -> Callable[[AtenOp], int | None] | None:
    """Find what was registered for ``"mylib.fused_mlp.default"``, as a count of multiply-adds; ``None`` if nothing was.

    Aten operations are not looked up: torch's own formulas count some of them by other conventions.
    """
    counter: Any = sys.modules.get("torch.utils.flop_counter")  # whoever registers a formula has imported it
    space, _, rest = op.partition(".")
    name, _, overload = rest.partition(".")
    if counter is None or space == "aten" or not overload:
        return None
    packet = getattr(getattr(torch.ops, space), name, None)
    formula = counter.flop_registry.get(packet)
    return None if formula is None else _Halved(formula, schema_of(getattr(packet, overload)))


class _Halved:
    """Counts the multiply-adds of an aten operation by a formula of FLOPs; there are two in each.

    The formula is called as torch calls it, with tensors on the meta device: one that was registered by shapes reads
    these alone, one registered with ``get_raw=True`` may read their dtype, which is that of the result.
    """

    def __init__(self, formula: Callable[..., int], schema: Any) -> None:
        self._formula = formula
        self._signature = schema

    def __call__(self, aten_op: AtenOp) -> int | None:
        sizes = [*aten_op.inputs, *aten_op.outputs]
        if any(size is not None and -1 in size for size in sizes):  # ragged
            return None
        dtype = getattr(torch, aten_op.dtype, None)
        args = self._build_arguments(aten_op, dtype)
        made = [_build(size, dtype) for size in aten_op.outputs]
        if args is None:
            return None
        positional, named = args
        try:
            flops = self._formula(*positional, out_val=made[0] if len(made) == 1 else tuple(made), **named)
        except (NotImplementedError, RuntimeError):  # it needs values, and there are none on the meta device
            return None
        return int(flops) // 2

    def _build_arguments(self, aten_op: AtenOp, dtype: Any) -> tuple[list[Any], dict[str, Any]] | None:
        """Put the call together again; ``None`` if its record leaves open which size is which."""
        kinds = [str(argument.type) for argument in self._signature.arguments]
        num_lists = sum(_is_list(kind) for kind in kinds)
        num_single = sum("Tensor" in kind for kind in kinds) - num_lists
        length = len(aten_op.inputs) - num_single
        if num_lists > 1 or length < 0 or (length and not num_lists):
            return None
        tensors: Iterator[Any] = (_build(size, dtype) for size in aten_op.inputs)
        plain = dict(aten_op.arguments)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for argument, kind in zip(self._signature.arguments, kinds, strict=True):
            if _is_list(kind):
                value: Any = [next(tensors) for _ in range(length)]
            elif "Tensor" in kind:
                value = next(tensors)
            elif argument.name in plain:
                value = plain[argument.name]
            else:
                return None
            if argument.kwarg_only:
                named[argument.name] = value
            else:
                positional.append(value)
        return positional, named


def _is_list(kind: str) -> bool:
    return "List[" in kind and "Tensor" in kind


def _build(size: tuple[int, ...] | None, dtype: Any) -> Any:
    return None if size is None else torch.empty(size, dtype=dtype, device="meta")
