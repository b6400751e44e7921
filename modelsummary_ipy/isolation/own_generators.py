"""Random numbers of a real run: drawn from generators of its own, so that those of other threads are left alone.

torch has one default generator a device, which all threads draw from. To set it back after a run would hand out again
what another thread drew meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.torch_compat.distributed import is_wrapper
from modelsummary_ipy.torch_compat.fakes import (
    OpOverload,
    TorchDispatchMode,
    is_composite,
    pass_higher_order,
    schema_of,
)
from modelsummary_ipy.torch_compat.modules import is_default_generator

_ATEN = torch.ops.aten


class OwnGenerators(TorchDispatchMode):
    """While it is on, this thread's operations draw from copies of the default generators, in the states they had.

    A few kernels take no generator (attention with dropout and recurrent layers on cards, operations of extensions):
    these may draw from the default one.

    Attributes:
        may_draw: Whether such a kernel ran.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not annotated
        pass_higher_order(self)
        self.may_draw = False
        self._generators: dict[torch.device, torch.Generator] = {}
        self._seed = torch.initial_seed()
        self._find(torch.device("cpu"))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run ``func``, with a generator if it draws."""
        if any(map(is_wrapper, types)):
            return NotImplemented  # what it runs on what it holds comes here too
        return _find_way(func)(self, func, args, kwargs or {})

    def find_generator(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return the generator of the device that an operation runs on; ``None`` where there is no such device."""
        tensor = next((value for value in (*args, kwargs.get("out")) if isinstance(value, Tensor)), None)
        where = kwargs.get("device") or (tensor.device if tensor is not None else "cpu")
        return self._find(torch.device(where))

    def _find(self, device: torch.device) -> Any:
        if str(device) == "cuda":
            device = torch.device("cuda", torch.cuda.current_device())
        if device.type not in ("cpu", "cuda"):
            return None
        seed = torch.initial_seed()
        if seed != self._seed:  # the forward seeded anew
            self._generators.clear()
            self._seed = seed
        generator = self._generators.get(device)
        if generator is None:
            state = torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device)
            generator = self._generators[device] = torch.Generator(device)
            generator.set_state(state)
        return generator


#: Runs an operation: ``(mode, operation, args, kwargs)``.
_Way = Callable[[OwnGenerators, Any, Sequence[Any], Mapping[str, Any]], Any]


@cache
def _find_way(func: Any) -> _Way:
    if not isinstance(func, OpOverload):
        return _run
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return _run if func.namespace in _SPACES else _run_with_default
    if any("Generator" in str(argument.type) for argument in schema_of(func).arguments):
        return _run_with_generator
    if func in _MADE_OF_OTHERS:
        return _MADE_OF_OTHERS[func]
    own = _overload_with_generator(func)
    if own is not None:
        return lambda mode, _, args, kwargs: _run_with_generator(mode, own, args, kwargs)
    return _decompose if is_composite(func) else _run_with_default


_SPACES = frozenset({"aten", "prim", "prims", "c10d", "_c10d_functional", "fsdp", "quantized", "torchvision"})


def _overload_with_generator(func: Any) -> Any:
    """Return ``rand.generator`` for ``rand.default``, ``randint.low_generator`` for ``randint.low``, and so on."""
    packet, _, overload = str(func).removeprefix("aten.").partition(".")
    base = "" if overload in ("default", "out") else f"{overload.removesuffix('_out')}_"
    name = f"{base}generator{'_out' if overload.endswith('out') else ''}"
    return getattr(getattr(_ATEN, packet, None), name, None)


def _run(mode: OwnGenerators, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return func(*args, **kwargs)


def _run_with_default(mode: OwnGenerators, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    mode.may_draw = True
    return func(*args, **kwargs)


def _run_with_generator(mode: OwnGenerators, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    names = [argument.name for argument in schema_of(func).arguments]
    place = names.index("generator")
    given = args[place] if len(args) > place else kwargs.get("generator")
    is_own = given is not None and not is_default_generator(given)
    generator = None if is_own else mode.find_generator(args, kwargs)
    if generator is None:
        return func(*args, **kwargs)
    if len(args) > place:
        return func(*args[:place], generator, *args[place + 1 :], **kwargs)
    return func(*args, **{**kwargs, "generator": generator})


def _decompose(mode: OwnGenerators, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run what an operation consists of, with the mode on."""
    with mode:
        output = func.decompose(*args, **kwargs)
    return func(*args, **kwargs) if output is NotImplemented else output


def _fill(draw: Callable[..., Any], count: int) -> _Way:
    """Make a tensor like the first argument and fill it; ``count`` plain numbers after that say with what."""

    def run(mode: OwnGenerators, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        bounds = args[1 : 1 + count]
        made = torch.empty_like(args[0], **kwargs)
        return draw(made, *(bounds if count != 1 else (0, *bounds)), generator=mode.find_generator((made,), {}))

    return run


def _drop(mode: OwnGenerators, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    data, rate, train = args
    if train is False:
        return func(*args, **kwargs)
    mask = torch.empty_like(data, dtype=torch.bool).bernoulli_(1 - rate, generator=mode.find_generator(args, {}))
    return data * mask * (0.0 if rate == 1 else 1 / (1 - rate)), mask


_MADE_OF_OTHERS: dict[Any, _Way] = {
    _ATEN.rand_like.default: _fill(Tensor.uniform_, 0),
    _ATEN.randn_like.default: _fill(Tensor.normal_, 0),
    _ATEN.randint_like.default: _fill(Tensor.random_, 1),
    _ATEN.randint_like.low_dtype: _fill(Tensor.random_, 2),
    _ATEN.native_dropout.default: _drop,
}
