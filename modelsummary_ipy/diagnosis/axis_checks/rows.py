"""Rows and groups: numbers that were counted within a sample, distances of samples, and the order of repeated heads."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis, Factor, is_position, plain_axis
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import (
    ATTENTION,
    LOG_SOFTMAXES,
    MOVES,
    RUNNING,
    SOFTMAXES,
    is_heads,
)
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

#: By operation, which result is numbers of places along one axis.
_PLACES = {
    "aten.topk": 1, "aten.sort": 1, "aten.max": 1, "aten.min": 1, "aten.argmax": 0, "aten.argmin": 0, "aten.argsort": 0,
}  # fmt: skip
#: After which such a number is still one, if a number of the code is all that it meets.
_KEEPING = MOVES | {
    f"aten.{name}" for name in ("div", "floor_divide", "remainder", "_to_copy", "clone", "slice", "select", "expand")
}
_BENDS = frozenset(
    f"aten.{name}" for name in ("relu", "clamp", "clamp_min", "exp", "sigmoid", "softplus", "log_sigmoid_forward")
)
_SHARES = SOFTMAXES | LOG_SOFTMAXES | {"aten.softplus", "aten.exp", "aten.sigmoid"}
_KEEP_SHARES = MOVES | {"aten.mul", "aten.add", "aten.div", "aten.clone"}
_UNARY = MOVES | {"aten.slice", "aten.detach", "aten.alias", "aten._to_copy", "aten.expand"}
_LINES = frozenset({"aten.add", "aten.sub", "aten.mul", "aten.neg", "aten.div"})


class RowChecks:
    """What is followed from operation to operation about rows of all samples, and about repeated groups."""

    def __init__(self, walk: MeaningWalk, tables: frozenset[int]) -> None:
        self._walk = walk
        self._tables = tables
        #: One row of a table, number so and so of as many as there are steps: the operation, and the steps.
        self._last_rows: dict[int, tuple[int, Axis]] = {}
        #: Numbers of places along an axis of each sample.
        self._within: set[int] = set()
        #: Those that an input has for each sample.
        self._given: set[int] = {
            ref.number
            for ref in walk.ops.inputs
            if ref is not None and "int" in ref.dtype and len(ref.shape) > 1 and _has_samples(walk.axes_of(ref))
        }
        #: Differences of samples, their squares, and sums of those over the batch: the operation, the features.
        self._apart: set[int] = set()
        self._squares: set[int] = set()
        self._summed: dict[int, tuple[int, Axis]] = {}
        #: What is made of entries of the batch that were taken one by one: of which tensor, which, by which operation.
        self._taken: dict[int, tuple[int, frozenset[int], int]] = {}
        self._carried: set[int] = set()
        #: By an axis of heads, how the groups that it met first stand: repeats behind one another, or side by side.
        #: Shares and steps above 0, whose sums are bounds of bins.
        self._shares: set[int] = set()
        self._groups: dict[Factor, tuple[tuple[int, str], ...]] = {}

    def follow(
        self, index: int, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]],
        places: Sequence[int],
    ) -> None:  # fmt: skip
        """Look at one operation, whose results have axes already."""
        axes = self._walk.axes_of(refs[0])
        leaf = _PLACES.get(event.op)
        if leaf is not None and len(event.outputs) > leaf and axes:
            axis = axes[places[0] if places else -1]
            if not axis.has("B") and any(other.has("B") for other in axes):
                self._within.add(event.outputs[leaf].number)
        elif event.op in _KEEPING and len(refs) == 1 and refs[0].number in self._within | self._given:
            (self._within if refs[0].number in self._within else self._given).add(event.outputs[0].number)
        elif event.op in RUNNING and places and any(map(is_position, axes)):
            axis = axes[places[0]]
            is_whole = axis.is_feature and not axis.factors[0].half and refs[0].number not in self._shares
            if is_heads(axis) or (is_whole and len(axis.factors) == 1):
                self._walk.find("running", index, axis)
        elif event.op in _SHARES or (event.op in _KEEP_SHARES and any(ref.number in self._shares for ref in refs)):
            self._shares.add(event.outputs[0].number)
        elif event.op == "aten.gather":
            self._check_first(index, axes, places[0], self._walk.axes_of(event.args["index"]))
        elif event.op == "aten.index_select":
            self._check_lookup(index, axes, [(places[0], refs[-1])])
        elif event.op == "aten.index":
            given = enumerate(event.args.get("indices") or ())
            self._check_lookup(index, axes, [(place, item) for place, item in given if isinstance(item, TensorRef)])
        elif event.op == "aten.slice" and event.args.get("step", 1) > 1:
            self._check_stride(index, axes[event.args.get("dim", 0)], event.args["step"])
        elif event.op in ("aten.split", "aten.chunk", "aten.unsafe_split") and axes:
            self._check_cut(index, axes[event.args.get("dim", 0)], len(event.outputs))
        self._follow_distances(index, event, refs, axes, places)
        self._follow_rows(index, event, refs)
        self._follow_taken(index, event, refs, axes)
        for pair in self._pairs(event, refs, met):
            self._check_groups(index, *pair)
            self._check_tiles(index, *pair)

    def _follow_rows(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """``x + table[:, x.size(1)]``: one row for all steps, where ``table[:, :x.size(1)]`` was meant."""
        made = event.outputs[0]
        steps = self._walk.by_size.get(event.args["index"]) if event.op == "aten.select" else None
        if steps is not None and refs[0].number in self._tables and is_position(steps):
            self._last_rows[made.number] = index, steps
        elif event.op in _UNARY and refs[0].number in self._last_rows:
            self._last_rows[made.number] = self._last_rows[refs[0].number]
        elif event.op == "aten.add" and any(ref.number in self._last_rows for ref in refs):
            at, steps = next(self._last_rows[ref.number] for ref in refs if ref.number in self._last_rows)
            if any(axis.factors == steps.factors for axis in self._walk.axes_of(made)):
                self._walk.find("row", at, steps)

    def _follow_taken(self, index: int, event: OpEvent, refs: Sequence[TensorRef], axes: Sequence[Axis]) -> None:
        """A loop over the samples in which what is made of one goes on into the next, three in a row."""
        if event.op in ("aten.select", "aten.unbind") and len(axes) > 1:
            axis = axes[event.args.get("dim", 0)]
            if axis.roots == {"B"} and len(axis.factors) == 1 and event.outputs[0].dtype.startswith("float"):
                first = int(event.args.get("index", 0))
                for place, made in enumerate(event.outputs):
                    self._taken[made.number] = refs[0].number, frozenset([(first + place) % axis.size]), index
                return
        if event.op in ("aten.cat", "aten.stack"):
            return
        known = [self._taken[ref.number] for ref in refs if ref.number in self._taken]
        if not known:
            return
        of, _, first = min(known, key=lambda taken: taken[2])
        entries = frozenset().union(*(entries for source, entries, _ in known if source == of))
        if len(entries) > 2 and of not in self._carried:
            self._carried.add(of)
            self._walk.find("carried", first)
        for made in event.outputs:
            self._taken[made.number] = of, frozenset(sorted(entries)[:3]), first

    def _check_first(self, index: int, axes: Sequence[Axis], along: int, its: Sequence[Axis]) -> None:
        """``q.gather(0, actions[:, None])``: an index of one column reads one column, the first."""
        for place, axis in enumerate(axes):
            if place != along % len(axes) and its[place].size == 1 < axis.size:
                self._walk.find("first", index, axis, plain_axis(along))

    def _check_lookup(self, index: int, axes: Sequence[Axis], asks: Sequence[tuple[int, TensorRef]]) -> None:
        """Look rows of all samples up by numbers that begin at 0 in each sample."""
        if len(asks) == 1:
            place, ask = asks[0]
            first, *rest = axes[place].factors or (None,)
            if ask.number in self._within and rest and first is not None and first.roots == {"B"}:
                self._walk.find("offset", index, axes[place])
            elif ask.number in self._given and rest and first is not None and first.roots == {"B"}:
                self._walk.find("unshifted", index, axes[place])

    def _check_cut(self, index: int, axis: Axis, parts: int) -> None:
        """Rows of two views of each sample, which stand side by side, are halved: the first samples, and the last."""
        is_side_by_side = len(axis.factors) == 2 and axis.factors[0].roots == {"B"}
        if is_side_by_side and parts == axis.factors[1].size > 1 and axis.factors[1].kind == "input":
            self._walk.find("interleaved", index, axis)

    def _check_stride(self, index: int, axis: Axis, step: int) -> None:
        """Every second row of two batches that a ``cat`` put behind one another."""
        batches, samples = axis.factors[:1], axis.factors[1:]
        is_joined = len(batches) == len(samples) == 1 and batches[0].kind == "plain" and samples[0].roots == {"B"}
        if is_joined and batches[0].size == step:
            self._walk.find("strided", index, axis, Axis(batches))

    def _follow_distances(
        self, index: int, event: OpEvent, refs: Sequence[TensorRef], axes: Sequence[Axis], places: Sequence[int]
    ) -> None:
        """``(a - b).pow(2).sum(0)`` of rows, and then a hinge: a distance of each feature, not of each sample."""
        made = event.outputs[0].number
        is_apart = event.op == "aten.sub" and len(refs) == 2 and refs[0].shape == refs[1].shape
        if is_apart and all(any(axis.has("B") for axis in self._walk.axes_of(ref)) for ref in refs):
            self._apart.add(made)
        elif refs[0].number in self._apart and event.op in ("aten.pow", "aten.abs", "aten.square"):
            self._squares.add(made)
        elif refs[0].number in self._squares and event.op == "aten.sum" and len(places) == 1 and len(axes) == 2:
            axis, other = axes[places[0]], axes[1 - places[0] % 2]
            if axis.roots == {"B"} and other.is_feature:
                self._summed[made] = index, other
        elif any(ref.number in self._summed for ref in refs):
            found = next(self._summed[ref.number] for ref in refs if ref.number in self._summed)
            if event.op in _LINES and not any(axis.has("B") for axis in self._walk.axes_of(event.outputs[0])):
                self._summed[made] = found
            elif event.op in _BENDS:
                self._walk.find("apart", *found)
                self._summed.clear()

    def _pairs(
        self, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]]
    ) -> Sequence[tuple[Axis, Axis]]:
        """Pairs of axes of an attention that lie on each other: the values' too, which a fused one does not compare."""
        if event.op not in ATTENTION or len(refs) < 3:
            return met
        query, *others = (self._walk.axes_of(ref)[:-2] for ref in refs[:3])
        return [pair for axes in others if len(axes) == len(query) for pair in zip(query, axes, strict=True)]

    def _check_tiles(self, index: int, one: Axis, other: Axis) -> None:
        """A coarse map that was repeated as a whole lies on a fine one: each of its places was to be repeated."""
        for fine, tiles in ((one, other), (other, one)):
            if len(tiles.factors) < 2 or tiles.factors[0].kind != "plain" or tiles.factors[0].half:
                continue  # half of it: windows, each of which got what was repeated
            coarse = Axis(tiles.factors[1:])
            if is_position(coarse) and is_position(fine) and fine.roots == coarse.roots and len(fine.factors) == 1:
                self._walk.find("tiled", index, tiles, fine)

    def _check_groups(self, index: int, one: Axis, other: Axis) -> None:
        """Heads that met groups repeated in one order meet others repeated in the other order."""
        if len(one.factors) < 2 and len(other.factors) < 2:
            return
        parts = [[factor for factor in axis.factors if not factor.roots & {"B"}] for axis in (one, other)]
        alone = next((factors[0] for factors in parts if len(factors) == 1), None)
        groups = next((factors for factors in parts if len(factors) == 2), None)
        if alone is None or groups is None or alone.kind != "feature":
            return
        order = tuple((factor.size, factor.kind) for factor in groups)
        known = self._groups.setdefault(alone, order)
        if known != order and known == order[::-1]:
            self._walk.find("regrouped", index, Axis(groups))


def _has_samples(axes: Sequence[Axis]) -> bool:
    return any(axis.roots == {"B"} for axis in axes)
