"""How gradients lie in memory that torch's fakes lay out otherwise than its kernels: of norms, and of log_softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from modelsummary_ipy.torch_compat.fakes import FakeTensor

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


def find_format(func: Any, args: Sequence[Any], result: Any) -> torch.memory_format | None:
    """Return the format that the first result has in truth; ``None`` where the fake's is right."""
    if func not in _FORMAT_OF or type(result) is not FakeTensor:
        return None
    like, found = _FORMAT_OF[func], torch.contiguous_format
    if like is not None and not args[like].is_contiguous():
        last = _CHANNELS_LAST.get(args[like].dim(), found)
        found = last if args[like].is_contiguous(memory_format=last) else found
    return None if result.is_contiguous(memory_format=found) else found
