"""What a forward may set outside its model and not set back: torch's switches, Python's settings, grad mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch

from modelsummary_ipy.isolation.forks import restoring
from modelsummary_ipy.isolation.interpreter_state import OF_PROCESS, OF_THREAD
from modelsummary_ipy.isolation.threads import AloneWatch
from modelsummary_ipy.torch_compat.modes import leave_inference, list_modes, set_modes
from modelsummary_ipy.torch_compat.switches import SWITCHES, UNREADABLE, read_switch

#: What reads a setting, what sets it back, and whether another thread may have set it meanwhile.
_SETTINGS = (
    *((read, write, False) for read, write in (*SWITCHES, *OF_THREAD)),
    *((read, write, True) for read, write in OF_PROCESS),
)


@contextmanager
def process_state_kept(alone: AloneWatch) -> Iterator[None]:
    """Set back what the block set, also after an exception.

    Args:
        alone: Knows whether another thread of the user's may have set what is the process's.
    """
    before = [read_switch(read) for read, _, _ in _SETTINGS]
    try:
        yield
    finally:
        for (read, write, is_shared), value in zip(_SETTINGS, before, strict=True):
            if value is not UNREADABLE and read_switch(read) != value and (not is_shared or alone.holds()):
                write(value)


@contextmanager
def _inference_left() -> Iterator[None]:
    """Leave, at the end of the block, the inference modes that this thread entered in it.

    One that is left later, when its object or its generator dies, puts back the modes that were on when it was entered.
    """
    thread, entered, enter = get_ident(), list[Any](), _inference.__enter__

    def enter_noted(mode: Any) -> Any:
        if get_ident() == thread:
            entered.append(mode)
        return enter(mode)

    def restore() -> None:
        _inference.__enter__ = enter
        for mode in reversed(entered):
            leave_inference(mode)

    with restoring(restore):
        _inference.__enter__ = enter_noted
        yield


_inference: Any = torch.inference_mode


@contextmanager
def grad_kept() -> Iterator[None]:
    """Set grad mode and inference mode back, also where the block entered one and never left it."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    try:
        with torch.inference_mode(inference), _inference_left():  # what is inside it is undone by its end
            torch.set_grad_enabled(grad)
            yield
    finally:
        torch.set_grad_enabled(grad)


@contextmanager
def modes_kept() -> Iterator[None]:
    """Leave, after the block, the modes that it entered and did not leave: each would see the user's next operation."""
    before = list_modes()
    try:
        yield
    finally:
        set_modes(before)
