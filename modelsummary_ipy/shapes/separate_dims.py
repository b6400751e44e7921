"""Which dims of the input no operation reads across: batches can be cut along them, and computed on several ranks."""

from __future__ import annotations

from modelsummary_ipy.axes.mixing import find_mixed
from modelsummary_ipy.axes.mixing_op import Mixed, Unclear, is_in_order
from modelsummary_ipy.records.dims import Dim
from modelsummary_ipy.records.op_events import OpEvents
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.batch_trace import BatchFacts


def find_separate_dims(batch: BatchFacts, story: Story) -> dict[str, Dim]:
    """Follow each named dim of the input through a trace at the user's sizes; a batch of one is made two.

    Returns:
        By name; a dim of one entry is left out, and all are where nothing can be traced again.
    """
    if batch.retracer is None or story.trace.failure is not None:
        return {}
    name = batch.names.batch
    found = batch.retracer.at({name: 2} if batch.base.get(name) == 1 else {})
    if found.trace is None or found.ops is None or not found.works or not found.ops.is_whole:
        return {}
    places: dict[str, list[tuple[int, int]]] = {}
    for leaf, names in enumerate(batch.names.dims):
        for place, dim in enumerate(names):
            if dim and found.ops.inputs[leaf] is not None:
                places.setdefault(dim, []).append((leaf, place))
    mine = {there: call for call, there in enumerate(align_calls(story.trace, found.trace)) if there is not None}
    return {
        dim: found_dim
        for dim, starts in places.items()
        if (found_dim := _find_dim(dim, starts, found.ops, mine, story)) is not None
    }


def _find_dim(
    name: str, starts: list[tuple[int, int]], ops: OpEvents, mine: dict[int, int], story: Story
) -> Dim | None:
    sizes = {ref.shape[place] for leaf, place in starts if (ref := ops.inputs[leaf]) is not None}
    if len(sizes) != 1 or (num := sizes.pop()) < 2:
        return None
    states = find_mixed(ops, starts, num)
    mixed = [state.by for state in states if isinstance(state, Mixed)]
    unclear = [state.by for state in states if isinstance(state, Unclear)]
    if not mixed and not unclear and all(map(is_in_order, states)):
        return Dim(name, is_separate=True)
    if not mixed and not unclear:
        return Dim(name, is_separate=None)
    event = ops.events[min(mixed or unclear)]
    row = story.row_of_call.get(mine.get(event.call, -1))
    where = "" if row is None else story.rows[row].path
    return Dim(name, False if mixed else None, row, event.op, where)
