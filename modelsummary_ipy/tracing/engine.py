"""Which engine traces: fakes first, a real run when the forward needs values, the module tree when neither can."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from math import inf
from time import monotonic

import torch
from torch import nn

from modelsummary_ipy.inputs.infer import list_candidates, read_example, read_parameters
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.signature import name_positional, write_signature
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.isolation.global_state import collector_paused, deep_stack
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred
from modelsummary_ipy.isolation.output import quiet_output
from modelsummary_ipy.isolation.shadow import ShadowTemplate
from modelsummary_ipy.model.layer_facts import frozen
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import Engine, Mode, Trace
from modelsummary_ipy.tracing.example_inputs import correct_dtypes, find_ranges, guess_dtypes
from modelsummary_ipy.tracing.fake_failures import confirm_failure, differentiates, find_need_of_values
from modelsummary_ipy.tracing.input_search import search_inputs
from modelsummary_ipy.tracing.label_checks import check_call
from modelsummary_ipy.tracing.prepared import Prepared, TraceResult
from modelsummary_ipy.tracing.progress import Observer, TraceCancelled, find_keeping
from modelsummary_ipy.tracing.real_run import find_hindrance, run_real
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import trace_fake
from modelsummary_ipy.tracing.source_lines import trim_error

#: ``auto`` runs a model for real no longer than this; ``engine="real"`` has no limit.
REAL_SECONDS = 10.0
#: No longer than this are inputs searched where none were given.
INFER_SECONDS = 4.0
#: The same for the example in a message.
EXAMPLE_SECONDS = 1.0
INFER_TRACES = 60
#: Most bytes of parameters and buffers that ``auto`` copies for a real run.
REAL_BYTES = 4 << 30
#: Why a forward that came to its end runs for real: a mask that hides nothing is skipped, and fakes passed it on.
_UNREAD = "a mask that may hide nothing"


@dataclass(frozen=True)
class Traced:
    """What came of running the engines.

    Attributes:
        trace: The facts.
        error: The exception that ended the forward.
        shadow: The pristine copy.
        request: For traces at other sizes, with the inputs that were inferred if none were given, without the values
            of the user's tensors; ``None`` if there are no inputs.
        num_traces: How many times the forward's Python ran.
    """

    trace: Trace
    error: BaseException | None
    shadow: ShadowTemplate
    request: TraceRequest | None = None
    num_traces: int = 0


@dataclass(frozen=True)
class _Job:
    """What the engines trace.

    Attributes:
        model: The user's model; only a real run reads it.
        device: Where the trace pretends to be; ``None`` leaves everything where it is.
        observer: Is called as the trace goes on, may cancel it.
        request: The shadow, the arguments and the method.
        once: Whether the forward's Python runs once, whatever that leaves unknown.
    """

    model: nn.Module
    device: torch.device | None
    observer: Observer | None
    request: TraceRequest
    once: bool = False


@dataclass(frozen=True)
class _FakeTrace:
    """A trace with fakes, its arguments, the request with the dtypes that they got, and how often it was traced."""

    result: TraceResult
    prepared: Prepared
    request: TraceRequest
    num_traces: int


def run_engine(
    model: nn.Module,
    inputs: ModelInputs | None,
    *,
    method: str = "forward",
    device: torch.device | None = None,
    mode: Mode = "same",
    engine: Engine = "auto",
    once: bool = False,
    observer: Observer | None = None,
) -> Traced:
    """Trace ``model`` with the given engine; ``auto`` goes on to a real run only if the forward needs values.

    Args:
        model: The user's model; read, never run.
        inputs: What to pass; ``None`` for the module tree alone.
        device: Where the trace pretends to be; ``None`` leaves everything where it is.
        once: Whether the forward's Python runs once, whatever that leaves unknown.

    Raises:
        TraceCancelled: If the observer cancelled it.
    """
    with InterruptsDeferred(), collector_paused(), deep_stack():
        shadow = ShadowTemplate(model, device=device, mode=mode)
        request = TraceRequest(shadow, inputs or ModelInputs(), (), method, name_positional(model, method))
        job = _Job(model, device, observer, request, once)
        if engine == "static":
            traced = Traced(_static_trace(shadow, method, ""), None, shadow, request if inputs is not None else None)
        else:
            traced = _trace_inferred(job, engine) if inputs is None else _trace_given(job, engine)
    if traced.error is not None:
        trim_error(traced.error)
    if traced.request is None:
        return traced
    given = traced.request.inputs
    kept = replace(given, args=shadow.forget_values(given.args), kwargs=shadow.forget_values(given.kwargs))
    return replace(traced, request=replace(traced.request, inputs=kept))


def _trace_inferred(job: _Job, engine: Engine) -> Traced:
    """Trace at the first inputs that work; the module tree if none does."""
    shadow, method = job.request.shadow, job.request.method
    takes = write_signature(job.model, method)
    try:
        inputs = read_example(job.model, method) or _infer_inputs(job)
    except KeyboardInterrupt:
        if find_keeping() is None:
            raise
        reason = f"interrupted while an input that works for {takes} was searched: give one"
        return Traced(_static_trace(shadow, method, reason), None, shadow)
    traced = (
        _trace_given(replace(job, request=replace(job.request, inputs=inputs)), engine) if inputs is not None else None
    )
    # Fakes took it as far as they go, and the real run failed.
    if traced is None or (traced.trace.engine == "real" and traced.error is not None):
        reason = f"no input given, and none was found that works for {takes}: give one"
        return Traced(_static_trace(shadow, method, reason), None, shadow)
    facts = tuple(replace(fact, given="inferred") for fact in traced.trace.inputs)
    return replace(traced, trace=replace(traced.trace, inputs=facts))


def find_example(model: nn.Module, method: str) -> ModelInputs | None:
    """Find inputs at which a model runs, for a message; ``None`` if none is found at once, or it is interrupted.

    Their dtypes are left out where they would be guessed.
    """
    try:
        with InterruptsDeferred(), collector_paused(), deep_stack():
            request = TraceRequest(ShadowTemplate(model), ModelInputs(), (), method, name_positional(model, method))
            job = _Job(model, None, None, request)
            given = read_example(model, method)
            if given is not None and _try_inputs(job, given).result.error is None:
                return given
            found = _infer_inputs(job, EXAMPLE_SECONDS, only_sure=True)
            if found is None:
                return None
            typed = {name: Size(leaf.shape) for name, leaf in found.leaves() if isinstance(leaf, Size) and leaf.dtype}
            bare = found.with_sizes(typed)
            return bare if typed and _try_inputs(job, bare).result.error is None else found
    except (KeyboardInterrupt, InputError):
        return None


def _infer_inputs(job: _Job, seconds: float | None = None, *, only_sure: bool = False) -> ModelInputs | None:
    """Trace candidates, quietly, until one runs, and then what is near to those that failed.

    One whose forward needs values will do if none runs.

    Args:
        seconds: For how long candidates are tried, and again what is near to them; a trace that has begun may take as
            long once more. By default ``INFER_SECONDS``.
    """
    seconds = INFER_SECONDS if seconds is None else seconds
    likely: ModelInputs | None = None
    until, num_traces = inf, 0
    tree = job.request.shadow.tree
    known = read_parameters(job.model, job.request.method)
    failed: list[tuple[ModelInputs, Trace]] = []

    def run(inputs: ModelInputs) -> _FakeTrace | None:
        with suppress(TraceCancelled):  # at some size a loop may not end
            return _try_inputs(job, inputs, lambda count, path: monotonic() > until + seconds)
        return None

    for candidate in list_candidates(tree.modules, *known, params=tree.params):
        if job.once:
            return candidate
        fake = run(candidate)
        if fake is None:
            break
        result, num_traces = fake.result, num_traces + fake.num_traces
        if result.error is None:
            return candidate
        failed.append((candidate, result.trace))
        if likely is None and not only_sure and (find_need_of_values(result) or confirm_failure(result)[1]):
            likely = candidate
        if until == inf:  # the first failure of a process loads what explains it: 3 s here
            until = monotonic() + seconds
        if monotonic() > until or num_traces >= INFER_TRACES:
            break
    until = monotonic() + seconds

    def run_near(inputs: ModelInputs) -> Trace | None:
        fake = run(inputs) if monotonic() <= until else None
        return None if fake is None else fake.result.trace

    return likely or search_inputs(failed, run_near)


def _try_inputs(job: _Job, inputs: ModelInputs, observer: Observer | None = None) -> _FakeTrace:
    with quiet_output():
        return _trace_fake(guess_dtypes(replace(job.request, inputs=inputs)), observer)


def _trace_given(job: _Job, engine: Engine) -> Traced:
    job = replace(job, request=guess_dtypes(job.request))
    shadow = job.request.shadow
    if engine == "real":
        result, request = _run_job(job)
        return Traced(result.trace, result.error, shadow, request, 1)
    with quiet_output(will_show=True) as held:
        fake = _trace_fake(job.request, job.observer, once=job.once, keep_interrupted=find_keeping() is not None)
    result, num_traces, reason = fake.result, fake.num_traces, ""
    if result.is_interrupted:
        pass
    elif result.error is not None:
        reason = find_need_of_values(result)
        if not reason:
            result, reason = confirm_failure(result)
    elif not job.once and result.is_unread and all(fact.given == "data" for fact in fake.prepared.facts):
        reason = _UNREAD
    if reason and engine == "auto" and not job.once:
        return _run_what_fakes_can_not(job, replace(fake, result=result), reason)
    held.show()
    found_trace = result.trace
    if result.error is not None and reason:
        why = "the forward was to run once" if engine == "auto" and job.once else "fake tensors have none"
        found_trace = _with_limit(found_trace, reason, why, "engine='real' runs the forward")
    return Traced(found_trace, result.error, shadow, fake.request, num_traces)


# -- fakes ------------------------------------------------------------------------------------------------------------


def _trace_fake(
    request: TraceRequest, observer: Observer | None, *, once: bool = False, keep_interrupted: bool = False
) -> _FakeTrace:
    """Trace with fakes, again if the layers that read the inputs want other dtypes than were guessed."""
    most = 1 if once else 4 + len(request.dtypes)  # a trace may end at the first wrong guess
    lean = "no_grad" if request.shadow.is_large else ""
    for num_traces in range(1, most + 1):
        with torch.no_grad() if lean == "no_grad" else nullcontext():
            made = trace_fake(
                request, lean=lean == "no_grad", observer=observer, guard=check_call, measure_bytes=not lean,
                keep_interrupted=keep_interrupted, in_full=once,
            )  # fmt: skip
        assert made is not None
        result, prepared = made
        if result.is_interrupted or num_traces == most:
            return _FakeTrace(result, prepared, request, num_traces)
        needs_grad = result.error is not None and differentiates(result.error)
        if lean != "grad" and (needs_grad or (lean and result.reads_grad and torch.is_grad_enabled())):
            lean = "grad"
            continue
        better = correct_dtypes(request, prepared, result.trace)
        if better is None:
            return _FakeTrace(result, prepared, request, num_traces)
        request = better
    raise AssertionError("unreachable")


# -- real runs --------------------------------------------------------------------------------------------------------


class _TooLongError(TraceCancelled):
    """A real run without ``engine="real"`` took too long."""


def _run_what_fakes_can_not(job: _Job, fake: _FakeTrace, reason: str) -> Traced:
    """Run for real what fakes could not, if it is small; else keep the rows so far and advise how to go on.

    Where fakes came to the end and only doubt a mask, all they found is kept unless the run comes to its end too.
    """
    shadow = job.request.shadow
    hindrance = find_hindrance()
    if hindrance is not None:
        return _keep_fake(fake, reason, *hindrance)
    nbytes = sum(param.nbytes for param in shadow.tree.params)
    if nbytes > REAL_BYTES:
        why = f"{nbytes / 2**30:.1f} GiB are not copied unasked for a real run"
        return _keep_fake(fake, reason, why, "engine='real' copies them")
    deadline = monotonic() + REAL_SECONDS

    def watch(count: int, path: str) -> bool:
        if monotonic() > deadline:
            raise _TooLongError
        return bool(job.observer(count, path)) if job.observer is not None else False

    ranges = find_ranges(fake.result.trace, fake.prepared.facts)
    try:
        result, request = _run_job(replace(job, observer=watch, request=fake.request), ranges)
    except _TooLongError:
        return _keep_fake(fake, reason, f"a real run took over {REAL_SECONDS:.0f} s", "engine='real' has no limit")
    if result.error is not None and fake.result.error is None:
        return _keep_fake(fake, reason)
    return Traced(replace(result.trace, engine_reason=reason), result.error, shadow, request, 2)


def _run_job(job: _Job, ranges: dict[int, int] | None = None) -> tuple[TraceResult, TraceRequest]:
    return run_real(job.model, job.request, ranges, device=job.device, observer=job.observer, once=job.once)


def _keep_fake(fake: _FakeTrace, reason: str, why: str = "", advice: str = "") -> Traced:
    """Keep the rows so far: the model did not fail, our engine stopped."""
    trace, error, request = fake.result.trace, fake.result.error, fake.request
    if error is None:
        return Traced(trace, None, request.shadow, request, 1)
    trace = replace(_with_limit(trace, reason, why, advice), engine_reason=reason)
    return Traced(trace, error, request.shadow, request, 1)


def _with_limit(trace: Trace, reason: str, why: str, advice: str) -> Trace:
    """Write down why values were needed, why there were none, and what to do."""
    assert trace.failure is not None
    limit = f"{reason} needs tensor values; {why}"
    return replace(trace, failure=replace(trace.failure, limit=limit, advice=advice))


def _static_trace(shadow: ShadowTemplate, method: str, reason: str) -> Trace:
    tree = shadow.tree
    return Trace(
        calls=(),
        modules=frozen(tree.modules),
        params=frozen(tree.params),
        engine="static",
        engine_reason=reason,
        method=method,
    )
