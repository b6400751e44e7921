"""What an optimizer's step is made of: operations on lists of tensors, single numbers, and state like a parameter.

Fakes run an operation on a list tensor by tensor (a step of AdamW on a ResNet-50 takes a second). What it gives follows
from its first list: nothing if it writes in place, else tensors like these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.fake.shape_cache import MISSED
from modelsummary_ipy.torch_compat.fakes import (
    FakeTensor,
    constant_of,
    disable_dispatch,
    find_operator,
    give_constant,
    schema_of,
)

#: Makes an empty fake: ``(size, stride, dtype, device)``.
Make = Callable[[Any, Any, torch.dtype, torch.device], Any]

#: Whose results are not like the tensors of the first list.
_REDUCE = ("norm", "max", "powsum", "clone", "copy")
_ON_ONE = {
    torch.ops.aten.zeros_like.default: "zeros",
    find_operator("_local_scalar_dense.default"): "item",
    torch.ops.aten.lift_fresh.default: "number",
}


def run_in_step(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], make: Make) -> Any:
    """Run an operation that is no new one for every parameter.

    Args:
        make: Makes an empty fake.

    Returns:
        Its result; ``MISSED`` if it is none of these, or its operands differ in dtype or size.
    """
    kind = _find_kind(func)
    if not kind:
        return MISSED
    if kind in ("in place", "fresh"):
        return _run_on_lists(func, args, kwargs, make, kind)
    return _run_on_one(args, kwargs, make, kind)


def _run_on_one(args: Sequence[Any], kwargs: Mapping[str, Any], make: Make, kind: str) -> Any:
    tensor = args[0]
    if kind == "zeros":  # of floats: what a state begins with; small integers keep their values
        plain = all(value in (None, False, torch.preserve_format) for value in kwargs.values())
        if not plain or type(tensor) is not FakeTensor or not tensor.is_floating_point():
            return MISSED
        return make(tensor.size(), _find_dense_stride(tensor), tensor.dtype, tensor.fake_device)
    if kind == "item":
        if type(tensor) is not FakeTensor:
            return MISSED
        known: Tensor | None = constant_of(tensor)
        assumed: Any = getattr(tensor.fake_mode, "assumed_number", None)
        if known is None and assumed is None:
            return MISSED
        with disable_dispatch():
            return known.item() if known is not None else torch.full((), assumed, dtype=tensor.dtype).item()
    if type(tensor) is not Tensor or tensor.dim() or tensor.device.type != "cpu" or not tensor.is_floating_point():
        return MISSED
    fake = make((), (), tensor.dtype, tensor.device)
    give_constant(fake, tensor)
    return fake


def _run_on_lists(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], make: Make, kind: str) -> Any:
    lists = [value for value in (*args, *kwargs.values()) if _is_list(value)]
    others = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    if not lists or not all(type(item) is FakeTensor for value in lists for item in value):
        return MISSED
    if any(constant_of(item) is not None for item in lists[0]):
        return _compute(func, args, kwargs, [*(item for value in lists for item in value), *others], kind)
    if kind == "in place":
        return None
    first = lists[0]
    if not all(value.dtype.is_floating_point and value.dtype == first[0].dtype for value in first):
        return MISSED
    for other in lists[1:]:
        if [(item.shape, item.dtype) for item in other] != [(item.shape, item.dtype) for item in first]:
            return MISSED
    return [make(item.size(), _find_dense_stride(item), item.dtype, item.fake_device) for item in first]


def _find_dense_stride(tensor: Tensor) -> tuple[int, ...]:
    """Return the strides of a new tensor like ``tensor``: its own if its elements lie side by side, else in order."""
    dense = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda pair: pair[1]):
        if size != 1 and stride != dense:
            return torch.empty(tensor.shape, device="meta").stride()
        dense *= size
    return tensor.stride()


@cache
def _find_kind(func: Any) -> str:
    if func in _ON_ONE:
        return _ON_ONE[func]
    schema = schema_of(func)
    name = schema.name.partition("::")[2]
    if not name.startswith(("_foreach_", "_fused_")):
        return ""
    if not schema.returns:
        return "in place"
    likeness = not any(part in name for part in _REDUCE) and str(schema.returns[0].type) == "List[Tensor]"
    return "fresh" if likeness and len(schema.returns) == 1 else ""


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Tensor)


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], tensors: list[Tensor], kind: str) -> Any:
    """Compute in place what is known: the step counts of an optimizer, a number each."""
    if kind != "in place" or any(constant_of(tensor) is None or tensor.numel() > 1 for tensor in tensors):
        return MISSED

    def known(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [known(item) for item in value]
        return constant_of(value) if isinstance(value, Tensor) else value

    with disable_dispatch():
        func(*map(known, args), **{name: known(value) for name, value in kwargs.items()})
    return None
