"""CPU seconds from Enter to the whole table of a kernel's first ``%summary``, at once and after a while of waiting."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

#: Kernels of each kind; the least of their seconds counts.
_KERNELS = 3
_SETUP = """
%load_ext modelsummary_ipy
%config SummaryMagics.preload = {preload}
import sys, time, torch
from torch import nn
net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(864, 10))
"""
_LAST = "modelsummary_ipy.display.render.html"


def measure(*, preload: bool) -> float:
    """Return the seconds in a fresh kernel that has imported torch; ``preload``: once it has imported the rest too."""
    manager, client = start_new_kernel()
    try:
        _ask(client, _SETUP.format(preload=preload))
        while preload and _ask(client, f"print({_LAST!r} in sys.modules)") != "True":
            time.sleep(3.0)
        _ask(client, "began = time.process_time()")
        _ask(client, "%summary net (1, 1, 28, 28)")
        return float(_ask(client, "print(time.process_time() - began)"))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _ask(client: BlockingKernelClient, code: str) -> str:
    printed: list[str] = []
    client.execute_interactive(
        code, timeout=120, output_hook=lambda message: printed.append(message["content"].get("text", ""))
    )
    return "".join(printed).strip()


def main(words: Sequence[str]) -> None:
    """Print both."""
    for preload, name in ((False, "at once"), (True, "after its imports")):
        print(f"first %summary {name}: {min(measure(preload=preload) for _ in range(_KERNELS)):.2f} s")
