"""What changed between two summaries, to be read and shown."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.diff import find_changes, find_otherwise, flag_unexpected
from modelsummary_ipy.display.render.diff_page import render_changes_html
from modelsummary_ipy.display.render.diff_table import render_changes_text
from modelsummary_ipy.records.summary import Change, Flag, Story
from modelsummary_ipy.records.trace import InputFact


class Comparison:
    """The changes from one summary to another; false if there are none.

    Attributes:
        changes: Every change, in the order of the new rows.
        title: What stands above them.
    """

    title = ""

    def __init__(self, old: Story, new: Story) -> None:
        self._old = old
        self._new = new
        self.changes: tuple[Change, ...] = find_changes(old, new)

    @property
    def unexpected(self) -> tuple[Change, ...]:
        """Those that no formula predicted."""
        return tuple(change for change in self.changes if change.what != "moved")

    @property
    def otherwise(self) -> tuple[Change, ...]:
        """Those whose shapes moved otherwise than the formula of the row predicts."""
        return find_otherwise(self._old, self._new, self.changes)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """A finding on every row where shapes begin to move otherwise than their formula predicts."""
        return flag_unexpected(self._old, self._new, self.changes)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def to_text(self) -> str:
        """Return the changes as text."""
        text = render_changes_text(self._old, self._new, self.changes)
        return f"{self.title}\n{text}" if self.title else text

    __str__ = to_text
    __repr__ = to_text

    def _repr_html_(self) -> str:
        return render_changes_html(self._old, self._new, self.changes, self.title)


def are_comparable(old: Story, new: Story) -> bool:
    """Return whether two summaries are of one model, or of one that was edited in between, and a formula can judge.

    A dim that has no name is a number in every formula: of another size there, no formula predicts anything.
    """
    before, after = old.trace, new.trace
    if (before.engine, before.method, before.model_type) != (after.engine, after.method, after.model_type):
        return False
    if before.failure is not None or after.failure is not None or len(before.inputs) != len(after.inputs):
        return False
    pairs = list(zip(before.inputs, after.inputs, strict=True))
    if all(one.spec.shape == other.spec.shape for one, other in pairs):
        return True
    return all(one.dims == other.dims and _move_by_name(one, other) for one, other in pairs)


def _move_by_name(one: InputFact, other: InputFact) -> bool:
    sizes = zip(one.dims, one.spec.shape, other.spec.shape, strict=True)
    return all(name or before == after for name, before, after in sizes)
