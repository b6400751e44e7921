"""Story + View -> the folded, capped tree that every renderer takes.

What repeats is one node, what is flagged, failed or different stands by itself, and what is left out is said where it
is missing. No strings for people are made here but the names that folding itself needs (``layer.0–11``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from .facts import Flag, Row, Story, View

__all__ = [
    "GroupNode",
    "HiddenNode",
    "Node",
    "Outline",
    "RowNode",
    "Step",
    "Totals",
    "build_outline",
    "visible",
    "walk",
]

#: Longest pattern of siblings that is looked for when they take turns: ``norm, attn, norm, mlp`` twelve times.
_LONGEST_PATTERN = 8
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Totals:
    """What a group of rows adds up to; parameters that they share are counted once, ``None`` is unknown."""

    num_params: int
    trainable_params: int
    mult_adds: int | None
    activation_bytes: int | None


@dataclass(frozen=True, slots=True)
class RowNode:
    """One row.

    Attributes:
        row: Index of the row.
        name: Its path below the row it is nested in; for an operation its name; ``""`` for the model itself.
        is_open: Whether what is in it is shown without being asked for.
        children: What is nested in it.
        flags: Findings on this row.
        num_inside: Rows of the story below it that the view could show, folded and hidden ones too.
        flags_inside: Findings on rows below it.
        ops: Operations directly in it that the view does not show, as row indices.
    """

    row: int
    name: str
    is_open: bool = False
    children: tuple[Node, ...] = ()
    flags: tuple[Flag, ...] = ()
    num_inside: int = 0
    flags_inside: int = 0
    ops: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupNode:
    """Identical siblings.

    Attributes:
        name: What their names have in common: ``"layer.0–11"``, ``"cell"``.
        types: Class names of one block: ``("BertLayer",)``, ``("Linear", "ReLU")``.
        members: Row indices, a tuple per block.
        same_module: Whether the blocks are calls of the same modules.
        totals: Of all blocks.
        is_open: Whether the block is shown without being asked for.
        block: The first block, as an example of all.
        num_inside: Rows of the story that this node stands for.
    """

    name: str
    types: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    same_module: bool
    totals: Totals
    is_open: bool = False
    block: tuple[Node, ...] = ()
    num_inside: int = 0
    flags_inside: int = 0


@dataclass(frozen=True, slots=True)
class HiddenNode:
    """Rows that are left out at this place because the page would be too long.

    Attributes:
        num_rows: Rows of the story, those below them too.
        first, last: Indices of the first and last sibling left out.
    """

    num_rows: int
    first: int
    last: int


Node: TypeAlias = "RowNode | GroupNode | HiddenNode"


@dataclass(frozen=True, slots=True)
class Outline:
    """The tree to show.

    Attributes:
        nodes: The model (and what was called outside it).
        num_nodes: Nodes in the tree.
        num_rows: Rows of the story.
        num_hidden: Rows that are in no node of the tree, because of ``View.max_rows``.
        num_ops: Operations that are not shown, because of ``View.ops``.
    """

    nodes: tuple[Node, ...]
    num_nodes: int
    num_rows: int
    num_hidden: int
    num_ops: int


class Step(NamedTuple):
    """One step of a walk: a node is entered, or left after all that is in it.

    Attributes:
        node: The node.
        depth: How deep it stands in the tree, 0 for the model.
        leaving: Whether all that is in it has been walked.
        in_group: The group whose block this node is, if it is one.
    """

    node: Node
    depth: int
    leaving: bool
    in_group: GroupNode | None = None


def walk(outline: Outline) -> Iterator[Step]:
    """Walk the tree in reading order, without recursion: models may be nested deeper than Python's stack."""
    stack = [Step(node, 0, False) for node in reversed(outline.nodes)]
    while stack:
        step = stack.pop()
        yield step
        if step.leaving:
            continue
        stack.append(Step(step.node, step.depth, True, step.in_group))
        inside, group = _inside(step.node)
        stack.extend(Step(child, step.depth + 1, False, group) for child in reversed(inside))


def _inside(node: Node) -> tuple[tuple[Node, ...], GroupNode | None]:
    if isinstance(node, RowNode):
        return node.children, None
    if isinstance(node, GroupNode):
        return node.block, node
    return (), None


def visible(outline: Outline) -> Iterator[Step]:
    """Walk what stands in the open: what a closed node holds is passed over, and no step is a leaving one."""
    closed: Node | None = None
    for step in walk(outline):
        if closed is not None:
            closed = None if step.leaving and step.node is closed else closed
        elif not step.leaving:
            yield step
            closed = None if isinstance(step.node, HiddenNode) or step.node.is_open else step.node


def build_outline(story: Story, view: View, *, open_rows: int = 40) -> Outline:
    """Fold what repeats, keep apart what is flagged, and cap what is left.

    Args:
        story: Everything known.
        view: How to look at it.
        open_rows: About how many rows may stand open where ``view.depth`` is ``None``.

    Returns:
        The tree; rows that failed or carry an error or a warning stand in the open.
    """
    return _Builder(story, view, open_rows).build()


@dataclass(slots=True)
class _Draft:
    """A node while it is decided on: a row if ``members`` is empty, else a group; ``is_cut`` if not looked into."""

    row: int
    name: str
    depth: int
    parent: _Draft | None
    members: tuple[tuple[int, ...], ...] = ()
    children: list[_Draft] = field(default_factory=list)
    ops: tuple[int, ...] = ()
    is_open: bool = False
    is_cut: bool = False
    kept: bool = True
    node: Node | None = None


class _Builder:
    def __init__(self, story: Story, view: View, open_rows: int) -> None:
        self.story = story
        self.rows = story.rows
        self.view = view
        self.open_rows = open_rows
        self.flags: dict[int, list[Flag]] = {}
        for flag in story.flags:
            if 0 <= flag.row < len(self.rows):
                self.flags.setdefault(flag.row, []).append(flag)
        self.children: list[list[int]] = [[] for _ in self.rows]
        self.ops: dict[int, list[int]] = {}
        self.roots: list[int] = []
        self._place_rows()
        self.count = [1] * len(self.rows)
        self.flag_count = [0] * len(self.rows)
        self._count_inside()
        self.limit = max(1, view.max_rows)
        self.alone = self._find_alone()
        self.shape = self._shapes() if view.fold else list(range(len(self.rows)))

    def build(self) -> Outline:
        drafts = self._draft()
        self._open(drafts)
        self._cap(drafts)
        for draft in reversed(drafts):
            if draft.kept:
                draft.node = self._node(draft)
        roots = [draft for draft in drafts if draft.parent is None]
        nodes = self._with_markers(roots)
        num_shown = sum(self._weight(root) - self._hidden_weight(root) for root in roots)
        num_listed = sum(self.count[row] for row in self.roots)
        num_ops = sum(len(ops) for ops in self.ops.values())
        num_nodes = sum(draft.kept for draft in drafts)
        return Outline(nodes, num_nodes, len(self.rows), num_listed - num_shown, num_ops)

    # What there is ----------------------------------------------------------------------------------------------

    def _place_rows(self) -> None:
        """Sort rows below their parents; an operation that the view leaves out is kept aside."""
        for row in self.rows:
            parent = row.parent
            if parent is None or not 0 <= parent < row.index:
                self.roots.append(row.index)
            elif row.kind == "op" and not self.view.ops and row.status != "failed" and row.index not in self.flags:
                self.ops.setdefault(parent, []).append(row.index)
            else:
                self.children[parent].append(row.index)

    def _count_inside(self) -> None:
        for row in reversed(self.rows):
            for child in self.children[row.index]:
                self.count[row.index] += self.count[child]
                self.flag_count[row.index] += self.flag_count[child] + len(self.flags.get(child, ()))

    def _relative(self, row: Row) -> str:
        if row.kind == "op":
            return row.type_name
        if row.parent is None:
            return row.path
        above = self.rows[row.parent].path
        if above and row.path.startswith(above + "."):
            return row.path[len(above) + 1 :]
        return row.path

    def _find_alone(self) -> set[int]:
        """Rows that failed or carry an error or a warning, and all rows above them."""
        alone: set[int] = set()
        for row in self.rows:
            above = row.index if self._stands_out(row.index) else None
            while above is not None and above not in alone:
                alone.add(above)
                above = self.rows[above].parent
        return alone

    def _shapes(self) -> list[int]:
        """A number per row, equal for rows that look the same with all that is in them; one of its own if ``alone``."""
        known: dict[tuple[object, ...], int] = {}
        shapes = [0] * len(self.rows)
        costs, formulas = self.story.costs, self.story.formulas
        for row in reversed(self.rows):
            index = row.index
            if index in self.alone:
                shapes[index] = -1 - index
                continue
            key = (
                row.kind, row.type_name, row.status, row.inputs, row.outputs, row.own_params, row.num_params,
                row.trainable_params, row.extra_repr, costs.get(index), formulas.get(index),
                tuple([(flag.rule, flag.severity) for flag in self.flags.get(index, ())]),
                tuple([(self._relative(self.rows[child]), shapes[child]) for child in self.children[index]]),
            )  # fmt: skip
            shapes[index] = known.setdefault(key, len(known))
        return shapes

    # Folding ----------------------------------------------------------------------------------------------------

    def _draft(self) -> list[_Draft]:
        """Drafts level by level, parents before children.

        Once there are as many as the view allows, only what leads to a row that stands out is looked into further.
        """
        drafts = self._fold(self.roots, None, 0)
        for draft in drafts:  # it grows while it is walked
            draft.ops = () if draft.members else tuple(self.ops.get(draft.row, ()))
            if len(drafts) >= self.limit and draft.row not in self.alone:
                draft.is_cut = True
            elif draft.members:
                draft.children = [
                    _Draft(row, self._relative(self.rows[row]), draft.depth + 1, draft) for row in draft.members[0]
                ]
            else:
                draft.children = self._fold(self.children[draft.row], draft, draft.depth + 1)
            drafts.extend(draft.children)
        return drafts

    def _fold(self, rows: Sequence[int], parent: _Draft | None, depth: int) -> list[_Draft]:
        names = [self._relative(self.rows[row]) for row in rows]
        if not self.view.fold or len(rows) < 2:
            return [_Draft(row, name, depth, parent) for row, name in zip(rows, names, strict=True)]
        keys = [(self.shape[row], _DIGITS.sub("#", name)) for row, name in zip(rows, names, strict=True)]
        drafts, start = [], 0
        while start < len(rows):
            length, times = self._find_run(rows, keys, start)
            if times < 2:
                drafts.append(_Draft(rows[start], names[start], depth, parent))
                start += 1
                continue
            stop = start + length * times
            blocks = tuple(tuple(rows[at : at + length]) for at in range(start, stop, length))
            drafts.append(_Draft(rows[start], _common_name(names[start:stop]), depth, parent, blocks))
            start = stop
        return drafts

    def _find_run(self, rows: Sequence[int], keys: Sequence[tuple[int, str]], start: int) -> tuple[int, int]:
        """Find what repeats from here on: ``(siblings in a block, blocks)``; ``(1, 1)`` if nothing does.

        Two equal leaves are left as they are, for a fold would hide a line to gain none.
        """
        for length in range(1, min(_LONGEST_PATTERN, (len(rows) - start) // 2) + 1):
            if keys[start] != keys[start + length]:
                continue
            stop = start + length
            same = self.rows[rows[start]].path == self.rows[rows[stop]].path
            while (
                stop < len(rows)
                and keys[stop] == keys[stop - length]
                and (self.rows[rows[stop]].path == self.rows[rows[stop - length]].path) == same
            ):
                stop += 1
            times = (stop - start) // length
            weight = sum(self.count[row] for row in rows[start : start + length])
            if times >= 3 or (times == 2 and weight > 2):
                return length, times
        return 1, 1

    # Opening and capping ----------------------------------------------------------------------------------------

    def _open(self, drafts: Sequence[_Draft]) -> None:
        limit = self.view.depth
        if limit is None:
            limit = self._comfortable_depth(drafts)
        for draft in drafts:
            draft.is_open = draft.depth < limit and self._worth_opening(draft)
        for draft in drafts:
            if self._stands_out(draft.row) and not draft.members:
                above = draft if self.rows[draft.row].status == "failed" else draft.parent
                while above is not None and not above.is_open:
                    above.is_open = True
                    above = above.parent

    def _worth_opening(self, draft: _Draft) -> bool:
        """A group of single leaves says all there is to say in its own row."""
        if draft.is_cut:
            return bool(self._rows_inside(draft))
        if not draft.members:
            return bool(draft.children)
        return len(draft.children) > 1 or bool(draft.children[0].children)

    def _comfortable_depth(self, drafts: Sequence[_Draft]) -> int:
        """The deepest level at which no more than ``open_rows`` are in view; the model's own children always are."""
        per_level: dict[int, int] = {}
        for draft in drafts:
            per_level[draft.depth] = per_level.get(draft.depth, 0) + 1
        visible = per_level.get(0, 0) + per_level.get(1, 0)
        depth = 1
        while per_level.get(depth + 1) and visible + per_level[depth + 1] <= self.open_rows:
            depth += 1
            visible += per_level[depth]
        return depth

    def _stands_out(self, row: int) -> bool:
        return self.rows[row].status == "failed" or any(f.severity != "note" for f in self.flags.get(row, ()))

    def _cap(self, drafts: Sequence[_Draft]) -> None:
        """Keep as many as the view allows: those that stand out and all above them first, then level by level."""
        if len(drafts) <= self.limit:
            return
        order = sorted(drafts, key=lambda draft: bool(draft.members) or draft.row not in self.alone)
        for draft in order[self.limit :]:
            draft.kept = False
        for draft in drafts:
            draft.kept = draft.kept and (draft.parent is None or draft.parent.kept)

    # Freezing ---------------------------------------------------------------------------------------------------

    def _weight(self, draft: _Draft) -> int:
        if not draft.members:
            return self.count[draft.row]
        return sum(self.count[row] for block in draft.members for row in block)

    def _hidden_weight(self, draft: _Draft) -> int:
        """Rows below a kept draft that the cap left out; those of folded siblings are shown by their example."""
        hidden, stack = 0, [draft]
        while stack:
            at = stack.pop()
            if not at.kept:
                hidden += self._weight(at)
            elif at.is_cut:
                hidden += sum(map(self.count.__getitem__, self._rows_inside(at)))
            else:
                stack.extend(at.children)
        return hidden

    def _rows_inside(self, draft: _Draft) -> Sequence[int]:
        return draft.members[0] if draft.members else self.children[draft.row]

    def _markers(self, draft: _Draft) -> tuple[Node, ...]:
        """What stands in a node: its kept children, and a marker wherever some are left out."""
        rows = self._rows_inside(draft)
        if draft.is_cut and rows:
            return (HiddenNode(sum(map(self.count.__getitem__, rows)), rows[0], rows[-1]),)
        return self._with_markers(draft.children)

    def _with_markers(self, drafts: Sequence[_Draft]) -> tuple[Node, ...]:
        nodes: list[Node] = []
        run: list[_Draft] = []
        for draft in [*drafts, None]:
            if draft is not None and not draft.kept:
                run.append(draft)
                continue
            if run:
                last = run[-1].members[-1][-1] if run[-1].members else run[-1].row
                nodes.append(HiddenNode(sum(map(self._weight, run)), run[0].row, last))
                run = []
            if draft is not None and draft.node is not None:
                nodes.append(draft.node)
        return tuple(nodes)

    def _node(self, draft: _Draft) -> Node:
        inside = self._markers(draft)
        if draft.members:
            return self._group(draft, inside)
        return RowNode(
            draft.row, draft.name, draft.is_open, inside, tuple(self.flags.get(draft.row, ())),
            self.count[draft.row] - 1, self.flag_count[draft.row], draft.ops,
        )  # fmt: skip

    def _group(self, draft: _Draft, inside: tuple[Node, ...]) -> GroupNode:
        every = [row for block in draft.members for row in block]
        first, second = draft.members[0][0], draft.members[1][0]
        flags = sum(self.flag_count[row] + len(self.flags.get(row, ())) for row in every)
        return GroupNode(
            draft.name, tuple(self.rows[row].type_name for row in draft.members[0]), draft.members,
            self.rows[first].path == self.rows[second].path, self._totals(every), draft.is_open, inside,
            self._weight(draft), flags,
        )  # fmt: skip

    def _totals(self, rows: Sequence[int]) -> Totals:
        macs: int | None = 0
        saved: int | None = 0
        for row in rows:
            if self.rows[row].status in ("uncalled", "unreached"):
                continue
            cost = self.story.costs.get(row)
            here = cost.mult_adds if cost else None
            macs = None if macs is None or here is None else macs + here
            here = cost.activation_bytes if cost else None
            saved = None if saved is None or here is None else saved + here
        params, trainable = self._count_params(rows)
        return Totals(params, trainable, macs, saved)

    def _count_params(self, rows: Sequence[int]) -> tuple[int, int]:
        """Scalars of all parameters of these rows, and those that train; shared ones once."""
        seen: dict[int, Row] = {}
        for index in rows:
            row = self.rows[index]
            if row.kind == "module":
                seen.setdefault(-1 - index if row.module is None else row.module, row)
        trace = self.story.trace
        if not any(len(param.names) > 1 for param in trace.params):
            return sum(row.num_params for row in seen.values()), sum(row.trainable_params for row in seen.values())
        modules = [module for module in seen if module >= 0]
        visited: set[int] = set(modules)
        params: set[int] = set()
        while modules:
            module = trace.modules[modules.pop()]
            params.update(module.params)
            new = [child for child in module.children if child not in visited]
            visited.update(new)
            modules.extend(new)
        facts = [trace.params[p] for p in params if trace.params[p].kind == "parameter"]
        return sum(p.num for p in facts), sum(p.num for p in facts if p.trainable)


def _common_name(names: Sequence[str]) -> str:
    """What equal siblings are called together.

    Example:
        >>> _common_name(["layer.0", "layer.1", "layer.2"])
        'layer.0–2'
        >>> _common_name(["cell", "cell"])
        'cell'
        >>> _common_name(["0.norm", "0.attn", "1.norm", "1.attn"])
        '0.norm … 1.attn'
    """
    if len(set(names)) == 1:
        return names[0]
    parts = [_DIGITS.split(name) for name in names]
    varying = {at for other in parts for at, piece in enumerate(other) if piece != (parts[0] + [""] * 99)[at]}
    if len({len(other) for other in parts}) != 1 or len(varying) != 1:
        return f"{names[0]} … {names[-1]}"
    at = varying.pop()
    if at % 2 == 0:
        return f"{names[0]} … {names[-1]}"
    spans = _spans(sorted({int(other[at]) for other in parts}))
    return "".join(parts[0][:at]) + spans + "".join(parts[0][at + 1 :])


def _spans(numbers: Sequence[int]) -> str:
    """Sorted numbers as people write them: ``0–3, 5, 7–9``; more than six pieces are cut in the middle."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1] = [pieces[-1][0], number]
        else:
            pieces.append([number])
    words = ["–".join(map(str, piece)) for piece in pieces]
    return ", ".join(words if len(words) <= 6 else [*words[:3], "…", *words[-2:]])
