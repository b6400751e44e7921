"""A model's module tree as facts: every module and parameter once, by identity, whatever its names."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.model.class_facts import read_class
from modelsummary_ipy.model.exported_graph import find_exported_types
from modelsummary_ipy.model.layer_facts import LayerFacts, make_module_fact, make_param_fact
from modelsummary_ipy.model.layer_spec import MACHINERY, LayerSpec, find_kind
from modelsummary_ipy.model.module_repr import ATOM_TYPES, is_short_tuple, read_config, read_extra_repr, read_settings
from modelsummary_ipy.model.packed_weights import read_packed
from modelsummary_ipy.model.param_facts import list_own_tensors, read_bytes, read_param
from modelsummary_ipy.model.tensor_meta import TensorMeta, read_meta
from modelsummary_ipy.model.unregistered import find_trainable, find_unregistered
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import ModuleFact, ParamFact, join_path
from modelsummary_ipy.torch_compat.modules import COMPILED_STATE

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
        unregistered: How modules are reached that were met in no registry, by index.
    """

    def __init__(self) -> None:
        self.modules: MutableSequence[ModuleFact] = LayerFacts(make_module_fact)
        self.params: MutableSequence[ParamFact] = LayerFacts(make_param_fact)
        self.module_index: dict[int, int] = {}
        self.param_index: dict[int, int] = {}
        self.objects: list[nn.Module] = []
        self.tensors: list[Tensor] = []
        self.metas: list[TensorMeta] = []
        self.specs: list[LayerSpec | None] = []
        self.unregistered: dict[int, str] = {}

    def list_described_params(self) -> list[ParamFact]:
        """List the parameters that are not only in layers like others."""
        params = self.params
        return params.list_kept() if isinstance(params, LayerFacts) else [*params]

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
    found: list[_Found | LayerSpec] = []
    _visit(tree, found, model, "", "", None)
    seen: set[int] = set()
    for holder in [one for one in found if isinstance(one, _Found)]:
        for name, child in find_unregistered(holder.others, seen):
            if id(child) not in tree.module_index:
                where, parent = join_path(holder.paths[0], name), tree.module_index[id(holder.module)]
                _visit(tree, found, child, None, where, parent)
    _number_params(tree, found)
    unregistered = _number_loose(tree, found)
    exported: dict[int, str] = {}
    for one in found:
        if isinstance(one, _Found):
            exported.update(find_exported_types(one.module))
    modules: list[ModuleFact | LayerSpec] = []
    for index, one in enumerate(found):
        if isinstance(one, LayerSpec):
            tree.specs.append(one)
            is_plain = one.first >= 0 and one.paths and id(tree.objects[index]) not in exported
            modules.append(one if is_plain else _read_layer(tree, one, exported))
        else:
            tree.specs.append(None)
            modules.append(_read_module(tree, one, index, unregistered.get(index, ()), exported))
    tree.modules = LayerFacts(make_module_fact, modules)
    return tree


def _visit(
    tree: ModuleTree,
    found: list[_Found | LayerSpec],
    module: nn.Module,
    path: str | None,
    where: str,
    parent: int | None,
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
            kind = find_kind(module)
            if kind is None:
                found.append(_Found(module, parent))
            else:
                found.append(LayerSpec(kind, index, parent, vars(module)["training"]))
            if path is None:
                tree.unregistered[index] = where
        if path is not None:
            found[index].add_path(path)
        if not module._modules or id(module) in above:  # one that registers itself is met once
            continue
        above |= {id(module)}
        base = f"{path or where}." if path or where else ""
        for name, inner in reversed(list(module._modules.items())):
            if inner is not None:
                inside = base + name
                work.append((inner, None if path is None else inside, inside, index, above))


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
    """A module that was met and is no layer like others, and what it has besides what every module has.

    Attributes:
        module: Itself.
        paths: What it is registered under.
        parent: The number of the module that it was met in first.
        tensors: ``(name, tensor, kind)`` of what is registered directly on it.
        plain: Its attributes, without what every module has, by name.
        others: Everything that may hold a tensor or a module, by name.
        packed: What is known of those of ``tensors`` that stand for packed quantized weights, by ``id``.
    """

    __slots__ = ("module", "others", "packed", "parent", "paths", "plain", "tensors")

    def __init__(self, module: nn.Module, parent: int | None) -> None:
        self.module = module
        self.parent = parent
        self.paths: list[str] = []
        self.tensors = list_own_tensors(module)
        self.plain: dict[str, Any] = {}
        self.packed: dict[int, TensorMeta] = {}
        self.others: list[tuple[str, Any]] = []
        for name, value in [item for item in list(vars(module).items()) if item[0] not in _NO_SETTINGS]:
            self.plain[name] = value
            if type(value) is torch.ScriptObject:
                for inner, stand_in, meta in read_packed(value):
                    self.tensors.append((f"{name}.{inner}", stand_in, "parameter"))
                    self.packed[id(stand_in)] = meta
            if type(value) not in ATOM_TYPES and not is_short_tuple(value):
                self.others.append((name, value))

    def add_path(self, path: str) -> None:
        """Add what it is registered under, too."""
        self.paths.append(path)


def _number_params(tree: ModuleTree, found: list[_Found | LayerSpec]) -> None:
    """Number what modules register, in the order in which it is met; of what several share the first is the owner."""
    number_of, tensors = tree.param_index, tree.tensors
    items: list[ParamFact | LayerSpec] = []
    more: dict[int, list[str]] = {}  # names besides those of the owner
    before: dict[int, int] = {}
    for index, one in enumerate(found):
        layer = one if isinstance(one, LayerSpec) else None
        own = one.tensors if isinstance(one, _Found) else list_own_tensors(tree.objects[index])
        if not own:
            if layer is not None:
                layer.first = len(tensors)
            continue
        first, new = len(tensors), []
        for place, (name, tensor, kind) in enumerate(own):
            number = number_of.get(id(tensor))
            if number is not None:
                more.setdefault(number, []).extend(join_path(path, name) for path in one.paths)
                continue
            number = number_of[id(tensor)] = len(tensors)
            tensors.append(tensor)
            meta = one.kind.metas[place] if isinstance(one, LayerSpec) else one.packed.get(id(tensor))
            tree.metas.append(read_meta(tensor) if meta is None else meta)
            new.append((number, name, kind, read_bytes(tensor, tree.metas[number], before)))
        if layer is not None and len(new) == len(own):
            layer.first = first
        for number, name, kind, nbytes in new:
            meta = tree.metas[number]
            if layer is not None and layer.first == first and nbytes == meta.nbytes:
                items.append(layer)
            else:
                names = tuple([join_path(path, name) for path in one.paths])
                items.append(read_param(tensors[number], number, names, kind, nbytes, meta))
    tree.params = LayerFacts(make_param_fact, items)
    for number, others in more.items():
        fact = tree.params[number]
        tree.params[number] = fact._replace(names=(*fact.names, *others))


def _number_loose(tree: ModuleTree, found: list[_Found | LayerSpec]) -> dict[int, list[tuple[str, Tensor]]]:
    """Number the trainable tensors that modules keep in plain lists and dicts, after all others; by module, where."""
    loose: dict[int, list[tuple[str, Tensor]]] = {}
    before: dict[int, int] = {}
    for index, one in enumerate(found):
        for name, value in one.others if isinstance(one, _Found) else ():
            for place, tensor in find_trainable(value, name):
                if id(tensor) not in tree.param_index:
                    tree.param_index[id(tensor)] = len(tree.tensors)
                    tree.tensors.append(tensor)
                    meta = read_meta(tensor)
                    tree.metas.append(meta)
                    nbytes = read_bytes(tensor, meta, before)
                    tree.params.append(read_param(tensor, len(tree.params), (), "parameter", nbytes, meta))
                if not tree.params[tree.param_index[id(tensor)]].names:
                    loose.setdefault(index, []).append((place, tensor))
    return loose


def _read_layer(tree: ModuleTree, spec: LayerSpec, exported: Mapping[int, str]) -> ModuleFact:
    """Read the facts of a layer that has something besides what others like it have: a place, shared weights."""
    module, fact = tree.objects[spec.index], make_module_fact(spec.index, spec)
    numbers = [tree.param_index[id(tensor)] for _, tensor, _ in list_own_tensors(module)]
    return fact._replace(
        params=tuple(dict.fromkeys(numbers)),
        type_name=exported.get(id(module)) or fact.type_name,
        found=tree.unregistered.get(spec.index, ""),
    )


def _read_module(
    tree: ModuleTree, found: _Found, index: int, kept: Sequence[tuple[str, Tensor]], exported: Mapping[int, str]
) -> ModuleFact:
    module = found.module
    facts = read_class(type(module))
    number_of = tree.param_index
    inner = list(module._modules.values()) if module._modules else []
    return ModuleFact(
        index=index,
        paths=tuple(found.paths),
        type_name=exported.get(id(module)) or _name_type(module),
        type_module=facts.module,
        parent=found.parent,
        children=tuple(dict.fromkeys(tree.module_index[id(child)] for child in inner if child is not None)),
        params=tuple(dict.fromkeys([number_of[id(tensor)] for _, tensor, _ in found.tensors])),
        settings=read_settings(module, found.plain),
        extra_repr=read_extra_repr(module),
        training=bool(getattr(module, "training", False)),
        found=tree.unregistered.get(index, ""),
        lazy=any(isinstance(tensor, UninitializedTensorMixin) for _, tensor, _ in found.tensors),
        loose=tuple((place, number_of[id(tensor)]) for place, tensor in kept),
        reads=facts.reads,
        reads_elsewhere=facts.reads_elsewhere,
        bounds=facts.bounds,
        forward_file=facts.file,
        forward_line=facts.line,
        config=read_config(module),
    )


def _name_type(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(getattr(module, "original_name", type(module).__name__))
    return type(module).__name__
