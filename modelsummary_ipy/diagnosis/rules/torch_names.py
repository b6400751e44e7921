"""What kind of step a call is, by the names of torch's own, and which dim it takes for the batch."""

from __future__ import annotations

from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.trace import Call

__all__ = [
    "ATTENTIONS",
    "CONVOLUTIONS",
    "ELEMENTWISE",
    "FACTORIES",
    "LINEARS",
    "POOLS",
    "RECURRENTS",
    "REDUCTIONS",
    "RESHAPES",
    "SOFTMAXES",
    "TRANSPOSES",
    "batch_dim",
    "is_weighted",
    "spatial_rank",
]

CONVOLUTIONS = frozenset(
    f"{name}{rank}d" for name in ("Conv", "ConvTranspose", "conv", "conv_transpose") for rank in (1, 2, 3)
)
POOLS = frozenset(
    f"{name}{rank}d"
    for name in (
        "MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "LPPool", "FractionalMaxPool",
        "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool",
    )
    for rank in (1, 2, 3)
)  # fmt: skip
_BATCH_NORMS = frozenset(
    f"{name}{rank}d" for name in ("BatchNorm", "InstanceNorm") for rank in (1, 2, 3)
) | {"SyncBatchNorm", "GroupNorm", "batch_norm", "instance_norm", "group_norm", "LocalResponseNorm"}  # fmt: skip
RECURRENTS = frozenset({"RNN", "LSTM", "GRU"})
ATTENTIONS = frozenset({"MultiheadAttention", "multi_head_attention_forward"})
LINEARS = frozenset({"Linear", "linear"})
RESHAPES = frozenset(
    {"view", "reshape", "flatten", "Flatten", "unflatten", "Unflatten", "view_as", "reshape_as", "ravel"}
)
TRANSPOSES = frozenset(
    {"permute", "transpose", "transpose_", "swapaxes", "swapdims", "T", "mT", "t", "movedim", "moveaxis"}
)
REDUCTIONS = frozenset(
    {"mean", "sum", "max", "min", "amax", "amin", "prod", "norm", "std", "var", "median", "logsumexp", "nanmean",
     "nansum", "argmax", "argmin", "any", "all", "mode", "vector_norm"}
)  # fmt: skip
SOFTMAXES = frozenset({"softmax", "Softmax", "log_softmax", "LogSoftmax", "softmin", "Softmin", "gumbel_softmax"})
ELEMENTWISE = frozenset(
    {"add", "sub", "mul", "div", "pow", "maximum", "minimum", "where", "eq", "ne", "lt", "le", "gt", "ge", "fmod",
     "remainder", "floordiv", "floor_divide", "true_divide", "subtract", "multiply", "divide", "rsub", "addcmul",
     "addcdiv", "lerp", "atan2", "hypot", "logaddexp", "mse_loss", "MSELoss", "l1_loss", "L1Loss", "smooth_l1_loss",
     "SmoothL1Loss", "huber_loss", "HuberLoss", "binary_cross_entropy_with_logits", "BCEWithLogitsLoss", "and", "or"}
)  # fmt: skip
FACTORIES = frozenset(
    {"zeros", "ones", "randn", "rand", "empty", "full", "randint", "new_zeros", "new_ones", "new_empty", "new_full",
     "normal", "eye", "arange", "tensor", "linspace"}
)  # fmt: skip
#: Layers without weights in ``Call.params`` of their own module that still carry the model's weights.
_WEIGHTED = (
    CONVOLUTIONS | LINEARS | RECURRENTS | ATTENTIONS | {"Bilinear", "bilinear", "LSTMCell", "GRUCell", "RNNCell"}
)


def is_weighted(call: Call) -> bool:
    """Tell whether a step multiplies what it reads with weights of the model."""
    return call.type_name in _WEIGHTED


def spatial_rank(call: Call) -> int:
    """How many spatial dims a convolution, a pooling or a norm of maps slides over; 0 if it says none."""
    if call.type_name in CONVOLUTIONS or call.type_name in POOLS or call.type_name in _BATCH_NORMS:
        digit = next((char for char in reversed(call.type_name) if char.isdigit()), "")
        return int(digit) if digit else 0
    return 0


def batch_dim(flow: Dataflow, call: Call) -> int | None:
    """Which dim of its first input a layer takes for the batch; ``None`` if any dim may be.

    Convolutions, poolings and batch norms say so by their contract, recurrent layers and attention by ``batch_first``.
    """
    if not call.inputs:
        return None
    rank = len(call.inputs[0].shape)
    spatial = spatial_rank(call)
    if spatial:
        # BatchNorm1d takes (B, C) too; a map without a batch has one dim less.
        is_batched = rank == spatial + 2 or (rank == 2 and call.type_name == "BatchNorm1d")
        return 0 if is_batched else None
    if call.type_name in RECURRENTS and rank == 3:
        return 0 if flow.setting(call, "batch_first") else 1
    if call.type_name == "MultiheadAttention" and rank == 3:
        return 0 if flow.setting(call, "batch_first") else 1
    if call.type_name == "multi_head_attention_forward" and rank == 3:
        return 1
    return None
