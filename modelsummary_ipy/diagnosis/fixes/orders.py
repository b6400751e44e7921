"""Edits of one expression that give dims, sizes or arguments another order, or keep a dim that was dropped."""

from __future__ import annotations

import ast
import itertools
import math
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


def keep_dim(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Keep the dim of a mean or a sum: ``x - x.mean(dim=1, keepdim=True)``."""
    if not isinstance(node, ast.Call) or read_name(node.func) not in REDUCTIONS or not (node.args or node.keywords):
        return
    if all(word.arg in ("dim", "axis") for word in node.keywords):
        yield f"{write(node)[:-1]}, keepdim=True)"


def turn_sides(ctx: FailureContext) -> Change:
    """Read the width where the height is read, or before it: ``self.cols[:W]``, ``merge(windows, H, W)``."""
    change = take_numbers(ctx)

    def turn(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        words = [*map(write, node.args)] if isinstance(node, ast.Call) and not node.keywords else []
        for at, (one, other) in enumerate(itertools.pairwise(words)):
            if SIDES.get(one) == other:
                yield f"{write(node.func)}({', '.join([*words[:at], other, one, *words[at + 2 :]])})"  # type: ignore[attr-defined]  # a call
        if isinstance(node, ast.Name) and node.id in SIDES:
            yield from (text for text in change(node, around, write) if text in SIDES)

    return turn


def swap_arguments(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Give a module of the user's its two tensors the other way round: ``attend(latents, data)``."""
    if isinstance(node, ast.Call) and len(node.args) == 2 and not node.keywords:
        is_module = isinstance(node.func, ast.Name) or read_name(getattr(node.func, "value", node.func)) == "self"
        words = [write(item) for item in node.args if not isinstance(item, (ast.Constant, ast.Starred))]
        if len(words) == 2 and words[0] != words[1] and is_module:
            yield f"{write(node.func)}({words[1]}, {words[0]})"


def take_own_size(ctx: FailureContext) -> Change:
    """Read a size of the tensor that is parted, where one of another is read: ``heat.view(B, heat.size(1), -1)``."""
    assigned = [node for node in walk_function(ctx.failure.source) if isinstance(node, ast.Assign)]
    targets = {node.targets[0] for node in assigned if isinstance(node.targets[0], ast.Tuple) and is_shape(node.value)}
    places = {item.id: at for target in targets for at, item in enumerate(target.elts) if isinstance(item, ast.Name)}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        func = around.func if isinstance(around, ast.Call) else None
        at = places.get(node.id) if isinstance(node, ast.Name) else None
        is_parted = isinstance(func, ast.Attribute) and func.attr in ("view", "reshape") and func is not node
        if at and isinstance(func, ast.Attribute) and is_parted and isinstance(func.value, ast.Name):
            yield f"{write(func.value)}.size({at})"

    return change


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
