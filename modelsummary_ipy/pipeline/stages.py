"""The stages of one summary, from a trace to all that is shown of it; each is computed once, when first needed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from torch import nn

from modelsummary_ipy.costs import (
    FormulaError,
    count_backward,
    count_costs,
    estimate_memory,
    fit_batch,
    list_operations,
)
from modelsummary_ipy.diagnosis.failures import explain
from modelsummary_ipy.diagnosis.fixes import find_fixes
from modelsummary_ipy.diagnosis.rules import find_flags, find_retraces
from modelsummary_ipy.display import build_rows
from modelsummary_ipy.inputs import check_device
from modelsummary_ipy.isolation.forks import ForkedLock
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred
from modelsummary_ipy.pipeline.caches import CacheTraces
from modelsummary_ipy.pipeline.fixes import MOST_COPIED, FixTrials
from modelsummary_ipy.pipeline.progress_line import showing_progress
from modelsummary_ipy.pipeline.request import Assumptions, Request
from modelsummary_ipy.records.cache import Cache, Context, find_cache
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.internal_errors import attempt
from modelsummary_ipy.records.retraced import Allowance
from modelsummary_ipy.records.summary import Cost, Flag, Memory, Row, Story
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.records.training import Training
from modelsummary_ipy.records.view import WhenFormulas
from modelsummary_ipy.shapes.axis_findings import AxisFacts, find_axis_facts
from modelsummary_ipy.shapes.constraints import find_constraints
from modelsummary_ipy.shapes.formulas import BatchFacts, FormulaTable, find_batch, find_formulas, trace_again
from modelsummary_ipy.tracing.changed_model import ChangedModel
from modelsummary_ipy.tracing.engine import Traced, may_run_real, run_engine
from modelsummary_ipy.tracing.progress import Observer, keeps_rows, observing_progress
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import Retracer
from modelsummary_ipy.tracing.training_step import StepSettings, trace_step

__all__ = ["Pipeline", "observed", "trace_model"]

T = TypeVar("T")

#: A trace of more calls than this is shown without formulas, unless they are read by name.
_MANY_CALLS = 5000
#: What is shown without being read by name is traced for this many seconds, and for as long as the first trace took.
SECONDS = 1.5
#: The largest batch that fits is searched for this many seconds.
FIT_SECONDS = 30.0
_ONCE = "traced once, as asked: formulas, which sizes work, and what else further traces show are unknown"
_THREADS = "formulas and sizes that work are not searched: what fails in a thread at another size would be printed"
_INTERRUPTED = "interrupted: formulas and sizes that work were not all searched; ms.formulas finds them"


def trace_model(model: nn.Module, request: Request, observer: Observer | None = None) -> Pipeline:
    """Trace a model as requested: the first stage of its summary."""
    device = check_device(request.device) if request.device is not None else None
    given = request.inputs
    began = monotonic()
    with showing_progress("tracing", model), collector_paused():
        traced = run_engine(
            model,
            given,
            method=request.method,
            device=device,
            mode=request.mode,
            engine=request.engine,
            once=request.trace_once,
            observer=observer,
        )
        rows = build_rows(traced.trace)
    seconds = monotonic() - began
    known = traced.request.inputs if traced.request is not None else None
    made = Pipeline(model, traced, rows, replace(request, inputs=known), seconds)
    if traced.trace.engine == "real" and traced.error is not None:
        made.error  # noqa: B018  # its fixes are run for real, and the model may be gone later
    return made


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Report to ``observer`` every trace that this thread makes in the block; it may cancel them."""
    with observing_progress(observer), collector_paused():
        yield


class stage(cached_property[T]):  # reads as the decorator that it is
    """A property that one thread computes, once, while others that need it wait.

    An exception leaves it to be computed again: a form that cancels takes nothing from a cell that waits. A signal's
    handler waits for the next forward, or for the end.
    """

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> T:  # type: ignore[override]  # never of a class
        with InterruptsDeferred(), instance.lock:
            value: T = super().__get__(instance, owner)
            return value


class Found(NamedTuple):
    """Formulas and constraints, see ``Story``, and the sizes between two limits, by dim."""

    outputs: FormulaTable
    inputs: FormulaTable
    constraints: tuple[str, ...]
    ranges: Mapping[str, range]


class Counted(NamedTuple):
    """Costs by row index, and the operations whose multiply-adds are not known."""

    costs: Mapping[int, Cost]
    unknown_ops: tuple[str, ...]


class Pipeline:
    """The stages of one summary; what is read first changes no other.

    Args:
        model: The model; only a weak reference to it is kept.
        traced: What the engine found.
        rows: Its rows.
        request: The request; its inputs hold no values.
        seconds: How long the first trace took.
    """

    def __init__(
        self, model: nn.Module, traced: Traced, rows: tuple[Row, ...], request: Request, seconds: float
    ) -> None:
        self._lock = ForkedLock()
        self.model = weakref.ref(model)  # a summary in Out[] keeps no model alive
        self.traced = traced
        self.rows = rows
        self.request = request
        self.bare = Story(traced.trace, rows, expect=request.expect)  # before any other stage
        self._memories: dict[Assumptions, Memory] = {}
        self._steps: dict[StepSettings, Training] = {}
        self._contexts: dict[tuple[int | None, int | None], Context] = {}
        self._seconds, self._limit = seconds, SECONDS + seconds
        failure = traced.trace.failure
        has_interrupt = failure is not None and failure.interrupted
        self._is_single = request.trace_once or traced.trace.starts_threads or has_interrupt  # for good
        self._is_closed = self._is_single  # nothing is traced again
        self._stopped = self._unfit = ""  # what is not complete
        if request.inputs is not None and not has_interrupt:
            self._stopped = _ONCE if request.trace_once else _THREADS if traced.trace.starts_threads else ""
        self._time = self._allow()
        self._errors: list[str] = []  # what of this package failed

    @property
    def lock(self) -> threading.RLock:
        """Held by the thread that computes a stage."""
        return self._lock.lock

    @property
    def is_short(self) -> bool:
        """Whether formulas are found without being read by name."""
        return len(self.traced.trace.calls) <= _MANY_CALLS

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
        return None if self._is_closed else self.traced.request

    def _resume(self) -> None:
        """Let what time or an interrupt ended be searched to its end."""
        if not self._is_single:
            self._is_closed, self._stopped, self._time = False, "", self._allow()
            for name in ("_batch", "_named", "_judged", "error"):
                vars(self).pop(name, None)

    # -- what rules and explanations read -----------------------------------------------------------------------------

    @property
    def batch(self) -> BatchFacts:
        """One more trace, with one more in the batch."""
        return replace(self._batch, retracer=None) if self._is_closed else self._batch

    @stage
    def _batch(self) -> BatchFacts:
        return find_batch(self._again, self.traced.trace, self.rows, self._time)

    @stage
    def _named(self) -> Story:
        """The trace with its dims named, and the trace at one more in the batch."""
        trace, found = self.traced.trace, self.batch
        inputs = [replace(fact, dims=dims) for fact, dims in zip(trace.inputs, found.names.dims, strict=True)]
        return replace(
            self.bare,
            trace=replace(trace, inputs=tuple(inputs)),
            batch=found.batch,
            failed_at=found.failed_at,
            retraces=() if found.retrace is None else (found.retrace,),
        )

    @stage
    def _judged(self) -> Story:
        """The same with the flags, and the traces at other sizes that some rules need (none in most models)."""
        story, ignore = self._named, self.request.ignore
        with collector_paused():
            for sizes in find_retraces(self._name_batch(story), ignore, self._errors):
                again = trace_again(self.batch, story.trace, sizes)
                if again is not None:
                    story = replace(story, retraces=(*story.retraces, again))
            axes = attempt("reading axes", self._errors, partial(find_axis_facts, self.batch, story.trace), AxisFacts())
            rows = story.row_of_call
            origins = {rows[call]: dims for call, dims in axes.origins.items() if call in rows}
            story = replace(story, axis_findings=axes.findings, origins=origins)
            return replace(story, flags=find_flags(self._name_batch(story), ignore, self._errors))

    def _name_batch(self, story: Story) -> Story:
        """Call the batch ``B``, as the rules do, whatever the user calls it."""
        name, trace = self.batch.names.batch, story.trace
        if name in ("", "B"):
            return story
        inputs = [replace(fact, dims=tuple("B" if dim == name else dim for dim in fact.dims)) for fact in trace.inputs]
        return replace(story, trace=replace(trace, inputs=tuple(inputs)))

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
            with showing_progress("formulas", self.model()), collector_paused():
                found = find_formulas(batch, story.trace, story.rows)
                limits = find_constraints(story.trace, found)
            if found.retracer is not None:
                found.retracer.forget()
            self._errors += [line for line in found.contradicted if line not in self._errors]
            ranges = {name: sizes for limit in limits for name, sizes in limit.ranges.items()}
            return Found(found.outputs, found.inputs, tuple(limit.text for limit in limits), ranges)

        return attempt("finding formulas", self._errors, find, Found({}, {}, (), {}))

    @property
    def ranges(self) -> Mapping[str, range]:
        """The sizes between two limits, by dim, as far as they were found before."""
        found: Found | None = vars(self).get("found") or vars(self).get("found_in_time")
        return found.ranges if found is not None else {}

    @stage
    def error(self) -> ForwardError | None:
        """How the forward failed and which inputs would work: the search traces again, with fakes only, for a time."""
        if self.traced.trace.failure is None:
            return None
        with showing_progress("what would work", self.model()), self._time.spent():
            story, request = self._judged, self._again
            if self.is_short:
                story = _with_formulas(story, self.found_in_time)
            retracer = Retracer(request, story.trace, time=self._time) if request is not None else None
            trials = self._try_fixes(story, request)
            find = partial(find_fixes, trials=trials) if trials is not None else None
            error = explain(story, retracer, self._errors, find)
            if self._time.ended and not self._stopped:
                self._stopped = f"the search for what works ended after {self._limit:.0f} s"
            elif trials is not None and trials.was_late and not self._stopped:
                self._stopped = f"the search for a fix ended after {trials.limit:.0f} s"
        error.__cause__ = self.traced.error
        return error

    def _try_fixes(self, story: Story, request: TraceRequest | None) -> FixTrials | None:
        model = self.model() if story.trace.engine == "real" else None
        if request is None or (model is None and story.trace.engine != "fake"):
            return None
        copied = self.model() if model is None and may_run_real(request, MOST_COPIED) else None
        ignore = self.request.ignore
        return FixTrials(story, request, model, ignore, self._seconds, self._errors, copied)

    # -- what it costs ------------------------------------------------------------------------------------------------

    @stage
    def measured(self) -> Trace:
        """A trace with bytes: the first one, or if it did without them one more, with grad."""
        first, request = self.traced.trace, self._again
        if first.engine == "fake" and first.failure is None and not first.knows_saved and request is not None:
            again = Retracer(request, first).measure()
            if again is not None and again.failure is None and len(again.calls) == len(first.calls):
                return again
        return first

    @stage
    def counted(self) -> Counted:
        """Costs by the first trace: of many modules without bytes."""
        return self._count(self.traced.trace)

    @stage
    def weighed(self) -> Counted:
        """Costs with bytes."""
        return self.counted if self.measured is self.traced.trace else self._count(self.measured)

    def _count(self, trace: Trace) -> Counted:
        def count() -> Counted | FormulaError:
            try:
                return Counted(*count_costs(trace, self.rows))
            except FormulaError as error:
                return error

        with collector_paused():
            otherwise: Counted | FormulaError = Counted({}, ())
            found = attempt("counting costs", self._errors, count, otherwise)
        if isinstance(found, FormulaError):
            raise found.__cause__ or found  # the user's own mistake is no mistake of ours
        return found

    def backward(self, training: Training) -> Mapping[int, int | None]:
        """Multiply-adds of the backward of a step, by row index."""
        try:
            return count_backward(training, self.rows)
        except FormulaError as error:
            raise error.__cause__ or error from None

    @stage
    def operations(self) -> Mapping[int, Sequence[tuple[str, int | None]]]:
        """Per row index, the operations that ran directly in it, with their multiply-adds."""
        return list_operations(self.traced.trace, self.rows)

    def training(self, settings: StepSettings) -> Training:
        """One step of training on fakes."""
        with InterruptsDeferred(), self.lock:
            found = self._steps.get(settings) or self.trace_step(settings)
            if not self._is_closed:
                self._steps[settings] = found
            return found

    def trace_step(self, settings: StepSettings, sizes: Mapping[str, int] | None = None, change: str = "") -> Training:
        """Trace one step: at other sizes, or on a copy that was changed by code which reads it as ``model``."""
        first, request = self.traced.trace, self._again
        name = settings.optimizer.name
        if first.failure is not None:
            return Training(optimizer=name, reason="the forward did not come to its end")
        if first.engine != "fake" or request is None:
            why = (
                "the forward is not run again" if self._is_closed else "it is traced with fakes, and these do not serve"
            )
            return Training(optimizer=name, reason=why)
        shapes = self.batch.retracer.find_shapes(sizes) if sizes and self.batch.retracer is not None else None

        if change:
            request = replace(request, shadow=ChangedModel(request.shadow, change))

        def step() -> Training:
            with showing_progress("training step", self.model()):
                return trace_step(request, first, self.bare.row_of_call, settings, shapes)

        failed = Training(optimizer=name, reason="it could not be traced")
        return attempt("tracing a training step", self._errors, step, failed)

    def memory(self, assumed: Assumptions) -> Memory:
        """Where the memory goes; with a budget, the largest batch that fits it, found by tracing."""
        with InterruptsDeferred(), self.lock:
            found = self._memories.get(assumed) or self._estimate_memory(assumed)
            if not self._is_closed:
                self._memories[assumed] = found
            return found

    def _estimate_memory(self, assumed: Assumptions) -> Memory:
        cost = self.weighed.costs.get(0)
        about = cost is not None and cost.approximate
        memory = estimate_memory(
            self.measured,
            self.training(assumed.step),
            approximate=about,
            budget=assumed.budget,
            budget_text=assumed.budget_text,
        )
        if assumed.budget is None:
            return memory
        size, retracer = self.batch.base.get("B"), self.batch.retracer
        if retracer is None or size is None:
            return replace(memory, batch=size)
        name, fixed = self.batch.names.batch, memory.param_bytes + memory.buffer_bytes
        time = Allowance(FIT_SECONDS, self._seconds / max(self.traced.num_traces, 1))
        timed = retracer.within(retracer.budget, time)

        def infer(other: int) -> int | None:
            again = None if time.is_short else timed.measure({name: other})
            if again is None or again.failure is not None or again.peak_bytes is None:
                return None
            return fixed + again.peak_bytes

        def train(other: int) -> int | None:
            return None if time.is_short else self.trace_step(assumed.step, {name: other}).peak_bytes

        with time.spent():
            found = fit_batch(memory, size, infer, train)
        if time.ended:
            self._unfit = f"the search for the largest batch ended after {FIT_SECONDS:.0f} s"
        return found

    # -- the cache ----------------------------------------------------------------------------------------------------

    @property
    def bare_cache(self) -> Cache | None:
        """What the forward gives back for the next one."""
        request = self.traced.request
        return find_cache(self.traced.trace, request.names) if request is not None else None

    def cache_traces(self, time: Allowance | None = None) -> CacheTraces | None:
        """What traces it at other lengths; ``None`` if there is none, or it can't be traced with fakes."""
        found, request, first = self.bare_cache, self._again, self.traced.trace
        if found is None or request is None or first.engine != "fake":
            return None
        return CacheTraces(found, request, first, self.batch.names, time)

    @stage
    def cache(self) -> Cache | None:
        """The cache with its bytes as a formula."""
        return self._fit_cache()

    @stage
    def cache_in_time(self) -> Cache | None:
        """The same with the formula if it is found within the time limit."""
        with self._time.spent():
            return self._fit_cache(self._time)

    def _fit_cache(self, time: Allowance | None = None) -> Cache | None:
        traces = self.cache_traces(time)
        return self.bare_cache if traces is None else attempt("fitting a cache", self._errors, traces.fit, None)

    def context(self, length: int | None, budget: int | None) -> Context | None:
        """What a context takes, and with a budget what fits."""
        with InterruptsDeferred(), self.lock:
            traces = self.cache_traces() if length is not None and (length, budget) not in self._contexts else None
            if traces is not None and length is not None:
                failed = Context(length, reason="it could not be traced")
                measure = partial(traces.measure, length, budget)
                self._contexts[length, budget] = attempt("measuring a context", self._errors, measure, failed)
            return self._contexts.get((length, budget))

    # -- all together -------------------------------------------------------------------------------------------------

    def known(self, assumed: Assumptions) -> Story:
        """The trace with its flags, and what else was computed before."""
        computed = vars(self)
        counted = computed.get("weighed") or computed.get("counted")
        return self._build_story(assumed, counted, self._memories.get(assumed), self._steps.get(assumed.step))

    def shown(self, assumed: Assumptions, formulas: WhenFormulas, *, with_bytes: bool) -> Story:
        """All that is displayed.

        Args:
            assumed: What the memory estimate assumes.
            formulas: When to find formulas; those found before are there in any case.
            with_bytes: Whether to measure bytes also where the first trace did without.
        """
        if formulas == "always":
            self.found  # noqa: B018  # computes them
        with showing_progress("flags", self.model()):
            try:
                return self._show(assumed, formulas, with_bytes=with_bytes)
            except KeyboardInterrupt:
                if not keeps_rows():
                    raise
                self._is_closed, self._stopped = True, _INTERRUPTED
                return self._show(assumed, formulas, with_bytes=with_bytes)

    def _show(self, assumed: Assumptions, formulas: WhenFormulas, *, with_bytes: bool) -> Story:
        with self._time.spent():
            self._judged  # noqa: B018  # what is computed here is computed within the time
            if formulas == "usual" and self.is_short:
                self.found_in_time  # noqa: B018  # as far as they are found
                self.cache_in_time  # noqa: B018  # the same
            self.error  # noqa: B018  # explains a failure, which may fail too
        if with_bytes or self.traced.trace.knows_saved or not self.traced.shadow.is_large:
            counted, memory = self.weighed, self.memory(assumed)
        else:
            counted, memory = self.counted, None
        self.context(assumed.context, assumed.budget)
        return self._build_story(assumed, counted, memory, self._steps.get(assumed.step))

    def _build_story(
        self, assumed: Assumptions, counted: Counted | None, memory: Memory | None, training: Training | None
    ) -> Story:
        story, computed = self._judged, vars(self)
        if "found" in vars(self):
            story = _with_formulas(story, self.found)
        elif "found_in_time" in vars(self):
            story = _with_formulas(story, self.found_in_time)
        stopped = "; ".join(filter(None, (self._stopped, self._unfit)))
        costs, unknown = counted or Counted({}, ())
        cache = computed.get("cache") or computed.get("cache_in_time") or self.bare_cache
        errors = tuple(self._errors)
        return replace(
            story, costs=costs, unknown_ops=unknown, memory=memory, training=training, internal_errors=errors,
            stopped=stopped, backward={} if training is None else self.backward(training), cache=cache,
            context=self._contexts.get((assumed.context, assumed.budget)),
        )  # fmt: skip


def _with_formulas(story: Story, found: Found) -> Story:
    return replace(story, formulas=found.outputs, input_formulas=found.inputs, constraints=found.constraints)
