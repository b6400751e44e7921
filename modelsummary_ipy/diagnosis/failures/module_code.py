"""Fixes as code: a layer of torch's written anew with other settings, at the path where it belongs."""

from __future__ import annotations

from typing import Any

from modelsummary_ipy.records.trace import ModuleFact, Trace

__all__ = ["name_member", "write_change", "write_module"]

#: Constructor arguments by class: positional ones, then those with the default that is not written.
_POSITIONAL = {
    "Linear": ("in_features", "out_features"),
    "NonDynamicallyQuantizableLinear": ("in_features", "out_features"),
    "Bilinear": ("in1_features", "in2_features", "out_features"),
    "Embedding": ("num_embeddings", "embedding_dim"),
    "LayerNorm": ("normalized_shape",),
    "RMSNorm": ("normalized_shape",),
    "GroupNorm": ("num_groups", "num_channels"),
    "MultiheadAttention": ("embed_dim", "num_heads"),
    "PixelShuffle": ("upscale_factor",),
    **{f"Conv{n}d": ("in_channels", "out_channels", "kernel_size") for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": ("in_channels", "out_channels", "kernel_size") for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": ("num_features",) for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": ("num_features",) for n in (1, 2, 3)},
    **{f"MaxPool{n}d": ("kernel_size",) for n in (1, 2, 3)},
    **{f"AvgPool{n}d": ("kernel_size",) for n in (1, 2, 3)},
    **dict.fromkeys(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"), ("input_size", "hidden_size")),
}
_CONV = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
_POOL = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
_RECURRENT = {"num_layers": 1, "nonlinearity": "tanh", "batch_first": False, "dropout": 0.0, "bidirectional": False,
              "proj_size": 0}  # fmt: skip
_OPTIONS: dict[str, dict[str, Any]] = {
    "LayerNorm": {"elementwise_affine": True},
    "RMSNorm": {"elementwise_affine": True},
    "MultiheadAttention": {"dropout": 0.0, "kdim": None, "vdim": None, "batch_first": False},
    "Embedding": {"padding_idx": None, "max_norm": None},
    **{f"Conv{n}d": _CONV for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": _CONV for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": {"affine": True, "track_running_stats": True} for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": {"affine": False, "track_running_stats": False} for n in (1, 2, 3)},
    **{f"MaxPool{n}d": _POOL for n in (1, 2, 3)},
    **{f"AvgPool{n}d": _POOL for n in (1, 2, 3)},
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _RECURRENT),
}
_WITH_BIAS = ("Linear", "Conv", "Bilinear", "LSTM", "GRU", "RNN", "NonDynamically")


def write_module(fact: ModuleFact, trace: Trace, **changes: Any) -> str:
    """Write a layer of torch's as code, with some of its settings changed.

    Returns:
        ``"nn.Conv2d(16, 32, 3, padding=1)"``; ``""`` for a class that is not known here.
    """
    positional = _POSITIONAL.get(fact.type_name)
    if positional is None or not fact.type_module.startswith("torch."):
        return ""
    settings = {**fact.settings, **changes}
    if any(name not in settings for name in positional):
        return ""
    words = [_write_value(settings[name]) for name in positional]
    for name, default in _OPTIONS.get(fact.type_name, {}).items():
        value = _collapse(settings.get(name, default))
        is_same = value == default
        if name == "stride" and default is None:  # a pool's stride is its window unless said otherwise
            is_same = value in (None, _collapse(settings["kernel_size"]))
        if name in ("kdim", "vdim"):
            is_same = value in (None, settings.get("embed_dim"))
        if not is_same:
            words.append(f"{name}={value!r}")
    if fact.type_name.startswith(_WITH_BIAS) and not _has_bias(fact, trace):
        words.append("bias=False")
    name = "Linear" if fact.type_name.startswith("NonDynamically") else fact.type_name
    return f"nn.{name}({', '.join(words)})"


def _collapse(value: Any) -> Any:
    """``(3, 3)`` is written ``3``."""
    if isinstance(value, tuple) and value and all(item == value[0] for item in value):
        return value[0]
    return value


def _write_value(value: Any) -> str:
    return repr(_collapse(value))


def _has_bias(fact: ModuleFact, trace: Trace) -> bool:
    names = [name for index in fact.params for name in trace.params[index].names]
    return any("bias" in name.rpartition(".")[2] for name in names)


def write_change(path: str, code: str) -> str:
    """Write that a module is to be another one: ``"head.proj = nn.Linear(3136, 10)"``, ``"net[3] = …"``."""
    if not code or not path:
        return ""
    words = ""
    for piece in path.split("."):
        words += f"[{piece}]" if piece.isdigit() and words else piece if not words else f".{piece}"
    return f"{words} = {code}" if not words.isdigit() else f"model[{words}] = {code}"


def name_member(path: str) -> str:
    """Return what a line of code calls a module by: ``"proj"`` for ``"head.proj"``, ``""`` for an item of a list."""
    last = path.rpartition(".")[2]
    return "" if last.isdigit() else last
