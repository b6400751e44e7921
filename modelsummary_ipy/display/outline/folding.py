"""Which siblings look alike, and what they are called together."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelsummary_ipy.display.outline.survey import Survey

#: Longest pattern of siblings that is looked for when they take turns: ``norm, attn, norm, mlp`` twelve times.
_LONGEST_PATTERN = 8
_DIGITS = re.compile(r"(\d+)")


def find_shapes(survey: Survey) -> list[int]:
    """A number per row, equal for rows that look the same with all that is in them; one of its own if ``alone``."""
    known: dict[tuple[object, ...], int] = {}
    shapes = [0] * len(survey.rows)
    costs, formulas = survey.story.costs, survey.story.formulas
    for row in reversed(survey.rows):
        index = row.index
        if index in survey.alone:
            shapes[index] = -1 - index
            continue
        key = (
            row.kind, row.type_name, row.status, row.inputs, row.outputs, row.own_params, row.num_params,
            row.trainable_params, row.extra_repr, costs.get(index), formulas.get(index),
            tuple([(flag.rule, flag.severity) for flag in survey.flags.get(index, ())]),
            tuple([(survey.name(child), shapes[child]) for child in survey.children[index]]),
        )  # fmt: skip
        shapes[index] = known.setdefault(key, len(known))
    return shapes


def split_runs(
    survey: Survey, shapes: Sequence[int], rows: Sequence[int]
) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Part siblings into single rows and repeated blocks.

    Returns:
        In order, a name and its blocks: one block of one row for a row by itself.
    """
    names = [survey.name(row) for row in rows]
    keys = [(shapes[row], _DIGITS.sub("#", name)) for row, name in zip(rows, names, strict=True)]
    pieces, start = [], 0
    while start < len(rows):
        length, times = _find_run(survey, rows, keys, start)
        if times > 1 and _begins_before(survey, rows, start, length):
            length, times = 1, 1
        stop = start + length * times
        blocks = tuple(tuple(rows[at : at + length]) for at in range(start, stop, length))
        pieces.append((common_name(names[start:stop]), blocks))
        start = stop
    return pieces


def _find_run(survey: Survey, rows: Sequence[int], keys: Sequence[tuple[int, str]], start: int) -> tuple[int, int]:
    """Find what repeats from here on: ``(siblings in a block, blocks)``; ``(1, 1)`` if nothing does.

    Two equal leaves are left as they are, for a fold would hide a line to gain none.
    """
    for length in range(1, min(_LONGEST_PATTERN, (len(rows) - start) // 2) + 1):
        if keys[start] != keys[start + length]:
            continue
        stop = start + length
        same = survey.rows[rows[start]].path == survey.rows[rows[stop]].path
        while (
            stop < len(rows)
            and keys[stop] == keys[stop - length]
            and (survey.rows[rows[stop]].path == survey.rows[rows[stop - length]].path) == same
        ):
            stop += 1
        times = (stop - start) // length
        weight = sum(survey.count[row] for row in rows[start : start + length])
        if times >= 3 or (times == 2 and weight > 2):
            return length, times
    return 1, 1


def _begins_before(survey: Survey, rows: Sequence[int], start: int, length: int) -> bool:
    """Return whether the rows before are calls of the same modules as the end of a block.

    The first step of a loop differs from the later ones, for its state is of zeros: ``cell, (out, cell) × 5, out``
    would tear each step apart, and is ``cell, out, (cell, out) × 5``.
    """
    lead = 0
    while lead < min(length, start):
        before, later = rows[start - 1 - lead], rows[start - 1 - lead + length]
        if survey.rows[before].path != survey.rows[later].path:
            break
        lead += 1
    return 0 < lead < length


def common_name(names: Sequence[str]) -> str:
    """What equal siblings are called together.

    Example:
        >>> common_name(["layer.0", "layer.1", "layer.2"])
        'layer.0–2'
        >>> common_name(["cell", "cell"])
        'cell'
        >>> common_name(["0.norm", "0.attn", "1.norm", "1.attn"])
        '0.norm … 1.attn'
    """
    if len(set(names)) == 1:
        return names[0]
    parts = [_DIGITS.split(name) for name in names]
    varying = {at for other in parts for at, piece in enumerate(other) if piece != (parts[0] + [""] * 99)[at]}
    if len({len(other) for other in parts}) != 1 or len(varying) != 1:
        return f"{names[0]} … {names[-1]}"
    at = varying.pop()
    if at % 2 == 0:
        return f"{names[0]} … {names[-1]}"
    spans = _spans(sorted({int(other[at]) for other in parts}))
    return "".join(parts[0][:at]) + spans + "".join(parts[0][at + 1 :])


def _spans(numbers: Sequence[int]) -> str:
    """Sorted numbers as people write them: ``0–3, 5, 7–9``; more than six pieces are cut in the middle."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1] = [pieces[-1][0], number]
        else:
            pieces.append([number])
    texts = ["–".join(map(str, piece)) for piece in pieces]
    return ", ".join(texts if len(texts) <= 6 else [*texts[:3], "…", *texts[-2:]])
