"""What a forward sets in Python and in torch's own switches is as it was after a summary."""

from __future__ import annotations

import decimal
import gc
import locale
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from io import StringIO
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as hooks_of_all

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.isolation.global_state import globals_kept_once
from modelsummary_ipy.torch_compat.compiler import load_compiler

cuda = torch.backends.cuda
LOGGER = logging.getLogger("a.logger.of.the.user")


def read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def set_zone() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def set_loggers() -> None:
    LOGGER.setLevel("DEBUG")
    LOGGER.propagate = False
    LOGGER.addHandler(logging.NullHandler())
    logging.getLogger().setLevel("DEBUG")
    logging.disable(logging.CRITICAL)


def set_signals() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


def set_attention() -> None:
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_math_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


def nothing(*_: object) -> None: ...


#: What a forward does, and what is read before and after.
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "path": (lambda: sys.path.insert(0, "/nowhere"), lambda: list(sys.path)),
    "another path": (lambda: setattr(sys, "path", [*sys.path, "/x"]), lambda: (id(sys.path), list(sys.path))),
    "arguments": (lambda: sys.argv.append("--fast"), lambda: list(sys.argv)),
    "umask": (lambda: os.umask(0o77), read_umask),
    "time zone": (set_zone, lambda: (os.environ.get("TZ"), time.localtime(0).tm_hour)),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"), lambda: locale.setlocale(locale.LC_ALL)),
    "loggers": (
        set_loggers,
        lambda: [
            (LOGGER.level, LOGGER.propagate, list(LOGGER.handlers)),
            logging.getLogger().level,
            logging.root.manager.disable,
        ],
    ),
    "warnings": (lambda: logging.captureWarnings(True), lambda: warnings.showwarning),
    "signals": (
        set_signals,
        lambda: [
            signal.getsignal(signal.SIGUSR1),
            signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0,
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        ],
    ),
    "hooks": (
        lambda: [setattr(sys, f"{name}hook", nothing) for name in ("except", "unraisable", "display")],
        lambda: (sys.excepthook, sys.unraisablehook, sys.displayhook),
    ),
    "hook of threads": (lambda: setattr(threading, "excepthook", nothing), lambda: threading.excepthook),
    "output": (lambda: setattr(sys, "stdout", StringIO()), lambda: sys.stdout),
    "errors": (lambda: setattr(sys, "stderr", StringIO()), lambda: sys.stderr),
    "collector": (
        lambda: (gc.set_threshold(11), gc.callbacks.append(nothing)),
        lambda: (gc.get_threshold(), list(gc.callbacks)),
    ),
    "switch interval": (lambda: sys.setswitchinterval(0.5), sys.getswitchinterval),
    "digits": (lambda: sys.set_int_max_str_digits(0), sys.get_int_max_str_digits),
    "decimals": (lambda: setattr(decimal.getcontext(), "prec", 3), lambda: decimal.getcontext().prec),
    "sockets": (lambda: socket.setdefaulttimeout(3), socket.getdefaulttimeout),
    "numpy": (
        lambda: (np.set_printoptions(precision=2), np.seterr(all="raise")),
        lambda: (np.get_printoptions(), np.geterr()),
    ),
    "printed tensors": (lambda: torch.set_printoptions(precision=2), lambda: str(torch.tensor([1 / 3]))),
    "attention": (
        set_attention,
        lambda: [getattr(cuda, f"{kind}_sdp_enabled")() for kind in ("flash", "math", "mem_efficient", "cudnn")],
    ),
    "cudnn": (
        lambda: torch.backends.cudnn.set_flags(False, True, 10, True, False),
        lambda: [getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "allow_tf32")],
    ),
    "onednn": (lambda: torch.backends.mkldnn.set_flags(False), lambda: torch._C._get_mkldnn_enabled()),
    "precision of halves": (
        lambda: setattr(cuda.matmul, "allow_fp16_reduced_precision_reduction", False),
        lambda: cuda.matmul.allow_fp16_reduced_precision_reduction,
    ),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: torch.is_deterministic_algorithms_warn_only_enabled(),
    ),
    "every warning": (lambda: torch.set_warn_always(True), torch.is_warn_always_enabled),
    "denormals": (
        lambda: torch.set_flush_denormal(True),
        lambda: (torch.tensor([1e-310], dtype=torch.float64) * 1).item(),
    ),
    "hub": (lambda: torch.hub.set_dir("/nowhere"), torch.hub.get_dir),
    "conversion": (
        lambda: torch.__future__.set_overwrite_module_params_on_conversion(True),
        torch.__future__.get_overwrite_module_params_on_conversion,
    ),
    "hooks of every module": (
        lambda: hooks_of_all.register_module_forward_hook(nothing),
        lambda: dict(vars(hooks_of_all)["_global_forward_hooks"]),
    ),
    "forward derivatives": (forward_ad.enter_dual_level, lambda: vars(forward_ad)["_current_level"]),
}
read_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
if read_hooks is not None:  # 2.7 has nothing that reads them, and nothing puts them back
    SETTINGS["hooks of what is saved"] = (
        lambda: torch.autograd.graph.save_on_cpu().__enter__(),
        lambda: read_hooks(True),
    )


class Sets(nn.Module):
    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self.layer, self.fails = nn.Linear(4, 4), fails

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        for write, _read in SETTINGS.values():
            write()
        if self.fails:
            raise KeyError("at the end")
        return x * 2


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("engine", ["fake", "real"])
def test_every_setting_is_put_back(engine: Any, *, fails: bool) -> None:
    model = Sets(fails=fails)
    load_compiler()  # up to 2.9 it puts a folder of its own on the path, which torch reads from then on
    before = {name: read() for name, (_write, read) in SETTINGS.items()}
    ms = ModelSummary(model, (2, 4), engine=engine)
    str(ms)
    assert {name: read() for name, (_write, read) in SETTINGS.items()} == before
    assert (ms.error is not None) == fails


@pytest.mark.skipif(not hasattr(cuda.matmul, "fp32_precision"), reason="torch 2.8 and before have one name for it")
def test_precisions_that_are_set_by_their_new_names_stay() -> None:
    """torch refuses to read the old name from then on."""

    class Sets(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.backends.cudnn.conv.fp32_precision = "ieee"
            torch.set_float32_matmul_precision("medium")
            return x * 2

    def read() -> list[str]:
        parts = (torch.backends, cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)
        return [part.fp32_precision for part in parts]

    first = read()
    try:
        for precision in ("none", "tf32"):
            cuda.matmul.fp32_precision = precision
            before = read()
            assert ModelSummary(Sets(), (2, 4)).error is None
            assert read() == before
    finally:
        cuda.matmul.fp32_precision = "none"
    assert read() == first


def test_loggers_are_put_back_after_each_of_many_traces_in_a_row() -> None:
    """A search reads them once before its first trace; a logger that a trace makes is no setting of the user's."""

    class Sets(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            levels.put(LOGGER.level)
            LOGGER.setLevel(LOGGER.level + x.shape[0])
            logging.getLogger(f"a.logger.of.{x.shape[0]}").setLevel("DEBUG")
            return x

    levels: queue.SimpleQueue[int] = queue.SimpleQueue()  # a list would be put back as it was
    before = LOGGER.level
    with globals_kept_once():
        for size in (1, 2, 3):
            ModelSummary(Sets(), (size, 4))
            assert LOGGER.level == before
    seen = [levels.get() for _ in range(levels.qsize())]
    assert len(seen) >= 3
    assert set(seen) == {before}
