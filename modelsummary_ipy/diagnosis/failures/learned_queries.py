"""Learned queries or latents that have no batch, and are reshaped as if they had one."""

from __future__ import annotations

import ast

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.fixes import write_at
from modelsummary_ipy.diagnosis.failures.setters import find_module
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, splice_node
from modelsummary_ipy.diagnosis.failures.statements import drop_remark, find_parameters, list_nodes
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Source


def explain_folded_queries(pair: Pair) -> Diagnosis | None:
    """A parameter of rows by features beside what was made of it, with its rows parted over the samples."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        param = _find_learned(ctx, x)
        if param is None or ctx.trace.params[param].shape != x.shape or other.rank != 3:
            continue
        if other.shape[0] in _list_batches(ctx) and other.shape[0] * other.shape[1] == x.shape[0]:
            return _explain(ctx, param, other.shape[0])
    return None


def explain_parted_queries(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    """A reshape to a batch of something that was made of a parameter alone."""
    param = _find_learned(ctx, x)
    is_batch = len(wanted) > x.rank and wanted[0] in _list_batches(ctx) and wanted[0] != x.shape[0]
    return _explain(ctx, param, wanted[0]) if param is not None and is_batch else None


def _list_batches(ctx: FailureContext) -> set[int]:
    return {fact.spec.shape[0] for fact in ctx.trace.inputs if len(fact.spec.shape) > 1}


def _find_learned(ctx: FailureContext, x: Operand) -> int | None:
    """Return the one parameter of the user's, of two dims, that a tensor was made of without any input."""
    if x.rank != 2 or ctx.flow.sources(x.link):
        return None
    read = {param for call in ctx.flow.before(x.link) for param in call.input_params if param is not None}
    read |= {x.param} if x.param is not None else set()
    own = []
    for param in read:
        fact = ctx.trace.params[param]
        owner = find_module(ctx.trace, fact.names[0].rpartition(".")[0]) if fact.names else None
        if owner is not None and not owner.type_module.startswith("torch.") and len(fact.shape) == 2:
            own.append(param)
    return own[0] if len(own) == 1 else None


def _explain(ctx: FailureContext, param: int, batch: int) -> Diagnosis | None:
    fact = ctx.trace.params[param]
    reason = f"'{fact.names[0]}' {write_shape(fact.shape)} has no batch: it is repeated for each of {batch} samples "
    reason += "first"
    fix = _expand(ctx, param, batch)
    return Diagnosis(reason, write_shape((batch, *fact.shape)), fix) if fix else None


def _expand(ctx: FailureContext, param: int, batch: int) -> Candidate:
    """Expand a parameter where its module's forward reads it: ``self.latents.expand(x.size(0), -1, -1)``."""
    path, _, last = ctx.trace.params[param].names[0].rpartition(".")
    owner = find_module(ctx.trace, path)
    call = next((call for call in ctx.trace.calls if owner is not None and call.module == owner.index), None)
    if owner is None or call is None or not owner.forward_file:
        return NOTHING
    source = Source(owner.forward_file.rpartition("/")[2], owner.forward_line, "", owner.forward_file)
    names = find_parameters(source._replace(line=owner.forward_line + 1))
    given = [spec.name or next(iter(names), "") for spec in call.inputs if spec.shape[:1] == (batch,)]
    forward = [
        node for node in list_nodes(owner.forward_file, ast.FunctionDef)
        if node.lineno <= owner.forward_line <= (node.end_lineno or 0)
    ]  # fmt: skip
    reads = [
        node for function in forward[-1:] for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == last and ast.unparse(node) == f"self.{last}"
    ]  # fmt: skip
    name = next((name for name in given if name in names), "")
    statement = ctx.read(source._replace(line=reads[0].lineno)) if len(reads) == 1 else None
    if statement is None or not name:
        return NOTHING
    line = drop_remark(statement.text)
    for node in find_nodes(line, ast.Attribute):
        if ast.unparse(node) == f"self.{last}":
            return write_at(source, statement, splice_node(line, node, f"self.{last}.expand({name}.size(0), -1, -1)"))
    return NOTHING
