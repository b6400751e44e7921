"""Tries fixes: each is applied to a shadow, traced, and judged by the rules; within a time limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from modelsummary_ipy.diagnosis.rules import find_flags
from modelsummary_ipy.display import build_rows
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.records.fixes import Candidate, InputEdit, Trial, Verdict
from modelsummary_ipy.records.internal_errors import attempt
from modelsummary_ipy.records.retraced import Allowance, work_clock
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.trace import TensorSpec, Trace
from modelsummary_ipy.shapes.batch_trace import BatchFacts, find_batch
from modelsummary_ipy.tracing.fake_failures import find_need_of_values
from modelsummary_ipy.tracing.fixed_model import FixedModel
from modelsummary_ipy.tracing.fixed_run import run_fixed
from modelsummary_ipy.tracing.prepared import TraceResult
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import Retracer

#: Fixes are tried no longer than this, and as long as the first trace took, this many times.
SECONDS = 1.0
_TIMES = 8.0
#: But no longer than what the search for sizes that work left of its time, and these seconds.
_LEAST_SECONDS = 1.5
#: So many are tried in any case, if the first trace, or a trial, was no longer than so many seconds.
_LEAST_RUNS = 4
_SHORT = 0.5
_MOST_TIMES = 4
_MOST_EXTRA = 2000
_MOST_TRIED = 150
#: A model of more bytes is not copied to run a fix for real.
MOST_COPIED = 1 << 28


class FixTrials:
    """Applies candidates to copies of one model that failed.

    Args:
        model: The user's model where it has to be run for real; ``None`` for fakes.
        ignore: Ids of rules that do not run.
        seconds: How long the first trace took.
        errors: Where a mistake of this package's own is reported.
        copied: The user's model, of which a copy is run for real where fakes lack values; ``None`` if none may be.
        time: What else is searched within: fixes may take what it leaves, and little more.
    """

    def __init__(
        self,
        story: Story,
        request: TraceRequest,
        model: nn.Module | None,
        ignore: tuple[str, ...],
        seconds: float,
        errors: list[str] | None = None,
        copied: nn.Module | None = None,
        time: Allowance | None = None,
    ) -> None:
        self._story = story
        self._request = request
        self._model = model
        self._ignore = ignore
        self._copied = copied
        self.limit = max(SECONDS, _TIMES * min(seconds, 1.0))
        self._time = time or Allowance()
        self._expected = seconds if seconds > _SHORT else 0.0  # a trial that would end too late does not begin
        self._until: float | None = None  # from the first trial on
        self.was_late = False
        self._least = _LEAST_RUNS if seconds <= _SHORT else 0
        self._errors = [] if errors is None else errors
        self._tried = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more is tried."""
        if self._tried < self._least:
            return False
        return self._is_late(self._expected)

    def extend(self, seconds: float) -> None:
        """Let what follows take so long, whatever was spent before."""
        self._until = max(self._ends_at, work_clock() + seconds)

    def _is_late(self, expected: float = 0.0) -> bool:
        is_late = work_clock() + expected > self._ends_at
        self.was_late |= is_late
        return is_late

    @property
    def _ends_at(self) -> float:
        """When the time is over, which the first trial begins."""
        if self._until is None:
            now = work_clock()
            self.limit = min(self.limit, max(self._time.until - now, 0.0) + _LEAST_SECONDS)
            self._until = now + self.limit
        return self._until

    def run(self, candidate: Candidate) -> Trial | None:
        """Trace with a candidate; ``None`` if it can't be applied, or the trace was given up."""
        request = self._apply(candidate)
        is_free = self._tried < self._least
        if request is None or self._tried == _MOST_TRIED or (not is_free and self.is_over):
            return None
        self._tried += 1
        most = _MOST_TIMES * len(self._story.trace.calls) + _MOST_EXTRA

        def trace(model: nn.Module | None, is_late: Callable[[], bool]) -> TraceResult | None:
            run = partial(run_fixed, request, most=most, is_late=is_late, model=model)
            with collector_paused():
                return attempt(f"the fix {candidate.text!r}", self._errors, run, None)

        began = work_clock()
        result = trace(self._model, lambda: not is_free and self._is_late())
        self._note_time(work_clock() - began)
        if result is not None and result.error is not None and self._copied is not None and find_need_of_values(result):
            result = trace(self._copied, self._is_late)  # a copy of it, for real
        return None if result is None else Trial(candidate, result.trace)

    def _note_time(self, seconds: float) -> None:
        """Expect of the next trial what one took: the first trace of a process loads and fills what others find."""
        self._expected = min(self._expected, seconds)
        if seconds <= _SHORT:
            self._least = _LEAST_RUNS

    def judge(self, trial: Trial) -> Verdict:
        """Trace a fix that works once more, with one more in the batch, and run the rules on it."""
        what = f"judging the fix {trial.candidate.text!r}"
        return attempt(what, self._errors, partial(self._judge, trial), Verdict())

    def _judge(self, trial: Trial) -> Verdict:
        request = self._apply(trial.candidate)
        if request is None or trial.trace.engine == "real":
            return Verdict()
        trace = trial.trace
        rows = build_rows(trace)
        found = find_batch(request, trace, rows, Allowance())
        story = with_batch(Story(trace, rows, expect=self._story.expect), found)
        flags = find_flags(story, self._ignore, self._errors)
        if not found.names.batch or found.retrace is None:
            return Verdict(None, flags)
        if found.failed_at and _fails_before(found.retrace.trace, self._story.trace, trace):
            return Verdict(None, flags)  # with or without the fix
        grown = tuple(spec.shape for spec in found.retrace.trace.outputs)
        sizes = dict(pair for dims, fact in zip(found.names.dims, trace.inputs, strict=True)
                     for pair in zip(dims, fact.spec.shape, strict=True))  # fmt: skip
        keeps = _keeps_batch(trace.outputs, grown, sizes[found.names.batch])
        return Verdict(not found.failed_at and keeps, flags)

    def _apply(self, candidate: Candidate) -> TraceRequest | None:
        request: TraceRequest | None = self._request
        for edit in candidate.edits:
            if isinstance(edit, InputEdit) and request is not None:
                request = Retracer(request, self._story.trace).change_inputs(edit.specs)
        return None if request is None else replace(request, shadow=FixedModel(request.shadow, candidate.edits))


def _fails_before(grown: Trace, failed: Trace, fixed: Trace) -> bool:
    """Return whether a model fails at one more in the batch before a call that a fix changed."""
    stop = failed.failure.call if failed.failure is not None else None
    at = grown.failure.call if grown.failure is not None else None
    ran = [(one, other) for one, other in zip(failed.calls, fixed.calls, strict=False) if one.status == "ran"]
    first = next((one.index for one, other in ran if one.outputs != other.outputs), stop)
    return at is not None and first is not None and at < first


def with_batch(story: Story, found: BatchFacts) -> Story:
    """Return a story with its dims named, and the trace at one more in the batch."""
    inputs = [replace(fact, dims=dims) for fact, dims in zip(story.trace.inputs, found.names.dims, strict=True)]
    return replace(
        story,
        trace=replace(story.trace, inputs=tuple(inputs)),
        batch=found.batch,
        failed_at=found.failed_at,
        retraces=() if found.retrace is None else (found.retrace,),
    )


def _keeps_batch(outputs: tuple[TensorSpec, ...], grown: tuple[tuple[int, ...], ...], batch: int) -> bool:
    """Return whether outputs grow by one where the batch does, each on no more than one axis; or all are scalars.

    That axis is as long as the batch: half of two samples, rounded up, grows by one too.
    """
    shapes = [spec.shape for spec in outputs]
    if len(shapes) != len(grown) or any(len(one) != len(other) for one, other in zip(shapes, grown, strict=True)):
        return False
    changed = [
        [(a, b) for a, b in zip(one, other, strict=True) if a != b] for one, other in zip(shapes, grown, strict=True)
    ]
    return all(pairs in ([], [(batch, batch + 1)]) for pairs in changed) and (any(changed) or not any(shapes))
