"""Changes between two stories → text: what moved as predicted in a line, everything else in a table."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.diagnosis.diff import find_settings
from modelsummary_ipy.display.render import labels
from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.records.summary import Change, Row, Story

_KINDS = {
    "added": "added",
    "removed": "removed",
    "type": "another type",
    "params": "other parameters",
    "settings": "other settings",
    "size": "another shape",
}


def render_changes_text(old: Story, new: Story, changes: Sequence[Change]) -> str:
    """Write as plain text what changed from ``old`` to ``new``."""
    lines = [format_totals(old, new)]
    cells = _list_cells(old, new, changes)
    wide, words = (max((len(row[at]) for row in cells), default=0) for at in (0, 1))
    for path, word, was, now in cells:
        lines.append(f"{path:<{wide}}  {word:<{words}}  {' → '.join(part for part in (was, now) if part)}")
    moved = format_moved(changes)
    return "\n".join(line for line in [*lines, moved] if line) or "nothing changed"


def format_totals(old: Story, new: Story) -> str:
    """``input [4, 64] → [4, 128] · parameters 260 → 516``, each where they differ."""
    was, now = (", ".join(str(list(fact.spec.shape)) for fact in story.trace.inputs) for story in (old, new))
    params = (f"{story.total_params:,}" for story in (old, new))
    pairs = (("input", was, now), ("parameters", *params))
    return " · ".join(f"{what} {was} → {now}" for what, was, now in pairs if was != now)


def format_moved(changes: Sequence[Change]) -> str:
    """``3 rows changed as their formulas predict``, those that changed in nothing else; ``""`` for none."""
    moved = len({(c.old, c.new) for c in changes} - {(c.old, c.new) for c in changes if c.what != "moved"})
    if not moved:
        return ""
    return "1 row changed as its formula predicts" if moved == 1 else f"{moved} rows changed as their formulas predict"


def _list_cells(old: Story, new: Story, changes: Sequence[Change]) -> list[tuple[str, str, str, str]]:
    cells = []
    for change in changes:
        if change.what == "moved":
            continue
        before = old.rows[change.old] if change.old is not None else None
        after = new.rows[change.new] if change.new is not None else None
        was, now = _format_row(change.what, before), _format_row(change.what, after)
        if change.what == "settings" and before is not None and after is not None:
            was, now = map(plain, find_settings(old, before, new, after))
        cells.append((plain(change.path) or "model", name_change(old, new, change), was, now))
    return cells


def name_change(old: Story, new: Story, change: Change) -> str:
    """``another shape, against its formula``; at the same sizes no formula predicts anything: the model was edited."""
    same = [fact.spec.shape for fact in old.trace.inputs] == [fact.spec.shape for fact in new.trace.inputs]
    ran = change.old is not None and old.rows[change.old].status == "ran"
    against = change.what == "size" and change.expected is False and not same and ran
    return _KINDS[change.what] + (", against its formula" if against else "")


def _format_row(what: str, row: Row | None) -> str:
    if row is None:
        return ""
    if what == "params":
        return f"{row.own_params:,}"
    if what == "type":
        return plain(row.type_name)
    if row.status != "ran":
        return labels.STATUSES[row.status]
    sizes = ", ".join(str(list(spec.shape)) for spec in row.outputs)
    return sizes if what == "size" else f"{plain(row.type_name)} {sizes}".strip()
