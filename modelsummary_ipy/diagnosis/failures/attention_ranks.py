"""Attention between steps and one vector of each sample: the vector is a sequence of one step."""

from __future__ import annotations

import ast

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import fix_line, list_names
from modelsummary_ipy.diagnosis.failures.source_edits import change_call
from modelsummary_ipy.diagnosis.failures.source_nodes import (
    Arguments,
    find_nodes,
    find_targets,
    put_in_brackets,
    read_text,
    splice_node,
)
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.trace import Call


def explain_vectors(
    ctx: FailureContext, call: Call, query: Operand, memory: tuple[Operand, Operand], *, batch_first: bool
) -> Diagnosis | None:
    """Explain a ``nn.MultiheadAttention`` whose queries are steps and whose memory is not, or the other way round.

    Args:
        memory: The keys and the values.
    """
    batch, axis = (0, 1) if batch_first else (1, 0)
    ranks = query.rank, memory[0].rank, memory[1].rank
    places: tuple[int, ...]
    names: tuple[str, ...]
    if ranks == (3, 2, 2) and memory[0].shape[0] == query.shape[batch]:
        one, places, names, several = memory[0], (1, 2), ("key", "value"), query
    elif ranks == (2, 3, 3) and query.shape[0] == memory[0].shape[batch]:
        one, places, names, several = query, (0,), ("query",), memory[0]
    else:
        return None

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments:
        def add(text: str, is_meant: bool) -> str:
            return f"{put_in_brackets(text)}.unsqueeze({axis})" if is_meant else text

        return (
            [add(text, place in places) for place, text in enumerate(arguments)],
            {name: add(text, name in names) for name, text in keywords.items()},
        )

    called = list_names(ctx, call.path)
    lines = [line for name in called if (line := change_call(ctx.line, name, edit))][:1]
    if one is query:  # what comes out is one vector of each sample again
        lines = [*(_take_step(line, f".squeeze({axis})", called) for line in lines), *lines]
    what = "each sample has one query" if one is query else "each sample has one key and one value"
    reason = f"{write_shape(one.shape)} has no steps, beside {write_shape(several.shape)}: {what}"
    shape = (one.shape[0], 1, *one.shape[1:]) if batch_first else (1, *one.shape)
    return Diagnosis(reason, write_shape(shape), [fix_line(ctx, line) for line in lines])


def _take_step(line: str, change: str, called: list[str]) -> str:
    """Take the one step out of what a line makes: ``self.attend(…)[0].squeeze(1)``; ``""`` if it has no place."""
    for node in find_nodes(line, ast.Subscript):
        function = read_text(line, node.value.func) if isinstance(node.value, ast.Call) else ""
        if function.rpartition(".")[2] in called and read_text(line, node.slice) == "0":
            return splice_node(line, node, read_text(line, node) + change)
    targets = find_targets(line)
    return f"{line}\n{targets[0]} = {targets[0]}{change}" if len(targets) > 1 else ""
