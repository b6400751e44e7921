"""The search for formulas: at which sizes a model is traced again until they predict every size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

from modelsummary_ipy.records.retraced import Retraced, Sizes
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.demands import Demands
from modelsummary_ipy.shapes.dim_names import InputNames
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
from modelsummary_ipy.shapes.walked_formulas import WalkedFormulas, walk_formulas
from modelsummary_ipy.tracing.retracer import Retracer

#: Sizes, and what came of a trace there.
_Found: TypeAlias = "tuple[Sizes, Retraced, Trace]"
#: At how many sizes the model is tried where two sizes differ that were alike in all traces.
_MOST_PARTING = 3
#: Sizes that are traced to confirm minima where their parts are alike.
_MOST_TURNS = 3


class FormulaSearch:
    """Traces a model at more sizes until its formulas predict the size of every tensor in all of them.

    Attributes:
        samples: At which sizes it was traced, and what is known of the dims.
        is_cut_short: Whether the time ended before it was known which dims may move.
    """

    def __init__(self, names: InputNames, trace: Trace, retracer: Retracer, base: Sizes) -> None:
        """Begin a search.

        Args:
            names: Of the input's dims.
            trace: The first trace.
            retracer: Traces the model again.
            base: The sizes of the first trace, by name.
        """
        self.names = names
        self.trace = trace
        self.retracer = retracer
        self.samples = SampleSizes(base)
        self.is_cut_short = False

    def run(self, *, works_at_one_more: bool) -> WalkedFormulas | None:
        """Return the formulas; ``None`` where the model can't be traced at enough sizes, or operations are missing."""
        names, trace, retracer, base = self.names, self.trace, self.retracer, self.samples.base
        walked, chosen = None, self.samples
        shown = tuple(at for at, works in retracer.tried if works)
        needs_remainders = False  # then all further rounds begin with them
        for most in (2, 3, 4):  # the more traces, the more integers show whose size they are
            more = choose_sample_sizes(
                retracer, names, base, trace, works_at_one_more=works_at_one_more, most=most, shown=shown
            )
            if retracer.budget.time.ended:
                self.is_cut_short = walked is None
                break
            if walked is not None and (more.sizes, more.following) == (chosen.sizes, chosen.following):
                continue  # no more traces can be made, as of a model that fails
            chosen = self.samples = more
            if walked is None or not needs_remainders:
                walked = self._walk()
                needs_remainders = walked is not None and walked.needs_remainders
            if needs_remainders:
                for num in (2, 3) if most == 2 else (3,):  # where two are enough the third one confirms it
                    self._add_remainders(more, most=num)
                    walked = self._walk()
                    if walked is not None and walked.is_complete:
                        break
            if walked is not None and walked.rivals:
                walked = self._part_rivals(walked)
            if walked is not None and walked.is_complete and not walked.is_structural:
                walked = self._confirm(walked)
            if walked is not None and walked.is_complete:
                break
        if walked is not None and walked.is_loose and not walked.is_complete and self.samples == chosen:
            self._add_remainders(chosen)
            walked = self._walk()
        return None if walked is None else self._check(walked)

    def _check(self, walked: WalkedFormulas) -> WalkedFormulas:
        """Check the formulas where code may do otherwise: far off, at the lowest sizes, nearby; find them again."""
        walked = self._check_lowest(self._look_far(walked))
        nearby = self._trace_nearby(walked)
        if not self._confirm_all(walked, nearby):
            demands, is_whole = walked.demands, walked.is_whole
            walked = self._find_again(walked, nearby, [])
            if not (is_whole and walked.is_whole):  # limits are confirmed by traces
                walked.demands, walked.is_whole = demands, is_whole
        if walked.cuts(self.names.batch):  # of graphs these are their nodes: max(2, int(0.8 * nodes)) are kept
            few = self._trace_at([{**self.samples.base, self.names.batch: few} for few in (2, 3)])
            walked.is_whole = self._confirm_all(walked, few) and walked.is_whole
        name_rigid(walked, self.trace, self.samples, self.names, self.retracer)
        return walked

    def _walk(self, samples: SampleSizes | None = None) -> WalkedFormulas | None:
        return walk_formulas(self.trace, samples or self.samples, self.names.dims)

    def _confirm(self, walked: WalkedFormulas) -> WalkedFormulas:
        """Trace once more where two traces show all: at the longest sequences that work, which are to be tried anyway.

        What that trace contradicts is found again from it too, and confirmed by the one after it.
        """
        names, samples = self.names, self.samples
        moving = [name for name in samples.free if name != names.batch]
        if len(samples.sizes) < 2 or not moving or not samples.following:
            return walked
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
        for each in self._trace_first(likely):
            self._add(each)
            if self._confirm_all(walked, [each]):
                break
            again = self._walk()
            if again is None or not again.is_complete or again.needs_remainders:
                break
            for other in self._trace_first(likely[likely.index(each[0]) + 1 :]):
                self._add(other)
                walked = again
                self._confirm_all(walked, [other])
        return walked

    def _add_remainders(self, samples: SampleSizes, *, most: int = 3) -> None:
        """Trace where sizes leave other remainders: what is padded to a multiple shows which one it is.

        Args:
            samples: What was traced before.
            most: At how many sizes; those that are left are the first to confirm what is found.
        """
        unrolls = any(len(other.calls) > len(self.trace.calls) * 1.2 + 10 for other in samples.traces)
        free = [name for name in samples.free if not samples.is_fixed(name, self.names)]
        planned = [
            plan_remainders(self.names, samples.base, free, samples.steps, samples.tied, far=far)
            for far in ((False,) if unrolls else (True, False))
        ]
        each_turn = list(zip(*planned, strict=True))
        tried = [next((at for at in turn if self.retracer.at(at).works), turn[0]) for turn in each_turn[:most]]
        found = self._trace_at(tried)
        self.samples = replace(
            samples,
            sizes=(*(at for at, _, _ in found), *samples.sizes),
            retraced=(*(there for _, there, _ in found), *samples.retraced),
            following=(*(turn[0] for turn in each_turn[most:]), *samples.following),
        )

    def _part_rivals(self, walked: WalkedFormulas) -> WalkedFormulas:
        """Trace where sizes differ that were alike in all traces, or leave unknown what may be either."""
        for _ in self.samples.free:
            samples = self.samples
            planned = plan_parting_sizes(samples, self.names, walked.rivals)
            if not planned:
                break
            at = next((at for at in planned[:_MOST_PARTING] if self.retracer.at(at).works), None)
            if at is None:
                parted = [pair for pair in walked.rivals if any(is_parted(pair, at) for at in planned)]
                # A size that is a number wherever the model runs is that number.
                self.samples = replace(
                    samples, doubted=tuple(pair for pair in parted if pair[0].constant_value is None)
                )
            else:
                sizes, retraced = (at, *samples.sizes), (self.retracer.at(at), *samples.retraced)
                self.samples = replace(samples, sizes=sizes, retraced=retraced)
            walked = self._walk() or walked
            if at is None:
                break
        return walked

    def _look_far(self, walked: WalkedFormulas) -> WalkedFormulas:
        """Trace on both sides of every number of the user's code, where that may clip a size: ``min(x.shape[1], 64)``.

        Of code that is not the user's numbers are not known: where an integer was guessed, smaller sizes tell. Where a
        formula does not hold there, all are found again from these traces too, and confirmed farther off.
        """
        names, retracer, samples = self.names, self.retracer, self.samples
        demands = walked.demands if walked.is_whole else ()
        plan = plan_far_sizes(self.trace, samples, names, demands, walked.list_caps(samples.base))
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
            return walked
        found = self._trace_at(tried)
        agrees = self._confirm_all(walked, found)
        if not found or (agrees and (walked.is_complete or plan is None)):
            return walked
        others = self._trace_at(later)
        self._confirm_all(walked, others)
        return self._find_again(walked, found, others)

    def _find_again(self, walked: WalkedFormulas, found: Sequence[_Found], others: Sequence[_Found]) -> WalkedFormulas:
        """Find all formulas from more traces too, and confirm them by others.

        The last trace is walked over: what others do not do is read there. All together show what each side does alone.
        """
        before = self.samples
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
            again = self._walk(more)
            if again is not None:
                self._confirm_all(again, others)
                is_alike = bool(others) and bool(again.rivals) and not again.is_complete
                again.contradicted = walked.contradicted  # another branch is no fault of an entry
                if again.num_known >= walked.num_known:
                    self.samples, walked = more, again
            if walked.is_complete:
                break
        turns = [
            {**before.base, **dict.fromkeys(before.tied_to(name), at)} for name, at in walked.list_turns(before.base)
        ]
        self._confirm_all(walked, self._trace_at(turns[:_MOST_TURNS]))  # x[:, : n - 16] takes some of its end there
        return walked

    def _check_lowest(self, walked: WalkedFormulas) -> WalkedFormulas:
        """Trace just below what operations demand of each side: where that works, the code does otherwise there."""
        names, samples = self.names, self.samples
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
        found = self._trace_at(planned)
        if not self._confirm_all(walked, found):
            smaller = self._trace_at([*halved, *plan_smaller_sizes(samples, names)[-1:]])
            self._confirm_all(walked, smaller)
            walked = self._find_again(walked, found, smaller)
        walked.is_whole = walked.is_whole and not found  # else limits are searched by tracing
        return walked

    def _trace_nearby(self, walked: WalkedFormulas) -> list[_Found]:
        """Trace where dims that move a little are some larger, and some smaller, unless operations do not take that."""
        names, samples = self.names, self.samples
        demands = Demands(walked.demands if walked.is_whole else (), samples.base)

        def may_work(at: Sizes) -> bool:
            moved = [name for name, size in at.items() if size != samples.base[name] and name != names.batch]
            refuses = any(not demands.take([name], at[name]) for name in moved)
            return not (refuses and self.retracer.has_failed_before(at, names.batch))

        found: list[_Found] = []
        for wide, little in plan_nearby_sizes(samples, names):
            pair = wide if may_work(wide[0]) and self.retracer.at(wide[0]).works else little
            found += self._trace_at([at for at in pair if may_work(at)])
        return found

    def _add(self, found: _Found) -> None:
        sizes, retraced = (*self.samples.sizes, found[0]), (*self.samples.retraced, found[1])
        self.samples = replace(self.samples, sizes=sizes, retraced=retraced)

    def _trace_first(self, sizes: Sequence[Sizes]) -> list[_Found]:
        """Trace at the first sizes at which the model runs, if there are some."""
        return next((found for at in sizes if (found := self._trace_at([at]))), [])

    def _trace_at(self, sizes: Sequence[Sizes]) -> list[_Found]:
        """Trace at sizes; those at which the model does not run are left out."""
        found = [(at, self.retracer.at(at)) for at in sizes]
        return [(at, there, there.trace) for at, there in found if there.works and there.trace is not None]

    def _confirm_all(self, walked: WalkedFormulas, found: Sequence[_Found]) -> bool:
        """Take out what some traces contradict; ``False`` if they contradict any."""
        agree = [walked.confirm(self.trace, at, there) for at, _, there in found]  # each takes out its own
        return all(agree)
