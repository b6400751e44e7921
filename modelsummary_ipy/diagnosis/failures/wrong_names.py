"""Names that are not there: of variables, attributes, functions, arguments and keys."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line, set_value
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite, write_statement, write_words
from modelsummary_ipy.diagnosis.failures.source_nodes import find_targets
from modelsummary_ipy.diagnosis.failures.statements import drop_remark, find_loop, list_names_before
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import join_path

_NAME = re.compile(r"(?:name|variable) '(\w+)'")
_MODULE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_ATTRIBUTE = re.compile(r"'(\w+)' object has no attribute '(\w+)'")
_KEYWORD = re.compile(r"(\w+)\(\) got an unexpected keyword argument '(\w+)'|\(\) received .* - got \([^)]*?(\w+)=")
_MISSPELT = re.compile(r"; (\w+) has '(\w+)'$")
#: Imports by the name that everybody gives them.
_IMPORTS = {
    "np": "import numpy as np", "math": "import math", "F": "import torch.nn.functional as F", "copy": "import copy",
    "rearrange": "from einops import rearrange", "einsum": "from torch import einsum",
    "Tensor": "from torch import Tensor",
    "repeat": "from einops import repeat", "reduce": "from einops import reduce", "einops": "import einops",
    "partial": "from functools import partial", "checkpoint": "from torch.utils.checkpoint import checkpoint",
    "random": "import random", "nn": "from torch import nn", "torch": "import torch",
}  # fmt: skip
#: What numpy, TensorFlow and older releases call a method of tensors.
_RENAMED = {
    "copy": "clone", "astype": "to", "expand_dims": "unsqueeze", "concatenate": "cat", "permute_dims": "permute",
    "rank": "dim", "get_shape": "size", "reduce_mean": "mean", "reduce_sum": "sum", "dot": "matmul", "power": "pow",
}  # fmt: skip


def explain_name(ctx: FailureContext) -> Diagnosis | None:
    """Explain a name that is not known where it is looked up, by one that is."""
    kind, message = ctx.failure.error_type, ctx.failure.message
    if kind in ("NameError", "UnboundLocalError") and (found := _NAME.search(message)):
        return _explain_variable(ctx, found[1])
    if kind == "NotImplementedError" and (found := _MISSPELT.search(message)):
        fix = fix_line(ctx, re.sub(rf"\bdef {found[2]}\b", "def forward", ctx.line))
        return Diagnosis(f"{found[1]} has no forward; it has '{found[2]}'", "a method named forward", fix)
    if kind == "AttributeError" and (found := _MODULE.search(message)):
        return _explain_function(ctx, found[1], found[2])
    if kind == "AttributeError" and (found := _ATTRIBUTE.search(message)):
        return _explain_attribute(ctx, found[1], found[2])
    if kind == "TypeError" and (found := _KEYWORD.search(message)):
        return _explain_keyword(ctx, found[1] or "", found[2] or found[3])
    return _explain_key(ctx) if kind == "KeyError" else None


# -- variables --------------------------------------------------------------------------------------------------------


def _explain_variable(ctx: FailureContext, name: str) -> Diagnosis | None:
    start = _fix_start(ctx, name)
    if start:
        reason = f"{name} has no value before the loop, and each step reads that of the step before"
        return Diagnosis(reason, f"a value of {name} before the loop", start)
    options: list[str] = []
    if f"self.{name}" in ctx.failure.names:
        options.append(f"self.{name}")
    if name in _FUNCTIONALS and name not in _IMPORTS:
        options.append(f"F.{name}")
    options += ctx.failure.near
    fixes = rewrite(ctx, _replace_name(name, options), here=True) if options else []
    if name in _IMPORTS:
        fixes.append(fix_line(ctx, f"{_IMPORTS[name]}\n{ctx.line}"))
    elif not options:
        known = [other for other in list_names_before(ctx.failure.source) if other != name]
        kinds = {other: ctx.failure.names[other].kind for other in known if other in ctx.failure.names}
        tensors = [other for other, kind in kinds.items() if kind in ("Tensor", "tuple", "list")]
        fixes = rewrite(ctx, _replace_name(name, tensors[:1]), here=True)
    what = f"{name} is not defined here"
    if ctx.failure.error_type == "UnboundLocalError":
        what = f"{name} has no value on this way through the function"
    if f"self.{name}" in options:
        what += f": self.{name} is the model's"
    return Diagnosis(what, "a name that is known", fixes)


def _replace_name(name: str, options: list[str]) -> Callable[..., list[str]]:
    def change(node: ast.AST, around: ast.AST | None, write: Write) -> list[str]:
        is_it = isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        return options if is_it else []

    return change


def _fix_start(ctx: FailureContext, name: str) -> Candidate | None:
    """Give a name that a loop carries along a value before the loop: ``h = None`` of a cell, ``[]``, ``0``."""
    loop = find_loop(ctx.failure.source) if ctx.failure.source is not None else None
    statement = ctx.read_at(loop) if loop else None
    if statement is None or ctx.statement is None:
        return None
    line = ctx.line
    if re.search(rf"\b{name}\.append\(", line):
        value = "[]"
    elif name not in find_targets(line) and not re.match(rf"{name} [+*]= ", line):
        return None
    elif re.match(rf"{name} \*= |{name} = {name} \* ", line):
        value = "1"
    else:
        value = "0" if re.match(rf"{name} \+= |{name} = {name} \+ ", line) else "None"
    return write_statement(ctx, statement, f"{name} = {value}\n{drop_remark(statement.text)}")


# -- functions and attributes -----------------------------------------------------------------------------------------

#: Functions of ``torch.nn.functional`` that take one tensor and need nothing else.
_FUNCTIONALS = frozenset(
    """relu relu6 gelu silu mish sigmoid tanh softplus elu selu celu leaky_relu hardswish hardsigmoid hardtanh
    logsigmoid softsign tanhshrink normalize dropout dropout2d softmax log_softmax interpolate pad max_pool1d
    max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d one_hot
    cross_entropy mse_loss nll_loss cosine_similarity layer_norm pixel_shuffle unfold fold grid_sample linear
    conv1d conv2d embedding""".split()  # noqa: SIM905  # words, not a list
)
_NEED_DIM = ("softmax", "log_softmax", "softmin")


def write_functional(name: str, arguments: list[str], rank: int = 0) -> str:
    """Write a call of a function that a model has no layer for; ``""`` if there is none of that name."""
    flat = name.replace("_", "").lower()
    known = next((item for item in _FUNCTIONALS if item.replace("_", "") == flat), "")
    if not known:
        return ""
    words = list(arguments)
    if known in _NEED_DIM and len(words) == 1:
        words.append("dim=1" if rank == 4 else "dim=-1")
    if known in ("dropout", "dropout2d") and len(words) == 1:
        words.append("training=self.training")
    return f"F.{known}({', '.join(words)})"


def _explain_function(ctx: FailureContext, module: str, name: str) -> Diagnosis | None:
    """A module of functions has nothing of that name: another one has, or the name is spelt otherwise."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if not isinstance(node, ast.Attribute) or node.attr != name:
            return
        is_called = isinstance(around, ast.Call) and around.func is node
        flat = name.replace("_", "").lower()
        known = next((item for item in _FUNCTIONALS if item.replace("_", "") == flat), "")
        if is_called and known and not (module.endswith("functional") and known == name):
            yield f"F.{known}"
        base = write(node.value)
        if base in ("np", "numpy") or module.startswith("numpy"):
            return
        if name in _RENAMED:
            yield f"{base}.{_RENAMED[name]}"
        if not module.endswith("nn"):
            yield from (f"{base}.{other}" for other in ctx.failure.near)
        yield from (f"torch.{other}" for other in (name,) if base != "torch")

    fixes = rewrite(ctx, change, here=True)
    near = ctx.failure.near[0] if ctx.failure.near else ""
    short = {"torch.nn.functional": "F", "torch.nn": "nn"}.get(module, module)
    reason = f"{short} has no '{name}'" + (f"; it has '{near}'" if near else "")
    return Diagnosis(reason, "a function that is there", fixes)


def _explain_attribute(ctx: FailureContext, owner: str, name: str) -> Diagnosis | None:
    if owner in ("tuple", "list", "dict", "OrderedDict", "NoneType"):
        return None
    rank = max((x.rank for x in ctx.data), default=0)
    is_model = owner == ctx.call.type_name and ctx.fact is not None
    near = list(ctx.failure.near) or (_list_unread(ctx) if is_model else [])

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Attribute) and node.attr == name:
            base, is_called = write(node.value), isinstance(around, ast.Call) and around.func is node
            if owner in ("Tensor", "Parameter") and name in _RENAMED:
                yield f"{base}.{_RENAMED[name]}"
            yield from (f"{base}.{other}" for other in near if other.endswith("_") <= name.endswith("_"))
            if "pool" in name and owner.endswith("Output"):  # a model without a layer for it
                yield f"{base}.last_hidden_state[:, 0]"
            if owner == "Tensor" and not is_called:
                yield base
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            words = write_words(node, write)
            base = write(node.func.value)
            if (is_model and base == "self") or owner in ("Tensor", "Parameter"):
                made = write_functional(name, words if base == "self" else [base, *words], rank)
                yield from [made] if made else []
            if owner not in ("Tensor", "Parameter") and name == "forward":
                yield f"{base}({', '.join(words)})"

    fixes = rewrite(ctx, change, here=True)
    if not (is_model or fixes):
        return None
    what = ctx.owner if is_model else f"a {owner}"
    reason = f"{what} has no '{name}'" + (f"; it has '{near[0]}'" if near else "")
    return Diagnosis(reason, "an attribute that __init__ sets" if is_model else f"an attribute of {owner}", fixes)


def _list_unread(ctx: FailureContext) -> list[str]:
    """List the layers of the model that its forward does not name, if it is one or two."""
    children = [ctx.trace.modules[index] for index in ctx.fact.children] if ctx.fact is not None else []
    read = (ctx.fact.reads or frozenset()) if ctx.fact is not None else frozenset()
    names = [fact.path.rpartition(".")[2] for fact in children]
    found = [name for name in names if name not in read]
    return found if len(found) < _MOST_UNREAD else []


_MOST_UNREAD = 3


# -- arguments and keys -----------------------------------------------------------------------------------------------


def _explain_keyword(ctx: FailureContext, function: str, name: str) -> Diagnosis | None:
    near = [other for other in ctx.failure.near if not re.search(rf"\b{other}=", ctx.line)]
    function = function or ctx.failure.message.partition("(")[0]
    if re.search(rf"\b{name}\b", "".join(re.findall(r"^ *\* \(.*", ctx.failure.message, re.MULTILINE))):
        return None  # something else was wrong

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if not isinstance(node, ast.Call) or all(word.arg != name for word in node.keywords):
            return
        ways = [f"{new}=" for new in near] or ([""] if function != "forward" else [])
        for new in ways:
            words = [re.sub(rf"^{name}=", new, word) if new else word for word in write_words(node, write)]
            kept = [word for word in words if new or not word.startswith(f"{name}=")]
            yield f"{write(node.func)}({', '.join(kept)})"

    fixes = rewrite(ctx, change, here=True)
    if not fixes:
        return None
    other = f"; it has '{near[0]}'" if near else ""
    return Diagnosis(f"{function} has no argument '{name}'{other}", "an argument that it has", fixes)


def _explain_key(ctx: FailureContext) -> Diagnosis | None:
    """A dict or a ``ModuleDict`` has no such key."""
    names, wanted = ctx.failure.names, ctx.failure.message
    found: dict[str, tuple[str, ...]] = {}
    settings: list[tuple[str, str, tuple[str, ...]]] = []

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        held = names.get(write(node.value)) if isinstance(node, ast.Subscript) else None
        if not isinstance(node, ast.Subscript) or held is None or not held.kind.endswith(("dict", "Dict")):
            return
        key = write(node.slice)
        if isinstance(node.slice, ast.Constant) and repr(node.slice.value) != wanted:
            return
        base = write(node.value)
        found[base] = held.words
        if not isinstance(node.slice, ast.Constant):
            at = names.get(key)
            if at is not None and at.kind == "str" and key.startswith("self."):
                settings.append((key, ast.literal_eval(at.words[0]), held.words))
            yield f"{base}[str({key})]"
            return
        read = set(re.findall(rf"{re.escape(base)}\[([^\]]+)\]", ctx.line))
        words = {word.strip("'\""): word for word in held.words if word not in read}
        near = _list_like(str(node.slice.value), words) or (list(words) if len(words) == 1 else [])
        yield from (f"{base}[{words[word]}]" for word in near)

    fixes = rewrite(ctx, change, here=True)
    if not found:
        return None
    base, keys = next(iter(found.items()))
    for key, value, known in settings:  # the key is a setting of the model's
        like = _list_like(value, [word.strip("'\"") for word in known])
        path = join_path(ctx.call.path, key.partition(".")[2])
        fixes += [set_value(path, repr(word)) for word in like]
    return Diagnosis(f"{base} has no key {wanted}; it has {', '.join(keys[:6])}", "a key that it has", fixes)


def _list_like(text: str, words: Iterable[str]) -> list[str]:
    """List the keys that are like a text: those that hold it first."""
    same = [word for word in words if text.lower() in word.lower() or word.lower() in text.lower()]
    return list(dict.fromkeys([*same, *difflib.get_close_matches(text, list(words), 3, 0.6)]))
