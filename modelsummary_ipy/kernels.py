"""The aten operations of a pass and what autograd saves of them, written to the call that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from modelsummary_ipy.facts import Kernel
from modelsummary_ipy.fakes import FakeMode
from modelsummary_ipy.leaves import name_dtype

__all__ = ["KernelLog"]

#: They make or re-label a tensor and compute nothing.
_FREE = frozenset(
    [
        "device",
        "detach",
        "alias",
        "view",
        "_unsafe_view",
        "reshape",
        "transpose",
        "t",
        "permute",
        "expand",
        "slice",
        "select",
        "unsqueeze",
        "squeeze",
        "as_strided",
        "split",
        "split_with_sizes",
        "unbind",
        "lift_fresh",
        "lift_fresh_copy",
        "unfold",
        "diagonal",
        "movedim",
        "view_as_real",
        "view_as_complex",
        "empty",
        "empty_strided",
        "empty_like",
        "new_empty",
        "new_empty_strided",
        "sym_size",
        "sym_numel",
        "sym_stride",
        "sym_storage_offset",
        "is_same_size",
        "_reshape_alias",
        "is_pinned",
        "set_",
        "resize_",
        "chunk",
        "narrow",
        "_local_scalar_dense",
    ]
)


class KernelLog:
    """Hears every aten operation and every tensor saved for backward while a pass runs.

    Args:
        current: Returns the record of the call that runs now, ``None`` outside all calls.

    Attributes:
        peak_bytes: The largest sum of live tensor storages; ``None`` if not measured.
    """

    def __init__(self, current: Callable[[], Any]) -> None:
        self._current = current
        self._excluded: set[int] = set()
        self._numbers: dict[int, int] = {}
        self.peak_bytes: int | None = None

    def exclude(self, tensors: Iterable[Tensor]) -> None:
        """Leave the storages of parameters and buffers out of what is saved."""
        for tensor in tensors:
            try:
                self._excluded.add(tensor.untyped_storage()._cdata)
            except (NotImplementedError, RuntimeError):  # sparse and opaque tensors have no storage
                continue

    @contextmanager
    def recording(self, fake_mode: FakeMode | None) -> Iterator[KernelLog]:
        """Record while the block runs; enters ``fake_mode`` if the tensors are fake."""
        with ExitStack() as stack:
            if fake_mode is not None:
                fake_mode.listener = self._hear
                stack.callback(setattr, fake_mode, "listener", None)
                stack.enter_context(fake_mode)
                stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self._save, _unchanged))
            else:
                stack.enter_context(_RealProbe(self._hear))
            yield self

    def _hear(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        plan = _plans.get(func) or _plan(func)
        if plan.free:
            return
        record = self._current()
        if record is not None:
            record.kernels.append(_write_kernel(plan, args, kwargs, output))

    def _save(self, tensor: Tensor) -> Tensor:
        record = self._current()
        if record is not None:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._excluded:
                number = self._numbers.setdefault(key, len(self._numbers))
                record.saved.append((number, storage.nbytes()))
        return tensor

    def build(self, kernels: list[Kernel]) -> tuple[Kernel, ...]:
        """Return the kernels of one record as facts."""
        return tuple(kernels)


class _RealProbe(TorchDispatchMode):
    def __init__(self, hear: Callable[..., None]) -> None:
        super().__init__()
        self._hear = hear

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self._hear(func, args, kwargs or {}, output)
        return output


class _Plan:
    """How to write down one aten operation: its name and which of its arguments are tensors."""

    __slots__ = ("arguments", "free", "name")

    def __init__(self, name: str, free: bool, arguments: tuple[tuple[str, bool], ...]) -> None:
        self.name = name
        self.free = free
        self.arguments = arguments


_plans: dict[Any, _Plan] = {}


def _plan(func: Any) -> _Plan:
    schema = func._schema
    base = schema.name.partition("::")[2]
    arguments = tuple((argument.name, "Tensor" in str(argument.type)) for argument in schema.arguments)
    plan = _plans[func] = _Plan(str(func), base in _FREE or func.namespace == "prim", arguments)
    return plan


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _write_kernel(plan: _Plan, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Kernel:
    inputs: list[tuple[int, ...] | None] = []
    plain: list[tuple[str, Any]] = []
    for position, (name, is_tensor) in enumerate(plan.arguments):
        value = args[position] if position < len(args) else kwargs.get(name)
        if isinstance(value, Tensor):
            inputs.append(tuple(value.shape))
        elif is_tensor:
            if isinstance(value, (list, tuple)):
                inputs += [tuple(item.shape) if isinstance(item, Tensor) else None for item in value]
            else:
                inputs.append(None)
        elif value is None or isinstance(value, (bool, int, float, str)):
            plain.append((name, value))
        elif isinstance(value, (list, tuple)) and len(value) <= 32:
            plain.append((name, tuple(value)))
    made = output if isinstance(output, (tuple, list)) else (output,)
    tensors = [item for item in made if isinstance(item, Tensor)]
    dtype = name_dtype(tensors[0].dtype) if tensors else ""
    return Kernel(plan.name, tuple(inputs), tuple(tuple(item.shape) for item in tensors), tuple(plain), dtype)
