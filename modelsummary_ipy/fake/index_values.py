"""What indices would be where fakes don't know: a lookup beyond the end of an axis fails as in a real run.

Of integers that a size stands for it is taken that they hold none of the numbers that they are compared with, no
padding: positions that are counted from such a mask are known then. Only lookups read these values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelsummary_ipy.fake.known_values import MOST_VALUES
from modelsummary_ipy.records.retraced import WHERE
from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of, disable_dispatch, schema_of

#: Where a fake keeps what is known of its values.
VALUES = "ms_values"
#: Values of more elements are not followed: the distances between 2,048 positions.
_MOST = 1 << 22
#: Dtypes of places.
INTEGERS = (torch.int64, torch.int32)
_ATEN = torch.ops.aten
#: By operation, which of its arguments are the table, the dim, and the places on it.
_LOOKUPS: dict[Any, tuple[int, int | None, int]] = {
    _ATEN.embedding.default: (0, None, 1),
    **dict.fromkeys((_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default), (0, None, 1)),
    **dict.fromkeys((
        _ATEN.index_select.default, _ATEN.gather.default, _ATEN.scatter.src, _ATEN.scatter.value, _ATEN.scatter_.src,
        _ATEN.scatter_.value, _ATEN.scatter_add.default, _ATEN.scatter_add_.default, _ATEN.scatter_reduce.two,
        _ATEN.scatter_reduce_.two, _ATEN.index_add.default, _ATEN.index_add_.default, _ATEN.index_copy.default,
        _ATEN.index_copy_.default, _ATEN.index_fill.int_Scalar, _ATEN.index_fill_.int_Scalar,
    ), (0, 1, 2)),
}  # fmt: skip
#: Where a place may be counted from the end too.
_SUBSCRIPTS = (
    _ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN.index_fill.int_Scalar,
    _ATEN.index_fill_.int_Scalar,
)  # fmt: skip
#: What comes of a comparison with a number that is not held, and is below what is.
_COMPARES = {
    _ATEN.ne.Scalar: True, _ATEN.ne.Tensor: True, _ATEN.gt.Scalar: True,
    _ATEN.eq.Scalar: False, _ATEN.eq.Tensor: False, _ATEN.le.Scalar: False,
}  # fmt: skip
_COPIES = frozenset({_ATEN._to_copy.default, _ATEN.clone.default, _ATEN.lift_fresh.default})
_MADE = frozenset({
    _ATEN.arange.default, _ATEN.arange.start, _ATEN.arange.start_step, _ATEN.zeros.default, _ATEN.ones.default,
    _ATEN.full.default,
})  # fmt: skip


class Values(NamedTuple):
    """What is known of a fake's values.

    Attributes:
        written: Is filled when something unknown is written to them, or to what they are a view of.
        tensor: All of them, ``None`` if they are not known.
        largest: The largest of them, where they are not known one by one.
        condition: When they are these: ``"ids holds no 1"``; ``""`` if always.
        source: The input that they are, of which nothing else is known.
    """

    written: list[Any]
    tensor: Tensor | None = None
    largest: int | None = None
    condition: str = ""
    source: str = ""


def mark_input(fake: Any, name: str, largest: int | None = None) -> None:
    """Note of an input of integers that its values are not known, or what the largest is."""
    if type(fake) is FakeTensor and fake.dtype in INTEGERS and constant_of(fake) is None:
        fake.__dict__[VALUES] = Values([], largest=largest, source="" if largest is not None else name)


def mark_like(fake: Tensor, other: Tensor) -> None:
    """Note of an input at another size what is known of it."""
    values = other.__dict__.get(VALUES)
    if values is not None and type(fake) is FakeTensor:
        fake.__dict__[VALUES] = values


def is_followed(tensor: Any) -> bool:
    """Return whether lookups read more than the size of a tensor."""
    values = tensor.__dict__.get(VALUES) if type(tensor) is FakeTensor else None
    return values is not None and not values.source


# -- operations -------------------------------------------------------------------------------------------------------


def follow(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
    """Note what an operation makes of values that are known, where torch's fakes don't."""
    if not any(VALUES in one.__dict__ for one in _tensors(args)):
        is_large = type(output) is FakeTensor and output.dtype in INTEGERS and output.numel() > MOST_VALUES
        if not is_large or constant_of(output) is not None:
            return
    if schema_of(func).is_mutable:
        _write(func, args, kwargs)
        return
    given = [_read(one) for one in _tensors((*args, *kwargs.values()))]
    made = _compare(func, args, output) or _compute(func, args, kwargs, given, output) or _hand_on(func, given, output)
    for one, values in zip(_listed(output), made, strict=False):
        if type(one) is FakeTensor and constant_of(one) is None:
            one.__dict__[VALUES] = values


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)


def _tensors(args: Sequence[Any]) -> Iterator[FakeTensor]:
    for value in args:
        if type(value) is FakeTensor:
            yield value
        elif type(value) in (list, tuple):
            yield from (item for item in value if type(item) is FakeTensor)


def _read(fake: FakeTensor) -> Values | None:
    known = constant_of(fake)
    if known is None:
        values: Values | None = fake.__dict__.get(VALUES)
        return None if values is None or values.written else values
    return Values([], known) if known.is_cpu and not known.is_complex() else None


def _compare(func: Any, args: Sequence[Any], output: Any) -> list[Values]:
    values = _read(args[0]) if func in _COMPARES and type(args[0]) is FakeTensor else None
    if values is None or not values.source or output.numel() > _MOST:
        return []
    number = args[1]
    if type(number) is FakeTensor:
        known = constant_of(number)
        if known is None or known.numel() != 1:
            return []
        number = known.item()
    if func in (_ATEN.gt.Scalar, _ATEN.le.Scalar) and number != 0:
        return []
    with disable_dispatch():
        made = torch.full(output.shape, _COMPARES[func], device="cpu")
    return [Values([], made, condition=f"{values.source} holds no {number}")]


def _compute(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], given: list[Values | None], output: Any
) -> list[Values]:
    """Do an operation all of whose values are known."""
    known = [values for values in given if values is not None and values.tensor is not None]
    is_drawn = torch.Tag.nondeterministic_seeded in func.tags
    if len(known) < len(given) or is_drawn or not (given or func in _MADE):
        return []
    if sum(one.numel() for one in _listed(output) if isinstance(one, Tensor)) > _MOST:
        return []
    made = _do(func, args, kwargs)
    condition = _join(values.condition for values in known)
    written = known[0].written if func.is_view else []
    return [Values(written, one, condition=condition) for one in _listed(made) if isinstance(one, Tensor)]


def _do(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    with disable_dispatch():
        given = {name: _to_values(value) for name, value in kwargs.items()}
        if given.get("device") is not None:
            given["device"] = torch.device("cpu")
        return func(*map(_to_values, args), **given)


def _to_values(value: Any) -> Any:
    if type(value) is FakeTensor:
        values = _read(value)
        return None if values is None else values.tensor
    return [_to_values(item) for item in value] if isinstance(value, (list, tuple)) else value


def _join(conditions: Iterator[str]) -> str:
    return " and ".join(dict.fromkeys(one for each in conditions for one in each.split(" and ") if one))


def _hand_on(func: Any, given: list[Values | None], output: Any) -> list[Values]:
    """Return what is known of the values of a view, or of a copy, that are not known one by one."""
    if len(given) != 1 or given[0] is None or not (func.is_view or func in _COPIES):
        return []
    values = given[0]
    if values.tensor is not None:  # too many
        values = values._replace(tensor=None, largest=int(values.tensor.max())) if values.tensor.numel() else Values([])
    return [values] * len(_listed(output))


def _write(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Write to the values too, which a tensor shares with its views; else these are forgotten."""
    written = args[0] if args and type(args[0]) is FakeTensor else None
    values = None if written is None else written.__dict__.get(VALUES)
    if written is None or values is None:
        return
    given = [_read(one) for one in _tensors((*args, *kwargs.values()))]
    known = [one for one in given if one is not None and one.tensor is not None]
    if len(known) == len(given):
        _do(func, args, kwargs)
        written.__dict__[VALUES] = values._replace(condition=_join(one.condition for one in known))
    else:
        values.written.append(func)


# -- lookups ----------------------------------------------------------------------------------------------------------


class Places(NamedTuple):
    """Where a lookup reads an axis.

    Attributes:
        dim: Of the table.
        values: What is known of the tensor of places.
        largest: The largest one.
    """

    dim: int
    values: Values
    largest: int


def list_places(func: Any, args: Sequence[Any]) -> list[Places]:
    """List the tensors of places that a lookup reads of which something is known."""
    if func not in _LOOKUPS:
        return []
    _, dim_at, places_at = _LOOKUPS[func]
    found = []
    for place, index in enumerate(_listed(args[places_at])):
        if type(index) is not FakeTensor or index.dtype not in INTEGERS or (values := _read(index)) is None:
            continue
        largest = values.largest
        if values.tensor is not None and values.tensor.numel():
            with disable_dispatch():
                largest = int(values.tensor.max())
        if largest is not None:
            found.append(Places(place if dim_at is None else args[dim_at], values, largest))
    return found


def check_lookup(func: Any, args: Sequence[Any]) -> None:
    """Refuse places that are known to lie beyond the end of an axis.

    Raises:
        IndexError, RuntimeError: As the real operation does, with where it does in the message: ``", where ids holds
            no 1"``.
    """
    for dim, values, largest in list_places(func, args):
        table = args[_LOOKUPS[func][0]]
        size = table.shape[dim] if table.dim() else 1
        least = 0
        if values.tensor is not None and not values.condition:
            with disable_dispatch():
                least = int(values.tensor.min())
        lowest = -size if func in _SUBSCRIPTS else 0
        if lowest <= least and largest < size:
            continue
        odd = largest if largest >= size else least
        is_table = func in (_ATEN.embedding.default, _ATEN.index_select.default)
        words = (
            f"index out of range in self: {odd} in a table of {size} rows" if is_table
            else f"index {odd} is out of bounds for dimension {dim % max(table.dim(), 1)} with size {size}"
        )  # fmt: skip
        kind = IndexError if is_table or func in _SUBSCRIPTS else RuntimeError
        words += WHERE + values.condition if values.condition else ""
        raise build_error(kind, words, max(largest - size + 1, 0))


def build_error(kind: type[Exception], message: str, overrun: int = 0) -> Exception:
    """Build what the real operation raises of values that are known.

    Args:
        overrun: How far places lie beyond the end of an axis.
    """
    error = kind(message)
    error.__dict__[VALUES] = overrun
    return error


def find_overrun(error: BaseException | None) -> int | None:
    """Return how far places lay beyond the end of an axis, 0 if not; ``None`` if known values made no error."""
    for _ in range(8):  # code around it may raise another
        if error is None or VALUES in error.__dict__:
            break
        error = error.__cause__ or error.__context__
    return None if error is None else error.__dict__.get(VALUES)
