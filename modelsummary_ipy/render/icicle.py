"""Where parameters, MACs or memory are: an icicle chart as inline SVG, and the same said in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..facts import Row, Story
from . import words

__all__ = ["Bar", "Share", "build_icicle", "find_shares"]

_LEVELS = 4
#: Narrower bars can't be told apart; what is left out leaves its place empty.
_NARROWEST = 0.4
_MOST_BARS = 90
#: A label is left out where it would be cut in a page of usual width.
_PIXELS_PER_PERCENT = 9

Measure = Callable[[Row], int]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its place in percent of the width, its level, its colour, its words (no label where none fits)."""

    x: str
    width: str
    level: int
    hue: int
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Share:
    """One part of the whole, in words."""

    name: str
    value: str
    percent: str
    meter: str


def measure_of(story: Story, what: str) -> Measure:
    """How much of ``what`` (``"params"``, ``"macs"``, ``"activation"``) a row and all in it has."""

    def measure(row: Row) -> int:
        if what == "params":
            return row.num_params if row.kind == "module" and not row.call_index else 0
        cost = story.costs.get(row.index)
        if cost is None:
            return sum(measure(story.rows[child]) for child in story.children.get(row.index, ()))
        return (cost.mult_adds if what == "macs" else cost.activation_bytes) or 0

    return measure


def build_icicle(story: Story, what: str) -> tuple[Bar, ...]:
    """Bars from the model down, each as wide as its share, children below their parents in order of execution."""
    measure, show = measure_of(story, what), _formatter(what)
    roots = [row for row in story.rows if row.parent is None]
    whole = sum(map(measure, roots))
    if not whole or not any(len(story.children.get(row.index, ())) > 0 for row in roots):
        return ()
    bars: list[Bar] = []
    level = [(row, 0.0, 0, row.type_name) for row in roots]
    for depth in range(_LEVELS + 1):
        below: list[tuple[Row, float, int, str]] = []
        for row, x, hue, label in level:
            width = 100 * measure(row) / whole
            if width < _NARROWEST or len(bars) >= _MOST_BARS:
                continue
            share = words.format_percent(measure(row), whole)
            title = f"{words.plain(row.path or row.type_name)}: {show(measure(row))}, {share}"
            label = words.plain(label)
            fits = width * _PIXELS_PER_PERCENT >= 7 * len(label) + 6
            bars.append(Bar(_number(x), _number(width), depth, hue, label if fits else "", title))
            at, place = x, 0
            for child in (story.rows[index] for index in _children(story, row)):
                size = 100 * measure(child) / whole
                if size > 0:
                    below.append((child, at, place % 6 if depth == 0 else hue, _last(child)))
                    at += size
                    place += 1
        level = below
    return tuple(bars) if len(bars) > 1 else ()


def find_shares(story: Story, what: str, most: int = 6) -> tuple[Share, ...]:
    """The largest parts of the model, in order of size."""
    measure, show = measure_of(story, what), _formatter(what)
    roots = [row for row in story.rows if row.parent is None]
    whole = sum(map(measure, roots))
    parts = [story.rows[index] for row in roots for index in _children(story, row)]
    whole = whole or sum(map(measure, parts))  # of a forward that failed the model's own sum is not known
    sized = sorted(((measure(row), -row.index) for row in parts if measure(row)), reverse=True)
    shares = []
    for value, index in sized[:most]:
        row = story.rows[-index]
        percent = words.format_percent(value, whole)
        name = words.plain(row.path if row.kind == "module" else row.type_name)
        shares.append(Share(name, show(value), percent, _number(100 * value / whole)))
    rest = sum(value for value, _ in sized[most:])
    if rest:
        name = words.plural(len(sized) - most, "smaller part")
        shares.append(Share(name, show(rest), words.format_percent(rest, whole), _number(100 * rest / whole)))
    return tuple(shares) if whole else ()


def _children(story: Story, row: Row) -> tuple[int, ...]:
    return story.children.get(row.index, ())


def _last(row: Row) -> str:
    return row.path.rpartition(".")[2] if row.kind == "module" else row.type_name


def _formatter(what: str) -> Callable[[int], str]:
    return {"params": words.format_count, "macs": words.format_short, "activation": words.format_bytes}[what]


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
