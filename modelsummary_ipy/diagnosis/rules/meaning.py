"""Rules on what axes mean: attention over the wrong axis, and what runs along the batch."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call

__all__ = ["RULES", "find_mixed_batches", "find_wrong_attention"]


def find_wrong_attention(evidence: Evidence) -> Iterator[Flag]:
    """Find attention whose weights sum to one along another axis than the one that is summed.

    Finds ``softmax(1)`` of scores ``(B, T, T)`` that are multiplied with the values, ``scaled_dot_product_attention``
    on ``(B, T, heads, d)``, a mask that hides whole rows of scores. Leaves alone weights that are divided by another
    sum (slot attention), softmaxes of features (linear attention), and gates.
    """
    for finding in evidence.story.axis_findings:
        call = evidence.calls[finding.call]
        axes, what = finding.axes, write_size(call.inputs[0].shape) if call.inputs else ""
        if finding.kind == "softmax":
            message = f"the weights {what} sum to 1 along {axes[0]}, but the product sums over {axes[1]}"
            fix = "softmax over the last dim of the scores, the one that the values are multiplied along"
        elif finding.kind == "heads":
            message = (
                f"attention on {what} runs over dim -2, which is {axes[0]}: heads attend to each other, not positions"
            )
            fix = "transpose(1, 2) queries, keys and values first, to (B, heads, T, d), and back after"
        elif finding.kind == "mask":
            message = (
                f"the mask of {what} is the same along {axes[0]}, the axis of the softmax: it hides all or nothing"
            )
            fix = "unsqueeze the mask so that its last dim lies on the keys: mask[:, None, :]"
        else:
            continue
        yield evidence.flag("attention-axis", "warning", call, f"{message} (seen with all dims resized)", fix)


_WORDS = {"cumsum": "adds up", "cumprod": "multiplies", "sort": "sorts", "flip": "turns round", "roll": "shifts"}


def find_mixed_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find what runs along the batch, and tables that are cut to its size.

    Finds ``cumsum(0)`` of ``(B, T)``, an FFT over all dims, ``positions[:x.size(0)]`` of a batch-first model. Leaves
    alone what reaches no output (losses, statistics), and sequence-first models, whose first dim is not the batch.
    """
    for finding in evidence.story.axis_findings:
        if finding.kind not in ("along", "table"):
            continue
        call = evidence.calls[finding.call]
        name = finding.op.removeprefix("aten.")
        if finding.kind == "table":
            message = (
                f"a table is cut to {evidence.batch} rows, the size of the batch: every sample gets a row of its own"
            )
            yield evidence.flag("batch-mixed", "warning", call, message, "cut it to the length: table[:x.size(1)]")
        else:
            verb = _WORDS.get(name, "mixes")
            message = f"{name} runs along {finding.axes[0]} and {verb} the {evidence.batch} samples of the batch"
            yield evidence.flag("batch-mixed", "warning", call, message, _write_dim(call))


def _write_dim(call: Call) -> str:
    rank = len(call.inputs[0].shape) if call.inputs else 0
    return f"dim={1 if rank > 1 else 0} stays within a sample" if rank > 1 else ""


RULES = {"attention-axis": find_wrong_attention, "batch-mixed": find_mixed_batches}
