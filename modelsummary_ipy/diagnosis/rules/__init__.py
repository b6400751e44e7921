"""The rules: each a small pure function from a story to flags, grouped by what it watches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from modelsummary_ipy.diagnosis.rules import (
    batch_flow,
    batch_mixing,
    batch_sizes,
    declared,
    dtype_device,
    memory,
    padding,
    reshape,
    sequence,
    spatial,
    wiring,
    wrong_axis,
)
from modelsummary_ipy.records.summary import Flag, Story

__all__ = ["QUESTIONS", "RULES", "find_flags", "find_questions"]

Rule = Callable[[Story], Iterable[Flag]]
Question = Callable[[Story], Iterable[Mapping[str, int]]]

#: Every rule by its id, in the order they are asked.
RULES: dict[str, Rule] = {
    **batch_flow.RULES,
    **batch_sizes.RULES,
    **batch_mixing.RULES,
    **reshape.RULES,
    **sequence.RULES,
    **spatial.RULES,
    **padding.RULES,
    **wrong_axis.RULES,
    **wiring.RULES,
    **dtype_device.RULES,
    **declared.RULES,
    **memory.RULES,
}

#: What some rules want to know before they judge, by their id: the sizes of one more trace that settles a suspicion.
QUESTIONS: dict[str, Question] = {**batch_sizes.QUESTIONS, **reshape.QUESTIONS}

T = TypeVar("T")

_ORDER = {"error": 0, "warning": 1, "note": 2}


def find_questions(story: Story, ignore: Collection[str] = ()) -> tuple[Mapping[str, int], ...]:
    """Find the sizes that one more trace would settle a suspicion at, each once; ``()`` for most models.

    Args:
        story: What is known, the trace at B + 1 included.
        ignore: Ids of rules that are not asked.
    """
    wanted = [sizes for name, ask in QUESTIONS.items() if name not in ignore for sizes in _ask(ask, story)]
    return tuple({tuple(sorted(sizes.items())): sizes for sizes in wanted}.values())


def find_flags(story: Story, ignore: Collection[str] = ()) -> tuple[Flag, ...]:
    """Ask every rule that is not ignored; the flags come in row order, the gravest first on each row.

    Args:
        story: What is known.
        ignore: Ids of rules that are not asked.
    """
    found = [flag for name, rule in RULES.items() if name not in ignore for flag in _ask(rule, story)]
    return tuple(sorted(dict.fromkeys(found), key=lambda flag: (flag.row, _ORDER[flag.severity], flag.rule)))


def _ask(rule: Callable[[Story], Iterable[T]], story: Story) -> list[T]:
    """Ask one rule; one that fails on a story nobody thought of has nothing to say, and takes no summary with it."""
    try:
        return list(rule(story))
    except Exception:  # noqa: BLE001  # the summary is worth more than any one flag; tests ask the rules without this
        return []
