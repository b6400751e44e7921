"""One step of the outline -> what the row template prints: every string decided, nothing laid out yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup, escape

from modelsummary_ipy.display.outline import GroupNode, HiddenNode, Outline, RowNode, Step, walk
from modelsummary_ipy.display.render import formatting, header, labels, size_cells
from modelsummary_ipy.display.render.detail import write_origins
from modelsummary_ipy.display.render.dim_colours import Names
from modelsummary_ipy.display.render.largest import name_rows
from modelsummary_ipy.display.render.reads import Reads
from modelsummary_ipy.records.summary import Row, Story
from modelsummary_ipy.records.view import View

_NOTHING = Markup("")
#: What plain number cells go without: bars, end tags, and the digits of all but billions: these are 2 KB of ResNet-50.
_BARS = re.compile(r' title="[^"]*"(?!>[\d.]+ [BT]\b)| <meter[^>]*></meter>|</td>')
#: Elements around sizes that nothing but a style sheet shows, and classes. All text of the user's is escaped there.
_COLOURS = re.compile(r"</?(?:bdi|span)[^>]*>|(<b) [^>]*(?=>)")


@dataclass(slots=True)
class Part:
    """What the template needs for one step.

    Attributes:
        what: ``"open"``, ``"close"``, or ``"more"`` for rows that are left out.
        row: Index of the row, -1 for a group.
        classes: CSS classes of the row.
        indent: Pixels that the name is set in.
        name, kind, note: The texts of its name cell.
        sizes: Lines, with their markup.
        title: Formulas, and what the dims come from, for the pointer that rests on the sizes.
        numbers: The number cells.
        flags: ``(severity, rule, message, fix)``.
        fail: Lines about the failure.
        inside: Findings on rows below.
        is_open, is_hidden, is_leaf: How it is shown.
        about: What its detail is of.
        key, reads: Its name for the page's script, and the names of what it reads; ``None`` for the row before it.
        is_ranked: Whether it is a layer without layers in it, which a number ranks.
        detail: What is shown when it is opened.
        formula, source: The cells of these columns.
    """

    what: str
    row: int = -1
    classes: str = ""
    indent: int = 0
    name: str = ""
    kind: str = ""
    note: str = ""
    sizes: Markup = _NOTHING
    title: str = ""
    numbers: Markup = _NOTHING
    flags: tuple[tuple[str, str, str, str], ...] = ()
    fail: tuple[str, ...] = ()
    inside: int = 0
    is_open: bool = False
    is_hidden: bool = False
    is_leaf: bool = True
    about: str = ""
    key: str = ""
    reads: str | None = None
    is_ranked: bool = False
    detail: Markup = _NOTHING
    formula: Markup = _NOTHING
    source: str = ""

    @property
    def flow(self) -> str:
        """A line for the page's script, ``"12;3,7;1"``: ``!`` for reading nothing, "" for the row before."""
        reads = "" if self.reads is None else self.reads.replace(" ", ",") or "!"
        return f"{self.key};{reads};{'1' if self.is_ranked else ''}"

    @property
    def is_notable(self) -> bool:
        """Whether it has findings of its own, or is where the forward failed."""
        return bool(self.flags or self.fail)

    @property
    def plain_sizes(self) -> Markup:
        """The sizes without what shows in colours alone."""
        return Markup(_COLOURS.sub(r"\1", str(self.sizes)))

    @property
    def plain_numbers(self) -> Markup:
        """The number cells as short as they can be."""
        return Markup(_BARS.sub("", str(self.numbers)))


class _Cells(NamedTuple):
    """What a row shows wherever it stands, and the rows that it reads."""

    note: str
    sizes: Markup
    title: str
    numbers: Markup
    read: tuple[int, ...] | None
    formula: Markup
    source: str


class Parts:
    """Turns walks through outlines of one story into parts, operations that the view hides among them."""

    def __init__(self, story: Story, view: View, names: Names, failure_text: str) -> None:
        self.story = story
        self.view = view
        self.names = names
        self.reads = Reads(story, ops=view.ops)
        self.failure_text = failure_text
        self.failed_row = header.failed_row(story)
        self.whole = self._whole()
        self._sizes: dict[object, Markup] = {}
        self._cells: dict[int, _Cells] = {}  # a page is laid out until it fits
        self.ops_left = 0
        self._outline: Outline | None = None
        self._parts: list[Part] = []

    def lay_out(self, outline: Outline, max_ops: int) -> Sequence[Part]:
        """Return the parts of an outline, without details; where they are those of the last time, with what these got.

        Args:
            max_ops: How many hidden operations may go along; they cost bytes and are not shown at first.
        """
        num_ops = sum(part.is_hidden for part in self._parts)
        if outline is not self._outline or not (self.ops_left and num_ops < max_ops):  # else all are there
            self._outline, self.keys, self.ops_left = outline, name_rows(outline), max_ops
            self._parts = [*self._walk(outline)]
        return self._parts

    def _walk(self, outline: Outline) -> Iterator[Part]:
        waiting: list[list[int]] = []  # per open row: operations not yet placed
        for step in walk(outline):
            node = step.node
            if step.leaving:
                if not isinstance(node, HiddenNode):
                    if isinstance(node, RowNode):
                        yield from self._ops(waiting.pop(), None, step.depth + 1)
                    yield Part("close")
                continue
            if isinstance(node, HiddenNode):
                yield Part("more", indent=_indent(step.depth), name=labels.format_hidden(node))
                continue
            first = node.row if isinstance(node, RowNode) else node.members[0][0]
            if waiting and step.in_group is None:
                yield from self._ops(waiting[-1], first, step.depth)
            if isinstance(node, RowNode):
                waiting.append(list(node.ops))
                yield self._row(step, node)
            else:
                yield self._group(step, node)

    def _ops(self, waiting: list[int], before: int | None, depth: int) -> Iterator[Part]:
        """Operations that ran before a row, as hidden rows."""
        while waiting and (before is None or waiting[0] < before):
            index = waiting.pop(0)
            if self.ops_left <= 0:
                continue
            self.ops_left -= 1
            node = RowNode(index, self.story.rows[index].type_name)
            part = self._row(Step(node, depth, False), node)
            part.is_hidden = True
            yield part
            yield Part("close")

    # Rows -----------------------------------------------------------------------------------------------------------

    def _row(self, step: Step, node: RowNode) -> Part:
        row = self.story.rows[node.row]
        name, kind = labels.format_name(self.story, node, row)
        name, kind = (name, kind) if name else (kind, "")
        cells = self._cells.get(node.row)
        if cells is None:
            cells = self._cells[node.row] = _Cells(
                self.reads.describe(node), self._arrow(row), self._meaning(row),
                self._numbers(labels.row_figures(self.story, self.view, row)), self.reads.sources(row),
                self._formula(row), labels.format_source(row, self.view),
            )  # fmt: skip
        note = " · ".join(filter(None, (labels.format_note(self.story, row, step.in_group), cells.note)))
        fail = header.failing_lines(self.story, self.failure_text) if node.row == self.failed_row else ()
        return Part(
            "open", node.row, self._classes(row, node), _indent(step.depth), name, kind, note,
            cells.sizes, cells.title, cells.numbers,
            tuple(
                (flag.severity, formatting.plain(flag.rule), formatting.plain(flag.message), formatting.plain(flag.fix))
                for flag in node.flags
            ),
            fail, node.flags_inside, node.is_open, False, not node.children and not node.ops, name or kind,
            key=str(node.row), reads=self._read_keys(row, cells.read),
            is_ranked=not node.num_inside and row.kind != "op" and row.status == "ran",
            formula=cells.formula, source=cells.source,
        )  # fmt: skip

    def _group_keys(self, node: GroupNode) -> str | None:
        found = self.reads.group_sources(node)
        if found is None:
            return None
        own = f"g{node.members[0][0]}"
        keys = (self.keys.get(index, "") for index in found)
        return " ".join(dict.fromkeys(key for key in keys if key and key != own))

    def _read_keys(self, row: Row, found: Sequence[int] | None) -> str | None:
        """What a row reads, by the names of the rows on this page; a group stands for all rows in it.

        What the row around it was given comes from that row itself, though it be the one that stands for a group.
        """
        if found is None:
            return None
        keys = (str(index) if index == row.parent else self.keys.get(index, "") for index in found)
        return " ".join(dict.fromkeys(filter(None, keys)))

    def _classes(self, row: Row, node: RowNode) -> str:
        classes = "ms-r"
        if not node.children and not (node.ops and self.ops_left):
            classes += " ms-l"
        if row.kind == "op":
            classes += " ms-o"
        if row.status == "failed":
            classes += " ms-failed"
        elif labels.format_status(row, self.story):
            classes += " ms-off"
        if node.flags:
            classes += " ms-flag"
        return classes

    def _group(self, step: Step, node: GroupNode) -> Part:
        name, kind = labels.format_group(self.story, node)
        row = labels.group_row(self.story, node)
        numbers = self._numbers(labels.group_figures(self.story, self.view, node))
        classes = "ms-r ms-g" + (" ms-off" if labels.format_status(row, self.story) else "")
        return Part(
            "open", -1, classes, _indent(step.depth), f"{name} ·", kind, self.reads.describe(node), self._arrow(row),
            self._title(row), numbers, key=f"g{node.members[0][0]}", reads=self._group_keys(node),
            inside=node.flags_inside, is_open=node.is_open, is_leaf=False, about=name,
            detail=markup_detail([("blocks", [labels.format_members(self.story, node)])]), formula=self._formula(row),
        )  # fmt: skip

    # Cells ----------------------------------------------------------------------------------------------------------

    def _whole(self) -> Mapping[str, int]:
        saved = [cost.own_activation_bytes or 0 for cost in self.story.costs.values()]
        macs, backward = self.story.total_mult_adds or 0, self.story.backward.get(0) or 0
        return {
            "params": self.story.total_params,
            "macs": macs,
            "backward": backward,
            "train": macs + backward,
            "activation": sum(saved),
            "peak": self.story.trace.peak_bytes or 0,
        }

    def _numbers(self, figures: Iterable[labels.Figure]) -> Markup:
        """The number cells: digits and units alone, so that nothing needs escaping."""
        cells: list[str] = []
        for figure in figures:
            share, digits = _share(figure.number or 0, self.whole[figure.column]), figure.in_full(self.view)
            title = f' title="{digits}"' if digits else ""
            meter = f" <meter value={share}></meter>" if share else ""
            cells.append(f"<td{title}>{figure.text}{meter}</td>")
        return Markup("".join(cells))

    def _formula(self, row: Row) -> Markup:
        return Markup("<br>").join(labels.formula_lines(self.story, row, self.view))

    def _title(self, row: Row) -> str:
        sides = []
        for formulas in (self.story.input_formulas.get(row.index), self.story.formulas.get(row.index)):
            known = [size_cells.format_formula(formula) for formula in formulas or () if formula]
            if known:
                sides.append(", ".join(known[:6]))
        return " → ".join(sides)

    def _meaning(self, row: Row) -> str:
        """What a row's title says of its sizes: their formulas, and below what the dims come from."""
        return "\n".join(filter(None, [self._title(row), *write_origins(self.story, row)[:6]]))

    def _arrow(self, row: Row) -> Markup:
        """``labels.format_arrow`` with markup: muted input, bold dims that changed, coloured names."""
        key = (
            row.inputs, row.outputs, row.status,
            self.story.input_formulas.get(row.index), self.story.formulas.get(row.index),
        )  # fmt: skip
        if row.status == "uncalled":
            key = (row.index,)  # type: ignore[assignment]  # whether it reads "not called" depends on what is below
        if key not in self._sizes:
            self._sizes[key] = self._arrow_markup(row)
        return self._sizes[key]

    def _arrow_markup(self, row: Row) -> Markup:
        ins, outs = labels.row_lines(self.story, row, self.view)
        state = labels.format_status(row, self.story)
        before = [f"<span>{self._leaf(line)}</span>" for line in ins]
        after = [self._leaf(line) for line in outs]
        if state:
            after.append(f'<b class="ms-s">{state}</b>')
        if len(before) == 1 and len(after) == 1 and (state or not (ins[0].label and outs[0].label)):
            lines = [f"{before[0]} <bdi>→ {after[0]}</bdi>"]
        else:
            lines = before + [f"→\u00a0{line}" if before else line for line in after]
        return Markup("<br>".join(lines))

    def _leaf(self, line: size_cells.Line) -> str:
        dims = size_cells.format_dims(line.shape)
        colours = self.names.colours(line.formula)
        if colours or True in line.bold:
            for at, text in enumerate(dims):
                bold = at < len(line.bold) and line.bold[at]
                colour = colours[at] if at < len(colours) else None
                if colour is not None:
                    dims[at] = f"<b class=ms-{colour}>{text}</b>" if bold else f"<bdi class=ms-{colour}>{text}</bdi>"
                elif bold:
                    dims[at] = f"<b>{text}</b>"
        size_text = "<bdi>[" + ", ".join(dims) + "]</bdi>"
        times = f"{line.times} × " if line.times > 1 else ""
        return f"<em>{escape(line.label)}</em> {times}{size_text}" if line.label else times + size_text


def lay_out_plain(parts: Sequence[Part]) -> Iterator[tuple[str, Part]]:
    """Steps of the plain rows: rows that hold none and are not notable stand in one table, the hidden ones nowhere.

    Yields:
        ``"open"``, ``"close"`` and ``"more"`` as in ``Part.what``; ``"line"`` for a row of a table, which ``"begin"``
        and ``"end"`` are around.
    """
    shown = [part for at, part in enumerate(parts) if not (part.is_hidden or (at and parts[at - 1].is_hidden))]
    was_line = in_table = False
    for part, after in zip(shown, [*shown[1:], None], strict=True):
        is_line = part.what == "open" and not part.is_notable and after is not None and after.what == "close"
        if was_line:
            was_line = False  # its "close"
            continue
        if is_line != in_table:
            yield "begin" if is_line else "end", part
            in_table = is_line
        yield "line" if is_line else part.what, part
        was_line = is_line
    if in_table:
        yield "end", shown[-1]


def markup_detail(pairs: Sequence[tuple[str, Sequence[str]]], sources: Sequence[tuple[str, str]] = ()) -> Markup:
    """The pairs as a list of terms; ``sources``, the place and the lines of a function each, are below, unchanged.

    All is escaped in one go, which is a third of the time: ``plain`` has left no control character in any line, so
    those that join them here can't be mistaken.
    """
    below = "".join(_markup_source(place, text) for place, text in sources)
    if not pairs:
        return Markup(below)
    text = "\x02".join([f"{word}\x01" + "\n".join(lines) for word, lines in pairs])
    html = str(escape(text))
    if pairs[0][0] == "path":
        head, _, tail = html.partition("\x02")
        html = head.replace("\x01", '\x01<code class="ms-p">') + "</code>" + ("\x02" + tail if tail else "")
    html = html.replace("\x02", "</dd><dt>").replace("\x01", "</dt><dd>").replace("\n", "<br>")
    return Markup(f'<dl class="ms-d"><dt>{html}</dd></dl>{below}')


def _markup_source(place: str, text: str) -> str:
    lines = "\n".join(map(formatting.plain, text.splitlines()))
    return f'<pre class="ms-x" data-at="{escape(formatting.plain(place))}">{escape(lines)}</pre>'


def _indent(depth: int) -> int:
    """Pixels: full steps for eight levels, then small ones, and none where a narrow page has no width left."""
    return 14 * min(depth, 8) + 5 * max(0, min(depth, 20) - 8)


def _share(value: int, whole: int) -> str:
    """Share of the whole as a meter's value, ``".37"``; ``""`` where no bar could be seen."""
    if value <= 0 or 200 * value < whole:
        return ""
    return "1" if value >= whole else f"{value / whole:.2f}"[1:] if value < 0.995 * whole else ".99"
