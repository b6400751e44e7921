"""Calls of modules that did the same in one trace: the layers of a transformer, the steps of a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from modelsummary_ipy.records.trace import Call, Link, Trace

#: A call of a module: which module, and how often it was called before.
Key = tuple[int, int]

#: Of calls with fewer calls in them there is little to save, and of those of torch's layers with few operations between
#: them: what layers make is remembered anyway.
_LEAST_CALLS = 4
_LEAST_OPS = 3
#: With so many of one class and size, which all did something else, a call is compared.
_MOST_KINDS = 8


class Alike(NamedTuple):
    """A call that did what an earlier one did.

    Attributes:
        first: The earlier one.
        modules, params: For those that the earlier one ran and read, its own.
    """

    first: Key
    modules: Mapping[int, int]
    params: Mapping[int, int]


@dataclass
class AlikeCalls:
    """Which calls of a trace did what others did.

    Attributes:
        later: Every such call but the first of its kind.
        first: The first ones.
        differing: Of those, in which attributes their modules differ, as far as they were compared: path and name.
    """

    later: dict[Key, Alike] = field(default_factory=dict)
    first: set[Key] = field(default_factory=set)
    differing: dict[Key, frozenset[tuple[str, str]]] = field(default_factory=dict)


def find_alike(trace: Trace) -> AlikeCalls:
    """Find calls of modules in which the same operations ran, with the same arguments, on tensors of the same sizes.

    What was made in such a call is read outside of it only where it is returned. Calls inside one are not looked at.
    """
    found = AlikeCalls()
    calls = trace.calls
    if trace.failure is not None:
        return found
    ends, outside = _find_ends(calls), _list_outside(calls)
    modules = [call for call in calls if call.kind == "module" and call.depth]
    modules = [call for call in modules if ends[call.index] - call.index >= _LEAST_CALLS]
    counts = list(accumulate((call.kind == "op" for call in calls), initial=0))
    modules = [call for call in modules if counts[ends[call.index]] - counts[call.index] >= _LEAST_OPS]
    # One that leaves what it made somewhere else shows that others of its class may do so.
    open_types = {call.type_name for call in modules if _escapes(call, ends[call.index], outside)}
    known: dict[object, list[Call]] = {}
    until = 0
    for call in modules:
        if call.index < until or call.type_name in open_types:
            continue
        length = ends[call.index] - call.index
        candidates = known.setdefault((call.type_name, length, call.depth, call.inputs, call.arguments), [])
        for first in candidates[:_MOST_KINDS]:
            maps = _compare(trace, first, call, length)
            if maps is not None:
                assert first.module is not None
                assert call.module is not None
                key = first.module, first.call_index
                found.later[call.module, call.call_index] = Alike(key, *maps)
                found.first.add(key)
                until = ends[call.index]
                break
        else:
            candidates.append(call)
    return found


def _find_ends(calls: tuple[Call, ...]) -> list[int]:
    """Find, for every call, the index after the last call that ran in it."""
    ends = [len(calls)] * len(calls)
    running: list[Call] = []
    for call in calls:
        while running and running[-1].depth >= call.depth:
            ends[running.pop().index] = call.index
        running.append(call)
    return ends


def _list_outside(calls: tuple[Call, ...]) -> dict[int, list[tuple[int, Link]]]:
    """List, by call that made a tensor, the calls that read or return it."""
    found: dict[int, list[tuple[int, Link]]] = {}
    for call in calls:
        for link in (*call.input_links, *call.output_links):
            if link is not None:
                found.setdefault(link.call, []).append((call.index, link))
    return found


def _escapes(call: Call, end: int, outside: Mapping[int, list[tuple[int, Link]]]) -> bool:
    """Return whether something that was made in a call is read elsewhere without having been returned."""
    return any(
        not call.index <= reader < end and link not in call.output_links
        for maker in range(call.index, end)
        for reader, link in outside.get(maker, ())
    )


def _compare(trace: Trace, one: Call, two: Call, length: int) -> tuple[dict[int, int], dict[int, int]] | None:
    """Compare all calls in two calls; return which module and parameter of one is which of the other."""
    modules: dict[int, int] = {}
    params: dict[int, int] = {}
    links: dict[Link, Link] = {}
    shift = two.index - one.index
    for place in range(one.index, one.index + length):
        mine, other = trace.calls[place], trace.calls[place + shift]
        if _read(mine) != _read(other) or mine.lazy:
            return None
        if place > one.index and not _is_placed_alike(mine, other, shift):
            return None
        if mine.path.removeprefix(one.path) != other.path.removeprefix(two.path):
            return None
        if mine.module is not None and other.module is not None:
            fact = trace.modules[other.module]
            if modules.setdefault(mine.module, other.module) != other.module or len(fact.paths) != 1:
                return None
        if not _pair_params(trace, mine, other, params) or not _pair_links(mine, other, one.index, shift, links):
            return None
    given = set(one.input_links)
    if any(link not in given and link != other for link, other in links.items()):
        return None  # it reads what only it has
    return modules, params


def _read(call: Call) -> tuple[object, ...]:
    return (
        call.kind, call.type_name, call.depth, call.inputs, call.outputs, call.arguments, call.aten_ops, call.lines,
        call.inplace, call.grad, call.autocast, call.status, len(call.params), len(call.input_links),
        len(call.output_links),
    )  # fmt: skip


def _is_placed_alike(mine: Call, other: Call, shift: int) -> bool:
    assert mine.parent is not None
    is_op = mine.kind == "op"
    return (
        mine.parent + shift == other.parent
        and mine.source == other.source
        and (not is_op or mine.call_index == other.call_index)
    )


def _pair_params(trace: Trace, mine: Call, other: Call, params: dict[int, int]) -> bool:
    pairs = zip((*mine.params, *mine.input_params), (*other.params, *other.input_params), strict=True)
    for one, two in pairs:
        if one is None or two is None:
            if one is not two:
                return False
            continue
        if params.setdefault(one, two) != two:
            return False
        fact, twin = trace.params[one], trace.params[two]
        if fact.ranks > 1 or fact._replace(index=0, names=(), nbytes=0) != twin._replace(index=0, names=(), nbytes=0):
            return False
    return True


def _pair_links(mine: Call, other: Call, begin: int, shift: int, links: dict[Link, Link]) -> bool:
    pairs = zip((*mine.input_links, *mine.output_links), (*other.input_links, *other.output_links), strict=True)
    for one, two in pairs:
        if one is None or two is None:
            if one is not two:
                return False
        elif one.call >= begin:
            if two != Link(one.call + shift, one.leaf):
                return False
        elif links.setdefault(one, two) != two:
            return False
    return True
