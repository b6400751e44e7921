"""Operations that make a tensor of given sizes."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, entry
from modelsummary_ipy.axes.table.elementwise import broadcast


@entry(
    "zeros ones full empty rand randn new_zeros new_ones new_full new_empty empty_strided new_empty_strided "
    "empty_permuted _efficientzerotensor"
)
def make(op: Op) -> Sequence[Axes]:
    """Fill a new tensor of a given size."""
    return [op.sizes("size")]


@entry("randint")
def make_integers(op: Op) -> Sequence[Axes]:
    """Fill a new tensor of a given size with random integers."""
    return [op.sizes("size")]


@entry("normal")
def normal(op: Op) -> Sequence[Axes]:
    """Draw around means, each with a deviation, or a new tensor of a given size."""
    tensors = op.tensors()
    if op.name == "aten.normal_":
        return [tensors[0]]
    return [broadcast(op, tensors) if tensors else op.sizes("size")]


@entry("scalar_tensor")
def make_scalar(_: Op) -> Sequence[Axes]:
    """Make a tensor of one number."""
    return [[]]


@entry("arange")
def arange(op: Op) -> Sequence[Axes]:
    """``⌈(end - start) / step⌉``."""
    start, end, step = op.size("start", 0), op.size("end"), op.plain("step", 1)
    if isinstance(start, float) or isinstance(end, float):
        if not (isinstance(start, (int, float)) and isinstance(end, (int, float))):
            raise OpaqueError("ends that are no integers")
        return [list(op.made())]  # the same numbers at all sizes
    if not all(isinstance(value, int) or op.known(value) is None for value in (start, end)) or not isinstance(
        step, int
    ):
        if op.known(end) is None:
            raise OpaqueError("steps that are no integers")
        return [list(op.made())]
    if step < 0:
        start, end, step = end, start, -step
    return [[(end - start + (step - 1)) // step]]


@entry("linspace logspace")
def linspace(op: Op) -> Sequence[Axes]:
    """Make so many numbers."""
    return [[op.size("steps")]]


@entry("randperm")
def permutation(op: Op) -> Sequence[Axes]:
    """Make a permutation of so many numbers."""
    return [[op.size("n")]]


@entry("eye")
def eye(op: Op) -> Sequence[Axes]:
    """Make a matrix with ones on its diagonal."""
    return [[op.size("n"), op.size("m", op.size("n"))]]


@entry("tril_indices triu_indices")
def triangle(op: Op) -> Sequence[Axes]:
    """List the places of a triangle."""
    rows, columns = op.size("row"), op.size("col")
    if rows != columns or op.plain("offset", 0):
        raise OpaqueError("a triangle that is cut")
    return [[2, rows * (rows + 1) // 2]]
