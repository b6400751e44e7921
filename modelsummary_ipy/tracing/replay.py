"""One operation that a trace runs with fakes, run alone for real: on zeros of the same sizes, dtypes and devices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.inputs.pytree import map_leaves, walk_leaves
from modelsummary_ipy.isolation.ignored_warnings import warnings_ignored
from modelsummary_ipy.isolation.own_generators import OwnGenerators
from modelsummary_ipy.torch_compat.distributed import count_ranks, is_wrapper
from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of, unset_fake

#: Most numbers that the zeros of one operation may hold together: 64 MiB of float32.
_MOST_NUMBERS = 1 << 24


class UnknownError(Exception):
    """An operation could not be tried for real: too large, on a device that is not here, of tensors without zeros."""


#: Torch's words for what autograd forbids; zeros have no history to forbid it for.
_HISTORY = ("leaf Variable", "leaf variable", "requires grad", "in-place operation", "is a view")


def replay(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BaseException | None:
    """Run one operation for real, on zeros of the same sizes, dtypes and devices.

    Args:
        args, kwargs: Its arguments, with fakes; other values are passed as they are, lists of them copied.

    Returns:
        What it raised, ``None`` if it ran, an ``UnknownError`` if it could not be tried. torch's generators are
        not drawn from.
    """
    fakes = {id(leaf): leaf for _, leaf in walk_leaves((args, dict(kwargs)), "") if isinstance(leaf, Tensor)}
    is_collective = count_ranks() > 1 and "c10d" in str(func)
    if is_collective or any(is_wrapper(type(tensor)) for tensor in fakes.values()):
        return UnknownError()  # other ranks would have to take part
    device = _find_device(list(fakes.values()))
    is_large = sum(tensor.numel() for tensor in fakes.values()) > _MOST_NUMBERS
    if device is None or (is_large and not _is_refused_product(func, args)):
        return UnknownError()
    with _real_world():
        try:
            make = _make_expanded if is_large else _make_zeros
            made = {key: make(fake, device) for key, fake in fakes.items()}
        except (RuntimeError, NotImplementedError):
            return UnknownError()
        real_args, real_kwargs = map_leaves((args, dict(kwargs)), "", lambda _, leaf: made.get(id(leaf), leaf))
        try:
            func(*real_args, **real_kwargs)
        except Exception as error:  # noqa: BLE001  # the result that is wanted
            return error.with_traceback(None)
    return None


@contextlib.contextmanager
def _real_world() -> Iterator[None]:
    identity = torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
    with unset_fake(), OwnGenerators(), warnings_ignored(), identity:
        yield


def _find_device(tensors: list[Tensor]) -> torch.device | None:
    """Return where to try: where the tensors are, the CPU for those that are nowhere; ``None`` if it is not here."""
    kinds = {tensor.device for tensor in tensors if tensor.dim() or tensor.device.type != "cpu"} or {
        torch.device("cpu")
    }
    if len(kinds) > 1:
        return None
    device = kinds.pop()
    if device.type in ("cpu", "meta"):
        return torch.device("cpu")
    return device if device.type == "cuda" and torch.cuda.is_available() else None


def _is_refused_product(func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Return whether a product is refused for its inner sizes, before anything is computed."""
    pair = [value for value in args[:2] if isinstance(value, Tensor) and value.dim() > 1]
    inner = {"mm": -2, "bmm": -2, "matmul": -2, "__matmul__": -2, "linear": -1}.get(getattr(func, "__name__", ""))
    return len(pair) == 2 and inner is not None and pair[0].shape[-1] != pair[1].shape[inner]


def _make_expanded(fake: Tensor, device: torch.device) -> Tensor:
    """Make zeros that are one number in memory."""
    return torch.zeros((), dtype=fake.dtype, device=device).expand(fake.shape)


def _make_zeros(fake: Tensor, device: torch.device) -> Tensor:
    if not isinstance(fake, FakeTensor):
        return fake.detach().clone()
    if (known := constant_of(fake)) is not None:  # lengths and sizes: as zeros they would be refused
        return _copy_known(known, fake)
    if fake.layout != torch.strided or fake.is_nested:
        raise NotImplementedError
    size, stride = tuple(map(int, fake.shape)), tuple(map(int, fake.stride()))
    reach = sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1 if 0 not in size else 0
    zeros = torch.zeros(max(reach, 0), dtype=fake.dtype, device=device).as_strided(size, stride)
    return zeros.requires_grad_() if fake.requires_grad and fake.is_leaf else zeros


def _copy_known(known: Tensor, fake: Tensor) -> Tensor:
    """Copy known values; where several elements of the fake are one in memory they stay so: a write is refused."""
    if not is_expanded(fake):
        return known.clone()
    single = [slice(0, 1) if step == 0 else slice(None) for step in fake.stride()]
    strides = fake.stride()
    reach = sum((length - 1) * step for length, step in zip(fake.shape, strides, strict=True)) + 1
    copied = torch.zeros(int(reach), dtype=known.dtype, device=known.device).as_strided(fake.shape, strides)
    copied[tuple(single)] = known[tuple(single)]
    return copied


def is_about_history(message: str) -> bool:
    """Return whether a failure is about what autograd recorded, which a replay on fresh zeros can't show."""
    return any(words in message for words in _HISTORY)


def is_expanded(tensor: Tensor) -> bool:
    """Return whether several of a tensor's elements are one in memory."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return False
    return any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True))
