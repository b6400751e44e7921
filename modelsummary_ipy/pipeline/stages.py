"""The stages of one summary, from a trace to all that is shown of it; each is computed once, when first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import NamedTuple, TypeVar

from torch import nn

from modelsummary_ipy.costs import (
    FormulaError,
    count_backward,
    count_costs,
    estimate_memory,
    fit_batch,
    list_operations,
)
from modelsummary_ipy.inputs import check_device
from modelsummary_ipy.isolation.global_state import collector_paused, globals_kept_once
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred
from modelsummary_ipy.pipeline.caches import CacheTraces
from modelsummary_ipy.pipeline.findings import Findings, with_formulas
from modelsummary_ipy.pipeline.progress_line import showing_progress
from modelsummary_ipy.pipeline.request import Assumptions, Request
from modelsummary_ipy.pipeline.stage import stage
from modelsummary_ipy.records.cache import Cache, Context, find_cache
from modelsummary_ipy.records.internal_errors import attempt
from modelsummary_ipy.records.retraced import Allowance
from modelsummary_ipy.records.summary import Cost, Memory, Story
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.records.training import Training
from modelsummary_ipy.records.view import WhenFormulas
from modelsummary_ipy.tracing.engine import Traced, run_engine
from modelsummary_ipy.tracing.fixed_model import ChangedModel
from modelsummary_ipy.tracing.progress import Observer, find_keeping, observing_progress
from modelsummary_ipy.tracing.retracer import Retracer
from modelsummary_ipy.tracing.training_step import StepSettings, trace_run, trace_step

_Key = TypeVar("_Key")
_Fact = TypeVar("_Fact")

#: The largest batch that fits is searched for this many seconds.
FIT_SECONDS = 30.0
_INTERRUPTED = "interrupted: formulas and sizes that work were not all searched; ms.formulas finds them"


def trace_model(model: nn.Module, request: Request, observer: Observer | None) -> Pipeline:
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
        made = Pipeline(model, traced, request, monotonic() - began)
    if traced.trace.engine == "real" and traced.error is not None:
        made.error  # noqa: B018  # its fixes are run for real, and the model may be gone later
    return made


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Report to ``observer`` every trace that this thread makes in the block; it may cancel them."""
    with observing_progress(observer), collector_paused():
        yield


class Counted(NamedTuple):
    """Costs by row index, and the operations whose multiply-adds are not known."""

    costs: Mapping[int, Cost]
    unknown_ops: tuple[str, ...]


class Pipeline(Findings):
    """The stages of one summary, made as ``Findings`` are; what is read first changes no other."""

    def __init__(self, model: nn.Module, traced: Traced, request: Request, seconds: float) -> None:
        super().__init__(model, traced, request, seconds)
        self._memories: dict[Assumptions, Memory] = {}
        self._steps: dict[StepSettings, Training] = {}
        self._contexts: dict[tuple[int | None, int | None], Context] = {}
        self._unfit = ""  # what ended the search for a batch

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
        return _remember(self, self._steps, settings, partial(self.trace_step, settings))

    def trace_step(self, settings: StepSettings, sizes: Mapping[str, int] | None = None, change: str = "") -> Training:
        """Trace one step: at other sizes, or on a copy that was changed by code which reads it as ``model``."""
        first, request = self.traced.trace, self._again
        name = settings.optimizer.name
        if first.failure is not None:
            return Training(optimizer=name, reason="the forward did not come to its end")
        if first.engine != "fake" or request is None:
            why = f"steps are traced with fakes, not with engine={first.engine!r}"
            if self.is_closed:
                why = "the forward is not run again"
            elif first.engine_reason:
                why = f"steps are traced with fakes, and this model can't be: {first.engine_reason}"
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
        return _remember(self, self._memories, assumed, partial(self._estimate_training, assumed))

    def _estimate_training(self, assumed: Assumptions) -> Memory:
        memory = _estimate_memory(self, assumed, self.training(assumed.step))
        if assumed.step.precision != "as is" and memory.peak_bytes is not None:
            memory = replace(memory, run_bytes=self._trace_run(assumed.step, None))
        if assumed.budget is None:
            return memory
        size, retracer = self.batch.base.get("B"), self.batch.retracer
        if retracer is None or size is None:
            return replace(memory, batch=size)
        name, fixed = self.batch.names.batch, memory.param_bytes + memory.buffer_bytes
        time = Allowance(FIT_SECONDS, self._seconds / max(self.traced.num_traces, 1))
        timed = retracer.within(retracer.budget, time)

        def infer(other: int) -> int | None:
            if memory.run_bytes is not None:
                return None if time.is_short else self._trace_run(assumed.step, {name: other})
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

    def _trace_run(self, settings: StepSettings, sizes: Mapping[str, int] | None) -> int | None:
        """Trace a forward in the precision of a step; its peak, parameters and buffers included."""
        request, retracer = self._again, self.batch.retracer
        if request is None:
            return None
        shapes = retracer.find_shapes(sizes) if sizes and retracer is not None else None
        run = partial(trace_run, request, settings, shapes)
        return attempt("tracing a forward", self._errors, run, None)

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
        return self._until_interrupted(partial(self._know, assumed))

    def _know(self, assumed: Assumptions) -> Story:
        self._judged  # noqa: B018  # computes the flags
        computed = vars(self)
        counted, memory = computed.get("weighed") or computed.get("counted"), self._memories.get(assumed)
        if memory is None and "weighed" in computed:
            memory = _estimate_memory(self, assumed, Training(optimizer=assumed.step.optimizer.name))
        return self._build_story(assumed, counted, memory, self._steps.get(assumed.step))

    def shown(self, assumed: Assumptions, formulas: WhenFormulas, *, with_step: bool) -> Story:
        """All that is displayed.

        Args:
            formulas: When to find formulas; those found before are there in any case.
            with_step: Whether to trace a training step, and to measure bytes also where the first trace did without.
        """
        if formulas == "always":
            self.found  # noqa: B018  # computes them
        with showing_progress("flags", self.model()):
            return self._until_interrupted(partial(self._show, assumed, formulas, with_step=with_step))

    def _until_interrupted(self, build: Callable[[], Story]) -> Story:
        """Build a story; after an interrupt, where the rows are kept, of what is known without one more trace."""
        keeping = find_keeping()
        if keeping is None or not keeping.is_interrupted:
            try:
                return build()
            except KeyboardInterrupt:
                if keeping is None:
                    raise
                keeping.is_interrupted = True
        self.stop()
        before = self.is_closed, self._unfit
        if not self.is_closed:  # all else was found
            self.is_closed, self._unfit = True, "interrupted: memory and the training step were not all traced"
        try:
            return build()
        finally:
            self.is_closed, self._unfit = before

    def stop(self) -> None:
        """Search no more for what is shown from now on, and say so, unless all was found."""
        known = vars(self).keys()
        is_done = "error" in known and (not self.is_short or {"found", "found_in_time"} & known)
        if not self.is_closed and not is_done:
            self.is_closed, self._stopped = True, _INTERRUPTED

    def _show(self, assumed: Assumptions, formulas: WhenFormulas, *, with_step: bool) -> Story:
        # Once for flags and formulas: what the globals hold is copied once, and new objects are looked through once.
        with self._time.spent(), collector_paused(), globals_kept_once():
            self._judged  # noqa: B018  # what is computed here is computed within the time
            if formulas == "usual" and self.is_short:
                self.found_in_time  # noqa: B018  # as far as they are found
                if assumed.context is not None:
                    self.cache_in_time  # noqa: B018  # the same
            self.error  # noqa: B018  # explains a failure, which may fail too
        if with_step or self.traced.trace.knows_saved or not self.traced.shadow.is_large:
            counted, none = self.weighed, Training(optimizer=assumed.step.optimizer.name)
            memory = self.memory(assumed) if with_step else _estimate_memory(self, assumed, none)
        else:
            counted, memory = self.counted, None
        training = self._steps.get(assumed.step) if with_step else None
        self.context(assumed.context, assumed.budget)
        return self._build_story(assumed, counted, memory, training)

    def _build_story(
        self, assumed: Assumptions, counted: Counted | None, memory: Memory | None, training: Training | None
    ) -> Story:
        story, computed = self._judged, vars(self)
        if "found" in vars(self):
            story = with_formulas(story, self.found)
        elif "found_in_time" in vars(self):
            story = with_formulas(story, self.found_in_time)
        stopped = "; ".join(filter(None, (self._stopped, self._unfit)))
        costs, unknown = counted or Counted({}, ())
        cache = computed.get("cache") or computed.get("cache_in_time") or self.bare_cache
        errors = tuple(self._errors)
        return replace(
            story, costs=costs, unknown_ops=unknown, memory=memory, training=training, internal_errors=errors,
            stopped=stopped, backward={} if training is None else self.backward(training), cache=cache,
            context=self._contexts.get((assumed.context, assumed.budget)),
        )  # fmt: skip


def _remember(pipeline: Pipeline, known: dict[_Key, _Fact], key: _Key, compute: Callable[[], _Fact]) -> _Fact:
    """Return what is known under a key; what is computed while nothing is traced again is not kept."""
    with InterruptsDeferred(), pipeline.lock:
        found = known.get(key) or compute()
        if not pipeline.is_closed:
            known[key] = found
        return found


def _estimate_memory(pipeline: Pipeline, assumed: Assumptions, step: Training) -> Memory:
    cost = pipeline.weighed.costs.get(0)
    about = cost is not None and cost.approximate
    budget, text = assumed.budget, assumed.budget_text
    return estimate_memory(pipeline.measured, step, approximate=about, budget=budget, budget_text=text)
