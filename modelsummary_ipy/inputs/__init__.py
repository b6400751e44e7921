"""What the user gave, read into ``ModelInputs``; and inputs that are found where none were given.

A ``Size`` needs no torch; all else is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from modelsummary_ipy.inputs.size import Size

if TYPE_CHECKING:
    from modelsummary_ipy.inputs.model_inputs import ModelInputs, check_names, set_dtypes
    from modelsummary_ipy.inputs.reading import read_arguments, read_call, read_inputs
    from modelsummary_ipy.inputs.signature import (
        check_device,
        check_model,
        describe_type,
        list_devices,
        name_positional,
    )

__all__ = [
    "ModelInputs", "Size", "check_device", "check_model", "check_names", "describe_type",
    "list_devices", "name_positional", "read_arguments", "read_call", "read_inputs", "set_dtypes",
]  # fmt: skip

_HOMES = {
    **dict.fromkeys(("ModelInputs", "check_names", "set_dtypes"), "model_inputs"),
    **dict.fromkeys(("read_arguments", "read_call", "read_inputs"), "reading"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'signature')}"), name)
