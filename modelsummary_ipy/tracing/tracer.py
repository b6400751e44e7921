"""One trace of a copy of the model: every call of a module or an operation, in order, also when it fails."""

from __future__ import annotations

import contextvars
import functools
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import CodeType, CoroutineType, GeneratorType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from modelsummary_ipy.fake.op_overrides import COPIED, find_rule
from modelsummary_ipy.isolation.global_state import GlobalState, draws_undone
from modelsummary_ipy.isolation.interrupts import InterruptGate, InterruptsDeferred, find_gate
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.model.module_tree import ModuleTree, read_params, read_tree
from modelsummary_ipy.model.tensor_meta import TAG, name_dtype
from modelsummary_ipy.records.errors import write_error
from modelsummary_ipy.records.trace import (
    Call,
    Failure,
    InputFact,
    Link,
    ModuleFact,
    ParamFact,
    Source,
    TensorSpec,
    Trace,
)
from modelsummary_ipy.torch_compat.distributed import class_before_sharding
from modelsummary_ipy.torch_compat.fakes import disable_function
from modelsummary_ipy.torch_compat.modules import call_module, has_hooks, has_pre_hooks, storage_key, view_base
from modelsummary_ipy.tracing.aten_log import AtenLog
from modelsummary_ipy.tracing.function_ops import OpInfo, describe_op, name_arguments, simplify_argument
from modelsummary_ipy.tracing.layer_cache import Answer, LayerCache
from modelsummary_ipy.tracing.module_calls import observe_calls
from modelsummary_ipy.tracing.source_lines import Place, find_lines, read_line, to_source
from modelsummary_ipy.tracing.tensor_leaves import build_spec, find_argument_leaves, find_leaves

__all__ = ["Observer", "Prepared", "TraceCancelled", "TraceEndedError", "TraceResult", "observing_progress", "trace"]

#: Called with ``(calls so far, path)`` at every module; a true answer cancels the trace.
Observer = Callable[[int, str], "bool | None"]
#: Looks at an operation before it runs; may raise what the real one would raise and a fake one would not.
Guard = Callable[[Callable[..., Any], str, tuple[Any, ...], Mapping[str, Any]], None]


class TraceCancelled(BaseException):
    """The observer cancelled it; nothing of the trace is kept."""


class TraceEndedError(TraceCancelled):
    """A limit of the caller ended the trace."""


_observers: dict[int, Observer] = {}  # by thread


@contextmanager
def observing_progress(observer: Observer) -> Iterator[None]:
    """Let ``observer`` observe, and cancel, every trace that this thread makes in the block, whoever starts it.

    A summary traces again for its flags, formulas and sizes that work: a form's Cancel is to end these too.
    """
    thread = threading.get_ident()
    outer = _observers.get(thread)
    _observers[thread] = observer
    try:
        yield
    finally:
        if outer is None:
            del _observers[thread]
        else:
            _observers[thread] = outer


@dataclass(frozen=True)
class Prepared:
    """The arguments of a forward, made of the copy's own kind of tensors.

    Attributes:
        args, kwargs: As the method takes them.
        facts: One per tensor leaf, in the order of the leaves.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    facts: tuple[InputFact, ...]


@dataclass(frozen=True)
class TraceResult:
    """The result of a trace.

    Attributes:
        trace: The facts.
        error: The exception that ended the forward, ``None`` if it came to its end.
        culprit: Name of the torch function that raised, ``""`` if none did.
        operands: ``(function, args, kwargs)`` of a failed torch function, to be tried again for real; tensors inside
            are the copy's.
        is_unread: Whether a mask of unknown values was passed on, which for some values would have been skipped.
        goes_backward: Whether a real run that kept nothing read what autograd saves.
        reads_grad: Whether the model's own code read whether autograd records a tensor.
    """

    trace: Trace
    error: BaseException | None = None
    culprit: str = ""
    operands: tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]] | None = None
    is_unread: bool = False
    reads_grad: bool = False
    goes_backward: bool = False


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
) -> TraceResult:
    """Run ``method`` of the copy once and write down every call.

    Args:
        work: The copy to run; it is spent afterwards.
        inputs: Arguments made for this copy.
        tree: Facts of the model's modules and parameters.
        method: What to call.
        observer: Is called with the progress, may cancel.
        guard: Checks an operation before it runs.
        measure: Whether to record aten operations and bytes; a trace for shapes alone does without.
        measure_bytes: Whether to follow storages and saved tensors too.
        keep_saved: Whether autograd keeps what it saves: for a forward that goes backward itself.

    Returns:
        The facts, and the exception if the forward raised one. ``KeyboardInterrupt`` and ``SystemExit`` pass through.

    Raises:
        TraceCancelled: If the observer cancelled it.
    """
    make_log = functools.partial(AtenLog, measure_bytes=measure and measure_bytes, keep_saved=keep_saved)
    tracer = _Tracer(work, tree, observer or _observers.get(threading.get_ident()), guard, make_log)
    global_state = GlobalState({type(module) for module in work.modules})
    error: BaseException | None = None
    with InterruptsDeferred(), global_state.kept(real=work.fake_mode is None), ExitStack() as stack:
        stack.callback(tracer.aten_log.close)
        log = stack.enter_context(tracer.aten_log.recording(work.fake_mode)) if measure else None
        if log is None and work.fake_mode is not None:
            stack.enter_context(work.fake_mode)
        tracer.tag_inputs(inputs)
        stack.enter_context(observe_calls(tracer.call_module))
        stack.enter_context(_FunctionMode(tracer))
        gate = tracer.gate = find_gate()
        gate.runners = _RUNNERS
        gate.deliver()
        if work.fake_mode is not None and work.has_lazy_weights:
            tracer.cache = LayerCache(work.fake_mode, work.param_of, tree.specs)
        try:
            gate.is_open = True
            contextvars.copy_context().run(tracer.run, method, inputs)  # what it sets there is its own
        except Exception as raised:  # noqa: BLE001  # whatever the model raises is a finding, shown in the summary
            error = raised
        finally:
            gate.is_open = False
    result = tracer.finish(error, inputs, method)
    return replace(
        result,
        is_unread=bool(global_state.unread),
        reads_grad=tracer.reads_grad,
        goes_backward=tracer.aten_log.goes_backward,
    )


class _FunctionMode(TorchFunctionMode):
    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self._tracer.call_function(func, args, dict(kwargs) if kwargs else {})


class _Record:
    """A call while the forward runs; what a call does not have stays the class's."""

    depth = 0
    call_index = 0
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    input_links: tuple[Link | None, ...] = ()
    output_links: tuple[Link | None, ...] = ()
    input_params: tuple[int | None, ...] = ()
    arguments: Any = ((), {})
    func: Any = None
    live_bytes: int | None = None
    made_bytes = 0
    status = "ran"
    places: tuple[Place, ...] = ()
    inplace = False
    lazy = False
    grad = False
    autocast: str | None = None
    params: Any = ()
    aten_ops: Any = ()
    saved: Any = ()

    def __init__(
        self, index: int, kind: str, path: str, type_name: str, parent: _Record | None, module: int | None
    ) -> None:
        self.index = index
        self.kind = kind
        self.path = path
        self.type_name = type_name
        self.parent = parent
        if parent is not None:
            self.depth = parent.depth + 1
        self.module = module

    def begin(self) -> None:
        """Prepare what is recorded while it runs, and record its modes."""
        self.params, self.aten_ops, self.saved = [], [], []
        self.grad = torch.is_grad_enabled()
        self.autocast = _read_autocast()


def _read_autocast() -> str | None:
    if torch.is_autocast_enabled("cpu"):
        return name_dtype(torch.get_autocast_dtype("cpu"))
    if torch.is_autocast_enabled("cuda"):
        return name_dtype(torch.get_autocast_dtype("cuda"))
    return None


class _Tracer:
    """Keeps the stack of running calls and the list of all; see ``trace``."""

    def __init__(
        self,
        work: Shadow,
        tree: ModuleTree,
        observer: Observer | None,
        guard: Guard | None,
        make_log: Callable[..., AtenLog],
    ) -> None:
        self._work = work
        self._tree = tree
        self._observer = observer
        self._guard = guard
        self._modules: list[ModuleFact] = [
            fact if fact.training == training else fact._replace(training=bool(training))
            for module, fact in _pair(work, tree)
            for training in [getattr(module, "training", False)]  # a frozen ScriptModule has none
        ]
        self._unknown_modules: list[nn.Module] = []  # an id in index_of must not be reused
        self._new_params: list[tuple[ParamFact, Tensor]] = []
        self._made: set[int] = set()  # addresses of storages that the forward made from nothing
        self._made_modules: set[int] = set()  # ids of modules that it made, or that have nothing to copy
        self._records: list[_Record | Call] = []
        self._sources: dict[Place, Source] = {}
        self._last_links: tuple[Link | None, ...] = ()
        self._stack: list[_Record] = []
        self._leaf_depth = 0
        self._calls_of: dict[int | tuple[Any, ...], int] = {}
        self._error: BaseException | None = None
        self._culprit: _Record | None = None
        self._culprit_name = ""
        self._culprit_operands: Any = None
        self._stop: CodeType = _Tracer.call_module.__code__
        self.reads_grad = False
        self.aten_log = make_log(self._current)
        self.cache: LayerCache | None = None
        self.gate = InterruptGate()

    def _current(self) -> _Record | None:
        return self._stack[-1] if self._stack else None

    # -- running ------------------------------------------------------------------------------------------------------

    def tag_inputs(self, inputs: Prepared) -> None:
        leaves = find_argument_leaves(inputs.args, inputs.kwargs)
        for index, (_, tensor) in enumerate(leaves):
            tensor.__dict__[TAG] = Link(-1, index)
        self.aten_log.begin(self._work.param_tensors.values(), [tensor for _, tensor in leaves])

    def run(self, method: str, inputs: Prepared) -> Any:
        module = self._work.module
        if method == "forward":
            return module(*inputs.args, **inputs.kwargs)
        return self.call_module(module, inputs.args, inputs.kwargs, method)

    def call_module(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], method: str = "forward"
    ) -> Any:
        with disable_function():
            index = self._work.index_of.get(id(module))
            if index is None:
                adopted = self._work.adopt(module, self._made)
                if adopted is module:
                    self._made_modules.add(id(module))
                module = adopted
            cache = self.cache if index is not None and self._stack and self._stack[-1].kind == "module" else None
            if cache is not None and index is not None:
                answer = cache.find(index, module, args, kwargs) if not has_hooks(module) else None
                if answer is not None:
                    return self._answer(answer, cache, index, module, args)
                key = cache.take_key()
            record, is_leaf = self._begin_module(module, args, kwargs, method)
        self._leaf_depth += is_leaf
        try:
            if method != "forward":
                output = getattr(module, method)(*args, **kwargs)
            elif has_hooks(module):
                output = self._call_hooked(record, module, args, kwargs)
            else:
                output = module.forward(*args, **kwargs)
            if record.parent is None:
                output = _finish(output)
        except BaseException as error:
            self._fail(record, error)
            raise
        else:
            with disable_function():
                if cache is not None and key is not None:
                    cache.keep(key, module, args, output, record, _write_arguments(*record.arguments))
                self._end_module(record, module, output, bool(is_leaf))
            return output
        finally:
            self._leaf_depth -= is_leaf
            self._stack.pop()

    def _answer(self, answer: Answer, cache: LayerCache, module: int, layer: nn.Module, args: tuple[Any, ...]) -> Any:
        """Write down a call of a layer that one like it has been run for, and give what it would give."""
        if self.gate.pending:
            self.gate.deliver()
        parent = self._stack[-1]
        fact = self._modules[module]
        path = fact.paths[0] if len(fact.paths) == 1 else self._choose_path(fact, parent)
        if len(args) == 1 and isinstance(args[0], Tensor):
            tensors = [args[0]]
        else:
            tensors = [tensor for _, tensor in find_argument_leaves(args, {})]
        index = len(self._records)
        places = find_lines(sys._getframe(2), self._stop, 1)
        link = Link(index, 0)
        param_of = self._work.param_of
        input_params = tuple([param_of.get(id(tensor)) for tensor in tensors])
        input_links = tuple([tensor.__dict__.get(TAG) for tensor in tensors])
        if input_links == self._last_links:  # what one layer gave is mostly what the next one gets
            input_links = self._last_links
        output_links = self._last_links = (link,)
        self._records.append(
            Call(
                index=index,
                kind="module",
                path=path,
                type_name=fact.type_name,
                parent=parent.index,
                depth=parent.depth + 1,
                call_index=self._count_call(module),
                module=module,
                inputs=answer.inputs,
                outputs=answer.outputs,
                input_links=input_links,
                output_links=output_links,
                input_params=_NO_PARAM if input_params == _NO_PARAM else input_params,
                arguments=answer.arguments,
                params=cache.list_weights(answer, layer, fact.params) if answer.weights else (),
                aten_ops=answer.aten_ops,
                source=self._find_source(places[0]) if places else None,
                inplace=answer.inplace,
            )
        )
        if self._observer is not None and self._observer(index + 1, path):
            raise TraceCancelled
        output = cache.make(answer, args)
        output.__dict__[TAG] = link
        return output

    def _call_hooked(self, record: _Record, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a module with the user's hooks; what went in is what they left of it."""
        if not has_pre_hooks(module):
            return call_module(module, *args, **kwargs)

        def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with disable_function():
                self._write_inputs(record, find_argument_leaves(args, kwargs, _parameter_names(module, "forward")))

        handle = module.register_forward_pre_hook(look, with_kwargs=True)
        try:
            return call_module(module, *args, **kwargs)
        finally:
            handle.remove()

    def _begin_module(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], method: str
    ) -> tuple[_Record, int]:
        parent = self._stack[-1] if self._stack else None
        index = self._work.index_of.get(id(module))
        if index is None:
            index = self._meet_stranger(module, parent)
        fact = self._modules[index]
        path = self._choose_path(fact, parent)
        type_name = fact.type_name if not fact.lazy else type(module).__name__  # which changes at its first call
        record = self._add(_Record(len(self._records), "module", path, type_name, parent, index), index)
        record.begin()
        record.lazy = fact.lazy and record.call_index == 0
        record.places = find_lines(sys._getframe(2), self._stop, 1) if parent is not None else ()
        record.arguments = (
            tuple(simplify_argument(value) for value in args),
            {key: simplify_argument(value) for key, value in kwargs.items()},
        )
        self._write_inputs(record, find_argument_leaves(args, kwargs, _parameter_names(module, method)))
        self._stack.append(record)
        if self._observer is not None and self._observer(len(self._records), path):
            self._stack.pop()
            raise TraceCancelled
        return record, int(_is_torch_leaf(module, bool(fact.children)))

    def _choose_path(self, fact: ModuleFact, caller: _Record | None) -> str:
        """Choose the name of a shared module that is nearest below the module that calls it."""
        paths = fact.paths
        if len(paths) < 2:
            return paths[0] if paths else fact.found
        above = caller.path if caller is not None else ""
        inside = [path for path in paths if not above or path == above or path.startswith(f"{above}.")]
        return inside[0] if inside else paths[0]

    def _end_module(self, record: _Record, module: nn.Module, output: Any, is_leaf: bool) -> None:
        leaves = find_leaves(output)
        record.outputs = tuple(build_spec(name, tensor) for name, tensor in leaves)
        links: list[Link | None] = []
        for index, (_, tensor) in enumerate(leaves):
            tags = tensor.__dict__
            if (is_leaf or TAG not in tags) and not self._is_users(tensor):
                tags[TAG] = Link(record.index, index)
            links.append(tags.get(TAG))
        record.output_links = tuple(links)
        record.inplace = is_leaf and bool(module.__dict__.get("inplace"))
        if record.lazy:
            record.type_name = type(module).__name__  # LazyLinear has become Linear

    def _meet_stranger(self, module: nn.Module, parent: _Record | None) -> int:
        """Give facts to a module that no search found: made during the forward, or kept among globals or on a class."""
        with draws_undone():
            tree = read_tree(module)
        fresh = [tensor for tensor in tree.tensors if COPIED not in tensor.__dict__]
        made = id(module) in self._made_modules and bool(fresh)
        base = f"{parent.path}." if parent is not None and parent.path else ""
        name = f"{base}({tree.modules[0].type_name})"
        index_of, param_of = self._work.index_of, self._work.param_of
        new = [inner for inner in tree.objects if id(inner) not in index_of]
        index_of.update({id(inner): len(self._modules) + number for number, inner in enumerate(new)})
        for param, tensor in zip(tree.params, tree.tensors, strict=True):
            if id(tensor) not in param_of:
                param_of[id(tensor)] = len(self._tree.params) + len(self._new_params)
                self._new_params.append((param._replace(index=param_of[id(tensor)], names=()), tensor))
        for inner in new:
            fact = tree.modules[tree.module_index[id(inner)]]
            parents = [] if fact.parent is None else [index_of[id(tree.objects[fact.parent])]]
            self._modules.append(
                fact._replace(
                    index=index_of[id(inner)],
                    paths=(),
                    made=made,
                    found=f"{name}.{fact.path}" if fact.path else name,
                    parent=parents[0] if parents else None,
                    children=tuple(index_of[id(tree.objects[child])] for child in fact.children),
                    params=tuple(param_of[id(tree.tensors[param])] for param in fact.params),
                )
            )
            self._unknown_modules.append(inner)
        return index_of[id(module)]

    def _forgive_kept(self) -> None:
        """A module that the first forward made and registered is made once, not at every call."""
        kept = {id(module) for module in self._work.module.modules()} if self._unknown_modules else set()
        for unknown in self._unknown_modules:
            index = self._work.index_of[id(unknown)]
            if self._modules[index].made and id(unknown) in kept:
                self._modules[index] = self._modules[index]._replace(made=False)

    def call_function(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.gate.pending:
            self.gate.deliver()
        info = describe_op(func)
        if self._work.fake_mode is not None:
            func = find_rule(func) or func
        if info.question or not self._stack:
            return self._call_question(func, info, args, kwargs)
        tensors = _find_tensors(args, kwargs)
        touched = [self._work.param_of[id(t)] for t in tensors if id(t) in self._work.param_of]
        parent = self._stack[-1]
        if touched:
            parent.params += touched
        if self._leaf_depth:
            return self._call_inside_leaf(func, info, args, kwargs)
        record = _Record(len(self._records), "op", parent.path, info.name, parent, parent.module)
        self._write_op(record, func, info, args, kwargs, tensors)
        self._stack.append(record)
        try:
            if self._guard is not None:
                self._guard(func, info.name, args, kwargs)
            output = func(*args, **kwargs)
        except BaseException as error:
            record.index = len(self._records)
            self._records.append(record)
            self._note_failure(error, info.name, (func, args, kwargs))
            self._fail(record, error)
            raise
        finally:
            self._stack.pop()
        if not tensors and self._work.fake_mode is None:
            self._note_made(output)
        made = [args[0]] if info.name == "setitem" else [leaf for _, leaf in find_leaves(output)]
        if made and isinstance(made[0], Tensor):
            self._end_op(record, info, made, output)
            record.params = touched
        else:  # it answered with a number: no step of the forward, but what it ran counts for its caller
            for place, inner in enumerate(self._records[record.index :], record.index):
                if isinstance(inner, Call):
                    self._records[place] = inner._replace(depth=inner.depth - 1)
                    continue
                inner.depth -= 1  # a module that a backward() called again
                if inner.parent is record:
                    inner.parent = parent
            parent.aten_ops += record.aten_ops
            parent.saved += record.saved
            parent.made_bytes = max(parent.made_bytes, record.made_bytes)
            if record.live_bytes is not None:
                parent.live_bytes = max(parent.live_bytes or 0, record.live_bytes)
        return output

    def _note_made(self, output: Any) -> None:
        if isinstance(output, Tensor) and output.layout == torch.strided and not output.is_nested:
            self._made.add(storage_key(output.untyped_storage()))

    def _call_question(self, func: Any, info: OpInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if info.reads_data and self._stack and id(args[0]) in self._work.param_of:
            self._stack[-1].params.append(self._work.param_of[id(args[0])])
        if info.name in _OF_AUTOGRAD and not self._leaf_depth:
            self.reads_grad = True
        try:
            return func(*args, **kwargs)
        except BaseException as error:
            self._note_failure(error, info.name, None)
            raise

    def _call_inside_leaf(self, func: Any, info: OpInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            if self._guard is not None:
                self._guard(func, info.name, args, kwargs)
            return func(*args, **kwargs)
        except BaseException as error:
            self._note_failure(error, info.name, (func, args, kwargs))
            raise

    # -- writing down -------------------------------------------------------------------------------------------------

    def _add(self, record: _Record, key: int | tuple[Any, ...]) -> _Record:
        record.call_index = self._count_call(key)
        record.index = len(self._records)
        self._records.append(record)
        return record

    def _count_call(self, key: int | tuple[Any, ...]) -> int:
        count = self._calls_of.get(key, 0)
        self._calls_of[key] = count + 1
        return count

    def _write_inputs(self, record: _Record, leaves: list[tuple[str, Tensor]]) -> None:
        param_of = self._work.param_of
        record.inputs = tuple(build_spec(name, tensor) for name, tensor in leaves)
        record.input_links = tuple(tensor.__dict__.get(TAG) for _, tensor in leaves)
        record.input_params = tuple(param_of.get(id(tensor)) for _, tensor in leaves)

    def _write_op(
        self,
        record: _Record,
        func: Any,
        info: OpInfo,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
    ) -> None:
        single = len(tensors) == 1
        self._write_inputs(record, [("" if single else f"[{i}]", tensor) for i, tensor in enumerate(tensors)])
        record.func = func
        record.begin()
        record.arguments = (
            tuple(simplify_argument(value) for value in args),
            {key: simplify_argument(value) for key, value in kwargs.items()},
        )
        record.inplace = info.inplace or "out" in kwargs
        record.places = find_lines(sys._getframe(3), self._stop)

    def _end_op(self, record: _Record, info: OpInfo, made: list[Tensor], output: Any) -> None:
        parent = record.parent
        assert parent is not None
        self._add(record, ("op", parent.index, info.name))
        names = [""] if info.name == "setitem" else [name for name, _ in find_leaves(output)]
        record.outputs = tuple(build_spec(name, tensor) for name, tensor in zip(names, made, strict=True))
        links: list[Link | None] = []
        for index, tensor in enumerate(made):
            if self._is_users(tensor):
                links.append(None)
                continue
            link = Link(record.index, index)
            tensor.__dict__[TAG] = link
            if record.inplace and (base := view_base(tensor)) is not None:
                base.__dict__[TAG] = link  # writing into a view writes into what it is a view of
            links.append(link)
        record.output_links = tuple(links)

    def _is_users(self, tensor: Tensor) -> bool:
        """Return whether a tensor is no fake among fakes: one of the user's globals, which nothing is written on."""
        return self._work.fake_mode is not None and type(tensor) in _REAL_CLASSES

    def _note_failure(self, error: BaseException, name: str, operands: Any) -> None:
        if error is not self._error and not isinstance(error, TraceCancelled):
            self._culprit_name = name
            self._culprit_operands = operands

    def _fail(self, record: _Record, error: BaseException) -> None:
        record.status = "failed"
        if error is not self._error:
            self._error = error
            self._culprit = record

    # -- finishing ----------------------------------------------------------------------------------------------------

    def finish(self, error: BaseException | None, inputs: Prepared, method: str) -> TraceResult:
        """Turn what was written down into facts."""
        self._forgive_kept()
        for record in reversed(self._records):  # what lives inside a call lives while it runs
            if isinstance(record, _Record) and record.parent is not None and record.live_bytes is not None:
                record.parent.live_bytes = max(record.parent.live_bytes or 0, record.live_bytes)
        calls = tuple([call if isinstance(call, Call) else self._build_call(call) for call in self._records])
        failure = self._build_failure(error) if error is not None else None
        root = calls[0] if calls else None
        trace = Trace(
            calls=calls,
            modules=tuple(self._modules),
            params=(
                *read_params(self._tree.params, self._work.param_tensors),
                *read_params([fact for fact, _ in self._new_params], {f.index: t for f, t in self._new_params}),
            ),
            inputs=inputs.facts,
            outputs=root.outputs if root else (),
            engine="fake" if self._work.fake_mode is not None else "real",
            failure=failure,
            method=method,
            peak_bytes=self.aten_log.peak_bytes,
            knows_saved=self.aten_log.knows_saved,
            input_storages=self.aten_log.input_storages,
        )
        same = error is not None and error is self._error
        return TraceResult(trace, error, self._culprit_name if same else "", self._culprit_operands if same else None)

    def _find_source(self, place: Place) -> Source:
        source = self._sources.get(place)
        if source is None:
            source = self._sources[place] = to_source(place)
        return source

    def _build_call(self, record: _Record) -> Call:
        positional, keywords = record.arguments
        if record.kind == "op":
            arguments = name_arguments(record.func, record.type_name, positional, keywords)
        else:
            arguments = _write_arguments(positional, keywords)
        lines = tuple([self._find_source(place) for place in record.places])
        return Call(
            index=record.index,
            kind=record.kind,  # type: ignore[arg-type]
            path=record.path,
            type_name=record.type_name,
            parent=record.parent.index if record.parent is not None else None,
            depth=record.depth,
            call_index=record.call_index,
            module=record.module,
            inputs=record.inputs,
            outputs=record.outputs,
            input_links=record.input_links,
            output_links=record.output_links,
            input_params=record.input_params,
            arguments=arguments,
            params=tuple(dict.fromkeys(record.params)),
            aten_ops=tuple(record.aten_ops),
            status=record.status,  # type: ignore[arg-type]
            source=lines[0] if lines else None,
            grad=record.grad,
            autocast=record.autocast,
            inplace=record.inplace,
            saved=tuple(record.saved),
            live_bytes=record.live_bytes,
            made_bytes=record.made_bytes,
            lines=lines if record.kind == "op" else (),
            lazy=record.lazy,
        )

    def _build_failure(self, error: BaseException) -> Failure:
        place: Place | None = None
        inner = error.__traceback__
        while inner is not None:
            found = find_lines(inner.tb_frame, self._stop, 1)
            if found and found[0][0] is inner.tb_frame.f_code:
                place = (inner.tb_frame.f_code, inner.tb_lineno)
            inner = inner.tb_next
        source = to_source(place) if place else None
        culprit = self._culprit.index if self._culprit is not None and error is self._error else None
        return Failure(culprit, type(error).__name__, write_error(error), source, read_line(source))


#: Attributes of a tensor about autograd.
_OF_AUTOGRAD = frozenset({"requires_grad", "grad_fn", "is_leaf"})
#: That the one input of a layer is no parameter.
_NO_PARAM: tuple[int | None, ...] = (None,)
_REAL_CLASSES = frozenset({Tensor, nn.Parameter, nn.Buffer})
#: What runs the user's code.
_RUNNERS = frozenset({_Tracer.call_module.__code__, _Tracer._call_hooked.__code__})


def _pair(work: Shadow, tree: ModuleTree) -> list[tuple[nn.Module, ModuleFact]]:
    found: dict[int, nn.Module] = {}
    for module in work.modules:
        found[work.index_of[id(module)]] = module
    return [(found.get(fact.index, work.module), fact) for fact in tree.modules]


def _is_torch_leaf(module: nn.Module, has_children: bool) -> bool:
    """Return whether a module's inside is torch's own business: a class of torch's without children, or a ScriptModule.

    A user's module without children is looked into: the ``view`` that folds the batch is written in one of those.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return True
    return not has_children and class_before_sharding(type(module)).__module__.startswith("torch.")


#: So many items of a forward that is a generator are asked for.
_MOST_ITEMS = 1000


def _finish(output: Any) -> Any:
    """Run a forward that is a generator to its end, and one that is a coroutine as far as it goes without waiting."""
    if isinstance(output, GeneratorType):
        return list(itertools.islice(output, _MOST_ITEMS))
    if isinstance(output, CoroutineType):
        try:
            output.send(None)
        except StopIteration as end:
            return end.value
        output.close()
        raise RuntimeError("the forward waits for something outside it, which a summary does not provide")
    return output


def _write_arguments(positional: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Name what is no tensor among the arguments of a module."""
    if positional == (...,) and not keywords:
        return ()
    named = [(str(i), value) for i, value in enumerate(positional)] + list(keywords.items())
    return tuple((name, value) for name, value in named if value is not ...)


def _nothing() -> None: ...


_names_of: dict[tuple[type, str], tuple[str, ...]] = {}


def _parameter_names(module: nn.Module, method: str) -> tuple[str, ...]:
    key = (type(module), method)
    names = _names_of.get(key)
    if names is None:
        written = inspect.unwrap(getattr(type(module), method, None) or _nothing)  # below the decorators
        code = getattr(written, "__code__", None)
        names = _names_of[key] = tuple(code.co_varnames[1 : code.co_argcount]) if code else ()
    return names


def _find_tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in args if not kwargs else (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += [item for item in value if isinstance(item, Tensor)]
            for item in value:
                if isinstance(item, (tuple, list)):
                    found += [inner for inner in item if isinstance(inner, Tensor)]
    return found
