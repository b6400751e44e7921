"""A prefill and a decode step on fakes: what lives while a context goes through, and while its last position does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch

from modelsummary_ipy.inputs.pytree import list_items
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred
from modelsummary_ipy.isolation.output import quiet_output
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.records.cache import Cache, find_cache
from modelsummary_ipy.tracing.call_builder import RunningCall
from modelsummary_ipy.tracing.example_inputs import prepare_inputs
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.resized_inputs import resize_inputs
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves
from modelsummary_ipy.tracing.tracer import Prepared, TraceResult, trace
from modelsummary_ipy.tracing.training_step.storage_lives import StepLog

__all__ = ["Passed", "Shapes", "trace_decode", "trace_prefill"]

#: New sizes by number of the input leaf.
Shapes = Mapping[int, tuple[int, ...]]


class Passed(NamedTuple):
    """What lives while a forward runs, parameters and buffers included; ``None`` with a reason where it did not run.

    Attributes:
        peak_bytes: The most at one time.
        cache: What it gave for the next one.
        reason: Why there is no peak.
    """

    peak_bytes: int | None = None
    cache: Cache | None = None
    reason: str = ""


def trace_prefill(request: TraceRequest, shapes: Shapes, parameters: Collection[str]) -> Passed:
    """Run a forward without autograd, and follow every storage."""
    return _run(request, shapes, None, "", parameters)


def trace_decode(
    request: TraceRequest, before: Shapes, step: Shapes, parameter: str, parameters: Collection[str]
) -> Passed:
    """Run a forward, then one more with what the first gave back, and follow every storage while the second runs.

    What else the first one gave is gone by then; the inputs of both live to the end.

    Args:
        request: What is traced.
        before, step: Sizes of the inputs of the first and of the second forward.
        parameter: Takes what the first one gave back.
        parameters: Of the forward.
    """
    return _run(request, before, step, parameter, parameters)


def _run(
    request: TraceRequest, shapes: Shapes, step: Shapes | None, parameter: str, parameters: Collection[str]
) -> Passed:
    with ExitStack() as stack:
        stack.enter_context(InterruptsDeferred())
        stack.enter_context(quiet_output())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(collector_paused())
        work = request.shadow.build_fake_shadow()
        prepared = resize_inputs(prepare_inputs(request, work), work, shapes)
        if prepared is None:
            return Passed(reason="the input has tensors that can't be made at other sizes")
        going_on = _Decode(request, work, parameter)
        if step is not None and not going_on.prepare(step):
            return Passed(reason="the input has tensors that can't be made at other sizes")
        then = going_on.run if step is not None else lambda output: None
        made = trace(work, prepared, request.shadow.tree, method=request.method, log=going_on.make_log, then=then)
        return going_on.read(made, parameters)


class _Decode:
    """The second forward, in the trace of the first."""

    def __init__(self, request: TraceRequest, work: Shadow, parameter: str) -> None:
        self._request = request
        self._work = work
        self._parameter = parameter
        self._step: Prepared | None = None
        self._begin = 0
        self._log: StepLog

    def make_log(self, current: Callable[[], RunningCall | None]) -> StepLog:
        self._log = StepLog(current, self._work)
        return self._log

    def prepare(self, shapes: Shapes) -> bool:
        self._step = resize_inputs(prepare_inputs(self._request, self._work), self._work, shapes)
        return self._step is not None

    def run(self, output: Any) -> None:
        """Go on with what a forward gave back."""
        assert self._step is not None
        cache, encoded = _pick(output, self._parameter), _pick(output, "encoder_last_hidden_state")
        cache = output[-1] if cache is None else cache  # of a plain tuple it is the last
        del output
        kwargs = {**self._step.kwargs, self._parameter: cache}
        if encoded is not None and "encoder_outputs" in self._request.names:
            kwargs["encoder_outputs"] = (encoded,)  # the encoder has run
        del cache, encoded
        log = self._log
        log.follow_inputs(tensor for _, tensor in find_argument_leaves(self._step.args, self._step.kwargs, whole=True))
        self._begin = len(log.moments)
        if self._request.method == "forward":
            self._work.module(*self._step.args, **kwargs)
        else:
            getattr(self._work.module, self._request.method)(*self._step.args, **kwargs)

    def read(self, made: TraceResult, parameters: Collection[str]) -> Passed:
        if made.error is not None:
            return Passed(reason=f"{type(made.error).__name__}: {made.error}")
        return Passed(self._log.find_peak(self._begin), find_cache(made.trace, parameters))


def _pick(output: Any, name: str) -> Any:
    """Return the part of an output that is called so, ``None`` if none is."""
    items = dict(list_items(output))
    return items.get(f".{name}", items.get(f"[{name!r}]"))
