"""Steps that are one too many: a tensor had the right dims, in the right order, before a line moved them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import place_line, read_line
from modelsummary_ipy.diagnosis.failures.source_nodes import parse_line, read_text, splice_node
from modelsummary_ipy.diagnosis.torch_names import TRANSPOSES
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call

_DIMS = frozenset({"unsqueeze", "squeeze"})
#: einops moves and folds dims by these.
_OF_EINOPS = frozenset({"reshape", "permute", "transpose", "view"})
_MOST_STEPS = 4


def undo_move(ctx: FailureContext, x: Operand, fits: Callable[[tuple[int, ...]], bool]) -> Candidate:
    """Leave out what gave a tensor another order of dims, or a dim of one, where it fitted before.

    Args:
        fits: Whether a tensor of a shape is what is wanted.

    Returns:
        ``"out = self.encoder(x, mask=mask)"`` for ``mask=mask.t()``; nothing if no such step is near.
    """
    for call, before in list_moves(ctx, x):
        if fits(before):
            line = read_line(ctx, call.source)
            return place_line(ctx, call, drop_step(line, call.type_name))
    return NOTHING


def list_moves(ctx: FailureContext, x: Operand) -> Iterator[tuple[Call, tuple[int, ...]]]:
    """List the steps before a tensor that moved or made dims, each with the shape from before it."""
    for call in ctx.flow.walk_back(x.link, _MOST_STEPS):
        if call.kind != "op" or not call.inputs:
            return
        if call.type_name in TRANSPOSES | _DIMS | _OF_EINOPS:
            yield call, call.inputs[0].shape


def drop_step(line: str, name: str) -> str:
    """Write a line without the one step of a name in it; ``""`` if it has none, or several."""
    tree = parse_line(line)
    found = [pair for node in (ast.walk(tree) if tree is not None else ()) if (pair := _read_step(node, name))]
    if len(found) != 1:
        return ""
    node, kept = found[0]
    loops = [item for item in ast.walk(tree) if isinstance(item, (ast.GeneratorExp, ast.ListComp))] if tree else []
    if any(loop.elt is node for loop in loops) and isinstance(kept, ast.Name):
        return ""  # ``q, k, v = (y.transpose(1, 2) for y in (q, k, v))`` is there for this step alone
    return splice_node(line, node, read_text(line, kept))


def _read_step(node: ast.AST, name: str) -> tuple[ast.AST, ast.expr] | None:
    """Read ``x.t()``, ``x.T``, ``torch.t(x)`` or ``rearrange(x, …)`` as the step and what it is applied to."""
    if isinstance(node, ast.Attribute) and node.attr == name in ("T", "mT"):
        return node, node.value
    if not isinstance(node, ast.Call):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called == "rearrange" and name in _OF_EINOPS:
        return node, node.args[0]
    if called != name or name in ("reshape", "view") or not isinstance(node.func, ast.Attribute):
        return None
    is_function = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
    return node, node.args[0] if is_function else node.func.value
