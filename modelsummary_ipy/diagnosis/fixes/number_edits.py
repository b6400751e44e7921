"""Edits of one expression that give another number: of a name, a factor, a bound, a padding, a keyword."""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.rewriting import Change, Write
from modelsummary_ipy.diagnosis.failures.source_nodes import read_name
from modelsummary_ipy.diagnosis.failures.statements import list_methods, walk_function
from modelsummary_ipy.diagnosis.torch_names import SIZED_FACTORIES

#: Names of the two sides of a map.
SIDES = {"H": "W", "W": "H", "h": "w", "w": "h"}
#: What is given sizes, each any number that the function knows.
_OF_SIZES = SIZED_FACTORIES | {"repeat", "expand"}
#: The arguments of a convolution, in order.
_OF_CONVOLUTIONS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
#: What a number is taken times, by its name.
_FACTORS = ("dilation", "stride", "groups", "heads", "num_heads", "expansion")


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


def take_wanted(ctx: FailureContext) -> Change:
    """Part into as many channels or features as the layer that failed reads: ``view(-1, 64, 4, 4)``."""
    wanted = [ctx.setting(name) for name in ("in_channels", "num_features", "in_features", "input_size", "embed_dim")]

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        del write
        is_size = isinstance(node, ast.Constant) and type(node.value) is int and node.value > 1
        if is_size and isinstance(around, ast.Call) and node in around.args:
            yield from (str(size) for size in wanted if isinstance(size, int))

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


def _is_factor(node: ast.expr) -> bool:
    """Return whether a number may be how many times another is as large: not a scale, nor a tensor."""
    if isinstance(node, ast.Call):
        return read_name(node.func) == "len"
    return isinstance(node, (ast.Name, ast.Attribute)) or (isinstance(node, ast.Constant) and node.value in (2, 3, 4))


def change_operator(function: ast.FunctionDef) -> Change:
    """Multiply what was added, and the other way round; add another number for twice one."""
    names = [item.arg for item in function.args.args[1:]]

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
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
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Add, ast.Sub)):
        return
    if isinstance(node.right, ast.Constant) and node.right.value in (1, 2):
        yield write(node.left)


def regroup(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Take off before the product what is taken off behind it: ``(k - 1) * d`` for ``k * d - 1``."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Add, ast.Sub)):
        return
    sign = "+" if isinstance(node.op, ast.Add) else "-"
    if isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Mult):
        one, other, step = write(node.left.left), write(node.left.right), write(node.right)
        yield from (f"({one} {sign} {step}) * {other}", f"{one} * ({other} {sign} {step})")


def change_factor(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Take another small number times another: ``4 * width`` for ``2 * width``."""
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
