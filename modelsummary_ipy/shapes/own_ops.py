"""Operations of the user's own: what they do to axes, from one line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modelsummary_ipy.axes.registry import Axes, EntryError, Op, Size, register_entry
from modelsummary_ipy.costs.mac_formulas import imply_mult_adds, name_operation
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import AtenOp

_EXAMPLE = "register_op('mylib::fused_mlp', 'b t i, i h, h o -> b t o')"


def register_op(op: Any, axes: str | Callable[..., Any]) -> None:
    """Register what an operation of your own does to axes: formulas, limits and multiply-adds follow from it.

    Args:
        op: The operation, ``torch.ops.mylib.fused_mlp``, or its name, ``"mylib::fused_mlp"``.
        axes: The names of the axes of its tensors, in order, and of its results, ``"b t i, i h, h o -> b t o"``. Axes
            of one name are equal; ``...`` stands for any axes in front, a number for an axis of that size. An axis that
            no result has is summed: that counts as multiply-adds, from left to right, unless ``register_mult_adds``
            says otherwise. Or a function that takes a list of sizes for each tensor, and returns one for each result;
            it may add, subtract, multiply and divide (``//``) them.

    Raises:
        InputError: If ``op`` is no operation, or ``axes`` can't be read.

    Example:
        >>> register_op("mylib::fused_mlp", "b t i, i h, h o -> b t o")
        >>> register_op("mylib::pair", lambda x, y: [[x[0], x[1] + y[1]]])
    """
    name = ".".join(name_operation(op).split(".")[:2])
    if callable(axes):
        register_entry(name, _call(axes))
        return
    letters = _parse(axes)
    register_entry(name, letters.find)
    imply_mult_adds(name, letters.count if letters.sums else None)


def _call(function: Callable[..., Any]) -> Callable[[Op], Sequence[Axes]]:
    def find(op: Op) -> Sequence[Axes]:
        try:
            return [list(made) for made in function(*op.tensors())]
        except Exception as error:
            raise EntryError(f"fails with {type(error).__name__}: {error}") from error

    return find


def _parse(text: Any) -> _Letters:
    """Read names of axes, or say what is wrong with them."""
    expected = "the axes of each tensor and of each result, 'b t i, i o -> b t o', or a function"
    if not isinstance(text, str) or text.count("->") != 1:
        raise InputError(f"axes {text!r}", expected, _EXAMPLE)
    sides = [[part.split() for part in side.split(",")] for side in text.split("->")]
    for name in (name for side in sides for part in side for name in part):
        if not re.fullmatch(r"\.\.\.|[A-Za-z_]\w*|\d+", name):
            raise InputError(f"axis {name!r} in {text!r}", "names, numbers and '...', with spaces between", _EXAMPLE)
    inputs, outputs = sides
    known = {name for part in inputs for name in part}
    for part in (*inputs, *outputs):
        if "..." in part[1:]:
            raise InputError(f"'...' behind other axes in {text!r}", "'...' in front of a tensor's axes", _EXAMPLE)
    for name in (name for part in outputs for name in part):
        if name not in known and not name.isdigit():
            raise InputError(f"axis {name!r} of a result in {text!r}", "an axis that a tensor has", _EXAMPLE)
    return _Letters(text, tuple(map(tuple, inputs)), tuple(map(tuple, outputs)))


@dataclass(frozen=True)
class _Letters:
    """Names of axes.

    Attributes:
        text: As they were given.
        inputs, outputs: Per tensor, its names.
    """

    text: str
    inputs: tuple[tuple[str, ...], ...]
    outputs: tuple[tuple[str, ...], ...]

    def find(self, op: Op) -> Sequence[Axes]:
        """Return the axes of all results."""
        found: dict[str, list[Size]] = {}
        for name, axes in self._pair(op.tensors()):
            known = found.setdefault(name, axes)
            if [op.value(size) for size in known] != [op.value(size) for size in axes]:
                raise EntryError(f"takes {name} to be {_write(op, known)} and {_write(op, axes)}")
            found[name] = [op.equal(one, two) for one, two in zip(known, axes, strict=True)]
        found |= {name: [int(name)] for part in self.outputs for name in part if name.isdigit()}
        return [[size for name in part for size in found[name]] for part in self.outputs]

    def _pair(self, tensors: Sequence[Axes]) -> Iterator[tuple[str, list[Size]]]:
        """Yield every name with the axes that it stands for."""
        if len(tensors) != len(self.inputs):
            raise EntryError(f"takes {len(self.inputs)} tensors, and got {len(tensors)}")
        for number, (names, axes) in enumerate(zip(self.inputs, tensors, strict=True)):
            rest = len(axes) - len(names) + 1 if "..." in names else 0
            if rest < 0 or ("..." not in names and len(axes) != len(names)):
                raise EntryError(f"gives tensor {number} {len(names)} axes, and it has {len(axes)}")
            at = 0
            for name in names:
                count = rest if name == "..." else 1
                if name.isdigit() and axes[at] != int(name):
                    raise EntryError(f"takes axis {at} of tensor {number} to be {name}")
                yield name, list(axes[at : at + count])
                at += count

    @property
    def sums(self) -> bool:
        """Whether an axis that two tensors have is in no result."""
        made = {name for part in self.outputs for name in part}
        return len(self.inputs) > 1 and any(name not in made for part in self.inputs for name in part)

    def count(self, aten_op: AtenOp) -> int | None:
        """Count the multiply-adds of the products from left to right; ``None`` where torch's sizes are others."""
        tensors = [size for size in aten_op.inputs if size is not None]
        sizes: dict[str, list[int]] = {name: [int(name)] for part in self.outputs for name in part if name.isdigit()}
        try:
            pairs = list(self._pair(tensors))
        except EntryError:
            return None
        if any(sizes.setdefault(name, axes) != axes for name, axes in pairs):
            return None
        made = [[size for name in part for size in sizes[name]] for part in self.outputs]
        if made != [list(size) for size in aten_op.outputs]:
            return None
        return sum(math.prod(math.prod(sizes[name]) for name in names) for names in self._products())

    def _products(self) -> Iterator[set[str]]:
        """Yield the axes of every product that sums an axis, or makes a tensor larger than both."""
        made = {name for part in self.outputs for name in part}
        left = set(self.inputs[0])
        for place, part in enumerate(self.inputs[1:], 1):
            right = set(part)
            later = made.union(*self.inputs[place + 1 :])
            both = left | right
            kept = both & later
            if kept != both or (left - right and right - left):
                yield both
            left = kept


def _write(op: Op, axes: Sequence[Size]) -> str:
    return " ".join(str(op.value(size)) for size in axes)
