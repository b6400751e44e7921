"""Which dims of the input, and which layers, the entries of an axis come from: factors that operations pass on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["input", "feature", "plain", "mixed"]


@dataclass(eq=False, slots=True)
class Factor:
    """A part of an axis that no reshape has cut.

    Attributes:
        size: How many entries it has.
        kind: Of a dim of the model's input; made by a parameter; ``"plain"`` of a parameter or a constant, which goes
            with any other; ``"mixed"`` of several whose entries are in no order.
        roots: The dims of the input, and the layers (``"the features of fc1"``), that its entries depend on.
        name: As messages write it.
        whole: What it was split from, and which half it is.
        half: ``"outer"`` or ``"inner"``; ``""`` if it was not split.
        halves: What it was split into, by the size of the outer half.
    """

    size: int
    kind: Kind
    roots: frozenset[str] = frozenset()
    name: str = ""
    whole: Factor | None = None
    half: str = ""
    halves: dict[int, tuple[Factor, Factor]] = field(default_factory=dict)


class Axis:
    """An ordered product of factors, the outer one first; it is added, multiplied and divided like its size.

    Attributes:
        factors: The factors; none for an axis of 1.
        size: Their product.
        roots: What its entries depend on.
        is_plain: Whether it goes with any other axis of its size.
        origin: The axis that arithmetic began with: a convolution that keeps a size keeps the axis.
    """

    __slots__ = ("factors", "is_plain", "origin", "roots", "size")

    def __init__(self, factors: Iterable[Factor], size: int | None = None, origin: Axis | None = None) -> None:
        self.factors = tuple(factors)
        self.size = math.prod([factor.size for factor in self.factors]) if size is None else size
        self.roots = frozenset[str]().union(*[factor.roots for factor in self.factors])
        self.is_plain = all(factor.kind == "plain" for factor in self.factors)
        self.origin = origin

    @property
    def is_feature(self) -> bool:
        """Whether parameters made all of it."""
        return bool(self.factors) and all(factor.kind == "feature" for factor in self.factors)

    def has(self, root: str) -> bool:
        """Return whether its entries depend on a dim of the input."""
        return root in self.roots

    def resized(self, size: int) -> Axis:
        """Return the axis that arithmetic made of this one: itself again, where it has its first size again."""
        first = self.origin or self
        if size == first.size:
            return first
        kinds = {factor.kind for factor in first.factors}
        kind: Kind = kinds.pop() if len(kinds) == 1 else "input" if "input" in kinds else "mixed"
        if not first.factors:
            kind = "mixed"  # what a dim of 1 becomes has no past
        name = write_axis(first) if kind == "feature" else f"{write_axis(first)}′"
        factors = [Factor(size, kind, first.roots, name)] if size != 1 else []
        return Axis(factors, size, first)

    def __add__(self, other: Size) -> Axis:
        if isinstance(other, Axis) and not other.is_plain:
            kinds = {factor.kind for axis in (self, other) for factor in axis.factors}
            kind: Kind = kinds.pop() if len(kinds) == 1 else "input"
            roots, name = self.roots | other.roots, f"{write_axis(self)} + {write_axis(other)}"
            if len(name) > _LONGEST_NAME:  # joined again and again, as in dual-path nets, it would double each time
                terms = name.split(" + ")
                name = f"{terms[0]} + … + {terms[-1]}"
            return Axis([Factor(self.size + other.size, kind, roots, name)])
        return self.resized(self.size + value_of(other))

    __radd__ = __add__

    def __sub__(self, other: Size) -> Axis:
        return self.resized(self.size - value_of(other))

    def __rsub__(self, other: Size) -> Axis:
        return self.resized(value_of(other) - self.size)

    def __mul__(self, other: Size) -> Axis:
        if isinstance(other, Axis):
            return Axis([*self.factors, *other.factors])
        return self.resized(self.size * other)

    def __rmul__(self, other: Size) -> Axis:
        return self * other

    def __floordiv__(self, other: Size) -> Axis:
        return self.resized(self.size // value_of(other))


#: How dims of the input that are positions are called: height, width, depth, length, time.
_POSITIONS = frozenset("HWDLT")
#: Of more characters a sum is shortened.
_LONGEST_NAME = 400


#: A size in a walk for meaning.
Size = Axis | int


def is_position(axis: Axis) -> bool:
    """Return whether an axis is one of the input along which its entries stand: height, width, length, time."""
    return bool(axis.factors) and all(
        factor.kind == "input" and all(root[0] in _POSITIONS for root in factor.roots) for factor in axis.factors
    )


def value_of(size: Size) -> int:
    """Return a size as a number."""
    return size.size if isinstance(size, Axis) else size


def roots_of(axes: Iterable[Axis]) -> frozenset[str]:
    """Return what several axes depend on."""
    return frozenset().union(*(axis.roots for axis in axes))


def input_axis(name: str, size: int) -> Axis:
    """Return a dim of the model's input."""
    return Axis([Factor(size, "input", frozenset([name]), name)])


def plain_axis(size: int) -> Axis:
    """Return an axis of a parameter or a constant."""
    return Axis([Factor(size, "plain", name=str(size))] if size != 1 else [])


def write_axis(axis: Axis) -> str:
    """Write an axis: ``H``, ``H′``, ``B·heads``."""
    return "·".join(factor.name or str(factor.size) for factor in axis.factors) or "1"


def split(factor: Factor, outer: int) -> tuple[Factor, Factor]:
    """Cut a factor in two; equal cuts of one factor give the same halves, so that queries and keys are cut alike."""
    if outer not in factor.halves:
        inner = factor.size // outer
        names = (f"{outer} of {factor.name}", f"{inner} of {factor.name}")
        factor.halves[outer] = (
            Factor(outer, factor.kind, factor.roots, names[0], factor, "outer"),
            Factor(inner, factor.kind, factor.roots, names[1], factor, "inner"),
        )
    return factor.halves[outer]


def merge(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """Put the two halves of a factor together again where they are next to each other in order."""
    found: list[Factor] = []
    for factor in factors:
        found.append(factor)
        while len(found) > 1 and (whole := found[-1].whole) is not None:
            if whole.halves.get(found[-2].size) != (found[-2], found[-1]):
                break
            found[-2:] = [whole]
    return tuple(found)
