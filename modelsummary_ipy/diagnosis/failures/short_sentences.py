"""Sentences with fewer tokens than the widest kernel of a convolution over words reads."""

from __future__ import annotations

from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import find_name, fix_argument, read_arguments
from modelsummary_ipy.diagnosis.torch_names import EMBEDDINGS
from modelsummary_ipy.records.fixes import Candidate


def pad_tokens(ctx: FailureContext, x: Operand, axis: int, size: int, extent: int) -> Candidate:
    """Pad the tokens before they are looked up, to as many as the widest kernel reads.

    Args:
        x: What the convolution reads.
        axis: Which of its sides is too short.
        size: How long that side is.
        extent: How wide the window is.
    """
    table = next((call for call in ctx.flow.walk_back(x.link, 12) if call.type_name in EMBEDDINGS), None)
    ids = table.inputs[0] if table is not None and table.inputs else None
    if table is None or table.source is None or ids is None or len(ids.shape) != 2 or ids.shape[1] != size:
        return NOTHING
    there = ctx.at_line_of(table)
    name = find_name(next(iter(read_arguments(there, table)), ""))
    kernels = [fact.settings.get("kernel_size") for fact in ctx.list_unread()]
    widest = max([extent, *(kernel[axis] for kernel in kernels if isinstance(kernel, tuple) and len(kernel) > axis)])
    fix = fix_argument(there, f"F.pad({name}, (0, max({widest} - {name}.size(1), 0)))") if name else NOTHING
    return replace(fix, text=f"at {table.source.text}: {fix.text}") if fix and there.statement != ctx.statement else fix
