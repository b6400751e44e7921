"""One walk over the operations of a trace for what the axes mean, and what an operation does against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import modelsummary_ipy.axes.table  # noqa: F401  # registers all entries
from modelsummary_ipy.axes.meaning import (
    Axis,
    Factor,
    Size,
    input_axis,
    is_position,
    merge,
    plain_axis,
    roots_of,
    split,
    value_of,
    write_axis,
)
from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, find_entry
from modelsummary_ipy.records.op_events import AxisFinding, AxisFindingKind, OpEvent, OpEvents, Repeat, TensorRef

#: Of a reshape its call, what each dim was made of, and what each is.
Dealt = tuple[int, Sequence[Axis], Sequence[Axis]]

#: Of an operation that was walked over: its place, itself, the tensors that it reads, pairs of axes that must be equal.
Step: TypeAlias = "tuple[int, OpEvent, Sequence[TensorRef], Sequence[tuple[Axis, Axis]]]"

#: Operations in which an axis that two tensors share disappears.
PRODUCTS = frozenset(
    f"aten.{name}" for name in ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "linear", "convolution", "dot")
)


class MeaningWalk:
    """Walks over the operations of a trace, best one at sizes that no parameter has.

    Args:
        names: Per input leaf, a name per dim, ``""`` for one without.
        moved: Names of dims whose size no parameter has: a number of the code that equals it is that dim.
        paths: Per call the path of its module.
        others: The same operations at another batch, aligned, ``None`` where one was not made; or ``None`` if nothing
            is to be compared.
        is_own: Whether all sizes but the batch are those that the user gave.
        repeats: What repeats the same operations, in ``others`` too, by the place where it begins.
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
        repeats: Mapping[int, Repeat] | None = None,
    ) -> None:
        self.ops = ops
        self.paths = paths
        self.repeats = repeats or {}
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

    def steps(self, skip: Callable[[int], int]) -> Iterator[Step]:
        """Walk to the end, and yield every operation whose results have axes now.

        Args:
            skip: Returns how many operations from one on are not walked over, as others like them were.
        """
        walked = 0
        for index, event in enumerate(self.ops.events):
            if index < walked:
                continue
            walked = index + skip(index)
            if walked == index and event.outputs:
                yield self._step(index, event)

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
        other = self._others[index]
        return other is None or all(value == other.args.get(name) for name, value in self._plain_args(index))

    def is_before(self, one: Factor, two: Factor) -> bool:
        """Return whether the dim of the input that a part comes from stands before that of another."""
        first, second = (max((self.places.get(root, -1) for root in part.roots), default=-1) for part in (one, two))
        return first < second

    def _plain_args(self, index: int) -> list[tuple[str, Any]]:
        given = self.ops.events[index].args.items()
        return [(name, value) for name, value in given if not isinstance(value, TensorRef)]

    # -- one operation ------------------------------------------------------------------------------------------------

    def _step(self, index: int, event: OpEvent) -> Step:
        op = _Op(self, index, event)
        entry = find_entry(event.op)
        made: Sequence[Axes] = ()
        if entry is not None:
            try:
                made = entry(op)
            except (OpaqueError, ArithmeticError, IndexError):
                made = ()
        for place, ref in enumerate(event.outputs):
            axes = made[place] if place < len(made) and len(made[place]) == len(ref.shape) else None
            known = self.by_size
            numbers = [self._find_dim(s, index, place, dim) if s in known else None for dim, s in enumerate(ref.shape)]
            settled = None if axes is None else self._settle(axes, ref.shape, op, numbers)
            self.axes[ref.number] = settled or self._guess(ref.shape, op, numbers)
        self._follow_pieces(event)
        if event.op == "aten.cat":
            self._join_pieces(event)
        return index, event, op.refs, op.met

    def _find_dim(self, size: int, index: int, place: int, dim: int) -> Axis | None:
        """Return the dim of the input that a size of a result is: not B if it is the same at another batch."""
        axis = self.by_size.get(size)
        other = self._others[index] if self._others is not None and axis is not None and axis.has("B") else None
        shape = other.outputs[place].shape if other is not None and place < len(other.outputs) else ()
        return None if dim < len(shape) and shape[dim] == size else axis

    def _settle(self, axes: Axes, shape: tuple[int, ...], op: _Op, numbers: Sequence[Axis | None]) -> list[Axis] | None:
        """Return axes of the shape that torch gave; a number is a dim of that size, or a part of an axis."""
        if [size.size if isinstance(size, Axis) else size for size in axes] != [*shape]:
            return None
        first = self.axes_of(op.refs[0]) if op.refs else []
        settled: list[Axis] = []
        for dim, size in enumerate(axes):
            if isinstance(size, Axis) and not size.is_plain:
                settled.append(size)
                continue
            same_place = first[dim] if len(first) == len(axes) and op.is_part else None
            if same_place is not None and not same_place.is_plain:
                settled.append(same_place.resized(value_of(size)))
            elif value_of(size) > 1 and op.makes_features(dim, len(axes), size):
                roots = roots_of(op.contracted) - {"B"}
                out = f"the features of {self.paths.get(op.event.call, '') or 'the model'}"
                settled.append(Axis([Factor(value_of(size), "feature", roots | {out}, out)]))
            else:
                settled.append(size if isinstance(size, Axis) else numbers[dim] or self._name(size, op))
        return settled

    def _name(self, size: int, op: _Op) -> Axis:
        """Return the axis that a number is: one that was taken apart and is put together, or that of a constant."""
        pieces = self._pieces.get(size) if op.name in _JOINS else None
        return pieces or plain_axis(size)

    def _join_pieces(self, event: OpEvent) -> None:
        """What was made of every entry of an axis, row by row: that axis, and the rows within it; batches: so many."""
        refs, made, dim = event.refs, event.outputs[0], event.args.get("dim", 0)
        parts = [self.axes_of(ref)[dim] for ref in refs if len(ref.shape) == len(made.shape)]
        if len(parts) < 2 or parts[0].size < 2 or any(part.factors != parts[0].factors for part in parts):
            return
        whole = self._pieces.get(len(refs)) or (plain_axis(len(refs)) if parts[0].roots == {"B"} else None)
        if whole is not None:
            self.axes[made.number][dim] = whole * parts[0]

    def _follow_pieces(self, event: OpEvent) -> None:
        """Note an axis of which every entry was taken, one by one."""
        if event.op not in ("aten.unbind", "aten.select") or not event.refs:
            return
        axes, dim = self.axes_of(event.refs[0]), event.args.get("dim", 0)
        taken = self._taken.setdefault((event.refs[0].number, dim % len(axes)), set())
        taken |= set(range(len(event.outputs))) if event.op == "aten.unbind" else {event.args["index"] % axes[dim].size}
        if len(taken) == axes[dim].size > 2 and not axes[dim].is_plain:
            self._pieces[axes[dim].size] = axes[dim]

    def _guess(self, shape: tuple[int, ...], op: _Op, numbers: Sequence[Axis | None]) -> list[Axis]:
        """Name the axes of what no entry describes: a dim of that size, or one that may be anything of its inputs."""
        near = {axis.size: axis for axes in reversed(op.tensors()) for axis in axes}
        roots = roots_of(axis for axes in op.tensors() for axis in axes) - {"B"}
        return [
            number or near.get(size) or Axis([Factor(size, "mixed", roots, "mixed")] if size > 1 else [])
            for size, number in zip(shape, numbers, strict=True)
        ]


#: Operations that give a part of an axis, or the axis with something at its ends, or in another number.
_PARTS = frozenset(
    f"aten.{name}"
    for name in (
        *("slice", "narrow", "split", "unsafe_split", "split_with_sizes", "chunk", "topk", "index_select"),
        *("constant_pad_nd", "reflection_pad2d", "gather", "_fft_c2r"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_linear1d", "upsample_bicubic2d"),
        *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d"),
    )
)
_JOINS = frozenset({"aten.stack", "aten.cat"})


class _Op(Op):
    """One operation, as its entry reads it. Sizes are axes."""

    def __init__(self, walk: MeaningWalk, index: int, event: OpEvent) -> None:
        super().__init__(event, walk.copy_axes)
        self.is_part = event.op in _PARTS
        #: Axes that had to be equal.
        self.met: list[tuple[Axis, Axis]] = []
        self._walk = walk
        self._index = index

    @property
    def contracted(self) -> list[Axis]:
        """What disappears in a product, and its like, without those of parameters."""
        if self.name not in PRODUCTS:
            return []
        return [axis for pair in self.met for axis in pair if not axis.is_plain]

    def makes_features(self, dim: int, rank: int, size: Size) -> bool:
        """Return whether an axis of its weights is features of what it makes: a layer's, those of a table of words."""
        if self.name == "aten.mkldnn_rnn_layer":
            return dim == rank - 1
        is_last = self.name == "aten.embedding" and dim == rank - 1
        is_product = self.name in PRODUCTS
        is_of_one = is_product and any(one.size == other.size == 1 for one, other in self.met)
        # Of sines of a sample's time at so many frequencies: the frequencies are constants.
        is_of_constants = is_product and any(axis.has("B") for axes in self.tensors() for axis in axes)
        is_made = bool(self.contracted) or is_last or is_of_one or is_of_constants
        return isinstance(size, Axis) and is_made and self.is_weights(size)

    def is_weights(self, axis: Axis) -> bool:
        """Return whether an axis is one of a tensor that is all weights or constants."""
        weights = [axes for axes in self.tensors() if all(other.is_plain for other in axes)]
        return any((axis.origin or axis) is other for axes in weights for other in axes)

    def size(self, name: str, default: Any = None) -> Any:
        value = self._args.get(name)
        return default if value is None else self._walk.by_size.get(value, value) if isinstance(value, int) else value

    def sizes(self, name: str) -> list[Any]:
        values = self._args.get(name)
        if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
            raise OpaqueError(f"{name} is no list of integers")
        return list(values)

    def counted(self, output: int, dim: int) -> Axis:
        size = self.outputs[output][dim]
        roots = roots_of(axis for axes in self.tensors() for axis in axes) - {"B"}
        return Axis([Factor(size, "mixed", roots, "mixed")] if size > 1 else [])

    def equal(self, one: Size, other: Size) -> Size:
        if value_of(one) != value_of(other):
            raise OpaqueError(f"{value_of(one)} and {value_of(other)}")
        axes = [size for size in (one, other) if isinstance(size, Axis)]
        known = [axis for axis in axes if not axis.is_plain]
        best = known[0] if known else axes[0] if axes else one
        if len(axes) == 2:
            self.met.append((axes[0], axes[1]))
        return best

    def at_least(self, size: Size, least: Size) -> None:
        """Sizes are those of a trace that came to its end."""

    def least(self, size: Size, other: Size) -> Size:
        return other if value_of(other) <= value_of(size) else size

    def repeat(self, size: Size, times: int) -> Size:
        if isinstance(size, int) or not size.factors or times < 2:
            return size * times
        return (self._walk.by_size.get(times) or plain_axis(times)) * size

    def value(self, size: Size) -> int:
        return value_of(size)

    def known(self, size: Size) -> int | None:
        if isinstance(size, int):
            return size
        return size.size if size.is_plain or size.size == 1 else None

    def reshape(self, data: Axes, wanted: Axes) -> list[Any]:
        """Take whole factors in their order, cut one whose size divides, put halves together again."""
        total = math.prod([value_of(size) for size in data])
        rest = math.prod([value_of(size) for size in wanted if value_of(size) != -1])
        sizes = [value_of(size) if value_of(size) != -1 else total // rest if rest else 0 for size in wanted]
        left = [factor for axis in data if isinstance(axis, Axis) for factor in axis.factors]
        made: list[Axis] = []
        if not self._walk.is_own:
            self._check_swap(data, sizes)
        for place, size in enumerate(sizes):
            got: list[Factor] = []
            self._check_windows(left[:2], sizes[place : place + 2])
            while (product := math.prod([factor.size for factor in got])) < size and left:
                factor, need = left.pop(0), size // product if size % product == 0 else 0
                if need and need % factor.size == 0:
                    got.append(factor)
                elif need > 1 and factor.size % need == 0:
                    outer, inner = split(factor, need)
                    got.append(outer)
                    left.insert(0, inner)
                else:
                    return [*made, *self._mix([*got, factor, *left], sizes[place:])]
            made.append(Axis(merge(got)))
            self._check_order(made[-1])
            self._check_cut(made[-2:])
        if 1 not in sizes and all(value_of(size) != 1 for size in data):  # a part of 1 is no factor
            self._walk.dealt.append((self.event.call, [axis for axis in data if isinstance(axis, Axis)], [*made]))
        return made

    def _check_swap(self, data: Axes, sizes: Sequence[int]) -> None:
        """Positions and the features at each change their places, also at sizes that nobody gave."""
        axes = [axis for axis in data if isinstance(axis, Axis)]
        if len(axes) != len(sizes):
            return
        moved = [at for at, (axis, size) in enumerate(zip(axes, sizes, strict=True)) if axis.size != size]
        if len(axes) > len(moved) == 2 and moved[0] and sizes[moved[0]] == axes[moved[1]].size > 1:
            one, two = (axes[at] for at in moved)
            if one.size > 1 and one.is_feature != two.is_feature and any(map(is_position, (one, two))):
                self._walk.find("swapped", self._index, one, two)

    def _check_windows(self, parts: Sequence[Factor], sizes: Sequence[int]) -> None:
        """Rows and columns of windows that change their places where they are put together again."""
        if len(parts) == 2 and list(sizes) == [parts[1].size, parts[0].size] != [parts[0].size, parts[1].size]:
            one, two = parts
            if one.half == two.half == "outer" and one.kind == two.kind == "input" and one.whole is not two.whole:
                self._walk.find("swapped", self._index, Axis([one]), Axis([two]))

    def _check_cut(self, axes: Sequence[Axis]) -> None:
        """A dim whose outer part goes with the features before it, and its inner part with the dim behind it."""
        if len(axes) == 2 and min(len(axis.factors) for axis in axes) > 1:
            feature, outer = axes[0].factors[-2:]
            inner = axes[1].factors[0]
            is_cut = outer.half == "outer" and inner.half == "inner" and inner.whole is outer.whole
            if is_cut and feature.kind == "feature" and outer.kind == inner.kind == "input":
                self._walk.find("carved", self._index, *axes)

    def _mix(self, factors: Sequence[Factor], sizes: Sequence[int]) -> list[Axis]:
        """Cut across factors: what comes out is of all of them."""
        # Of parts of a dim, windows say, that were put into another order before, nothing is known; nor of a mixture.
        is_known = not any(f.kind == "mixed" or (f.kind == "input" and f.half) for f in factors)
        is_known = is_known and any(factor.kind != "plain" for factor in factors)
        numbers = {value_of(size) for size in self._args.get("size", self._args.get("shape", ())) or ()} - {-1, 1}
        is_of_features = bool(numbers) and numbers <= {factor.size for factor in factors if factor.kind == "feature"}
        if is_known and (is_of_features or not self._walk.is_written_out(self._index)):
            self._walk.find("carved", self._index, Axis(factors))
        roots = roots_of([Axis(factors)])
        return [Axis([Factor(size, "mixed", roots, "mixed")] if size > 1 else []) for size in sizes]

    def _check_order(self, axis: Axis) -> None:
        """An inner part of one axis before an outer part of the next: the elements of both are out of order.

        An outer part of an axis before it was brought there by a permute: windows, or every second position, in front.
        """
        for one, two in zip(axis.factors, axis.factors[1:], strict=False):
            is_crossed = one.half == "inner" and two.half == "outer" and one.whole is not two.whole
            if is_crossed and one.kind == two.kind == "input" and self._walk.is_before(one, two):
                self._walk.find("carved", self._index, axis)
