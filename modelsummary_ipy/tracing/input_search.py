"""Inputs that come nearer to the end of a forward: sizes that a failure names take the place of those that failed."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from math import isqrt
from typing import NamedTuple

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.records.trace import Call, Trace

#: Steps, frames or points of a dim that is added.
_ADDED = (16, 1)
_MOST_NUMBERS = 10
#: How often a change may be kept that lets no more calls run.
_MOST_MOVES = 4
#: From how many inputs that failed the search begins.
_MOST_FAILED = 10
_LARGEST = 1 << 14


def search_inputs(
    failed: Iterable[tuple[ModelInputs, Trace]], run: Callable[[ModelInputs], Trace | None]
) -> ModelInputs | None:
    """Search from inputs that failed, those first at which most calls ran, until some run to the end.

    Args:
        failed: What was tried, and how far it came.
        run: Traces inputs; ``None`` where the time is over.
    """
    queue: list[_Place] = []
    seen: set[tuple[Size, ...]] = set()
    order = count()

    def add(inputs: ModelInputs, trace: Trace, moves: int) -> None:
        seen.add(_list_sizes(inputs))
        ran = _count_ran(trace)
        heapq.heappush(queue, _Place(moves - ran, next(order), ran, moves, _list_nearer(inputs, trace)))

    for inputs, trace in sorted(failed, key=lambda one: -_count_ran(one[1]))[:_MOST_FAILED]:
        add(inputs, trace, 0)
    while queue:
        place = heapq.heappop(queue)
        following = next((inputs for inputs in place.nearer if _list_sizes(inputs) not in seen), None)
        if following is None:
            continue
        found = run(following)
        if found is None:
            return None
        if found.failure is None:
            return following
        heapq.heappush(queue, place)
        ran = _count_ran(found)
        seen.add(_list_sizes(following))
        if ran >= place.ran and place.moves < _MOST_MOVES:
            add(following, found, place.moves + (ran == place.ran))
    return None


class _Place(NamedTuple):
    """Inputs that failed: what they cost, the least first, how many calls ran, and what is near to them."""

    cost: int
    order: int
    ran: int
    moves: int
    nearer: Iterator[ModelInputs]


def _list_sizes(inputs: ModelInputs) -> tuple[Size, ...]:
    return tuple(leaf for _, leaf in inputs.leaves() if isinstance(leaf, Size))


def _count_ran(trace: Trace) -> int:
    return sum(call.status == "ran" for call in trace.calls)


def _list_nearer(inputs: ModelInputs, trace: Trace) -> Iterator[ModelInputs]:
    """Offer inputs of which one size differs, those first that the failure names."""
    assert trace.failure is not None
    call = trace.calls[trace.failure.call] if trace.failure.call is not None else None
    leaves = [(name, leaf) for name, leaf in inputs.leaves() if isinstance(leaf, Size)]
    read = _find_leaves(trace, call) if call is not None else set()
    first = [leaf for at, leaf in enumerate(leaves) if at in read] or leaves
    if call is not None and re.search(r"\bLong\b|\bint", trace.failure.message):  # indices that were computed
        for name, size in first:
            if size.dtype is None:
                yield inputs.with_sizes({name: Size(size.shape, dtype="int64")})
    ranks = list(_list_ranks(trace.failure.message))
    for leaf in first:
        yield from _change(inputs, *leaf, (shape for shape in _list_of_rank(leaf[1].shape) if len(shape) in ranks))
    mismatches = list(_list_mismatches(trace, call))
    for leaf in first:
        yield from _change(inputs, *leaf, _list_turned(leaf[1].shape, mismatches))
    for leaf in first:
        if len(leaf[1].shape) > 1 or len(leaves) == 1:  # one of several vectors has an entry a sample
            yield from _change(inputs, *leaf, _list_resized(leaf[1].shape, mismatches))
    for leaf in (*first, *(leaf for leaf in leaves if leaf not in first)):
        yield from _change(inputs, *leaf, _list_of_rank(leaf[1].shape))


def _change(inputs: ModelInputs, name: str, size: Size, shapes: Iterable[tuple[int, ...]]) -> Iterator[ModelInputs]:
    for shape in shapes:
        if all(0 < entry <= _LARGEST for entry in shape) and shape != size.shape:
            yield inputs.with_sizes({name: Size(shape, dtype=size.dtype)})


def _find_leaves(trace: Trace, call: Call) -> set[int]:
    """Return the input leaves that what a call reads was made of."""
    todo, seen, found = [call.index], {call.index}, set()
    while todo:
        for link in trace.calls[todo.pop()].input_links:
            if link is not None and link.call == -1:
                found.add(link.leaf)
            elif link is not None and link.call not in seen:
                seen.add(link.call)
                todo.append(link.call)
    return found


def _list_ranks(message: str) -> Iterator[int]:
    """Read how many dims a message of torch's or Python's wants: ``expected 5, got 4``, ``3D or 4D``."""
    for text in re.findall(r"expected (?:at least )?(\d)\b|\b(\d)-?[Dd]\b|\((\d+) dims?\)", message):
        yield int(next(filter(None, text)))


def _list_mismatches(trace: Trace, call: Call | None) -> Iterator[tuple[int, int]]:
    """List sizes that went into the call that failed, each with one that may have been wanted in its place."""
    assert trace.failure is not None
    named = [int(text) for text in re.findall(r"\d+", trace.failure.message) if len(text) < 8]
    wanted = list(dict.fromkeys(named))
    received = list(wanted)
    if call is not None:
        received = list(dict.fromkeys(entry for spec in call.inputs for entry in spec.shape))
        params = call.params or (trace.modules[call.module].params if call.module is not None else ())
        if call.kind == "module" or call.params:
            wanted += [entry for param in params for entry in trace.params[param].shape]
        wanted += [value for _, value in call.arguments if type(value) is int]
        wanted += received
    wanted = list(dict.fromkeys(wanted))[:_MOST_NUMBERS]
    for old in received[:_MOST_NUMBERS]:
        for new in wanted:
            if old != new and min(old, new) > 0:
                yield old, new


def _list_turned(shape: tuple[int, ...], mismatches: list[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Offer a shape with its channels last, or first, where one of its sizes was wanted for another."""
    inner = shape[1:]
    if len(inner) > 1 and any(old in inner and new in inner for old, new in mismatches):
        yield (shape[0], *inner[1:], inner[0])
        yield (shape[0], inner[-1], *inner[:-1])


def _list_resized(shape: tuple[int, ...], mismatches: list[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Offer a shape with another size in a dim: the one wanted, as much more or less, or as many times as large.

    Of a square map both sides are changed first, and so that its area is the one wanted.
    """
    places = list(range(len(shape)))[1:] or [0]
    if len(shape) > 3 and shape[-1] == shape[-2]:
        sides = [change(shape[-1], *pair) for change in (*_CHANGES, _find_side) for pair in mismatches]
        yield from dict.fromkeys((*shape[:-2], side, side) for side in sides if side > 1)
    for change in _CHANGES:
        for old, new in mismatches:
            for place in reversed(places):
                if (size := change(shape[place], old, new)) > 1:
                    yield (*shape[:place], size, *shape[place + 1 :])


#: The size to try for one that is there, where ``new`` was wanted for ``old``; 0 for none.
_CHANGES: tuple[Callable[[int, int, int], int], ...] = (
    lambda size, old, new: new if size == old else 0,
    lambda size, old, new: size + new - old,
    lambda size, old, new: size * new // old if size * new % old == 0 else 0,
    lambda size, old, new: new,
)


def _find_side(size: int, old: int, new: int) -> int:
    areas = (new, size * size * new // old if size * size * new % old == 0 else 0)
    return next((isqrt(area) for area in areas if isqrt(area) ** 2 == area > 1), 0)


def _list_of_rank(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Offer a shape with one dim more or less, or with its channels last."""
    if len(shape) > 1:
        yield (shape[0], *shape[2:])
        yield shape[:-1]
    for size in _ADDED:
        yield (shape[0], size, *shape[1:])
    if len(shape) > 2:
        yield (shape[0], *shape[2:], shape[1])
    yield (*shape, 1)
