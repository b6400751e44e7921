"""Feature maps that were not flattened, or flattened to another number of features than a layer reads."""

from __future__ import annotations

import math

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
from modelsummary_ipy.diagnosis.failures.decoder_grid import move_grid
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import list_reordered
from modelsummary_ipy.diagnosis.failures.fixes import find_earlier, fix_argument, fix_made, fix_module, set_value
from modelsummary_ipy.diagnosis.formatting import factor_like, write_move, write_product, write_times
from modelsummary_ipy.diagnosis.torch_names import CATS, FLATTENERS, MAP_LAYERS, UPSAMPLERS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, TensorSpec


def explain_unflattened(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
    """The trailing dims multiply to ``in_features``, or one of them is it."""
    shape, rank = x.shape, x.rank
    for start in range(1, rank - 1):
        is_sides = rank == 4 and start == 2 and shape[1] == taken  # a channel for each feature rather than a pixel
        if math.prod(shape[start:]) == taken and not is_sides:
            reason = f"{write_product(shape[start:])}: the feature map was not flattened"
            return Diagnosis(reason, expected, fix_argument(ctx, f"{{}}.flatten({start})"))
    if taken not in shape[1:-1]:
        return None
    axis = 1 + shape[1:-1].index(taken)
    reason = f"dim {axis} has the {taken} features, the last dim has {shape[-1]}; a Linear multiplies the last dim"
    search = RESHAPE if ctx.flow.is_like_input(x.link, x.shape) else ()
    fixes = [*list_reordered(ctx, x), fix_argument(ctx, write_move(rank, axis, rank - 1))]
    if rank == 3 and axis == 1 and (pooled := _pool_squeezed(ctx, x)):
        return Diagnosis(
            f"{reason}; squeeze() drops dims of 1, and there are {shape[2]}", expected, [pooled, *fixes], search
        )
    if rank == 3:  # a layer over the steps, and back
        fixes.append(fix_argument(ctx, "{}.transpose(1, 2)", "{}.transpose(1, 2)"))
    if rank == 4 and axis == 1 and (pixels := _fix_pixels(ctx, x)):
        reason += f"; {ctx.owner} is to be applied to each pixel, as a convolution of kernel 1 is"
        return Diagnosis(reason, expected, [pixels, *fixes], search)
    if rank == 4 and axis == 1:
        fixes += [fix_argument(ctx, "{}.mean((2, 3))"), fix_argument(ctx, "{}.amax((2, 3))")]
    return Diagnosis(reason, expected, fixes, search)


def _pool_squeezed(ctx: FailureContext, x: Operand) -> Candidate:
    """Pool all steps where a ``squeeze()`` was to drop the one that a pool leaves."""
    call = ctx.flow.producer(x.link)
    if call is None or call.type_name != "squeeze" or call.inputs[0].shape != x.shape:
        return NOTHING
    averages = any("avg" in step.type_name.lower() for step in ctx.flow.walk_back(call.input_links[0], 3))
    method = "mean" if averages else "amax"
    return fix_made(ctx, call, lambda items: f"{items[0]}.{method}(2)")


def _fix_pixels(ctx: FailureContext, x: Operand) -> Candidate:
    """Make the last Linear a convolution of kernel 1, where a map of the image's own sides is decoded or compared."""
    fact = ctx.fact
    images = [fact.spec.shape for fact in ctx.trace.inputs if len(fact.spec.shape) > 2]
    is_full = any(shape[-2:] == x.shape[-2:] for shape in images)
    decodes = any(call.type_name in UPSAMPLERS for call in ctx.flow.before(x.link)) or len(images) > 1
    if fact is None or not (is_full and decodes) or ctx.call.kind != "module":
        return NOTHING
    if find_earlier(ctx) is not None or fact.type_name != "Linear":
        return NOTHING
    has_bias = len(fact.params) > 1
    sizes = f"{fact.settings['in_features']}, {fact.settings['out_features']}, 1"
    return set_value(fact.path, f"nn.Conv2d({sizes}{'' if has_bias else ', bias=False'})")


def explain_flattened(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
    """A feature map was flattened, with its batch or to another number of features than the layer reads."""
    before = _find_source_map(ctx, x)
    if before is None or len(before.shape) < 3:
        return None
    goal = (dim_of(-1), taken)
    inner = before.shape[1:]
    if x.rank == 1 and math.prod(inner) == taken:
        reason = f"the batch was flattened too: {write_product(before.shape)}, of which {taken} are one sample's"
        flattener = ctx.flow.module_of(_find_flattener(ctx, x))
        kept = set_value(flattener.path, "nn.Flatten()") if flattener is not None else NOTHING
        return Diagnosis(reason, expected, [kept, _fix_flatten(ctx, x)])
    if math.prod(inner) != x.shape[-1]:
        return None
    fitting = factor_like(taken, inner[0], len(inner) - 1)
    factors = f" = {write_times(fitting)}" if fitting is not None else ""
    reason = f"input has {write_product(inner)} features, {ctx.owner} expects {taken}{factors}"
    block, moved = fix_block(ctx, taken, x.shape[-1]), move_grid(ctx, taken, inner)
    return Diagnosis(reason, expected, [moved, block, fix_module(ctx, in_features=x.shape[-1])], STEER, goal)


def _find_flattener(ctx: FailureContext, x: Operand) -> Call | None:
    """Return what flattened a tensor, before dropouts and activations that keep its shape."""
    for call in ctx.flow.walk_back(x.link, 6):
        if call.type_name in FLATTENERS:
            return call if call.inputs else None
        if not call.inputs or call.inputs[0].shape != x.shape:
            return None
    return None


def _find_source_map(ctx: FailureContext, x: Operand) -> TensorSpec | None:
    """Return the tensor that was flattened into this one."""
    call = _find_flattener(ctx, x)
    return call.inputs[0] if call is not None else None


def _fix_flatten(ctx: FailureContext, x: Operand) -> Candidate:
    """Write the flattening line so that it keeps the batch."""
    maker = _find_flattener(ctx, x)
    if maker is None or maker.kind != "op":
        return NOTHING
    return fix_made(ctx, maker, lambda items: f"{items[0]}.flatten(1)")


def explain_map(ctx: FailureContext, x: Operand, taken: int, expected: str, fix: Candidate) -> Diagnosis:
    """A feature map that was neither flattened nor, flattened, of that size."""
    features = math.prod(x.shape[1:])
    reason = f"the feature map was not flattened: {write_product(x.shape[1:])} features, {ctx.owner} expects {taken}"
    flat = fix_module(ctx, in_features=features) + fix_argument(ctx, "{}.flatten(1)")
    return Diagnosis(reason, expected, [flat, fix])


def is_map(ctx: FailureContext, x: Operand) -> bool:
    """Return whether a tensor is the output of layers that keep channels in dim 1."""
    for call in ctx.flow.walk_back(x.link):
        if call.type_name in CATS:
            return ctx.flow.setting(call, "dim", 0) not in (x.rank - 1, -1)
        if call.type_name in MAP_LAYERS:
            return True
        if not call.inputs or call.inputs[0].shape != x.shape:
            return False
    return False


def find_sides(ctx: FailureContext, x: Operand, channels: int, spatial: int) -> tuple[int, ...] | None:
    """Find the sides of a feature map that flat features are: those of one that was flattened before, else equal."""
    for call in ctx.trace.calls:
        for spec in call.inputs:
            is_map_of_channels = len(spec.shape) == spatial + 2 and spec.shape[:2] == (x.shape[0], channels)
            if is_map_of_channels and math.prod(spec.shape[1:]) == x.shape[1]:
                return spec.shape[2:]
    side = round((x.shape[1] // channels) ** (1 / spatial))
    return (side,) * spatial if side > 1 and side**spatial * channels == x.shape[1] else None
