"""TorchScript: operations that its interpreter runs itself, and ``torch.jit.trace`` in a forward."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.records.trace import AtenOp
from modelsummary_ipy.torch_compat.modes import find_jit_trace, set_jit_trace

#: Convolutions of ``torch.jit.optimize_for_inference``, and groups that a fuser made one kernel of.
_HIDDEN = re.compile(r"prim::(mkldnn_\w+|\w+Group)")

#: Stands for what ``torch.jit.trace`` makes: under a dispatch mode torch writes results down as constants.
JIT_TRACE = AtenOp("jit.trace", (), ())
#: What reads sizes.
_SIZES = frozenset({Tensor.shape.__get__, Tensor.size, Tensor.numel})  # type: ignore[attr-defined]


def is_jit_tracing() -> bool:
    """Return whether ``torch.jit.trace`` is at work in this thread."""
    return find_jit_trace() is not None


def run_in_jit_trace(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run a function of torch's; sizes that it gives are numbers: as tensors they would end fakes or the process."""
    state = find_jit_trace()
    if func not in _SIZES:
        return func(*args, **kwargs)
    set_jit_trace(None)
    try:
        return func(*args, **kwargs)
    finally:
        set_jit_trace(state)


def find_hidden_ops(module: nn.Module) -> list[AtenOp]:
    """List, each once, the operations in a module's graph whose multiply-adds can't be counted."""
    graph = getattr(module, "inlined_graph", None) if isinstance(module, torch.jit.ScriptModule) else None
    kinds = {} if graph is None else dict.fromkeys(node.kind() for node in _walk(graph))
    return [AtenOp(kind.replace("::", "."), (), ()) for kind in kinds if _HIDDEN.fullmatch(kind)]


def _walk(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _walk(inner)
