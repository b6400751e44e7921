"""Kinds of calls by torch's names: those of layers from the table of ``model/torch_layers.py``, those of operations."""

from __future__ import annotations

from modelsummary_ipy.model.torch_layers import classes_of, names_of, spatial_dims
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.trace import Call

#: Convolutions that are not transposed, and all of them.
TRANSPOSED_CONVOLUTIONS = names_of("transposed convolution")
CONVOLUTIONS = names_of("convolution") | TRANSPOSED_CONVOLUTIONS
POOLS = names_of("pool", "adaptive pool")
UPSAMPLERS = names_of("upsampling") | TRANSPOSED_CONVOLUTIONS
#: Layers whose output has its channels on dim 1.
MAP_LAYERS = CONVOLUTIONS | POOLS | names_of("upsampling", "unpool", "batch norm", "group norm")
RECURRENTS = classes_of("recurrent")
ATTENTIONS = names_of("attention")
LINEARS = names_of("linear")
EMBEDDINGS = names_of("embedding")
LOOKUPS = names_of("embedding", "embedding bag")
SOFTMAXES = names_of("softmax") | {"gumbel_softmax"}

CATS = frozenset({"cat", "concat", "concatenate"})
RESHAPES = names_of("reshape") | {"view", "reshape", "view_as", "reshape_as", "ravel"}
#: What makes a vector of a feature map.
FLATTENERS = frozenset({"flatten", "Flatten", "view", "reshape", "_unsafe_view"})
TRANSPOSES = frozenset(
    {"permute", "transpose", "transpose_", "swapaxes", "swapdims", "T", "mT", "t", "movedim", "moveaxis"}
)
REDUCTIONS = frozenset(
    {"mean", "sum", "max", "min", "amax", "amin", "prod", "norm", "std", "var", "median", "logsumexp", "nanmean",
     "nansum", "argmax", "argmin", "any", "all", "mode", "vector_norm"}
)  # fmt: skip
ELEMENTWISE = names_of("paired loss") | {
    "add", "sub", "mul", "div", "pow", "maximum", "minimum", "where", "eq", "ne", "lt", "le", "gt", "ge", "fmod",
    "remainder", "floordiv", "floor_divide", "true_divide", "subtract", "multiply", "divide", "rsub", "addcmul",
    "addcdiv", "lerp", "atan2", "hypot", "logaddexp", "and", "or",
}  # fmt: skip
#: What makes a tensor of a size that it is given first, and all that makes one of no other tensor.
SIZED_FACTORIES = frozenset(
    {"zeros", "ones", "full", "empty", "rand", "randn", "arange", "new_zeros", "new_ones", "eye", "hann_window",
     "hamming_window", "blackman_window", "bartlett_window"}
)  # fmt: skip
#: Losses that compare two tensors number by number.
LOSSES = frozenset(
    {"kl_div", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "poisson_nll_loss",
     "binary_cross_entropy_with_logits", "cosine_similarity", "pairwise_distance"}
)  # fmt: skip
FACTORIES = SIZED_FACTORIES | {"randint", "new_empty", "new_full", "normal", "tensor", "linspace"}

_WEIGHTED = CONVOLUTIONS | LINEARS | RECURRENTS | ATTENTIONS | names_of("bilinear") | classes_of("recurrent cell")
_SPATIAL = CONVOLUTIONS | POOLS | names_of("batch norm", "instance norm")


def is_weighted(call: Call) -> bool:
    """Return whether a step multiplies what it reads with weights of the model."""
    return call.type_name in _WEIGHTED


def params_of(call: Call) -> set[int]:
    """Return the parameters and buffers that a step reads, its layer's and those that it was handed."""
    return {*call.params, *(index for index in call.input_params if index is not None)}


def spatial_rank(call: Call) -> int:
    """How many spatial dims a convolution, a pooling or a norm of feature maps works over; 0 if none."""
    return spatial_dims(call.type_name) if call.type_name in _SPATIAL else 0


def batch_dim(flow: Dataflow, call: Call) -> int | None:
    """Which dim of its first input a layer takes for the batch; ``None`` if any dim may be.

    Convolutions, poolings and batch norms have it by their contract, recurrent layers and attention by ``batch_first``.
    """
    if not call.inputs:
        return None
    rank = len(call.inputs[0].shape)
    spatial = spatial_rank(call)
    if spatial:
        # BatchNorm1d takes (B, C) too; a feature map without a batch has one dim less.
        return 0 if rank == spatial + 2 or (rank == 2 and call.type_name == "BatchNorm1d") else None
    if rank == 3 and call.type_name in RECURRENTS | ATTENTIONS:
        return 0 if call.kind == "module" and flow.setting(call, "batch_first") else 1
    return None
