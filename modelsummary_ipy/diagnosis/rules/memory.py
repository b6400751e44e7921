"""A rule about one tensor that takes most of the memory: what ends as an out-of-memory error on a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import ATTENTIONS, LOOKUPS
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.summary import Flag, Story
from modelsummary_ipy.records.trace import Call, Severity, TensorSpec

_SMALLEST_PAIRED = 64 << 20
_SMALLEST = 1 << 30
#: How many times all inputs and outputs an intermediate must be.
_FAR_LARGER = 8
_PRODUCTS = frozenset({"matmul", "bmm", "baddbmm", "einsum"})


def find_memory_explosions(evidence: Evidence) -> Iterator[Flag]:
    """Find a call that makes most of the forward's peak by itself.

    Finds ``a @ b`` of ``(40000, 1)`` and ``(1, 40000)``, a difference of every row with every row by a ``squeeze`` that
    was forgotten, attention scores of a long text: what is far larger than all that goes in and out is a warning.
    What the model gives back is a note, and so is one tensor of a GiB or more that is most of the peak, whatever makes
    it: the scores of a large vocabulary.
    Leaves alone all that is small, layers whose own parameters make their output large, and lookups.
    """
    story, peak = evidence.story, evidence.story.trace.peak_bytes
    if not peak:
        return
    flagged: set[object] = set()
    for call in story.trace.calls:
        made = call.made_bytes
        if made < _SMALLEST_PAIRED or call.index not in story.row_of_call:
            continue
        place = (call.type_name, call.source) if call.source is not None else call.index
        if place in flagged:
            continue
        larger = _far_larger(story, call)
        if 4 * made >= peak and larger == "intermediate":
            severity: Severity = "warning"
        elif 2 * made >= peak and (made >= _SMALLEST or larger):
            severity = "note"
        else:
            continue
        flagged.add(place)
        fix = _advise(evidence.flow, call) if severity == "warning" else ""
        yield evidence.flag("memory-explosion", severity, call, _describe(call, peak), fix, made=made, peak=peak)


def _far_larger(story: Story, call: Call) -> Literal["", "output", "intermediate"]:
    """Return whether a call makes far more than it and the model take, and whether the model returns it."""
    if call.type_name in LOOKUPS or (call.params and call.type_name not in ATTENTIONS):
        return ""
    taken = max(_sum_bytes(call.inputs), _sum_bytes(tuple(fact.spec for fact in story.trace.inputs)))
    if call.made_bytes < _FAR_LARGER * taken:
        return ""
    return "intermediate" if call.made_bytes >= _FAR_LARGER * _sum_bytes(story.trace.outputs) else "output"


def _sum_bytes(specs: tuple[TensorSpec, ...]) -> int:
    return sum(spec.nbytes for spec in specs)


def _describe(call: Call, peak: int) -> str:
    inputs = _sum_bytes(call.inputs)
    whole = next((spec for spec in call.outputs if spec.nbytes == call.made_bytes), None)
    size = f": {write_times([f'{size:,}' for size in whole.shape])} {whole.dtype}" if whole is not None else ""
    of = f" from {_write_bytes(inputs)}" if inputs else ""
    share = min(100, round(100 * call.made_bytes / peak))
    return f"{call.type_name} makes {_write_bytes(call.made_bytes)}{of}{size}; {share}% of the forward's peak memory"


def _advise(flow: Dataflow, call: Call) -> str:
    if call.type_name in ATTENTIONS:
        return "need_weights=False keeps no weights of all pairs of positions"
    if call.type_name in _PRODUCTS and _feeds_softmax(flow, call):
        return "F.scaled_dot_product_attention keeps no scores of all pairs of positions"
    if call.type_name == "cdist":
        return "cdist in chunks of rows"
    sizes = [spec.shape for spec in call.inputs]
    if len(sizes) == 2 and call.outputs:
        left, right = sizes
        if call.type_name in ("matmul", "mm", "bmm", "outer", "einsum"):
            return f"every row of {write_shape(left)} meets every column of {write_shape(right)}: is that intended?"
        if max(map(len, sizes)) and call.outputs[0].shape not in sizes:
            makers = [flow.producer(link) for link in call.input_links]
            is_meant = all(maker is not None and maker.type_name in ("unsqueeze", "getitem") for maker in makers)
            advice = "is that intended?" if is_meant else "squeeze one"
            return f"{write_shape(left)} and {write_shape(right)} were broadcast against each other: {advice}"
    return ""


def _feeds_softmax(flow: Dataflow, call: Call) -> bool:
    """Return whether a softmax follows within a few steps: scaling, a mask, a cast."""
    following = flow.after(call, until=lambda step: step.kind != "op")
    near = itertools.takewhile(lambda step: step.index < call.index + 24, following)
    return any(step.type_name in ("softmax", "Softmax", "log_softmax") for step in near)


def _write_bytes(number: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.1f} {unit}".replace(".0 ", " ")
    return f"{number} B"


RULES = {"memory-explosion": find_memory_explosions}
