"""Parts of axes, look-ups, reductions and norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tests.axes.calls.registry import call, overload
from tests.axes.draw import Call, Draw


@call("slice slice_copy")
def slice_axis(name: str, draw: Draw) -> Call:
    """Cut both ends off."""
    dims = draw.dims(1, 4)
    at = draw.axis(len(dims))
    dims[at] = draw.some() * draw.pick(1, 2)
    start = draw.pick(None, 0, 1, 2, -2, -3)
    end = draw.pick(None, 2**63 - 1, dims[at], dims[at] - 1, -1, -2, 3, 4)
    return overload(name, "Tensor"), [draw.tensor(dims), at, start, end, draw.pick(1, 1, 2, 3)], {}


@call("narrow narrow_copy select select_copy topk kthvalue glu")
def part(name: str, draw: Draw) -> Call:
    """Keep a part of one axis."""
    dims = draw.dims(1, 4)
    at = draw.axis(len(dims))
    dims[at] = draw.some() * 2 if name == "glu" else draw.some() + 3
    data = draw.tensor(dims)
    if name.startswith("narrow"):
        return overload(name, "default"), [data, at, 1, draw.pick(2, dims[at] - 2)], {}
    if name.startswith("select"):
        return overload(name, "int"), [data, at, draw.pick(0, -1, 1)], {}
    if name == "glu":
        return overload(name), [data, at], {}
    more = [draw.maybe()] if name == "kthvalue" else []
    return overload(name, "default"), [data, 2, at, *more], {}


@call("split unsafe_split split_copy")
def split(name: str, draw: Draw) -> Call:
    """Cut into parts of one size."""
    dims = draw.dims(1, 3)
    at, part_size, times = draw.axis(len(dims)), draw.some(), draw.pick(1, 2, 3)
    dims[at] = part_size * times + (1 if draw.maybe(0.3) else 0)
    return overload(name, "Tensor"), [draw.tensor(dims), part_size, at], {}


@call("split_with_sizes unsafe_split_with_sizes split_with_sizes_copy")
def split_into(name: str, draw: Draw) -> Call:
    """Cut into parts of given sizes."""
    dims = draw.dims(1, 3)
    at, parts = draw.axis(len(dims)), [draw.some(), draw.some(), 2]
    dims[at] = parts[0] + parts[1] + 2
    return overload(name, "default"), [draw.tensor(dims), parts, at], {}


@call("chunk unsafe_chunk unbind unbind_copy")
def chunk(name: str, draw: Draw) -> Call:
    """Cut into so many parts."""
    dims = draw.dims(1, 3)
    at, count = draw.axis(len(dims)), draw.pick(1, 2, 3)
    if name.startswith("unbind"):
        dims[at] = count
        return overload(name, "int"), [draw.tensor(dims), at], {}
    dims[at] = draw.some() * count + (1 if draw.maybe(0.3) else 0)
    return overload(name), [draw.tensor(dims), count, at], {}


@call("cat concat concatenate stack")
def concatenate(name: str, draw: Draw) -> Call:
    """Put tensors behind each other."""
    dims = draw.dims(1, 3)
    count = draw.pick(1, 2, 3)
    if name == "stack":
        return overload(name), [[draw.tensor(dims) for _ in range(count)], draw.axis(len(dims) + 1)], {}
    at = draw.axis(len(dims))
    parts = []
    for _ in range(count):
        sizes = list(dims)
        sizes[at] = draw.dim()
        parts.append(draw.tensor(sizes))
    if draw.maybe(0.15):
        parts.insert(draw.below(2), draw.tensor([0]))
    return overload(name, "default"), [parts, at], {}


@call("repeat")
def repeat(name: str, draw: Draw) -> Call:
    """Repeat axes."""
    dims = draw.dims(0, 3)
    times = [draw.pick(1, 2, 3) for _ in range(len(dims) + draw.below(2))]
    return overload(name), [draw.tensor(dims), times], {}


@call("embedding index_select one_hot")
def look_up(name: str, draw: Draw) -> Call:
    """Look entries up."""
    if name == "embedding":
        return overload(name), [draw.tensor([draw.some(), draw.some()]), draw.ints(draw.dims(0, 3))], {}
    if name == "one_hot":
        return overload(name), [draw.ints(draw.dims(0, 3)), draw.pick(3, 7)], {}
    dims = draw.dims(1, 3)
    at = draw.axis(len(dims))
    dims[at] = draw.some()
    return overload(name), [draw.tensor(dims), at, draw.ints([draw.dim()])], {}


@call("gather")
def gather(name: str, draw: Draw) -> Call:
    """Look entries of one axis up, at every place another."""
    dims, at = [draw.some(), draw.some(), draw.some()], draw.axis(3)
    index = list(dims)
    index[at] = draw.dim()
    return overload(name), [draw.tensor(dims), at, draw.ints(index)], {}


@call("mode median nanmedian")
def pick_one(name: str, draw: Draw) -> Call:
    """Keep one entry of an axis."""
    dims = [draw.some() for _ in range(draw.below(3))]
    if name != "mode" and draw.maybe(0.3):
        return overload(name, "default"), [draw.tensor(dims)], {}
    return overload(name, "default" if name == "mode" else "dim"), [
        draw.tensor(dims), draw.axis(len(dims)), draw.maybe()
    ], {}  # fmt: skip


@call("index _unsafe_index")
def index(name: str, draw: Draw) -> Call:
    """Index some axes by tensors."""
    dims = [draw.some() for _ in range(3)]
    found = draw.dims(0, 2)
    places = [draw.ints(draw.spread(found)) if draw.maybe(0.6) else None for _ in range(3)]
    if all(place is None for place in places):
        places[1] = draw.ints(found)
    while places[-1] is None:
        places.pop()
    data = draw.tensor(dims)
    if draw.maybe(0.2) and draw.device == "cpu":
        first = draw.below(3)
        places = [*[None] * first, _mask(draw, dims[first : first + 1 + draw.below(3)])]
    return overload(name), [data, places], {}


def _mask(draw: Draw, dims: Sequence[int]) -> torch.Tensor:
    """Make a mask that keeps all."""
    return draw.tensor(dims, torch.bool).fill_(True)


@call("masked_select nonzero argwhere _unique _unique2 unique_consecutive unique_dim", in_place=True)
def count(name: str, draw: Draw) -> Call:
    """Select, and list, as many as values say."""
    dims = draw.dims(1, 3)
    mask = _mask(draw, dims)
    if name == "masked_select":
        return overload(name), [draw.tensor(draw.spread(dims)), mask], {}
    if name in ("nonzero", "argwhere"):
        return overload(name, "default"), [mask], {}
    more = {"return_inverse": draw.maybe(), "return_counts": draw.maybe()}
    if name == "_unique":
        del more["return_counts"]
    return overload(name, "default"), [mask, *([draw.axis(len(dims))] if name == "unique_dim" else [])], more


@call(
    "mean sum amax amin prod logsumexp linalg_vector_norm norm any all argmax argmin max min var std var_mean std_mean "
    "count_nonzero nansum nanmean aminmax"
)
def reduce(name: str, draw: Draw) -> Call:
    """Reduce an axis, some, or all."""
    dims = [draw.some() if draw.maybe(0.85) else 1 for _ in range(draw.below(5))]
    rank, keep, data = len(dims), draw.maybe(), draw.tensor(dims)
    one, many = draw.axis(rank), draw.axes(rank)
    if name in ("max", "min"):
        if draw.maybe(0.3):
            return overload(name, "other"), [data, draw.tensor(draw.spread(dims))], {}
        if draw.maybe(0.3):
            return overload(name, "default"), [data], {}
        return overload(name, "dim"), [data, one, keep], {}
    if name in ("argmax", "argmin"):
        return overload(name), [data, *([one, keep] if draw.maybe(0.7) else [])], {}
    if name in ("var", "std", "var_mean", "std_mean"):
        return overload(name, "correction"), [data, many if draw.maybe(0.8) else None], {"keepdim": keep}
    if name == "aminmax":
        return overload(name), [data], {"dim": one, "keepdim": keep} if draw.maybe(0.8) else {"keepdim": keep}
    if name == "count_nonzero":
        return overload(name, "dim_IntList"), [data, many], {}
    if name == "norm":
        return overload(name, "ScalarOpt_dim"), [data, 2, many, keep], {}
    if name == "linalg_vector_norm":
        return overload(name), [data, 2, draw.pick(None, many), keep], {}
    if name == "prod":
        return (overload(name, "dim_int"), [data, one, keep], {}) if draw.maybe() else (
            overload(name, "default"), [data], {}
        )  # fmt: skip
    if name in ("any", "all"):
        which = draw.pick("dim", "dims", "default")
        return overload(name, which), [data, *{"dim": [one, keep], "dims": [many, keep], "default": []}[which]], {}
    which = {"mean": "dim", "sum": "dim_IntList"}.get(name, "default")
    if name in ("mean", "sum") and draw.maybe(0.2):
        return overload(name, "default"), [data], {}
    return overload(name, which), [data, many, keep], {}


@call("trace")
def trace(name: str, draw: Draw) -> Call:
    """Sum the diagonal."""
    return overload(name, "default"), [draw.tensor([draw.some(), draw.some()])], {}


@call("native_layer_norm _fused_rms_norm rms_norm")
def norm_last(name: str, draw: Draw) -> Call:
    """Normalize the last axes."""
    lead, normed = draw.dims(0, 3), [draw.some() for _ in range(draw.pick(1, 2))]
    weight = draw.tensor(normed) if draw.maybe() else None
    more = [draw.tensor(normed) if draw.maybe() else None] if name == "native_layer_norm" else []
    return overload(name), [draw.tensor([*lead, *normed]), normed, weight, *more, 1e-5], {}


@call("native_group_norm")
def norm_groups(name: str, draw: Draw) -> Call:
    """Normalize groups of channels."""
    groups = draw.pick(1, 2, 3)
    batch, channels, spatial = draw.some(), draw.some() * groups, [draw.some() for _ in range(draw.below(3))]
    places = 1
    for size in spatial:
        places = size * places
    weights = [draw.tensor([channels]), draw.tensor([channels])] if draw.maybe() else [None, None]
    data = draw.tensor([batch, channels, *spatial])
    return overload(name), [data, *weights, batch, channels, places, groups, 1e-5], {}


@call(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm "
    "_batch_norm_with_update _batch_norm_no_update _native_batch_norm_legit_functional"
)
def norm_channels(name: str, draw: Draw) -> Call:
    """Normalize channels."""
    channels = draw.some()
    data = draw.tensor([draw.some(), channels, *[draw.some() for _ in range(draw.below(3))]])
    weights = [draw.tensor([channels]), draw.tensor([channels])]
    if name != "cudnn_batch_norm" and draw.maybe(0.3):
        weights = [None, None]  # type: ignore[list-item]
    running = [draw.tensor([channels]), draw.tensor([channels])]
    flags = [] if name.endswith(("no_training", "with_update", "no_update")) else [draw.maybe()]
    more = [False] if name == "batch_norm" else []
    return overload(name, "default"), [data, *weights, *running, *flags, 0.1, 1e-5, *more], {}


@call("_fft_r2c _fft_c2r")
def real_fft(name: str, draw: Draw) -> Call:
    """Transform real numbers, and back."""
    dims = [*draw.dims(0, 2), draw.some()]
    at = [draw.below(len(dims))]
    dims[at[0]] = draw.some()
    if name == "_fft_r2c":
        return overload(name), [draw.tensor(dims), at, 0, draw.maybe()], {}
    last = dims[at[0]]
    dims[at[0]] = last // 2 + 1
    return overload(name), [draw.tensor(dims, torch.complex64), at, 0, last], {}


@call("multinomial")
def multinomial(name: str, draw: Draw) -> Call:
    """Draw entries of the last axis."""
    return overload(name), [draw.tensor([*draw.dims(0, 1), draw.some() + 3]), draw.pick(1, 3)], {}


@call("histc")
def count_bins(name: str, draw: Draw) -> Call:
    """Count values."""
    return overload(name), [draw.tensor(draw.dims(1, 2)), draw.some()], {}


@call("_is_all_true _is_any_true")
def judge(name: str, draw: Draw) -> Call:
    """Ask whether all are true."""
    return overload(name), [draw.tensor(draw.dims(0, 2), torch.bool)], {}
