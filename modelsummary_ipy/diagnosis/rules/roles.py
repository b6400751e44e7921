"""The rule that finds tensors handed to a layer in the place of one another."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import ATTENTIONS, RECURRENTS
from modelsummary_ipy.model.torch_layers import classes_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link

__all__ = ["RULES", "find_swapped_roles"]

_SEQUENCE_LAYERS = RECURRENTS | ATTENTIONS | classes_of("transformer layer", "transformer")
_POSITIONS = re.compile(r"[HWDLT]′*(·[HWDLT]′*)*")


def find_swapped_roles(evidence: Evidence) -> Iterator[Flag]:
    """Find a layer of sequences that takes features for steps, and an LSTM's states in each other's place.

    Finds ``nn.GRU(50, 16)`` on the ``(B, 32, 50)`` of a convolution, whose 32 are features; ``(c, h)`` for ``(h,
    c)``; as a note the last step of both directions, of which the backward one has read nothing but that. Leaves
    alone variates of the input as tokens, and positions merged with features (``C·H`` of a feature map read by
    columns).
    """
    inside: set[int] = set()
    for call in evidence.calls:
        if call.type_name == "getitem":
            yield from _check_last_step(evidence, call)
        if call.parent in inside:
            inside.add(call.index)
        elif call.kind == "module" and call.type_name in _SEQUENCE_LAYERS and call.input_links:
            inside.add(call.index)
            yield from _check_dims(evidence, call)
            if call.type_name == "LSTM" and _is_swapped(evidence, call):
                message = f"h0 {write_size(call.inputs[1].shape)} is the cell state c of an LSTM, and c0 its state h"
                yield evidence.flag("swapped-roles", "warning", call, message, "(h, c), in this order", "states",
                    shape=call.inputs[1].shape,
                )  # fmt: skip


def _check_dims(evidence: Evidence, call: Call) -> Iterator[Flag]:
    origins = _find_origins(evidence, call.input_links[0])
    if len(origins) != 3 or None in origins:
        return
    steps = 1 if evidence.flow.setting(call, "batch_first") or origins[0] == "B" else 0
    rows, columns = str(origins[steps]), str(origins[2])
    if rows.startswith("the features of ") and "·" not in rows and _POSITIONS.fullmatch(columns):
        shape = call.inputs[0].shape
        message = f"{call.type_name} on {write_size(shape)} takes {rows} for steps, and the positions {columns} for "
        message += "features"
        yield evidence.flag("swapped-roles", "warning", call, message, "transpose(1, 2) before it", "dims", shape=shape)


def _check_last_step(evidence: Evidence, call: Call) -> Iterator[Flag]:
    """``output[:, -1]`` of both directions: the backward one has read a single step there."""
    maker = evidence.flow.producer(call.input_links[0]) if call.input_links else None
    if maker is None or maker.type_name not in RECURRENTS or not evidence.flow.setting(maker, "bidirectional"):
        return
    link, index = call.input_links[0], argument(call, "1", "index")
    last = (slice(None), -1) if evidence.flow.setting(maker, "batch_first") else (-1,)
    if link is not None and link.leaf == 0 and (index if isinstance(index, tuple) else (index,))[: len(last)] == last:
        shape = call.inputs[0].shape
        message = f"the last step of {write_size(shape)}: there the backward direction has read 1 step"
        fix = "torch.cat([h_n[-2], h_n[-1]], -1) has read all in both directions"
        yield evidence.flag("swapped-roles", "note", call, message, fix, "last", shape=shape)


def _find_origins(evidence: Evidence, link: Link | None) -> tuple[str | None, ...]:
    """Return what each dim of a tensor comes from."""
    if link is None or link.call < 0:
        return ()
    found = evidence.story.origins.get(evidence.story.row_of_call[link.call], ())
    return found[link.leaf] if link.leaf < len(found) else ()


def _is_swapped(evidence: Evidence, call: Call) -> bool:
    if len(call.input_links) != 3:
        return False
    hidden, cell = call.input_links[1:]
    if hidden is None or cell is None or hidden.call != cell.call or hidden.call < 0:
        return False
    return evidence.calls[hidden.call].type_name == "LSTM" and (hidden.leaf, cell.leaf) == (2, 1)


RULES = {"swapped-roles": find_swapped_roles}
