"""What a line of code is made of: its nodes with their places, its calls and operations, and one node written anew."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from modelsummary_ipy.diagnosis.torch_names import CATS

_Node = TypeVar("_Node", bound=ast.AST)

#: Positional and keyword arguments, as a line writes them.
Arguments = tuple[list[str], dict[str, str]]
#: Takes the positional and the keyword arguments of a call, and returns the new ones; ``None`` leaves the call.
EditCall = Callable[[list[str], dict[str, str]], Arguments | None]

_OPERATORS: dict[str, type[ast.operator]] = {
    "add": ast.Add, "sub": ast.Sub, "mul": ast.Mult, "div": ast.Div, "matmul": ast.MatMult, "pow": ast.Pow,
    "add_": ast.Add, "sub_": ast.Sub, "mul_": ast.Mult, "div_": ast.Div,
}  # fmt: skip
_COMPARISONS: dict[str, type[ast.cmpop]] = {
    "lt": ast.Lt, "le": ast.LtE, "gt": ast.Gt, "ge": ast.GtE, "eq": ast.Eq, "ne": ast.NotEq,
}  # fmt: skip


@lru_cache(maxsize=512)  # one line is asked for its calls, its names, its operations
def parse_line(line: str) -> ast.AST | None:
    """Parse a statement, or the head of one: ``"for x in xs:"``, ``"elif x:"``; positions are those in ``line``."""
    for before, after in (("", ""), ("", " pass"), ("if 1: pass\n", ""), ("if 1: pass\n", " pass")):
        try:
            tree = ast.parse(before + line + after)
            return ast.increment_lineno(tree, -1) if before else tree
        except (SyntaxError, ValueError):
            continue
    return None


def find_span(text: str, node: Any) -> tuple[int, int]:
    """Return where a node begins and ends, in bytes of the whole text."""
    starts = [0]
    for row in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def read_text(line: str, node: ast.AST) -> str:
    """Return a node as the line writes it."""
    return ast.get_source_segment(line, node) or ""


def splice_node(line: str, node: Any, text: str) -> str:
    """Return the text with one node of it written anew."""
    raw = line.encode()
    first, last = find_span(line, node)
    return (raw[:first] + text.encode() + raw[last:]).decode()


def read_operand(line: str, node: ast.AST) -> str:
    """The node's text, safe to put a ``.`` or ``[`` behind."""
    return read_text(line, node) if _is_simple(node) else f"({read_text(line, node)})"


def _is_simple(node: ast.AST) -> bool:
    return isinstance(node, (ast.Name, ast.Call, ast.Attribute, ast.Subscript))


def put_in_brackets(text: str) -> str:
    """Write an expression so that a ``.`` or ``[`` may stand behind it: ``"(mask == 0)"``."""
    body = getattr(parse_line(text), "body", [])
    is_simple = len(body) == 1 and isinstance(body[0], ast.Expr) and _is_simple(body[0].value)
    return text if is_simple else f"({text})"


def find_nodes(line: str, kind: type[_Node]) -> list[_Node]:
    """Find the nodes of a kind in a line; none if it is no Python."""
    tree = parse_line(line)
    return [] if tree is None else [node for node in ast.walk(tree) if isinstance(node, kind)]


def read_name(func: ast.expr) -> str:
    """Return ``"fc"`` for ``self.fc`` and ``fc``."""
    return getattr(func, "attr", getattr(func, "id", ""))


def find_calls(line: str, member: str) -> list[ast.Call]:
    """Find ``self.member(…)``, ``member(…)``, ``self.members[i](…)`` and ``nn.Member()(…)`` in a line."""
    calls = find_nodes(line, ast.Call)
    made = [call for call in calls if isinstance(call.func, ast.Call) and read_name(call.func.func) == member]
    funcs = [(call, call.func.value if isinstance(call.func, ast.Subscript) else call.func) for call in calls]
    return made or [call for call, func in funcs if read_name(func) == member]


def find_call(line: str, member: str) -> ast.Call | None:
    """Find the one call of a module in a line, whose arguments are all written out."""
    calls = find_calls(line, member) if member else []
    starred = [item for call in calls for item in call.args if isinstance(item, ast.Starred)]
    unnamed = [item for call in calls for item in call.keywords if item.arg is None]
    return calls[0] if len(calls) == 1 and not starred and not unnamed else None


def read_call(line: str, member: str) -> Arguments:
    """Return what a line passes to a module; nothing if it does not call it, or does so more than once."""
    call = find_call(line, member)
    return read_arguments_of(line, call) if call is not None else ([], {})


def read_arguments_of(line: str, call: ast.Call) -> Arguments:
    """Return the arguments of a call as the line writes them, those after ``**`` left out."""
    named = {item.arg: read_text(line, item.value) for item in call.keywords if item.arg}
    return [read_text(line, item) for item in call.args], named


def write_call(called: str, words: Sequence[str], named: Mapping[str, str]) -> str:
    """Write a call: ``"nn.Linear(3, 10, bias=False)"``."""
    return f"{called}({', '.join([*words, *(f'{name}={text}' for name, text in named.items())])})"


def _is_namespace(node: ast.expr) -> bool:
    """Return whether an expression is a module of functions: ``torch``, ``F``, ``torch.nn.functional``."""
    if isinstance(node, ast.Name):
        return node.id in ("torch", "F", "functional", "fft", "linalg", "special")
    return isinstance(node, ast.Attribute) and node.attr in ("functional", "fft", "linalg", "special")


def _list_operations(line: str, name: str) -> list[tuple[ast.AST, list[ast.expr], ast.Call | None]]:
    """Find an operation in a line: ``(node, operands, call)``."""
    name = re.sub(r"^(fft|linalg|special)_(?=\w)", "", name)  # torch.fft.rfft
    names = CATS if name in CATS else (name, name.rstrip("_"))
    kind = _OPERATORS.get(name)
    found: list[tuple[ast.AST, list[ast.expr], ast.Call | None]] = []
    for node in find_nodes(line, ast.AST):
        if kind is not None and isinstance(node, ast.BinOp) and isinstance(node.op, kind):
            found.append((node, [node.left, node.right], None))
        elif kind is not None and isinstance(node, ast.AugAssign) and isinstance(node.op, kind):
            found.append((node, [node.target, node.value], None))
        elif isinstance(node, ast.Compare) and [type(item) for item in node.ops] == [_COMPARISONS.get(name)]:
            found.append((node, [node.left, *node.comparators], None))
        elif isinstance(node, ast.Call) and read_name(node.func) in names:
            operands = list(node.args)
            if isinstance(node.func, ast.Attribute) and not _is_namespace(node.func.value):
                operands.insert(0, node.func.value)
            if operands and isinstance(operands[0], (ast.List, ast.Tuple)):
                operands = list(operands[0].elts)
            found.append((node, operands, node))
    return found


def find_operation(line: str, name: str, earlier: int = -1) -> list[tuple[ast.AST, list[ast.expr], ast.Call | None]]:
    """Find an operation; of several those of tensors alone, for a number beside one can't be what failed.

    Args:
        earlier: How many such operations of the line ran before the one that is meant, if that is known.
    """
    found = _list_operations(line, name)
    tensors = [item for item in found if not any(isinstance(operand, ast.Constant) for operand in item[1])]
    if len(found) > 1 and len(tensors) == 1:
        return tensors
    if len(found) > 1 and earlier >= 0 and not find_nodes(line, ast.comprehension):
        found.sort(key=lambda item: find_span(line, item[0])[1])  # what is inside another runs, and ends, before it
        return [found[earlier % len(found)]]
    return found


def find_operands(line: str, name: str, earlier: int = -1) -> list[str]:
    """Return the operands of an operation as the line writes them: ``["up", "skip"]``; empty if that is not clear."""
    found = find_operation(line, name, earlier)
    return [read_text(line, operand) for operand in found[0][1]] if len(found) == 1 else []


def find_targets(line: str) -> list[str]:
    """Return the names that a line assigns: ``["out", "h", "c"]`` for ``out, (h, c) = self.rnn(x)``."""
    body = getattr(parse_line(line), "body", [])
    if len(body) != 1 or not isinstance(body[0], ast.Assign):
        return []
    return [node.id for target in body[0].targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def read_unpacking(line: str) -> tuple[list[str], str] | None:
    """Read ``"B, C, H, W = x.shape"`` as the names on the left and the text on the right."""
    for node in find_nodes(line, ast.Assign):
        if isinstance(node.targets[0], (ast.Tuple, ast.List)):
            return [read_text(line, item) for item in node.targets[0].elts], read_text(line, node.value)
    return None


def find_set_twice(methods: Sequence[ast.FunctionDef]) -> tuple[list[str], list[str]]:
    """Return the attributes that the methods of a class set more than once, and those that they call and never set."""
    nodes = [node for method in methods for node in ast.walk(method)]
    own = [node for node in nodes if isinstance(node, ast.Attribute) and read_name(node.value) == "self"]
    stored = [node.attr for node in own if isinstance(node.ctx, ast.Store)]
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    unset = [
        node.attr for node in own if node in called and node.attr not in {*stored, *(item.name for item in methods)}
    ]
    return [name for name in dict.fromkeys(stored) if stored.count(name) > 1], list(dict.fromkeys(unset))
