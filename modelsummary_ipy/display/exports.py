"""The outputs of a summary: text, markdown, HTML, a DataFrame, plain values, a file."""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelsummary_ipy.diagnosis.annotate import annotate
from modelsummary_ipy.display.written_files import write_as
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.summary import Flag, Story
from modelsummary_ipy.records.view import View, WhenFormulas

if TYPE_CHECKING:
    from pandas import DataFrame

    from modelsummary_ipy.display.graph import Picture


class Exports(ABC):
    """The outputs of a summary; what they show comes from the class that inherits them."""

    view: View
    #: A block in which the garbage collector may rest: it would look through all rows while a page is made of them.
    _rendering: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def _shown_view(self) -> View:
        """The view, with what follows from other options."""
        return self.view

    @abstractmethod
    def _build_story(self, formulas: WhenFormulas = "usual", *, everything: bool = False) -> Story:
        """All that is displayed; ``everything``: with a training step also where none was asked for."""

    @property
    @abstractmethod
    def error(self) -> ForwardError | None:
        """How the forward failed, ``None`` if it did not."""

    @property
    @abstractmethod
    def _failure_text(self) -> str:
        """The explanation of a failure, ``""`` without one."""

    @property
    @abstractmethod
    def _operations(self) -> Mapping[int, Sequence[tuple[str, int | None]]]:
        """Per row index, the operations that ran directly in it, with their mult-adds."""

    def to_frame(self) -> DataFrame:
        """Return every row and every column as a DataFrame of raw numbers."""
        from modelsummary_ipy.display.render.frame import to_frame

        return to_frame(self._build_story(everything=True))

    def to_dict(self) -> dict[str, Any]:
        """Return everything that is known as plain values, ready for JSON."""
        from modelsummary_ipy.display.render.frame import to_dict

        return to_dict(self._build_story(everything=True), self.error)

    def to_text(self, *, formulas: bool = True, width: int | None = None) -> str:
        """Return the summary as text.

        Args:
            formulas: Whether to trace for formulas and for which sizes work, if they were not found before.
            width: Columns of the terminal that it is for: what is wider is wrapped within its column; ``None`` for as
                wide as it needs to be.
        """
        from modelsummary_ipy.display.render.text import render_text

        story = self._build_story("usual" if formulas else "never")
        return render_text(story, self._shown_view, failure_text=self._failure_text, width=width)

    def to_markdown(self) -> str:
        """Return the summary as markdown."""
        from modelsummary_ipy.display.render.markdown import render_markdown

        return render_markdown(self._build_story(), self._shown_view, failure_text=self._failure_text)

    def to_html(
        self, *, standalone: bool = False, formulas: bool = True, flags: Sequence[Flag] = (), packed: bool = True
    ) -> str:
        """Return the summary as HTML.

        Args:
            flags: Findings to show besides the summary's own.
            standalone: Whether to return a complete page instead of a notebook's output.
            formulas: Whether to trace for formulas and for which sizes work, if they were not found before; most
                of the time goes into them. They are always found for a forward that failed.
            packed: Whether what needs the page's script (details, colours, charts) is compressed in it; then the page
                is 100 KB at most, a megabyte with all levels open. Rows, flags and failures read without the script.
        """
        from modelsummary_ipy.display.render.html import render_html
        from modelsummary_ipy.display.render.source_listing import build_details

        story = self._build_story("usual" if formulas else "never")
        story = replace(story, flags=(*story.flags, *flags)) if flags else story
        with self._rendering():
            details = build_details(annotate(story))
            return render_html(
                story,
                self._shown_view,
                standalone=standalone,
                packed=packed,
                details=details,
                operations=self._operations,
                failure=self.error,
                failure_text=self._failure_text,
            )

    def annotated(self, only: str | None = None, *, sizes: bool = True) -> str:
        """Return the source of every traced function, each line with the shape that it made: ``# B 32 16 = 8 32 16``.

        Calls with different shapes are side by side, flags below their line. The notes are comments, so a part
        can be pasted back as it is.

        Args:
            only: A path or a class: only functions that such a module ran.
            sizes: Whether the sizes of this trace follow the formulas.

        Raises:
            KeyError: If no traced function with a readable source is of ``only``.
        """
        from modelsummary_ipy.display.render.source_listing import Annotated, render_listings

        story = self._build_story("always")
        listings = annotate(story, only)
        if only is not None and not listings:
            raise KeyError(f"no readable source ran in {only!r}; it takes a path or a class: {_name_classes(story)}")
        return Annotated(render_listings(listings, sizes=sizes))

    def graph(self, depth: int = 2) -> Picture:
        """Return a picture: blocks, and arrows with sizes as formulas; a notebook shows it, ``save`` writes it.

        Args:
            depth: Levels that are opened.

        Raises:
            InputError: If it is less than 1.
        """
        from modelsummary_ipy.display.graph import build_picture

        return build_picture(self._build_story(), depth)

    def save(self, path: str | Path) -> Path:
        """Write the summary to a file; by its ending: ``.html .txt .md .json .csv``, its graph as ``.svg .mmd .dot``.

        Raises:
            InputError: If the ending is none of these.
            OSError: If the file can't be written; one that was there before is then as it was.
        """
        from modelsummary_ipy.display.render.frame import render_csv, render_json

        writers: dict[str, Callable[[], str]] = {
            ".html": lambda: self.to_html(standalone=True),
            ".txt": self.to_text,
            ".md": self.to_markdown,
            ".json": lambda: render_json(self._build_story(everything=True), self.error),
            ".csv": lambda: render_csv(self._build_story(everything=True)),
            ".svg": lambda: self.graph().to_svg(),
            ".mmd": lambda: self.graph().to_mermaid(),
            ".dot": lambda: self.graph().to_dot(),
        }
        return write_as(Path(path), writers, "ms.save('net.html')")

    def __str__(self) -> str:
        return self.to_text(width=_find_terminal_width())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": str(self), "text/html": self.to_html(), "text/markdown": self.to_markdown()}
        kept = {key: value for key, value in bundle.items() if not include or key in include}
        return {key: value for key, value in kept.items() if not exclude or key not in exclude}


def _find_terminal_width() -> int | None:
    """Return the columns of the terminal that is printed to, ``None`` where it is a notebook, a file or a pipe."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


def _name_classes(story: Story) -> str:
    types = dict.fromkeys(name for listing in annotate(story) for name in listing.type_names)
    return ", ".join(list(types)[:8])
