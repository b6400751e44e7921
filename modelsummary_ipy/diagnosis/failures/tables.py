"""Tables of positions, masks of a largest length: longer or shorter than the input, or of other features."""

from __future__ import annotations

import ast
import itertools
import re
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.constructions import list_constructions
from modelsummary_ipy.diagnosis.failures.context import STEER, Diagnosis, FailureContext, Operand, Pair, dim_of
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_giver,
    fix_operand,
    read_arguments,
    remake,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.parameters import find_param, resize_param
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds, name_setting
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import LINEARS
from modelsummary_ipy.records.fixes import Candidate


def find_table(pair: Pair) -> int | None:
    """Return which of two tensors comes from a parameter or buffer and not from the input, as the other one does."""
    fed = [bool(pair.ctx.flow.sources(x.link)) for x in pair.both]
    return fed.index(False) if fed[0] != fed[1] else None


def explain_order(pair: Pair) -> Diagnosis | None:
    """A table has its steps where the input has the batch, or its positions on two dims where the input has one."""
    which = find_table(pair)
    if which is None:
        return None
    ctx, both, places, _ = pair
    table, data = both[which], both[1 - which]
    is_turned = table.shape[1:] == data.shape[:0:-1]
    if table.rank != 3 or data.rank != 3 or (table.shape[-1] != data.shape[-1] and not is_turned):
        return None
    param = find_param(ctx, table)
    name = f"'{ctx.trace.params[param].names[0]}'" if param is not None else "the other tensor"
    sizes = f"{name} {write_shape(table.shape)}"
    if is_turned and table.shape != data.shape and table.shape[0] in (1, data.shape[0]):
        reason = f"{sizes} has its positions in dim 1, {write_shape(data.shape)} has them last"
        return Diagnosis(reason, write_shape(data.shape[1:]), fix_operand(ctx, places[which], "{}.transpose(1, 2)"))
    one = 0 if data.formula is not None and data.formula[1] == "B" else 1  # where the table has no steps
    steps = table.shape[1 - one]
    if table.shape[one] == 1 and steps >= data.shape[one] > 1 and (one == 1 or steps == data.shape[0]):
        cut = _write_cuts(pair._replace(axes=[-2]), which, first="[:{}]", then=".transpose(0, 1)")
        turned = fix_operand(ctx, places[which], "{}.transpose(0, 1)")
        fixes = [fix for fix in ([turned] if one == 0 or steps == data.shape[1] else cut) if fix]
        reason = f"{sizes} has the steps in dim {1 - one}, {write_shape(data.shape)} has them in dim {one}"
        expected = write_shape((1, data.shape[1], data.shape[2]) if one else (data.shape[0], 1, data.shape[2]))
        return Diagnosis(reason, expected, fixes) if fixes else None
    if table.shape[0] * table.shape[1] == data.shape[1] and table.shape[0] != 1:
        reason = f"{sizes} has {table.shape[0]} × {table.shape[1]} positions on two dims, the input has them on one"
        expected = write_shape(data.shape[1:])
        return Diagnosis(reason, expected, fix_operand(ctx, places[which], "{}.flatten(0, 1)"))
    return None


def explain_table(pair: Pair) -> Diagnosis | None:
    """A table of positions, or a mask of a largest length, that is longer or shorter than the input."""
    which = find_table(pair)
    if which is None:
        return None
    ctx, both, places, axes = pair
    table, data = both[which], both[1 - which]
    came, most = data.shape[axes[0]], table.shape[axes[0]]
    if any((data.shape[axis], table.shape[axis]) != (came, most) for axis in axes):
        return None
    param = find_param(ctx, table)
    name = f"'{ctx.trace.params[param].names[0]}'" if param is not None else "the other tensor"
    shape = ctx.trace.params[param].shape if param is not None else ()
    if axes == [-3] and (table.rank, data.rank) == (3, 4) and data.shape[0] % most == 0:  # of each window
        repeated = f"{{}}.repeat({{{places[1 - which]}}}.size(0) // {most}, 1, 1).unsqueeze(1)"
        reason = f"{name} is of {most} windows, and {write_shape(data.shape)} has {data.shape[0] // most} times as many"
        return Diagnosis(reason, f"{data.shape[0]} × 1 matrices", fix_operand(ctx, places[which], repeated))
    if len(shape) > 3 and (modulated := fix_giver(ctx, data, most, axes[0])):  # weights of a convolution, modulated
        reason = f"{ctx.describe_giver(data, axes[0])} {came}, {name} {write_shape(shape)} has {most} there"
        return Diagnosis(reason, f"{most} in dim {data.rank + axes[0]}", modulated)
    if axes == [-1] and len(shape) == 3 and shape[1] == data.shape[-1] and shape[2] >= data.shape[-2]:
        turned = set_value(name.strip("'"), f"nn.Parameter(torch.zeros({shape[0]}, {shape[2]}, {shape[1]}))")
        reason = f"{name} {write_shape(shape)} has the {shape[1]} features in dim 1, and its positions last"
        return Diagnosis(reason, write_shape((shape[0], shape[2], shape[1])), turned)
    if (
        axes == [-1]
        and table.rank == 2
        and data.shape[-2] == table.shape[-2]
        and (wider := fix_giver(ctx, table, came))
    ):
        reason = f"the steps have {came} features, {ctx.describe_giver(table, -1)} {most}"
        return Diagnosis(reason, f"{came} features", [wider, fix_giver(ctx, data, most)])
    if axes == [-1] and table.rank == data.rank == 3 and data.shape[-2] == table.shape[-2]:
        if _is_installed(ctx, data) and (narrower := fix_giver(ctx, data, most)):
            reason = f"{ctx.describe_giver(data, -1)} {came} features, {ctx.describe_giver(table, -1)} {most}"
            return Diagnosis(reason, f"{most} features", narrower)
        return _explain_projection(ctx, places[1 - which], came, most, name)
    if came < most and (rebuilt := _narrow_table(ctx, table, data, most, came)) is not None:
        return rebuilt
    if shape == (most,) and param is not None and (stacked := _explain_stacked(pair, which, param)) is not None:
        return stacked
    reason = f"input has {came} positions, {name} has {most}"
    options: list[Candidate] = []
    if param is not None and len(shape) == 2 and set(shape) == {most}:  # a matrix of classes by classes
        facts = (ctx.flow.module_of(call) for call in ctx.flow.walk_back(data.link, 12) if call.type_name in LINEARS)
        giver = next((fact for fact in facts if fact is not None), None)
        if giver is not None and giver.settings.get("out_features") == came:
            reason = f"{name} {write_shape(shape)} is of {most} classes by {most}, '{giver.path}' gives {came}"
            wider = remake(ctx, giver, out_features=most)
            narrower = resize_param(ctx, replace(table, param=param), [-2, -1], came)
            return Diagnosis(reason, f"{most} classes", [wider, narrower])
    if came < most:
        options += _write_cuts(pair, which)
    elif param is not None:  # of two axes, a bias of each step to each
        if setting := name_setting(ctx, most):
            reason += f" ({setting})"
        options += list_rebuilds(ctx, most, came)
        options.append(resize_param(ctx, Operand(table.spec, table.link, param), axes, came))
        owner = ctx.trace.params[param].names[0].rpartition(".")[0]
        options += list_constructions(ctx, owner, most, came)
    goal = (dim_of(axes[0], places[1 - which]), most)
    exactly = "" if came < most else "at most "  # fewer did not fit: nothing cuts the table
    return Diagnosis(reason, f"{exactly}{most} in dim {data.rank + axes[-1]}", options, STEER, goal)


def _narrow_table(ctx: FailureContext, table: Operand, data: Operand, most: int, came: int) -> Diagnosis | None:
    """A module makes a row of features for each step, more than the data have: a rotary table of all heads' width."""
    param = find_param(ctx, table)
    if param is None or table.rank < 2 or data.rank < 2 or table.shape[-2:] != (data.shape[-2], most):
        return None
    fact = ctx.trace.params[param]
    owner = fact.names[0].rpartition(".")[0]
    makers = {call.type_name for call in ctx.flow.walk_back(data.link, 6)}
    is_mask = fact.shape[-2:] == (fact.shape[-1],) * 2 or makers & {"matmul", "bmm", "einsum", "softmax"}
    fixes = [] if is_mask else list(list_constructions(ctx, owner, most, came))
    reason = f"'{owner}' gives each of {table.shape[-2]} steps {most} features, {write_shape(data.shape)} has {came}"
    return Diagnosis(reason, f"{came} features", fixes) if fixes else None


def _explain_stacked(pair: Pair, which: int, param: int) -> Diagnosis | None:
    """A weight for each of several tensors that are stacked, and there are more or fewer of them."""
    ctx, both, _, axes = pair
    table, data = both[which], both[1 - which]
    maker = ctx.flow.producer(data.link)
    if maker is None or maker.type_name != "stack" or len(axes) != 1:
        return None
    count, own = len(maker.inputs), f"'{ctx.trace.params[param].names[0]}'"
    if data.shape[axes[0]] != count:
        return None
    reason = f"{count} tensors are stacked, {own} has {table.shape[axes[0]]} numbers"
    return Diagnosis(reason, f"{count} numbers", resize_param(ctx, replace(table, param=param), [-1], count))


def _is_installed(ctx: FailureContext, data: Operand) -> bool:
    """Return whether a line of a package fails on what a line of the user's gave: the package is as it is."""
    maker = ctx.flow.producer(data.link)
    return (
        ctx.is_in_package and maker is not None and maker.source is not None and not ctx.at_line_of(maker).is_in_package
    )


def _explain_projection(ctx: FailureContext, place: int, got: int, wanted: int, name: str) -> Diagnosis:
    """Steps have another number of features than a table of positions: a projection is left out."""
    reason = f"the steps have {got} features, {name} has {wanted}"
    widths = (got, wanted)
    fit = [
        fact for fact in ctx.list_unread()
        if (fact.settings.get("in_features"), fact.settings.get("out_features")) == widths
    ]  # fmt: skip
    owner = f"{ctx.fact.path}." if ctx.fact is not None and ctx.fact.path else ""
    names = [fact.path.removeprefix(owner) for fact in fit if fact.path.startswith(owner)]
    if len(names) == 1 and names[0].isidentifier():
        reason += f"; '{names[0]}' projects and is not used"
        return Diagnosis(reason, f"{wanted} features", fix_operand(ctx, place, f"self.{names[0]}({{}})"))
    path = f"{owner}project"
    added = set_value(path, f"nn.Linear({got}, {wanted})") + fix_operand(ctx, place, "self.project({})")
    return Diagnosis(reason, f"{wanted} features", added)


def _write_cuts(pair: Pair, which: int, first: str = "", then: str = "") -> list[Candidate]:
    """Cut a table to the input's length: ``self.pos[:, :x.size(1)]``."""
    ctx, both, places, axes = pair
    table, data = both[which], both[1 - which]
    texts = read_arguments(ctx)
    other = texts[places[1 - which]] if places[1 - which] < len(texts) else ""
    found = []
    for name in [name for name in dict.fromkeys([find_name(other), other]) if name]:
        if find_name(other) != name:  # an expression, which is not to be computed twice
            name = f"{{{places[1 - which]}}}"
        sizes = {axis: f"{name}.size({data.rank + axis})" for axis in axes}
        dims = [f":{sizes[axis]}" if axis in sizes else ":" for axis in range(-table.rank, max(axes) + 1)]
        cut = first.format(sizes[axes[0]]) if first else f"[{', '.join(dims)}]"
        found.append(fix_operand(ctx, places[which], f"{{}}{cut}{then}"))
    return found


def explain_other_mask(pair: Pair) -> Diagnosis | None:
    """A mask is of the queries where the softmax runs over the keys, and another argument is of these."""
    ctx, function = pair.ctx, pair.ctx.function
    if function not in ("masked_fill", "masked_fill_") or pair.axes != [-1] or pair.places != (0, 1):
        return None
    scores, mask = pair.both
    call = ctx.call
    while call.parent is not None and call.kind == "op":
        call = ctx.trace.calls[call.parent]
    given = {spec.name: spec.shape for spec in call.inputs if spec.name.isidentifier()}
    read = [name for name, shape in given.items() if shape[-1:] == mask.shape[-1:] and _is_word(name, ctx.line)]
    for name, (other, shape) in itertools.product(read, given.items()):
        if shape != (*given[name][:-1], scores.shape[-1]) or _is_word(other, ctx.line):
            continue

        def change(node: ast.AST, around: ast.AST | None, write: Write, old: str = name, new: str = other) -> list[str]:
            return [new] if isinstance(node, ast.Name) and node.id == old else []

        reason = f"{name} is a mask of {mask.shape[-1]}, the softmax runs over {scores.shape[-1]} keys, as {other} has"
        return Diagnosis(reason, f"a mask of {scores.shape[-1]} keys", rewrite(ctx, change, here=True))
    return None


def _is_word(name: str, text: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None
