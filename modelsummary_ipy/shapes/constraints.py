"""Which sizes work, as text; every limit was traced on both sides of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.retraced import Sizes, read_condition
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.contradicted import Contradicted
from modelsummary_ipy.shapes.demands import LARGEST
from modelsummary_ipy.shapes.far_sizes import find_bounds, plan_far_sizes
from modelsummary_ipy.shapes.formulas import Formulas, FormulaTable
from modelsummary_ipy.shapes.joint_limits import Parts
from modelsummary_ipy.shapes.multiples import write_besides
from modelsummary_ipy.shapes.own_checks import list_named
from modelsummary_ipy.shapes.rigid_dims import find_others, is_exact
from modelsummary_ipy.shapes.sample_sizes import SampleSizes
from modelsummary_ipy.shapes.size_search import first_true, last_true, prime_factors, smallest_step
from modelsummary_ipy.shapes.tried_sizes import NO_LIMIT, Constraint, join, value_at
from modelsummary_ipy.tracing.retracer import Retracer

_RECURRENT = names_of("recurrent", "recurrent cell")
_BATCH_NORMS = names_of("batch norm")


def find_constraints(trace: Trace, formulas: Formulas) -> tuple[Constraint, ...]:
    """Find which sizes work.

    Returns:
        In this order: multiples, equal dims, limits above and below, fixed dims, the batch.
    """
    if formulas.retracer is None or formulas.samples is None or trace.failure is not None:
        return ()
    with collector_paused():
        retracer = formulas.retracer.asking_ends()
        finder = _Finder(trace, formulas, retracer, formulas.samples)
        found = {limit.text: limit for limit in finder.find()}  # two tables may ask for the same
        return finder.weaken(list(found.values()))


#: How often a size is doubled that is to be beyond the end of a table.
_MOST_DOUBLINGS = 4
#: What is added to one side of a map whose product with the other has a root: of pixels, or of patches.
_LONGER = (1, 2, 4, 8, 16)


class _Finder(Contradicted):
    def __init__(self, trace: Trace, formulas: Formulas, retracer: Retracer, samples: SampleSizes) -> None:
        super().__init__(trace, formulas, retracer, samples)
        self._texts = _distinct_texts((formulas.outputs, formulas.inputs))
        self._limits: list[int] = []  # upper ones, as they are found

    def find(self) -> Iterable[Constraint]:
        self._parts = tuple(self.find_parts())
        yield from self.find_multiples()
        yield from self.find_windows()
        yield from self.find_powers()
        for one, two in (*self._samples.tied, *self._samples.squares):
            if any({one, two} <= parts.product.names for parts in self._parts):
                continue
            alone = [{one: sizes[one]} for sizes in self._samples.sizes if sizes[one] != self._base[one]]
            fails = [sizes for sizes in alone if self._fails(sizes)]
            if not fails and (one, two) in self._samples.squares:  # one that is 4 or 16 times the other has a root too
                longer = ({two: self._base[two] + more} for more in _LONGER)
                fails = [sizes for sizes in longer if self._fails(sizes)][:1]
            if fails and (len(fails) == len(alone) or self._names.is_spatial(one)):
                runs = any(self._works(sizes) for sizes in alone)
                some = " or few others" if runs else self._write_besides_equal(one, two)
                yield self._build(f"{one} = {two}{some}", fails[0])
        upper = self._find_upper_limits()
        lower, smallest_batch = self._find_lower_limits(upper)
        yield from self.find_linked()
        yield from self.find_shared(lower, upper)
        for names, limit in self.find_totals(upper):
            yield limit
            upper = {name: size for name, size in upper.items() if name not in names}
        if self._demands is None and not upper:
            for name, scattered in self.find_scattered(dict(lower), self._texts):
                del lower[name]
                yield from [scattered] if scattered is not None else []
        yield from self._write_limits(lower, upper)
        yield from self.find_together(lower)
        yield from smallest_batch
        for name in self._samples.rigid:
            yield from self._find_fixed(name)

    def _write_besides_equal(self, one: str, two: str) -> str:
        """Write where two dims that move together may differ: a root is taken, or one of them is broadcast."""
        if self._names.is_spatial(one):
            return " or few others" if self._works({two: 4 * self._base[two]}) else ""
        ones = [name for name in (one, two) if self._works({name: 1})]
        return ("", f" or {''.join(ones)} = 1", " or one of them 1")[len(ones)]

    # -- limits -------------------------------------------------------------------------------------------------------

    def _write_limits(self, lower: Sizes, upper: Sizes) -> Iterable[Constraint]:
        """Write ``62 ≤ H ≤ 65``; dims with the same limits in one, unless each may be smaller too."""
        groups: dict[tuple[int | None, int | None, Parts | None, str], list[str]] = {}
        for name in self._base:
            parts = next((each for each in self._parts if name in each.product.names), None)
            low, high = lower.get(name), upper.get(name)
            if low is not None or high is not None:
                below = self._write_below(name, low) if low is not None and parts is None else ""
                groups.setdefault((low, high, parts, below), []).append(name)
        written: list[Parts] = []
        for (low, high, parts, below), names in groups.items():
            what, name = join(names), names[0]
            outside = [] if high is None else [{name: high + self._step(name)}]
            outside += [] if low is None else [{name: low - self._step(name)}]
            if high is None:
                text = f"{what} ≥ {low}"
            else:
                text = f"{what} ≤ {high}" if low is None else f"{low} ≤ {', '.join(names)} ≤ {high}"
            if parts is not None:
                text = (f"{text} or " if isinstance(parts.by, int) and parts.by else "") + parts.write(list(self._base))
                written.append(parts)
            is_left = high is not None and parts is None and self.has_other_factors(names, upper, lower)
            if is_left or (parts is None and any(map(self._works, outside))):  # 27 rows where 28 are as many samples
                text += " or few others"
            if high is not None and (condition := read_condition(self._retracer.at(outside[0]).reason)):
                text += f" where {condition}"
            alone = names if parts is None else ()
            ranges = {name: _build_range(self._step(name), low, high) for name in alone}
            yield self._build(below + text, *outside, ranges=ranges)
            least = 1 if parts is None else self.find_least(parts, name)
            if least > 1:
                yield self._build(f"{what} ≥ {least}", {name: least - 1})
        for parts in self._parts:
            if parts not in written:
                yield self._build(parts.write(list(self._base)), self.find_left(parts))

    def _write_below(self, name: str, low: int) -> str:
        """Write the sizes that work below a limit: a map of one position is broadcast over a table of more."""
        step = self._step(name)
        first = self._smallest_by_formula(name)
        if first < low and self._is_broadcast(name, first) and self._works(self._with_partner(name, first)):
            last = self._last_in_steps(name, first, low, step)
            one = self._with_partner(name, 1)
            runs = [(1, 1)] * (first > step == 1 and self._works(one)) + [(first, last)]
            ends = {size: self._is_as_written(self._with_partner(name, size)) for run in runs for size in run}
            return write_besides(name, tuple((low, high, ends[low] and ends[high]) for low, high in runs))
        below = range(low % step or step, low - step, step)
        smallest = first if first < low else min(below, default=low)
        if self._fails_alike(self._with_partner(name, smallest), self._with_partner(name, low - step)):
            return ""
        return write_besides(name, self._find_besides(name, step, below, lambda _: False))

    def _is_broadcast(self, name: str, size: int) -> bool:
        return self._demands is None or self._demands.may_be_broadcast(self._samples.tied_to(name), size)

    def _fails_alike(self, one: dict[str, int], other: dict[str, int]) -> bool:
        """Return whether the model fails at two sizes at the same line of the same call: so it does between them."""
        traces = [self._retracer.at(sizes).trace for sizes in (one, other)]
        first, last = (None if trace is None else trace.failure for trace in traces)
        return first is not None and first.is_like(last)

    def _find_upper_limits(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in self._samples.free:
            limit = self._find_upper_limit(name) if self._may_end(name) else None
            if limit is None or not (
                self._samples.has_tried(name, limit) or self._works(self._with_partner(name, limit))
            ):
                continue
            if self._fails(self._with_partner(name, limit + self._step(name))):
                found[name] = limit
                self._limits.append(limit)
        return found

    def _find_upper_limit(self, name: str) -> int | None:
        base, is_capped = self._base[name], name in self._samples.capped
        if is_capped and not self._works(self._with_partner(name, base + self._step(name))):
            return base
        if self._demands is not None:
            names, step = self._samples.tied_to(name), self._step(name)
            limit = self._demands.last(names, step)
            if limit is not None and self._works(self._with_partner(name, limit + step)):
                self._demands.drop(names, limit + step)
                limit = self._demands.last(names, step)
            return self._search_table(name) or self._search_in_code(name) if limit is None else limit
        if self._names.is_spatial(name):
            far = self._samples.narrow.get(name, 2 * base if is_capped else 0)
            return self._search_map_limit(name, far) if far and not self._works({name: far}) else None
        return None if _unrolls(self._trace, self._samples.traces) else self._search_limit(name)

    def _search_table(self, name: str) -> int | None:
        """Find the last size whose places are in a table, where how they are counted is not known: in logarithms."""
        base, step = self._base[name], self._step(name)
        end = None if self._walked is None else self._walked.predict_end(name, base)
        if end is None:
            return None
        likely = base + (end - base) // step * step
        works, fails = base, likely + step
        for _ in range(_MOST_DOUBLINGS):
            if fails > LARGEST:
                return None
            if not self._works(self._with_partner(name, fails)):
                return self._last_between(name, works, [likely] if works < likely else [], fails)
            works, fails = fails, 2 * fails - base + step
        return None

    def _search_in_code(self, name: str) -> int | None:
        """Find the last size that code takes which compares sizes: ``assert x.shape[1] <= 37``.

        Of code that is not the user's, numbers are not known; a side that failed far off has an end before.
        """
        plan = plan_far_sizes(self._trace, self._samples, self._names, ())
        if plan is not None and self._names.is_spatial(name) and self._works(dict(plan.far)):
            return None  # a map that is larger than all numbers, traced already
        far = plan.far[name] if plan is not None else self._samples.narrow.get(name, self._base[name])
        if self._works(self._with_partner(name, far)):
            return None
        base, step = self._base[name], self._step(name)
        ends = {*find_bounds(self._trace), *self._limits}  # where another dim ended too
        likely = sorted(size for size in ends if base < size < far and (size - base) % step == 0)
        return self._last_between(name, base, likely, far)

    def _search_map_limit(self, name: str, fails: int) -> int | None:
        """Find the last size of a feature map that works: mostly the last at which some dim is as at the given size.

        A layer that takes one size only (a linear layer after a flatten) ends there; few sizes come into question.
        """
        base, step = self._base[name], self._step(name)
        sizes = range(base, base + (fails - base) // step * step, step)
        known = {_last_alike(self._base, name, text, sizes) for text in self._texts if name in text}
        ends = sorted(size for size in known if base <= size < fails)
        for size in (size for size in self._limits if size in ends):  # where another dim of the feature map ended
            if self._works({name: size}) and not self._works({name: size + step}):
                return size
        return self._last_between(name, base, ends, fails)

    def _search_limit(self, name: str) -> int | None:
        """Find the size of a table that ends the sequence: among the sizes of parameters and settings."""
        size, step = self._base[name], self._step(name)
        found = {dim for param in self._trace.params for dim in param.shape}
        for fact in self._trace.modules:
            found |= {v for v in fact.settings.values() if type(v) is int}
        known = sorted(dim for dim in found if size < dim <= LARGEST and (dim - size) % step == 0)
        far = known[-1] + step if known else size
        if not known or self._works({name: far}):
            return None
        likely = far - self._retracer.at({name: far}).overrun
        if size <= likely < far and (likely - size) % step == 0 and self._works({name: likely}):
            return likely
        return self._last_between(name, size, known, far)

    def _last_between(self, name: str, works: int, likely: list[int], fails: int) -> int:
        """Find the last size that works between one that does and one that doesn't, mostly one of the likely ones."""
        step = self._step(name)
        found = last_true(likely, lambda size: self._works({name: size})) or works
        beyond = next((size for size in likely if size > found), fails)
        return self._last_in_steps(name, found, beyond, step) if self._works({name: found + step}) else found

    def _find_lower_limits(self, upper: Sizes) -> tuple[dict[str, int], list[Constraint]]:
        """Try the smallest sizes that leave nothing empty, all together first: mostly they work.

        Returns:
            The limits by name, and what was found of the batch.
        """
        names = [name for name in self._samples.free if self._may_end(name)]
        lowest = {name: self._find_smallest(name) for name in names}
        for one, two in self._samples.tied:
            if one in lowest and two in lowest:  # the batch may be one of them
                lowest[one] = lowest[two] = max(lowest[one], lowest[two])
        batch_name = self._names.batch
        batch = {batch_name: self._step(batch_name)} if batch_name in self._samples.free else {}
        # What operations demand of a map with an upper limit was read off a few sizes: smaller ones are tried.
        if self._demands is not None and not any(self._names.is_spatial(name) for name in upper):
            likely = {**lowest, **{name: self._find_smallest(name) for name in batch}}
            if all(size <= self._step(name) for name, size in likely.items()) and not self._leaves_empty(likely):
                return {}, []  # no operation demands more
        smallest_batch: list[Constraint] = []
        # In train mode a batch norm takes no single sample of which each channel has a single value: apart at once.
        apart = bool(names and batch) and any(f.training and f.type_name in _BATCH_NORMS for f in self._trace.modules)
        if any(lowest.items() <= sizes.items() for sizes in self._samples.sizes):  # at another batch
            together = apart or not batch or self._works(batch)
        else:
            together = self._works(lowest if apart else {**lowest, **batch})
        if batch and (apart or not together) and not self._works(batch):
            smallest_batch = list(self._find_smallest_batch(batch_name, batch[batch_name]))
        together = together or self._works(lowest)
        if together and self._demands is None and not self._work_apart(lowest):
            together, lowest = False, {name: max(size, 2) for name, size in lowest.items()}  # 1 may be broadcast
        if not together:
            named = list_named(self._retracer.at(lowest))
            lows: list[int] = []  # of other dims, as they are found
            for name in names:
                base, step = self._base[name], self._step(name)
                ends = dict.fromkeys([*lows, *(size for number in named for size in (number * step, number))])
                low = next((size for size in ends if lowest[name] < size and self._is_lowest(name, size)), 0)
                if not low and not self._works(self._with_partner(name, lowest[name])):
                    low = self._last_in_steps(name, base, lowest[name], -step)
                if low:
                    lowest[name] = low
                    lows.append(low)
        found: dict[str, int] = {}
        for name in names:
            low, step = lowest[name], self._step(name)
            if not (together or self._works(self._with_partner(name, low))):
                continue
            if low > step and self._works(self._with_partner(name, low - step)):
                low = self._search_below(name, low - step)
            if low > step and self._fails(self._with_partner(name, low - step)):
                found[name] = min(low, self._smallest.get(name, low))
        return found, smallest_batch

    def _work_apart(self, lowest: Sizes) -> bool:
        """Return whether the dims of each input may be as small with those of others as they are."""
        groups = [{name: max(lowest[name], 2) for name in dims if name in lowest} for dims in self._names.dims]
        return len([group for group in groups if group]) < 2 or all(map(self._works, groups))

    def _search_below(self, name: str, works: int) -> int:
        """Find the smallest size that works, below one where the code does otherwise than operations that were read."""
        step = self._step(name)
        first = works % step or step
        if self._works(self._with_partner(name, first)):
            return first
        return self._last_in_steps(name, works, first, -step)

    def _leaves_empty(self, sizes: Sizes) -> bool:
        """Return whether some dim of a leaf is 0, or less."""
        return any(value_at(text, {**self._base, **sizes}) < 1 for text in self._texts)

    def _is_lowest(self, name: str, size: int) -> bool:
        """Return whether a size is the smallest that works, as of another dim: mostly it is that of both sides."""
        base, step = self._base[name], self._step(name)
        is_below = size <= base and (base - size) % step == 0
        below, at = (self._with_partner(name, each) for each in (size - step, size))
        return is_below and not self._works(below) and self._works(at)

    def _find_smallest(self, name: str) -> int:
        if self._demands is not None:
            return self._demands.first(self._samples.tied_to(name), self._step(name))
        return self._smallest_by_formula(name)

    def _smallest_by_formula(self, name: str) -> int:
        """Find the smallest size at which no dim of any leaf is empty, all else as the user gave it."""
        step = self._step(name)
        texts = [text for text in self._texts if name in text]

        def is_whole(size: int) -> bool:
            sizes = {**self._base, name: size}
            return all(value_at(text, sizes) >= 1 for text in texts)

        base = self._base[name]
        return first_true(range(base % step or step, base, step), is_whole) or base

    # -- the batch and what is fixed ----------------------------------------------------------------------------------

    def _find_smallest_batch(self, name: str, tried: int) -> Iterable[Constraint]:
        if not self._fails({name: tried}) or tried != 1:
            return
        base = self._base[name]
        if any(self._fails({name: base + more}) for more in (2, 3)):
            yield self._build(f"{name} = {base} or few others", {name: tried})
            return
        smallest = next((size for size in (2, 3, 4) if self._works({name: size})), None)
        if smallest is None:
            return
        between = range(base - 1, smallest, -1) if self._demands is not None else ()
        refused = next((size for size in between if self._demands and not self._demands.take([name], size)), 0)
        if refused and self._fails({name: refused}):
            yield self._build(f"{name} ≥ {refused + 1} or few others", {name: refused})
            return
        training = any(fact.training for fact in self._trace.modules)
        works_in_eval = training and self._retracer.at({name: tried}, training=False).works
        text = f"{name} > {smallest - 1}{' in train mode' if works_in_eval else ''}"
        yield self._build(text, {name: smallest - 1}, ranges={name: range(smallest, NO_LIMIT)})

    def _find_fixed(self, name: str) -> Iterable[Constraint]:
        size = self._base[name]
        around = [{name: size + 1}]
        if not is_exact(name, self._trace, self._samples, self._retracer) and size > 1:
            around.append({name: size - 1})
        if not all(self._fails(sizes) for sizes in around):
            return
        others = find_others(name, self._trace, self._samples, self._retracer)
        if 2 * size in others:  # windows of it
            step = smallest_step(size, lambda more: self._works({name: size + more}))
            has_less = any(self._works({name: size + step // prime}) for prime in prime_factors(step))
            if not self._works({name: size + 2 * step}):
                yield self._build(f"{name} = {size} or few others", around[0])
            elif not has_less:
                yield self._build(f"{name} divisible by {step}", around[0], ranges={name: range(step, NO_LIMIT, step)})
            return
        yield self._build(" or ".join([f"{name} = {size}", *map(str, others)]), around[0])


def _build_range(step: int, low: int | None, high: int | None) -> range:
    """Return the sizes between two limits, in steps from either; ``None`` is no limit."""
    start = low if low is not None else (high or step) % step or step
    return range(start, NO_LIMIT if high is None else high + 1, step)


def _unrolls(trace: Trace, others: Iterable[Trace]) -> bool:
    """Return whether a longer sequence is more work even without numbers: then 30,000 steps are not tried."""
    if any(call.type_name in _RECURRENT for call in trace.calls):
        return True
    return any(len(other.calls) > len(trace.calls) * 1.2 + 10 for other in others)


def _distinct_texts(tables: Sequence[FormulaTable]) -> list[str]:
    found: dict[str, None] = {}
    seen: set[object] = set()
    for table in tables:
        for leaves in table.values():
            for formula in leaves:
                if formula is not None and formula not in seen:
                    seen.add(formula)
                    found.update(dict.fromkeys(formula))
    return [text for text in found if not text.isdigit()]


def _last_alike(base: Sizes, name: str, text: str, sizes: range) -> int:
    """Return the last size, from the given one on, at which a dim has the value that it has there."""
    value = value_at(text, base)
    return last_true(sizes, lambda size: value_at(text, {**base, name: size}) == value) or base[name]
