"""Tensors made with another size: parameters of the user's own, and zeros, noise and masks that the forward makes."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping, Sequence
from functools import reduce

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, place_line, read_line, remake, write_at
from modelsummary_ipy.diagnosis.failures.module_code import write_change
from modelsummary_ipy.diagnosis.failures.rewriting import change_alike
from modelsummary_ipy.diagnosis.failures.setters import find_item, find_module, find_setter
from modelsummary_ipy.diagnosis.failures.source_edits import splice_argument
from modelsummary_ipy.diagnosis.torch_names import LOOKUPS, SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate, LayerEdit
from modelsummary_ipy.records.trace import Source


def find_param(ctx: FailureContext, x: Operand) -> int | None:
    """Return the parameter or buffer that a tensor is, or was cut from."""
    param = x.param
    for call in ctx.flow.walk_back(x.link, 4):
        if param is None:
            if call.type_name in LOOKUPS:  # what it reads says which rows, and is no part of them
                return None
            param = next((index for index in call.input_params if index is not None), None)
    return param if param is not None and ctx.trace.params[param].names else None


def find_param_name(ctx: FailureContext, x: Operand) -> str:
    """Return the name of the parameter or buffer that a tensor is, or was cut from; ``""`` if it is none."""
    param = find_param(ctx, x)
    return ctx.trace.params[param].names[0] if param is not None else ""


def resize_origin(ctx: FailureContext, x: Operand, size: int) -> Candidate:
    """Give another last dim to what a tensor was made of: a parameter of the user's own, or a layer."""
    param = find_param(ctx, x)
    last = Operand(x.spec, x.link, param)
    is_last = param is not None and ctx.trace.params[param].shape[-1:] == x.shape[-1:]
    return (resize_param(ctx, last, [-1], size) if is_last else NOTHING) or fix_giver(ctx, x, size)


def resize_param(ctx: FailureContext, x: Operand, axes: Sequence[int], size: int) -> Candidate:
    """Write a parameter with another size on an axis or two: ``"self.pos = nn.Parameter(torch.zeros(1, 40, 8))"``.

    It is made as the user's ``__init__`` makes it, where that can be read; a buffer only then.

    Returns:
        Nothing if the tensor is neither, or a layer's weight.
    """
    if x.param is None:
        return NOTHING
    fact = ctx.trace.params[x.param]
    if not fact.names or len(fact.shape) < -min(axes):
        return NOTHING
    sizes = list(fact.shape)
    for axis in axes:
        sizes[axis] = size
    return reshape_param(ctx, x, tuple(sizes))


def reshape_param(ctx: FailureContext, x: Operand, sizes: tuple[int, ...]) -> Candidate:
    """Write a parameter or buffer with other sizes, as ``resize_param`` does."""
    if x.param is None:
        return NOTHING
    fact = ctx.trace.params[x.param]
    owner = find_module(ctx.trace, fact.names[0].rpartition(".")[0])
    if owner is not None and owner.type_module.startswith("torch.") and not owner.type_name.endswith("Loss"):
        is_table = owner.type_name == "Embedding" and sizes[:-1] == fact.shape[:-1]
        return remake(ctx, owner, embedding_dim=sizes[-1]) if is_table else NOTHING
    code, written = _read_maker(ctx, fact.names[0], fact.shape, sizes)
    if fact.kind == "parameter" and not code:
        code = written = f"nn.Parameter(torch.zeros({', '.join(map(str, sizes))}))"
    text = write_change(fact.names[0], code)
    return Candidate(text, (LayerEdit(fact.names[0], code, written),)) if text else NOTHING


def _read_maker(ctx: FailureContext, name: str, old: tuple[int, ...], size: tuple[int, ...]) -> tuple[str, str]:
    """Return how a tensor of another size is made: with numbers alone, and with the names that the user writes.

    Both are ``""`` if that can't be read.
    """
    path, _, last = name.rpartition(".")
    owner, items = find_module(ctx.trace, path), [last]
    if owner is not None and owner.type_name.endswith("Loss"):
        path, _, own = path.rpartition(".")
        owner, items = find_module(ctx.trace, path), [own, last]
    found = find_setter(owner, items[0]) if owner is not None else None
    for setter in found[0] if found is not None and len(found[0]) == 1 else ():
        value = find_item(setter.value, last) if items[1:] else setter.value
        line = ast.unparse(value) if value is not None else ""
        for factory in sorted(SIZED_FACTORIES):
            code = splice_argument(line, factory, (-1,) * len(old), size, {})
            if factory == "eye" and not code and len(set(size)) == 1:
                old, size = old[:1], size[:1]
                code = splice_argument(line, factory, (-1,), size, {})
            names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)} if code else {""}
            if names <= {"nn", "torch"}:
                return code, splice_argument(line, factory, old, size, {})
    return "", ""


#: They return a tensor of the same shape.
_CARRIERS = frozenset(
    {"to", "triu", "tril", "bool", "float", "masked_fill", "masked_fill_", "logical_not", "zeros_like"}
)


def fix_creation(
    ctx: FailureContext, x: Operand, size: tuple[int, ...], names: Mapping[int, str] | None = None
) -> Candidate:
    """Give a tensor that the forward makes another size, on the line that makes it.

    Args:
        size: What it is to have.
        names: By axis, how to write a size that is the input's.

    Returns:
        ``"at net.py:12: h = torch.zeros(2, 4, 16)"``; nothing if its line does not have the size.
    """
    for call in ctx.flow.walk_back(x.link, 6):
        if call.type_name in SIZED_FACTORIES:
            line = read_line(ctx, call.source)
            old = call.outputs[0].shape if call.outputs else ()
            new = splice_argument(line, call.type_name, old, size, names or {}) if line else ""
            found = change_alike(ctx.at_line_of(call), place_line(ctx, call, new if new != line else ""))
            return found
        if call.kind != "op" or call.type_name not in _CARRIERS:
            return NOTHING
    return NOTHING


def fix_size_read(ctx: FailureContext, x: Operand) -> Candidate:
    """Read another dim of a tensor where a size is read that something was made of: ``n = src.size(1)``."""
    maker = next((call for call in ctx.flow.walk_back(x.link, 6) if call.type_name in SIZED_FACTORIES), None)
    found = ctx.read(maker.source) if maker is not None else None
    if maker is None or found is None:
        return NOTHING
    for source in (maker.source, *maker.lines[1:]):  # a helper made it: self.make_mask(src.size(0))
        outer = ctx.read(source)
        changed = _swap_axis(outer.text) if outer is not None else ""
        if outer is not None and changed:
            return write_at(source, outer, changed)
    return read_other_size(ctx, maker.source, found.text)


def _swap_axis(text: str) -> str:
    """Write 1 for 0, or the other way round, where a statement reads one size; ``""`` if it reads none or several."""
    axes = list(_SIZE_READ.finditer(text))
    at = axes[0].start(1) if len(axes) == 1 else 0
    return f"{text[:at]}{1 - int(text[at])}{text[at + 1 :]}" if at else ""


_SIZE_READ = re.compile(r"\w+(?:\.size\(|\.shape\[)([01])(?=[)\]])")


def read_other_size(ctx: FailureContext, source: Source | None, text: str) -> Candidate:
    """Read dim 1 for dim 0, or the other way round, on the last line before that assigns a name of a text.

    Another state of the same size, on a line of its own, is changed with it.
    """
    found: dict[str, Candidate] = {}
    size = ""
    for number in range(source.line - 1, max(source.line - 9, 0), -1) if source is not None else ():
        before = ctx.read(source._replace(line=number)) if source is not None else None
        name = re.match(r"(\w+) = ", before.text) if before is not None else None
        if before is None or name is None or name[1] in found or not re.search(rf"\b{name[1]}\b", text):
            continue
        read, changed = _SIZE_READ.search(before.text), _swap_axis(before.text)
        if read is not None and changed and size in ("", read[0]):
            size = read[0]
            found[name[1]] = write_at(source, before, changed)
    return reduce(operator.add, reversed(found.values())) if found else NOTHING
