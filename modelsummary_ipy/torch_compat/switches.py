"""Torch's switches, those of the process and of the thread: how each is read, and how it is set back.

A release that lacks one, or the name that reads it, has none to set back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.backends import opt_einsum  # 2.7 loads it with the first einsum

from modelsummary_ipy.torch_compat.modes import find_default_device, set_default_device

#: What reads a switch, and what sets it to what was read.
Switch = tuple[Callable[[], Any], Callable[[Any], Any]]


def _attributes(owner: Any, *names: str) -> list[Switch]:
    def switch(name: str) -> Switch:
        return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)

    return [switch(name) for name in names]


def _of_c(*names: str) -> list[Switch]:
    """Find switches that torch's Python reads and sets by ``torch._C._get_NAME`` and ``_set_NAME``."""
    known = [name for name in names if hasattr(torch._C, f"_get_{name}") and hasattr(torch._C, f"_set_{name}")]
    return [(getattr(torch._C, f"_get_{name}"), getattr(torch._C, f"_set_{name}")) for name in known]


def _autocast(kind: str) -> Switch:
    def write(state: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(kind, state[0])
        torch.set_autocast_dtype(kind, state[1])

    return lambda: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)), write


def _read_nesting() -> int:
    """Count the autocast regions that are entered: the casts of weights are dropped when the last one is left."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def _set_nesting(before: int) -> None:
    while _read_nesting() > before:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def _set_deterministic(state: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(state[0], warn_only=state[1])


def _set_anomaly(state: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(state[0], check_nan=state[1])


def _set_dual_level(before: int) -> None:
    while forward_ad._current_level > before:
        forward_ad.exit_dual_level()


_SMALLEST = 5e-324


def _flushes_denormals() -> bool:
    return _SMALLEST * 1.0 == 0.0  # no function of torch's says so; it is the processor's own switch


def _global_hooks() -> list[Switch]:
    """Find the tables of hooks that are called for every module."""

    def switch(table: dict[Any, Any]) -> Switch:
        def write(before: dict[Any, Any]) -> None:
            table.clear()
            table.update(before)

        return lambda: dict(table), write

    names = vars(torch.nn.modules.module).items()
    return [switch(table) for name, table in names if name.startswith("_global_") and isinstance(table, dict)]


def _saved_tensor_hooks() -> list[Switch]:
    autograd: Any = torch._C._autograd
    top, pop = (getattr(autograd, f"_{name}_saved_tensors_default_hooks", None) for name in ("top", "pop"))
    if top is None or pop is None:
        return []

    def write(before: Any) -> None:
        while (now := top(True)) is not None and now != before:
            pop()

    return [(lambda: top(True), write)]


def _precisions() -> list[Switch]:
    """Find the precision of float32 products, the most general first: one that is not set reads as the one above it."""
    backends: Any = torch.backends
    cudnn, onednn = backends.cudnn, backends.mkldnn
    parts = [
        (backends,), (cudnn,), (onednn,), (backends.cuda, "matmul"),
        *((owner, part) for owner in (cudnn, onednn) for part in ("conv", "rnn", "matmul")),
    ]  # fmt: skip
    owners = [part[0] if len(part) == 1 else getattr(part[0], part[1], None) for part in parts]
    return [switch for owner in owners for switch in _attributes(owner, "fp32_precision")]


def _find() -> tuple[Switch, ...]:
    backends: Any = torch.backends
    cuda, module_conversion = backends.cuda, torch.__future__
    attention = [
        (getattr(cuda, f"{kind}_sdp_enabled", None), getattr(cuda, f"enable_{kind}_sdp", None))
        for kind in ("flash", "mem_efficient", "math", "cudnn")
    ]
    switches: list[Any] = [
        (find_default_device, set_default_device),
        _autocast("cpu"),
        _autocast("cuda"),
        (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
        (_read_nesting, _set_nesting),
        (torch.get_default_dtype, torch.set_default_dtype),
        (lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()), _set_anomaly),
        (
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            _set_deterministic,
        ),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.is_warn_always_enabled, torch.set_warn_always),
        (_flushes_denormals, torch.set_flush_denormal),
        (lambda: forward_ad._current_level, _set_dual_level),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        *_of_c("cudnn_enabled", "cudnn_allow_tf32", "cudnn_benchmark", "cudnn_deterministic"),
        *_of_c("mkldnn_enabled", "mkldnn_deterministic", "nnpack_enabled"),
        *_attributes(cuda.matmul, "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"),
        *_attributes(cuda.matmul, "allow_fp16_accumulation"),
        *attention,
        *_precisions(),
        *_attributes(backends.quantized, "engine"),
        *_attributes(torch.utils.deterministic, "fill_uninitialized_memory"),
        *_attributes(opt_einsum, "enabled", "strategy"),
        *_attributes(torch.hub, "_hub_dir"),
        (torch.multiprocessing.get_sharing_strategy, torch.multiprocessing.set_sharing_strategy),
        *[
            (getattr(module_conversion, f"get_{name}"), getattr(module_conversion, f"set_{name}"))
            for name in ("overwrite_module_params_on_conversion", "swap_module_params_on_conversion")
        ],
        (
            lambda: dict(vars(torch._tensor_str.PRINT_OPTS)),
            lambda before: vars(torch._tensor_str.PRINT_OPTS).update(before),
        ),
        *_global_hooks(),
        *_saved_tensor_hooks(),
    ]
    return tuple(switch for switch in switches if _has(switch))


def _has(switch: Any) -> bool:
    try:
        switch[0]()
    except RuntimeError:
        return True  # it can't be read as torch is set now; see ``read_switch``
    except Exception:  # noqa: BLE001  # a release without it
        return False
    return switch[1] is not None


class _Unreadable:
    """What can't be read: torch refuses to, where a switch was set by its new name and is asked for by its old one."""


UNREADABLE = _Unreadable()


def read_switch(read: Callable[[], Any]) -> Any:
    """Return what ``read`` returns, or ``UNREADABLE``."""
    try:
        return read()
    except RuntimeError:
        return UNREADABLE


SWITCHES = _find()
