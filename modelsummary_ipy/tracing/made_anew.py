"""Modules that a shadow gets in the place of others: made on fakes, with the dtype of what was there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.fake.fake_tensors import make_fake
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.torch_compat.fakes import TorchDispatchMode, find_operator

_READ_NUMBER = find_operator("_local_scalar_dense.default")


class GuessedValues(TorchDispatchMode):
    """Answers for values that an ``__init__`` asks of fakes: ``trunc_normal_`` draws until nothing is out of range."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _READ_NUMBER:
            return False if args[0].dtype == torch.bool else 0.0 if args[0].is_floating_point() else 0
        return func(*args, **(kwargs or {}))


def make_unfilled(work: Shadow, code: str, names: dict[str, Any]) -> Any:
    """Make a model whose weights are fakes: on the meta device, where filling them costs a sixth of what fakes take.

    An ``__init__`` that asks for values, which meta tensors have not, is run with fakes, and guessed values.
    """
    assert work.fake_mode is not None
    try:
        with torch.device("meta"):
            made = eval(code, names)
    except (RuntimeError, NotImplementedError) as error:
        if "meta" not in str(error):
            raise
        with work.fake_mode, torch.device(work.device), GuessedValues():
            return eval(code, names)
    fakes: dict[int, Any] = {}
    for module in made.modules() if isinstance(made, nn.Module) else ():
        own: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, vars(module))
        for held in own:
            for name, tensor in held.items():
                if isinstance(tensor, Tensor):
                    if id(tensor) not in fakes:
                        fakes[id(tensor)] = make_fake(tensor, work.fake_mode, work.device)
                    held[name] = fakes[id(tensor)]
    return made


def take_dtype(made: nn.Module, like: Tensor | None) -> None:
    """Give a new module the dtype of what was there, in a model of another one; complex numbers would be cut."""
    if like is not None and like.is_floating_point() and like.dtype != torch.get_default_dtype():
        made.to(dtype=like.dtype)
