"""Globals and classes that a forward can reach: what it leaves there of ours is taken back when a trace is over."""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import operator
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.isolation.forks import restoring
from modelsummary_ipy.isolation.namespaces import LRU_CACHE, collect_cells, find_namespaces, is_users_module, unwrap
from modelsummary_ipy.isolation.threads import AloneWatch
from modelsummary_ipy.isolation.user_containers import SIMPLE, clean, copy_items, holds_traced, put_back
from modelsummary_ipy.model.tensor_meta import TAG
from modelsummary_ipy.records.packages import INSTALLED
from modelsummary_ipy.torch_compat.modules import set_version, version_of

#: Most containers that are looked into, and most entries of one: a data set in a notebook's globals is not a cache.
_MOST_CONTAINERS = 2000
_MOST_ENTRIES = 10_000
_MOST_BYTES = 256 << 20
_STORE_GLOBAL = dis.opmap["STORE_GLOBAL"]

#: Threads that trace now: in these a cached function has a cache of its own.
_tracing: set[int] = set()


class ModuleGlobals:
    """The classes of a model, the modules they were written in, and the modules whose functions these use."""

    def __init__(self, module_types: set[type]) -> None:
        classes = {base for kind in module_types for base in kind.__mro__ if is_users_module(base.__module__)}
        self._classes = sorted(classes, key=lambda kind: (kind.__module__, kind.__qualname__))
        self._namespaces, self._far = find_namespaces({kind.__module__ for kind in classes})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ModuleGlobals):
            return NotImplemented
        return self._classes == other._classes and self._namespaces is other._namespaces and self._far is other._far

    __hash__ = None  # type: ignore[assignment]  # as of any class with an ``__eq__``

    @contextlib.contextmanager
    def kept(self, *, real: bool) -> Iterator[Callable[[], None]]:
        """Run the block; afterwards nothing that it made is left in a cache, a global or a class attribute.

        Tensors of the trace itself are taken back, with the containers that hold them. What the forward assigned on its
        classes, or by a ``global`` statement, is undone, and what it did to containers beside the user's own code too,
        if no other thread ran such code meanwhile: what another thread put there stays.

        Args:
            real: Whether arithmetic is done in the block: then tensors among the globals may be written to, and are
                copied first.

        Yields:
            What takes all of it back at once: the block may trace several times.
        """
        with contextlib.ExitStack() as stack:
            parts = (
                self._far_caches_cleared(),
                self._caches_bypassed(),
                self._class_attributes_kept(),
                self._globals_kept(real),
            )
            restores = [stack.enter_context(part) for part in parts]

            def restore() -> None:
                for one in reversed(restores):
                    one()

            yield restore

    @contextlib.contextmanager
    def _caches_bypassed(self) -> Iterator[Callable[[], None]]:
        """Give ``lru_cache``d functions another cache in this thread: a cached fake would be the next real answer."""
        swapped: list[tuple[Any, str, Any]] = []
        own: list[Any] = []
        thread = threading.get_ident()
        outer = thread in _tracing
        _tracing.add(thread)

        def restore() -> None:
            for owner, name, value in reversed(swapped):
                if isinstance(owner, dict):
                    owner[name] = value
                else:
                    setattr(owner, name, value)
            if not outer:
                _tracing.discard(thread)

        def forget() -> None:
            for cache in own:
                cache.cache_clear()

        with restoring(restore):
            for cell in self._list_cells():
                if isinstance(cell.cell_contents, LRU_CACHE):
                    swapped.append((cell, "cell_contents", cell.cell_contents))
                    cell.cell_contents = _bypass(cell.cell_contents, own)
            for kind in self._classes:
                for name, value in list(vars(kind).items()):
                    inner = unwrap(value)
                    if isinstance(inner, LRU_CACHE):
                        bypass: Any = _bypass(inner, own)
                        swapped.append((kind, name, value))
                        setattr(kind, name, type(value)(bypass) if inner is not value else bypass)
            for namespace in self._namespaces:
                for name, value in list(namespace.items()):
                    if isinstance(value, LRU_CACHE):
                        swapped.append((namespace, name, value))
                        namespace[name] = _bypass(value, own)
            yield forget

    def _list_cells(self) -> list[types.CellType]:
        """List what functions and methods close over: a decorator keeps the cache of what it wraps there."""
        values = [unwrap(value) for kind in self._classes for value in list(vars(kind).values())]
        values += [value for namespace in self._namespaces for value in list(namespace.values())]
        seen: dict[int, types.CellType] = {}
        for value in values:
            if type(value) is types.FunctionType and value.__closure__:
                collect_cells(value, seen)
        return list(seen.values())

    @contextlib.contextmanager
    def _far_caches_cleared(self) -> Iterator[Callable[[], None]]:
        """Let libraries keep nothing of ours in their caches and tables; hundreds of them never do."""
        caches = [cache for library in self._far for cache in library.caches]
        misses = [cache.cache_info().misses for cache in caches]
        tables = [table for library in self._far for table in library.tables]
        lengths = list(map(len, tables))

        def restore() -> None:
            for cache, before in zip(caches, misses, strict=True):
                if cache.cache_info().misses > before and any(holds_traced(held) for held in gc.get_referents(cache)):
                    cache.cache_clear()
            if list(map(len, tables)) != lengths:  # mostly none of thousands has grown
                for table, length in zip(tables, lengths, strict=True):
                    if len(table) > length:
                        clean(table)

        with restoring(restore):
            yield restore

    @contextlib.contextmanager
    def _class_attributes_kept(self) -> Iterator[Callable[[], None]]:
        """Undo what the forward assigned on its classes (``type(self).calls += 1``)."""
        before = [(kind, dict(vars(kind))) for kind in self._classes]

        def restore() -> None:
            for kind, old in before:
                now = dict(vars(kind))
                if list(now) == list(old) and all(map(operator.is_, now.values(), old.values())):
                    continue
                for name, value in now.items():
                    if name not in old:
                        delattr(kind, name)
                    elif value is not old[name] and not name.startswith("__"):
                        setattr(kind, name, old[name])

        with restoring(restore):
            yield restore

    @contextlib.contextmanager
    def _globals_kept(self, real: bool) -> Iterator[Callable[[], None]]:
        """Take tensors of ours out of the globals and of what these and the classes hold."""
        held = _Snapshot(real)
        for namespace in self._namespaces:
            held.begin(namespace)
            held.add(namespace, depth=3, is_namespace=True)
        for kind in self._classes:
            held.begin(vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {})
            for value in map(unwrap, list(vars(kind).values())):
                if type(value) not in SIMPLE or (type(value) is types.FunctionType and value.__closure__):
                    held.look(value, depth=2)
        written = _find_written(self._classes)

        def restore() -> None:
            held.restore()
            for namespace, name, value in written:
                if namespace.get(name) is not value:
                    namespace[name] = value

        with restoring(restore):
            yield restore


class _Snapshot:
    """Shallow copies of containers, how often tensors were written to, and their bits if they may be."""

    def __init__(self, real: bool) -> None:
        self._real = real
        self._alone = AloneWatch()
        self._is_installed = False
        self._containers: list[tuple[Any, Any, bool]] = []
        self._versions: list[tuple[Tensor, Any]] = []
        self._bits: list[tuple[Tensor, Tensor]] = []
        self._bytes = 0
        self._seen: set[int] = set()

    def begin(self, namespace: dict[str, Any]) -> None:
        """Go on with what belongs to one module; an installed one's containers are its caches, and stay filled."""
        self._is_installed = str(namespace.get("__file__", "")).startswith(INSTALLED)

    def add(self, container: Any, depth: int, *, is_namespace: bool = False) -> None:
        """Remember what ``container`` holds, and what is in it down to ``depth``."""
        if id(container) in self._seen or len(container) > _MOST_ENTRIES or len(self._containers) > _MOST_CONTAINERS:
            return
        self._seen.add(id(container))
        shallow = copy_items(container)
        self._containers.append((container, shallow, not (is_namespace or self._is_installed)))
        if depth:
            for value in shallow.values() if isinstance(shallow, dict) else shallow:
                kind = type(value)  # most globals are functions, classes and modules
                if kind not in SIMPLE or (kind is types.FunctionType and value.__closure__):
                    self.look(value, depth - 1)

    def look(self, value: Any, depth: int) -> None:
        """Remember ``value`` if it is a container, a plain object of the user's, or a tensor."""
        value = unwrap(value)
        kind = type(value)
        if kind is types.FunctionType and value.__closure__ and depth:
            for cell in collect_cells(value, {}).values():
                if type(cell.cell_contents) is not types.FunctionType:
                    self.look(cell.cell_contents, depth - 1)
        if kind in SIMPLE:
            return
        if isinstance(value, (dict, list, set, deque)):
            self.add(value, depth)
        elif isinstance(value, Tensor):
            if id(value) not in self._seen:
                self._seen.add(id(value))
                self._keep_tensor(value)
        elif depth and not isinstance(value, (type, nn.Module)) and is_users_module(kind.__module__):
            state = getattr(value, "__dict__", None)
            if type(state) is dict:
                self.add(state, depth - 1)

    def _keep_tensor(self, tensor: Tensor) -> None:
        if not tensor.is_inference():  # such a one counts no writes
            self._versions.append((tensor, version_of(tensor)))
        if not self._real or tensor.layout != torch.strided or isinstance(tensor, UninitializedTensorMixin):
            return
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes <= _MOST_BYTES:
            self._bits.append((tensor, tensor.detach().clone()))

    def restore(self) -> None:
        alone = self._alone.holds()
        for container, before, is_whole in self._containers:
            if is_whole and alone:
                put_back(container, before)
            else:
                clean(container, before)
        written = {id(tensor) for tensor, version in self._versions if version_of(tensor) != version}
        for tensor, bits in self._bits:
            if id(tensor) in written or tensor.is_inference():
                with torch.no_grad(), torch.inference_mode(tensor.is_inference()):
                    tensor.copy_(bits)
        for tensor, version in self._versions:
            tensor.__dict__.pop(TAG, None)
            if id(tensor) in written:
                set_version((tensor,), (version,))


def _bypass(cached: Any, caches: list[Any]) -> Callable[..., Any]:
    """Let a cached function that is called in a trace remember what it gave in this one alone, in one of ``caches``."""
    own = functools.lru_cache(**cached.cache_parameters())(cached.__wrapped__)
    caches.append(own)

    @functools.wraps(cached.__wrapped__)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (own if threading.get_ident() in _tracing else cached)(*args, **kwargs)

    call.cache_info, call.cache_clear = cached.cache_info, cached.cache_clear  # type: ignore[attr-defined]
    return call


def _find_written(classes: list[type]) -> list[tuple[dict[str, Any], str, Any]]:
    """Find the globals that methods of ``classes`` assign by a ``global`` statement, with their values now."""
    found: list[tuple[dict[str, Any], str, Any]] = []
    for kind in classes:
        for method in list(vars(kind).values()):
            code = getattr(method, "__code__", None)
            if not isinstance(code, types.CodeType) or _STORE_GLOBAL not in code.co_code[::2]:
                continue
            for step in dis.get_instructions(code):
                if step.opname == "STORE_GLOBAL" and step.argval in method.__globals__:
                    found.append((method.__globals__, step.argval, method.__globals__[step.argval]))
    return found
