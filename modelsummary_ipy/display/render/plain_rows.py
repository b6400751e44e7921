"""Parts -> the rows where no script runs: a table wherever several stand together that neither fold nor are notable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsummary_ipy.display.render.row_views import Part


def lay_out_plain(parts: Sequence[Part]) -> Iterator[tuple[str, Part]]:
    """Steps of the plain rows: rows that hold none and are not notable stand in one table, the hidden ones nowhere.

    Yields:
        ``"open"``, ``"close"`` and ``"more"`` as in ``Part.what``; ``"line"`` for a row of a table, which ``"begin"``
        and ``"end"`` are around.
    """
    shown = [part for at, part in enumerate(parts) if not (part.is_hidden or (at and parts[at - 1].is_hidden))]
    was_line = in_table = False
    for part, after in zip(shown, [*shown[1:], None], strict=True):
        is_line = part.what == "open" and not part.is_notable and after is not None and after.what == "close"
        if was_line:
            was_line = False  # its "close"
            continue
        if is_line != in_table:
            yield "begin" if is_line else "end", part
            in_table = is_line
        yield "line" if is_line else part.what, part
        was_line = is_line
    if in_table:
        yield "end", shown[-1]
