"""Every size as a formula of the input's: traces at other sizes, and the expressions that predict them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelsummary_ipy.algebra import Expr, constant
from modelsummary_ipy.align import align_calls
from modelsummary_ipy.facts import Call, Formula, Retrace, Row, TensorSpec, Trace
from modelsummary_ipy.fit import Fitter, Known, Values
from modelsummary_ipy.names import name_dims
from modelsummary_ipy.points import Points, choose_points
from modelsummary_ipy.probes import Prober, Sizes
from modelsummary_ipy.shadow import Shadow
from modelsummary_ipy.strides import predict_windows

if TYPE_CHECKING:
    from modelsummary_ipy.inputs import ModelInputs

__all__ = ["BatchFacts", "Formulas", "find_batch", "find_formulas", "trace_again"]

Table = Mapping[int, tuple[tuple[int, ...] | None, ...]]
FormulaTable = Mapping[int, tuple[Formula | None, ...]]


@dataclass(frozen=True)
class BatchFacts:
    """What a second trace with one more in the batch told.

    Attributes:
        names: Per input leaf, a name per dim, ``""`` for a plain number.
        base: The sizes the user gave, by name.
        batch: Per row, per output leaf, its size at ``B + 1``; ``None`` where the row has no partner in that trace.
        failed_at: ``(("B = 9", reason),)`` if the model does not run with one more.
        retrace: The pass at ``B + 1``, also if it failed; ``None`` if none was made.
        prober: Asks the model again; ``None`` where it can't be asked.
    """

    names: tuple[tuple[str, ...], ...] = ()
    base: Sizes = field(default_factory=dict)
    batch: Table = field(default_factory=dict)
    failed_at: tuple[tuple[str, str], ...] = ()
    retrace: Retrace | None = None
    prober: Prober | None = None


@dataclass(frozen=True)
class Formulas:
    """Every size as a formula.

    Attributes:
        outputs: Per row, per output leaf, a formula or ``None``.
        inputs: The same for input leaves.
        names: Per input leaf of the model, a name per dim.
        batch: As in ``BatchFacts``.
        failed_at: Sizes at which the model does not run, and why.
        points: Which sizes were traced, and what is known of the dims.
        prober: Asks the model again.
    """

    outputs: FormulaTable = field(default_factory=dict)
    inputs: FormulaTable = field(default_factory=dict)
    names: tuple[tuple[str, ...], ...] = ()
    batch: Table = field(default_factory=dict)
    failed_at: tuple[tuple[str, str], ...] = ()
    points: Points | None = None
    prober: Prober | None = None


def find_batch(
    shadow: Shadow, inputs: ModelInputs | None, dtypes: list[str], method: str, trace: Trace, rows: tuple[Row, ...]
) -> BatchFacts:
    """Name the input's dims and trace once more with one more in the batch.

    Args:
        shadow: The pristine copy that ``trace`` was made of.
        inputs: What the user gave.
        dtypes: The dtypes that the sizes among it got.
        method: What was called.
        trace: The first trace; only one made with fakes that came to its end is asked again.
        rows: Its rows.
    """
    names = name_dims(trace)
    base = {
        name: size
        for dims, fact in zip(names, trace.inputs, strict=True)
        for name, size in zip(dims, fact.spec.shape, strict=True)
        if name
    }
    if inputs is None or trace.engine != "fake" or trace.failure is not None or not trace.calls:
        return BatchFacts(names, base)
    prober = Prober(shadow, inputs, dtypes, method, names, base, len(trace.calls))
    if "B" not in base:
        return BatchFacts(names, base, prober=prober)
    one_more = base["B"] + 1
    probe = prober.ask({"B": one_more})
    failed_at = () if probe.works else ((f"B = {one_more}", probe.reason),)
    if probe.trace is None:
        return BatchFacts(names, base, failed_at=failed_at, prober=prober)
    partners = align_calls(trace, probe.trace)
    retrace = Retrace({"B": one_more}, probe.trace, partners)
    if not probe.works:
        return BatchFacts(names, base, {}, failed_at, retrace, prober)
    table = {
        row.index: _read_sizes(trace.calls[row.call], partners[row.call], probe.trace)
        for row in rows
        if row.call is not None
    }
    return BatchFacts(names, base, table, (), retrace, prober)


def trace_again(batch: BatchFacts, trace: Trace, sizes: Sizes) -> Retrace | None:
    """Trace once more at sizes that a rule asks for; ``None`` if the model can't be asked."""
    if batch.prober is None or not set(sizes) <= set(batch.base):
        return None
    probe = batch.prober.ask(sizes)
    return None if probe.trace is None else Retrace(dict(sizes), probe.trace, align_calls(trace, probe.trace))


def _read_sizes(call: Call, partner: int | None, other: Trace) -> tuple[tuple[int, ...] | None, ...]:
    shapes = {spec.name: spec.shape for spec in other.calls[partner].outputs} if partner is not None else {}
    return tuple(shapes.get(spec.name) for spec in call.outputs)


def find_formulas(
    shadow: Shadow,
    inputs: ModelInputs | None,
    dtypes: list[str],
    method: str,
    trace: Trace,
    rows: tuple[Row, ...],
    first: BatchFacts | None = None,
) -> Formulas:
    """Find a formula for every leaf of every row; see ``find_batch`` for the arguments.

    Args:
        first: What ``find_batch`` found, if it was asked before.

    Returns:
        Formulas that predict every trace made, one of them at sizes that no fit looked at.
    """
    first = first or find_batch(shadow, inputs, dtypes, method, trace, rows)
    if first.prober is None:
        return Formulas(names=first.names, batch=first.batch, failed_at=first.failed_at)
    points = choose_points(first.prober, works_at_one_more=bool(first.batch))
    finder = _Finder(trace, points)
    finder.run()
    outputs = {row.index: finder.outputs[row.call] for row in rows if row.call is not None}
    taken = {row.index: finder.inputs[row.call] for row in rows if row.call is not None}
    failed_at = (*first.failed_at, *(item for item in points.failed_at if item not in first.failed_at))
    return Formulas(outputs, taken, first.names, first.batch, failed_at, points, first.prober)


class _Finder:
    """Walks the calls in order, so that what a layer reads is known before what it makes."""

    def __init__(self, trace: Trace, points: Points) -> None:
        self._trace = trace
        self._steps = points.steps
        self._others = points.traces
        self._partners = [align_calls(trace, other) for other in points.traces]
        sizes = (points.base, *points.sizes)
        degenerate = any(size == 1 for name, size in points.base.items() if name in points.free)
        self._fitter = Fitter(sizes, held=len(sizes) - 1, steps=points.steps, must_agree=not degenerate)
        self._formulas: dict[tuple[tuple[int, ...] | None, ...], tuple[Expr | None, ...] | None] = {}
        self.outputs: list[tuple[Formula | None, ...]] = [()] * len(trace.calls)
        self.inputs: list[tuple[Formula | None, ...]] = [()] * len(trace.calls)
        self._written: dict[Expr, str] = {}

    def run(self) -> None:
        """Fill ``outputs`` and ``inputs``, by call."""
        if len(self._others) < 3:
            return
        containers = {call.parent for call in self._trace.calls}
        inner = [call for call in self._trace.calls if call.index not in containers]
        outer = [call for call in reversed(self._trace.calls) if call.index in containers]
        for call in [*inner, *outer]:
            partners = [
                None if places[call.index] is None else other.calls[places[call.index]]  # type: ignore[index]
                for places, other in zip(self._partners, self._others, strict=True)
            ]
            taken = list(self._fit_leaves(call.inputs, [p.inputs if p else () for p in partners], None))
            near = _Near(call, self._trace, [(leaf, dims) for leaf, dims in taken if dims is not None], self._steps)
            made = list(self._fit_leaves(call.outputs, [p.outputs if p else () for p in partners], near))
            self.inputs[call.index] = tuple(self._write(dims) for _, dims in taken)
            self.outputs[call.index] = tuple(self._write(dims) for _, dims in made)

    def _fit_leaves(
        self, specs: tuple[TensorSpec, ...], others: list[tuple[TensorSpec, ...]], near: _Near | None
    ) -> Iterator[tuple[tuple[tuple[int, ...] | None, ...], tuple[Expr | None, ...] | None]]:
        for number, spec in enumerate(specs):
            shapes = (spec.shape, *(_find_shape(leaves, number, spec.name) for leaves in others))
            known = self._formulas.get(shapes, ())
            if known == () or (known is None and near is not None):
                known = self._formulas[shapes] = self._fit_leaf(shapes, near)
            yield shapes, known

    def _fit_leaf(
        self, shapes: tuple[tuple[int, ...] | None, ...], near: _Near | None
    ) -> tuple[Expr | None, ...] | None:
        ranks = {len(shape) for shape in shapes[1:] if shape is not None}
        if len(ranks) != 1:
            return None
        rank = ranks.pop()
        if shapes[0] is not None and len(shapes[0]) != rank:
            if self._fitter.must_agree:
                return None
            shapes = (None, *shapes[1:])
        if any(-1 in shape for shape in shapes if shape is not None):
            return None
        dims: list[Expr | None] = []
        for axis in range(rank):
            values: Values = tuple(None if shape is None else shape[axis] for shape in shapes)
            hints = near.hints(axis) if near is not None else ()
            found = self._fitter.fit(values, near.known if near is not None else (), hints)
            if found is None:
                return None
            dims.append(found)
        return tuple(dims)

    def _write(self, dims: tuple[Expr | None, ...] | None) -> Formula | None:
        if dims is None:
            return None
        texts: list[str] = []
        for expr in dims:
            assert expr is not None
            text = self._written.get(expr)
            if text is None:
                text = self._written[expr] = str(expr)
            texts.append(text)
        return tuple(texts)


class _Near:
    """What a call read: the dims its result most likely came from."""

    def __init__(
        self,
        call: Call,
        trace: Trace,
        taken: list[tuple[tuple[tuple[int, ...] | None, ...], tuple[Expr | None, ...] | None]],
        steps: Sizes,
    ) -> None:
        self._call = call
        self._trace = trace
        self._taken = taken
        self._steps = steps
        self._known: list[Known] | None = None
        self._hints: dict[int, list[Expr]] | None = None

    @property
    def known(self) -> list[Known]:
        """The dims of every leaf that went in."""
        if self._known is None:
            self._known = [
                Known(tuple(None if shape is None else shape[axis] for shape in shapes), expr)
                for shapes, dims in self._taken
                for axis, expr in enumerate(dims or ())
                if expr is not None
            ]
        return self._known

    def hints(self, axis: int) -> list[Expr]:
        """Expressions for one dim of the result: what a sliding window makes, what lies side by side added up."""
        if self._hints is None:
            self._hints = {}
            first = self._taken[0][1] if self._taken else None
            if first is not None:
                for dim, expr in predict_windows(self._trace, self._call, first, self._steps).items():
                    self._hints.setdefault(dim, []).append(expr)
            if len(self._taken) > 1 and len({len(dims or ()) for _, dims in self._taken}) == 1:
                for dim in range(len(first or ())):
                    parts = [dims[dim] for _, dims in self._taken if dims is not None]
                    total = constant(0)
                    for part in parts:
                        total = total + part if part is not None else total
                    self._hints.setdefault(dim, []).append(total)
        return self._hints.get(axis, [])


def _find_shape(leaves: tuple[TensorSpec, ...], number: int, name: str) -> tuple[int, ...] | None:
    if number < len(leaves) and leaves[number].name == name:
        return leaves[number].shape
    return next((leaf.shape for leaf in leaves if leaf.name == name), None)
