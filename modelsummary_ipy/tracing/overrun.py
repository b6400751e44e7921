"""Indices beyond the end of a table: fakes hold no values, but some are known, and a real lookup would fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from modelsummary_ipy.model.torch_layers import classes_of, functions_of
from modelsummary_ipy.records.trace import Call, Link, Trace
from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of, disable_dispatch
from modelsummary_ipy.tracing.real_op_checks import check_operation

#: They hand numbers on without changing them.
_CARRIERS = frozenset(
    {
        "view", "reshape", "unsqueeze", "squeeze", "expand", "expand_as", "repeat", "flatten", "unflatten", "to",
        "long", "int", "contiguous", "clone", "detach", "transpose", "permute", "t", "T", "movedim", "type_as", "type",
        "cat", "stack",
    }
)  # fmt: skip


#: They pick rows of their first input by the integers of their second one.
_PICKING = frozenset({"getitem", "gather", "index_select"})
_WHOLE = (slice(None), slice(0, None))


def find_beyond(trace: Trace, largest: Callable[[int], int | None]) -> Beyond | None:
    """Find the lookup of ``find_overrun``, as a guard needs it."""
    found = find_overrun(trace, largest)
    return None if found is None else Beyond(_LOOKUPS, found[0], describe_overrun(*found[1:]))


def find_overrun(
    trace: Trace, largest: Callable[[int], int | None], *, picked: bool = False
) -> tuple[int, int, int] | None:
    """Find the first lookup in a table whose index is known to lie beyond the table's end.

    Fakes hold no values, but what ``torch.arange`` counts up to is known, and so are the values the user gave.

    Args:
        trace: A trace with fakes that came to its end.
        largest: Returns the largest value of an input leaf, where the user gave integers; ``None`` if unknown.
        picked: Whether tables count too from which an index picks rows, ``table[positions]``.

    Returns:
        The number of the lookup among all ``embedding`` functions, the largest index, the number of rows; or ``None``.
    """
    number = -1
    for call in trace.calls:
        rows, link = None, None
        if _is_lookup(call, trace):
            number += 1
            rows, link = count_rows(call, trace), call.input_links[0] if call.input_links else None
        elif picked and call.kind == "op" and call.type_name in _PICKING and len(call.input_links) == 2:
            rows, link = _count_picked(call), call.input_links[1]
        most = _find_largest(trace, link, largest, 32) if rows is not None else None
        if rows is not None and most is not None and most >= rows:
            return number, most, rows
    return None


def count_beyond(indices: Any = None, table: Any = None, *_: Any) -> tuple[int, str] | None:
    """Return how far a lookup goes beyond the end of its table, and the message; ``None`` if it is not known to.

    Args:
        indices: Fakes of what is looked up; of unknown values where they were not counted.
        table: Its rows.
    """
    values = constant_of(indices) if isinstance(indices, FakeTensor) else None
    if values is None or not isinstance(table, Tensor) or not table.dim() or not values.numel():
        return None
    with disable_dispatch():
        largest = int(values.max())
    rows = table.shape[0]
    return None if largest < rows else (largest - rows + 1, f"index {largest} in a table of {rows} rows")


def _is_lookup(call: Call, trace: Trace) -> bool:
    if call.kind == "op":
        return call.type_name in functions_of("embedding")
    if call.module is None or call.type_name not in classes_of("embedding"):
        return False
    return trace.modules[call.module].type_module.startswith("torch.")


def count_rows(call: Call, trace: Trace) -> int | None:
    """Return the rows of the table that a lookup reads; ``None`` if they are unknown."""
    if call.kind == "op":
        return call.inputs[1].shape[0] if len(call.inputs) > 1 and call.inputs[1].shape else None
    assert call.module is not None
    rows = trace.modules[call.module].settings.get("num_embeddings")
    return rows if isinstance(rows, int) else None


def _count_picked(call: Call) -> int | None:
    """Count the rows that an index picks from; ``None`` where it is not the first of several."""
    given, shape = dict(call.arguments), call.inputs[0].shape
    dim = given.get("dim")
    if call.type_name == "getitem":
        places = given.get("1", (...,))  # an ellipsis for the tensor
        dim = (
            0 if isinstance(places, tuple) and [*map(type, places)].count(type(...)) == 1 and places[0] is ... else None
        )
    return shape[dim] if type(dim) is int and -len(shape) <= dim < len(shape) else None


def _find_largest(trace: Trace, link: Link | None, largest: Callable[[int], int | None], fuel: int) -> int | None:
    """Follow an index back to where its values are known; ``None`` if they are not."""
    if link is None or fuel == 0:
        return None
    if link.call < 0:
        return largest(link.leaf)
    call = trace.calls[link.call]
    if call.type_name == "arange":
        return _last_of_arange(call)
    if call.type_name in ("ones", "ones_like", "new_ones"):
        return 1
    if call.kind != "op" or not call.input_links:
        return None
    before = _find_largest(trace, call.input_links[0], largest, fuel - 1)
    given = dict(call.arguments)
    if call.type_name in _CARRIERS or (call.type_name == "getitem" and _is_whole(given.get("1", ...))):
        return before
    if call.type_name == "mul" and before is not None and len(call.input_links) == 2:  # positions × a mask of ones
        other = _find_largest(trace, call.input_links[1], largest, fuel - 1)
        return None if other is None else before * other
    if call.type_name == "sub" and before is not None and _is_outer(call):  # of positions and positions from 0 on
        other = _find_largest(trace, call.input_links[1], largest, fuel - 1)
        return None if other is None else before
    dim = given.get("dim")
    if call.type_name == "cumsum" and before == 1 and type(dim) is int:  # counts a mask
        return call.inputs[0].shape[dim]
    if call.type_name in ("add", "sub") and before is not None and len(call.inputs) == 1:
        shift = given.get("other")
        return None if type(shift) is not int else before + shift if call.type_name == "add" else before - shift
    return None


def _is_outer(call: Call) -> bool:
    """Return whether two tensors have no dim in common: each of one meets each of the other."""
    shapes = [spec.shape for spec in call.inputs]
    if len(shapes) != 2:
        return False
    one, two = (tuple(reversed(shape)) for shape in shapes)
    return all(a == 1 or b == 1 for a, b in zip(one, two, strict=False))


def _is_whole(places: object) -> bool:
    """Whether a subscript leaves nothing out: ``[:, 0:]``, ``[None, :]``."""
    parts = places if isinstance(places, tuple) else (places,)
    return all(part is None or part in _WHOLE for part in parts)


def _last_of_arange(call: Call) -> int | None:
    given = dict(call.arguments)
    start, end, step = given.get("start", 0), given.get("end"), given.get("step", 1)
    if not all(type(value) is int for value in (start, end, step)) or step <= 0 or end <= start:
        return None
    return int(start + (end - start - 1) // step * step)


class Beyond(NamedTuple):
    """An index that is known to lie outside of what it picks from.

    Attributes:
        names: The functions that are counted.
        number: Which call of them, from 0 on.
        message: What a real run would say, and the numbers.
    """

    names: frozenset[str]
    number: int
    message: str


_LOOKUPS = frozenset({"embedding"})
#: They take classes as labels.
_LABEL_LOSSES = frozenset({"cross_entropy", "nll_loss"})


class LookupCheck:
    """A guard that does what ``check_operation`` does, and notes the first known index that goes beyond.

    Of a lookup, where indices count that an offset was added to, or of a loss whose labels the user gave.

    Attributes:
        found: ``None`` if there is none.
    """

    def __init__(self) -> None:
        self.found: Beyond | None = None
        self._counts = dict.fromkeys((_LOOKUPS, _LABEL_LOSSES), -1)

    def __call__(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Look at one call of a torch function before it runs."""
        names = _LOOKUPS if name in _LOOKUPS else _LABEL_LOSSES if name in _LABEL_LOSSES else None
        if names is not None:
            self._counts[names] += 1
            if self.found is None:
                message = _describe_values(name, args, kwargs)
                self.found = Beyond(names, self._counts[names], message) if message else None
        check_operation(func, name, args, kwargs)


def check_values(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse what a real run would: a known index beyond its table, known labels that are no classes.

    Raises:
        IndexError: As the real function does.
    """
    if message := _describe_values(name, args, kwargs):
        raise IndexError(message)


def _describe_values(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    if name in _LOOKUPS:
        return describe_beyond(*args[:2])
    return _describe_labels(args, kwargs) if name in _LABEL_LOSSES else ""


def describe_beyond(indices: Any = None, table: Any = None) -> str:
    """Return which index of a lookup is beyond its table, or negative; ``""`` if none is known to be."""
    found = count_beyond(indices, table)
    if found is not None:
        return describe_overrun(table.shape[0] + found[0] - 1, table.shape[0])
    values = constant_of(indices) if isinstance(indices, FakeTensor) else None
    if values is None or not isinstance(table, Tensor) or not table.dim() or not values.numel():
        return ""
    with disable_dispatch():
        least = int(values.min())
    return describe_overrun(least, table.shape[0]) if least < 0 else ""


def describe_overrun(most: int, rows: int) -> str:
    """Return what a real run would raise of an index beyond a table."""
    return f"index out of range in self: {most} in a table of {rows} rows"


def _describe_labels(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return which labels of a loss are no classes, as a real run would; ``""`` if none is known."""
    scores = args[0] if args else kwargs.get("input")
    labels = args[1] if len(args) > 1 else kwargs.get("target")
    values = constant_of(labels) if isinstance(labels, FakeTensor) else None
    if values is None or not isinstance(scores, Tensor) or not scores.dim() or values.is_floating_point():
        return ""
    with disable_dispatch():
        kept = values[values != kwargs.get("ignore_index", -100)]
        least, most = (int(kept.min()), int(kept.max())) if kept.numel() else (0, 0)
    classes = scores.shape[min(scores.dim() - 1, 1)]
    odd = most if most >= classes else least
    return "" if least >= 0 and most < classes else f"Target {odd} is out of bounds: {least} to {most} of {classes}"


def fail_at(beyond: Beyond) -> Callable[..., None]:
    """Return a guard that does what ``check_operation`` does and fails the call that is known to."""
    seen = -1

    def check(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        nonlocal seen
        if name in beyond.names:
            seen += 1
            if seen == beyond.number:
                raise IndexError(beyond.message)
        check_operation(func, name, args, kwargs)

    return check
