"""Outline -> plain text for terminals, logs and ``str(ms)``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from modelsummary_ipy.display.outline import GroupNode, RowNode, Step, build_outline, visible
from modelsummary_ipy.display.render import formatting, header, labels
from modelsummary_ipy.display.render.fit import find_cache_lines
from modelsummary_ipy.display.render.formatting import count_columns
from modelsummary_ipy.display.render.reads import Reads
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.view import View

#: Rows that are open where the view sets no depth: about two screens.
_OPEN_ROWS = 80
_GAP = "  "
#: Below this width for names and sizes together, sizes go on lines of their own.
_NARROW = 56
#: The indentation of a line and, where it begins with a term, as far as what this is said of: ``  reason    ``.
_TERM = re.compile(r" *(?:\w+ {2,})?")
#: Least columns for what stands below itself.
_LEAST = 24


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of the table before it is laid out; ``under`` follows it, indented."""

    mark: str
    cells: labels.Cells
    depth: int
    under: tuple[str, ...]
    flow: str


def render_text(story: Story, view: View, *, width: int | None = None, failure_text: str = "") -> str:
    """Render a summary as plain text.

    Args:
        width: Columns of the terminal; ``None`` for as wide as it needs to be.
        failure_text: The explanation of a failure, ``""`` for the trace's own message.

    Returns:
        Lines without a newline at the end; no line is wider than ``width`` unless one word is.
    """
    outline = build_outline(story, view, open_rows=_OPEN_ROWS)
    entries = list(_entries(story, view, visible(outline), failure_text, Reads(story, ops=view.ops)))
    heads = labels.number_heads(view)
    lines = list(_header(story, view, width))
    if not any(entry.mark == "✗" and entry.under for entry in entries):
        lines += _wrap(header.failing_lines(story, failure_text), width, "  ")
    lines += ["", *_table(entries, heads, view, width), ""]
    for line in header.find_footer(story, outline):
        lines += _wrap([line], width)
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _header(story: Story, view: View, width: int | None) -> Iterator[str]:
    headline = header.find_headline(story)
    for line in (headline, header.find_failed(story)):
        yield from _wrap([line] if line else [], width)
    yield from _wrap([header.find_title(story)], width)
    given, more = header.find_given(story)
    for leaf in given:
        yield from _wrap([f"input {leaf}"], width, "  ")
    if more:
        yield f"  {more}"
    yield from _wrap([" · ".join(header.find_totals(story, view))], width, "  ")
    for head, rest, _ in find_cache_lines(story):
        yield from _wrap([f"{head}: {rest}"], width, "  ")
    if kinds := header.write_kinds(story, view):
        yield from _wrap([kinds], width, "  ")
    for line in header.find_caveats(story, view):
        yield from _wrap([line], width, "  ")
    found = header.count_flags(story.flags)
    if found:
        yield f"  {found}"


def _entries(story: Story, view: View, steps: Iterator[Step], failure_text: str, reads: Reads) -> Iterator[_Entry]:
    for step in steps:
        node, cells = step.node, labels.write_cells(story, view, step)
        name, kind = cells.name, cells.kind + (f" ({cells.note})" if cells.note else "")
        mark = ""
        under: list[str] = []
        if isinstance(node, GroupNode):
            name += " ·"
        elif isinstance(node, RowNode):
            row = story.rows[node.row]
            mark = "✗" if row.status == "failed" else "!" if node.flags else ""
            if row.kind == "op":
                name, kind = name + kind, ""
            if not node.is_open and node.num_inside:
                kind += f" (+{formatting.plural(node.num_inside, 'row')})"
            if node.row == header.failed_row(story):
                under += header.failing_lines(story, failure_text)
            for flag in node.flags:
                finding, fix = header.flag_lines(flag)
                under += [finding] + ([f"fix: {fix}"] if fix else [])
        cells = cells._replace(name=name, kind=kind.strip())
        yield _Entry(mark, cells, step.depth, tuple(under), reads.describe(node))


# Layout -----------------------------------------------------------------------------------------------------------


def _table(entries: Sequence[_Entry], heads: Sequence[str], view: View, width: int | None) -> list[str]:
    columns = [max([count_columns(head), *(count_columns(e.cells.numbers[at]) for e in entries if e.cells.numbers)])
               for at, head in enumerate(heads)]  # fmt: skip
    words = {
        head: max([count_columns(head), *(count_columns(line) for entry in entries for line in lines(entry))])
        for head, lines in (("formula", lambda e: e.cells.formula), ("source", lambda e: (e.cells.source,)))
        if head in view.columns
    }
    right = sum(columns) + len(_GAP) * len(columns) + sum(width + len(_GAP) for width in words.values())
    label = labels.size_head(view)
    name_width = max(2 * e.depth + 2 + count_columns(_label(e)) for e in entries)
    size_width = max([count_columns(label), *(count_columns(line) for e in entries for line in e.cells.sizes)])
    if width is not None and name_width + size_width + len(_GAP) + right > width:
        left = width - right - len(_GAP)
        if left < _NARROW:
            return _stacked(entries, width)
        bare = max(2 * e.depth + 2 + count_columns(e.cells.name) for e in entries)
        name_width = min(name_width, max(left - size_width, min(bare, left // 2), left * 2 // 5))
        size_width = left - name_width
    head = _row(
        _pad("  layer", name_width), _pad(label, size_width), "formula", _numbers(heads, columns), "source", words
    )
    lines = [head, "─" * (name_width + len(_GAP) + size_width + right)]
    for entry in entries:
        lines += _lay_out(entry, name_width, size_width, columns, words, width)
    return lines


def _lay_out(
    entry: _Entry, name_width: int, size_width: int, columns: Sequence[int], words: Mapping[str, int], width: int | None
) -> Iterator[str]:
    indent = _pad(entry.mark, 2) + "  " * entry.depth
    if not entry.cells.sizes and not any(entry.cells.numbers):
        yield indent + _shorten(entry, (width or 10**9) - len(indent))
    else:
        name = indent + _shorten(entry, max(8, name_width - len(indent)))
        sizes = [piece for line in entry.cells.sizes for piece in _break(line, size_width)] or [""]
        formula = entry.cells.formula or ("",)
        numbers = _numbers(entry.cells.numbers, columns)
        yield _row(_pad(name, name_width), _pad(sizes[0], size_width), formula[0], numbers, entry.cells.source, words)
        for line, words_of in zip_longest(sizes[1:], formula[1:], fillvalue=""):
            yield _row(" " * name_width, _pad(line, size_width), words_of, "", "", words)
        yield from _flow_below(entry, max(8, name_width - len(indent)), " " * (2 * entry.depth + 4))
    yield from _wrap(entry.under, width, " " * (2 * entry.depth + 4))


def _stacked(entries: Sequence[_Entry], width: int) -> list[str]:
    """For narrow terminals: the name, then sizes and numbers below it."""
    lines = []
    for entry in entries:
        indent = _pad(entry.mark, 2) + "  " * min(entry.depth, width // 6)
        below = " " * (len(indent) + 2)
        lines.append(indent + _shorten(entry, max(8, width - len(indent))))
        lines += _flow_below(entry, width - len(indent), below)
        for line in (
            *entry.cells.sizes,
            *entry.cells.formula,
            _GAP.join(filter(None, entry.cells.numbers)),
            entry.cells.source,
        ):
            lines += [below + piece for piece in _break(line, max(8, width - len(below)))] if line else []
        lines += _wrap(entry.under, width, below)
    return lines


def _row(name: str, sizes: str, formula: str, numbers: str, source: str, words: Mapping[str, int]) -> str:
    """A line of the table; formula and source are columns where ``words`` has their widths."""
    before = _GAP + _pad(formula, words["formula"]) if "formula" in words else ""
    after = _GAP + source if "source" in words else ""
    return f"{name}{_GAP}{sizes}{before}{numbers}{after}"


def _numbers(cells: Sequence[str], columns: Sequence[int]) -> str:
    return "".join(
        _GAP + " " * (column - count_columns(cell)) + cell for cell, column in zip(cells, columns, strict=False)
    )


def _wrap(lines: Sequence[str], width: int | None, indent: str = "") -> list[str]:
    """Indent lines and break long ones at spaces, keeping words whole; what follows ``reason    `` goes on below it."""
    out: list[str] = []
    for line in lines:
        if width is None or count_columns(indent + line) <= width:
            out.append(indent + line)
        else:
            hang = len(_TERM.match(line)[0])  # type: ignore[index]  # it matches nothing, too
            hang = hang if 2 <= hang <= width - len(indent) - _LEAST else 2
            out += textwrap.wrap(
                line, max(width, len(indent) + 8), initial_indent=indent, subsequent_indent=indent + " " * hang,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return out


def _break(line: str, width: int) -> list[str]:
    """Break a line of sizes: before the arrow if that is enough, else at spaces."""
    if count_columns(line) <= width:
        return [line]
    before, arrow, after = line.partition(" → ")
    if arrow and max(count_columns(before), count_columns(after) + 2) <= width:
        return [before, "→ " + after]
    return textwrap.wrap(line, width, break_on_hyphens=False) or [line]


def _label(entry: _Entry, *, flow: bool = True) -> str:
    gap = " " if entry.cells.name.endswith("·") else _GAP
    return gap.join(filter(None, (entry.cells.name, entry.cells.kind))) + (
        f"  {entry.flow}" if flow and entry.flow else ""
    )


def _flow_below(entry: _Entry, width: int, indent: str) -> list[str]:
    """What a row reads, on lines of its own where it does not fit behind the name."""
    return [] if not entry.flow or count_columns(_label(entry)) <= width else _wrap([entry.flow], width, indent)


def _shorten(entry: _Entry, width: int) -> str:
    """Name and type within a width: the type is cut first, a long name in the middle, where it matters least."""
    if entry.flow and count_columns(_label(entry)) <= width:
        return _label(entry)
    text = _label(entry, flow=False)
    if count_columns(text) <= width:
        return text
    free = width - count_columns(entry.cells.name)
    if free >= 0:
        return _cut(text, width, tail=0) if free >= len(_GAP) + 4 else entry.cells.name
    return _cut(entry.cells.name, width, tail=(width - 1) // 2)


def _cut(text: str, width: int, tail: int) -> str:
    """The head and the last ``tail`` characters, with … between, no wider than ``width`` columns."""
    end = text[len(text) - tail :]
    head = text[: width - 1 - tail]
    while head and count_columns(head) + 1 + count_columns(end) > width:
        head, end = head[:-1], end[1:]
    return head + "…" + end


def _pad(text: str, width: int) -> str:
    return text + " " * (width - count_columns(text))
