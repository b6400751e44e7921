"""Every size as a formula of the input's: traces at other sizes, and the expressions that predict them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import islice
from typing import TypeAlias

from modelsummary_ipy.axes.expr import Expr
from modelsummary_ipy.axes.traced_op import Demand
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.records.retraced import Allowance, Retraced, Sizes
from modelsummary_ipy.records.summary import Retrace, Row
from modelsummary_ipy.records.trace import Call, Formula, Trace
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.demands import Demands
from modelsummary_ipy.shapes.dim_names import InputNames, list_tied, name_dims
from modelsummary_ipy.shapes.expr_text import write
from modelsummary_ipy.shapes.far_sizes import (
    is_parted,
    plan_far_sizes,
    plan_nearby_sizes,
    plan_parting_sizes,
    plan_smaller_sizes,
)
from modelsummary_ipy.shapes.planned_sizes import plan_remainders
from modelsummary_ipy.shapes.rigid_dims import name_rigid
from modelsummary_ipy.shapes.sample_sizes import SampleSizes, choose_sample_sizes
from modelsummary_ipy.shapes.walked_formulas import Leaves, WalkedFormulas, walk_formulas
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import Retracer

Table = Mapping[int, tuple[tuple[int, ...] | None, ...]]
FormulaTable = Mapping[int, tuple[Formula | None, ...]]
#: Sizes, and what came of a trace there.
_Found: TypeAlias = "tuple[Sizes, Retraced, Trace]"
#: At how many sizes the model is tried where two sizes differ that were alike in all traces.
_MOST_PARTING = 3


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
        contradicted: What an entry, the table's or a user's, says otherwise than torch.
        walked: The formulas as expressions; ``None`` where there are none.
        demands: What operations demand of sizes; ``None`` where some operations are not in the table of axes.
    """

    names: InputNames
    outputs: FormulaTable = field(default_factory=dict)
    inputs: FormulaTable = field(default_factory=dict)
    samples: SampleSizes | None = None
    retracer: Retracer | None = None
    demands: tuple[Demand, ...] | None = None
    contradicted: tuple[str, ...] = ()
    walked: WalkedFormulas | None = None


def find_batch(
    request: TraceRequest | None, trace: Trace, rows: tuple[Row, ...], time: Allowance | None = None
) -> BatchFacts:
    """Name the input's dims and trace once more with one more in the batch.

    Args:
        request: What ``trace`` was made of; ``None`` if there was no input.
        trace: The first trace; only one made with fakes that came to its end is traced again here.
        time: What this trace, and those that formulas are found by, may take.
    """
    names = name_dims(trace)
    base = _read_base(names, trace)
    first = BatchFacts(names, base)
    if request is None or trace.engine != "fake" or not trace.calls:
        return first
    retracer = Retracer(request, trace, names.dims, time=time)
    first = replace(first, retracer=retracer)
    if not names.batch or trace.failure is not None:
        return first
    one_more = base[names.batch] + 1
    with collector_paused():
        found = retracer.at({names.batch: one_more})
        for tied in list_tied(names, trace) if found.failed else ():
            other = Retracer(request, trace, tied.dims, time=time)
            together = other.at({names.batch: one_more})
            if together.works:
                found, first = together, BatchFacts(tied, _read_base(tied, trace), retracer=other)
                break
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


def _read_base(names: InputNames, trace: Trace) -> Sizes:
    """Return the sizes that the user gave, by name; the batch's by ``"B"`` too."""
    base = {
        name: size
        for dims, fact in zip(names.dims, trace.inputs, strict=True)
        for name, size in zip(dims, fact.spec.shape, strict=True)
        if name
    }
    return {**base, "B": base[names.batch]} if names.batch else base


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

    Returns:
        Formulas that predict every trace made, the last of them at sizes that no integer was guessed by, if one was.
    """
    names, retracer = batch.names, batch.retracer
    if retracer is None:
        return Formulas(names)
    retracer = retracer.recording()
    base = {name: size for name, size in batch.base.items() if any(name in dims for dims in names.dims)}
    with collector_paused():
        works = bool(batch.batch)
        walked, samples, chosen = None, SampleSizes(base), SampleSizes(base)
        shown = tuple(retracer.worked)
        needs_remainders = False  # then all further rounds begin with them
        for most in (2, 3, 4):  # the more traces, the more integers show whose size they are
            more = choose_sample_sizes(retracer, names, base, trace, works_at_one_more=works, most=most, shown=shown)
            if retracer.budget.time.ended:
                if walked is None:  # which dims may move is not known
                    return Formulas(names, retracer=retracer)
                break
            if walked is not None and (more.sizes, more.following) == (chosen.sizes, chosen.following):
                continue  # no more traces can be made, as of a model that fails
            chosen = samples = more
            if walked is None or not needs_remainders:
                walked = walk_formulas(trace, more, names.dims)
                needs_remainders = walked is not None and walked.needs_remainders
            if needs_remainders:
                for num in (2, 3) if most == 2 else (3,):  # where two are enough the third one confirms it
                    samples = _add_remainders(trace, more, names, retracer, most=num)
                    walked = walk_formulas(trace, samples, names.dims)
                    if walked is not None and walked.is_complete:
                        break
            if walked is not None and walked.rivals:
                samples, walked = _part_rivals(walked, trace, samples, names, retracer)
            if walked is not None and walked.is_complete and not walked.is_structural:
                samples, walked = _confirm(walked, trace, samples, names, retracer)
            if walked is not None and walked.is_complete:
                break
        if walked is not None and walked.is_loose and not walked.is_complete and samples == chosen:
            samples = _add_remainders(trace, chosen, names, retracer)
            walked = walk_formulas(trace, samples, names.dims)
        if walked is not None:
            samples, walked = _look_far(walked, trace, samples, names, retracer)
            samples, walked = _check_lowest(walked, trace, samples, names, retracer)
            nearby = _trace_nearby(walked, samples, names, retracer)
            if not _confirm_all(walked, trace, nearby):
                demands, is_whole = walked.demands, walked.is_whole
                samples, walked = _find_again(walked, trace, samples, names, retracer, nearby, [])
                if not (is_whole and walked.is_whole):  # limits are confirmed by traces
                    walked.demands, walked.is_whole = demands, is_whole
            name_rigid(walked, trace, samples, names, retracer)
    if walked is None:
        return Formulas(names, samples=samples, retracer=retracer)
    write_size = cache(partial(write, order=list(samples.base)))  # each expression once
    outputs, taken = (_write_table(table, write_size) for table in (walked.outputs, walked.inputs))
    calls = [(row.index, row.call) for row in rows if row.call is not None]
    return Formulas(
        names,
        {row: outputs[call] for row, call in calls},
        {row: taken[call] for row, call in calls},
        samples,
        retracer,
        walked.demands if walked.is_whole else None,
        walked.contradicted,
        walked,
    )


def _confirm(
    walked: WalkedFormulas, trace: Trace, samples: SampleSizes, names: InputNames, retracer: Retracer
) -> tuple[SampleSizes, WalkedFormulas]:
    """Trace once more where two traces show all: at the longest sequences that work, which are to be tried anyway.

    What that trace contradicts is found again from it too, and confirmed by the one after it.
    """
    moving = [name for name in samples.free if name != names.batch]
    if len(samples.sizes) < 2 or not moving or not samples.following:
        return samples, walked
    planned = samples.following[0]
    largest: dict[str, int] = {}
    if walked.is_whole:
        demands = Demands(walked.demands, samples.base)
        for name in moving:
            tied = samples.tied_to(name)
            limit = demands.last(tied, samples.strides.get(name, 1))
            if limit is not None and limit > samples.base[name]:
                largest.update(dict.fromkeys(tied, limit))
            elif name in samples.capped:  # the smallest are to be tried too
                planned = {**planned, **dict.fromkeys(tied, demands.first(tied, samples.strides.get(name, 1)))}
    # Height and width are equal at their limits: there no integer shows whose it is.
    sequences = {name: limit for name, limit in largest.items() if not names.is_spatial(name)}
    likely: list[Sizes] = []
    for at in ({**planned, **sequences}, {**planned, **largest}, planned, *samples.following):
        likely += [at] if at not in likely else []
    for each in _trace_first(likely, retracer):
        samples = _add(samples, each)
        if _confirm_all(walked, trace, [each]):
            break
        again = walk_formulas(trace, samples, names.dims)
        if again is None or not again.is_complete or again.needs_remainders:
            break
        for other in _trace_first(likely[likely.index(each[0]) + 1 :], retracer):
            samples, walked = _add(samples, other), again
            _confirm_all(walked, trace, [other])
    return samples, walked


def _add_remainders(
    trace: Trace, samples: SampleSizes, names: InputNames, retracer: Retracer, *, most: int = 3
) -> SampleSizes:
    """Trace where sizes leave other remainders: what is padded to a multiple shows which one it is.

    Args:
        most: At how many sizes; those that are left are the first to confirm what is found.
    """
    unrolls = any(len(other.calls) > len(trace.calls) * 1.2 + 10 for other in samples.traces)
    free = [name for name in samples.free if not samples.is_fixed(name, names)]
    planned = [
        plan_remainders(names, samples.base, free, samples.steps, samples.tied, far=far)
        for far in ((False,) if unrolls else (True, False))
    ]
    each_turn = list(zip(*planned, strict=True))
    tried = [next((at for at in turn if retracer.at(at).works), turn[0]) for turn in each_turn[:most]]
    found = _trace_at(tried, retracer)
    return replace(
        samples,
        sizes=(*(at for at, _, _ in found), *samples.sizes),
        retraced=(*(there for _, there, _ in found), *samples.retraced),
        following=(*(turn[0] for turn in each_turn[most:]), *samples.following),
    )


def _part_rivals(
    walked: WalkedFormulas, trace: Trace, samples: SampleSizes, names: InputNames, retracer: Retracer
) -> tuple[SampleSizes, WalkedFormulas]:
    """Trace where sizes differ that were alike in all traces, or leave unknown what may be either."""
    for _ in samples.free:
        planned = plan_parting_sizes(samples, names, walked.rivals)
        if not planned:
            break
        at = next((at for at in planned[:_MOST_PARTING] if retracer.at(at).works), None)
        if at is None:
            parted = [pair for pair in walked.rivals if any(is_parted(pair, at) for at in planned)]
            # A size that is a number wherever the model runs is that number.
            samples = replace(samples, doubted=tuple(pair for pair in parted if pair[0].constant_value is None))
        else:
            samples = replace(samples, sizes=(at, *samples.sizes), retraced=(retracer.at(at), *samples.retraced))
        walked = walk_formulas(trace, samples, names.dims) or walked
        if at is None:
            break
    return samples, walked


def _look_far(
    walked: WalkedFormulas, trace: Trace, samples: SampleSizes, names: InputNames, retracer: Retracer
) -> tuple[SampleSizes, WalkedFormulas]:
    """Trace on both sides of every number of the user's code, where that may clip a size: ``min(x.shape[1], 64)``.

    Of code that is not the user's numbers are not known: where an integer was guessed, a trace at smaller sizes tells.
    Where a formula does not hold there, all are found again from these traces too, and confirmed farther off.
    """
    demands = walked.demands if walked.is_whole else ()
    plan = plan_far_sizes(trace, samples, names, demands, walked.list_caps(samples.base))
    if plan is not None:
        near = plan.near if retracer.at(plan.near).works else plan.small
        tried: list[Sizes] = [near, plan.far]
        later: list[Sizes] = [plan.between, plan.farther, plan.beside]
    elif walked.has_guessed:
        smaller = plan_smaller_sizes(samples, names)
        is_small = [at for at in smaller[:1] if retracer.at(at).works]
        # Where half of it fails, a quarter does.
        larger = smaller[1:] if not is_small and smaller and retracer.at(smaller[-1]).works else []
        tried = is_small or list(islice((at for at in larger if retracer.at(at).works), 1))
        alone = [{**samples.base, **dict.fromkeys(samples.tied_to(name), at[name])} for at in tried for name in at]
        later = [at for at in (*smaller[-1:], *alone) if at not in (samples.base, *tried)]
    else:
        return samples, walked
    found = _trace_at(tried, retracer)
    agrees = _confirm_all(walked, trace, found)
    if not found or (agrees and (walked.is_complete or plan is None)):
        return samples, walked
    others = _trace_at(later, retracer)
    _confirm_all(walked, trace, others)
    return _find_again(walked, trace, samples, names, retracer, found, others)


#: Sizes that are traced to confirm minima where their parts are alike.
_MOST_TURNS = 3


def _confirm_all(walked: WalkedFormulas, trace: Trace, found: Sequence[_Found]) -> bool:
    """Take out what some traces contradict; ``False`` if they contradict any."""
    agree = [walked.confirm(trace, at, there) for at, _, there in found]  # each takes out its own
    return all(agree)


def _find_again(
    walked: WalkedFormulas,
    trace: Trace,
    samples: SampleSizes,
    names: InputNames,
    retracer: Retracer,
    found: Sequence[_Found],
    others: Sequence[_Found],
) -> tuple[SampleSizes, WalkedFormulas]:
    """Find all formulas from more traces too, and confirm them by others.

    The last trace is walked over: what others do not do is read there. All together show what each side does alone.
    """
    before = samples
    is_alike = False  # where sizes were alike in all these traces the others tell
    both = (*others, *found)
    for first, last in ((found, ()), ((), found), *(((both, ()), ((), both)) if others else ())):
        if is_alike and last:
            continue
        more = replace(
            before,
            is_wide=before.is_wide or bool(others),
            sizes=(*(at for at, _, _ in first), *before.sizes, *(at for at, _, _ in last)),
            retraced=(*(there for _, there, _ in first), *before.retraced, *(there for _, there, _ in last)),
        )
        again = walk_formulas(trace, more, names.dims)
        if again is not None:
            _confirm_all(again, trace, others)
            is_alike = bool(others) and bool(again.rivals) and not again.is_complete
            again.contradicted = walked.contradicted  # another branch is no fault of an entry
            if again.num_known >= walked.num_known:
                samples, walked = more, again
        if walked.is_complete:
            break
    turns = [
        {**samples.base, **dict.fromkeys(samples.tied_to(name), at)} for name, at in walked.list_turns(samples.base)
    ]
    _confirm_all(walked, trace, _trace_at(turns[:_MOST_TURNS], retracer))  # x[:, : n - 16] takes some of its end there
    return samples, walked


def _check_lowest(
    walked: WalkedFormulas, trace: Trace, samples: SampleSizes, names: InputNames, retracer: Retracer
) -> tuple[SampleSizes, WalkedFormulas]:
    """Trace just below what operations demand of each side: where that works, the code does otherwise there."""
    demands = Demands(walked.demands, samples.base)
    planned: list[Sizes] = []
    halved: list[Sizes] = []
    for name in samples.free if walked.is_whole else ():
        tied, step = samples.tied_to(name), samples.strides.get(name, 1)
        below = demands.first(tied, step) - step
        if below > 0 and name not in (*samples.windows, names.batch):
            half = below - below // 2 // step * step
            planned.append({**samples.base, **dict.fromkeys(tied, below)})
            halved.append({**samples.base, **dict.fromkeys(tied, half)})
    found = _trace_at(planned, retracer)
    if not _confirm_all(walked, trace, found):
        smaller = _trace_at([*halved, *plan_smaller_sizes(samples, names)[-1:]], retracer)
        _confirm_all(walked, trace, smaller)
        samples, walked = _find_again(walked, trace, samples, names, retracer, found, smaller)
    walked.is_whole = walked.is_whole and not found  # else limits are searched by tracing
    return samples, walked


def _trace_nearby(walked: WalkedFormulas, samples: SampleSizes, names: InputNames, retracer: Retracer) -> list[_Found]:
    """Trace where dims that move a little are some larger, and some smaller, unless operations do not take that."""
    demands = Demands(walked.demands if walked.is_whole else (), samples.base)

    def may_work(at: Sizes) -> bool:
        moved = [name for name, size in at.items() if size != samples.base[name] and name != names.batch]
        refuses = any(not demands.take([name], at[name]) for name in moved)
        return not (refuses and retracer.has_failed_before(at, names.batch))

    found: list[_Found] = []
    for wide, little in plan_nearby_sizes(samples, names):
        pair = wide if may_work(wide[0]) and retracer.at(wide[0]).works else little
        found += _trace_at([at for at in pair if may_work(at)], retracer)
    return found


def _add(samples: SampleSizes, found: _Found) -> SampleSizes:
    return replace(samples, sizes=(*samples.sizes, found[0]), retraced=(*samples.retraced, found[1]))


def _trace_first(sizes: Sequence[Sizes], retracer: Retracer) -> list[_Found]:
    """Trace at the first sizes at which the model runs, if there are some."""
    return next((found for at in sizes if (found := _trace_at([at], retracer))), [])


def _trace_at(sizes: Sequence[Sizes], retracer: Retracer) -> list[_Found]:
    """Trace at sizes; those at which the model does not run are left out."""
    found = [(at, retracer.at(at)) for at in sizes]
    return [(at, there, there.trace) for at, there in found if there.works and there.trace is not None]


def _write_table(table: list[Leaves], write_size: Callable[[Expr], str]) -> list[tuple[Formula | None, ...]]:
    return [tuple(None if dims is None else tuple(map(write_size, dims)) for dims in leaves) for leaves in table]
