"""A tensor's size, stride, dtype and device without it: the 20,000 weights of a model share a few dozen of these."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.torch_compat.fakes import FakeTensor

#: Classes of tensors that have nothing besides what every tensor has.
PLAIN_CLASSES = frozenset({Tensor, nn.Parameter, nn.Buffer, FakeTensor})
_MOST_METAS = 10_000


class TensorMeta:
    """A tensor's size, stride, dtype, device and whether it requires grad; two that are equal are mostly one object.

    Attributes:
        size, stride, dtype, device, requires_grad: As the tensor has them; the size is ``None`` while it is lazy, the
            stride where it does not describe the layout in memory.
        shape: The size as a plain tuple, ``()`` while lazy.
        num: The number of its elements.
        nbytes: The bytes of its elements.
        dtype_name, device_name: As facts have them.
    """

    __slots__ = (
        "device", "device_name", "dtype", "dtype_name", "nbytes", "num", "requires_grad", "shape", "size", "stride",
    )  # fmt: skip

    def __init__(
        self,
        size: torch.Size | None,
        stride: tuple[int, ...] | None,
        dtype: torch.dtype,
        device: torch.device,
        requires_grad: bool,
    ) -> None:
        self.size = size
        self.stride = stride
        self.dtype = dtype
        self.device = device
        self.requires_grad = requires_grad
        self.shape: tuple[int, ...] = () if size is None else tuple(size)
        self.num = 0 if size is None else size.numel()
        self.nbytes = self.num * dtype.itemsize
        self.dtype_name = name_dtype(dtype)
        self.device_name = name_device(device)


_metas: dict[tuple[Any, ...], TensorMeta] = {}


def find_meta(tensor: Tensor, *, lazy: bool = False, plain: bool = True) -> TensorMeta:
    """Read a tensor's size, stride, dtype and device; equal ones are one object.

    A nested tensor has no one size: its meta has the number of its elements.

    Args:
        tensor: A real one, lazy ones too.
        lazy: Whether it has no size yet.
        plain: Whether its stride describes its layout in memory: see ``is_plain``.
    """
    if tensor.is_nested:
        size: torch.Size | None = torch.Size((tensor.numel(),))
    else:
        size = None if lazy else tensor.size()
    stride = tensor.stride() if plain and not lazy else None
    key = (size, stride, tensor.dtype, tensor.device, tensor.requires_grad)
    meta = _metas.get(key)
    if meta is None:
        if len(_metas) > _MOST_METAS:
            _metas.clear()
        meta = _metas[key] = TensorMeta(*key)
    return meta


def read_meta(tensor: Tensor) -> TensorMeta:
    """Do as ``find_meta``, of lazy tensors and of unusual subclasses too."""
    lazy = type(tensor) not in PLAIN_CLASSES and isinstance(tensor, UninitializedTensorMixin)
    return find_meta(tensor, lazy=lazy, plain=is_plain(tensor))


def is_plain(tensor: Tensor) -> bool:
    """Return whether a size and a stride describe a tensor: dense, without dispatch, neither quantized nor nested."""
    plain_class = isinstance(tensor, FakeTensor) or not has_dispatch(tensor)
    return plain_class and tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested


def has_dispatch(tensor: Tensor) -> bool:
    """Return whether a tensor's class runs the operations on it itself, by tensors that it holds."""
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__


class TensorTemplate:
    """What a tensor was, without the tensor: a ``ShadowTemplate`` holds these and keeps no tensor alive.

    Attributes:
        meta: Its size, stride, dtype, device and whether it requires grad.
        kind: The class it had: ``Tensor``, ``Parameter``, an uninitialised class, or a subclass.
        shared: A tensor that can't be described by a size and a stride (sparse, quantized, a subclass): itself.
        extras: The clone of its own ``__dict__``; ``None`` if that is empty.
        is_result: Whether autograd recorded how it was made: such a tensor may be written to, a leaf may not.
        values: A copy of the tensor itself, where it is small and counts something; else ``None``.
        local: Of a ``DTensor``: the template of this rank's part, and its spec (mesh, placements, global size).
    """

    # ``__weakref__``: recurrent layers of torch keep weak references to their weights.
    __slots__ = ("__weakref__", "extras", "is_result", "kind", "local", "meta", "shared", "values")

    def __init__(
        self, kind: type[Tensor], meta: TensorMeta, is_result: bool = False, shared: Tensor | None = None
    ) -> None:
        self.kind = kind
        self.meta = meta
        self.is_result = is_result
        self.shared = shared
        self.extras: dict[str, Any] | None = None
        self.values: Tensor | None = None
        self.local: tuple[TensorTemplate, Any] | None = None

    @property
    def is_lazy(self) -> bool:
        """Whether it had no size yet."""
        return self.meta.size is None


#: In a tensor's ``__dict__``: which call of the trace made it.
TAG = "_ms_link"


@cache
def name_dtype(dtype: torch.dtype) -> str:
    """Return ``"float32"`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


@cache
def name_device(device: torch.device) -> str:
    """Return ``"cpu"`` or ``"cuda:0"``."""
    return str(device)
