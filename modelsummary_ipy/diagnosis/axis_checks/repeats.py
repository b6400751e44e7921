"""Blocks that are alike: what a walk for meaning made of one is renamed for those that repeat its operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from modelsummary_ipy.axes.meaning import Axis, Factor, split
from modelsummary_ipy.axes.meaning_walk import MeaningWalk
from modelsummary_ipy.axes.meanings import Dealt
from modelsummary_ipy.diagnosis.axis_checks.checks import Checks
from modelsummary_ipy.records.op_events import Repeat

#: Of fewer operations a block is walked as fast as renamed.
_LEAST = 8
#: Blocks of one kind that others are compared with: the first reads embeddings, say, and the second what blocks make.
_MOST_ALIKE = 3
#: What is keyed by numbers of sizes and operations; all else that numbers are keys of is keyed by tensors.
_OF_NO_TENSORS = frozenset({"_pieces", "_open"})
#: What is not followed from one operation to the next.
_NOT_FOLLOWED = frozenset({"axes", "dealt", "by_size", "places", "paths", "repeats", "_others", "found", "_seen"})


class _UnlikeError(Exception):
    """What two blocks read is not alike."""


class _Block(NamedTuple):
    """A block that was walked, to be renamed.

    Attributes:
        begin: Its first operation.
        numbers: By number of a tensor of the first block, the number of the one in its place here.
        state: What was followed before it that is of no tensor.
        held: By tensor that it read, where that was followed before.
        made: By tensor that it made and others read, where that is followed.
        dealt: Its reshapes.
    """

    begin: int
    numbers: Mapping[int, int]
    state: Mapping[Any, Any]
    held: Mapping[int, frozenset[Any]]
    made: Mapping[int, frozenset[Any]]
    dealt: Sequence[Dealt]


class Repeats:
    """The blocks of one walk.

    Args:
        checks: What follows it, in sets and dicts by the numbers of tensors.
    """

    def __init__(self, walk: MeaningWalk, checks: Checks) -> None:
        self._walk = walk
        self._ops = walk.ops
        self._checks = checks
        self._repeats = {at: repeat for at, repeat in walk.repeats.items() if repeat.length >= _LEAST}
        firsts = {repeat.like: repeat for repeat in self._repeats.values()}
        self._blocks = {
            **{like: Repeat(like, one.length, *_to_itself(one)) for like, one in firsts.items()}, **self._repeats
        }  # fmt: skip
        self._known: dict[int, list[_Block]] = {like: [] for like in firsts}
        self._reads = {like: self._list_reads(repeat) for like, repeat in firsts.items()}
        self._returned = self._find_returned() if firsts else {}
        self._running: list[tuple[int, Repeat, Any, Any, int, int]] = []
        parts = (part for part in vars(checks).values() if type(part).__name__.endswith("Checks"))
        self._owners = [walk, checks, *parts]

    def skip(self, index: int) -> int:
        """Return how many operations from one on were renamed; 0 where it is to be walked."""
        while self._running and index >= self._running[-1][0]:
            self._end(*self._running.pop())
        block = self._blocks.get(index)
        if block is None:
            return 0
        state, followed = self._read_state()
        if index in self._repeats:
            for known in self._known[block.like]:
                if known.state == state and self._rename(known, index, block, followed):
                    return block.length
        if len(self._known[block.like]) < _MOST_ALIKE:
            held = {one: _find_holders(followed, number) for one, number in self._reads_of(block)}
            self._running.append(
                (index + block.length, block, state, held, len(self._walk.found), len(self._walk.dealt))
            )
        return 0

    def _end(self, end: int, block: Repeat, state: Any, held: Any, num_found: int, num_dealt: int) -> None:
        """Keep a block that was walked, if nothing was found in it and of it only its results count behind it."""
        now, followed = self._read_state()
        numbers = {**dict(block.given), **dict(block.made)}
        made = {one: _find_holders(followed, numbers[one]) for one in self._returned[block.like]}
        is_alone = all(held[one] == _find_holders(followed, number) for one, number in self._reads_of(block))
        is_plain = not any(type(followed[place]) is dict for place in chain.from_iterable(made.values()))
        if now == state and is_alone and is_plain and len(self._walk.found) == num_found:
            dealt = self._walk.dealt[num_dealt:]
            self._known[block.like].append(_Block(end - block.length, numbers, state, held, made, dealt))

    # -- what is followed ---------------------------------------------------------------------------------------------

    def _read_state(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Return copies of what is followed of no tensor, and what is followed of tensors."""
        state: dict[Any, Any] = {}
        followed: dict[Any, Any] = {}
        for place, owner in enumerate(self._owners):
            for name, held in vars(owner).items():
                if held and type(held) in (set, dict, list) and name not in _NOT_FOLLOWED:
                    if type(held) is list or name in _OF_NO_TENSORS or type(next(iter(held))) is not int:
                        state[place, name] = held.copy()
                    else:
                        followed[place, name] = held
        return state, followed

    def _reads_of(self, block: Repeat) -> list[tuple[int, int]]:
        """List what a block reads, parameters left out, by its number in the first of its kind."""
        given = dict(block.given)
        return [(number, given.get(number, number)) for number in self._reads[block.like]]

    def _list_reads(self, block: Repeat) -> list[int]:
        events = self._ops.events[block.like : block.like + block.length]
        made = {one for one, _ in block.made}
        read = dict.fromkeys(ref.number for event in events for ref in event.refs)
        return [number for number in read if number not in made and number not in self._ops.params]

    def _find_returned(self) -> dict[int, list[int]]:
        """Find, by first block, what blocks like it make that is read behind them, by its number in the first."""
        read = {ref.number for ref in self._ops.call_outputs.get(0, ()) if ref is not None}
        read |= {number for block in self._repeats.values() for _, number in block.given}
        index, events = 0, self._ops.events
        while index < len(events):
            if index in self._blocks:
                index += self._blocks[index].length
                continue
            read |= {ref.number for ref in events[index].refs}
            index += 1
        found: dict[int, dict[int, None]] = {like: {} for like in self._known}
        for block in self._blocks.values():
            found[block.like].update((one, None) for one, number in block.made if number in read)
        return {like: list(numbers) for like, numbers in found.items()}

    # -- one block like another ---------------------------------------------------------------------------------------

    def _rename(self, known: _Block, index: int, block: Repeat, followed: Mapping[Any, Any]) -> bool:
        """Give what a block makes the axes of a known one, renamed, if it reads what is alike."""
        axes, numbers = self._walk.axes, {**dict(block.given), **dict(block.made)}
        reads = [(one, known.numbers.get(one, one), number) for one, number in self._reads_of(block)]
        for one, before, number in reads:
            places = _find_holders(followed, number)
            if places != known.held[one] or (number != before and any(type(followed[p]) is dict for p in places)):
                return False
        events, length = self._ops.events, block.length
        calls = {events[known.begin + at].call: events[index + at].call for at in range(length)}
        names = {
            _name_features(self._walk.paths, one): _name_features(self._walk.paths, two) for one, two in calls.items()
        }
        try:
            renamed = _Renaming(names, self._walk.by_size.values())
            for _, before, number in reads:
                renamed.pair_all(axes.get(before), axes.get(number))
            renamed.begin(frozenset(self._walk.places))
            made = {
                numbers[one]: [renamed.axis(axis) for axis in axes[known.numbers[one]]]
                for one, _ in block.made
                if known.numbers[one] in axes
            }
            dealt = [
                (calls[call], [*map(renamed.axis, came)], [*map(renamed.axis, parts)])
                for call, came, parts in known.dealt
            ]
        except _UnlikeError:
            return False
        axes.update(made)
        self._walk.dealt += dealt
        for one, places in known.made.items():
            for owner, name in places:
                vars(self._owners[owner])[name].add(numbers[one])
        self._checks.note_read(number for *_, number in reads)
        return True


def _to_itself(block: Repeat) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    given, made = (tuple((one, one) for one, _ in pairs) for pairs in (block.given, block.made))
    return given, made


def _find_holders(followed: Mapping[Any, Any], number: int) -> frozenset[Any]:
    return frozenset([place for place, held in followed.items() if number in held])


def _name_features(paths: Mapping[int, str], call: int) -> str:
    return f"the features of {paths.get(call) or 'the model'}"


class _Renaming:
    """Axes of one block, and what they are in another that reads what is alike.

    Args:
        names: What layers make in the one, and in the other.
        inputs: Axes of dims of the model's input: themselves in both.
    """

    def __init__(self, names: Mapping[str, str], inputs: Iterable[Axis]) -> None:
        self._names = dict(names)
        self._made = dict(names)
        self._axes: dict[int, tuple[Axis, Axis]] = {id(axis): (axis, axis) for axis in inputs}
        self._factors: dict[Factor, Factor] = {factor: factor for axis in inputs for factor in axis.factors}
        self._roots: dict[frozenset[str], frozenset[str]] = {}
        self._was: frozenset[str] = frozenset()
        self._now: frozenset[str] = frozenset()
        self._same: frozenset[str] = frozenset()
        self._mark = ""

    def pair_all(self, ones: Sequence[Axis] | None, others: Sequence[Axis] | None) -> None:
        """Note which axes of a tensor are which of another.

        Raises:
            _UnlikeError: If they are not alike, or one was another's before.
        """
        if (ones is None) != (others is None) or len(ones or ()) != len(others or ()):
            raise _UnlikeError
        for one, other in zip(ones or (), others or (), strict=True):
            self._pair(one, other)

    def _pair(self, one: Axis, other: Axis) -> None:
        known = self._axes.get(id(one))
        if known is not None:
            if known[1] is not other:
                raise _UnlikeError
            return
        if (
            one.size != other.size
            or len(one.factors) != len(other.factors)
            or (one.origin is None) != (other.origin is None)
        ):
            raise _UnlikeError
        self._axes[id(one)] = one, other
        for factor, its in zip(one.factors, other.factors, strict=True):
            self._pair_factor(factor, its)
        if one.origin is not None and other.origin is not None:
            self._pair(one.origin, other.origin)

    def _pair_factor(self, one: Factor, other: Factor) -> None:
        known = self._factors.get(one)
        if known is not None:
            if known is not other:
                raise _UnlikeError
            return
        if one is not other:
            is_alike = (one.size, one.kind, one.half) == (other.size, other.kind, other.half) and one.kind != "input"
            if not is_alike or (one.whole is None) != (other.whole is None):
                raise _UnlikeError
            if one.whole is not None and other.whole is not None:
                self._pair_factor(one.whole, other.whole)
            if self._names.setdefault(one.name, other.name) != other.name:
                raise _UnlikeError
        self._factors[one] = other

    def begin(self, inputs: frozenset[str]) -> None:
        """End the noting.

        Args:
            inputs: Names of dims of the model's input.

        Raises:
            _UnlikeError: If it makes two of one, or what is read depends on each other, or on the input, in other ways.
        """
        others = [other for _, other in self._axes.values()]
        if len(set(map(id, others))) < len(others) or len({*self._factors.values()}) < len(self._factors):
            raise _UnlikeError
        changed = {(one.roots, other.roots) for one, other in self._factors.items() if one.roots != other.roots}
        same = [one.roots for one, other in self._factors.items() if one.roots == other.roots]
        self._same = frozenset().union(*same)
        if len(changed) > 1:
            raise _UnlikeError
        for was, now in changed:
            self._was, self._now = was, now
            self._mark = next(iter(was - self._same), "")
            is_alike = self._mark and was & inputs == now & inputs and was & self._same <= now
            if not is_alike or any(bool(was & roots) != bool(now & roots) or now == roots for roots in same):
                raise _UnlikeError
        if not self._made.keys().isdisjoint(self._was | self._same):
            raise _UnlikeError
        if not (self._now | self._same).isdisjoint(self._made.values()) or len({*self._made.values()}) < len(
            self._made
        ):
            raise _UnlikeError

    def axis(self, axis: Axis) -> Axis:
        """Return what an axis of the one block is in the other.

        Raises:
            _UnlikeError: If its name is made of several.
        """
        known = self._axes.get(id(axis))
        if known is None:
            origin = None if axis.origin is None else self.axis(axis.origin)
            known = self._axes[id(axis)] = axis, Axis(map(self._factor, axis.factors), axis.size, origin)
        return known[1]

    def _factor(self, factor: Factor) -> Factor:
        found = self._factors.get(factor)
        if found is None:
            found = self._factors[factor] = self._rename(factor)
        return found

    def _rename(self, factor: Factor) -> Factor:
        if factor.whole is not None:
            whole, is_outer = self._factor(factor.whole), factor.half == "outer"
            outer = factor.size if is_outer else whole.size // factor.size
            return split(whole, outer)[0 if is_outer else 1]
        name = self._names.get(factor.name)
        if name is None:
            name = factor.name
            if any(one in name and one != other for one, other in self._names.items()):
                raise _UnlikeError
        return Factor(factor.size, factor.kind, self._rename_roots(factor.roots), name)

    def _rename_roots(self, roots: frozenset[str]) -> frozenset[str]:
        found = self._roots.get(roots)
        if found is None:
            is_of = bool(self._mark) and self._mark in roots
            made = {self._made.get(root, root) for root in (roots - self._was if is_of else roots)}
            if is_of:
                made |= (self._now if "B" in roots else self._now - {"B"}) | (roots & self._same)
            found = self._roots[roots] = frozenset(made)
        return found
