"""An operation as its entry reads it in a walk for what axes mean: its sizes are axes, ordered products of factors."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

from modelsummary_ipy.axes.meaning import Axis, Factor, Size, is_position, merge, plain_axis, roots_of, split, value_of
from modelsummary_ipy.axes.meanings import Meanings
from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError
from modelsummary_ipy.axes.table.products import CONTRACTIONS
from modelsummary_ipy.records.op_events import OpEvent

#: Operations in which an axis that two tensors share disappears.
PRODUCTS = frozenset(CONTRACTIONS) | {"aten.linear", "aten.convolution"}


class MeaningOp(Op):
    """One operation, as its entry reads it."""

    def __init__(self, known: Meanings, index: int, event: OpEvent) -> None:
        super().__init__(event, known.copy_axes)
        #: Axes that had to be equal.
        self.met: list[tuple[Axis, Axis]] = []
        self._known = known
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
        is_of_data = any(not axis.is_plain for axes in self.tensors() for axis in axes)  # and not of constants alone
        is_of_one = is_product and is_of_data and any(one.size == other.size == 1 for one, other in self.met)
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
        return self._known.by_size.get(value, value) if isinstance(value, int) else self.plain(name, default)

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

    def resized(self, size: Size, length: Size, start: Size | None = None) -> Size:
        if isinstance(size, int) or size.is_plain or (isinstance(length, Axis) and not length.is_plain):
            return length
        return size.resized(value_of(length))

    def repeat(self, size: Size, times: int) -> Size:
        if isinstance(size, int) or not size.factors or times < 2:
            return size * times
        return (self._known.by_size.get(times) or plain_axis(times)) * size

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
        if not self._known.is_own:
            self._check_swap(data, sizes)
            self._check_apart(left, sizes)
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
            self._check_mosaic(made[-2:])
        if 1 not in sizes and all(value_of(size) != 1 for size in data):  # a part of 1 is no factor
            self._known.dealt.append((self.event.call, [axis for axis in data if isinstance(axis, Axis)], [*made]))
        return made

    def _check_apart(self, parts: Sequence[Factor], sizes: Sequence[int]) -> None:
        """Ask for height and width of windows, ``(rows, columns, ws, ws)``, whose two halves are not side by side."""
        ends, cuts = (
            list(itertools.accumulate(of, operator.mul, initial=1)) for of in ([part.size for part in parts], sizes)
        )
        # What is made of whole parts in their order may have such sizes by chance.
        pairs = [[*sizes[at : at + 2]] for at in range(len(sizes) - 1) if not {*cuts[at : at + 3]} <= {*ends}]
        for one, two in itertools.pairwise(parts):
            halves = [part for part in (one, two) if part.half == "outer" and part.kind == "input"]
            wholes = [part.whole for part in halves if part.whole is not None]
            if len(wholes) == 2 and wholes[0] is not wholes[1]:
                asked = [whole.size for whole in wholes]
                inner = [whole.halves[part.size][1] for whole, part in zip(wholes, halves, strict=True)]
                if all(part in parts for part in inner) and asked in pairs:
                    self._known.find("carved", self._index, Axis(halves))

    def _check_swap(self, data: Axes, sizes: Sequence[int]) -> None:
        """Positions and the features at each change their places, also at sizes that nobody gave."""
        axes = [axis for axis in data if isinstance(axis, Axis)]
        if len(axes) != len(sizes):
            return
        moved = [at for at, (axis, size) in enumerate(zip(axes, sizes, strict=True)) if axis.size != size]
        if len(axes) > len(moved) == 2 and moved[0] and sizes[moved[0]] == axes[moved[1]].size > 1:
            one, two = (axes[at] for at in moved)
            features = [axis for axis in (one, two) if axis.is_feature or (axis.roots and axis.roots <= {"C", "F"})]
            if one.size > 1 and len(features) == 1 and any(map(is_position, (one, two))):
                self._known.find("swapped", self._index, one, two)

    def _check_windows(self, parts: Sequence[Factor], sizes: Sequence[int]) -> None:
        """Rows and columns of windows that change their places where they are put together again."""
        if len(parts) == 2 and list(sizes) == [parts[1].size, parts[0].size] != [parts[0].size, parts[1].size]:
            one, two = parts
            if one.half == two.half == "outer" and one.kind == two.kind == "input" and one.whole is not two.whole:
                self._known.find("swapped", self._index, Axis([one]), Axis([two]))

    def _check_cut(self, axes: Sequence[Axis]) -> None:
        """A dim whose outer part goes with the features before it, and its inner part with the dim behind it, or alone.

        Heads with the blocks of a sequence, ``(B, heads·blocks, …)``, are left alone, and rows of all samples.
        """
        if len(axes) == 2 and len(axes[0].factors) > 1 and axes[1].factors:
            feature, outer = axes[0].factors[-2:]
            inner = axes[1].factors[0]
            is_cut = outer.half == "outer" and inner.half == "inner" and inner.whole is outer.whole
            is_channel = feature.kind == "feature" or feature.roots == {"C"}
            is_alone = len(axes[0].factors) == 2 and feature.kind == "feature" and not feature.half
            is_whole = len(axes[1].factors) > 1 or is_alone
            if is_cut and is_channel and is_whole and outer.kind == inner.kind == "input":
                self._known.find("carved", self._index, *axes)

    def _check_mosaic(self, axes: Sequence[Axis]) -> None:
        """Parts of the features that stand before the height, or the width, and not behind it: copies side by side."""
        if len(axes) != 2 or any(len(axis.factors) != 2 for axis in axes):
            return
        ordered = [axis.factors[::-1] if is_position(Axis(axis.factors[:1])) else axis.factors for axis in axes]
        parts, places = zip(*ordered, strict=True)
        is_mosaic = all(part.kind == "feature" and part.half for part in parts) and places[0] is not places[1]
        before = [factors for factors, axis in zip(ordered, axes, strict=True) if factors is axis.factors]
        if before and is_mosaic and all(is_position(Axis([place])) for place in places):
            self._known.find("mosaic", self._index, *(Axis(factors) for factors in zip(*before, strict=True)))

    def _mix(self, factors: Sequence[Factor], sizes: Sequence[int]) -> list[Axis]:
        """Cut across factors: what comes out is of all of them."""
        # Of parts of a dim, windows say, that were put into another order before, nothing is known; nor of a mixture.
        is_known = not any(f.kind == "mixed" or (f.kind == "input" and f.half) for f in factors)
        is_known = is_known and any(factor.kind != "plain" for factor in factors)
        numbers = {value_of(size) for size in self._args.get("size", self._args.get("shape", ())) or ()} - {-1, 1}
        is_of_features = bool(numbers) and numbers <= {factor.size for factor in factors if factor.kind == "feature"}
        if is_known and (is_of_features or not self._known.is_written_out(self._index)):
            self._known.find("carved", self._index, Axis(factors))
        roots = roots_of([Axis(factors)])
        return [Axis([Factor(size, "mixed", roots, "mixed")] if size > 1 else []) for size in sizes]

    def _check_order(self, axis: Axis) -> None:
        """An inner part of one axis before an outer part of the next: the elements of both are out of order.

        An outer part of an axis before it was brought there by a permute: windows, or every second position, in front.
        """
        for one, two in zip(axis.factors, axis.factors[1:], strict=False):
            is_crossed = one.half == "inner" and two.half == "outer" and one.whole is not two.whole
            if is_crossed and one.kind == two.kind == "input" and self._known.is_before(one, two):
                self._known.find("carved", self._index, axis)
