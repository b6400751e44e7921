"""Which call of one trace is which call of another, where other sizes may have led to other calls."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from modelsummary_ipy.records.trace import Call, Trace


def align_calls(base: Trace, other: Trace) -> tuple[int | None, ...]:
    """Find, for every call of ``base``, its partner in ``other``.

    Where both made the same calls in the same order, that is the partner. Else a module's call is found by its path,
    class and how often it was called before, an operation by its name and line among those of its caller's partner:
    by the module that was called last before it, as in a loop over layers; if that finds none of the line, by number.

    Returns:
        Per call of ``base`` the index of its partner, ``None`` if it has none.
    """
    if len(base.calls) == len(other.calls) and all(map(_is_same, base.calls, other.calls)):
        return tuple(range(len(base.calls)))
    mine, theirs = _keys(base), _keys(other)
    exact = {key.by_module: index for index, key in enumerate(theirs)}
    partners = [exact.get(key.by_module) for key in mine]
    found = {key.line for key, partner in zip(mine, partners, strict=True) if partner is not None}
    numbered = {key.by_number: index for index, key in enumerate(theirs)}
    return tuple(
        numbered.get(key.by_number) if partner is None and key.line not in found else partner
        for key, partner in zip(mine, partners, strict=True)
    )


def _is_same(one: Call, two: Call) -> bool:
    same_name = one.kind == two.kind and one.type_name == two.type_name and one.module == two.module
    return same_name and one.parent == two.parent and (one.kind == "module" or one.source == two.source)


class _Key(NamedTuple):
    """What a call is found by.

    Attributes:
        line: Its caller, name and line; of a module's call its path, class and number.
        after: The module that the same caller called last, and how many such calls there were since.
        number: How many such calls there were before.
    """

    line: Hashable
    after: tuple[Hashable, int] | None = None
    number: int = 0

    @property
    def by_module(self) -> tuple[Hashable, Hashable]:
        return self.line, self.after

    @property
    def by_number(self) -> tuple[Hashable, int]:
        return self.line, self.number


def _keys(trace: Trace) -> list[_Key]:
    """Return a key per call that doesn't depend on how many other calls came before it.

    An operation's caller is always a module, so keys nest one level only.
    """
    keys: list[_Key] = []
    numbers: dict[Hashable, int] = {}
    last: dict[int | None, Hashable] = {}
    for call in trace.calls:
        if call.kind == "module":
            line: Hashable = (call.path, call.type_name, call.call_index)
            keys.append(_Key(line))
            last[call.parent] = line
            continue
        place = (call.source.filename, call.source.line) if call.source is not None else None
        line = (keys[call.parent].line if call.parent is not None else None, call.type_name, place)
        after = (line, last.get(call.parent))
        for counted in (line, after):
            numbers[counted] = numbers.get(counted, -1) + 1
        keys.append(_Key(line, (after[1], numbers[after]), numbers[line]))
    return keys
