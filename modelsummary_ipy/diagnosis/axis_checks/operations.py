"""The aten operations that the checks look at, by what they do to the axes of a tensor."""

from __future__ import annotations

from modelsummary_ipy.axes.meaning import Axis


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
ALONG = _names(
    "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "sort", "flip", "roll", "_fft_c2c", "_fft_r2c", "_fft_c2r"
)
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
