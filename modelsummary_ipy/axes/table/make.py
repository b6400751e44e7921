"""Operations that make a tensor of given sizes."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, entry
from modelsummary_ipy.axes.table.elementwise import broadcast

entry(
    "zeros ones full empty rand randn randint new_zeros new_ones new_full new_empty empty_strided new_empty_strided "
    "empty_permuted _efficientzerotensor"
)(lambda op: [op.sizes("size")])
entry("linspace logspace")(lambda op: [[op.size("steps")]])
entry("hann_window hamming_window blackman_window bartlett_window kaiser_window")(
    lambda op: [[op.size("window_length")]]
)
entry("randperm")(lambda op: [[op.size("n")]])
entry("eye")(lambda op: [[op.size("n"), op.size("m", op.size("n"))]])
#: One number.
entry("scalar_tensor trace _is_all_true _is_any_true")(lambda _: [[]])


@entry("normal")
def normal(op: Op) -> Sequence[Axes]:
    """Draw around means, each with a deviation, or a new tensor of a given size."""
    tensors = op.tensors()
    if op.name == "aten.normal_":
        return [tensors[0]]
    return [broadcast(op, tensors) if tensors else op.sizes("size")]


@entry("arange")
def arange(op: Op) -> Sequence[Axes]:
    """``⌈(end - start) / step⌉``."""
    start, end, step = given = op.size("start", 0), op.size("end"), op.plain("step", 1)
    if float in map(type, given):
        if not all(isinstance(number, (int, float)) for number in given):
            raise OpaqueError("steps that are no integers")
        return [list(op.made())]  # the same numbers at all sizes
    if step < 0:
        start, end, step = end, start, -step
    return [[(end - start + (step - 1)) // step]]


@entry("tril_indices triu_indices")
def triangle(op: Op) -> Sequence[Axes]:
    """List the places of a triangle."""
    rows = op.size("row")
    if rows != op.size("col") or op.plain("offset", 0):
        raise OpaqueError("a triangle that is cut")
    return [[2, rows * (rows + 1) // 2]]


@entry("histc")
def count_bins(op: Op) -> Sequence[Axes]:
    """Count the values in so many bins."""
    op.at_least(op.size("bins", 100), 1)
    return [[op.size("bins", 100)]]
