"""Values of a type that a function does not take: numbers for tensors, tensors for sizes, texts, arrays of numpy's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.rewriting import (
    Write,
    explain_rewrite,
    list_statements,
    rewrite,
    write_statement,
    write_words,
)
from modelsummary_ipy.diagnosis.failures.source_nodes import find_targets
from modelsummary_ipy.diagnosis.failures.statements import drop_remark, find_imports
from modelsummary_ipy.diagnosis.failures.wrong_objects import make_attribute
from modelsummary_ipy.diagnosis.torch_names import CATS, SIZED_FACTORIES

_ERRORS = ("TypeError", "RuntimeError", "IndexError", "ValueError")
_WANTED = re.compile(r"(\w+)\(\): argument '(\w+)' \(position (\d+)\) must be ([\w ]+), not ([\w.]+)")
_NO_SWAP = ("NoneType", "tuple", "list", "dict", "str")
_NO_SIZE = re.compile(
    r"'(?:Tensor|torch.Size|tuple)' object cannot be interpreted as an integer|can be converted to an index|"
    r"must be (?:tuple of ints|int|Number), (?:but found element of type|not) (?:Tensor|torch.Size)|"
    r"(?:expand|view|reshape|repeat|permute|zeros|ones|randn|rand|empty|full)\(\) takes \d+ positional"
)

#: What ``torch.cat(a, b)`` and its like raise; the second is of 2.11 and older, the third of ``cat(a, b, 1)``.
_JOINS = re.compile(
    r"must be tuple of Tensors, not Tensor"
    r"|cat\(\) received an invalid combination of arguments - got \(Tensor\b"
    r"|(cat|stack)\(\) takes .*positional argument"
)
#: What ``torch.cat(1, [a, b])`` and ``x.transpose(0, 2, 1)`` raise, up to 2.11 in the words for functions of two kinds.
_JOINS_NONE = re.compile(r"cat\(\) received an invalid combination of arguments - got \((?!Tensor|tuple|list)(\w+)")
#: What ``x.sum(1, 2)`` raises up to 2.11: later releases say that the second is no ``keepdim``.
_DIMS_APART = re.compile(
    r"(sum|mean|amax|amin|std|var)\(\) received an invalid combination of arguments - got \(int, int\)"
)
_ORDER = re.compile(
    r"(transpose|swapaxes)\(\)(?: takes 2 positional|: argument 'dim0' \(position 1\) must be int, not"
    r"| received an invalid combination of arguments - got \((?:int, int, int|tuple|list))"
)
_JOINING = (*CATS, "stack", "hstack", "vstack", "dstack")


def explain_value(ctx: FailureContext) -> Diagnosis | None:
    """Explain a value of another type than a function takes."""
    message = ctx.failure.message
    if ctx.failure.error_type not in _ERRORS:
        return None
    if "only one element tensors can be converted" in message and (made := _explain_math(ctx)) is not None:
        return made
    if "numpy" in message and (made := _explain_numpy(ctx)) is not None:
        return made
    if _JOINS.search(message) and (made := _explain_list(ctx)) is not None:
        return made
    if "(got float)" in message or "slice indices must be integers" in message or "but got float" in message:
        return _explain_fraction(ctx)
    if _ORDER.search(message):
        return _explain_order(ctx)
    if "cannot unpack non-iterable" in message and (made := _explain_pairs(ctx)) is not None:
        return made
    if message.endswith("'int' object is not iterable") or "cannot unpack non-iterable int" in message:
        return _explain_count(ctx)
    if re.search(r"\bstr\b", message) and (made := _explain_text(ctx)) is not None:
        return made
    if _NO_SIZE.search(message) and (made := _explain_size(ctx)) is not None:
        return made
    if "same number of spatial dimensions" in message:
        return _explain_sides(ctx)
    if (found := _WANTED.search(message)) is not None:
        return _explain_number(ctx, *found.groups())
    if (found := _DIMS_APART.search(message)) is not None:
        return _explain_number(ctx, found[1], "keepdim", "2", "bool", "int")
    found = _JOINS_NONE.search(message)
    return _explain_number(ctx, "cat", "tensors", "1", "tuple of Tensors", found[1]) if found is not None else None


def _explain_pairs(ctx: FailureContext) -> Diagnosis | None:
    """A loop over layers gives each two names: ``for i, layer in self.layers``."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        is_loop = isinstance(around, (ast.For, ast.comprehension)) and around.iter is node
        if is_loop and isinstance(around.target, ast.Tuple) and not isinstance(node, ast.Call):  # type: ignore[union-attr]
            yield write(node), f"enumerate({write(node)})"

    return explain_rewrite(ctx, change, "{} gives one thing at a time, the loop has names for two", "pairs")


def _explain_sides(ctx: FailureContext) -> Diagnosis | None:
    """All sizes of a tensor were given for those of its sides."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if re.fullmatch(r"\w+\.(?:shape|size\(\))", write(node)) and isinstance(around, (ast.Call, ast.keyword)):
            yield write(node), f"{write(node).partition('.')[0]}.shape[2:]"

    reason = "{} has the batch and the channels too"
    return explain_rewrite(ctx, change, reason, "the sizes of the sides", here=False)


#: Functions of numpy's by the name that torch has for them.
_ARRAYS = {"concatenate": "cat", "expand_dims": "unsqueeze", "transpose": "permute", "dot": "matmul",
           "array": "as_tensor", "asarray": "as_tensor", "power": "pow", "absolute": "abs"}  # fmt: skip


def _explain_numpy(ctx: FailureContext) -> Diagnosis | None:
    """A function of numpy's reads tensors: torch has it too."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Attribute) and write(node.value) in ("np", "numpy") and isinstance(around, ast.Call):
            yield write(node), f"torch.{_ARRAYS.get(node.attr, node.attr)}"

    return explain_rewrite(ctx, change, "{} makes an array of numpy's, which has no gradient", "a tensor", here=False)


def _explain_math(ctx: FailureContext) -> Diagnosis | None:
    """A function of Python's ``math`` reads one number, and got a tensor."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Attribute) and write(node.value) == "math" and isinstance(around, ast.Call):
            yield write(node), f"torch.{node.attr}"

    return explain_rewrite(ctx, change, "{} reads one number, and got a tensor", "one number")


def _explain_text(ctx: FailureContext) -> Diagnosis | None:
    """A number is written as a text, or the keys of what a model of the ``transformers`` returns were unpacked."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[+-]?(?:inf|nan|infinity)", node.value, re.IGNORECASE):
                yield f"{write(node)} is a text", f"float({write(node)})"
            elif re.fullmatch(r"-?\d+(?:\.\d*)?(?:e-?\d+)?", node.value):
                yield f"{write(node)} is a text", node.value
        if isinstance(node, ast.Call) and isinstance(around, ast.Assign) and isinstance(around.targets[0], ast.Tuple):
            kinds = {
                ctx.failure.names[name].kind for name in find_targets(ast.unparse(around)) if name in ctx.failure.names
            }
            if "str" in kinds:
                what = f"{write(node)} returns an object, and unpacking it gives the names of its parts"
                yield what, f"{write(node)[:-1]}{', ' * bool(node.args or node.keywords)}return_dict=False)"
                yield what, f"{write(node)}.to_tuple()"

    return explain_rewrite(ctx, change, "{}", "a tensor or a number", here=False)


def _explain_size(ctx: FailureContext) -> Diagnosis | None:
    """A tensor, or its whole shape, was given where one size is read: ``range(x)``, ``make_mask(x)``."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if not isinstance(around, ast.Call) or node not in around.args:
            return
        held = ctx.failure.names.get(write(node))
        axes = (0, 1) if len(around.args) > 1 and around.args[0] is node else (1, 0)
        if isinstance(node, ast.Name) and held is not None and held.kind == "Tensor":
            what = f"{write(node)} is a tensor"
            if len(around.args) == 1 and write(around.func).rpartition(".")[2] in SIZED_FACTORIES:
                yield what, f"{write(node)}.shape"
            yield from ((what, f"{write(node)}.size({axis})") for axis in axes)
        shape = re.fullmatch(r"(\w+)\.(?:shape|size\(\))", write(node))
        if shape is not None:
            yield from ((f"{write(node)} is the size of every dim", f"{shape[1]}.size({axis})") for axis in axes)

    return explain_rewrite(ctx, change, "{}, and one number is read", "the size of a dim", alone=True)


def _explain_number(
    ctx: FailureContext, function: str, argument: str, position: str, wanted: str, came: str
) -> Diagnosis | None:
    """A function of tensors got a number, or one of several numbers got one."""
    rank = max((x.rank for x in ctx.data), default=4)
    imports = find_imports(ctx.statement.filename) if ctx.statement is not None else set()

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if not isinstance(node, ast.Call) or write(node.func).rpartition(".")[2] != function or not node.args:
            return
        words = write_words(node, write)
        if argument == "keepdim" and came == "int" and isinstance(node.func, ast.Attribute):  # x.sum(1, 2)
            yield f"{write(node.func)}({', '.join([f'({words[0]}, {words[1]})', *words[2:]])})"
        elif wanted == "Tensor" and came in ("int", "float") and len(words) == 1:
            if "math" in imports and function in _OF_MATH:
                yield f"math.{function}({words[0]})"
            yield f"{write(node.func)}(torch.tensor(float({words[0]})))"
        elif wanted == "tuple of ints" and came == "int":
            given = dict[object, ast.expr](enumerate(node.args)) | {word.arg: word.value for word in node.keywords}
            value = given.get(int(position) - 1, given.get(argument))
            if value is not None:
                count = 2 * max(rank - 2, 1) if function == "pad" else 1
                new = f"({', '.join([write(value)] * count)}{',' * (count == 1)})"
                texts = {key: new if item is value else write(item) for key, item in given.items()}
                named = [text if isinstance(key, int) else f"{key}={text}" for key, text in texts.items()]
                yield f"{write(node.func)}({', '.join(named)})"
        elif len(node.args) > 1 and came not in _NO_SWAP:  # the first two are in each other's place
            yield f"{write(node.func)}({', '.join([words[1], words[0], *words[2:]])})"

    fixes = rewrite(ctx, change, here=True)
    if not fixes:
        return None
    reason = f"{function} takes a {wanted} for '{argument}', got {came}"
    return Diagnosis(reason, wanted, fixes)


def divide_whole(value: ast.expr) -> str:
    """Write a division of integers that gives one: ``d // h``."""
    text = ast.unparse(value)
    changed = re.sub(r"(?<!/)/(?!/)", "//", text)
    return changed if changed != text else f"int({text})"


_OF_MATH = ("sqrt", "log", "exp", "floor", "ceil", "sin", "cos", "log2")


def _explain_count(ctx: FailureContext) -> Diagnosis | None:
    """A number is looped over, or unpacked: ``for i in self.num_layers``."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if isinstance(around, (ast.For, ast.comprehension)) and around.iter is node:
            yield write(node), f"range({write(node)})"
        if isinstance(around, ast.Assign) and around.value is node and isinstance(around.targets[0], ast.Tuple):
            base = re.fullmatch(r"(.+?)(?:\.size\(0\)|\.shape\[0\])", write(node))
            if base is not None:
                yield write(node), f"{base[1]}.shape[:{len(around.targets[0].elts)}]"

    return explain_rewrite(ctx, change, "{} is one number", "several")


def _explain_order(ctx: FailureContext) -> Diagnosis | None:
    """``transpose`` swaps two dims, and was given an order of all."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Attribute) and node.attr in ("transpose", "swapaxes"):
            yield f"{write(node.value)}.permute"

    reason = "transpose swaps two dims, and the line gives an order of more: permute takes one"
    return Diagnosis(reason, "two dims", rewrite(ctx, change, here=True))


def _explain_list(ctx: FailureContext) -> Diagnosis | None:
    """Tensors to be joined were given one by one."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if not isinstance(node, ast.Call) or write(node.func).rpartition(".")[2] not in _JOINING:
            return
        if not node.args or isinstance(node.args[0], (ast.List, ast.Tuple, ast.ListComp)):
            return
        tensors = [write(item) for item in node.args if not isinstance(item, ast.Constant)]
        others = [write(item) for item in node.args if isinstance(item, ast.Constant)]
        words = [f"[{', '.join(tensors)}]", *others, *(f"{word.arg}={write(word.value)}" for word in node.keywords)]
        for way in [words] if len(words) > 1 else [[*words, "dim=1"], words]:  # the batch stays the batch
            yield write(node.func), f"{write(node.func)}({', '.join(way)})"

    return explain_rewrite(ctx, change, "{} takes its tensors as one list", "a list of tensors")


def _explain_fraction(ctx: FailureContext) -> Diagnosis | None:
    """An index or a size is a float, which ``/`` gives of integers too."""
    changed = ((there, re.sub(r"(?<!/)/(?!/)", "//", drop_remark(there.text))) for there in list_statements(ctx))
    fixes = [made for there, line in changed if (made := write_statement(ctx, there, line))]
    for name, held in ctx.failure.names.items():
        if held.kind == "float" and "." in name and name in ctx.line and float(held.words[0]).is_integer():
            fixes.append(make_attribute(ctx, name, divide_whole))
    reason = "an index is an integer, and / gives a float, of integers too: // gives an integer"
    return Diagnosis(reason, "an integer", fixes) if fixes else None
