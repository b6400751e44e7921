"""From a failed forward to a ``ForwardError``: the explanation that fits, the sizes that work, the fixes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from modelsummary_ipy.diagnosis.failures.arguments import explain_arguments
from modelsummary_ipy.diagnosis.failures.assignments import explain_assignment, explain_late, explain_not_carried
from modelsummary_ipy.diagnosis.failures.attention import explain_attention
from modelsummary_ipy.diagnosis.failures.broadcasting import explain_broadcast
from modelsummary_ipy.diagnosis.failures.concatenation import explain_cat
from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, STEER, Diagnosis, FailureContext, build_context
from modelsummary_ipy.diagnosis.failures.convolution import explain_convolution
from modelsummary_ipy.diagnosis.failures.dtypes_devices import explain_device, explain_dtype, explain_index_range
from modelsummary_ipy.diagnosis.failures.fixes import find_earlier
from modelsummary_ipy.diagnosis.failures.given_inputs import explain_misspelt, list_exchanged, list_givens
from modelsummary_ipy.diagnosis.failures.indexing import explain_einsum, explain_index
from modelsummary_ipy.diagnosis.failures.linear import explain_linear
from modelsummary_ipy.diagnosis.failures.losses import explain_loss
from modelsummary_ipy.diagnosis.failures.matmul import explain_matmul
from modelsummary_ipy.diagnosis.failures.message import (
    first_line,
    is_torchs,
    list_lines,
    read_numbers,
    write_message,
    write_need,
    write_ordinal,
)
from modelsummary_ipy.diagnosis.failures.missing_dims import (
    explain_axis,
    explain_missing_batch,
    explain_uneven_batches,
    reads_channels_as_batch,
)
from modelsummary_ipy.diagnosis.failures.norms import explain_activation, explain_norm
from modelsummary_ipy.diagnosis.failures.package_calls import FLOATING, find_package_call, find_root_call
from modelsummary_ipy.diagnosis.failures.patterns import explain_pattern
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds, name_setting
from modelsummary_ipy.diagnosis.failures.recurrent import explain_recurrent
from modelsummary_ipy.diagnosis.failures.reshaping import explain_reshape, explain_split
from modelsummary_ipy.diagnosis.failures.returned import explain_returned
from modelsummary_ipy.diagnosis.failures.source_nodes import find_set_twice
from modelsummary_ipy.diagnosis.failures.spectra import explain_spectrum
from modelsummary_ipy.diagnosis.failures.statements import list_methods
from modelsummary_ipy.diagnosis.failures.transformers import explain_transformer
from modelsummary_ipy.diagnosis.failures.windows import explain_window
from modelsummary_ipy.diagnosis.failures.working_sizes import FoundSizes, SizeTracer, find_sizes, list_given_places
from modelsummary_ipy.diagnosis.failures.wrong_names import explain_name
from modelsummary_ipy.diagnosis.failures.wrong_objects import explain_object
from modelsummary_ipy.diagnosis.failures.wrong_values import explain_value
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.fixes import Candidate, Fix
from modelsummary_ipy.records.internal_errors import attempt
from modelsummary_ipy.records.retraced import Specs, read_condition
from modelsummary_ipy.records.summary import Story

Family = Callable[[FailureContext], "Diagnosis | None"]

#: What Python, a loss or an index refuses, whatever the sizes are.
_FIRST: Mapping[str, Family] = {
    "pattern": explain_pattern,
    "name": explain_name,
    "assignment": explain_assignment,
    "object": explain_object,
    "value": explain_value,
    "arguments": explain_arguments,
    "returned": explain_returned,
    "loss": explain_loss,
    "index": explain_index,
}
#: Explanations from shapes.
SIZES: Mapping[str, Family] = {
    "closure": explain_late,
    "loop": explain_not_carried,
    "einsum": explain_einsum,
    "linear": explain_linear,
    "convolution": explain_convolution,
    "norm": explain_norm,
    "activation": explain_activation,
    "recurrent": explain_recurrent,
    "attention": explain_attention,
    "transformer": explain_transformer,
    "cat": explain_cat,
    "matmul": explain_matmul,
    "broadcast": explain_broadcast,
    "reshape": explain_reshape,
    "split": explain_split,
    "window": explain_window,
    "spectrum": explain_spectrum,
    "axis": explain_axis,
}
#: Explanations from dtypes, devices and values.
_KINDS: Mapping[str, Family] = {"index-range": explain_index_range, "device": explain_device, "dtype": explain_dtype}
#: The kinds of failures: what explained one, or why nothing did.
CODES = (*_FIRST, *SIZES, *_KINDS, "input", "missing-batch", "values-needed", "interrupted", "unsupported", "other")


FindFixes = Callable[[FailureContext, Diagnosis], "tuple[Fix, ...]"]


def explain(
    story: Story,
    retracer: SizeTracer | None = None,
    errors: list[str] | None = None,
    find_fixes: FindFixes | None = None,
) -> ForwardError:
    """Say why a forward failed, what to change and which inputs would work.

    Args:
        story: The records of the trace.
        retracer: Traces the model at other inputs; without it no sizes are searched for.
        errors: Where an explanation that raises is reported; the failure is then explained by torch's message.
        find_fixes: Finds the changes that make the model run, by trying them; without it none is shown.

    Returns:
        The error, without a cause.

    Raises:
        ValueError: If the forward did not fail.
    """
    ctx = build_context(story)
    if ctx is None:
        raise ValueError("the forward did not fail")
    errors = [] if errors is None else errors
    diagnosis = diagnose(ctx, errors)
    can_fix = find_fixes is not None and not ctx.failure.limit and not ctx.failure.interrupted
    fixes: tuple[Fix, ...] = ()
    if retracer is not None and can_fix and find_fixes is not None:
        find_given = partial(_explain_given, ctx, retracer, find_fixes)
        if (found_given := attempt("explanation input", errors, find_given, None)) is not None:
            diagnosis, fixes = found_given
    if retracer is not None and not ctx.failure.limit and diagnosis.code != "input":
        missing = attempt("explanation missing_batch", errors, partial(explain_missing_batch, ctx), None)
        is_all = missing is not None and retracer.at(missing.candidates[0]).works
        if missing is not None and not is_all and can_fix and find_fixes is not None and reads_channels_as_batch(ctx):
            # With a search of its own, a diagnosis is tried alone, with what then fails: nothing is guessed.
            find = partial(find_fixes, ctx, replace(missing, search=STEER))
            fixes = attempt("the search for a fix", errors, find, fixes)
        if missing is not None and (is_all or fixes):
            diagnosis = replace(missing, code="missing-batch")
    found = FoundSizes([])
    if retracer is not None:
        find_them = partial(find_sizes, ctx, diagnosis, retracer)
        found = attempt("the search for sizes that work", errors, find_them, found)
    sizes = tuple(dict.fromkeys(retracer.write(specs) for specs in found.specs)) if retracer is not None else ()
    reason = diagnosis.reason.rstrip(".")
    if found.search in ("named", "steer", "grow") or found.rule is not None:
        reason += write_need(ctx, found)
    earlier = find_earlier(ctx)
    if earlier is not None and earlier.inputs and ctx.operands and earlier.inputs[0].shape != ctx.operands[0].shape:
        reason += f"; its {write_ordinal(earlier.call_index + 1)} call got {write_shape(earlier.inputs[0].shape)}"
    if twice := _find_set_twice(ctx):
        reason += f"; {twice}"
    if can_fix and find_fixes is not None and not fixes:
        fixes = attempt("the search for a fix", errors, partial(find_fixes, ctx, diagnosis), fixes)
    if retracer is not None and not fixes and diagnosis.code in _MAY_BE_UNEVEN:
        uneven = attempt("explanation uneven_batches", errors, partial(explain_uneven_batches, ctx), None)
        if uneven is not None and retracer.at(uneven.candidates[0]).works:
            diagnosis, reason = replace(uneven, code="input"), uneven.reason
            sizes = tuple(dict.fromkeys((retracer.write(uneven.candidates[0]), *sizes)))
    source, called = ctx.failure.source, diagnosis.call.source if diagnosis.call is not None else None
    inside = source.text if source is not None else None
    place = called.text if called is not None else inside  # the line of the user's
    head = f"{inside}, called at {place}" if called is not None else place
    return ForwardError(
        write_message(ctx, diagnosis, reason, fixes, sizes, head),
        path=ctx.call.path,
        row=story.row_of_call.get(ctx.call.index),
        source=place,
        reason=reason,
        fixes=fixes,
        advice=ctx.failure.advice if ctx.failure.limit else "",
        sizes=sizes,
        code=diagnosis.code,
        numbers=read_numbers(ctx, diagnosis),
    )


def _find_set_twice(ctx: FailureContext) -> str:
    """Say that the class of a layer that failed sets it twice, and another, which its forward calls, never."""
    twice, unset = find_set_twice(list_methods(ctx.failure.source))
    names = [name for name in twice if name == ctx.call.path.rpartition(".")[2]]
    return f"__init__ sets {names[0]} twice, and {unset[0]} never" if names and unset else ""


#: Explanations in general words, behind which inputs of different batches may stand.
_MAY_BE_UNEVEN = ("cat", "broadcast", "matmul", "recurrent", "attention", "other")


def _explain_given(
    ctx: FailureContext, retracer: SizeTracer, find_fixes: FindFixes
) -> tuple[Diagnosis, tuple[Fix, ...]] | None:
    """Return the first explanation by the inputs, mostly of a package's model, with which it runs, and its fixes."""
    package, root = find_package_call(ctx), find_root_call(ctx)
    if root is not None and (made := explain_misspelt(root)) is not None:
        return made, find_fixes(ctx, made)
    exchanged = list_exchanged(root) if root is not None else ()
    for made in itertools.chain(exchanged, list_givens(package) if package is not None else ()):
        if fixes := find_fixes(ctx, made) if made.fixes else ():
            return made, fixes
        is_shown = not made.fixes and made.candidates and _shows(ctx, made.candidates[0])
        if is_shown and retracer.at(made.candidates[0]).works:
            return made, ()
    return None


def _shows(ctx: FailureContext, specs: Specs) -> bool:
    """Return whether a trace at other inputs shows anything: integers have no values there, which may be wrong."""
    pairs = zip((fact.spec for fact in ctx.trace.inputs), specs, strict=True)
    return not is_of_values(ctx) or all(old == new or old.dtype in FLOATING for old, new in pairs)


def is_of_values(ctx: FailureContext) -> bool:
    """Return whether values, not sizes, made a lookup fail."""
    return next(list_given_places(ctx), None) is not None or (
        ctx.failure.error_type == "IndexError" and "dimension" not in ctx.failure.message.lower()
    )


#: Words of torch's on dtypes and devices; the last are a recurrent layer's up to 2.9.
_OF_KINDS = ("dtype", "scalar type", "not implemented for", "device", "Input type", "must have the type")


#: Words of torch's where it has no such operation for what it is given, a sparse layout say: other sizes are no fix.
_LACKS = ("not implemented", "Could not run 'aten::")


def diagnose(ctx: FailureContext, errors: list[str]) -> Diagnosis:
    """Return the diagnosis of the first family that explains the failure, else torch's own message."""
    words = ctx.failure.message
    if ctx.failure.interrupted:
        return Diagnosis("the summary was interrupted: the rows are those that ran before", code="interrupted")
    if ctx.failure.limit:
        return Diagnosis(ctx.failure.limit, code="values-needed")
    kinds_first = any(word in words for word in _OF_KINDS)
    others = {**_KINDS, **SIZES} if kinds_first else {**SIZES, **_KINDS}
    for code, family in {**_FIRST, **others}.items():
        diagnosis = attempt(f"explanation {code}", errors, partial(family, ctx), None)
        if diagnosis is not None:
            condition = read_condition(words)
            reason = f"{diagnosis.reason}, where {condition}" if condition else diagnosis.reason
            return replace(diagnosis, code=code, reason=reason)
    may_be_size = ctx.failure.error_type not in _NO_SIZES and not is_of_values(ctx)
    reason = first_line(words) if is_torchs(ctx) else "; ".join(line.rstrip(".;") for line in list_lines(words))
    search, made = ANYWHERE if may_be_size else (), list(_list_made(ctx))
    if any(word in words for word in _LACKS):
        return Diagnosis(reason, code="unsupported")
    reason, expected = reason or ctx.failure.error_type, ""
    if is_of_values(ctx) and (lookup := _find_lookup(ctx)) is not None:
        path, rows = lookup
        field = name_setting(ctx, rows)
        reason, expected = (
            f"{reason}: '{path}' has {rows} rows{f' ({field})' if field else ''}",
            f"indices 0 … {rows - 1}",
        )
    return Diagnosis(reason, expected, made, search, is_open=True, code="other")


def _find_lookup(ctx: FailureContext) -> tuple[str, int] | None:
    """Find the table whose lookup failed, where code around it raised another error: its path and rows."""
    for call in ctx.trace.calls[ctx.call.index + 1 :]:
        rows = ctx.flow.setting(call, "num_embeddings") if call.status == "failed" else None
        if isinstance(rows, int):
            return call.path, rows
    return None


def _list_made(ctx: FailureContext) -> Iterator[Candidate]:
    """List how the model is made for the input, where a message of its own code names its size and another."""
    if is_torchs(ctx):
        return
    numbers = [int(word) for word in re.findall(r"\d+", first_line(ctx.failure.message)) if len(word) < 7]
    sizes = {size for x in ctx.data for size in x.shape}
    for came, had in itertools.permutations(dict.fromkeys(numbers), 2):
        if came in sizes:
            yield from list_rebuilds(ctx, had, came)


#: What no other size mends.
_NO_SIZES = ("TypeError", "AttributeError", "NameError", "KeyError", "NotImplementedError", "ImportError",
             "ModuleNotFoundError", "UnboundLocalError", "RecursionError", "ZeroDivisionError")  # fmt: skip
