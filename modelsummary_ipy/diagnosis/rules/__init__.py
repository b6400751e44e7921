"""The rules: each a small pure function from the evidence of a story to flags, grouped by what it watches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TypeVar

from modelsummary_ipy.diagnosis.rules import (
    activations,
    batch_flow,
    batch_folds,
    batch_mixing,
    batch_sizes,
    declared,
    dropouts,
    dtype_device,
    endings,
    gradient,
    masks,
    meaning,
    memory,
    padding,
    reshape,
    residuals,
    roles,
    sequence,
    shared_layers,
    sides,
    spatial,
    targets,
    unread,
    unregistered,
    unused,
    wrong_axis,
)
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.folding import fold_flags
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
    **sides.RULES,
    **wrong_axis.RULES,
    **meaning.RULES,
    **activations.RULES,
    **unregistered.RULES,
    **unused.RULES,
    **shared_layers.RULES,
    **gradient.RULES,
    **unread.RULES,
    **residuals.RULES,
    **endings.RULES,
    **dropouts.RULES,
    **roles.RULES,
    **masks.RULES,
    **targets.RULES,
    **dtype_device.RULES,
    **declared.RULES,
    **memory.RULES,
}

#: By the id of a rule that may need it: the sizes of one more trace that decides between a mistake and what was meant.
RETRACES: dict[str, RetraceRule] = {**batch_sizes.RETRACES}

T = TypeVar("T")


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
    """Run every rule that is not ignored; the flags come in row order, the gravest first on each row, one a cause.

    Args:
        ignore: Ids of rules that are not run.
        errors: Where a rule that raises is reported.
    """
    return fold_flags(Evidence(story), _run(RULES, story, ignore, errors))


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
