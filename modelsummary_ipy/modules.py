"""A model's module tree as facts: every module and parameter once, by identity, whatever its names."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType, MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.facts import ModuleFact, ParamFact
from modelsummary_ipy.looks import Look, find_look, is_plain
from modelsummary_ipy.reads import find_reads

__all__ = ["LayerKind", "ModuleTree", "read_params", "read_tree"]

#: Attributes every module has, which say nothing of what it does.
_MACHINERY = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
_ATOMS = (bool, int, float, str, type(None))
_ATOM_TYPES = frozenset(_ATOMS)
#: What else tells how a module is set up, as far as it holds nothing but atoms.
_SETTING_TYPES = (*_ATOMS, tuple, list, torch.dtype, torch.device)
_MAX_SETTING = 8
_MAX_SEARCH = 4
_MAX_ITEMS = 10_000


class LayerKind:
    """What torch's layers that are set up alike have in common: all but their weights and their mode.

    Attributes:
        attributes: What one has besides weights, mode and what every module has: numbers, strings and tuples of these.
        length: How many attributes it has, with those that every module has.
        settings, extra_repr: As ``ModuleFact`` has them.
    """

    __slots__ = ("attributes", "extra_repr", "length", "settings")

    def __init__(self, attributes: dict[str, Any], length: int, settings: Mapping[str, Any], extra_repr: str) -> None:
        self.attributes = attributes
        self.length = length
        self.settings = settings
        self.extra_repr = extra_repr


class ModuleTree:
    """The facts of a model's modules and parameters, and which object each of them is.

    Attributes:
        modules: Facts by index; 0 is the model.
        params: Facts by index.
        module_index: Index by ``id`` of the module.
        param_index: Index by ``id`` of the parameter or buffer.
        objects: The modules themselves, by index. Dropped by whoever holds the tree longer than a trace.
        tensors: The parameters and buffers themselves, by index.
        looks: What each of them looks like, by index.
        kinds: What a layer of torch's has in common with those like it, by index; ``None`` for any other module.
    """

    def __init__(self) -> None:
        self.modules: list[ModuleFact] = []
        self.params: list[ParamFact] = []
        self.module_index: dict[int, int] = {}
        self.param_index: dict[int, int] = {}
        self.objects: list[nn.Module] = []
        self.tensors: list[Tensor] = []
        self.looks: list[Look] = []
        self.kinds: list[LayerKind | None] = []


def read_tree(model: nn.Module) -> ModuleTree:
    """Read every module of ``model`` and every parameter and buffer, registered or kept in plain containers."""
    tree = ModuleTree()
    found: list[_Found] = []
    _visit(tree, found, model, "", "", None)
    seen: set[int] = set()
    for one in found[:]:
        for name, child in _find_unregistered(one.others, seen):
            if id(child) not in tree.module_index:
                base = one.paths[0]
                _visit(tree, found, child, None, f"{base}.{name}" if base else name, tree.module_index[id(one.module)])
    _number_params(tree, found)
    unregistered = _number_loose(tree, found)
    number_of = tree.param_index
    for index, one in enumerate(found):
        own = tuple([number_of[id(tensor)] for _, tensor, _ in one.tensors])
        kept = unregistered.get(index, ())
        loose = tuple((place, number_of[id(tensor)]) for place, tensor in kept) if kept else ()
        kind = _find_kind(one)
        tree.kinds.append(kind)
        tree.modules.append(_read_module(tree, one, kind, index, own if len(own) < 2 else _unique(own), loose))
    return tree


def _unique(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(values))


def _visit(
    tree: ModuleTree, found: list[_Found], module: nn.Module, path: str | None, where: str, parent: int | None
) -> None:
    """Meet a module and all that it registers, parents first.

    Args:
        tree: Gets the modules and their numbers.
        found: Gets what is known of each.
        module: Where to begin.
        path: What it is registered under; ``None`` if it is not.
        where: How it is reached if it is not registered.
        parent: The number of the module that it was met in.
    """
    index_of = tree.module_index
    work: list[tuple[nn.Module, str | None, str, int | None, frozenset[int]]] = [
        (module, path, where, parent, frozenset())
    ]
    while work:
        module, path, where, parent, above = work.pop()
        index = index_of.get(id(module))
        if index is None:
            index = index_of[id(module)] = len(found)
            tree.objects.append(module)
            found.append(_Found(module, where if path is None else "", parent))
        if path is not None:
            found[index].paths.append(path)
        if not module._modules or id(module) in above:  # one that registers itself is met once
            continue
        above |= {id(module)}
        base = f"{path or where}." if path or where else ""
        for name, inner in reversed(list(module._modules.items())):
            if inner is not None:
                work.append((inner, None if path is None else base + name, base + name, index, above))


class _Found:
    """A module that was met, and what it has besides what every module has.

    Attributes:
        module: Itself.
        paths: What it is registered under.
        where: How it is reached if it is not registered.
        parent: The number of the module that it was met in first.
        tensors: ``(name, tensor, kind)`` of what is registered directly on it.
        plain: Its numbers, strings, ``None`` and short tuples of these, by name.
        others: Everything else that may hold a tensor or a module, by name.
        key: Equal for modules that say the same of themselves; ``None`` where that may depend on more.
    """

    __slots__ = ("key", "module", "others", "parent", "paths", "plain", "tensors", "where")

    def __init__(self, module: nn.Module, where: str, parent: int | None) -> None:
        self.module = module
        self.where = where
        self.parent = parent
        self.paths: list[str] = []
        self.tensors = _own_tensors(module)
        self.plain: dict[str, Any] = {}
        self.others: list[tuple[str, Any]] = []
        cls = type(module)
        key: list[Any] | None = [cls] if _is_torchs_layer(cls) else None  # type: ignore[arg-type]  # as everywhere
        for name, value in [item for item in list(vars(module).items()) if item[0] not in _MACHINERY]:
            kind = type(value)
            if kind in _ATOM_TYPES:
                self.plain[name] = value
                if key is not None:
                    key += (name, kind, repr(value) if kind is float else value)  # -0.0 equals 0.0 and reads otherwise
                continue
            if kind is tuple and len(value) <= _MAX_SETTING and _ATOM_TYPES.issuperset(kinds := [*map(type, value)]):
                if key is not None:
                    key += (name, *kinds, repr(value) if float in kinds else value)
            else:
                self.others.append((name, value))
                key = None
                if not isinstance(value, _SETTING_TYPES):
                    continue
            self.plain[name] = value
        if key is not None:
            key += module._parameters
            key += module._buffers
            key += [param is None for param in module._parameters.values()]
        self.key = None if key is None else tuple(key)


@functools.lru_cache(maxsize=1024)
def _is_torchs_layer(cls: type[nn.Module]) -> bool:
    """Tell whether a class is one of torch's layers, whose ``repr`` tells of their settings and nothing else."""
    name = cls.__module__
    return (
        name.startswith("torch.nn.modules.")
        and name != "torch.nn.modules.container"  # a list of parameters tells of their sizes
        and not issubclass(cls, LazyModuleMixin)
        and getattr(sys.modules.get(name), cls.__name__, None) is cls
    )


def _own_tensors(module: nn.Module) -> list[tuple[str, Tensor, str]]:
    """Return ``(name, tensor, kind)`` of what is registered directly on ``module``; ScriptModules keep it in C++."""
    params: Any = module._parameters
    buffers: Any = module._buffers
    if isinstance(module, torch.jit.ScriptModule):
        params, buffers = dict(module.named_parameters(recurse=False)), dict(module.named_buffers(recurse=False))
    own = [(name, tensor, "parameter") for name, tensor in list(params.items()) if tensor is not None]
    if buffers:
        own += [(name, tensor, "buffer") for name, tensor in list(buffers.items()) if tensor is not None]
    return own


def _number_params(tree: ModuleTree, found: list[_Found]) -> None:
    number_of, tensors = tree.param_index, tree.tensors
    names: list[list[str]] = []
    kinds: list[str] = []
    for one in found:
        if not one.tensors:
            continue
        bases = [f"{path}." if path else "" for path in one.paths]
        for name, tensor, kind in one.tensors:
            number = number_of.get(id(tensor))
            if number is None:
                number_of[id(tensor)] = len(tensors)
                tensors.append(tensor)
                names.append([base + name for base in bases])
                kinds.append(kind)
            else:
                names[number] += [base + name for base in bases]
    left: dict[int, int] = {}
    for number, tensor in enumerate(tensors):
        look = _look_at(tensor)
        tree.looks.append(look)
        tree.params.append(_read_param(tensor, number, tuple(names[number]), kinds[number], left, look))


def _number_loose(tree: ModuleTree, found: list[_Found]) -> dict[int, list[tuple[str, Tensor]]]:
    """Number the trainable tensors that modules keep in plain lists and dicts, after all others; by module, where."""
    loose: dict[int, list[tuple[str, Tensor]]] = {}
    left: dict[int, int] = {}
    for index, one in enumerate(found):
        for name, value in one.others:
            for place, tensor in _find_trainable(value, name, 0):
                if id(tensor) not in tree.param_index:
                    tree.param_index[id(tensor)] = len(tree.tensors)
                    tree.tensors.append(tensor)
                    look = _look_at(tensor)
                    tree.looks.append(look)
                    tree.params.append(_read_param(tensor, len(tree.params), (), "parameter", left, look))
                if not tree.params[tree.param_index[id(tensor)]].names:
                    loose.setdefault(index, []).append((place, tensor))
    return loose


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


def _read_param(
    tensor: Tensor, index: int, names: tuple[str, ...], kind: Any, left: dict[int, int], look: Look
) -> ParamFact:
    num = look.num
    return ParamFact(
        index,
        names,
        look.shape,
        look.dtype_name,
        look.device_name,
        num,
        0 if look.size is None else _read_bytes(tensor, look.nbytes, left),
        look.requires_grad,
        kind,
        look.size is None,
    )


def _look_at(tensor: Tensor) -> Look:
    lazy = type(tensor) not in _PLAIN and isinstance(tensor, UninitializedTensorMixin)
    return find_look(tensor, lazy=lazy, plain=is_plain(tensor))


def _read_bytes(tensor: Tensor, size: int, left: dict[int, int]) -> int:
    """Read the bytes a tensor really takes: an expanded view no more than its storage, a packed one what it packs.

    Args:
        tensor: A parameter or buffer.
        size: The bytes of its elements, as if each were stored.
        left: Bytes of each storage that no tensor has been given yet, by address; what two tensors share counts once.
    """
    known = type(tensor) in _PLAIN
    if not known and hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        parts = [getattr(tensor, name) for name in names]
        return sum(_read_bytes(part, int(part.numel()) * part.itemsize, left) for part in parts)
    if not known or tensor.layout is not torch.strided:
        return size
    storage = tensor.untyped_storage()
    address = storage._cdata
    rest = left.get(address)
    if rest is None:
        rest = int(storage.nbytes())
    taken = min(size, rest)
    left[address] = rest - taken
    return taken


_PLAIN = frozenset({Tensor, nn.Parameter, nn.Buffer})


def read_params(params: Sequence[ParamFact], tensors: Mapping[int, Tensor]) -> list[ParamFact]:
    """Read again the parameters that were lazy, from the tensors that the shadow made of them, by index."""
    return [
        _read_param(tensor := tensors[fact.index], fact.index, fact.names, fact.kind, {}, _look_at(tensor))
        if fact.lazy and fact.index in tensors
        else fact
        for fact in params
    ]


def _read_module(
    tree: ModuleTree,
    found: _Found,
    kind: LayerKind | None,
    index: int,
    params: tuple[int, ...],
    loose: tuple[tuple[str, int], ...],
) -> ModuleFact:
    module = found.module
    words = _read_class(type(module))  # type: ignore[arg-type]  # classes have a hash, whatever their instances say
    inner = list(module._modules.values()) if module._modules else []
    return ModuleFact(
        index=index,
        paths=tuple(found.paths),
        type_name=_name_type(module) if kind is None else words.name,
        type_module=words.module,
        parent=found.parent,
        children=_unique(tuple(tree.module_index[id(child)] for child in inner if child is not None)) if inner else (),
        params=params,
        settings=_read_settings(found) if kind is None else kind.settings,
        extra_repr=_read_extra_repr(module) if kind is None else kind.extra_repr,
        training=bool(module.training),
        found=found.where,
        lazy=kind is None and any(isinstance(tensor, UninitializedTensorMixin) for _, tensor, _ in found.tensors),
        loose=loose,
        reads=words.reads,
        reads_elsewhere=words.reads_elsewhere,
        forward_file=words.file,
        forward_line=words.line,
    )


class _ClassWords(NamedTuple):
    """What every module of a class has in common, as ``ModuleFact`` has it."""

    name: str
    module: str
    reads: frozenset[str] | None
    reads_elsewhere: frozenset[str]
    file: str
    line: int


@functools.lru_cache(maxsize=4096)
def _read_class(cls: type[nn.Module]) -> _ClassWords:
    code = _find_forward(cls)
    file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
    # Who is a container of its own reaches its children by their index.
    if code is None or issubclass(cls, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
        return _ClassWords(cls.__name__, cls.__module__, None, frozenset(), file, line)
    reads = find_reads(cls, nn.Module)  # type: ignore[arg-type]  # as everywhere
    return _ClassWords(cls.__name__, cls.__module__, reads.forward, reads.elsewhere, file, line)


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


_kinds: dict[tuple[Any, ...], LayerKind] = {}
_MOST_KINDS = 10_000


def _find_kind(found: _Found) -> LayerKind | None:
    if found.key is None:
        return None
    kind = _kinds.get(found.key)
    if kind is None:
        if len(_kinds) > _MOST_KINDS:
            _kinds.clear()
        length = len(vars(found.module)) - ("_compiled_call_impl" in vars(found.module))
        kind = LayerKind(found.plain, length, _read_settings(found), _read_extra_repr(found.module))
        _kinds[found.key] = kind
    return kind


def _read_settings(found: _Found) -> Mapping[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in found.plain.items():
        if name.startswith("_"):
            continue
        if isinstance(value, _ATOMS):
            settings[name] = value
        elif isinstance(value, (tuple, list)):
            if len(value) <= _MAX_SETTING and all(isinstance(v, _ATOMS) for v in value):
                settings[name] = tuple(value)
        else:
            settings[name] = str(value).removeprefix("torch.")
    if isinstance(found.module, nn.modules.conv._ConvNd):
        settings["transposed"] = bool(getattr(found.module, "transposed", False))
    return MappingProxyType(settings)


#: Classes whose ``extra_repr`` was seen to draw no random numbers.
_drawing_nothing: weakref.WeakSet[type[nn.Module]] = weakref.WeakSet()


def _read_extra_repr(module: nn.Module) -> str:
    """Ask the user's own module to describe itself, unless it makes what it is asked for: a weight that is a sample."""
    kind = module.__class__  # of a proxy, the class of what it stands for
    if not str(getattr(kind.__getattr__, "__module__", "")).startswith("torch."):
        return ""
    before = None if kind in _drawing_nothing else torch.get_rng_state()
    try:
        return str(module.extra_repr())
    except Exception:  # noqa: BLE001  # a user's own repr may need what is not there yet; it is decoration here
        return ""
    finally:
        if before is not None:
            if torch.equal(torch.get_rng_state(), before):
                _drawing_nothing.add(kind)
            else:  # it describes what it makes of random tensors
                torch.set_rng_state(before)


def _find_unregistered(others: list[tuple[str, Any]], seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Find modules kept in a module's plain lists, dicts, tuples and objects, with the text that reaches them.

    Args:
        others: Where to look: what the module has besides numbers and strings.
        seen: ``id`` of every container looked into so far: a config that 200 layers share is read once.
    """
    for name, value in others:
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
