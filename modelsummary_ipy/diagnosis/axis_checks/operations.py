"""The aten operations that the checks look at, by what they do to the axes of a tensor, and where they move a dim."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.records.op_events import OpEvent


def _names(*names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names)


SCORES = _names("mm", "bmm", "baddbmm")
REDUCTIONS = _names(
    "mean",
    "sum",
    "var",
    "std",
    "amax",
    "amin",
    "linalg_vector_norm",
    "var_mean",
    "max",
    "min",
    "median",
    "nanmedian",
    "logsumexp",
    "prod",
    "mode",
    "kthvalue",
)
RESIZES = _names(
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d", "upsample_linear1d",
    "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
PICKS = _names("argmax", "argmin", "gather", "index", "index_select", "topk")
NORMS = _names(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm",
    "native_layer_norm", "native_group_norm",
)  # fmt: skip
#: Losses of predictions [rows, classes] and labels [rows].
LABEL_LOSSES = _names("nll_loss", "nll_loss_forward", "nll_loss2d_forward", "cross_entropy_loss")
#: What makes random numbers, also in place.
RANDOM = _names(
    "randn", "rand", "normal", "bernoulli", "randn_like", "rand_like", "bernoulli_", "uniform_", "normal_", "uniform"
)
ELEMENTWISE = _names("add", "sub", "mul", "div", "where", "masked_fill", "maximum", "minimum")
ATTENTION = _names("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu")
SOFTMAXES = _names("_softmax", "_safe_softmax", "softmax")
LOG_SOFTMAXES = _names("_log_softmax", "log_softmax")
ALL_SOFTMAXES = SOFTMAXES | LOG_SOFTMAXES
RUNNING = _names("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
ALONG = RUNNING | _names("sort", "flip", "roll", "_fft_c2c", "_fft_r2c", "_fft_c2r")
#: After which scores are still scores, and a softmax is still one over the same axis.
SAME_SHAPE = _names(
    "mul", "div", "add", "sub", "_to_copy", "clone", "detach", "alias", "native_dropout", "masked_fill", "where",
    "nan_to_num", "expand", "lift_fresh", "lt", "gt", "le", "ge", "floor", "leaky_relu", "tanh", "relu", "neg", "exp",
    "clamp", "clamp_min",
)  # fmt: skip
MOVES = _names("transpose", "permute", "unsqueeze", "view", "_unsafe_view", "t", "squeeze")


def is_named_feature(axis: Axis) -> bool:
    """Return whether an axis is of features, made by parameters or called so in the input: F, E."""
    return bool(axis.factors) and all(
        factor.kind == "feature" or (factor.kind == "input" and all(root[0] in "FE" for root in factor.roots - {"B"}))
        for factor in axis.factors
    )


def is_heads(axis: Axis) -> bool:
    """Return whether an axis is the outer part of features that were cut in two."""
    return len(axis.factors) == 1 and axis.is_feature and axis.factors[0].half == "outer" and axis.size > 1


def move_place(place: int | None, event: OpEvent, before: Sequence[int], after: Sequence[int]) -> int | None:
    """Follow a place, counted from the last, through an operation."""
    if place is None or event.op in SAME_SHAPE:
        return place if len(before) <= len(after) else None
    rank, at = len(before), place + len(before)
    if event.op in ("aten.transpose", "aten.t"):
        one, two = (int(event.args.get(name, other)) % rank for name, other in (("dim0", 0), ("dim1", 1)))
        return {one: two, two: one}.get(at, at) - rank
    if event.op == "aten.permute":
        order = [int(dim) % rank for dim in event.args["dims"]]
        return order.index(at) - rank
    if event.op == "aten.repeat":
        return place if len(after) >= -place and after[place] == before[place] else None
    if event.op == "aten.unsqueeze":
        return place - 1 if event.args["dim"] % (rank + 1) > at else place
    if before[place:] == after[place:] and len(after) >= -place:
        return place
    # The same entries in the same order: a dim that no reshape cut has as many entries behind it as before.
    behind = math.prod(before[at + 1 :])
    same = [dim for dim, size in enumerate(after) if size == before[at] > 1 and math.prod(after[dim + 1 :]) == behind]
    return same[0] - len(after) if same and math.prod(before) == math.prod(after) else None
