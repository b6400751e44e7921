"""What is done to the rows of samples by the lines of a forward: sorted and not put back, read at one step for all."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import ELEMENTWISE
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link

_LOOKUPS = frozenset({"getitem", "index_select"})
#: What makes another shape, or another dtype, of numbers that count rows.
_KEEPS = frozenset(
    {"to", "long", "int", "clone", "contiguous", "detach", "sub", "add", "clamp", "squeeze", "unsqueeze"}
)


def find_unsorted_rows(evidence: Evidence) -> Iterator[Flag]:
    """Find ``y = layer(x[order])`` that meets what was not sorted, where nothing puts its rows back.

    Leaves alone rows that a second ``argsort``, or a write at ``order``, puts back, and a random order, as of mixup.
    """
    for step in evidence.flow.steps:
        order = _find_order(evidence, step)
        if order is None or evidence.batch < 2 or step.inputs[0].shape[:1] != (evidence.batch,):
            continue
        readers = [call for call, place in evidence.flow.reads.get(order, ()) if call.index and place]
        if len(readers) < len(evidence.flow.reads.get(order, ())) or any(not _looks_up(call) for call in readers):
            continue  # it is sorted, or written with
        rows = {call.index for call in readers}
        for later in evidence.calls[step.index + 1 :]:
            links = [link for link in later.input_links if link is not None and link != order]
            is_of = [link.call in rows for link in links]
            if later.type_name.rstrip("_") in ELEMENTWISE and len(links) == 2 and is_of.count(True) == 1:
                other = later.inputs[is_of.index(False)].shape
                if other[:1] == (evidence.batch,) == later.inputs[is_of.index(True)].shape[:1]:
                    message = f"{later.type_name} of {_write_all(later)}: of the one the {evidence.batch} samples are "
                    message += "in the order of a sort, of the other they are not"
                    fix = "y[order.argsort()] puts them back"
                    yield evidence.flag("batch-mixed", "warning", later, message, fix, "sorted", batch=evidence.batch)
                    return
            if any(is_of):
                rows.add(later.index)


def _find_order(evidence: Evidence, step: Call) -> Link | None:
    """Return the whole numbers of an ``argsort`` by which a step takes all rows of a tensor."""
    if not _looks_up(step) or len(step.inputs) != 2:
        return None
    if not step.outputs or step.outputs[0].shape != step.inputs[0].shape:  # one that failed made nothing
        return None
    link = step.input_links[1]
    maker = evidence.flow.producer(link)
    if len(step.inputs[1].shape) != 1 or maker is None or not _is_order(maker, link):
        return None
    before = evidence.flow.producer(maker.input_links[0])
    return None if before is not None and _is_order(before, maker.input_links[0]) else link  # one that puts back


def _is_order(maker: Call, link: Link | None) -> bool:
    return maker.type_name == "argsort" or (maker.type_name == "sort" and link is not None and link.leaf == 1)


def _looks_up(call: Call) -> bool:
    return call.type_name in _LOOKUPS


def _write_all(call: Call) -> str:
    return " and ".join(write_size(spec.shape) for spec in call.inputs)


def find_common_steps(evidence: Evidence) -> Iterator[Flag]:
    """Find ``h[:, lengths.max() - 1]``: the last step of the longest sample for all. A slice up to it is left alone."""
    for step in evidence.flow.steps:
        if (
            step.type_name != "getitem"
            or len(step.inputs) != 2
            or step.inputs[1].shape
            or len(step.inputs[0].shape) < 3
        ):
            continue
        makers = evidence.flow.walk_back(step.input_links[1])
        most = next((call for call in makers if call.type_name not in _KEEPS), None)
        if most is None or most.type_name not in ("max", "amax") or not most.inputs:
            continue
        if most.inputs[0].shape == (evidence.batch,) and evidence.batch > 1 and "int" in most.inputs[0].dtype:
            message = f"getitem of {write_size(step.inputs[0].shape)} takes one step for all {evidence.batch} samples, "
            message += f"at the {most.type_name} of their lengths: behind the end of a shorter one"
            fix = "h[torch.arange(len(h)), lengths - 1]"
            yield evidence.flag("batch-mixed", "warning", step, message, fix, "common", batch=evidence.batch)
