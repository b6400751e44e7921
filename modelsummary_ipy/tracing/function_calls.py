"""The calls of torch's functions in a trace: rows of their own, or parts of the layer of torch that they run in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

from torch import Tensor

from modelsummary_ipy.fake.op_overrides import find_rule
from modelsummary_ipy.isolation.interrupts import InterruptGate
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.model.module_tree import ModuleTree
from modelsummary_ipy.tracing.aten_log import AtenLog
from modelsummary_ipy.tracing.call_builder import CallLog, RunningCall
from modelsummary_ipy.tracing.forward_failure import FailureLog
from modelsummary_ipy.tracing.function_ops import (
    OpInfo,
    describe_op,
    name_arguments,
    simplify_argument,
)  # fmt: skip
from modelsummary_ipy.tracing.op_log import OpLog
from modelsummary_ipy.tracing.source_lines import find_lines
from modelsummary_ipy.tracing.tensor_leaves import Leaf, find_leaves, find_op_tensors
from modelsummary_ipy.tracing.tensor_links import TensorLinks, find_link
from modelsummary_ipy.tracing.traced_modules import TracedModules

#: Checks an operation before it runs; may raise what the real one would raise and a fake one would not.
Guard = Callable[[Callable[..., Any], str, tuple[Any, ...], Mapping[str, Any]], None]


class FunctionCalls:
    """What runs now, and the log of all calls; writes down those of functions.

    Args:
        make_log: Makes the log of operations and storages; gets what returns the call that runs.
        stop: The code that runs a module: what is outside it is not the user's line.

    Attributes:
        reads_grad: Whether the model's own code read whether autograd records a tensor.
    """

    def __init__(
        self, work: Shadow, tree: ModuleTree, guard: Guard | None, make_log: Callable[..., Any], stop: CodeType
    ) -> None:
        self._work = work
        self.is_fake = work.fake_mode is not None
        self._guard = guard
        self._modules = TracedModules(work, tree)
        self._links = TensorLinks(self.is_fake)
        self._log = CallLog()
        self._stack: list[RunningCall] = []
        self._leaf_depth = 0
        self._stop = stop
        self.reads_grad = False
        self.aten_log = make_log(self.find_current)
        self._failure = FailureLog(keeps=isinstance(self.aten_log, AtenLog))
        self.op_log: OpLog | None = None
        self.gate = InterruptGate()

    def find_current(self) -> RunningCall | None:
        """Return the call that runs now."""
        return self._stack[-1] if self._stack else None

    def call_function(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function, and write it down."""
        if self.gate.pending:
            self.gate.deliver()
        info = describe_op(func)
        if self.is_fake:
            func = find_rule(func) or func
        is_data = info.reads_data and id(args[0]) not in self._work.param_of and find_link(args[0]) is not None
        if info.only_reads and not is_data:
            return self._call_reader(func, info, args, kwargs)
        if not self._stack:  # a loss
            return self._call_inside_leaf(func, info, args, kwargs)
        tensors = find_op_tensors(args, kwargs)
        touched = [self._work.param_of[id(t)] for t in tensors if id(t) in self._work.param_of]
        caller = self._stack[-1]
        if touched:
            caller.params += touched
        if self._leaf_depth:
            return self._call_inside_leaf(func, info, args, kwargs)
        call = self._begin_op(func, info, args, kwargs, tensors)
        self._stack.append(call)
        try:
            if self._guard is not None:
                self._guard(func, info.name, args, kwargs)
            output = self._noting(func, info)(*args, **kwargs)
        except BaseException as error:
            self._log.add_failed_op(call)
            self._failure.note_function(error, info.name, (func, args, kwargs))
            self._failure.note_call(error, call)
            raise
        finally:
            self._stack.pop()
        if not tensors and not self.is_fake:
            self._modules.note_made(output)
        leaves = [("", args[0])] if info.name == "setitem" else find_leaves(output)
        if leaves and isinstance(leaves[0][1], Tensor):
            self._log.add_op(call)
            call.set_outputs(leaves, self._links.link_op_outputs(call.index, leaves, tensors, inplace=call.inplace))
            call.params = touched
        else:  # it returned a number
            self._log.drop_op(call)
        return output

    def _call_reader(self, func: Any, info: OpInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if info.reads_data and self._stack and (number := self._work.param_of.get(id(args[0]))) is not None:
            self._stack[-1].params.append(number)
        if info.name in _OF_AUTOGRAD and not self._leaf_depth:
            self.reads_grad = True
        try:
            return func(*args, **kwargs)
        except BaseException as error:
            self._failure.note_function(error, info.name, None)
            raise

    def _call_inside_leaf(self, func: Any, info: OpInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            if self._guard is not None:
                self._guard(func, info.name, args, kwargs)
            return self._noting(func, info)(*args, **kwargs)
        except BaseException as error:
            self._failure.note_function(error, info.name, (func, args, kwargs))
            raise

    def _noting(self, func: Callable[..., Any], info: OpInfo) -> Callable[..., Any]:
        return func if self.op_log is None or info.name != "getitem" else self.op_log.noting_slices(func)

    def _begin_op(
        self, func: Any, info: OpInfo, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> RunningCall:
        caller = self._stack[-1]
        call = self._log.begin("op", caller.path, info.name, caller, caller.module)
        is_single = len(tensors) == 1
        leaves: list[Leaf] = [("" if is_single else f"[{i}]", tensor) for i, tensor in enumerate(tensors)]
        call.set_inputs(leaves, self._work.param_of)
        plain = tuple([simplify_argument(value) for value in args])
        named = {key: simplify_argument(value) for key, value in kwargs.items()}
        call.arguments = name_arguments(func, info.name, plain, named)
        call.inplace = info.inplace or "out" in kwargs
        call.places = find_lines(sys._getframe(3), self._stop)
        return call


#: Attributes of a tensor about autograd.
_OF_AUTOGRAD = frozenset({"requires_grad", "grad_fn", "is_leaf"})
