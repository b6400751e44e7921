"""Modules whose globals and caches a forward can reach: the user's own, and installed ones that these use."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections import OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

from modelsummary_ipy.records.packages import INSTALLED, find_file

#: Packages whose globals no user's forward writes to, besides Python's own.
_FOREIGN = frozenset(sys.stdlib_module_names) | {
    "IPython", "ipykernel", "ipywidgets", "matplotlib", "modelsummary_ipy", "numpy", "pandas", "scipy", "sympy",
    "torch", "traitlets",
}  # fmt: skip
LRU_CACHE = type(functools.lru_cache(len))
#: Most modules that are looked into.
_MOST_MODULES = 250


class Library(NamedTuple):
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


_libraries: dict[str, Library] = {}


class _Found(NamedTuple):
    """What was found last time, and the sizes of all namespaces that were looked into for it."""

    near: list[dict[str, Any]]
    far: list[Library]
    sizes: list[tuple[dict[str, Any], int]]


_found: dict[tuple[str, ...], _Found] = {}


def _read_library(name: str) -> Library:
    namespace = vars(sys.modules[name])
    known = _libraries.get(name)
    if known is not None and known.size == len(namespace):
        return known
    cells: dict[int, types.CellType] = {}
    values = list(namespace.values())
    own = [value for value in values if isinstance(value, type) and value.__module__ == name]
    values += [unwrap(inner) for kind in own for inner in list(vars(kind).values())]
    for value in values:
        collect_cells(value, cells)
    values += [cell.cell_contents for cell in cells.values()]
    distinct = list({id(value): value for value in values}.values())
    caches = [value for value in distinct if type(value) is LRU_CACHE]
    tables = [value for value in distinct if type(value) in _TABLES and value is not namespace.get("__builtins__")]
    library = _libraries[name] = Library(len(namespace), caches, tables, _list_used(namespace))
    return library


_TABLES = (dict, list, set, OrderedDict, defaultdict)


def find_namespaces(names: set[str]) -> tuple[list[dict[str, Any]], list[Library]]:
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
    for name in [name for name in far if name in sys.modules and is_users_module(name) and name not in near]:
        if not find_file(name).startswith(INSTALLED):
            near[name] = None
    libraries: dict[str, Library] = {}
    sizes: dict[str, int] = {}
    packages = {name.partition(".")[0] for name in (*near, *far)}
    work = deque([*near, *far])
    while work and len(sizes) < _MOST_MODULES:
        name = work.popleft()
        if name in sizes or name not in sys.modules or not is_users_module(name):
            continue
        sizes[name] = len(vars(sys.modules[name]))
        if find_file(name).startswith(INSTALLED):
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


def _list_used(namespace: dict[str, Any]) -> list[str]:
    """Name the modules that a module imported, or whose functions and classes it has."""
    used: dict[str, None] = {}
    for value in list(namespace.values()):
        if isinstance(value, types.ModuleType):
            used[value.__name__] = None
        elif isinstance(value, (types.FunctionType, type, LRU_CACHE)):
            used[value.__module__] = None
    return [name for name in used if name in sys.modules]


def is_users_module(module_name: str | None) -> bool:
    """Return whether a forward may write to the globals of a module."""
    return isinstance(module_name, str) and (module_name == "__main__" or module_name.partition(".")[0] not in _FOREIGN)


def unwrap(value: Any) -> Any:
    """Return the function behind a static method, a class method or a property."""
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    return value.fget if type(value) is property else value


def collect_cells(function: Any, seen: dict[int, types.CellType]) -> dict[int, types.CellType]:
    """Add the filled cells of a function, and of the functions in these, by ``id``; the same dict comes back."""
    for cell in (function.__closure__ or ()) if type(function) is types.FunctionType else ():
        if id(cell) not in seen:
            with contextlib.suppress(ValueError):  # a cell that is still empty
                content = cell.cell_contents
                seen[id(cell)] = cell
                collect_cells(content, seen)
    return seen
