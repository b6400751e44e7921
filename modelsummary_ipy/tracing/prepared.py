"""What one trace takes and what it gives: the arguments, made of the copy's own tensors, and the facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelsummary_ipy.records.op_events import OpEvents
from modelsummary_ipy.records.trace import InputFact, Trace
from modelsummary_ipy.tracing.forward_failure import Operands


@dataclass(frozen=True)
class Prepared:
    """The arguments of a forward, made of the copy's own kind of tensors.

    Attributes:
        args, kwargs: As the method takes them.
        facts: One per tensor leaf, in the order of the leaves.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    facts: tuple[InputFact, ...]


@dataclass(frozen=True)
class TraceResult:
    """The result of a trace.

    Attributes:
        trace: The facts.
        error: The exception that ended the forward, ``None`` if it came to its end.
        culprit: Name of the torch function that raised, ``""`` if none did.
        operands: ``(function, args, kwargs)`` of a failed torch function, to be tried again for real; tensors inside
            are the copy's.
        is_unread: Whether a mask of unknown values was passed on, which for some values would have been skipped.
        reads_grad: Whether the model's own code read whether autograd records a tensor.
        goes_backward: Whether a real run that kept nothing read what autograd saves.
        ops: Every aten operation, if they were recorded.
    """

    trace: Trace
    error: BaseException | None = None
    culprit: str = ""
    operands: Operands | None = None
    is_unread: bool = False
    reads_grad: bool = False
    goes_backward: bool = False
    ops: OpEvents | None = None

    @property
    def is_interrupted(self) -> bool:
        """Whether it ended because it was interrupted."""
        return isinstance(self.error, KeyboardInterrupt)
