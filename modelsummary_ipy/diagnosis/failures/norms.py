"""Norms and activations: features that don't match, groups that don't divide, a batch of one that has no variance."""

from __future__ import annotations

import math

from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    NOTHING,
    RESHAPE,
    STEER,
    Diagnosis,
    FailureContext,
    Operand,
    dim_of,
    name_call,
)
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, fix_giver, fix_module, fix_setting, set_value
from modelsummary_ipy.diagnosis.failures.flattening import find_sides, is_map
from modelsummary_ipy.diagnosis.failures.joins import explain_stacked
from modelsummary_ipy.diagnosis.failures.module_code import write_module
from modelsummary_ipy.diagnosis.formatting import write_move, write_product, write_shape, write_times
from modelsummary_ipy.model.torch_layers import LAYERS, classes_of
from modelsummary_ipy.records.fixes import Candidate, ModeEdit

_RANKS = {name: LAYERS[name].ranks for name in classes_of("batch norm", "instance norm") if LAYERS[name].arguments}


def explain_norm(ctx: FailureContext) -> Diagnosis | None:
    """Explain a norm whose input has the wrong shape."""
    if not ctx.operands:
        return None
    if ctx.function in ("batch_norm", "instance_norm"):
        return _explain_channels(ctx, ctx.operands[0])
    if ctx.function in ("layer_norm", "rms_norm"):
        return _explain_layer_norm(ctx, ctx.operands[0])
    if ctx.function == "group_norm":
        return _explain_group_norm(ctx, ctx.operands[0])
    return None


def _explain_channels(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    features = ctx.setting("num_features") if ctx.call.kind == "module" else _first_weight(ctx)
    ranks = _RANKS.get(ctx.call.type_name)
    expected = f"dim 1 = {features} (num_features)"
    if isinstance(features, int) and (stacked := explain_stacked(ctx, x, 1, features, expected)) is not None:
        return stacked
    if ranks is not None and x.rank not in ranks:
        return _explain_rank(ctx, x, ranks, features)
    if x.rank < 2:
        return None
    has_weights = bool(ctx.weights)
    if isinstance(features, int) and x.shape[1] != features and has_weights:
        return _explain_features(ctx, x, features)
    values = x.shape[0] * math.prod(x.shape[2:])
    if ctx.function == "batch_norm" and values == 1 and (ctx.fact is None or ctx.fact.training):
        count = write_product((x.shape[0], *x.shape[2:]))
        reason = f"in train mode the variance is over batch and positions, and {count} value per channel has none"
        specs = tuple(f.spec._replace(shape=(2, *f.spec.shape[1:])) for f in ctx.trace.inputs if f.spec.shape)
        candidates = (specs,) if len(specs) == len(ctx.trace.inputs) else ()
        expected = "more than one value per channel in train mode"
        fix = Candidate("model.eval()", (ModeEdit(training=False),))
        return Diagnosis(reason, expected, fix, candidates=candidates)
    return None


def _first_weight(ctx: FailureContext) -> int | None:
    return next((x.shape[0] for x in ctx.operands[1:] if x.rank == 1), None)


def _explain_rank(ctx: FailureContext, x: Operand, ranks: tuple[int, ...], features: object) -> Diagnosis:
    words = " or ".join(map(str, ranks))
    expected = f"{words} dims, channels in dim 1"
    reason = f"{write_shape(x.shape)} has {x.rank} dims, {ctx.call.type_name} expects {words}"
    family = ctx.call.type_name[:-2]
    if x.rank == ranks[0] - 1 and x.shape[0] == features:
        reason += ": the batch dim is missing"
        return Diagnosis(reason, expected, fix_argument(ctx, "{}.unsqueeze(0)"), RESHAPE)
    spatial = ranks[0] - 2
    sides = find_sides(ctx, x, features, spatial) if x.rank == 2 and spatial > 0 and isinstance(features, int) else None
    if isinstance(features, int) and sides is not None:
        whole = (features, *sides)
        reason += f"; {x.shape[1]} = {write_times(whole)}: the flat features are a feature map of {write_times(sides)}"
        return Diagnosis(reason, expected, fix_argument(ctx, f"{{}}.unflatten(1, ({', '.join(map(str, whole))}))"))
    better = next((name for name, takes in _RANKS.items() if name.startswith(family) and x.rank in takes), None)
    is_wide = x.rank > max(ranks) or (x.rank < min(ranks) and x.rank > 1 and x.shape[1] == features)
    if better is not None and ctx.fact is not None and is_wide:
        code = write_module(ctx.fact, ctx.trace).replace(f"nn.{ctx.call.type_name}(", f"nn.{better}(")
        return Diagnosis(reason, expected, set_value(ctx.fact.path, code), RESHAPE)
    return Diagnosis(reason, expected, NOTHING, ANYWHERE)


def _explain_features(ctx: FailureContext, x: Operand, features: int) -> Diagnosis:
    expected = f"dim 1 = {features} (num_features)"
    if x.rank > 2 and x.shape[-1] == features and not is_map(ctx, x):
        reason = f"the last dim has the {features} features; {ctx.owner} normalizes dim 1, which has {x.shape[1]}"
        fix = fix_argument(ctx, write_move(x.rank, x.rank - 1, 1), write_move(x.rank, 1, x.rank - 1))
        return Diagnosis(reason, expected, fix)
    reason = f"{ctx.describe_giver(x, 1 - x.rank)} {x.shape[1]} channels, {ctx.owner} expects {features}"
    fix = fix_module(ctx, num_features=x.shape[1])
    search = RESHAPE if ctx.flow.is_like_input(x.link, x.shape) else ()
    return Diagnosis(reason, expected, fix, search, (dim_of(1), features))


def _explain_layer_norm(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    given = ctx.given("normalized_shape")
    wanted = (given,) if isinstance(given, int) else given
    if not isinstance(wanted, tuple) or x.shape[-len(wanted) :] == wanted:
        return None
    words = str(wanted[0]) if len(wanted) == 1 else write_shape(wanted)
    expected = f"last {'dim' if len(wanted) == 1 else 'dims'} = {words} (normalized_shape)"
    if len(wanted) == 1 and (stacked := explain_stacked(ctx, x, -1, wanted[0], expected)) is not None:
        return stacked
    if len(wanted) == 1 and wanted[0] in x.shape[1:-1]:
        axis = 1 + x.shape[1:-1].index(wanted[0])
        there, home = write_move(x.rank, axis, x.rank - 1), write_move(x.rank, x.rank - 1, axis)
        reason = f"dim {axis} has the {words} features, the last dim has {x.shape[-1]}; the last dim is normalized"
        beside = [call for call in ctx.trace.calls if call.kind == "module" and call.type_name == ctx.call.type_name]
        alike = [call for call in beside if call.status == "ran" and call.parent == ctx.call.parent]
        sibling = next((call for call in alike if call.inputs[0].shape == x.shape), None)
        resized = NOTHING
        if sibling is not None:
            reason += f", as by {name_call(sibling)}"
            resized = fix_module(ctx, normalized_shape=x.shape[-1:])
        return Diagnosis(reason, expected, [resized, fix_argument(ctx, there, home)])
    came = x.shape[-len(wanted) :]
    reason = f"input has last dims {write_shape(came)}, {ctx.owner} expects {words}"
    if len(came) == 1:
        reason = f"{ctx.describe_giver(x, -1)} {came[0]} features, {ctx.owner} expects {words}"
    fix = fix_module(ctx, normalized_shape=came) if len(came) == len(wanted) else NOTHING

    search = RESHAPE if ctx.flow.is_like_input(x.link, x.shape) else STEER
    return Diagnosis(reason, expected, fix, search, (dim_of(-1), wanted[-1]))


def _explain_group_norm(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    channels = ctx.setting("num_channels") if ctx.call.kind == "module" else _first_weight(ctx)
    groups = ctx.given("num_groups")
    if x.rank < 2:
        return Diagnosis(f"{write_shape(x.shape)} has no channel dim", "[N, C, …]", NOTHING, RESHAPE)
    got = x.shape[1]
    if not isinstance(groups, int):
        return None
    if got % groups:
        reason = f"{got} channels are not divisible into {groups} groups: {groups} × {got // groups} = "
        reason += f"{groups * (got // groups)}"
        fitting = max(n for n in range(1, groups + 1) if got % n == 0)
        fix = fix_module(ctx, num_groups=fitting, num_channels=got)
        if ctx.call.kind == "op":
            fix = fix_setting(ctx, "group_norm", "num_groups", 1, fitting)
        return Diagnosis(reason, f"channels divisible by {groups} (num_groups)", fix)
    if isinstance(channels, int) and got != channels:
        reason = f"input has {got} channels, {ctx.owner} expects {channels}"
        return Diagnosis(reason, f"dim 1 = {channels} (num_channels)", fix_module(ctx, num_channels=got))
    return None


def explain_activation(ctx: FailureContext) -> Diagnosis | None:
    """Explain a PReLU of another number of channels, and a GLU of an odd number."""
    x = ctx.operands[0] if ctx.operands else None
    if x is None or x.rank < 2:
        return None
    if ctx.function == "prelu":
        channels, taken = x.shape[1], ctx.weights[0].shape[0] if ctx.weights and ctx.weights[0].shape else 0
        if taken in (0, 1, channels):
            return None
        reason = f"{ctx.describe_giver(x, 1 - x.rank)} {channels} channels, {ctx.owner} has {taken} parameters"
        own = (
            set_value(ctx.fact.path, f"nn.PReLU({channels})")
            if ctx.fact is not None and ctx.is_torch_layer
            else NOTHING
        )
        fixes = [own, fix_giver(ctx, x, taken, 1 - x.rank)]
        return Diagnosis(reason, f"dim 1 = {taken}, or one parameter", fixes)
    dim = ctx.given("dim", -1)
    if ctx.function != "glu" or type(dim) is not int or not -x.rank <= dim < x.rank or x.shape[dim] % 2 == 0:
        return None
    axis = dim % x.rank - x.rank
    reason = f"glu halves dim {x.rank + axis} of {write_shape(x.shape)}, which has {x.shape[axis]}: an odd number"
    return Diagnosis(reason, "an even size", fix_giver(ctx, x, x.shape[axis] + 1, axis))
