"""Edits of one expression that give another dim, or a tensor whose dims stand elsewhere."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.rewriting import Write
from modelsummary_ipy.diagnosis.failures.source_nodes import read_name

#: What leaves one number of all along a dim.
REDUCTIONS = ("sum", "mean", "max", "min", "amax", "amin", "prod", "std", "var")
#: What runs along one dim, by the place of the dim among a method's arguments.
_ALONG_FIRST = (*REDUCTIONS, "argmax", "softmax", "log_softmax", "size", "logsumexp", "cumsum", "unbind", "unsqueeze",
                "squeeze", "select", "narrow", "index_select", "gather", "cat", "concat", "stack", "glu")  # fmt: skip
_ALONG_SECOND = ("chunk", "split", "repeat_interleave", "topk", "norm")
#: What runs along the first dim, the last one or all where none is given, and which may be meant.
_BY_DEFAULT = {
    **dict.fromkeys(("chunk", "split", "glu", "unbind"), ("-1", "1")),
    "stack": ("1", "-1"),
    **dict.fromkeys(("mean", "sum", "amax"), ("(2, 3)", "1", "-1")),
}
_NAMESPACES = ("torch", "F", "functional", "linalg")


def take_dims(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Run along another dim: ``scores.max(dim=2)`` for ``scores.max(dim=1)``."""
    if isinstance(around, ast.keyword):
        is_dim = around.arg in ("dim", "axis") and around.value is node
    else:
        is_dim = isinstance(around, ast.Call) and _read_dim(around) is node
    number = _read_number(node) if is_dim and isinstance(node, ast.expr) else None
    if number is not None:
        yield from (str(dim) for dim in ((1, 2, 3, 0) if number >= 0 else (-2, -1, 1, -3)) if dim != number)


def give_dim(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Give the dim that a call runs along where it has none: ``qkv.chunk(3, dim=-1)``, ``F.glu(x, dim=1)``."""
    is_one = isinstance(node, ast.Call) and read_name(node.func) in _BY_DEFAULT
    if isinstance(node, ast.Call) and is_one and _read_dim(node) is None and not node.keywords:
        dims = _BY_DEFAULT[read_name(node.func)]
        yield from (f"{write(node)[:-1]}{', ' if node.args else ''}dim={dim})" for dim in dims)


def _read_dim(call: ast.Call) -> ast.expr | None:
    """Return the dim that a call runs along where it is given by position."""
    name, func = read_name(call.func), call.func
    is_method = isinstance(func, ast.Attribute) and read_name(func.value) not in _NAMESPACES
    place = (name in _ALONG_SECOND) + (not is_method)
    return call.args[place] if name in (*_ALONG_FIRST, *_ALONG_SECOND) and place < len(call.args) else None


def _read_number(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if type(value) is int else None


def move_otherwise(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Bring dims into another order, with the batch where it was brought to: ``permute(3, 0, 1, 2)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return
    numbers = [_read_number(item) for item in node.args]
    if node.func.attr == "permute" and 2 < len(numbers) < 5 and None not in numbers:
        orders = [order for order in itertools.permutations(range(len(numbers))) if list(order) != numbers]
        kept = [order for order in orders if 0 in numbers and order.index(0) == numbers.index(0)]
        yield from (f"{write(node.func)}({', '.join(map(str, order))})" for order in kept)
    elif node.func.attr == "permute" and len(numbers) == 5:  # of so many, two side by side: heads and steps
        for at in range(4):
            order = [*numbers[:at], numbers[at + 1], numbers[at], *numbers[at + 2 :]]
            yield f"{write(node.func)}({', '.join(map(str, order))})"
    elif node.func.attr in ("transpose", "swapaxes") and len(numbers) == 2:
        pairs = [pair for pair in ((1, 2), (2, 3), (1, 3), (0, 1)) if set(pair) != set(numbers)]
        yield from (f"{write(node.func)}({one}, {other})" for one, other in pairs)


def move_ones(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Have a dim of one elsewhere, one fewer or one more: ``view(-1, 1)`` for ``view(-1, 1, 1)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("view", "reshape"):
        for words in _move([*map(write, node.args)], "1"):
            yield f"{write(node.func)}({', '.join(words)})"
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        for words in _move([*map(write, node.slice.elts)], "None"):
            yield f"{write(node.value)}[{', '.join(words)}]"


def _move(words: list[str], one: str) -> Iterator[list[str]]:
    """Yield what has an item one time less, as often in other places, or one time more."""
    kept, count = [word for word in words if word != one], words.count(one)
    for number in (count - 1, count, count + 1) if 0 < count < 4 and kept else ():
        for places in itertools.combinations(range(len(kept) + number), number):
            rest = iter(kept)
            made = [one if at in places else next(rest) for at in range(len(kept) + number)]
            if made != words and len(made) > 1:
                yield made


def turn_pairs(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Pad the width first, as ``pad`` counts from the last dim: ``[dx, dx, dy, dy]`` for ``[dy, dy, dx, dx]``."""
    if isinstance(around, ast.Call) and isinstance(node, (ast.List, ast.Tuple)) and len(node.elts) in (4, 6):
        *features, top, bottom, left, right = map(write, node.elts)
        ends = "[]" if isinstance(node, ast.List) else "()"
        yield f"{ends[0]}{', '.join([*features, left, right, top, bottom])}{ends[1]}"


def turn_names(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Turn what a line only gives another name: ``st = s.transpose(1, 2)``."""
    if isinstance(around, ast.Assign) and around.value is node and isinstance(node, ast.Name):
        yield f"{write(node)}.transpose(-2, -1)"


def turn_values(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Turn what a line gives a name: ``x = self.embed(x).transpose(1, 2)``."""
    if isinstance(around, ast.Assign) and around.value is node and isinstance(node, ast.Call):
        yield f"{write(node)}.transpose(1, 2)"


def turn_product(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Turn the other factor: ``z.T @ w`` for ``z @ w.T``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        right, left = _read_turned(node.right), _read_turned(node.left)
        if right is not None and left is None:
            yield f"{write(node.left)}.T @ {write(right)}"
        elif left is not None and right is None:
            yield f"{write(left)} @ {write(node.right)}.T"


def _read_turned(node: ast.expr) -> ast.expr | None:
    """Return what an expression turns: ``z`` of ``z.T`` and ``z.t()``."""
    called = node.func if isinstance(node, ast.Call) and not node.args else node
    is_turned = isinstance(called, ast.Attribute) and called.attr in ("T", "t")
    return called.value if isinstance(called, ast.Attribute) and is_turned else None
