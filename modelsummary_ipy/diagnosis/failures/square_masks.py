"""Square masks that the forward makes, of every row with every other one: for another number of rows."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Pair
from modelsummary_ipy.diagnosis.failures.fixes import place_line, read_arguments, read_line
from modelsummary_ipy.diagnosis.failures.source_edits import splice_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import read_call
from modelsummary_ipy.diagnosis.failures.statements import list_names_before
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call


def explain_square_mask(pair: Pair) -> Diagnosis | None:
    """``torch.eye(N)`` beside the similarities of two views of N samples, which are ``2 * N`` by ``2 * N``."""
    ctx, texts = pair.ctx, read_arguments(pair.ctx)
    for x, other, _, there in pair.each():
        if x.rank != 2 or other.rank < 2 or len({*x.shape}) > 1 or len({*other.shape[-2:]}) > 1:
            continue
        maker = next((call for call in ctx.flow.walk_back(x.link, 5) if call.type_name in SIZED_FACTORIES), None)
        if maker is None or maker.outputs[0].shape != x.shape or ctx.flow.sources(x.link):
            continue
        had, came = x.shape[0], other.shape[-1]
        name = texts[there] if there < len(texts) and texts[there].isidentifier() else ""
        is_known = name and maker.source is not None and name in list_names_before(maker.source)
        size = f"{name}.size({0 if other.rank == 2 else -1})" if is_known else ""
        fix = _resize(ctx, maker, came, size)
        if fix:
            reason = f"{maker.type_name}() makes {had} × {had}, {write_shape(other.shape)} has {came} rows"
            return Diagnosis(reason, write_shape((came, came)), fix)
    return None


def _resize(ctx: FailureContext, maker: Call, came: int, size: str) -> Candidate:
    """Make a square tensor of another size: of ``size``, or as many times as many as the line says now."""
    line, had = read_line(ctx, maker.source), maker.outputs[0].shape[0]
    given = read_call(line, maker.type_name)[0]
    if not size and given and came % had == 0 and given[0].isidentifier():
        size = f"{came // had} * {given[0]}"
    rank = 1 if maker.type_name == "eye" and len(given) == 1 else 2
    changed = splice_argument(line, maker.type_name, (had,) * rank, (came,) * rank, {0: size, 1: size} if size else {})
    return place_line(ctx, maker, changed if changed != line else "")
