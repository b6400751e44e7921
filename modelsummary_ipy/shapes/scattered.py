"""Sizes that work in several ranges: of windows that the code computes, as in a spatial pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import TypeAlias

from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.multiples import Multiples, write_besides
from modelsummary_ipy.shapes.tried_sizes import NO_LIMIT, Constraint, value_at

#: How many sizes of what the failed operation reads are tried, and the largest size of the input.
_MOST_READ, _LARGEST = 24, 1100
#: The first and the last size at which an operation reads the same, and whether the model works; ``None``: not known.
_Tried: TypeAlias = "tuple[int, int, bool | None]"


class Scattered(Multiples):
    """Finds dims of which a search between a size that works and one that fails tells too little."""

    def find_scattered(self, lower: Mapping[str, int], texts: Sequence[str]) -> Iterator[tuple[str, Constraint | None]]:
        """Find where an operation failed whose settings the code computes of sizes: it may run again farther on.

        Args:
            lower: By dim, the limit that was found.
            texts: All formulas of sizes.

        Returns:
            Dims, and what is said of each in the place of its limit, ``7 ≤ H ≤ 8 or H ≥ 11``; ``None`` where the time
            was over first.
        """
        for name, low in lower.items():
            text = self._find_read(name, low - self._step(name), texts)
            tried = [] if text is None else list(self._try_each(name, text))
            works = [low for low, _, at_low in tried if at_low]
            fails = [low for low, _, at_low in tried if at_low is False]
            if len(works) + len(fails) < len(tried):
                yield name, None
            elif works and fails and min(works) < max(fails):
                yield name, self._write_ranges(name, tried, fails)

    def _find_read(self, name: str, fails: int, texts: Sequence[str]) -> str | None:
        """Return the formula of a size that the failed operation reads; ``None`` if its settings are as they were."""
        at = self._with_partner(name, fails)
        trace = self._retracer.at(at).trace
        index = None if trace is None or trace.failure is None else trace.failure.call
        if trace is None or index is None or trace.calls[index].kind != "op":
            return None
        call, partner = trace.calls[index], align_calls(trace, self._trace)[index]
        if partner is None or (mine := self._trace.calls[partner]).arguments == call.arguments:
            return None
        leaves = zip(mine.inputs, call.inputs, strict=False)
        read = {pair for one, two in leaves for pair in zip(one.shape, two.shape, strict=False)}
        sizes = self._base, {**self._base, **at}
        return next((text for text in texts if name in text and tuple(value_at(text, s) for s in sizes) in read), None)

    def _try_each(self, name: str, text: str) -> Iterator[_Tried]:
        """Yield the first and the last size at which the operation reads the same, and whether the model works."""
        sizes = range(self._step(name), _LARGEST, self._step(name))
        for _, alike in islice(groupby(sizes, lambda size: value_at(text, {**self._base, name: size})), _MOST_READ):
            low, *others = alike
            at = self._with_partner(name, low)
            works = self._works(at) or (False if self._fails(at) else None)
            yield low, others[-1] if others else low, works

    def _write_ranges(self, name: str, tried: Sequence[_Tried], fails: Sequence[int]) -> Constraint:
        runs = [list(run) for works, run in groupby(tried, lambda each: each[2]) if works]
        low = runs[-1][0][0]
        below = tuple((run[0][0], run[-1][1], True) for run in runs[:-1])
        text = write_besides(name, below) + f"{name} ≥ {low}"
        return self._build(text, {name: max(fails)}, ranges={name: range(low, NO_LIMIT)})
