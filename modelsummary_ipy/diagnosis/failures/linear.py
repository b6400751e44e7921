"""A layer that multiplies the last dim with a weight, and an input whose last dim is something else."""

from __future__ import annotations

import re

from modelsummary_ipy.diagnosis.failures.constructions import fix_block
from modelsummary_ipy.diagnosis.failures.context import (
    NOTHING,
    RESHAPE,
    STEER,
    Diagnosis,
    FailureContext,
    Operand,
    dim_of,
)
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import cut_features, move_thirds, widen_cut
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_argument,
    fix_giver,
    fix_line,
    fix_module,
    fix_operand,
    place_line,
    read_line,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.flattening import explain_flattened, explain_map, explain_unflattened, is_map
from modelsummary_ipy.diagnosis.failures.frames import explain_unparted
from modelsummary_ipy.diagnosis.failures.indexing import explain_gathered
from modelsummary_ipy.diagnosis.failures.joins import explain_joined, explain_stacked
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.parameters import resize_param
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds
from modelsummary_ipy.diagnosis.failures.recurrent_outputs import (
    explain_both_states,
    explain_folded_state,
    find_bidirectional,
    join_directions,
    resize_recurrent,
)
from modelsummary_ipy.diagnosis.failures.setters import find_module
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import CATS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call


def explain_linear(ctx: FailureContext) -> Diagnosis | None:
    """Explain a Linear whose input's last dim is not ``in_features``."""
    if ctx.function == "bilinear":
        return _explain_bilinear(ctx)
    found = _read(ctx)
    if found is None:
        return None
    x, taken = found
    shape = x.shape
    if not shape or shape[-1] == taken:
        return _explain_bias(ctx) or _explain_tied(ctx, x)
    expected = f"last dim = {taken} (in_features)"
    if x.rank == taken == 1:
        reason = f"{write_shape(shape)} has one number a sample, and no dim of features"
        return Diagnosis(reason, write_shape((*shape, 1)), fix_argument(ctx, "{}.unsqueeze(-1)"))
    return (
        _explain_turned(ctx, x)
        or explain_gathered(ctx, x, taken, expected)
        or explain_unparted(ctx)
        or explain_both_states(ctx, x, taken, expected)
        or explain_folded_state(ctx, x, taken, expected)
        or explain_stacked(ctx, x, -1, taken, expected)
        or explain_unflattened(ctx, x, taken, expected)
        or explain_flattened(ctx, x, taken, expected)
        or explain_joined(ctx, x, taken, expected)
        or _explain_features(ctx, x, taken, expected)
    )


def _explain_bias(ctx: FailureContext) -> Diagnosis | None:
    """The bias of a function has another number of features than its weight gives."""
    if ctx.call.kind != "op" or len(ctx.operands) != 3 or ctx.operands[2].rank != 1:
        return None
    weight, bias = ctx.operands[1:]
    if weight.shape[0] == bias.shape[0]:
        return None
    reason = f"the weight {write_shape(weight.shape)} gives {weight.shape[0]} features, the bias has {bias.shape[0]}"
    return Diagnosis(reason, f"[{weight.shape[0]}]", resize_param(ctx, bias, [-1], weight.shape[0]))


def _explain_tied(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    """The weight is an embedding's too, and has its features, not those that the layer was made for."""
    params = ctx.fact.params if ctx.fact is not None and ctx.call.kind == "module" else ()
    weight = ctx.trace.params[params[0]] if params else None
    other = next((name for name in weight.names if name != f"{ctx.call.path}.weight"), "") if weight is not None else ""
    if weight is None or not other or weight.shape[-1] == x.shape[-1]:
        return None
    width, owner = weight.shape[-1], other.rpartition(".")[0]
    reason = f"the weight of {ctx.owner} is that of '{owner}' {write_shape(weight.shape)}: of {width} features, got "
    fixes = [*list_rebuilds(ctx, width, x.shape[-1]), *list_rebuilds(ctx, x.shape[-1], width)]
    untied = set_value(f"{ctx.call.path}.weight", f"nn.Parameter(torch.randn({weight.shape[0]}, {x.shape[-1]}))")
    return Diagnosis(f"{reason}{x.shape[-1]}", f"last dim = {width}", [*fixes, untied], STEER, (dim_of(-1), width))


def _explain_turned(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    """The weight of a function has its dims the other way round: of a matrix product."""
    weight = ctx.operands[1] if ctx.call.kind == "op" and len(ctx.operands) > 1 else None
    if weight is None or weight.rank != 2 or weight.shape[0] != x.shape[-1]:
        return None
    reason = f"the weight {write_shape(weight.shape)} is transposed: a Linear's weight is [out, in]"
    expected, taken = f"last dim = {weight.shape[-1]} (in_features)", weight.shape[-1]
    search = RESHAPE if ctx.flow.is_like_input(x.link, x.shape) else STEER
    return Diagnosis(reason, expected, fix_operand(ctx, 1, "{}.t()"), search, (dim_of(-1), taken))


def _swap_layers(ctx: FailureContext, got: int, taken: int) -> Candidate:
    """Write two layers of a line the other way round, where the one that comes later takes what came."""
    name = name_member(ctx.call.path) if ctx.call.kind == "module" else ""
    later = [
        other for fact in ctx.list_unread() if (other := name_member(fact.path))
        and (fact.settings.get("in_features"), fact.settings.get("out_features")) == (got, taken)
        and re.search(rf"\b{other}\(", ctx.line)
    ]  # fmt: skip
    if not name or len(later) != 1 or got == taken or not re.search(rf"\b{name}\(", ctx.line):
        return NOTHING
    swap = {name: later[0], later[0]: name}
    return fix_line(ctx, re.sub(rf"\b({name}|{later[0]})(?=\()", lambda found: swap[found[0]], ctx.line))


def _explain_bilinear(ctx: FailureContext) -> Diagnosis | None:
    for number, x in enumerate(ctx.data[:2], 1):
        taken = ctx.setting(f"in{number}_features")
        if isinstance(taken, int) and x.shape and x.shape[-1] != taken:
            reason = f"{ctx.describe_giver(x, -1)} {x.shape[-1]} features, {ctx.owner} expects {taken} as its input "
            reason += f"{number}"
            fix = fix_module(ctx, **{f"in{number}_features": x.shape[-1]})
            return Diagnosis(reason, f"last dim = {taken} (in{number}_features)", fix)
    return None


def _read(ctx: FailureContext) -> tuple[Operand, int] | None:
    if ctx.function != "linear" or not ctx.operands:
        return None
    if ctx.call.kind == "op":
        weight = ctx.operands[1].shape if len(ctx.operands) > 1 else ()
        return (ctx.operands[0], weight[-1]) if weight else None
    taken = ctx.setting("in_features")
    return (ctx.operands[0], taken) if isinstance(taken, int) else None


def _explain_features(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis:
    maker = ctx.flow.producer(x.link)
    got = x.shape[-1]
    fix = fix_module(ctx, in_features=got)
    if maker is not None and (kept := _keep_samples(ctx, maker)):
        made = write_shape(maker.outputs[0].shape)
        reason = f"{maker.type_name} made {made} of {write_shape(maker.inputs[0].shape)}: size(1) is no batch"
        return Diagnosis(reason, expected, kept)
    if swapped := _swap_layers(ctx, got, taken):
        reason = f"the layers of the line are in the other order: {ctx.owner} expects {taken} features, got {got}"
        return Diagnosis(reason, expected, [swapped, fix])
    if x.rank > 3 and maker is not None and is_map(ctx, x):
        return explain_map(ctx, x, taken, expected, fix)
    reason = f"{ctx.describe_giver(x, -1)} {got} features, {ctx.owner} expects {taken}"
    if got == 2 * taken and (name := find_bidirectional(ctx, x)):
        reason = f"{name} is bidirectional: it outputs 2 × {taken} = {got} features, {ctx.owner} expects {taken}"
    elif maker is not None and maker.type_name in CATS and maker.outputs:
        sizes = [spec.shape[-1] for spec in maker.inputs if spec.shape]
        if sum(sizes) == got:
            reason = f"cat outputs {' + '.join(map(str, sizes))} = {got} features, {ctx.owner} expects {taken}"
    if not fix and ctx.call.kind == "op":  # the weight is another layer's
        fix = (
            fix_giver(ctx, x, taken) or resize_recurrent(ctx, x, taken) or resize_param(ctx, ctx.operands[1], [-1], got)
        )
    fixes = [fix_block(ctx, taken, got), fix]
    if _is_of_many(ctx, taken):
        fixes.insert(0, fix_giver(ctx, x, taken))
    if (thirds := move_thirds(ctx, x)) is not None:
        return Diagnosis(f"{reason}; {thirds[0]}", expected, thirds[1])
    if (cut := cut_features(ctx, x, taken)) is not None:
        shape = write_shape(cut[0].inputs[0].shape)
        reason += f": {cut[0].type_name}() cuts dim {ctx.flow.setting(cut[0], 'dim', 0)} of {shape}"
        return Diagnosis(reason, expected, cut[1])
    if (whole := widen_cut(ctx, x, -1, taken)) is not None:
        reason += whole[0]
        fixes.insert(0, whole[1])
    if taken == 2 * got and (both := join_directions(ctx, x)):
        reason += f": one direction of two, {got} of {taken}"
        fixes.insert(1, both)
    search = RESHAPE if ctx.flow.is_like_input(x.link, x.shape) else STEER
    goal = None if maker is not None and maker.type_name in CATS else (dim_of(-1), taken)  # no input is too wide there
    return Diagnosis(reason, expected, fixes, search, goal)


def _is_of_many(ctx: FailureContext, taken: int) -> bool:
    """Return whether several blocks have this layer and each expects what it does: what they all read is wrong then."""
    owner, _, name = ctx.call.path.rpartition(".")
    while name.isdigit() and "." in owner:
        owner, _, head = owner.rpartition(".")
        name = f"{head}.{name}"
    block = find_module(ctx.trace, owner)
    alike = [fact for fact in ctx.trace.modules if block is not None and fact.type_name == block.type_name]
    layers = [find_module(ctx.trace, f"{fact.path}.{name}") for fact in alike if fact.path]
    widths = {layer.settings.get("out_features") for layer in layers if layer is not None}
    return len(layers) > 2 and len(widths) > 1 and all(
        layer is not None and layer.settings.get("in_features") == taken for layer in layers
    )  # fmt: skip


def _keep_samples(ctx: FailureContext, view: Call) -> Candidate:
    """Read the batch where a view reads the channels for it: ``x.view(x.size(0), -1)`` for ``x.size(1)``."""
    shape = view.inputs[0].shape if view.inputs else ()
    if view.type_name not in ("view", "reshape") or len(shape) < 3 or len(view.outputs[0].shape) != 2:
        return NOTHING
    if view.outputs[0].shape[0] != shape[1] or shape[0] == shape[1]:
        return NOTHING
    line, found = re.subn(r"((?:view|reshape)\(\w+\.(?:size\(|shape\[))1", r"\g<1>0", read_line(ctx, view.source))
    return place_line(ctx, view, line) if found == 1 else NOTHING
