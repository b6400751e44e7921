"""The shadow: a clone of the model that is the only thing ever traced, with fake tensors or with real copies."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.fake.fake_mode import FakeMode
from modelsummary_ipy.fake.fake_subclasses import give_real_class
from modelsummary_ipy.fake.fake_tensors import describe_tensor, make_fake
from modelsummary_ipy.fake.fast_fake_mode import make_fake_mode
from modelsummary_ipy.isolation.global_state import deep_stack, draws_undone
from modelsummary_ipy.isolation.lazy_layers import LayerTable, LazyLayers
from modelsummary_ipy.isolation.lazy_weights import build_layer, build_state
from modelsummary_ipy.isolation.object_cloner import Cloner
from modelsummary_ipy.model.exported_graph import follow_modules
from modelsummary_ipy.model.layer_spec import LayerSpec
from modelsummary_ipy.model.module_tree import ModuleTree, check_initialised, read_tree
from modelsummary_ipy.model.tensor_meta import PLAIN_CLASSES, TensorTemplate, is_plain
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import Mode
from modelsummary_ipy.torch_compat.distributed import (
    copy_module_states,
    is_sharded,
    local_part,
    rebuild_sharded,
    spec_of,
)
from modelsummary_ipy.torch_compat.fakes import FakeTensor, disable_dispatch, disable_function
from modelsummary_ipy.torch_compat.modules import WRAPPERS, find_wrapped, storage_key, wrap_script_module

#: From so many modules on, traces are lean: without grad and bytes (measured when first read), weights made when
#: they are first read, and layers that are alike run once (``docs/design/0010``).
MANY_MODULES = 5_000


class Shadow:
    """A clone of the model with fake tensors or real copies: traced once and thrown away.

    Attributes:
        module: The copy.
        modules: All modules in it, without those in ``layers``.
        index_of: Index of a module's facts by ``id`` of the copy's module.
        param_of: Index of a parameter's facts by ``id`` of the copy's tensor.
        param_tensors: The copy's parameters and buffers by index, as far as they are made.
        fake_mode: The mode its tensors are fake in; ``None`` if they are real.
        device: Where made-up inputs go by default.
        has_lazy_weights: Whether weights are made when they are read.
        layers: The layers that are whole only while they are held; ``None`` if all are.
    """

    def __init__(
        self,
        module: nn.Module,
        modules: list[tuple[int, nn.Module]],
        tensors: dict[int, Tensor],
        fake_mode: FakeMode | None,
        device: torch.device,
        convert: Callable[[Any], Any],
        storages: frozenset[int] = frozenset(),
        lazy_param_of: dict[int, int] | None = None,
        layers: LayerTable | None = None,
        index_of: dict[int, int] | None = None,
    ) -> None:
        self.module = module
        self.layers = layers
        self.index_of: dict[int, int] = {} if index_of is None else index_of
        self.index_of.update((id(copy), index) for index, copy in modules)
        self.modules = [copy for _, copy in modules]
        self.has_lazy_weights = lazy_param_of is not None
        self.param_of: dict[int, int] = {} if lazy_param_of is None else lazy_param_of
        self.param_of.update((id(tensor), index) for index, tensor in tensors.items())
        self.param_tensors = tensors
        self.fake_mode = fake_mode
        self.device = device
        self._convert = convert
        self._storages = storages
        self._adopted: dict[int, tuple[nn.Module, nn.Module]] = {}

    @property
    def whole_modules(self) -> list[nn.Module]:
        """All modules, without those that nothing was done to and that are made when they are read."""
        return self.modules if self.layers is None else [*self.modules, *self.layers.list_whole()]

    @property
    def classes(self) -> set[type[nn.Module]]:
        """The classes of all modules."""
        return {*map(type, self.modules), *(() if self.layers is None else self.layers.classes)}

    def adopt(self, module: nn.Module, made: Container[int]) -> nn.Module:
        """Return what to run in the place of a module that is not in this copy.

        A module in the user's globals or on a class is the user's: a copy of it is run, the same each time.
        One that the forward made is run as it is.

        Args:
            made: Addresses of the storages that the forward made, if tensors are real.
        """
        if id(module) not in self._adopted:
            check_initialised(module)
            with disable_dispatch():  # the forward is running: nothing here is a step of it
                tensors = [*module.parameters(), *module.buffers()]
                is_users = bool(tensors) and not any(self._is_own(tensor, made) for tensor in tensors)
                self._adopted[id(module)] = (module, Cloner(self._convert)(module) if is_users else module)
        return self._adopted[id(module)][1]

    def _is_own(self, tensor: Tensor, made: Container[int]) -> bool:
        if id(tensor) in self.param_of or isinstance(tensor, UninitializedTensorMixin):
            return True
        if self.fake_mode is not None:
            return isinstance(local_part(tensor), FakeTensor)
        if tensor.layout != torch.strided:
            return False
        address = storage_key(tensor.untyped_storage())
        return address in made or address in self._storages

    def fill_in(self, value: Any, make: Callable[[Any], Any], leaf_type: type) -> Any:
        """Return the user's input with tensors converted as the model's were, and each ``leaf_type`` by ``make``."""

        def convert(value: Any) -> Any:
            return make(value) if type(value) is leaf_type else self._convert(value)

        return Cloner(convert, leaf_types=frozenset({leaf_type}))(value)


class ShadowTemplate:
    """A clone of a model that holds no tensor: every shadow, now and at other sizes, is made from it.

    Args:
        model: The user's model; it is read, never run or changed.
        device: Where its tensors pretend to be; ``None`` leaves each where it is.

    Attributes:
        tree: Facts of its modules and parameters.
        device: Where made-up inputs go.
    """

    def __init__(self, model: nn.Module, *, device: torch.device | None = None, mode: Mode = "same") -> None:
        with draws_undone():
            self.tree: ModuleTree = read_tree(model)
        self.device = device or _main_device(self.tree)
        self._moved_to = device
        index_of, metas = self.tree.param_index, self.tree.metas
        # Batch norm adds to a counter at every call in train mode: with its value known, that would be real arithmetic.
        counters = {
            fact.index
            for fact in self.tree.list_described_params()
            if fact.kind == "buffer" and fact.names and fact.names[0].endswith("num_batches_tracked")
        }

        def describe(tensor: Any) -> TensorTemplate:
            index = index_of.get(id(tensor))
            if index is None:
                return describe_tensor(tensor, is_own=True)
            return describe_tensor(tensor, metas[index], keep=index not in counters, is_own=True)

        specs = self.tree.specs
        ready = {id(self.tree.objects[i]): spec for i, spec in enumerate(specs) if spec is not None and spec.first >= 0}
        cloner = Cloner(describe, wrap_script_module, is_template=True, ready=ready)
        self._pristine = cloner(model)
        copy_module_states(cloner.modules, cloner)
        number_of = self.tree.module_index
        # Modules where no search looks (in a closure, say) have no facts; the tracer adds them as unknown modules.
        self._modules = [(number_of[id(old)], new) for old, new in cloner.modules if id(old) in number_of]
        made = [cloner.tensors.get(id(tensor)) for tensor in self.tree.tensors]
        self._wrappers = [module for _, module in self._modules if _may_wrap(module)]
        self._templates: list[TensorTemplate | None] = made  # by number; those of leaves are made when they are read
        self._number_of = {id(template): index for index, template in enumerate(made) if template is not None}
        self.tree.forget_objects()
        if not self.is_large:  # what rules read often is made once
            self.tree.modules, self.tree.params = list(self.tree.modules), list(self.tree.params)
        self.mode = mode
        self._fake_mode: FakeMode | None = None

    @property
    def is_large(self) -> bool:
        """Whether traces are to be lean."""
        return len(self.tree.modules) > MANY_MODULES

    def build_fake_shadow(self, fake_mode: FakeMode | None = None, *, lazy: bool = False) -> Shadow:
        """Make a copy whose tensors are fake: its forward's Python runs, and no arithmetic is done.

        Args:
            fake_mode: The mode to make them in; one mode of its own serves all traces of this shadow by default.
            lazy: Whether weights are made only when they are read.
        """
        mode = fake_mode or self._own_mode()

        def convert(tensor: Any) -> Any:
            return make_fake(tensor, mode, self._moved_to)

        # Not the shadow itself: it would be kept alive by the weights it holds.
        number_of = self._number_of
        param_of: dict[int, int] = {}
        tensors: dict[int, Tensor] = {}

        def make_lazily(number: int) -> Any:
            tensor = tensors.get(number)
            if tensor is None:
                with disable_function(), disable_dispatch():  # no step of the forward
                    tensor = tensors[number] = convert(self._find_template(number))
                param_of[id(tensor)] = number
            return tensor

        index_of: dict[int, int] = {}
        layers = register = None
        if lazy and self.is_large:

            def build(spec: LayerSpec) -> dict[str, Any]:
                return build_state(spec, make_lazily, lazy=True)

            layers = LayerTable(self.tree.specs, build, index_of, tensors)
            register = partial(LazyLayers, table=layers)

        def make_layer(spec: LayerSpec, cloner: Cloner) -> nn.Module:
            if layers is not None:
                return layers.get(spec)
            make = make_lazily if lazy else lambda number: cloner(self._find_template(number))
            return build_layer(spec, make, lazy=lazy)

        cloner = Cloner(convert, wrap_script_module, make_layer=make_layer, register=register)
        with deep_stack():
            module = cloner(self._pristine)
            copy_module_states(cloner.modules, cloner)
        new_of = {id(old): new for old, new in cloner.modules}
        modules = [(index, new_of[id(old)]) for index, old in self._modules]
        if layers is None:
            modules += [(index, new_of[id(spec)]) for index, spec in enumerate(self.tree.specs) if id(spec) in new_of]
        tensors.update((number_of[key], made) for key, made in cloner.tensors.items() if key in number_of)
        work = Shadow(
            module, modules, tensors, mode, self.device, convert,
            lazy_param_of=param_of if lazy else None, layers=layers, index_of=index_of,
        )  # fmt: skip
        _unwrap_all([new_of[id(old)] for old in self._wrappers])
        set_mode(module, self.mode)
        return work

    def _find_template(self, number: int) -> TensorTemplate:
        template = self._templates[number]
        if template is None:  # a weight of a layer of torch: it has no template
            kind = nn.Parameter if self.tree.params[number].kind == "parameter" else Tensor
            template = self._templates[number] = TensorTemplate(kind, self.tree.metas[number])
            self._number_of[id(template)] = number
        return template

    def forget_values(self, value: Any) -> Any:
        """Return an input with fakes in the place of the user's tensors, so that none of these is kept alive.

        A few integers keep their values, in a copy: later traces may need them as the first one did.
        """

        def convert(tensor: Any) -> Any:
            template = describe_tensor(tensor)
            return make_fake(template, self._own_mode()) if template.values is None else template.values

        return Cloner(convert)(value)

    def _own_mode(self) -> FakeMode:
        if self._fake_mode is None:
            self._fake_mode = make_fake_mode()
        return self._fake_mode


def build_real_shadow(model: nn.Module, *, device: torch.device | None, mode: Mode) -> Shadow:
    """Make a copy with real tensors, each storage copied once: what runs may write to anything it holds.

    Args:
        device: Where the copy goes; ``None`` leaves each tensor where it is.

    Raises:
        RuntimeError: If memory does not suffice for the copy.
    """
    with draws_undone():
        fresh = read_tree(model)
    storages: dict[int, torch.UntypedStorage] = {}

    def convert(tensor: Any) -> Any:
        return _copy_real(tensor, storages, device)

    cloner = Cloner(convert)
    module = cloner(model)
    copy_module_states(cloner.modules, cloner)
    modules = [(fresh.module_index[id(old)], new) for old, new in cloner.modules if id(old) in fresh.module_index]
    tensors = {index: cloner.tensors[id(t)] for index, t in enumerate(fresh.tensors) if id(t) in cloner.tensors}
    _unwrap_all([new for _, new in modules if _may_wrap(new)])
    set_mode(module, mode)
    own = frozenset(storage_key(storage) for storage in storages.values())
    return Shadow(module, modules, tensors, None, device or _main_device(fresh), convert, own)


def set_mode(module: nn.Module, mode: Mode) -> None:
    """Put the copy in train or eval mode, by the model's own ``train`` method; ``"same"`` leaves it.

    Raises:
        InputError: If its graph was exported in one mode.
    """
    if mode == "same":
        return
    try:
        module.train(mode == "train")
    except NotImplementedError as error:
        raise InputError(
            f"mode={mode!r} of a model that can't change it ({error})", "mode='same'", "ModelSummary(model, …)"
        ) from None


def _main_device(tree: ModuleTree) -> torch.device:
    """Return the device most parameters are on, the first one on a tie; the CPU without parameters."""
    counts = dict.fromkeys([meta.device_name for meta in tree.metas], 0)
    for fact in tree.params if len(counts) > 1 else ():
        counts[fact.device] += max(fact.num, 1)
    return torch.device(max(counts, key=lambda name: counts[name])) if counts else torch.device("cpu")


def _copy_real(tensor: Tensor, storages: dict[int, torch.UntypedStorage], device: torch.device | None) -> Tensor:
    if isinstance(tensor, UninitializedTensorMixin):
        kind: Any = type(tensor)
        extra = {"requires_grad": tensor.requires_grad} if isinstance(tensor, nn.Parameter) else {}
        return kind(device=device or tensor.device, dtype=tensor.dtype, **extra)  # type: ignore[no-any-return]
    if isinstance(tensor, FakeTensor):  # an input whose values were let go: any values of its size
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=device or tensor.device)
    with torch.no_grad(), disable_function():
        if is_sharded(tensor):
            copy = rebuild_sharded(_copy_real(local_part(tensor), storages, device), spec_of(tensor), False)
        elif not is_plain(tensor) or device is not None or tensor.is_meta:
            copy = tensor.detach().clone()
            copy = copy.to(device) if device is not None else copy
        else:
            storage = tensor.untyped_storage()
            key = storage_key(storage)
            copied = storages.get(key)
            if copied is None:
                copied = storages[key] = storage.clone()
            copy = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
            copy.set_(copied, tensor.storage_offset(), tensor.size(), tensor.stride())
    if type(tensor) not in PLAIN_CLASSES and type(copy) is Tensor:
        return give_real_class(copy, type(tensor), tensor.requires_grad)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copy, requires_grad=tensor.requires_grad)
    return copy.requires_grad_(tensor.requires_grad) if copy.is_floating_point() else copy


def _may_wrap(module: nn.Module) -> bool:
    return isinstance(module, fx.GraphModule) or type(module).__name__ in WRAPPERS


def _unwrap_all(modules: list[nn.Module]) -> None:
    """Let compiled and distributed wrappers call what they wrap, and exported graphs the modules they came from.

    A trace runs eagerly, in one process.
    """
    for module in modules:
        follow_modules(module)
        inner = find_wrapped(module)
        if inner is not None:
            module.__dict__["forward"] = inner.__call__
