"""Sizes of the model's input that work: guessed, steered to what the failed call wants, and always tried."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from modelsummary_ipy.diagnosis.call_arguments import given_size
from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.size_moves import (
    Move,
    divide,
    harmonise,
    list_moves,
    list_usual,
    move_dims,
    read_message,
    read_size,
    restructure,
    step_near,
)
from modelsummary_ipy.diagnosis.failures.size_rule import SizeRule, find_size_rule
from modelsummary_ipy.diagnosis.torch_names import RESHAPES
from modelsummary_ipy.records.retraced import Budget, Retraced, Specs
from modelsummary_ipy.records.trace import Call, Trace
from modelsummary_ipy.shapes.size_search import first_true

#: Calls that all traces of one search may make together: about a second.
_MOST_CALLS = 2500
_MOST_TRACES = 60
#: After so many other inputs that fail with the very same message, sizes are not what is wrong.
_MOST_ALIKE = 20
#: What torch says of an index beyond the end of an axis.
_BEYOND = ("out of bounds for dimension", "out of range in self")
_BEYOND_BY = re.compile(r"index (\d+) is out of bounds for dimension \d+ with size (\d+)")
#: What takes parts of a tensor, or lays them out, and leaves its values.
_PARTS = RESHAPES | {"getitem", "unbind", "select", "chunk", "split", "unsqueeze", "squeeze", "expand", "expand_as"}
_GROWTH = (16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 512)
#: Of a sequence or a signal: a second of sound has thousands of samples.
_LENGTHS = tuple(1 << power for power in range(3, 17))


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
    for specs in (*diagnosis.candidates, *search.list_longer(base)):
        if search.works(specs):
            return FoundSizes([specs], "candidates")
    searches: dict[str, Callable[[], Iterator[Specs]]] = {
        "steer": lambda: _steer(ctx, diagnosis, base, search),
        "named": lambda: read_message(ctx, base),
        "alike": lambda: harmonise(base),
        "reshape": lambda: restructure(ctx, diagnosis, base),
        "step": lambda: itertools.chain(step_near(base), divide(ctx, base)),
        "grow": lambda: _grow(base, search),
        "usual": lambda: list_usual(base),
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
_OF_SIZES = ("named", "steer", "step", "grow", "usual")


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
    rule = find_size_rule(lambda size: search.works(move_dims(base, tuple(changed), size)), works, given)
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
        self._ctx = ctx
        self._message = ctx.failure.message
        self._most_alike = most_alike
        self._known: dict[Specs, Retraced] = {}
        self._ranks = [len(fact.spec.shape) for fact in ctx.trace.inputs]
        self._kept = {leaf: ctx.trace.inputs[leaf].spec.shape for leaf in list_given_places(ctx)}

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
        """Return whether the forward runs to its end, and rows stay samples where it failed.

        Of indices of the user's that lie beyond an end no others are made up.
        """
        if any(specs[leaf].shape != shape for leaf, shape in self._kept.items()):
            return False
        if self._kept and [len(spec.shape) for spec in specs] != self._ranks:
            return False
        found = self.at(specs)
        return found.works and found.trace is not None and not _cuts_samples(_find_again(found.trace, self._ctx))

    def list_longer(self, base: Specs) -> Iterator[Specs]:
        """List inputs of as many entries as the user's indices ask for."""
        found = _BEYOND_BY.search(self._message) if self._kept else None
        if found is not None:
            index, size = int(found[1]), int(found[2])
            yield tuple(
                spec
                if leaf in self._kept
                else spec._replace(shape=tuple(index + 1 if one == size else one for one in spec.shape))
                for leaf, spec in enumerate(base)
            )

    def list_found(self, base: Specs) -> list[Specs]:
        """List what was tried and works, of the ranks that were given, the nearest first."""
        found = [specs for specs in self._known if specs != base and self.works(specs)]
        ranks = [len(spec.shape) for spec in base]
        alike = [specs for specs in found if [len(spec.shape) for spec in specs] == ranks]
        sizes = [size for spec in base for size in spec.shape]

        def distance(specs: Specs) -> int:
            return sum(abs(a - b) for a, b in zip(sizes, (n for spec in specs for n in spec.shape), strict=True))

        return sorted(alike, key=distance)


def list_given_places(ctx: FailureContext) -> Iterator[int]:
    """List the inputs whose own values are indices beyond the end of an axis."""
    if not any(words in ctx.failure.message for words in _BEYOND):
        return
    for x in ctx.operands:
        link = x.link if "int" in x.spec.dtype else None
        while link is not None and (maker := ctx.flow.producer(link)) is not None and maker.type_name in _PARTS:
            link = maker.input_links[0]
        if link is not None and link.call < 0 and ctx.trace.inputs[link.leaf].given == "data":
            yield link.leaf


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
        return (value_at(move_dims(base, move, size)) or 0) >= wanted

    def exceeds(move: Move, size: int) -> bool:
        return (value_at(move_dims(base, move, size)) or 0) > wanted

    now = value_at(base)
    for specs in list_usual(base):
        if value_at(specs) == wanted != now:
            yield specs
    for move in list_moves(base):
        start = read_size(base, move)
        if value_at(move_dims(base, move, wanted)) == wanted != now:  # an axis that is handed on as it is
            yield move_dims(base, move, wanted)
        probe_value = value_at(move_dims(base, move, start + max(start, 16)))
        if probe_value is None or now is None or probe_value == now:
            continue
        low, high = 1, start + max(start, 16)
        while not reaches(move, high) and high < 1 << 14 and not search.is_spent:
            low, high = high, high * 2
        smallest = first_true(range(low, high + 1), partial(reaches, move))
        if smallest is not None and value_at(move_dims(base, move, smallest)) == wanted:
            above = range(smallest + 1, smallest + _WIDEST)
            end = first_true(above, partial(exceeds, move))
            natural = _choose_natural(range(smallest, end or smallest + 1), start)
            yield move_dims(base, move, natural)
            if natural != smallest:
                yield move_dims(base, move, smallest)


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


def _cuts_samples(call: Call | None) -> bool:
    """Return whether a reshape makes other rows than samples: ``view(-1, 400)`` of 800 elements each.

    Whole dims folded with their features intact, ``(B, T, V)`` to ``(B·T, V)``, cut none.
    """
    if call is None or call.type_name not in RESHAPES or not (call.inputs and call.outputs):
        return False
    before, after, asked = call.inputs[0].shape, call.outputs[0].shape, given_size(call)
    if not (before and after and asked) or asked[0] != -1 or before[0] == after[0]:
        return False
    return len(after) > len(before) or before[len(before) - len(after) + 1 :] != after[1:]


def _list_alike(calls: Sequence[Call], one: Call) -> list[Call]:
    wanted = (one.kind, one.path, one.type_name, one.source)
    return [call for call in calls if (call.kind, call.path, call.type_name, call.source) == wanted]


def _grow(base: Specs, search: _Search) -> Iterator[Specs]:
    """The smallest of some usual sides that is large enough."""
    if len(base[0].shape) == 5:
        yield from list_usual(base)

    def works(move: Move, size: int) -> bool:
        return search.works(move_dims(base, move, size))

    for move in list_moves(base)[:3]:
        start = read_size(base, move)
        for side in _GROWTH if len(base[0].shape) > 3 else _LENGTHS:
            if side <= start:
                continue
            if works(move, side):
                smallest = first_true(range(start + 1, side), partial(works, move)) or side
                natural = _choose_natural(range(smallest, min(side, smallest + _WIDEST) + 1), start)
                yield move_dims(base, move, natural)
                yield move_dims(base, move, smallest)
                return
