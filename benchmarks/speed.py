"""Time every tool on every case, in turn, and print one table of medians, and of how much memory each takes."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.cases import CASES, Case
from benchmarks.tools import TOOLS

_TOO_SLOW = 60.0  # seconds: a tool that needs more for one go is timed once


def measure(case: Case, names: Sequence[str]) -> dict[str, tuple[float, float, float] | str]:
    """Time the tools in turn, round by round, so that a slow spell of the machine slows them all.

    Returns:
        By tool: median seconds, median over the rounds of its time over that of torch's own fakes in that round, and
        peak MiB; or why it did not answer.
    """
    model = case.build()
    runs: dict[str, Callable[[], object]] = {}
    found: dict[str, tuple[float, float, float] | str] = {}
    for name in names:
        try:
            run = TOOLS[name](model, case)
            started = time.perf_counter()
            run()
            runs[name] = run
            if time.perf_counter() - started > _TOO_SLOW:
                found[name] = (time.perf_counter() - started, float("nan"), float("nan"))
                del runs[name]
        except Exception as error:  # noqa: BLE001  # a peer that can't do a model is a line of the table
            found[name] = f"fails: {type(error).__name__}"
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(case.rounds):
        for name, run in runs.items():
            gc.collect()
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    base = times.get("bare") or times.get("rows") or [float("nan")] * case.rounds
    for name, taken in times.items():
        ratio = statistics.median(mine / bare for mine, bare in zip(taken, base, strict=True))
        found[name] = (statistics.median(taken), ratio, _measure_memory(runs[name]))
    return found


def _measure_memory(run: Callable[[], object]) -> float:
    """Return by how many MiB a child's resident memory peaks above what it had before the run."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            run()
        finally:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            os.write(write, struct.pack("d", (peak - before) / 1024))
            os._exit(0)
    os.close(write)
    answer = os.read(read, 8)
    os.close(read)
    os.waitpid(child, 0)
    return float(struct.unpack("d", answer)[0]) if len(answer) == 8 else float("nan")


def measure_loading() -> float:
    """Return the milliseconds that ``%load_ext modelsummary_ipy`` takes in an IPython without torch."""
    code = (
        "import time, sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "started = time.perf_counter()\n"
        "shell.run_line_magic('load_ext', 'modelsummary_ipy')\n"
        "taken = time.perf_counter() - started\n"
        "assert 'torch' not in sys.modules\n"
        "print(taken * 1e3)\n"
    )
    taken = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    return statistics.median(taken)


def main(words: Sequence[str]) -> None:
    """Print the table; words choose the cases whose names hold one of them."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(f"{'case':24}{'tool':12}{'ms':>10}{'× bare':>10}{'MiB':>9}")
    for case in CASES:
        if words and not any(word.lower() in case.name.lower() for word in words):
            continue
        for name, result in measure(case, case.tools or tuple(TOOLS)).items():
            if isinstance(result, str):
                print(f"{case.name:24}{name:12}{result:>20}")
            else:
                seconds, ratio, memory = result
                print(f"{case.name:24}{name:12}{seconds * 1e3:10.1f}{ratio:10.2f}{memory:9.1f}", flush=True)
        print()
    print(f"%load_ext modelsummary_ipy, torch not imported: {measure_loading():.1f} ms")
