"""In which steps sizes work, where not all do: dims changed together or one by one, a little or by whole windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from modelsummary_ipy.records.retraced import Sizes
from modelsummary_ipy.records.trace import Source, Trace
from modelsummary_ipy.shapes.dim_names import InputNames
from modelsummary_ipy.shapes.multiple_of import MultipleOf, in_patches
from modelsummary_ipy.shapes.own_checks import RAISES, find_fixed, find_steps, meets_weights
from modelsummary_ipy.shapes.planned_sizes import plan_sizes
from modelsummary_ipy.shapes.size_search import last_true, prime_factors, smallest_step
from modelsummary_ipy.tracing.retracer import Retracer

#: What is added, in steps, to a size that moves in steps or a little only; neighbours take different rows.
LITTLE = ((1, 3, 2, 5), (2, 1, 5, 3), (3, 2, 1, 4))
#: Steps that are tried besides the size's own divisors: what works may be 64·k + 1.
_OTHER_STEPS = (64,)


class StepSearch:
    """Finds out which dims move, and in which steps; what is found is kept for the sizes that are chosen.

    Args:
        first: The trace at the given sizes.
        shown: Other sizes that were traced before and worked.
    """

    def __init__(
        self, retracer: Retracer, names: InputNames, base: Sizes, first: Trace, shown: Sequence[Sizes] = ()
    ) -> None:
        self._retracer = retracer
        self._names = names
        self._base = dict(base)
        self._first = first
        self._shown = shown
        self._batch = names.batch
        self._is_feature = names.is_feature
        self._is_spatial = names.is_spatial
        self._strides: dict[str, int] = {}
        self._capped: set[str] = set()
        self._rigid: list[str] = []
        self._checked: set[str] = set()
        #: Those that the model's own code compares with its settings: no other size is looked for.
        self._fixed: frozenset[str] = frozenset()
        #: What it takes multiples of alone, as far as its own code says.
        self._multiples: dict[str, int] = {}
        self._tied: list[tuple[str, str]] = []
        #: Those that move in proportion.
        self._linked: list[tuple[str, str]] = []
        self._plans: dict[str, tuple[int, ...]] = {}
        self._narrow: dict[str, int] = {}
        self._little: dict[str, int] = {}
        self._squares: list[tuple[str, str]] = []
        self._powers: list[str] = []
        self._windows: dict[str, tuple[MultipleOf, ...]] = {}

    def _works(self, sizes: Sizes) -> bool:
        return self._retracer.at(sizes).works

    def _works_unless_fixed(self, sizes: Sizes) -> bool:
        """Trace, and note which of these sizes the model's own code takes no other of, or multiples alone."""
        found, at = self._retracer.at(sizes), {**self._base, **sizes}
        self._fixed |= {name for name in find_fixed(found, at) if at[name] != self._base[name]}
        self._multiples |= {name: step for name, step in find_steps(found, at).items() if self._base[name] % step == 0}
        return found.works

    def _find_shown(self, names: list[str], step: int = 1) -> Sizes | None:
        """Return sizes that were traced and worked, at which all of some dims are larger by multiples of a step."""
        for at in self._shown:
            more = [at.get(name, self._base[name]) - self._base[name] for name in names]
            if all(each > 0 and each % step == 0 for each in more):
                return at
        return None

    def _at(self, turn: int) -> dict[str, int]:
        return {name: plan[turn] for name, plan in self._plans.items()}

    def _search_groups(self, names: list[str], wide: dict[str, tuple[int, ...]]) -> None:
        """Find out which dims move, and in which steps: the dims of one feature map together, every other by itself."""
        groups: dict[str, list[str]] = {}
        for name in names:
            leaf = next((leaf for leaf, dims in enumerate(self._names.dims) if name in dims), 0)
            groups.setdefault(f"map {leaf}" if self._is_spatial(name) else name, []).append(name)
        for group in groups.values():
            is_free = len(groups) > 1 and not self._fixed & {*group}
            if is_free and self._works({name: wide[name][0] for name in group}):
                self._plans.update({name: wide[name] for name in group})
            elif not self._search(group) and len(group) > 1:
                for name in group:
                    alone = ({name: size} for size in (self._base[name] + 1, wide[name][0]))
                    if not self._fixed & {name} and all(map(self._works, alone)):
                        self._plans[name] = wide[name]
                    else:
                        self._search([name], quickly=True)
        self._join_rigid()

    def _join_rigid(self) -> None:
        """Move dims of several inputs together that are as long and move in none of them alone."""
        movable = [name for name in self._rigid if name not in self._checked]
        alike = [[name for name in movable if self._base[name] == size] for size in {self._base[n]: 0 for n in movable}]
        groups = [list(pair) for names in alike for pair in itertools.combinations(names, 2)]
        for group in [*groups, *(names for names in alike if len(names) > 2)]:
            size = self._base[group[0]]
            if {*group} <= {*self._rigid} and self._works(dict.fromkeys(group, size + 1)):
                self._rigid = [name for name in self._rigid if name not in group]
                self._keep_little(group, 1, are_tied=True)
                wide = plan_sizes(self._names, self._base, group[:1])[group[0]]
                if self._works(dict.fromkeys(group, wide[0])):
                    self._plans.update(dict.fromkeys(group, wide))

    def _link(self) -> None:
        """Move dims of two inputs in proportion of which neither moves far alone: frames, and samples of sound."""
        base, leaves = self._base, self._names.dims
        stiff = [name for name in base if name in {*self._rigid, *self._narrow, *self._capped} - self._checked]
        for one, two in itertools.combinations(stiff, 2):
            if any({one, two} <= {*names} for names in leaves) or any({one, two} & {*pair} for pair in self._linked):
                continue
            if not {one, two} & {*self._rigid} or any(map(self._meets_weights, (one, two))):
                continue
            if self._works({name: 2 * base[name] for name in (one, two)}):
                self._link_pair(one, two)
                for name in (one, two):
                    self._rigid = [each for each in self._rigid if each != name]
                    for found in (self._narrow, self._little, self._strides):
                        found.pop(name, None)
                    self._capped.discard(name)

    def _link_pair(self, one: str, two: str) -> None:
        self._linked.append((one, two))
        self._plans.update({name: tuple(self._base[name] * times for times in (2, 4, 3, 5)) for name in (one, two)})

    def _meets_weights(self, name: str) -> bool:
        size = self._base[name]
        return meets_weights(self._first, self._retracer.at({name: size + 1}), (size, size + 1))

    def _search(self, names: list[str], *, quickly: bool = False) -> bool:
        """Find sizes that work for some dims changed together; ``False`` leaves several to be tried one by one.

        Args:
            names: Dims of one feature map, or one dim.
            quickly: Whether to leave out what is rarely so of one dim of a feature map alone.
        """
        if not quickly and self._is_checked(names):
            self._rigid += names
            self._checked.update(names)
            return True
        one_more = {names[0]: self._base[names[0]] + 1}
        little = (3,) if quickly else (3, 1) if self._find_shown(names) or self._works(one_more) else ()
        step = self._find_little_step(names, little)
        if not step and len(names) == 1 and self._plan_squares(names[0]):
            return True
        step = step or self._find_step(names, quickly=quickly)
        if step > 1 and all(self._base[name] == step for name in names) and self._has_hole(names):
            if len(names) == 1 and self._plan_powers(names[0]):
                return True
            step = 0
        if not step:
            if len(names) == 1:
                self._rigid += names
            return False
        if self._find_windows(names, step):
            return True
        if abs(step) > 1:
            apart = names if len(names) > 1 else []  # of two dims one alone may move in steps
            free = {name for name in apart if self._works({name: self._base[name] + (1 if step > 0 else -1)})}
            self._strides.update({name: abs(step) for name in names if name not in free})
        if step < 0:
            self._capped.update(names)
        self._keep_little(names, step)
        return True

    def _is_checked(self, names: list[str]) -> bool:
        """Return whether the model itself compares each size: a line raises at twice it, half and one more or less."""
        if self._find_shown(names) is not None:
            return False
        base = {name: self._base[name] for name in names}
        first = self._find_raise({names[0]: base[names[0]] + 1})
        for name in names[1:]:
            if first is not None and self._find_raise({name: base[name] + 1}) != first:
                first = first if {*names} <= self._fixed else None
        if first is None or {*names} <= self._fixed:
            return first is not None
        tries = [
            *({name: size - 1} for name, size in base.items()),
            {name: size * 2 for name, size in base.items()},
            {name: size // 2 for name, size in base.items()},
        ]
        return all(self._find_raise(sizes) == first for sizes in tries)

    def _find_raise(self, sizes: Sizes) -> Source | None:
        """Return the line of the model's code that raises at some sizes; ``None`` where none does."""
        if min(sizes.values()) < 1 or self._works_unless_fixed(sizes):
            return None
        trace = self._retracer.at(sizes).trace
        failure = None if trace is None else trace.failure
        return failure.source if failure is not None and RAISES.match(failure.source_text) else None

    def _find_little_step(self, names: list[str], little: tuple[int, ...]) -> int:
        """Return 1 if all sizes a little larger work, -1 if only smaller ones, 0 if neither."""
        for more in little:
            if self._works({name: self._base[name] + more + turn for turn, name in enumerate(names)}):
                # One dim that is 3 more may move in steps of 3.
                return int(len(names) > 1 or more == 1 or self._works({names[0]: self._base[names[0]] + 1}))
        smaller = {name: self._base[name] - 1 - turn for turn, name in enumerate(names)}
        batch = {self._batch: self._plans[self._batch][0]} if self._batch in self._plans else {}  # as is planned
        return -1 if min(smaller.values()) > 3 and self._works({**batch, **smaller}) else 0

    def _keep_little(self, names: list[str], step: int, *, are_tied: bool | None = None) -> None:
        """Plan a few steps more (or less), or many where these work; dims that only move together get the same ones.

        Args:
            are_tied: Whether they only move together, where that is known.
        """
        if step == 1:
            self._narrow.update({name: self._base[name] * 2 + 27 for name in names if self._is_spatial(name)})
        wide = self._plan_wide(names, step)
        if are_tied is None and len(names) > 1:
            # Not if they are of two sizes, or grew by different numbers, as at the first sizes that are tried.
            may_be = len({self._base[name] for name in names}) == 1 and abs(step) > 1 and not wide
            are_tied = may_be and not self._works({names[0]: self._base[names[0]] + step})
        if are_tied:
            self._tied += [(names[0], other) for other in names[1:]]
        beside = self._plan_beside(names, are_tied=bool(are_tied)) if step == 1 else {}
        self._plans.update(beside)
        for turn, name in enumerate(names):
            if name in beside:
                continue
            steps = LITTLE[0 if are_tied else turn % len(LITTLE)]
            self._plans[name] = tuple(max(self._base[name] + step * count, 1) for count in steps)
            self._little[name] = step
        self._plans.update(wide or (self._plan_wide(names, step, are_tied=True) if are_tied else {}))

    def _plan_beside(self, names: list[str], *, are_tied: bool) -> dict[str, tuple[int, ...]]:
        """Plan sides of which few more work: any width beside few heights, or less, as of a table that is cut."""
        sides = [name for name in names if name in self._narrow]
        alone = sides if len(names) > 1 and not are_tied else []
        wide = plan_sizes(self._names, self._base, names)
        found: dict[str, tuple[int, ...]] = {}
        for name in alone:
            size, more, far = self._base[name], self._narrow[name], wide[name][0]
            if not self._works({name: more}):
                continue
            if self._works({name: far}):
                found[name] = wide[name]
                del self._narrow[name]
            else:
                found[name] = (more, *(size + (more - size) * part // 12 for part in (6, 5, 9)))
                self._narrow[name] = far
        less: dict[str, tuple[int, ...]] = {}
        for turn, name in enumerate(name for name in sides if name not in found):
            size = self._base[name]
            less[name] = tuple(size - size // part - (0 if are_tied else turn) for part in (4, 2, 3, 5))
        if less and self._works({name: plan[0] for name, plan in less.items()}):
            found.update(less)
        return found

    def _plan_wide(self, names: list[str], step: int, *, are_tied: bool = False) -> dict[str, tuple[int, ...]]:
        """Plan many steps more for the sides of a feature map, where these work; where they were traced, the same."""
        if step < 2 or not all(map(self._is_spatial, names)):
            return {}
        wide = plan_sizes(self._names, self._base, names)
        for turn, name in enumerate(names):
            base, plan = self._base[name], wide[names[0] if are_tied else name]
            wide[name] = tuple(base + max(round((size - base) / step), 1 + turn) * step for size in plan)
        shown = self._find_shown(names, step)
        if shown is not None and len({shown[name] for name in names}) == (1 if are_tied else len(names)):
            return {
                name: (shown[name], *(size for size in plan[1:] if size != shown[name])) for name, plan in wide.items()
            }
        return wide if self._works({name: plan[0] for name, plan in wide.items()}) else {}

    def _plan_squares(self, name: str) -> bool:
        """Plan other squares where the size is one, and the next works: of tokens that are laid out as a map."""
        root = math.isqrt(self._base[name])
        if root < 2 or root**2 != self._base[name] or not self._works({name: (root + 1) ** 2}):
            return False
        self._plans[name] = tuple((root + more) ** 2 for more in (1, 3, 2, 5))
        return True

    def _has_hole(self, names: list[str]) -> bool:
        """Return whether twice some sizes work and three times these do not: they are no multiples."""
        twice, thrice = ({name: times * self._base[name] for name in names} for times in (2, 3))
        return bool(names) and self._works(twice) and not self._works(thrice)

    def _plan_powers(self, name: str) -> bool:
        """Plan other powers of two where the size is one, and the next two work: of sequences that are halved."""
        size = self._base[name]
        if size & (size - 1) or not self._works({name: 4 * size}):
            return False
        self._plans[name] = (2 * size, 4 * size, max(size // 2, 1), 8 * size)
        self._powers.append(name)
        return True

    def _find_windows(self, names: list[str], step: int) -> bool:
        """Plan whole windows more where a few sizes in a row work, on one side of these, and again at twice these."""
        base = {name: self._base[name] for name in names}
        common = math.gcd(*base.values())
        if step < 0 and not self._moves(names, common):
            return False
        rounds_up = self._moves(names, -1)
        if rounds_up == self._moves(names, 1) or not self._moves(names, common) or not self._moves(names, 2 * common):
            return False
        sign = -1 if rounds_up else 1
        step = self._smallest_step(names, common)
        patch = 1 + (last_true(range(1, step), lambda more: self._moves(names, sign * more)) or 0)
        if step % patch or patch == step:
            return False
        for turn, name in enumerate(names):
            more = [step * count + sign * ((count + turn) % patch) for count in LITTLE[turn % len(LITTLE)]]
            self._plans[name] = tuple(base[name] + each for each in more)
            self._windows[name] = (in_patches(name, patch, step // patch, rounds_up=rounds_up),)
        return True

    def _repair(self) -> bool:
        """Trace dim by dim where little steps did not work together; ``True`` if that changed a plan."""
        changed = False
        for name, step in self._little.items():
            partners = [two for one, two in self._tied if one == name]
            if any(name == two for _, two in self._tied):
                continue
            sizes = [*self._plans[name], *(self._base[name] + step * count for count in (1, 2, 3, 4, -1, -2, -3))]
            good = [
                size
                for size in dict.fromkeys(sizes)
                if size > 0 and size != self._base[name] and self._works(dict.fromkeys([name, *partners], size))
            ][:4]
            changed = changed or tuple(good) != self._plans[name]
            for one in (name, *partners):
                if len(good) >= 3:
                    self._plans[one] = tuple(good)
                else:
                    del self._plans[one]
                    self._rigid.append(one)
        return changed

    def _find_step(self, names: list[str], *, quickly: bool) -> int:
        """Find the smallest step that works: from one that every divisor of the sizes divides, downwards.

        Returns:
            The step; negative if only smaller sizes work; 0 if none was found.
        """
        common = math.gcd(*(self._base[name] for name in names))
        shown = self._find_shown(names)
        if shown is not None:
            start = math.gcd(common, *(shown[name] - self._base[name] for name in names))
            step = self._smallest_step(names, start)
            if step < start:
                return step
        for start in (common, *(() if quickly else _OTHER_STEPS)):
            if self._moves(names, start):
                return self._smallest_step(names, start)
        for factor in dict.fromkeys(() if quickly else prime_factors(common)):
            if self._moves(names, -(common // factor)):
                return -smallest_step(common // factor, lambda step: self._moves(names, -step))
        return 0

    def _smallest_step(self, names: list[str], start: int) -> int:
        """Find the smallest divisor of a step that works too: the smallest first, where a step of 1 fails early."""
        one_more = self._retracer.at({name: self._base[name] + 1 for name in names}).trace
        fails_early = one_more is not None and 4 * len(one_more.calls) < len(self._first.calls)
        return smallest_step(start, lambda step: self._moves(names, step), upwards=fails_early)

    def _moves(self, names: list[str], step: int) -> bool:
        sizes = {name: self._base[name] + step for name in names}
        return min(sizes.values()) > 0 and self._works(sizes)
