"""What operations do to the batch: run along it, reduce it, look up in it, put constants on it."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.meaning import Axis, Factor, is_position
from modelsummary_ipy.axes.meaning_op import PRODUCTS
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.diagnosis.axis_checks.operations import (
    ALL_SOFTMAXES,
    ALONG,
    ELEMENTWISE,
    LOG_SOFTMAXES,
    MOVES,
    PICKS,
    RANDOM,
    REDUCTIONS,
    SAME_SHAPE,
    SCORES,
)
from modelsummary_ipy.diagnosis.axis_checks.samples_as_steps import StepChecks
from modelsummary_ipy.records.op_events import OpEvent, TensorRef

_LOOKUPS = frozenset({"aten.embedding", "aten.index", "aten.index_select"})
_COINS = frozenset(f"aten.{name}" for name in ("bernoulli", "bernoulli_", "uniform", "uniform_"))
_BEST = frozenset({"aten.argmax", "aten.argmin", "aten.topk"})
_INDEXED = frozenset(f"aten.{name}" for name in ("gather", "scatter", "scatter_", "scatter_add", "scatter_add_"))
_UNARY = frozenset({"aten.unsqueeze", "aten.view", "aten._to_copy", "aten.expand", "aten.clone", "aten.alias"})
_KEEPS = SAME_SHAPE | _UNARY
_KEEPS_PARTS = _KEEPS | MOVES
_KEEPS_NOISE = _KEEPS | ELEMENTWISE | {"aten.log", "aten.sqrt", "aten.cos"}
_MEETS = PRODUCTS | ELEMENTWISE
_CUTS = frozenset({"aten.split", "aten.chunk", "aten.unsafe_split"})
_SUMS = frozenset({"aten.mean", "aten.sum"})
_SCALES = MOVES | {"aten.mul", "aten.div", "aten.neg", "aten._to_copy", "aten.clone", "aten.detach"}
_CHOOSES = frozenset({"aten.topk", "aten.sort", "aten.argmax"})


class BatchChecks:
    """What is followed from operation to operation about the batch and about constants.

    Args:
        tables: Numbers of the tensors that are parameters or buffers.
        steps: Where samples are meant to be the steps of a sequence.
    """

    def __init__(self, walk: MeaningWalk, tables: frozenset[int], steps: StepChecks) -> None:
        self._walk = walk
        self._tables = tables
        self._of_tables: set[int] = set(tables)
        self._noise: set[int] = set()
        #: Those that are normally distributed: a dropout that is the same for all may be meant.
        self._normal: set[int] = set()
        #: One random whole number, and what a table gives for it: the operation that drew it.
        self._draws: dict[int, int] = {}
        self._drawn: dict[int, int] = {}
        #: Numbers 0, 1, 2 … up to the size of the batch.
        self._counts: set[int] = set()
        #: What softmaxes over the samples made, and what was made of that: those softmaxes.
        self._weights: dict[int, frozenset[int]] = {}
        #: Those whose weights nothing has summed over the samples so far, nor chosen among.
        self._open: dict[int, Axis] = {}
        #: Of a part of the batch, of three at least that one operation made: that operation, and which part.
        self._parts: dict[int, tuple[int, int]] = {}
        #: Tables that are cut to the size of the batch and that nothing has read so far: the operation that did.
        self._cuts: dict[int, tuple[int, Axis]] = {}
        self._steps = steps
        #: Products of each sample with all.
        self._paired: set[int] = set()

    def follow(
        self, index: int, event: OpEvent, refs: Sequence[TensorRef], met: Sequence[tuple[Axis, Axis]],
        places: Sequence[int],
    ) -> None:  # fmt: skip
        """Look at one operation, whose results have axes already.

        Args:
            refs: The tensors that it reads.
            met: Pairs of axes that had to be equal.
            places: The dims of the first tensor that it runs along, where it runs along some.
        """
        made = event.outputs[0]
        self._pass_on(event, refs)
        self._follow_cuts(index, event, refs)
        if event.op in RANDOM and not self._has_batch(made) and self._walk.unsure not in made.shape:
            self._noise.add(made.number)
            if "rand" not in event.op.replace("randn", "") and event.op not in _COINS:
                self._normal.add(made.number)
        if event.op == "aten.randint" and made.shape == (1,):
            self._draws[made.number] = index
        self._follow_draws(event, refs, made)
        if event.op == "aten.arange" and self._has_batch(made):
            self._counts.add(made.number)
        if not refs:
            return
        axes = self._walk.axes_of(refs[0])
        if event.op in ALONG:
            if event.op == "aten.roll" and not event.args.get("dims"):
                places = range(len(axes))  # the tensor is rolled flat
            for place in places:
                is_mixed = any(factor.kind == "mixed" for factor in axes[place].factors)  # a reshape is to blame
                is_of_batch = axes[place].has("B") and len(axes) > 1 and not is_mixed
                if is_of_batch and not self._steps.numbers_rows(event, refs):
                    self._walk.find("along", index, axes[place])
        elif event.op in _CUTS and len(event.outputs) > 2 and _is_cut_along(event, axes):
            self._parts |= {part.number: (index, place) for place, part in enumerate(event.outputs)}
        self._check_paired(index, event, refs, places)
        self._follow_weights(index, event, refs, axes, places)
        if event.op in PICKS:
            self._check_pick(index, event, axes, places)
        if event.op in _LOOKUPS and refs[0].number in self._tables:
            if any(ref.number in self._counts for ref in refs[1:]):
                self._walk.find("table", index, *(axis for axis in self._walk.axes_of(made) if axis.has("B")))
        elif event.op in PRODUCTS:
            self._check_contracted(index, made, met)
        elif event.op == "aten.cat":
            self._check_joined(index, event, refs)
        elif event.op in ELEMENTWISE and not event.op.endswith("_"):
            self._check_noise(index, refs, made)
        if self._parts and event.op in _MEETS:
            parts = {self._parts[ref.number] for ref in refs if ref.number in self._parts}
            if len(parts) > 1 and len({cut for cut, _ in parts}) == 1:
                self._walk.find("along", min(parts)[0], Axis([Factor(2, "input", frozenset("B"), "B")]))
        if event.op in _INDEXED:
            self._check_crossed(index, event, axes)

    def finish(self) -> None:
        """Of the samples that a softmax weighs a sum is meant, or a choice: of a bag, of what experts take."""
        for index, axis in self._open.items():
            if not self._steps.is_meant(index):
                self._walk.find("along", index, axis)

    def _follow_weights(
        self, index: int, event: OpEvent, refs: Sequence[TensorRef], axes: Sequence[Axis], places: Sequence[int]
    ) -> None:
        """A softmax over the samples."""
        made = event.outputs[0]
        if event.op in ALL_SOFTMAXES and len(axes) > 1:
            axis = axes[places[0]]
            is_cut = any(factor.half and "B" in factor.roots for factor in axis.factors)  # classes by shots
            if axis.has("B") and not is_cut and not any(factor.kind == "mixed" for factor in axis.factors):
                self._weights[made.number], self._open[index] = frozenset([index]), axis
                if any(other.is_feature for other in axes):
                    # Of steps of a sequence it is never meant, (T, B, classes) before a CTC loss, nor of logarithms.
                    is_spread = event.op in LOG_SOFTMAXES or any(map(is_position, axes))
                    self._walk.find("spread" if is_spread else "weighted", index, axis)
            return
        weights = frozenset[int]().union(*(self._weights.get(ref.number, ()) for ref in refs)) if self._weights else ()
        if not weights:
            return
        is_chosen = event.op in _CHOOSES and axes[places[0] if places else -1].has("B")
        is_summed = event.op in REDUCTIONS | PRODUCTS and not self._has_batch(made) and made.shape
        if is_chosen or is_summed:
            for softmax in weights:
                self._open.pop(softmax, None)
        elif self._has_batch(made):
            self._weights.update((ref.number, weights) for ref in event.outputs)

    def _follow_draws(self, event: OpEvent, refs: Sequence[TensorRef], made: TensorRef) -> None:
        """One random step for all samples: a table is read with it, and lies on the batch."""
        if not self._draws:
            return
        drawn = {self._drawn[ref.number] for ref in refs if ref.number in self._drawn}
        if event.op in _LOOKUPS and refs[0].number in self._of_tables:
            drawn |= {self._draws[ref.number] for ref in refs[1:] if ref.number in self._draws}
        if drawn and self._has_batch(made):
            for draw in drawn:
                self._walk.find("drawn", draw)
                self._draws = {number: at for number, at in self._draws.items() if at != draw}
                self._drawn = {number: at for number, at in self._drawn.items() if at != draw}
        elif drawn:
            self._drawn[made.number] = min(drawn)

    def _has_batch(self, ref: TensorRef) -> bool:
        return any(axis.has("B") for axis in self._walk.axes_of(ref))

    def _pass_on(self, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        made = event.outputs[0]
        if len(refs) == 1:
            if event.op in _KEEPS and refs[0].number in self._of_tables:
                self._of_tables.add(made.number)
            if event.op in _KEEPS_PARTS and refs[0].number in self._parts:
                self._parts[made.number] = self._parts[refs[0].number]
            if event.op in _UNARY and refs[0].number in self._counts:
                self._counts.add(made.number)
        # What is made of random numbers and of nothing that has a batch is as random, and as shared.
        is_random = bool(self._noise) and event.op in _KEEPS_NOISE and any(ref.number in self._noise for ref in refs)
        if is_random and not self._has_batch(made) and not any(ref.number in self._of_tables for ref in refs):
            self._noise.add(made.number)
            if event.op == "aten.log" or any(ref.number in self._normal for ref in refs):
                self._normal.add(made.number)

    def _follow_cuts(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """A table that is cut to the size of the batch, and read; ``queue[:, :n] = keys`` writes into it."""
        if self._cuts and event.op != "aten.copy_":
            for ref in refs:
                if ref.number in self._cuts:
                    self._walk.find("table", *self._cuts.pop(ref.number))
        if event.op == "aten.slice" and refs[0].number in self._tables:
            made = event.outputs[0]
            end = self._walk.by_size.get(made.shape[event.args.get("dim", 0)])
            if end is not None and end.has("B") and refs[0].shape != made.shape:
                self._cuts[made.number] = index, end

    def _check_crossed(self, index: int, event: OpEvent, axes: Sequence[Axis]) -> None:
        """Look up along the batch by an index whose samples lie on another dim."""
        its, dim = self._walk.axes_of(event.args["index"]), event.args["dim"] % max(len(axes), 1)
        if len(its) == len(axes) > 1 and axes[dim].has("B"):
            for place, axis in enumerate(its):
                if place != dim and axis.has("B") and axis.size > 1 and not axes[place].has("B"):
                    self._walk.find("crossed", index, axes[dim])

    def _check_pick(self, index: int, event: OpEvent, axes: Sequence[Axis], places: Sequence[int]) -> None:
        """Look entries of the batch up, or where the largest one is."""
        given = event.args.get("indices")
        if isinstance(given, list):
            places = [place for place, item in enumerate(given) if isinstance(item, TensorRef)]
            self._check_pairs(index, given, axes, places)
            rows = [axes[place] for place in places if axes[place].has("B")]
            if rows and any(given[place].number in self._counts and not axes[place].has("B") for place in places):
                self._walk.find("crossed", index, *rows[:1])
            if len(places) != 1 or event.outputs[0].shape != tuple(axis.size for axis in axes):
                return
        for place in places[:1]:
            if axes[place].has("B") and len(axes) > 1:
                parts = axes[place].factors
                if len(parts) > 1 and event.op in _BEST and any(axis.factors == parts for axis in axes[:place]):
                    self._walk.find("nearest", index, axes[place])
                    continue
                is_best = event.op in _BEST and axes[place].roots == {"B"}
                is_best = is_best and (event.op != "aten.topk" or len(axes) > 2)  # experts choose among all tokens
                self._walk.find("along" if is_best else "picked", index, axes[place])

    def _check_pairs(self, index: int, given: Sequence[object], axes: Sequence[Axis], places: Sequence[int]) -> None:
        """``x[:, lengths - 1]``: what every sample asks for, from every sample."""
        asks = [item for item in given if isinstance(item, TensorRef)]
        kept = [axis for place, axis in enumerate(axes) if place not in places]
        is_list = len(axes) > 2 or (len(axes) == 2 and axes[-1].is_feature)
        if len(asks) == 1 and is_list and self._has_batch(asks[0]) and any(axis.has("B") for axis in kept):
            self._walk.find("pairs", index, axes[places[0]])

    def _check_joined(self, index: int, event: OpEvent, refs: Sequence[TensorRef]) -> None:
        """Put a constant behind the batch."""
        refs = [ref for ref in refs if len(ref.shape) == len(event.outputs[0].shape)]  # not one of no elements
        parts = [self._walk.axes_of(ref)[event.args.get("dim", 0)] for ref in refs]
        batches = [part for part in parts if part.has("B")]
        rest = [ref for ref, part in zip(refs, parts, strict=True) if not part.has("B")]
        if batches and rest and all(ref.number in self._of_tables for ref in rest):
            self._walk.find("joined", index, batches[0])

    def _check_paired(self, index: int, event: OpEvent, refs: Sequence[TensorRef], places: Sequence[int]) -> None:
        """``(u @ v.T).mean(1)``: what each sample makes with all is added up, and nothing was done to it before."""
        made = event.outputs[0]
        is_product = event.op in SCORES and sum(axis.roots == {"B"} for axis in self._walk.axes_of(made)) == 2
        if is_product or (event.op in _SCALES and len(refs) == 1 and refs[0].number in self._paired):
            self._paired.add(made.number)
        elif event.op in _SUMS and len(places) == 1 and refs[0].number in self._paired:
            axis = self._walk.axes_of(refs[0])[places[0]]
            if axis.roots == {"B"} and self._has_batch(made):
                self._walk.find("averaged", index, axis)

    def _check_contracted(self, index: int, made: TensorRef, met: Sequence[tuple[Axis, Axis]]) -> None:
        """A product sums over the batch."""
        if not self._has_batch(made):
            for one, other in met:
                if one.has("B") and other.has("B") and one.size > 1:
                    is_all = any(factor.kind == "feature" for factor in one.factors)
                    self._walk.find("merged" if is_all else "contracted", index, one)

    def _check_noise(self, index: int, refs: Sequence[TensorRef], made: TensorRef) -> None:
        """Random numbers that are the same for all samples; a number of rank 0 is meant for all."""
        noise = next((ref for ref in refs if ref.number in self._noise), None)
        batch = next((axis for axis in self._walk.axes_of(made) if axis.has("B")), None)
        if noise is None or batch is None or len(refs) < 2:
            return
        if any(size > 1 for size in noise.shape):
            self._walk.find("normal" if noise.number in self._normal else "noise", index, batch)
        elif len(noise.shape) == len(made.shape) > 1:
            self._walk.find("noise", index, batch)


def _is_cut_along(event: OpEvent, axes: Sequence[Axis]) -> bool:
    """Return whether an operation cuts a tensor of several dims along the samples."""
    return len(axes) > 1 and axes[event.args.get("dim", 0)].roots == {"B"}
