"""What is below what, what is notable, and how much there is: read once from a story for one view."""

from __future__ import annotations

from modelsummary_ipy.records.summary import Flag, Row, Story
from modelsummary_ipy.records.trace import path_below
from modelsummary_ipy.records.view import View


class Survey:
    """Rows by their parents, with what the view leaves out kept aside.

    Attributes:
        rows: The story's rows.
        roots: Rows below no other.
        children: Per row, the rows below it that the view may show: with operations, all.
        ops: Per row, its operations that the view does not show.
        flags: Findings by row.
        count: Per row, itself and all rows below it that the view may show.
        flag_count: Per row, findings on rows below it.
        alone: Rows that failed or carry an error or a warning, and all rows above them.
    """

    def __init__(self, story: Story, view: View) -> None:
        self.story = story
        self.rows = story.rows
        self.flags: dict[int, list[Flag]] = {}
        for flag in story.flags:
            self.flags.setdefault(flag.row, []).append(flag)
        self.roots: list[int] = []
        self.children: list[list[int]] = [[] for _ in self.rows]
        self.ops: dict[int, list[int]] = {}
        self._place_rows(view)
        if not view.ops:
            self._drop_empty_lists()
        self.count = [1] * len(self.rows)
        self.flag_count = [0] * len(self.rows)
        self._count_inside()
        self.alone = self._find_alone()

    def stands_out(self, row: int) -> bool:
        """Whether a row failed or carries an error or a warning."""
        return self.rows[row].status == "failed" or any(f.severity != "note" for f in self.flags.get(row, ()))

    def name(self, index: int) -> str:
        """Path of a row below the row it is nested in; an operation's name."""
        row: Row = self.rows[index]
        if row.kind == "op":
            return row.type_name
        return path_below(row.path, "" if row.parent is None else self.rows[row.parent].path)

    def _place_rows(self, view: View) -> None:
        """Sort rows below their parents; an operation that the view leaves out is kept aside."""
        for row in self.rows:
            parent = row.parent
            if parent is None or not 0 <= parent < row.index:
                self.roots.append(row.index)
            elif row.kind == "op" and not view.ops and row.status != "failed" and row.index not in self.flags:
                self.ops.setdefault(parent, []).append(row.index)
            else:
                self.children[parent].append(row.index)

    def _drop_empty_lists(self) -> None:
        """Leave out a list of modules all of which ran elsewhere: it has no numbers of its own."""
        for row in reversed(self.rows):
            is_empty = row.absence == "elsewhere" and not self.children[row.index] and not row.own_params
            if is_empty and row.index not in self.flags and row.parent is not None:
                self.children[row.parent].remove(row.index)

    def _count_inside(self) -> None:
        for row in reversed(self.rows):
            for child in self.children[row.index]:
                self.count[row.index] += self.count[child]
                self.flag_count[row.index] += self.flag_count[child] + len(self.flags.get(child, ()))

    def _find_alone(self) -> set[int]:
        """Rows that failed or carry an error or a warning, and all rows above them."""
        alone: set[int] = set()
        for row in self.rows:
            above = row.index if self.stands_out(row.index) else None
            while above is not None and above not in alone:
                alone.add(above)
                above = self.rows[above].parent
        return alone
