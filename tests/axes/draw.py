"""Draws calls of aten operations: the same call at several sizes, for the sizes of axes have names."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.axes.expr import Expr, constant, floor_of, symbol

__all__ = ["Call", "Dim", "Draw"]

#: What an operation is called with: its overload, positional arguments, keywords.
Call = tuple[Any, Sequence[Any], Mapping[str, Any]]


class Dim(int):
    """A size that knows which expression of the named sizes it is."""

    expr: Expr

    def __new__(cls, value: int, expr: Expr) -> Dim:
        made = super().__new__(cls, value)
        made.expr = expr
        return made

    def __mul__(self, other: int) -> Dim:
        return Dim(int(self) * int(other), self.expr * _expr(other))

    def __add__(self, other: int) -> Dim:
        return Dim(int(self) + int(other), self.expr + _expr(other))

    def __sub__(self, other: int) -> Dim:
        return Dim(int(self) - int(other), self.expr - _expr(other))

    def __floordiv__(self, other: int) -> Dim:
        return Dim(int(self) // int(other), floor_of(_expr(self) // int(other)))

    __rmul__ = __mul__
    __radd__ = __add__


def _expr(size: int) -> Expr:
    return size.expr if isinstance(size, Dim) else constant(int(size))


class Draw:
    """One drawn call.

    Args:
        seed: The same seed draws the same call, whatever the sizes.
        sizes: By name, the sizes that axes may have.
        spoil: Which axis, counted over all tensors, is made larger by one, so that torch may refuse the call.
        device: Where tensors are made: ``"cpu"`` for operations that have no kernel on ``"meta"``.

    Attributes:
        given: By ``id`` of a tensor, the expressions of its axes.
        tensors: All tensors, kept alive.
    """

    def __init__(self, seed: int, sizes: Mapping[str, int], *, spoil: int | None = None, device: str = "meta") -> None:
        self._random = random.Random(seed)
        self._sizes = sizes
        self._spoil = spoil
        self.device = device
        self.num_axes = 0
        self.given: dict[int, list[Expr]] = {}
        self.tensors: list[Tensor] = []

    def below(self, end: int) -> int:
        """Draw an integer from 0; one random number, whatever comes out, so that the next ones are the same."""
        return int(self._random.random() * end)

    def maybe(self, share: float = 0.5) -> bool:
        """Draw yes or no."""
        return self._random.random() < share

    def pick(self, *values: Any) -> Any:
        """Draw one of the values."""
        return values[self.below(len(values))]

    def dim(self) -> int:
        """Draw a size: mostly a named one, else a small number."""
        drawn, name = self._random.random(), self.pick(*self._sizes)
        if drawn < 0.78:
            return self.named(name)
        return 1 if drawn < 0.88 else 0 if drawn < 0.9 else self.pick(2, 3, 5)

    def some(self) -> int:
        """Draw a size that is named."""
        return self.named(self.pick(*self._sizes))

    def named(self, name: str) -> Dim:
        """Return the size of a name."""
        return Dim(self._sizes[name], symbol(name))

    def dims(self, low: int, high: int | None = None) -> list[int]:
        """Draw the sizes of so many axes."""
        rank = low + self.below((low if high is None else high) - low + 1)
        return [self.dim() for _ in range(rank)]

    def axis(self, rank: int) -> int:
        """Draw a dim of a tensor, from the front or from the back."""
        at = self.below(max(rank, 1))
        return at - max(rank, 1) if self.maybe() else at

    def axes(self, rank: int) -> list[int]:
        """Draw some dims of a tensor, none twice."""
        found = [dim for dim in range(rank) if self.maybe()] or [0]
        return [dim - max(rank, 1) if self.maybe() else dim for dim in found]

    def order(self, rank: int) -> list[int]:
        """Draw an order of the dims."""
        keys = [self._random.random() for _ in range(rank)]
        return sorted(range(rank), key=keys.__getitem__)

    def spread(self, dims: Sequence[int]) -> list[int]:
        """Draw sizes that are broadcast to these."""
        first = self.below(len(dims) + 1) if self.maybe(0.3) else 0
        return [1 if self.maybe(0.2) else size for size in dims[first:]]

    def tensor(self, dims: Iterable[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Make a tensor; one of zeros where values count."""
        sizes = list(dims)
        if self._spoil is not None and self.num_axes <= self._spoil < self.num_axes + len(sizes):
            at = self._spoil - self.num_axes
            sizes[at] = sizes[at] + 1
        self.num_axes += len(sizes)
        if math.prod(map(int, sizes)) > 3e6 and self.device == "cpu":
            raise RuntimeError("too large to compute")
        made = torch.zeros([int(size) for size in sizes], dtype=dtype, device=self.device)
        self.given[id(made)] = [_expr(size) for size in sizes]
        self.tensors.append(made)
        return made

    def ints(self, dims: Iterable[int]) -> Tensor:
        """Make a tensor of indices."""
        return self.tensor(dims, torch.int64)
