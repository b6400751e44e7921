"""One cause, one flag: what is the same once more, or only follows, is folded under the flag of its cause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.summary import Flag

#: Rules that read what the axes show: of a row on which another rule is as grave that is the same once more.
_BY_AXES = frozenset({"attention-axis", "batch-mixed", "wrong-axis", "uneven-sides", "idle-resize"})
#: What follows where a layer takes the steps for the batch: from there on the other dim moves.
_AFTER_SWAP = frozenset({"batch-lost", "batch-moved", "batch-mixed", "batch-folded", "batch-broadcast"})
_OF_THE_BATCH = _AFTER_SWAP | {"batch-merged", "batch-fixed", "reshape-swap", "wrong-axis", "sequence-order"}
_FOLLOWERS = {"sequence-order": _AFTER_SWAP, "swapped-roles": frozenset({"wrong-axis"})}
_ORDER = {"error": 0, "warning": 1, "note": 2}


def fold_flags(evidence: Evidence, flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Fold the flags of one cause; they come in row order, the gravest first on each row."""
    found = sorted(_drop_repeated(_drop_pinned(flags)), key=lambda flag: (flag.row, _ORDER[flag.severity], flag.rule))
    return tuple(_fold_lines(evidence, _fold_followers(evidence, found)))


def _drop_repeated(flags: Iterable[Flag]) -> list[Flag]:
    """Drop what the axes show of a row that another rule flags as gravely."""
    found = list(dict.fromkeys(flags))
    warned = {flag.row for flag in found if flag.severity != "note" and flag.rule != "uneven-sides"}
    found = [flag for flag in found if flag.rule != "uneven-sides" or flag.row not in warned]
    graver: dict[int, int] = {}
    for flag in found:
        if flag.rule not in _BY_AXES:
            graver[flag.row] = min(graver.get(flag.row, 9), _ORDER[flag.severity])
    return [flag for flag in found if flag.rule not in _BY_AXES or graver.get(flag.row, 9) > _ORDER[flag.severity]]


def _drop_pinned(flags: Iterable[Flag]) -> list[Flag]:
    """Drop that only one batch runs where another flag says why: the batch is among the features, on another dim."""
    flags = list(flags)
    others = [flag for flag in flags if flag.code != "pinned" and flag.rule in _OF_THE_BATCH]
    return [flag for flag in flags if flag.code != "pinned" or not any(one.row <= flag.row for one in others)]


def _fold_followers(evidence: Evidence, flags: list[Flag]) -> list[Flag]:
    """Fold what is said of the batch behind a layer that takes the steps for it: both can't be right."""
    kept = list(flags)
    for cause in [flag for flag in flags if flag.rule in _FOLLOWERS]:
        call = evidence.story.rows[cause.row].call
        if call is None:
            continue
        rows = evidence.story.row_of_call
        after = {rows.get(later) for later in _find_after(evidence, call)}
        following = [flag for flag in kept if flag.rule in _FOLLOWERS[cause.rule] and flag.row in after]
        kept = [flag for flag in kept if flag not in following]
        kept[kept.index(cause)] = _fold(cause, following)
    return kept


def _find_after(evidence: Evidence, call: int) -> set[int]:
    """Return the calls in a call, and all that what they make flows into."""
    inside, reached = {call}, set[int]()
    for later in evidence.calls[call + 1 :]:
        links = {link.call for link in later.input_links if link is not None}
        if later.parent in inside:
            inside.add(later.index)
        elif links & (inside | reached):
            reached.add(later.index)
    return inside | reached


def _fold_lines(evidence: Evidence, flags: list[Flag]) -> list[Flag]:
    """Fold what one line of code does at several rows, or does not do: twelve blocks of one class have one bug."""
    groups: dict[object, list[Flag]] = {}
    for flag in flags:
        row = evidence.story.rows[flag.row]
        like = (row.source, row.type_name, re.sub(r"\d+", "*", row.path))
        place = like if row.source or flag.rule == "unused-layer" else flag.row
        groups.setdefault((flag.rule, flag.code, flag.severity, place), []).append(flag)
    first = {id(group[0]): _fold(group[0], group[1:]) for group in groups.values()}
    return [first[id(flag)] for flag in flags if id(flag) in first]


def _fold(flag: Flag, others: list[Flag]) -> Flag:
    rows = tuple(dict.fromkeys(row for other in others for row in (other.row, *other.more) if row != flag.row))
    if not rows:
        return flag
    more = (*flag.more, *rows)
    message = flag.message.removesuffix(_write_more(len(flag.more))) if flag.more else flag.message
    return replace(flag, message=message + _write_more(len(more)), more=more)


def _write_more(count: int) -> str:
    return f"; and {count} more {'row' if count == 1 else 'rows'}"
