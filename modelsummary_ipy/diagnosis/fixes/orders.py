"""Edits of one expression that give dims, sizes or arguments another order, or keep a dim that was dropped."""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.rewriting import Change, Write
from modelsummary_ipy.diagnosis.failures.source_nodes import read_name
from modelsummary_ipy.diagnosis.failures.statements import list_names_before, walk_function
from modelsummary_ipy.diagnosis.fixes.dim_edits import REDUCTIONS
from modelsummary_ipy.diagnosis.fixes.list_edits import is_tensor
from modelsummary_ipy.diagnosis.fixes.number_edits import SIDES, is_shape, take_numbers
from modelsummary_ipy.records.trace import Call

#: What computes along the steps of ``[batch, channels, steps]``, or reads rows: called by its name.
_PRODUCTS = ("bmm", "matmul", "mm")
#: Of so many arguments each is exchanged with the next one alone.
_MANY = 5
#: Of sequences as wide as each other nothing tells which was to be which.
_NUM_DIMS = 3


def keep_dim(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Keep the dim of a mean or a sum: ``x - x.mean(dim=1, keepdim=True)``."""
    if not isinstance(node, ast.Call) or read_name(node.func) not in REDUCTIONS or not (node.args or node.keywords):
        return
    if all(word.arg in ("dim", "axis") for word in node.keywords):
        yield f"{write(node)[:-1]}, keepdim=True)"


def repeat_behind_first(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Repeat along a dim behind the samples: ``h.unsqueeze(1).repeat(1, T, 1)``, where ``repeat`` puts one in front."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "repeat":
        owner = write(node.func.value)
        yield f"{owner}.unsqueeze(1){write(node)[len(owner) :]}"


def turn_sides(ctx: FailureContext) -> Change:
    """Read the width where the height is read: ``self.cols[:W]``."""
    change = take_numbers(ctx)

    def turn(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Name) and node.id in SIDES:
            yield from (text for text in change(node, around, write) if text in SIDES)

    return turn


def exchange(ctx: FailureContext) -> Change:
    """Give a call two arguments each in the place of the other: ``attend(q, v, v)`` for ``(v, q, q)``."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if not isinstance(node, ast.Call) or not _is_own(node.func):
            return
        given = [*node.args, *(word.value for word in node.keywords)]
        items = [one for item in given for one in (item.elts if isinstance(item, ast.Tuple) else [item])]
        words = dict.fromkeys(write(item) for item in items if not isinstance(item, (ast.Constant, ast.Starred)))
        called, text = write(node.func), write(node)
        for one, other in itertools.combinations(words, 2) if len(words) < _MANY else itertools.pairwise(words):
            known = [ctx.failure.names[word] for word in (one, other) if word in ctx.failure.names]
            widths = {held.shape[-1] for held in known if len(held.shape) == _NUM_DIMS}
            if "(" in one and re.sub(r"\w+(?=\))", "", one) == re.sub(r"\w+(?=\))", "", other):
                continue  # self.embed(src), self.embed(tgt)
            if len({held.kind for held in known}) < 2 and (len(known) < 2 or len(widths) != 1):
                yield called + _exchange(text[len(called) :], one, other)

    return change


def _is_own(func: ast.expr) -> bool:
    """Return whether a function or a layer of the user's is called; of torch's, ``interpolate`` takes two sides."""
    is_layer = isinstance(func, (ast.Attribute, ast.Subscript)) and ast.unparse(func).startswith("self.")
    return isinstance(func, ast.Name) or is_layer or read_name(func) == "interpolate"


def _exchange(text: str, one: str, other: str) -> str:
    either = "|".join(re.escape(word) for word in sorted((one, other), key=len, reverse=True))
    return re.sub(rf"(?<![\w.])(?:{either})(?![\w(])", lambda found: other if found[0] == one else one, text)


def swap_sizes(call: Call) -> Change:
    """Part a dim in the other order: ``view(B, T, heads, width)`` for ``view(B, T, width, heads)``."""
    before, after = (specs[0].shape if specs else () for specs in (call.inputs, call.outputs))

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if not isinstance(node, ast.Call) or read_name(node.func) != call.type_name or len(node.args) != len(after):
            return
        words = [*map(write, node.args)]
        for at in range(len(words) - 2, 0, -1):
            swapped = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
            if _parts_one(before, after, at) and not any(word.isdigit() for word in words[at : at + 2]):
                yield f"{write(node.func)}({', '.join(swapped)})"

    return change


def _parts_one(before: tuple[int, ...], after: tuple[int, ...], at: int) -> bool:
    """Return whether two dims of a result, side by side, are of one dim of what was parted."""
    first, last = math.prod(after[:at]), math.prod(after[: at + 2])
    edges = [math.prod(before[:count]) for count in range(len(before) + 1)]
    return after[at] != after[at + 1] and any(a <= first and last <= b for a, b in itertools.pairwise(edges))


def take_own_size(ctx: FailureContext) -> Change:
    """Read a size of the tensor that is parted, where one of another is read: ``heat.view(B, heat.size(1), -1)``."""
    places = _list_unpacked(ctx)

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        func = around.func if isinstance(around, ast.Call) else None
        at = places[node.id][0] if isinstance(node, ast.Name) and node.id in places else 0
        is_parted = isinstance(func, ast.Attribute) and func.attr in ("view", "reshape") and func is not node
        if at and isinstance(func, ast.Attribute) and is_parted and isinstance(func.value, ast.Name):
            yield f"{write(func.value)}.size({at})"

    return change


def take_sides(ctx: FailureContext) -> Change:
    """Give a call both sides of another map: ``init(B, maps.shape[-2:])`` for ``init(B, (H, W))``."""
    places = _list_unpacked(ctx)
    sides = [name for name, (_, at) in places.items() if at > -3]
    others = [name for name in list_names_before(ctx.failure.source) if name not in places]

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Tuple) and isinstance(around, (ast.Call, ast.keyword)) and len(sides) > 1:
            yield from (f"{name}.shape[-2:]" for name in others if [*map(write, node.elts)] == sides)
        if isinstance(node, ast.Call) and set(sides) < {*map(write, node.args)} and len(sides) > 1:
            for name in others:
                words = [f"{name}.size({places[word][1]})" if word in sides else word for word in map(write, node.args)]
                yield f"{write(node.func)}({', '.join([*words, *(write(item) for item in node.keywords)])})"

    return change


def _list_unpacked(ctx: FailureContext) -> dict[str, tuple[int, int]]:
    """Find the names of sizes that a function unpacks, each with its place from the first dim and from the last."""
    nodes = [node for node in walk_function(ctx.failure.source) if isinstance(node, ast.Assign)]
    targets = [node.targets[0] for node in nodes if is_shape(node.value)]
    return {
        item.id: (at, at - len(target.elts))
        for target in targets if isinstance(target, ast.Tuple)
        for at, item in enumerate(target.elts) if isinstance(item, ast.Name)
    }  # fmt: skip


def turn_around(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Run a layer, or a product, along the other dim: ``self.pool(x.transpose(1, 2)).transpose(1, 2)``."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], (ast.Name, ast.Call)):
        return
    is_layer = isinstance(node.func, ast.Attribute) and read_name(node.func.value) == "self" and len(node.args) == 1
    if is_layer or (read_name(node.func) in _PRODUCTS and len(node.args) == 2):
        words = [f"{write(node.args[0])}.transpose(1, 2)", *map(write, node.args[1:])]
        yield f"{write(node.func)}({', '.join(words)}).transpose(1, 2)"


def take_states(ctx: FailureContext) -> Change:
    """Read the state of the last layer: ``h[-1]`` of ``_, (h, c) = self.lstm(x)``."""
    names: set[str] = set()
    for node in walk_function(ctx.failure.source):
        target = node.targets[0] if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
        if isinstance(target, ast.Tuple) and len(target.elts) == 2:
            names |= {item.id for item in ast.walk(target.elts[1]) if isinstance(item, ast.Name)}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        is_read = isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
        is_given = isinstance(around, (ast.Call, ast.List, ast.Tuple)) and getattr(around, "func", None) is not node
        if is_read and is_given:
            yield f"{write(node)}[-1]"

    return change


def fill_list(ctx: FailureContext) -> Change:
    """Begin a list with a tensor, where more is taken from it than was put in: ``skips = [x]`` for ``skips = []``."""
    names = [name for name in list_names_before(ctx.failure.source) if is_tensor(ctx, name)]

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.List) and not node.elts and isinstance(around, ast.Assign):
            yield from (f"[{name}]" for name in names)

    return change


def move_last(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Bring a dim of what a line gives a name to the end: ``pred.view(B, A, 5, H, W).movedim(2, -1)``."""
    if isinstance(around, ast.Assign) and around.value is node and isinstance(node, ast.Call):
        yield from (f"{write(node)}.movedim({dim}, -1)" for dim in (2, 1))  # boxes before channels
