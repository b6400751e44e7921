"""Outline -> GitHub-flavoured markdown, for issues, pull requests and notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from modelsummary_ipy.display.outline import GroupNode, HiddenNode, Outline, Step, build_outline, visible
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


def render_markdown(story: Story, view: View, *, failure_text: str = "") -> str:
    """Render a summary as markdown: a paragraph, a table, and the findings as a list.

    Args:
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
    leaves, more = header.find_given(story)
    given = [*(f"- input {_escape(str(leaf))}" for leaf in leaves), *([f"- {more}"] if more else [])]
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
        cells = labels.write_cells(story, view, step, mark=(_BOLD_START, _BOLD_END))
        flow = _escape(reads.describe(step.node))
        name = "&emsp;" * step.depth + _name(story, step, cells) + (f" *{flow}*" if flow else "")
        shown = [_lines(cells.sizes)] * bool(sizes) + [_lines(cells.formula)] * formula
        yield "| " + " | ".join([name, *shown, *cells.numbers, *([_escape(cells.source)] * source)]) + " |"


def _lines(lines: Iterable[str]) -> str:
    return "<br>".join(map(_escape, lines))


def _name(story: Story, step: Step, cells: labels.Cells) -> str:
    node, name, kind = step.node, _escape(cells.name), _escape(cells.kind)
    if isinstance(node, HiddenNode):
        return f"*{name}*"
    if isinstance(node, GroupNode):
        return f"{name} · {kind}"
    row = story.rows[node.row]
    text = "❌ " if row.status == "failed" else "⚠️ " if node.flags else ""
    if row.kind == "op":
        text += f"*{name}*{kind}"
    else:
        text += f"**{name}** {kind}" if name else f"**{kind}**"
    text += f" ({cells.note})" if cells.note else ""
    if not node.is_open and node.num_inside:
        text += f" (+{formatting.plural(node.num_inside, 'row')})"
    return text


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
