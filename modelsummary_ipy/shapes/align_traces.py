"""Which call of one trace is which call of another, where other sizes may have led to other calls."""

from __future__ import annotations

from collections.abc import Hashable

from modelsummary_ipy.records.trace import Call, Trace


def align_calls(base: Trace, other: Trace) -> tuple[int | None, ...]:
    """Find, for every call of ``base``, its partner in ``other``.

    Where both made the same calls in the same order, that is the partner. Else a module's call is found by its path,
    class and how often it was called before, an operation by its name and line among those of its caller's partner.

    Returns:
        Per call of ``base`` the index of its partner, ``None`` if it has none.
    """
    if len(base.calls) == len(other.calls) and all(map(_is_same, base.calls, other.calls)):
        return tuple(range(len(base.calls)))
    partners = {key: index for index, key in enumerate(_keys(other))}
    return tuple(partners.get(key) for key in _keys(base))


def _is_same(one: Call, two: Call) -> bool:
    same_name = one.kind == two.kind and one.type_name == two.type_name and one.module == two.module
    return same_name and one.parent == two.parent and (one.kind == "module" or one.source == two.source)


def _keys(trace: Trace) -> list[Hashable]:
    """Return a key per call that doesn't depend on how many other calls came before it.

    An operation's caller is always a module, so keys nest one level only.
    """
    keys: list[Hashable] = []
    numbers: dict[Hashable, int] = {}
    for call in trace.calls:
        if call.kind == "module":
            keys.append((call.path, call.type_name, call.call_index))
            continue
        place = (call.source.filename, call.source.line) if call.source is not None else None
        alike = (keys[call.parent] if call.parent is not None else None, call.type_name, place)
        numbers[alike] = numbers.get(alike, 0) + 1
        keys.append((*alike, numbers[alike]))
    return keys
