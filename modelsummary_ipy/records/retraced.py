"""The result of tracing a forward again, and the budget for it."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter, thread_time

from modelsummary_ipy.records.op_events import OpEvents
from modelsummary_ipy.records.trace import TensorSpec, Trace

#: Sizes by name of a dim.
Sizes = Mapping[str, int]
#: Size and dtype of every input leaf.
Specs = tuple[TensorSpec, ...]


def work_clock() -> float:
    """Return seconds of work: four parts of this thread's CPU time and of its sleep, one part of the clock.

    Alone on a machine these are the clock's. On a busy one a search that may take a second finds what it finds on an
    idle one: what the thread waits for a CPU is counted by a fifth. It is up to 50 ms behind: every torch call asks,
    and a thread that asks the system for its CPU time may be put aside.
    """
    return _work.read()


class _Work(threading.local):
    """This thread's seconds of work; its sleep is what Linux says, and 0 elsewhere."""

    due = seconds = slept = 0.0
    tells_sleep = True

    def read(self) -> float:
        now = perf_counter()
        if now >= self.due:
            self.due = now + 0.05
            if self.tells_sleep:
                self._read_sleep()
            self.seconds = 0.8 * (thread_time() + self.slept) + 0.2 * monotonic()
        return self.seconds

    def _read_sleep(self) -> None:
        try:
            ran, waited, _ = Path("/proc/thread-self/schedstat").read_bytes().split()
        except (OSError, ValueError):
            self.tells_sleep = False
        else:
            self.slept = max(self.slept, monotonic() - (int(ran) + int(waited)) / 1e9)


_work = _Work()


@dataclass
class Allowance:
    """The seconds that all traces of one summary may take which are made for what is shown; one that is read is not.

    A forward can't be stopped between its torch calls, so none begins that is expected to end too late.

    Attributes:
        left: What the blocks may still take together.
        expected: How long one trace takes.
        until: When the block that runs is over, by ``work_clock``.
        ended: Whether a trace was not made, or given up, for want of time.
    """

    left: float = math.inf
    expected: float = 0.0
    until: float = math.inf
    ended: bool = False

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Take the time of the block off; a block in a block takes none."""
        if self.until < math.inf:
            yield
            return
        began = work_clock()
        self.until = began + self.left
        try:
            yield
        finally:
            self.until = math.inf
            self.left = max(0.0, self.left - (work_clock() - began))

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        if work_clock() < self.until:
            return False
        self.ended = True
        return True

    @property
    def is_short(self) -> bool:
        """Whether one more trace would end too late."""
        if work_clock() + self.expected < self.until:
            return False
        self.ended = True
        return True


@dataclass
class Budget:
    """How much may be traced: counted first, so that the same model mostly gets the same answer.

    Attributes:
        calls: Torch calls that all traces together may still make.
        traces: Traces that may still be made.
        time: The seconds that they may take: for forwards whose calls take long.
    """

    calls: int
    traces: int
    time: Allowance = field(default_factory=Allowance)

    @property
    def is_spent(self) -> bool:
        """Whether no more is traced."""
        return self.calls <= 0 or self.traces <= 0 or self.time.is_short

    def spend(self, calls: int) -> None:
        """Take off one trace of so many calls."""
        self.calls -= calls
        self.traces -= 1


#: In a message, what begins the condition under which it is so.
WHERE = ", where "


def read_condition(reason: str) -> str:
    """Return the condition under which a forward fails: ``"ids holds no 1"``; ``""`` if it does always."""
    found = re.search(rf"{WHERE}(\S+ holds no \S+(?: and \S+ holds no \S+)*)$", reason)
    return found[1] if found else ""


@dataclass(frozen=True)
class Retraced:
    """The result of tracing again.

    Attributes:
        trace: The facts; ``None`` if the trace was given up or not made.
        reason: Why the forward failed, by its exception; ``""`` if it did not.
        overrun: How far an index lay beyond the end of a table; 0 if none did.
        ops: Every aten operation of the trace; ``None`` if they were not recorded.
    """

    trace: Trace | None
    reason: str = ""
    overrun: int = 0
    ops: OpEvents | None = None

    @property
    def works(self) -> bool:
        """Whether the forward ran to its end."""
        return self.trace is not None and not self.reason

    @property
    def failed(self) -> bool:
        """Whether the forward was run and failed; neither is true of a trace that was given up."""
        return self.trace is not None and bool(self.reason)
