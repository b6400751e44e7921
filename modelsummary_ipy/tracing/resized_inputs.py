"""Arguments of a forward at other sizes: tensors replaced wherever they are in what the user gave."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from modelsummary_ipy.fake.fake_mode import build_fake
from modelsummary_ipy.fake.fake_subclasses import copy_class
from modelsummary_ipy.fake.index_values import mark_like
from modelsummary_ipy.fake.known_values import MOST_VALUES
from modelsummary_ipy.inputs.pytree import replace_tensors
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.torch_compat.distributed import empty_sharded, is_sharded
from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of, disable_dispatch, give_constant
from modelsummary_ipy.tracing.prepared import Prepared
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves


def resize_inputs(prepared: Prepared, work: Shadow, shapes: Mapping[int, tuple[int, ...]]) -> Prepared | None:
    """Put fake tensors of other sizes in the place of some of the input's leaves.

    Args:
        prepared: Arguments made for ``work``; they are used up.
        shapes: New sizes by the number of the leaf.

    Returns:
        The arguments at other sizes; ``None`` if a leaf is not a plain dense fake, or not where it can be replaced.
    """
    leaves = find_argument_leaves(prepared.args, prepared.kwargs, whole=True)
    if len(leaves) != len(prepared.facts) or work.fake_mode is None:
        return None
    fresh: dict[int, Tensor] = {}
    for leaf, shape in shapes.items():
        tensor = leaves[leaf][1]
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
            return None
        made: Tensor
        if type(tensor) is FakeTensor:
            with disable_dispatch():
                meta = torch.empty(shape, dtype=tensor.dtype, device="meta")
                made = build_fake(work.fake_mode, meta, tensor.fake_device)
        else:
            with work.fake_mode:
                if is_sharded(tensor):
                    made = empty_sharded(tensor, shape)
                else:
                    made = copy_class(torch.empty(shape, dtype=tensor.dtype, device=tensor.device), tensor)
        values = constant_of(tensor) if isinstance(tensor, FakeTensor) else None
        # Lengths, offsets: as many more as there are rows now, the last one again.
        if values is not None and values.numel() and math.prod(shape) <= MOST_VALUES:
            give_constant(made, _extend(values, shape))
        mark_like(made, tensor)
        fresh[id(tensor)] = made.requires_grad_(tensor.requires_grad)
    args = tuple(replace_tensors(value, fresh) for value in prepared.args)
    kwargs = {name: replace_tensors(value, fresh) for name, value in prepared.kwargs.items()}
    placed = {id(tensor) for _, tensor in find_argument_leaves(args, kwargs, whole=True)}
    if not all(id(tensor) in placed for tensor in fresh.values()):
        return None
    return Prepared(args, kwargs, prepared.facts)


def _extend(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat the last of every dim up to ``shape``, or cut."""
    with disable_dispatch():
        for dim, size in enumerate(shape):
            places = torch.arange(size).clamp(max=values.shape[dim] - 1)
            values = values.index_select(dim, places)
        return values.clone()
