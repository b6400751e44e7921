"""Parameters and buffers as facts: size, dtype, and the bytes that each really takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.model.tensor_meta import TensorMeta, read_meta
from modelsummary_ipy.records.trace import ParamFact, ParamKind
from modelsummary_ipy.torch_compat.distributed import count_mesh, is_sharded, local_part
from modelsummary_ipy.torch_compat.fakes import disable_dispatch, disable_function
from modelsummary_ipy.torch_compat.modules import storage_address

_PLAIN = frozenset({Tensor, nn.Parameter, nn.Buffer})


def list_own_tensors(module: nn.Module) -> list[tuple[str, Tensor, ParamKind]]:
    """Return ``(name, tensor, kind)`` of what is registered directly on ``module``; ScriptModules keep it in C++."""
    params: Any = module._parameters
    buffers: Any = module._buffers
    if isinstance(module, torch.jit.ScriptModule):
        params, buffers = dict(module.named_parameters(recurse=False)), dict(module.named_buffers(recurse=False))
    own: list[tuple[str, Tensor, ParamKind]]
    own = [(name, tensor, "parameter") for name, tensor in list(params.items()) if tensor is not None]
    if buffers:
        own += [(name, tensor, "buffer") for name, tensor in list(buffers.items()) if tensor is not None]
    return own


def read_param(
    tensor: Tensor, index: int, names: tuple[str, ...], kind: ParamKind, nbytes: int, meta: TensorMeta
) -> ParamFact:
    """Write down a parameter or buffer; ``nbytes`` is what it really takes, ``read_bytes``."""
    num = meta.num if type(tensor) in _PLAIN else _read_num(tensor, meta)
    local_shape, ranks = None, 1
    if meta.stride is None and is_sharded(tensor):
        local_shape, ranks = tuple(local_part(tensor).shape), count_mesh(tensor)
    return ParamFact(
        index, names, meta.shape, meta.dtype_name, meta.device_name, num, nbytes, meta.requires_grad, kind,
        meta.size is None, local_shape, ranks, _read_triangle(tensor, meta) if kind == "buffer" else None,
    )  # fmt: skip


def _read_triangle(tensor: Tensor, meta: TensorMeta) -> tuple[int, float, float] | None:
    """Read a causal mask by three of its rows: they hold two numbers, and the second begins a place later in each."""
    side = meta.shape[-1] if meta.shape else 0
    is_square = len(meta.shape) > 1 and 2 < side == meta.shape[-2] and meta.num == side * side
    if not is_square or type(tensor) not in _PLAIN or not _is_laid_out(tensor):
        return None
    places = (0, side // 2, side - 1)
    with disable_function(), disable_dispatch():  # no mode of the user's sees it
        rows = [tensor.detach().view(side, side)[place].tolist() for place in places]
    below, above = rows[1][0], rows[1][-1]
    last = rows[1].count(below) - 1 - places[1]
    made = [[below if column <= place + last else above for column in range(side)] for place in places]
    return (last, below, above) if below != above and made == rows else None


def _is_laid_out(tensor: Tensor) -> bool:
    """Return whether the numbers of a tensor can be read where they are."""
    is_plain = tensor.layout is torch.strided and tensor.is_cpu and not tensor.is_quantized
    return is_plain and tensor.is_contiguous() and tensor.data_ptr() != 0


def _read_num(tensor: Tensor, meta: TensorMeta) -> int:
    """Read how many numbers a tensor stands for: bitsandbytes packs two of 4 bits in a byte."""
    shape = getattr(getattr(tensor, "quant_state", None), "shape", None)
    return shape.numel() if isinstance(shape, torch.Size) else meta.num


def read_bytes(tensor: Tensor, meta: TensorMeta, before: dict[int, int]) -> int:
    """Read the bytes a tensor really takes: an expanded view no more than its storage, a packed one what it packs.

    Args:
        tensor: A parameter or buffer.
        meta: Its meta; of a lazy one, which takes nothing yet, without a size.
        before: Bytes of each storage that a tensor has been given, by address; what two tensors share counts once.
    """
    return 0 if meta.size is None else _read_part(tensor, meta.nbytes, before)


def _read_part(tensor: Tensor, size: int, before: dict[int, int]) -> int:
    """Do as ``read_bytes``, of a tensor whose elements take ``size`` bytes if each is stored."""
    known = type(tensor) in _PLAIN
    if not known and hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        held = [getattr(tensor, name) for name in names]
        parts = [part for part in held if isinstance(part, Tensor)]  # a DTensor names its mesh too
        return sum(_read_part(part, int(part.numel()) * part.itemsize, before) for part in parts)
    if not known or tensor.layout is not torch.strided:
        return size
    address = storage_address(tensor)
    taken = before.get(address)
    if taken is None and tensor.is_contiguous() and tensor.data_ptr():  # all of it is there
        before[address] = size
        return size
    rest = int(tensor.untyped_storage().nbytes()) - (taken or 0)
    size = min(size, rest)
    before[address] = (taken or 0) + size
    return size


def read_params(params: Iterable[ParamFact], tensors: Mapping[int, Tensor]) -> Iterator[ParamFact]:
    """Read again the parameters that were lazy, from the tensors that the shadow made of them, by index."""
    for fact in params:
        if fact.lazy and fact.index in tensors:
            tensor = tensors[fact.index]
            meta = read_meta(tensor)
            yield read_param(tensor, fact.index, fact.names, fact.kind, read_bytes(tensor, meta, {}), meta)
        else:
            yield fact
