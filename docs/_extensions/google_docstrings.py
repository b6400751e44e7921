"""Docstrings in google's form, by Napoleon's reader, but for one thing: a property's sentence stays a sentence.

Napoleon takes what stands before a colon in a property's first line for its type; here the annotation says the type.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

TUPLE_FIELD = type(namedtuple("Any", ["field"]).field)  # type: ignore[attr-defined]  # of every field the type
CONFIG = Config(napoleon_use_rtype=False, napoleon_use_ivar=False)


def read_docstring(app: Sphinx, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Replace a docstring's lines with the reStructuredText they mean."""
    kind = "method" if what in {"property", "attribute"} else what
    lines[:] = GoogleDocstring(lines, CONFIG, app, kind, name, subject, options).lines()


def skip_tuple_field(app: Sphinx, what: str, name: str, subject: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a named tuple's fields: its own docstring says what they are, Python's only their numbers."""
    return True if type(subject) is TUPLE_FIELD else None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-skip-member", skip_tuple_field)
    return {"parallel_read_safe": True}
