"""The rule that finds the step after which the output has several rows for each sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from modelsummary_ipy.diagnosis.call_arguments import Size, given_size
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.batch_outcomes import Outcome, find_outcomes
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import CATS, CONVOLUTIONS, RESHAPES, TRANSPOSES, is_weighted
from modelsummary_ipy.records.summary import Flag, Number
from modelsummary_ipy.records.trace import Call, Link


def find_folded_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find the step after which the output has several rows for each sample.

    Finds ``view(-1, 400)`` of samples with 800 elements, ``cat`` of a sample's branches along the batch.
    Leaves alone what is unfolded again (windows, time-distributed layers, channel shuffle), two inputs or two views of
    them side by side; whole axes folded with their features intact (``(B, T, V)`` to ``(B·T, V)``) are a note.
    """
    if evidence.failed_then is not None and evidence.failed_then[0].type_name in RESHAPES:
        flag = _judge_division(evidence, *evidence.failed_then)
        if flag is not None:
            yield flag
    outcomes = find_outcomes(evidence)
    beside = any(outcome.fate in ("kept", "pairs", "moved") for outcome in outcomes)
    seen: set[int] = set()
    for outcome in outcomes:
        if outcome.fate != "folded":
            continue
        step = _find_folder(evidence, outcome)
        if step is None or step.index in seen:
            continue
        seen.add(step.index)
        flag = _judge_cat(evidence, step) if step.type_name in CATS else _judge_fold(evidence, step)
        # Beside a leaf that kept its batch, rows may be what that leaf is for: then only certain mistakes are flagged.
        if flag is not None and not (beside and flag.severity == "note"):
            yield flag


def _judge_division(evidence: Evidence, step: Call, other: Call) -> Flag | None:
    """A ``view(-1, n)`` whose n does not divide a sample's elements."""
    asked = given_size(step)
    if asked is None or asked != given_size(other) or asked[0] != -1 or len(asked) < 2:
        return None
    if evidence.moving_in(step) != (0,) or step.inputs[0].shape[0] != evidence.batch:
        return None
    row, sample = math.prod(asked[1:]), math.prod(step.inputs[0].shape[1:])
    if sample % row == 0 or (row % sample == 0 and len(asked) > 2):
        return None
    weighted = any(is_weighted(call) for call in evidence.flow.after(step, 200))
    sure = len(step.inputs[0].shape) > 2 and weighted
    before, after = write_size(step.inputs[0].shape), write_size(step.outputs[0].shape)
    message = f"{before} became {after}: a sample has {sample} elements, a row {row}; a batch of {evidence.batch + 1} "
    message += "fails"
    fix = f"flatten(1) keeps one row per sample, in_features={sample}"
    return evidence.flag("batch-folded", "warning" if sure else "note", step, message, fix,
        "undivided", before=step.inputs[0].shape, after=step.outputs[0].shape, sample=sample, row=row,
    )  # fmt: skip


def _find_folder(evidence: Evidence, outcome: Outcome) -> Call | None:
    """Walk back to the step that read one row per sample and made several."""
    link: Link | None = outcome.link
    for _ in range(10_000):
        step = evidence.flow.producer(link)
        if step is None or link is None:
            return None
        factors = [(evidence.single_factor_in(step, leaf), leaf) for leaf in range(len(step.inputs))]
        most, leaf = max(factors, default=(0, 0), key=lambda pair: pair[0])
        if most < 1:
            return None
        if most < evidence.single_factor_out(step, link.leaf):
            return step
        link = step.input_links[leaf]
    return None


def _judge_fold(evidence: Evidence, step: Call) -> Flag | None:
    if step.type_name not in RESHAPES:
        return None
    before, after = step.inputs[0].shape, step.outputs[0].shape
    moving = evidence.moving_in(step)
    if not moving or len(moving) != 1:
        return None
    rows = evidence.single_factor_out(step, 0)
    how = _read_fold(before, after, moving[0], rows // max(evidence.single_factor_in(step, 0), 1))
    feeds = any(is_weighted(call) for call in evidence.flow.after(step, 200))
    grave = (
        how == "cut"
        or (how == "split" and feeds)
        or (how == "regrouped" and feeds and len(after) == 2 and _is_map(evidence, step))
    )
    held = math.prod(before) // evidence.batch
    message = f"{write_size(before)} became {write_size(after)}: {rows} rows for each of the {evidence.batch} samples"
    if how in ("cut", "split"):
        message += f", which splits a dim ({held} elements per sample, {math.prod(after[1:])} per row)"
    fix = "flatten(1)" if len(after) == 2 else f"{step.type_name}(x.shape[0], …)"
    wide = f" and in_features={held}" if grave and feeds and len(after) == 2 else ""
    return evidence.flag("batch-folded", "warning" if grave else "note", step, message,
        f"{fix} keeps one row per sample" if wide == "" else f"{fix}{wide} keep one row per sample",
        how, before=before, after=after, rows=rows,
    )  # fmt: skip


def _is_map(evidence: Evidence, step: Call) -> bool:
    """Return whether a step reads what a convolution made, its dims where they were."""
    kinds = CONVOLUTIONS | TRANSPOSES
    for earlier in evidence.flow.before(step.input_links[0], until=lambda call: call.type_name in kinds):
        if earlier.type_name in CONVOLUTIONS:
            return len(earlier.outputs[0].shape) == len(step.inputs[0].shape)
        if earlier.type_name in TRANSPOSES or is_weighted(earlier):
            return False
    return False


def _read_fold(before: Size, after: Size, at: int, rows: int) -> Literal["intact", "regrouped", "cut", "split"]:
    """Return what was folded into the batch: whole axes, the rest intact or regrouped, or a part cut off an axis.

    Returns:
        ``"split"`` for a cut of the last axis alone: the boxes of all anchors, the heads of an attention.
    """
    if at != 0:
        return "intact"
    taken = 1
    for dim in range(1, len(before)):
        if taken == rows:
            return "intact" if before[dim:] == after[1:] else "regrouped"
        taken *= before[dim]
        if taken > rows:
            return "split" if dim == len(before) - 1 else "cut"
    return "intact" if taken == rows else "cut"


def _judge_cat(evidence: Evidence, step: Call) -> Flag | None:
    """A sample's own branches side by side in the batch; parts that come from different inputs are meant."""
    pieces = [link for link in step.input_links if link is not None]
    if len(pieces) < 2 or len(set(pieces)) < 2:
        return None
    sources = [evidence.flow.sources(link) for link in pieces]
    layers = [{call.module for call in evidence.flow.before(link) if is_weighted(call)} for link in pieces]
    same = len({frozenset(found) for found in sources}) == 1 and len(sources[0]) == 1
    branched = all(layers) and len({frozenset(found) for found in layers}) == len(layers)
    shapes = [spec.shape for spec in step.inputs]
    count = len(pieces)
    numbers: dict[str, Number] = {"before": shapes[0], "after": step.outputs[0].shape, "pieces": count}
    message = f"cat along the batch: {count} × {write_size(shapes[0])} became {write_size(step.outputs[0].shape)}"
    makers = [evidence.flow.producer(link) for link in pieces]
    parts = all(maker is not None and maker.type_name == "getitem" and all(layers) for maker in makers)
    parts = parts and len({maker.input_links[0] for maker in makers if maker is not None}) == 1
    chained = any(
        maker is not None and maker.index != step.index and one != other and evidence.flow.leads_to(maker, other)
        for maker, one in zip(makers, pieces, strict=True) for other in pieces
    )  # fmt: skip  # a sample, and what was made of it: more samples, and no branches of one
    if same and ((branched and not chained) or parts):
        fix = "torch.cat(…, dim=1) concatenates a sample's branches"
        return evidence.flag("batch-folded", "warning", step, message, fix, "joined", **numbers)
    return evidence.flag("batch-folded", "note", step, message, "", "joined", **numbers)


RULES = {"batch-folded": find_folded_batches}
