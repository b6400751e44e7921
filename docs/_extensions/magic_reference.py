"""The directive ``magic-reference``: the magic's own argument parser, written out, so no page can drift from it."""

from __future__ import annotations

import argparse
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


def read_parser() -> argparse.ArgumentParser:
    from modelsummary_ipy.notebook.magics import SummaryMagics

    parser: argparse.ArgumentParser = SummaryMagics.summary.parser  # type: ignore[attr-defined]
    return parser


def name_action(action: argparse.Action) -> str:
    """``--dtype DTYPE``, ``--engine {auto,fake,real,static}``, ``-i, --interactive``."""
    value = ""
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    elif action.nargs != 0:
        value = str(action.metavar or action.dest.upper())
    names = ", ".join(action.option_strings)
    return f"{names} {value}".strip()


class MagicReference(Directive):
    """A definition list of what ``%summary`` takes."""

    def run(self) -> list[nodes.Node]:
        listed = nodes.definition_list()
        for action in read_parser()._actions:
            if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
                continue
            term = nodes.term("", "", nodes.literal(text=name_action(action)))
            text = (action.help or "") % {"default": action.default, "prog": "%summary"}
            definition = nodes.definition("", nodes.paragraph(text=text))
            listed += nodes.definition_list_item("", term, definition)
        return [listed]


class MagicSettings(Directive):
    """A definition list of what ``%config SummaryMagics`` takes."""

    def run(self) -> list[nodes.Node]:
        from modelsummary_ipy.notebook.magics import SummaryMagics

        listed = nodes.definition_list()
        for name, trait in sorted(SummaryMagics.class_traits(config=True).items()):
            term = nodes.term("", "", nodes.literal(text=f"SummaryMagics.{name} = {trait.default_value!r}"))
            listed += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=trait.help)))
        return [listed]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("magic-reference", MagicReference)
    app.add_directive("magic-settings", MagicSettings)
    return {"parallel_read_safe": True}
