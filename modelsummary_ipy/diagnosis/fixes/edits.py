"""Edits of one expression: what may stand in its place, where a line or a class has a slip of the pen."""

from __future__ import annotations

import ast
import difflib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.rewriting import Change, Write
from modelsummary_ipy.diagnosis.failures.source_nodes import read_name
from modelsummary_ipy.diagnosis.failures.statements import list_methods, walk_function
from modelsummary_ipy.diagnosis.torch_names import SIZED_FACTORIES

#: What runs along one dim, by the place of the dim among a method's arguments.
ALONG_FIRST = ("sum", "mean", "max", "min", "amax", "amin", "prod", "std", "var", "argmax", "softmax", "log_softmax",
          "size", "logsumexp", "cumsum", "unbind", "unsqueeze", "squeeze", "select", "narrow", "index_select",
          "gather")  # fmt: skip
#: The first of them leave one number of all along the dim.
NUM_REDUCTIONS = 9
_SECOND = ("chunk", "split", "repeat_interleave", "topk", "norm", "cat", "concat", "stack")
_NAMESPACES = ("torch", "F", "functional", "linalg")
#: Names of the two sides of a map.
SIDES = {"H": "W", "W": "H", "h": "w", "w": "h"}
#: What is given sizes, each any number that the function knows.
_OF_SIZES = SIZED_FACTORIES | {"repeat", "expand"}
#: The arguments of a convolution, in order.
_OF_CONVOLUTIONS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")


def take_keywords(ctx: FailureContext) -> Change:
    """Give an argument as more calls of the function have it: ``n=2 * L`` to ``rfft`` where another has that."""
    calls = [node for node in walk_function(ctx.failure.source) if isinstance(node, ast.Call)]
    words = [word for call in calls for word in call.keywords if word.arg]
    counts = Counter((word.arg, ast.unparse(word.value)) for word in words)

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Call):  # it does not have the argument at all
            own = {word.arg for word in node.keywords}
            beside = [call for call in calls if read_name(call.func) == read_name(node.func)]
            texts = {f"{word.arg}={ast.unparse(word.value)}" for call in beside for word in call.keywords}
            new = [text for text in sorted(texts) if text.partition("=")[0] not in own]
            yield from (f"{write(node)[:-1]}, {text})" for text in new if node.args)
        if isinstance(around, ast.keyword) and around.value is node and isinstance(node, ast.expr):
            old = ast.unparse(node)
            for (name, text), count in counts.most_common():
                if name == around.arg and text != old and count > counts[name, old]:
                    yield text

    return change


def take_numbers(ctx: FailureContext) -> Change:
    """Read another number: ``W`` for ``H``, ``self.out_channels`` for ``self.in_channels``."""
    owner = ctx.flow.module_of(ctx.parent) or ctx.fact
    settings = owner.settings if owner is not None else {}
    unpacked = [
        [item.id for item in node.targets[0].elts if isinstance(item, ast.Name)]
        for node in walk_function(ctx.failure.source)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and is_shape(node.value)
    ]  # fmt: skip
    numbers: dict[str, str] = {name: name for names in unpacked for name in names}  # of a caller values aren't known
    numbers |= {name: held.words[0] for name, held in ctx.failure.names.items() if held.kind == "int"}
    numbers |= {f"self.{name}": repr(value) for name, value in settings.items() if type(value) is int}
    kept = [node for method in list_methods(ctx.failure.source) for node in ast.walk(method)]
    for node in kept:  # of another class's method the values are not known
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Name)
            and isinstance(node.targets[0], ast.Attribute)
        ):
            numbers.setdefault(ast.unparse(node.targets[0]), ast.unparse(node.targets[0]))

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterable[str]:
        name = write(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""
        if name not in numbers or isinstance(getattr(node, "ctx", None), ast.Store):
            return ()
        others = [other for other, value in numbers.items() if value != numbers[name]]
        if name in SIDES and SIDES[name] in others:
            return [SIDES[name]]
        alike = [other for other in others if ("." in other) == ("." in name)]
        found = difflib.get_close_matches(name, alike, 3, 0.6)
        found += [other for names in unpacked if name in names for other in names if other in others]
        is_size = isinstance(around, ast.Call) and read_name(around.func) in _OF_SIZES and around.func is not node
        return list(dict.fromkeys([*found, *(reversed(others) if is_size else ())]))

    return change


def is_shape(node: ast.expr) -> bool:
    """Return whether an expression is the sizes of a tensor: ``x.shape``, ``x.size()``."""
    called = node.func if isinstance(node, ast.Call) else node
    return isinstance(called, ast.Attribute) and called.attr in ("shape", "size")


def scale_by(functions: Sequence[ast.FunctionDef], forward: ast.FunctionDef | None) -> Change:
    """Multiply by what other lines multiply by, or leave out a factor: ``planes * block.expansion``.

    Args:
        functions: Those that make the layers.
        forward: What failed: a number that it multiplies by, ``3 * T``, may be missing in the others.
    """
    products = [
        node for function in functions for node in ast.walk(function)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)
    ]  # fmt: skip
    sides = [side for node in products for side in (node.right, node.left)]
    numbers = [node for node in ast.walk(forward) if isinstance(node, ast.BinOp)] if forward is not None else []
    missing = [node.left for node in numbers if isinstance(node.op, ast.Mult) and isinstance(node.left, ast.Constant)]
    factors = dict.fromkeys(ast.unparse(side) for side in (*missing, *sides) if _is_factor(side))
    names = dict.fromkeys(item.arg for function in functions for item in function.args.args if item.arg in _FACTORS)
    objects = {
        ast.unparse(node.value) for function in functions for node in ast.walk(function)
        if isinstance(node, (ast.Attribute, ast.Subscript))
    }  # fmt: skip

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.FloorDiv)):
            yield write(node.left)
            if isinstance(node.op, ast.Mult):
                yield write(node.right)
        is_value = isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load)
        is_given = isinstance(around, (ast.Call, ast.Assign, ast.keyword)) and getattr(around, "func", None) is not node
        if isinstance(around, ast.Assign) and around.value is node and isinstance(node, ast.BinOp):
            yield from (f"({write(node)}) * {name}" for name in names if name not in write(node))  # of a sum, all of it
        is_counted = isinstance(around, ast.Call) and read_name(around.func) == "len"
        if is_value and is_given and not is_counted and write(node) not in objects:
            yield from (f"{write(node)} * {factor}" for factor in factors if factor != write(node))

    return change


#: What a number is taken times, by its name.
_FACTORS = ("dilation", "stride", "groups", "heads", "num_heads", "expansion")


def _is_factor(node: ast.expr) -> bool:
    """Return whether a number may be how many times another is as large: not a scale, nor a tensor."""
    if isinstance(node, ast.Call):
        return read_name(node.func) == "len"
    return isinstance(node, (ast.Name, ast.Attribute)) or (isinstance(node, ast.Constant) and node.value in (2, 3, 4))


def change_operator(function: ast.FunctionDef) -> Change:
    """Multiply what was added, and the other way round; add another number for twice one."""
    names = [item.arg for item in function.args.args[1:]]

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        del around
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Add, ast.Mult)):
            return
        sign = "*" if isinstance(node.op, ast.Add) else "+"
        if not isinstance(node.left, ast.Constant) and not isinstance(node.right, ast.Constant):
            yield f"{write(node.left)} {sign} {write(node.right)}"
        elif sign == "+" and write(node.left) == "2" and write(node.right) in names:
            yield from (f"{write(node.right)} + {name}" for name in names if name != write(node.right))

    return change


def drop_step(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Leave out a number that is added or taken off: ``d * (k - 1)`` for ``d * (k - 1) - 1``."""
    del around
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Add, ast.Sub)):
        return
    if isinstance(node.right, ast.Constant) and node.right.value in (1, 2):
        yield write(node.left)


def regroup(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Take off before the product what is taken off behind it: ``(k - 1) * d`` for ``k * d - 1``."""
    del around
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Add, ast.Sub)):
        return
    sign = "+" if isinstance(node.op, ast.Add) else "-"
    if isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Mult):
        one, other, step = write(node.left.left), write(node.left.right), write(node.right)
        yield from (f"({one} {sign} {step}) * {other}", f"{one} * ({other} {sign} {step})")


def change_factor(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Take another small number times another: ``4 * width`` for ``2 * width``."""
    del write
    is_factor = isinstance(around, ast.BinOp) and isinstance(around.op, ast.Mult)
    if is_factor and isinstance(node, ast.Constant) and type(node.value) is int and 1 < node.value < 9:
        number = node.value
        yield from (str(other) for other in dict.fromkeys((2 * number, number // 2, number + 1, number - 1)))


def move_bounds(function: ast.FunctionDef) -> Change:
    """Begin or end one earlier or later: ``range(n - 1)`` for ``range(1, n)``, ``n // 2 + 1`` for ``n // 2``."""
    loops = [node for node in ast.walk(function) if isinstance(node, (ast.For, ast.comprehension))]
    counts = {node.id for loop in loops for node in ast.walk(loop.target) if isinstance(node, ast.Name)}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Call) and read_name(node.func) == "range":
            words = [write(item) for item in node.args]
            if len(words) == 1:
                yield from (f"range({words[0]} - 1)", f"range({words[0]} + 1)", f"range(1, {words[0]})")
            elif len(words) == 2:
                first, last = words
                yield from (f"range({last} - 1)", f"range({last})", f"range({first}, {last} + 1)")
                yield from (f"range({first}, {last} - 1)", f"range({first} + 1, {last})")
        yield from drop_step(node, around, write)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv) and not isinstance(around, ast.BinOp):
            yield f"{write(node)} + 1"
        if isinstance(around, ast.Subscript) and around.slice is node and isinstance(node, (ast.Name, ast.BinOp)):
            yield from (f"{write(node)} + 1", f"{write(node)} - 1")
        if isinstance(around, ast.Compare) and isinstance(node, ast.Name) and node.id in counts:
            yield from (f"{write(node)} - 1", f"{write(node)} + 1")

    return change


def pad(function: ast.FunctionDef) -> Change:
    """Pad so that a convolution keeps the size whatever its kernel is: ``padding=dilation * (kernel - 1) // 2``."""
    named = {
        padding.id: kept for node in ast.walk(function)
        for padding, kept in (_read_padding(node),) if isinstance(padding, ast.Name) and kept
    }  # fmt: skip

    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterable[str]:
        del write
        if isinstance(around, ast.Assign) and node is around.value and isinstance(around.targets[0], ast.Name):
            kept = named.get(around.targets[0].id, "")
            is_causal = "- 1" in (old := ast.unparse(node)) and "//" not in old  # the end is to be cut off
            return (kept,) if kept and not is_causal else ()
        padding, kept = _read_padding(node)
        old = ast.unparse(node)
        if padding is None and kept.isdigit():
            return (f"{old[:-1]}, padding={kept})",)
        if padding is None or not kept or (isinstance(padding, ast.Name) and padding.id in stored):
            return ()
        return (old.replace(f"padding={ast.unparse(padding)}", f"padding={kept}"),)

    return change


def _read_padding(node: ast.AST) -> tuple[ast.expr | None, str]:
    """Return how a convolution is padded, and what would keep the size; ``""`` where that is not known."""
    if not isinstance(node, ast.Call) or read_name(node.func) not in ("Conv1d", "Conv2d", "Conv3d"):
        return None, ""
    given = {word.arg: word.value for word in node.keywords} | dict(zip(_OF_CONVOLUTIONS, node.args, strict=False))
    kernel, dilation = given.get("kernel_size"), given.get("dilation")
    strides = "stride" in given and ast.unparse(given["stride"]) != "1"
    if isinstance(kernel, ast.Constant) and type(kernel.value) is int and dilation is None and not strides:
        return given.get("padding"), str(kernel.value // 2) if kernel.value > 1 and kernel.value % 2 else ""
    if not isinstance(kernel, ast.Name) or "stride" in given:
        return given.get("padding"), ""
    reach = kernel.id if dilation is None else f"{ast.unparse(dilation)} * ({kernel.id} - 1)"
    return given.get("padding"), f"{reach} // 2"


def stride_index(ctx: FailureContext) -> Change:
    """Count what lies in a flat list row by row: ``blocks[i * self.num_kernels + j]`` for ``blocks[i + j]``."""
    owner = ctx.flow.module_of(ctx.parent) if ctx.call.kind == "op" else ctx.flow.module_of(ctx.call)
    owners = [owner, *(ctx.flow.module_of(call) for call in ctx.flow.around(ctx.call))]
    settings = {name: value for fact in owners if fact is not None for name, value in fact.settings.items()}
    strides = [f"self.{name}" for name, value in settings.items() if type(value) is int and value > 1]
    strides += [name for name, held in ctx.failure.names.items() if held.kind == "int"]

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)
        if isinstance(around, ast.Subscript) and isinstance(node, ast.BinOp) and is_sum and around.slice is node:
            one, other = write(node.left), write(node.right)
            if isinstance(node.left, ast.Name) and isinstance(node.right, ast.Name):
                yield from (f"{one} * {stride} + {other}" for stride in strides if stride not in (one, other))

    return change


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
    """Part the features where the first dim, the batch, is parted: ``qkv.chunk(3, dim=-1)`` for ``qkv.chunk(3)``."""
    del around
    is_parted = isinstance(node, ast.Call) and read_name(node.func) in ("chunk", "split")
    if isinstance(node, ast.Call) and is_parted and _read_dim(node) is None and not node.keywords:
        yield from (f"{write(node)[:-1]}, dim={dim})" for dim in (-1, 1))


def _read_dim(call: ast.Call) -> ast.expr | None:
    """Return the dim that a call runs along where it is given by position."""
    name, func = read_name(call.func), call.func
    is_method = isinstance(func, ast.Attribute) and read_name(func.value) not in _NAMESPACES
    place = (1 if name in _SECOND else 0) + (not is_method and name not in _SECOND)
    return call.args[place] if name in (*ALONG_FIRST, *_SECOND) and place < len(call.args) else None


def _read_number(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if type(value) is int else None


def move_otherwise(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Bring dims into another order, with the batch where it was brought to: ``permute(3, 0, 1, 2)``."""
    del around
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


def move_ones(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Have a dim of one elsewhere, one fewer or one more: ``view(-1, 1)`` for ``view(-1, 1, 1)``."""
    del around
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


def turn_pairs(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Pad the width first, as ``pad`` counts from the last dim: ``[dx, dx, dy, dy]`` for ``[dy, dy, dx, dx]``."""
    if isinstance(around, ast.Call) and isinstance(node, (ast.List, ast.Tuple)) and len(node.elts) in (4, 6):
        *features, top, bottom, left, right = map(write, node.elts)
        ends = "[]" if isinstance(node, ast.List) else "()"
        yield f"{ends[0]}{', '.join([*features, left, right, top, bottom])}{ends[1]}"


def turn_size(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Enlarge to the height and the width, in this order: ``size=(h, w)`` for ``size=(w, h)``."""
    if isinstance(around, (ast.Call, ast.keyword)) and isinstance(node, ast.Tuple) and len(node.elts) == 2:
        yield f"({write(node.elts[1])}, {write(node.elts[0])})"


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
    del around
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


def keep_order(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Go through a list as it is: ``widths`` for ``reversed(widths)``."""
    del around
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
    """Go through a list that the function filled from its end, or take from there: the skip connections of a U-Net."""
    nodes = walk_function(ctx.failure.source)
    filled = {read_name(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "append"}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Call) and read_name(getattr(node.func, "value", node.func)) in filled:
            yield from _pop_otherwise(node, write)
        if isinstance(node, ast.Name) and node.id in filled:
            yield from _reverse(node, around, write)

    return change


def join_otherwise(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Stack what was put behind one another, and the other way round."""
    del around
    if isinstance(node, ast.Attribute) and node.attr in ("cat", "stack"):
        yield f"{write(node.value)}.{'stack' if node.attr == 'cat' else 'cat'}"
