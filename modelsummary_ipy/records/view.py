"""How to look at a summary; a view never changes what is known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

from modelsummary_ipy.records.errors import InputError

#: When formulas are found for a display: ``"usual"`` leaves them out where the trace has thousands of calls.
WhenFormulas = Literal["never", "usual", "always"]

#: Columns that a view may show, in the order they are shown.
COLUMNS = ("input", "output", "formula", "params", "macs", "backward", "train", "activation", "peak", "source")

#: A depth that opens every level. Who asks for it gets a page as large as that takes, up to a megabyte.
EVERY_LEVEL = 99


@dataclass(frozen=True, slots=True)
class View:
    """How to look at a story; it never changes what is known.

    Attributes:
        depth: Levels that are open, the model being level 0; ``None`` lets the outline choose.
        ops: Whether operation rows are shown.
        columns: Which of ``COLUMNS`` to show.
        max_rows: Most rows that are sent to a page; the footer says what is left out.
        fold: Whether identical siblings are one row.
        flops: Whether FLOPs are shown in the place of MACs: two each.
        from_magic: Whether hints are written as the magic takes them: ``--ops`` for ``show(ops=True)``.
    """

    depth: int | None = None
    ops: bool = False
    columns: tuple[str, ...] = ("input", "output", "params", "macs")
    max_rows: int = 2000
    fold: bool = True
    from_magic: bool = False
    flops: bool = False

    @property
    def needs_step(self) -> bool:
        """Whether it shows what a training step, or a trace that follows bytes, is needed for."""
        return bool({"backward", "train", "activation", "peak"} & {*self.columns})

    @property
    def work(self) -> str:
        """What is counted: ``"MACs"`` or ``"FLOPs"``."""
        return "FLOPs" if self.flops else "MACs"

    def count(self, mult_adds: int) -> int:
        """Multiply-adds in what is counted."""
        return 2 * mult_adds if self.flops else mult_adds


def show_memory(view: View) -> View:
    """Return the usual columns with the memory of each row beside them; columns that were chosen as they are."""
    return replace(view, columns=(*view.columns, "activation", "peak")) if view.columns == View().columns else view


def show_modules(view: View) -> View:
    """Return the usual columns without those that only a trace fills; columns that were chosen as they are."""
    return replace(view, columns=("params",)) if view.columns == View().columns else view


def make_view(
    base: View,
    *,
    depth: int | Literal["all"] | None,
    ops: bool | None,
    columns: Collection[str] | None,
    flops: bool | None = None,
) -> View:
    """Return ``base`` with the given changes; ``"all"`` is the depth that opens every level.

    Raises:
        InputError: If a column is not known or the depth is negative.
    """
    if columns is not None:
        strange = [column for column in columns if column not in COLUMNS]
        if strange:
            raise InputError(
                f"no column {strange[0]!r}", f"some of {', '.join(COLUMNS)}", "columns=['input', 'params']"
            )
        base = replace(base, columns=tuple(column for column in COLUMNS if column in columns))
    if depth is not None:
        levels: Any = EVERY_LEVEL if depth == "all" else depth
        if not isinstance(levels, int) or levels < 0:
            raise InputError(f"depth {depth}", "0 or more levels, or all", "depth=2")
        base = replace(base, depth=levels)
    if flops is not None:
        base = replace(base, flops=flops)
    return base if ops is None else replace(base, ops=ops)
