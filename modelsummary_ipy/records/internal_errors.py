"""The one place where a mistake of this package is caught: it is logged, reported, and costs the user no row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_log = logging.getLogger("modelsummary_ipy")


def attempt(what: str, errors: list[str], compute: Callable[[], T], otherwise: T) -> T:
    """Compute something; if that raises, log the traceback and go on with something else.

    Args:
        what: What is computed: ``"rule grown-map"``.
        errors: Where ``"rule grown-map failed: please report it"`` is added; it is shown below the table.

    Example:
        >>> attempt("counting", [], lambda: len("abc"), 0)
        3
    """
    try:
        return compute()
    except Exception:  # noqa: BLE001  # whatever it is: what was found before is worth more to the user
        _log.exception("%s failed", what)
        line = f"{what} failed: please report it"
        if line not in errors:
            errors.append(line)
        return otherwise
