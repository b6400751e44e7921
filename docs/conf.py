"""Sphinx, because autodoc checks that every name our docstrings link to is there; MyST and furo for prose."""

from __future__ import annotations

import sys
from importlib.metadata import version as read_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "modelsummary_ipy"
author = "The modelsummary_ipy authors"
copyright = "2026, the modelsummary_ipy authors"
version = release = read_version("modelsummary_ipy")

extensions = [
    "sphinx.ext.autodoc",
    "myst_parser",
    "google_docstrings",
    "magic_reference",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_extensions"]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "modelsummary_ipy"
html_static_path = ["pictures"]
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

# Names that live in other projects: without a network there is nothing to link them to.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|pandas|pd|IPython|traitlets|ipywidgets|collections|contextlib|pathlib|types|typing)\..*"),
    ("py:.*", r"(nn\.Module|Module|Tensor|DataFrame|Path|Any|Mapping|Collection|Callable|Iterator|Sequence)"),
    # What is internal, and appears in signatures alone.
    ("py:.*", r"(modelsummary_ipy\.[\w.]+\.)?(ModelInputs|Settings|Story|_\w+)"),
    # Literals and aliases: they are written out where they are used.
    ("py:.*", r"(modelsummary_ipy\.[\w.]+\.)?(Kind|Status|Severity|EngineName|Formula|Mode|Engine|Observer)"),
    ("py:.*", r"(modelsummary_ipy\.[\w.]+\.)?(Phase|Category|Failure|Absence)"),
]
