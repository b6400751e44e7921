"""A model's module tree as facts: every module and parameter once, by identity, whatever its names."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType, MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.facts import ModuleFact, ParamFact
from modelsummary_ipy.leaves import name_device, name_dtype
from modelsummary_ipy.reads import find_reads

__all__ = ["ModuleTree", "read_params", "read_tree"]

#: Attributes every module has, which say nothing of what it does.
_MACHINERY = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
_ATOMS = (bool, int, float, str, type(None))
_MAX_SEARCH = 4
_MAX_ITEMS = 10_000


class ModuleTree:
    """The facts of a model's modules and parameters, and which object each of them is.

    Attributes:
        modules: Facts by index; 0 is the model.
        params: Facts by index.
        module_index: Index by ``id`` of the module.
        param_index: Index by ``id`` of the parameter or buffer.
        objects: The modules themselves, by index. Dropped by whoever holds the tree longer than a trace.
        tensors: The parameters and buffers themselves, by index.
    """

    def __init__(self) -> None:
        self.modules: list[ModuleFact] = []
        self.params: list[ParamFact] = []
        self.module_index: dict[int, int] = {}
        self.param_index: dict[int, int] = {}
        self.objects: list[nn.Module] = []
        self.tensors: list[Tensor] = []


def read_tree(model: nn.Module) -> ModuleTree:
    """Read every module of ``model`` and every parameter and buffer, registered or kept in plain containers."""
    tree = ModuleTree()
    paths: list[list[str]] = []
    parents: list[int | None] = []
    found: list[str] = []
    own_tensors: list[list[tuple[str, Tensor, str]]] = []

    def visit(module: nn.Module, path: str | None, where: str, parent: int | None, above: frozenset[int]) -> None:
        index = tree.module_index.get(id(module))
        if index is None:
            index = tree.module_index[id(module)] = len(tree.objects)
            tree.objects.append(module)
            paths.append([])
            parents.append(parent)
            found.append(where if path is None else "")
            own_tensors.append(_own_tensors(module))
        if path is not None:
            paths[index].append(path)
        if id(module) in above:  # a module that registers itself
            return
        above |= {id(module)}
        for name, inner_module in list(module._modules.items()):
            if inner_module is not None:
                inner = name if not (path or where) else f"{path or where}.{name}"
                visit(inner_module, None if path is None else inner, inner, index, above)

    visit(model, "", "", None, frozenset())
    registered = len(tree.objects)
    seen: set[int] = set()
    for index in range(registered):
        for name, child in _find_unregistered(tree.objects[index], seen):
            if id(child) not in tree.module_index:
                base = paths[index][0]
                visit(child, None, f"{base}.{name}" if base else name, index, frozenset())

    _number_params(tree, paths, own_tensors)
    unregistered = _number_loose(tree)
    children: list[dict[int, None]] = [{} for _ in tree.objects]  # ordered sets
    for index, module in enumerate(tree.objects):
        for registered_child in list(module._modules.values()):
            if registered_child is not None:
                children[index][tree.module_index[id(registered_child)]] = None
    for index, module in enumerate(tree.objects):
        own = tuple(dict.fromkeys(tree.param_index[id(tensor)] for _, tensor, _ in own_tensors[index]))
        loose = tuple((place, tree.param_index[id(tensor)]) for place, tensor in unregistered[index])
        tree.modules.append(
            _read_module(
                module, index, tuple(paths[index]), parents[index], tuple(children[index]), own, found[index], loose
            )
        )
    return tree


def _own_tensors(module: nn.Module) -> list[tuple[str, Tensor, str]]:
    """Return ``(name, tensor, kind)`` of what is registered directly on ``module``; ScriptModules keep it in C++."""
    params: list[tuple[str, Any]]
    buffers: list[tuple[str, Any]]
    if isinstance(module, torch.jit.ScriptModule):
        params, buffers = list(module.named_parameters(recurse=False)), list(module.named_buffers(recurse=False))
    else:
        params, buffers = list(module._parameters.items()), list(module._buffers.items())
    own = [(name, tensor, "parameter") for name, tensor in params if tensor is not None]
    return own + [(name, tensor, "buffer") for name, tensor in buffers if tensor is not None]


def _number_params(tree: ModuleTree, paths: list[list[str]], own: list[list[tuple[str, Tensor, str]]]) -> None:
    names: list[list[str]] = []
    kinds: list[str] = []
    for index, tensors in enumerate(own):
        for name, tensor, kind in tensors:
            number = tree.param_index.get(id(tensor))
            if number is None:
                number = tree.param_index[id(tensor)] = len(tree.tensors)
                tree.tensors.append(tensor)
                names.append([])
                kinds.append(kind)
            names[number] += [f"{path}.{name}" if path else name for path in paths[index]]
    left: dict[int, int] = {}
    for number, tensor in enumerate(tree.tensors):
        tree.params.append(_read_param(tensor, number, tuple(names[number]), kinds[number], left))


def _number_loose(tree: ModuleTree) -> list[list[tuple[str, Tensor]]]:
    """Number the trainable tensors that modules keep in plain lists and dicts, after all others; per module, where."""
    found: list[list[tuple[str, Tensor]]] = []
    left: dict[int, int] = {}
    for module in tree.objects:
        own: list[tuple[str, Tensor]] = []
        for name, value in list(vars(module).items()):
            if name in _MACHINERY or isinstance(value, (*_ATOMS, nn.Module)):
                continue
            own += [(place, tensor) for place, tensor in _find_trainable(value, name, 0)]
        for _, tensor in own:
            if id(tensor) not in tree.param_index:
                tree.param_index[id(tensor)] = len(tree.tensors)
                tree.tensors.append(tensor)
                tree.params.append(_read_param(tensor, len(tree.params), (), "parameter", left))
        found.append([(place, tensor) for place, tensor in own if not tree.params[tree.param_index[id(tensor)]].names])
    return found


def _find_trainable(value: Any, name: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        if value.requires_grad and value.is_leaf:
            yield name, value
    elif depth < 2 and isinstance(value, Mapping):
        for key, item in itertools.islice(list(value.items()), _MAX_ITEMS):
            yield from _find_trainable(item, f"{name}[{key!r}]", depth + 1)
    elif depth < 2 and isinstance(value, (list, tuple)):
        for index, item in enumerate(value[:_MAX_ITEMS]):
            yield from _find_trainable(item, f"{name}[{index}]", depth + 1)


def _read_param(tensor: Tensor, index: int, names: tuple[str, ...], kind: Any, left: dict[int, int]) -> ParamFact:
    dtype, device, trainable = name_dtype(tensor.dtype), name_device(tensor.device), bool(tensor.requires_grad)
    if isinstance(tensor, UninitializedTensorMixin):
        return ParamFact(index, names, (), dtype, device, 0, 0, trainable, kind, lazy=True)
    num = tensor.numel()
    return ParamFact(index, names, tuple(tensor.shape), dtype, device, num, _read_bytes(tensor, left), trainable, kind)


def _read_bytes(tensor: Tensor, left: dict[int, int]) -> int:
    """Read the bytes a tensor really takes: an expanded view no more than its storage, a packed one what it packs.

    Args:
        tensor: A parameter or buffer.
        left: Bytes of each storage that no tensor has been given yet, by address; what two tensors share counts once.
    """
    size = int(tensor.numel()) * int(tensor.element_size())
    if type(tensor) not in _PLAIN and hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(_read_bytes(getattr(tensor, name), left) for name in names)
    if tensor.layout != torch.strided or type(tensor) not in _PLAIN:
        return size
    storage = tensor.untyped_storage()
    rest = left.get(storage._cdata)
    if rest is None:
        rest = int(storage.nbytes())
    taken = min(size, rest)
    left[storage._cdata] = rest - taken
    return taken


_PLAIN = (Tensor, nn.Parameter, nn.Buffer)


def read_params(params: Sequence[ParamFact], tensors: Mapping[int, Tensor]) -> list[ParamFact]:
    """Read again the parameters that were lazy, from the tensors that the shadow made of them, by index."""
    return [
        _read_param(tensors[fact.index], fact.index, fact.names, fact.kind, {})
        if fact.lazy and fact.index in tensors
        else fact
        for fact in params
    ]


def _read_module(
    module: nn.Module,
    index: int,
    paths: tuple[str, ...],
    parent: int | None,
    children: tuple[int, ...],
    params: tuple[int, ...],
    found: str,
    loose: tuple[tuple[str, int], ...],
) -> ModuleFact:
    cls = type(module)
    code = _find_forward(cls)  # type: ignore[arg-type]  # classes have a hash, whatever their instances say
    # Who is a container of its own reaches its children by their index.
    indexes = isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Sequential))
    reads = find_reads(cls, nn.Module) if code is not None and not indexes else None  # type: ignore[arg-type]  # as above
    return ModuleFact(
        index=index,
        paths=paths,
        type_name=_name_type(module),
        type_module=cls.__module__,
        parent=parent,
        children=children,
        params=params,
        settings=_read_settings(module),
        extra_repr=_read_extra_repr(module),
        training=bool(module.training),
        found=found,
        lazy=any(isinstance(p, UninitializedTensorMixin) for p in list(module._parameters.values())),
        loose=loose,
        reads=reads.forward if reads is not None else None,
        reads_elsewhere=reads.elsewhere if reads is not None else frozenset(),
        forward_file=code.co_filename if code else "",
        forward_line=code.co_firstlineno if code else 0,
    )


@functools.lru_cache(maxsize=4096)
def _find_forward(cls: type[nn.Module]) -> CodeType | None:
    """Return the code of the forward that a person wrote, under its decorators; ``None`` if it is compiled."""
    try:
        code = getattr(inspect.unwrap(cls.forward), "__code__", None)
    except Exception:  # noqa: BLE001  # a ScriptModule's forward answers attribute lookups with errors of its own
        return None
    return code if isinstance(code, CodeType) else None


def _name_type(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(getattr(module, "original_name", type(module).__name__))
    return type(module).__name__


def _read_settings(module: nn.Module) -> Mapping[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in list(vars(module).items()):
        if name in _MACHINERY or name.startswith("_"):
            continue
        if isinstance(value, _ATOMS):
            settings[name] = value
        elif isinstance(value, (tuple, list)) and len(value) <= 8 and all(isinstance(v, _ATOMS) for v in value):
            settings[name] = tuple(value)
        elif isinstance(value, (torch.dtype, torch.device)):
            settings[name] = str(value).removeprefix("torch.")
    if isinstance(module, nn.modules.conv._ConvNd):
        settings["transposed"] = bool(getattr(module, "transposed", False))
    return MappingProxyType(settings)


def _read_extra_repr(module: nn.Module) -> str:
    try:
        return str(module.extra_repr())
    except Exception:  # noqa: BLE001  # a user's own repr may need what is not there yet; it is decoration here
        return ""


def _find_unregistered(module: nn.Module, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Find modules kept in a module's plain lists, dicts, tuples and objects, with the text that reaches them.

    Args:
        module: Where to look.
        seen: ``id`` of every container looked into so far: a config that 200 layers share is read once.
    """
    for name, value in list(vars(module).items()):
        if name not in _MACHINERY and not isinstance(value, _ATOMS):
            yield from _search(value, name, 0, seen)


def _search(value: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(value, nn.Module):
        yield name, value
        return
    if depth >= _MAX_SEARCH or isinstance(value, (*_ATOMS, Tensor, type)) or id(value) in seen:
        return
    seen.add(id(value))
    for suffix, item, steps in _contents(value):
        if not isinstance(item, _ATOMS):
            yield from _search(item, name + suffix, depth + steps, seen)


def _contents(value: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield what a container, a function or a plain object holds: how it is reached, itself, how deep that counts."""
    if isinstance(value, Mapping):
        for key, item in itertools.islice(list(value.items()), _MAX_ITEMS):
            yield f"[{key!r}]", item, 1
    elif isinstance(value, (list, tuple, deque)):
        for index, item in enumerate(list(itertools.islice(value, _MAX_ITEMS))):
            yield f"[{index}]", item, 1
    elif isinstance(value, FunctionType):
        for free, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # a cell that is still empty
                yield f".{free}", cell.cell_contents, 1
    elif isinstance(value, functools.partial):
        yield ".func", value.func, 1
        yield ".args", value.args, 1
    elif type(value).__module__ not in ("builtins", "logging", "threading", "weakref"):
        for key, item in list(getattr(value, "__dict__", {}).items()):
            if not key.startswith("__"):
                yield f".{key}", item, 2
        for kind in type(value).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else tuple(slots):
                with contextlib.suppress(AttributeError):  # a slot that was never filled
                    if not slot.startswith("__"):
                        yield f".{slot}", object.__getattribute__(value, slot), 2
