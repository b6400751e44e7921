"""Which of several fixes is best: the batch stays the batch, no new flag, what was declared, the smallest change."""

from __future__ import annotations

import re

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, ELEMENTWISE, LINEARS, LOSSES, RECURRENTS
from modelsummary_ipy.records.fixes import LineEdit, Trial, Verdict
from modelsummary_ipy.records.trace import Source, Trace

#: More changes than so many are counted.
_MANY = 3

Rank = tuple[float, ...]


def rank(ctx: FailureContext, trial: Trial, verdict: Verdict) -> Rank:
    """Return what fixes are sorted by; the smallest is best, of equals the one that was tried first."""
    candidate = trial.candidate
    return (
        verdict.keeps_batch is False,
        sum(flag.severity == "error" for flag in verdict.flags),
        sum(flag.severity == "warning" or flag.rule == "sequence-order" for flag in verdict.flags),
        _is_odd_output(trial),
        _num_fixed_sizes(ctx, trial),
        _repeats_a_call(ctx, trial),
        cuts_to_fit(ctx, trial),
        max(len(candidate.edits) - _MANY, 0),
        candidate.rank,
        min(candidate.links, 1) if _edits_lines(trial) else candidate.links > 1,
        _count_other_dims(ctx, trial),
    )


def _edits_lines(trial: Trial) -> bool:
    """Return whether lines alone are changed: one that needs no second change is better then."""
    return all(isinstance(edit, LineEdit) for edit in trial.candidate.edits)


def is_plain(ctx: FailureContext, trial: Trial, verdict: Verdict) -> bool:
    """Return whether a fix leaves nothing to wish for, so that no other needs to be tried."""
    return not any(rank(ctx, trial, verdict)[:7])


def _count_other_dims(ctx: FailureContext, trial: Trial) -> int:
    """Count the sides of the output that are not the input's, where a convolutional decoder ends as it began."""
    if not ctx.trace.inputs or not trial.trace.outputs:
        return 0
    given, made = ctx.trace.inputs[0].spec.shape, trial.trace.outputs[0].shape
    if len(given) != len(made) or len(given) < 3 or not any(c.type_name in CONVOLUTIONS for c in trial.trace.calls):
        return 0
    return sum(a != b for a, b in zip(given[2:], made[2:], strict=True))


def _is_odd_output(trial: Trial) -> bool:
    """Return whether a model whose last layer is a Linear after pooled or flattened maps gives more than [B, n].

    Such a model is a classifier or a regressor: whoever forgot to flatten does not want a map of predictions.
    """
    trace = trial.trace
    layers = [call for call in trace.calls if call.kind == "module" and call.module is not None and call.outputs]
    leaves = [call for call in layers if not trace.modules[call.module or 0].children]
    if len(trace.outputs) != 1 or not leaves or leaves[-1].type_name not in LINEARS:
        return False
    if any(call.type_name in RECURRENTS for call in leaves):  # one prediction for each step
        return False
    convolved = any(call.type_name.startswith("Conv") and "1d" not in call.type_name for call in leaves)
    return convolved and len(trace.outputs[0].shape) > 2


def _num_fixed_sizes(ctx: FailureContext, trial: Trial) -> int:
    """Count the numbers in changed lines that were not there and are sizes of this input."""
    sizes = {size for fact in ctx.trace.inputs for size in fact.spec.shape if size > 4}
    count = 0
    for edit in trial.candidate.edits:
        if isinstance(edit, LineEdit):
            there = ctx.read(Source("", edit.first, "", edit.filename))
            before = re.findall(r"\b\d+\b", f"{ctx.line} {there.text if there is not None else ''}")
            after = re.findall(r"\b\d+\b", edit.text)
            count += sum(int(number) in sizes for number in after if after.count(number) > before.count(number))
    return count


def cuts_to_fit(ctx: FailureContext, trial: Trial) -> bool:
    """Return whether a map is cut to the size of another, or what a slice has cut is cut once more.

    What a layer's padding lost is then lost on both; what was as long as the steps is not what it lies on.
    """
    lines = [edit.text for edit in trial.candidate.edits if isinstance(edit, LineEdit)]
    is_cut = bool(re.search(r"\[[^]]*:\w+\]", ctx.line))
    cuts = [bool(re.search(r"\[(?:(?::|\.{3}), )+:\w+\.size\(", line)) for line in lines]
    return any(cuts) or (is_cut and any(_CUT.search(line) for line in lines))


#: ``[:x.size(2), :x.size(3)]``
_CUT = re.compile(r"\)\[(?::\w+\.size\(-?\d\)(?:, )?)+\]")


def _repeats_a_call(ctx: FailureContext, trial: Trial) -> bool:
    """Return whether a changed line makes a call twice that it made once: ``skips.pop()`` takes another skip then."""
    for edit in trial.candidate.edits:
        if isinstance(edit, LineEdit):
            for call in re.findall(r"[\w.]+\([^()]*\)", ctx.line):
                shape_alone = re.search(r"\.(size|dim|shape)\(", call)
                if not shape_alone and edit.text.count(call) > max(ctx.line.count(call), 1):
                    return True
    return False


def compares_by_chance(ctx: FailureContext, trial: Trial) -> bool:
    """Return whether two tensors of one rank are, with a guess, broadcast over each other; in a loss, at all."""
    call = ctx.call
    ranks = [x.rank for x in ctx.operands[:2]]
    is_loss = ctx.function in LOSSES or ctx.function == "gaussian_nll_loss"
    if not (is_loss or (ctx.function in ELEMENTWISE and len(ranks) > 1 and ranks[0] == ranks[1])):
        return False

    def list_pairs(trace: Trace) -> list[list[tuple[int, ...]]]:
        alike = [
            other for other in trace.calls if other.outputs
            and (other.type_name, other.path, other.source) == (call.type_name, call.path, call.source)
        ]  # fmt: skip
        return [[spec.shape for spec in other.inputs[:2]] for other in alike if len(other.inputs) > 1]

    ran = list_pairs(ctx.trace)  # another operation of the line
    later = [pair for pair in list_pairs(trial.trace) if pair not in ran]
    if is_loss:
        return ctx.function not in ("cross_entropy", "nll_loss") and any(one != other for one, other in later)
    return any(len(one) != len(other) for one, other in later)
