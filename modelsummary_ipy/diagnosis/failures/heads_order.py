"""Heads that were parted from the features and not brought before the steps: a mask of steps meets scores of heads."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, Pair
from modelsummary_ipy.diagnosis.failures.rewriting import write_statement
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, read_name, read_operand, read_text, splice_node
from modelsummary_ipy.diagnosis.failures.statements import Statement, drop_remark, walk_function
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call

_PARTS = frozenset({"view", "reshape", "unflatten"})
_JOINS = frozenset({"view", "reshape", "flatten"})
_MOVE = ".transpose(1, 2)"


def explain_unmoved_heads(pair: Pair) -> Diagnosis | None:
    """A mask of the steps is laid on scores of heads with heads."""
    for scores, mask, *_ in pair.each():
        if scores.rank == 4 and scores.shape[2] == scores.shape[3] and mask.rank >= 2:
            return explain_mask_of_steps(pair.ctx, scores.shape[1], scores.shape[2], mask.shape)
    return None


def explain_mask_of_steps(ctx: FailureContext, steps: int, heads: int, mask: Sequence[int]) -> Diagnosis | None:
    """Explain queries and keys ``[batch, steps, heads, features of one]``, whose scores meet a mask of the steps."""
    if mask[-1] != steps or steps == heads:
        return None
    words = f"the scores are of {heads} heads with {heads}, the mask is of {steps} steps"
    return _turn_heads(ctx, heads, {steps}, words, f"scores of {steps} steps with {steps}")


def explain_steps_of_heads(ctx: FailureContext, left: Sequence[int], right: Sequence[int]) -> Diagnosis | None:
    """Explain a product of queries with keys, ``[batch, steps, heads, …]`` both, of which each has other steps."""
    if left[0] != right[0] or left[1] == right[1] or left[2] not in right[2:]:
        return None
    words = f"{left[1]} steps against {right[1]}"
    return _turn_heads(ctx, left[2], {left[1], right[1]}, words, "equal leading dims")


def _turn_heads(ctx: FailureContext, heads: int, steps: Collection[int], words: str, expected: str) -> Diagnosis | None:
    """Bring the heads before the steps where they were parted, and back where they are joined."""
    parts = _find_parts(ctx, heads, steps)
    fix = NOTHING
    for statement in dict.fromkeys(filter(None, (ctx.read(call.source) for call in parts))):
        own = [call for call in parts if ctx.read(call.source) == statement]
        one = write_statement(ctx, statement, _move_heads(drop_remark(statement.text), own))
        if not one:
            return None
        fix = fix + one if fix else one
    ways = _move_back(ctx, parts) if fix else []
    if not ways:
        return None
    shape = write_shape(parts[0].outputs[0].shape)
    reason = f"the heads of {shape} are in dim {_place_of_heads(parts[0])}, behind the steps: {words}"
    return Diagnosis(reason, expected, [fix + back if back else fix for back in ways])


def _find_parts(ctx: FailureContext, heads: int, steps: Collection[int]) -> list[Call]:
    """Find what parted the features of queries, keys and values into heads, in the function that failed."""
    found = []
    for call in ctx.trace.calls[: max(ctx.call.index, 0)]:
        if call.type_name in _PARTS and call.parent == ctx.call.parent and call.inputs and call.outputs:
            before, after = call.inputs[0].shape, call.outputs[0].shape
            is_parted = len(before) == 3 and len(after) in (4, 5) and after[:2] == before[:2] and after[1] in steps
            if is_parted and after[_place_of_heads(call)] == heads and call.source is not None:
                found.append(call)
    return found


def _place_of_heads(call: Call) -> int:
    """Return the dim of the heads: behind the steps, or behind queries, keys and values in one."""
    return len(call.outputs[0].shape) - 2


def _move_heads(line: str, parts: Sequence[Call]) -> str:
    """Put a transpose behind each call of a line that parts heads; ``""`` if it is not known which they are."""
    names = {call.type_name for call in parts}
    nodes = [node for node in find_nodes(line, ast.Call) if read_name(node.func) in names]
    is_loop = len(nodes) == 1 and bool(find_nodes(line, ast.comprehension))
    if len(nodes) != len(parts) and not is_loop:
        return ""
    places = {_place_of_heads(call) for call in parts}
    if len(places) != 1:
        return ""
    move = f".transpose(1, {places.pop()})"
    for node in sorted(nodes, key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0), reverse=True):
        text = read_text(line, node)
        if f"{text}.permute(" in line:  # whose order is to be another one
            return ""
        line = splice_node(line, node, text + move)
    return line


def _move_back(ctx: FailureContext, parts: Sequence[Call]) -> list[Candidate]:
    """List ways to put the steps first again where heads may be joined; nothing in it if that is done, ``[]`` if none.

    The first call that joins dims may be of something else, a mask say.
    """
    first = ctx.statement.first if ctx.statement is not None else 0
    after = [node for node in walk_function(ctx.failure.source) if getattr(node, "lineno", 0) >= first]
    moved = {read_name(node.func) for node in after if isinstance(node, ast.Call)}
    joins = sorted({node.lineno for node in after if isinstance(node, ast.Call) and _joins(node)})
    places = [there for line in joins if (there := ctx.read_at(line)) is not None]
    if not places or any(ctx.read(call.source) == places[0] for call in parts):
        return [NOTHING] if moved & {"rearrange", "permute"} else []
    return [back for there in dict.fromkeys(places) if (back := _write_back(ctx, there)) is not None]


def _joins(node: ast.Call) -> bool:
    """Return whether a call may join the last two of four dims: to three sizes, or from dim 2 on."""
    name, count = read_name(node.func), len(node.args)
    is_flat = name == "flatten" and count > 0 and ast.unparse(node.args[0]) in ("2", "-2")
    return isinstance(node.func, ast.Attribute) and (is_flat or (name in _JOINS and name != "flatten" and count == 3))


def _write_back(ctx: FailureContext, statement: Statement) -> Candidate | None:
    line = drop_remark(statement.text)
    for node in find_nodes(line, ast.Call):
        if _joins(node) and isinstance(node.func, ast.Attribute):
            given = read_operand(line, node.func.value).removesuffix(".contiguous()")
            if given.replace(" ", "").endswith(_MOVE.replace(" ", "")) or ".permute(" in given:
                return NOTHING
            name = "flatten" if node.func.attr == "flatten" else "reshape"
            words = ", ".join(read_text(line, item) for item in node.args)
            return write_statement(ctx, statement, splice_node(line, node, f"{given}{_MOVE}.{name}({words})")) or None
    return None
