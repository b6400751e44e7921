"""Parameters of the user's own: which one a tensor is, and how it is made with another size."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, remake
from modelsummary_ipy.diagnosis.failures.module_code import write_change
from modelsummary_ipy.diagnosis.failures.setters import find_item, find_module, find_setter
from modelsummary_ipy.diagnosis.failures.source_edits import splice_argument
from modelsummary_ipy.diagnosis.torch_names import LOOKUPS, SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate, LayerEdit


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
