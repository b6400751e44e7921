"""Changes between two stories → HTML: both side by side, folded where they are equal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from modelsummary_ipy.display.render.diff_lines import DiffLine, list_lines
from modelsummary_ipy.display.render.diff_table import format_moved, format_totals
from modelsummary_ipy.display.render.formatting import plural
from modelsummary_ipy.records.summary import Change, Story

#: Most rows in one fold; of more, the number.
_MOST_ALIKE = 100
_LEFT = "text-align:left;vertical-align:top"
_WHOLE = ";white-space:nowrap"


def render_changes_html(old: Story, new: Story, changes: Sequence[Change], title: str = "") -> str:
    """Write as HTML what changed from ``old`` to ``new``; every text of the model is escaped.

    Rows that are equal, or changed as their formula predicts, are folded where they stand; there is no table where all
    are.
    """
    heads = (title, format_totals(old, new), format_moved(changes))
    parts = [f"<p>{escape(line)}</p>" for line in heads if line]
    if any(change.what != "moved" for change in changes):
        names = "".join(f'<th scope="col" style="{_LEFT}">{word}</th>' for word in ("layer", "what", "was", "is"))
        body: list[str] = []
        for is_alike, run in groupby(list_lines(old, new, changes), key=lambda line: not line.words):
            lines = list(run)
            body += [_fold(lines)] if is_alike and sum(line.num_rows for line in lines) > 1 else map(_write, lines)
        parts.append(f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(body)}</tbody></table>")
    return f'<div class="ms-changes">{"".join(parts) or "<p>nothing changed</p>"}</div>'


def _fold(lines: Sequence[DiffLine]) -> str:
    rows = "".join(_write(line) for line in lines[:_MOST_ALIKE])
    if len(lines) > _MOST_ALIKE:
        rows += f'<tr><td colspan="4" style="{_LEFT}">… {len(lines) - _MOST_ALIKE:,} more</td></tr>'
    is_moved = any(line.has_moved for line in lines)
    word = f"{plural(sum(line.num_rows for line in lines), 'row')} {'as predicted' if is_moved else 'alike'}"
    table = f"<table><tbody>{rows}</tbody></table>"
    return f'<tr><td colspan="4" style="{_LEFT}"><details><summary>{word}</summary>{table}</details></td></tr>'


def _write(line: DiffLine) -> str:
    cells = [escape(line.path or "model"), escape(line.words)]
    was, now = (
        (f"{side[0]} {settings}".rstrip() if line.was[0] == line.now[0] else side[0], *side[1:])
        for side, settings in zip((line.was, line.now), line.settings, strict=True)
    )
    if was == now:
        cells.append(escape(" · ".join(filter(None, was))))
    else:
        cells += [_mark(was, now), _mark(now, was)]
        at = 3 if any(now) else 2
        cells[at] = " ".join(filter(None, [cells[at], line.inside]))
    width = ' colspan="2"' if len(cells) == 3 else ""
    return (
        "<tr>"
        + "".join(
            f'<td style="{_LEFT}{_WHOLE if at == 0 else ""}"{width if at == 2 else ""}>{cell}</td>'
            for at, cell in enumerate(cells)
        )
        + "</tr>"
    )


def _mark(parts: Sequence[str], others: Sequence[str]) -> str:
    """The parts, those in bold that the other side has otherwise."""
    return " · ".join(
        f"<strong>{escape(part)}</strong>" if part != other and any(others) else escape(part)
        for part, other in zip(parts, others, strict=True)
        if part
    )
