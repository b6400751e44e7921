"""The optimizer of a training step: by name, by class, or a copy of the user's own, over the copy's parameters."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from modelsummary_ipy.isolation.object_cloner import Cloner
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.training import OPTIMIZERS


class Lion(Optimizer):
    """Lion (Chen et al., 2023): one state a parameter, the step its sign. Torch has none."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # it never takes a closure's loss
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["exp_avg"] = torch.zeros_like(param)
                average = state["exp_avg"]
                update = average.mul(first).add_(param.grad, alpha=1 - first).sign_()
                param.add_(update, alpha=-group["lr"])
                average.mul_(second).add_(param.grad, alpha=1 - second)


_CLASSES: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "adafactor": (torch.optim.Adafactor, {}),
    "lion": (Lion, {}),
}


class OptimizerChoice:
    """An optimizer to train with; equal by identity, two of one name are one object.

    Args:
        trained: Names of the parameters that it optimizes; ``None``: all that require grad.
    """

    def __init__(self, name: str, make: Callable[[Shadow], Optimizer], trained: frozenset[str] | None = None) -> None:
        self.name = name
        self.make = make
        self._trained = trained

    def made_by(self, make: Callable[[Shadow], Optimizer]) -> OptimizerChoice:
        """Return one of the same name and parameters that is made otherwise."""
        return OptimizerChoice(self.name, make, self._trained)

    def leave_gradients(self, work: Shadow) -> None:
        """Give parameters a gradient that its ``zero_grad`` does not reach: it is there from the step before."""
        if self._trained is None or work.fake_mode is None:
            return
        with work.fake_mode, torch.no_grad():
            for name, tensor in work.module.named_parameters():
                if tensor.requires_grad and name not in self._trained:
                    tensor.grad = torch.empty_like(tensor)

    @property
    def keeps_two(self) -> bool:
        """Whether it is one of those that keep two tensors of a parameter's size; of the user's own that is unknown."""
        return self.name.lower().partition("-")[0] in ("adam", "adamw", "nadam", "radam", "adamax")


def read_optimizer(optimizer: Any, model: nn.Module | None = None) -> OptimizerChoice:
    """Read what a user calls an optimizer.

    Args:
        optimizer: A name of ``OPTIMIZERS``, a class of optimizers or one that optimizes the model: it is copied.

    Raises:
        InputError: If it is none of these, or optimizes no parameter of the model.
    """
    if isinstance(optimizer, OptimizerChoice):
        return optimizer
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        if optimizer not in _named:
            _named[optimizer] = OptimizerChoice(optimizer, lambda work: _build_named(optimizer, work))
        return _named[optimizer]
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        kind: Any = optimizer
        return OptimizerChoice(kind.__name__, lambda work: kind(_list_trainable(work)))
    if isinstance(optimizer, Optimizer) and model is not None:
        return _copy_optimizer(optimizer, model)
    expected = f"one of {', '.join(OPTIMIZERS)}, or an optimizer of torch.optim"
    raise InputError(f"optimizer={optimizer!r}", expected, "optimizer='adamw'")


_named: dict[str, OptimizerChoice] = {}


def without_foreach(choice: OptimizerChoice) -> OptimizerChoice | None:
    """Return the same optimizer going over parameters one by one; ``None`` if it does already."""
    base, _, way = choice.name.partition("-")
    if choice is _named.get(choice.name):
        return read_optimizer(f"{base}-single") if way in ("", "foreach") and base != "lion" else None

    def make(work: Shadow) -> Optimizer:
        made = choice.make(work)
        for group in made.param_groups:
            if "foreach" in group:
                group["foreach"] = False
        return made

    return choice.made_by(make)


def _list_trainable(work: Shadow) -> list[Tensor]:
    tensors = work.module.parameters()
    return [tensor for tensor in tensors if tensor.requires_grad]


def _build_named(name: str, work: Shadow) -> Optimizer:
    base, _, way = name.partition("-")
    kind, options = _CLASSES[base]
    options = dict(options)
    if kind is not Lion:
        options |= {"fused": True} if way == "fused" else {"foreach": way != "single"}
    return kind(_list_trainable(work), **options)


class _Place:
    """Stands in the place of a parameter in a copied optimizer, by the parameter's first name."""

    def __init__(self, name: str) -> None:
        self.name = name


def _copy_optimizer(optimizer: Optimizer, model: nn.Module) -> OptimizerChoice:
    """Copy an optimizer without its state and its hooks, each parameter by its name."""
    names = {id(param): name for name, param in model.named_parameters()}
    found = [param for group in optimizer.param_groups for param in group["params"] if id(param) in names]
    if not found:
        received = f"optimizer: a {type(optimizer).__name__} of other parameters"
        raise InputError(received, f"one of this model's, or one of {', '.join(OPTIMIZERS)}", "optimizer='adamw'")
    bare = copy.copy(vars(optimizer))
    bare["state"] = defaultdict(dict)
    bare["param_groups"] = [
        {**group, "params": [_Place(names[id(param)]) for param in group["params"] if id(param) in names]}
        for group in optimizer.param_groups
    ]
    bare |= {name: OrderedDict() for name, value in bare.items() if name.endswith("_hooks") and isinstance(value, dict)}
    kind = type(optimizer)
    template = Cloner(lambda value: value.detach().clone() if isinstance(value, Tensor) else value)(bare)

    def make(work: Shadow) -> Optimizer:
        params = dict(work.module.named_parameters())

        def fill(value: Any) -> Any:
            return params[value.name] if isinstance(value, _Place) else value.detach().clone()

        made: Optimizer = object.__new__(kind)
        made.__dict__.update(Cloner(fill, leaf_types=frozenset({_Place}))(template))
        return made

    trained = frozenset(names[id(param)] for param in found)
    return OptimizerChoice(kind.__name__, make, trained)
