"""Story + View -> the folded, capped tree: draft level by level, decide what is open, cap, freeze."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from modelsummary_ipy.display.outline.folding import find_shapes, split_runs
from modelsummary_ipy.display.outline.nodes import GroupNode, HiddenNode, Node, Outline, RowNode, Totals
from modelsummary_ipy.display.outline.survey import Survey
from modelsummary_ipy.records.summary import Cost, Row, Story, add_known
from modelsummary_ipy.records.view import View


def build_outline(story: Story, view: View, *, open_rows: int = 40) -> Outline:
    """Fold what repeats, keep apart what is flagged, and cap what is left.

    Args:
        open_rows: About how many rows may be open where ``view.depth`` is ``None``.

    Returns:
        The tree; rows that failed or carry an error or a warning are visible.
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
        self.survey = Survey(story, view)
        self.count = self.survey.count
        self.limit = max(1, view.max_rows)
        self.shapes = find_shapes(self.survey) if view.fold else []

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
        num_listed = sum(self.count[row] for row in self.survey.roots)
        num_ops = sum(len(ops) for ops in self.survey.ops.values())
        num_nodes = sum(draft.kept for draft in drafts)
        return Outline(nodes, num_nodes, len(self.rows), num_listed - num_shown, num_ops, self.view.from_magic)

    # Drafting -------------------------------------------------------------------------------------------------------

    def _draft(self) -> list[_Draft]:
        """Drafts level by level, parents before children.

        Once there are as many as the view allows, only nodes above a notable row are opened further.
        """
        drafts = self._fold(self.survey.roots, None, 0)
        for draft in drafts:  # it grows while it is walked
            draft.ops = () if draft.members else tuple(self.survey.ops.get(draft.row, ()))
            if len(drafts) >= self.limit and draft.row not in self.survey.alone:
                draft.is_cut = True
            elif draft.members:
                draft.children = [
                    _Draft(row, self.survey.name(row), draft.depth + 1, draft) for row in draft.members[0]
                ]
            else:
                draft.children = self._fold(self.survey.children[draft.row], draft, draft.depth + 1)
            drafts.extend(draft.children)
        return drafts

    def _fold(self, rows: Sequence[int], parent: _Draft | None, depth: int) -> list[_Draft]:
        if not self.view.fold:
            return [_Draft(row, self.survey.name(row), depth, parent) for row in rows]
        return [
            _Draft(blocks[0][0], name, depth, parent, blocks if len(blocks) > 1 else ())
            for name, blocks in split_runs(self.survey, self.shapes, rows)
        ]

    # Opening and capping --------------------------------------------------------------------------------------------

    def _open(self, drafts: Sequence[_Draft]) -> None:
        limit = self.view.depth
        if limit is None:
            limit = self._comfortable_depth(drafts)
        for draft in drafts:
            draft.is_open = draft.depth < limit and self._worth_opening(draft)
        for draft in drafts:
            if self.survey.stands_out(draft.row) and not draft.members:
                above = draft if self.rows[draft.row].status == "failed" else draft.parent
                while above is not None and not above.is_open:
                    above.is_open = True
                    above = above.parent

    def _worth_opening(self, draft: _Draft) -> bool:
        """A group of single leaves shows all there is in its own row."""
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

    def _cap(self, drafts: Sequence[_Draft]) -> None:
        """Keep as many as the view allows: notable ones and all above them first, then level by level."""
        if len(drafts) <= self.limit:
            return
        order = sorted(drafts, key=lambda draft: bool(draft.members) or draft.row not in self.survey.alone)
        for draft in order[self.limit :]:
            draft.kept = False
        for draft in drafts:
            draft.kept = draft.kept and (draft.parent is None or draft.parent.kept)

    # Freezing -------------------------------------------------------------------------------------------------------

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
        return draft.members[0] if draft.members else self.survey.children[draft.row]

    def _markers(self, draft: _Draft) -> tuple[Node, ...]:
        """What is in a node: its kept children, and a marker wherever some are left out."""
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
            draft.row, draft.name, draft.is_open, inside, tuple(self.survey.flags.get(draft.row, ())),
            self.count[draft.row] - 1, self.survey.flag_count[draft.row], draft.ops,
        )  # fmt: skip

    def _group(self, draft: _Draft, inside: tuple[Node, ...]) -> GroupNode:
        every = [row for block in draft.members for row in block]
        first, second = draft.members[0][0], draft.members[1][0]
        flags = sum(self.survey.flag_count[row] + len(self.survey.flags.get(row, ())) for row in every)
        return GroupNode(
            draft.name, tuple(self.rows[row].type_name for row in draft.members[0]), draft.members,
            self.rows[first].path == self.rows[second].path, _add_up(self.story, every), draft.is_open, inside,
            self._weight(draft), flags,
        )  # fmt: skip


def _add_up(story: Story, rows: Sequence[int]) -> Totals:
    ran = [story.costs.get(row, Cost()) for row in rows if story.rows[row].status not in ("uncalled", "unreached")]
    macs, saved = (cost.mult_adds for cost in ran), (cost.activation_bytes for cost in ran)
    return Totals(*_count_params(story, rows), add_known(*macs), add_known(*saved))


def _count_params(story: Story, rows: Sequence[int]) -> tuple[int, int]:
    """Scalars of all parameters of these rows, and those that train; shared ones once."""
    seen: dict[int, Row] = {}
    for index in rows:
        row = story.rows[index]
        if row.kind == "module":
            seen.setdefault(-1 - index if row.module is None else row.module, row)
    trace = story.trace
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
