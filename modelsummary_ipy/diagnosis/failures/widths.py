"""Two tensors of different widths: of two layers, of pieces of one layer, of a bias."""

from __future__ import annotations

import functools
import math
import re

from modelsummary_ipy.diagnosis.failures import branch_sizes, skip_connections
from modelsummary_ipy.diagnosis.failures.context import Diagnosis, Operand, Pair
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, fix_operand, set_value
from modelsummary_ipy.diagnosis.failures.parameters import find_param, find_param_name, resize_origin, resize_param
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, LINEARS, LOSSES
from modelsummary_ipy.model.torch_layers import OUTPUT_SETTINGS
from modelsummary_ipy.records.trace import Link, ModuleFact


def explain_widths(pair: Pair) -> Diagnosis | None:
    """A loss compares, or a product takes, what two layers of different widths give."""
    ctx, (left, right), _, axes = pair
    is_loss, rank = ctx.function in LOSSES, max(left.rank, right.rank)
    if axes != [-1] and not (axes == [1 - rank] and rank > 2 and is_loss):
        return None
    if rank > 2 and (margin := branch_sizes.explain_margin(pair)) is not None:
        return margin
    if not is_loss and ctx.function not in ("mul", "div"):
        return None
    axis, sizes = axes[0], [x.shape[axes[0]] for x in pair.both]
    verb = "compares" if is_loss else "takes"
    reason = f"{ctx.function} {verb} numbers one to one: {write_shape(left.shape)} against {write_shape(right.shape)}"
    resize = resize_origin if axis == -1 else functools.partial(fix_giver, axis=axis)
    ways = [resize(ctx, right, sizes[0]), resize(ctx, left, sizes[1])]
    has_target = ctx.function.endswith("_loss")  # what is compared with it is made as wide
    fixes = [fix for fix in (ways[::-1] if has_target else ways) if fix]
    # A gate is of what a layer gives and of what it was given.
    shortcut = skip_connections.explain_residual(pair) if not is_loss else None
    fixes += shortcut.fixes if shortcut is not None else []
    return Diagnosis(reason, "equal shapes", fixes) if fixes else None


def explain_heads(pair: Pair) -> Diagnosis | None:
    """Two layers side by side are of different widths: a mean and a logarithm of the variance, levels of a pyramid."""
    ctx, both, axis = pair.ctx, pair.both, pair.axes[0]
    makers = [ctx.flow.find_origin(x.link, x.shape, axis, OUTPUT_SETTINGS) for x in both]
    facts = [ctx.flow.module_of(call) for call in makers]
    one, other = makers
    if len(pair.axes) > 1 or one is None or other is None or None in facts or one.index == other.index:
        return None
    kinds = {one.type_name, other.type_name}
    is_pyramid = kinds <= CONVOLUTIONS and all(_is_pointwise(fact) for fact in facts) and axis == -3
    if not (is_pyramid or (kinds <= LINEARS and axis == -1 and one.input_links[:1] == other.input_links[:1])):
        return None
    if ctx.flow.leads_to(one, both[1].link) or ctx.flow.leads_to(other, both[0].link):
        return None  # a skip connection
    sizes = [x.shape[axis] for x in both]
    reason = f"'{one.path}' outputs {sizes[0]}, '{other.path}' {sizes[1]}, "
    reason += "and they are added" if is_pyramid else "of one input"
    names = ("out_channels",) if is_pyramid else ("in_features", "in_channels")  # of the levels that follow
    unread = [fact for fact in ctx.list_unread() if _is_pointwise(fact) or not is_pyramid]
    wanted = {width for fact in unread for width in map(fact.settings.get, names)}
    fixes = [fix_giver(ctx, both[1], sizes[0], axis), fix_giver(ctx, both[0], sizes[1], axis)]
    fixes = [fix for fix in (fixes[::-1] if sizes[1] in wanted and sizes[0] not in wanted else fixes) if fix]
    return Diagnosis(reason, "equal widths", fixes) if fixes else None


def _is_pointwise(fact: ModuleFact | None) -> bool:
    return fact is not None and set(fact.settings.get("kernel_size", ())) == {1}


def explain_shuffled(pair: Pair) -> Diagnosis | None:
    """A loss compares an image with one that is larger than what a pixel shuffle gives."""
    ctx, function = pair.ctx, pair.ctx.function
    for x, other, *_ in pair.each() if pair.is_spatial and function in LOSSES else ():
        call = ctx.flow.producer(x.link)
        fact, factor = ctx.flow.module_of(call), other.shape[-1] // x.shape[-1]
        if call is None or fact is None or fact.type_name != "PixelShuffle" or factor < 2:
            continue
        if other.shape != (*x.shape[:2], *(factor * side for side in x.shape[2:])):
            continue
        before, scale = Operand(call.inputs[0], call.input_links[0]), fact.settings["upscale_factor"]
        wider = fix_giver(ctx, before, before.shape[1] * factor**2, -3)
        fix = wider + set_value(fact.path, f"nn.PixelShuffle({scale * factor})")
        sides = [write_times(item.shape[2:]) for item in (x, other)]
        reason = f"'{fact.path}' enlarges by {scale} to {sides[0]}, the target is {sides[1]}"
        return Diagnosis(reason, f"{scale * factor} times the sides", fix)
    return None


def explain_pieces(pair: Pair) -> Diagnosis | None:
    """One of two tensors is a piece of what a layer gives, and the layer is too narrow: a scale and a shift."""
    ctx, axis = pair.ctx, pair.axes[0]
    for x, other, *_ in pair.each() if len(pair.axes) == 1 else ():
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


def explain_vector(pair: Pair) -> Diagnosis | None:
    """One of two tensors is a vector of a sample's channels, and its layer gives another number: a time embedding."""
    ctx, axis = pair.ctx, pair.axes[0]
    for x, other, *_ in pair.each() if len(pair.axes) == 1 else ():
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


def explain_bias(pair: Pair) -> Diagnosis | None:
    """A parameter of one number a feature has another number of them: a bias, a scale, a logarithm of a deviation."""
    ctx = pair.ctx
    for x, data, *_ in pair.each():
        param = find_param(ctx, x)
        if pair.axes != [-1] or set(x.shape[:-1]) - {1} or param is None or ctx.trace.params[param].shape != x.shape:
            continue
        own = f"'{ctx.trace.params[param].names[0]}' has {x.shape[-1]} numbers"
        reason = f"{own}, the other has {data.shape[-1]} features"
        fix = resize_param(ctx, Operand(x.spec, x.link, param), [-1], data.shape[-1])
        return Diagnosis(reason, "equal sizes", fix) if fix else None
    return None


def explain_angles(pair: Pair) -> Diagnosis | None:
    """Sines and cosines of half the features: a rotary embedding has each angle twice, once for each half."""
    ctx = pair.ctx
    for x, data, place, _ in pair.each():
        if pair.axes != [-1] or 2 * x.shape[-1] != data.shape[-1] or x.rank < 2:
            continue
        makers = {call.type_name for call in ctx.flow.walk_back(x.link, 4)}
        kept = re.search("sin|cos", find_param_name(ctx, x).rpartition(".")[2])
        if (makers & {"sin", "cos"} or kept) and "cat" not in makers and find_param(ctx, data) is None:
            reason = f"the sines and cosines are of {x.shape[-1]} angles for {data.shape[-1]} features: each angle is "
            reason += "for two of them"
            counts = ", ".join(["1"] * (x.rank - 1) + ["2"])
            return Diagnosis(reason, f"last dim = {data.shape[-1]}", fix_operand(ctx, place, f"{{}}.repeat({counts})"))
    return None
