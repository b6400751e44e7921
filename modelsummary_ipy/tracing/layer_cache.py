"""A cache of layers: of torch's layers that are alike, with inputs that are alike, a trace runs only the first.

A model of 10,000 layers has a few kinds of them. To run one costs a forward's Python, a call of a torch function and
three aten operations; to find that one like it was run costs a comparison of settings and sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from modelsummary_ipy.fake.fake_mode import FakeMode, build_fake
from modelsummary_ipy.fake.index_values import is_followed
from modelsummary_ipy.fake.shape_cache import Recipe, add_part, is_fresh
from modelsummary_ipy.model.layer_spec import EMPTY, LayerKind, LayerSpec, Offset
from modelsummary_ipy.model.tensor_meta import find_meta
from modelsummary_ipy.records.packages import find_file
from modelsummary_ipy.records.trace import Call
from modelsummary_ipy.torch_compat.fakes import FakeTensor, count_modes, disable_dispatch
from modelsummary_ipy.tracing.aten_log import AtenLog
from modelsummary_ipy.tracing.layer_bytes import LayerBytes, Repeated
from modelsummary_ipy.tracing.op_log import LayerOps
from modelsummary_ipy.tracing.storages import Storages
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves

Key = tuple[Any, ...]

_STORES = ("_parameters", "_buffers")
#: What a layer has besides the state of its kind.
_NUM_HOOK_DICTS = len(EMPTY) - len((*_STORES, "_modules"))


class KnownLayer(NamedTuple):
    """What a layer did that was run.

    Attributes:
        recipes: How to make its output; several make a tuple, none its input.
        weights: Names of the weights that it read.
        call: Its call.
        ops: The operations that it ran, where these are written down.
        nbytes: What it did to storages, where these are followed.
    """

    recipes: Recipe | tuple[Recipe, ...]
    weights: list[str]
    call: Call
    ops: LayerOps | None = None
    nbytes: LayerBytes | None = None


class LayerCache:
    """What layers did in one trace, by class, settings, sizes of weights and sizes of inputs.

    With grad it is used only where storages are followed too: what it makes has then a history that a forward which
    goes backward itself can't use, so its trace is made again. Torch functions must be switched off while it is used.

    Args:
        mode: The mode of the trace's fakes.
        param_of: Index of a parameter's facts by ``id`` of its tensor.
        specs: The specification of each layer, by index; ``None`` for other modules.
        log: Follows storages, and what autograd saves; ``None`` if nothing does.
    """

    def __init__(
        self,
        mode: FakeMode,
        param_of: Mapping[int, int],
        specs: Sequence[LayerSpec | None],
        log: AtenLog | None = None,
    ) -> None:
        self._mode = mode
        self._log = log
        self._specs = specs
        self._param_of = param_of
        self._known: dict[Key, KnownLayer] = {}
        self._num_modes = count_modes()
        self._patched: dict[type[nn.Module], bool] = {}

    def find_key(self, index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key | None:
        """Return all that a layer's output depends on; ``None`` if that is more than settings and sizes."""
        spec = self._specs[index] if index < len(self._specs) else None
        if spec is None or spec.first < 0 or kwargs or self._is_patched(spec.kind.cls):
            return None
        if not (self._log.is_plain() if self._log is not None else not torch.is_grad_enabled()):
            return None
        return self._build_key(spec.kind, module, args)

    def begin(self) -> tuple[int, int]:
        """Return the state of the storages before a layer is run, where these are followed."""
        return self._log.storages.state if self._log is not None else (0, 0)

    def find(self, key: Key) -> KnownLayer | None:
        """Return what a layer like this one did with inputs like these."""
        return self._known.get(key)

    def make(self, known: KnownLayer, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Make the output of a layer like a known one."""
        recipes = known.recipes
        if not recipes:
            return args[0]

        def build() -> Any:
            return self._make(recipes) if isinstance(recipes, Recipe) else tuple(map(self._make, recipes))

        if self._log is None or not torch.is_grad_enabled():
            return build()
        weights = [_read_weight(module, name) for name in known.weights]
        return Repeated.apply(build, self._log.note_backward, *list_tensors(args), *weights)  # type: ignore[no-untyped-call]

    def _make(self, recipe: Recipe) -> FakeTensor:
        size, stride, dtype, _ = recipe.layout
        with disable_dispatch():
            meta = torch.empty_strided(size, stride, dtype=dtype, device="meta")
            return build_fake(self._mode, meta, recipe.device)

    def list_weights(self, known: KnownLayer, module: nn.Module, own: tuple[int, ...]) -> tuple[int, ...]:
        """List the weights that a layer like a known one reads: mostly all its own, in their order."""
        if not known.weights:
            return ()
        found = tuple([self._find_number(module, name) for name in known.weights])
        return own if found == own else tuple([number for number in found if number is not None])

    def keep(
        self,
        key: Key,
        module: nn.Module,
        args: tuple[Any, ...],
        output: Any,
        call: Call,
        cut: Callable[[Sequence[int]], LayerOps] | None = None,
        begin: tuple[int, int] = (0, 0),
    ) -> None:
        """Remember what a layer did, if it gave new tensors of a plain kind, or its input.

        Args:
            key: As ``find_key`` returned it.
            module, args, output, call: The layer and its call.
            cut: Returns the operations that it ran, where these are written down; gets the weights that it read.
            begin: The state of the storages before it, where these are followed.
        """
        weights = self._name_weights(module, call.params)
        outputs = output if type(output) is tuple else (output,)
        if weights is None or not outputs or not all(map(self._is_plain, outputs)):
            return
        recipes: Any = ()
        if not args or output is not args[0]:
            seen: list[Any] = [*args, *[tensor for _, tensor in _list_weights(module)]]
            for tensor in outputs:
                if not is_fresh(tensor, seen):
                    return
                seen.append(tensor)
            made = tuple([Recipe.of(tensor, "fresh") for tensor in outputs])
            recipes = made if output is outputs else made[0]
        nbytes = None
        if self._log is not None:
            read = [_read_weight(module, name) for name in weights]
            if not recipes or not self._has_history(outputs, [*list_tensors(args), *read], made):
                return
            given = list_tensors(args)
            nbytes = LayerBytes.read(begin, self._log.storages, call, given, outputs)
            if nbytes is None:
                return
        self._known[key] = KnownLayer(recipes, weights, call, None if cut is None else cut(call.params), nbytes)

    def _has_history(self, outputs: Sequence[Any], given: Sequence[Any], recipes: Sequence[Recipe]) -> bool:
        """Return whether what a layer gave has the history, and the storages, that one would have that is not run."""
        is_recorded = torch.is_grad_enabled() and any(isinstance(one, Tensor) and one.requires_grad for one in given)
        return all(
            tensor.requires_grad == (is_recorded and tensor.is_floating_point())
            and tensor.untyped_storage().nbytes() == self._make(recipe).untyped_storage().nbytes()
            for tensor, recipe in zip(outputs, recipes, strict=True)
        )

    def _is_plain(self, output: Any) -> bool:
        return type(output) is FakeTensor and add_part([], output, self._mode)

    def _is_patched(self, cls: type[nn.Module]) -> bool:
        """Return whether a method of a class was replaced: what that does may differ from call to call."""
        patched = self._patched.get(cls)
        if patched is None:
            patched = self._patched[cls] = not all(map(_is_unpatched, cls.__mro__[: cls.__mro__.index(nn.Module)]))
        return patched

    def _build_key(self, kind: LayerKind, module: nn.Module, args: tuple[Any, ...]) -> Key | None:
        # A forward may put on a mode of its own, which is to see every function and operation.
        if count_modes() != self._num_modes or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            return None
        state, mode = module.__dict__, self._mode
        is_whole = len(state) == len(kind.state) + _NUM_HOOK_DICTS and kind.attributes.items() <= state.items()
        if not is_whole or state["_modules"]:
            return None  # the forward has changed it
        for store, weights in ((kind.params, state["_parameters"]), (kind.buffers, state["_buffers"])):
            # The comparison of dict itself, for the weights' own would make them: mostly they are not read yet.
            if not dict.__eq__(store, weights) and not self._are_unchanged(kind, store, weights):
                return None
        parts = [kind, state["training"], torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        for value in args:
            if is_followed(value) or not add_part(parts, value, mode):
                return None
        given = list_tensors(args)
        if len(given) > 1:  # which of them are one tensor
            names = [*map(id, given)]
            parts += map(names.index, names)
        return tuple(parts) if self._log is None or self._add_history(parts, given, self._log.storages) else None

    def _add_history(self, parts: list[Any], given: Sequence[Tensor], storages: Storages) -> bool:
        """Add what autograd does with them, and which share a storage; not of those whose values may count."""
        found = [known.number for tensor in given if (known := storages.find(tensor)) is not None]
        if len(found) < len(given) or not all(tensor.is_floating_point() for tensor in given):
            return False
        parts += (torch.is_grad_enabled(), *[tensor.requires_grad for tensor in given], *map(found.index, found))
        return True

    def _are_unchanged(self, kind: LayerKind, store: Mapping[str, Any], weights: dict[str, Any]) -> bool:
        """Return whether weights, some of which have been made, are those of a layer of this kind."""
        if list(store) != list(dict.keys(weights)):
            return False
        for name, value in dict.items(weights):
            place = store[name]
            if value is None or place is None:
                if value is not place:
                    return False
            elif type(value) is not Offset:
                if type(value) is not FakeTensor or not add_part([], value, self._mode):
                    return False
                if value.is_inference() or value.storage_offset() or find_meta(value) is not kind.metas[place]:
                    return False
        return True

    def _name_weights(self, module: nn.Module, touched: tuple[int, ...]) -> list[str] | None:
        """Name the parameters and buffers of a layer that it read; ``None`` if it read another's."""
        names = {self._find_number(module, name): name for name, _ in _list_weights(module)}
        return [names[index] for index in touched] if all(index in names for index in touched) else None

    def _find_number(self, module: nn.Module, name: str) -> int | None:
        state = module.__dict__
        store = state["_parameters"] if name in state["_parameters"] else state["_buffers"]
        value = dict.__getitem__(store, name)
        return store.first + value if type(value) is Offset else self._param_of.get(id(value))


def list_tensors(args: tuple[Any, ...]) -> list[Tensor]:
    """List the tensors among the positional arguments of a layer."""
    if len(args) == 1 and isinstance(args[0], Tensor):
        return [args[0]]
    return [tensor for _, tensor in find_argument_leaves(args, {})]


def _read_weight(module: nn.Module, name: str) -> Any:
    return dict(_list_weights(module))[name]


def _list_weights(module: nn.Module) -> list[tuple[str, Any]]:
    stores = (module.__dict__[store] for store in _STORES)
    return [(name, tensor) for store in stores for name, tensor in dict.items(store) if tensor is not None]


def _is_unpatched(cls: type) -> bool:
    """Return whether all functions of a class are written in the file that defines it."""
    file = find_file(cls.__module__)
    for name, value in vars(cls).items():
        if isinstance(value, FunctionType):
            if value.__code__.co_filename != file:
                return False
        elif name == "forward":
            return False
    return True
