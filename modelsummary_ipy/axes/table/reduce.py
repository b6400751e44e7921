"""Reductions, and norms, which reduce and keep the shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, Size, entry
from modelsummary_ipy.axes.table.elementwise import broadcast


def _dims(op: Op, rank: int) -> set[int]:
    value = op.plain("dim")
    if value is None or value == []:
        return set(range(rank))
    return {dim % rank if rank else 0 for dim in ([value] if isinstance(value, int) else value)}


@entry(
    "mean sum amax amin prod logsumexp linalg_vector_norm norm any all argmax argmin max min var std var_mean std_mean "
    "count_nonzero nansum nanmean aminmax nanmedian"
)
def reduce(op: Op) -> Sequence[Axes]:
    """Reduce some axes, or all; ``keepdim`` leaves an axis of 1."""
    if op.name in ("aten.max", "aten.min") and op.has("other"):
        return [broadcast(op, op.tensors())]
    data = op.tensors()[0]
    dims = _dims(op, len(data))
    kept = bool(op.plain("keepdim", False))
    made: list[Size] = [1 if dim in dims else size for dim, size in enumerate(data) if kept or dim not in dims]
    return [made, made]


@entry("native_layer_norm _fused_rms_norm rms_norm")
def norm_last(op: Op) -> Sequence[Axes]:
    """Normalize the last axes, of given sizes; the statistics keep an axis of 1 for each."""
    data, normed = op.axes("input"), op.sizes("normalized_shape")
    first = len(data) - len(normed)
    for size, want in zip(data[first:], normed, strict=True):
        op.equal(size, want)
    for name in ("weight", "bias"):
        if op.has(name):
            for one, two in zip(normed, op.axes(name), strict=True):
                op.equal(one, two)
    statistics = [*data[:first], *[1] * len(normed)]
    return [data, statistics, statistics]


@entry("native_group_norm")
def norm_groups(op: Op) -> Sequence[Axes]:
    """Normalize groups of channels; the statistics are one for each sample and group."""
    data, groups = op.axes("input"), op.plain("group")
    op.equal(data[1] // groups * groups, data[1])
    for name in ("weight", "bias"):
        if op.has(name):
            op.equal(op.axes(name)[0], data[1])
    for name, size in (("N", data[0]), ("C", data[1]), ("HxW", math.prod(data[2:]))):
        op.equal(op.size(name), size)
    return [data, [data[0], groups], [data[0], groups]]


@entry(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm "
    "_batch_norm_with_update _batch_norm_no_update _native_batch_norm_legit_functional"
)
def norm_channels(op: Op) -> Sequence[Axes]:
    """Normalize channels; the statistics are one for each, or none."""
    data = op.axes("input")
    for argument in ("weight", "bias", "running_mean", "running_var"):
        if op.has(argument):
            op.equal(data[1], op.axes(argument)[0])
    if op.plain("training", not op.name.endswith(("no_training", "no_update"))):
        op.at_least(math.prod([data[0], *data[2:]]), 2)  # of one value a channel there is no variance
    return [data, *([data[1]] if math.prod(made) else list(made) for made in op.outputs[1:])]


@entry("_fft_r2c")
def real_fft(op: Op) -> Sequence[Axes]:
    """Keep half of the last axis that is transformed, and one entry, if only one side is wanted."""
    data = op.axes("self")
    if op.plain("onesided"):
        dim = op.plain("dim")[-1]
        data[dim] = data[dim] // 2 + 1
    return [data]


@entry("_fft_c2r")
def inverse_real_fft(op: Op) -> Sequence[Axes]:
    """Make the last axis that is transformed as large as was asked for."""
    data = op.axes("self")
    data[op.plain("dim")[-1]] = op.size("last_dim_size")
    return [data]


@entry("trace")
def trace(_: Op) -> Sequence[Axes]:
    """Sum a diagonal."""
    return [[]]


@entry("_is_all_true _is_any_true")
def judge(_: Op) -> Sequence[Axes]:
    """Make one truth value of all."""
    return [[]]


@entry("histc")
def count_bins(op: Op) -> Sequence[Axes]:
    """Count the values in so many bins."""
    op.at_least(op.size("bins", 100), 1)
    return [[op.size("bins", 100)]]


@entry("_weight_norm_interface")
def norm_weight(op: Op) -> Sequence[Axes]:
    """Scale a weight along one axis, and give the norms along it."""
    weight, dim = op.axes("v"), op.plain("dim", 0)
    norms = [size if place == dim % len(weight) else 1 for place, size in enumerate(weight)]
    return [broadcast(op, [weight, op.axes("g")]), norms]
