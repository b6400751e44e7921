"""Two tensors of the same dims in other orders: channels last, steps first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, Diagnosis, Pair
from modelsummary_ipy.diagnosis.failures.dims_of_one import find_clashes
from modelsummary_ipy.diagnosis.failures.fixes import fix_operand
from modelsummary_ipy.diagnosis.failures.parameters import find_param, reshape_param
from modelsummary_ipy.diagnosis.formatting import write_shape


def explain_layout(pair: Pair) -> Diagnosis | None:
    """One of two maps has its channels last: the classes of ``F.one_hot`` of labels; or its sides the other way."""
    for x, other, place, _ in pair.each():
        if x.rank == other.rank > 3 and x.shape == (other.shape[0], other.shape[2], other.shape[1], *other.shape[3:]):
            reason = f"dims 1 and 2 of {write_shape(x.shape)} are the other way round in {write_shape(other.shape)}"
            return Diagnosis(reason, write_shape(other.shape), fix_operand(pair.ctx, place, "{}.transpose(1, 2)"))
        is_last = x.rank > 3 and x.shape[1:] == (*other.shape[2:], *other.shape[1:2])
        if is_last and x.shape[:1] == other.shape[:1] and x.shape[-1] != other.shape[-1]:
            reason = f"{write_shape(x.shape)} has the {x.shape[-1]} channels last, {write_shape(other.shape)} in dim 1"
            return Diagnosis(reason, write_shape(other.shape), fix_operand(pair.ctx, place, "{}.movedim(-1, 1)"))
    return None


def explain_turned(pair: Pair) -> Diagnosis | None:
    """A parameter has the dims of the other tensor in another order: features by heads for heads by features."""
    ctx = pair.ctx
    for x, data, _, there in pair.each():
        param, wanted = find_param(ctx, x), data.shape[data.rank - x.rank :]
        if param is None or ctx.trace.params[param].shape != x.shape or not 1 < x.rank <= data.rank:
            continue
        if wanted == x.shape or sorted(wanted) != sorted(x.shape):
            continue
        name = ctx.trace.params[param].names[0]
        fix = reshape_param(ctx, replace(x, param=param), wanted)
        if x.rank == data.rank == 2 and not ctx.flow.sources(data.link):  # the code made it, as noise is
            fix = fix_operand(ctx, there, "{}.t()") or fix
        reason = f"'{name}' {write_shape(x.shape)} has the dims of {write_shape(data.shape)} in another order"
        return Diagnosis(reason, write_shape(wanted), fix) if fix else None
    return None


def explain_permuted(pair: Pair) -> Diagnosis | None:
    """One of two tensors fits in exactly one other order of its dims: steps first for channels first."""
    fixes = []
    for x, other, place, _ in sorted(pair.each(), key=lambda each: each[0].numel):  # rather what is broadcast
        if x.rank != other.rank or not 2 < x.rank < 6:
            continue
        orders = [
            order for order in itertools.permutations(range(x.rank))
            if _fits_one([x.shape[axis] for axis in order], other.shape)
        ]  # fmt: skip
        if len(orders) == 1:
            fixes.append(fix_operand(pair.ctx, place, f"{{}}.permute({', '.join(map(str, orders[0]))})"))
    reason = f"{write_shape(pair.both[0].shape)} and {write_shape(pair.both[1].shape)} have their dims in other orders"
    return Diagnosis(reason, "one order of dims", fixes, ANYWHERE) if any(fixes) else None


def _fits_one(left: Sequence[int], right: Sequence[int]) -> bool:
    """Return whether two shapes of as many dims fit, and one of them is what comes out: not each row with each."""
    made = [max(sizes) for sizes in zip(left, right, strict=True)]
    return not find_clashes(left, right) and made in ([*left], [*right])
