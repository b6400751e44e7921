"""What a reader opened, closed, searched for and scrolled to stays when another page takes the place of one."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

__all__ = ["read_keeper"]


@lru_cache(maxsize=1)
def read_keeper() -> str:
    """Return a function in JavaScript, to be called with the element that holds pages, once one is there."""
    text = (files("modelsummary_ipy.notebook") / "keep.js").read_text(encoding="utf-8")
    return "\n".join(line.strip() for line in text.splitlines() if not line.lstrip().startswith("//"))
