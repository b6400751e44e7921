"""What Tab offers behind ``%summary``: options, their choices, and names that are modules or data."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["complete", "hook", "unhook"]

_KEYS = ("%summary", "%%summary")
_ASSIGNED = re.compile(r"[^%#]*=\s*%summary\s")


def hook(shell: Any, completer: Any) -> None:
    """Let the shell call ``completer`` behind ``%summary``, ``%%summary`` and ``ms = %summary``."""
    for key in _KEYS:
        shell.set_hook("complete_command", completer, str_key=key)
    shell.strdispatchers["complete_command"].add_re(_ASSIGNED, completer.__get__(shell), 50)


def unhook(shell: Any) -> None:
    """Take away what ``hook`` registered."""
    dispatch = shell.strdispatchers.get("complete_command")
    if dispatch is not None:
        for key in _KEYS:
            dispatch.strs.pop(key, None)
        dispatch.regexs.pop(_ASSIGNED, None)


def complete(parser: argparse.ArgumentParser, names: Mapping[str, Any], text: str) -> list[str]:
    """List what may be at the end of a line.

    Args:
        parser: Of the magic's options.
        names: The user's.
        text: The line up to the cursor.

    Returns:
        The choices of an option that was begun, else options and names, modules first.
    """
    before = text.split()
    behind = before[-1] if text.endswith(" ") else before[-2] if len(before) > 1 else ""
    actions = {name: action for action in parser._actions for name in action.option_strings}
    if behind in actions and actions[behind].choices:
        return [str(choice) for choice in actions[behind].choices or ()]
    return [*_find_names(names), *actions]


def _find_names(names: Mapping[str, Any]) -> list[str]:
    """List the names that are modules or data; without torch there are none."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is None:
        return []
    data = (torch.Tensor, Mapping, *((numpy.ndarray,) if numpy is not None else ()))
    own = {name: value for name, value in names.items() if not name.startswith("_") and name not in ("In", "Out")}
    modules = [name for name, value in own.items() if isinstance(value, torch.nn.Module)]
    return modules + [name for name, value in own.items() if isinstance(value, data)]
