"""A failed model asked again at inputs that may work: ``TensorSpec``s in the place of what the user gave."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from modelsummary_ipy.inputs.model_inputs import ModelInputs, Size
from modelsummary_ipy.isolation.output import quiet_output
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import InputFact, TensorSpec, Trace
from modelsummary_ipy.tracing.example_inputs import prepare_inputs
from modelsummary_ipy.tracing.real_op_checks import check_operation, find_overrun, overrun_guard
from modelsummary_ipy.tracing.tracer import TraceEndedError, trace

__all__ = ["Attempts"]

#: A trace at other inputs may make this many times the calls of the first one, then it is given up.
_MOST_TIMES = 4
_MOST_EXTRA = 2000


class Attempts:
    """Inputs like the given ones, of other sizes or dtypes.

    Args:
        shadow: The pristine copy of the model.
        inputs: What the user gave.
        facts: Its tensors as they were traced.
        dtypes: The dtypes that the sizes among it got.
        method: What is called.
        num_calls: Calls of the first trace.
    """

    def __init__(
        self,
        shadow: Shadow,
        inputs: ModelInputs,
        facts: tuple[InputFact, ...],
        dtypes: tuple[str, ...],
        method: str,
        num_calls: int,
    ) -> None:
        self._shadow = shadow
        self._inputs = inputs
        self._facts = facts
        self._dtypes = dtypes
        self._method = method
        self._most = _MOST_TIMES * num_calls + _MOST_EXTRA
        self._leaves = inputs.leaves()

    def ask(self, specs: tuple[TensorSpec, ...]) -> Trace | None:
        """Trace at inputs of these sizes and dtypes, one per leaf; ``None`` if that can't be asked."""
        changed = self._change(specs)
        if changed is None:
            return None
        inputs, dtypes = changed
        counted = 0

        def check(func: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            nonlocal counted
            counted += 1
            if counted > self._most:
                raise TraceEndedError
            check_operation(func, name, args, kwargs)

        with quiet_output(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                found = self._trace(inputs, dtypes, check)
                overrun = find_overrun(found, _know_nothing)
                return found if overrun is None else self._trace(inputs, dtypes, overrun_guard(*overrun))
            except (TraceEndedError, InputError, RuntimeError):
                return None

    def _trace(self, inputs: ModelInputs, dtypes: list[str], guard: Any) -> Trace:
        work = self._shadow.build_fake_workpiece()
        prepared = prepare_inputs(inputs, work, dtypes, method=self._method)
        return trace(work, prepared, self._shadow.tree, method=self._method, guard=guard, measure=False).trace

    def write(self, specs: tuple[TensorSpec, ...]) -> str:
        """Write inputs of these sizes as the magic takes them: ``"(1, 3, 32, 32)"``, ``"ids=(1, 128):int64"``."""
        changed = self._change(specs)
        return changed[0].as_line() if changed is not None else ""

    def _change(self, specs: tuple[TensorSpec, ...]) -> tuple[ModelInputs, list[str]] | None:
        """Return the arguments with other sizes, and the dtype of every size in them."""
        if not len(specs) == len(self._leaves) == len(self._facts):
            return None
        changes: dict[str, Size] = {}
        dtypes: list[str] = []
        guessed = iter(self._dtypes)
        for spec, fact, (name, leaf) in zip(specs, self._facts, self._leaves, strict=True):
            guess = next(guessed, spec.dtype) if isinstance(leaf, Size) else None
            if (spec.shape, spec.dtype) == (fact.spec.shape, fact.spec.dtype):
                dtypes += [guess] if guess is not None else []
                continue
            dtypes.append(spec.dtype)
            is_told = spec.dtype != fact.spec.dtype or (guess is None and spec.dtype != "float32")
            told = spec.dtype if is_told else leaf.dtype if isinstance(leaf, Size) else None
            names = leaf.dims if isinstance(leaf, Size) and len(leaf.dims) == len(spec.shape) else None
            try:
                changes[name] = Size(spec.shape, names, told)
            except InputError:
                return None
        try:
            return self._inputs.with_sizes(changes), dtypes
        except InputError:
            return None


def _know_nothing(leaf: int) -> None:
    """Made-up inputs hold no values."""
