"""What a walk for what axes mean knows at one operation, and what was found up to there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelsummary_ipy.axes.meaning import Axis, Factor, input_axis, plain_axis, write_axis
from modelsummary_ipy.records.op_events import AxisFinding, AxisFindingKind, OpEvent, OpEvents, TensorRef

#: Of a reshape its call, what each dim was made of, and what each is.
Dealt = tuple[int, Sequence[Axis], Sequence[Axis]]


class Meanings:
    """What is known of the axes of a trace, best one at sizes that no parameter has.

    Args:
        names: Per input leaf, a name per dim, ``""`` for one without.
        moved: Names of dims whose size no parameter has: a number of the code that equals it is that dim.
        paths: Per call the path of its module.
        others: The same operations at another batch, aligned, ``None`` where one was not made; or ``None`` if nothing
            is to be compared.
        is_own: Whether all sizes but the batch are those that the user gave.
    """

    def __init__(
        self,
        ops: OpEvents,
        names: Sequence[Sequence[str]],
        moved: frozenset[str],
        paths: Mapping[int, str],
        others: Sequence[OpEvent | None] | None,
        *,
        is_own: bool,
    ) -> None:
        self.ops = ops
        self.paths = paths
        self._others = others
        self.is_own = is_own
        self.axes: dict[int, list[Axis]] = {}
        self.found: list[tuple[int, AxisFinding]] = []
        self.by_size: dict[int, Axis] = {}
        #: The size of the batch, if other sizes of the trace are that too: such a dim of what is made is perhaps it.
        self.unsure = 0
        #: Of every reshape that cut across no dim.
        self.dealt: list[Dealt] = []
        #: By their number the axes that were taken apart, and by tensor and dim the entries that were taken so far.
        self._pieces: dict[int, Axis] = {}
        self._taken: dict[tuple[int, int], set[int]] = {}
        self.places = {name or f"dim {dim}": dim for dims in names for dim, name in enumerate(dims)}
        inputs: dict[tuple[str, int], Axis] = {}
        for leaf, (ref, dims) in enumerate(zip(ops.inputs, names, strict=True)):
            if ref is None:
                continue
            axes = []
            for dim, (name, size) in enumerate(zip(dims, ref.shape, strict=True)):
                axis = inputs.setdefault((name or f"input {leaf}[{dim}]", size), input_axis(name or f"dim {dim}", size))
                axes.append(axis)
                if name in moved and size > 2:
                    self.by_size.setdefault(size, axis)
                elif name == "B":
                    self.unsure = size
            self.axes[ref.number] = axes

    def axes_of(self, ref: TensorRef) -> list[Axis]:
        """Return the axes of a tensor, not to be changed; those of a parameter or a constant are plain."""
        known = self.axes.get(ref.number)
        if known is None:
            known = self.axes[ref.number] = [plain_axis(size) for size in ref.shape]
        return known

    def copy_axes(self, ref: TensorRef) -> list[Axis]:
        """Return the axes of a tensor in a list that an entry may change."""
        return list(self.axes_of(ref))

    def find(self, kind: AxisFindingKind, index: int, *axes: Axis) -> None:
        """Note what an operation does."""
        event = self.ops.events[index]
        self.found.append((index, AxisFinding(kind, event.op, event.call, tuple(map(write_axis, axes)))))

    def is_written_out(self, index: int) -> bool:
        """Return whether the numbers of a reshape are the same at another batch and other sizes: fixed in the code.

        At the sizes that the user gave they are what was meant.
        """
        if self._others is None or self.is_own:
            return False
        other, args = self._others[index], self.ops.events[index].args
        given = [(name, value) for name, value in args.items() if not isinstance(value, TensorRef)]
        return other is None or all(value == other.args.get(name) for name, value in given)

    def is_before(self, one: Factor, two: Factor) -> bool:
        """Return whether the dim of the input that a part comes from stands before that of another."""
        first, second = (max((self.places.get(root, -1) for root in part.roots), default=-1) for part in (one, two))
        return first < second
