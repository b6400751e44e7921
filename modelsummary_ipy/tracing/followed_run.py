"""What a run that follows every storage begins with: a fake copy of the model, its inputs, no user's modes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.isolation.ignored_warnings import warnings_ignored
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred
from modelsummary_ipy.isolation.output import quiet_output
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.tracing.example_inputs import prepare_inputs
from modelsummary_ipy.tracing.prepared import Prepared
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.resized_inputs import resize_inputs

#: New sizes by number of the input leaf.
Shapes = Mapping[int, tuple[int, ...]]
#: Why there is no run where ``prepare_at`` returned nothing.
UNSIZED = "the input has tensors that can't be made at other sizes"


@contextmanager
def begin_run(request: TraceRequest, *, grad: bool) -> Iterator[Shadow]:
    """Make a fake copy of the model, to be run in the block: silently, in one piece, with autograd or without."""
    with (
        InterruptsDeferred(),
        quiet_output(),
        warnings_ignored(),
        torch.inference_mode(False),
        torch.set_grad_enabled(grad),
        collector_paused(),
    ):
        yield request.shadow.build_fake_shadow()


def prepare_at(request: TraceRequest, work: Shadow, shapes: Shapes) -> Prepared | None:
    """Make the inputs of a copy, at other sizes where ``shapes`` has some; ``None`` where these can't be made."""
    prepared = prepare_inputs(request, work)
    return resize_inputs(prepared, work, shapes) if shapes else prepared
