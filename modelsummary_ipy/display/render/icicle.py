"""Where parameters, MACs or memory are: an icicle chart as inline SVG, and the same as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelsummary_ipy.display.outline import GroupNode, HiddenNode, Node, Outline, RowNode
from modelsummary_ipy.display.render import formatting, labels
from modelsummary_ipy.display.render.fit import story_writer
from modelsummary_ipy.records.summary import Row, Story
from modelsummary_ipy.records.trace import path_below

_LEVELS = 4
#: Narrower bars can't be seen; what is left out leaves its place empty.
_NARROWEST = 0.4
_MOST_BARS = 90
_MOST_SHARES = 6
#: A label is left out where it would be cut in a page of usual width.
_PIXELS_PER_PERCENT = 9

Measure = Callable[[Row], int]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its row, its place in percent of the width, its level and colour, its texts (no label that is cut)."""

    row: int

    x: str
    width: str
    level: int
    hue: int
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Share:
    """One part of the whole, as text, and all digits of a value that has not all of them."""

    name: str
    value: str
    percent: str
    digits: str = ""


def measure_of(story: Story, what: str) -> Measure:
    """How much of ``what`` (``"params"``, ``"macs"``, ``"flops"``, ``"activation"``) a row and all in it has.

    ``"held"`` is what it holds at the peak of a training step.
    """
    if what == "held":
        return _measure_held(story)

    def measure(row: Row) -> int:
        if what == "params":
            return row.placed_params if row.kind == "module" and not row.call_index else 0
        cost = story.costs.get(row.index)
        if cost is None:
            return sum(measure(story.rows[child]) for child in story.children.get(row.index, ()))
        return _pick(what, 0, cost.mult_adds, cost.activation_bytes)

    return measure


def _measure_held(story: Story) -> Measure:
    sums: dict[int, int] = {}
    for held in story.training.held_at_peak if story.training is not None else ():
        row = held.row
        while row is not None:
            sums[row] = sums.get(row, 0) + held.nbytes
            row = story.rows[row].parent
    return lambda row: sums.get(row.index, 0)


def build_icicle(story: Story, what: str) -> tuple[Bar, ...]:
    """Bars from the model down, each as wide as its share, children below their parents in order of execution.

    A level is drawn whole or not at all. Colours part the children of the first row that has several of weight; below
    it they are inherited. Of more than six children those of one type look alike.
    """
    measure, show = measure_of(story, what), _formatter(story, what)
    roots = [row for row in story.rows if row.parent is None]
    whole = sum(map(measure, roots))
    bars: list[Bar] = []
    level = [_Place(row, 0.0, 100 * measure(row) / whole, None, row.type_name) for row in roots] if whole else []
    for depth in range(_LEVELS + 1):
        level = [place for place in level if place.width >= _NARROWEST]
        if not level or len(bars) + len(level) > _MOST_BARS:
            break
        for place in level:
            share = formatting.format_percent(measure(place.row), whole)
            path = formatting.brief(place.row.path or place.row.type_name)
            label = formatting.brief(place.label)
            fits = place.width * _PIXELS_PER_PERCENT >= 7 * len(label) + 6
            amount = measure(place.row)
            text = show(amount)
            full = formatting.in_full(amount, text)
            title = f"{path}: {text}{f' ({full})' if full else ''}, {share}"
            bars.append(
                Bar(
                    place.row.index,
                    _number(place.x),
                    _number(place.width),
                    depth,
                    place.hue or 0,
                    label if fits else "",
                    title,
                )
            )
        level = [below for place in level for below in _below(story, place, measure, whole)]
    return tuple(bars) if len({bar.level for bar in bars}) < len(bars) else ()


@dataclass(frozen=True, slots=True)
class _Place:
    row: Row
    x: float
    width: float
    hue: int | None
    label: str


def _below(story: Story, place: _Place, measure: Measure, whole: int) -> list[_Place]:
    rows = [story.rows[index] for index in story.children.get(place.row.index, ())]
    sized = [(row, 100 * measure(row) / whole) for row in rows if measure(row) > 0]
    hues: list[int | None] = [place.hue] * len(sized)
    if place.hue is None and sum(width >= 1 for _, width in sized) > 1:
        kinds = list(dict.fromkeys(row.type_name for row, _ in sized))
        few = len(sized) <= 6
        hues = [(at if few else kinds.index(row.type_name)) % 6 for at, (row, _) in enumerate(sized)]
    x, found = place.x, []
    for (row, width), hue in zip(sized, hues, strict=True):
        last, label = _follow(story, row, measure, width * whole / 100, _name_below(row, place.row.path))
        found.append(_Place(last, x, width, hue, label))
        x += width
    return found


def _follow(story: Story, row: Row, measure: Measure, value: float, label: str) -> tuple[Row, str]:
    """Go down while all but nothing of a row is in one child, so that wrappers take no level: ``encoder.layer``."""
    while True:
        inside = [story.rows[child] for child in story.children.get(row.index, ())]
        heavy = [child for child in inside if measure(child) >= 0.97 * value]
        if len(heavy) != 1:
            return row, label
        label = f"{label}.{_name_below(heavy[0], row.path)}"
        row = heavy[0]


def find_shares(story: Story, outline: Outline, what: str) -> tuple[Share, ...]:
    """The largest parts of the model, folded as the outline folds them, in order of size."""
    measure, show = measure_of(story, what), _formatter(story, what)
    whole = sum(measure(row) for row in story.rows if row.parent is None)
    inside: tuple[Node, ...] = outline.nodes
    while True:
        parts = [node for node in inside if not isinstance(node, HiddenNode)]
        heavy = [node for node in parts if 100 * _value(story, node, what, measure) >= 97 * whole]
        if len(heavy) != 1 or not isinstance(heavy[0], RowNode) or not heavy[0].children:
            break
        inside = heavy[0].children
    sized = [(_value(story, node, what, measure), name_part(story, node)) for node in parts]
    sized = sorted((part for part in sized if part[0]), key=lambda part: -part[0])
    if not whole or not sized:
        return ()
    rest = whole - sum(value for value, _ in sized[:_MOST_SHARES])
    shown = sized[:_MOST_SHARES] + ([(rest, "everything else")] if 1000 * rest > whole else [])
    return tuple(
        Share(name, text := show(value), formatting.format_percent(value, whole), formatting.in_full(value, text))
        for value, name in shown
    )


def _value(story: Story, node: RowNode | GroupNode, what: str, measure: Measure) -> int:
    if isinstance(node, RowNode):
        return measure(story.rows[node.row])
    totals = node.totals
    return _pick(what, totals.num_params, totals.mult_adds, totals.activation_bytes)


def _pick(what: str, params: int, macs: int | None, saved: int | None) -> int:
    return {"params": params, "macs": macs, "flops": 2 * (macs or 0), "activation": saved}[what] or 0


def name_part(story: Story, node: RowNode | GroupNode) -> str:
    """``layer1.0.conv1``; ``encoder.layer.0–11 · 12 × BertLayer`` for what is folded."""
    if isinstance(node, GroupNode):
        above = story.rows[node.members[0][0]].parent
        path = formatting.brief(story.rows[above].path) if above is not None else ""
        name, types = labels.format_group(story, node)
        return f"{path}.{name} · {types}".lstrip(".")
    row = story.rows[node.row]
    return formatting.brief(row.path if row.kind == "module" else row.type_name)


def _name_below(row: Row, above: str) -> str:
    return path_below(row.path, above) if row.kind == "module" else row.type_name


def _formatter(story: Story, what: str) -> Callable[[int], str]:
    others = {"params": "{:,}".format, "macs": formatting.format_short, "flops": formatting.format_short}
    return others.get(what, story_writer(story))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
