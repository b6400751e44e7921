"""Fixes as code: a layer written anew with other settings, the user's line with one expression changed."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from modelsummary_ipy.facts import ModuleFact, Trace

__all__ = [
    "change_call",
    "change_operation",
    "find_operands",
    "name_member",
    "wrap_argument",
    "write_change",
    "write_module",
]

#: Constructor arguments by class: positional ones, then those with the default that is not written.
_POSITIONAL = {
    "Linear": ("in_features", "out_features"),
    "NonDynamicallyQuantizableLinear": ("in_features", "out_features"),
    "Bilinear": ("in1_features", "in2_features", "out_features"),
    "Embedding": ("num_embeddings", "embedding_dim"),
    "LayerNorm": ("normalized_shape",),
    "RMSNorm": ("normalized_shape",),
    "GroupNorm": ("num_groups", "num_channels"),
    "MultiheadAttention": ("embed_dim", "num_heads"),
    "PixelShuffle": ("upscale_factor",),
    **{f"Conv{n}d": ("in_channels", "out_channels", "kernel_size") for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": ("in_channels", "out_channels", "kernel_size") for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": ("num_features",) for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": ("num_features",) for n in (1, 2, 3)},
    **{f"MaxPool{n}d": ("kernel_size",) for n in (1, 2, 3)},
    **{f"AvgPool{n}d": ("kernel_size",) for n in (1, 2, 3)},
    **dict.fromkeys(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"), ("input_size", "hidden_size")),
}
_CONV = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
_POOL = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
_RECURRENT = {"num_layers": 1, "nonlinearity": "tanh", "batch_first": False, "dropout": 0.0, "bidirectional": False,
              "proj_size": 0}  # fmt: skip
_OPTIONS: dict[str, dict[str, Any]] = {
    "LayerNorm": {"elementwise_affine": True},
    "RMSNorm": {"elementwise_affine": True},
    "MultiheadAttention": {"dropout": 0.0, "kdim": None, "vdim": None, "batch_first": False},
    "Embedding": {"padding_idx": None, "max_norm": None},
    **{f"Conv{n}d": _CONV for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": _CONV for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": {"affine": True, "track_running_stats": True} for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": {"affine": False, "track_running_stats": False} for n in (1, 2, 3)},
    **{f"MaxPool{n}d": _POOL for n in (1, 2, 3)},
    **{f"AvgPool{n}d": _POOL for n in (1, 2, 3)},
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _RECURRENT),
}
_WITH_BIAS = ("Linear", "Conv", "Bilinear", "LSTM", "GRU", "RNN", "NonDynamically")


def write_module(fact: ModuleFact, trace: Trace, **changes: Any) -> str:
    """Write a layer of torch's as code, with some of its settings changed.

    Returns:
        ``"nn.Conv2d(16, 32, 3, padding=1)"``; ``""`` for a class that is not known here.
    """
    positional = _POSITIONAL.get(fact.type_name)
    if positional is None or not fact.type_module.startswith("torch."):
        return ""
    settings = {**fact.settings, **changes}
    if any(name not in settings for name in positional):
        return ""
    words = [_write_value(settings[name]) for name in positional]
    for name, default in _OPTIONS.get(fact.type_name, {}).items():
        value = _collapse(settings.get(name, default))
        is_same = value == default
        if name == "stride" and default is None:  # a pool's stride is its window unless said otherwise
            is_same = value in (None, _collapse(settings["kernel_size"]))
        if name in ("kdim", "vdim"):
            is_same = value in (None, settings.get("embed_dim"))
        if not is_same:
            words.append(f"{name}={value!r}")
    if fact.type_name.startswith(_WITH_BIAS) and not _has_bias(fact, trace):
        words.append("bias=False")
    name = "Linear" if fact.type_name.startswith("NonDynamically") else fact.type_name
    return f"nn.{name}({', '.join(words)})"


def _collapse(value: Any) -> Any:
    """``(3, 3)`` is written ``3``."""
    if isinstance(value, tuple) and value and all(item == value[0] for item in value):
        return value[0]
    return value


def _write_value(value: Any) -> str:
    return repr(_collapse(value))


def _has_bias(fact: ModuleFact, trace: Trace) -> bool:
    names = [name for index in fact.params for name in trace.params[index].names]
    return any("bias" in name.rpartition(".")[2] for name in names)


def write_change(path: str, code: str) -> str:
    """Write that a module is to be another one: ``"head.proj = nn.Linear(3136, 10)"``, ``"net[3] = …"``."""
    if not code or not path:
        return ""
    words = ""
    for piece in path.split("."):
        words += f"[{piece}]" if piece.isdigit() and words else piece if not words else f".{piece}"
    return f"{words} = {code}" if not words.isdigit() else f"model[{words}] = {code}"


def name_member(path: str) -> str:
    """Return what a line of code calls a module by: ``"proj"`` for ``"head.proj"``, ``""`` for an item of a list."""
    last = path.rpartition(".")[2]
    return "" if last.isdigit() else last


# -- the user's line --------------------------------------------------------------------------------------------------

_OPERATORS: dict[str, type[ast.operator]] = {
    "add": ast.Add,
    "sub": ast.Sub,
    "mul": ast.Mult,
    "div": ast.Div,
    "matmul": ast.MatMult,
    "add_": ast.Add,
    "sub_": ast.Sub,
    "mul_": ast.Mult,
    "div_": ast.Div,
    "pow": ast.Pow,
}
#: One operation under its several names.
_ALIASES = {
    "mm": ("mm",),
    "cat": ("cat", "concat", "concatenate"),
    "matmul": ("matmul",),
    "concat": ("cat", "concat", "concatenate"),
    "concatenate": ("cat", "concat", "concatenate"),
}


def _parse(line: str) -> ast.AST | None:
    for text in (line, f"{line} pass", f"if 1: pass\n{line} pass"):
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError):
            continue
    return None


def _text(line: str, node: ast.AST) -> str:
    return ast.get_source_segment(line, node) or ""


def _splice(line: str, node: Any, text: str) -> str:
    raw = line.encode()
    if node.lineno != 1 or node.end_lineno != 1:
        return ""
    return (raw[: node.col_offset] + text.encode() + raw[node.end_col_offset :]).decode()


def _is_simple(node: ast.AST) -> bool:
    return isinstance(node, (ast.Name, ast.Call, ast.Attribute, ast.Subscript))


def _in_brackets(line: str, node: ast.AST) -> str:
    """The node's text, safe to put a ``.`` or ``[`` behind."""
    return _text(line, node) if _is_simple(node) else f"({_text(line, node)})"


def _find_calls(line: str, member: str) -> list[ast.Call]:
    """Find ``self.member(…)``, ``member(…)`` and ``self.members[i](…)`` in a line."""
    tree = _parse(line)
    found = []
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call):
            func = node.func.value if isinstance(node.func, ast.Subscript) else node.func
            name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
            if name == member:
                found.append(node)
    return found


def wrap_argument(line: str, member: str, template: str, position: int = 0, around: str = "{}") -> str:
    """Change the argument that a line passes to a module.

    Args:
        line: ``"x = self.fc(x)"``.
        member: ``"fc"``.
        template: What becomes of the argument: ``"{}.flatten(1)"``.
        position: Which positional argument.
        around: What becomes of the call itself.

    Returns:
        ``"x = self.fc(x.flatten(1))"``; ``""`` if the line does not call it, or does so more than once.
    """
    calls = _find_calls(line, member) if member else []
    if len(calls) != 1 or len(calls[0].args) <= position or isinstance(calls[0].args[position], ast.Starred):
        return ""
    argument = calls[0].args[position]
    changed = template.format(_in_brackets(line, argument))
    call = _text(line, calls[0])
    offset = argument.col_offset - calls[0].col_offset
    if calls[0].lineno != 1 or argument.end_col_offset is None:
        return ""
    raw = call.encode()
    inner = raw[:offset] + changed.encode() + raw[offset + argument.end_col_offset - argument.col_offset :]
    return _splice(line, calls[0], around.format(inner.decode()))


def change_call(line: str, member: str, edit: Callable[[list[str], dict[str, str]], str | None]) -> str:
    """Write the call of a module anew.

    Args:
        line: The user's line.
        member: Name of what is called.
        edit: Takes the positional and keyword arguments as text and gives the new arguments as text.
    """
    calls = _find_calls(line, member) if member else []
    if len(calls) != 1:
        return ""
    call = calls[0]
    if any(isinstance(argument, ast.Starred) for argument in call.args) or any(k.arg is None for k in call.keywords):
        return ""
    keywords = {str(keyword.arg): _text(line, keyword.value) for keyword in call.keywords}
    words = edit([_text(line, argument) for argument in call.args], keywords)
    return "" if words is None else _splice(line, call, f"{_text(line, call.func)}({words})")


def _find_operation(line: str, name: str) -> list[tuple[ast.AST, list[ast.expr], ast.Call | None]]:
    """Find an operation in a line: ``(node, operands, call)``."""
    tree = _parse(line)
    names = _ALIASES.get(name, (name, name.rstrip("_")))
    kind = _OPERATORS.get(name)
    found: list[tuple[ast.AST, list[ast.expr], ast.Call | None]] = []
    for node in ast.walk(tree) if tree is not None else ():
        if kind is not None and isinstance(node, ast.BinOp) and isinstance(node.op, kind):
            found.append((node, [node.left, node.right], None))
        elif kind is not None and isinstance(node, ast.AugAssign) and isinstance(node.op, kind):
            found.append((node, [node.target, node.value], None))
        elif isinstance(node, ast.Call):
            func = node.func
            called = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
            if called in names:
                is_function = isinstance(func, ast.Name) or (
                    isinstance(func, ast.Attribute)
                    and isinstance(func.value, ast.Name)
                    and func.value.id in ("torch", "F", "functional")
                ) or (isinstance(func, ast.Attribute) and isinstance(func.value, ast.Attribute)
                      and func.value.attr == "functional")  # fmt: skip
                if is_function:
                    operands = list(node.args)
                else:
                    assert isinstance(func, ast.Attribute)
                    operands = [func.value, *node.args]
                if operands and isinstance(operands[0], (ast.List, ast.Tuple)):
                    operands = list(operands[0].elts)
                found.append((node, operands, node))
    return found


def find_operands(line: str, name: str) -> list[str]:
    """Return the operands of an operation as the line writes them: ``["up", "skip"]``; empty if that is not clear."""
    found = _find_operation(line, name)
    return [_text(line, operand) for operand in found[0][1]] if len(found) == 1 else []


def change_operation(line: str, name: str, edit: Callable[[list[str], Callable[[str], str]], str | None]) -> str:
    """Write an operation of a line anew.

    Args:
        line: The user's line.
        name: ``"matmul"``, ``"view"``, ``"add"``.
        edit: Takes the operands as text, safe to put a ``.`` behind, and a function that writes the operation with the
            operands it is given joined by ``", "`` or by its operator; returns the new text.

    Returns:
        The line; ``""`` if the operation is not there, or more than once.
    """
    found = _find_operation(line, name)
    if len(found) != 1:
        return ""
    node, operands, call = found[0]
    texts = [_in_brackets(line, operand) for operand in operands]

    def write(pieces: str) -> str:
        items = [
            _text(line, operand) if item == _in_brackets(line, operand) else item
            for item, operand in zip(pieces.split("\0"), operands, strict=False)
        ]
        if call is None:
            assert isinstance(node, (ast.BinOp, ast.AugAssign))
            sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@", ast.Pow: "**"}
            equals = "=" if isinstance(node, ast.AugAssign) else ""
            return f" {sign[type(node.op)]}{equals} ".join(items)
        return _write_call(line, call, operands, items)

    new = edit(texts, write)
    return "" if new is None else _splice(line, node, new)


def _write_call(line: str, call: ast.Call, operands: list[ast.expr], items: list[str]) -> str:
    text, start = _text(line, call).encode(), call.col_offset
    pieces: list[bytes] = []
    at = 0
    for operand, item in zip(operands, items, strict=False):
        pieces.append(text[at : operand.col_offset - start])
        pieces.append(item.encode())
        at = (operand.end_col_offset or 0) - start
    return (b"".join(pieces) + text[at:]).decode()


def set_argument(line: str, name: str, keyword: str, position: int, value: str) -> str:
    """Set one plain argument of a call in the line.

    Args:
        line: ``"torch.cat([a, b])"``.
        name: ``"cat"``.
        keyword: ``"dim"``.
        position: Its position among the arguments as the function ``torch.cat`` takes them.
        value: ``"1"``.

    Returns:
        ``"torch.cat([a, b], dim=1)"``; ``""`` if the call is not there once.
    """
    found = _find_operation(line, name)
    call = found[0][2] if len(found) == 1 else None
    if call is None:
        return ""
    for given in call.keywords:
        if given.arg == keyword:
            return _splice(line, given.value, value)
    is_method = bool(found[0][1]) and found[0][1][0] not in call.args and not (
        call.args and isinstance(call.args[0], (ast.List, ast.Tuple))
    )  # fmt: skip
    at = position - is_method
    if at < len(call.args):
        return _splice(line, call.args[at], value)
    text = _text(line, call)
    return _splice(line, call, f"{text[:-1]}, {keyword}={value})")


def splice_argument(line: str, name: str, old: tuple[int, ...], size: tuple[int, ...]) -> str:
    """Give another size to a call that makes a tensor, ``torch.zeros(2, 4)`` or ``torch.zeros((2, 4))``.

    Args:
        line: The user's line.
        name: ``"zeros"``.
        old: The size it makes now; what is equal in both stays as it is written.
        size: The size it is to make.
    """
    calls = _find_calls(line, name)
    if len(calls) != 1 or not calls[0].args:
        return ""
    first = calls[0].args[0]
    items = first.elts if isinstance(first, (ast.Tuple, ast.List)) else calls[0].args
    if len(items) != len(old) or any(isinstance(item, ast.Starred) for item in items):
        return ""
    if len(old) != len(size):
        return ""
    for item, before, after in reversed(list(zip(items, old, size, strict=True))):
        if before != after:
            line = _splice(line, item, str(after))
    return line


def add_keyword(line: str, name: str, keyword: str, value: str) -> str:
    """Give a call of the line one keyword more, or another value for it: ``torch.zeros(2, device=x.device)``."""
    calls = _find_calls(line, name)
    if len(calls) != 1:
        return ""
    for given in calls[0].keywords:
        if given.arg == keyword:
            return _splice(line, given.value, value)
    text = _text(line, calls[0])
    gap = "" if text.endswith("()") else ", "
    return _splice(line, calls[0], f"{text[:-1]}{gap}{keyword}={value})")


def read_unpacking(line: str) -> tuple[list[str], str] | None:
    """Read ``"B, C, H, W = x.shape"`` as the names on the left and the text on the right."""
    tree = _parse(line)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Tuple, ast.List)):
            return [_text(line, item) for item in node.targets[0].elts], _text(line, node.value)
    return None


def write_loop(line: str, member: str) -> str:
    """Turn ``"x = self.blocks(x)"`` into ``"for layer in self.blocks: x = layer(x)"``."""
    calls = _find_calls(line, member) if member else []
    body = getattr(_parse(line), "body", [])
    if len(calls) != 1 or len(body) != 1 or not isinstance(body[0], ast.Assign):
        return ""
    if body[0].value.col_offset != calls[0].col_offset:
        return ""
    return f"for layer in {_text(line, calls[0].func)}: {_splice(line, calls[0].func, 'layer')}"


def wrap_attribute(line: str, attribute: str, template: str) -> str:
    """Change what an attribute is asked of: ``x.mean(1)`` to ``x[0].mean(1)``."""
    tree = _parse(line)
    found = [
        node for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Attribute) and node.attr == attribute
    ]  # fmt: skip
    if len(found) != 1:
        return ""
    return _splice(line, found[0].value, template.format(_in_brackets(line, found[0].value)))
