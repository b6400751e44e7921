"""The mode that fake tensors live in, and how one is made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.fake.index_values import check_lookup, follow
from modelsummary_ipy.fake.kernel_layouts import refuse_kernel
from modelsummary_ipy.torch_compat.distributed import is_planning_shards, is_wrapper
from modelsummary_ipy.torch_compat.fakes import (
    FakeTensor,
    FakeTensorMode,
    TorchDispatchMode,
    make_bare_fake,
    make_first_fake,
    require_device,
)

#: Gets ``(operation, args, kwargs, result)`` of every aten operation, once it ran.
Listener = Callable[[Any, Sequence[Any], Mapping[str, Any], Any], None]


class FakeMode(FakeTensorMode):
    """Torch's fake mode with a listener for the operations that run in it.

    It has no fallback kernels: torch would run an operation that has no shape rule on zeros, and that is arithmetic.
    Such a model goes to the real engine, which says so.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True, allow_fallback_kernels=False)
        self.listener: Listener | None = None
        self.meets_wrappers = False
        self.assumed_number: float | None = None  # what a single number of unknown value is read as
        self.templates: dict[torch.device, tuple[torch.device, dict[str, Any]]] = {}
        self.classes: dict[type, type] = {}  # of fakes of subclasses, by the class of the user's
        self.given_devices = {"cpu", "meta"}  # types of those that the model and its inputs are on

    def admit(self, device: torch.device) -> None:
        """Raise what torch raises for a device that this machine does not have: a torch built for it fakes any.

        A model that the user made of fakes may be on such a device.
        """
        if device.type not in self.given_devices:
            require_device(device)


class StockFakeMode(FakeMode):
    """A fake mode whose operations a second dispatch mode observes: without torch's private hooks, and slower."""

    def __init__(self) -> None:
        super().__init__()
        self._observers: list[Any] = []
        self.is_observed = False

    def __enter__(self) -> Any:
        super().__enter__()
        # Torch enters the mode again for the parts of an operation that it decomposes: these are not observed.
        self._observers.append(contextlib.nullcontext() if self.is_observed else _Observer(self))
        self._observers[-1].__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._observers.pop().__exit__(*error)
        super().__exit__(*error)


class _Observer(TorchDispatchMode):
    def __init__(self, mode: StockFakeMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not annotated
        self._mode = mode

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        mode = self._mode
        if any(map(is_wrapper, types)):
            mode.meets_wrappers = True
            return NotImplemented
        was_observed, mode.is_observed = mode.is_observed, True
        try:
            refuse_kernel(func, args)
            check_lookup(func, args)
            output = func(*args, **(kwargs or {}))
            follow(func, args, kwargs or {}, output)
        finally:
            mode.is_observed = was_observed
        if type(output) is FakeTensor:
            mode.admit(output.fake_device)
        is_planning = mode.meets_wrappers and is_planning_shards()
        if mode.listener is not None and not was_observed and not is_planning:
            mode.listener(func, args, kwargs or {}, output)
        return output


def build_fake(mode: Any, meta: Tensor, device: torch.device, requires_grad: bool = False) -> FakeTensor:
    """Make the fake of an empty meta tensor.

    The first of a mode and device is made by torch's constructor; what that set on it is set on all later ones, which
    cost a quarter (a forward of 10,000 small layers makes 40,000).
    """
    template = mode.templates.get(device) if make_bare_fake is not None and isinstance(mode, FakeMode) else None
    if template is None or make_bare_fake is None:
        if isinstance(mode, FakeMode):
            mode.admit(device)
        fake: FakeTensor = make_first_fake(mode, meta, device, requires_grad=requires_grad)
        if isinstance(mode, FakeMode):
            # Without the mode: it would hold itself.
            rest = {name: value for name, value in fake.__dict__.items() if value is not mode}
            mode.templates[device] = fake.fake_device, rest
        return fake
    fake = make_bare_fake(meta, template[0], requires_grad)
    fake.__dict__.update(template[1], fake_mode=mode)
    return fake
