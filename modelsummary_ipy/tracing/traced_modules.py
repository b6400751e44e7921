"""The modules of a trace: those of the model, and those that the forward makes or takes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.fake.op_overrides import COPIED
from modelsummary_ipy.isolation.global_state import draws_undone
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.model.layer_facts import LayerFacts, copied, frozen
from modelsummary_ipy.model.module_tree import ModuleTree, read_tree
from modelsummary_ipy.model.param_facts import read_params
from modelsummary_ipy.records.trace import ModuleFact, ParamFact
from modelsummary_ipy.torch_compat.modules import storage_key


class TracedModules:
    """Facts of all modules and parameters that a trace meets.

    Attributes:
        facts: Of the modules, by index.
    """

    def __init__(self, work: Shadow, tree: ModuleTree) -> None:
        self._work = work
        self._tree = tree
        self.facts: MutableSequence[ModuleFact] = copied(tree.modules)
        for index, training in self._read_modes():
            if self.facts[index].training != training:
                self.facts[index] = self.facts[index]._replace(training=training)
        for known, size in ((work.index_of, len(tree.modules)), (work.param_of, len(tree.params))):
            for key in [key for key, index in known.items() if index >= size]:
                del known[key]  # what a forward of this copy met before, which has no facts here
        self._unregistered: list[nn.Module] = []  # an id in ``index_of`` must not be reused
        self._new_params: list[tuple[ParamFact, Tensor]] = []
        self._made_storages: set[int] = set()  # keys of those that the forward made from nothing
        self._made_modules: set[int] = set()  # ids of modules that it made, or that have nothing to copy

    def _read_modes(self) -> Iterator[tuple[int, bool]]:
        """Read which modules of the shadow are in train mode, where that may differ from the model's."""
        work, layers = self._work, self._work.layers
        if layers is not None:
            yield from layers.list_modes()
        shadows = {work.index_of[id(module)]: module for module in work.modules}
        for index in range(len(self._tree.modules)):
            if layers is None or not layers.has(index):
                module = shadows.get(index, work.module)
                yield index, bool(getattr(module, "training", False))  # a frozen ScriptModule has none

    def note_made(self, output: Any) -> None:
        """Note a tensor that a function made of no other."""
        if isinstance(output, Tensor) and output.layout == torch.strided and not output.is_nested:
            self._made_storages.add(storage_key(output.untyped_storage()))

    def adopt(self, module: nn.Module) -> nn.Module:
        """Return what to run in the place of a module that is not the shadow's."""
        adopted = self._work.adopt(module, self._made_storages)
        if adopted is module:
            self._made_modules.add(id(module))
        return adopted

    def find_index(self, module: nn.Module, caller_path: str) -> int:
        """Return a module's index; one that is met first gets facts."""
        index = self._work.index_of.get(id(module))
        return self._add(module, caller_path) if index is None else index

    def _add(self, module: nn.Module, caller_path: str) -> int:
        """Add a module that no search found, and all in it: made during the forward, or kept where none looks."""
        with draws_undone():
            tree = read_tree(module)
        fresh = [tensor for tensor in tree.tensors if COPIED not in tensor.__dict__]
        made = id(module) in self._made_modules and bool(fresh)
        base = f"{caller_path}." if caller_path else ""
        name = f"{base}({tree.modules[0].type_name})"
        index_of, param_of = self._work.index_of, self._work.param_of
        new = [inner for inner in tree.objects if id(inner) not in index_of]
        index_of.update({id(inner): len(self.facts) + number for number, inner in enumerate(new)})
        self._add_params(tree.params, tree.tensors)
        for inner in new:
            fact = tree.modules[tree.module_index[id(inner)]]
            self.facts.append(
                fact._replace(
                    index=index_of[id(inner)],
                    paths=(),
                    made=made,
                    found=f"{name}.{fact.path}" if fact.path else name,
                    parent=None if fact.parent is None else index_of[id(tree.objects[fact.parent])],
                    children=tuple(index_of[id(tree.objects[child])] for child in fact.children),
                    params=tuple(param_of[id(tree.tensors[param])] for param in fact.params),
                )
            )
            self._unregistered.append(inner)
        return index_of[id(module)]

    def _add_params(self, facts: Sequence[ParamFact], tensors: Sequence[Tensor]) -> None:
        param_of = self._work.param_of
        for fact, tensor in zip(facts, tensors, strict=True):
            if id(tensor) not in param_of:
                param_of[id(tensor)] = len(self._tree.params) + len(self._new_params)
                self._new_params.append((fact._replace(index=param_of[id(tensor)], names=()), tensor))

    def choose_path(self, fact: ModuleFact, caller_path: str) -> str:
        """Choose the name of a shared module that lies nearest below the module that calls it."""
        paths = fact.paths
        if len(paths) < 2:
            return paths[0] if paths else fact.found
        inside = [path for path in paths if not caller_path or f"{path}.".startswith(f"{caller_path}.")]
        return inside[0] if inside else paths[0]

    def finish_facts(self) -> Sequence[ModuleFact]:
        """Return the facts of all modules; one that the first forward made and registered is made once only."""
        kept = {id(module) for module in self._work.module.modules()} if self._unregistered else set()
        for module in self._unregistered:
            index = self._work.index_of[id(module)]
            if self.facts[index].made and id(module) in kept:
                self.facts[index] = self.facts[index]._replace(made=False)
        return frozen(self.facts)

    def finish_params(self) -> Sequence[ParamFact]:
        """Return the facts of all parameters, with the sizes that lazy ones have got."""
        new = {fact.index: tensor for fact, tensor in self._new_params}
        facts = copied(self._tree.params)
        tensors = self._work.param_tensors
        if isinstance(facts, LayerFacts):
            facts.replace_kept([*read_params(facts.list_kept(), tensors)])
        else:
            facts = [*read_params(facts, tensors)]
        facts.extend(read_params([fact for fact, _ in self._new_params], new))
        return frozen(facts)
