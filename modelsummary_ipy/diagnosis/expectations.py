"""What the user declares of a summary, checked before any work: sizes by path, and rules to leave out.

A declaration that is never read is worse than none: a test with a misspelt path would always pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from modelsummary_ipy.diagnosis.rules import RULES
from modelsummary_ipy.diagnosis.rules.declared import parse_declared
from modelsummary_ipy.records.errors import InputError

_EXAMPLE = 'expect={"": "B 10"}'


def check_expect(expect: object, paths: Collection[str]) -> dict[str, Any]:
    """Return the sizes declared by path, each readable and of a module that the model has.

    Args:
        expect: ``{"conv0": "B 16 H W", "": "B 10"}``, or ``None``.
        paths: Every path of the model's modules.

    Raises:
        InputError: If it is no mapping of paths, a path is no module's, or a size can't be read.
    """
    if expect is None:
        return {}
    if not isinstance(expect, Mapping):
        raise InputError(f"expect is {expect!r}", 'shapes by path, "" for the model itself', _EXAMPLE)
    for path, size in expect.items():
        # "layers[0]" is how a module in a plain list is called, which only the trace finds.
        if path not in paths and not (isinstance(path, str) and "[" in path):
            raise InputError(f"no module {path!r}{_guess(path, paths)}", "a path of named_modules()", _EXAMPLE)
        try:
            parse_declared(size)
        except ValueError as error:
            raise InputError(f"expect of {path or 'the model'!r}: {error}", "", _EXAMPLE) from None
    return dict(expect)


def check_ignore(ignore: Collection[str]) -> tuple[str, ...]:
    """Return the ids of the rules to leave out.

    Raises:
        InputError: If no rule has one of them.
    """
    names = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    for name in names:
        if name not in RULES:
            raise InputError(f"no rule {name!r}{_guess(name, RULES)}", "the id of a rule", 'ignore=["grown-map"]')
    return names


def _guess(name: object, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), known, 1, 0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
