"""Graphs whose list of edges was made longer, by loops or by the way back, and what is known of each edge was not."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.fixes import fix_operand, read_line
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.failures.source_nodes import find_targets
from modelsummary_ipy.diagnosis.failures.statements import find_parameters
from modelsummary_ipy.diagnosis.torch_names import CATS
from modelsummary_ipy.records.trace import Call


def explain_edges(pair: Pair) -> Diagnosis | None:
    """Explain nodes that were picked for each edge of a list that was joined, beside rows for those edges it had."""
    for x, other, _, there in pair.each():
        if x.rank != other.rank or x.rank < 2 or x.shape[0] <= other.shape[0]:
            continue
        joined = _find_joined(pair.ctx, x)
        counts = [spec.shape[-1] for spec in joined.inputs] if joined is not None else []
        name = next(iter(find_targets(read_line(pair.ctx, joined.source))), "") if joined is not None else ""
        if sum(counts) != x.shape[0] or other.shape[0] not in counts or not name:
            continue
        rows = other.shape[0]
        reason = f"cat made {name} of {' + '.join(map(str, counts))} = {x.shape[0]} edges, this has {rows} rows"
        given, rank = _find_given(pair.ctx, other)
        gap = f"{name}.size(1) - {{0}}.size(0)"
        pad = f"F.pad({{0}}, (0, {gap}), value=1.0)" if rank == 1 else f"F.pad({{0}}, (0, 0, 0, {gap}))"
        text = f"torch.cat([{', '.join(['{0}'] * len(counts))}])" if set(counts) == {rows} else pad

        def change(
            node: ast.AST, around: ast.AST | None, write: Write, text: str = text, given: str = given
        ) -> Iterator[str]:
            if isinstance(node, ast.Name) and node.id == given:
                yield text.format(given)

        own = rewrite(pair.ctx, change, here=True) if given else []
        whole = fix_operand(pair.ctx, there, text.replace("{0}", f"{{{there}}}"))
        return Diagnosis(reason, f"{x.shape[0]} rows", own or whole)
    return None


def _find_joined(ctx: FailureContext, x: Operand) -> Call | None:
    """Find the ``cat`` that made the list of edges by which rows were picked."""
    for call in ctx.flow.walk_back(x.link, 8):
        picks = [link for link, spec in zip(call.input_links, call.inputs, strict=False) if "int" in spec.dtype]
        if call.type_name in ("getitem", "index_select") and picks:
            steps = ctx.flow.walk_back(picks[0], 6)
            return next((step for step in steps if step.type_name in CATS), None)
    return None


def _find_given(ctx: FailureContext, x: Operand) -> tuple[str, int]:
    """Return the argument of the failing function that has the rows of a tensor, and its rank; ``""`` if none has."""
    links = {x.link, *(link for step in ctx.flow.walk_back(x.link, 12) for link in step.input_links[:1])}
    around = ctx.parent
    pairs = zip(around.input_links, around.inputs, strict=False) if around is not None else ()
    found = [(spec.name, len(spec.shape)) for link, spec in pairs if link in links and spec.shape[:1] == x.shape[:1]]
    known = find_parameters(ctx.failure.source)
    return next(((name, rank) for name, rank in found if name in known), ("", 0))
