"""Every size as a formula of the input's: traces at other sizes, and the expressions that predict them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modelsummary_ipy.axes.expr import Expr, constant, symbol
from modelsummary_ipy.axes.walk import Demand
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.records.retraced import Allowance, Budget, Sizes
from modelsummary_ipy.records.summary import Retrace, Row
from modelsummary_ipy.records.trace import Call, Formula, Link, TensorSpec, Trace
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.demands import Demands
from modelsummary_ipy.shapes.dim_names import InputNames, name_dims
from modelsummary_ipy.shapes.expr_text import write
from modelsummary_ipy.shapes.fit_expr import Fitter, Known, Values
from modelsummary_ipy.shapes.sample_sizes import SampleSizes, choose_sample_sizes
from modelsummary_ipy.shapes.walked_formulas import Dims, Leaves, WalkedFormulas, walk_formulas
from modelsummary_ipy.shapes.windows import predict_windows
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import Retracer

__all__ = ["BatchFacts", "Formulas", "find_batch", "find_formulas", "trace_again"]

Table = Mapping[int, tuple[tuple[int, ...] | None, ...]]
FormulaTable = Mapping[int, tuple[Formula | None, ...]]


@dataclass(frozen=True)
class BatchFacts:
    """What a second trace with one more in the batch shows.

    Attributes:
        names: Of the input's dims.
        base: The sizes the user gave, by name; the batch's by ``"B"`` too.
        batch: Per row, per output leaf, its size at ``B + 1``; ``None`` where the row has no partner in that trace.
        failed_at: ``(("B = 9", reason),)`` if the model does not run with one more.
        retrace: The trace at ``B + 1``, also if it failed; ``None`` if none was made.
        retracer: Traces the model again; ``None`` where it can't be traced with fakes.
    """

    names: InputNames
    base: Sizes = field(default_factory=dict)
    batch: Table = field(default_factory=dict)
    failed_at: tuple[tuple[str, str], ...] = ()
    retrace: Retrace | None = None
    retracer: Retracer | None = None


@dataclass(frozen=True)
class Formulas:
    """Every size as a formula.

    Attributes:
        names: Of the model's input's dims.
        outputs: Per row, per output leaf, a formula or ``None``.
        inputs: The same for input leaves.
        samples: Which sizes were traced, and what is known of the dims.
        retracer: Traces the model again.
        contradicted: What a user's description of an operation says otherwise than torch.
        demands: What operations demand of sizes; ``None`` where some operations are not in the table of axes.
    """

    names: InputNames
    outputs: FormulaTable = field(default_factory=dict)
    inputs: FormulaTable = field(default_factory=dict)
    samples: SampleSizes | None = None
    retracer: Retracer | None = None
    demands: tuple[Demand, ...] | None = None
    contradicted: tuple[str, ...] = ()


def find_batch(
    request: TraceRequest | None, trace: Trace, rows: tuple[Row, ...], time: Allowance | None = None
) -> BatchFacts:
    """Name the input's dims and trace once more with one more in the batch.

    Args:
        request: What ``trace`` was made of; ``None`` if there was no input.
        trace: The first trace; only one made with fakes that came to its end is traced again here.
        rows: Its rows.
        time: What this trace, and those that formulas are found by, may take.
    """
    names = name_dims(trace)
    base = {
        name: size
        for dims, fact in zip(names.dims, trace.inputs, strict=True)
        for name, size in zip(dims, fact.spec.shape, strict=True)
        if name
    }
    first = BatchFacts(names, {**base, "B": base[names.batch]} if names.batch else base)
    if request is None or trace.engine != "fake" or not trace.calls:
        return first
    retracer = Retracer(request, trace, names.dims, time=time)
    first = replace(first, retracer=retracer)
    if not names.batch or trace.failure is not None:
        return first
    one_more = base[names.batch] + 1
    with collector_paused():
        found = retracer.at({names.batch: one_more})
    if found.failed:
        first = replace(first, failed_at=((f"{names.batch} = {one_more}", found.reason),))
    if found.trace is None:
        return first
    partners = align_calls(trace, found.trace)
    retrace = Retrace({"B": one_more}, found.trace, partners)
    if not found.works:
        return replace(first, retrace=retrace)
    table = {
        row.index: _read_sizes(trace.calls[row.call], partners[row.call], found.trace)
        for row in rows
        if row.call is not None
    }
    return replace(first, batch=table, retrace=retrace)


def trace_again(batch: BatchFacts, trace: Trace, sizes: Sizes) -> Retrace | None:
    """Trace once more at sizes that a rule needs, the batch by ``"B"``; ``None`` if that can't be traced."""
    if batch.retracer is None or not set(sizes) <= set(batch.base):
        return None
    own = {batch.names.batch if name == "B" and batch.names.batch else name: size for name, size in sizes.items()}
    found = batch.retracer.at(own).trace
    return None if found is None else Retrace(dict(sizes), found, align_calls(trace, found))


def _read_sizes(call: Call, partner: int | None, other: Trace) -> tuple[tuple[int, ...] | None, ...]:
    shapes = {spec.name: spec.shape for spec in other.calls[partner].outputs} if partner is not None else {}
    return tuple(shapes.get(spec.name) for spec in call.outputs)


def find_formulas(batch: BatchFacts, trace: Trace, rows: tuple[Row, ...]) -> Formulas:
    """Find a formula for every leaf of every row.

    Args:
        batch: What ``find_batch`` found.
        trace: The first trace.
        rows: Its rows.

    Returns:
        Formulas that predict every trace made, one of them at sizes that no fit used.
    """
    names, retracer = batch.names, batch.retracer
    if retracer is None:
        return Formulas(names)
    base = {name: size for name, size in batch.base.items() if any(name in dims for dims in names.dims)}
    with collector_paused():
        works = bool(batch.batch)
        by_walk, by_fit, samples = None, None, SampleSizes(base)
        for most in (2, 3, 4):  # the more traces, the more integers show whose size they are
            more = choose_sample_sizes(retracer, names, base, trace, works_at_one_more=works, most=most)
            if retracer.budget.time.ended:
                if by_walk is None:  # which dims may move is not known
                    return Formulas(names, retracer=retracer)
                break
            samples, by_walk = more, walk_formulas(trace, more, names.dims)
            if by_walk is not None and by_walk.is_complete and not by_walk.is_structural and most == 2:
                samples = _confirm(by_walk, trace, samples, names, retracer)
            if by_walk is not None and by_walk.is_complete:
                break
        else:
            by_fit = _Finder(trace, samples, names.dims)
            by_fit.run(retracer.budget)
    write = _Writer(list(samples.base)).write
    found = [table for table in (by_walk, by_fit) if table is not None]
    outputs, taken = write([table.outputs for table in found]), write([table.inputs for table in found])
    calls = [(row.index, row.call) for row in rows if row.call is not None]
    return Formulas(
        names,
        {row: outputs[call] for row, call in calls},
        {row: taken[call] for row, call in calls},
        samples,
        retracer,
        by_walk.demands if by_walk is not None and by_walk.is_whole else None,
        by_walk.contradicted if by_walk is not None else (),
    )


def _confirm(
    walked: WalkedFormulas, trace: Trace, samples: SampleSizes, names: InputNames, retracer: Retracer
) -> SampleSizes:
    """Trace once more where two traces show all: at the largest sizes that work, which are to be tried anyway."""
    moving = [name for name in samples.free if name != names.batch]
    if len(samples.sizes) < 2 or not moving or not samples.following:
        return samples
    planned = samples.following[0]
    largest: dict[str, int] = {}
    if walked.is_whole:
        demands = Demands(walked.demands, samples.base)
        for name in moving:
            tied = samples.tied_to(name)
            limit = demands.last(tied, samples.strides.get(name, 1))
            if limit is not None and limit > samples.base[name]:
                largest.update(dict.fromkeys(tied, limit))
    for at in ({**planned, **largest}, planned):
        found = retracer.at(at)
        if found.trace is not None and found.works:
            walked.confirm(trace, at, found.trace)
            return replace(samples, sizes=(*samples.sizes, at), retraced=(*samples.retraced, found))
    return samples


#: A leaf at the given and at every other size: its shape there, ``None`` where it was not.
_Shapes = tuple["tuple[int, ...] | None", ...]


class _Finder:
    """Walks the calls in order, so that what a layer reads is known before what it makes."""

    def __init__(self, trace: Trace, samples: SampleSizes, names: tuple[tuple[str, ...], ...]) -> None:
        self._trace = trace
        self._steps = samples.steps
        self._others = samples.traces
        self._partners = [align_calls(trace, other) for other in samples.traces]
        sizes = (samples.base, *samples.sizes)
        degenerate = any(size == 1 for name, size in samples.base.items() if name in samples.free)
        self._fitter = Fitter(sizes, held=len(sizes) - 1, steps=samples.steps, must_agree=not degenerate)
        self._given = self._read_given(samples, names)
        self._made: list[tuple[tuple[_Shapes, Dims | None], ...]] = [()] * len(trace.calls)
        self._cache: dict[tuple[object, ...], Dims | None] = {}
        self.outputs: list[Leaves] = [(None,) * len(call.outputs) for call in trace.calls]
        self.inputs: list[Leaves] = [(None,) * len(call.inputs) for call in trace.calls]

    def _read_given(self, samples: SampleSizes, names: tuple[tuple[str, ...], ...]) -> tuple[tuple[_Shapes, Dims], ...]:
        """Write the model's own input as names, with numbers for dims that do not move."""
        given: list[tuple[_Shapes, Dims]] = []
        twin = {two: one for one, two in samples.tied}
        for dims, fact in zip(names, self._trace.inputs, strict=True):
            pairs = list(zip(dims, fact.spec.shape, strict=True))
            shapes = tuple(tuple(at.get(name, size) for name, size in pairs) for at in (samples.base, *samples.sizes))
            exprs = (symbol(twin.get(name, name)) if name in samples.free else constant(size) for name, size in pairs)
            given.append((shapes, tuple(exprs)))
        return tuple(given)

    def run(self, budget: Budget) -> None:
        """Fill ``outputs`` and ``inputs``, by call, as far as the time goes."""
        if len(self._others) < 3:
            return
        containers = {call.parent for call in self._trace.calls}
        inner = [call for call in self._trace.calls if call.index not in containers]
        outer = [call for call in reversed(self._trace.calls) if call.index in containers]
        for call in [*inner, *outer]:
            if budget.time.is_over:
                return
            partners = [
                None if (place := places[call.index]) is None else other.calls[place]
                for places, other in zip(self._partners, self._others, strict=True)
            ]
            taken = self._find_taken(call, partners)
            self._made[call.index] = made = self._find_made(call, partners, taken, call.index in containers)
            self.inputs[call.index] = tuple(dims for _, dims in taken)
            self.outputs[call.index] = tuple(dims for _, dims in made)

    def _find_taken(self, call: Call, partners: list[Call | None]) -> list[tuple[_Shapes, Dims | None]]:
        """Find what went in: the very tensors that earlier calls made."""
        taken: list[tuple[_Shapes, Dims | None]] = []
        for number, spec in enumerate(call.inputs):
            shapes = (spec.shape, *(_find_shape(p.inputs if p else (), number, spec.name) for p in partners))
            link = call.input_links[number] if number < len(call.input_links) else None
            dims = self._follow(link, shapes)
            if dims is None:
                # At other sizes it came another way, through a padding that this size needs not, say.
                dims = self._fit_near(shapes, _Near(None, self._trace, [self._leaf(link)], self._steps))
            taken.append((shapes, dims))
        return taken

    def _find_made(
        self,
        call: Call,
        partners: list[Call | None],
        taken: list[tuple[_Shapes, Dims | None]],
        is_container: bool,
    ) -> tuple[tuple[_Shapes, Dims | None], ...]:
        made: list[tuple[_Shapes, Dims | None]] = []
        near: _Near | None = None
        for number, spec in enumerate(call.outputs):
            shapes = (spec.shape, *(_find_shape(p.outputs if p else (), number, spec.name) for p in partners))
            link = call.output_links[number] if number < len(call.output_links) else None
            dims = self._follow(link, shapes) if is_container else None
            if dims is None:
                near = near or _Near(call, self._trace, taken, self._steps)
                dims = self._fit_near(shapes, near)
            made.append((shapes, dims))
        return tuple(made)

    def _follow(self, link: Link | None, shapes: _Shapes) -> Dims | None:
        """Return the formula of the tensor that a link leads to, if it still has these sizes."""
        known, dims = self._leaf(link)
        return dims if known == shapes else None

    def _leaf(self, link: Link | None) -> tuple[_Shapes, Dims | None]:
        if link is None:
            return (), None
        leaves = self._given if link.call < 0 else self._made[link.call]
        return leaves[link.leaf] if link.leaf < len(leaves) else ((), None)

    def _fit_near(self, shapes: _Shapes, near: _Near) -> Dims | None:
        key = (shapes, near.key)
        if key not in self._cache:
            self._cache[key] = self._fit(shapes, near)
        return self._cache[key]

    def _fit(self, shapes: _Shapes, near: _Near) -> Dims | None:
        ranks = {len(shape) for shape in shapes[1:] if shape is not None}
        if len(ranks) != 1:
            return None
        rank = ranks.pop()
        if shapes[0] is not None and len(shapes[0]) != rank:
            if self._fitter.must_agree:
                return None
            shapes = (None, *shapes[1:])  # a size of 1 was squeezed away here, and nowhere else
        if any(-1 in shape for shape in shapes if shape is not None):
            return None
        dims: list[Expr] = []
        for axis in range(rank):
            values = _values_of(shapes, axis, rank)
            found = self._fitter.fit(values, near.known, near.hints(axis), axis)
            if found is None:
                return None
            dims.append(found)
        return tuple(dims)


class _Writer:
    """Writes dims as text, each expression once.

    Args:
        order: Names of the input's dims, in the order in which they are written.
    """

    def __init__(self, order: list[str]) -> None:
        self._order = order
        self._written: dict[Expr, str] = {}

    def write(self, tables: list[list[Leaves]]) -> list[tuple[Formula | None, ...]]:
        """Write, per call and leaf, what the first table has that knows it."""
        return [
            tuple(
                self._write_leaf(next((d for d in found if d is not None), None)) for found in zip(*each, strict=True)
            )
            for each in zip(*tables, strict=True)
        ]

    def _write_leaf(self, dims: Dims | None) -> Formula | None:
        return None if dims is None else tuple(self._write_size(expr) for expr in dims)

    def _write_size(self, expr: Expr) -> str:
        text = self._written.get(expr)
        if text is None:
            text = self._written[expr] = write(expr, self._order)
        return text


class _Near:
    """What a call read: the dims its result most likely came from.

    Attributes:
        known: The dims of every leaf that went in.
        key: Distinguishes calls whose results may have other formulas.
    """

    def __init__(self, call: Call | None, trace: Trace, taken: list[tuple[_Shapes, Dims | None]], steps: Sizes) -> None:
        self.known = [
            Known(_values_of(shapes, axis, len(dims)), expr, axis)
            for shapes, dims in taken
            if dims is not None
            for axis, expr in enumerate(dims)
        ]
        first = taken[0][1] if taken else None
        self._hints: dict[int, list[Expr]] = {}
        if first is not None and call is not None:
            for dim, expr in predict_windows(call, trace.modules, first, steps).items():
                self._hints.setdefault(dim, []).append(expr)
        if call is not None and call.type_name in ("cat", "concat", "concatenate", "hstack", "vstack"):
            self._add_sums([dims for _, dims in taken if dims is not None])
        hints = tuple((dim, tuple(found)) for dim, found in self._hints.items())
        self.key: tuple[object, ...] = (tuple(dims for _, dims in taken), hints)

    def _add_sums(self, taken: list[Dims]) -> None:
        """Concatenated sizes are added."""
        if len({len(dims) for dims in taken}) != 1:
            return
        for dim in range(len(taken[0])):
            total = constant(0)
            for dims in taken:
                total = total + dims[dim]
            self._hints.setdefault(dim, []).append(total)

    def hints(self, axis: int) -> list[Expr]:
        """Expressions for one dim of the result that the call itself predicts."""
        return self._hints.get(axis, [])


def _values_of(shapes: _Shapes, axis: int, rank: int) -> Values:
    """Return one dim of a leaf at every sample; a leaf of another rank there is another leaf."""
    return tuple(None if shape is None or len(shape) != rank else shape[axis] for shape in shapes)


def _find_shape(leaves: tuple[TensorSpec, ...], number: int, name: str) -> tuple[int, ...] | None:
    if number < len(leaves) and leaves[number].name == name:
        return leaves[number].shape
    return next((leaf.shape for leaf in leaves if leaf.name == name), None)
