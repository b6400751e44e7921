"""Changes between two stories → text and HTML: what moved as predicted in a line, everything else in a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from modelsummary_ipy.display.render import labels
from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.records.summary import Change, Row, Story

__all__ = ["render_changes_html", "render_changes_text"]

_KINDS = {
    "added": "added",
    "removed": "removed",
    "type": "another type",
    "params": "other parameters",
    "size": "another shape",
}


def render_changes_text(old: Story, new: Story, changes: Sequence[Change]) -> str:
    """Write as plain text what changed from ``old`` to ``new``."""
    lines = [_format_totals(old, new)]
    cells = _list_cells(old, new, changes)
    wide, words = (max((len(row[at]) for row in cells), default=0) for at in (0, 1))
    for path, word, was, now in cells:
        lines.append(f"{path:<{wide}}  {word:<{words}}  {' → '.join(part for part in (was, now) if part)}")
    moved = _format_moved(changes)
    return "\n".join(line for line in [*lines, moved] if line) or "nothing changed"


def render_changes_html(old: Story, new: Story, changes: Sequence[Change]) -> str:
    """Write as HTML what changed from ``old`` to ``new``; every text of the model is escaped."""
    parts = [f"<p>{escape(line)}</p>" for line in (_format_totals(old, new), _format_moved(changes)) if line]
    rows = _list_cells(old, new, changes)
    if rows:
        head = "".join(
            f'<th scope="col" style="text-align:left">{word}</th>' for word in ("layer", "what", "was", "is")
        )
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells) + "</tr>"
            for cells in rows
        )
        parts.insert(
            1 if len(parts) == 2 else len(parts), f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )
    inner = "".join(parts) or "<p>nothing changed</p>"
    return f'<div class="ms-changes">{inner}</div>'


def _format_totals(old: Story, new: Story) -> str:
    if old.total_params == new.total_params:
        return ""
    return f"parameters {old.total_params:,} → {new.total_params:,}"


def _format_moved(changes: Sequence[Change]) -> str:
    moved = sum(change.what == "moved" for change in changes)
    if not moved:
        return ""
    return "1 row changed as its formula predicts" if moved == 1 else f"{moved} rows changed as their formulas predict"


def _list_cells(old: Story, new: Story, changes: Sequence[Change]) -> list[tuple[str, str, str, str]]:
    # At the same sizes there is nothing a formula could predict: the model was edited.
    same = [fact.spec.shape for fact in old.trace.inputs] == [fact.spec.shape for fact in new.trace.inputs]
    cells = []
    for change in changes:
        if change.what == "moved":
            continue
        before = old.rows[change.old] if change.old is not None else None
        after = new.rows[change.new] if change.new is not None else None
        word = _KINDS[change.what]
        if change.what == "size" and change.expected is False and not same:
            word += ", against its formula" if before is not None and before.status == "ran" else ""
        cells.append(
            (plain(change.path) or "model", word, _format_row(change.what, before), _format_row(change.what, after))
        )
    return cells


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
