"""Globals and classes that a forward can reach: what it leaves there of ours is taken back when a trace is over."""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import operator
import os
import sys
import sysconfig
import threading
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.isolation.threads import AloneWatch
from modelsummary_ipy.model.tensor_meta import TAG
from modelsummary_ipy.torch_compat.fakes import FakeTensor
from modelsummary_ipy.torch_compat.modules import set_version, version_of

__all__ = ["ModuleGlobals"]

#: Packages whose globals no user's forward writes to, besides Python's own.
_FOREIGN = frozenset(sys.stdlib_module_names) | {
    "IPython",
    "ipykernel",
    "ipywidgets",
    "matplotlib",
    "modelsummary_ipy",
    "numpy",
    "pandas",
    "scipy",
    "sympy",
    "torch",
    "traitlets",
}
#: Most containers that are looked into, and most entries of one: a data set in a notebook's globals is not a cache.
_MOST_CONTAINERS = 2000
_MOST_ENTRIES = 10_000
_MOST_BYTES = 256 << 20
#: How deep a value is searched for a tensor of ours.
_DEEP = 8
_LRU_CACHE = type(functools.lru_cache(len))
_STORE_GLOBAL = dis.opmap["STORE_GLOBAL"]

#: Threads that trace now: in these a cached function has a cache of its own.
_tracing: set[int] = set()


class ModuleGlobals:
    """The classes of a model, the modules they were written in, and the modules whose functions these use.

    Args:
        module_types: Every class among the model's modules.
    """

    def __init__(self, module_types: set[type]) -> None:
        classes = {base for kind in module_types for base in kind.__mro__ if _is_users(base.__module__)}
        self._classes = sorted(classes, key=lambda kind: (kind.__module__, kind.__qualname__))
        self._namespaces, self._far = _find_namespaces({kind.__module__ for kind in classes})

    @contextlib.contextmanager
    def kept(self, *, real: bool) -> Iterator[None]:
        """Run the block; afterwards nothing that it made is left in a cache, a global or a class attribute.

        Tensors of the trace itself are taken back, with the containers that hold them. What the forward assigned on its
        classes, or by a ``global`` statement, is undone, and what it did to containers beside the user's own code too,
        if no other thread ran such code meanwhile: what another thread put there stays.

        Args:
            real: Whether arithmetic is done in the block: then tensors among the globals may be written to, and are
                copied first.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._far_caches_cleared())
            stack.enter_context(self._caches_bypassed())
            stack.enter_context(self._class_attributes_kept())
            stack.enter_context(self._globals_kept(real))
            yield

    @contextlib.contextmanager
    def _caches_bypassed(self) -> Iterator[None]:
        """Give ``lru_cache``d functions another cache in this thread: a cached fake would be the next real answer."""
        swapped: list[tuple[Any, str, Any]] = []
        thread = threading.get_ident()
        outer = thread in _tracing
        _tracing.add(thread)
        try:
            for cell in self._list_cells():
                if isinstance(cell.cell_contents, _LRU_CACHE):
                    swapped.append((cell, "cell_contents", cell.cell_contents))
                    cell.cell_contents = _bypass(cell.cell_contents)
            for kind in self._classes:
                for name, value in list(vars(kind).items()):
                    inner = _unwrap(value)
                    if isinstance(inner, _LRU_CACHE):
                        bypass: Any = _bypass(inner)
                        swapped.append((kind, name, value))
                        setattr(kind, name, type(value)(bypass) if inner is not value else bypass)
            for namespace in self._namespaces:
                for name, value in list(namespace.items()):
                    if isinstance(value, _LRU_CACHE):
                        swapped.append((namespace, name, value))
                        namespace[name] = _bypass(value)
            yield
        finally:
            for owner, name, value in reversed(swapped):
                if isinstance(owner, dict):
                    owner[name] = value
                else:
                    setattr(owner, name, value)
            if not outer:
                _tracing.discard(thread)

    def _list_cells(self) -> list[types.CellType]:
        """List what functions and methods close over: a decorator keeps the cache of what it wraps there."""
        values = [value for kind in self._classes for value in list(vars(kind).values())]
        values += [value for namespace in self._namespaces for value in list(namespace.values())]
        seen: dict[int, types.CellType] = {}
        for value in values:
            _collect_cells(_unwrap(value), seen)
        return list(seen.values())

    @contextlib.contextmanager
    def _far_caches_cleared(self) -> Iterator[None]:
        """Let libraries keep nothing of ours in their caches and tables; hundreds of them never do."""
        caches = [cache for library in self._far for cache in library.caches]
        misses = [cache.cache_info().misses for cache in caches]
        tables = [table for library in self._far for table in library.tables]
        lengths = list(map(len, tables))
        try:
            yield
        finally:
            for cache, before in zip(caches, misses, strict=True):
                if cache.cache_info().misses > before and any(
                    _holds_ours(held, _DEEP) for held in gc.get_referents(cache)
                ):
                    cache.cache_clear()
            for table, length in zip(tables, lengths, strict=True):
                if len(table) > length:
                    _clean(table)

    @contextlib.contextmanager
    def _class_attributes_kept(self) -> Iterator[None]:
        """Undo what the forward assigned on its classes (``type(self).calls += 1``)."""
        before = [(kind, dict(vars(kind))) for kind in self._classes]
        try:
            yield
        finally:
            for kind, old in before:
                for name, value in list(vars(kind).items()):
                    if name not in old:
                        delattr(kind, name)
                    elif value is not old[name] and not name.startswith("__"):
                        setattr(kind, name, old[name])

    @contextlib.contextmanager
    def _globals_kept(self, real: bool) -> Iterator[None]:
        """Take tensors of ours out of the globals and of what these and the classes hold."""
        held = _Snapshot(real)
        for namespace in self._namespaces:
            held.begin(namespace)
            held.add(namespace, depth=3, is_namespace=True)
        for kind in self._classes:
            held.begin(vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {})
            for value in list(vars(kind).values()):
                held.look(value, depth=2)
        written = _find_written(self._classes)
        try:
            yield
        finally:
            held.restore()
            for namespace, name, value in written:
                if namespace.get(name) is not value:
                    namespace[name] = value


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
        self._is_installed = str(namespace.get("__file__", "")).startswith(_INSTALLED)

    def add(self, container: Any, depth: int, *, is_namespace: bool = False) -> None:
        """Remember what ``container`` holds, and what is in it down to ``depth``."""
        if id(container) in self._seen or len(container) > _MOST_ENTRIES or len(self._containers) > _MOST_CONTAINERS:
            return
        self._seen.add(id(container))
        shallow = _copy(container)
        self._containers.append((container, shallow, not (is_namespace or self._is_installed)))
        if depth:
            for value in shallow.values() if isinstance(shallow, dict) else shallow:
                if type(value) not in _ATOMS:
                    self.look(value, depth - 1)

    def look(self, value: Any, depth: int) -> None:
        """Remember ``value`` if it is a container, a plain object of the user's, or a tensor."""
        value = _unwrap(value)
        kind = type(value)
        if kind is types.FunctionType and value.__closure__ and depth:
            for cell in _collect_cells(value, {}).values():
                if type(cell.cell_contents) is not types.FunctionType:
                    self.look(cell.cell_contents, depth - 1)
        if kind in _SIMPLE:
            return
        if isinstance(value, (dict, list, set, deque)):
            self.add(value, depth)
        elif isinstance(value, Tensor):
            if id(value) not in self._seen:
                self._seen.add(id(value))
                self._keep_tensor(value)
        elif depth and not isinstance(value, (type, nn.Module)) and _is_users(kind.__module__):
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
                _put_back(container, before)
            else:
                _clean(container, before)
        written = {id(tensor) for tensor, version in self._versions if version_of(tensor) != version}
        for tensor, bits in self._bits:
            if id(tensor) in written or tensor.is_inference():
                with torch.no_grad(), torch.inference_mode(tensor.is_inference()):
                    tensor.copy_(bits)
        for tensor, version in self._versions:
            tensor.__dict__.pop(TAG, None)
            if id(tensor) in written:
                set_version((tensor,), (version,))


def _copy(container: Any) -> Any:
    """Copy by the built-in class: some mappings of transformers import or build all they know when they are asked."""
    if isinstance(container, dict):
        return dict(dict.items(container))
    base: Any = next(base for base in (list, set, deque) if isinstance(container, base))
    return list(base.__iter__(container))


_ATOMS = frozenset({bool, int, float, str, bytes, type(None)})
_SIMPLE = _ATOMS | {types.FunctionType, types.ModuleType, type}


def _put_back(container: Any, before: Any) -> None:
    """Let a container hold what it held, in its order, if that is not so."""
    now = _copy(container)
    if isinstance(container, dict):
        if list(now) != list(before) or not all(map(operator.is_, now.values(), before.values())):
            dict.clear(container)
            dict.update(container, before)
        return
    if len(now) == len(before) and all(map(operator.is_, now, before)):
        return
    if isinstance(container, set):
        set.clear(container)
        set.update(container, before)
        return
    base: Any = list if isinstance(container, list) else deque
    base.clear(container)
    base.extend(container, before)


def _clean(container: Any, before: Any = ()) -> None:
    """Take what is ours out of a container; what it held before comes back if it was replaced."""
    if isinstance(container, dict):
        _clean_dict(container, before or {})
    elif isinstance(container, set):
        for item in [item for item in _copy(container) if _holds_ours(item, _DEEP)]:
            set.discard(container, item)
    else:
        _clean_list(container, list(before))


def _clean_dict(container: dict[Any, Any], before: dict[Any, Any]) -> None:
    for key, value in _copy(container).items():
        if value is before.get(key) or not _holds_ours(value, _DEEP):
            continue
        if key in before:
            dict.__setitem__(container, key, before[key])
        else:
            dict.__delitem__(container, key)


def _clean_list(container: Any, before: list[Any]) -> None:
    known = set(map(id, before))
    now = _copy(container)
    kept = [item for item in now if id(item) in known or not _holds_ours(item, _DEEP)]
    if len(kept) == len(now):
        return
    base: Any = list if isinstance(container, list) else deque
    base.clear(container)
    base.extend(container, before if len(kept) < len(before) else kept)


def _holds_ours(value: Any, depth: int) -> bool:
    """Tell whether a value is, or has inside, a tensor that a trace made."""
    if isinstance(value, Tensor):
        return isinstance(value, FakeTensor) or TAG in value.__dict__
    if depth == 0 or type(value) in _SIMPLE:
        return False
    if isinstance(value, nn.Module):
        return any(_holds_ours(tensor, 1) for tensor in (*value.parameters(), *value.buffers()))
    if isinstance(value, dict):
        return any(_holds_ours(item, depth - 1) for item in _copy(value).values())
    if isinstance(value, (list, set, deque)):
        return any(_holds_ours(item, depth - 1) for item in _copy(value))
    if isinstance(value, (tuple, frozenset)):
        return any(_holds_ours(item, depth - 1) for item in tuple(value))
    state = getattr(value, "__dict__", None)
    return type(state) is dict and _is_users(type(value).__module__) and _holds_ours(state, depth - 1)


def _find_namespaces(names: set[str]) -> tuple[list[dict[str, Any]], list[_Library]]:
    """Return the globals of modules by name, and what is kept in the modules whose functions and classes they use.

    Returns:
        Those named, with what is written beside them; and what is kept in modules of installed packages: in these, in
        those that they use, in those that these use in their own package, and so on.
    """
    known = _found.get(key := tuple(sorted(names)))
    if known is not None and all(len(namespace) == size for namespace, size in known.sizes):
        return known.near, known.far
    near = dict.fromkeys(sorted(names))
    far: dict[str, None] = {}
    for name in list(near):
        far.update(dict.fromkeys(_list_used(vars(sys.modules[name])) if name in sys.modules else ()))
    for name in [name for name in far if name in sys.modules and _is_users(name) and name not in near]:
        if not str(getattr(sys.modules[name], "__file__", "")).startswith(_INSTALLED):
            near[name] = None
    libraries: dict[str, _Library] = {}
    sizes: dict[str, int] = {}
    packages = {name.partition(".")[0] for name in (*near, *far)}
    work = deque([*near, *far])
    while work and len(sizes) < _MOST_MODULES:
        name = work.popleft()
        if name in sizes or name not in sys.modules or not _is_users(name):
            continue
        sizes[name] = len(vars(sys.modules[name]))
        if str(getattr(sys.modules[name], "__file__", "")).startswith(_INSTALLED):
            used = (library := _read_library(name)).used
            libraries[name] = library
        else:  # what the user's own modules hold is not to be kept alive here
            used = _list_used(vars(sys.modules[name]))
        work += [inner for inner in used if inner.partition(".")[0] in packages]
    found = _found[key] = _Found(
        [vars(sys.modules[name]) for name in near if name in sys.modules],
        list(libraries.values()),
        [(vars(sys.modules[name]), size) for name, size in sizes.items()],
    )
    return found.near, found.far


_INSTALLED = tuple(sysconfig.get_paths()[key] + os.sep for key in ("purelib", "platlib", "stdlib"))
#: Most modules that are looked into.
_MOST_MODULES = 250


class _Library(NamedTuple):
    """What functions of a module may keep things in.

    Attributes:
        size: How many globals it had when it was read; it is read again when it has grown.
        caches: Its ``lru_cache``d functions.
        tables: Dicts, lists and sets among its globals, on its classes, and closed over by its functions.
        used: The modules whose functions, classes and globals it uses.
    """

    size: int
    caches: list[Any]
    tables: list[Any]
    used: list[str]


_libraries: dict[str, _Library] = {}


class _Found(NamedTuple):
    """What was found last time, and the sizes of all namespaces that were looked into for it."""

    near: list[dict[str, Any]]
    far: list[_Library]
    sizes: list[tuple[dict[str, Any], int]]


_found: dict[tuple[str, ...], _Found] = {}


def _read_library(name: str) -> _Library:
    namespace = vars(sys.modules[name])
    known = _libraries.get(name)
    if known is not None and known.size == len(namespace):
        return known
    cells: dict[int, types.CellType] = {}
    values = list(namespace.values())
    own = [value for value in values if isinstance(value, type) and value.__module__ == name]
    values += [_unwrap(inner) for kind in own for inner in list(vars(kind).values())]
    for value in values:
        _collect_cells(value, cells)
    values += [cell.cell_contents for cell in cells.values()]
    distinct = list({id(value): value for value in values}.values())
    caches = [value for value in distinct if type(value) is _LRU_CACHE]
    tables = [value for value in distinct if type(value) in _TABLES and value is not namespace.get("__builtins__")]
    library = _libraries[name] = _Library(len(namespace), caches, tables, _list_used(namespace))
    return library


_TABLES = (dict, list, set, OrderedDict, defaultdict)


def _list_used(namespace: dict[str, Any]) -> list[str]:
    """Name the modules that a module imported, or whose functions and classes it has."""
    used: dict[str, None] = {}
    for value in list(namespace.values()):
        if isinstance(value, types.ModuleType):
            used[value.__name__] = None
        elif isinstance(value, (types.FunctionType, type, _LRU_CACHE)):
            used[value.__module__] = None
    return [name for name in used if name in sys.modules]


def _is_users(module_name: str | None) -> bool:
    return isinstance(module_name, str) and (module_name == "__main__" or module_name.partition(".")[0] not in _FOREIGN)


def _unwrap(value: Any) -> Any:
    """Return the function behind a static method, a class method or a property."""
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    return value.fget if type(value) is property else value


def _collect_cells(function: Any, seen: dict[int, types.CellType]) -> dict[int, types.CellType]:
    """Add the filled cells of a function, and of the functions in these, by ``id``; the same dict comes back."""
    for cell in (function.__closure__ or ()) if type(function) is types.FunctionType else ():
        if id(cell) not in seen:
            with contextlib.suppress(ValueError):  # a cell that is still empty
                content = cell.cell_contents
                seen[id(cell)] = cell
                _collect_cells(content, seen)
    return seen


def _bypass(cached: Any) -> Callable[..., Any]:
    """Let a cached function that is called in a trace remember what it gave in this one alone."""
    own = functools.lru_cache(**cached.cache_parameters())(cached.__wrapped__)

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
