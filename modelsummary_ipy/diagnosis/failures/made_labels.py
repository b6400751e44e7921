"""Labels that a forward makes itself, as contrastive losses do, and makes too many or too few of."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.creations import fix_creation
from modelsummary_ipy.diagnosis.failures.fixes import find_name, fix_argument, read_arguments
from modelsummary_ipy.diagnosis.torch_names import SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate


def explain_made_labels(
    ctx: FailureContext, x: Operand, y: Operand, wanted: tuple[int, ...]
) -> tuple[str, list[Candidate]] | None:
    """Explain labels that the forward makes: words, and fixes; ``None`` if it does not make them.

    Args:
        x, y: Predictions and labels.
        wanted: The shape of labels that fits.
    """
    maker = ctx.flow.producer(y.link)
    if maker is None or maker.type_name not in SIZED_FACTORIES or y.rank != len(wanted):
        return None
    texts = [*read_arguments(ctx), "", ""]
    if maker.type_name == "arange" and x.rank == 2 and x.shape == (2 * y.shape[0],) * 2:
        labels, count = texts[1], y.shape[0]
        words = f": of two views each sample's label is its other view, {count} further on or {count} before"
        pair = f"torch.cat([{labels} + {labels}.size(0), {labels}])"
        return words, [fix_argument(ctx, pair, position=1)] if labels.isidentifier() else []
    name = find_name(texts[0])
    names = {axis: f"{name}.size({axis + (axis > 0)})" for axis in range(y.rank)} if name else {}
    return f": {maker.type_name}() makes {y.shape[0]}", [fix_creation(ctx, y, wanted, names)]
