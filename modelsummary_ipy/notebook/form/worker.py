"""One piece of work at a time, in a thread: the newest request wins, and what runs for an older one is cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

Request = TypeVar("Request")


class Worker(Generic[Request]):
    """Runs requests in a thread that lives only while there is something to do.

    Args:
        work: Does one request; it gets a function that returns whether it should stop.
        failed: Called in the thread with an exception that ``work`` raised.
        delay: Seconds of quiet that a request waits for, so that typing is one request and not ten.
    """

    def __init__(
        self,
        work: Callable[[Request, Callable[[], bool]], None],
        failed: Callable[[BaseException], None],
        delay: float = 0.2,
    ) -> None:
        self._work = work
        self._failed = failed
        self._delay = delay
        self._changed = threading.Condition()
        self._pending: tuple[Request, float] | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether something runs or waits to run."""
        with self._changed:
            return self._thread is not None

    def submit(self, request: Request, *, now: bool = False) -> None:
        """Do ``request`` after the delay, or at once; what runs is cancelled, what waits is dropped."""
        with self._changed:
            self._pending = (request, time.monotonic() + (0.0 if now else self._delay))
            self._stop.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="modelsummary-form", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def cancel(self) -> None:
        """Stop what runs and drop what waits."""
        with self._changed:
            self._pending = None
            self._stop.set()
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs or waits; return whether that came true within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, timeout)

    def _run(self) -> None:
        while (request := self._next()) is not None:
            try:
                self._work(request[0], self._stop.is_set)
            except BaseException as error:  # noqa: BLE001  # a thread has no caller to raise to; the owner shows it
                self._failed(error)

    def _next(self) -> tuple[Request] | None:
        with self._changed:
            while self._pending is not None:
                request, due = self._pending
                left = due - time.monotonic()
                if left <= 0:
                    self._pending = None
                    self._stop.clear()
                    return (request,)
                self._changed.wait(left)
            self._thread = None
            self._changed.notify_all()
            return None


@dataclass(frozen=True)
class TorchState:
    """What torch keeps for each thread: a worker that traces must enter what its user has."""

    grad: bool
    device: torch.device
    autocast: tuple[tuple[str, bool, Any], ...]

    @classmethod
    def read(cls) -> TorchState:
        """Read the calling thread's state."""
        kinds = ("cpu", "cuda")
        autocast = tuple((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds)
        return cls(torch.is_grad_enabled(), torch.get_default_device(), autocast)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into this state for the block."""
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(self.grad))
            if self.device != torch.get_default_device():
                stack.enter_context(self.device)
            for kind, enabled, dtype in self.autocast:
                if enabled:
                    stack.enter_context(torch.autocast(kind, dtype=dtype))
            yield
