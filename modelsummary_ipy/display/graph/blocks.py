"""Story -> blocks and arrows, level by level: what a picture shows, before it is laid out or written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from modelsummary_ipy.display.outline import GroupNode, Node, RowNode, build_outline
from modelsummary_ipy.display.render import labels
from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.display.render.size_cells import format_formula, format_size
from modelsummary_ipy.records.dataflow import Dataflow, Origin, name_root
from modelsummary_ipy.records.summary import Row, Story
from modelsummary_ipy.records.trace import Call, Link, TensorSpec, zip_leaves
from modelsummary_ipy.records.view import View

#: Ends of arrows that are no block: what goes into a graph, and what comes out of it.
INPUT, OUTPUT = -1, -2
#: How operations that join tensors are drawn; any other is drawn by its name.
_SIGNS = {"add": "+", "add_": "+", "iadd": "+", "sub": "−", "mul": "×", "mul_": "×", "imul": "×"}
_MOST_BLOCKS = 400


@dataclass(frozen=True, slots=True)
class Block:
    """A row, a group of rows that are alike, or an operation that joins tensors.

    Attributes:
        key: Index of its first call: unique in the whole picture, in the order in which they ran.
        name: ``"conv1"``; ``""`` for an operation.
        kind: Its type, or the sign of an operation: ``"BasicBlock"``, ``"+"``.
        size: What it gives, as a formula of the input's sizes where that is known.
        is_new_size: Whether that is another size than what it was given.
        inside: What is drawn in it; ``None`` for a block that is not opened.
        is_op: Whether it is an operation.
    """

    key: int
    name: str
    kind: str
    size: str = ""
    is_new_size: bool = False
    inside: Graph | None = None
    is_op: bool = False


@dataclass(frozen=True, slots=True)
class Arrow:
    """A tensor that one block gives and another reads.

    Attributes:
        source, target: Keys of blocks, ``INPUT`` and ``OUTPUT``.
        label: The name of an input, where there are several.
        into: The names of the target's inputs that it is.
    """

    source: int
    target: int
    label: str = ""
    into: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """The blocks of one level.

    Attributes:
        name: ``""`` for the model.
        kind: ``"UNet"``.
        blocks: In the order in which they ran.
        arrows: Between them, the level's input and its output.
        given: Names and sizes of the input.
    """

    name: str
    kind: str
    blocks: tuple[Block, ...]
    arrows: tuple[Arrow, ...]
    given: tuple[str, ...] = ()


def build_graph(story: Story, depth: int) -> Graph:
    """Build the blocks of a picture.

    Args:
        depth: Levels that are opened; lists of modules are no level.
    """
    outline = build_outline(story, View(depth=depth, max_rows=_MOST_BLOCKS))
    return _Builder(story).build(outline.nodes, depth)


class _Builder:
    def __init__(self, story: Story) -> None:
        self._story = story
        self._calls = story.trace.calls
        self._flow = Dataflow(story.trace)
        self._joins: set[int] = set()
        self._ops: dict[int, list[Call]] = {}
        for call in self._calls:
            if call.kind == "op" and call.parent is not None:
                self._ops.setdefault(call.parent, []).append(call)

    def build(self, nodes: Sequence[Node], depth: int) -> Graph:
        root = next((node for node in nodes if isinstance(node, RowNode)), None)
        if root is None or self._story.rows[root.row].call is None:
            return Graph("", plain(self._story.trace.model_type), (), ())
        return self._level("", self._story.rows[root.row], root.children, depth)

    # -- one level ----------------------------------------------------------------------------------------------------

    def _level(self, name: str, row: Row, nodes: Sequence[Node], depth: int) -> Graph:
        assert row.call is not None
        parent = self._calls[row.call]
        joins = self._find_joins(parent)
        blocks: list[Block] = []
        owner: dict[int, int] = {}
        arrows: dict[tuple[int, int, str], dict[str, None]] = {}
        for calls, block in self._blocks(nodes, depth):
            blocks.append(block)
            owner.update(dict.fromkeys(calls, block.key))
        for call in joins:
            sign = _SIGNS.get(call.type_name, plain(call.type_name))
            blocks.append(Block(call.index, "", sign, *self._size(self._story.row_of_call.get(call.index)), is_op=True))
            owner[call.index] = call.index
        for index, key in sorted(owner.items()):
            for spec, link in zip(self._calls[index].inputs, self._calls[index].input_links, strict=False):
                for end in self._ends(parent, [link], owner, key):
                    arrows.setdefault(end, {})[name_root(spec.name)] = None
        for end in self._ends(parent, parent.output_links, owner, OUTPUT):
            arrows.setdefault(end, {})
        given = tuple(f"{plain(spec.name)} {size}".strip() for spec, size in self._given(row))
        blocks.sort(key=lambda block: block.key)
        drawn = tuple(Arrow(*end, tuple(into)) for end, into in arrows.items())
        return Graph(name, plain(row.type_name), tuple(blocks), drawn, given)

    def _blocks(self, nodes: Iterable[Node], depth: int, above: str = "") -> Iterator[tuple[list[int], Block]]:
        """Yield the calls that each block stands for, and the block; a list of modules is no block.

        Args:
            above: What is written before their names: the list that they are in, ``"downs."``.
        """
        for node in nodes:
            if isinstance(node, GroupNode):
                members = (self._story.rows[row].call for block in node.members for row in block)
                calls = [call for call in members if call is not None]
                if calls:
                    yield calls, self._group(node, calls[0], depth, above)
                else:
                    yield from self._blocks((child for child in node.block if node.num_inside), depth, above)
            elif isinstance(node, RowNode):
                row = self._story.rows[node.row]
                if row.call is None:
                    yield from self._blocks(node.children, depth, f"{above}{plain(node.name)}.")
                    continue
                name, kind = labels.format_name(self._story, node, row)
                name = above + name if row.kind == "module" else name
                inside = self._level(name, row, node.children, depth - 1) if self._opens(node, depth) else None
                yield [row.call], Block(row.call, name, kind, *self._size(node.row), inside, row.kind == "op")

    def _group(self, node: GroupNode, first: int, depth: int, above: str) -> Block:
        name, kind = labels.format_group(self._story, node)
        name = above + name
        alone = node.block[0] if len(node.block) == 1 else None
        inside = None
        if isinstance(alone, RowNode) and self._opens(alone, depth):
            inside = self._level(f"{name} ·", self._story.rows[alone.row], alone.children, depth - 1)
        size, is_new = self._size(node.members[-1][-1])
        return Block(first, f"{name} ·", kind, size, is_new, inside)

    def _opens(self, node: RowNode, depth: int) -> bool:
        return depth > 1 and any(True for _ in self._blocks(node.children, 1))

    # -- arrows -------------------------------------------------------------------------------------------------------

    def _find_joins(self, parent: Call) -> list[Call]:
        """The operations directly in a call that read more than one thing; all others are looked through."""
        found = []
        for call in self._ops.get(parent.index, ()):
            if len(self._origins(parent, call.input_links)) > 1:
                self._joins.add(call.index)
                found.append(call)
        return found

    def _origins(self, parent: Call, links: Sequence[Link | None]) -> tuple[Origin, ...]:
        return self._flow.origins(parent, links, lambda call: call.kind == "op" and call.index not in self._joins)

    def _ends(
        self, parent: Call, links: Sequence[Link | None], owner: dict[int, int], target: int
    ) -> Iterator[tuple[int, int, str]]:
        """Yield source, target and label of an arrow for each thing that flowed into tensors."""
        for origin in self._origins(parent, links):
            source = INPUT if isinstance(origin, str) else owner.get(origin)
            if source is not None and source != target:
                label = plain(origin) if isinstance(origin, str) and origin != "input" else ""
                yield source, target, label

    # -- sizes --------------------------------------------------------------------------------------------------------

    def _size(self, index: int | None) -> tuple[str, bool]:
        """What a row gives, its first tensor, and whether that is another size than the first it was given."""
        if index is None or not self._story.rows[index].outputs:
            return "", False
        row = self._story.rows[index]
        formula = next(iter(self._story.formulas.get(index, ())), None)
        text = format_formula(formula) if formula else format_size(row.outputs[0].shape)
        more = " …" if len(row.outputs) > 1 else ""
        return text + more, not row.inputs or row.inputs[0].shape != row.outputs[0].shape

    def _given(self, row: Row) -> Iterator[tuple[TensorSpec, str]]:
        for spec, formula in zip_leaves(row.inputs, self._story.input_formulas.get(row.index, ())):
            yield spec, format_formula(formula) if formula else format_size(spec.shape)


def flatten(graph: Graph) -> list[tuple[int, Block]]:
    """List the arrows between blocks that are not opened, past the frames around them: what is read, and by whom.

    ``INPUT`` is the model's input; what is read by the model's output has no block.
    """
    found: dict[tuple[int, int], Block] = {}
    _flatten(graph, {"": [INPUT]}, found)
    return [(source, block) for (source, _), block in found.items()]


def _flatten(graph: Graph, given: dict[str, list[int]], found: dict[tuple[int, int], Block]) -> list[int]:
    """Follow the arrows of one level; ``given`` has what each of its inputs is, what its output is comes back."""
    made: dict[int, list[int]] = {}
    every = list(dict.fromkeys(key for keys in given.values() for key in keys))

    def sources(arrow: Arrow) -> list[int]:
        return given.get(arrow.label, every) if arrow.source == INPUT else made.get(arrow.source, [])

    for block in graph.blocks:
        arrows = [arrow for arrow in graph.arrows if arrow.target == block.key]
        if block.inside is None:
            found.update({(source, block.key): block for arrow in arrows for source in sources(arrow)})
            made[block.key] = [block.key]
            continue
        inner: dict[str, list[int]] = {}
        for arrow in arrows:
            for name in arrow.into or ("",):
                inner.setdefault(name, []).extend(sources(arrow))
        made[block.key] = _flatten(block.inside, inner, found)
    return list(dict.fromkeys(key for arrow in graph.arrows if arrow.target == OUTPUT for key in sources(arrow)))
