"""View, reshape, permute, split and index: sizes with another product, dims that don't exist."""

from __future__ import annotations

import math
from typing import Any

from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    NOTHING,
    STEER,
    Diagnosis,
    FailureContext,
    Operand,
    dim_of,
)
from modelsummary_ipy.diagnosis.failures.divisions import explain_heads, explain_periods, explain_windows
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, fix_line, remake
from modelsummary_ipy.diagnosis.failures.learned_queries import explain_parted_queries
from modelsummary_ipy.diagnosis.failures.parameters import find_param_name, resize_param
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds, name_setting
from modelsummary_ipy.diagnosis.failures.reshape_totals import explain_total
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation, rename_method
from modelsummary_ipy.diagnosis.failures.source_nodes import find_operands
from modelsummary_ipy.diagnosis.formatting import write_product, write_shape
from modelsummary_ipy.records.trace import Call, TensorSpec


def explain_reshape(ctx: FailureContext) -> Diagnosis | None:
    """Explain a view or reshape to a size of another number of elements."""
    if ctx.function not in ("view", "reshape", "unflatten", "_unsafe_view", "expand", "pixel_shuffle"):
        return None
    if not ctx.operands:
        return None
    x = ctx.operands[0]
    if ctx.function == "pixel_shuffle":
        return _explain_shuffle(ctx, x)
    wanted = _read_target(ctx)
    if wanted is None:
        return None
    if ctx.function == "expand":
        return _explain_expand(ctx, x, wanted)
    if wanted.count(-1) > 1:
        return _explain_unknowns(ctx, wanted)
    fixed = math.prod([size for size in wanted if size != -1])
    total = x.numel
    if (fixed and total % fixed == 0 and -1 in wanted) or total == fixed:
        return _explain_strides(ctx, x)
    if (periods := explain_periods(ctx, x, wanted)) is not None:
        return periods
    if (steps := _explain_steps(ctx, x, wanted)) is not None:
        return steps
    if (learned := explain_parted_queries(ctx, x, wanted)) is not None:
        return learned
    found = explain_heads(ctx, x, wanted) or explain_windows(ctx, x, wanted) or _explain_batch(ctx, x, wanted)
    return found or explain_total(ctx, x, wanted, fixed)


def _read_target(ctx: FailureContext) -> tuple[int, ...] | None:
    value = ctx.arguments.get("size", ctx.arguments.get("shape", ctx.arguments.get("sizes")))
    if isinstance(value, int):
        value = (value,)
    if ctx.function == "unflatten":
        sizes, dim = ctx.given("unflattened_size" if ctx.call.kind == "module" else "sizes"), ctx.given("dim")
        shape = ctx.operands[0].shape
        if not isinstance(sizes, tuple) or not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
            return None
        value = (*shape[: dim % len(shape)], *sizes, *shape[dim % len(shape) + 1 :])
    if not isinstance(value, tuple) or not all(type(size) is int for size in value):
        return None
    return value


def _explain_unknowns(ctx: FailureContext, wanted: tuple[int, ...]) -> Diagnosis:
    reason = f"{write_shape(wanted)} has {wanted.count(-1)} unknown sizes: only one -1 can be worked out"

    def edit(items: list[str]) -> list[str] | None:
        at = next((index for index, item in enumerate(items[1:], 1) if item.strip("()") == "-1"), None)
        return None if at is None else [*items[:at], f"{items[0]}.size({at - 1})", *items[at + 1 :]]

    return Diagnosis(reason, "one -1", fix_line(ctx, change_operation(ctx.line, ctx.function, edit, ctx.earlier)))


def _explain_strides(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    if ctx.function != "view":
        return None
    maker = ctx.flow.producer(x.link)
    after = f" after {maker.type_name}" if maker is not None and maker.kind == "op" else ""
    reason = f"the tensor is not contiguous{after}: view never copies, reshape does"
    line = rename_method(ctx.line, "view", "reshape", ctx.earlier)
    return Diagnosis(reason, "a contiguous tensor", fix_line(ctx, line))


def _explain_steps(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    """The features are parted as they should, and the target has another number of steps: those of another tensor."""
    if x.rank != 3 or len(wanted) < 4 or -1 in wanted or wanted[0] != x.shape[0] or wanted[1] == x.shape[1]:
        return None
    if math.prod(wanted[2:]) != x.shape[2]:
        return None
    operands = find_operands(ctx.line, ctx.function, ctx.earlier)
    if len(operands) != len(wanted) + 1:
        return None
    line = change_operation(ctx.line, ctx.function, lambda items: [*items[:2], "-1", *items[3:]], ctx.earlier)
    reason = f"{write_shape(x.shape)} has {x.shape[1]} steps, the target {write_shape(wanted)} has {wanted[1]}"
    return Diagnosis(reason, f"{x.shape[1]} steps", fix_line(ctx, line))


def _explain_batch(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    """A batch size is hard-coded in the target, and the input has another."""
    if x.rank < 1 or len(wanted) < 2 or wanted[0] in (-1, x.shape[0]):
        return None
    rest = wanted[1:]
    batch = x.shape[0]
    each = x.numel // batch if batch else 0
    inner = math.prod([size for size in rest if size != -1])
    if not ((-1 in rest and inner and each % inner == 0) or inner == each):
        return None
    reason = f"the target shape has a batch of {wanted[0]}, the input has {batch}: {write_product(x.shape)}"

    def edit(items: list[str]) -> list[str] | None:
        is_there = len(items) > 1 and items[1].strip("()") == str(wanted[0])
        return [items[0], f"{items[0]}.size(0)", *items[2:]] if is_there else None

    fix = fix_line(ctx, change_operation(ctx.line, ctx.function, edit, ctx.earlier))
    return Diagnosis(reason, write_shape(wanted), fix, candidates=_change_batch(ctx, wanted[0]))


def _change_batch(ctx: FailureContext, batch: int) -> tuple[tuple[TensorSpec, ...], ...]:
    """Return the model's inputs with another batch."""
    specs = [fact.spec for fact in ctx.trace.inputs]
    if not specs or not specs[0].shape:
        return ()
    old = specs[0].shape[0]
    return (tuple(s._replace(shape=(batch, *s.shape[1:])) if s.shape[:1] == (old,) else s for s in specs),)


def _explain_expand(ctx: FailureContext, x: Operand, wanted: tuple[int, ...]) -> Diagnosis | None:
    for axis in range(1, x.rank + 1):
        if wanted[-axis] not in (-1, x.shape[-axis]) and x.shape[-axis] != 1:
            at = len(wanted) - axis
            where = f"dim {at} is {x.shape[-axis]}, the target is {wanted[-axis]}"
            reason = f"expand changes dims of size 1 only: {where}"
            goal = (_target_at(at), x.shape[-axis])
            options = [*list_rebuilds(ctx, x.shape[-axis], wanted[-axis]), resize_param(ctx, x, [-axis], wanted[-axis])]
            if table := _name_table(ctx, x, x.shape[-axis]):
                reason = f"input has {wanted[-axis]} positions, {table}"
                return Diagnosis(reason, f"at most {x.shape[-axis]}", options, STEER, goal)
            search = STEER if options[0] else ANYWHERE
            return Diagnosis(reason, "1, or the target size, in every dim", options[0], search, goal)
    return None


def _name_table(ctx: FailureContext, x: Operand, size: int) -> str:
    """Name the table of positions of a module that has a buffer of its length, and the field that says so."""
    name, field = find_param_name(ctx, x), name_setting(ctx, size)
    owner = name.rpartition(".")[0]
    beside = (fact for fact in ctx.trace.modules if fact.path.rpartition(".")[0] == owner and name)
    table = next((fact for fact in beside if fact.settings.get("num_embeddings") == size), None)
    if table is None:
        return f"'{name}' has {size} ({field})" if name and field else ""
    return f"'{table.path}' has {size}" + (f" ({field})" if field else "")


def _target_at(at: int) -> Any:
    """Measure one of the sizes in a call's arguments."""

    def measure(call: Call) -> int | None:
        target = dict(call.arguments).get("size")
        return target[at] if isinstance(target, tuple) and at < len(target) else None

    return measure


def _explain_shuffle(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    kept = ctx.given("upscale_factor")
    if type(kept) is not int or x.rank < 3 or x.shape[-3] % (kept * kept) == 0:
        return None
    channels = x.shape[-3]
    reason = f"{channels} channels are not divisible by {kept} × {kept} = {kept * kept}"
    maker = ctx.flow.producer(x.link)
    fact = ctx.flow.module_of(maker)
    fix = NOTHING
    if fact is not None and fact.settings.get("out_channels") == channels:
        # Made for another factor, 12 = 3 × 2 × 2 channels are an image of three; or with the factor once.
        reader = next((fact for fact in ctx.list_unread() if fact.settings.get("in_channels")), None)
        images = [channels // other for other in (4, 9, 16, 25, kept) if channels % other == 0]
        images = [count for count in images if count in (1, 3, ctx.trace.inputs[0].spec.shape[1])]
        images = images if reader is None else [reader.settings["in_channels"]]
        more = (images[0] if images else -(-channels // (kept * kept))) * kept * kept
        fix = remake(ctx, fact, out_channels=more)
    return Diagnosis(reason, f"channels divisible by {kept * kept}", fix)


def explain_split(ctx: FailureContext) -> Diagnosis | None:
    """Explain pieces that don't add up to the split dim."""
    if ctx.function not in ("split", "split_with_sizes") or not ctx.operands:
        return None
    x = ctx.operands[0]
    names = ("split_sizes", "split_size_or_sections", "split_size")
    sizes = next((ctx.arguments[name] for name in names if name in ctx.arguments), None)
    dim = ctx.arguments.get("dim", 0)
    if not isinstance(sizes, tuple) or type(dim) is not int or not -x.rank <= dim < x.rank:
        return None
    if sum(sizes) == x.shape[dim]:
        return None
    reason = f"{' + '.join(map(str, sizes))} = {sum(sizes)}, and dim {dim % x.rank} has {x.shape[dim]}"

    fix = fix_giver(ctx, x, sum(sizes), dim % x.rank - x.rank)
    return Diagnosis(reason, f"{sum(sizes)} in dim {dim % x.rank}", fix, STEER, (dim_of(dim), sum(sizes)))
