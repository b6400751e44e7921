"""What a forward may set outside its model and not set back: torch's defaults, autocast, environment, directory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from modelsummary_ipy.isolation.threads import AloneWatch
from modelsummary_ipy.torch_compat.modes import find_default_device, list_modes, set_default_device, set_modes


def _read_autocast(kind: str) -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)


def _set_autocast(kind: str, state: tuple[bool, torch.dtype]) -> None:
    torch.set_autocast_enabled(kind, state[0])
    torch.set_autocast_dtype(kind, state[1])


def _read_nesting() -> int:
    """Count the autocast regions that are entered: the casts of weights are dropped when the last one is left."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def _set_nesting(before: int) -> None:
    while _read_nesting() > before:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def _read_directory() -> str | None:
    with suppress(OSError):  # it may have been deleted
        return os.getcwd()
    return None


def _set_directory(before: str | None) -> None:
    if before is not None:
        with suppress(OSError):
            os.chdir(before)


def _read_environment() -> dict[Any, Any]:
    """Copy the variables as Python holds them: to decode each takes 50 µs, and every trace reads them twice."""
    return dict(getattr(os.environ, "_data", os.environ))


def _set_environment(before: dict[Any, Any]) -> None:
    variables: Any = os.environb if any(isinstance(name, bytes) for name in before) else os.environ
    for name in [name for name in variables if name not in before]:
        del variables[name]
    variables.update(before)


def _set_warnings(before: list[Any]) -> None:
    warnings.resetwarnings()  # what is set in the list alone does not reach the registries
    warnings.filters[:] = before  # type: ignore[index]  # a list, whatever the stubs say


_cudnn: Any = torch.backends.cudnn

#: This thread's: how each is read, and set back.
_OF_THREAD: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (find_default_device, set_default_device),
    (lambda: _read_autocast("cpu"), lambda state: _set_autocast("cpu", state)),
    (lambda: _read_autocast("cuda"), lambda state: _set_autocast("cuda", state)),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    (_read_nesting, _set_nesting),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (lambda: _cudnn.benchmark, lambda value: setattr(_cudnn, "benchmark", value)),
    (lambda: _cudnn.deterministic, lambda value: setattr(_cudnn, "deterministic", value)),
)
#: The process's: what another thread of the user's sets meanwhile stays.
_OF_PROCESS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (_read_directory, _set_directory),
    (lambda: list(warnings.filters), _set_warnings),
    (_read_environment, _set_environment),
)
_PROCESS_WRITERS = frozenset(write for _, write in _OF_PROCESS)


@contextmanager
def process_state_kept(alone: AloneWatch) -> Iterator[None]:
    """Set back what the block set, also after an exception.

    Args:
        alone: Knows whether another thread of the user's may have set what is the process's.
    """
    before = [read() for read, _ in (*_OF_THREAD, *_OF_PROCESS)]
    try:
        yield
    finally:
        for (read, write), value in zip((*_OF_THREAD, *_OF_PROCESS), before, strict=True):
            if read() != value and (write not in _PROCESS_WRITERS or alone.holds()):
                write(value)


@contextmanager
def grad_kept() -> Iterator[None]:
    """Set grad mode and inference mode back, also where the block entered one and never left it."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    try:
        with torch.inference_mode(inference):  # what is inside it is undone by its end
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
