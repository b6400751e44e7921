"""``python -m benchmarks faults [points] [timers]``: exceptions from outside at every moment of a summary.

Each injection is one forked child that makes a summary and its page while an exception arrives: from the handler of a
signal, as a test runner's alarm or Ctrl-C raises it, where a function of this package begins or ends (``points`` of
these, spread evenly; ``all`` for each one) and at random times (``timers`` of these); and from
``PyThreadState_SetAsyncExc`` at random times, in the main thread and in a worker. Then the child looks at what is left.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import random
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

import modelsummary_ipy
from modelsummary_ipy import ModelSummary

OWN = str(Path(modelsummary_ipy.__file__).parent)
SIZE = (16, 4)


class TimeUp(Exception):
    """What a handler raises, as pytest-timeout's does."""


class Stop(BaseException):
    """The same, past ``except Exception``."""


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))


def summarise(net: nn.Module) -> None:
    ModelSummary(net, SIZE).to_html()


def read_state() -> dict[str, Any]:
    """What a summary must leave as it was."""
    return {
        "output": sys.stdout,
        "handlers": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "garbage collector": gc.isenabled(),
        "recursion limit": sys.getrecursionlimit(),
        "warning filters": list(warnings.filters),
        "random": random.getstate(),
        "torch's generator": torch.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "fused attention": torch.backends.mha.get_fastpath_enabled(),
        "logger of fake tensors": logging.getLogger("torch._subclasses.fake_tensor").disabled,
        "fake mode": type(torch.ones(2) * 2),
        "compiled call": nn.Module._compiled_call_impl,
        "hooks of all modules": len(torch.nn.modules.module._global_forward_hooks),
    }


def find_left(before: dict[str, Any], net: nn.Module) -> list[str]:
    """Name what differs, and what no longer works."""
    now = read_state()
    left = [name for name, value in before.items() if now[name] != value]
    calls: list[int] = []
    handles = [module.register_forward_hook(lambda *_: calls.append(1)) for module in net.modules()]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    weights = [param.detach().clone() for param in net.parameters()]
    counted = int(net[1].num_batches_tracked)  # type: ignore[index]  # a sequence
    for _ in range(2):
        optimizer.zero_grad()
        ((net(torch.randn(*SIZE)) - 1) ** 2).mean().backward()
        optimizer.step()
    for handle in handles:
        handle.remove()
    left += ["hooks do not run"] if len(calls) != 12 else []
    left += ["training moves no weight"] if all(map(torch.equal, weights, net.parameters())) else []
    left += ["batch norm is not counted"] if int(net[1].num_batches_tracked) - counted != 2 else []  # type: ignore[index]
    done = threading.Thread(target=summarise, args=(net,), daemon=True)
    done.start()
    done.join(60)
    left += ["the next summary hangs"] if done.is_alive() else []
    return left


def run_child(inject: Callable[[nn.Module], bool]) -> str:
    """Run one injection in a forked child and say how it ended.

    Args:
        inject: Makes a summary while an exception arrives; tells whether it came out.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            net = make_net()
            before = read_state()
            arrived = inject(net)
            left = find_left(before, net)
            ended = ", ".join(left) if left else "clean" if arrived else "swallowed"
        except BaseException:  # noqa: BLE001  # the child ends here, whatever happened, and says so
            ended = "the check failed: " + traceback.format_exc().splitlines()[-1]
        os.write(writer, ended.encode())
        os._exit(0)
    os.close(writer)
    is_done = select.select([reader], [], [], 180)[0]
    if not is_done:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as file:
        ended = file.read().decode()
    _, status = os.waitpid(child, 0)
    if not is_done:
        return "hangs"
    return f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else ended


def at_point(number: int, error: type[BaseException]) -> Callable[[nn.Module], bool]:
    """Let a signal arrive when a function of ours begins or ends for that time."""

    def inject(net: nn.Module) -> bool:
        count = 0

        def handler(*_: Any) -> None:
            raise error

        def watch(frame: FrameType, event: str, _: Any) -> None:
            nonlocal count
            if event in ("call", "return") and frame.f_code.co_filename.startswith(OWN):
                count += 1
                if count == number:
                    signal.raise_signal(signal.SIGALRM)

        before = signal.signal(signal.SIGALRM, handler)
        sys.setprofile(watch)
        try:
            summarise(net)
        except error:
            return True
        finally:
            sys.setprofile(None)
            signal.signal(signal.SIGALRM, before)
        return count < number

    return inject


def count_points() -> int:
    """How often a function of ours begins or ends in one summary with its page."""
    counted = 0

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal counted
        counted += event in ("call", "return") and frame.f_code.co_filename.startswith(OWN)

    net = make_net()
    summarise(net)
    sys.setprofile(watch)
    try:
        summarise(net)
    finally:
        sys.setprofile(None)
    return counted


def after(delay: float, error: type[BaseException]) -> Callable[[nn.Module], bool]:
    """Let an alarm arrive after some seconds."""

    def inject(net: nn.Module) -> bool:
        def handler(*_: Any) -> None:
            raise error

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            summarise(net)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except error:
            return True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return True  # it was over before

    return inject


def set_after(delay: float, error: type[BaseException], *, in_worker: bool) -> Callable[[nn.Module], bool]:
    """Let an exception be set for the thread that summarises, after some seconds: no handler can hold it."""

    def inject(net: nn.Module) -> bool:
        arrived = threading.Event()

        def work() -> None:
            thread = threading.get_ident()

            def throw() -> None:
                time.sleep(delay)
                if not done.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))

            done = threading.Event()
            thrower = threading.Thread(target=throw, daemon=True)
            try:
                thrower.start()
                summarise(net)
                done.set()
                thrower.join()
                for _ in range(1000):  # one that was set at the last moment arrives here
                    pass
                arrived.set()  # over before
            except error:
                arrived.set()

        if in_worker:
            worker = threading.Thread(target=work)
            worker.start()
            worker.join()
        else:
            work()
        return arrived.is_set()

    return inject


def report(title: str, injections: Sequence[Callable[[nn.Module], bool]]) -> None:
    """Run the injections and print how many ended how."""
    began = time.monotonic()
    ends = Counter(map(run_child, injections))
    harmed = sum(count for end, count in ends.items() if end != "clean")
    print(f"{title}: {len(injections)} injected, {harmed} did harm ({time.monotonic() - began:.0f} s)")
    for end, count in ends.most_common():
        if end != "clean":
            print(f"    {count} × {end}")
    sys.stdout.flush()


def main(words: Sequence[str]) -> None:
    torch.set_num_threads(1)  # a fork has no threads of its parent's
    total = count_points()
    wanted = words[0] if words else "300"
    points = total if wanted == "all" else int(wanted)
    timers = int(words[1]) if len(words) > 1 else 200
    began = time.monotonic()
    summarise(make_net())
    taken = 1.3 * (time.monotonic() - began)
    spread = sorted({1 + round(place * (total - 1) / max(points - 1, 1)) for place in range(points)})
    kinds: list[type[BaseException]] = [TimeUp, Stop, KeyboardInterrupt]
    print(f"a summary with its page begins and ends {total} functions of this package")
    report("signals, by place", [at_point(number, kinds[turn % 3]) for turn, number in enumerate(spread)])
    draw = random.Random(0)
    delays = [draw.uniform(0.0001, taken) for _ in range(timers)]
    report("signals, by time", [after(delay, kinds[turn % 3]) for turn, delay in enumerate(delays)])
    for in_worker in (False, True):
        where = "a worker" if in_worker else "the main thread"
        report(
            f"exceptions set from another thread, in {where}, by time",
            [set_after(delay, kinds[turn % 3], in_worker=in_worker) for turn, delay in enumerate(delays)],
        )
