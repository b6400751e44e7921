"""``Size``: the placeholder of a tensor — sizes, names of dims, a dtype — and its grammar."""

from __future__ import annotations

import difflib
import functools
import math
import numbers
import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any

from modelsummary_ipy.records.errors import InputError

_EXAMPLE = "(1, 3, 224, 224) or (B=8, 3, H=224, W=224)"
_TOKEN = re.compile(r"\s*(?:(?P<name>[^\W\d]\w*)\s*=\s*)?(?P<number>[+-]?\w+(?:\.\w+)?)\s*(?:,|\s|$)")
#: Most numbers in a tensor: torch counts them in 64 bits, and an overflow inside it is no message for a user.
_MOST = 2**63 - 1
#: What is offered for a misspelt dtype, and read without torch; it also has sub-byte ones that few operations take.
_USUAL = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")


class Size:
    """The size of a tensor that is to be made up: accepted wherever a size is.

    Args:
        size: Text such as ``"B=8 3 H=224 W=224"`` (commas, parentheses and a ``:int64`` at the end are welcome; a name
            alone repeats its size: ``"S=256, S"``), ints, or one int; ``()`` is the size of a scalar.
        dims: A name per dim, ``""`` where it has none; in text they are before the number.
        dtype: ``"int64"``, ``torch.int64``; ``None`` lets the layer that reads the tensor decide.

    Attributes:
        shape: The sizes, each at least 1.
        dims: A name per dim.
        dtype: Name of the dtype, or ``None``.

    Raises:
        InputError: If a size is zero, negative, no int or beyond what torch can count, a name is none or comes twice
            with two sizes, or the dtype is unknown.

    Example:
        >>> Size("B=8 3 H=224 W=224").shape
        (8, 3, 224, 224)
        >>> Size((1, 128), dtype="int64")
        Size('1 128', dtype='int64')
        >>> print(Size("B=2, T=16", dtype="int64"))
        (B=2, T=16):int64
    """

    __slots__ = ("dims", "dtype", "shape")

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str | None

    def __init__(self, size: str | int | Iterable[int], dims: Iterable[str] | None = None, dtype: Any = None) -> None:
        if isinstance(size, str):
            text, colon, written = size.partition(":")
            names, found = _read_text(text)
            dtype = written.strip() if colon and dtype is None else dtype
        else:
            given = _list_numbers(size)
            found = [_check_number(number, given) for number in given]
            names = list(dims) if dims is not None else [""] * len(found)
        _check_names(names, found)
        if math.prod(found) > _MOST:
            raise InputError(f"size {tuple(found)}", f"at most {_MOST} elements in a tensor", _EXAMPLE)
        if math.prod(found) > _MOST // 16:  # of the widest dtype: torch counts bytes in 64 bits
            raise InputError(f"size {tuple(found)}", f"at most {_MOST} bytes in a tensor", _EXAMPLE)
        object.__setattr__(self, "shape", tuple(found))
        object.__setattr__(self, "dims", tuple(names))
        object.__setattr__(self, "dtype", None if dtype is None else read_dtype(dtype))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Size can't be changed; make another: Size({self.words!r}).with_dtype(…)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Size can't be changed")

    @property
    def words(self) -> str:
        """The size as ``Size`` takes it: ``"B=8 3 H=224 W=224"``."""
        return " ".join(_write_dims(self)) or "()"

    def with_shape(self, shape: Iterable[int]) -> Size:
        """Return the same with other sizes; names stay if there are as many dims."""
        sizes = tuple(shape)
        return Size(sizes, self.dims if len(sizes) == len(self.dims) else None, self.dtype)

    def with_dtype(self, dtype: Any) -> Size:
        """Return the same with another dtype."""
        return Size(self.shape, self.dims, dtype)

    def __str__(self) -> str:
        dims = _write_dims(self)
        inner = ", ".join(dims) + ("," if len(dims) == 1 else "")
        return f"({inner})" + (f":{self.dtype}" if self.dtype else "")

    def __repr__(self) -> str:
        return f"Size({self.words!r}" + (f", dtype={self.dtype!r})" if self.dtype else ")")

    def _key(self) -> tuple[Any, ...]:
        return self.shape, self.dims, self.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> Any:
        return Size, (self.shape, self.dims, self.dtype)


def _write_dims(size: Size) -> list[str]:
    return [f"{name}={number}" if name else str(number) for name, number in zip(size.dims, size.shape, strict=True)]


def _list_numbers(size: Any) -> tuple[Any, ...]:
    if isinstance(size, (int, float)):
        return (size,)
    try:
        return tuple(size)
    except TypeError:
        raise InputError(f"size {size!r}", "positive integers", _EXAMPLE) from None


def _check_names(names: list[str], numbers: list[int]) -> None:
    if len(names) != len(numbers):
        raise InputError(f"{len(names)} dim names for {len(numbers)} sizes", "one name per size, '' for none")
    sizes: dict[str, int] = {}
    for name, number in zip(names, numbers, strict=True):
        if name and not name.isidentifier():
            raise InputError(f"dim name {name!r}", "a name such as B, or '' for none", _EXAMPLE)
        if name and sizes.setdefault(name, number) != number:
            raise InputError(f"dim {name} with the sizes {sizes[name]} and {number}", "one size for one name", _EXAMPLE)


def _read_text(text: str) -> tuple[list[str], list[int]]:
    inner = text.strip()
    if not inner:
        raise InputError("an empty size", "sizes such as 8 or B=8", _EXAMPLE)
    if inner[0] + inner[-1] in ("()", "[]"):
        inner = inner[1:-1].strip()
    names: list[str] = []
    found_numbers: list[int] = []
    place = 0
    while place < len(inner):
        found = _TOKEN.match(inner, place)
        if found is None:
            raise InputError(f"{inner[place:].strip()!r} in size {text!r}", "sizes such as 8 or B=8", _EXAMPLE)
        name, word = found["name"] or "", found["number"]
        if not name and word in names:  # "S=256, S": the name of an earlier dim has its number
            names.append(word)
            found_numbers.append(found_numbers[names.index(word)])
            place = found.end()
            continue
        try:
            number: Any = int(word)
        except ValueError:
            raise InputError(f"{word!r} in size {text!r}", "a number, or NAME=number", _EXAMPLE) from None
        names.append(name)
        found_numbers.append(_check_number(number, text))
        place = found.end()
    return names, found_numbers


def _check_number(number: Any, size: Any) -> int:
    shown = repr(size) if isinstance(size, str) else tuple(size)
    if isinstance(number, bool):
        raise InputError(f"{number!r} in size {shown}", "positive integers", _EXAMPLE)
    try:
        whole = operator.index(number)
    except TypeError:
        raise InputError(f"{number!r} in size {shown}", "positive integers", _EXAMPLE) from None
    if whole < 1:
        raise InputError(f"{whole} in size {shown}", "sizes of at least 1", _EXAMPLE)
    return whole


def read_dtype(dtype: Any) -> str:
    """Return the name of a dtype given as ``torch.int64``, ``"int64"``, ``"long"``, ``"torch.int64"`` or ``np.int64``.

    Raises:
        InputError: If torch has no such dtype; the message has the nearest names.
    """
    if isinstance(dtype, type) and dtype.__module__ == "numpy":
        dtype = dtype.__name__
    name = str(dtype).removeprefix("torch.").strip()
    if name in _USUAL:
        return name
    known = _list_dtypes()
    if name not in known:
        near = difflib.get_close_matches(name, _USUAL, 3, 0.5)
        raise InputError(f"dtype {name!r}", f"a dtype of torch such as {', '.join(near or ['float32', 'int64'])}")
    return known[name]


@functools.cache
def _list_dtypes() -> dict[str, str]:
    """Every name that a dtype has in torch, and the usual short ones -> the name torch writes."""
    import torch

    known = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    known |= {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}
    return {name: str(value).removeprefix("torch.") for name, value in known.items() if not name.startswith("_")}


def is_flat(value: Any) -> bool:
    """Return whether ``value`` is a sequence of numbers, which is read as one size.

    ``(1, 3, -1)`` and ``(1, 2.5)`` are sizes with a mistake in them, not arguments of a forward.
    """
    if not isinstance(value, (list, tuple)) or isinstance(value, Mapping) or hasattr(value, "_fields"):
        return False
    return bool(value) and all(isinstance(item, numbers.Number) for item in value)
