"""Which of its attributes a module's forward can read, from the names in its code: what no line reads was forgotten."""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from modelsummary_ipy.model.class_cache import once_a_class

#: Who uses one of these may reach any attribute by its name.
_DYNAMIC = frozenset(
    {"getattr", "children", "named_children", "modules", "named_modules", "_modules", "__dict__", "vars", "eval",
     "exec", "get_submodule", "get_parameter", "globals", "locals"}
)  # fmt: skip
_COMPARE = dis.opmap["COMPARE_OP"]
#: Methods that set a module up or write it down: what only they read takes no part in a forward.
_SETTING_UP = ("init", "reset_param", "load", "save", "extra_repr", "__repr__", "freeze", "state_dict")


@dataclass(frozen=True)
class AttributeReads:
    """What a class's code reads.

    Attributes:
        forward: Names that its forward, and every method that it leads to, mentions; ``None`` if it looks attributes up
            by name, or is not written in Python.
        elsewhere: Names that its other methods mention, those that set it up aside.
        bounds: Integers in the code of its forward, and of every method that it leads to, if that compares two numbers,
            takes the smaller one, or rounds; ``None`` if it does nothing of that.
    """

    forward: frozenset[str] | None
    elsewhere: frozenset[str]
    bounds: frozenset[int] | None = None


@once_a_class
def find_reads(cls: type, base: type) -> AttributeReads:
    """Find what the code of a class reads.

    Args:
        base: Where its own code ends: ``nn.Module``.
    """
    methods: dict[str, list[CodeType]] = {}
    for owner in cls.__mro__:
        if owner is base or owner is object:
            continue
        for name, value in vars(owner).items():
            above = methods.get(name)
            if above is None or any("super" in code.co_names for code in above):  # else it is overridden
                methods.setdefault(name, []).extend(_find_code(value))
    reached: set[str] = set()
    bounds: set[int] | None = None
    todo, seen = ["forward", "__call__"], {"forward", "__call__"}
    while todo:
        for code in methods.get(todo.pop(), ()):
            if (found := _find_bounds(code)) is not None:
                bounds = (bounds or set()) | found
            for name in _list_names(code):
                reached.add(name)
                if name in methods and name not in seen:
                    seen.add(name)
                    todo.append(name)
    others = {
        name
        for name, codes in methods.items()
        if name not in seen and not any(part in name for part in _SETTING_UP)
        for code in codes
        for name in _list_names(code)
    }
    unknown = not methods.get("forward") or bool(reached & _DYNAMIC)
    return AttributeReads(
        None if unknown else frozenset(reached), frozenset(others), None if bounds is None else frozenset(bounds)
    )


def _find_code(value: Any) -> list[CodeType]:
    """Find the code of a function, also under decorators, properties and static methods."""
    if isinstance(value, property):
        return [code for function in (value.fget, value.fset) for code in _find_code(function)]
    if isinstance(value, (staticmethod, classmethod)):
        return _find_code(value.__func__)
    if isinstance(value, functools.cached_property):
        return _find_code(value.func)
    if isinstance(value, functools.partialmethod):
        return _find_code(value.func)
    if not isinstance(value, FunctionType):
        return []
    found = [value.__code__]
    if hasattr(value, "__wrapped__"):
        found += _find_code(value.__wrapped__)
    for cell in value.__closure__ or ():
        try:
            inner = cell.cell_contents
        except ValueError:  # a cell that is still empty
            continue
        if isinstance(inner, FunctionType) and inner is not value:
            found.append(inner.__code__)
    return found


def walk_code(code: CodeType) -> Iterator[CodeType]:
    """Yield code and that of the functions nested in it, each before what is in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from walk_code(constant)


#: Functions whose result is one number over many sizes, and another one elsewhere.
_CHOOSING = frozenset({"min", "max", "int", "round", "ceil", "floor", "log2", "log", "bit_length"})


def _find_bounds(code: CodeType) -> set[int] | None:
    """Return the integers in code that compares two numbers, takes the smaller one or rounds; ``None`` of others."""
    found: set[int] | None = None
    for inner in walk_code(code):
        if not _ORDERS.isdisjoint(_list_compares(inner)) or not _CHOOSING.isdisjoint(inner.co_names):
            found = (found or set()) | {number for number in inner.co_consts if type(number) is int}
    return found


def _list_compares(code: CodeType) -> Iterator[int]:
    """Yield the arguments of the comparisons in code, as the bytes have them: ``dis`` takes 50 times as long."""
    steps = code.co_code
    place = steps.find(_COMPARE)
    while place >= 0:
        if place % 2 == 0:
            yield steps[place + 1]
        place = steps.find(_COMPARE, place + 1)


#: What these arguments are where sizes are ordered: of a value, and of a condition, which newer releases mark.
_ORDERS = frozenset(
    argument
    for sign in ("<", "<=", ">", ">=")
    for text in (f"one {sign} two", f"0 if one {sign} two else 1")
    for argument in _list_compares(compile(text, "", "eval"))
)


def _list_names(code: CodeType) -> Iterator[str]:
    """Every name in code, and every text that could be one, nested functions included."""
    for inner in walk_code(code):
        yield from inner.co_names
        yield from (text for text in inner.co_consts if isinstance(text, str) and text.isidentifier())
