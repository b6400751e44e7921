"""TorchScript: operations that its interpreter runs itself, and ``torch.jit.trace`` in a forward."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from modelsummary_ipy.records.trace import AtenOp

#: Convolutions of ``torch.jit.optimize_for_inference``, and groups that a fuser made one kernel of.
_HIDDEN = re.compile(r"prim::(mkldnn_\w+|\w+Group)")

#: Stands for what ``torch.jit.trace`` makes: under a dispatch mode torch writes results down as constants.
JIT_TRACE = AtenOp("jit.trace", (), ())


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
