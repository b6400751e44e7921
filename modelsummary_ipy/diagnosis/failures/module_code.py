"""Fixes as code: a layer of torch's written with other settings, at the path where it belongs."""

from __future__ import annotations

from typing import Any

from modelsummary_ipy.model.torch_layers import LAYERS
from modelsummary_ipy.records.trace import ModuleFact, Trace


def write_module(fact: ModuleFact, trace: Trace, **changes: Any) -> str:
    """Write a layer of torch's as code, with some of its settings changed.

    Returns:
        ``"nn.Conv2d(16, 32, 3, padding=1)"``; ``""`` for a class that is not known here.
    """
    layer = LAYERS.get(fact.type_name)
    if layer is None or not layer.arguments or not fact.type_module.startswith("torch."):
        return ""
    settings = {**fact.settings, **changes}
    if any(name not in settings for name in layer.arguments):
        return ""
    words = [_write_value(settings[name], name) for name in layer.arguments]
    for name, default in layer.options.items():
        value = _collapse(settings.get(name, default))
        is_same = value == default
        if name == "stride" and default is None:  # a pool's stride is its window unless said otherwise
            is_same = value in (None, _collapse(settings["kernel_size"]))
        if name in ("kdim", "vdim"):
            is_same = value in (None, settings.get("embed_dim"))
        if not is_same:
            words.append(f"{name}={value!r}")
    if layer.has_bias and not _has_bias(fact, trace):
        words.append("bias=False")
    name = "Linear" if fact.type_name.startswith("NonDynamically") else fact.type_name
    return f"nn.{name}({', '.join(words)})"


def _collapse(value: Any) -> Any:
    """``(3, 3)`` is written ``3``."""
    if isinstance(value, tuple) and value and all(item == value[0] for item in value):
        return value[0]
    return value


def _write_value(value: Any, name: str) -> str:
    if name == "normalized_shape" and len(value) > 1:
        return repr(list(value))  # 16 × 16 × 16 and 16 are different norms
    return repr(_collapse(value))


def _has_bias(fact: ModuleFact, trace: Trace) -> bool:
    names = [name for index in fact.params for name in trace.params[index].names]
    return any("bias" in name.rpartition(".")[2] for name in names)


def write_change(path: str, code: str) -> str:
    """Write that a module is to be another one: ``"self.head.proj = nn.Linear(3136, 10)"``, ``"model[3] = …"``."""
    if not code or not path:
        return ""
    pieces = path.split(".")
    words = "".join(f"[{piece}]" if piece.isdigit() else f".{piece}" for piece in pieces)
    return f"{'model' if pieces[0].isdigit() else 'self'}{words} = {code}"


def write_insertion(path: str, code: str) -> str:
    """Write that a layer is put in front of an item of an ``nn.Sequential``: ``"self.cnn.insert(5, nn.Flatten())"``."""
    head, _, index = path.rpartition(".")
    target = write_change(head, code).partition(" = ")[0] if head else "model"
    return f"{target}.insert({index}, {code})"


def name_member(path: str) -> str:
    """Return what a line of code calls a module by: ``"proj"`` for ``"head.proj"``, ``""`` for an item of a list."""
    last = path.rpartition(".")[2]
    return "" if last.isdigit() else last
