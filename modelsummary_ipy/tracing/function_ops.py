"""A torch function as people write it: its name, whether it writes in place, and its plain arguments by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.model.class_cache import once_a_class
from modelsummary_ipy.torch_compat.fakes import schema_of

#: Attributes of a tensor that make another tensor; all others are only read.
_TENSOR_ATTRIBUTES = frozenset({"T", "mT", "H", "mH", "real", "imag"})
#: They read what a tensor is, and are no step of the forward.
_READERS = frozenset(
    [
        "size", "dim", "ndimension", "stride", "numel", "nelement", "element_size", "storage_offset",
        "is_contiguous", "is_floating_point", "is_complex", "is_conj", "is_neg", "is_inference", "is_signed",
        "is_tensor", "is_storage", "type", "__len__", "__repr__", "__str__", "__format__", "__hash__", "data_ptr",
        "untyped_storage", "storage", "get_device", "has_names", "register_hook", "retain_grad", "requires_grad_",
        "is_shared", "is_pinned", "is_same_size", "__deepcopy__", "__reduce_ex__", "__dlpack__", "_is_view",
        "finfo", "iinfo", "get_default_dtype", "result_type", "can_cast", "promote_types", "is_grad_enabled",
        "_has_compatible_shallow_copy_type", "broadcast_shapes",
    ]
)  # fmt: skip
_OPERATORS = {
    "getitem", "setitem", "matmul", "invert", "neg", "abs", "pow", "bool", "contains", "index", "float", "int",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OpInfo:
    """What is known of a torch function before it runs.

    Attributes:
        name: ``"view"``, ``"add"``, ``"relu_"``.
        only_reads: Whether it only reads a tensor: no step of the forward.
        inplace: Whether it writes into its first argument.
        reads_data: ``.data`` and the like: another object for the same tensor.
    """

    name: str
    only_reads: bool = False
    inplace: bool = False
    reads_data: bool = False


@functools.cache
def describe_op(func: Callable[..., Any]) -> OpInfo:
    """Return what is known of a function; it is found once, for a forward calls it thousands of times."""
    name: str = getattr(func, "__name__", type(func).__name__)
    name = name.partition(".")[0] or name  # torch.ops.mylib.fused_mlp.default
    owner = getattr(func, "__self__", None)
    if name in ("__get__", "__set__", "__delete__") and owner is not None:
        attribute = getattr(owner, "__name__", "") or getattr(getattr(owner, "fget", None), "__name__", "")
        reads_data = name == "__get__" and attribute == "data"
        return OpInfo(
            attribute, only_reads=name != "__get__" or attribute not in _TENSOR_ATTRIBUTES, reads_data=reads_data
        )
    only_reads = name in _READERS or name.startswith(("is_", "_is_"))
    plain = name.strip("_") if name.startswith("__") else name
    inplace = name == "__setitem__" or (name.endswith("_") and not name.startswith("_"))
    if name.startswith("__i") and plain[1:] in _ARITHMETIC:
        return OpInfo(f"{plain[1:]}_".replace("truediv", "div"), inplace=True)
    if name.startswith("__") and plain not in _OPERATORS and plain[:1] == "r" and plain[1:] in _ARITHMETIC:
        plain = plain[1:]
    return OpInfo(plain.replace("truediv", "div"), only_reads=only_reads, inplace=inplace)


_ARITHMETIC = frozenset(
    ["add", "sub", "mul", "div", "truediv", "floordiv", "pow", "mod", "matmul", "and", "or", "xor", "lshift", "rshift"]
)


def simplify_argument(value: Any) -> Any:
    """Write a plain argument down without keeping anything of the user's alive; a tensor becomes ``Ellipsis``."""
    if isinstance(value, Tensor):
        return ...
    if value is None or isinstance(value, (bool, str, int, float, complex)):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(simplify_argument(item) for item in value[:32])
    if isinstance(value, slice):
        parts = (simplify_argument(value.start), simplify_argument(value.stop), simplify_argument(value.step))
        return slice(*parts)
    if isinstance(value, (torch.dtype, torch.device, torch.layout, torch.memory_format)):
        return str(value).removeprefix("torch.")
    if value is Ellipsis:
        return "..."
    return type(value).__name__


def name_arguments(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """Give simplified arguments their names, and leave the tensors out.

    Names come from the function's signature, or for a function written in C++ from the aten schema whose arguments fit;
    where neither is known a position is its own name. ``x.view(2, -1)`` and ``x.view((2, -1))`` are written alike.
    """
    names = _signature_names(func) or _schema_names(name.rstrip("_") or name, tuple(map(_kind, args)))
    if names and len(args) > len(names):  # ints written one by one: x.permute(0, 2, 1)
        start = len(names) - 1
        args = (*args[:start], tuple(args[start:]))
    elif names and names[-1] in _LISTED and len(args) == len(names) and isinstance(args[-1], int):
        args = (*args[:-1], (args[-1],))
    found: list[tuple[str, Any]] = []
    for position, value in enumerate(args):
        if value is not ...:
            found.append((names[position] if names and position < len(names) else str(position), value))
    found += [(key, value) for key, value in kwargs.items() if value is not ...]
    return tuple(found)


_LISTED = frozenset({"size", "shape", "dims", "repeats"})


def _kind(value: Any) -> str:
    if value is ...:
        return "Tensor"
    if isinstance(value, tuple):
        return "Tensor[]" if any(item is ... for item in value) else "int[]"
    return type(value).__name__


@functools.lru_cache(maxsize=4096)
def _signature_names(func: Callable[..., Any]) -> tuple[str, ...]:
    code = getattr(func, "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return ()
    return tuple(code.co_varnames[: code.co_argcount])


@functools.lru_cache(maxsize=4096)
def _schema_names(name: str, kinds: tuple[str, ...]) -> tuple[str, ...]:
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or not hasattr(packet, "overloads"):
        return ()
    best: tuple[str, ...] = ()
    for overload in packet.overloads():
        schema = schema_of(getattr(packet, overload))
        arguments = [argument for argument in schema.arguments if not argument.kwarg_only]
        if _fits(kinds, [str(argument.type) for argument in arguments]):
            return tuple(argument.name for argument in arguments)[: max(len(kinds), 1)]
    return best


def _fits(kinds: tuple[str, ...], types: list[str]) -> bool:
    for position, kind in enumerate(kinds):
        if position >= len(types):
            # More ints than arguments: they are the last argument, written one by one.
            return kind == "int" and bool(types) and "List[int]" in types[-1] and kinds[len(types) - 1] == "int"
        wanted = types[position]
        fits = {
            "Tensor": wanted in ("Tensor", "Optional[Tensor]"),
            "Tensor[]": "List[Tensor]" in wanted or "List[Optional[Tensor]]" in wanted,
            "int[]": "List[int]" in wanted or "List[float]" in wanted,
            "int": wanted in ("int", "Optional[int]", "number", "Optional[number]", "float") or "List[int]" in wanted,
            "float": wanted in ("float", "Optional[float]", "number", "Optional[number]"),
            "bool": wanted in ("bool", "Optional[bool]"),
            "str": wanted in ("str", "Optional[str]") or wanted in ("int", "Optional[int]"),  # a dtype is an int there
            "NoneType": wanted.startswith("Optional"),
        }.get(kind, False)
        if not fits:
            return False
    return True


def list_module_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """List what is no tensor among the arguments of a module, by position or name."""
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return ()
    given = [(str(position), value) for position, value in enumerate(args)] + list(kwargs.items())
    named = [(name, simplify_argument(value)) for name, value in given]
    return tuple((name, value) for name, value in named if value is not ...)


@once_a_class
def parameter_names(kind: type[nn.Module], method: str) -> tuple[str, ...]:
    """Return the names of the positional parameters of a method."""
    written = inspect.unwrap(getattr(kind, method, None) or (lambda: None))  # below the decorators
    code = getattr(written, "__code__", None)
    return tuple(code.co_varnames[1 : code.co_argcount]) if code else ()
