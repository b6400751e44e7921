"""Two tensors of which one was cut, folded or unpacked further up: samples, steps or features are missing there."""

from __future__ import annotations

import re

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, Pair
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import explain_folded_batch, explain_unpacked
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_giver,
    place_line,
    read_line,
)
from modelsummary_ipy.diagnosis.formatting import write_shape


def explain_cut_batch(pair: Pair) -> Diagnosis | None:
    """``captions[:-1]`` was to leave out the last word, and leaves out the last sample."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        if not x.rank or not other.rank or x.shape[0] != other.shape[0] - 1:
            continue
        for call in ctx.flow.walk_back(x.link, 6):
            before = call.inputs[0].shape if call.inputs else ()
            if call.type_name != "getitem" or before[:1] != other.shape[:1] or call.outputs[0].shape[:1] != x.shape[:1]:
                continue
            line, found = re.subn(r"\b(\w+)\[(:-1|1:)\]", r"\1[:, \2]", read_line(ctx, call.source))
            reason = f"{write_shape(before)} was cut to {write_shape(call.outputs[0].shape)}: dim 0 has the samples"
            return Diagnosis(reason, f"{other.shape[0]} samples", place_line(ctx, call, line)) if found else None
    return None


def explain_folded(pair: Pair) -> Diagnosis | None:
    """One of two tensors has the rows of a reshape that parted each sample, the other the samples."""
    return next(
        (found for x, other, *_ in pair.each() if other.rank and pair.axes[-1] == -other.rank
         if (found := explain_folded_batch(pair.ctx, x, other.shape[0])) is not None),
        None,
    )  # fmt: skip


def explain_empty(pair: Pair) -> Diagnosis | None:
    """One of two tensors was cut from where nothing is left: its layer gives too little."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        for call in ctx.flow.walk_back(x.link, 4) if 0 in x.shape and x.rank == other.rank else ():
            if call.type_name == "getitem" and 0 in call.outputs[0].shape and 0 not in call.inputs[0].shape:
                before, after = call.inputs[0].shape, call.outputs[0].shape
                axis = after.index(0) - len(after)
                reason = (
                    f"the slice {write_shape(after)} of {write_shape(before)} is empty: all {before[axis]} lie before"
                )
                fix = fix_giver(ctx, ctx.operands_of(call)[0], before[axis] + other.shape[-1], axis)
                return Diagnosis(reason, write_shape(other.shape), fix)
    return None


def explain_cut_table(pair: Pair) -> Diagnosis | None:
    """A table of positions is cut to as many rows as there are samples: ``self.pe[:x.size(0)]``."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        call = ctx.flow.producer(x.link)
        is_of_samples = other.rank == 3 and x.rank in (2, 3) and x.shape[-1] == other.shape[-1]
        if call is None or call.type_name != "getitem" or not is_of_samples or ctx.flow.sources(x.link):
            continue
        rows, samples, steps = x.shape[-2], other.shape[0], other.shape[1]
        line, found = re.subn(r"\.size\(0\)|\.shape\[0\]", ".size(1)", read_line(ctx, call.source))
        if rows == samples != steps and found == 1:
            reason = f"the table is cut to {samples} rows, the samples; {write_shape(other.shape)} has {steps} steps"
            return Diagnosis(reason, f"{steps} rows", place_line(ctx, call, line))
    return None


def explain_longest(pair: Pair) -> Diagnosis | None:
    """One of two tensors has the steps of the longest sequence, the other those that the batch was padded to."""
    return next(
        (found for x, other, *_ in pair.each() for axis in pair.axes if min(x.rank, other.rank) >= -axis
         if (found := explain_unpacked(pair.ctx, x, x.shape[axis], other.shape[axis])) is not None),
        None,
    )  # fmt: skip
