"""Layers of torch's own that are alike: what one made of given inputs in this pass, the next one makes too.

A net of 10,000 layers asks the same few questions over and over. The answer costs a forward's Python, a call of a torch
function, three aten operations and a look at each of their results; knowing that the question was asked before costs a
look at the layer's settings and sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from modelsummary_ipy.clone import Stub
from modelsummary_ipy.facts import TensorSpec
from modelsummary_ipy.fakes import FakeMode, build_fake
from modelsummary_ipy.leaves import build_spec
from modelsummary_ipy.looks import find_look
from modelsummary_ipy.memo import Made, add_part, is_fresh
from modelsummary_ipy.modules import LayerKind

__all__ = ["Answer", "Repeats"]

_STORES = ("_parameters", "_buffers")


class Answer:
    """What a layer gave and what was written down of it.

    Attributes:
        made: Its output.
        kernels: The aten operations that it ran.
        weights: Names of the weights that it read.
        inputs, outputs, arguments, inplace: As a record of its call has them.
    """

    __slots__ = ("arguments", "inplace", "inputs", "kernels", "made", "outputs", "weights")

    def __init__(
        self, made: Made, weights: list[str], outputs: tuple[TensorSpec, ...], record: Any, inplace: Any
    ) -> None:
        self.made = made
        self.weights = weights
        self.kernels = tuple(record.kernels)
        self.inputs = record.inputs
        self.outputs = outputs
        self.arguments = record.arguments
        self.inplace = bool(inplace)

    def fill(self, record: Any) -> None:
        """Write to the record of another call what is the same of it."""
        record.kernels = self.kernels
        record.inputs = self.inputs
        record.outputs = self.outputs
        record.arguments = self.arguments
        record.inplace = self.inplace


class Repeats:
    """Answers of one pass, by class, settings, sizes of weights and sizes of inputs.

    A pass with grad must not use it, for what it makes has no history; neither must one that follows storages. Whoever
    asks has torch functions switched off.

    Args:
        mode: The mode of the pass's fakes.
        param_of: Index of a parameter's facts by ``id`` of its tensor, or of its stub while there is none.
        kind_of: What a layer has in common with those like it, by its ``id``.
    """

    def __init__(self, mode: FakeMode, param_of: Mapping[int, int], kind_of: Mapping[int, LayerKind]) -> None:
        self._mode = mode
        self._kind_of = kind_of
        self._param_of = param_of
        self._answers: dict[Any, Answer] = {}
        self._modes = _count_modes()
        self._last_key: Any = None

    def find(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer | None:
        """Look up what a layer like this one made of inputs like these; what ``keep`` is given next is this layer's."""
        kind = self._kind_of.get(id(module))
        self._last_key = None
        if kind is None or kwargs or torch.is_grad_enabled():
            return None
        key = self._last_key = self._find_key(kind, module, args)
        return None if key is None else self._answers.get(key)

    def make(self, answer: Answer, args: tuple[Any, ...]) -> Any:
        """Make the output that an answer stands for."""
        made = answer.made
        if made.way == "self":
            return args[0]
        with torch._C._DisableTorchDispatch():
            meta = torch.empty_strided(made.size, made.stride, dtype=made.dtype, device="meta")
            return build_fake(self._mode, meta, made.device)

    def list_weights(self, answer: Answer, module: nn.Module) -> list[int]:
        """List the weights that a layer reads as the answer's did."""
        return [self._param_of[id(_find_weight(module, name))] for name in answer.weights]

    def take_key(self) -> Any:
        """Return the key of the layer that was looked up last, once; ``None`` if it is not to be kept."""
        key, self._last_key = self._last_key, None
        return key

    def keep(self, key: Any, module: nn.Module, args: tuple[Any, ...], output: Any, record: Any) -> None:
        """Remember what a layer made, if it is as plain as it looks."""
        is_same = bool(args) and output is args[0]
        weights = self._name_weights(module, record.params)
        if weights is None or type(output) is not FakeTensor or not add_part([], output, self._mode):
            return
        weights_read = [tensor for _, tensor in _list_weights(module)]
        if is_same or is_fresh(output, [*args, *weights_read]):
            made = Made(output, "self" if is_same else "fresh")
            self._answers[key] = Answer(
                made, weights, (build_spec("", output),), record, module.__dict__.get("inplace")
            )

    def _find_key(self, kind: LayerKind, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Write down all that an answer depends on; ``None`` if that is more than settings and sizes."""
        if _count_modes() != self._modes or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            return None
        state, mode = module.__dict__, self._mode
        if len(state) != kind.length or state["_modules"] or not kind.attributes.items() <= state.items():
            return None  # the forward has changed it
        parts = [kind, state["training"], torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        for store in _STORES:
            weights = state[store]
            parts += dict.keys(weights)
            for value in dict.values(weights):  # as they are: weights that nobody read yet stay unmade
                if value is None:
                    parts.append(None)
                elif type(value) is Stub:
                    if value.values is not None or value.shared is not None or value.is_result or value.extras:
                        return None
                    parts.append(value.look)
                elif not self._add_weight(parts, value):
                    return None
        return tuple(parts) if all(add_part(parts, value, mode) for value in args) else None

    def _add_weight(self, parts: list[Any], weight: Any) -> bool:
        """Add what a stub's look is, of a weight that has been made."""
        if type(weight) is not FakeTensor or not add_part([], weight, self._mode):
            return False
        if weight.is_inference() or weight.storage_offset():
            return False
        parts.append(find_look(weight))
        return True

    def _name_weights(self, module: nn.Module, touched: list[int]) -> list[str] | None:
        """Name the parameters and buffers of a layer that it read; ``None`` if it read another's."""
        names = {self._param_of.get(id(tensor)): name for name, tensor in _list_weights(module)}
        return [names[index] for index in touched] if all(index in names for index in touched) else None


def _list_weights(module: nn.Module) -> list[tuple[str, Any]]:
    stores = (module.__dict__[store] for store in _STORES)
    return [(name, tensor) for store in stores for name, tensor in dict.items(store) if tensor is not None]


def _find_weight(module: nn.Module, name: str) -> Any:
    params, buffers = (module.__dict__[store] for store in _STORES)
    return dict.__getitem__(params if name in params else buffers, name)


def _count_modes() -> tuple[int, int]:
    """Count the modes that look at functions and operations: a forward that puts on one of its own is let run."""
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
