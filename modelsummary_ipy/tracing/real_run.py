"""A real run of a copy of the model: whether one may be made unasked, and how."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import nn

from modelsummary_ipy.isolation.shadow import ShadowTemplate, build_real_shadow
from modelsummary_ipy.isolation.threads import may_run_torch_elsewhere
from modelsummary_ipy.torch_compat.distributed import count_ranks
from modelsummary_ipy.tracing.example_inputs import correct_dtypes, prepare_inputs
from modelsummary_ipy.tracing.fake_failures import differentiates, forbids_grad
from modelsummary_ipy.tracing.prepared import TraceResult
from modelsummary_ipy.tracing.progress import Observer, find_keeping
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.tracer import trace


def may_run_real(request: TraceRequest, most: int) -> bool:
    """Return whether a copy of a model of at most so many bytes may be run for real unasked."""
    return find_hindrance() is None and sum(param.nbytes for param in request.shadow.tree.params) <= most


def find_hindrance() -> tuple[str, str] | None:
    """Return why no model is run for real unasked, and what to do; ``None`` where nothing hinders."""
    ranks = count_ranks()
    if ranks > 1:
        why = f"in a process group of {ranks} ranks nothing is run for real unasked, for collectives wait for all of "
        why += "them"
        return why, "engine='real' on every rank at once"
    if may_run_torch_elsewhere():
        return (
            "nothing is run for real unasked while another thread may use torch",
            "engine='real' runs it all the same",
        )
    return None


def run_real(
    model: nn.Module,
    request: TraceRequest,
    ranges: Mapping[int, int] | None = None,
    *,
    device: torch.device | None,
    observer: Observer | None,
    once: bool,
) -> tuple[TraceResult, TraceRequest]:
    """Run a copy with real tensors, again where dtypes were guessed wrong or the forward needs autograd otherwise.

    Args:
        model: The user's model; it is copied.
        request: What is called, with which inputs.
        ranges: By size, the number of values that an integer may take; without a trace on fakes it is not known.
        device, observer, once: As ``run_engine`` has them.

    Returns:
        What came of it, and the request with the dtypes that the inputs got.
    """
    tree = request.shadow.tree
    ranges = _guess_ranges(request.shadow) if ranges is None else ranges
    goes_backward = without_grad = False
    for attempt in (1, 2, 3, 4):
        work = build_real_shadow(model, device=device, mode=request.shadow.mode)
        prepared = prepare_inputs(request, work, ranges)
        with torch.no_grad() if without_grad else nullcontext():
            result = trace(
                work, prepared, tree, method=request.method, observer=observer, keep_saved=goes_backward,
                keep_interrupted=find_keeping() is not None,
            )  # fmt: skip
        if result.error is None or result.is_interrupted or once or attempt == 4:
            break
        better = correct_dtypes(request, prepared, result.trace)
        if better is not None:
            request = better
        elif not goes_backward and (result.goes_backward or differentiates(result.error)):
            goes_backward = True
        elif not without_grad and forbids_grad(result.error):
            without_grad = True
        else:
            break
    return result, request


def _guess_ranges(shadow: ShadowTemplate) -> dict[int, int]:
    """Without a fake trace it is unknown which embedding reads an input: stay below the smallest."""
    rows = [fact.settings.get("num_embeddings") for fact in shadow.tree.modules]
    smallest = min((row for row in rows if isinstance(row, int)), default=2)
    return dict.fromkeys(range(64), smallest)
