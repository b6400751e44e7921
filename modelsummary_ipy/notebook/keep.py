"""What a reader opened, closed, searched for and scrolled to stays when another page takes the place of one."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=4)
def read_script(name: str = "keep.js") -> str:
    """Return a function in JavaScript: by default one to be called with the element that holds pages."""
    text = (files("modelsummary_ipy.notebook") / name).read_text(encoding="utf-8")
    return "\n".join(line.strip() for line in text.splitlines() if not line.lstrip().startswith("//"))
