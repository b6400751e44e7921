"""A real training step on the CPU and every storage in it, written without a line of the package's."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["RealStep", "real_optimizer", "run_real_step", "sum_outputs"]


@dataclass
class RealStep:
    """Bytes that live after each operation that made a storage, by phase; the first is before the step."""

    live: list[int] = field(default_factory=list)
    forward: int = 0
    backward: int = 0
    optimizer: int = 0
    gradients: int = 0
    state: int = 0


class _Storages(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, Any] = {}
        self.now = 0
        self.live: list[int] = []

    def see(self, value: Any) -> bool:
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            return False
        storage = value.untyped_storage()
        address, nbytes = storage._cdata, storage.nbytes()
        if address in self.alive:
            return False

        def die(_: Any) -> None:
            self.now -= nbytes
            del self.alive[address]

        self.alive[address] = weakref.ref(storage, die)
        self.now += nbytes
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if sum(map(self.see, out if isinstance(out, (tuple, list)) else (out,))):
            self.live.append(self.now)
        return out


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def sum_outputs(output: Any) -> Any:
    """The sum of all floating outputs that require grad; the output's own loss if it has one."""
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if own is not None:
        return own
    total: Any = None
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.requires_grad:
            total = leaf.sum() if total is None else total + leaf.sum()
    return total


def run_real_step(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    optimizer: Callable[[Any], torch.optim.Optimizer],
    loss: Callable[[Any], Tensor] = sum_outputs,
    method: str = "forward",
    accumulate: int = 1,
    autocast: bool = False,
    dtype: torch.dtype = torch.bfloat16,
    scaled: bool = False,
) -> RealStep:
    """Run two steps of training for real and follow the second: the first makes the optimizer's state."""
    call = model if method == "forward" else getattr(model, method)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0, enabled=scaled)
    own = optimizer([param for param in model.parameters() if param.requires_grad])

    def take_step(storages: _Storages | None, step: RealStep) -> None:
        # A region around it, also one that is not enabled, would keep the casts of one in the model to its own end.
        with torch.autocast("cpu", dtype=dtype) if autocast else contextlib.nullcontext():
            output = call(*args, **(kwargs or {}))
            total = loss(output)
        ends = [len(storages.live)] if storages else []
        if scaled:
            scaler.scale(total).backward()
        else:
            total.backward()
        ends += [len(storages.live)] if storages else []
        if storages is not None:
            storages.live.append(storages.now)
        step.gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        if scaled:
            scaler.step(own)
            scaler.update()
        else:
            own.step()
        if storages is not None:
            first, second = ends
            live = storages.live
            step.live = live
            step.forward = max(live[:first])
            step.backward = max(live[first:second], default=0)
            step.optimizer = max(live[second:])

    with _collector_off():
        take_step(None, RealStep())
        own.zero_grad(set_to_none=True)
        for _ in range(accumulate - 1):
            loss(call(*args, **(kwargs or {}))).backward()
        for leaf in tree_leaves((args, dict(kwargs or {}))):
            if isinstance(leaf, Tensor):
                leaf.grad = None
        gradients = [param.grad for param in model.parameters() if param.grad is not None]
        storages, step = _Storages(), RealStep()
        leaves = [leaf for leaf in tree_leaves((args, dict(kwargs or {}))) if isinstance(leaf, Tensor)]
        state = [leaf for leaf in tree_leaves(list(own.state.values())) if isinstance(leaf, Tensor)]
        scales = [value for value in vars(scaler).values() if isinstance(value, Tensor)]
        for tensor in [*model.parameters(), *model.buffers(), *leaves, *state, *gradients, *scales]:
            storages.see(tensor)
        step.state = sum(tensor.nbytes for tensor in state)
        del gradients, scales
        storages.live.append(storages.now)
        with storages:
            take_step(storages, step)
    return step


class RealLion(torch.optim.Optimizer):
    """Lion, as its paper's appendix writes it."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if not self.state[p]:
                        self.state[p]["m"] = torch.zeros_like(p)
                    m = self.state[p]["m"]
                    update = m.data.mul(0.9).add_(p.grad, alpha=0.1).sign_()
                    p.data.add_(update, alpha=-1e-4)
                    m.mul_(0.99).add_(p.grad, alpha=0.01)


def real_optimizer(name: str) -> Callable[[Any], torch.optim.Optimizer]:
    """Return what makes the optimizer that is called so, ``adamw-single``, of torch's own but for Lion."""
    base, _, way = name.partition("-")
    if base == "lion":
        return RealLion
    options: dict[str, Any] = {"fused": True} if way == "fused" else {"foreach": way != "single"}
    if base in ("sgd", "momentum"):
        return lambda params: torch.optim.SGD(params, 0.1, momentum=0.9 * (base == "momentum"), **options)
    kind: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "adafactor": torch.optim.Adafactor}[base]
    return lambda params: kind(params, **options)
