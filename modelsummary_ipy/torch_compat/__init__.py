"""Every private name of torch that the package uses, each with a probe and with what is done where it is missing.

``fakes`` has those of fake tensors, modes and aten operations, ``modules`` those of modules, tensors and switches.
Users bind what they need when they are imported (``from modelsummary_ipy.torch_compat.fakes import constant_of``), so
nothing is looked up in a forward. ``prefer`` probes a name once; a release of torch that lacks it, or means something
else by it, gets the fallback: slower, never wrong. ``tests/torch_compat`` runs every fallback, holds the installed
torch to having all names, and keeps private names out of every other file.

A few have no fallback, and a torch without them is refused: ``FakeTensor``, ``FakeTensorMode`` and
``TorchDispatchMode`` as torch's documentation imports them, ``torch._C.DisableTorchFunction`` and ``Tensor._base``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch.utils import _python_dispatch

__all__ = ["FALLBACKS", "MISSING", "prefer"]

#: What is missing in this torch, or means something else, by the name it has here: its fallback is used.
MISSING: list[str] = []
#: What each name here is without torch's private one.
FALLBACKS: dict[str, Any] = {}


def prefer(name: str, find: Callable[[], Any], fallback: Any) -> Any:
    """Return what ``find`` finds among torch's private names, else ``fallback``.

    Args:
        name: The name that the result gets here.
        find: Looks the private name up and tries it; ``None`` or an exception means that it does not work. It runs
            without the user's modes: a default device, ``inference_mode``, a fake mode.
        fallback: Does the same by public names, more slowly.
    """
    FALLBACKS[name] = fallback
    try:
        with ExitStack() as stack:
            stack.enter_context(torch._C.DisableTorchFunction())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            if hasattr(_python_dispatch, "_disable_current_modes"):
                stack.enter_context(_python_dispatch._disable_current_modes())
            found = find()
    except Exception:  # noqa: BLE001  # whatever a private name does in another release, it does not serve
        found = None
    if found is None:
        MISSING.append(name)
        return fallback
    return found
