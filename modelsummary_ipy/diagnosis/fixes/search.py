"""From a diagnosis to the changes that make the model run: every candidate is tried, and what fails is dropped."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    Diagnosis,
    FailureContext,
    build_context,
    is_of_package,
)
from modelsummary_ipy.diagnosis.failures.explain import SIZES, diagnose
from modelsummary_ipy.diagnosis.failures.module_code import write_change
from modelsummary_ipy.diagnosis.failures.rewriting import rewrite
from modelsummary_ipy.diagnosis.fixes.constructors import leaves_out, list_constructor_slips, list_makings
from modelsummary_ipy.diagnosis.fixes.dim_edits import give_dim
from modelsummary_ipy.diagnosis.fixes.patch import write_patch
from modelsummary_ipy.diagnosis.fixes.ranking import compares_by_chance, cuts_to_fit, is_plain, rank
from modelsummary_ipy.diagnosis.fixes.slips import SLIPS, list_exact, list_slips
from modelsummary_ipy.diagnosis.fixes.tensors import EARLIER, list_earlier_changes, list_line_changes, list_undone
from modelsummary_ipy.records.fixes import Candidate, Fix, GivenEdit, InputEdit, LayerEdit, LineEdit, Trial, Verdict
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.trace import Trace

#: Most fixes that are kept, and most failures one after the other that one fix repairs.
_MOST_FIXES = 5
_MOST_LINKS = 16
#: A longer chain waits until the classes that make the layers were looked at, so long; as long is what is left tried.
_FEW_LINKS = 4
_REMADE_SECONDS = 0.75
#: So many ways to repair each further failure are tried.
_MOST_BRANCHES = 3


class Trials(Protocol):
    """What applies a candidate to a copy of the model and traces it."""

    def run(self, candidate: Candidate) -> Trial | None:
        """Trace with a candidate; ``None`` if it can't be applied, or the trace was given up."""

    def judge(self, trial: Trial) -> Verdict:
        """Trace a fix that works once more, with one more in the batch, and run the rules on it."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is tried."""

    def extend(self, seconds: float) -> None:
        """Let what follows take so long, whatever was spent before."""


def find_fixes(ctx: FailureContext, diagnosis: Diagnosis, trials: Trials, name: str = "model") -> tuple[Fix, ...]:
    """Find the changes that make a model run.

    Args:
        name: What the user calls the model, where a fix has to name it.

    Returns:
        Those that work, the best first.
    """
    search = _Search(ctx, diagnosis, trials)
    candidates = list_candidates(ctx, diagnosis)
    search.try_each(candidates)
    if not any(is_plain(ctx, *item) and _is_one_place(item[0].candidate) for item in search.found):
        cuts = bool(search.found) and all(cuts_to_fit(ctx, trial) for trial, _ in search.found)
        search.found += _try_constructors(ctx, diagnosis, trials, cuts=cuts)
    if search.cut and not any(is_plain(ctx, *item) for item in search.found):
        search.go_on(candidates)
    found = search.found or search.spare[:_MOST_FIXES]
    kept = [item for item in found if item[1].keeps_batch is not False]
    found = sorted(kept or found, key=lambda item: rank(ctx, *item))
    distinct = {trial.candidate.text: trial for trial, _ in found[::-1]}  # two ways may lead to one change
    return tuple(_write(ctx, trial, name) for trial, _ in found if distinct[trial.candidate.text] is trial)


class _Search:
    """Tries candidates one after the other.

    Attributes:
        found: What works.
        spare: Guesses that work and leave something to wish for: shown where nothing else works.
        cut: Chains of repairs that are long, as far as they were followed.
    """

    def __init__(self, ctx: FailureContext, diagnosis: Diagnosis, trials: Trials) -> None:
        self._ctx = ctx
        self._diagnosis = diagnosis
        self._trials = trials
        self._tried: set[tuple[object, ...]] = set()
        self._least_plain: int | None = None  # the rank of what left nothing to wish for
        self._next = Candidate()
        self.found: list[tuple[Trial, Verdict]] = []
        self.spare: list[tuple[Trial, Verdict]] = []
        self.cut: list[Candidate] = []

    def try_each(self, candidates: Iterator[Candidate]) -> None:
        """Try all until one is enough, or a guess is next and a long chain was cut."""
        written, is_open = self._diagnosis.fixes, self._diagnosis.is_open
        for candidate in candidates:
            if self._trials.is_over or len(self.found) >= _MOST_FIXES:
                break
            is_guess = candidate not in written
            if self._least_plain is not None and (is_guess or self._least_plain):
                break  # of what is written for the reason each is tried, of all else the first that is plain is enough
            has_found = any(not (_fits_the_batch(*item) or cuts_to_fit(self._ctx, item[0])) for item in self.found)
            if has_found and is_guess and candidate.rank > 1 and (candidate.rank >= SLIPS or not is_open):
                break  # what was written for the reason is better than any guess
            if self.cut and is_guess:
                self._next = candidate
                break
            self._try(candidate, self.cut)

    def go_on(self, candidates: Iterator[Candidate]) -> None:
        """Follow the chains that were cut to their ends, then try what is left."""
        self._trials.extend(_REMADE_SECONDS)
        chains, self.cut = self.cut, []
        for chain in chains:
            self._try(chain, None)
        self.try_each(itertools.chain([self._next], candidates))

    def _try(self, candidate: Candidate, cut: list[Candidate] | None) -> None:
        ctx, code = self._ctx, self._diagnosis.code
        way = (*candidate.edits, not candidate.rank)
        if not candidate or way in self._tried:
            return
        self._tried.add(way)
        trial = _try_chain(ctx, candidate, self._trials, cut)
        if trial is None or (candidate.rank and compares_by_chance(ctx, trial)):
            return
        if code in (*NOT_OF_SIZES, "returned") and _resizes_more(candidate, trial):
            return  # the wrong one of several was taken, and a layer made to fit it
        verdict = self._trials.judge(trial)
        plain = is_plain(ctx, trial, verdict)
        if plain or candidate.rank <= 0 or self._diagnosis.is_open or cuts_to_fit(ctx, trial):
            self.found.append((trial, verdict))
        elif verdict.keeps_batch is not False and not any(flag.severity == "error" for flag in verdict.flags):
            self.spare.append((trial, verdict))
        if plain and self._least_plain is None:
            self._least_plain = candidate.rank


def _try_constructors(
    ctx: FailureContext, diagnosis: Diagnosis, trials: Trials, *, cuts: bool
) -> list[tuple[Trial, Verdict]]:
    """Make the model anew with one expression of its classes changed: the first that leaves nothing to wish for.

    Args:
        cuts: Whether what was found cuts what a padding added: a causal convolution keeps its padding.
    """
    for making in list_makings(ctx) if diagnosis.code in OF_SIZES else ():
        trials.extend(_REMADE_SECONDS)
        made = trials.run(making)
        again = build_context(Story(made.trace, ())) if made is not None else None
        if made is None or again is None or _describe_failure(again) != _describe_failure(ctx):
            continue  # it was made otherwise
        for candidate in list_constructor_slips(ctx, making):
            if trials.is_over:
                break
            trial = trials.run(candidate)
            if trial is None or not trial.works or leaves_out(ctx.trace, trial):
                continue  # what is left out can't fail
            pads = zip(_list_paddings(ctx.trace), _list_paddings(trial.trace), strict=False)
            if cuts and any(new < old for old, new in pads):
                continue
            verdict = trials.judge(trial)
            if is_plain(ctx, trial, verdict):
                return [(trial, verdict)]
        break
    return []


def _list_paddings(trace: Trace) -> list[tuple[int, ...]]:
    paddings = (fact.settings.get("padding") for fact in trace.modules)
    return [value if isinstance(value, tuple) else () for value in paddings]


def _describe_failure(ctx: FailureContext) -> object:
    """Return what two failures have in common that are the same: the call, its line and what it was given."""
    return ctx.call.index, ctx.call.path, ctx.failure.source, [spec.shape for spec in ctx.call.inputs]


def _is_one_place(candidate: Candidate) -> bool:
    """Return whether a fix changes one statement, or one thing else, and cuts nothing: no other is looked for.

    What was only guessed of lines before is as likely as a slip where the layers were made.
    """
    if EARLIER <= candidate.rank < SLIPS:
        return False
    lines = [edit.text for edit in candidate.edits if isinstance(edit, LineEdit)]
    is_line = len(candidate.edits) == len(lines) == 1
    return (is_line or not candidate.links) and not any("[..., -" in line for line in lines)


def _fits_the_batch(trial: Trial, verdict: Verdict) -> bool:
    """Return whether a layer was made as large as the batch: it then runs for that batch alone."""
    return verdict.keeps_batch is False and any(isinstance(edit, LayerEdit) for edit in trial.candidate.edits)


def _resizes_more(candidate: Candidate, trial: Trial) -> bool:
    """Return whether a chain of repairs makes a layer anew that its first candidate left alone."""
    own = {edit.path for edit in candidate.edits if isinstance(edit, LayerEdit)}
    return any(
        isinstance(edit, LayerEdit) and edit.path not in own and edit.code.startswith("nn.") and not edit.written
        for edit in trial.candidate.edits
    )


def _write(ctx: FailureContext, trial: Trial, name: str) -> Fix:
    candidate = trial.candidate
    changes_input = any(isinstance(edit, (InputEdit, GivenEdit)) for edit in candidate.edits)
    patch, source = write_patch(ctx.trace, candidate.edits) or (None, "")
    root = ctx.trace.modules[0]
    is_own = not is_of_package(root) and not root.type_module.startswith("torch.")  # others have no self to write to
    text = _MODEL.sub(lambda found: name if not is_own or found[0] == "model" else found[0], _order(candidate.text))
    return Fix(text, patch, trial.trace.outputs, changes_input, source)


#: Where a fix begins with the model, ``model[4] = …``, or its class's ``self``.
_MODEL = re.compile(r"^(?:self|model)(?=[.\[(]| =)", re.MULTILINE)


def _order(text: str) -> str:
    """Write what is put into an ``nn.Sequential`` last, the last place first, as the places are those of before."""
    pieces = text.split("\n")
    added = [piece for piece in pieces if _INSERTION.search(piece)]
    added.sort(key=lambda piece: -int(_INSERTION.search(piece)[1]))  # type: ignore[index]  # each has one
    return "\n".join([*[piece for piece in pieces if piece not in added], *added])


_INSERTION = re.compile(r"\.insert\((\d+), nn\.")


def _try_chain(ctx: FailureContext, candidate: Candidate, trials: Trials, cut: list[Candidate] | None) -> Trial | None:
    """Try a candidate; where the model then fails further on, repair that too, by what its reason says.

    Args:
        cut: Takes what a long chain has repaired so far; ``None`` to follow it to its end.
    """
    trial = None if candidate.edits_a_package or _drops_layers(ctx, candidate) else trials.run(candidate)
    seen = {candidate.edits}  # a repair may undo the one before
    for link in range(_MOST_LINKS):
        if cut is not None and link == _FEW_LINKS and trial is not None and not trial.works:
            cut.append(candidate)
            return None
        if trial is None or trial.works or candidate.rank or _makes_anew(candidate):
            break
        lines = tuple(edit for edit in candidate.edits if isinstance(edit, LineEdit))
        later = build_context(Story(trial.trace, ()), lines)
        if later is None or not _is_further(ctx, later, candidate):
            return None
        following, furthest = None, -1
        for more in diagnose(later, []).fixes[:_MOST_BRANCHES]:
            combined = _combine(candidate, more)
            is_own = combined is not None and not (combined.edits_a_package or _drops_layers(ctx, combined))
            is_new = combined is not None and combined.edits not in seen
            branch = trials.run(combined) if combined is not None and is_own and is_new else None
            if branch is None or not (branch.works or _gets_further(later, branch)):
                continue
            count = _count_run(branch.trace)
            if branch.works or count > furthest:
                following, furthest = branch, count
            if branch.works or branch.trace.failure is None or branch.trace.failure.source != later.failure.source:
                break
        if following is None:
            return None
        candidate, ctx, trial = following.candidate, later, following
        seen.add(candidate.edits)
    return trial if trial is not None and trial.works else None


def _drops_layers(ctx: FailureContext, candidate: Candidate) -> bool:
    """Return whether a package's model is to lose layers, which it was made, and mostly trained, with."""
    is_dropped = any(isinstance(edit, LayerEdit) and edit.code == "nn.Identity()" for edit in candidate.edits)
    return is_dropped and is_of_package(ctx.trace.modules[0])


def _makes_anew(candidate: Candidate) -> bool:
    """Return whether a model is made with another argument: what then still does not fit was no part of it."""
    return any(isinstance(edit, LayerEdit) and not edit.path for edit in candidate.edits)


def _count_run(trace: Trace) -> int:
    """Count the calls that ran to their end."""
    return sum(call.status == "ran" for call in trace.calls)


def _gets_further(before: FailureContext, trial: Trial) -> bool:
    lines = tuple(edit for edit in trial.candidate.edits if isinstance(edit, LineEdit))
    later = build_context(Story(trial.trace, ()), lines)
    return later is not None and _is_further(before, later, trial.candidate)


def _is_further(before: FailureContext, after: FailureContext, candidate: Candidate) -> bool:
    """Return whether a fix moved the failure on, or to a layer between the one it changed and the one that failed."""
    if -1 in (before.call.index, after.call.index):
        return False
    if all(isinstance(edit, InputEdit) for edit in candidate.edits):
        return True  # the same line reads something else
    called = {path for fact in after.trace.modules for path in fact.paths}  # others are plain attributes
    changed = {edit.path for edit in candidate.edits if isinstance(edit, LayerEdit) and edit.path in called}
    if len(changed) == len(candidate.edits) and after.call.kind == "module" and after.call.path not in changed:
        ran = {call.path for call in after.trace.calls[: after.call.index]}
        return bool(changed & ran)
    if _count_run(after.trace) > _count_run(before.trace) or after.call.index > before.call.index:
        return True
    if any(_is_behind(after, edit) for edit in candidate.edits if isinstance(edit, LineEdit)):
        return True
    return after.call.index == before.call.index and after.failure.message != before.failure.message


def _is_behind(after: FailureContext, edit: LineEdit) -> bool:
    """Return whether a failure is in a later line than an edit of its own function, or of what runs before it."""
    made = [
        call.index for call in after.trace.calls
        if call.source is not None and call.source.filename == edit.filename
        and edit.first <= call.source.line <= edit.last
    ]  # fmt: skip
    return bool(made) and max(made) < after.call.index


def _combine(one: Candidate, other: Candidate) -> Candidate | None:
    """Make one candidate of two; a statement that both change is as the second one, which read the first, has it."""
    replaced = {edit.path for edit in other.edits if isinstance(edit, LayerEdit)}
    for edit in one.edits:  # a shortcut that was to hand on what it gets, and has to do more
        if isinstance(edit, LayerEdit) and edit.path in replaced and edit.code == "nn.Identity()":
            text = one.text.replace(f"{write_change(edit.path, edit.code)}\n", "")
            one = replace(one, text=text, edits=tuple(kept for kept in one.edits if kept is not edit))
    paths = {edit.path for edit in one.edits if isinstance(edit, LayerEdit)}
    if any(isinstance(edit, LayerEdit) and edit.path in paths for edit in other.edits):
        return None
    again = {(edit.filename, edit.first): edit for edit in other.edits if isinstance(edit, LineEdit)}
    kept, text = [], one.text
    for edit in one.edits:
        if isinstance(edit, LineEdit) and (edit.filename, edit.first) in again:
            if text.endswith(edit.text) or f"{edit.text}\n" in text:
                text = re.sub(rf"(?:at \S+: )?{re.escape(edit.text)}", "", text).strip("\n").replace("\n\n", "\n")
            else:
                return None
        else:
            kept.append(edit)
    if not kept:
        return Candidate(other.text, other.edits, one.rank, one.links + 1)
    return Candidate(f"{text}\n{other.text}", (*kept, *other.edits), one.rank, one.links + 1)


#: What Python refuses by a name, a type or a signature, and what torch has not: no other order of dims mends it.
NOT_OF_SIZES = ("name", "assignment", "object", "value", "arguments", "unsupported")
#: Where one size came and another was wanted.
OF_SIZES = ("linear", "recurrent", "norm", "attention", "broadcast", "cat", "matmul", "reshape",
            "convolution", "einsum")  # fmt: skip


def list_candidates(ctx: FailureContext, diagnosis: Diagnosis) -> Iterator[Candidate]:
    """List changes that may make a model run, the likeliest first.

    These are slips that leave just the size that was wanted; what is written for the reason; steps left out. Without a
    reason, other dims of what the failing line reads. Then all other slips, and last other dims of what lines before it
    read.
    """
    code = diagnosis.code
    if code in OF_SIZES:
        yield from list_exact(ctx)
    elif code == "other":
        yield from (replace(made, rank=-1) for made in rewrite(ctx, give_dim, alone=True))
    yield from diagnosis.fixes
    if code in (*SIZES, "other"):
        yield from list_undone(ctx)
    if code == "input":  # each explanation of that kind is tried, and none guessed at
        return
    is_known = not diagnosis.is_open and diagnosis.search not in ((), ANYWHERE) and not ctx.is_in_package
    if code not in NOT_OF_SIZES and not is_known:
        yield from list_line_changes(ctx)
    if code in (*SIZES, "index", "loss", "other"):
        yield from list_slips(ctx)
    if code not in NOT_OF_SIZES and not is_known:
        yield from list_earlier_changes(ctx)
