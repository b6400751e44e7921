"""Reductions, and norms, which reduce and keep the shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, entry, put
from modelsummary_ipy.axes.table.elementwise import broadcast


@entry(
    "mean sum amax amin prod logsumexp linalg_vector_norm norm any all argmax argmin max min var std var_mean std_mean "
    "count_nonzero nansum nanmean aminmax nanmedian"
)
def reduce(op: Op) -> Sequence[Axes]:
    """Reduce some axes, or all; ``keepdim`` leaves an axis of 1."""
    if op.name in ("aten.max", "aten.min") and op.has("other"):
        return [broadcast(op, op.tensors())]
    data, dims = op.first(), op.plain("dim")
    rank = len(data)
    dims = range(rank) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    gone, kept = {dim % (rank or 1) for dim in dims}, op.plain("keepdim", False)
    return [[1 if dim in gone else size for dim, size in enumerate(data) if kept or dim not in gone]] * 2


def _across_dims(op: Op, data: Axes) -> None:
    """Read across the axes that ``dim`` names: the last one, where it was not given."""
    dims, rank = op.plain("dim", -1), len(data)
    # A call that fails may name an axis that is not there.
    op.across(*(data[dim] for dim in ([dims] if isinstance(dims, int) else dims) if -rank <= dim < rank))


@entry(
    "sort argsort cumsum cumprod cummax cummin logcumsumexp _softmax _log_softmax softmax log_softmax _safe_softmax "
    "_fft_c2c"
)
def along(op: Op) -> Sequence[Axes]:
    """Run along an axis, or some, and keep them."""
    data = op.axes("self")
    _across_dims(op, data)
    return [data] * 2


@entry("renorm")
def norm_parts(op: Op) -> Sequence[Axes]:
    """Scale every entry of an axis by the norm of all that belongs to it."""
    data = op.axes("self")
    op.across(*put(data, op.plain("dim")))
    return [data]


def _check_weights(op: Op, axes: Axes, *names: str) -> None:
    """Demand that weights, where they are given, have one number for each entry."""
    for name in names:
        if op.has(name):
            op.equal_all(axes, op.axes(name))


@entry("native_layer_norm _fused_rms_norm rms_norm")
def norm_last(op: Op) -> Sequence[Axes]:
    """Normalize the last axes, of given sizes; the statistics keep an axis of 1 for each."""
    data, normed = op.axes("input"), op.sizes("normalized_shape")
    first = len(data) - len(normed)
    op.equal_all(data[first:], normed)
    op.across(*data[first:])
    _check_weights(op, normed, "weight", "bias")
    statistics = [*data[:first], *[1] * len(normed)]
    return [data, statistics, statistics]


@entry("native_group_norm")
def norm_groups(op: Op) -> Sequence[Axes]:
    """Normalize groups of channels; the statistics are one for each sample and group."""
    data, groups = op.axes("input"), op.plain("group")
    op.divided(data[1], groups)
    op.across(*data[1:])
    _check_weights(op, data[1:2], "weight", "bias")
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
    _check_weights(op, data[1:2], "weight", "bias", "running_mean", "running_var")
    if op.plain("training", not op.name.endswith(("no_training", "no_update"))):
        op.across(data[0], *data[2:])
        op.at_least(math.prod([data[0], *data[2:]]), 2)  # of one value a channel there is no variance
    return [data, *([data[1]] if math.prod(made) else list(made) for made in op.outputs[1:])]


@entry("_weight_norm_interface")
def norm_weight(op: Op) -> Sequence[Axes]:
    """Scale a weight along one axis, and give the norms along it."""
    weight, dim = op.axes("v"), op.plain("dim", 0)
    op.across(*put(weight, dim))
    norms = [size if place == dim % len(weight) else 1 for place, size in enumerate(weight)]
    return [broadcast(op, [weight, op.axes("g")]), norms]


@entry("_fft_r2c")
def real_fft(op: Op) -> Sequence[Axes]:
    """Keep half of the last axis that is transformed, and one entry, if only one side is wanted."""
    data, dim = op.axes("self"), op.plain("dim")[-1]
    _across_dims(op, data)
    return [put(data, dim, data[dim] // 2 + 1) if op.plain("onesided") else data]


@entry("_fft_c2r")
def inverse_real_fft(op: Op) -> Sequence[Axes]:
    """Make the last axis that is transformed as large as was asked for."""
    data, dim = op.axes("self"), op.plain("dim")[-1]
    _across_dims(op, data)
    return [put(data, dim, op.resized(data[dim], op.size("last_dim_size")))]
