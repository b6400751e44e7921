"""Outline -> GitHub-flavoured markdown, for issues, pull requests and notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from modelsummary_ipy.display.outline import GroupNode, HiddenNode, Outline, RowNode, Step, build_outline, visible
from modelsummary_ipy.display.render import formatting, header, labels
from modelsummary_ipy.display.render.fit import find_cache_lines
from modelsummary_ipy.display.render.reads import Reads
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.view import View

_OPEN_ROWS = 80
#: Characters that would start markup, a table cell or a formula.
_ESCAPES = {ord(char): f"&#{ord(char)};" for char in "&<>|`*$\\~"}
#: Underscores that would start or end emphasis: those within a word do not.
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_LINK = re.compile(r"\](?=[(:])|!(?=\[)")


def render_markdown(
    story: Story,
    view: View,
    *,
    failure_text: str = "",
) -> str:
    """Render a summary as markdown: a paragraph, a table, and the findings as a list.

    Args:
        story: Everything known.
        view: How to look at it.
        failure_text: The explanation of a failure, ``""`` for the trace's own message.
    """
    outline = build_outline(story, view, open_rows=_OPEN_ROWS)
    blocks = ["\n".join(_header(story, view)), "\n".join(_table(story, view, outline))]
    failing = header.failing_lines(story, failure_text)
    if failing:
        blocks.append("\n".join("    " + line for line in failing))
    found = "\n".join(_findings(story))
    blocks += [found] if found else []
    blocks.append("<sub>" + "<br>".join(map(_escape, header.find_footer(story, outline))) + "</sub>")
    return "\n\n".join(blocks) + "\n"


def _header(story: Story, view: View) -> Iterator[str]:
    headline = header.find_headline(story)
    for line in (headline, header.find_failed(story)):
        if line:
            yield f"*{_escape(line)}*\n"
    yield " · ".join([f"**{_escape(header.find_title(story))}**", *map(_escape, header.find_totals(story, view))])
    given = [f"- input {_escape(str(leaf))}" for leaf in header.find_given(story)]
    caches = (f"{head}: {rest}" for head, rest, _ in find_cache_lines(story))
    lines = filter(None, (*caches, header.write_kinds(story, view), *header.find_caveats(story, view)))
    caveats = [f"- {_escape(line)}" for line in lines]
    if given or caveats:
        yield "\n" + "\n".join(given + caveats)


def _table(story: Story, view: View, outline: Outline) -> Iterator[str]:
    numbers = labels.number_heads(view)
    sizes, formula, source = labels.size_head(view), "formula" in view.columns, "source" in view.columns
    words = [*([sizes] if sizes else []), *(["formula"] if formula else [])]
    heads = ["layer", *words, *numbers, *(["source"] if source else [])]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "|".join([":--"] * (1 + len(words)) + ["--:"] * len(numbers) + [":--"] * source) + "|"
    reads = Reads(story, ops=view.ops)
    for step in visible(outline):
        cells = _cells(story, view, step)
        flow = _escape(reads.describe(step.node))
        name = "&emsp;" * step.depth + cells.name + (f" *{flow}*" if flow else "")
        shown = [cells.sizes] * bool(sizes) + [cells.formula] * formula
        yield "| " + " | ".join([name, *shown, *cells.numbers, *([cells.source] * source)]) + " |"


class _Cells(NamedTuple):
    """The cells of a row, as markdown."""

    name: str
    sizes: str = ""
    formula: str = ""
    numbers: tuple[str, ...] = ()
    source: str = ""


def _cells(story: Story, view: View, step: Step) -> _Cells:
    node = step.node
    bold = (_BOLD_START, _BOLD_END)
    if isinstance(node, HiddenNode):
        blank = ("",) * len(labels.number_heads(view))
        return _Cells(f"*{_escape(labels.format_hidden(node))}*", numbers=blank)
    if isinstance(node, GroupNode):
        name, types = labels.format_group(story, node)
        sizes = labels.group_sizes(story, view, node, mark=bold)
        formula = labels.formula_lines(story, labels.group_row(story, node), view)
        numbers = labels.group_numbers(story, view, node)
        return _Cells(f"{_escape(name)} · {_escape(types)}", _lines(sizes), _lines(formula), numbers)
    row = story.rows[node.row]
    return _Cells(
        _name(story, step, node),
        _lines(labels.format_arrow(story, row, view, mark=bold)),
        _lines(labels.formula_lines(story, row, view)),
        labels.row_numbers(story, view, row),
        _escape(labels.format_source(row, view)),
    )


def _lines(lines: Iterable[str]) -> str:
    return "<br>".join(map(_escape, lines))


def _name(story: Story, step: Step, node: RowNode) -> str:
    row = story.rows[node.row]
    name, type_name = labels.format_name(story, node, row)
    mark = "❌ " if row.status == "failed" else "⚠️ " if node.flags else ""
    if row.kind == "op":
        text = f"*{_escape(name)}*{_escape(type_name)}"
    elif name:
        text = f"**{_escape(name)}** {_escape(type_name)}"
    else:
        text = f"**{_escape(type_name)}**"
    note = labels.format_note(story, row, step.in_group)
    text += f" ({note})" if note else ""
    if not node.is_open and node.num_inside:
        text += f" (+{formatting.plural(node.num_inside, 'row')})"
    return mark + text


def _findings(story: Story) -> Iterator[str]:
    for flag in story.flags:
        finding, fix = header.flag_lines(flag)
        severity, rest = finding.split(" ", 1)
        where = _code(flag.path) + " " if flag.path else ""
        yield f"- ⚠️ {where}**{severity}** {_escape(rest)}" + (f"; fix: {_escape(fix)}" if fix else "")


# Escaping ---------------------------------------------------------------------------------------------------------

#: Bold is put around dims before the line is escaped, as two characters that ``plain`` lets no name contain.
_BOLD_START, _BOLD_END = "\x02", "\x03"


def _escape(text: str) -> str:
    text = _LINK.sub(lambda found: f"&#{ord(found.group())};", text.translate(_ESCAPES))
    text = _EMPHASIS.sub("&#95;", text)
    return text.replace(_BOLD_START, "**").replace(_BOLD_END, "**")


def _code(text: str) -> str:
    """A path in a code span where that is safe, escaped where it is not."""
    return f"`{text}`" if re.fullmatch(r"[\w.]+", text) else _escape(formatting.plain(text))
