"""A model's module tree as facts: every module and parameter once, by identity, whatever its names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.model.attribute_reads import find_reads
from modelsummary_ipy.model.class_cache import once_a_class
from modelsummary_ipy.model.exported_graph import find_exported_types
from modelsummary_ipy.model.layer_spec import MACHINERY, LayerKind, LayerSpec, find_kind
from modelsummary_ipy.model.module_repr import ATOM_TYPES, is_short_tuple, read_config, read_extra_repr, read_settings
from modelsummary_ipy.model.packed_weights import read_packed
from modelsummary_ipy.model.tensor_meta import TensorMeta, read_meta
from modelsummary_ipy.model.unregistered import find_trainable, find_unregistered
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import ModuleFact, ParamFact
from modelsummary_ipy.torch_compat.distributed import count_mesh, is_sharded, local_part
from modelsummary_ipy.torch_compat.modules import COMPILED_STATE, storage_address

_NO_SETTINGS = MACHINERY | COMPILED_STATE


class ModuleTree:
    """The facts of a model's modules and parameters, and which object each of them is.

    Attributes:
        modules: Facts by index; 0 is the model.
        params: Facts by index.
        module_index: Index by ``id`` of the module.
        param_index: Index by ``id`` of the parameter or buffer.
        objects: The modules themselves, by index.
        tensors: The parameters and buffers themselves, by index.
        metas: Size, dtype and so on of each of them, by index.
        specs: The layers of torch's, by index; ``None`` for any other module.
    """

    def __init__(self) -> None:
        self.modules: list[ModuleFact] = []
        self.params: list[ParamFact] = []
        self.module_index: dict[int, int] = {}
        self.param_index: dict[int, int] = {}
        self.objects: list[nn.Module] = []
        self.tensors: list[Tensor] = []
        self.metas: list[TensorMeta] = []
        self.specs: list[LayerSpec | None] = []

    def forget_objects(self) -> None:
        """Let go of the modules and tensors and of their ``id``: facts outlive a trace, the user's model must not."""
        self.objects.clear()
        self.tensors.clear()
        self.module_index.clear()
        self.param_index.clear()


def read_tree(model: nn.Module) -> ModuleTree:
    """Read every module of ``model`` and every parameter and buffer, registered or kept in plain containers.

    Raises:
        InputError: If the ``__init__`` of one did not call torch's own.
    """
    tree = ModuleTree()
    found: list[_Found] = []
    _visit(tree, found, model, "", "", None)
    seen: set[int] = set()
    for one in found[:]:
        for name, child in find_unregistered(one.others, seen):
            if id(child) not in tree.module_index:
                base = one.paths[0]
                _visit(tree, found, child, None, f"{base}.{name}" if base else name, tree.module_index[id(one.module)])
    _number_params(tree, found)
    unregistered = _number_loose(tree, found)
    exported: dict[int, str] = {}
    for one in found:
        exported.update(find_exported_types(one.module))
    number_of = tree.param_index
    numbers = [fact.index for fact in tree.params]
    for index, one in enumerate(found):
        if one.first >= 0:
            own = tuple(numbers[one.first : one.first + len(one.tensors)])
        else:
            own = tuple(dict.fromkeys([number_of[id(tensor)] for _, tensor, _ in one.tensors]))
        kept = unregistered.get(index, ())
        loose = tuple((place, number_of[id(tensor)]) for place, tensor in kept) if kept else ()
        kind = one.kind
        tree.specs.append(None if kind is None else LayerSpec(kind, index, one.first, vars(one.module)["training"]))
        tree.modules.append(_read_module(tree, one, kind, index, own, loose, exported))
    return tree


def _visit(
    tree: ModuleTree, found: list[_Found], module: nn.Module, path: str | None, where: str, parent: int | None
) -> None:
    """Meet a module and all that it registers, parents first.

    Args:
        tree: Gets the modules and their numbers.
        found: Gets what is known of each.
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
            check_initialised(module)
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


def check_initialised(module: nn.Module) -> None:
    """Raise ``InputError`` unless the ``__init__`` of a module called torch's own."""
    if "_modules" in vars(module) or type(module).__getattr__ is not nn.Module.__getattr__:
        return  # one with a ``__getattr__`` of its own may stand for another module
    raise InputError(
        f"{type(module).__name__} was not initialised: its __init__ does not call super().__init__()",
        "this call as the first line of __init__",
        "super().__init__()",
    )


class _Found:
    """A module that was met, and what it has besides what every module has.

    Attributes:
        module: Itself.
        kind: What it has in common with layers like it.
        paths: What it is registered under.
        where: How it is reached if it is not registered.
        parent: The number of the module that it was met in first.
        tensors: ``(name, tensor, kind)`` of what is registered directly on it.
        first: The number of its first weight, where these are numbered one after the other and are its alone, or where
            it has none; else -1.
        plain: Unless it has a kind: its attributes, without what every module has, by name.
        others: Everything that may hold a tensor or a module, by name.
        packed: What is known of those of ``tensors`` that stand for packed quantized weights, by ``id``.
    """

    __slots__ = ("first", "kind", "module", "others", "packed", "parent", "paths", "plain", "tensors", "where")

    def __init__(self, module: nn.Module, where: str, parent: int | None) -> None:
        self.module = module
        self.where = where
        self.parent = parent
        self.paths: list[str] = []
        self.tensors = _own_tensors(module)
        self.first = -1
        self.plain: dict[str, Any] = {}
        self.packed: dict[int, TensorMeta] = {}
        self.others: list[tuple[str, Any]] = []
        self.kind = find_kind(module)
        if self.kind is not None:
            return
        for name, value in [item for item in list(vars(module).items()) if item[0] not in _NO_SETTINGS]:
            self.plain[name] = value
            if type(value) is torch.ScriptObject:
                for inner, stand_in, meta in read_packed(value):
                    self.tensors.append((f"{name}.{inner}", stand_in, "parameter"))
                    self.packed[id(stand_in)] = meta
            if type(value) not in ATOM_TYPES and not is_short_tuple(value):
                self.others.append((name, value))


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
        first = len(tensors)
        if one.tensors:
            metas = one.kind.metas if one.kind is not None else ()
            bases = [f"{path}." if path else "" for path in one.paths]
            for place, (name, tensor, kind) in enumerate(one.tensors):
                number = number_of.get(id(tensor))
                if number is None:
                    number_of[id(tensor)] = len(tensors)
                    tensors.append(tensor)
                    meta = metas[place] if metas else one.packed.get(id(tensor))
                    tree.metas.append(read_meta(tensor) if meta is None else meta)
                    names.append([base + name for base in bases])
                    kinds.append(kind)
                else:
                    names[number] += [base + name for base in bases]
        one.first = first if len(tensors) == first + len(one.tensors) else -1
    before: dict[int, int] = {}
    for number, tensor in enumerate(tensors):
        tree.params.append(_read_param(tensor, number, tuple(names[number]), kinds[number], before, tree.metas[number]))


def _number_loose(tree: ModuleTree, found: list[_Found]) -> dict[int, list[tuple[str, Tensor]]]:
    """Number the trainable tensors that modules keep in plain lists and dicts, after all others; by module, where."""
    loose: dict[int, list[tuple[str, Tensor]]] = {}
    before: dict[int, int] = {}
    for index, one in enumerate(found):
        for name, value in one.others:
            for place, tensor in find_trainable(value, name):
                if id(tensor) not in tree.param_index:
                    tree.param_index[id(tensor)] = len(tree.tensors)
                    tree.tensors.append(tensor)
                    meta = read_meta(tensor)
                    tree.metas.append(meta)
                    tree.params.append(_read_param(tensor, len(tree.params), (), "parameter", before, meta))
                if not tree.params[tree.param_index[id(tensor)]].names:
                    loose.setdefault(index, []).append((place, tensor))
    return loose


def _read_param(
    tensor: Tensor, index: int, names: tuple[str, ...], kind: Any, before: dict[int, int], meta: TensorMeta
) -> ParamFact:
    num = meta.num if type(tensor) in _PLAIN else _read_num(tensor, meta)
    local_shape, ranks = None, 1
    if meta.stride is None and is_sharded(tensor):
        local_shape, ranks = tuple(local_part(tensor).shape), count_mesh(tensor)
    return ParamFact(
        index,
        names,
        meta.shape,
        meta.dtype_name,
        meta.device_name,
        num,
        0 if meta.size is None else _read_bytes(tensor, meta.nbytes, before),
        meta.requires_grad,
        kind,
        meta.size is None,
        local_shape,
        ranks,
    )


def _read_num(tensor: Tensor, meta: TensorMeta) -> int:
    """Read how many numbers a tensor stands for: bitsandbytes packs two of 4 bits in a byte."""
    shape = getattr(getattr(tensor, "quant_state", None), "shape", None)
    return shape.numel() if isinstance(shape, torch.Size) else meta.num


def _read_bytes(tensor: Tensor, size: int, before: dict[int, int]) -> int:
    """Read the bytes a tensor really takes: an expanded view no more than its storage, a packed one what it packs.

    Args:
        tensor: A parameter or buffer.
        size: The bytes of its elements, as if each were stored.
        before: Bytes of each storage that a tensor has been given, by address; what two tensors share counts once.
    """
    known = type(tensor) in _PLAIN
    if not known and hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        held = [getattr(tensor, name) for name in names]
        parts = [part for part in held if isinstance(part, Tensor)]  # a DTensor names its mesh too
        return sum(_read_bytes(part, int(part.numel()) * part.itemsize, before) for part in parts)
    if not known or tensor.layout is not torch.strided:
        return size
    address = storage_address(tensor)
    taken = before.get(address)
    if taken is None and tensor.is_contiguous() and tensor.data_ptr():  # all of it is there
        before[address] = size
        return size
    rest = int(tensor.untyped_storage().nbytes()) - (taken or 0)
    size = min(size, rest)
    before[address] = (taken or 0) + size
    return size


_PLAIN = frozenset({Tensor, nn.Parameter, nn.Buffer})


def read_params(params: Sequence[ParamFact], tensors: Mapping[int, Tensor]) -> list[ParamFact]:
    """Read again the parameters that were lazy, from the tensors that the shadow made of them, by index."""
    return [
        _read_param(tensor := tensors[fact.index], fact.index, fact.names, fact.kind, {}, read_meta(tensor))
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
    exported: dict[int, str],
) -> ModuleFact:
    module = found.module
    facts = _read_class(type(module))
    inner = list(module._modules.values()) if module._modules else []
    return ModuleFact(
        index=index,
        paths=tuple(found.paths),
        type_name=exported.get(id(module)) or (_name_type(module) if kind is None else facts.name),
        type_module=facts.module,
        parent=found.parent,
        children=tuple(dict.fromkeys(tree.module_index[id(child)] for child in inner if child is not None)),
        params=params,
        settings=read_settings(module, found.plain) if kind is None else kind.settings,
        extra_repr=read_extra_repr(module) if kind is None else kind.extra_repr,
        training=bool(getattr(module, "training", False)),
        found=found.where,
        lazy=kind is None and any(isinstance(tensor, UninitializedTensorMixin) for _, tensor, _ in found.tensors),
        loose=loose,
        reads=facts.reads,
        reads_elsewhere=facts.reads_elsewhere,
        bounds=facts.bounds,
        forward_file=facts.file,
        forward_line=facts.line,
        config=read_config(module),
    )


class _ClassFacts(NamedTuple):
    """What every module of a class has in common, as ``ModuleFact`` has it."""

    name: str
    module: str
    reads: frozenset[str] | None
    reads_elsewhere: frozenset[str]
    bounds: frozenset[int] | None
    file: str
    line: int


@once_a_class
def _read_class(cls: type[nn.Module]) -> _ClassFacts:
    code = _find_forward(cls)
    file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
    # Who is a container of its own reaches its children by their index.
    if code is None or issubclass(cls, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
        return _ClassFacts(cls.__name__, cls.__module__, None, frozenset(), None, file, line)
    reads = find_reads(cls, nn.Module)
    return _ClassFacts(cls.__name__, cls.__module__, reads.forward, reads.elsewhere, reads.bounds, file, line)


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
