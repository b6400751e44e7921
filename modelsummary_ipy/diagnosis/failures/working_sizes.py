"""Sizes of the model's input that work: guessed, steered to what the failed call wants, and always tried."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.restructured_sizes import harmonise, restructure
from modelsummary_ipy.diagnosis.failures.size_rule import SizeRule, find_size_rule
from modelsummary_ipy.records.retraced import Budget, Retraced, Specs
from modelsummary_ipy.records.trace import Call, Trace
from modelsummary_ipy.shapes.size_search import first_true

#: Calls that all traces of one search may make together: about a second.
_MOST_CALLS = 2500
_MOST_TRACES = 60
#: After so many other inputs that fail with the very same message, sizes are not what is wrong.
_MOST_ALIKE = 20
_GROWTH = (16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 512)
#: Of a sequence or a signal: a second of sound has thousands of samples.
_LENGTHS = tuple(1 << power for power in range(3, 17))
#: What models of one size only are mostly made for; frames of a clip.
_USUAL = (224, 256, 384, 112)
_FRAMES = (16, 32, 8)


class SizeTracer(Protocol):
    """What traces the model at other inputs: a ``Retracer``, without the torch that it loads."""

    budget: Budget

    def within(self, budget: Budget) -> SizeTracer:
        """Return one of the same forward with a budget of its own."""

    def at(self, where: Specs) -> Retraced:
        """Trace at other inputs."""

    def write(self, specs: Specs) -> str:
        """Write inputs as the magic takes them."""


class FoundSizes(NamedTuple):
    """Inputs that work.

    Attributes:
        specs: At most two, each of them traced to its end.
        search: Which search found them; ``""`` if none did.
        rule: Which sizes work on the dims that changed; ``None`` if that is not known.
    """

    specs: list[Specs]
    search: str = ""
    rule: SizeRule | None = None


def find_sizes(ctx: FailureContext, diagnosis: Diagnosis, retracer: SizeTracer) -> FoundSizes:
    """Find inputs at which the model runs, nearest to the given one first.

    Args:
        diagnosis: What is known of it.
    """
    search = _Search(ctx, retracer)
    base = tuple(fact.spec for fact in ctx.trace.inputs)
    if not base:
        return FoundSizes([])
    for specs in diagnosis.candidates:
        if search.works(specs):
            return FoundSizes([specs], "candidates")
    searches: dict[str, Callable[[], Iterator[Specs]]] = {
        "steer": lambda: _steer(ctx, diagnosis, base, search),
        "named": lambda: _read_message(ctx, base),
        "alike": lambda: harmonise(base),
        "reshape": lambda: restructure(ctx, diagnosis, base),
        "step": lambda: itertools.chain(_step(base), _divide(ctx, base)),
        "grow": lambda: _grow(base, search),
        "usual": lambda: _list_usual(base),
        "settings": lambda: _read_settings(ctx, base),
    }
    order = ("alike", *diagnosis.search) if diagnosis.search and len(base) > 1 else diagnosis.search
    for name in order:
        found = _keep_working(searches[name](), base, search, 2 if name == "step" else 1)
        if found:
            rule = _find_rule(ctx, base, found[0], retracer) if name in _OF_SIZES else None
            return FoundSizes(found, name, rule)
    met = search.list_found(base)[:1]  # on the way, before the budget was spent
    return FoundSizes(met, "steer" if met else "")


#: The searches that change sizes, and neither ranks nor orders.
_OF_SIZES = ("named", "steer", "step", "grow", "usual", "settings")


def _find_rule(ctx: FailureContext, base: Specs, good: Specs, retracer: SizeTracer) -> SizeRule | None:
    """Find which sizes work on the dims that changed, if they change together."""
    changed = [
        (leaf, axis)
        for leaf, (one, other) in enumerate(zip(base, good, strict=True))
        for axis, (before, after) in enumerate(zip(one.shape, other.shape, strict=True))
        if before != after
    ]
    sizes = {(base[leaf].shape[axis], good[leaf].shape[axis]) for leaf, axis in changed}
    if len(sizes) != 1:
        return None
    given, works = sizes.pop()
    search = _Search(ctx, retracer, most_alike=_MOST_TRACES)
    rule = find_size_rule(lambda size: search.works(_move(base, tuple(changed), size)), works, given)
    return None if search.is_spent else rule


def _keep_working(proposed: Iterator[Specs], base: Specs, search: _Search, most: int) -> list[Specs]:
    """Return the first proposals that work."""
    found: list[Specs] = []
    for specs in proposed:
        if specs != base and specs not in found and search.works(specs):
            found.append(specs)
        if len(found) == most or search.is_spent:
            break
    return found


class _Search:
    """Traces at other inputs, each once, and no more than a search is worth."""

    def __init__(self, ctx: FailureContext, retracer: SizeTracer, most_alike: int = _MOST_ALIKE) -> None:
        calls = max(_MOST_CALLS, 4 * len(ctx.trace.calls))
        self._retracer = retracer.within(Budget(calls, _MOST_TRACES))
        self._message = ctx.failure.message
        self._most_alike = most_alike
        self._known: dict[Specs, Retraced] = {}

    @property
    def is_spent(self) -> bool:
        """Whether no more is traced."""
        return self._retracer.budget.is_spent or sum(map(self._is_alike, self._known.values())) >= self._most_alike

    def _is_alike(self, found: Retraced) -> bool:
        if found.overrun:
            return "out of range" in self._message
        failure = found.trace.failure if found.trace is not None else None
        return failure is not None and failure.message == self._message

    def at(self, specs: Specs) -> Retraced:
        """Trace at ``specs``."""
        if specs not in self._known:
            if self.is_spent:
                return Retraced(None)
            self._known[specs] = self._retracer.at(specs)
        return self._known[specs]

    def works(self, specs: Specs) -> bool:
        """Return whether the forward runs to its end."""
        return self.at(specs).works

    def list_found(self, base: Specs) -> list[Specs]:
        """List what was tried and works, of the ranks that were given, the nearest first."""
        found = [specs for specs, there in self._known.items() if there.works and specs != base]
        ranks = [len(spec.shape) for spec in base]
        alike = [specs for specs in found if [len(spec.shape) for spec in specs] == ranks]
        sizes = [size for spec in base for size in spec.shape]

        def distance(specs: Specs) -> int:
            return sum(abs(a - b) for a, b in zip(sizes, (n for spec in specs for n in spec.shape), strict=True))

        return sorted(alike, key=distance)


# -- moves: dims that change together ---------------------------------------------------------------------------------

Move = tuple[tuple[int, int], ...]


def _list_moves(base: Specs) -> list[Move]:
    """List groups of dims to change: the sides of a feature map together, then each, then the length, the batch last.

    A dim moves in every input that has the same size there.
    """
    main = max(range(len(base)), key=lambda i: len(base[i].shape))
    rank = len(base[main].shape)
    groups: list[tuple[int, ...]] = []
    if rank >= 4:
        groups = [
            tuple(range(2, rank)),
            *([(3, 4), (2,)] if rank == 5 else []),
            *[(axis,) for axis in range(rank - 1, 1, -1)],
            (1,),
            *([(1, 2)] if rank == 4 and base[main].shape[1] == base[main].shape[2] != base[main].shape[3] else []),
        ]
    elif rank == 3:
        groups = [(2,), (1,), (1, 2)]
    elif rank == 2:
        groups = [(1,)]
    elif rank == 1:
        groups = [(0,)]
    moves = [_find_places(base, main, group) for group in groups]
    return [move for move in dict.fromkeys(moves) if move]


def _find_places(base: Specs, main: int, group: tuple[int, ...]) -> Move:
    """Find where the inputs have the sizes of some dims of the main one."""
    places = []
    for axis in group:
        size = base[main].shape[axis] if base[main].shape else 0
        places += [
            (leaf, other)
            for leaf, spec in enumerate(base)
            for other in range(len(spec.shape))
            if spec.shape[other] == size and (other == axis or (leaf != main and other > 0 and axis > 0))
        ]
    return tuple(dict.fromkeys(places))


def _move(base: Specs, move: Move, value: int) -> Specs:
    specs = list(base)
    for leaf, axis in move:
        shape = specs[leaf].shape
        specs[leaf] = specs[leaf]._replace(shape=(*shape[:axis], value, *shape[axis + 1 :]))
    return tuple(specs)


# -- steering ---------------------------------------------------------------------------------------------------------


def _steer(ctx: FailureContext, diagnosis: Diagnosis, base: Specs, search: _Search) -> Iterator[Specs]:
    """Look for the smallest size at which the failed call reads what it wants; what it reads grows with the input."""
    if diagnosis.goal is None:
        return
    measure, wanted = diagnosis.goal

    def value_at(specs: Specs) -> int | None:
        trace = search.at(specs).trace
        call = _find_again(trace, ctx) if trace is not None else None
        value = measure(call) if call is not None else None
        return value if type(value) is int else None

    def reaches(move: Move, size: int) -> bool:
        return (value_at(_move(base, move, size)) or 0) >= wanted

    def exceeds(move: Move, size: int) -> bool:
        return (value_at(_move(base, move, size)) or 0) > wanted

    now = value_at(base)
    for specs in _list_usual(base):
        if value_at(specs) == wanted != now:
            yield specs
    for move in _list_moves(base):
        start = base[move[0][0]].shape[move[0][1]]
        if value_at(_move(base, move, wanted)) == wanted != now:  # an axis that is handed on as it is
            yield _move(base, move, wanted)
        probe_value = value_at(_move(base, move, start + max(start, 16)))
        if probe_value is None or now is None or probe_value == now:
            continue
        low, high = 1, start + max(start, 16)
        while not reaches(move, high) and high < 1 << 14 and not search.is_spent:
            low, high = high, high * 2
        smallest = first_true(range(low, high + 1), partial(reaches, move))
        if smallest is not None and value_at(_move(base, move, smallest)) == wanted:
            above = range(smallest + 1, smallest + _WIDEST)
            end = first_true(above, partial(exceeds, move))
            natural = _choose_natural(range(smallest, end or smallest + 1), start)
            yield _move(base, move, natural)
            if natural != smallest:
                yield _move(base, move, smallest)


#: How far above the smallest size that works the others are looked for.
_WIDEST = 64


def _choose_natural(sizes: range, near: int) -> int:
    """Choose of sizes that work the one that people use: the largest power of 2 divides it, then the nearest."""
    return max(sizes, key=lambda size: (size & -size, -abs(size - near)))


def _find_again(trace: Trace, ctx: FailureContext) -> Call | None:
    """Find the call that failed in another trace: of those alike, as many come before it."""
    found = _list_alike(trace.calls, ctx.call)
    number = len(_list_alike(ctx.trace.calls[: max(ctx.call.index, 0)], ctx.call))
    return found[number] if number < len(found) else None


def _list_alike(calls: Sequence[Call], one: Call) -> list[Call]:
    wanted = (one.kind, one.path, one.type_name, one.source)
    return [call for call in calls if (call.kind, call.path, call.type_name, call.source) == wanted]


# -- guessing ---------------------------------------------------------------------------------------------------------


def _step(base: Specs) -> Iterator[Specs]:
    """The nearest multiples of small powers of two, and the nearest sizes at all."""
    moves = [move for move in _list_moves(base) if all(axis > 0 for _, axis in move)]
    for factor in (2, 4, 8, 16, 32, 64):
        for up in (False, True):
            specs = _round_all(base, factor, up)
            if specs is not None:
                yield specs
    for move in moves[:1]:
        start = base[move[0][0]].shape[move[0][1]]
        for step in range(1, 9):
            yield _move(base, move, start + step)
            if start > step:
                yield _move(base, move, start - step)


def _divide(ctx: FailureContext, base: Specs) -> Iterator[Specs]:
    """The nearest multiples of a setting of the module that failed: of a window, a patch."""
    settings = ctx.fact.settings.values() if ctx.fact is not None else ()
    for factor in dict.fromkeys(value for value in settings if type(value) is int and 2 < value < 65):
        for move in _list_moves(base):
            start = base[move[0][0]].shape[move[0][1]]
            for size in (start // factor * factor, -(-start // factor) * factor):
                if size and size != start and any(axis > 0 for _, axis in move):
                    yield _move(base, move, size)


def _round_all(base: Specs, factor: int, up: bool) -> Specs | None:
    """Round the sides of every feature map, or the length of every sequence, to a multiple."""
    specs = []
    for spec in base:
        keep = 2 if len(spec.shape) > 3 else 1 if len(spec.shape) < 3 else 2
        shape = tuple(
            size if axis < keep else (size + factor - 1) // factor * factor if up else size // factor * factor
            for axis, size in enumerate(spec.shape)
        )
        if 0 in shape:
            return None
        specs.append(spec._replace(shape=shape))
    return tuple(specs) if tuple(specs) != base else None


def _list_usual(base: Specs) -> Iterator[Specs]:
    """The sides of images, and the frames of clips, that models are mostly made for, the nearest first."""
    main = max(range(len(base)), key=lambda i: len(base[i].shape))
    shape = base[main].shape
    if len(shape) not in (4, 5):
        return
    sides = _find_places(base, main, tuple(range(len(shape) - 2, len(shape))))
    near = sorted(_USUAL, key=lambda side: abs(side - shape[-1]))
    if len(shape) == 4:
        yield from (_move(base, sides, side) for side in near[:3])
        return
    clips = _find_places(base, main, (2,))
    for frames in (shape[2], *_FRAMES):
        for side in (shape[-1], 224):
            yield _move(_move(base, clips, frames), sides, side)


def _grow(base: Specs, search: _Search) -> Iterator[Specs]:
    """The smallest of some usual sides that is large enough."""
    if len(base[0].shape) == 5:
        yield from _list_usual(base)

    def works(move: Move, size: int) -> bool:
        return search.works(_move(base, move, size))

    for move in _list_moves(base)[:3]:
        start = base[move[0][0]].shape[move[0][1]]
        for side in _GROWTH if len(base[0].shape) > 3 else _LENGTHS:
            if side <= start:
                continue
            if works(move, side):
                smallest = first_true(range(start + 1, side), partial(works, move)) or side
                natural = _choose_natural(range(smallest, min(side, smallest + _WIDEST) + 1), start)
                yield _move(base, move, natural)
                yield _move(base, move, smallest)
                return


def _read_message(ctx: FailureContext, base: Specs) -> Iterator[Specs]:
    """Sizes that the message of another library names, in the place of those that it found."""
    numbers = list(dict.fromkeys(int(word) for word in re.findall(r"\d+", ctx.failure.message) if len(word) < 6))
    for found in numbers:
        places = tuple(
            (leaf, axis) for leaf, spec in enumerate(base) for axis, size in enumerate(spec.shape) if size == found > 1
        )
        for wanted in numbers if places else ():
            if wanted not in (0, found):
                yield _move(base, places, wanted)
    sides = _list_moves(base)[0] if len(base[0].shape) > 3 else ()
    for wanted in numbers if sides else ():
        if wanted > base[sides[0][0]].shape[sides[0][1]]:
            yield _move(base, sides, wanted)


def _read_settings(ctx: FailureContext, base: Specs) -> Iterator[Specs]:
    """Sides and lengths that the model's own settings name."""
    values: list[int] = []
    for fact in ctx.trace.modules:
        for name in ("image_size", "img_size", "input_size", "input_resolution", "max_len", "max_length", "seq_len",
                     "block_size", "context_length", "max_position_embeddings", "num_embeddings"):  # fmt: skip
            value = fact.settings.get(name)
            if isinstance(value, tuple) and value and len(set(value)) == 1:
                value = value[0]
            if type(value) is int and 0 < value < 1 << 14 and value not in values:
                values.append(value)
    for value in values[:6]:
        for move in _list_moves(base)[:3]:
            yield _move(base, move, value)
