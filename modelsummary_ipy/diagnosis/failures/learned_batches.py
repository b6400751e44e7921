"""Learned tensors in products of batches: seeds that are not repeated for each sample, weights of another count."""

from __future__ import annotations

import re
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.broadcasting import find_clashes
from modelsummary_ipy.diagnosis.failures.constructions import list_constructions
from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_operand,
    name_input_size,
    place_line,
    read_arguments,
    read_line,
)
from modelsummary_ipy.diagnosis.failures.parameters import find_param, resize_param
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate


def fit_learned(ctx: FailureContext, x: Operand, other: Operand) -> tuple[str, list[Candidate]] | None:
    """Give a tensor that was made of a parameter alone the batch of another, or the parameter the other's count.

    Returns:
        Why, in words that follow the reason, and the fixes; ``None`` without any.
    """
    param = find_param(ctx, x)
    axes = find_clashes(x.shape[:-2], other.shape[:-2])
    if param is None or ctx.flow.sources(x.link) or len(axes) != 1:
        return None
    fact, axis = ctx.trace.params[param], axes[0] - 2
    had, came = x.shape[axis], other.shape[axis]
    batches = {given.spec.shape[0] for given in ctx.trace.inputs if given.spec.shape}
    if x.shape == fact.shape and other.rank == x.rank == -axis and came in batches and had > 1:
        words = f"; '{fact.names[0]}' {write_shape(fact.shape)} has no batch: a dim for its {had} goes into the other"
        found = [fix_operand(ctx, ctx.operands.index(other), "{}.unsqueeze(1)")]
    elif x.shape == fact.shape and had > 1:
        made = list_constructions(ctx, fact.names[0].rpartition(".")[0], had, came)
        found = [*made, resize_param(ctx, replace(x, param=param), [axis], came)]
        words = f"; '{fact.names[0]}' {write_shape(fact.shape)} is made for {had}, and {came} came"
    else:
        found = [repeat_learned(ctx, param, came // had) if came % had == 0 else NOTHING]
        words = f"; '{fact.names[0]}' {write_shape(fact.shape)} is repeated for each of {came // had} samples first"
    return (words, found) if any(found) else None


def repeat_learned(ctx: FailureContext, param: int, batch: int) -> Candidate:
    """Expand a parameter over the batch on the line that first hands it on: ``self.seed.expand(x.size(0), -1, -1)``.

    Returns:
        Nothing if it has no dim of 1 for the batch, or that line does not name it once.
    """
    fact = ctx.trace.params[param]
    inputs = ctx.trace.inputs
    first = next((call for call in ctx.trace.calls if param in call.input_params), None)
    if first is None or fact.shape[:1] != (1,) or len(fact.shape) < 2 or not inputs:
        return NOTHING
    if inputs[0].spec.shape[:1] != (batch,):
        return NOTHING
    there = ctx.at_line_of(first)
    given = zip(read_arguments(there), first.inputs, first.input_links, strict=False)
    beside = (text for text, spec, link in given if link is not None and spec.shape[:1] == (batch,))
    name = next((f"{text}.size(0)" for text in beside if text.isidentifier()), name_input_size(there, batch))
    text = f"self.{fact.names[0].rpartition('.')[2]}"
    expanded = f"{text}.expand({', '.join([name, *['-1'] * (len(fact.shape) - 1)])})"
    line, count = re.subn(rf"(?<![\w.]){re.escape(text)}\b(?![.(\[])", expanded, read_line(ctx, first.source))
    return place_line(ctx, first, line) if name and count == 1 else NOTHING
