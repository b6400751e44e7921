"""One trace of a copy of the model: every call of a module or an operation, in order, also when it fails."""

from __future__ import annotations

import contextvars
import functools
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from modelsummary_ipy.isolation.global_state import GlobalState
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred, find_gate
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.model.module_tree import ModuleTree
from modelsummary_ipy.model.tensor_meta import TAG
from modelsummary_ipy.records.trace import Call, Link, Trace
from modelsummary_ipy.torch_compat.distributed import class_before_sharding
from modelsummary_ipy.torch_compat.fakes import disable_function
from modelsummary_ipy.torch_compat.modes import is_jit_tracing, run_in_jit_trace
from modelsummary_ipy.torch_compat.modules import call_module, has_hooks, has_pre_hooks
from modelsummary_ipy.tracing.alike_calls import AlikeCalls
from modelsummary_ipy.tracing.aten_log import AtenLog
from modelsummary_ipy.tracing.block_cache import BlockCache
from modelsummary_ipy.tracing.call_builder import RunningCall
from modelsummary_ipy.tracing.forward_failure import close_generators
from modelsummary_ipy.tracing.function_calls import FunctionCalls, Guard
from modelsummary_ipy.tracing.function_ops import list_module_arguments, parameter_names
from modelsummary_ipy.tracing.gradients import find_trained_params
from modelsummary_ipy.tracing.layer_cache import KnownLayer, LayerCache, list_tensors
from modelsummary_ipy.tracing.lazy_forwards import run_to_end
from modelsummary_ipy.tracing.module_calls import observe_calls
from modelsummary_ipy.tracing.op_log import OpLog
from modelsummary_ipy.tracing.prepared import Prepared, TraceResult
from modelsummary_ipy.tracing.progress import Observer, TraceCancelled, find_observer
from modelsummary_ipy.tracing.script_ops import JIT_TRACE, find_hidden_ops
from modelsummary_ipy.tracing.source_lines import find_lines
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves, find_leaves
from modelsummary_ipy.tracing.tensor_links import find_link


def trace(
    work: Shadow,
    inputs: Prepared,
    tree: ModuleTree,
    *,
    method: str = "forward",
    observer: Observer | None = None,
    guard: Guard | None = None,
    measure: bool = True,
    measure_bytes: bool = True,
    keep_saved: bool = False,
    record_ops: bool = False,
    alike: AlikeCalls | None = None,
    is_brief: bool = False,
    in_full: bool = False,
    keep_interrupted: bool = False,
    log: Callable[..., Any] | None = None,
    then: Callable[[Any], Any] = lambda output: None,
) -> TraceResult:
    """Run ``method`` of the copy once and write down every call.

    Args:
        work: The copy to run; it is spent afterwards.
        inputs: Arguments made for this copy.
        measure, measure_bytes: Whether to record aten operations, and bytes; a trace for shapes alone does without.
        keep_saved: Whether autograd keeps what it saves: for a forward that goes backward itself.
        record_ops: Whether to record every aten operation with the tensors that it read and made; of fakes only, and
            where nothing is measured.
        alike: Which calls of modules did the same in an earlier trace: of these only the first is run, if it can be.
        is_brief: Whether what is in the others is left out: only whether the forward comes to its end is asked.
        in_full: Whether every layer is run where storages are followed, also one like another.
        keep_interrupted: Whether an interrupt leaves the calls so far.
        log, then: Of a training step: make another log than ``AtenLog``, and go on with the output.

    Returns:
        The facts, and the exception if the forward raised one. ``SystemExit`` passes through, and an interrupt too
        unless it is kept.

    Raises:
        TraceCancelled: If the observer cancelled it.
    """
    make_log = functools.partial(AtenLog, measure_bytes=measure and measure_bytes, keep_saved=keep_saved)
    tracer = _Tracer(work, tree, observer or find_observer(), guard, log or make_log)
    global_state = GlobalState(work.classes)
    error: BaseException | None = None
    with InterruptsDeferred(), global_state.kept(real=work.fake_mode is None), ExitStack() as stack:
        stack.callback(tracer.aten_log.close)
        if measure:
            stack.enter_context(tracer.aten_log.recording(work.fake_mode))
        elif work.fake_mode is not None:
            stack.enter_context(work.fake_mode)
        if record_ops and work.fake_mode is not None:
            tracer.op_log = OpLog(tracer.find_current, work.param_of)
            stack.enter_context(tracer.op_log.recording(work.fake_mode))
        tracer.tag_inputs(inputs)
        stack.enter_context(observe_calls(tracer.call_module))
        stack.enter_context(_FunctionMode(tracer))
        gate = tracer.gate = find_gate()
        gate.runners = _RUNNERS
        if work.fake_mode is not None and not work.has_lazy_weights and not in_full and tracer.aten_log.counts_layers:
            tracer.cache = LayerCache(work.fake_mode, work.param_of, tree.specs, tracer.aten_log)
        if work.fake_mode is not None and work.has_lazy_weights:
            tracer.cache = LayerCache(work.fake_mode, work.param_of, tree.specs)
            if alike is not None and tracer.op_log is not None:
                given = alike, work, tree.params, work.fake_mode, tracer._log, tracer.op_log
                tracer.blocks = BlockCache(*given, is_brief=is_brief)
        try:
            gate.deliver()
            gate.is_open = True
            contextvars.copy_context().run(tracer.run, method, inputs, then)  # what it sets there is its own
        except Exception as raised:  # noqa: BLE001  # whatever the model raises is a finding, shown in the summary
            close_generators(raised)
            error = raised
        except BaseException as raised:
            close_generators(raised)
            if not (keep_interrupted and isinstance(raised, KeyboardInterrupt)):
                raise
            error = raised
        finally:
            gate.is_open = False
    return tracer.finish(error, inputs, method, global_state)


class _FunctionMode(TorchFunctionMode):
    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if is_jit_tracing():
            if (call := self._tracer.find_current()) is not None and JIT_TRACE not in call.aten_ops:
                call.aten_ops.append(JIT_TRACE)
            if not self._tracer.is_fake:  # sizes are tensors, as torch writes them down
                return func(*args, **kwargs or {})
            return run_in_jit_trace(func, args, kwargs or {})
        return self._tracer.call_function(func, args, dict(kwargs) if kwargs else {})


class _Tracer(FunctionCalls):
    """Keeps the stack of running calls and the log of all; see ``trace``."""

    def __init__(
        self,
        work: Shadow,
        tree: ModuleTree,
        observer: Observer | None,
        guard: Guard | None,
        make_log: Callable[..., Any],
    ) -> None:
        super().__init__(work, tree, guard, make_log, _Tracer._run_module.__code__)
        self._observer = observer
        self._last_links: tuple[Link | None, ...] = ()
        self._trained: frozenset[int] | None = None
        self.cache: LayerCache | None = None
        self.blocks: BlockCache | None = None

    def tag_inputs(self, inputs: Prepared) -> None:
        leaves = find_argument_leaves(inputs.args, inputs.kwargs, whole=True)
        if self.op_log is not None:
            self.op_log.begin(leaves)
        self._links.link_inputs(leaves)
        self.aten_log.begin(self._work.param_tensors.values(), [tensor for _, tensor in leaves])

    def run(self, method: str, inputs: Prepared, then: Callable[[Any], Any]) -> None:
        if method == "forward":
            made = [self._work.module(*inputs.args, **inputs.kwargs)]
        else:
            made = [self.call_module(self._work.module, inputs.args, inputs.kwargs, method)]
        with disable_function():
            self._trained = find_trained_params(made[0], self._work.whole_modules, self._work.param_of)
        then(made.pop())  # the only reference: ``then`` decides when the output is released

    # -- modules ------------------------------------------------------------------------------------------------------

    def call_module(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], method: str = "forward"
    ) -> Any:
        key = cache = None
        with disable_function():
            index = self._work.index_of.get(id(module))
            if index is None:
                module = self._modules.adopt(module)
            elif self._stack and self._stack[-1].kind == "module" and not has_hooks(module):
                cache = self.cache
                if cache is not None and (key := cache.find_key(index, module, args, kwargs)) is not None:
                    known = cache.find(key)
                    if known is not None:
                        return self._repeat(known, cache, index, module, args)
        run = functools.partial(self._run_module, module, args, kwargs, method, key)
        if self.blocks is None or cache is None or index is None or key is not None:
            return run()
        return self.blocks.call(index, module, args, kwargs, run, functools.partial(self._begin_like, index))

    def _begin_like(self, index: int, like: Call) -> Call:
        """Begin a call of a module that is not run; all else is as in the call that it is like."""
        caller, path = self._stack[-1], self._modules.facts[index].paths[0]
        places = find_lines(sys._getframe(2), self._stop, 1)
        source = self._log.find_source(places[0]) if places else None
        if self._observer is not None and self._observer(len(self._log.calls) + 1, path):
            raise TraceCancelled
        return like._replace(
            index=len(self._log.calls), path=path, parent=caller.index, depth=caller.depth + 1, source=source
        )

    def _run_module(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], method: str, key: Any
    ) -> Any:
        cache = self.cache
        with disable_function():
            call, is_leaf = self._begin_module(module, args, kwargs, method)
            num_ops = self.op_log.length if self.op_log is not None else 0
            begin = cache.begin() if cache is not None and key is not None else (0, 0)
        self._leaf_depth += is_leaf
        try:
            if method != "forward":
                output = getattr(module, method)(*args, **kwargs)
            elif has_hooks(module):
                output = self._call_hooked(call, module, args, kwargs)
            else:
                output = module.forward(*args, **kwargs)
            if call.caller is None:
                output = run_to_end(output)
        except BaseException as error:
            self._failure.note_call(error, call)
            raise
        else:
            with disable_function():
                self._end_module(call, module, output, is_leaf)
                if cache is not None and key is not None:
                    log, made = self.op_log, [tensor for _, tensor in find_leaves(output)]
                    cut = None if log is None else functools.partial(log.cut, num_ops, list_tensors(args), made)
                    cache.keep(key, module, args, output, call.freeze(self._log.find_source), cut, begin)
            return output
        finally:
            self._leaf_depth -= is_leaf
            self._stack.pop()

    def _repeat(
        self, known: KnownLayer, cache: LayerCache, index: int, module: nn.Module, args: tuple[Any, ...]
    ) -> Any:
        """Write down the call of a layer like one that was run before, and return what it would return."""
        if self.gate.pending:
            self.gate.deliver()
        caller = self._stack[-1]
        fact = self._modules.facts[index]
        path = fact.paths[0] if len(fact.paths) == 1 else self._modules.choose_path(fact, caller.path)
        tensors = list_tensors(args)
        calls = self._log.calls
        places = find_lines(sys._getframe(2), self._stop, 1)
        output = cache.make(known, module, args)
        made = [tensor for _, tensor in find_leaves(output)]
        input_params = tuple([self._work.param_of.get(id(tensor)) for tensor in tensors])
        input_links = tuple([find_link(tensor) for tensor in tensors])
        if input_links == self._last_links:  # what one layer gave is mostly what the next one gets
            input_links = self._last_links
        output_links = self._last_links = tuple([Link(len(calls), leaf) for leaf in range(len(made))])
        like = known.call
        call = Call(  # by position, in 40% of the time that keywords take: 2% of a summary of 10,000 layers
            len(calls),
            "module",
            path,
            fact.type_name,
            caller.index,
            caller.depth + 1,
            self._log.count_call(index),
            index,
            like.inputs,
            like.outputs,
            input_links,
            output_links,
            _NO_PARAM if input_params == _NO_PARAM else input_params,
            like.arguments,
            cache.list_weights(known, module, fact.params),
            like.aten_ops,
            source=self._log.find_source(places[0]) if places else None,
            inplace=like.inplace,
        )
        if known.nbytes is not None:
            saved, live = known.nbytes.repeat(self.aten_log.storages, tensors, made)
            call = call._replace(saved=saved, live_bytes=live, made_bytes=like.made_bytes, grad=like.grad)
            caller.add_live_bytes(live)
        calls.append(call)
        if self._observer is not None and self._observer(len(calls), path):
            raise TraceCancelled
        for tensor, link in zip(made, output_links, strict=True):
            tensor.__dict__[TAG] = link
        if self.op_log is not None and known.ops is not None:
            self.op_log.repeat(known.ops, tensors, call.params, made, call)
        return output

    def _call_hooked(self, call: RunningCall, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a module with the user's hooks; what goes in is what they leave of it."""
        if not has_pre_hooks(module):
            return call_module(module, *args, **kwargs)

        def set_inputs(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with disable_function():
                names = parameter_names(type(module), "forward")
                leaves = find_argument_leaves(args, kwargs, names, whole=call.caller is None)
                call.set_inputs(leaves, self._work.param_of)

        handle = module.register_forward_pre_hook(set_inputs, with_kwargs=True)
        try:
            return call_module(module, *args, **kwargs)
        finally:
            handle.remove()

    def _begin_module(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], method: str
    ) -> tuple[RunningCall, bool]:
        caller = self.find_current()
        caller_path = caller.path if caller is not None else ""
        index = self._modules.find_index(module, caller_path)
        fact = self._modules.facts[index]
        path = self._modules.choose_path(fact, caller_path)
        type_name = fact.type_name if not fact.lazy else type(module).__name__  # which changes at its first call
        call = self._log.begin("module", path, type_name, caller, index)
        self._log.add_module(call)
        call.lazy = fact.lazy and call.call_index == 0
        call.places = find_lines(sys._getframe(2), self._stop, 1) if caller is not None else ()
        call.arguments = list_module_arguments(args, kwargs)
        leaves = find_argument_leaves(args, kwargs, parameter_names(type(module), method), whole=caller is None)
        call.set_inputs(leaves, self._work.param_of)
        if self._observer is not None and self._observer(call.index + 1, path):
            raise TraceCancelled
        call.aten_ops += find_hidden_ops(module)
        self._stack.append(call)
        return call, _is_torch_leaf(module, bool(fact.children))

    def _end_module(self, call: RunningCall, module: nn.Module, output: Any, is_leaf: bool) -> None:
        leaves = find_leaves(output)
        call.set_outputs(leaves, self._links.link_module_outputs(call.index, leaves, is_leaf=is_leaf))
        call.inplace = is_leaf and bool(module.__dict__.get("inplace"))
        if call.lazy:
            call.type_name = type(module).__name__  # LazyLinear has become Linear

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self, error: BaseException | None, inputs: Prepared, method: str, state: GlobalState) -> TraceResult:
        """Turn what was written down into records."""
        ops = self.op_log.finish(self._log.calls) if self.op_log is not None else None
        calls = self._log.freeze()
        trace = Trace(
            calls=calls,
            modules=self._modules.finish_facts(),
            params=self._modules.finish_params(),
            inputs=inputs.facts,
            outputs=calls[0].outputs if calls else (),
            engine="fake" if self.is_fake else "real",
            failure=self._failure.build_failure(error, self._stop) if error is not None else None,
            method=method,
            peak_bytes=self.aten_log.peak_bytes,
            knows_saved=self.aten_log.knows_saved,
            input_storages=self.aten_log.input_storages,
            starts_threads=state.threads.some or self.aten_log.saw_threads,
            trained=self._trained,
        )
        return TraceResult(
            trace, error, *self._failure.find_function(error), bool(state.unread), self.reads_grad,
            self.aten_log.goes_backward, ops,
        )  # fmt: skip


#: That the one input of a layer is no parameter.
_NO_PARAM: tuple[int | None, ...] = (None,)
#: What runs the user's code.
_RUNNERS = frozenset({_Tracer._run_module.__code__, _Tracer._call_hooked.__code__})


def _is_torch_leaf(module: nn.Module, has_children: bool) -> bool:
    """Return whether a module's inside is torch's own business: a class of torch's without children, or a ScriptModule.

    A user's module without children is looked into: the ``view`` that folds the batch is written in one of those.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return True
    return not has_children and class_before_sharding(type(module)).__module__.startswith("torch.")
