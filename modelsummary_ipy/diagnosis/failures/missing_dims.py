"""What is missing: the batch, dims and indices that do not exist."""

from __future__ import annotations

from collections import Counter

from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    NOTHING,
    RESHAPE,
    Diagnosis,
    FailureContext,
    Operand,
    dim_of,
)
from modelsummary_ipy.diagnosis.failures.fixes import add_batch, fix_made, fix_operand, fix_setting, set_value
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import FLATTENERS, RECURRENTS, spatial_rank
from modelsummary_ipy.records.fixes import Candidate, InputEdit
from modelsummary_ipy.records.trace import Call


def explain_axis(ctx: FailureContext) -> Diagnosis | None:
    """Explain a dim or an index that does not exist."""
    if not ctx.operands:
        return None
    x = ctx.operands[0]
    if ctx.function == "permute":
        order = ctx.arguments.get("dims")
        if isinstance(order, tuple) and len(order) != x.rank:
            reason = f"permute has {len(order)} dims, {write_shape(x.shape)} has {x.rank}"
            return explain_kept_dim(ctx, x, reason) or Diagnosis(reason, f"{len(order)} dims", NOTHING, RESHAPE)
    if ctx.function == "getitem":
        return _explain_index(ctx, x)
    if ctx.function == "affine_grid":
        return _explain_matrices(ctx, x)
    given = ctx.fact.settings if ctx.is_torch_layer and ctx.fact is not None else ctx.arguments
    dims = [
        (name, value)
        for name, value in given.items()
        if name in ("dim", "dim0", "dim1", "start_dim", "end_dim", "axis") and type(value) is int
    ]
    several = given.get("dim")
    if isinstance(several, tuple) and all(type(axis) is int for axis in several):
        there = [axis for axis in several if -x.rank <= axis < x.rank]
        if len(there) < len(several):
            reason = f"dim={list(several)}, and {write_shape(x.shape)} has {x.rank} dims: {-x.rank} … {x.rank - 1}"
            return Diagnosis(reason, f"dim={there}", fix_setting(ctx, ctx.function, "dim", 1, there), RESHAPE)
    for name, value in dims:
        rank = x.rank + (ctx.function in ("unsqueeze", "stack"))
        if not -rank <= value < max(rank, 1):
            reason = f"{name}={value}, and {write_shape(x.shape)} has {x.rank} dims: {-rank} … {rank - 1}"
            fix = fix_setting(ctx, ctx.function, name, 1, -1) if name == "dim" else NOTHING
            if name == "dim" and ctx.is_torch_layer and ctx.fact is not None:
                fix = set_value(ctx.fact.path, f"nn.{ctx.fact.type_name}(dim=-1)")
            if (kept := explain_squeezed(ctx, x)) is not None:
                return kept
            return Diagnosis(reason, f"at least {value + 1 if value >= 0 else -value} dims", fix, RESHAPE)
    return None


def explain_kept_dim(ctx: FailureContext, x: Operand, reason: str) -> Diagnosis | None:
    """A dim was to be squeezed that has more than one item: the height of a map that is read as a sequence."""
    for call in ctx.flow.walk_back(x.link, 4):
        dim = ctx.flow.setting(call, "dim", None)
        shape = call.inputs[0].shape if call.inputs else ()
        if call.type_name != "squeeze" or type(dim) is not int or len(shape) != x.rank or not -x.rank < dim < x.rank:
            continue
        axis = dim % x.rank
        reason += f": squeeze({dim}) drops a dim of 1, and there are {shape[axis]}"
        fixes = [_read_otherwise(ctx, call, text) for text in (f"mean({axis})", f"flatten({axis - 1}, {axis})")]
        return Diagnosis(reason, f"1 in dim {axis}", fixes, RESHAPE)
    return None


def _read_otherwise(ctx: FailureContext, squeeze: Call, method: str) -> Candidate:
    return fix_made(ctx, squeeze, lambda items: f"{items[0]}.{method}")


def _explain_matrices(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    """The numbers of affine matrices are in a row, or there is one matrix for all samples."""
    size = ctx.arguments.get("size")
    if not isinstance(size, tuple) or len(size) not in (4, 5):
        return None
    rows = len(size) - 2
    wanted = (size[0], rows, rows + 1)
    reason = f"affine_grid takes a matrix of {rows} × {rows + 1} for each sample, got {write_shape(x.shape)}"
    fix = NOTHING
    if x.shape[1:] == (rows * (rows + 1),):
        fix = fix_operand(ctx, 0, f"{{}}.view(-1, {rows}, {rows + 1})")
    elif x.shape == wanted[1:]:
        fix = fix_operand(ctx, 0, "{}.unsqueeze(0)" if size[0] == 1 else f"{{}}.expand({size[0]}, -1, -1)")
    return Diagnosis(reason, write_shape(wanted), fix)


def explain_squeezed(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    """A ``squeeze()`` without a dim dropped the batch of one."""
    for call in ctx.flow.walk_back(x.link, 6):
        before = call.inputs[0].shape if call.inputs else ()
        if call.type_name == "squeeze" and ctx.flow.setting(call, "dim", None) is None and before[:1] == (1,):
            after = call.outputs[0].shape
            fix = fix_made(ctx, call, lambda items: f"{items[0]}.flatten(1)")
            reason = f"squeeze() drops every dim of 1, the batch too: {write_shape(before)} becomes "
            reason += f"{write_shape(after)}"
            return Diagnosis(reason, "the batch in dim 0", fix, RESHAPE)
    return None


def _explain_index(ctx: FailureContext, x: Operand) -> Diagnosis | None:
    index = ctx.arguments.get("1", ctx.arguments.get("key", ctx.arguments.get("idx")))
    items = index if isinstance(index, tuple) else (index,)
    if not items or any(item is ... for item in items):
        return None
    used = [item for item in items if item is not None and item != "..."]
    if len(used) > x.rank:
        reason = f"{len(used)} indices for the {x.rank} dims of {write_shape(x.shape)}"
        return Diagnosis(reason, f"at least {len(used)} dims", NOTHING, ANYWHERE)
    axis = 0
    for item in items:
        if item is None:
            continue
        if item == "...":
            axis = x.rank - (len(used) - used.index(item) if item in used else 0)
            continue
        if type(item) is int and axis < x.rank and not -x.shape[axis] <= item < x.shape[axis]:
            most = x.shape[axis] - 1
            reason = f"index {item} in dim {axis} of {write_shape(x.shape)}: the last one is {most}"
            needed = item + 1 if item >= 0 else -item
            return Diagnosis(reason, f"at least {needed} in dim {axis}", NOTHING, ANYWHERE, (dim_of(axis), needed))
        axis += 1
    return None


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
