"""What is found of a trace: flags, formulas, limits and how it failed; each is computed once, when first needed."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from torch import nn

from modelsummary_ipy.diagnosis.rules import find_flags, find_retraces
from modelsummary_ipy.display import build_rows
from modelsummary_ipy.inputs import check_device
from modelsummary_ipy.isolation.forks import ForkedLock
from modelsummary_ipy.isolation.global_state import collector_paused, globals_kept_once
from modelsummary_ipy.isolation.ignored_warnings import warnings_ignored
from modelsummary_ipy.isolation.output import quiet_output
from modelsummary_ipy.pipeline.axis_findings import AxisFacts, find_axis_facts
from modelsummary_ipy.pipeline.fixes import MOST_COPIED, FixTrials, with_batch
from modelsummary_ipy.pipeline.progress_line import showing_progress
from modelsummary_ipy.pipeline.request import Request
from modelsummary_ipy.pipeline.stage import stage
from modelsummary_ipy.records.dims import Dim
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.internal_errors import attempt
from modelsummary_ipy.records.retraced import Allowance
from modelsummary_ipy.records.summary import Flag, Story
from modelsummary_ipy.shapes.batch_trace import BatchFacts, find_batch, trace_again
from modelsummary_ipy.shapes.constraints import find_constraints
from modelsummary_ipy.shapes.formulas import FormulaTable, find_formulas
from modelsummary_ipy.shapes.separate_dims import find_separate_dims
from modelsummary_ipy.tracing.engine import Traced, run_engine
from modelsummary_ipy.tracing.loss_path import MODEL, GivenLoss, LossPath
from modelsummary_ipy.tracing.real_run import may_run_real
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import MANY_CALLS, Retracer
from modelsummary_ipy.tracing.source_lines import read_line

#: What is shown without being read by name is traced for this many seconds, and for as long as the first trace took.
SECONDS = 1.5
#: What the paths of a model begin with where a loss is made of its output.
_OF_MODEL = re.compile(rf"(?<![\w.]){MODEL}\.(?=\w)")
_ONCE = "traced once, as asked: formulas, which sizes work, and what else further traces show are unknown"
_THREADS = "formulas and sizes that work are not searched: what fails in a thread at another size would be printed"


class Found(NamedTuple):
    """Formulas and constraints, see ``Story``, and the sizes that work, by dim."""

    outputs: FormulaTable
    inputs: FormulaTable
    constraints: tuple[str, ...]
    ranges: Mapping[str, range]


class Findings:
    """What is found of a trace, stage by stage: flags, formulas, limits, and how it failed.

    Args:
        model: The model; only a weak reference to it is kept. One that failed and is small is kept until its error is
            known: some fixes can only be tried on it, and who asks ``ModelSummary(Net(), x).error`` keeps no reference.
        request: The request; what the engine was given takes the place of its inputs.
        seconds: How long the first trace took.
    """

    def __init__(self, model: nn.Module, traced: Traced, request: Request, seconds: float) -> None:
        self._lock = ForkedLock()
        self.model = weakref.ref(model)  # a summary in Out[] keeps no model alive
        self.traced = traced
        self.rows = build_rows(traced.trace)
        inputs = None if traced.request is None else traced.request.inputs  # they hold no values
        self.request = request = replace(request, inputs=inputs)
        self.bare = Story(traced.trace, self.rows, expect=request.expect)  # before any other stage
        self._seconds, self._limit = seconds, SECONDS + seconds
        failure = traced.trace.failure
        self._failed: nn.Module | None = None
        if failure is not None and self._is_small:
            self._failed = model
        has_interrupt = failure is not None and failure.interrupted
        self._is_single = request.trace_once or traced.trace.starts_threads or has_interrupt  # for good
        self.is_closed = self._is_single  # nothing is traced again
        self._stopped = ""  # what is not complete
        if request.inputs is not None and not has_interrupt:
            self._stopped = _ONCE if request.trace_once else _THREADS if traced.trace.starts_threads else ""
        self._time = self._allow()
        self._errors: list[str] = []  # what of this package failed
        self._loss: LossPath | GivenLoss | None = None
        self._kept: nn.Module | None = None
        self.name = "model"  # what the user calls it, where that is known

    @property
    def lock(self) -> threading.RLock:
        """Held by the thread that computes a stage."""
        return self._lock.lock

    @property
    def is_short(self) -> bool:
        """Whether formulas are found without being read by name: those of many calls are not."""
        return len(self.traced.trace.calls) <= MANY_CALLS

    def follow_loss(self, loss: LossPath | GivenLoss) -> None:
        """Judge the loss that is made of the output too. A small model is kept until then."""
        self._loss = loss
        self._kept = self.model() if self._is_small else None

    @property
    def _is_small(self) -> bool:
        return sum(param.nbytes for param in self.traced.trace.params) <= MOST_COPIED

    # -- what may be traced again -------------------------------------------------------------------------------------

    def _allow(self) -> Allowance:
        return Allowance(self._limit, self._seconds / max(self.traced.num_traces, 1))

    def allow(self, seconds: float) -> None:
        """Trace for so many seconds, and for as long as the first trace took, for what is shown from now on."""
        self._limit = seconds + self._seconds
        self._time = self._allow()

    def takes_longer_than(self, seconds: float) -> bool:
        """Whether formulas are still to be found for what is shown, and the first trace took longer."""
        is_known = "found" in vars(self) or "found_in_time" in vars(self)
        is_searched = self.is_short and self._again is not None and self.traced.trace.failure is None
        return is_searched and not is_known and self._seconds > seconds

    @property
    def _again(self) -> TraceRequest | None:
        return None if self.is_closed else self.traced.request

    def _resume(self) -> None:
        """Let what time or an interrupt ended be searched to its end."""
        if not self._is_single:
            self.is_closed, self._stopped, self._time = False, "", self._allow()
            for name in ("_batch", "_named", "_judged", "error"):
                vars(self).pop(name, None)

    # -- what rules and explanations read -----------------------------------------------------------------------------

    @property
    def batch(self) -> BatchFacts:
        """One more trace, with one more in the batch."""
        return replace(self._batch, retracer=None) if self.is_closed else self._batch

    @stage
    def _batch(self) -> BatchFacts:
        return find_batch(self._again, self.traced.trace, self.rows, self._time)

    @stage
    def _named(self) -> Story:
        """The trace with its dims named, and the trace at one more in the batch."""
        return with_batch(self.bare, self.batch)

    @stage
    def _judged(self) -> Story:
        """The same with the flags, and the traces at other sizes that some rules need (none in most models)."""
        ignore = self.request.ignore
        with collector_paused(), globals_kept_once():
            story, trace = self._named, self._named.trace
            # Of a large model facts are made each time they are read, and rules read them many times.
            story = replace(story, trace=replace(trace, modules=tuple(trace.modules), params=tuple(trace.params)))
            for sizes in find_retraces(self._name_batch(story), ignore, self._errors):
                again = trace_again(self.batch, story.trace, sizes)
                if again is not None:
                    story = replace(story, retraces=(*story.retraces, again))
            axes = AxisFacts()
            if self.is_short:  # a loop of 10,000 steps does the same in each
                read = partial(find_axis_facts, self.batch, story.trace)
                axes = attempt("reading axes", self._errors, read, axes)
            rows = story.row_of_call
            origins = {rows[call]: dims for call, dims in axes.origins.items() if call in rows}
            story = replace(story, axis_findings=axes.findings, origins=origins)
            found = find_flags(self._name_batch(story), ignore, self._errors)
        return replace(story, flags=(*self._find_loss_flags(), *found))

    def _find_loss_flags(self) -> tuple[Flag, ...]:
        """What the rules find in the loss that is made of the output: on the root."""
        model, inputs, request = self.model(), self.request.inputs, self.request
        self._kept = None
        if model is None or inputs is None or self.is_closed or self.traced.trace.failure is not None:
            return ()
        followed = self._loss.after(model, inputs) if self._loss is not None and self.is_short else None
        if followed is None:
            return ()
        device = check_device(request.device) if request.device is not None else None
        with quiet_output(), warnings_ignored():  # the user's own code has said it
            traced = run_engine(*followed, mode=request.mode, device=device, engine="fake")
        if traced.trace.failure is not None:
            return ()
        step = Findings(followed[0], traced, replace(request, inputs=followed[1], expect={}), self._seconds)
        return tuple(
            replace(
                flag, row=0, path="", more=(), message=f"{_write_line(step, flag)}: {_OF_MODEL.sub('', flag.message)}"
            )
            for flag in step.flags
            if flag.severity != "note"
            and flag.rule != "batch-squeezed"
            and flag.row
            and step.rows[flag.row].path.partition(".")[0] != MODEL
        )

    def _name_batch(self, story: Story) -> Story:
        """Call the batch ``B``, as the rules do, whatever the user calls it."""
        name, trace = self.batch.names.batch, story.trace
        if name in ("", "B"):
            return story
        inputs = [replace(fact, dims=tuple("B" if dim == name else dim for dim in fact.dims)) for fact in trace.inputs]
        own = re.compile(rf"(?<![^· ]){re.escape(name)}(?=[′·]|$)")
        origins = {
            row: tuple(tuple(dim and own.sub("B", dim) for dim in dims) for dims in leaves)
            for row, leaves in story.origins.items()
        }
        return replace(story, trace=replace(trace, inputs=tuple(inputs)), origins=origins)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What the rules found, in row order."""
        return self._judged.flags

    @stage
    def found(self) -> Found:
        """Traces at some more sizes: formulas, and which sizes work."""
        if self._stopped:
            self._resume()
        return self._find_formulas(self.batch)

    @stage
    def found_in_time(self) -> Found:
        """The same as far as it is found within the time limit; the page says what is left out."""
        if "found" in vars(self):
            return self.found
        with self._time.spent():
            found = self._find_formulas(self.batch)
            if self._time.is_over or self._time.ended:
                seconds = self._limit
                self._stopped = f"the search for formulas ended after {seconds:.0f} s: ms.formulas finds them all"
        if not self._stopped:
            vars(self)["found"] = found
        return found

    def _find_formulas(self, batch: BatchFacts) -> Found:
        story = self._judged

        def find() -> Found:
            with showing_progress("formulas", self.model()), collector_paused(), globals_kept_once():
                found = find_formulas(batch, story.trace, story.rows)
                limits = find_constraints(story.trace, found)
            if found.retracer is not None:
                found.retracer.forget()
            self._errors += [line for line in found.contradicted if line not in self._errors]
            ranges = {name: sizes for limit in limits for name, sizes in limit.ranges.items()}
            return Found(found.outputs, found.inputs, tuple(limit.text for limit in limits), ranges)

        return attempt("finding formulas", self._errors, find, Found({}, {}, (), {}))

    @stage
    def dims(self) -> Mapping[str, Dim]:
        """Which dims of the input an operation reads across, by name."""
        read = partial(find_separate_dims, self.batch, self._named)
        with collector_paused(), globals_kept_once():
            return attempt("following dims", self._errors, read, dict[str, Dim]())

    @property
    def ranges(self) -> Mapping[str, range]:
        """The sizes that work, by dim, as far as limits or a step were found before; see ``Constraint``."""
        found: Found | None = vars(self).get("found") or vars(self).get("found_in_time")
        return found.ranges if found is not None else {}

    @stage
    def error(self) -> ForwardError | None:
        """How the forward failed and which inputs would work: the search traces again, with fakes only, for a time."""
        if self.traced.trace.failure is None:
            return None
        from modelsummary_ipy.diagnosis.failures.explain import explain
        from modelsummary_ipy.diagnosis.fixes import find_fixes

        showing = showing_progress("what would work", self.model())
        with showing, collector_paused(), globals_kept_once(), self._time.spent():
            story, request = self._judged, self._again
            if self.is_short:
                story = with_formulas(story, self.found_in_time)
            retracer = Retracer(request, story.trace, time=self._time) if request is not None else None
            trials = self._try_fixes(story, request)
            find = partial(find_fixes, trials=trials, name=self.name) if trials is not None else None
            error = explain(story, retracer, self._errors, find)
            if self._time.ended and not self._stopped:
                self._stopped = f"the search for what works ended after {self._limit:.0f} s"
            elif trials is not None and trials.was_late and not self._stopped:
                self._stopped = f"the search for a fix ended after {trials.limit:.0f} s"
        self._failed = None
        error.__cause__ = self.traced.error
        return error

    def _try_fixes(self, story: Story, request: TraceRequest | None) -> FixTrials | None:
        model = self.model() if story.trace.engine == "real" else None
        if request is None or (model is None and story.trace.engine != "fake"):
            return None
        copied = self.model() if model is None and may_run_real(request, MOST_COPIED) else None
        ignore = self.request.ignore
        return FixTrials(story, request, model, ignore, self._seconds, self._errors, copied, self._time)


def _write_line(found: Findings, flag: Flag) -> str:
    call = found.rows[flag.row].call
    source = None if call is None else found.traced.trace.calls[call].source
    return read_line(source) or "the loss"


def with_formulas(story: Story, found: Found) -> Story:
    """Return a story with its formulas and limits."""
    return replace(story, formulas=found.outputs, input_formulas=found.inputs, constraints=found.constraints)
