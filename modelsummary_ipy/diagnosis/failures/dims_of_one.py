"""Dims of 1: those that a tensor lacks to be broadcast, and those that nothing expands."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence

from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, NOTHING, Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.fixes import fix_made, fix_operand, read_arguments
from modelsummary_ipy.diagnosis.failures.parameters import find_param
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.failures.tables import find_table
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate


def find_clashes(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Return the dims, counted from the end as negative numbers, in which two shapes can't be broadcast."""
    shared = min(len(left), len(right))
    return [-i for i in range(1, shared + 1) if left[-i] != right[-i] and 1 not in (left[-i], right[-i])]


def explain_missing_axes(pair: Pair) -> Diagnosis | None:
    """One tensor has fewer dims, and more of size 1 in the right places would work: a number for each channel."""
    ctx, (small, big, place, _) = pair.ctx, min(pair.each(), key=lambda item: item[0].rank)
    param, missing = find_param(ctx, small), big.rank - small.rank
    whole = {at: (*range(at), *range(at + missing, big.rank)) for at in range(1, small.rank + 1)}
    whole = {at: axes for at, axes in whole.items() if not find_clashes(_spread(small, axes, big.rank), big.shape)}
    has_inner = param is not None or (small.rank == 1 and big.shape[0] == 1)  # or a number for each sample of a state
    inner = itertools.combinations(range(1, big.rank), small.rank) if has_inner and 1 not in small.shape else ()
    parted = [axes for axes in inner if not find_clashes(_spread(small, axes, big.rank), big.shape)]
    if not missing or not (whole or parted):
        return None
    at = max(whole, key=lambda a: sum(x == y for x, y in zip(small.shape[:a], big.shape, strict=False)), default=0)
    axes = whole[at] if whole and not ((1,) in parted and big.rank > 2) else parted[0 if small.rank == 1 else -1]
    products = {call.type_name for call in ctx.flow.walk_back(big.link, 4)} & {"matmul", "bmm", "einsum"}
    is_made = small.rank > 2 and param is None
    is_mask = small.shape[-1:] == big.shape[-1:] and (small.spec.dtype == "bool" or (bool(products) and is_made))
    if is_mask:  # a mask is of the keys, which the softmax runs over
        axes = whole.get(max((a for a in whole if a < small.rank), default=0), axes)
    held = ctx.trace.params[param] if param is not None else None
    name = f"'{held.names[0]}' " if held is not None and held.shape == small.shape else ""
    wanted = write_shape(_spread(small, axes, big.rank)[axes[0] :])
    reason = f"{name}{write_shape(small.shape)} is aligned with the last dims of {write_shape(big.shape)}; "
    reason += f"{wanted} would broadcast"
    if is_mask:
        reason += f"; the softmax runs over the last dim, whose {small.shape[-1]} the mask has last"
    others = whole.values() if missing == 1 else ()
    templates = [_write_index(item, big.rank) for item in dict.fromkeys((axes, *others))]
    fixes = [fix_operand(ctx, place, text) for text in templates]
    if not any(fixes):  # in a library's code, of what the user's line gives it: ``dist.log_prob(target)``
        fixes = [made for text in templates for made in _change_arguments(ctx, text)]
    return Diagnosis(reason, wanted, fixes)


def _spread(x: Operand, axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return the shape of a tensor whose dims are brought to other places, with dims of 1 between them."""
    sizes = dict(zip(axes, x.shape, strict=True))
    return tuple(sizes.get(axis, 1) for axis in range(rank))


def _write_index(axes: tuple[int, ...], rank: int) -> str:
    """Write what brings dims to other places: ``"{}.unsqueeze(1)"``, ``"{}[:, None, None]"``."""
    index = [":" if axis in axes else "None" for axis in range(axes[0], rank)]
    if index.count("None") == 1:
        return f"{{}}.unsqueeze({index.index('None')})"
    while index[-1] == ":":
        index.pop()
    return f"{{}}[{', '.join(index)}]"


def _change_arguments(ctx: FailureContext, template: str) -> list[Candidate]:
    """Change each tensor that the line gives a call by its name, one by one."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        held = ctx.failure.names.get(write(node)) if isinstance(node, ast.Name) else None
        if held is not None and held.kind == "Tensor" and isinstance(around, ast.Call) and node in around.args:
            yield template.format(write(node))

    return rewrite(ctx, change, here=True, alone=True)


def explain_outer(pair: Pair) -> Diagnosis | None:
    """Numbers of the batch are to be multiplied with each of some constants: the frequencies of a time embedding."""
    ctx, both, places, _ = pair
    fed = [bool(ctx.flow.sources(x.link)) for x in both]
    if [x.rank for x in both] != [1, 1] or fed[0] == fed[1] or ctx.function not in ("mul", "div"):
        return None
    which = fed.index(True)
    samples, constants = both[which].shape[0], both[1 - which].shape[0]
    reason = f"each of {samples} numbers with each of {constants} is [{samples}, {constants}]: those need a dim of 1"
    return Diagnosis(reason, f"[{samples}, 1] and [{constants}]", fix_operand(ctx, places[which], "{}[:, None]"))


def explain_each(pair: Pair) -> Diagnosis | None:
    """Each of some constants, one a head, is to go with a whole matrix of others: slopes with distances."""
    ctx = pair.ctx
    if ctx.function not in ("mul", "div", "pow") or any(ctx.flow.sources(x.link) for x in pair.both):
        return None
    for x, other, place, _ in pair.each():
        if x.rank == 1 and other.rank == 2 and len({x.shape[0], *other.shape}) == 2 and x.shape[0] != other.shape[0]:
            wanted = (*x.shape, *other.shape)
            reason = f"{x.shape[0]} numbers, each with all of {write_shape(other.shape)}, are {write_shape(wanted)}"
            return Diagnosis(reason, f"[{x.shape[0]}, 1, 1]", fix_operand(ctx, place, "{}[:, None, None]"))
    return None


def explain_rows(pair: Pair) -> Diagnosis | None:
    """Rows are computed with those of another tensor: each with each of the others."""
    (left, right), function = pair.both, pair.ctx.function
    if pair.axes != [-2] or not left.rank == right.rank == 2 or function not in ("add", "sub", "mul"):
        return None
    wanted = (left.shape[0], right.shape[0], left.shape[1])
    reason = f"{left.shape[0]} rows against {right.shape[0]}: each with each of the others is {write_shape(wanted)}"
    fix = fix_operand(pair.ctx, pair.places[0], "{}.unsqueeze(1)")
    return Diagnosis(reason, "equal sizes, or 1, in every dim", fix, ANYWHERE)


def explain_scaled_rows(pair: Pair) -> Diagnosis | None:
    """Each number of a sample is to scale a row of a parameter: a token for each column of a table."""
    ctx = pair.ctx
    for table, data, _, place in pair.each() if pair.ctx.function == "mul" else ():
        param = find_param(ctx, table)
        is_of_rows = (
            table.rank == data.rank == 2 and data.shape[1] == table.shape[0] and data.shape != table.shape[::-1]
        )
        if param is None or not is_of_rows:
            continue
        rows = f"'{ctx.trace.params[param].names[0]}' {write_shape(table.shape)}"
        reason = f"each of the {data.shape[1]} numbers of a sample scales a row of {rows}"
        fix = fix_operand(ctx, place, "{}.unsqueeze(-1)")
        return Diagnosis(reason, write_shape((*data.shape, 1)), fix) if fix else None
    return None


def explain_centers(pair: Pair) -> Diagnosis | None:
    """What is given is compared with each number of a vector: distances with the centers of a basis."""
    which, ctx = find_table(pair), pair.ctx
    if which is None or ctx.function not in ("sub", "rsub") or pair.both[which].rank != 1:
        return None
    centers, data = pair.both[which], pair.both[1 - which]
    if data.rank < 2 or ctx.flow.producer(data.link) is None:
        return None
    reason = f"each number of {write_shape(data.shape)} is compared with the {centers.shape[0]} centers"
    fix = fix_operand(ctx, pair.places[1 - which], "{}.unsqueeze(-1)")
    return Diagnosis(reason, write_shape((*data.shape, 1)), fix) if fix else None


def explain_ones(pair: Pair) -> Diagnosis | None:
    """One of two tensors to be concatenated has 1 where the other has the batch: a class token, not expanded."""
    ctx, axis = pair.ctx, pair.both[0].rank + pair.axes[0]
    for x, other, place, there in pair.each() if len(pair.axes) == 1 else ():
        if x.rank != other.rank or x.shape[axis] != 1 or other.shape[axis] == 1:
            continue
        texts = read_arguments(ctx)
        name = texts[there] if there < len(texts) else ""
        sizes = [f"{name}.size({axis})" if at == axis else "-1" for at in range(x.rank)]
        param = find_param(ctx, x)
        what = f"'{ctx.trace.params[param].names[0]}'" if param is not None else "the other"
        reason = f"{what} has 1 in dim {axis}, {write_shape(other.shape)} has {other.shape[axis]}: cat never expands"
        if (moved := _move_count(ctx, x, axis, other.shape[axis])) is not None:
            return moved
        fix = fix_operand(ctx, place, f"{{}}.expand({', '.join(sizes)})") if name else NOTHING
        return Diagnosis(reason, "equal sizes in every other dim", fix, ())
    return None


def _move_count(ctx: FailureContext, x: Operand, axis: int, size: int) -> Diagnosis | None:
    """A row was repeated as often as there are samples, along another dim than that of the samples."""
    maker = ctx.flow.producer(x.link)
    counts = ctx.flow.setting(maker, "repeats") if maker is not None and maker.type_name == "repeat" else None
    if maker is None or not isinstance(counts, tuple) or len(counts) != x.rank or counts[axis] != 1:
        return None
    wrong = [at for at, count in enumerate(counts) if count == size and count > 1]
    if len(wrong) != 1 or maker.inputs[0].shape[axis] != 1:
        return None

    def swap(items: list[str]) -> list[str] | None:
        if len(items) != x.rank + 1:
            return None
        moved = [item.strip("()") if item.strip("()").isdigit() else item for item in items]
        moved[axis + 1], moved[wrong[0] + 1] = moved[wrong[0] + 1], moved[axis + 1]
        return moved

    fix = fix_made(ctx, maker, swap)
    shape = write_shape(maker.inputs[0].shape)
    reason = f"repeat{counts} of {shape} repeats along dim {wrong[0]}, the {size} samples are in dim {axis}"
    return Diagnosis(reason, f"{size} in dim {axis}", fix) if fix else None
