"""Layers of torch's own that are alike: what one made of given inputs in this trace, the next one makes too.

A model of 10,000 layers repeats a few kinds of layers on a few shapes. A run of one costs a forward's Python, a call of
a torch function, three aten operations and a look at each of their results; recognising a repeated one costs a look at
the layer's settings and sizes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import nn

from modelsummary_ipy.fake.fake_mode import FakeMode, build_fake
from modelsummary_ipy.fake.shape_cache import Recipe, add_part, is_fresh
from modelsummary_ipy.model.layer_spec import EMPTY, LayerKind, LayerSpec, Offset
from modelsummary_ipy.model.tensor_meta import find_meta
from modelsummary_ipy.records.trace import TensorSpec
from modelsummary_ipy.torch_compat.fakes import FakeTensor, count_modes, disable_dispatch
from modelsummary_ipy.tracing.tensor_leaves import build_spec

__all__ = ["Answer", "LayerCache"]

_STORES = ("_parameters", "_buffers")
#: What a layer has besides the state of its kind.
_NUM_HOOK_DICTS = len(EMPTY) - len((*_STORES, "_modules"))


class Answer:
    """What a layer gave and what was written down of it.

    Attributes:
        made: Its output.
        aten_ops: The aten operations that it ran.
        weights: Names of the weights that it read.
        inputs, outputs, arguments, inplace: As its call has them.
    """

    __slots__ = ("arguments", "aten_ops", "inplace", "inputs", "made", "outputs", "weights")

    def __init__(
        self,
        made: Recipe,
        weights: list[str],
        outputs: tuple[TensorSpec, ...],
        record: Any,
        arguments: tuple[Any, ...],
        inplace: Any,
    ) -> None:
        self.made = made
        self.weights = weights
        self.aten_ops = tuple(record.aten_ops)
        self.inputs = record.inputs
        self.outputs = outputs
        self.arguments = arguments
        self.inplace = bool(inplace)


class LayerCache:
    """Outputs of one trace, by class, settings, sizes of weights and sizes of inputs.

    A trace with grad must not use it, for what it makes has no history; neither must one that follows storages. The
    caller has torch functions switched off.

    Args:
        mode: The mode of the trace's fakes.
        param_of: Index of a parameter's facts by ``id`` of its tensor.
        specs: The specification of each layer, by index; ``None`` for other modules.
    """

    def __init__(self, mode: FakeMode, param_of: Mapping[int, int], specs: Sequence[LayerSpec | None]) -> None:
        self._mode = mode
        self._specs = specs
        self._param_of = param_of
        self._answers: dict[Any, Answer] = {}
        self._modes = _count_modes()
        self._patched: dict[type[nn.Module], bool] = {}
        self._last_key: Any = None

    def find(self, index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer | None:
        """Look up what a layer like this one made of inputs like these; what ``keep`` is given next is this layer's."""
        spec = self._specs[index] if index < len(self._specs) else None
        self._last_key = None
        if spec is None or spec.first < 0 or kwargs or torch.is_grad_enabled() or self._is_patched(spec.kind.cls):
            return None
        key = self._last_key = self._find_key(spec.kind, module, args)
        return None if key is None else self._answers.get(key)

    def make(self, answer: Answer, args: tuple[Any, ...]) -> Any:
        """Make the output of an answer."""
        made = answer.made
        if made.way == "self":
            return args[0]
        with disable_dispatch():
            meta = torch.empty_strided(made.size, made.stride, dtype=made.dtype, device="meta")
            return build_fake(self._mode, meta, made.device)

    def list_weights(self, answer: Answer, module: nn.Module, all_of_it: tuple[int, ...]) -> tuple[int, ...]:
        """List the weights that a layer reads as the answer's did: mostly all of them, in their order."""
        found = tuple([self._find_number(module, name) for name in answer.weights])
        return all_of_it if found == all_of_it else tuple([number for number in found if number is not None])

    def take_key(self) -> Any:
        """Return the key of the layer that was looked up last, once; ``None`` if it is not to be kept."""
        key, self._last_key = self._last_key, None
        return key

    def keep(
        self, key: Any, module: nn.Module, args: tuple[Any, ...], output: Any, record: Any, arguments: tuple[Any, ...]
    ) -> None:
        """Remember what a layer made, if it is as plain as it looks."""
        is_same = bool(args) and output is args[0]
        weights = self._name_weights(module, record.params)
        if weights is None or type(output) is not FakeTensor or not add_part([], output, self._mode):
            return
        weights_read = [tensor for _, tensor in _list_weights(module)]
        if is_same or is_fresh(output, [*args, *weights_read]):
            made = Recipe(output, "self" if is_same else "fresh")
            outputs = (build_spec("", output),)
            self._answers[key] = Answer(made, weights, outputs, record, arguments, module.__dict__.get("inplace"))

    def _is_patched(self, cls: type[nn.Module]) -> bool:
        """Return whether a method of a class was replaced: what that does may differ from call to call."""
        patched = self._patched.get(cls)
        if patched is None:
            patched = self._patched[cls] = not all(map(_is_as_written, cls.__mro__[: cls.__mro__.index(nn.Module)]))
        return patched

    def _find_key(self, kind: LayerKind, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Write down all that an answer depends on; ``None`` if that is more than settings and sizes."""
        if _count_modes() != self._modes or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            return None
        state, mode = module.__dict__, self._mode
        is_whole = len(state) == len(kind.state) + _NUM_HOOK_DICTS and kind.attributes.items() <= state.items()
        if not is_whole or state["_modules"]:
            return None  # the forward has changed it
        for store, weights in ((kind.params, state["_parameters"]), (kind.buffers, state["_buffers"])):
            # The comparison of dict itself, for the weights' own would make them: mostly they are not read yet.
            if not dict.__eq__(store, weights) and not self._are_as_they_were(kind, store, weights):
                return None
        parts = [kind, state["training"], torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        for value in args:
            if not add_part(parts, value, mode):
                return None
        return tuple(parts)

    def _are_as_they_were(self, kind: LayerKind, store: Mapping[str, Any], weights: dict[str, Any]) -> bool:
        """Return whether weights, some of which have been made, look as those of a layer of this kind do."""
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

    def _name_weights(self, module: nn.Module, touched: list[int]) -> list[str] | None:
        """Name the parameters and buffers of a layer that it read; ``None`` if it read another's."""
        names = {self._find_number(module, name): name for name, _ in _list_weights(module)}
        return [names[index] for index in touched] if all(index in names for index in touched) else None

    def _find_number(self, module: nn.Module, name: str) -> int | None:
        state = module.__dict__
        store = state["_parameters"] if name in state["_parameters"] else state["_buffers"]
        value = dict.__getitem__(store, name)
        return store.first + value if type(value) is Offset else self._param_of.get(id(value))


def _list_weights(module: nn.Module) -> list[tuple[str, Any]]:
    stores = (module.__dict__[store] for store in _STORES)
    return [(name, tensor) for store in stores for name, tensor in dict.items(store) if tensor is not None]


def _is_as_written(cls: type) -> bool:
    """Return whether all functions of a class are written in the file that defines it."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    for name, value in vars(cls).items():
        if isinstance(value, FunctionType):
            if value.__code__.co_filename != file:
                return False
        elif name == "forward":
            return False
    return True


def _count_modes() -> Any:
    """Count the modes that look at functions and operations: a forward that puts on one of its own is let run."""
    return count_modes()
