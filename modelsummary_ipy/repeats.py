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
from modelsummary_ipy.fakes import FakeMode, build_fake
from modelsummary_ipy.memo import Made, add_part, is_fresh

__all__ = ["Repeats"]

#: What every module has, and what of it decides how a layer answers.
_MACHINERY = frozenset(vars(nn.Module()))
_STORES = ("_parameters", "_buffers")


class _Answer:
    """What a layer gave: its output, the aten operations it ran and the names of the weights that it read."""

    __slots__ = ("kernels", "made", "weights")

    def __init__(self, made: Made, kernels: list[Any], weights: list[str]) -> None:
        self.made = made
        self.kernels = kernels
        self.weights = weights


class Repeats:
    """Answers of one pass, by class, settings, sizes of weights and sizes of inputs.

    A pass with grad must not use it, for what it makes has no history; neither must one that follows storages.

    Args:
        mode: The mode of the pass's fakes.
        param_of: Index of a parameter's facts by ``id`` of its tensor, or of its stub while there is none.
    """

    def __init__(self, mode: FakeMode, param_of: Mapping[int, int]) -> None:
        self._mode = mode
        self._param_of = param_of
        self._answers: dict[Any, _Answer] = {}
        self._modes = _count_modes()

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], record: Any) -> Any:
        """Call a layer of torch's own, or answer in its place, and write to ``record`` what it ran and read."""
        if kwargs or torch.is_grad_enabled() or isinstance(module, torch.jit.ScriptModule):
            return module.forward(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            key = self._find_key(module, args)
            answer = self._answers.get(key)
            if answer is not None:
                record.kernels += answer.kernels
                record.params += [self._param_of[id(_find_weight(module, name))] for name in answer.weights]
                return self._make(answer.made, args)
        output = module.forward(*args)
        if key is not None:
            with torch._C.DisableTorchFunction():
                self._keep(key, module, args, output, record)
        return output

    def _keep(self, key: Any, module: nn.Module, args: tuple[Any, ...], output: Any, record: Any) -> None:
        is_same = bool(args) and output is args[0]
        weights = self._name_weights(module, record.params)
        if weights is None or type(output) is not FakeTensor or not add_part([], output, self._mode):
            return
        weights_read = [tensor for _, tensor in _list_weights(module)]
        if is_same or is_fresh(output, [*args, *weights_read]):
            made = Made(output, "self" if is_same else "fresh")
            self._answers[key] = _Answer(made, list(record.kernels), weights)

    def _make(self, made: Made, args: tuple[Any, ...]) -> Any:
        if made.way == "self":
            return args[0]
        with torch._C._DisableTorchDispatch():
            meta = torch.empty_strided(made.size, made.stride, dtype=made.dtype, device="meta")
            return build_fake(self._mode, meta, made.device)

    def _find_key(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Write down all that an answer depends on; ``None`` if that is more than settings and sizes."""
        if _count_modes() != self._modes or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            return None
        state, mode = module.__dict__, self._mode
        parts: list[Any] = [type(module), module.training, torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        for value in args:
            if not add_part(parts, value, mode):
                return None
        for store in _STORES:
            for name, value in dict.items(state[store]):  # as they are: weights that nobody read yet stay unmade
                parts.append(name)
                if not (_add_stub(parts, value) if type(value) is Stub else add_part(parts, value, mode)):
                    return None
        for name, value in state.items():
            if name not in _MACHINERY:
                parts.append(name)
                if not add_part(parts, value, mode):
                    return None
        return tuple(parts)

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


def _add_stub(parts: list[Any], stub: Stub) -> bool:
    """Add what ``add_part`` adds for the fake that would be made of a stub."""
    if stub.stride is None or stub.values is not None or stub.shared is not None or stub.is_result or stub.extras:
        return False
    parts += (stub.size, stub.stride, stub.dtype, stub.device, 0, False)
    return True


def _count_modes() -> tuple[int, int]:
    """Count the modes that look at functions and operations: a forward that puts on one of its own is let run."""
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
