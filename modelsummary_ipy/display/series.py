"""Several summaries one after the other, as a watched block or cell makes them."""

from __future__ import annotations

from html import escape
from typing import Any, Protocol

_NONE = "the model was not called"


class _Shown(Protocol):
    def to_html(self) -> str: ...
    def to_text(self) -> str: ...
    def to_markdown(self) -> str: ...


class Series(list[Any]):
    """A list of ``ModelSummary``, one per call of the watched model; equal calls in a row are one summary.

    Attributes:
        times: For each summary, how many calls it is of.
        sizes: For each summary, the input sizes, as the magic would take them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: list[int] = []
        self.sizes: list[str] = []

    def add(self, summary: _Shown, times: int, sizes: str) -> None:
        """Add the summary of ``times`` equal calls."""
        self.append(summary)
        self.times.append(times)
        self.sizes.append(sizes)

    def headings(self) -> list[str]:
        """Return a line for each summary: ``"calls 2-5 · 4 × (8, 3, 224, 224)"``."""
        lines: list[str] = []
        first = 1
        for times, sizes in zip(self.times, self.sizes, strict=True):
            which = f"call {first}" if times == 1 else f"calls {first}–{first + times - 1} · {times} ×"
            lines.append(f"{which} {sizes}".strip())
            first += times
        return lines

    def to_text(self) -> str:
        """Return all summaries as text, each under its heading."""
        if not self:
            return _NONE
        if len(self) == 1 and self.times == [1]:
            return str(self[0].to_text())
        return "\n\n".join(f"── {line}\n{one.to_text()}" for line, one in zip(self.headings(), self, strict=True))

    __str__ = to_text
    __repr__ = to_text

    def _repr_html_(self) -> str:
        if not self:
            return f'<div class="ms-series">{_NONE}</div>'
        if len(self) == 1 and self.times == [1]:
            return str(self[0].to_html())
        parts = [
            f'<div style="margin:12px 0 4px 0;font-weight:bold">{escape(line)}</div>{summary.to_html()}'
            for line, summary in zip(self.headings(), self, strict=True)
        ]
        return f'<div class="ms-series">{"".join(parts)}</div>'

    def _repr_markdown_(self) -> str:
        pairs = zip(self.headings(), self, strict=True)
        return "\n\n".join(f"**{line}**\n\n{one.to_markdown()}" for line, one in pairs) or _NONE
