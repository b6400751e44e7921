"""Two tensors that differ: tables longer than the input, margins to crop, maps to resize, ones to expand."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.constructions import list_constructions
from modelsummary_ipy.diagnosis.failures.context import NOTHING, STEER, Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.decoder_grid import explain_grid
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_giver,
    fix_operand,
    list_names,
    place_line,
    read_arguments,
    read_line,
    resize_param,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.measures import dim_of
from modelsummary_ipy.diagnosis.failures.module_code import name_member, write_module
from modelsummary_ipy.diagnosis.failures.source_edits import wrap_argument
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, Link, ModuleFact

__all__ = [
    "explain_bias", "explain_channels", "explain_margin", "explain_ones", "explain_order", "explain_pieces",
    "explain_pooled", "explain_strided", "explain_table", "explain_vector",
]  # fmt: skip

Places = tuple[int, int]


def _find_tables(ctx: FailureContext, pair: tuple[Operand, Operand]) -> list[bool]:
    """Say of each of two tensors whether it comes from a parameter or buffer and not from the input."""
    fed = [bool(ctx.flow.sources(x.link)) for x in pair]
    return [not own and other for own, other in (fed, fed[::-1])]


def _find_param(ctx: FailureContext, x: Operand) -> int | None:
    """Return the parameter or buffer that a tensor is, or was cut from."""
    param = x.param
    for call in ctx.flow.walk_back(x.link, 4):
        if param is None:
            param = next((index for index in call.input_params if index is not None), None)
    return param if param is not None and ctx.trace.params[param].names else None


def explain_channels(ctx: FailureContext, places: Places, pair: tuple[Operand, Operand]) -> Diagnosis | None:
    """A parameter has one number a channel, and the channels are not the last dim."""
    for table, place, data in ((pair[1], places[1], pair[0]), (pair[0], places[0], pair[1])):
        param = _find_param(ctx, table)
        if param is None or table.rank != 1 or data.rank < 3 or data.shape[1] != table.shape[0]:
            continue
        name = ctx.trace.params[param].names[0]
        ones = ", 1" * (data.rank - 2)
        reason = (
            f"'{name}' [{table.shape[0]}] is aligned with the last dim, which has {data.shape[-1]}; "
            f"dim 1 has the {table.shape[0]} channels"
        )
        fixes = [fix_operand(ctx, place, f"{{}}.view(-1{ones})")]
        if data.rank == 4:
            fixes.append(fix_operand(ctx, place, "{}[:, None, None]"))
        expected = f"'{name}' as {write_shape((table.shape[0], *[1] * (data.rank - 2)))}"
        return Diagnosis(reason, expected, fixes[0], others=tuple(fixes[1:]))
    return None


def explain_pieces(ctx: FailureContext, pair: tuple[Operand, Operand], axis: int) -> Diagnosis | None:
    """One of two tensors is a piece of what a layer gives, and the layer is too narrow: a scale and a shift."""
    for x, other in (pair, pair[::-1]):
        call = next((call for call in ctx.flow.walk_back(x.link, 5) if call.type_name in ("chunk", "split")), None)
        if call is None or not call.inputs or len(call.outputs) < 2:
            continue
        dim = ctx.flow.setting(call, "dim", 0)
        whole, piece = call.inputs[0].shape, call.outputs[0].shape
        if type(dim) is not int or not -len(whole) <= dim < len(whole) or piece[dim] != x.shape[axis]:
            continue
        count, wanted = len(call.outputs), other.shape[axis]
        fix = fix_giver(
            ctx, Operand(call.inputs[0], call.input_links[0]), count * wanted, dim % len(whole) - len(whole)
        )
        if fix:
            reason = f"{call.type_name}() makes {count} of {whole[dim]}: {piece[dim]} against {wanted}"
            return Diagnosis(reason, f"{count} × {wanted} = {count * wanted} to make them of", fix)
    return None


def explain_vector(ctx: FailureContext, pair: tuple[Operand, Operand], axis: int) -> Diagnosis | None:
    """One of two tensors is a vector of a sample's channels, and its layer gives another number: a time embedding."""
    for x, other in (pair, pair[::-1]):
        if x.rank < 3 or axis == -1 or math.prod(x.shape[axis + 1 :]) != 1 or math.prod(other.shape[axis + 1 :]) == 1:
            continue
        vector = next(
            (call for call in ctx.flow.walk_back(x.link, 6) if call.outputs and len(call.outputs[0].shape) == 2), None
        )
        if vector is None or vector.outputs[0].shape[-1] != x.shape[axis]:
            continue
        link = next((link for link in vector.output_links if link is not None), None) or Link(vector.index, 0)
        fix = fix_giver(ctx, Operand(vector.outputs[0], link), other.shape[axis])
        if fix:
            giver = ctx.describe_giver(Operand(vector.outputs[0], link), -1)
            reason = f"{giver} {x.shape[axis]} channels, the feature map has {other.shape[axis]}"
            return Diagnosis(reason, "equal channels", fix)
    return None


def explain_order(ctx: FailureContext, places: Places, pair: tuple[Operand, Operand]) -> Diagnosis | None:
    """A table has its steps where the input has the batch, or its positions on two dims where the input has one."""
    tables = _find_tables(ctx, pair)
    if not any(tables):
        return None
    which = tables.index(True)
    table, data = pair[which], pair[1 - which]
    if table.rank != 3 or data.rank != 3 or table.shape[-1] != data.shape[-1]:
        return None
    param = _find_param(ctx, table)
    name = f"'{ctx.trace.params[param].names[0]}'" if param is not None else "the other tensor"
    sizes = f"{name} {write_shape(table.shape)}"
    if table.shape[1] == 1 and table.shape[0] >= data.shape[1]:
        cut = _write_cuts(ctx, places, which, pair, [-2], first="[:{}]", then=".transpose(0, 1)")
        turned = fix_operand(ctx, places[which], "{}.transpose(0, 1)")
        fixes = [fix for fix in ([turned] if table.shape[0] == data.shape[1] else cut) if fix]
        reason = f"{sizes} has the steps in dim 0, {write_shape(data.shape)} has them in dim 1"
        expected = write_shape((1, data.shape[1], data.shape[2]))
        return Diagnosis(reason, expected, fixes[0], others=tuple(fixes[1:])) if fixes else None
    if table.shape[0] * table.shape[1] == data.shape[1] and table.shape[0] != 1:
        reason = f"{sizes} has {table.shape[0]} × {table.shape[1]} positions on two dims, the input has them on one"
        expected = write_shape(data.shape[1:])
        return Diagnosis(reason, expected, fix_operand(ctx, places[which], "{}.flatten(0, 1)"))
    return None


def explain_bias(ctx: FailureContext, pair: tuple[Operand, Operand], axes: list[int]) -> Diagnosis | None:
    """A parameter of one number a feature has another number of them: a bias, a scale, a logarithm of a deviation."""
    for x, data in (pair, pair[::-1]):
        param = _find_param(ctx, x)
        if axes != [-1] or x.rank != 1 or param is None or ctx.trace.params[param].shape != x.shape:
            continue
        own = f"'{ctx.trace.params[param].names[0]}' has {x.shape[0]} numbers"
        reason = f"{own}, the other has {data.shape[-1]} features"
        fix = resize_param(ctx, Operand(x.spec, x.link, param), -1, data.shape[-1])
        return Diagnosis(reason, "equal sizes", fix) if fix else None
    return None


def explain_table(
    ctx: FailureContext, places: Places, pair: tuple[Operand, Operand], axes: list[int]
) -> Diagnosis | None:
    """A table of positions, or a mask of a largest length, that is longer or shorter than the input."""
    tables = _find_tables(ctx, pair)
    if not any(tables):
        return None
    which = tables.index(True)
    table, data = pair[which], pair[1 - which]
    if any(axis < -data.rank or axis < -table.rank for axis in axes):
        return None
    param = _find_param(ctx, table)
    name = f"'{ctx.trace.params[param].names[0]}'" if param is not None else "the other tensor"
    came = {data.shape[axis] for axis in axes}
    most = {table.shape[axis] for axis in axes}
    if len(came) != 1 or len(most) != 1:
        return None
    reason = f"input has {came.copy().pop()} positions, {name} has {most.copy().pop()}"
    expected = f"at most {most.copy().pop()} in dim {data.rank + axes[-1]}"
    options: list[Candidate] = []
    if came.pop() < min(most):
        options += _write_cuts(ctx, places, which, pair, axes)
    elif len(axes) == 1 and param is not None:
        from_table = Operand(table.spec, table.link, param)
        options.append(resize_param(ctx, from_table, axes[0], data.shape[axes[0]]))
        owner = ctx.trace.params[param].names[0].rpartition(".")[0]
        options += list_constructions(ctx, owner, table.shape[axes[0]], data.shape[axes[0]])
    fixes = [fix for fix in options if fix]
    goal = (dim_of(axes[0], places[1 - which]), most.pop())
    return Diagnosis(reason, expected, fixes[0] if fixes else NOTHING, STEER, goal, others=tuple(fixes[1:]))


def _write_cuts(
    ctx: FailureContext,
    places: Places,
    which: int,
    pair: tuple[Operand, Operand],
    axes: list[int],
    first: str = "",
    then: str = "",
) -> list[Candidate]:
    """Cut a table to the input's length: ``self.pos[:, :x.size(1)]``."""
    table, data = pair[which], pair[1 - which]
    texts = read_arguments(ctx)
    other = texts[places[1 - which]] if places[1 - which] < len(texts) else ""
    names = [name for name in dict.fromkeys([find_name(other), other]) if name]
    found = []
    for name in names:
        cuts = []
        for axis in range(-table.rank, max(axes) + 1):
            at = data.rank + axis if find_name(other) == name else axis
            cuts.append(f":{name}.size({at})" if axis in axes else ":")
        if first:
            at = data.rank + axes[0] if find_name(other) == name else axes[0]
            cut = first.format(f"{name}.size({at})").replace("{", "{{").replace("}", "}}")
            found.append(fix_operand(ctx, places[which], f"{{}}{cut}{then}"))
            continue
        found.append(
            fix_operand(ctx, places[which], "{}[" + ", ".join(cuts).replace("{", "{{").replace("}", "}}") + "]")
        )
    return found


def explain_margin(
    ctx: FailureContext, places: Places, pair: tuple[Operand, Operand], axes: list[int]
) -> Diagnosis | None:
    """One of two maps or signals is larger by what convolutions without padding took off, or with padding put on."""
    large = 0 if pair[0].shape[axes[0]] > pair[1].shape[axes[0]] else 1
    big, small = pair[large], pair[1 - large]
    rank = big.rank
    if rank != small.rank or rank < 3 or any(rank + axis < 2 for axis in axes):
        return None
    gaps = {big.shape[axis] - small.shape[axis] for axis in axes}
    gap = gaps.pop()
    makers = [call.type_name for x in pair for call in ctx.flow.walk_back(x.link, 12)]
    if gaps or not 0 < 2 * gap < big.shape[axes[0]] or not CONVOLUTIONS.intersection(makers):
        return None
    if (found := explain_grid(ctx, pair)) is not None:
        return found
    sides = [write_times([x.shape[axis] for axis in sorted(axes)]) for x in (big, small)]
    if (
        found := _explain_transposed(ctx, small, gap, sides)
        or _explain_unpadded(ctx, big, small, gap, sides)
        or _explain_kernels(ctx, pair, sides)
    ) is not None:
        return found
    if rank == 3:
        name = _find_padded(ctx, big)
        reason = f"{sides[0]} against {sides[1]} in dim 2" + (
            f": '{name}' pads by {gap} more than it takes off" if name else ""
        )
        cut = "{}" + f"[..., :-{gap}]"
        fixes = [fix for fix in (_pad_before(ctx, small, gap), fix_operand(ctx, places[large], cut)) if fix]
        return Diagnosis(reason, "signals of one length", fixes[0] if fixes else NOTHING, others=tuple(fixes[1:]))
    before, after = gap // 2, gap - gap // 2
    margin = f"{before}:-{after}" if before else f":-{after}"
    cuts = ", ".join(margin if axis in axes else ":" for axis in range(2 - rank, 0))
    where = " and ".join(str(rank + axis) for axis in sorted(axes))
    reason = f"{sides[0]} against {sides[1]} in dim {where}: convolutions without padding took {gap} off the way"
    fixes = [fix_operand(ctx, places[large], f"{{}}[:, :, {cuts}]")]
    fixes.append(_resize(ctx, places[large], places[1 - large]))
    return Diagnosis(reason, f"two feature maps of {write_shape(small.shape[2:])}", fixes[0], others=(fixes[1],))


def _explain_unpadded(
    ctx: FailureContext, big: Operand, small: Operand, gap: int, sides: list[str]
) -> Diagnosis | None:
    """One or two convolutions of a branch lack the padding that keeps the size, which all others have."""
    layers, lost = [], 0
    for call in ctx.flow.walk_back(small.link, 12):
        fact = ctx.flow.module_of(call)
        if call.type_name in TRANSPOSED_CONVOLUTIONS or not call.inputs or lost >= gap:
            break
        shrunk = call.inputs[0].shape[2:], call.outputs[0].shape[2:]
        if shrunk[0] == shrunk[1] or fact is None or call.type_name not in CONVOLUTIONS:
            continue
        padding = _find_same_padding(fact)
        if padding is None:
            return None
        layers.append((fact, padding))
        lost += shrunk[0][-1] - shrunk[1][-1]
    is_whole = all(call.inputs[0].shape[2:] == big.shape[2:] for call in _list_convolutions(ctx, big)[:1])
    if lost != gap or not 0 < len(layers) < 3 or not is_whole:
        return None
    return _pad(ctx, layers[::-1], sides)


def _explain_kernels(ctx: FailureContext, pair: tuple[Operand, Operand], sides: list[str]) -> Diagnosis | None:
    """Branches of different kernels read one map, and each takes off what its kernel does."""
    layers, read = [], []
    for x in pair:
        call = next(iter(_list_convolutions(ctx, x)), None)
        fact = ctx.flow.module_of(call)
        padding = _find_same_padding(fact) if fact is not None else None
        if call is None or fact is None or padding is None or call.outputs[0].shape[2:] != x.shape[2:]:
            return None
        layers.append((fact, padding))
        read.append(call.inputs[0].shape[2:])
    return _pad(ctx, layers, sides) if read[0] == read[1] else None


def explain_strided(ctx: FailureContext, pair: tuple[Operand, Operand]) -> Diagnosis | None:
    """A pooling or a convolution of one branch strides, and those of a branch beside it keep the size."""
    for small, big in (pair, pair[::-1]):
        if any(big.link in call.input_links for call in ctx.flow.walk_back(small.link, 40)):
            continue  # the small one was made of the large one: it was not enlarged again
        for call in ctx.flow.walk_back(small.link, 6):
            fact = ctx.flow.module_of(call)
            if fact is None or not call.inputs or call.outputs[0].shape[2:] != small.shape[2:]:
                break
            if call.inputs[0].shape[2:] != big.shape[2:] or "stride" not in fact.settings:
                continue
            sides = [write_times(x.shape[2:]) for x in (small, big)]
            reason = f"{sides[0]} against {sides[1]}: '{fact.path}' has stride {fact.settings['stride']}"
            kernel = fact.settings.get("kernel_size")
            stride = (1,) * len(kernel) if isinstance(kernel, tuple) else 1
            return Diagnosis(reason, "equal sizes", set_value(fact.path, write_module(fact, ctx.trace, stride=stride)))
    return None


def _find_same_padding(fact: ModuleFact) -> tuple[int, ...] | None:
    """Return the padding with which a convolution keeps a size; ``None`` if it strides, or its kernel is even."""
    kernels, dilations = fact.settings.get("kernel_size"), fact.settings.get("dilation")
    if not isinstance(kernels, tuple) or not isinstance(dilations, tuple) or set(fact.settings["stride"]) != {1}:
        return None
    if any(kernel % 2 == 0 for kernel in kernels):
        return None
    return tuple((kernel - 1) * dilation // 2 for kernel, dilation in zip(kernels, dilations, strict=True))


def _pad(ctx: FailureContext, layers: list[tuple[ModuleFact, tuple[int, ...]]], sides: list[str]) -> Diagnosis:
    fixes = [set_value(fact.path, write_module(fact, ctx.trace, padding=padding)) for fact, padding in layers]
    names = " and ".join(
        f"'{fact.path}' has padding {_write_padding(fact.settings['padding'])}, {_write_padding(same)} keeps the size"
        for fact, same in layers
    )
    reason = f"{sides[0]} against {sides[1]}: {names}"
    return Diagnosis(reason, "equal sizes", functools.reduce(operator.add, fixes))


def _write_padding(padding: tuple[int, ...]) -> str:
    """``"1"``, or ``"(1, 0)"`` where the sides differ."""
    return str(padding[0]) if len(set(padding)) == 1 else str(padding)


def _list_convolutions(ctx: FailureContext, x: Operand) -> list[Call]:
    return [call for call in ctx.flow.walk_back(x.link, 12) if call.type_name in CONVOLUTIONS and call.inputs]


def _explain_transposed(ctx: FailureContext, small: Operand, gap: int, sides: list[str]) -> Diagnosis | None:
    """A decoder ends smaller than it began: a transposed convolution gives the smallest size of several."""
    layers: list[tuple[ModuleFact, int, int]] = []  # with its stride, and how much its output padding adds at the end
    factor = 1
    for call in ctx.flow.walk_back(small.link, 16):
        fact = ctx.flow.module_of(call)
        if fact is None or call.type_name not in TRANSPOSED_CONVOLUTIONS:
            continue
        strides, added = fact.settings.get("stride"), fact.settings.get("output_padding")
        if not isinstance(strides, tuple) or not isinstance(added, tuple) or len(set(strides)) > 1 or any(added):
            return None
        layers.append((fact, strides[0], factor * (strides[0] - 1)))
        factor *= strides[0]
    chosen = next(
        (some for count in range(1, len(layers) + 1) for some in itertools.combinations(layers, count)
         if sum(more for _, _, more in some) == gap),
        None,
    )  # fmt: skip
    if chosen is None:
        return None
    fixes = [
        set_value(fact.path, write_module(fact, ctx.trace, output_padding=(stride - 1,) * len(small.shape[2:])))
        for fact, stride, _ in reversed(chosen)
    ]
    names = " and ".join(f"'{fact.path}'" for fact, _, _ in reversed(chosen))
    reason = f"{sides[0]} against {sides[1]}: with output_padding 0 {names} {'give' if len(chosen) > 1 else 'gives'} "
    reason += "the smallest of the sizes that the stride could have come from"
    return Diagnosis(reason, "equal sizes", functools.reduce(operator.add, fixes))


def _pad_before(ctx: FailureContext, small: Operand, gap: int) -> Candidate:
    """Pad in front of the one convolution without padding that a signal went through: its output is of the past."""
    call = next(iter(_list_convolutions(ctx, small)), None)
    fact = ctx.flow.module_of(call)
    if call is None or fact is None or call.inputs[0].shape[-1] - call.outputs[0].shape[-1] != gap:
        return NOTHING
    failure = replace(ctx.failure, source=call.source, source_text="")
    there = FailureContext(ctx.story, failure, call, ctx.story.row_of_call.get(call.index), ctx.edits)
    names = [f"self.{name}" for name in [name_member(call.path)] if name] + list_names(there, call.path)
    for name in names:
        if call.path.rpartition(".")[2].isdigit() and name == name_member(call.path.rpartition(".")[0]):
            continue  # the container's
        padded = f"F.pad({{}}, (({name}.kernel_size[0] - 1) * {name}.dilation[0], 0))"
        line = wrap_argument(read_line(ctx, call.source), name.rpartition(".")[2], padded)
        if line:
            return place_line(ctx, call, line)
    return NOTHING


def _find_padded(ctx: FailureContext, x: Operand) -> str:
    for call in ctx.flow.walk_back(x.link, 6):
        grows = call.inputs and call.outputs and call.inputs[0].shape[-1:] < call.outputs[0].shape[-1:]
        if call.type_name in CONVOLUTIONS and grows:
            return call.path
    return ""


def explain_pooled(
    ctx: FailureContext, places: Places, pair: tuple[Operand, Operand], axes: list[int]
) -> Diagnosis | None:
    """One of two feature maps is smaller: the pooled branch of a pyramid, a level below."""
    small = 0 if pair[0].shape[axes[0]] < pair[1].shape[axes[0]] else 1
    x, other = pair[small], pair[1 - small]
    if x.rank != other.rank or x.rank != 4 or any(x.rank + axis < 2 for axis in axes):
        return None
    reason = f"the feature map is {write_shape(x.shape[2:])} in one and {write_shape(other.shape[2:])} in the other"
    fix = _resize(ctx, places[small], places[1 - small])
    return Diagnosis(reason, f"two feature maps of {write_shape(other.shape[2:])}", fix, ())


def _resize(ctx: FailureContext, place: int, other: int) -> Candidate:
    return fix_operand(ctx, place, f"F.interpolate({{}}, size={{{other}}}.shape[2:])")


def explain_ones(ctx: FailureContext, places: Places, pair: tuple[Operand, Operand], axis: int) -> Diagnosis | None:
    """One of two tensors to be concatenated has 1 where the other has the batch: a class token, not expanded."""
    for x, place, other, there in ((pair[0], places[0], pair[1], places[1]), (pair[1], places[1], pair[0], places[0])):
        if x.rank != other.rank or x.shape[axis] != 1 or other.shape[axis] == 1:
            continue
        texts = read_arguments(ctx)
        name = texts[there] if there < len(texts) else ""
        sizes = [f"{name}.size({axis})" if at == axis else "-1" for at in range(x.rank)]
        param = _find_param(ctx, x)
        what = f"'{ctx.trace.params[param].names[0]}'" if param is not None else "the other"
        reason = f"{what} has 1 in dim {axis}, {write_shape(other.shape)} has {other.shape[axis]}: cat never expands"
        fix = fix_operand(ctx, place, f"{{}}.expand({', '.join(sizes)})") if name else NOTHING
        return Diagnosis(reason, "equal sizes in every other dim", fix, ())
    return None
