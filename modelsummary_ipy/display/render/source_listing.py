"""Annotated source as text: the code as it was written, and in the margin what each line made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from modelsummary_ipy.diagnosis.annotate import Line, Listing, Variant
from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Formula, Source

#: By row index, the functions that ran in it: where each begins (``"net.py:12"``), and its lines.
Details = Mapping[int, Sequence[tuple[str, str]]]
#: Most kinds of calls that are written side by side.
_MOST_COLUMNS = 4
#: A longer line of code gets its note on a line of its own.
_WIDEST_CODE = 72


class Annotated(str):
    """Annotated source; a string that a notebook shows as it reads."""

    __slots__ = ()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        lines = []
        for line in self.split("\n"):
            code, mark, note = line.rpartition("  # ")
            shown = f"{escape(code)}  <i># {escape(note)}</i>" if mark else escape(line)
            lines.append(f"<b>{shown}</b>" if line.lstrip().startswith("#^") else shown)
        return f'<pre class="ms-source">{chr(10).join(lines)}</pre>'


def render_listings(listings: Sequence[Listing], *, sizes: bool = True) -> str:
    """Write listings one after the other; the margin is made of comments, so that a part can be pasted back.

    Args:
        sizes: Whether the sizes of this trace follow the formulas; without them the notes are shape comments.
    """
    return "\n\n".join(_render(listing, listing.variants[:_MOST_COLUMNS], sizes) for listing in listings)


def build_details(listings: Sequence[Listing]) -> Details:
    """Write for the detail of rows the functions that ran in them, for the first of rows alike."""
    details: dict[int, list[tuple[str, str]]] = {}
    for listing in listings:
        place = plain(Source(listing.file, listing.lines[0].number, "", "").text)
        for variant in listing.variants:
            if variant.rows:
                text = "\n".join(_render_lines(listing, (variant,), sizes=True))
                details.setdefault(variant.rows[0], []).append((place, text))
    return details


def _render(listing: Listing, variants: Sequence[Variant], sizes: bool) -> str:
    lines = [f"# {plain(listing.title)} · {plain(listing.file)}:{listing.lines[0].number}"]
    if len(listing.variants) == 1:
        paths = _format_paths(listing.variants[0])
        lines[0] += f" · {paths}" if paths else ""
    else:
        lines += [f"# {at} {_format_paths(variant)}" for at, variant in enumerate(variants, 1)]
        left = len(listing.variants) - len(variants)
        lines += [f"# … {left} more, with other sizes"] if left else []
    return "\n".join([*lines, *_render_lines(listing, variants, sizes)])


def _format_paths(variant: Variant) -> str:
    """``"layer1.1, layer1.2"``; ``"layer1.1 … layer1.5 (5 calls)"``."""
    paths = [plain(path) for path in variant.paths if path]
    times = f"{len(variant.rows)} calls" if len(variant.rows) > 1 else ""
    if not paths:
        return times or "the model"
    text = ", ".join(paths) if len(paths) < 3 else f"{paths[0]} … {paths[-1]}"
    return f"{text} ({times})" if times else text


def _render_lines(listing: Listing, variants: Sequence[Variant], sizes: bool) -> list[str]:
    notes = {line.number: _note(line, listing, variants, sizes) for line in listing.lines}
    noted = [len(line.text) for line in listing.lines if notes[line.number]]
    column = max((width for width in noted if width <= _WIDEST_CODE), default=0)
    written: list[str] = []
    for line in listing.lines:
        note = notes[line.number]
        text = plain(line.text)
        written.append(f"{text.ljust(column)}  # {note}" if note else text)
        written += [_format_flag(flag, text) for flag in line.flags]
        if line.failed:
            written.append(f"{_indent(text)}#^ failed: {plain(line.failed)}")
    return written


def _format_flag(flag: Flag, code: str) -> str:
    fix = f"; {plain(flag.fix)}" if flag.fix else ""
    return f"{_indent(code)}#^ {flag.severity} {flag.rule}: {plain(flag.message)}{fix}"


def _indent(code: str) -> str:
    return " " * (len(code) - len(code.lstrip()))


def _note(line: Line, listing: Listing, variants: Sequence[Variant], sizes: bool) -> str:
    """Write what a line made; calls that differ side by side, and then without their sizes."""
    sizes = sizes and len(variants) == 1
    notes: list[str] = []
    for variant in variants:
        if line is listing.lines[0]:
            notes.append(", ".join(_format_leaf(leaf, sizes, named=len(variant.given) > 1) for leaf in variant.given))
        else:
            rounds = [_format_made(made, sizes) for made in variant.made.get(line.number, ())]
            notes.append(" then ".join(filter(None, rounds)))
    if not any(notes):
        return ""
    if len(set(notes)) == 1:
        return notes[0]
    return "  ".join(f"{at}: {text or '-'}" for at, text in enumerate(notes, 1))


def _format_made(made: Sequence[object], sizes: bool) -> str:
    texts = [_format_leaf(leaf, sizes, named=False) for leaf in made]  # type: ignore[arg-type]
    if len(texts) > 1 and len(set(texts)) == 1:
        return f"{len(texts)} × ({texts[0]})"
    return ", ".join(texts) if len(texts) == 1 else ", ".join(f"({text})" for text in texts)


def _format_leaf(leaf: tuple[object, Formula | None], sizes: bool, *, named: bool) -> str:
    spec, formula = leaf
    shape = getattr(spec, "shape", ())
    name = plain(getattr(spec, "name", ""))
    numbers = " ".join(map(str, shape)) or "scalar"
    text = format_dims(formula) if formula else numbers
    if sizes and formula and text != numbers:
        text = f"{text} = {numbers}"
    return f"{name}: {text}" if named and name else text


def format_dims(formula: Formula) -> str:
    """Write a formula as a shape comment, a blank between dims and none in them: ``"B 16 H+8 W+8"``."""
    return " ".join(dim.replace(" ", "") for dim in formula)
