"""Bytes of a cache as a formula of batch and length, from its shapes at some lengths; agreed with all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelsummary_ipy.axes.expr import Expr, constant, symbol
from modelsummary_ipy.axes.minima import least_of
from modelsummary_ipy.records.trace import TensorSpec
from modelsummary_ipy.shapes.expr_text import write


class Observed(NamedTuple):
    """The tensors of a cache at some sizes of the input, by name of a dim."""

    sizes: Mapping[str, int]
    leaves: tuple[TensorSpec, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of their elements."""
        return sum(leaf.nbytes for leaf in self.leaves)


class BytesFormula(NamedTuple):
    """The bytes of all tensors.

    Attributes:
        nbytes: A sum of products of sizes.
        kinks: By name, lengths from which a size grows no more.
    """

    nbytes: Expr
    kinks: Mapping[str, set[int]]

    def at(self, sizes: Mapping[str, int]) -> int:
        """Bytes at some sizes."""
        return int(self.nbytes.value(sizes))

    def __str__(self) -> str:
        """``131,072 · B · T``; ``8,192 · B · min(T, 4,095) + 2,048 · B``."""
        text = re.sub(
            r"(?<!\w)\d+", lambda number: f"{int(number[0]):,}", write(self.nbytes, sorted(self.nbytes.names))
        )
        return text.replace("·", " · ").replace(" - ", " − ")


def fit_bytes(base: Observed, moved: Mapping[str, Sequence[Observed]]) -> BytesFormula | None:
    """Fit every size of every tensor, and return what their bytes are by it; ``None`` where that does not agree.

    Args:
        base: The cache as it was first traced.
        moved: By name of a dim, the cache at other sizes of it, two at least; the smallest two show how it grows, the
            largest whether it goes on.
    """
    if any(len(each.leaves) != len(base.leaves) for every in moved.values() for each in every):
        return None
    found = BytesFormula(constant(0), {name: set() for name in moved})
    for at, leaf in enumerate(base.leaves):
        product = constant(TensorSpec("", (1,), leaf.dtype, "").nbytes)
        for dim in range(len(leaf.shape)):
            size = _fit_size(base, moved, at, dim, found.kinks)
            if size is None:
                return None
            product = _multiply_out(product, size)
        found = found._replace(nbytes=found.nbytes + product)
    agrees = all(found.at(each.sizes) == each.nbytes for every in ([base], *moved.values()) for each in every)
    return found if agrees else None


def _multiply_out(one: Expr, other: Expr) -> Expr:
    terms = [Expr((mine,)) * Expr((its,)) for mine in one.terms for its in other.terms]
    return sum(terms, constant(0))


def _fit_size(
    base: Observed, moved: Mapping[str, Sequence[Observed]], at: int, dim: int, kinks: Mapping[str, set[int]]
) -> Expr | None:
    """Fit one size, which may follow one dim of the input, and note where it grows no more."""
    found = constant(base.leaves[at].shape[dim])
    for name, every in moved.items():
        if any(len(each.leaves[at].shape) <= dim for each in every):
            return None
        points = {each.sizes[name]: each.leaves[at].shape[dim] for each in (base, *every)}
        if len(set(points.values())) == 1:
            continue
        (first, low), (second, high), *_ = sorted(points.items())
        last, end = max(points.items())
        slope, rest = divmod(high - low, second - first)
        if slope < 1 or rest or found.names:
            return None
        offset = low - slope * first
        found = symbol(name).scaled(slope) + offset
        if end != offset + slope * last:
            found = least_of(found, constant(end))
            kinks[name].add(max((end - offset) // slope, 1))
    return found
