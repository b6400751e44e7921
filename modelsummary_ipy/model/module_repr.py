"""The plain attributes of a module, and what its ``repr`` shows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from modelsummary_ipy.records.errors import MOST_IN_ROW, cut_text
from modelsummary_ipy.torch_compat.modules import CONV_TYPES

#: Numbers, strings and ``None``.
ATOMS = (bool, int, float, str, type(None))
ATOM_TYPES = frozenset(ATOMS)
#: Most items of a list or a tuple with a module's settings.
_MOST_SETTINGS = 8
#: Other attributes with a module's settings, as far as they hold nothing but atoms.
_SETTING_TYPES = (*ATOMS, tuple, list, torch.dtype, torch.device)


def is_short_tuple(value: Any) -> bool:
    """Return whether a value is a short tuple of atoms."""
    return type(value) is tuple and len(value) <= _MOST_SETTINGS and ATOM_TYPES.issuperset(map(type, value))


def read_settings(module: nn.Module, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read how a module is set up from those of its attributes that are numbers, strings or short lists of these."""
    settings: dict[str, Any] = {}
    for name, value in attributes.items():
        if name.startswith("_") or not isinstance(value, _SETTING_TYPES):
            continue
        if isinstance(value, ATOMS):
            settings[name] = value
        elif isinstance(value, (tuple, list)):
            if len(value) <= _MOST_SETTINGS and all(isinstance(v, ATOMS) for v in value):
                settings[name] = tuple(value)
        else:
            settings[name] = str(value).removeprefix("torch.")
    if isinstance(module, CONV_TYPES):
        settings["transposed"] = bool(getattr(module, "transposed", False))
    return MappingProxyType(settings)


def read_config(module: nn.Module) -> Mapping[str, Any]:
    """Read the configuration of a model of the ``transformers``, as ``ModuleFact`` has it; empty for other modules."""
    config = vars(module).get("config")
    if getattr(type(module), "config_class", None) is None or not hasattr(config, "model_type"):
        return _NO_CONFIG
    fields: dict[str, Any] = {
        "_class": type(config).__name__,
        "_name_or_path": str(getattr(config, "name_or_path", "")),
    }
    for name, value in vars(config).items():
        if type(value) is int:
            fields[name] = value
        elif hasattr(value, "model_type"):
            fields |= {f"{name}.{inner}": size for inner, size in vars(value).items() if type(size) is int}
    return MappingProxyType(fields)


_NO_CONFIG: Mapping[str, Any] = MappingProxyType({})


def read_extra_repr(module: nn.Module) -> str:
    """Read a module's ``extra_repr``, cut; ``""`` if it can't be read.

    Not of one that computes attributes when they are read, a weight that is a sample say. What it draws meanwhile is
    its caller's to undo: ``isolation.global_state.draws_undone``.
    """
    kind = module.__class__  # of a proxy, the class of what it stands for
    if not str(getattr(kind.__getattr__, "__module__", "")).startswith("torch."):
        return ""
    try:
        return cut_text(str(module.extra_repr()), MOST_IN_ROW)
    except Exception:  # noqa: BLE001  # a user's own repr may need what is not there yet; it is decoration here
        return ""
