"""What is known of one dim of the input: whether an operation reads across it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dim:
    """One dim of the input.

    Attributes:
        name: ``"T"``.
        is_separate: Whether each entry of the outputs depends on one entry of the dim only: its parts can be computed
            one by one, or on several ranks. ``None`` if unknown.
        row: The row of the first operation that reads across it, or of the one that is not understood; ``None`` if it
            is separate.
        op: That operation, ``"aten._softmax"``; ``""`` if it is separate.
        where: The path of that row.
    """

    name: str
    is_separate: bool | None
    row: int | None = None
    op: str = ""
    where: str = ""

    def __str__(self) -> str:
        if self.is_separate:
            return f"{self.name}: no operation reads across it"
        by = f"{self.op.removeprefix('aten.')}{' in ' if self.where else ''}{self.where}"
        if self.is_separate is None:
            return f"{self.name}: unknown" + (
                f", for {by} is not understood" if self.op else ", for parts of it are moved"
            )
        return f"{self.name}: {by} reads across it first"
