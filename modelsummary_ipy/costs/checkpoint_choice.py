"""Which modules to checkpoint: what each would free, read from a recorded step, and a choice at few MACs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence, Set
from itertools import accumulate
from operator import add
from typing import NamedTuple

from modelsummary_ipy.costs.mac_formulas import count_aten_op
from modelsummary_ipy.records.summary import Cost, Row, add_known
from modelsummary_ipy.records.training import StorageLife, Training

#: A family of modules that frees less than this share of the peak is no candidate.
_LEAST_SHARE = 0.001


class Candidate(NamedTuple):
    """A module that may be checkpointed.

    Attributes:
        path: Its path.
        type_name: Its class.
        first_row: Its first row.
        mult_adds: Multiply-adds that the backward would run again.
        freed: ``(first moment, last moment, bytes)`` that it would free then; bytes below zero are held longer.
        family: Equal for modules of one class that get and give tensors of the same sizes.
    """

    path: str
    type_name: str
    first_row: int
    mult_adds: int
    freed: tuple[tuple[int, int, int], ...]
    family: Hashable = None


class _Span:
    """Moments of one row's call and all in it; ``None`` for what it has not."""

    __slots__ = ("backward", "begin", "end")

    def __init__(self) -> None:
        self.begin: int | None = None
        self.end: int | None = None
        self.backward: int | None = None

    def add(self, other: _Span) -> None:
        self.begin = min((at for at in (self.begin, other.begin) if at is not None), default=None)
        self.end = max((at for at in (self.end, other.end) if at is not None), default=None)
        self.backward = min((at for at in (self.backward, other.backward) if at is not None), default=None)


def find_candidates(step: Training, rows: Sequence[Row], costs: Mapping[int, Cost]) -> list[Candidate]:
    """Find the modules that free memory between their forward and their backward when they are checkpointed.

    A checkpoint keeps what goes into a module, lets go of what autograd saved in it, and makes that again when its
    backward begins.

    Args:
        costs: Multiply-adds by row; a module whose own are unknown counts what is known of it.
    """
    spans = _find_spans(step, rows)
    inner: dict[int, list[StorageLife]] = {}
    by_size: dict[int, list[StorageLife]] = {}
    for life in step.storages:
        if life.phase == "forward":
            by_size.setdefault(life.nbytes, []).append(life)
        around = life.row if life.phase == "forward" and life.birth else None
        while around is not None:
            inner.setdefault(around, []).append(life)
            around = rows[around].parent
    own = [cost.own_mult_adds or 0 if (cost := costs.get(row.index)) else 0 for row in rows]
    found: dict[str, list[tuple[Row, int, list[tuple[int, int, int]]]]] = {}
    for row in rows:
        if row.kind != "module" or not row.path or row.status != "ran" or row.parent is None:
            continue
        freed, macs = _weigh(row, rows, spans, inner.get(row.index, ()), by_size, own)
        found.setdefault(row.path, []).append((row, macs, freed))
    made = [_join(path, calls) for path, calls in found.items()]
    return _leave_small(_leave_equal([one for one in made if _sum_freed(one) > 0]), step.peak_bytes or 0)


def _find_spans(step: Training, rows: Sequence[Row]) -> list[_Span]:
    spans = [_Span() for _ in rows]
    for at, moment in enumerate(step.moments):
        if moment.row is None or moment.is_recomputed:
            continue
        span = spans[moment.row]
        if moment.phase == "forward":
            span.begin, span.end = at if span.begin is None else span.begin, at
        elif moment.phase == "backward" and span.backward is None:
            span.backward = at
    for row in reversed(rows):
        if row.parent is not None:
            spans[row.parent].add(spans[row.index])
    return spans


def _weigh(
    row: Row,
    rows: Sequence[Row],
    spans: Sequence[_Span],
    inner: Sequence[StorageLife],
    by_size: Mapping[int, Sequence[StorageLife]],
    own: Sequence[int],
) -> tuple[list[tuple[int, int, int]], int]:
    """Return what one call would free and when, and the multiply-adds that it would run again."""
    span = spans[row.index]
    if span.begin is None or span.end is None or span.backward is None or span.backward <= span.end:
        return [], 0
    first, last = span.end + 1, span.backward - 1
    outliving = [life for life in inner if life.death > span.end]
    outputs = _find_outputs(row, outliving)
    saved = [life for life in outliving if life.death >= span.backward]
    nbytes = sum(life.nbytes for life in saved if id(life) not in outputs)
    if not nbytes:
        return [], 0
    freed = [(first, last, nbytes)]
    freed += [(max(life.death + 1, first), last, -life.nbytes) for life in _find_inputs(row, span, by_size)]
    # The forward runs again until all that was saved is there: mostly without the last product.
    until = max(life.birth for life in saved)
    again = 0
    for inside in range(row.index, _find_end(row, rows)):
        begin = spans[inside].begin
        if begin is not None and begin <= until:
            again += own[inside]
    return [part for part in freed if part[0] <= part[1]], again


def _find_end(row: Row, rows: Sequence[Row]) -> int:
    """Return the index after the last row nested in a row: rows are in execution order, parents before children."""
    end = row.index + 1
    while end < len(rows) and rows[end].depth > row.depth:
        end += 1
    return end


def _find_outputs(row: Row, outliving: Sequence[StorageLife]) -> set[int]:
    """Find the storages that a call gave out: the last made of that size. A checkpoint does not let go of them."""
    found: set[int] = set()
    for spec in row.outputs:
        like = [life for life in outliving if life.nbytes == spec.nbytes and id(life) not in found]
        like = like or [life for life in outliving if life.nbytes > spec.nbytes and id(life) not in found]
        if like:
            found.add(id(max(like, key=lambda life: life.birth)))
    return found


def _find_inputs(row: Row, span: _Span, by_size: Mapping[int, Sequence[StorageLife]]) -> list[StorageLife]:
    """Find the storages that went into a call, the last made of that size, and would now be kept until its backward."""
    assert span.begin is not None
    assert span.backward is not None
    found: list[StorageLife] = []
    for spec in row.inputs:
        lives = by_size.get(spec.nbytes, ())
        at = bisect_left(lives, span.begin, key=lambda life: life.birth) - 1
        while at >= 0 and (lives[at].death + 1 < span.begin or lives[at] in found):
            at -= 1
        if at >= 0:
            found.append(lives[at])
    return [life for life in found if life.death < span.backward - 1]


def _join(path: str, calls: Sequence[tuple[Row, int, list[tuple[int, int, int]]]]) -> Candidate:
    first = calls[0][0]
    sizes = tuple((spec.shape, spec.dtype) for row, *_ in calls for spec in (*row.inputs, *row.outputs))
    macs = sum(macs for _, macs, _ in calls)
    freed = tuple(part for *_, parts in calls for part in parts)
    return Candidate(path, first.type_name, first.index, macs, freed, (first.type_name, sizes, macs))


def _sum_freed(candidate: Candidate) -> int:
    return sum(nbytes for *_, nbytes in candidate.freed)


def _leave_equal(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Leave out a module in another one that frees the same at the same cost."""
    kept: dict[tuple[object, ...], Candidate] = {}
    for candidate in candidates:
        kept.setdefault((candidate.freed, candidate.mult_adds), candidate)
    return list(kept.values())


def _leave_small(candidates: Sequence[Candidate], peak: int) -> list[Candidate]:
    sums: dict[Hashable, int] = {}
    for one in candidates:
        sums[one.family] = sums.get(one.family, 0) + _sum_freed(one)
    return [one for one in candidates if sums[one.family] >= peak * _LEAST_SHARE]


def sum_recomputed(step: Training) -> int | None:
    """Sum the multiply-adds that the checkpoints of a step ran again; ``None`` if some are unknown."""
    return sum_backward(step, is_recomputed=True)


def sum_backward(step: Training, *, is_recomputed: bool | None = None) -> int | None:
    """Sum the multiply-adds of a backward, or only what ran again; ``None`` if some are unknown."""
    counted = (one for one in step.backward_ops if is_recomputed in (None, one.is_recomputed))
    return add_known(*(count_aten_op(one.op) for one in counted))


def predict_peak(live: Sequence[int], chosen: Sequence[Candidate]) -> int:
    """Predict the peak of a step with modules checkpointed, from the bytes that live without."""
    changes = [0] * (len(live) + 1)
    for one in chosen:
        for first, last, nbytes in one.freed:
            changes[first] -= nbytes
            changes[last + 1] += nbytes
    return max(map(add, live, accumulate(changes[:-1])), default=0)


class _Problem:
    """Bytes above the budget at every stretch of the step, and what each candidate takes off there."""

    def __init__(self, live: Sequence[int], budget: int, candidates: Sequence[Candidate]) -> None:
        edges = sorted({0, *(edge for one in candidates for a, b, _ in one.freed for edge in (a, b + 1))})
        edges = [edge for edge in edges if edge < len(live)]
        ends = [*edges[1:], len(live)]
        most = [max(live[a:b]) - budget for a, b in zip(edges, ends, strict=True)]
        used = [at for at, over in enumerate(most) if over > 0]
        number = {at: place for place, at in enumerate(used)}
        self.over = [most[at] for at in used]
        self.gains: list[dict[int, int]] = []
        for one in candidates:
            gain: dict[int, int] = {}
            for first, last, nbytes in one.freed:
                for at in range(bisect_left(edges, first), bisect_left(edges, last + 1)):
                    if at in number:
                        gain[number[at]] = gain.get(number[at], 0) + nbytes
            self.gains.append(gain)


def choose_checkpoints(live: Sequence[int], budget: int, candidates: Sequence[Candidate]) -> list[Candidate] | None:
    """Choose modules so that no moment is above the budget, at few multiply-adds run again; ``None`` if none suffice.

    Greedy by bytes taken off for each multiply-add, then without what turns out not to be needed, then with cheaper
    ones in the place of dearer ones. Of a family the first come first: what they free is free for the longest time.

    Args:
        live: Bytes that live, by moment of the step without checkpoints.
        candidates: What may be checkpointed.
    """
    problem = _Problem(live, budget, candidates)
    chosen = _choose_greedily(problem, candidates)
    if chosen is None:
        return None
    chosen = _leave_needless(problem, candidates, chosen)
    chosen = _replace_dear(problem, candidates, chosen)
    return sorted((candidates[at] for at in chosen), key=lambda one: one.first_row)


def _choose_greedily(
    problem: _Problem, candidates: Sequence[Candidate], chosen: Set[int] = frozenset(), without: Set[int] = frozenset()
) -> set[int] | None:
    """Add to what is chosen what takes most off for a multiply-add, until nothing is above the budget."""
    chosen, left_out = {*chosen}, {*without}
    rest = _find_rest(problem, chosen)
    while any(over > 0 for over in rest):
        best, best_score = None, (0.0, 0.0)
        tried: set[Hashable] = set()
        for at, one in enumerate(candidates):
            if at in chosen or at in left_out or one.family in tried:
                continue
            out = _find_conflicts(candidates, chosen, one)
            gain = _sum_useful(rest, problem.gains, at, out)
            if gain <= 0:
                continue
            tried.add(one.family)
            cost = one.mult_adds - sum(candidates[other].mult_adds for other in out)
            score = (gain / cost if cost > 0 else float("inf"), float(gain))
            if score > best_score:
                best, best_score = (at, out), score
        if best is not None:
            at, out = best
            chosen = (chosen - out) | {at}
        else:  # a module that needs too much while it runs again: those in it free less, but run again one by one
            outer = next((at for at in sorted(chosen) if _holds_others(candidates, candidates[at])), None)
            if outer is None:
                return None
            left_out.add(outer)
            chosen = chosen - {outer}
        rest = _find_rest(problem, chosen)
    return chosen


def _holds_others(candidates: Sequence[Candidate], outer: Candidate) -> bool:
    """Return whether there are candidates in a module."""
    return any(one.path.startswith(f"{outer.path}.") for one in candidates)


def _find_conflicts(candidates: Sequence[Candidate], chosen: Iterable[int], one: Candidate) -> set[int]:
    """Find what is chosen above or below a module: of these one is checkpointed."""
    own, paths = f"{one.path}.", {at: f"{candidates[at].path}." for at in chosen}
    return {at for at, path in paths.items() if path.startswith(own) or own.startswith(path)}


def _sum_useful(rest: Sequence[int], gains: Sequence[Mapping[int, int]], at: int, out: Collection[int]) -> int:
    """Sum what is taken off where it is above the budget, no more than that, when one replaces others."""
    change = dict(gains[at])
    for other in out:
        for place, nbytes in gains[other].items():
            change[place] = change.get(place, 0) - nbytes
    return sum(max(rest[place], 0) - max(rest[place] - nbytes, 0) for place, nbytes in change.items())


def _find_rest(problem: _Problem, chosen: Iterable[int]) -> list[int]:
    rest = list(problem.over)
    for at in chosen:
        for place, nbytes in problem.gains[at].items():
            rest[place] -= nbytes
    return rest


def _leave_needless(problem: _Problem, candidates: Sequence[Candidate], chosen: set[int]) -> set[int]:
    """Leave out what is not needed, the dearest first, then what frees least."""
    for at in sorted(chosen, key=lambda at: (-candidates[at].mult_adds, sum(problem.gains[at].values()))):
        if all(over <= 0 for over in _find_rest(problem, chosen - {at})):
            chosen = chosen - {at}
    return chosen


def _replace_dear(problem: _Problem, candidates: Sequence[Candidate], chosen: set[int]) -> set[int]:
    """Choose again without one that is chosen, of each family the last, as long as that is cheaper."""
    cost = _sum_cost(candidates, chosen)
    last = {candidates[at].family: at for at in sorted(chosen)}
    for old in sorted(last.values(), key=lambda at: -candidates[at].mult_adds):
        other = _choose_greedily(problem, candidates, chosen - {old}, {old})
        if other is None:
            continue
        other = _leave_needless(problem, candidates, other)
        if _sum_cost(candidates, other) < cost:
            return _replace_dear(problem, candidates, other)
    return chosen


def _sum_cost(candidates: Sequence[Candidate], chosen: Iterable[int]) -> int:
    return sum(candidates[at].mult_adds for at in chosen)
