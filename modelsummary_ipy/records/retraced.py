"""The result of tracing a forward again, and the budget for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from modelsummary_ipy.records.op_events import OpEvents
from modelsummary_ipy.records.trace import TensorSpec, Trace

__all__ = ["Budget", "Retraced", "Sizes", "Specs"]

#: Sizes by name of a dim.
Sizes = Mapping[str, int]
#: Size and dtype of every input leaf.
Specs = tuple[TensorSpec, ...]


@dataclass
class Budget:
    """How much may be traced: counted first, so that the same model mostly gets the same answer.

    Attributes:
        calls: Torch calls that all traces together may still make.
        traces: Traces that may still be made.
        until: The time at which they end, by ``time.monotonic``: for forwards whose calls take long.
    """

    calls: int
    traces: int
    until: float = math.inf

    @property
    def is_spent(self) -> bool:
        """Whether no more is traced."""
        return self.calls <= 0 or self.traces <= 0 or self.is_late

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return monotonic() >= self.until

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Let the time be over some seconds after the block began."""
        self.until = monotonic() + seconds
        try:
            yield
        finally:
            self.until = math.inf

    def spend(self, calls: int) -> None:
        """Take off one trace of so many calls."""
        self.calls -= calls
        self.traces -= 1


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
