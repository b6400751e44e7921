"""What is known of the sizes that were tried, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.demands import Demands
from modelsummary_ipy.shapes.expr_text import evaluate
from modelsummary_ipy.shapes.formulas import Formulas
from modelsummary_ipy.shapes.sample_sizes import SampleSizes
from modelsummary_ipy.shapes.size_search import last_true
from modelsummary_ipy.tracing.retracer import Retracer

#: Where the range of a dim stops that no limit above was found for.
NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Constraint:
    """One condition on the model's sizes.

    Attributes:
        text: As it is displayed: ``"T ≤ 512"``.
        failed_at: The nearest sizes that were tried and failed, and why: ``(("T = 513", reason),)``.
        ranges: The sizes that work, by dim: ``{"T": range(1, 513)}``, ``{"H": range(16, NO_LIMIT, 16)}``.
    """

    text: str
    failed_at: tuple[tuple[str, str], ...] = ()
    ranges: Mapping[str, range] = field(default_factory=dict)


class TriedSizes:
    """Traces at sizes whose limits are looked for.

    Args:
        trace: The trace at the given sizes.
        samples: The sizes that formulas were found at.
    """

    def __init__(self, trace: Trace, formulas: Formulas, retracer: Retracer, samples: SampleSizes) -> None:
        self._demands = None if formulas.demands is None else Demands(formulas.demands, samples.base)
        self._walked = formulas.walked
        self._trace = trace
        self._retracer = retracer
        self._samples = samples
        self._names = formulas.names
        self._base = samples.base
        self._smallest: dict[str, int] = {}  # by name, of those that work beside multiples
        self._samples = self._find_steps(samples)

    def _find_steps(self, samples: SampleSizes) -> SampleSizes:
        """Find steps that operations demand, and the sizes that were traced fit by chance: 129 is three times 43."""
        demands, strides, windows = self._demands, dict(samples.strides), dict(samples.windows)
        for name in samples.free if demands is not None else ():
            tied, base = samples.tied_to(name), self._base[name]
            if demands is None or name in windows or name in strides:
                continue
            step = demands.step(tied)
            if step < 2 or not self._works(dict.fromkeys(tied, base + step)):
                continue
            offsets = [more for more in range(1, step) if demands.take(tied, base + more)]
            found = demands.multiples(name, step) if offsets and len(tied) == 1 else None
            if found:
                windows[name] = tuple(each for each in found if not each.is_plain)
            if found or not offsets:
                strides[name] = math.gcd(step, *offsets)
        return replace(samples, strides={name: step for name, step in strides.items() if step > 1}, windows=windows)

    def _works(self, sizes: dict[str, int]) -> bool:
        is_given = all(self._base[name] == size for name, size in sizes.items())
        return is_given or self._retracer.at(sizes).works

    def _fails(self, sizes: dict[str, int]) -> bool:
        """Return whether the model was traced and failed; a trace that was stopped is neither."""
        return all(size > 0 for size in sizes.values()) and self._retracer.at(sizes).failed

    def _is_as_written(self, sizes: dict[str, int]) -> bool:
        """Return whether all formulas hold where the model works: what is broadcast has other sizes."""
        found = self._retracer.at(sizes).trace
        return found is None or self._walked is None or self._walked.holds(self._trace, {**self._base, **sizes}, found)

    def _build(self, text: str, *sizes: dict[str, int], ranges: Mapping[str, range] | None = None) -> Constraint:
        failed = []
        for at in sizes:
            where = ", ".join(f"{name} = {size}" for name, size in at.items())
            failed.append((where, self._retracer.at(at).reason))
        return Constraint(text, tuple(failed), ranges or {})

    def _step(self, name: str) -> int:
        return self._samples.strides.get(name, 1)

    def _may_end(self, name: str) -> bool:
        """Return whether a dim has limits that are searched: one of windows, or of powers, works in places."""
        linked = (name for pair in self._samples.linked for name in pair)
        is_left = name in (self._names.batch, *self._samples.windows, *self._samples.powers, *linked)
        return not is_left and (self._demands is not None or not self._samples.is_fixed(name, self._names))

    def _with_partner(self, name: str, size: int) -> dict[str, int]:
        return dict.fromkeys(self._samples.tied_to(name), size)

    def _last_in_steps(self, name: str, works: int, fails: int, step: int) -> int:
        sizes = range(works + step, fails, step)
        return last_true(sizes, lambda size: self._works(self._with_partner(name, size))) or works


def join(names: list[str]) -> str:
    """Write ``"C, H and W"``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def value_at(text: str, sizes: Mapping[str, int]) -> int:
    """Return the value of a formula; 1 where it is no integer, at a size that the model may not take."""
    try:
        return evaluate(text, sizes)
    except ValueError:
        return 1
