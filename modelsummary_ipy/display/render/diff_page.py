"""Changes between two stories → HTML: both side by side, folded where they are equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from modelsummary_ipy.diagnosis.diff import find_settings
from modelsummary_ipy.display.render import labels
from modelsummary_ipy.display.render.diff_table import format_moved, format_totals, name_change
from modelsummary_ipy.display.render.formatting import format_params, plain, plural
from modelsummary_ipy.records.summary import Change, Row, Story

#: Most rows in one fold; of more, the number.
_MOST_ALIKE = 100
_LEFT = "text-align:left;vertical-align:top"


class _Line(NamedTuple):
    """A row of the older story, of the newer one, or of both; ``words`` say what is unexpected."""

    old: Row | None
    new: Row | None
    words: str


def render_changes_html(old: Story, new: Story, changes: Sequence[Change]) -> str:
    """Write as HTML what changed from ``old`` to ``new``; every text of the model is escaped.

    Rows that are equal, or changed as their formula predicts, are folded where they stand; there is no table where all
    are.
    """
    parts = [f"<p>{escape(line)}</p>" for line in (format_totals(old, new), format_moved(changes)) if line]
    if any(change.what != "moved" for change in changes):
        heads = "".join(f'<th scope="col" style="{_LEFT}">{word}</th>' for word in ("layer", "what", "was", "is"))
        body = []
        for is_alike, run in groupby(_list_lines(old, new, changes), key=lambda line: not line.words):
            lines = list(run)
            body += [_fold(old, new, lines)] if is_alike else [_write(old, new, line) for line in lines]
        parts.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>")
    return f'<div class="ms-changes">{"".join(parts) or "<p>nothing changed</p>"}</div>'


def _list_lines(old: Story, new: Story, changes: Sequence[Change]) -> Iterator[_Line]:
    """All modules in the order of the newer story, those that were removed where they stood in the older one."""
    words: dict[tuple[int | None, int | None], Sequence[str]] = {}
    for change in changes:
        if change.what != "moved":
            place = change.old, change.new
            words[place] = (*words.get(place, ()), name_change(old, new, change))
    known = {(row.path, row.call_index): row for row in old.rows if row.kind == "module"}
    removed = [old.rows[was] for was, now in words if now is None and was is not None]
    for row in new.rows:
        if row.kind != "module":
            continue
        before = known.get((row.path, row.call_index))
        while before is not None and removed and removed[0].index < before.index:
            yield _gone(removed.pop(0), words)
        was = None if before is None else before.index
        yield _Line(before, row, ", ".join(words.get((was, row.index), ())))
    yield from (_gone(row, words) for row in removed)


def _gone(row: Row, words: Mapping[tuple[int | None, int | None], Sequence[str]]) -> _Line:
    return _Line(row, None, ", ".join(words[row.index, None]))


def _fold(old: Story, new: Story, lines: Sequence[_Line]) -> str:
    rows = "".join(_write(old, new, line) for line in lines[:_MOST_ALIKE])
    if len(lines) > _MOST_ALIKE:
        rows += f'<tr><td colspan="4" style="{_LEFT}">… {len(lines) - _MOST_ALIKE:,} more</td></tr>'
    moved = any(line.old and line.new and line.old.outputs != line.new.outputs for line in lines)
    word = f"{plural(len(lines), 'row')} {'as predicted' if moved else 'alike'}"
    table = f"<table><tbody>{rows}</tbody></table>"
    return f'<tr><td colspan="4" style="{_LEFT}"><details><summary>{word}</summary>{table}</details></td></tr>'


def _write(old: Story, new: Story, line: _Line) -> str:
    was, now = _describe(old, line.old), _describe(new, line.new)
    if line.old and line.new and line.words and was[0] == now[0]:  # set up otherwise in what the type's words leave out
        was, now = (
            (f"{side[0]} {plain(other)}".rstrip(), *side[1:])
            for side, other in zip((was, now), find_settings(old, line.old, new, line.new), strict=True)
        )
    row = line.new or line.old
    name = plain(row.path) if row is not None else ""
    cells = [escape(name or "model"), escape(line.words)]
    if was == now:
        cells.append(escape(" ".join(filter(None, was))))
    else:
        cells += [_mark(was, now), _mark(now, was)]
    width = ' colspan="2"'
    return (
        "<tr>"
        + "".join(
            f'<td style="{_LEFT}"{width if at == 2 and len(cells) == 3 else ""}>{cell}</td>'
            for at, cell in enumerate(cells)
        )
        + "</tr>"
    )


def _describe(story: Story, row: Row | None) -> tuple[str, str, str]:
    """``("Conv2d 3→8, k3 p1", "[2, 8, 8, 8]", "224 params")``; a status in place of sizes where there are none."""
    if row is None:
        return "", "", ""
    sizes = ", ".join(str(list(spec.shape)) for spec in row.outputs)
    count = f"{format_params(row.own_params)} params" if row.own_params else ""
    return labels.format_type(story, row), sizes if row.status == "ran" else labels.STATUSES[row.status], count


def _mark(parts: Sequence[str], others: Sequence[str]) -> str:
    """The parts, those in bold that the other side has otherwise."""
    marked = (
        f"<strong>{escape(part)}</strong>" if part != other and any(others) else escape(part)
        for part, other in zip(parts, others, strict=True)
        if part
    )
    return " ".join(marked)
