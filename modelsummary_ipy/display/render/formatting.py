"""How counts, bytes and names are written, the same in every rendering."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from modelsummary_ipy.records.errors import MOST_IN_ROW, cut_text

_UNSAFE = re.compile("[^ -~]")
#: Joiners and variation selectors that emoji and scripts need; every other invisible character is written out.
_KEPT_FORMAT = frozenset("\u200c\u200d\ufe0e\ufe0f")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def plain(text: str) -> str:
    """Write out what would move a cursor, hide or reverse text: ``"a\\nb"`` -> ``"a\\\\nb"``."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_write_out, text)


def brief(text: str, most: int = MOST_IN_ROW) -> str:
    """Do as ``plain``, without the middle of a text that is longer than a row has place for."""
    return plain(cut_text(text, most))


def _write_out(match: re.Match[str]) -> str:
    char = match.group()
    if unicodedata.category(char) not in _INVISIBLE or char in _KEPT_FORMAT:
        return char
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def count_columns(text: str) -> int:
    """Count the columns that a text takes in a terminal: wide characters two, marks that combine none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) or char in _KEPT_FORMAT else
        2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )  # fmt: skip


def format_dim(size: int) -> str:
    """A dim as a number; ``ragged`` for that of a nested tensor, which has several."""
    return "ragged" if size == -1 else str(size)


def format_short(number: int) -> str:
    """Three digits and a unit from a million on: ``1.81 G``; exact below."""
    return f"{number:,}" if number < 1_000_000 else _scale(number, 1000, ("", "k", "M", "G", "T", "P", "E"))


def format_params(number: int) -> str:
    """Every digit below a billion, ``70.6 B`` from there on: where a name says what is counted, ``B`` is no byte."""
    return f"{number:,}" if number < 1_000_000_000 else _scale(number, 1000, ("", "k", "M", "B", "T", "P", "E"))


def format_bytes(number: int) -> str:
    """``42.6 MiB``."""
    return f"{number:,} B" if number < 1024 else _scale(number, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def format_decimal_bytes(number: int) -> str:
    """``44.7 MB``, of 10⁶ bytes."""
    return f"{number:,} B" if number < 1000 else _scale(number, 1000, ("B", "KB", "MB", "GB", "TB", "PB", "EB"))


def in_full(number: int, text: str, unit: str = "") -> str:
    """All digits of a number, for the pointer that rests on its text; ``""`` where the text has them.

    Example:
        >>> in_full(1_812_345_678, "1.81 G MACs", "MACs"), in_full(640, "640 B", "bytes")
        ('1,812,345,678 MACs', '')
    """
    digits = f"{number:,}"
    return "" if digits in text else f"{digits} {unit}".rstrip()


def _scale(number: int, base: int, units: Sequence[str]) -> str:
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(units) - 1:
        value /= base
        unit += 1
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f} {units[unit]}"


def format_percent(part: int, whole: int) -> str:
    """``12.3%``; ``<0.1%`` for what is there but small."""
    if not part or not whole:
        return "0%"
    share = 100 * part / whole
    return "<0.1%" if share < 0.05 else "100%" if part == whole else f"{min(share, 99.9):.1f}%"


def plural(number: int, one: str) -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"
