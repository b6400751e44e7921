"""All that is tried for a failure, in the order in which it is tried."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.explain import SIZES
from modelsummary_ipy.diagnosis.fixes.slips import list_exact, list_slips
from modelsummary_ipy.diagnosis.fixes.tensors import list_earlier_changes, list_line_changes, list_undone
from modelsummary_ipy.records.fixes import Candidate

#: What Python refuses by a name, a type or a signature, and what torch has not: no other order of dims mends it.
NOT_OF_SIZES = ("name", "assignment", "object", "value", "arguments", "unsupported")
#: Where one size came and another was wanted.
OF_SIZES = ("linear", "recurrent", "norm", "attention", "broadcast", "cat", "matmul", "reshape",
            "convolution")  # fmt: skip


def list_candidates(ctx: FailureContext, diagnosis: Diagnosis) -> Iterator[Candidate]:
    """List changes that may make a model run, the likeliest first.

    These are slips that leave just the size that was wanted; what is written for the reason; steps left out. Without a
    reason, other dims of what the failing line reads. Then all other slips, and last other dims of what lines before it
    read.
    """
    code = diagnosis.code
    if code in OF_SIZES:
        yield from list_exact(ctx)
    yield from diagnosis.fixes
    if code in (*SIZES, "other"):
        yield from list_undone(ctx)
    if code == "input":  # each explanation of that kind is tried, and none guessed at
        return
    is_known = not diagnosis.is_open and diagnosis.search not in ((), ANYWHERE) and not ctx.is_in_package
    if code not in NOT_OF_SIZES and not is_known:
        yield from list_line_changes(ctx)
    if code in (*SIZES, "index", "loss", "other"):
        yield from list_slips(ctx)
    if code not in NOT_OF_SIZES and not is_known:
        yield from list_earlier_changes(ctx)
