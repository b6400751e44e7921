"""Which operations of a trace at other sizes are the same ones, and what repeats in all traces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelsummary_ipy.records.op_events import OpEvent, OpEvents, Repeat, TensorRef


def align_events(main: OpEvents, other: OpEvents, partners: Mapping[int, int | None]) -> list[OpEvent | None]:
    """Find, for every operation of a trace, the same one of another.

    Args:
        main: The operations that are walked over.
        other: Those of a trace at other sizes.
        partners: By call of ``main``, which call of ``other`` it is.
    """
    if len(main.events) == len(other.events) and all(
        one.op == two.op and partners.get(one.call) == two.call
        for one, two in zip(main.events, other.events, strict=True)
    ):
        return list(other.events)
    by_call: dict[int, list[OpEvent]] = {}
    for event in other.events:
        by_call.setdefault(event.call, []).append(event)
    mine: dict[int, list[int]] = {}
    for index, event in enumerate(main.events):
        mine.setdefault(event.call, []).append(index)
    found: list[OpEvent | None] = [None] * len(main.events)
    for call, places in mine.items():
        theirs = by_call.get(-1 if (partner := partners.get(call)) is None else partner, [])
        if [main.events[place].op for place in places] != [event.op for event in theirs]:
            again = _find_whole_slices(main.events[place] for place in places)
            places = [place for place in places if main.events[place].op != _COPY and main.events[place] not in again]
            again = _find_whole_slices(theirs)
            theirs = [event for event in theirs if event.op != _COPY and event not in again]
        if [_name_plainly(main.events[place].op) for place in places] == [_name_plainly(event.op) for event in theirs]:
            for place, event in zip(places, theirs, strict=True):
                found[place] = event
    return found


#: A reshape copies, and views the copy, where the strides ask for it: at a size of 1 they do not.
_COPY = "aten.clone"


def _find_whole_slices(events: Iterable[OpEvent]) -> list[OpEvent]:
    """Find slices of all that a slice gave: torch makes such a one where ``table[:steps]`` takes the whole table."""
    sliced: set[int] = set()
    found = []
    for event in events:
        if event.op == "aten.slice" and isinstance(given := event.args.get("self"), TensorRef):
            if given.number in sliced and given.shape == event.outputs[0].shape:
                found.append(event)
            sliced.add(event.outputs[0].number)
    return found


def _name_plainly(op: str) -> str:
    return "aten.view" if op == "aten._unsafe_view" else op


def find_repeats(
    main: OpEvents, others: Sequence[OpEvents], aligned: Sequence[Sequence[OpEvent | None]]
) -> dict[int, Repeat]:
    """Find what repeats the same operations in all traces, whose operations are ``aligned``."""
    if any(log.events != events for log, events in zip(others, aligned, strict=True)):
        return {}

    def is_in(log: OpEvents, place: int, repeat: Repeat) -> bool:
        found = log.repeats.get(place)
        return found is not None and (found.like, found.length) == (repeat.like, repeat.length)

    return {at: repeat for at, repeat in main.repeats.items() if all(is_in(log, at, repeat) for log in others)}
