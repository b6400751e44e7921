"""What a layer of torch's is set to, short, as a row says it beside its type: ``3→64, k3 s2 p1``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.records.trace import ModuleFact

Settings = Mapping[str, Any]


def describe_layer(fact: ModuleFact | None) -> str:
    """Write what decides a layer's shape and cost; ``""`` where there is nothing to say and for what is not torch's.

    A stride, dilation or group of 1 and a padding of 0 are left out. One number stands for a square window.

    Example:
        >>> settings = {"in_channels": 3, "out_channels": 64, "kernel_size": (3, 3), "stride": (2, 2), "padding": 1}
        >>> describe_layer(ModuleFact(1, ("conv",), "Conv2d", "torch.nn.modules.conv", settings=settings))
        '3→64, k3 s2 p1'
    """
    if fact is None or not fact.type_module.startswith(("torch.nn.", "torch.ao.nn.")):
        return ""
    for keys, write in _WRITERS:
        if fact.settings.keys() >= set(keys):  # no generator: Python ignores an exception while it closes one
            return plain(write(fact.settings))
    return ""


def _channels(settings: Settings, given: str, made: str) -> str:
    """``3→64``; a lazy layer does not know what it is given."""
    return f"{settings[given] or ''}→{settings[made]}"


def _conv(settings: Settings) -> str:
    return f"{_channels(settings, 'in_channels', 'out_channels')}, {_window(settings)}"


def _window(settings: Settings) -> str:
    """``k3 s2 p1 d2 g32``: kernel, stride, padding, dilation, groups."""
    parts = [f"k{_one_or_all(settings['kernel_size'])}"]
    for name, default in (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1), ("groups", 1)):
        value = settings.get(name, default)
        if value is not None and _one_or_all(value) != _one_or_all(default):
            word = "op" if name == "output_padding" else name[0]
            parts.append(f"{word}{' ' if isinstance(value, str) else ''}{_one_or_all(value)}")
    return " ".join(parts)


def _one_or_all(value: Any) -> str:
    """``3`` for 3 and for (3, 3), ``3×5`` for (3, 5)."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    return str(values[0]) if len(set(values)) == 1 else "×".join("?" if item is None else str(item) for item in values)


def _recurrent(settings: Settings) -> str:
    text = _channels(settings, "input_size", "hidden_size")
    if settings.get("num_layers", 1) > 1:
        text += f" ×{settings['num_layers']}"
    if settings.get("bidirectional"):
        text += " bi"
    return text + (f" proj {settings['proj_size']}" if settings.get("proj_size") else "")


def _upsample(settings: Settings) -> str:
    size = settings["size"]
    if size is not None:
        return f"→{_one_or_all(size)}"
    scale = settings["scale_factor"]
    scales = scale if isinstance(scale, tuple) else (scale,)
    return f"×{_one_or_all(tuple(int(one) if one == int(one) else one for one in scales))}"


#: By settings that only such layers have, the first that fits.
_WRITERS: tuple[tuple[tuple[str, ...], Callable[[Settings], str]], ...] = (
    (("in_channels", "out_channels", "kernel_size"), _conv),
    (("in_features", "out_features"), lambda settings: _channels(settings, "in_features", "out_features")),
    (("in1_features", "in2_features"), lambda s: f"{s['in1_features']}×{s['in2_features']}→{s['out_features']}"),
    (("num_embeddings", "embedding_dim"), lambda settings: _channels(settings, "num_embeddings", "embedding_dim")),
    (("input_size", "hidden_size"), _recurrent),
    (("embed_dim", "num_heads"), lambda settings: f"{settings['embed_dim']}, {settings['num_heads']} heads"),
    (("kernel_size",), _window),
    (("output_size",), lambda settings: f"→{_one_or_all(settings['output_size'])}"),
    (("num_groups", "num_channels"), lambda settings: f"{settings['num_channels']}, {settings['num_groups']} groups"),
    (("num_features",), lambda settings: str(settings["num_features"] or "")),
    (("normalized_shape",), lambda settings: "×".join(map(str, settings["normalized_shape"]))),
    (("scale_factor", "size"), _upsample),
    (("upscale_factor",), lambda settings: f"×{settings['upscale_factor']}"),
    (("downscale_factor",), lambda settings: f"÷{settings['downscale_factor']}"),
    (("p", "inplace"), lambda settings: f"{settings['p']:g}"),
)
