"""Each model of the tests traced once an engine: what its summary says, and what the trace changed.

A trace is dearer than what is asserted of it, so the tests of isolation, of rows and of costs share one. A test that
traces in another way (sizes alone, a fault on the way, other settings) makes its own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from tests.models import by_name, empty_caches
from tests.reference import SeenCall, count_params, difference, fingerprint, quietly, seed, watch_with_hooks
from tests.zoo import find_animal

__all__ = ["Hooked", "Traced", "hook_animal", "hook_case", "trace_animal", "trace_case"]


@dataclass(frozen=True)
class Traced:
    """One trace.

    Attributes:
        ms: The summary.
        changed: What of the model, its inputs, its class's globals or torch's switches differs from before.
    """

    ms: ModelSummary
    changed: list[str]


@dataclass(frozen=True)
class Hooked:
    """A real run, and the parameters that the model had before it, or has after it if its layers are lazy."""

    calls: list[SeenCall]
    num_params: int


def _trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], **options: Any) -> Traced:
    inputs = (args, kwargs)
    seed()
    before = fingerprint(model, inputs)
    with quietly():
        ms = ModelSummary(model, ModelInputs(args, kwargs), **options)
    return Traced(ms, difference(before, fingerprint(model, inputs)))


@functools.cache
def trace_case(name: str, engine: Any) -> Traced:
    """Trace a model of ``tests.models``."""
    empty_caches()
    case = by_name(name)
    return _trace(case.build(), *case.inputs(), method=case.method, engine=engine)


@functools.cache
def trace_animal(name: str, engine: Any) -> Traced:
    """Trace an architecture of ``tests.zoo``."""
    animal = find_animal(name)
    with quietly():
        model = animal.build()
    return _trace(model, (), animal.inputs(), engine=engine)


@functools.cache
def hook_case(name: str) -> Hooked:
    """Run a model of ``tests.models`` for real with plain hooks."""
    case = by_name(name)
    return _hook(case.build(), case.method, *case.inputs(), is_lazy=case.kind == "lazy")


@functools.cache
def hook_animal(name: str) -> Hooked:
    """Run an architecture of ``tests.zoo`` for real with plain hooks."""
    animal = find_animal(name)
    with quietly():
        model = animal.build()
    return _hook(model, "forward", (), animal.inputs())


def _hook(
    model: nn.Module, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_lazy: bool = False
) -> Hooked:
    num_params = 0 if is_lazy else count_params(model)
    seed()
    calls, _ = watch_with_hooks(model, method, args, kwargs)
    return Hooked(calls, count_params(model) if is_lazy else num_params)
