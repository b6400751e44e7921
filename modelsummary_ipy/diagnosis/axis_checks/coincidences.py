"""Two dims that lie on each other only because their sizes are equal here: one more in one of them shows it."""

from __future__ import annotations

from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.op_events import AxisFinding
from modelsummary_ipy.records.trace import Call, Trace

#: What lays a mask, or positions, on a tensor.
_LAID = frozenset({"add", "masked_fill", "where"})
_PRODUCTS = frozenset({"matmul", "mm", "bmm"})
_CLASSES = frozenset({"cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss"})


def fails_between_tensors(again: Trace) -> bool:
    """Return whether a trace failed at a call of several tensors, whose sizes did not fit each other then."""
    index = None if again.failure is None else again.failure.call
    return index is not None and len(again.calls[index].inputs) > 1


def find_moved_operand(trace: Trace, again: Trace) -> tuple[int, int] | None:
    """Return the step of two tensors at which a trace with more in a dim failed, and which of both has that dim.

    ``None`` if both have it, or neither.
    """
    index = None if again.failure is None else again.failure.call
    if index is None or index >= len(trace.calls):
        return None
    call, then = trace.calls[index], again.calls[index]
    if (call.type_name, call.source, len(call.inputs)) != (then.type_name, then.source, 2) or call.kind != "op":
        return None
    moved = [leaf for leaf in (0, 1) if call.inputs[leaf].shape != then.inputs[leaf].shape]
    return (index, moved[0]) if len(moved) == 1 else None


def find_coincidence(trace: Trace, again: Trace, name: str) -> AxisFinding | None:
    """Return where a trace with one more in a dim failed because that dim met another.

    Returns:
        ``"coincident"`` where the dim is at two places, counted from the last, of tensors that are broadcast: a mask
        ``(B, T)`` on scores ``(B, T, T)``, with as many samples as steps. ``"classes"`` where a loss takes it for its
        classes. ``"pinned"`` where it meets a buffer that is as long and is not cut. ``None`` where the trace came to
        its end or failed of something else.
    """
    if again.failure is None or again.failure.call is None or again.failure.call >= len(trace.calls):
        return None
    then = again.calls[again.failure.call]
    call = trace.calls[then.index]
    if (call.type_name, call.source) != (then.type_name, then.source) or len(call.inputs) < 2:
        return None
    if call.type_name in _CLASSES:
        one, other = call.inputs[0].shape, then.inputs[0].shape
        is_class = len(one) == len(other) > 2 and one[1] != other[1]
        return AxisFinding("labels", f"aten.{call.type_name}", call.index, (name, "the classes")) if is_class else None
    if name != "B" and _is_pinned(trace, call, then):
        return AxisFinding("pinned", f"aten.{call.type_name}", call.index, (name,))
    pairs = [(spec.shape, its.shape) for spec, its in zip(call.inputs, then.inputs, strict=False)]
    moved = [places for places in (_find_moved(*pair) for pair in pairs) if places]
    if call.type_name in _PRODUCTS and len(moved) == 2 and _is_summed(moved) and _are_of_inputs(trace, call):
        return AxisFinding("met", f"aten.{call.type_name}", call.index, (name,))
    lengths = {one[place] for one, other in pairs for place in _find_moved(one, other)}
    if len(lengths) != 1:  # a view(-1, …) put what is more into the batch
        return None
    if call.kind != "op" or len(moved) != 2 or moved[0] & moved[1] or not _are_broadcast([one for one, _ in pairs]):
        return None
    places = " and ".join(str(min(places)) for places in moved)
    return AxisFinding("coincident", f"aten.{call.type_name}", call.index, (name, places))


def _is_summed(moved: list[frozenset[int]]) -> bool:
    """Return whether a product sums a dim of a square whose dims both moved with one that did not: features."""
    return (moved[1] == {-1, -2} and -1 not in moved[0]) or (moved[0] == {-1, -2} and -2 not in moved[1])


def _are_of_inputs(trace: Trace, call: Call) -> bool:
    """Return whether what a step reads comes from inputs of the model, and not from a parameter alone."""
    return all(link is not None and bool(Dataflow(trace).sources(link)) for link in call.input_links)


def _is_pinned(trace: Trace, call: Call, then: Call) -> bool:
    """Return whether a step lays a tensor that became shorter on a buffer that did not."""
    pairs = list(zip(call.inputs, then.inputs, strict=False))
    moved = [_find_moved(one.shape, other.shape) for one, other in pairs]
    places = frozenset[int]().union(*moved)
    is_less = all(
        other.shape[at] < one.shape[at] for (one, other), at_all in zip(pairs, moved, strict=True) for at in at_all
    )
    for leaf, ((spec, _), own) in enumerate(zip(pairs, moved, strict=True)):
        is_long = sum(size > 1 for size in spec.shape) > 1 and any(
            -at <= len(spec.shape) and spec.shape[at] > 1 for at in places
        )
        if is_long and not own and is_less and _is_of_buffer(trace, call, leaf):
            return call.kind == "op" and call.type_name.rstrip("_") in _LAID
    return False


def _is_of_buffer(trace: Trace, call: Call, leaf: int) -> bool:
    """Return whether a tensor is a buffer, or made of one alone: ``self.mask == 0``."""
    param, link = call.input_params[leaf], call.input_links[leaf]
    if param is not None or link is None or link.call < 0:
        return param is not None and trace.params[param].kind == "buffer"
    maker = trace.calls[link.call]
    return len(maker.inputs) == 1 and maker.kind == "op" and _is_of_buffer(trace, maker, 0)


def _find_moved(one: tuple[int, ...], other: tuple[int, ...]) -> frozenset[int]:
    """Return the places, counted from the last, at which two shapes differ; none where their ranks do."""
    if len(one) != len(other):
        return frozenset()
    return frozenset(place for place in range(-len(one), 0) if one[place] != other[place])


def _are_broadcast(shapes: list[tuple[int, ...]]) -> bool:
    """Return whether shapes fit each other, a dim of 1 with any."""
    places = range(-max(map(len, shapes)), 0)
    return all(len({shape[at] for shape in shapes if -at <= len(shape)} - {1}) <= 1 for at in places)
