"""Rules that find code which only works for some batches: a size written down, a ``squeeze`` that bites at 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modelsummary_ipy.diagnosis.call_arguments import argument, given_size
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import (
    ATTENTIONS,
    ELEMENTWISE,
    FACTORIES,
    LINEARS,
    RECURRENTS,
    REDUCTIONS,
    RESHAPES,
    SOFTMAXES,
    TRANSPOSES,
    batch_dim,
    is_weighted,
)
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.summary import Flag, Retrace
from modelsummary_ipy.records.trace import Call, Link, Severity, Trace

_REPEATS = frozenset({"expand", "repeat", "tile", "broadcast_to"})


# -- written down -----------------------------------------------------------------------------------------------------


def find_fixed_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find the batch size written in the code as a number: with one sample more, the forward fails or regroups them.

    Finds ``x.view(8, -1)``, ``torch.zeros(1, 8, 64)`` as a first state, ``token.expand(8, -1, -1)``. Leaves alone sizes
    read off the input, groups of samples (``view(-1, 8, …)``; a clip's frames, that take another size when there are
    twice as many); a buffer that holds the batch's size, and what comes from outside of the model, is a note.
    """
    if evidence.again is None or evidence.batch < 1:
        return
    seen: set[int] = set()
    if evidence.batch == 1:
        yield from _find_pinned_to_one(evidence)
        return
    for step, literal in _find_literals(evidence):
        if step.index not in seen and not _is_whole_group(evidence, step):
            seen.add(step.index)
            yield _write_fixed(evidence, step, literal)
    if not seen:
        yield from _find_pinned(evidence)


def _find_pinned(evidence: Evidence) -> Iterator[Flag]:
    """Find the step that fails with one sample more and with twice as many, where no number of the code is seen."""
    failed = evidence.failed_then
    twice = next(
        (retrace for retrace in evidence.retraces[1:] if dict(retrace.sizes) == {"B": 2 * evidence.batch}), None
    )
    if failed is None or twice is None or twice.trace.failure is None or failed[0] not in evidence.flow.steps:
        return
    step, other = failed
    sizes = " and ".join(write_size(spec.shape) for spec in other.inputs)
    message = f"only a batch of {evidence.batch} runs: with {evidence.batch + 1} and with {2 * evidence.batch} the "
    message += f"forward fails here, at {step.type_name} of {sizes}"
    # What comes from outside of the model, an adjacency say, may be for these samples alone; so may another input.
    is_given = any(link is None for link in step.input_links) and step.kind == "op"
    severity: Severity = "note" if is_given or len(evidence.inputs) > 1 else "warning"
    yield evidence.flag("batch-fixed", severity, step, message, "", "pinned",
        batch=evidence.batch,
    )  # fmt: skip


def _find_pinned_to_one(evidence: Evidence) -> Iterator[Flag]:
    """Find two tensors of the model's own that go together for one sample alone, as a size of 1 goes with any other."""
    step, other = evidence.failed_then or (None, None)
    if step is None or other is None or step.type_name.rstrip("_") not in ELEMENTWISE or None in step.input_links:
        return
    if len(step.inputs) == 2 and all(evidence.flow.sources(link) for link in step.input_links):
        sizes = " and ".join(write_size(spec.shape) for spec in other.inputs)
        message = f"only a batch of 1 runs: with 2 the forward fails here, at {step.type_name} of {sizes}"
        yield evidence.flag("batch-fixed", "note", step, message, "", "pinned", batch=1)


def retrace_at_twice(evidence: Evidence) -> Iterator[Mapping[str, int]]:
    """Retrace at twice the batch where one more fails, or a size of it seems to be written down: for whole groups."""
    if evidence.again is None or evidence.batch < 2:
        return
    if evidence.failed_then is not None or any(True for _ in _find_literals(evidence)):
        yield {"B": 2 * evidence.batch}


def _is_whole_group(evidence: Evidence, step: Call) -> bool:
    """Return whether a step takes another size when there are twice as many samples: it counted them."""
    for retrace in evidence.retraces[1:]:
        index = retrace.partners[step.index] if dict(retrace.sizes) == {"B": 2 * evidence.batch} else None
        if index is not None:
            return given_size(retrace.trace.calls[index]) != given_size(step)
    return False


def _find_literals(evidence: Evidence) -> Iterator[tuple[Call, bool]]:
    """Yield the steps that hold the batch's size, and whether as a number in the code (else in a buffer)."""
    failed = evidence.failed_then
    if failed is not None and _holds_batch(evidence, *failed):
        yield failed[0], True
        return
    for step in evidence.flow.steps:
        if find_literal_view(evidence, step):
            yield step, True
            return
    if failed is not None:
        yield from _find_stuck_operands(evidence, *failed)


def find_literal_view(evidence: Evidence, step: Call) -> bool:
    """Return whether a reshape ran at B + 1 with the old batch's size in it and regrouped the samples."""
    then = evidence.partner(step)
    if then is None or step.type_name not in RESHAPES or not evidence.moving_in(step):
        return False
    moving = evidence.moving_out(step)
    return bool(moving) and 0 not in (moving or ()) and _holds_batch(evidence, step, then)


def _holds_batch(evidence: Evidence, step: Call, other: Call) -> bool:
    """Return whether a step takes the old batch's size, and still does where there is one sample more."""
    now, then = given_size(step), given_size(other)
    if now is None or now != then or step.type_name not in RESHAPES:
        return False
    before, after = step.inputs[0].shape, step.outputs[0].shape
    at = (evidence.moving_in(step) or (-1,))[0] if evidence.moving_in(step) is not None else -1
    if at < 0 or before[at] != evidence.batch:
        return False
    places = [dim for dim, size in enumerate(now) if size == evidence.batch and after[: dim + 1] == before[: at + 1]]
    if not places:
        places = [0] if now[0] == evidence.batch and at == 0 else []
    # ``view(4, -1, …)`` that gives (4, 1, …) regroups the samples; the batch itself is the dim of 1.
    return bool(places) and not (len(after) > places[0] + 1 and after[places[0] + 1] == 1 and -1 in now)


def _find_stuck_operands(evidence: Evidence, step: Call, other: Call) -> Iterator[tuple[Call, bool]]:
    """Find the tensor that kept the old batch's size among what a failed step read."""
    moves = [mine.shape != its.shape for mine, its in zip(step.inputs, other.inputs, strict=False)]
    if not any(moves):
        return
    for leaf, spec in enumerate(step.inputs[: len(moves)]):
        if moves[leaf] or evidence.batch not in spec.shape:
            continue
        if step.input_params[leaf] is not None:
            if evidence.params[step.input_params[leaf] or 0].kind == "buffer":
                yield step, False
            continue
        for maker in evidence.flow.before(step.input_links[leaf], until=lambda call: call.type_name in FACTORIES):
            if maker.type_name in FACTORIES or maker.type_name in _REPEATS:
                asked = given_size(maker)
                if asked is not None and evidence.batch in asked and _is_unmoved(evidence, maker):
                    yield maker, True
                    return


def _is_unmoved(evidence: Evidence, step: Call) -> bool:
    other = evidence.partner(step)
    return other is not None and given_size(step) == given_size(other)


def _write_fixed(evidence: Evidence, step: Call, literal: bool) -> Flag:
    size, more = evidence.batch, evidence.batch + 1
    reason = ""
    if evidence.again is not None and evidence.again.trace.failure is not None:
        reason = f": with a batch of {more} the forward fails"
    if not literal:
        message = f"a buffer read here has the batch size {size}{reason}"
        return evidence.flag("batch-fixed", "note", step, message, "make it with x.shape[0] in the forward",
            "buffer", batch=size,
        )  # fmt: skip
    asked = given_size(step) or ()
    written = ", ".join(map(str, asked))
    message = f"{step.type_name}({written}) hard-codes the batch size {size}{reason}"
    better = ", ".join("x.shape[0]" if dim == asked.index(size) else str(value) for dim, value in enumerate(asked))
    return evidence.flag("batch-fixed", "warning", step, message, f"{step.type_name}({better})",
        "written", batch=size, asked=asked,
    )  # fmt: skip


# -- merged into the features -----------------------------------------------------------------------------------------


def find_merged_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find the step that puts the batch among the features, so that a layer only fits this one batch.

    Finds ``flatten()`` or ``view(-1)`` of a batch of 1 before a Linear, a transpose before a Linear that happens to be
    as wide as the batch. Leaves alone whatever runs with one sample more.
    """
    failed = evidence.failed_then
    if failed is None:
        return
    step, other = failed
    if not is_weighted(step) or not step.inputs or not other.inputs:
        return
    now, then = step.inputs[0].shape, other.inputs[0].shape
    dim = len(now) - 1 if step.type_name in LINEARS | RECURRENTS | ATTENTIONS else 1
    if len(now) != len(then) or len(now) <= dim or now[dim] == then[dim]:
        return
    culprit = _find_merger(evidence, step.input_links[0])
    if culprit is None or find_literal_view(evidence, culprit):
        return
    before, after = culprit.inputs[0].shape, culprit.outputs[0].shape
    sure = any(batch_dim(evidence.flow, call) == 0 for call in evidence.flow.before(culprit.input_links[0]))
    sure = sure or (culprit.type_name in RESHAPES and len(before) > 3)
    grows = f"with a batch of {evidence.batch + 1} {step.path} gets {then[dim]} features, not {now[dim]}"
    message = f"{write_size(before)} became {write_size(after)} and the batch is among the features: {grows}"
    fix = "flatten(1)" if culprit.type_name in RESHAPES else f"drop the {culprit.type_name}"
    severity: Severity = "warning" if sure else "note"
    yield evidence.flag("batch-merged", severity, culprit, message, f"{fix} keeps the batch",
        before=before, after=after, features=now[dim], features_then=then[dim],
    )  # fmt: skip


def _find_merger(evidence: Evidence, link: Link | None) -> Call | None:
    """Walk back to the step that put the dim that moves last."""
    for _ in range(1000):
        step = evidence.flow.producer(link)
        if step is None or not step.inputs or link is None:
            return None
        moving = evidence.moving_in(step)
        last = len(step.inputs[0].shape) - 1
        if moving is not None and moving and last not in moving:
            return step if step.type_name in RESHAPES or step.type_name in TRANSPOSES else None
        if moving is None:
            return None
        link = step.input_links[0]
    return None


# -- squeezed ---------------------------------------------------------------------------------------------------------


def retrace_at_one(evidence: Evidence) -> Iterator[Mapping[str, int]]:
    """Retrace at a batch of 1 where a ``squeeze()`` without a dim reads a tensor with a batch."""
    if evidence.batch > 1 and evidence.batch_works and any(_may_bite(evidence, step) for step in evidence.flow.steps):
        yield {"B": 1}


def _may_bite(evidence: Evidence, step: Call) -> bool:
    if step.type_name not in ("squeeze", "squeeze_") or step.arguments:
        return False
    moving = evidence.moving_in(step)
    return bool(moving) and any(evidence.factor_in(step, 0, dim) == 1 for dim in moving or ())


def find_squeezed_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find the ``squeeze()`` that drops the batch when there is only one sample.

    Found at a batch of 1 by comparing with 2, at more by one trace at 1. Leaves alone what puts the batch back before
    any weights read it (after that it is a note), and ``squeeze(dim)`` that names another dim; one that names the
    batch is a note.
    """
    one = next((retrace for retrace in evidence.retraces[1:] if dict(retrace.sizes) == {"B": 1}), None)
    if evidence.batch == 1:
        yield from _find_bites_at_one(evidence)
    elif one is not None:
        yield from _find_bites(evidence, one)


def _find_bites_at_one(evidence: Evidence) -> Iterator[Flag]:
    if evidence.again is None or not _changes_rank(evidence, evidence.again):
        return
    for step in evidence.flow.steps:
        other = evidence.partner(step)
        if other is None or not step.outputs or not other.outputs or not step.inputs:
            continue
        if len(step.inputs[0].shape) != len(other.inputs[0].shape):
            return  # what comes later only hands on
        if len(step.outputs[0].shape) >= min(len(other.outputs[0].shape), len(step.inputs[0].shape)):
            continue
        if step.type_name in ("squeeze", "squeeze_"):
            yield _write_bite(evidence, step, step, "note" if step.arguments else "warning")
        return


def _changes_rank(evidence: Evidence, retrace: Retrace) -> bool:
    mine = [len(spec.shape) for spec in evidence.calls[0].outputs]
    its = [len(spec.shape) for spec in retrace.trace.outputs]
    return retrace.trace.failure is not None or mine != its


def _find_bites(evidence: Evidence, one: Retrace) -> Iterator[Flag]:
    changes = _changes_rank(evidence, one)
    for step in evidence.flow.steps:
        if not _may_bite(evidence, step):
            continue
        index = one.partners[step.index]
        other = None if index is None else one.trace.calls[index]
        if other is None or not other.outputs or len(other.outputs[0].shape) >= len(step.outputs[0].shape):
            continue
        shorter = list(_read_shorter(evidence, one, step, other))
        misread = any(_counts_from_the_front(evidence.flow, later) for later, _ in shorter)
        if misread or (changes and _is_to_blame(one.trace, other)):
            yield _write_bite(evidence, step, other, "warning")
        elif any(is_weighted(then) for _, then in shorter):
            yield _write_bite(evidence, step, other, "note")


def _is_to_blame(trace: Trace, squeeze: Call) -> bool:
    """Return whether the end of the forward, good or bad, was made of a squeeze's output."""
    end = trace.failure.call if trace.failure is not None else 0
    if end is None or not trace.calls[end].input_links or trace.calls[end].outputs or end == 0:
        return True
    following = Dataflow(trace).after(squeeze, len(trace.calls), containers=True)
    return end == squeeze.index or any(call.index == end for call in following)


def _read_shorter(evidence: Evidence, one: Retrace, step: Call, squeeze: Call) -> Iterator[tuple[Call, Call]]:
    """Later steps that read a tensor with one dim less at a batch of 1: as they ran first, and as they ran then."""
    following = {call.index: call for call in Dataflow(one.trace).after(squeeze, len(one.trace.calls))}
    for later in evidence.flow.after(step, 200):
        other = following.get(one.partners[later.index] or -1)
        if other is not None and other.inputs and len(other.inputs[0].shape) < len(later.inputs[0].shape):
            yield later, other


def _counts_from_the_front(flow: Dataflow, step: Call) -> bool:
    """Return whether a step counts its dims from the front, so that with one dim fewer it takes another one."""
    dim = flow.setting(step, "dim") if step.type_name in SOFTMAXES | REDUCTIONS else None
    return batch_dim(flow, step) is not None or (isinstance(dim, int) and not isinstance(dim, bool) and dim >= 0)


def _write_bite(evidence: Evidence, step: Call, at_one: Call, severity: str) -> Flag:
    before, after = at_one.inputs[0].shape, at_one.outputs[0].shape
    message = f"at a batch of 1, {_write_squeeze(step)} drops the batch too: {write_size(before)} becomes "
    message += f"{write_size(after)}"
    units = [dim for dim, size in enumerate(step.inputs[0].shape) if size == 1 and dim > 0]
    fix = "flatten(1)" if len(units) > 1 else f"squeeze({units[0]})" if units else "no squeeze at all"
    return evidence.flag("batch-squeezed", "note" if severity == "note" else "warning", step, message,
        f"{fix} leaves the batch alone", before=before, after=after,
    )  # fmt: skip


def _write_squeeze(step: Call) -> str:
    dim = argument(step, "dim")
    return "squeeze()" if dim is None else f"squeeze({dim})"


RULES = {
    "batch-fixed": find_fixed_batches,
    "batch-merged": find_merged_batches,
    "batch-squeezed": find_squeezed_batches,
}
RETRACES = {"batch-fixed": retrace_at_twice, "batch-squeezed": retrace_at_one}
