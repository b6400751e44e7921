"""Fixes in the user's own line: one expression changed, all else as it was written."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

from modelsummary_ipy.diagnosis.failures.source_nodes import (
    EditCall,
    find_call,
    find_calls,
    find_nodes,
    find_operation,
    find_span,
    find_targets,
    parse_line,
    read_call,
    read_name,
    read_operand,
    read_text,
    splice_node,
    write_call,
)


def _change_one(line: str, found: Sequence[ast.AST], template: str) -> str:
    """Return the line with the one node found written anew; ``""`` if there are several, or none."""
    return splice_node(line, found[0], template.format(read_operand(line, found[0]))) if len(found) == 1 else ""


def _set_keyword(line: str, call: ast.Call, keyword: str, value: str) -> str:
    for given in call.keywords:
        if given.arg == keyword:
            return splice_node(line, given.value, value)
    text = read_text(line, call)
    gap = ", " if call.args or call.keywords else ""
    return splice_node(line, call, f"{text[:-1]}{gap}{keyword}={value})")


def names_operands(template: str) -> bool:
    """Return whether a template names other operands by number, ``"{1}"``, which a layer's call does not have."""
    return re.search(r"\{\d+\}", template) is not None


def wrap_argument(
    line: str, member: str, template: str, position: int = 0, around: str = "{}", earlier: int = -1
) -> str:
    """Change the argument that a line passes to a module.

    Args:
        line: ``"x = self.fc(x)"``.
        member: ``"fc"``.
        template: What becomes of the argument: ``"{}.flatten(1)"``.
        position: Which positional argument.
        around: What becomes of the call itself, ``{1}`` is the argument as it was.
        earlier: How many such calls of the line ran before the one that is meant, if that is known.

    Returns:
        ``"x = self.fc(x.flatten(1))"``; ``""`` if the line does not call it, or it is not known which call is meant.
    """
    calls = find_calls(line, member) if member and not names_operands(template) else []
    if 0 <= earlier < len(calls) and not find_nodes(line, ast.comprehension):
        calls = [sorted(calls, key=lambda call: find_span(line, call)[1])[earlier]]
    if len(calls) != 1 or len(calls[0].args) <= position or isinstance(calls[0].args[position], ast.Starred):
        return ""
    argument = calls[0].args[position]
    given = read_operand(line, argument)
    changed = template.format(given)
    call = read_text(line, calls[0])
    start = find_span(line, calls[0])[0]
    first, last = find_span(line, argument)
    raw = call.encode()
    inner = raw[: first - start] + changed.encode() + raw[last - start :]
    return splice_node(line, calls[0], around.format(inner.decode(), given))


def change_call(line: str, member: str, edit: EditCall) -> str:
    """Rewrite the call of a module; ``member`` is the name of what is called."""
    call = find_call(line, member)
    changed = edit(*read_call(line, member)) if call is not None else None
    if call is None or changed is None:
        return ""
    return splice_node(line, call, write_call(read_text(line, call.func), *changed))


def _is_size(node: ast.AST) -> bool:
    """Return whether an expression reads one size: ``x.size(1)``, ``x.shape[1]``, ``len(x)``, a name."""
    if isinstance(node, ast.Call):
        return read_name(node.func) in ("size", "len")
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    return isinstance(node, ast.Name)


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
    found = find_operation(line, name, earlier)
    if len(found) != 1:
        return ""
    node, operands, _ = found[0]
    texts = [read_operand(line, operand) for operand in operands]
    new = edit(list(texts))
    if new is None:
        return ""
    if not isinstance(new, str):
        kept = zip(new, texts, operands, strict=False)
        new = _write_operands(
            line, node, operands, [read_text(line, operand) if item == text else item for item, text, operand in kept]
        )
    return splice_node(line, node, around.format(new, *texts[:1]))


def rename_method(line: str, name: str, new: str, earlier: int = -1) -> str:
    """Call another method in the place of one: ``x.reshape(2, -1)`` for ``x.view(2, -1)``."""
    found = find_operation(line, name, earlier)
    func = getattr(found[0][0], "func", None) if len(found) == 1 else None
    return splice_node(line, func, f"{read_text(line, func.value)}.{new}") if isinstance(func, ast.Attribute) else ""


def _write_operands(line: str, node: ast.AST, operands: list[ast.expr], items: list[str]) -> str:
    text, start = read_text(line, node).encode(), find_span(line, node)[0]
    pieces: list[bytes] = []
    at = 0
    for operand, item in zip(operands, items, strict=False):
        first, last = find_span(line, operand)
        pieces += [text[at : first - start], item.encode()]
        at = last - start
    return (b"".join(pieces) + text[at:]).decode()


def swap_last_factors(line: str) -> str:
    """Turn the one product of three factors ``a @ b @ c`` of a line into ``a @ c @ b``; ``""`` if there is none."""
    chains = [
        node for node in find_nodes(line, ast.BinOp)
        if isinstance(node.op, ast.MatMult) and isinstance(node.left, ast.BinOp)
        and isinstance(node.left.op, ast.MatMult)
    ]  # fmt: skip
    if len(chains) != 1 or not isinstance(chains[0].left, ast.BinOp):
        return ""
    second, third = chains[0].left.right, chains[0].right
    texts = read_text(line, second), read_text(line, third)
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
    found = find_operation(line, name, earlier)
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
    calls = find_calls(line, name)
    if len({read_text(line, call) for call in calls}) != 1 or not calls[0].args:
        return ""
    if len(calls) > 1:  # h and c, made alike
        text = read_text(line, calls[0])
        return line.replace(text, splice_argument(text, name, old, size, names) or text)
    first = calls[0].args[0]
    items = first.elts if isinstance(first, (ast.Tuple, ast.List)) else calls[0].args
    if len(items) != len(old) or any(isinstance(item, ast.Starred) for item in items):
        return ""
    for axis in range(len(size)):  # a dim that is missing is written before the one that follows it
        if old == (*size[:axis], *size[axis + 1 :]) and axis < len(items):
            return splice_node(line, items[axis], f"{names.get(axis, str(size[axis]))}, {read_text(line, items[axis])}")
    if len(old) != len(size):
        return ""
    for axis, (item, before, after) in reversed(list(enumerate(zip(items, old, size, strict=True)))):
        reads_other = axis in names and _is_size(item) and not isinstance(item, ast.Name)
        if before != after or (reads_other and read_text(line, item) != names[axis]):
            line = splice_node(line, item, names.get(axis, str(after)))
    return line


def add_keyword(line: str, name: str, keyword: str, value: str) -> str:
    """Give a call of the line one keyword more, or another value for it: ``torch.zeros(2, device=x.device)``."""
    calls = find_calls(line, name)
    return _set_keyword(line, calls[0], keyword, value) if len(calls) == 1 else ""


def replace_call(line: str, old: str, new: str) -> str:
    """Write a call of the line anew that is, apart from its spacing, ``old``; ``""`` if it is not there once."""
    found = [call for call in find_nodes(line, ast.Call) if ast.unparse(call) == old]
    return splice_node(line, found[0], new) if len(found) == 1 else ""


def write_list(line: str, member: str) -> str:
    """Turn ``"outs = self.heads(x)"`` into ``"outs = [layer(x) for layer in self.heads]"``, where it is no chain.

    Returns:
        The line; ``""`` if what is given is what the line assigns, or the call is not there once.
    """
    call = find_call(line, member)
    given = [read_text(line, item) for item in call.args] if call is not None else []
    if call is None or not given or set(given) & set(find_targets(line)):
        return ""
    text = read_text(line, call.func)
    return splice_node(line, call, f"[layer({', '.join(given)}) for layer in {text}]")


def write_loop(line: str, member: str) -> str:
    """Turn ``"x = self.blocks(x)"`` into ``"for layer in self.blocks: x = layer(x)"``; all other arguments are kept."""
    calls = find_calls(line, member) if member else []
    body = getattr(parse_line(line), "body", [])
    if len(calls) != 1 or len(body) != 1 or not calls[0].args:
        return ""
    call, first = calls[0], calls[0].args[0]
    targets = find_targets(line)
    is_whole = isinstance(body[0], ast.Assign) and body[0].value.col_offset == call.col_offset
    if is_whole and read_text(line, first) in targets:
        return f"for layer in {read_text(line, call.func)}: {splice_node(line, call.func, 'layer')}"
    is_named = is_whole and len(targets) == 1 and isinstance(body[0].targets[0], ast.Name)
    name = targets[0] if is_named else first.id if isinstance(first, ast.Name) else "y"
    start = "" if name == read_text(line, first) else f"{name} = {read_text(line, first)}\n"
    words = ", ".join([name, *(read_text(line, item) for item in (*call.args[1:], *call.keywords))])
    loop = f"{start}for layer in {read_text(line, call.func)}:\n    {name} = layer({words})"
    return loop if is_named else put_before(splice_node(line, call, name), loop, name)


def wrap_attribute(line: str, attribute: str, template: str) -> str:
    """Change what an attribute is read from: ``x.mean(1)`` to ``x[0].mean(1)``."""
    found = [node.value for node in find_nodes(line, ast.Attribute) if node.attr == attribute]
    return _change_one(line, found, template)


def wrap_subscript(line: str, template: str) -> str:
    """Change what the one slice by several dims of a line is cut from: ``out[:, -1]`` to ``out[0][:, -1]``."""
    found = [node.value for node in find_nodes(line, ast.Subscript) if isinstance(node.slice, ast.Tuple)]
    return _change_one(line, found, template)


def put_before(line: str, statement: str, name: str) -> str:
    """Put a statement in front of the one of a line that reads what it makes: in the body of ``for x in xs: …``.

    Args:
        line: ``"for up in ups: x = up(torch.cat([x, skip], 1))"``; statements with ``;`` between them.
        statement: ``"skip = skips.pop()"``.
        name: ``"skip"``. Where it is not read once for each time that the statement runs, by a lambda or in one arm of
            a condition, or where the statement changes what the line reads before, the name is given there.

    Returns:
        The lines; ``""`` if the name is not read.
    """
    tree = parse_line(line)
    readers = [node for node in find_nodes(line, ast.Name) if node.id == name and isinstance(node.ctx, ast.Load)]
    if tree is None or not readers:
        return ""
    reader = min(readers, key=lambda node: (node.lineno, node.col_offset))
    around = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    inner: ast.AST = reader
    while not isinstance(inner, ast.stmt):
        if _may_not_run(around[inner], inner, line):
            return _name_there(line, reader, statement)
        inner = around[inner]
    taken = {
        node.func.value.id for node in find_nodes(statement, ast.Call)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and isinstance(node.func.value, ast.Name)
    }  # fmt: skip
    if any(isinstance(node, ast.Name) and node.id in taken for node in ast.walk(inner)):
        return _name_there(line, reader, statement)
    block = next(body for body in _list_blocks(around[inner]) if inner in body)
    starts = [find_span(line, node)[0] for node in block]
    raw = line.encode()
    head = raw[: starts[0]].decode().rstrip()
    rows = [head] if head else []
    for node, first, last in zip(block, starts, [*starts[1:], len(raw)], strict=True):
        rows += [statement] if node is inner else []
        rows.append(raw[first:last].decode().rstrip().removesuffix(";").rstrip())
    return "\n".join([rows[0], *(textwrap.indent(row, "    " if head else "") for row in rows[1:])])


def _list_blocks(node: ast.AST) -> list[list[ast.stmt]]:
    return [body for name in ("body", "orelse", "finalbody") if isinstance(body := getattr(node, name, None), list)]


def _may_not_run(around: ast.AST, inner: ast.AST, line: str) -> bool:
    """Return whether a part of an expression, or of the head of a statement, runs more or less often than it."""
    if isinstance(around, ast.IfExp):
        return inner is not around.test
    if isinstance(around, ast.BoolOp):
        return inner is not around.values[0]
    is_elif = isinstance(around, ast.If) and line.startswith("elif")
    return is_elif or isinstance(around, (ast.Lambda, ast.comprehension, ast.While, *_COMPREHENSIONS))


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _name_there(line: str, reader: ast.Name, statement: str) -> str:
    """Give a name where it is read first: ``(skip := skips.pop())``; ``""`` if the statement does something else."""
    name, sign, value = statement.partition(" = ")
    return splice_node(line, reader, f"({name} := {value})") if sign and name == reader.id else ""


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
