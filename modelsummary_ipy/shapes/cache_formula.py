"""Bytes of a cache as a formula of batch and length, from its shapes at some lengths; agreed with all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelsummary_ipy.records.trace import TensorSpec


class Observed(NamedTuple):
    """The tensors of a cache at some sizes of the input, by name of a dim."""

    sizes: Mapping[str, int]
    leaves: tuple[TensorSpec, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of their elements."""
        return sum(leaf.nbytes for leaf in self.leaves)


class _Factor(NamedTuple):
    """One size of a tensor: ``offset + slope · name``, and no more than ``most``."""

    name: str = ""
    slope: int = 0
    offset: int = 0
    most: int | None = None

    def at(self, sizes: Mapping[str, int]) -> int:
        size = self.offset + self.slope * sizes.get(self.name, 0)
        return size if self.most is None else min(size, self.most)


class BytesFormula(NamedTuple):
    """A sum of products of sizes, each with the bytes of one of its elements."""

    terms: tuple[tuple[int, tuple[_Factor, ...]], ...]

    def at(self, sizes: Mapping[str, int]) -> int:
        """Bytes at some sizes."""
        return sum(nbytes * math.prod(factor.at(sizes) for factor in factors) for nbytes, factors in self.terms)

    def find_kinks(self) -> dict[str, set[int]]:
        """Lengths from which a size grows no more, by name."""
        found: dict[str, set[int]] = {}
        for _, factors in self.terms:
            for name, slope, offset, most in factors:
                if most is not None:
                    found.setdefault(name, set()).add(max((most - offset) // slope, 1))
        return found

    def __str__(self) -> str:
        """``131,072 · B · T``; ``8,192 · B · min(T, 4,095) + 2,048 · B``."""
        sums: dict[tuple[str, ...], int] = {}
        for nbytes, factors in self.terms:
            parts: dict[tuple[str, ...], int] = {(): nbytes}
            for factor in factors:
                parts = _multiply(parts, factor)
            for names, count in parts.items():
                sums[names] = sums.get(names, 0) + count
        ordered = sorted((names for names in sums if sums[names]), key=lambda names: (-len(names), names))
        text = ""
        for names in ordered:
            product = " · ".join([f"{abs(sums[names]):,}", *names])
            is_less = sums[names] < 0
            text += (" − " if is_less else " + ") + product if text else f"−{product}" if is_less else product
        return text or "0"


def _multiply(parts: Mapping[tuple[str, ...], int], factor: _Factor) -> dict[tuple[str, ...], int]:
    name, slope, offset, most = factor
    if most is not None:
        grown = f"{slope:,} · {name}" if slope > 1 else name
        grown += f" + {offset:,}" if offset > 0 else f" − {-offset:,}" if offset else ""
        by: dict[str, int] = {f"min({grown}, {most:,})": 1}
    else:
        by = {name: slope, "": offset}
    found: dict[tuple[str, ...], int] = {}
    for names, count in parts.items():
        for more, times in by.items():
            if times:
                key = tuple(sorted([*names, more])) if more else names
                found[key] = found.get(key, 0) + count * times
    return found


def fit_bytes(base: Observed, moved: Mapping[str, Sequence[Observed]]) -> BytesFormula | None:
    """Fit every size of every tensor, and return what their bytes are by it; ``None`` where that does not agree.

    Args:
        base: The cache as it was first traced.
        moved: By name of a dim, the cache at other sizes of it, two at least; the smallest two show how it grows, the
            largest whether it goes on.
    """
    if any(len(each.leaves) != len(base.leaves) for every in moved.values() for each in every):
        return None
    terms = []
    for at, leaf in enumerate(base.leaves):
        factors = []
        for dim in range(len(leaf.shape)):
            factor = _fit_size(base, moved, at, dim)
            if factor is None:
                return None
            factors.append(factor)
        itemsize = TensorSpec("", (1,), leaf.dtype, "").nbytes
        terms.append((itemsize, tuple(factors)))
    formula = BytesFormula(tuple(terms))
    agrees = all(formula.at(each.sizes) == each.nbytes for every in ([base], *moved.values()) for each in every)
    return formula if agrees else None


def _fit_size(base: Observed, moved: Mapping[str, Sequence[Observed]], at: int, dim: int) -> _Factor | None:
    """Fit one size; it may follow one dim of the input."""
    found = _Factor(offset=base.leaves[at].shape[dim])
    for name, every in moved.items():
        points = {base.sizes[name]: base.leaves[at].shape[dim]}
        for each in every:
            if len(each.leaves[at].shape) <= dim:
                return None
            points[each.sizes[name]] = each.leaves[at].shape[dim]
        if len(set(points.values())) == 1:
            continue
        if found.slope:
            return None
        (first, low), (second, high), *_ = sorted(points.items())
        last, end = max(points.items())
        slope, rest = divmod(high - low, second - first)
        if slope < 1 or rest:
            return None
        offset = low - slope * first
        found = _Factor(name, slope, offset, end if end != offset + slope * last else None)
    return found
