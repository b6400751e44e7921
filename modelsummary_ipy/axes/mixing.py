"""Which dims of the input no operation reads across: entry by entry, an output depends on one entry of them only.

Each operation is followed for one dim of the input at a time. Of a tensor it is known that it does not depend on the
dim; that one of its axes is the dim, entry by entry; or that an entry depends on several, or may. An operation without
an entry in the table tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelsummary_ipy.axes.mixing_op import At, Mixed, State, Unclear, follow
from modelsummary_ipy.records.op_events import OpEvent, OpEvents, TensorRef

#: Operations whose results share the memory of what they read.
_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "_unsafe_view", "_reshape_alias", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze"),
        *("expand", "slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "alias", "detach"),
        *("diagonal", "unfold", "as_strided", "view_as_real", "view_as_complex", "real", "imag"),
    )
)


def find_mixed(ops: OpEvents, starts: Sequence[tuple[int, int]], num: int) -> tuple[State, ...]:
    """Follow one dim of the input through a trace.

    Args:
        ops: All operations of the trace.
        starts: The inputs, and the axes of theirs, that are the dim.
        num: Its size, more than 1.

    Returns:
        Per output of the model what is known of it.
    """
    walk = _Walk(num)
    for leaf, place in starts:
        ref = ops.inputs[leaf]
        if ref is not None:
            walk.states[ref.number] = At(place)
    for index, event in enumerate(ops.events):
        walk.step(index, event)
    outputs = [None if ref is None else walk.states.get(ref.number) for ref in ops.call_outputs.get(0, ())]
    return tuple(walk.doubt if walk.doubt and not isinstance(state, Mixed) else state for state in outputs)


class _View(NamedTuple):
    """A tensor that shares its memory with another: which, and how it was made of it."""

    base: TensorRef
    steps: tuple[tuple[OpEvent, int], ...] = ()


class _Walk:
    """What is known of every tensor, operation by operation."""

    def __init__(self, num: int) -> None:
        self.states: dict[int, State] = {}
        #: Where a value was read by Python, or memory was written in a way that is not followed.
        self.doubt: Unclear | None = None
        self._num = num
        self._views: dict[int, _View] = {}

    def step(self, index: int, event: OpEvent) -> None:
        """Follow one operation."""
        is_view = event.op.removesuffix("_") in _VIEWS  # transpose_ too
        is_written = event.op.endswith("_") and not event.op.endswith("__") and not is_view
        if not is_written and all(self.states.get(ref.number) is None for ref in event.refs):
            if is_view:
                self._note_views(event)
            return
        if not event.outputs:
            self.doubt = self.doubt or Unclear(index)  # Python reads a value, and may do something else
            return
        self.states.update(zip((ref.number for ref in event.outputs), self._follow(index, event), strict=True))
        if is_view:
            self._note_views(event)
        elif is_written and isinstance(event.args.get("self"), TensorRef):
            self._write(index, event.args["self"], event.outputs[0])

    def _follow(self, index: int, event: OpEvent) -> list[State]:
        """Return what is known of each result of one operation."""
        found: list[list[State]] = []
        for operand, ref in enumerate(event.refs):
            state = self.states.get(ref.number)
            if isinstance(state, At):
                found.append(follow(index, event, operand, state, self._num))
            elif state is not None:
                found.append([state] * len(event.outputs))
        return [_join(index, [each[place] for each in found]) for place in range(len(event.outputs))]

    def _note_views(self, event: OpEvent) -> None:
        of = event.refs[0]
        base, steps = self._views.setdefault(of.number, _View(of))
        for place, ref in enumerate(event.outputs):
            self._views[ref.number] = _View(base, (*steps, (event, place)))

    def _write(self, index: int, ref: TensorRef, made: TensorRef) -> None:
        """What was written to one tensor stands in all that share its memory."""
        view = self._views.setdefault(ref.number, _View(ref))
        self._views[made.number] = view
        new, base = self.states.get(made.number), view.base
        if new == self.states.get(ref.number):
            return
        if isinstance(new, At):
            tried = [At(place, inner) for place in range(len(base.shape)) for inner in {1, new.inner}]
            fits = (at for at in tried if at.inner and base.shape[at.place] % (at.inner * self._num) == 0)
            whole = next((at for at in fits if self._see(index, at, view) == new), None)
            if whole is None:
                self.doubt = self.doubt or Unclear(index)
                return
            new = whole
        self.states[base.number] = new = _join(index, [self.states.get(base.number), new])
        for number, other in self._views.items():
            if other.base.number == base.number:
                self.states[number] = self._see(index, new, other)

    def _see(self, index: int, state: State, view: _View) -> State:
        """Return what is known of a part of a tensor of which something is known."""
        for event, place in view.steps:
            if isinstance(state, At):
                state = follow(index, event, 0, state, self._num)[place]
        return state


def _join(index: int, states: Sequence[State]) -> State:
    """Return what is known of what is made of several tensors."""
    ats = [state for state in states if isinstance(state, At)]
    if mixed := [state for state in states if isinstance(state, Mixed)]:
        return min(mixed)
    if unclear := [state for state in states if isinstance(state, Unclear)]:
        return min(unclear)
    if not ats:
        return None
    if len(set(ats)) == 1:
        return ats[0] if len(ats) == 1 or ats[0].inner else Unclear(index)  # x[1:] - x[:-1]: two neighbours
    return Mixed(index) if all(at.inner for at in ats) else Unclear(index)
