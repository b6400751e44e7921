"""What the forward of a module can read of it: its attributes and those of all in it, compared and watched."""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from modelsummary_ipy.isolation.namespaces import collect_cells, unwrap
from modelsummary_ipy.model.class_cache import once_a_class
from modelsummary_ipy.model.layer_spec import EMPTY, Offset
from modelsummary_ipy.records.trace import ParamFact
from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of

#: An attribute: the path of its module from the one that is described, and its name.
Place = tuple[str, str]
#: Per path and attribute, what it is, equal where no code can tell one from the other; without what is empty as usual.
State = dict[str, dict[str, Any]]

_NUMBERS = (bool, int, float, str, type(None))
_SHARED = (
    types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, torch.dtype, torch.device,
)  # fmt: skip


_MOST_NESTED = 4


class UnlikeError(Exception):
    """A module holds what can't be compared with what another one holds."""


class StateReader:
    """Reads what modules of one copy hold.

    Args:
        params: Facts of the model's parameters.
        param_of: Index of a parameter by ``id`` of its tensor.
    """

    def __init__(self, params: Sequence[ParamFact], param_of: Mapping[int, int]) -> None:
        self._params = params
        self._param_of = param_of
        self._shared: dict[int, tuple[Any, dict[str, Any]]] = {}  # a config, which all layers have

    def read(self, root: nn.Module) -> State:
        """Read what a module and all in it hold.

        Raises:
            UnlikeError: If it has scripts, modules that are not registered, or tensors that are no parameters.
        """
        found: State = {}
        todo: list[tuple[str, nn.Module]] = [("", root)]
        while todo:
            path, module = todo.pop()
            if isinstance(module, torch.jit.ScriptModule):
                raise UnlikeError
            held: dict[str, Any] = {"": type(module)}
            found[path] = held
            for name, value in list(vars(module).items()):
                if name in EMPTY and not value:
                    continue
                if name in ("_parameters", "_buffers"):
                    held[name] = [self._read_weight(key, item, value) for key, item in dict.items(value)]
                elif name == "_modules":
                    held[name] = [(key, child is None) for key, child in value.items()]
                    todo += [(f"{path}.{key}", child) for key, child in value.items() if child is not None]
                else:
                    held[name] = self._read_value(value, 0)
        return found

    def has_kept_shared(self) -> bool:
        """Return whether nothing was set on the objects that modules share."""
        return all(
            now.keys() == before.keys() and all(item is before[name] for name, item in now.items())
            for now, before in ((vars(value), before) for value, before in self._shared.values())
        )

    def _read_weight(self, name: str, weight: Any, store: Any) -> tuple[Any, ...]:
        if weight is None:
            return name, None
        number = store.first + weight if type(weight) is Offset else self._param_of.get(id(weight))
        is_known = isinstance(weight, FakeTensor) and constant_of(weight) is not None
        if number is None or number >= len(self._params) or is_known:  # its values may steer the forward
            raise UnlikeError
        fact = self._params[number]
        return name, fact.shape, fact.dtype, fact.device, fact.trainable, fact.kind

    def _read_value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in _NUMBERS:
            return kind, repr(value) if kind is float else value
        if kind in (tuple, list, set, frozenset, dict) and depth < _MOST_NESTED:
            items = [item for pair in value.items() for item in pair] if kind is dict else list(value)
            read = [self._read_value(item, depth + 1) for item in items]
            return kind, read if kind in (tuple, list, dict) else sorted(map(repr, read))
        if isinstance(value, _SHARED):
            return kind, id(value)
        if isinstance(value, (torch.Tensor, nn.Module)) or kind is types.MethodType or depth:
            raise UnlikeError
        state = getattr(value, "__dict__", None)
        if type(state) is dict and id(value) not in self._shared:
            self._shared[id(value)] = value, dict(state)
        return kind, id(value), None


def find_differences(one: State, two: State) -> frozenset[Place]:
    """Find in which numbers and words two modules differ.

    Raises:
        UnlikeError: If they differ in more.
    """
    if one.keys() != two.keys():
        raise UnlikeError
    places: list[Place] = []
    for path, mine in one.items():
        other = two[path]
        if mine != other:
            if mine.keys() != other.keys():
                raise UnlikeError
            places += [(path, name) for name, value in mine.items() if value != other[name]]
    values = [state[path][name] for path, name in places for state in (one, two)]
    if not all(isinstance(value, tuple) and value[0] in _NUMBERS for value in values):
        raise UnlikeError
    return frozenset(places)


class _Watched(dict[str, Any]):
    """Takes the place of a module's ``_buffers``, where torch looks for an attribute that the module has not."""

    __slots__ = ("hidden", "seen")

    def __init__(self, buffers: Mapping[str, Any]) -> None:
        super().__init__(buffers)
        self.hidden: dict[str, Any] = {}
        self.seen = False

    def __contains__(self, name: object) -> bool:
        return name in self.hidden or super().__contains__(name)

    def __missing__(self, name: str) -> Any:
        if name not in self.hidden:
            raise KeyError(name)
        self.seen = True
        return self.hidden[name]


def reads_watched(root: nn.Module, places: frozenset[Place]) -> AbstractContextManager[Callable[[], bool]]:
    """Return a block that watches whether attributes are read; it gives a function that says so.

    Raises:
        UnlikeError: If a class of theirs would tell that they are watched.
    """
    names: dict[nn.Module, list[str]] = {}
    for path, name in places:
        names.setdefault(root.get_submodule(path[1:]), []).append(name)
    for module, own in names.items():
        if type(vars(module)["_buffers"]) is not dict or not all(_may_hide(type(module), name) for name in own):
            raise UnlikeError
    return _watch(names)


@contextmanager
def _watch(names: Mapping[nn.Module, Sequence[str]]) -> Iterator[Callable[[], bool]]:
    watched: list[tuple[nn.Module, dict[str, Any], _Watched]] = []
    try:
        for module, own in names.items():
            state = vars(module)
            buffers = state["_buffers"]
            store = state["_buffers"] = _Watched(buffers)
            watched.append((module, buffers, store))
            for name in own:
                store.hidden[name] = state.pop(name)
        yield lambda: any(store.seen for _, _, store in watched)
    finally:
        for module, buffers, store in watched:
            buffers.clear()
            buffers.update(dict.items(store))
            vars(module)["_buffers"] = buffers
            vars(module).update(store.hidden)


@once_a_class
def _may_hide(kind: type[nn.Module], name: str) -> bool:
    """Return whether an attribute of an instance can be looked for elsewhere: its class has none of that name.

    Nor does a method write it, or look into ``__dict__``.
    """
    is_plain = (
        kind.__getattr__ is nn.Module.__getattr__
        and kind.__getattribute__ is object.__getattribute__
        and kind.__setattr__ is nn.Module.__setattr__
    )
    if not is_plain or hasattr(kind, name):
        return False
    own = kind.__mro__[: kind.__mro__.index(nn.Module)]
    values = [unwrap(value) for base in own for key, value in vars(base).items() if key != "__init__"]
    values += [cell.cell_contents for value in values for cell in collect_cells(value, {}).values()]
    codes = [value.__code__ for value in values if isinstance(value, types.FunctionType)]
    return not any(_writes(code, name) for code in codes)


def _writes(code: types.CodeType, name: str) -> bool:
    if not {"__dict__", "vars"}.isdisjoint(code.co_names):
        return True
    if name in code.co_names:
        for step in dis.get_instructions(code):
            if step.opname in ("STORE_ATTR", "DELETE_ATTR") and step.argval == name:
                return True
    return any(isinstance(inner, types.CodeType) and _writes(inner, name) for inner in code.co_consts)
