"""What the axes of a trace at other sizes show: operations that do to them what is probably not meant."""

from __future__ import annotations

from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.axes.walk import align_events
from modelsummary_ipy.records.op_events import AxisFinding
from modelsummary_ipy.records.retraced import Retraced
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.formulas import BatchFacts
from modelsummary_ipy.shapes.sample_sizes import plan_joint_sizes

__all__ = ["find_axis_findings"]


def find_axis_findings(batch: BatchFacts, trace: Trace) -> tuple[AxisFinding, ...]:
    """Walk over the trace at sizes at which all dims have moved; where none work, at one more in the batch, or none.

    Args:
        batch: The names of the input's dims, and what traces again; without a batch nothing is looked for.
        trace: The first trace.

    Returns:
        What was found, each on a call of ``trace``.
    """
    retracer, base = batch.retracer, batch.base
    if retracer is None or not batch.names.batch or trace.failure is not None:
        return ()
    own = {name: size for name, size in base.items() if any(name in dims for dims in batch.names.dims)}
    one_more = retracer.at({batch.names.batch: own[batch.names.batch] + 1})
    if one_more.ops is None:
        return ()
    for joint in (plan_joint_sizes(batch.names, own), {batch.names.batch: own[batch.names.batch] + 1}, {}):
        found = retracer.at(joint)
        if found.works:
            break
    if found.trace is None or found.ops is None or not found.works or not found.ops.is_whole:
        return ()
    used = {size for param in trace.params for size in param.shape}
    moved = frozenset("B" if name == batch.names.batch else name for name, size in joint.items() if size not in used)
    dims = [["B" if name == batch.names.batch else name for name in names] for names in batch.names.dims]
    paths = {call.index: call.path for call in found.trace.calls}
    others = align_events(found.ops, one_more.ops, _partners(found, one_more))
    walk = MeaningWalk(found.ops, dims, moved, paths, others)
    mine = {there: call for call, there in enumerate(align_calls(trace, found.trace)) if there is not None}
    return tuple(
        dict.fromkeys(item._replace(call=mine[item.call]) for item in walk.run() if mine.get(item.call) is not None)
    )


def _partners(found: Retraced, other: Retraced) -> dict[int, int | None]:
    assert found.trace is not None
    assert other.trace is not None
    return dict(enumerate(align_calls(found.trace, other.trace)))
