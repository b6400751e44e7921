"""Changes between two stories → a line for each row of both, blocks that changed alike in one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from modelsummary_ipy.diagnosis.diff import find_settings
from modelsummary_ipy.display.render import labels
from modelsummary_ipy.display.render.formatting import format_params, plain, plural
from modelsummary_ipy.records.summary import Change, Row, Story

_KINDS = {
    "added": "added",
    "removed": "removed",
    "type": "another type",
    "params": "other parameters",
    "frozen": "frozen",
    "trainable": "trainable again",
    "settings": "other settings",
    "size": "another shape",
}
_WHOLE = ("added", "removed")


class DiffLine(NamedTuple):
    """A row of the older story, of the newer one, or of both; of blocks that changed alike one row for all.

    Attributes:
        path: Its path, ``blocks.0–3.norm`` for four of them.
        words: What is unexpected, ``"other parameters, another shape"``; ``""`` where nothing is.
        was, now: Type, sizes or status, number of parameters; empty texts on the side where it is not.
        settings: In what it is set up otherwise; empty where its parameters say so.
        has_moved: Whether its sizes differ.
        num_inside: How many rows are in it, of a module that was added or removed as a whole.
        num_blocks: How many blocks it stands for.
    """

    path: str
    words: str
    was: tuple[str, str, str]
    now: tuple[str, str, str]
    settings: tuple[str, str]
    has_moved: bool
    num_inside: int = 0
    num_blocks: int = 1

    @property
    def num_rows(self) -> int:
        """How many rows it stands for."""
        return (1 + self.num_inside) * self.num_blocks

    @property
    def inside(self) -> str:
        """``(+9 rows)``, ``""`` for none."""
        return f"(+{plural(self.num_inside, 'row')})" if self.num_inside else ""


def list_lines(old: Story, new: Story, changes: Sequence[Change]) -> list[DiffLine]:
    """All modules in the order of the newer story, those that were removed where they stood in the older one."""
    words: dict[tuple[int | None, int | None], Sequence[str]] = {}
    for change in changes:
        if change.what != "moved":
            place = change.old, change.new
            words[place] = (*words.get(place, ()), _name_change(old, new, change, changes))
    lines = (
        _write(old, new, was, now, ", ".join(words.get((was and was.index, now and now.index), ())))
        for was, now in _pair(old, new, words)
    )
    return list(_join_blocks(_close(lines)))


def _name_change(old: Story, new: Story, change: Change, changes: Sequence[Change]) -> str:
    """``another shape, against its formula``: said where the model has the same layers, and the input other sizes."""
    is_same = [fact.spec.shape for fact in old.trace.inputs] == [fact.spec.shape for fact in new.trace.inputs]
    is_edited = any(other.what not in ("moved", "size", "settings", "frozen", "trainable") for other in changes)
    ran = change.old is not None and old.rows[change.old].status == "ran"
    against = change.what == "size" and change.expected is False and ran and not (is_same or is_edited)
    return _KINDS[change.what] + (", against its formula" if against else "")


def _pair(
    old: Story, new: Story, words: Mapping[tuple[int | None, int | None], Sequence[str]]
) -> Iterator[tuple[Row | None, Row | None]]:
    known = {(row.path, row.call_index): row for row in old.rows if row.kind == "module"}
    removed = [old.rows[was] for was, now in words if now is None and was is not None]
    for row in new.rows:
        if row.kind != "module":
            continue
        before = known.get((row.path, row.call_index))
        while before is not None and removed and removed[0].index < before.index:
            yield removed.pop(0), None
        yield before, row
    yield from ((row, None) for row in removed)


def _write(old: Story, new: Story, before: Row | None, after: Row | None, words: str) -> DiffLine:
    was, now = _describe(old, before, words), _describe(new, after, words)
    settings = ("", "")
    if before and after and (_KINDS["settings"] in words or (words and was[0] == now[0])):
        settings = find_settings(old, before, new, after)
    row = after or before
    has_moved = before is not None and after is not None and before.outputs != after.outputs
    return DiffLine(
        plain(row.path) if row is not None else "", words, was, now, (plain(settings[0]), plain(settings[1])), has_moved
    )


def _describe(story: Story, row: Row | None, words: str) -> tuple[str, str, str]:
    """``("Conv2d 3→8, k3 p1", "[2, 8, 8, 8]", "224 params")``; a status in place of sizes where there are none."""
    if row is None:
        return "", "", ""
    sizes = ", ".join(str(list(spec.shape)) for spec in row.outputs)
    count = row.num_params if words in _WHOLE else row.own_params  # what is in it has no line of its own
    state = sizes if row.status == "ran" else labels.format_status(row, story)
    return labels.format_type(story, row), state, f"{format_params(count)} params" if count else ""


def _close(lines: Iterable[DiffLine]) -> Iterator[DiffLine]:
    """Leave out what is in a module that was added or removed as a whole; its line has the number of rows."""
    whole: DiffLine | None = None
    for line in lines:
        if whole is not None and line.words == whole.words and line.path.startswith(f"{whole.path}."):
            whole = whole._replace(num_inside=whole.num_inside + 1)
            continue
        if whole is not None:
            yield whole
        whole = line if line.words in _WHOLE else None
        if whole is None:
            yield line
    if whole is not None:
        yield whole


def _join_blocks(lines: Iterable[DiffLine]) -> Iterator[DiffLine]:
    """Write blocks of a list that follow each other and changed alike once: ``blocks.0–3``."""
    waiting: list[tuple[str, int, list[DiffLine]]] = []
    for key, run in groupby(lines, key=lambda line: _split(line.path)[:2]):
        block = list(run)
        if waiting and (key[0] != waiting[0][0] or key[1] != waiting[-1][1] + 1 or not _are_alike(waiting[0], block)):
            yield from _join(waiting)
            waiting = []
        if key[1] < 0:
            yield from block
        else:
            waiting.append((*key, block))
    yield from _join(waiting)


def _split(path: str) -> tuple[str, int, str]:
    """``("blocks.", 3, ".norm")``, at the first number; -1 where there is none."""
    parts = path.split(".")
    at = next((at for at, part in enumerate(parts) if part.isdecimal()), None)
    if at is None:
        return path, -1, ""
    return ".".join([*parts[:at], ""]), int(parts[at]), "".join(f".{part}" for part in parts[at + 1 :])


def _are_alike(first: tuple[str, int, list[DiffLine]], block: Sequence[DiffLine]) -> bool:
    one, two = ([(_split(line.path)[2], *line[1:]) for line in lines] for lines in (first[2], block))
    return one == two


def _join(blocks: Sequence[tuple[str, int, list[DiffLine]]]) -> Iterator[DiffLine]:
    if len(blocks) == 1:
        yield from blocks[0][2]
    elif blocks:
        prefix, first, lines = blocks[0]
        for line in lines:
            path = f"{prefix}{first}–{blocks[-1][1]}{_split(line.path)[2]}"
            yield line._replace(path=path, num_blocks=len(blocks))
