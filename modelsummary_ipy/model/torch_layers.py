"""What torch's own layers are: one record a layer class, from which every table of layers in the package is made.

It loads no torch, and is in ``model`` because tracing, shapes and diagnosis, which are all above it, read it.
What operations do to their tensors is in ``diagnosis/torch_names.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer class of torch's.

    Attributes:
        family: Layers that do the same: ``"convolution"``, ``"pool"``, ``"batch norm"``.
        functions: The torch functions that do what it does, the one it is known by first.
        spatial: Over how many spatial dims it works; 0 if any or none.
        ranks: Numbers of dims that its input may have; ``()`` where they are not checked.
        arguments: Its positional constructor arguments, each also a setting of the module.
        options: Its other plain constructor arguments with their defaults.
        reads: The setting with the size of the dim that it reads.
        gives: The setting with the size of that dim in its output, where that is another.
        has_bias: Whether it takes ``bias=False``.
    """

    family: str
    functions: tuple[str, ...] = ()
    _: KW_ONLY
    spatial: int = 0
    ranks: tuple[int, ...] = ()
    arguments: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    reads: str = ""
    gives: str = ""
    has_bias: bool = False

    @property
    def function(self) -> str:
        """The function it is known by; ``""`` if there is none."""
        return self.functions[0] if self.functions else ""


_CONV = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
_POOL = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
_RECURRENT = {"num_layers": 1, "nonlinearity": "tanh", "batch_first": False, "dropout": 0.0, "bidirectional": False,
              "proj_size": 0}  # fmt: skip


def _convolution(family: str, function: str, spatial: int, *, lazy: bool = False) -> Layer:
    arguments = () if lazy else ("in_channels", "out_channels", "kernel_size")
    return Layer(
        family, (function,), spatial=spatial, arguments=arguments, options={} if lazy else _CONV, reads="in_channels",
        gives="out_channels", has_bias=not lazy,
    )  # fmt: skip


def _norm(family: str, spatial: int, ranks: tuple[int, ...], *, on: bool, lazy: bool) -> Layer:
    """A norm of channels; ``on`` is the default of ``affine`` and ``track_running_stats``."""
    arguments = () if lazy else ("num_features",)
    options = {} if lazy else {"affine": on, "track_running_stats": on}
    function = family.replace(" ", "_")
    return Layer(
        family, (function,), spatial=spatial, ranks=ranks, arguments=arguments, options=options, reads="num_features"
    )


def _spatial_layers() -> Iterator[tuple[str, Layer]]:
    """The layers that torch has for one, two and three spatial dims."""
    for n in (1, 2, 3):
        for lazy in (False, True):
            prefix = "Lazy" if lazy else ""
            yield f"{prefix}Conv{n}d", _convolution("convolution", f"conv{n}d", n, lazy=lazy)
            turned = _convolution("transposed convolution", f"conv_transpose{n}d", n, lazy=lazy)
            yield f"{prefix}ConvTranspose{n}d", turned
            ranks = (2, 3) if n == 1 else (n + 2,)
            yield f"{prefix}BatchNorm{n}d", _norm("batch norm", n, ranks, on=True, lazy=lazy)
            ranks = (2, 3) if n == 1 else (n + 1, n + 2)
            yield f"{prefix}InstanceNorm{n}d", _norm("instance norm", n, ranks, on=False, lazy=lazy)
        for kind in ("Max", "Avg"):
            window: dict[str, Any] = {"arguments": ("kernel_size",), "options": _POOL}
            yield f"{kind}Pool{n}d", Layer("pool", (f"{kind.lower()}_pool{n}d",), spatial=n, **window)
            yield f"Adaptive{kind}Pool{n}d", Layer("adaptive pool", (f"adaptive_{kind.lower()}_pool{n}d",), spatial=n)
        yield f"LPPool{n}d", Layer("pool", (f"lp_pool{n}d",), spatial=n)
        if n > 1:
            yield f"FractionalMaxPool{n}d", Layer("pool", (f"fractional_max_pool{n}d",), spatial=n)
        yield f"MaxUnpool{n}d", Layer("unpool", (f"max_unpool{n}d",), spatial=n)
        for kind in ("Reflection", "Replication", "Circular"):
            yield f"{kind}Pad{n}d", Layer("padding", ("pad",), spatial=n)
        for kind in ("Zero", "Constant"):  # unlike those that mirror, these take an input of any size
            yield f"{kind}Pad{n}d", Layer("padding", ("constant_pad_nd",), spatial=n)


def _linear(*, lazy: bool = False) -> Layer:
    arguments = () if lazy else ("in_features", "out_features")
    return Layer(
        "linear", ("linear",), arguments=arguments, reads="in_features", gives="out_features", has_bias=not lazy
    )


def _recurrent(family: str, *functions: str, options: Mapping[str, Any] | None = None) -> Layer:
    sizes = ("input_size", "hidden_size")
    return Layer(
        family, functions, ranks=(1, 2) if options is None else (2, 3), arguments=sizes, options=options or {},
        reads=sizes[0], gives=sizes[1], has_bias=True,
    )  # fmt: skip


def _layer_norm(function: str) -> Layer:
    options = {"elementwise_affine": True}
    return Layer("layer norm", (function,), arguments=("normalized_shape",), options=options, reads="normalized_shape")


def _plain_layers(family: str, names: str) -> dict[str, Layer]:
    """Layers that share a family: ``"Softmax=softmax"`` names the function where there is one."""
    pairs = (name.partition("=") for name in names.split())
    return {name: Layer(family, (function,) if function else ()) for name, _, function in pairs}


#: Every layer class of torch that this package knows, by its name.
LAYERS: Mapping[str, Layer] = {
    **dict(_spatial_layers()),
    "Linear": _linear(),
    "NonDynamicallyQuantizableLinear": _linear(),
    "LazyLinear": _linear(lazy=True),
    "Bilinear": Layer(
        "bilinear", ("bilinear",), arguments=("in1_features", "in2_features", "out_features"), reads="in1_features",
        gives="out_features", has_bias=True,
    ),
    "Embedding": Layer(
        "embedding", ("embedding",), arguments=("num_embeddings", "embedding_dim"),
        options={"padding_idx": None, "max_norm": None}, gives="embedding_dim",
    ),
    "EmbeddingBag": Layer("embedding bag", ("embedding_bag",), gives="embedding_dim"),
    "SyncBatchNorm": Layer("batch norm", ("batch_norm",), reads="num_features"),
    "GroupNorm": Layer(
        "group norm", ("group_norm",), arguments=("num_groups", "num_channels"), reads="num_channels"
    ),
    "LayerNorm": _layer_norm("layer_norm"),
    "RMSNorm": _layer_norm("rms_norm"),
    **_plain_layers("local norm", "LocalResponseNorm=local_response_norm CrossMapLRN2d"),
    "RNN": _recurrent("recurrent", "rnn", "rnn_tanh", "rnn_relu", options=_RECURRENT),
    "LSTM": _recurrent("recurrent", "lstm", options=_RECURRENT),
    "GRU": _recurrent("recurrent", "gru", options=_RECURRENT),
    "RNNCell": _recurrent("recurrent cell", "rnn_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    "LSTMCell": _recurrent("recurrent cell", "lstm_cell"),
    "GRUCell": _recurrent("recurrent cell", "gru_cell"),
    "MultiheadAttention": Layer(
        "attention", ("multi_head_attention_forward",), ranks=(2, 3), arguments=("embed_dim", "num_heads"),
        options={"dropout": 0.0, "kdim": None, "vdim": None, "batch_first": False}, reads="embed_dim",
        gives="embed_dim",
    ),
    **_plain_layers("transformer layer", "TransformerEncoderLayer TransformerDecoderLayer"),
    **_plain_layers("transformer", "Transformer TransformerEncoder TransformerDecoder"),
    **_plain_layers(
        "upsampling", "Upsample=interpolate UpsamplingNearest2d=interpolate UpsamplingBilinear2d=interpolate"
    ),
    "PixelShuffle": Layer("shuffle", ("pixel_shuffle",), arguments=("upscale_factor",)),
    **_plain_layers("shuffle", "PixelUnshuffle=pixel_unshuffle ChannelShuffle=channel_shuffle"),
    **_plain_layers("reshape", "Flatten=flatten Unflatten=unflatten"),
    **_plain_layers("sliding blocks", "Fold=fold Unfold=unfold"),
    **_plain_layers("softmax", "Softmax=softmax LogSoftmax=log_softmax Softmin=softmin"),
    **_plain_layers(
        "activation",
        "CELU=celu ELU=elu GELU=gelu Hardshrink=hardshrink Hardsigmoid=hardsigmoid Hardswish=hardswish "
        "Hardtanh=hardtanh LeakyReLU=leaky_relu LogSigmoid=logsigmoid Mish=mish PReLU=prelu RReLU=rrelu ReLU=relu "
        "ReLU6=relu6 SELU=selu SiLU=silu Sigmoid=sigmoid Softmax2d Softplus=softplus Softshrink=softshrink "
        "Softsign=softsign Tanh=tanh Tanhshrink=tanhshrink Threshold=threshold",
    ),
    "GLU": Layer("activation", ("glu",), arguments=("dim",)),
    **_plain_layers(
        "dropout",
        "Dropout=dropout Dropout1d=dropout1d Dropout2d=dropout2d Dropout3d=dropout3d AlphaDropout=alpha_dropout "
        "FeatureAlphaDropout=feature_alpha_dropout",
    ),
    **_plain_layers("identity", "Identity"),
    **_plain_layers("container", "Sequential ModuleList ModuleDict"),
    **_plain_layers(
        "paired loss",
        "MSELoss=mse_loss L1Loss=l1_loss SmoothL1Loss=smooth_l1_loss HuberLoss=huber_loss "
        "BCEWithLogitsLoss=binary_cross_entropy_with_logits",
    ),
}  # fmt: skip


@cache
def classes_of(*families: str) -> frozenset[str]:
    """Names of the layer classes of some families."""
    return frozenset(name for name, layer in LAYERS.items() if layer.family in families)


@cache
def functions_of(*families: str) -> frozenset[str]:
    """Names of the functions that do what the layers of some families do."""
    return frozenset(name for layer in LAYERS.values() if layer.family in families for name in layer.functions)


@cache
def names_of(*families: str) -> frozenset[str]:
    """Names of the layer classes and of the functions of some families."""
    return classes_of(*families) | functions_of(*families)


_SPATIAL_FUNCTIONS = {
    name: layer.spatial for layer in LAYERS.values() for name in layer.functions if name[-2:-1].isdigit()
}


def spatial_dims(name: str) -> int:
    """Over how many spatial dims a layer class or a function works: 2 for ``"Conv2d"`` and ``"conv2d"``; 0 if any."""
    return LAYERS[name].spatial if name in LAYERS else _SPATIAL_FUNCTIONS.get(name, 0)


def _settings(attribute: str, *families: str) -> tuple[str, ...]:
    layers = [layer for layer in LAYERS.values() if not families or layer.family in families]
    return tuple(dict.fromkeys(name for layer in layers if (name := getattr(layer, attribute))))


#: Settings with how many channels a layer reads on dim 1, and how many features on the last dim.
CHANNEL_SETTINGS = _settings(
    "reads", "convolution", "transposed convolution", "group norm", "batch norm", "instance norm"
)
FEATURE_SETTINGS = _settings("reads", "linear", "recurrent", "attention")
#: Settings with the size of a layer's output.
OUTPUT_SETTINGS = _settings("gives")
