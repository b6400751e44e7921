"""The nodes of the tree, and how to walk it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from modelsummary_ipy.records.summary import Flag


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
        is_open: Whether it is open.
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
        is_open: Whether the block is open.
        block: The first block, as an example of all.
        num_inside: Number of rows of the story in this node.
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
        from_magic: As in the view.
    """

    nodes: tuple[Node, ...]
    num_nodes: int
    num_rows: int
    num_hidden: int
    num_ops: int
    from_magic: bool = False


class Step(NamedTuple):
    """One step of a walk: a node is entered, or left after all that is in it.

    Attributes:
        node: The node.
        depth: Its depth in the tree, 0 for the model.
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
    """Walk what is visible: what is in a closed node is skipped, and no step is a leaving one."""
    closed: Node | None = None
    for step in walk(outline):
        if closed is not None:
            closed = None if step.leaving and step.node is closed else closed
        elif not step.leaving:
            yield step
            closed = None if isinstance(step.node, HiddenNode) or step.node.is_open else step.node
