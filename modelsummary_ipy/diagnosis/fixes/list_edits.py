"""Edits of one expression that take other pieces, or go through a list the other way."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.rewriting import Change, Write
from modelsummary_ipy.diagnosis.failures.source_nodes import read_name
from modelsummary_ipy.diagnosis.failures.statements import walk_function


def permute_parts(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Take pieces in another order, the nearest first: ``dt, B, C = …`` for ``B, C, dt = …``, and sizes of a split."""
    if not isinstance(node, (ast.Tuple, ast.List)) or not 1 < len(node.elts) < 5:
        return
    is_unpacked = isinstance(around, ast.Assign) and node in around.targets
    is_cut = isinstance(around, ast.Call) and read_name(around.func) in ("split", "split_with_sizes")
    if is_unpacked or is_cut:
        words, text = [*map(write, node.elts)], write(node)
        first, last = (text[0], text[-1]) if text[0] in "[(" else ("", "")
        orders = sorted(itertools.permutations(range(len(words))), key=_count_inversions)[1:]
        yield from (f"{first}{', '.join(words[at] for at in order)}{last}" for order in orders)


def _count_inversions(order: Sequence[int]) -> int:
    return sum(one > other for one, other in itertools.combinations(order, 2))


def shift_steps(ctx: FailureContext) -> Change:
    """Leave out the first step or the last one, as another tensor has it: ``ids[:, 1:]`` beside ``logits[:, :-1]``."""
    cuts = {ast.unparse(node) for node in walk_function(ctx.failure.source) if isinstance(node, ast.Slice)}
    others = ["1:", ":-1"] if ":-1" in cuts else [":-1", "1:"] if "1:" in cuts else []

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Slice) and (text := write(node)) in (":", "1:", ":-1"):
            yield from (other for other in (*others, ":") if other != text)
        is_used = isinstance(around, (ast.Attribute, ast.Call)) and getattr(around, "func", None) is not node
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and is_used:
            yield from (f"{node.id}[:, {other}]" for other in others if is_tensor(ctx, node.id))

    return change


def is_tensor(ctx: FailureContext, name: str) -> bool:
    """Return whether a name of the failing function is known to be of a tensor."""
    return name in ctx.failure.names and ctx.failure.names[name].kind == "Tensor"


def keep_order(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Go through a list as it is: ``widths`` for ``reversed(widths)``."""
    if isinstance(node, ast.Call) and read_name(node.func) == "reversed" and len(node.args) == 1:
        yield write(node.args[0])
    elif isinstance(node, ast.Subscript) and write(node.slice) == "::-1":
        yield write(node.value)


def turn_order(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Take from the other end, or go through the other way: ``widths.pop()`` for ``widths.pop(0)``."""
    yield from _pop_otherwise(node, write)
    if isinstance(node, ast.Subscript) and write(node.slice) in ("0", "-1"):
        yield f"{write(node.value)}[{'-1' if write(node.slice) == '0' else '0'}]"
    yield from _reverse(node, around, write)


def _pop_otherwise(node: ast.AST, write: Write) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "pop":
        yield f"{write(node.func)}({'' if node.args else '0'})"


def _reverse(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Go through a list the other way, in a loop or beside another list."""
    is_looped = isinstance(around, (ast.For, ast.comprehension)) and around.iter is node
    is_zipped = isinstance(around, ast.Call) and read_name(around.func) == "zip" and around.func is not node
    if isinstance(node, (ast.Name, ast.Attribute)) and (is_looped or is_zipped):
        yield f"{write(node)}[::-1]"


def take_other_part(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Take the rest, the same place of every sample, the other end first: ``x[:, n:]`` for ``x[:, :n]``."""
    if isinstance(node, ast.Slice) and node.step is None and (node.lower is None) != (node.upper is None):
        bound = node.lower or node.upper
        if bound is not None and not isinstance(bound, ast.Constant):
            yield f"{write(bound)}:" if node.lower is None else f":{write(bound)}"
    if isinstance(around, ast.Subscript) and around.slice is node and isinstance(node, ast.Name):
        yield f":, {write(node)}"
    if isinstance(node, ast.Name):
        yield from _reverse(node, around, write)


def turn_skips(ctx: FailureContext) -> Change:
    """Go through a list that the function filled from its end, or count from there: the skip connections of a U-Net."""
    nodes = walk_function(ctx.failure.source)
    filled = {read_name(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "append"}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Call) and read_name(getattr(node.func, "value", node.func)) in filled:
            yield from _pop_otherwise(node, write)
        if isinstance(node, ast.Name) and node.id in filled:
            yield from _reverse(node, around, write)
        is_place = isinstance(around, ast.Subscript) and around.slice is node and read_name(around.value) in filled
        if is_place and isinstance(node, (ast.Name, ast.BinOp)):
            yield f"-1 - {write(node)}"

    return change


def join_otherwise(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Stack what was put behind one another, and the other way round."""
    if isinstance(node, ast.Attribute) and node.attr in ("cat", "stack"):
        yield f"{write(node.value)}.{'stack' if node.attr == 'cat' else 'cat'}"
