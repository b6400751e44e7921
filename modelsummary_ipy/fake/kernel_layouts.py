"""What torch's kernels make otherwise than its fakes tell: how gradients of norms lie, and the dtype of statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelsummary_ipy.torch_compat.fakes import FakeTensor, find_operator

_ATEN = torch.ops.aten
#: By operation, the argument whose format its first result has, ``None`` for one that is contiguous in any case. Fakes
#: give it the strides of the gradient that came in: what follows is then copied where a kernel's result is viewed.
_FORMAT_OF: dict[Any, int | None] = {
    _ATEN.native_layer_norm_backward.default: None,
    _ATEN._log_softmax_backward_data.default: None,
    _ATEN.native_group_norm_backward.default: 1,
    _ATEN.native_batch_norm_backward.default: 1,
}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
#: Norms whose mean and deviation are in float32 on the CPU where a half input meets a parameter in float32, as under
#: autocast; of fakes they have the input's dtype.
_WITH_STATISTICS = frozenset({
    _ATEN.native_layer_norm.default, _ATEN.native_group_norm.default, _ATEN.native_batch_norm.default,
    find_operator("_native_batch_norm_legit.default"), find_operator("_native_batch_norm_legit.no_stats"),
})  # fmt: skip
_HALVES = (torch.bfloat16, torch.float16)


class Made(NamedTuple):
    """A result as the kernel makes it."""

    dtype: torch.dtype
    memory_format: torch.memory_format


def find_made(func: Any, args: Sequence[Any], results: Sequence[Any]) -> dict[int, Made]:
    """Return, by place, the results that are otherwise than the fakes of them."""
    if func in _WITH_STATISTICS:
        return _find_statistics(args, results)
    if func not in _FORMAT_OF or type(results[0]) is not FakeTensor:
        return {}
    first = results[0]
    like, found = _FORMAT_OF[func], torch.contiguous_format
    if like is not None and not args[like].is_contiguous():
        last = _CHANNELS_LAST.get(args[like].dim(), found)
        found = last if args[like].is_contiguous(memory_format=last) else found
    dtype = first.dtype if like is None else args[like].dtype  # of a group norm in halves a fake's is float32
    made = Made(dtype, found)
    return {} if first.is_contiguous(memory_format=found) and first.dtype == dtype else {0: made}


def _find_statistics(args: Sequence[Any], results: Sequence[Any]) -> dict[int, Made]:
    data, *rest = args
    is_mixed = any(isinstance(value, Tensor) and value.dtype == torch.float32 for value in rest)
    if not is_mixed or data.dtype not in _HALVES or data.fake_device.type != "cpu":
        return {}
    return dict.fromkeys(range(1, len(results)), Made(torch.float32, torch.contiguous_format))
