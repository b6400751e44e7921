"""Products with the weights of layers, which are ``[out, in]`` and have to be transposed."""

from __future__ import annotations

import ast
import functools
import operator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.rewriting import write_statement
from modelsummary_ipy.diagnosis.failures.setters import find_module
from modelsummary_ipy.diagnosis.failures.source_nodes import parse_line, splice_node
from modelsummary_ipy.diagnosis.failures.statements import drop_remark, find_function
from modelsummary_ipy.records.fixes import Candidate


def is_layers_weight(ctx: FailureContext, x: Operand) -> bool:
    """Return whether a tensor is the weight of a Linear."""
    names = ctx.trace.params[x.param].names if x.param is not None else ()
    owner = find_module(ctx.trace, names[0].rpartition(".")[0]) if names else None
    return owner is not None and owner.type_name == "Linear" and names[0].endswith("weight")


def turn_weights(ctx: FailureContext) -> Candidate:
    """Transpose the last factor of each product of the function that is written as the failing one is.

    ``x @ w["fc1.weight"]`` and ``x @ w["fc2.weight"]`` are written alike: one of them may be square, and run.

    Returns:
        The changed statements; nothing if one is written alone.
    """
    source, own = ctx.failure.source, _find_factors(ctx.line)
    function = find_function(source) if source is not None else None
    if source is None or function is None or len(own) != 1:
        return NOTHING
    statements = {}
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            statement = ctx.read(source._replace(line=node.lineno))
            if statement is not None:
                statements[statement.first] = statement
    found = []
    for _, statement in sorted(statements.items()):
        line = drop_remark(statement.text)
        for factor in reversed(_find_factors(line)):
            if _write_kind(factor) == _write_kind(own[0]):
                line = splice_node(line, factor, f"{ast.get_source_segment(line, factor)}.t()")
        found.append(write_statement(ctx, statement, line))
    changed = [item for item in found if item]
    return functools.reduce(operator.add, changed) if len(changed) > 1 else NOTHING


def _find_factors(line: str) -> list[ast.expr]:
    """List the last factors of the products of a line that name a weight: ``w["fc1.weight"]``, ``self.fc1.weight``."""
    tree = parse_line(line)
    products = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)] if tree is not None else []
    found = [node.right for node in products if isinstance(node.op, ast.MatMult)]
    return sorted(
        (node for node in found if isinstance(node, (ast.Subscript, ast.Attribute)) and "weight" in ast.unparse(node)),
        key=lambda node: (node.lineno, node.col_offset),
    )


def _write_kind(node: ast.expr) -> str:
    """Write how a weight is named, without which: ``"w[]"``, ``"self..weight"``."""
    if isinstance(node, ast.Subscript):
        return f"{ast.unparse(node.value)}[]"
    parts = ast.unparse(node).split(".")
    return f"{parts[0]}..{parts[-1]}"
