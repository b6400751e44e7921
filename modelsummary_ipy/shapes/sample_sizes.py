"""At which other sizes to trace: sizes the model takes, at which different formulas have different values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from modelsummary_ipy.axes.integers import Pair
from modelsummary_ipy.records.retraced import Retraced, Sizes
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.demands import Demands, names_of, read_demands
from modelsummary_ipy.shapes.dim_names import InputNames
from modelsummary_ipy.shapes.multiple_of import MultipleOf
from modelsummary_ipy.shapes.own_checks import meets_weights
from modelsummary_ipy.shapes.planned_sizes import move_by_64, plan_batch, plan_sizes
from modelsummary_ipy.shapes.step_search import LITTLE, StepSearch
from modelsummary_ipy.tracing.retracer import Retracer

#: What is added to the batch itself where it moves a little only.
_LITTLE_BATCH = (2, 5, 3, 9)
#: How many times their size height and width are traced at, where the root of their product is taken.
_SQUARES = ((1, 4, 1, 9), (4, 1, 9, 4))


@dataclass(frozen=True)
class SampleSizes:
    """The sizes that were traced, and what the search for them found.

    Attributes:
        base: The sizes the user gave, by name.
        sizes: The other sizes, by name.
        retraced: What came of each.
        free: Names that move.
        strides: By name, the smallest difference between sizes that work, where that is more than 1.
        capped: Names that work at smaller sizes and not at larger ones.
        tied: Pairs of names that only move together, ``(("H", "W"),)``.
        rigid: Names that work at no other size that was tried.
        checked: Those of them that the model itself compares with the one size it takes.
        narrow: Names of dims that move a little, and failed at a size far off, with that size.
        following: Sizes that are planned beside these and were not traced.
        squares: Pairs of sides whose product must be a square, of patches.
        windows: By name, what must be divisible of a side, other than itself: of patches in windows their number.
        powers: Names of dims that take powers of two.
        linked: Pairs of names of which neither moves far alone, that move in proportion.
        is_wide: Whether they are on both sides of all numbers that the user's code compares with.
        doubted: Pairs of sizes that differ elsewhere: what may be either, as far as the traces tell, is unknown.
    """

    base: Sizes
    sizes: tuple[Sizes, ...] = ()
    retraced: tuple[Retraced, ...] = ()
    free: tuple[str, ...] = ()
    strides: Sizes = field(default_factory=dict)
    capped: frozenset[str] = frozenset()
    tied: tuple[tuple[str, str], ...] = ()
    rigid: tuple[str, ...] = ()
    checked: frozenset[str] = frozenset()
    narrow: Sizes = field(default_factory=dict)
    following: tuple[Sizes, ...] = ()
    is_wide: bool = False
    windows: Mapping[str, tuple[MultipleOf, ...]] = field(default_factory=dict)
    doubted: tuple[Pair, ...] = ()
    squares: tuple[tuple[str, str], ...] = ()
    powers: tuple[str, ...] = ()
    linked: tuple[tuple[str, str], ...] = ()

    @property
    def traces(self) -> tuple[Trace, ...]:
        """The trace at each of the other sizes."""
        return tuple(found.trace for found in self.retraced if found.trace is not None)

    @property
    def steps(self) -> dict[str, int]:
        """By name, what every size that works is a multiple of."""
        return {name: step for name, step in self.strides.items() if self.base[name] % step == 0}

    def is_fixed(self, name: str, names: InputNames) -> bool:
        """Return whether a dim is one of features that moves a little at most, and not with others that are none."""
        is_feature = all(map(names.is_feature, self.tied_to(name)))
        return is_feature and all(sizes[name] < 2 * self.base[name] for sizes in self.sizes)

    def has_tried(self, name: str, size: int) -> bool:
        """Return whether a size was among those that formulas were found at."""
        return any(all(sizes[one] == size for one in self.tied_to(name)) for sizes in self.sizes)

    def tied_to(self, name: str) -> list[str]:
        """Return a dim with those that only move together with it."""
        return _list_tied(self.tied, name)


def _list_tied(tied: Collection[tuple[str, str]], name: str) -> list[str]:
    found = [name]
    for one in found:  # grows: of a step with each two others are as long
        found += [other for pair in tied if one in pair for other in pair if other not in found]
    return found


def choose_sample_sizes(
    retracer: Retracer,
    names: InputNames,
    base: Sizes,
    first: Trace,
    *,
    works_at_one_more: bool,
    most: int = 4,
    shown: Sequence[Sizes] = (),
) -> SampleSizes:
    """Find sizes at which the model runs, that differ in every dim that may move.

    Of a model that fails they are sizes at which it comes about as far: what ran before has formulas too.

    Args:
        first: The trace at these.
        works_at_one_more: Whether it ran at ``B + 1``.
        most: Most sizes at which all dims move together.
        shown: Other sizes that were traced before and worked.
    """
    chooser = _Chooser(retracer, names, base, first, shown)
    chooser.works_at_one_more, chooser.most = works_at_one_more, most
    return chooser.choose() if first.failure is None else chooser.choose_any(len(first.calls))


class _Chooser(StepSearch):
    works_at_one_more: bool
    most: int

    def choose(self) -> SampleSizes:
        if self.works_at_one_more:
            size = self._base[self._batch]
            self._plans[self._batch] = plan_batch(size)
        elif self._batch in self._base:
            self._search([self._batch])
        others = [name for name in self._base if name != self._batch and not self._is_feature(name)]
        wide = plan_sizes(self._names, self._base, others)
        together = {name: plan[0] for name, plan in wide.items()}
        works = self._works_unless_fixed({**self._at(0), **together})
        is_planned = not works and self._follow_demands(others, wide)
        if not (works or is_planned) and self.works_at_one_more and not self._moves_batch():
            self._plans[self._batch] = tuple(self._base[self._batch] + more for more in _LITTLE_BATCH)
            works = self._works({**self._at(0), **together})
        if others and not is_planned:
            if works:
                self._plans.update(wide)
            elif not self._try_square(others, wide):
                self._search_groups(self._link_demanded(others), wide)
        for name in self._base:
            if self._is_feature(name):
                self._try_feature(name)
        self._join_rigid()  # a mask's second dim, or those of edges, has the name of features
        self._link()
        return self._trace_all()

    def _moves_batch(self) -> bool:
        """Return whether the batch may be as large as planned, whatever else moves."""
        is_shown = any(sizes.get(self._batch) == self._plans[self._batch][0] for sizes in self._shown)
        return is_shown or self._works(self._at(0))

    def choose_any(self, num_calls: int) -> SampleSizes:
        """Choose sizes whose traces come as far as the first one, wherever they end."""
        moving = [name for name in self._base if not self._is_feature(name)]
        wide = plan_sizes(self._names, self._base, [name for name in moving if name != self._batch])
        little = {name: tuple(self._base[name] + more for more in LITTLE[turn % 3]) for turn, name in enumerate(moving)}
        for plans in (wide, little):
            self._plans = dict(plans)
            if self._batch in moving:
                self._plans[self._batch] = tuple(self._base[self._batch] + more for more in _LITTLE_BATCH)
            tried = [self._retracer.at(self._at(turn)) for turn in range(4)] if self._plans else []
            if sum(found.trace is not None and len(found.trace.calls) * 2 > num_calls for found in tried) >= 3:
                break
        kept = [turn for turn, found in enumerate(tried) if found.trace is not None]
        sizes = tuple({**self._base, **self._at(turn)} for turn in kept)
        return SampleSizes(self._base, sizes, tuple(tried[turn] for turn in kept), tuple(self._plans))

    # -- when not all sizes work --------------------------------------------------------------------------------------

    def _follow_demands(self, names: list[str], wide: dict[str, tuple[int, ...]]) -> bool:
        """Plan the same in steps, where operations demand some: the sum of a skip connection that its halves fit."""
        demands, base = self._read_demands(), {n: size for n, size in self._base.items() if not self._is_feature(n)}
        if demands is None:
            return False
        steps, tied = {name: demands.step([name]) for name in names}, list[tuple[str, str]]()
        multiples = {name: self._multiples[name] for name in names if name in self._multiples}
        for one, two in itertools.pairwise([name for name in names if not steps[name] and name not in multiples]):
            if base[one] == base[two]:
                steps[one] = steps[two] = demands.step([one, two])
                tied.append((one, two))
        offsets = {  # where not multiples alone are taken: of patches in windows a few sizes in a row
            name: [more for more in range(1, step) if demands.take([name], base[name] + more)]
            for name, step in steps.items()
        }
        windows = {name: demands.multiples(name, steps[name]) for name, more in offsets.items() if more}
        if not all(windows.values()):
            return False
        steps |= {name: math.lcm(steps[name] or 1, step) for name, step in multiples.items()}
        if not all(steps.values()) or set(steps.values()) == {1}:
            return False
        if self._has_hole([name for name, step in steps.items() if step == base[name] > 1]):
            return False
        plans = {
            name: tuple(base[name] + max(round((size - base[name]) / step), 1) * step for size in wide[name])
            for name, step in steps.items()
        }
        used = {size for param in self._first.params for size in param.shape}
        by_64 = move_by_64(self._names, {name: plan[0] for name, plan in wide.items()}, base, used)
        for name, step in steps.items():  # where axes were walked at: traced already
            if (by_64[name] - base[name]) % step == 0:
                rest = [size for size in plans[name] if size != by_64[name]]
                plans[name] = (by_64[name], *rest[-3:])
        for name, step in multiples.items():  # an odd number of steps more: not twice the step alone
            first_size, size, *others = plans[name]
            plans[name] = (first_size, size + step * ((size - base[name]) // step % 2 == 0), *others)
        plans.update({two: plans[one] for one, two in tied})
        for name in windows:  # another part of a step each time
            steps[name] = math.gcd(*offsets[name], steps[name])
            plans[name] = tuple(
                size + (offsets[name] * len(plans[name]))[turn] for turn, size in enumerate(plans[name])
            )
        if not self._works({**self._at(0), **{name: plan[0] for name, plan in plans.items()}}):
            return False
        self._plans.update(plans)
        self._tied += tied
        self._strides.update({name: step for name, step in steps.items() if step > 1})
        for name, found in windows.items():
            self._windows[name] = tuple(each for each in found or () if not each.is_plain)
        return True

    def _read_demands(self) -> Demands | None:
        """Read what operations demand of one another at one more in the batch, if they were all written down."""
        at = {**self._base, **({self._batch: self._base[self._batch] + 1} if self.works_at_one_more else {})}
        ops = self._retracer.at(at).ops
        base = {name: size for name, size in self._base.items() if not self._is_feature(name)}
        return read_demands(ops, self._names.dims, base, at) if ops is not None and ops.is_whole else None

    def _link_demanded(self, names: list[str]) -> list[str]:
        """Move dims of two inputs in proportion where operations demand it: ``⌈H/4⌉ = ⌈H2/2⌉``; return the others."""
        demands, pairs = self._read_demands(), list[tuple[str, str]]()
        for demand in demands.shared if demands is not None else ():
            pair = tuple(name for name in names if name in names_of(demand))
            is_one_leaf = any({*pair} <= {*dims} for dims in self._names.dims)
            if demand.kind == "equal" and len(pair) == 2 == len(names_of(demand)) and not is_one_leaf:
                one, two = pair
                is_free = not any({one, two} & {*other} for other in pairs)
                pairs += [(one, two)] if is_free and self._base[one] != self._base[two] else []
        linked = [name for pair in pairs for name in pair]
        if not linked or not self._works({name: 2 * self._base[name] for name in linked}):
            return names
        for one, two in pairs:
            self._link_pair(one, two)
        return [name for name in names if name not in linked]

    def _try_square(self, names: list[str], wide: dict[str, tuple[int, ...]]) -> bool:
        """Try the same plan with feature maps kept square, where they are square now: some models take a root."""
        square = dict(wide)
        tied: list[tuple[str, str]] = []
        for partner, name in itertools.pairwise(name for name in names if name not in self._fixed):
            roles = self._names.role(partner), self._names.role(name)
            if roles == ("H", "W") and self._base[partner] == self._base[name]:
                square[name] = square[partner]
                tied.append((partner, name))
        if not tied or not self._works({**self._at(0), **{name: plan[0] for name, plan in square.items()}}):
            return False
        if any(self._works({one: square[one][0]}) for one, _ in tied):
            return False  # steps that this size is one of
        if len(tied) == 1 and self._takes_roots(*tied[0]):
            size = self._base[tied[0][0]]
            for name, times in zip(tied[0], _SQUARES, strict=True):
                square[name] = tuple(size * each for each in times)
            self._squares, tied = tied, []
        self._plans.update(square)
        self._tied += tied
        return True

    def _takes_roots(self, height: str, width: str) -> bool:
        """Return whether sides may differ whose product is a square, and an operation demands that it is one."""
        at = {**self._at(0), height: self._base[height], width: 4 * self._base[width]}
        found = self._retracer.at(at)
        if not found.works or found.ops is None or not found.ops.is_whole:
            return False
        base = {name: size for name, size in self._base.items() if not self._is_feature(name)}
        demands = read_demands(found.ops, self._names.dims, base, {**self._base, **at})
        sides = {height, width}
        pairs = [(demand.one, demand.other) for demand in demands.shared if demand.kind == "equal"]
        one = next(
            (one for p in pairs for one, two in (p, p[::-1]) if sides <= one.names and not sides & two.names), None
        )
        if one is None:
            return False
        given, size = one.value(self._base), self._base[width]
        beyond = range(size + 1, 2 * size + 1)
        longer = next((side for side in beyond if one.value({**self._base, width: side}) != given), None)
        # As many rows and one column more: the root of H·(H + 1) divides it too.
        return longer is not None and not self._works({width: longer})

    def _try_feature(self, name: str) -> None:
        """Plan one more, which is what a fixed dim is tried at too; far more where that works: it is no feature."""
        size = self._base[name]
        for plan in (
            (size + 1, size + 3, size + 5, size + 2),
            (2 * size + 37, 3 * size + 41, size + 58, 2 * size + 90),
        ):
            taken = [each[:4] for each in self._plans.values()]
            parted = [more + 4 * any(more in each for each in taken) for more in plan]  # of no other dim's size
            if not self._works_unless_fixed({name: parted[0]}):
                break
            self._plans[name] = tuple(parted)
        if name in self._plans:
            return
        is_exact = name in self._fixed or meets_weights(
            self._first, self._retracer.at({name: parted[0]}), (size, parted[0])
        )
        if not is_exact and size > 1 and self._works({name: 2 * size}):  # windows of it
            step = self._smallest_step([name], size)
            if step > 1 and not (step == size and self._has_hole([name])):
                self._plans[name] = tuple(size + step * count for count in (-(-size // step), 3, 2, 5))
                self._strides[name] = step
                return
        self._rigid.append(name)
        self._checked |= self._fixed & {name}

    # -- the traces ---------------------------------------------------------------------------------------------------

    def _choose_together(self) -> list[dict[str, int]]:
        self._following: list[dict[str, int]] = []
        chosen: list[dict[str, int]] = [{self._batch: self._base[self._batch] + 1}] if self.works_at_one_more else []
        for turn in range(min((len(plan) for plan in self._plans.values()), default=0)):
            if len(chosen) >= self.most:
                self._following.append({**self._base, **self._at(turn)})
            elif self._works(self._at(turn)):
                chosen.append(self._at(turn))
        return chosen

    def _is_moved(self, name: str, kept: Sequence[Sizes]) -> bool:
        return any(sizes[name] != self._base[name] for sizes in kept)

    def _list_near(self, kept: Sequence[Sizes]) -> Iterator[dict[str, int]]:
        """Give a few sizes near the given one, of each dim that has not moved when all that was planned is traced."""
        for name in [name for name in self._plans if not self._is_moved(name, kept)]:
            for more in (3, 1, 2, -1):
                yield dict.fromkeys(_list_tied(self._tied, name), max(self._base[name] + more, 1))

    def _trace_all(self) -> SampleSizes:
        """Trace the planned sizes together; if too few work together, dim by dim."""
        chosen = self._choose_together()
        if len(chosen) < min(3 + self.works_at_one_more, self.most) and self._repair():
            chosen = self._choose_together()
        if len(chosen) < min(3, self.most):
            for name, plan in self._plans.items():
                partners = [two for one, two in self._tied if one == name]
                chosen += [dict.fromkeys([name, *partners], value) for value in plan]
        retraced: list[Retraced] = []
        kept: list[dict[str, int]] = []
        for sizes in itertools.chain(chosen, self._list_near(kept)):
            full = {**self._base, **sizes}
            found = self._retracer.at(full)
            if found.trace is not None and found.works and full not in kept:
                retraced.append(found)
                kept.append(full)
        self._rigid += [name for name in self._plans if not self._is_moved(name, kept) and name not in self._rigid]
        return SampleSizes(
            self._base,
            tuple(kept),
            tuple(retraced),
            tuple(name for name in self._plans if self._is_moved(name, kept)),
            self._strides,
            frozenset(self._capped),
            tuple(self._tied),
            tuple(self._rigid),
            frozenset(self._checked),
            self._narrow,
            tuple(self._following),
            windows=self._windows,
            squares=tuple(self._squares),
            powers=tuple(name for name in self._powers if name in self._plans),
            linked=tuple(self._linked),
        )
