"""A prefill and a decode step on fakes: what lives while a context goes through, and while its last position does."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modelsummary_ipy.inputs.pytree import list_items, replace_tensors
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.records.cache import Cache, find_cache
from modelsummary_ipy.tracing.call_builder import RunningCall
from modelsummary_ipy.tracing.followed_run import UNSIZED, Shapes, begin_run, prepare_at
from modelsummary_ipy.tracing.prepared import Prepared
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves
from modelsummary_ipy.tracing.tracer import trace
from modelsummary_ipy.tracing.training_step.storage_lives import StepLog


class Passed(NamedTuple):
    """What lives while a forward runs, parameters and buffers included; ``None`` with a reason where it did not run.

    Attributes:
        peak_bytes: The most at one time.
        cache: What it gave for the next one.
        reason: Why there is no peak.
        configured: The positions that the model's configuration names, ``max_position_embeddings``; ``None`` for none.
    """

    peak_bytes: int | None = None
    cache: Cache | None = None
    reason: str = ""
    configured: int | None = None


def trace_prefill(request: TraceRequest, shapes: Shapes, parameters: Collection[str]) -> Passed:
    """Run a forward without autograd, and follow every storage."""
    with begin_run(request, grad=False) as work:
        prepared = prepare_at(request, work, shapes)
        return Passed(reason=UNSIZED) if prepared is None else _Runs(request, work, parameters).run(prepared)


def trace_decode(
    request: TraceRequest,
    before: Shapes,
    step: Shapes,
    kept: Collection[int],
    parameter: str,
    parameters: Collection[str],
) -> Passed:
    """Run a forward, then one more with what the first gave back, and follow every storage while the second runs.

    What else the first one gave is gone by then; the inputs of both live to the end.

    Args:
        before, step: Sizes of the inputs of the first and of the second forward.
        kept: Numbers of the input leaves that are the same tensors in both: those of an encoder.
        parameter: Takes what the first one gave back.
        parameters: Of the forward.
    """
    with begin_run(request, grad=False) as work:
        prepared, then = prepare_at(request, work, before), prepare_at(request, work, step)
        if prepared is None or then is None:
            return Passed(reason=UNSIZED)
        then = _share(prepared, then, kept)
        return _Runs(request, work, parameters, then, parameter).run(prepared)


def _share(first: Prepared, second: Prepared, kept: Collection[int]) -> Prepared:
    """Put tensors of the first forward's inputs in the place of the second's."""
    pairs = zip(
        find_argument_leaves(first.args, first.kwargs, whole=True),
        find_argument_leaves(second.args, second.kwargs, whole=True),
        strict=True,
    )
    same = {id(new): old for leaf, ((_, old), (_, new)) in enumerate(pairs) if leaf in kept}
    args, kwargs = replace_tensors(second.args, same), replace_tensors(second.kwargs, same)
    return Prepared(args, kwargs, second.facts)


@dataclass(eq=False)
class _Runs:
    """A forward, and with a ``step`` one more in its trace, which takes what the first gave back as ``parameter``."""

    _request: TraceRequest
    _work: Shadow
    _parameters: Collection[str]
    _step: Prepared | None = None
    _parameter: str = ""
    _begin: int = 0
    _log: StepLog = field(init=False)

    def run(self, first: Prepared) -> Passed:
        tree, method = self._request.shadow.tree, self._request.method
        made = trace(self._work, first, tree, method=method, log=self._make_log, then=self._go_on)
        if made.error is not None:
            return Passed(reason=f"{type(made.error).__name__}: {made.error}")
        named = getattr(getattr(self._work.module, "config", None), "max_position_embeddings", None)
        configured = named if type(named) is int else None
        return Passed(self._log.find_peak(self._begin), find_cache(made.trace, self._parameters), configured=configured)

    def _make_log(self, current: Callable[[], RunningCall | None]) -> StepLog:
        self._log = StepLog(current, self._work)
        return self._log

    def _go_on(self, output: Any) -> None:
        step = self._step
        if step is None:
            return
        cache, encoded = _pick(output, self._parameter), _pick(output, "encoder_last_hidden_state")
        cache = output[-1] if cache is None else cache  # of a plain tuple it is the last
        del output
        kwargs = {**step.kwargs, self._parameter: cache}
        if encoded is not None and "encoder_outputs" in self._request.names:
            kwargs["encoder_outputs"] = (encoded,)  # the encoder has run
        del cache, encoded
        self._log.follow_inputs(tensor for _, tensor in find_argument_leaves(step.args, step.kwargs, whole=True))
        self._begin = len(self._log.moments)
        module, method = self._work.module, self._request.method
        (module if method == "forward" else getattr(module, method))(*step.args, **kwargs)


def _pick(output: Any, name: str) -> Any:
    """Return the part of an output that is called so, ``None`` if none is."""
    items = dict(list_items(output))
    return items.get(f".{name}", items.get(f"[{name!r}]"))
