"""A training step -> memory over time as stacked areas, and the peak of each phase as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelsummary_ipy.display.render.fit import story_writer
from modelsummary_ipy.display.render.formatting import brief, in_full
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.training import CATEGORIES, Phase, Point

#: More can't be told apart in a page of usual width; of several moments in one column the highest is drawn.
_MOST_COLUMNS = 120
_PHASES: tuple[Phase, ...] = ("forward", "backward", "optimizer")
_HEIGHT = 100


@dataclass(frozen=True, slots=True)
class Spot:
    """A stretch of the time axis in which one row ran: where it is, in columns, and what the pointer is told."""

    x: int
    width: int
    row: int | None
    title: str


@dataclass(frozen=True, slots=True)
class StepPicture:
    """A picture of ``columns`` × 100, and its words.

    Attributes:
        columns: Its width.
        areas: What is filled, the topmost first: number of the category, and path of all up to its upper edge.
        spots: What ran, from left to right.
        phases: Name of each phase, and where it begins in percent of the width.
        peak_percent: The middle of the peak's column, in percent of the width.
        peak: ``"1.20 MiB at the backward of c1.0"``.
        heads: Of the table: the phases that ran.
        lines: Of the table: number of a category (-1 for none), its name, and a cell a phase: its text, and all digits
            of its bytes.
    """

    columns: int
    areas: tuple[tuple[int, str], ...]
    spots: tuple[Spot, ...]
    phases: tuple[tuple[str, str], ...]
    peak_percent: float
    peak: str
    heads: tuple[str, ...]
    lines: tuple[tuple[int, str, tuple[tuple[str, str], ...]], ...]


def build_step_picture(story: Story) -> StepPicture | None:
    """Draw the training step of a story; ``None`` where there is none or its memory is not known."""
    step = story.training
    if step is None or not step.peak_bytes or story.memory is None:
        return None
    write = story_writer(story)
    points = _pick_columns(step.timeline, step.peak_moment)
    used = [at for at in range(len(CATEGORIES)) if any(point.by_category[at] for point in points)]
    areas = [(at, _draw_area([sum(p.by_category[: at + 1]) for p in points], step.peak_bytes)) for at in used]
    spots: list[Spot] = []
    for x, point in enumerate(points):
        if spots and (point.phase, point.row) == (points[x - 1].phase, points[x - 1].row):
            last = spots.pop()
            highest = max(points[last.x : x + 1], key=lambda one: one.nbytes)
            spots.append(Spot(last.x, x + 1 - last.x, point.row, _tell(story, highest, write(highest.nbytes))))
        else:
            spots.append(Spot(x, 1, point.row, _tell(story, point, write(point.nbytes))))
    phases = [phase for phase in _PHASES if any(point.phase == phase for point in points)]
    peak_x = max(range(len(points)), key=lambda x: points[x].nbytes)
    starts = (next(x for x, point in enumerate(points) if point.phase == phase) for phase in phases)
    highest_of = [max((p for p in step.timeline if p.phase == phase), key=lambda one: one.nbytes) for phase in phases]

    def cell(nbytes: int) -> tuple[str, str]:
        text = write(nbytes) if nbytes else ""
        return text, in_full(nbytes, text, "bytes") if nbytes else ""

    lines = [(-1, "at", tuple((_name_place(story, point), "") for point in highest_of))]
    lines += [(at, CATEGORIES[at], tuple(cell(p.by_category[at]) for p in highest_of)) for at in reversed(used)]
    lines.append((-1, "all", tuple(cell(point.nbytes) for point in highest_of)))
    return StepPicture(
        len(points), tuple(reversed(areas)), tuple(spots),
        tuple((phase, f"{100 * x / len(points):.1f}") for phase, x in zip(phases, starts, strict=True)),
        100 * (peak_x + 0.5) / len(points), _tell(story, points[peak_x], write(step.peak_bytes)),
        tuple(phases), tuple(lines),
    )  # fmt: skip


def name_row(story: Story, index: int | None) -> str:
    """``layer1.0.conv1``; ``add in layer1.0`` for an operation; ``""`` where no row ran."""
    if index is None:
        return ""
    row = story.rows[index]
    if row.kind == "module":
        return brief(row.path or row.type_name)
    above = story.rows[row.parent].path if row.parent is not None else ""
    return brief(f"{row.type_name} in {above}" if above else row.type_name)


def _name_place(story: Story, point: Point) -> str:
    """The row that ran; the loss, or the optimizer's own step, where none did."""
    words = {"optimizer": "step", "forward": "loss", "backward": "loss"}
    return name_row(story, point.row) or words[point.phase]


def _tell(story: Story, point: Point, amount: str) -> str:
    """``1.20 MiB at the backward of c1.0``."""
    name = name_row(story, point.row)
    return f"{amount} at the {point.phase}" + (f" of {name}" if name else "")


def _pick_columns(points: Sequence[Point], peak: int) -> list[Point]:
    """One point a column: the highest, the peak itself in its column."""
    num = len(points)
    columns = min(num, _MOST_COLUMNS)
    picked = []
    for at in range(columns):
        start, stop = num * at // columns, num * (at + 1) // columns
        highest = max(range(start, stop), key=lambda moment: points[moment].nbytes)
        picked.append(points[peak if start <= peak < stop else highest])
    return picked


def _draw_area(heights: Sequence[int], highest: int) -> str:
    """All below a line that keeps each height for one column: ``"M0 100v-40h3v10h1V100z"``."""
    path, at, run = [f"M0 {_HEIGHT}"], 0, 0
    for height in heights:
        y = round(_HEIGHT * height / highest)
        if y != at:
            path.append((f"h{run}" if run else "") + f"v{at - y}")
            at, run = y, 0
        run += 1
    return "".join(path) + f"h{run}V{_HEIGHT}z"
