"""Gates of many channels that are made of a single number of each sample, or of none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import (
    CONVOLUTIONS,
    LINEARS,
    TRANSPOSED_CONVOLUTIONS,
    is_weighted,
    spatial_rank,
)
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Severity

_LAYERS = LINEARS | (CONVOLUTIONS - TRANSPOSED_CONVOLUTIONS)


def find_narrow_gates(evidence: Evidence) -> Iterator[Flag]:
    """Find a layer of one channel, or of none, that a layer of many reads, to be a gate of what went in.

    Leaves alone codes of one number, which gate nothing, and gates of one number that no second layer widens; where
    other blocks have wider ones it is a note.
    """
    flow = evidence.flow
    for step in flow.steps:
        if not is_weighted(step) or not step.inputs or not step.outputs or 0 in step.inputs[0].shape:
            continue
        channel = _channel_dim(step)
        came, made = step.inputs[0].shape, step.outputs[0].shape
        if channel is None or made[channel] > 1 or came[channel] < 2:
            continue
        second = _find_next_layer(flow, step)
        if second is None or second.outputs[0].shape[channel] < 2 or (made[channel] and not _gates(flow, step, second)):
            continue
        what = "one number" if made[channel] else "nothing"
        message = f"{step.path or step.type_name} makes {made[channel]} of {came[channel]} channels, and "
        message += f"{second.path or second.type_name} reads {what}: all {second.outputs[0].shape[channel]} go together"
        severity: Severity = "note" if made[channel] and _has_wider(flow, step, channel) else "warning"
        yield evidence.flag("collapsed-map", severity, step, message, f"max({came[channel]} // reduction, 8) channels",
            "gate", before=came, after=made,
        )  # fmt: skip


def _has_wider(flow: Dataflow, step: Call, channel: int) -> bool:
    """Return whether a layer of the same place in another block makes more: the last of a pyramid has one."""
    place, last = re.sub(r"\d+", "#", step.path), step.path.rpartition(".")[2]
    alike = [call for call in flow.steps if last and re.sub(r"\d+", "#", call.path) == place]
    alike = [call for call in alike if call.path.rpartition(".")[2] == last]
    return any(call.outputs[0].shape[channel] > 1 for call in alike if is_weighted(call) and call is not step)


def _channel_dim(step: Call) -> int | None:
    """Return which dim of what a Linear or a convolution makes is its channels, from the last."""
    if step.type_name in LINEARS:
        return -1
    rank = spatial_rank(step)
    return -1 - rank if rank and len(step.outputs[0].shape) == rank + 2 else None


def _find_next_layer(flow: Dataflow, step: Call) -> Call | None:
    """Return the Linear or the convolution that reads what a layer made, behind activations and norms alone."""
    readers = flow.readers(step)
    for _ in range(4):
        if len(readers) != 1 or readers[0].outputs[:1] == ():
            return None
        if readers[0].type_name in _LAYERS:
            return readers[0] if _channel_dim(readers[0]) == _channel_dim(step) else None
        if len(readers[0].inputs) != 1 or readers[0].outputs[0].shape != readers[0].inputs[0].shape:
            return None
        readers = flow.readers(readers[0])
    return None


def _gates(flow: Dataflow, first: Call, second: Call) -> bool:
    """Return whether what two layers made is multiplied with what they were made of."""
    near = [first, *flow.walk_back(first.input_links[0], 6)]
    sources = {link for call in near for link in call.input_links}
    following = flow.after(second, 6)
    return any(call.type_name in ("mul", "mul_") and sources & set(call.input_links) for call in following)
