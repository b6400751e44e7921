"""Formulas by structure: one walk over the operations of a trace, confirmed by the traces at all other sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress, pairwise, product

from modelsummary_ipy.axes.align_events import align_events, find_repeats
from modelsummary_ipy.axes.expr import Coefficient, Expr, Floor, Least, cancel, constant, symbol
from modelsummary_ipy.axes.integers import Integers, Pair, is_unknown
from modelsummary_ipy.axes.minima import list_minima, simplify
from modelsummary_ipy.axes.registry import Size
from modelsummary_ipy.axes.traced_op import Demand
from modelsummary_ipy.axes.walk import Walk, Walked
from modelsummary_ipy.records.op_events import TensorRef
from modelsummary_ipy.records.retraced import Sizes
from modelsummary_ipy.records.trace import TensorSpec, Trace
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.demands import LARGEST, Demands, names_of
from modelsummary_ipy.shapes.sample_sizes import SampleSizes

#: Operations that take another part where an axis is shorter: what an entry says of it is no demand.
_CUTS = frozenset(f"aten.{name}" for name in ("slice", "split", "unsafe_split", "chunk", "diagonal"))
#: The dims of one tensor leaf.
Dims = tuple[Expr, ...]
Leaves = tuple["Dims | None", ...]


@dataclass
class WalkedFormulas:
    """What a walk found of one model.

    Attributes:
        outputs: Per call of the first trace, per output leaf, its dims; ``None`` where the walk does not know them, or
            a trace contradicts them.
        inputs: The same for input leaves.
        is_made: Per call, whether it is made at the sizes that were walked at.
        demands: What operations demand of sizes.
        reaches: Of lookups whose places are no size that they read, the rows, and how many are read at some sizes.
        contradicted: What an entry, the table's or a user's, says otherwise than torch.
        is_ambiguous: Whether a padding may be to one multiple or another, as far as the traces tell.
        is_loose: Whether another integer of the code may be a floor or a multiple of several steps.
        has_guessed: Whether an integer of the code was found by its values alone.
        rivals: Pairs of sizes that were alike in all traces, where an integer of the code was one of them.
        is_whole: Whether every operation had an entry that agreed with torch, and was made at every size.
        is_structural: Whether it is whole, and no integer of the code was guessed by its values: then the traces that
            it was read from, and the first, are as many confirmations.
    """

    outputs: list[Leaves]
    inputs: list[Leaves]
    is_made: list[bool]
    demands: tuple[Demand, ...] = ()
    is_whole: bool = False
    is_structural: bool = False
    contradicted: tuple[str, ...] = ()
    is_ambiguous: bool = False
    is_loose: bool = False
    has_guessed: bool = False
    rivals: tuple[Pair, ...] = ()
    reaches: tuple[tuple[int, list[tuple[Sizes, int]]], ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every leaf is known, of the calls that are made at other sizes too."""
        known = zip(self.outputs, self.inputs, self.is_made, strict=True)
        return all(None not in outputs and None not in inputs for outputs, inputs, is_made in known if is_made)

    @property
    def needs_remainders(self) -> bool:
        """Whether traces at sizes that leave other remainders may tell more."""
        return self.is_ambiguous or (self.is_loose and self.is_complete)

    @property
    def num_known(self) -> int:
        """How many leaves are known."""
        return sum(dims is not None for table in (self.outputs, self.inputs) for leaves in table for dims in leaves)

    def predict_end(self, name: str, size: int) -> int | None:
        """Return about which size of a dim a lookup reaches the end of its table at; ``None`` if none gets nearer."""
        ends = []
        for rows, reached in self.reaches:
            points = sorted({(at[name], places) for at, places in reached})
            (first, fewest), (last, most) = points[0], points[-1]
            if most > fewest and last > first:
                ends.append(last + max(rows - most, 0) * (last - first) // (most - fewest))
        return max(min(ends), size) if ends else None

    def list_caps(self, base: Sizes) -> set[int]:
        """List the sizes of the input, about, where a size that is cut to a number would be: ``x[:, i : i + 512]``."""
        sizes = {size for leaves in self.outputs for dims in leaves for size in dims or ()}
        caps: set[int] = set()
        for least in {least for size in sizes for least in list_minima(size)}:
            numbers = [int(part.constant_value) for part in least.parts if part.constant_value is not None]
            for part in least.parts if numbers else ():
                size = part.value(base)
                if part.constant_value is None and 0 < size < numbers[0]:
                    caps |= {math.ceil(base[name] * numbers[0] / size) for name in part.names}
        return caps

    def cuts(self, name: str) -> bool:
        """Return whether a part of a dim is taken somewhere: of a batch, ``⌊4·B/5⌋`` nodes."""
        sizes = {size for leaves in self.outputs for dims in leaves for size in dims or () if name in size.names}
        atoms = [atom for size in sizes for monomial, _ in size.terms for atom, _power in monomial]
        return any(isinstance(a, Floor) and name in a.inside.names for a in atoms)

    def list_turns(self, base: Sizes) -> list[tuple[str, int]]:
        """List dims, and a size of each just below the largest at which another part of a minimum is the smallest."""
        sizes = {size for leaves in self.outputs for dims in leaves for size in dims or ()}
        found: dict[tuple[str, int], None] = {}
        for least in {least for size in sizes for least in list_minima(size)}:
            names = frozenset().union(*(part.names for part in least.parts))
            for name in names if len(names) == 1 else ():
                parts = [[part.value({name: at}) for part in least.parts] for at in range(1, base[name] + 1)]
                turns = [at for at, (one, two) in enumerate(pairwise(parts), 1) if _place(one) != _place(two)]
                found |= dict.fromkeys((name, at - 1) for at in turns[-1:] if at > 1)
        return list(found)

    def holds(self, trace: Trace, at: Sizes, other: Trace) -> bool:
        """Return whether one more trace contradicts none; nothing is taken out."""
        return replace(self, outputs=list(self.outputs), inputs=list(self.inputs)).confirm(trace, at, other)

    def confirm(self, trace: Trace, at: Sizes, other: Trace) -> bool:
        """Take out what one more trace contradicts; ``False`` if it contradicts some."""
        all_agree = True
        known: dict[Dims, tuple[Coefficient, ...]] = {}

        def is_other(dims: Dims, shape: tuple[int, ...]) -> bool:
            if dims not in known:  # the blocks of a model have the same
                known[dims] = tuple([expr.value(at) for expr in dims])
            return known[dims] != shape

        for call, partner in zip(trace.calls, align_calls(trace, other), strict=True):
            if partner is None:
                continue
            there = other.calls[partner]
            for found, mine, theirs in (
                (self.outputs, call.outputs, there.outputs),
                (self.inputs, call.inputs, there.inputs),
            ):
                shapes = {spec.name: spec.shape for spec in theirs}
                leaves = found[call.index]
                wrong = [
                    dims is not None and spec.name in shapes and is_other(dims, shapes[spec.name])
                    for dims, spec in zip(leaves, mine, strict=True)
                ]
                if any(wrong):
                    found[call.index] = tuple(None if bad else dims for dims, bad in zip(leaves, wrong, strict=True))
                    all_agree = False
        return all_agree


def walk_formulas(trace: Trace, samples: SampleSizes, names: tuple[tuple[str, ...], ...]) -> WalkedFormulas | None:
    """Walk over the trace at the last of the sample sizes.

    Args:
        samples: The traces at other sizes, with their operations; one of them with one more in the batch, or none.
        names: Per input leaf, a name per dim.

    Returns:
        Dims that every trace agrees with; ``None`` if there are fewer than two other traces, or operations are missing.
    """
    ops = [found.ops for found in samples.retraced]
    if len(ops) < 2 or any(log is None or not log.is_whole for log in ops):
        return None
    return _Walker(trace, samples, names).walk()


@dataclass
class _Walker:
    trace: Trace
    samples: SampleSizes
    names: tuple[tuple[str, ...], ...]
    _simple: dict[Size, Expr | None] = field(default_factory=dict)
    _settled: dict[Least, Expr | None] = field(default_factory=dict)
    _by_values: list[tuple[Trace, tuple[int | None, ...] | None]] = field(default_factory=list)
    _is_sharded: bool = False

    def walk(self) -> WalkedFormulas:
        *others, main = self.samples.retraced
        *at_others, at_main = self.samples.sizes
        assert main.trace is not None
        assert main.ops is not None
        aligned, logs = [], []
        by_values: list[tuple[Trace, tuple[int | None, ...] | None]] = [(main.trace, None)]
        for other in others:
            assert other.trace is not None
            assert other.ops is not None
            partners = align_calls(main.trace, other.trace)
            by_values.append((other.trace, partners))
            logs.append(other.ops)
            aligned.append(align_events(main.ops, other.ops, dict(enumerate(partners))))
        is_same = [None not in events for events in aligned]
        if 2 <= sum(is_same) < len(aligned) and not self.samples.is_wide:
            # The others took another branch: what holds there too is checked below.
            aligned, logs = list(compress(aligned, is_same)), list(compress(logs, is_same))
            at_others, by_values = list(compress(at_others, is_same)), list(compress(by_values, [True, *is_same]))
        make = partial(Integers, [at_main, *at_others], may_clip=self.samples.is_wide, doubted=self.samples.doubted)
        self._integers = make()
        # The operations of a sharded model are those of this rank's parts, its leaves are whole: they have values only.
        self._is_sharded = any(param.local_shape is not None for param in main.trace.params)
        repeats = find_repeats(main.ops, logs, aligned)
        given = self._given()
        pairs = zip(aligned, logs, strict=True)
        are_same = all(None not in events and len(log.events) == len(events) for events, log in pairs)
        walk = partial(Walk, main.ops, aligned, given, repeats=repeats, are_same=are_same)
        walked = Walked() if self._is_sharded else walk(self._integers).run()
        if later := self._integers.explain():
            self._integers = make(later=later)
            walked = walk(self._integers).run()
        self._axes = walked.axes
        self._hard = [d for d in walked.demands.values() if main.ops.events[d.event].op not in _CUTS]
        self._by_values = by_values if self._is_sharded or not are_same else []
        partners_of_main = align_calls(self.trace, main.trace)
        outputs, inputs = [], []
        for call in self.trace.calls:
            partner = partners_of_main[call.index]
            there = main.trace.calls[partner] if partner is not None else None
            refs = (
                ((), ())
                if partner is None
                else (main.ops.call_inputs.get(partner, ()), main.ops.call_outputs.get(partner, ()))
            )
            inputs.append(self._read(call.inputs, there.inputs if there else (), refs[0], "inputs", partner))
            outputs.append(self._read(call.outputs, there.outputs if there else (), refs[1], "outputs", partner))
        whole = not self._is_sharded and not walked.opaque and not walked.wrong and all(is_same)
        whole = whole and not any(
            isinstance(size, Expr) and is_unknown(size) for demand in walked.demands.values() for size in demand[1:3]
        )
        has_guessed = self._integers.has_guessed
        found = WalkedFormulas(
            outputs,
            inputs,
            [partner is not None for partner in partners_of_main],
            self._simplify_demands(walked),
            whole,
            whole and self._must_agree and not has_guessed,
            tuple(walked.contradicted.values()),
            walked.is_ambiguous,
            self._integers.is_loose,
            has_guessed,
            tuple(self._integers.rivals),
            tuple((rows, list(zip((at_main, *at_others), places, strict=True))) for rows, places in walked.reaches),
        )
        if self._must_agree:
            found.confirm(self.trace, self.samples.base, self.trace)
        for at, again in zip(self.samples.sizes, self.samples.traces, strict=True):
            found.confirm(self.trace, at, again)
        return found

    @property
    def _must_agree(self) -> bool:
        """A size of 1 broadcasts and squeezes where no other does."""
        return not any(size == 1 for name, size in self.samples.base.items() if name in self.samples.free)

    def _given(self) -> list[list[Size]]:
        twin = {two: one for one, two in self.samples.tied}
        free = self.samples.free
        return [
            [
                symbol(twin.get(name, name)) if name in free else size
                for name, size in zip(dims, fact.spec.shape, strict=True)
            ]
            for dims, fact in zip(self.names, self.trace.inputs, strict=True)
        ]

    def _read(
        self,
        specs: tuple[TensorSpec, ...],
        there: tuple[TensorSpec, ...],
        refs: tuple[TensorRef | None, ...],
        side: str,
        partner: int | None,
    ) -> Leaves:
        by_name = dict(zip((spec.name for spec in there), refs, strict=False))
        leaves: list[Dims | None] = []
        for number, spec in enumerate(specs):
            same = number < len(there) and there[number].name == spec.name
            ref = refs[number] if same and number < len(refs) else by_name.get(spec.name)
            # A parameter, or another tensor that was there before, has numbers.
            axes: Sequence[Size] = spec.shape if ref is None else self._axes.get(ref.number, ref.shape)
            if self._by_values and number < len(there):
                own = there[number].shape if self._is_sharded else axes  # not of a part
                axes = self._name_by_values(partner, number, own, side)
            dims = [dim for size in axes if (dim := self._simplify(size)) is not None]
            leaves.append(tuple(dims) if len(dims) == len(axes) else None)
        return tuple(leaves)

    def _name_by_values(self, call: int | None, number: int, axes: Sequence[Size], side: str) -> Sequence[Size]:
        """Find what a leaf's axes are in every trace, where they are others in some than the operation says."""
        shapes = []
        for trace, partners in self._by_values:
            place = call if partners is None or call is None else partners[call]
            leaves = getattr(trace.calls[place], side) if place is not None else ()
            shapes.append(leaves[number].shape if number < len(leaves) else ())
        if any(len(shape) != len(axes) for shape in shapes):
            return axes
        near = [size for size in axes if isinstance(size, Expr)]
        named: list[Size] = []
        for size, values in zip(axes, zip(*shapes, strict=True), strict=True):
            is_known = self._integers.values(size) == values and not (isinstance(size, Expr) and is_unknown(size))
            found = None if is_known else self._integers.find(values, near)
            named.append(size if found is None else found)
        return named

    def _simplify(self, size: Size) -> Expr | None:
        """Take floors out that every size that works makes whole, and minima that are one of their parts there.

        Returns:
            ``None`` if a part of it is unknown.
        """
        if size not in self._simple:
            simple = constant(size) if isinstance(size, int) else simplify(size, self.samples.steps, self._settle)
            self._simple[size] = None if is_unknown(simple) else simple
        return self._simple[size]

    def _simplify_demands(self, walked: Walked) -> tuple[Demand, ...]:
        """Simplify what is demanded, each once, whichever side stands first."""
        found: dict[object, Demand] = {}
        for demand in map(self._simplify_demand, walked.demands.values()):
            sides = demand[1:3] if demand.kind == "at least" else frozenset(demand[1:3])
            if demand.one != demand.other:
                found.setdefault((demand.kind, sides), demand)
        return tuple(found.values())

    def _simplify_demand(self, demand: Demand) -> Demand:
        one, other = (
            x if isinstance(x, int) else simplify(x, {}, self._settle_jointly) for x in (demand.one, demand.other)
        )
        if demand.kind == "equal":
            one, other = cancel(*(constant(x) if isinstance(x, int) else x for x in (one, other)))
        return demand._replace(one=one, other=other)

    def _settle(self, least: Least) -> Expr | None:
        """Return which part a minimum is at all sizes that operations take."""
        if least not in self._settled:
            names = sorted(frozenset().union(*(part.names for part in least.parts)))
            self._settled[least] = self._settle_jointly(least)
            if len(names) == 1 and names[0] in self.samples.base:
                hard = [demand for demand in self._hard if names_of(demand) == set(names)]
                self._settled[least] = self._settle_by(least, {names[0]: Demands(hard, self.samples.base)})
        return self._settled[least]

    def _settle_jointly(self, least: Least) -> Expr | None:
        """Return which part a minimum of several dims is at all sizes that are as large as operations take."""
        names = sorted(frozenset().union(*(part.names for part in least.parts)))
        if len(names) < 2 or not all(name in self.samples.base for name in names):
            return None
        hard = [demand for demand in self._hard if demand.kind == "at least"]
        own = {name: [demand for demand in hard if names_of(demand) == {name}] for name in names}
        return self._settle_by(least, {name: Demands(own[name], self.samples.base) for name in names})

    def _settle_by(self, least: Least, demands: dict[str, Demands]) -> Expr | None:
        ends = [(found.first([name], 1), found.last([name], 1) or LARGEST) for name, found in demands.items()]
        corners = [dict(zip(demands, sizes, strict=True)) for sizes in product(*ends)]
        smallest = {min(least.parts, key=lambda part: part.value(at)) for at in corners}
        return smallest.pop() if len(smallest) == 1 else None


def _place(values: Sequence[Coefficient]) -> int:
    return values.index(min(values))
