"""Tensors that were joined, or stacked, along another dim than that of their features."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import place_line, read_line, set_made
from modelsummary_ipy.diagnosis.failures.source_edits import set_argument
from modelsummary_ipy.diagnosis.torch_names import CATS


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
