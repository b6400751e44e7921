"""Changes between two stories → text: what moved as predicted in a line, everything else in a table."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.display.render.diff_lines import DiffLine, list_lines
from modelsummary_ipy.records.summary import Change, Story


def render_changes_text(old: Story, new: Story, changes: Sequence[Change]) -> str:
    """Write as plain text what changed from ``old`` to ``new``."""
    cells = [_write(line) for line in list_lines(old, new, changes) if line.words]
    wide, words = (max((len(row[at]) for row in cells), default=0) for at in (0, 1))
    table = [f"{path:<{wide}}  {word:<{words}}  {what}".rstrip() for path, word, what in cells]
    return "\n".join(filter(None, [format_totals(old, new), *table, format_moved(changes)])) or "nothing changed"


def format_totals(old: Story, new: Story) -> str:
    """``input [4, 64] → [4, 128] · parameters 260 → 516``, each where they differ."""
    was, now = (", ".join(str(list(fact.spec.shape)) for fact in story.trace.inputs) for story in (old, new))
    params = (f"{story.total_params:,}" for story in (old, new))
    pairs = (("input", was, now), ("parameters", *params))
    return " · ".join(f"{what} {was} → {now}" for what, was, now in pairs if was != now)


def format_moved(changes: Sequence[Change]) -> str:
    """``3 rows changed as their formulas predict``, those that changed in nothing else; ``""`` for none."""
    moved = len({(c.old, c.new) for c in changes} - {(c.old, c.new) for c in changes if c.what != "moved"})
    if not moved:
        return ""
    return "1 row changed as its formula predicts" if moved == 1 else f"{moved} rows changed as their formulas predict"


def _write(line: DiffLine) -> tuple[str, str, str]:
    """Path, words, and what differs of both sides."""
    differs = [one != two for one, two in zip(line.was, line.now, strict=True)]
    if any(line.was) and any(line.now) and "type" not in line.words:
        differs[0] = False  # what a layer is set to follows from its parameters, or is said
    was, now = (
        " ".join(filter(None, [settings, *(part for part, shown in zip(side, differs, strict=True) if shown)]))
        for side, settings in zip((line.was, line.now), line.settings, strict=True)
    )
    return line.path or "model", line.words, " ".join(filter(None, [was, "→" if was and now else "", now, line.inside]))
