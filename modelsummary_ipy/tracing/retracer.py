"""The same forward traced again: at other sizes, with other dtypes, or with everything measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

import torch

from modelsummary_ipy.fake.index_values import find_overrun
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.isolation.ignored_warnings import warnings_ignored
from modelsummary_ipy.isolation.output import count_held, forget_held, quiet_output
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.op_events import OpEvents
from modelsummary_ipy.records.retraced import Allowance, Budget, Retraced, Sizes, Specs
from modelsummary_ipy.records.trace import Failure, Trace
from modelsummary_ipy.torch_compat.compiler import load_compiler
from modelsummary_ipy.torch_compat.distributed import load_collectives
from modelsummary_ipy.tracing.alike_calls import AlikeCalls, find_alike
from modelsummary_ipy.tracing.example_inputs import prepare_inputs
from modelsummary_ipy.tracing.fake_failures import differentiates
from modelsummary_ipy.tracing.label_checks import check_labels
from modelsummary_ipy.tracing.prepared import Prepared, TraceResult
from modelsummary_ipy.tracing.progress import TraceEndedError
from modelsummary_ipy.tracing.real_op_checks import PICKS_ONE, check_operation
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.resized_inputs import resize_inputs
from modelsummary_ipy.tracing.tracer import trace

#: Of a trace of more calls than this operations are not recorded, unless they are asked for.
MANY_CALLS = 5000
#: A trace at other sizes may make this many times the torch calls of the first one, then it is given up.
_MOST_TIMES = 4
_MOST_EXTRA = 2000
#: What all traces of one retracer may take by default; of a model with many calls at least five traces.
_MOST_CALLS = 30_000
_LEAST_TRACES = 5
_MOST_TRACES = 80


class Retracer:
    """Traces one model again with fakes; at each sizes once.

    Args:
        dims: Per input leaf, a name per dim, ``""`` for one that keeps its size.
        budget: What its traces may take together.
        time: The seconds that they may take, where no budget is given.
    """

    def __init__(
        self,
        request: TraceRequest,
        first: Trace,
        dims: tuple[tuple[str, ...], ...] = (),
        budget: Budget | None = None,
        *,
        time: Allowance | None = None,
    ) -> None:
        calls = max(_MOST_CALLS, _LEAST_TRACES * len(first.calls))
        self.budget = budget or Budget(calls, _MOST_TRACES, time or Allowance())
        self._request = request
        self._first = first
        self._specs = tuple(fact.spec for fact in first.inputs)
        self._dims = dims
        self._most = _MOST_TIMES * len(first.calls) + _MOST_EXTRA
        self._with_grad = self._is_tried = self._is_brief = False
        self._known: dict[Hashable, Retraced] = {}
        self.tried: list[tuple[Sizes, bool]] = []  # sizes by name, and whether they worked
        self._failed: list[list[int]] = []  # the sizes of all leaves that failed
        self._records_ops = not request.shadow.is_large and len(first.calls) <= MANY_CALLS

    def recording(self) -> Retracer:
        """Return a retracer of the same forward that records operations: this one, if it does."""
        if self._records_ops:
            return self
        found = self.within(self.budget)
        found._records_ops = True
        return found

    def asking_ends(self) -> Retracer:
        """Return one with the same traces and budget whose further traces show only whether the forward ends.

        They have no operations, and nothing of calls that repeat others: a tenth less, and a fifth of a transformer.
        """
        found = self.within(self.budget)
        found.budget, found._known, found.tried = self.budget, self._known, self.tried
        found._with_grad, found._is_tried = self._with_grad, self._is_tried
        if self._alike is not None and self._alike.first:
            found._is_brief, vars(found)["_alike"] = True, self._alike
        else:
            found._records_ops = False
        return found

    @lazy
    def _alike(self) -> AlikeCalls | None:
        """Calls of modules that did the same in the first trace; changed by further ones."""
        return find_alike(self._first) if self._records_ops and self._first.engine == "fake" else None

    @property
    def num_traces(self) -> int:
        """How many inputs were traced."""
        return len(self._known)

    def within(self, budget: Budget, time: Allowance | None = None) -> Retracer:
        """Return a retracer of the same forward with a budget of its own, of the same time or of another."""
        return Retracer(self._request, self._first, self._dims, replace(budget, time=time or self.budget.time))

    def at(self, where: Sizes | Specs, *, training: bool | None = None) -> Retraced:
        """Trace at other inputs.

        Args:
            where: Sizes by name, what they don't name as it was; or size and dtype of every input leaf.
            training: Put the model in train or eval mode; ``None`` leaves the requested mode.
        """
        shapes = self._shapes_at(where) if isinstance(where, Mapping) else None
        key = (where if shapes is None else shapes, training)
        if key not in self._known:
            if self.budget.is_spent:
                return Retraced(None, "the trace budget is spent")
            if isinstance(where, Mapping):
                found = self._run(self._request, self.find_shapes(where), training=training)
            else:
                found = self._run_changed(where)
            self._known[key] = found
            if training is None and isinstance(where, Mapping) and (found.works or found.failed):
                self.tried.append((dict(where), found.works))
            if found.failed and shapes is not None:
                self._failed.append([size for shape in shapes for size in shape])
        return self._known[key]

    def has_failed_before(self, sizes: Sizes, but: str) -> bool:
        """Return whether sizes failed each of which is between the given one and one of these, but for one name."""
        wanted = self._shapes_at({name: size for name, size in sizes.items() if name != but})
        pairs = [
            pair
            for spec, shape in zip(self._specs, wanted, strict=True)
            for pair in zip(spec.shape, shape, strict=True)
        ]
        return any(
            all(min(pair) <= size <= max(pair) for pair, size in zip(pairs, at, strict=True)) for at in self._failed
        )

    def measure(self, sizes: Sizes | None = None) -> Trace | None:
        """Trace with grad, following what autograd saves and what lives; outside the budget.

        A forward that goes backward itself is traced once more, with autograd keeping what it saves.

        Args:
            sizes: By name, what they don't name as it was.

        Returns:
            The facts, ``None`` if no such inputs can be made or the trace was given up.
        """
        shapes = self.find_shapes(sizes) if sizes else {}
        with torch.inference_mode(False), torch.enable_grad(), collector_paused():
            found = self._run(self._request, shapes, measure=True).trace
            if found is not None and found.failure is None and not found.knows_saved:
                found = self._run(self._request, shapes, measure=True, keep_saved=True).trace
        return found

    def forget(self) -> None:
        """Release all traces; what is needed again is traced again."""
        self._known.clear()

    def write(self, specs: Specs) -> str:
        """Write inputs as the magic takes them: ``"(1, 3, 32, 32)"``, ``"ids=(1, 128):int64"``."""
        changed = self.change_inputs(specs)
        return changed.inputs.as_line() if changed is not None else ""

    # -- inputs -------------------------------------------------------------------------------------------------------

    def _shapes_at(self, sizes: Sizes) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(sizes.get(name, size) if name else size for name, size in zip(dims, spec.shape, strict=True))
            for dims, spec in zip(self._dims, self._specs, strict=True)
        )

    def find_shapes(self, sizes: Sizes) -> dict[int, tuple[int, ...]]:
        """Return the shapes that differ, by number of the input leaf."""
        pairs = enumerate(zip(self._shapes_at(sizes), self._specs, strict=True))
        return {leaf: shape for leaf, (shape, spec) in pairs if shape != spec.shape}

    def change_inputs(self, specs: Specs) -> TraceRequest | None:
        """Return the request with sizes in the place of leaves that differ; ``None`` where that is impossible."""
        leaves = self._request.inputs.leaves()
        if not len(specs) == len(leaves) == len(self._specs):
            return None
        changes: dict[str, Size] = {}
        dtypes: list[str] = []
        guesses = iter(self._request.dtypes)
        for spec, old, (name, leaf) in zip(specs, self._specs, leaves, strict=True):
            size = leaf if isinstance(leaf, Size) else None
            guess = next(guesses, spec.dtype) if size is not None else None
            if (spec.shape, spec.dtype) == (old.shape, old.dtype):
                dtypes += [guess] if guess is not None else []
                continue
            dtypes.append(spec.dtype)
            is_written = spec.dtype != old.dtype or (size is None and spec.dtype != "float32")
            dtype = spec.dtype if is_written else size.dtype if size is not None else None
            dims = size.dims if size is not None and len(size.dims) == len(spec.shape) else None
            try:
                changes[name] = Size(spec.shape, dims, dtype)
            except InputError:
                return None
        try:
            inputs: ModelInputs = self._request.inputs.with_sizes(changes)
        except InputError:
            return None
        return replace(self._request, inputs=inputs, dtypes=tuple(dtypes))

    # -- traces -------------------------------------------------------------------------------------------------------

    def _run_changed(self, specs: Specs) -> Retraced:
        changed = self.change_inputs(specs)
        if changed is None or any(min(spec.shape, default=1) < 1 for spec in specs):
            return Retraced(None, "no such inputs can be made")
        try:
            return self._run(changed, {}, check=check_operation)
        except RuntimeError:  # a size that no tensor can have
            return Retraced(None, "no such inputs can be made")

    def _run(
        self,
        request: TraceRequest,
        shapes: Mapping[int, tuple[int, ...]],
        *,
        training: bool | None = None,
        check: Callable[..., None] | None = None,
        measure: bool = False,
        keep_saved: bool = False,
    ) -> Retraced:
        counted = 0

        def guard(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            nonlocal counted
            counted += 1
            if counted > self._most or self.budget.time.is_over:
                raise TraceEndedError
            check_labels(name, args, kwargs)
            if check is not None or name in PICKS_ONE:
                (check or check_operation)(func, name, args, kwargs)

        with quiet_output(), warnings_ignored(), contextlib.ExitStack() as stack:
            is_lean = not measure and not self._with_grad and torch.is_grad_enabled()
            if is_lean:
                stack.enter_context(torch.no_grad())  # only sizes are needed: a quarter faster
            try:
                made = trace_fake(
                    request, shapes, lean=not measure and check is None, training=training,
                    guard=guard, measure=measure, keep_saved=keep_saved,
                    record_ops=not measure and self._records_ops, alike=self._alike, is_brief=self._is_brief,
                )  # fmt: skip
            except TraceEndedError:
                self.budget.spend(counted)
                return Retraced(
                    None, f"more than {self._most} operations" if counted > self._most else "it took too long"
                )
        if made is None:
            return Retraced(None, "the input has tensors that can't be made at other sizes")
        found, error = made[0].trace, made[0].error
        if not measure:
            self.budget.spend(len(found.calls))
        ops = None if self._is_brief else made[0].ops
        judged, reads_grad = _judge(found, ops, find_overrun(error) or 0), made[0].reads_grad
        if not is_lean or not (self._may_need_grad(error, found.failure) or reads_grad):
            return judged
        self._with_grad = True
        again = self._run(request, shapes, training=training, check=check)
        self._with_grad = reads_grad or again.reason != judged.reason  # what fails either way needs no grad
        return again

    def _may_need_grad(self, error: BaseException | None, failure: Failure | None) -> bool:
        """Return whether a trace without grad is made again with it: if the first of all fails, and not as with it."""
        is_first, self._is_tried = not self._is_tried, True
        return error is not None and ((is_first and not self._is_as_given(failure)) or differentiates(error))

    def _is_as_given(self, failure: Failure | None) -> bool:
        """Return whether the given sizes failed in the same call, at the same line, where grad was on."""
        given = None if self._request.shadow.is_large else self._first.failure
        return failure is not None and failure.is_like(given)


def _judge(found: Trace, ops: OpEvents | None, overrun_by: int) -> Retraced:
    if found.failure is not None:
        return Retraced(found, f"{found.failure.error_type}: {found.failure.message}", overrun_by, ops)
    return Retraced(found, ops=ops)


def trace_fake(
    request: TraceRequest,
    shapes: Mapping[int, tuple[int, ...]] | None = None,
    *,
    lean: bool = False,
    training: bool | None = None,
    in_full: bool = False,
    **options: Any,
) -> tuple[TraceResult, Prepared] | None:
    """Trace a fresh copy with fakes; again, where a forward goes backward through layers that were not run.

    Args:
        shapes: Other sizes by number of the input leaf.
        lean: Whether weights are made only when they are read.
        training: Put the copy in train or eval mode; ``None`` leaves it.
        in_full: Whether every layer is run, once for all.

    Returns:
        What came of it and its arguments; ``None`` if the arguments can't be made at these sizes or the
        mode can't be set.
    """
    load_compiler()
    load_collectives()
    work = request.shadow.build_fake_shadow(lazy=lean)
    if training is not None:
        try:
            work.module.train(training)
        except NotImplementedError:  # an exported graph is of one mode
            return None
    prepared: Prepared | None = prepare_inputs(request, work)
    if shapes and prepared is not None:
        prepared = resize_inputs(prepared, work, shapes)
    if prepared is None:
        return None
    begin = count_held()
    made = trace(work, prepared, request.shadow.tree, method=request.method, in_full=in_full, **options)
    if made.goes_backward and not in_full:
        forget_held(begin)
        return trace_fake(request, shapes, lean=lean, training=training, in_full=True, **options)
    return made, prepared
