"""Which dims of a size carry which name, so that a page can colour them alike wherever they flow."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.trace import Formula

#: Meaning of the usual names of dims.
MEANINGS = {
    "B": "batch", "C": "channels", "H": "height", "W": "width", "T": "time", "L": "length", "F": "features",
    "D": "depth", "N": "batch", "S": "sequence",
}  # fmt: skip
#: The colour of a letter is the same in every summary; other names take the ones that are left.
_FIXED = {"B": 0, "C": 1, "H": 2, "W": 3, "T": 4, "N": 0, "L": 4, "S": 4, "F": 5, "D": 5}
_NUM_COLOURS = 6
_WORD = re.compile(r"[^\W\d]\w*")


class Names:
    """Dim names in the order they appear, each with the number of its colour."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        free = [number for number in range(_NUM_COLOURS) if number not in {_FIXED.get(name) for name in names}]
        free = free or list(range(_NUM_COLOURS))
        self._colours: dict[str, int] = {}
        num_others = 0
        for name in names:
            if name in _FIXED:
                self._colours[name] = _FIXED[name]
            else:
                self._colours[name] = free[num_others % len(free)]
                num_others += 1
        self._known: dict[str, int | None] = {}

    def colour(self, dim: str) -> int | None:
        """Number of the colour of a dim's formula: that of the first name in it; ``None`` for a plain number."""
        if dim not in self._known:
            text = plain(dim)
            found = [self._colours[word] for word in (text, *_WORD.findall(text)) if word in self._colours]
            self._known[dim] = found[0] if found else None
        return self._known[dim]

    def colours(self, formula: Formula | None) -> tuple[int | None, ...]:
        """One colour per dim; empty without a formula."""
        return tuple(self.colour(dim) for dim in formula) if formula and self._colours else ()


def find_names(story: Story) -> Names:
    """Collect the names of the dims of the model's input."""
    seen: dict[str, None] = {}
    for fact in story.trace.inputs:
        seen.update(dict.fromkeys(plain(name) for name in fact.dims if name))
    return Names(tuple(seen))
