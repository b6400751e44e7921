"""Fixes in the user's own line: one expression changed, all else as it was written."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

_Node = TypeVar("_Node", bound=ast.AST)
#: Positional and keyword arguments, as a line writes them.
Arguments = tuple[list[str], dict[str, str]]
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
_COMPARISONS: dict[str, type[ast.cmpop]] = {
    "lt": ast.Lt, "le": ast.LtE, "gt": ast.Gt, "ge": ast.GtE, "eq": ast.Eq, "ne": ast.NotEq,
}  # fmt: skip
#: One operation under its several names.
_ALIASES = {
    "mm": ("mm",),
    "cat": ("cat", "concat", "concatenate"),
    "matmul": ("matmul",),
    "concat": ("cat", "concat", "concatenate"),
    "concatenate": ("cat", "concat", "concatenate"),
}


def parse_line(line: str) -> ast.AST | None:
    """Parse a statement, or the head of one: ``"for x in xs:"``, ``"elif x:"``; positions are those in ``line``."""
    for before, after in (("", ""), ("", " pass"), ("if 1: pass\n", " pass")):
        try:
            return ast.increment_lineno(ast.parse(before + line + after), -1 if before else 0)
        except (SyntaxError, ValueError):
            continue
    return None


def _span(text: str, node: Any) -> tuple[int, int]:
    """Return where a node begins and ends, in bytes of the whole text."""
    starts = [0]
    for row in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def _text(line: str, node: ast.AST) -> str:
    return ast.get_source_segment(line, node) or ""


def splice_node(line: str, node: Any, text: str) -> str:
    """Return the text with one node of it written anew."""
    raw = line.encode()
    first, last = _span(line, node)
    return (raw[:first] + text.encode() + raw[last:]).decode()


def _is_simple(node: ast.AST) -> bool:
    return isinstance(node, (ast.Name, ast.Call, ast.Attribute, ast.Subscript))


def _in_brackets(line: str, node: ast.AST) -> str:
    """The node's text, safe to put a ``.`` or ``[`` behind."""
    return _text(line, node) if _is_simple(node) else f"({_text(line, node)})"


def _find_nodes(line: str, kind: type[_Node]) -> list[_Node]:
    tree = parse_line(line)
    return [] if tree is None else [node for node in ast.walk(tree) if isinstance(node, kind)]


def _read_name(func: ast.expr) -> str:
    """Return ``"fc"`` for ``self.fc`` and ``fc``."""
    return getattr(func, "attr", getattr(func, "id", ""))


def _find_calls(line: str, member: str) -> list[ast.Call]:
    """Find ``self.member(…)``, ``member(…)`` and ``self.members[i](…)`` in a line."""
    funcs = [(call, call.func) for call in _find_nodes(line, ast.Call)]
    return [call for call, func in funcs
            if _read_name(func.value if isinstance(func, ast.Subscript) else func) == member]  # fmt: skip


def _change_one(line: str, found: Sequence[ast.AST], template: str) -> str:
    """Return the line with the one node found written anew; ``""`` if there are several, or none."""
    return splice_node(line, found[0], template.format(_in_brackets(line, found[0]))) if len(found) == 1 else ""


def _set_keyword(line: str, call: ast.Call, keyword: str, value: str) -> str:
    for given in call.keywords:
        if given.arg == keyword:
            return splice_node(line, given.value, value)
    text = _text(line, call)
    gap = ", " if call.args or call.keywords else ""
    return splice_node(line, call, f"{text[:-1]}{gap}{keyword}={value})")


def names_operands(template: str) -> bool:
    """Return whether a template names other operands by number, ``"{1}"``, which a layer's call does not have."""
    return re.search(r"\{\d+\}", template) is not None


def wrap_argument(line: str, member: str, template: str, position: int = 0, around: str = "{}") -> str:
    """Change the argument that a line passes to a module.

    Args:
        line: ``"x = self.fc(x)"``.
        member: ``"fc"``.
        template: What becomes of the argument: ``"{}.flatten(1)"``.
        position: Which positional argument.
        around: What becomes of the call itself, ``{1}`` is the argument as it was.

    Returns:
        ``"x = self.fc(x.flatten(1))"``; ``""`` if the line does not call it, or does so more than once.
    """
    calls = _find_calls(line, member) if member and not names_operands(template) else []
    if len(calls) != 1 or len(calls[0].args) <= position or isinstance(calls[0].args[position], ast.Starred):
        return ""
    argument = calls[0].args[position]
    given = _in_brackets(line, argument)
    changed = template.format(given)
    call = _text(line, calls[0])
    start = _span(line, calls[0])[0]
    first, last = _span(line, argument)
    raw = call.encode()
    inner = raw[: first - start] + changed.encode() + raw[last - start :]
    return splice_node(line, calls[0], around.format(inner.decode(), given))


def _find_call(line: str, member: str) -> ast.Call | None:
    """Find the one call of a module in a line, whose arguments are all written out."""
    calls = _find_calls(line, member) if member else []
    starred = [item for call in calls for item in call.args if isinstance(item, ast.Starred)]
    unnamed = [item for call in calls for item in call.keywords if item.arg is None]
    return calls[0] if len(calls) == 1 and not starred and not unnamed else None


def read_call(line: str, member: str) -> Arguments:
    """Return what a line passes to a module; nothing if it does not call it, or does so more than once."""
    call = _find_call(line, member)
    if call is None:
        return [], {}
    return [_text(line, item) for item in call.args], {str(item.arg): _text(line, item.value) for item in call.keywords}


def change_call(line: str, member: str, edit: Callable[[list[str], dict[str, str]], Arguments | None]) -> str:
    """Rewrite the call of a module.

    Args:
        member: Name of what is called.
        edit: Takes the positional and keyword arguments and returns the new ones; ``None`` leaves the call.
    """
    call = _find_call(line, member)
    changed = edit(*read_call(line, member)) if call is not None else None
    if call is None or changed is None:
        return ""
    words = ", ".join([*changed[0], *[f"{name}={text}" for name, text in changed[1].items()]])
    return splice_node(line, call, f"{_text(line, call.func)}({words})")


def change_only_argument(line: str, text: str) -> str:
    """Give another argument to the one call of a line that has one argument, a size: ``make_mask(tgt.size(1))``.

    Returns:
        The line; ``""`` if there are several such calls, or none.
    """
    found = [call.args[0] for call in _find_nodes(line, ast.Call) if len(call.args) == 1 and _is_size(call.args[0])]
    return splice_node(line, found[0], text) if len(found) == 1 else ""


def _is_size(node: ast.AST) -> bool:
    """Return whether an expression reads one size: ``x.size(1)``, ``x.shape[1]``, ``len(x)``, a name."""
    if isinstance(node, ast.Call):
        return _read_name(node.func) in ("size", "len")
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    return isinstance(node, ast.Name)


def _is_namespace(node: ast.expr) -> bool:
    """Return whether an expression is a module of functions: ``torch``, ``F``, ``torch.nn.functional``."""
    if isinstance(node, ast.Name):
        return node.id in ("torch", "F", "functional", "fft", "linalg", "special")
    return isinstance(node, ast.Attribute) and node.attr in ("functional", "fft", "linalg", "special")


def _find_operation(line: str, name: str) -> list[tuple[ast.AST, list[ast.expr], ast.Call | None]]:
    """Find an operation in a line: ``(node, operands, call)``."""
    name = re.sub(r"^(fft|linalg|special)_(?=\w)", "", name)  # torch.fft.rfft
    names = _ALIASES.get(name, (name, name.rstrip("_")))
    kind = _OPERATORS.get(name)
    found: list[tuple[ast.AST, list[ast.expr], ast.Call | None]] = []
    for node in _find_nodes(line, ast.AST):
        if kind is not None and isinstance(node, ast.BinOp) and isinstance(node.op, kind):
            found.append((node, [node.left, node.right], None))
        elif kind is not None and isinstance(node, ast.AugAssign) and isinstance(node.op, kind):
            found.append((node, [node.target, node.value], None))
        elif isinstance(node, ast.Compare) and [type(item) for item in node.ops] == [_COMPARISONS.get(name)]:
            found.append((node, [node.left, *node.comparators], None))
        elif isinstance(node, ast.Call) and _read_name(node.func) in names:
            operands = list(node.args)
            if isinstance(node.func, ast.Attribute) and not _is_namespace(node.func.value):
                operands.insert(0, node.func.value)
            if operands and isinstance(operands[0], (ast.List, ast.Tuple)):
                operands = list(operands[0].elts)
            found.append((node, operands, node))
    return found


def _find_one(line: str, name: str, earlier: int = -1) -> list[tuple[ast.AST, list[ast.expr], ast.Call | None]]:
    """Find an operation; of several those of tensors alone, for a number beside one can't be what failed.

    Args:
        earlier: How many such operations of the line ran before the one that is meant, if that is known.
    """
    found = _find_operation(line, name)
    tensors = [item for item in found if not any(isinstance(operand, ast.Constant) for operand in item[1])]
    if len(found) > 1 and len(tensors) == 1:
        return tensors
    if len(found) > 1 and earlier >= 0 and not _find_nodes(line, ast.comprehension):
        found.sort(key=lambda item: _span(line, item[0])[1])  # what is inside another runs, and ends, before it
        return [found[earlier % len(found)]]
    return found


def find_operands(line: str, name: str, earlier: int = -1) -> list[str]:
    """Return the operands of an operation as the line writes them: ``["up", "skip"]``; empty if that is not clear."""
    found = _find_one(line, name, earlier)
    return [_text(line, operand) for operand in found[0][1]] if len(found) == 1 else []


def find_targets(line: str) -> list[str]:
    """Return the names that a line assigns: ``["out", "h", "c"]`` for ``out, (h, c) = self.rnn(x)``."""
    body = getattr(parse_line(line), "body", [])
    if len(body) != 1 or not isinstance(body[0], ast.Assign):
        return []
    return [node.id for target in body[0].targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def change_value(line: str, template: str) -> str:
    """Change what a line assigns to one name: ``"a = self.table[t][:, None]"``; ``""`` if it does something else."""
    body = getattr(parse_line(line), "body", [])
    if len(body) != 1 or not isinstance(body[0], ast.Assign) or not isinstance(body[0].targets[0], ast.Name):
        return ""
    return _change_one(line, [body[0].value], template)


def change_operation(
    line: str, name: str, edit: Callable[[list[str]], str | Sequence[str] | None], earlier: int = -1, around: str = "{}"
) -> str:
    """Rewrite an operation of a line.

    Args:
        name: ``"matmul"``, ``"view"``, ``"add"``.
        edit: Takes the operands as text, safe to put a ``.`` behind; returns other operands, or what stands in the
            place of the operation, or ``None``.
        earlier: How many such operations of the line ran before the one that is meant.
        around: What becomes of the result, ``{1}`` is the first operand as it was.

    Returns:
        The line; ``""`` if the operation is not there, or more than once and it is not known which is meant.
    """
    found = _find_one(line, name, earlier)
    if len(found) != 1:
        return ""
    node, operands, _ = found[0]
    texts = [_in_brackets(line, operand) for operand in operands]
    new = edit(list(texts))
    if new is None:
        return ""
    if not isinstance(new, str):
        kept = zip(new, texts, operands, strict=False)
        new = _write_operands(
            line, node, operands, [_text(line, operand) if item == text else item for item, text, operand in kept]
        )
    return splice_node(line, node, around.format(new, *texts[:1]))


def rename_method(line: str, name: str, new: str, earlier: int = -1) -> str:
    """Call another method in the place of one: ``x.reshape(2, -1)`` for ``x.view(2, -1)``."""
    found = _find_one(line, name, earlier)
    func = getattr(found[0][0], "func", None) if len(found) == 1 else None
    return splice_node(line, func, f"{_text(line, func.value)}.{new}") if isinstance(func, ast.Attribute) else ""


def _write_operands(line: str, node: ast.AST, operands: list[ast.expr], items: list[str]) -> str:
    text, start = _text(line, node).encode(), _span(line, node)[0]
    pieces: list[bytes] = []
    at = 0
    for operand, item in zip(operands, items, strict=False):
        first, last = _span(line, operand)
        pieces += [text[at : first - start], item.encode()]
        at = last - start
    return (b"".join(pieces) + text[at:]).decode()


def swap_last_factors(line: str) -> str:
    """Turn the one product of three factors ``a @ b @ c`` of a line into ``a @ c @ b``; ``""`` if there is none."""
    chains = [
        node for node in _find_nodes(line, ast.BinOp)
        if isinstance(node.op, ast.MatMult) and isinstance(node.left, ast.BinOp)
        and isinstance(node.left.op, ast.MatMult)
    ]  # fmt: skip
    if len(chains) != 1 or not isinstance(chains[0].left, ast.BinOp):
        return ""
    second, third = chains[0].left.right, chains[0].right
    texts = _text(line, second), _text(line, third)
    return splice_node(splice_node(line, third, texts[0]), second, texts[1])


def set_argument(line: str, name: str, keyword: str, position: int, value: str, earlier: int = -1) -> str:
    """Set one plain argument of a call in the line.

    Args:
        line: ``"torch.cat([a, b])"``.
        name: ``"cat"``.
        keyword: ``"dim"``.
        position: Its position among the arguments as the function ``torch.cat`` takes them.
        value: ``"1"``.
        earlier: How many such calls of the line ran before the one that is meant, if that is known.

    Returns:
        ``"torch.cat([a, b], dim=1)"``; ``""`` if the call is not there, or more than once and it is not known which.
    """
    found = _find_one(line, name, earlier)
    call = found[0][2] if len(found) == 1 else None
    if call is None:
        return ""
    is_method = bool(found[0][1]) and found[0][1][0] not in call.args and not (
        call.args and isinstance(call.args[0], (ast.List, ast.Tuple))
    )  # fmt: skip
    at = position - is_method
    if at < len(call.args) and all(given.arg != keyword for given in call.keywords):
        return splice_node(line, call.args[at], value)
    return _set_keyword(line, call, keyword, value)


def splice_argument(line: str, name: str, old: tuple[int, ...], size: tuple[int, ...], names: Mapping[int, str]) -> str:
    """Give another size to a call that makes a tensor, ``torch.zeros(2, 4)`` or ``torch.zeros((2, 4))``.

    Args:
        name: ``"zeros"``.
        old: The size it makes now; what is equal in both stays as it is written.
        size: The size it is to make.
        names: By axis, what to write for a size.
    """
    calls = _find_calls(line, name)
    if len({_text(line, call) for call in calls}) != 1 or not calls[0].args:
        return ""
    if len(calls) > 1:  # h and c, made alike
        text = _text(line, calls[0])
        return line.replace(text, splice_argument(text, name, old, size, names) or text)
    first = calls[0].args[0]
    items = first.elts if isinstance(first, (ast.Tuple, ast.List)) else calls[0].args
    if len(items) != len(old) or any(isinstance(item, ast.Starred) for item in items):
        return ""
    for axis in range(len(size)):  # a dim that is missing is written before the one that follows it
        if old == (*size[:axis], *size[axis + 1 :]) and axis < len(items):
            return splice_node(line, items[axis], f"{names.get(axis, str(size[axis]))}, {_text(line, items[axis])}")
    if len(old) != len(size):
        return ""
    for axis, (item, before, after) in reversed(list(enumerate(zip(items, old, size, strict=True)))):
        if before != after:
            line = splice_node(line, item, names.get(axis, str(after)))
    return line


def add_keyword(line: str, name: str, keyword: str, value: str) -> str:
    """Give a call of the line one keyword more, or another value for it: ``torch.zeros(2, device=x.device)``."""
    calls = _find_calls(line, name)
    return _set_keyword(line, calls[0], keyword, value) if len(calls) == 1 else ""


def replace_call(line: str, old: str, new: str) -> str:
    """Write a call of the line anew that is, apart from its spacing, ``old``; ``""`` if it is not there once."""
    found = [call for call in _find_nodes(line, ast.Call) if ast.unparse(call) == old]
    return splice_node(line, found[0], new) if len(found) == 1 else ""


def read_unpacking(line: str) -> tuple[list[str], str] | None:
    """Read ``"B, C, H, W = x.shape"`` as the names on the left and the text on the right."""
    for node in _find_nodes(line, ast.Assign):
        if isinstance(node.targets[0], (ast.Tuple, ast.List)):
            return [_text(line, item) for item in node.targets[0].elts], _text(line, node.value)
    return None


def write_loop(line: str, member: str) -> str:
    """Turn ``"x = self.blocks(x)"`` into ``"for layer in self.blocks: x = layer(x)"``; all other arguments are kept."""
    calls = _find_calls(line, member) if member else []
    body = getattr(parse_line(line), "body", [])
    if len(calls) != 1 or len(body) != 1 or not calls[0].args:
        return ""
    call, first = calls[0], calls[0].args[0]
    if isinstance(body[0], ast.Assign) and body[0].value.col_offset == call.col_offset:
        return f"for layer in {_text(line, call.func)}: {splice_node(line, call.func, 'layer')}"
    name = first.id if isinstance(first, ast.Name) else "y"
    start = "" if isinstance(first, ast.Name) else f"{name} = {_text(line, first)}\n"
    words = ", ".join([name, *(_text(line, item) for item in (*call.args[1:], *call.keywords))])
    return (
        f"{start}for layer in {_text(line, call.func)}:\n    {name} = layer({words})\n{splice_node(line, call, name)}"
    )


def wrap_attribute(line: str, attribute: str, template: str) -> str:
    """Change what an attribute is read from: ``x.mean(1)`` to ``x[0].mean(1)``."""
    found = [node.value for node in _find_nodes(line, ast.Attribute) if node.attr == attribute]
    return _change_one(line, found, template)


def wrap_subscript(line: str, template: str) -> str:
    """Change what the one slice by several dims of a line is cut from: ``out[:, -1]`` to ``out[0][:, -1]``."""
    found = [node.value for node in _find_nodes(line, ast.Subscript) if isinstance(node.slice, ast.Tuple)]
    return _change_one(line, found, template)


_TWO_ORDERS = re.compile(r"\.(permute|transpose)\(([\d, ]+)\)\.\1\(([\d, ]+)\)")


def drop_undone(line: str) -> str:
    """Leave out two changes of order of which the second undoes the first: ``x.transpose(1, 2).transpose(1, 2)``."""

    def drop(found: re.Match[str]) -> str:
        one, other = ([int(item) for item in found[at].split(",") if item.strip()] for at in (2, 3))
        undone = sorted(one) == sorted(other) if found[1] == "transpose" else (
            len(one) == len(other) and [one[item] for item in other] == list(range(len(one)))
        )  # fmt: skip
        return "" if undone else found[0]

    line = re.sub(r"\.unsqueeze\((-?\d)\)\.squeeze\(\1\)", "", line).replace(".float().long()", ".long()")
    line = line.replace(".flatten(2).transpose(1, 2).flatten(2)", ".flatten(2).transpose(1, 2)")  # of three dims
    return _TWO_ORDERS.sub(drop, re.sub(r"\.(?:t\(\)|T)\.transpose\((?:-2, -1|0, 1|1, 0)\)", "", line))
