"""Which engine traces: fakes first, a real run when the forward needs values, the module tree when neither can."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from modelsummary_ipy.inputs.infer import ask_parameters, list_candidates
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.signature import write_example
from modelsummary_ipy.isolation.global_state import collector_paused, deep_stack
from modelsummary_ipy.isolation.interrupts import Holding
from modelsummary_ipy.isolation.output import quiet_output
from modelsummary_ipy.isolation.shadow import Mode, Shadow, Workpiece, build_real_workpiece
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.torch_compat.fakes import FAKE_ONLY_ERRORS, from_torchs_fakes
from modelsummary_ipy.tracing.example_inputs import (
    correct_dtypes,
    find_ranges,
    guess_dtypes,
    parameter_names,
    prepare_inputs,
)
from modelsummary_ipy.tracing.real_op_checks import (
    UnknownError,
    check_operation,
    find_overrun,
    is_about_history,
    overrun_guard,
    replay,
)
from modelsummary_ipy.tracing.source_lines import trim_error
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves
from modelsummary_ipy.tracing.tracer import Observer, Prepared, TraceCancelled, TraceResult, trace

__all__ = ["Engine", "Traced", "run_engine", "trace_at", "trace_bytes"]

Engine = Literal["auto", "fake", "real", "static"]

#: ``auto`` runs a model for real no longer than this; a real run asked for by name may take what it takes.
REAL_SECONDS = 10.0
#: No longer than this is a size looked for where none was given.
INFER_SECONDS = 4.0
#: Most bytes of parameters and buffers that ``auto`` copies for a real run.
REAL_BYTES = 4 << 30


@dataclass(frozen=True)
class Traced:
    """What came of running the engines.

    Attributes:
        trace: The facts.
        error: The exception that ended the forward.
        shadow: The pristine copy, for traces at other sizes.
        dtypes: The dtypes that the sizes among the inputs got.
        passes: How many times the forward's Python ran.
        advice: What to do if the trace is not whole, in one sentence; ``""`` otherwise.
        inputs: The inputs that were inferred; ``None`` if the user gave some.
    """

    trace: Trace
    error: BaseException | None
    shadow: Shadow
    dtypes: tuple[str, ...] = ()
    passes: int = 0
    advice: str = ""
    inputs: ModelInputs | None = None


def run_engine(
    model: nn.Module,
    inputs: ModelInputs | None,
    *,
    method: str = "forward",
    device: torch.device | None = None,
    mode: Mode = "same",
    engine: Engine = "auto",
    observer: Observer | None = None,
) -> Traced:
    """Trace ``model`` with the engine asked for; ``auto`` goes on to a real run only if the forward needs values.

    Args:
        model: The user's model; read, never run.
        inputs: What to pass; ``None`` for the module tree alone.
        method: What to call.
        device: Where the trace pretends to be; ``None`` leaves everything where it is.
        mode: ``"same"``, ``"train"`` or ``"eval"``.
        engine: ``"auto"``, ``"fake"``, ``"real"`` or ``"static"``.
        observer: Hears of progress, may cancel.

    Raises:
        TraceCancelled: If the observer asked to stop.
    """
    with Holding(), collector_paused(), deep_stack():
        traced = _run_engine(model, inputs, method, device, mode, engine, observer)
    if traced.error is not None:
        trim_error(traced.error)
    return traced


def _run_engine(
    model: nn.Module,
    inputs: ModelInputs | None,
    method: str,
    device: torch.device | None,
    mode: Mode,
    engine: Engine,
    observer: Observer | None,
) -> Traced:
    shadow = Shadow(model, device=device, mode=mode)
    if engine == "static":
        return Traced(_static_trace(shadow, method, ""), None, shadow)
    names = parameter_names(model, method)
    if inputs is None:
        inputs = _infer_inputs(model, shadow, names, method)
        traced = _run_engine(model, inputs, method, device, mode, engine, observer) if inputs is not None else None
        # Fakes took it as far as they go, and the real run says that it does not work.
        if traced is None or (traced.trace.engine == "real" and traced.error is not None):
            reason = f"no input given, and none was found that works: say what goes in, {write_example(model, method)}"
            return Traced(_static_trace(shadow, method, reason), None, shadow)
        facts = tuple(replace(fact, given="inferred") for fact in traced.trace.inputs)
        return replace(traced, trace=replace(traced.trace, inputs=facts), inputs=inputs)
    dtypes = guess_dtypes(inputs, names, tuple(shadow.tree.params))
    if engine == "real":
        result = _run_real(model, shadow, inputs, names, dtypes, method, mode, device, observer)
        return Traced(result.trace, result.error, shadow, tuple(dtypes), 1)
    with quiet_output() as printed:
        result, prepared, dtypes, passes = _run_fake(shadow, inputs, names, dtypes, method, observer)
    reason = _why_values(result) if result.error is not None else ""
    if result.error is not None and not reason:
        result, reason = _confirm(result)
    elif result.error is None and (found := find_overrun(result.trace, _ask_largest(inputs, prepared))) is not None:
        result, prepared = _trace_overrun(shadow, inputs, dtypes, method, observer, found)
        passes += 1
    elif result.is_unread and all(fact.given == "data" for fact in prepared.facts):
        reason = _UNREAD
    if reason and engine == "auto":
        return _go_on(model, shadow, inputs, names, dtypes, method, mode, device, observer, result, prepared, reason)
    sys.stdout.write("".join(printed))
    advice = f"{reason}; engine='real' runs the forward" if result.error is not None and reason else ""
    return Traced(result.trace, result.error, shadow, tuple(dtypes), passes, advice)


def _infer_inputs(model: nn.Module, shadow: Shadow, names: tuple[str, ...], method: str) -> ModelInputs | None:
    """Trace candidates, quietly, until one runs; one whose forward needs values will do if none runs."""
    likely: ModelInputs | None = None
    until = time.monotonic() + INFER_SECONDS
    asked = ask_parameters(model, method)
    for candidate in list_candidates(shadow.tree.modules, *asked, params=shadow.tree.params):
        with quiet_output():
            dtypes = guess_dtypes(candidate, names, tuple(shadow.tree.params))
            result = _run_fake(shadow, candidate, names, dtypes, method, None)[0]
        if result.error is None:
            return candidate
        if likely is None and (_why_values(result) or _confirm(result)[1]):
            likely = candidate
        if time.monotonic() > until:
            break
    return likely


def trace_at(
    shadow: Shadow, inputs: ModelInputs, dtypes: list[str], method: str, *, observer: Observer | None = None
) -> TraceResult:
    """Trace again at other sizes, with fakes, quietly and without measuring."""
    with quiet_output():
        work = shadow.build_fake_workpiece()
        prepared = prepare_inputs(inputs, work, dtypes, method=method)
        return trace(
            work, prepared, shadow.tree, method=method, observer=observer, guard=check_operation, measure=False
        )


def trace_bytes(shadow: Shadow, inputs: ModelInputs, dtypes: list[str], method: str) -> TraceResult:
    """Trace again at the same sizes, with grad and measuring: for a first pass that did without.

    A forward that goes backward itself is traced once more, with autograd keeping what it saves.
    """

    def run(keep_saved: bool) -> TraceResult:
        work = shadow.build_fake_workpiece()
        prepared = prepare_inputs(inputs, work, dtypes, method=method)
        return trace(work, prepared, shadow.tree, method=method, guard=check_operation, keep_saved=keep_saved)

    with quiet_output(), torch.inference_mode(False), torch.enable_grad(), collector_paused():
        result = run(False)
        return result if result.trace.knows_saved or result.error is not None else run(True)


def _run_fake(
    shadow: Shadow,
    inputs: ModelInputs,
    names: tuple[str, ...],
    dtypes: list[str],
    method: str,
    observer: Observer | None,
) -> tuple[TraceResult, Prepared, list[str], int]:
    """Trace with fakes, again if the layers that read the inputs want other dtypes than were guessed."""
    most = 4 + len(dtypes)  # a pass may end at the first wrong guess
    lean = "no_grad" if shadow.is_large else ""
    for passes in range(1, most + 1):
        work = shadow.build_fake_workpiece(late=lean == "no_grad")
        prepared = prepare_inputs(inputs, work, dtypes, method=method)
        with torch.no_grad() if lean == "no_grad" else nullcontext():
            result = trace(
                work,
                prepared,
                shadow.tree,
                method=method,
                observer=observer,
                guard=check_operation,
                measure_bytes=not lean,
            )
        minds = result.error is not None and _minds_measuring(result.error)
        if lean != "grad" and (minds or (lean and result.asks_for_grad and torch.is_grad_enabled())):
            lean = "grad"
            continue
        better = correct_dtypes(inputs, names, dtypes, prepared, result.trace) if passes < most else None
        if better is None:
            return result, prepared, dtypes, passes
        dtypes = better
    raise AssertionError("unreachable")


def _minds_measuring(error: BaseException) -> bool:
    """Tell whether a forward differentiates, which it can't without grad, or with hooks on what autograd saves."""
    words = str(error)
    asks = ("yet support saved tensor hooks", "does not require grad", "doesn't require grad", "requires_grad=False")
    return any(part in words for part in asks)


def _minds_grad(error: BaseException) -> bool:
    """Tell whether a forward does what autograd forbids: whoever runs it does so under ``no_grad``."""
    words = str(error)
    return "requires grad" in words or "support the deepcopy protocol" in words


def _confirm(result: TraceResult) -> tuple[TraceResult, str]:
    """Ask the real operation whether it fails too, on zeros of the same sizes: fakes refuse some things that run.

    Returns:
        The result, with the words of the real failure; and why fakes could not go on, ``""`` if it really fails.
    """
    failure = result.trace.failure
    assert failure is not None
    assert result.error is not None
    if _needed_values(result.error):
        return result, _write_place(result)
    if result.operands is None or is_about_history(failure.message):
        return _speak_of_tensors(result), ""
    real = replay(*result.operands)
    if real is None:
        return result, _write_place(result)
    if isinstance(real, (UnknownError, *FAKE_ONLY_ERRORS)):
        return _speak_of_tensors(result), ""
    real = real.with_traceback(result.error.__traceback__)
    told = replace(failure, error_type=type(real).__name__, message=str(real))
    return replace(result, error=real, trace=replace(result.trace, failure=told)), ""


def _speak_of_tensors(result: TraceResult) -> TraceResult:
    """Say ``Tensor`` where a message says ``FakeTensor``: the user has none."""
    failure, error = result.trace.failure, result.error
    assert failure is not None
    assert error is not None
    kind = next(kind for kind in type(error).__mro__ if not from_torchs_fakes(kind))
    error.args = tuple(arg.replace("FakeTensor", "Tensor") if isinstance(arg, str) else arg for arg in error.args)
    told = replace(failure, error_type=kind.__name__, message=failure.message.replace("FakeTensor", "Tensor"))
    return replace(result, trace=replace(result.trace, failure=told))


def _needed_values(error: BaseException) -> bool:
    """Tell whether the model's own code caught what only fakes raise, and raised something else."""
    for _ in range(8):
        inner = error.__cause__ or error.__context__
        if inner is None:
            return False
        if isinstance(inner, FAKE_ONLY_ERRORS):
            return True
        error = inner
    return False


def _trace_overrun(
    shadow: Shadow,
    inputs: ModelInputs,
    dtypes: list[str],
    method: str,
    observer: Observer | None,
    found: tuple[int, int, int],
) -> tuple[TraceResult, Prepared]:
    """Trace again, up to the lookup whose index lies beyond the table's end."""
    work = shadow.build_fake_workpiece()
    prepared = prepare_inputs(inputs, work, dtypes, method=method)
    with quiet_output():
        guard = overrun_guard(*found)
        return trace(work, prepared, shadow.tree, method=method, observer=observer, guard=guard), prepared


def _ask_largest(inputs: ModelInputs, prepared: Prepared) -> Callable[[int], int | None]:
    """Return what tells the largest value of an integer input that the user gave as data, by leaf."""

    def find_largest(leaf: int) -> int | None:
        name = prepared.facts[leaf].spec.name
        given = dict(find_argument_leaves(inputs.args, inputs.kwargs)).get(name)
        if given is None or given.is_floating_point() or given.device.type != "cpu" or not 0 < given.numel() < 1 << 24:
            return None
        return int(given.max())

    return find_largest


_IN_SCRIPT = "failed in the TorchScript interpreter"


def _why_values(result: TraceResult) -> str:
    """Say why fakes could not go on: ``".item() at net.py:41"``; ``""`` if the failure is the model's own."""
    error = result.error
    failure = result.trace.failure
    assert failure is not None
    if isinstance(error, FAKE_ONLY_ERRORS):
        return _write_place(result)
    words = failure.message
    needs_memory = any(
        text in words
        for text in (
            "Cannot access data pointer",
            "data pointer of FakeTensor",
            ".numpy() is not supported for tensor subclasses",
            "Tensor that doesn't have storage",
            "DataDependent",
            "doesn't have a fake",
            "fake impl",
            "meta tensors",
            "Meta tensors",
            "shape_env must not be None",  # jagged tensors: torch counts their ragged dim in symbols
            "'Meta' backend",
            _IN_SCRIPT,  # a scripted function tells in words alone what its own fakes could not pass
        )
    )
    return _write_place(result) if needs_memory else ""


def _write_place(result: TraceResult) -> str:
    """Write which function fakes could not pass, and where: ``".item() at net.py:41"``."""
    failure = result.trace.failure
    assert failure is not None
    place = failure.source.text if failure.source is not None else ""
    what = _write_function(result.culprit) if result.culprit else failure.error_type
    what = "a scripted function" if _IN_SCRIPT in failure.message and not result.culprit else what
    return f"{what} at {place}" if place else what


#: Why a forward that came to its end runs for real: a mask that hides nothing is skipped, and fakes passed it on.
_UNREAD = "a mask that may hide nothing"


def _write_function(name: str) -> str:
    if name in ("getitem", "setitem"):
        return "an index by a mask"
    return f".{name}()" if name in ("item", "tolist", "numpy", "nonzero", "bool", "int", "float") else f"{name}()"


def _go_on(
    model: nn.Module,
    shadow: Shadow,
    inputs: ModelInputs,
    names: tuple[str, ...],
    dtypes: list[str],
    method: str,
    mode: Mode,
    device: torch.device | None,
    observer: Observer | None,
    fake: TraceResult,
    prepared: Prepared,
    reason: str,
) -> Traced:
    """Run for real what fakes could not, if it is small; else keep the rows so far and say how to go on.

    Where fakes came to the end and only doubt a mask, all they found is kept unless the run comes to its end too.
    """
    nbytes = sum(param.nbytes for param in shadow.tree.params)
    if nbytes > REAL_BYTES:
        advice = f"needs values for {reason}; {nbytes / 2**30:.1f} GiB are not copied unasked: engine='real' does it"
        return _give_up(fake, shadow, dtypes, reason, advice)
    deadline = time.monotonic() + REAL_SECONDS

    def watch(count: int, path: str) -> bool:
        if time.monotonic() > deadline:
            raise _TooLongError
        return bool(observer(count, path)) if observer is not None else False

    ranges = find_ranges(fake.trace, prepared.facts)
    try:
        result = _run_real(model, shadow, inputs, names, dtypes, method, mode, device, watch, ranges)
    except _TooLongError:
        advice = f"needs values for {reason}; the run took over {REAL_SECONDS:.0f} s: engine='real' lets it finish"
        return _give_up(fake, shadow, dtypes, reason, advice)
    if result.error is not None and fake.error is None:
        return _give_up(fake, shadow, dtypes, reason, "")
    return Traced(replace(result.trace, engine_reason=reason), result.error, shadow, tuple(dtypes), 2)


class _TooLongError(TraceCancelled):
    """A real run that nobody asked for took too long."""


def _give_up(fake: TraceResult, shadow: Shadow, dtypes: list[str], reason: str, advice: str) -> Traced:
    """Keep the rows so far: the model did not fail, our engine stopped."""
    if fake.error is None:
        return Traced(fake.trace, None, shadow, tuple(dtypes), 1)
    trace = replace(fake.trace, engine_reason=reason, failure=fake.trace.failure)
    return Traced(trace, fake.error, shadow, tuple(dtypes), 1, advice)


def _run_real(
    model: nn.Module,
    shadow: Shadow,
    inputs: ModelInputs,
    names: tuple[str, ...],
    dtypes: list[str],
    method: str,
    mode: Mode,
    device: torch.device | None,
    observer: Observer | None,
    ranges: dict[int, int] | None = None,
) -> TraceResult:
    work: Workpiece = build_real_workpiece(model, shadow.tree, device=device, mode=mode)
    if ranges is None:
        ranges = _guess_ranges(shadow)
    goes_backward = minds_grad = False
    for attempt in (1, 2, 3, 4):
        prepared = prepare_inputs(inputs, work, dtypes, ranges, method=method)
        with torch.no_grad() if minds_grad else nullcontext():
            result = trace(work, prepared, shadow.tree, method=method, observer=observer, keep_saved=goes_backward)
        if result.error is None or attempt == 4:
            break
        better = correct_dtypes(inputs, names, dtypes, prepared, result.trace)
        if better is not None:
            dtypes[:] = better
        elif not goes_backward and (result.goes_backward or _minds_measuring(result.error)):
            goes_backward = True
        elif not minds_grad and _minds_grad(result.error):
            minds_grad = True
        else:
            break
        work = build_real_workpiece(model, shadow.tree, device=device, mode=mode)
    return result


def _guess_ranges(shadow: Shadow) -> dict[int, int]:
    """Without a fake trace to tell which embedding reads an input, stay below the smallest."""
    rows = [fact.settings.get("num_embeddings") for fact in shadow.tree.modules]
    smallest = min((row for row in rows if isinstance(row, int)), default=2)
    return dict.fromkeys(range(64), smallest)


def _static_trace(shadow: Shadow, method: str, reason: str) -> Trace:
    tree = shadow.tree
    return Trace(
        calls=(),
        modules=tuple(tree.modules),
        params=tuple(tree.params),
        engine="static",
        engine_reason=reason,
        method=method,
    )
