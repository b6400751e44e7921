"""The rules: each a small pure function from a story to flags, grouped by what it watches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from modelsummary_ipy.facts import Flag, Story
from modelsummary_ipy.rules import spatial

__all__ = ["RULES", "find_flags"]

Rule = Callable[[Story], Iterable[Flag]]

#: Every rule by its id, in the order they are asked.
RULES: dict[str, Rule] = {**spatial.RULES}

_ORDER = {"error": 0, "warning": 1, "note": 2}


def find_flags(story: Story, ignore: Collection[str] = ()) -> tuple[Flag, ...]:
    """Ask every rule that is not ignored; the flags come in row order, the gravest first on each row.

    Args:
        story: What is known.
        ignore: Ids of rules that are not asked.
    """
    found = [flag for name, rule in RULES.items() if name not in ignore for flag in rule(story)]
    return tuple(sorted(dict.fromkeys(found), key=lambda flag: (flag.row, _ORDER[flag.severity], flag.rule)))
