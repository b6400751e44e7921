"""From a diagnosis to the changes that make the model run: every candidate is tried, and what fails is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, build_context
from modelsummary_ipy.diagnosis.failures.explain import diagnose
from modelsummary_ipy.diagnosis.fixes.lines import list_line_candidates
from modelsummary_ipy.diagnosis.fixes.patch import write_patch
from modelsummary_ipy.diagnosis.fixes.ranking import is_plain, rank
from modelsummary_ipy.records.fixes import Candidate, Fix, InputEdit, LayerEdit, LineEdit, Trial, Verdict
from modelsummary_ipy.records.summary import Story

__all__ = ["Trials", "find_fixes"]

#: Most fixes that are kept, and most failures one after the other that one fix repairs.
_MOST_FIXES = 5
_MOST_LINKS = 6


class Trials(Protocol):
    """What applies a candidate to a copy of the model and traces it."""

    def run(self, candidate: Candidate) -> Trial | None:
        """Trace with a candidate; ``None`` if it can't be applied, or the trace was given up."""

    def judge(self, trial: Trial) -> Verdict:
        """Trace a fix that works once more, with one more in the batch, and run the rules on it."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is tried."""


def find_fixes(ctx: FailureContext, diagnosis: Diagnosis, trials: Trials) -> tuple[Fix, ...]:
    """Find the changes that make a model run.

    What is written for the failure's reason is tried first; without a reason, what can be done with the failing line.

    Args:
        ctx: The failure.
        diagnosis: Its reason.
        trials: Tries candidates.

    Returns:
        Those that work, the best first.
    """
    found: list[tuple[Trial, Verdict]] = []
    for candidates in (_list_known(diagnosis), list_line_candidates(ctx) if diagnosis.is_open else ()):
        tried: set[tuple[object, ...]] = set()
        for candidate in candidates:
            if trials.is_over or len(found) >= _MOST_FIXES:
                break
            if not candidate or candidate.edits in tried:
                continue
            tried.add(candidate.edits)
            trial = _try_chain(ctx, candidate, trials)
            if trial is not None:
                found.append((trial, trials.judge(trial)))
        if any(is_plain(ctx, trial, verdict) for trial, verdict in found):
            break
    found.sort(key=lambda item: rank(ctx, *item))
    return tuple(_write(ctx, trial) for trial, _ in found)


def _list_known(diagnosis: Diagnosis) -> Iterator[Candidate]:
    yield diagnosis.fix
    yield from diagnosis.others


def _write(ctx: FailureContext, trial: Trial) -> Fix:
    candidate = trial.candidate
    changes_input = any(isinstance(edit, InputEdit) for edit in candidate.edits)
    patch, source = write_patch(ctx.trace, candidate.edits) or (None, "")
    return Fix(candidate.text, patch, trial.trace.outputs, changes_input, source)


def _try_chain(ctx: FailureContext, candidate: Candidate, trials: Trials) -> Trial | None:
    """Try a candidate; where the model then fails further on, repair that too, the same kind of mistake again."""
    trial = trials.run(candidate)
    for _ in range(_MOST_LINKS):
        if trial is None or trial.works or candidate.rank:
            break
        later = build_context(Story(trial.trace, ()))
        if later is None or later.call is None or not _is_further(ctx, later):
            return None
        more = diagnose(later, []).fix
        if not more or _overlap(candidate, more):
            return None
        candidate = candidate + more
        ctx = later
        trial = trials.run(candidate)
    return trial if trial is not None and trial.works else None


def _is_further(before: FailureContext, after: FailureContext) -> bool:
    if before.call is None or after.call is None:
        return False
    return after.call.index > before.call.index or (
        after.call.index == before.call.index and after.failure.message != before.failure.message
    )


def _overlap(one: Candidate, other: Candidate) -> bool:
    """Return whether two candidates change the same place."""

    def places(candidate: Candidate) -> set[object]:
        found: set[object] = set()
        for edit in candidate.edits:
            if isinstance(edit, LineEdit):
                found |= {(edit.filename, line) for line in range(edit.first, edit.last + 1)}
            elif isinstance(edit, LayerEdit):
                found.add(edit.path)
        return found

    return bool(places(one) & places(other))
