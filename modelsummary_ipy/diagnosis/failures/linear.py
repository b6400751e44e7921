"""A layer that multiplies the last dim with a weight, and an input whose last dim is something else."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator

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
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import cut_features, list_reordered, move_thirds, widen_cut
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_earlier,
    fix_argument,
    fix_giver,
    fix_line,
    fix_made,
    fix_module,
    fix_operand,
    place_line,
    read_arguments,
    read_line,
    remake,
    set_made,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.frames import explain_unparted
from modelsummary_ipy.diagnosis.failures.indexing import explain_gathered
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.parameters import resize_param
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.failures.setters import find_module
from modelsummary_ipy.diagnosis.failures.source_edits import set_argument
from modelsummary_ipy.diagnosis.formatting import factor_like, write_move, write_product, write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import CATS, FLATTENERS, MAP_LAYERS, RECURRENTS, UPSAMPLERS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, TensorSpec


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
        or _explain_both_states(ctx, x, taken, expected)
        or _explain_folded_state(ctx, x, taken, expected)
        or explain_stacked(ctx, x, -1, taken, expected)
        or _explain_unflattened(ctx, x, taken, expected)
        or _explain_flattened(ctx, x, taken, expected)
        or explain_joined(ctx, x, taken, expected)
        or _explain_features(ctx, x, taken, expected)
    )


def _explain_both_states(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
    """The states of both directions lie one behind the other, and a layer reads them side by side."""
    giver = ctx.flow.producer(x.link)
    fact = ctx.flow.module_of(giver)
    if giver is None or fact is None or giver.type_name not in RECURRENTS or x.rank != 3 or 2 * x.shape[-1] != taken:
        return None
    if x.link is None or x.link.leaf == 0 or not fact.settings.get("bidirectional"):
        return None
    name = next(iter(read_arguments(ctx)), "")
    reason = f"the state of '{giver.path}' {write_shape(x.shape)} has its directions in dim 0: the last two side by "
    reason += f"side are {taken} features"
    both = f"torch.cat([{name}[-2], {name}[-1]], dim=-1)"
    return Diagnosis(reason, expected, fix_argument(ctx, both) if name.isidentifier() else NOTHING)


def _explain_folded_state(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
    """The states of all layers were folded into the features of a sample, and a layer reads those of the last one."""
    call = next((call for call in ctx.flow.walk_back(x.link, 2) if call.type_name in ("view", "reshape")), None)
    state = ctx.operands_of(call)[0] if call is not None else x
    giver = ctx.flow.producer(state.link)
    if call is None or giver is None or giver.type_name not in RECURRENTS or state.rank != 3:
        return None
    if state.link is None or state.link.leaf == 0 or state.shape[-1] != taken or state.shape[0] * taken != x.shape[-1]:
        return None

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        del around
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == call.type_name:
            yield f"{write(node.func.value)}[-1]"

    reason = f"the state of '{giver.path}' is {write_shape(state.shape)}: {call.type_name}() joins its "
    reason += f"{state.shape[0]} × {taken} features, those of the last layer are [-1]"
    return Diagnosis(reason, expected, rewrite(ctx.at_line_of(call), change, here=True))


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
            reason = (
                f"{ctx.describe_giver(x, -1)} {x.shape[-1]} features, {ctx.owner} expects {taken} as its input {number}"
            )
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


def _explain_unflattened(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
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


def find_sides(ctx: FailureContext, x: Operand, channels: int, spatial: int) -> tuple[int, ...] | None:
    """Find the sides of a feature map that flat features are: those of one that was flattened before, else equal."""
    for call in ctx.trace.calls:
        for spec in call.inputs:
            is_map_of_channels = len(spec.shape) == spatial + 2 and spec.shape[:2] == (x.shape[0], channels)
            if is_map_of_channels and math.prod(spec.shape[1:]) == x.shape[1]:
                return spec.shape[2:]
    side = round((x.shape[1] // channels) ** (1 / spatial))
    return (side,) * spatial if side > 1 and side**spatial * channels == x.shape[1] else None


def find_source_map(ctx: FailureContext, x: Operand) -> TensorSpec | None:
    """Return the tensor that was flattened into this one."""
    call = _find_flattener(ctx, x)
    return call.inputs[0] if call is not None else None


def _find_flattener(ctx: FailureContext, x: Operand) -> Call | None:
    """Return what flattened a tensor, before dropouts and activations that keep its shape."""
    for call in ctx.flow.walk_back(x.link, 6):
        if call.type_name in FLATTENERS:
            return call if call.inputs else None
        if not call.inputs or call.inputs[0].shape != x.shape:
            return None
    return None


def _explain_flattened(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
    before = find_source_map(ctx, x)
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


def _fix_flatten(ctx: FailureContext, x: Operand, start: int = 1) -> Candidate:
    """Write the flattening line so that it keeps the batch."""
    maker = _find_flattener(ctx, x)
    if maker is None or maker.kind != "op":
        return NOTHING
    return fix_made(ctx, maker, lambda items: f"{items[0]}.flatten({start})")


def resize_recurrent(ctx: FailureContext, x: Operand, size: int) -> Candidate:
    """Let a recurrent layer of one direction output another number of features."""
    maker = ctx.flow.producer(x.link)
    fact = ctx.flow.module_of(maker)
    if fact is None or fact.type_name not in RECURRENTS or fact.settings.get("bidirectional"):
        return NOTHING
    return remake(ctx, fact, hidden_size=size)


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
        return _explain_map(ctx, x, taken, expected, fix)
    reason = f"{ctx.describe_giver(x, -1)} {got} features, {ctx.owner} expects {taken}"
    if got == 2 * taken and (name := _find_bidirectional(ctx, x)):
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
    if taken == 2 * got and (both := _join_directions(ctx, x)):
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


def explain_joined(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
    """Steps were joined one behind the other whose features were to be joined."""
    maker = ctx.flow.producer(x.link)
    if maker is None or maker.type_name not in CATS:
        return None
    rank, dim, sizes = (
        len(maker.inputs[0].shape),
        ctx.flow.setting(maker, "dim", 0),
        [x.shape[-1] for x in maker.inputs],
    )
    if dim in (-1, rank - 1) or sum(sizes) != taken:
        return None
    fix = set_made(ctx, maker, "dim", 1, "1" if rank == 2 else "-1")
    reason = f"cat joins along dim {dim}: there are {' + '.join(map(str, sizes))} = {taken} features in the last dim"
    return Diagnosis(reason, expected, fix) if fix else None


_LAST_STATE = re.compile(r"\b(\w+)\[(?:-1|0|1)(?:, :)*\]")


def _join_directions(ctx: FailureContext, x: Operand) -> Candidate:
    """Read the last states of both directions where one was read: ``torch.cat([h[-2], h[-1]], 1)`` for ``h[-1]``."""
    maker = next((call for call in ctx.flow.walk_back(x.link, 4) if call.type_name == "getitem"), None)
    giver = ctx.flow.producer(maker.input_links[0]) if maker is not None and maker.input_links else None
    fact = ctx.flow.module_of(giver)
    if maker is None or fact is None or fact.type_name not in RECURRENTS or not fact.settings.get("bidirectional"):
        return NOTHING
    line = read_line(ctx, maker.source)
    found = list(_LAST_STATE.finditer(line))
    if len(found) != 1:
        return NOTHING
    both = f"torch.cat([{found[0][1]}[-2], {found[0][1]}[-1]], 1)"
    return place_line(ctx, maker, line[: found[0].start()] + both + line[found[0].end() :])


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


def _explain_map(ctx: FailureContext, x: Operand, taken: int, expected: str, fix: Candidate) -> Diagnosis:
    """A feature map that was neither flattened nor, flattened, of that size."""
    features = math.prod(x.shape[1:])
    reason = f"the feature map was not flattened: {write_product(x.shape[1:])} features, {ctx.owner} expects {taken}"
    flat = fix_module(ctx, in_features=features) + fix_argument(ctx, "{}.flatten(1)")
    return Diagnosis(reason, expected, [flat, fix])


def _find_bidirectional(ctx: FailureContext, x: Operand) -> str:
    for call in ctx.flow.walk_back(x.link, 6):
        fact = ctx.flow.module_of(call)
        if fact is not None and fact.type_name in RECURRENTS:
            return f"'{call.path}'" if fact.settings.get("bidirectional") else ""
    return ""


def explain_stacked(ctx: FailureContext, x: Operand, axis: int, wanted: int, expected: str) -> Diagnosis | None:
    """Explain tensors that ``stack`` gave a dim of their own, and that have as many features as wanted if joined.

    Args:
        axis: The dim of features of each tensor: -1 of tokens, 1 of feature maps.
        wanted: How many features the layer reads.
        expected: As of a ``Diagnosis``.
    """
    maker = ctx.flow.producer(x.link)
    while maker is not None and maker.type_name != "stack" and [s.shape for s in maker.inputs[:1]] == [x.shape]:
        maker = ctx.flow.producer(maker.input_links[0])  # what keeps the shape
    if maker is None or maker.type_name != "stack" or len({spec.shape for spec in maker.inputs}) != 1:
        return None
    shape, count = maker.inputs[0].shape, len(maker.inputs)
    rank = len(shape)
    if rank < 2 or maker.outputs[0].shape != x.shape or shape[axis] * count != wanted:
        return None
    line, dim = read_line(ctx, maker.source), ctx.flow.setting(maker, "dim", 0)
    if line.count("stack(") == 1:
        line = line.replace("stack(", "cat(")
        is_there = isinstance(dim, int) and -rank <= dim < rank and dim % rank == axis % rank
        line = line if is_there else set_argument(line, "cat", "dim", 1, "1" if axis % rank == 1 else str(axis))
    what = "features" if axis == -1 else "channels"
    reason = f"stack puts {count} tensors behind each other, cat joins their {what}: {count} × {shape[axis]}"
    return Diagnosis(reason, expected, place_line(ctx, maker, line if "cat(" in line else ""))
