"""A trace of a model with a fix, to the end, on fakes or on a real copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from modelsummary_ipy.isolation.ignored_warnings import warnings_ignored
from modelsummary_ipy.isolation.output import quiet_output
from modelsummary_ipy.isolation.shadow import build_real_shadow
from modelsummary_ipy.tracing.edited_source import UnfitEditError
from modelsummary_ipy.tracing.example_inputs import prepare_inputs
from modelsummary_ipy.tracing.fixed_model import FixedModel
from modelsummary_ipy.tracing.label_checks import check_call
from modelsummary_ipy.tracing.prepared import TraceResult
from modelsummary_ipy.tracing.progress import TraceEndedError
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import trace_fake
from modelsummary_ipy.tracing.tracer import trace


def run_fixed(
    request: TraceRequest, *, most: int, is_late: Callable[[], bool], model: nn.Module | None
) -> TraceResult | None:
    """Trace a model with a fix, under the user's own grad mode.

    Args:
        request: What is traced; its shadow is a ``FixedModel``.
        most: Torch calls after which it is given up.
        is_late: Whether the time is over.
        model: The user's model, to run a real copy of it; ``None`` for fakes.

    Returns:
        What came of it, also where the model failed; ``None`` if the fix can't be applied or the trace was given up.

    Raises:
        Exception: A mistake of this package's own.
    """
    counted = 0

    def guard(func: Any, name: str, args: Any, kwargs: Any) -> None:
        nonlocal counted
        counted += 1
        if counted > most or is_late():
            raise TraceEndedError
        if model is None:
            check_call(func, name, args, kwargs)

    with quiet_output(), warnings_ignored():
        try:
            if model is not None:
                result = _run_real(request, model, guard)
            else:
                made = trace_fake(request, guard=guard, measure=False)
                if made is None:
                    return None
                result = made[0]
        except (TraceEndedError, UnfitEditError):
            return None
    return result


def _run_real(request: TraceRequest, model: nn.Module, guard: Any) -> TraceResult:
    shadow = request.shadow
    assert isinstance(shadow, FixedModel)
    work = build_real_shadow(model, device=None, mode=shadow.mode)
    shadow.apply(work)
    prepared = prepare_inputs(request, work)
    return trace(work, prepared, shadow.tree, method=request.method, guard=guard, measure=False)
