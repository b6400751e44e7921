"""Limits that a trace contradicts: of code that loops, or asks for a size, as operations do not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from modelsummary_ipy.records.retraced import Sizes
from modelsummary_ipy.shapes.scattered import Scattered
from modelsummary_ipy.shapes.tried_sizes import Constraint


class Contradicted(Scattered):
    """Compares limits with all sizes that were traced, before they are said."""

    def weaken(self, found: list[Constraint]) -> tuple[Constraint, ...]:
        """Say ``T = 32 or few others`` in the place of limits that a trace contradicts: of code that loops, say."""
        for name in (name for name in self._samples.free if self._may_end(name)):
            said = [limit for limit in found if re.search(rf"\b{name}\b", limit.text)]
            if not said or any(name not in limit.ranges or " others" in limit.text for limit in said):
                continue
            tried = list(self._list_tried(name))
            within = [(at, works) for at, works in tried if all(at[name] in limit.ranges[name] for limit in said)]
            if fails := next((at for at, works in within if not works), None):
                names = dict.fromkeys(each for limit in said for each in limit.ranges)
                found = [limit for limit in found if limit not in said]
                found += [self._build(f"{each} = {self._base[each]} or few others", dict(fails)) for each in names]
            elif len(within) < sum(works for _, works in tried) and not any(" or " in each.text for each in said):
                found = [replace(each, text=f"{each.text} or few others") if each in said else each for each in found]
        return tuple(found)

    def _list_tried(self, name: str) -> Iterator[tuple[Sizes, bool]]:
        """Yield the sizes that a dim was traced at, and whether they worked; the batch may move if that works alone."""
        alike = {*self._samples.tied_to(name)}
        moved = [({n: s for n, s in at.items() if s != self._base.get(n)}, does) for at, does in self._retracer.tried]
        batches = [{}, *(at for at, works in moved if works and at.keys() == {self._names.batch})]
        for at, works in moved:
            own = {n: size for n, size in at.items() if n in alike}
            if own.keys() == alike and {n: size for n, size in at.items() if n not in alike} in batches:
                yield own, works
