"""Known values of fakes: integers, masks and short grids that are counted, uniform, picked or the model's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of, disable_dispatch, give_constant, schema_of

#: Tensors up to this size keep their values where these are known: lengths, masks and offsets decide how a forward
#: goes on. The causal mask of 256 tokens, and the mask of an image of 256², have as many.
MOST_VALUES = 1 << 16


#: The same for matrices of floats or booleans: the causal mask of 1,024 tokens, which ``nn.TransformerEncoder``
#: compares with its own.
MOST_VALUES_OF_MASK = 1 << 20


#: The same for tensors of the model itself, where tables of positions are more often looked up than looked at.
MOST_OWN_VALUES = 64


def may_know_values(tensor: Tensor, most: int = MOST_VALUES) -> bool:
    """Return whether a tensor is of integers or booleans, and small enough for its values to be kept."""
    return not (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() <= most


def may_be_causal(tensor: Tensor) -> bool:
    """Return whether a tensor of the model may be a causal mask: the last key is hidden from the first query."""
    if tensor.dim() != 2 or tensor.size(0) != tensor.size(1) or not 1 < tensor.numel() <= MOST_VALUES_OF_MASK:
        return False
    if not (tensor.is_floating_point() or tensor.dtype == torch.bool):
        return False
    hidden = True if tensor.dtype == torch.bool else -math.inf
    with disable_dispatch():
        return tensor[0, 0].item() == 0 and tensor[0, -1].item() == hidden


def is_grid(tensor: Tensor) -> bool:
    """Return whether a tensor of the model may be times or places in order, which a solver of equations compares."""
    if tensor.dim() != 1 or not 1 < tensor.numel() <= MOST_OWN_VALUES or not tensor.is_floating_point():
        return False
    with disable_dispatch():
        steps = tensor.detach().diff()
        return bool((steps > 0).all() or (steps < 0).all())


def exceeds_limit(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether an operation on known values would make more of them than are kept.

    Torch does such operations for real: this checks before it does, so that no mask of 40,000 × 40,000 is made.
    """
    given: list[Any] = []
    for value in (*args, *kwargs.values()):
        given.extend(value if isinstance(value, (list, tuple)) else (value,))
    known = [constant_of(value) for value in given if isinstance(value, FakeTensor)]
    constants = [constant for constant in known if constant is not None]
    if not constants or len(constants) < len(known) or func.is_view or schema_of(func).is_mutable:
        return False
    most = _find_limit(constants)
    if torch.Tag.pointwise in func.tags:
        shapes = [value.shape for value in given if isinstance(value, Tensor)]
        return int(math.prod(torch.broadcast_shapes(*shapes))) > most
    with disable_dispatch():
        if func is torch.ops.aten.repeat_interleave.Tensor:
            return int(constants[0].sum()) > most
        try:
            made = func(*map(_to_meta, args), **{name: _to_meta(value) for name, value in kwargs.items()})
        except (NotImplementedError, RuntimeError):  # how much depends on the values, and is no more than was given
            return False
    results = made if isinstance(made, (list, tuple)) else [made]
    return any(isinstance(result, Tensor) and result.numel() > most for result in results)


def _find_limit(given: Sequence[Tensor]) -> int:
    has_mask = any(value.dim() == 2 and (value.is_floating_point() or value.dtype == torch.bool) for value in given)
    return MOST_VALUES_OF_MASK if has_mask else MOST_VALUES


def _to_meta(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_to_meta, value))
    constant = constant_of(value) if isinstance(value, FakeTensor) else value
    return constant.to("meta") if isinstance(constant, Tensor) else value


def compute(mode: Any, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Do an operation all of whose tensors have known values, or one that counts: torch takes ten times as long.

    Args:
        func: Makes tensors, or writes to its first one.

    Returns:
        What it makes; nothing for what is left to torch: it draws, makes too many values, or not all are known.
    """
    given = [item for value in (*args, *kwargs.values()) for item in (value if isinstance(value, list) else (value,))]
    tensors = [value for value in given if isinstance(value, Tensor)]
    for tensor in tensors:
        if not isinstance(tensor, FakeTensor) or tensor.fake_mode is not mode or tensor.fake_device != _CPU:
            return []
        if (values := constant_of(tensor)) is None or values.is_complex() or not values.is_cpu:
            return []
    is_drawn = torch.Tag.nondeterministic_seeded in func.tags
    if is_drawn or not (tensors or func in _COUNTING) or kwargs.get("device", _CPU) not in (None, _CPU):
        return []
    with disable_dispatch():
        if exceeds_limit(func, args, kwargs):
            return []
        if not tensors:
            told = func(*args, **{**kwargs, "device": "meta"})
            if not (may_know_values(told) or told.numel() <= MOST_OWN_VALUES):
                return []
        made = func(*map(_to_values, args), **{name: _to_values(value) for name, value in kwargs.items()})
    found = made if isinstance(made, list) else [made]
    most = _find_limit([values for tensor in tensors if (values := constant_of(tensor)) is not None])
    return found if all(_is_dense(one) and one.is_cpu and one.numel() <= most for one in found) else []


def _is_dense(tensor: Any) -> bool:
    is_plain = type(tensor) is Tensor and tensor.layout is torch.strided
    return is_plain and not (tensor.is_nested or tensor.is_complex())


_CPU = torch.device("cpu")


def _to_values(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_values(item) for item in value]
    return constant_of(value) if isinstance(value, FakeTensor) else value


def find_values(fake: FakeTensor, func: Any, args: Sequence[Any]) -> None:
    """Give the result of an operation its values, where the operation fills or picks known ones."""
    if func in _UNIFORM:
        _find_uniform(fake, _UNIFORM[func], args)
    elif func in _PICKING and constant_of(fake) is None:
        _find_picked(fake, args[0])


#: What makes a tensor like another one, without values.
UNFILLED_LIKE = frozenset(
    {
        torch.ops.aten.empty_like.default,
        torch.ops.aten.new_empty.default,
        torch.ops.aten.new_empty_strided.default,
        torch.ops.aten.resize_.default,
    }
)


#: What counts from numbers alone: positions, which decide what is masked, and the times at which a solver stops.
_COUNTING = frozenset(
    {
        torch.ops.aten.arange.default,
        torch.ops.aten.arange.start,
        torch.ops.aten.arange.start_step,
        torch.ops.aten.linspace.default,
    }
)


#: What makes a tensor of one value, and that value; ``None`` where it is an argument.
_UNIFORM: dict[Any, int | None] = {
    torch.ops.aten.ones.default: 1,
    torch.ops.aten.zeros.default: 0,
    torch.ops.aten.full.default: None,
    torch.ops.aten.ones_like.default: 1,
    torch.ops.aten.zeros_like.default: 0,
    torch.ops.aten.full_like.default: None,
    torch.ops.aten.new_ones.default: 1,
    torch.ops.aten.new_zeros.default: 0,
    torch.ops.aten.new_full.default: None,
}


def _find_uniform(fake: FakeTensor, value: Any, args: Sequence[Any]) -> None:
    """Keep the value of a small mask of one value: integers, booleans, and of floats what masks are filled with."""
    value = args[1] if value is None else value
    if not isinstance(value, (bool, int, float)) or fake.fake_device.type != "cpu":
        return
    is_like = len(args) > 0 and isinstance(args[0], FakeTensor) and constant_of(args[0]) is not None
    is_filled = fake.dtype == torch.bool or (fake.is_floating_point() and (is_like or value == 1 or math.isinf(value)))
    most = MOST_VALUES_OF_MASK if fake.dim() == 2 else MOST_VALUES
    if may_know_values(fake) or (is_filled and fake.dim() > 1 and fake.numel() <= most):
        with disable_dispatch():
            values = torch.full(fake.shape, value, dtype=fake.dtype, device="cpu")
        give_constant(fake, values)


#: Operations that pick values of their first argument, at positions that may be unknown: drawn at random, say.
_PICKING = frozenset({torch.ops.aten.index.Tensor, torch.ops.aten.index_select.default, torch.ops.aten.gather.default})


def _find_picked(fake: FakeTensor, source: Any) -> None:
    """Keep the value of what was picked of a tensor of one value: it is the same wherever it was picked."""
    values = constant_of(source) if isinstance(source, FakeTensor) else None
    if values is None or values.numel() == 0 or values.is_floating_point() or values.is_complex():
        return
    with disable_dispatch():
        first = values.flatten()[0]
        uniform = first.item() if bool((values == first).all()) else None
    if uniform is not None:
        _find_uniform(fake, uniform, ())
