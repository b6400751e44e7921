"""Where a row's input comes from, in words, where it is not simply the row before it: ``← d3, u3``."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import partial

from modelsummary_ipy.display.outline import GroupNode, HiddenNode, Node
from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.records.dataflow import Dataflow, Origin
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.summary import Row, Story
from modelsummary_ipy.records.trace import Call, Link, path_below

#: So many names are written; of more, how many others there are.
_MOST = 4
#: So many blocks of a group are asked what they read: they are alike, and each may read all before it.
_MOST_BLOCKS = 200
_NUMBERED = re.compile(r"(.*?)(\d+)")
_BEFORE = "the one before"
_NOTHING: tuple[str, ...] = ()


class Reads:
    """Finds what each row reads, as names.

    Args:
        ops: Whether operations are rows; where they are not, they are looked through to the modules behind them.
    """

    def __init__(self, story: Story, *, ops: bool) -> None:
        self._story = story
        self._calls = story.trace.calls
        self._ops = ops
        self._flow = Dataflow(story.trace)
        self._suffixes: dict[int | None, Counter[str]] = {}
        self._origins: dict[int, tuple[Origin, ...]] = {}  # a page asks for them each time that it tries how much fits

    def describe(self, node: Node) -> str:
        """``"← d3, u3"``, ``"returns attend, mlp"`` or both; ``""`` where there is nothing to say."""
        if isinstance(node, HiddenNode):
            return ""
        if isinstance(node, GroupNode):
            reads, returned = self.group(node), _NOTHING
        else:
            row = self._story.rows[node.row]
            reads, returned = self.row(row), self.returned(row)
        parts = (f"← {', '.join(reads)}" if reads else "", f"returns {', '.join(returned)}" if returned else "")
        return " · ".join(filter(None, parts))

    def row(self, row: Row) -> tuple[str, ...]:
        """What a row reads, in the order of its arguments; ``()`` where that is simply the row before it."""
        call = self._call_of(row)
        if call is None or call.parent is None:
            return ()
        found = self.origins(call)
        return () if self._is_plain(call, found) else self._name_all(call.parent, found)

    def returned(self, row: Row) -> tuple[str, ...]:
        """What flows into a row's output from inside; ``()`` where that is simply the last row in it."""
        call = self._call_of(row)
        if call is None or call.kind != "module" or call.status != "ran":
            return ()
        inside = self._inside.get(call.index, ())
        if not inside:
            return ()
        found = self._find(call, call.output_links)
        is_last = found in ((), (inside[-1],), self._behind(inside[-1]))
        return () if is_last else self._name_all(call.index, found)

    def group(self, node: GroupNode) -> tuple[str, ...]:
        """What the blocks of a group read from outside it; ``()`` where each simply follows the one before it."""
        first = self._call_of(self._story.rows[node.members[0][0]])
        outside = self._outside(node)
        if outside is None or first is None or first.parent is None:
            return ()
        found, follows = outside
        return (*self._name_all(first.parent, found), *([_BEFORE] if follows else []))

    def _outside(self, node: GroupNode) -> tuple[tuple[Origin, ...], bool] | None:
        """What flows into a group, and whether its blocks read the ones before them; ``None`` for a plain chain."""
        blocks = [[self._call_of(self._story.rows[row]) for row in block] for block in node.members]
        inside = {call.index for block in blocks for call in block if call is not None}
        first = blocks[0][0]
        if first is None or first.parent is None:
            return None
        outside: dict[Origin, None] = {}
        is_chain, follows, before = True, False, frozenset[int]()
        for block in blocks[:_MOST_BLOCKS]:
            for call in filter(None, block):
                found = self.origins(call)
                is_chain = is_chain and self._is_plain(call, found)
                follows = follows or bool(before.intersection(o for o in found if isinstance(o, int)))
                outside.update(dict.fromkeys(origin for origin in found if origin not in inside))
            before = frozenset(call.index for call in filter(None, block))
        if is_chain:
            return None
        if follows:  # what comes right before the group is to its first block what that block is to the next
            beside = self._inside[first.parent]
            place = bisect_left(beside, first.index)
            outside.pop(beside[place - 1] if place else -1, None)
        return tuple(outside), follows

    def sources(self, row: Row) -> tuple[int, ...] | None:
        """The rows that a row reads, and the row around it for what that was given; ``None`` for the row before it."""
        call = self._call_of(row)
        if call is None or call.parent is None:
            return ()
        found = self.origins(call)
        return None if found and self._is_plain(call, found) else self._rows_of(call.parent, found)

    def group_sources(self, node: GroupNode) -> tuple[int, ...] | None:
        """The same for the blocks of a group, what they read of each other left out."""
        first = self._call_of(self._story.rows[node.members[0][0]])
        outside = self._outside(node)
        if outside is None or first is None or first.parent is None:
            return None
        return self._rows_of(first.parent, outside[0])

    def _rows_of(self, parent: int, found: Sequence[Origin]) -> tuple[int, ...]:
        calls = (parent if isinstance(origin, str) else origin for origin in found)
        return tuple(dict.fromkeys(self._story.row_of_call[call] for call in calls))

    def origins(self, call: Call) -> tuple[Origin, ...]:
        """What a call reads, beside it or in the call around it."""
        found = self._origins.get(call.index)
        if found is None:
            parent = None if call.parent is None else self._calls[call.parent]
            found = self._origins[call.index] = self._find(parent, call.input_links, call)
        return found

    def _find(
        self, parent: Call | None, links: Sequence[Link | None], reader: Call | None = None
    ) -> tuple[Origin, ...]:
        return self._flow.origins(parent, links, partial(self._is_looked_through, reader))

    def _is_looked_through(self, reader: Call | None, call: Call) -> bool:
        """Whether what a call gave is said to come from what it read: hidden operations, and layers that hand on.

        Of ``Identity`` the tensor is that of the layer before it, which others may read as well (a skip). The first row
        that reads it reads the ``Identity``, the others what made it.
        """
        if call.kind == "op":
            return not self._ops
        if not self._flow.hands_on(call):
            return False
        first = self._first_reader(call)
        return first is not None and first is not reader

    def _first_reader(self, call: Call | None) -> Call | None:
        """The first row that reads what a call made, through hidden operations."""
        while call is not None:
            readers = self._flow.reads.get(Link(call.index, 0), ())
            call = readers[0][0] if readers else None
            if call is None or call.kind == "module" or self._ops:
                return call
        return None

    def _behind(self, index: int) -> tuple[Origin, ...] | None:
        """What a layer was given that hands it on; ``None`` for others."""
        call = self._calls[index]
        return self.origins(call) if self._flow.hands_on(call) else None

    def _call_of(self, row: Row) -> Call | None:
        return None if row.call is None else self._calls[row.call]

    # -- the row before -----------------------------------------------------------------------------------------------

    @lazy
    def _inside(self) -> dict[int, list[int]]:
        """The calls directly in each call that are rows, in order."""
        found: dict[int, list[int]] = {}
        for call in self._calls:
            if call.parent is not None and (self._ops or call.kind == "module"):
                found.setdefault(call.parent, []).append(call.index)
        return found

    def _is_plain(self, call: Call, found: tuple[Origin, ...]) -> bool:
        """Whether a call reads the one before it alone, or as the first one what the call around it was given."""
        assert call.parent is not None
        beside = self._inside.get(call.parent, [])
        place = bisect_left(beside, call.index)
        if place or not found:
            return not found or found in ((beside[place - 1],), self._behind(beside[place - 1]))
        given = self._find(self._calls[call.parent], self._calls[call.parent].input_links[:1])
        return found[:1] == given and all(isinstance(origin, str) for origin in found)

    # -- names --------------------------------------------------------------------------------------------------------

    def _name_all(self, parent: int, found: Sequence[Origin]) -> tuple[str, ...]:
        names = [plain(origin) if isinstance(origin, str) else self._name(parent, origin) for origin in found]
        names = list(dict.fromkeys(names))
        names = _join_numbered(names) if len(names) > 2 else names
        return tuple(names) if len(names) <= _MOST else (*names[: _MOST - 1], f"{len(names) - _MOST + 1} more")

    def _name(self, parent: int, origin: int) -> str:
        """The end of a call's path that no other call beside it has: ``conv1``, ``layers.3``, ``relu call 2``."""
        call = self._calls[origin]
        path, earlier, kind = self._path_below(call), call.call_index, call.type_name
        if call.module == 0 and self._story.trace.method not in ("", "forward"):
            kind, earlier = "forward", earlier - 1  # the first call of the model is the method's
        again = f" call {earlier + 1}" if earlier > 0 else ""
        if call.kind == "op" or not path:
            return plain(kind) + again
        if call.parent != parent:
            return plain(call.path) + again
        if parent not in self._suffixes:
            beside = {self._path_below(self._calls[index]) for index in self._inside.get(parent, ())}
            self._suffixes[parent] = Counter(end for other in beside for end in _ends(other))
        ends = [end for end in _ends(path) if self._suffixes[parent][end] == 1 and not end[:1].isdigit()]
        above = self._calls[parent].path.rpartition(".")[2]
        return plain(ends[0] if ends else f"{above}.{path}" if above else path) + again

    def _path_below(self, call: Call) -> str:
        return path_below(call.path, "" if call.parent is None else self._calls[call.parent].path)


def _ends(path: str) -> list[str]:
    """``["conv", "2.conv", "blocks.2.conv"]``."""
    parts = path.split(".")
    return [".".join(parts[at:]) for at in range(len(parts) - 1, -1, -1)]


def _join_numbered(names: list[str]) -> list[str]:
    """Write three or more names in a row that count up as one: ``denselayer1–5``."""
    joined: list[str] = []
    run: list[str] = []
    for name in [*names, ""]:
        if run and not _follows(run[-1], name):
            joined += run if len(run) < 3 else [f"{run[0]}–{_NUMBERED.fullmatch(run[-1])[2]}"]  # type: ignore[index]  # every name of a run ends in a number
            run = []
        run.append(name)
    return joined


def _follows(one: str, two: str) -> bool:
    """``layers.3`` and ``layers.4``."""
    first, second = _NUMBERED.fullmatch(one), _NUMBERED.fullmatch(two)
    return first is not None and second is not None and (first[1], int(first[2]) + 1) == (second[1], int(second[2]))
