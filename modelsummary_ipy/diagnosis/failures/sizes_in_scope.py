"""A size that a function works with is of one tensor, and another's was meant: positions of all steps, of queries."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.rewriting import list_statements, write_statement
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, find_targets, splice_node
from modelsummary_ipy.diagnosis.failures.statements import drop_remark
from modelsummary_ipy.diagnosis.torch_names import SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate

_MOST = 4


def explain_other_size(pair: Pair) -> Diagnosis | None:
    """One of two tensors was made by counting to a size, or expanded to it, and has too few or too many rows."""
    ctx = pair.ctx
    if len(pair.axes) != 1:
        return None
    for x, other, *_ in pair.each():
        had, came = x.shape[pair.axes[0]], other.shape[pair.axes[0]]
        if not _is_counted(ctx, x, had):
            continue
        fixes = list(_list_sizes(ctx, had, came))
        reason = f"a table of {had} rows was made, {came} are needed"
        if (last := ctx.flow.producer(x.link)) is not None and last.type_name in ("expand", "repeat"):
            reason = f"{last.type_name}() made {had} steps, the other has {came}"
        return Diagnosis(reason, f"{came} rows", fixes[:_MOST]) if fixes else None
    return None


def _is_counted(ctx: FailureContext, x: Operand, size: int) -> bool:
    """Return whether a tensor was made of ``arange`` of a size, as tables of positions are, or expanded to it."""
    last = ctx.flow.producer(x.link)
    if last is not None and last.type_name in ("expand", "repeat") and size not in last.inputs[0].shape:
        return True
    made = [call for call in ctx.flow.before(x.link) if call.type_name in SIZED_FACTORIES]
    return any(call.outputs and call.outputs[0].shape == (size,) for call in made)


def _list_sizes(ctx: FailureContext, had: int, came: int) -> Iterator[Candidate]:
    """List statements in which a name or a read of a size ``had`` becomes a read of a size ``came``."""
    sources = dict.fromkeys(_list_named(ctx, came))
    for statement in list_statements(ctx):
        line = drop_remark(statement.text)
        for node in find_nodes(line, ast.Call):
            for item in node.args:
                text = ast.unparse(item)
                held = ctx.failure.names.get(text)
                is_size = held is not None and held.words == (str(had),)
                is_read = re.fullmatch(r"\w+\.(?:size\(-?\d\)|shape\[-?\d\])", text) is not None
                if is_size or is_read:
                    for name in sources:
                        yield write_statement(ctx, statement, splice_node(line, item, name))


def _list_named(ctx: FailureContext, size: int) -> Iterator[str]:
    """List how the function that failed may write a size: ``"steps.size(1)"``, the last tensor first."""
    source = ctx.failure.source
    for call in reversed(ctx.trace.calls[: max(ctx.call.index, 0)]):
        own = call.source is not None and source is not None and call.source.function == source.function
        if not own or call.source is None or source is None or call.source.filename != source.filename:
            continue
        found = ctx.read(call.source)
        targets = find_targets(found.text) if found is not None else []
        if len(targets) == 1 and call.outputs and found is not None and found.first < source.line:
            yield from (f"{targets[0]}.size({axis})" for axis, n in enumerate(call.outputs[0].shape) if n == size)
