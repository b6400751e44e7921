"""One step of training: the forward of a copy on fakes, its loss, the backward, and the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from modelsummary_ipy.inputs.pytree import replace_tensors
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.records.trace import Call, Trace
from modelsummary_ipy.records.training import BackwardOp, Category, Moment, StorageLife, Training
from modelsummary_ipy.torch_compat.fakes import disable_function
from modelsummary_ipy.tracing.call_builder import RunningCall
from modelsummary_ipy.tracing.fake_failures import confirm_failure, find_need_of_values
from modelsummary_ipy.tracing.followed_run import UNSIZED, Shapes, begin_run, prepare_at
from modelsummary_ipy.tracing.prepared import Prepared, TraceResult
from modelsummary_ipy.tracing.real_op_checks import check_operation
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.source_lines import trim_error
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves, find_leaves
from modelsummary_ipy.tracing.tracer import trace
from modelsummary_ipy.tracing.training_step.losses import NoLossError, make_loss
from modelsummary_ipy.tracing.training_step.optimizers import OptimizerChoice
from modelsummary_ipy.tracing.training_step.storage_lives import Life, StepLog

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


class StepSettings(NamedTuple):
    """What a step is made of besides the model.

    Attributes:
        optimizer: The optimizer.
        loss: A loss; ``None`` for the usual one.
        precision: ``"as is"``, ``"bf16"`` (model and inputs are cast), ``"bf16-mixed"`` (forward and loss under
            autocast) or ``"fp16-mixed"`` (the same in float16, the loss scaled).
        accumulate: How many batches a step takes the gradients of.
    """

    optimizer: OptimizerChoice
    loss: Callable[..., Any] | None = None
    precision: str = "as is"
    accumulate: int = 1


def trace_step(
    request: TraceRequest,
    first: Trace,
    row_of_call: Mapping[int, int],
    settings: StepSettings,
    shapes: Shapes | None = None,
) -> Training:
    """Run one step on fakes and write down every storage.

    Args:
        row_of_call: Index of a row by that of its call in the first trace.
        shapes: Other sizes by number of the input leaf.
    """
    name = settings.optimizer.name
    if not any(fact.trainable for fact in first.params if fact.kind == "parameter"):
        return Training(optimizer=name, reason="nothing to train: no parameter requires grad")
    with begin_run(request, grad=True) as work:
        if settings.precision in _AUTOCAST and not torch.amp.is_autocast_available(work.device.type):
            device = work.device.type
            return Training(optimizer=name, reason=f"torch has no autocast on {device}: device='cpu' traces it there")
        prepared = prepare_at(request, work, shapes or {})
        if prepared is None:
            return Training(optimizer=name, reason=UNSIZED)
        if settings.precision == "bf16":
            prepared = _cast(work, prepared)
        step = _Step(work, settings)
        settings.optimizer.leave_gradients(work)

        kind = work.device.type
        enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)

        def run(then: Callable[[Any], Any]) -> TraceResult:
            if torch.amp.is_autocast_available(kind):  # a trace leaves it as it was when it began
                torch.set_autocast_enabled(kind, enabled)
            with step.autocast():
                return trace(
                    work, prepared, request.shadow.tree, method=request.method, guard=check_operation,
                    log=step.make_log, then=then,
                )  # fmt: skip

        made = run(step.go_backward) if settings.accumulate > 1 else None  # gradients are there from then on
        if made is None or made.error is None:
            made = run(step.go_on)
        return _Reader(step, made, first, row_of_call, settings.loss is not None).read(name)


def trace_run(request: TraceRequest, settings: StepSettings, shapes: Shapes | None) -> int | None:
    """Run the forward alone, without autograd, in the precision of a step.

    Returns:
        The most bytes that live at one time, parameters and buffers included; ``None`` if it does not run.
    """
    with begin_run(request, grad=False) as work:
        prepared = prepare_at(request, work, shapes or {})
        if prepared is None:
            return None
        if settings.precision == "bf16":
            prepared = _cast(work, prepared)
        step = _Step(work, settings)
        with step.autocast():
            made = trace(
                work, prepared, request.shadow.tree, method=request.method, guard=check_operation, log=step.make_log
            )
        return step.log.find_peak() if made.error is None else None


class _Step:
    """Loss, backward and optimizer of one step, in the trace of its forward."""

    def __init__(self, work: Shadow, settings: StepSettings) -> None:
        self._work = work
        self._settings = settings
        self.log: StepLog
        self.runs_loss = False  # what fails then is the loss
        self._stack = ExitStack()
        self._scaler = _make_scaler(work) if settings.precision == "fp16-mixed" else None

    def autocast(self) -> ExitStack:
        """Begin autocast, which ends with the loss."""
        dtype = _AUTOCAST.get(self._settings.precision)
        if dtype is not None:
            self._stack.enter_context(torch.autocast(self._work.device.type, dtype=dtype))
        return self._stack

    def make_log(self, current: Callable[[], RunningCall | None]) -> StepLog:
        self.log = StepLog(current, self._work)
        return self.log

    def go_on(self, output: Any) -> None:
        loss = self.go_backward(output)  # it lives to the end of the step
        self.log.phase = "optimizer"
        with disable_function():  # no call of the forward is among what it runs
            mode = self._work.fake_mode
            assert mode is not None
            mode.assumed_number = 1.0  # a norm, a count of steps: no size depends on them
            try:
                self._run_optimizer()
            finally:
                mode.assumed_number = None  # other traces share the mode
        del loss

    def go_backward(self, output: Any) -> Tensor:
        log, params = self.log, self._work.param_tensors
        log.add_lazy(params)
        if self._scaler is not None:
            log.add_kept([value for value in vars(self._scaler).values() if isinstance(value, Tensor)])
        self.runs_loss = True
        loss = make_loss(output, self._settings.loss)
        self.runs_loss = False
        self._stack.close()
        if self._scaler is None:
            log.phase = "backward"
            loss.backward()
        else:
            scaled = self._scaler.scale(loss)
            log.phase = "backward"
            scaled.backward()
            del scaled
        log.node = None
        for index, tensor in params.items():
            if tensor.grad is not None:
                log.name([tensor.grad], "gradient", index)
        return loss

    def _run_optimizer(self) -> None:
        log = self.log
        log.is_warming = True  # the state is there from the second step on
        optimizer = self._settings.optimizer.make(self._work)
        optimizer.step()
        for tensor, state in optimizer.state.items():
            index = self._work.param_of.get(id(tensor))
            log.name([leaf for _, leaf in find_leaves(state)], "optimizer state", index)
        log.begin_optimizer()
        if self._scaler is None:
            optimizer.step()
        else:
            self._step_scaled(optimizer, self._scaler)

    def _step_scaled(self, optimizer: Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Take a step without an overflow: with one it would be left out."""
        mode = self._work.fake_mode
        assert mode is not None
        mode.assumed_number = 0.0  # gradients that are infinite
        optimizer.register_step_pre_hook(lambda *_: setattr(mode, "assumed_number", 1.0))
        scaler.step(optimizer)
        scaler.update()


def _make_scaler(work: Shadow) -> torch.amp.GradScaler:
    """Make a gradient scaler, with the tensors that it has from the second step on."""
    assert work.fake_mode is not None
    scaler = torch.amp.GradScaler(work.device.type)
    with work.fake_mode:
        scaler.scale(torch.zeros((), device=work.device))
    return scaler


def _cast(work: Shadow, prepared: Prepared) -> Prepared:
    """Cast a copy and its floating inputs to bfloat16, as ``model.bfloat16()`` does."""
    assert work.fake_mode is not None
    with work.fake_mode, torch.no_grad():
        for tensor in work.param_tensors.values():
            if tensor.is_floating_point():
                tensor.data = tensor.data.bfloat16()
        leaves = find_argument_leaves(prepared.args, prepared.kwargs, whole=True)
        fresh = {id(leaf): leaf.detach().bfloat16() for _, leaf in leaves if leaf.is_floating_point()}
    args, kwargs = replace_tensors(prepared.args, fresh), replace_tensors(prepared.kwargs, fresh)
    return Prepared(args, kwargs, prepared.facts)


class _Reader:
    """Reads a log into records."""

    def __init__(
        self, step: _Step, made: TraceResult, first: Trace, row_of_call: Mapping[int, int], is_loss_given: bool
    ) -> None:
        log = self._log = step.log
        self._is_loss_given = is_loss_given
        self._is_loss_failing = is_loss_given and step.runs_loss
        self._made = made
        self._first = first
        self._row_of_call = row_of_call
        self._forward_end = max((at for at, (phase, *_) in enumerate(log.moments) if phase == "forward"), default=0)
        self._row_of_param = _find_owners(first, row_of_call)
        self._buffers = {fact.index for fact in first.params if fact.kind == "buffer"}
        lines = ((call.index, call.source) for call in first.calls)
        self._source_of_row = {row_of_call[index]: line.text for index, line in lines if line and index in row_of_call}
        self._again = _match_recomputed(first, made.trace)

    def read(self, optimizer: str) -> Training:
        log, error = self._log, self._made.error
        if error is not None:
            return self._read_failure(optimizer, error)
        moments = tuple(
            Moment(phase, self._find_row(call, node), phase == "backward" and call is not None)
            for phase, call, node in log.moments
        )
        storages = tuple(self._read_life(life) for life in log.lives if not life.is_gone)
        ops = tuple(BackwardOp(self._find_row(call, node), op, call is not None) for call, node, op in log.products)
        return Training(storages, moments, optimizer, backward_ops=ops)

    def _read_failure(self, optimizer: str, error: BaseException) -> Training:
        if isinstance(error, NoLossError):
            return Training(optimizer=optimizer, reason=str(error), is_loss_wrong=self._is_loss_given)
        values = find_need_of_values(self._made)  # which reads where it was raised
        if not values and self._log.phase == "forward":
            self._made, values = confirm_failure(self._made)
        trim_error(error)
        failure = self._made.trace.failure
        assert failure is not None
        if values:
            return Training(optimizer=optimizer, reason=f"the step needs tensor values, which fakes have not: {values}")
        if self._is_loss_failing:
            told = f"the loss fails: {failure.error_type}: {failure.message}"
            return Training(optimizer=optimizer, reason=told, failure=failure, is_loss_wrong=True)
        phase = self._log.phase
        row = self._find_row(None, self._log.node) if phase == "backward" else None
        what = {"forward": "the forward", "backward": "the backward", "optimizer": "the optimizer's step"}[phase]
        reason = f"{what} fails: {failure.error_type}: {failure.message}"
        return Training(optimizer=optimizer, reason=reason, failure=failure, failed_row=row)

    def _read_life(self, life: Life) -> StorageLife:
        last = len(self._log.moments) - 1
        death = last if life.death is None else life.death
        category = life.category or self._classify(life, death)
        if category == "parameter" and life.param in self._buffers:
            category = "buffer"
        row = self._row_of_param.get(life.param) if life.param is not None else self._find_row(life.call, life.node)
        source = self._source_of_row.get(row) if row is not None else None
        return StorageLife(life.nbytes, life.birth, death, category, row, life.phase, source)

    def _classify(self, life: Life, death: int) -> Category:
        if life.phase == "forward":
            return "saved activation" if death > self._forward_end else "temporary"
        outlives = life.last_turn > life.turn
        if life.phase == "optimizer" or not outlives:
            return "temporary"
        return "saved activation" if life.call is not None else "activation gradient"

    def _find_row(self, call: RunningCall | None, node: int | None) -> int | None:
        if call is None and node is not None and node < 0:
            return self._row_of_param.get(-1 - node)
        call = call or self._log.find_maker(node)
        if call is None:
            return None
        index = self._again.get(call.index, call.index)
        return self._row_of_call.get(index)


def _find_owners(first: Trace, row_of_call: Mapping[int, int]) -> dict[int, int]:
    """Find, by index of a parameter, the first row of the module that has it."""
    rows: dict[int, int] = {}
    for call in first.calls:
        if call.kind == "module" and call.module is not None and call.index in row_of_call:
            for param in first.modules[call.module].params:
                rows.setdefault(param, row_of_call[call.index])
    for call in first.calls:  # what a module keeps elsewhere belongs to who reads it first
        for param in call.params:
            if call.index in row_of_call:
                rows.setdefault(param, row_of_call[call.index])
    return rows


def _match_recomputed(first: Trace, made: Trace) -> dict[int, int]:
    """Find, by index of a call that a checkpoint made again, the call that it repeats: the last one comes first."""
    known: dict[Any, list[int]] = {}
    for call in first.calls:
        for key in {_describe(call), _describe(call._replace(source=None))}:  # the outermost one has no line then
            known.setdefault(key, []).append(call.index)
    counts: dict[Any, int] = {}
    found: dict[int, int] = {}
    for call in made.calls[len(first.calls) :]:
        key = _describe(call)
        like = known.get(key)
        if like:
            count = counts[key] = counts.get(key, 0) + 1
            found[call.index] = like[-1 - (count - 1) % len(like)]
    return found


def _describe(call: Call) -> tuple[Any, ...]:
    return call.path, call.kind, call.type_name, call.source
