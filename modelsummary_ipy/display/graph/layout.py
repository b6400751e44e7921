"""Graph -> places: blocks in ranks from the top down, a lane at the right for every tensor that passes a rank by.

A block is below all that it reads; blocks of one rank stand side by side. A tensor that is read again further down runs
in a lane of its own, outside all blocks that it passes, and leaves it wherever it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from modelsummary_ipy.display.graph.blocks import INPUT, OUTPUT, Arrow, Block, Graph
from modelsummary_ipy.display.render.formatting import count_columns

_GAP, _ASIDE, _PAD, _TITLE, _LANE = 28.0, 28.0, 14.0, 22.0, 14.0
#: Room for a size below a block, and for each lane that turns in a gap.
_SIZE, _TURN = 14.0, 6.0
_LINE, _CHARACTER = 17.0, 7.3

#: A tensor that passes ranks by: where it comes from, and its name where it is one of several inputs.
_Lane = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Line:
    """An arrow as points of a path with rounded corners; whether it has a head at the last one."""

    points: tuple[tuple[float, float], ...]
    has_head: bool = True


@dataclass(frozen=True, slots=True)
class Label:
    """A text beside an arrow, its baseline at the left."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A block with its place inside the one around it, and what is in it.

    Attributes:
        x, y, width, height: Its frame, from the top left of the block around it.
        axis: Where its arrows come and go, from its left.
        block: ``None`` for the whole picture.
        inside, lines, labels: What is in it, from its own top left.
    """

    x: float
    y: float
    width: float
    height: float
    axis: float
    block: Block | None
    inside: tuple[Placed, ...] = ()
    lines: tuple[Line, ...] = ()
    labels: tuple[Label, ...] = ()


def lay_out(graph: Graph) -> Placed:
    """Give every block a place; the same graph is always laid out the same way."""
    return _Level(graph, None).place()


def text_width(text: str) -> float:
    """Pixels that a text takes in the picture's monospaced font."""
    return _CHARACTER * count_columns(text)


def _measure(block: Block) -> Placed:
    """A block at no place yet."""
    if block.inside is not None:
        return _Level(block.inside, block).place()
    lines = 1 if block.is_op or not block.name or not block.kind else 2
    width = max(text_width(block.name), text_width(block.kind)) + 2 * (9 if block.is_op else 12)
    width = max(width, 26.0 if block.is_op else 60.0)
    return Placed(0, 0, width, 9 + _LINE * lines, width / 2, block)


class _Level:
    """One graph while it is laid out; the axis of its input and output is x = 0 until all is moved to the right."""

    def __init__(self, graph: Graph, frame: Block | None) -> None:
        self._graph = graph
        self._frame = frame
        self._made = {block.key: _measure(block) for block in graph.blocks}
        self._rank = _find_ranks(graph)
        self._last = max(self._rank.values(), default=0) + 1
        self._sizes = {block.key: block.size if block.is_new_size else "" for block in graph.blocks}

    def place(self) -> Placed:
        ranks = [[key for key in self._made if self._rank[key] == rank] for rank in range(self._last)]
        left, right = self._place_across(ranks)
        lanes = self._find_lanes()
        lane_x = self._place_lanes(lanes, right)
        tops, height = self._place_down(ranks, lanes)
        lines, labels = self._draw(lanes, lane_x, tops, height)
        shift = _PAD - min([*left, 0.0])
        widest = max([*right, *lane_x.values(), 0.0, *(label.x + text_width(label.text) for label in labels)])
        width = widest + shift + _PAD
        title = f"{self._frame.name} {self._frame.kind}" if self._frame is not None else ""
        width = max(width, text_width(title) + 2 * _PAD)
        inside = tuple(
            replace(self._made[key], x=self._x[key] + shift, y=tops[self._rank[key]]) for rank in ranks for key in rank
        )
        return Placed(
            0, 0, width, height, shift, self._frame, inside,
            tuple(Line(tuple((x + shift, y) for x, y in line.points), line.has_head) for line in lines),
            tuple(Label(label.x + shift, label.y, label.text) for label in labels),
        )  # fmt: skip

    # -- across -------------------------------------------------------------------------------------------------------

    def _place_across(self, ranks: Sequence[Sequence[int]]) -> tuple[list[float], list[float]]:
        """Place the blocks of each rank side by side around the axis; returns the left and right end of each rank."""
        self._x: dict[int, float] = {}
        left, right = [], []
        for rank in ranks:
            slots = [self._slot(key) for key in rank]
            total = sum(slots) + _ASIDE * (len(rank) - 1)
            at = -self._made[rank[0]].axis if len(rank) == 1 else -total / 2
            left.append(at)
            for key, slot in zip(rank, slots, strict=True):
                self._x[key] = at
                at += slot + _ASIDE
            right.append(at - _ASIDE)
        return left, right

    def _slot(self, key: int) -> float:
        """A block's width, and that of the size that is written below it."""
        placed = self._made[key]
        return max(placed.width, placed.axis + 8 + text_width(self._sizes[key]) if self._sizes[key] else 0.0)

    # -- lanes --------------------------------------------------------------------------------------------------------

    def _rank_of(self, end: int) -> int:
        return -1 if end == INPUT else self._last if end == OUTPUT else self._rank[end]

    def _find_lanes(self) -> dict[_Lane, list[Arrow]]:
        """The arrows that pass a rank by, by the tensor that they stand for."""
        lanes: dict[_Lane, list[Arrow]] = {}
        for arrow in self._graph.arrows:
            if self._rank_of(arrow.target) - self._rank_of(arrow.source) > 1:
                lanes.setdefault((arrow.source, arrow.label), []).append(arrow)
        return lanes

    def _gaps(self, arrows: Sequence[Arrow]) -> range:
        """The gaps that a lane runs through: gap 3 is above rank 3."""
        return range(self._rank_of(arrows[0].source) + 1, max(self._rank_of(arrow.target) for arrow in arrows) + 1)

    def _place_lanes(self, lanes: Mapping[_Lane, Sequence[Arrow]], right: Sequence[float]) -> dict[_Lane, float]:
        """Short lanes lie inside of long ones, each outside of all that it passes."""
        taken = [0.0] * (self._last + 1)
        found: dict[_Lane, float] = {}
        for lane, arrows in sorted(lanes.items(), key=lambda item: (len(self._gaps(item[1])), item[0])):
            gaps = self._gaps(arrows)
            start = 0.0 if lane[0] == INPUT else self._x[lane[0]] + self._slot(lane[0])
            passed = (start, *(taken[gap] for gap in gaps), *(right[rank] for rank in gaps[:-1]))
            found[lane] = max(passed) + _LANE
            for gap in gaps:
                taken[gap] = found[lane]
        return found

    # -- down ---------------------------------------------------------------------------------------------------------

    def _place_down(
        self, ranks: Sequence[Sequence[int]], lanes: Mapping[_Lane, Sequence[Arrow]]
    ) -> tuple[list[float], float]:
        """The top of each rank, and the height of all; a gap is higher where a size stands in it or lanes turn."""
        gaps = [_GAP] * (self._last + 1)
        for arrows in lanes.values():
            gaps[self._gaps(arrows)[0]] += 2 * _TURN
            for arrow in arrows:
                gaps[self._rank_of(arrow.target)] += _TURN
        for at, rank in enumerate(ranks):
            gaps[at + 1] += _SIZE if any(self._sizes[key] for key in rank) else 0.0
        y = _TITLE if self._frame is not None else 22.0 * len(self._graph.given)
        tops: list[float] = []
        for at, rank in enumerate(ranks):
            y += gaps[at] - (8 if self._frame is not None and not at else 0)
            tops.append(y)
            y += max(self._made[key].height for key in rank)
        return tops, y + gaps[self._last] - (8 if self._frame is not None else 0)

    # -- arrows -------------------------------------------------------------------------------------------------------

    def _draw(
        self,
        lanes: Mapping[_Lane, Sequence[Arrow]],
        lane_x: Mapping[_Lane, float],
        tops: Sequence[float],
        height: float,
    ) -> tuple[list[Line], list[Label]]:
        lines: list[Line] = []
        labels: dict[tuple[float, float], str] = {}
        entries = self._entries()
        out: dict[int, int] = {}  # lanes that began in a gap, and arrows that ended in one
        into: dict[int, int] = {}
        begun: dict[_Lane, float] = {}
        for arrow in self._graph.arrows:
            lane, gap = (arrow.source, arrow.label), self._rank_of(arrow.target)
            x0, y0 = self._exit(arrow.source, tops)
            x1, y1 = self._entry(arrow, entries), height if arrow.target == OUTPUT else tops[gap]
            where = (x1 + 7, y1 - 8)
            if arrow in lanes.get(lane, ()):
                first = self._gaps(lanes[lane])[0]
                if lane not in begun:
                    begun[lane] = self._bottom(arrow.source, tops) + 8 + _TURN * out.get(first, 0)
                    out[first] = out.get(first, 0) + 1
                x, turn, y = lane_x[lane], begun[lane], y1 - 13 - _TURN * into.get(gap, 0)
                into[gap] = into.get(gap, 0) + 1
                points: tuple[tuple[float, float], ...] = ((x0, y0), (x0, turn), (x, turn), (x, y), (x1, y), (x1, y1))
                where = (x1 + 10, y - 4)
            elif abs(x0 - x1) > 1:
                points = ((x0, y0), (x0, y1 - 13), (x1, y1 - 13), (x1, y1))
                where = (x1 + 7 if x1 > x0 else x1 - 7 - text_width(arrow.label), y1 - 8)
            else:
                points = ((x0, y0), (x1, y1))
            lines.append(Line(points, arrow.target != OUTPUT or self._frame is None))
            if arrow.label:
                labels[where] = f"{labels[where]}, {arrow.label}" if where in labels else arrow.label
        turns = {source: y for (source, _), y in begun.items()}
        for key, size in self._sizes.items():
            if size and any(arrow.source == key for arrow in self._graph.arrows):
                x, y = self._exit(key, tops)
                turn = turns.get(key, y)
                labels[x + 7, (y if turn - y > 30 else turn) + 14] = size
        return lines, [Label(x, y, text) for (x, y), text in labels.items()]

    def _bottom(self, end: int, tops: Sequence[float]) -> float:
        """The end of the rank that a block is in: its neighbours may be higher."""
        if end == INPUT:
            return self._exit(end, tops)[1]
        rank = self._rank[end]
        return tops[rank] + max(self._made[key].height for key in self._made if self._rank[key] == rank)

    def _exit(self, source: int, tops: Sequence[float]) -> tuple[float, float]:
        if source == INPUT:
            return 0.0, _TITLE if self._frame is not None else 22.0 * len(self._graph.given)
        placed = self._made[source]
        return self._x[source] + placed.axis, tops[self._rank[source]] + placed.height

    def _entries(self) -> dict[int, list[int]]:
        """By target, what it reads, from the left to the right."""
        found: dict[int, list[int]] = {}
        for arrow in self._graph.arrows:
            if arrow.source not in found.setdefault(arrow.target, []):
                found[arrow.target].append(arrow.source)
        for target, sources in found.items():
            sources.sort(key=lambda source: (self._rank_of(target) - self._rank_of(source) > 1, self._axis(source)))
        return found

    def _axis(self, end: int) -> float:
        return 0.0 if end in (INPUT, OUTPUT) else self._x[end] + self._made[end].axis

    def _entry(self, arrow: Arrow, entries: Mapping[int, Sequence[int]]) -> float:
        """Several arrows into one block end beside each other; the one from right above stays on the axis."""
        sources = entries[arrow.target]
        room = 60.0 if arrow.target == OUTPUT else self._made[arrow.target].width
        step = min(12.0, (room / 2 - 5) / max(len(sources) - 1, 1))
        return self._axis(arrow.target) + step * sources.index(arrow.source)


def _find_ranks(graph: Graph) -> dict[int, int]:
    """One more than the highest rank of what a block reads; 0 for what reads the input alone, or nothing."""
    reads: dict[int, list[int]] = {}
    for arrow in graph.arrows:
        reads.setdefault(arrow.target, []).append(arrow.source)
    ranks: dict[int, int] = {}
    for block in graph.blocks:  # in the order in which they ran: what is read comes first
        ranks[block.key] = 1 + max((ranks.get(source, -1) for source in reads.get(block.key, ())), default=-1)
    return ranks
