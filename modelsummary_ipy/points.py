"""At which other sizes to trace: sizes the model takes, and that tell one formula from another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from modelsummary_ipy.facts import Trace
from modelsummary_ipy.names import FEATURE_NAMES
from modelsummary_ipy.probes import Prober, Sizes

__all__ = ["Points", "choose_points", "is_feature"]

#: What is added to the batch in the further traces (the one at ``B + 1`` came before).
_BATCH = (2, 5, 3, 9)
#: What is added to a sequence's length: rows that are no straight line of one another, nor of the batch's.
_SEQUENCE = ((4, 17, 9, 6), (7, 3, 19, 12), (13, 6, 2, 21), (3, 11, 20, 8), (18, 5, 7, 10))
_SPATIAL = frozenset({"H", "W", "L", "D"})
_MOST_REFINED = 24


@dataclass(frozen=True)
class Points:
    """The sizes that were traced.

    Attributes:
        base: The sizes the user gave, by name.
        sizes: The other sizes, by name; no fit looks at the last.
        traces: What came of each.
        free: Names that move.
        steps: By name, what every size that works is a multiple of, where that is more than 1.
        tied: Pairs of names that only move together, ``(("H", "W"),)``.
        rigid: Names that work at no other size that was tried.
        failed_at: Sizes at which the model does not run, and why.
    """

    base: Sizes
    sizes: tuple[Sizes, ...] = ()
    traces: tuple[Trace, ...] = ()
    free: tuple[str, ...] = ()
    steps: Sizes = field(default_factory=dict)
    tied: tuple[tuple[str, str], ...] = ()
    rigid: tuple[str, ...] = ()
    failed_at: tuple[tuple[str, str], ...] = ()


def is_feature(name: str) -> bool:
    """Tell whether a dim is one that a layer's weights usually fix."""
    return name.rstrip("0123456789") in FEATURE_NAMES


def choose_points(prober: Prober, *, works_at_one_more: bool) -> Points:
    """Find sizes at which the model runs, that differ in every dim that may move.

    Args:
        prober: Asks the model.
        works_at_one_more: Whether it ran at ``B + 1``.
    """
    return _Chooser(prober, works_at_one_more).choose()


class _Chooser:
    def __init__(self, prober: Prober, works_at_one_more: bool) -> None:
        self._prober = prober
        self._base = dict(prober.base)
        self._failed: list[tuple[str, str]] = []
        self._steps: dict[str, int] = {}
        self._rigid: list[str] = []
        self._tied: list[tuple[str, str]] = []
        self._plans: dict[str, tuple[int, ...]] = {}
        if "B" in self._base:
            if works_at_one_more:
                self._plans["B"] = tuple(self._base["B"] + more for more in _BATCH)
            else:
                self._rigid.append("B")

    def choose(self) -> Points:
        others = [name for name in self._base if name != "B" and not is_feature(name)]
        features = [name for name in self._base if is_feature(name)]
        wanted = self._plan(others)
        if others and not self._works({**self._at(0), **{name: plan[0] for name, plan in wanted.items()}}):
            wanted = self._search(others)
        self._plans.update(wanted)
        for name in features:
            self._try_feature(name)
        if self._rigid == ["B"] and not self._plans:
            self._search_batch()
        return self._trace_all()

    def _plan(self, names: list[str]) -> dict[str, tuple[int, ...]]:
        """Plan other sizes for every dim: around multiples of 64 for maps, a little more for sequences."""
        plans: dict[str, tuple[int, ...]] = {}
        sequences = iter(_SEQUENCE)
        spatial = 0
        for name in names:
            size = self._base[name]
            if name.rstrip("0123456789") in _SPATIAL:
                # One below and one above a multiple of 64: there every floor and every ceiling of a chain of strides
                # shows, for any stride that is a power of two. Far apart, so that a long stride shows too.
                near, far = (size // 64 + 1) * 64, (size * 3 // 128 + 1) * 64
                plan = (
                    (far - 1, near + 1, size * 5 // 4 + 38, 2 * size + 27),
                    (near + 65, far + 127, size * 4 // 3 + 10, 2 * size + 45),
                )[spatial % 2]
                plans[name] = tuple(value + 192 * (spatial // 2) for value in plan)
                spatial += 1
            else:
                more = next(sequences, (15, 4, 9, 22))
                plans[name] = tuple(size + step + (size // 16) * (step % 5) for step in more)
        return plans

    def _at(self, turn: int) -> dict[str, int]:
        return {name: plan[turn % len(plan)] for name, plan in self._plans.items()}

    def _works(self, sizes: Sizes) -> bool:
        return self._prober.ask(sizes).works

    def _search(self, names: list[str]) -> dict[str, tuple[int, ...]]:
        """Find out dim by dim which move, and in which steps."""
        found: dict[str, tuple[int, ...]] = {}
        stuck: list[str] = []
        for turn, name in enumerate(names):
            plan = self._search_one(name, turn)
            if plan:
                found[name] = plan
            else:
                stuck.append(name)
        while stuck:
            name = stuck.pop(0)
            partner = next((other for other in stuck if self._base[other] == self._base[name]), None)
            plan = self._search_tied(name, partner) if partner is not None else ()
            if plan and partner is not None:
                stuck.remove(partner)
                self._tied.append((name, partner))
                found[name] = found[partner] = plan
            else:
                self._rigid.append(name)
        return found

    def _search_one(self, name: str, turn: int) -> tuple[int, ...]:
        size = self._base[name]
        for more in ((3, 1, 2, 5, 7), (1, 4, 6, 9, 2))[turn % 2][:2]:
            if self._works({name: size + more}):
                return self._keep_working(name, [size + d for d in _shuffled(turn, (3, 1, 2, 5, 7, 4))])
        if size > 3 and self._works({name: size - 1}):
            return self._keep_working(name, [size - d for d in _shuffled(turn, (1, 3, 2, 4, 5))])
        step = self._find_step((name,))
        if step:
            self._steps[name] = step
            return self._keep_working(name, [size + step * d for d in _shuffled(turn, (1, 3, 2, 4, 5, 6))])
        return ()

    def _search_tied(self, name: str, partner: str) -> tuple[int, ...]:
        size = self._base[name]
        if self._works({name: size + 1, partner: size + 1}):
            options = [size + d for d in (1, 3, 2, 5)]
        else:
            step = self._find_step((name, partner))
            if not step:
                return ()
            self._steps[name] = self._steps[partner] = step
            options = [size + step * d for d in (1, 3, 2, 4)]
        good = [option for option in options if self._works({name: option, partner: option})]
        return tuple(good[:3]) if len(good) >= 3 else ()

    def _keep_working(self, name: str, options: list[int]) -> tuple[int, ...]:
        good: list[int] = []
        for option in options:
            if option > 0 and self._works({name: option}):
                good.append(option)
            if len(good) == 3:
                return tuple(good)
        return ()

    def _find_step(self, names: tuple[str, ...]) -> int:
        """Find the smallest step that works: from the size itself, which every divisor of it divides, downwards."""
        size = self._base[names[0]]
        step = size
        if not self._works(dict.fromkeys(names, size + step)):
            return 0
        for factor in _prime_factors(size):
            smaller = step // factor
            if step % factor == 0 and self._works(dict.fromkeys(names, size + smaller)):
                step = smaller
        return step if step > 1 else 1

    def _try_feature(self, name: str) -> None:
        size = self._base[name]
        options = [size + 3, size + 1, size + 5]
        if all(self._works({name: option}) for option in options):
            self._plans[name] = tuple(options)
        else:
            self._rigid.append(name)

    def _search_batch(self) -> None:
        step = self._find_step(("B",))
        if step:
            self._rigid.remove("B")
            self._steps["B"] = step
            self._plans["B"] = tuple(self._base["B"] + step * d for d in (1, 3, 2))

    def _trace_all(self) -> Points:
        """Trace the planned sizes together; what fails together is asked dim by dim."""
        chosen: list[dict[str, int]] = []
        if "B" in self._plans and "B" not in self._steps:
            chosen.append({"B": self._base["B"] + 1})
        for turn in range(3 if chosen else 4):
            sizes = self._at(turn)
            if sizes and self._works(sizes):
                chosen.append(sizes)
        if len(chosen) < 3:
            for name, plan in self._plans.items():
                chosen += [{name: value} for value in plan if self._works({name: value})]
        full = [{**self._base, **sizes} for sizes in chosen]
        traces: list[Trace] = []
        kept: list[dict[str, int]] = []
        for sizes in full:
            probe = self._prober.ask(sizes)
            if probe.trace is not None and probe.works:
                traces.append(probe.trace)
                kept.append(sizes)
        return Points(
            self._base,
            tuple(kept),
            tuple(traces),
            tuple(self._plans),
            {name: step for name, step in self._steps.items() if step > 1},
            tuple(self._tied),
            tuple(self._rigid),
            tuple(self._failed),
        )


def _shuffled(turn: int, values: tuple[int, ...]) -> tuple[int, ...]:
    """Give neighbouring dims different orders, so that they do not move alike."""
    return values if turn % 2 == 0 else (values[1], values[0], *reversed(values[2:]))


def _prime_factors(number: int) -> Iterator[int]:
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            yield divisor
            number //= divisor
        divisor += 1
    if number > 1:
        yield number
