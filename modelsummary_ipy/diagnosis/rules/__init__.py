"""The rules: each a small pure function from the evidence of a story to flags, grouped by what it watches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TypeVar

from modelsummary_ipy.diagnosis.rules import (
    batch_flow,
    batch_folds,
    batch_mixing,
    batch_sizes,
    declared,
    dtype_device,
    meaning,
    memory,
    padding,
    reshape,
    sequence,
    spatial,
    wiring,
    wrong_axis,
)
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.internal_errors import attempt
from modelsummary_ipy.records.summary import Flag, Story

__all__ = ["RETRACES", "RULES", "find_flags", "find_retraces"]

Rule = Callable[[Evidence], Iterable[Flag]]
RetraceRule = Callable[[Evidence], Iterable[Mapping[str, int]]]

#: Every rule by its id, in the order they run.
RULES: dict[str, Rule] = {
    **batch_flow.RULES,
    **batch_folds.RULES,
    **batch_sizes.RULES,
    **batch_mixing.RULES,
    **reshape.RULES,
    **sequence.RULES,
    **spatial.RULES,
    **padding.RULES,
    **wrong_axis.RULES,
    **meaning.RULES,
    **wiring.RULES,
    **dtype_device.RULES,
    **declared.RULES,
    **memory.RULES,
}

#: By the id of a rule that may need it: the sizes of one more trace that decides between a mistake and what was meant.
RETRACES: dict[str, RetraceRule] = {**batch_sizes.RETRACES, **reshape.RETRACES}

T = TypeVar("T")

#: Rules that read what the axes show.
_BY_AXES = frozenset({*meaning.RULES, *wrong_axis.RULES})

_ORDER = {"error": 0, "warning": 1, "note": 2}


def find_retraces(story: Story, ignore: Collection[str], errors: list[str]) -> tuple[Mapping[str, int], ...]:
    """Find the sizes at which rules need one more trace, each once; ``()`` for most models.

    Args:
        story: What is known, the trace at B + 1 included.
        ignore: Ids of rules that are not run.
        errors: Where a rule that raises is reported.
    """
    wanted = _run(RETRACES, story, ignore, errors)
    return tuple({tuple(sorted(sizes.items())): sizes for sizes in wanted}.values())


def find_flags(story: Story, ignore: Collection[str], errors: list[str]) -> tuple[Flag, ...]:
    """Run every rule that is not ignored; the flags come in row order, the gravest first on each row.

    Args:
        story: What is known.
        ignore: Ids of rules that are not run.
        errors: Where a rule that raises is reported.
    """
    found = dict.fromkeys(_run(RULES, story, ignore, errors))
    # One cause, one flag: what the axes show of a row on which another rule is as grave is the same once more.
    graver: dict[int, int] = {}
    for flag in found:
        if flag.rule not in _BY_AXES:
            graver[flag.row] = min(graver.get(flag.row, 9), _ORDER[flag.severity])
    found = {
        flag: None for flag in found if flag.rule not in _BY_AXES or graver.get(flag.row, 9) > _ORDER[flag.severity]
    }
    return tuple(sorted(found, key=lambda flag: (flag.row, _ORDER[flag.severity], flag.rule)))


def _run(
    rules: Mapping[str, Callable[[Evidence], Iterable[T]]], story: Story, ignore: Collection[str], errors: list[str]
) -> list[T]:
    evidence = Evidence(story)
    found: list[T] = []
    for name, rule in rules.items():
        if name not in ignore:
            found += attempt(f"rule {name}", errors, partial(_list, rule, evidence), [])
    return found


def _list(rule: Callable[[Evidence], Iterable[T]], evidence: Evidence) -> list[T]:
    return list(rule(evidence))
