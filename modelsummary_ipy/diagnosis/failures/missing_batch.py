"""The batch that was forgotten, an image of three dims as other summaries take it, or that the inputs do not share."""

from __future__ import annotations

from collections import Counter

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import add_batch
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import FLATTENERS, RECURRENTS, spatial_rank
from modelsummary_ipy.records.fixes import InputEdit
from modelsummary_ipy.records.trace import Call


def explain_missing_batch(ctx: FailureContext) -> Diagnosis | None:
    """Explain a failure by a batch dim that the input does not have; true only if the model runs with one.

    Layers of feature maps read an input of one dim less as one sample, and what comes after reads its channels as the
    batch.
    """
    reader = next((call for call in ctx.trace.calls if _reads_one_sample(ctx, call)), None)
    fix = add_batch(ctx)
    if reader is None or not fix:
        return None
    edit = fix.edits[0]
    assert isinstance(edit, InputEdit)
    shape = reader.inputs[0].shape
    name = f"'{reader.path}' ({reader.type_name})" if reader.kind == "module" else f"{reader.type_name}()"
    whole = write_shape(edit.specs[0].shape)
    reason = f"the batch dim is missing: {name} reads {write_shape(shape)} as one sample; a batch of one is {whole}"
    return Diagnosis(reason, f"{len(shape) + 1} dims, the batch first", fix, candidates=(edit.specs,))


def explain_uneven_batches(ctx: FailureContext) -> Diagnosis | None:
    """Explain a failure by inputs of different batches, whose sizes met; true only if the model runs with one."""
    facts = ctx.trace.inputs
    specs = tuple(fact.spec for fact in facts)
    # What is stacked, or in a list, are mostly sequences of different lengths, and a dim by another name is no batch.
    is_batch = ctx.function != "stack" and all(
        fact.dims[:1] and fact.dims[0][:1] == "B" and "[" not in fact.spec.name[1:] for fact in facts
    )
    batches = Counter(spec.shape[0] for spec in specs if spec.shape)
    met = {size for x in ctx.operands for size in x.shape}
    if len(batches) < 2 or len(met & {*batches}) < 2 or not is_batch or any(fact.given != "size" for fact in facts):
        return None
    common = batches.most_common(1)[0][0]  # of several the first input's
    even = tuple(spec._replace(shape=(common, *spec.shape[1:])) if spec.shape else spec for spec in specs)
    called = ctx.trace.calls[0].inputs  # under the names of the parameters
    is_alike = [spec.shape for spec in called] == [spec.shape for spec in specs]
    named = ", ".join(f"{spec.name} {spec.shape[0]}" for spec in (called if is_alike else specs) if spec.shape)
    return Diagnosis(f"the inputs have different batches: {named}", "one batch", candidates=(even,))


def reads_channels_as_batch(ctx: FailureContext) -> bool:
    """Return whether a flattening or a Linear failed after a feature map without a batch: it has its channels first."""
    reader = next((call for call in ctx.trace.calls if _reads_one_sample(ctx, call)), None)
    if reader is None or not spatial_rank(reader) or not ctx.operands:
        return False
    x = ctx.operands[0]
    if ctx.function in ("view", "reshape"):
        return x.rank == len(reader.inputs[0].shape)
    steps = ctx.flow.walk_back(x.link, 6)
    before = next((call.inputs[0].shape for call in steps if call.type_name in FLATTENERS and call.inputs), ())
    return ctx.function == "linear" and x.rank == 2 and len(before) == len(reader.inputs[0].shape)


def _reads_one_sample(ctx: FailureContext, call: Call) -> bool:
    if not call.inputs or not call.input_links:
        return False
    shape, link = call.inputs[0].shape, call.input_links[0]
    spatial = spatial_rank(call)
    wanted = spatial + 1 if spatial else 2 if call.type_name in RECURRENTS else 0
    return len(shape) == wanted > 0 and ctx.flow.is_like_input(link, shape)
