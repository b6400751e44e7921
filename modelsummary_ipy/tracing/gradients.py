"""Which parameters a backward of the model's output would reach: read off autograd's graph, nothing is run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.tracing.tensor_leaves import find_leaves

#: Of more nodes none is looked at: Python has then an object for each, and torch frees a chain of them recursively,
#: until the stack overflows (a loop of 6,000 GRU cells, which ended the process).
_MOST_NODES = 10_000

#: What every module has: its hooks and modules, and its parameters, which no operation made; buffers some has made.
_NOT_MADE = frozenset(vars(nn.Module()))


def find_trained_params(
    output: Any, modules: Collection[nn.Module], param_of: Mapping[int, int]
) -> frozenset[int] | None:
    """Find the parameters that get a gradient from the output, or from a tensor that the forward kept in a module.

    Args:
        modules: The modules of the copy: an auxiliary loss may be kept in one.
        param_of: Index of a parameter by ``id``.

    Returns:
        Their indices; ``None`` under ``no_grad``, where a part of the graph is hidden, or where it is very large.
    """
    if not torch.is_grad_enabled():
        return None
    kept = [
        value
        for module in modules
        for name, value in vars(module).items()
        if name not in _NOT_MADE and isinstance(value, (Tensor, list, dict))
    ]
    kept += [buffers for module in modules if (buffers := vars(module).get("_buffers"))]
    roots = [tensor.grad_fn for value in (output, *kept) for _, tensor in find_leaves(value)]
    todo = [node for node in roots if node is not None]
    seen = set(todo)
    found: set[int] = set()
    while todo:
        if len(seen) > _MOST_NODES:
            return None
        node = todo.pop()
        if type(node).__name__ == "CheckpointFunctionBackward":  # what is in it is run again when it is needed
            return None
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) in param_of:
            found.add(param_of[id(variable)])
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                todo.append(before)
    return frozenset(found)
