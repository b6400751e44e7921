"""Sizes that work in steps, and the small ones that work beside these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import compress
from typing import Any, TypeVar

from modelsummary_ipy.shapes.far_sizes import find_bounds
from modelsummary_ipy.shapes.joint_limits import JointLimits
from modelsummary_ipy.shapes.multiple_of import MultipleOf
from modelsummary_ipy.shapes.size_search import prime_factors
from modelsummary_ipy.shapes.tried_sizes import NO_LIMIT, Constraint, join

#: Most sizes that are tried for the smallest of windows.
_MOST_LEAST = 3
#: Most sizes that are tried where others than multiples may work.
_MOST_BESIDES = 6
#: The first and the last of sizes in a row, and whether the formulas hold there.
Runs = tuple[tuple[int, int, bool], ...]
#: What is said of sizes that work where other formulas hold: as something of 1 is broadcast there.
OTHER_FORMULAS = " (other formulas)"
Key = TypeVar("Key", bound=tuple[Any, ...])


class Multiples(JointLimits):
    """Finds of which dims multiples work alone."""

    def find_multiples(self) -> Iterable[Constraint]:
        """Every size that differs by less than the step was found to fail, those that differ by it to work."""
        groups: dict[tuple[int, int, Runs], list[str]] = {}
        evidence: dict[str, dict[str, int]] = {}
        for name, step in self._samples.strides.items():
            if any(name in parts.product.names for parts in self._parts):
                continue  # whichever dim it comes from
            tried = [self._with_partner(name, self._base[name] + step // p) for p in set(prime_factors(step))]
            if tried and all(self._fails(sizes) for sizes in tried):
                rest = self._base[name] % step
                takes = range(rest or step, NO_LIMIT, step).__contains__
                besides = self._find_besides(name, step, range(1, 2 * step + 2), takes)
                groups.setdefault((step, rest, besides), []).append(name)
                self._smallest[name] = min((low for low, _, _ in besides), default=self._base[name])
                evidence[name] = {name: self._base[name] + step // min(prime_factors(step))}
        for (step, rest, besides), names in _apart(groups):
            what = join([f"{name} - {rest}" if rest else name for name in names])
            ranges = dict.fromkeys(names, range(rest or step, NO_LIMIT, step))
            yield self._build(
                write_besides(names[0], besides) + f"{what} divisible by {step}", evidence[names[0]], ranges=ranges
            )

    def find_windows(self) -> Iterable[Constraint]:
        """Write ``⌊H/4⌋ divisible by 7``: a window more works, a patch more and one size less do not."""
        groups: dict[tuple[str, Runs], list[MultipleOf]] = {}
        leasts: dict[int, list[tuple[str, int]]] = {}
        for name, windows in self._samples.windows.items():
            size, step = self._base[name], self._step(name)
            takes = partial(_takes, windows, step, size % step)
            for each in windows:
                if all(self._fails(self._with_partner(name, other)) for other in each.beyond(size, step)):
                    besides = self._find_besides(name, each.period, range(1, 2 * each.period + 2), takes)
                    groups.setdefault((each.write(["n"]), besides), []).append(each)
            starts = [at for at in range(1, size) if takes(at) and not (at > step and takes(at - step))][:_MOST_LEAST]
            least = next((at for at in starts if self._works(self._with_partner(name, at))), size)
            smaller = [at for at in range(1, least) if takes(at)]
            if smaller and self._fails(self._with_partner(name, smaller[-1])):
                leasts.setdefault(least, []).append((name, smaller[-1]))
        for (_, besides), same in groups.items():
            for some in [[each] for each in same] if besides else [same]:
                name = some[0].name
                text = write_besides(name, besides) + some[0].write([each.name for each in some])
                yield self._build(text, {name: some[0].beyond(self._base[name], self._step(name))[0]})
        for least, names in leasts.items():
            yield self._build(f"{join([name for name, _ in names])} ≥ {least}", {names[0][0]: names[0][1]})

    def find_powers(self) -> Iterable[Constraint]:
        """Write ``T a power of two``: half as much more fails."""
        for name in self._samples.powers:
            more = self._base[name] + self._base[name] // 2
            powers = [2**power for power in range(self._base[name].bit_length())]
            least = next((size for size in powers if self._works({name: size})), 1)
            if self._fails({name: more}):
                besides = self._find_besides(name, 1, range(3, 8), lambda size: size & (size - 1) == 0)
                yield self._build(f"{write_besides(name, besides)}{name} a power of two", {name: more})
            if least > 1:
                yield self._build(f"{name} ≥ {least}", {name: least // 2})

    def _find_besides(self, name: str, step: int, sizes: range, takes: Callable[[int], bool]) -> Runs:
        """Find the sizes that work and are none that is taken, as runs of first and last.

        What is laid on a tensor may have one position there, and is broadcast; or code groups ``min(B, 4)`` samples.
        """
        may_group = name == self._names.batch or any(True for _ in find_bounds(self._trace))
        others = [size for size in sizes if not takes(size)]
        demands, tied = self._demands, self._samples.tied_to(name)
        # What halves demand is read off sizes that are even; of thirds it is not known which way they are rounded.
        is_likely = [
            demands is None or step % 2 == 1 or max(size, step) <= 3 or demands.may_be_broadcast(tied, size)
            for size in others
        ]
        likely = list(compress(others, is_likely))[:_MOST_BESIDES]
        found = {size for size in likely if self._works(self._with_partner(name, size))}
        if may_group and others[:1] == [1] and (1 in found or self._works(self._with_partner(name, 1))):
            found |= {size for size in others if size <= self._last_in_steps(name, 1, step, 1)}
        return self._find_runs(found, takes, name)

    def _find_runs(self, found: Collection[int], takes: Callable[[int], bool], name: str) -> Runs:
        """Join sizes to runs, between which are none but those that are taken anyway."""
        runs: list[tuple[int, int, bool]] = []
        for size in sorted(found):
            holds = self._is_as_written(self._with_partner(name, size))
            if runs and runs[-1][2] == holds and all(takes(between) for between in range(runs[-1][1] + 1, size)):
                runs[-1] = runs[-1][0], size, holds
            else:
                runs.append((size, size, holds))
        return tuple(runs)


def _takes(windows: Collection[MultipleOf], step: int, rest: int, size: int) -> bool:
    return size % step == rest and all(each.takes(size) for each in windows)


def _apart(groups: Mapping[Key, list[str]]) -> Iterator[tuple[Key, list[str]]]:
    """Yield dims of the same limit together; each alone where it may be one of several."""
    for key, names in groups.items():
        yield from ((key, each) for each in ([[name] for name in names] if key[-1] else [names]))


def write_besides(name: str, runs: Runs) -> str:
    """Write ``"H ≤ 2 or "``; ``""`` of no runs."""
    texts = [
        (f"{name} = {low}" if low == high else f"{name} ≤ {high}" if low == 1 else f"{low} ≤ {name} ≤ {high}")
        + ("" if holds else OTHER_FORMULAS)
        for low, high, holds in runs
    ]
    return "".join(f"{text} or " for text in texts)
